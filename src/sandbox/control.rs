//! The tester's side: makes requests, answers them as a person, causes faults, and shows the whole state. It does the
//! same in process as over `/_sandbox/…`.

use std::sync::Arc;

use super::fault::{Fault, is_close_code};
use super::hub::ConnectionOrder;
use super::shared::{Inner, SandboxShared};
use super::store::{COUNT_MAX, PartyIndex, RequestRecord, StoreError, micros};
use super::wire::{NewRequest, RequestCounts, RequestState, SandboxState, SandboxStatus, WaitingFault};

/// A burst makes this many requests under one lock; between two such chunks calls and sockets go on.
const CHUNK: u64 = 500;

/// Why the control refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No such agent, request or contact (404).
    #[error("{0}")]
    NotFound(String),
    /// It is no longer possible, or not yet (409).
    #[error("{0}")]
    Conflict(String),
    /// It is not valid (422).
    #[error("{0}")]
    Invalid(String),
}

impl From<StoreError> for ControlError {
    fn from(problem: StoreError) -> Self {
        match problem {
            StoreError::NotFound(message) => ControlError::NotFound(message.into()),
            StoreError::Conflict(_, message) => ControlError::Conflict(message.into()),
            StoreError::Malformed(pointer, message) => ControlError::Invalid(format!("`{pointer}` {message}")),
            StoreError::Invalid(message) => ControlError::Invalid(message),
        }
    }
}

/// A handle on a sandbox. Clones belong to the same sandbox, and a handle outlives it.
#[derive(Debug, Clone)]
pub struct Control(Arc<SandboxShared>);

impl Control {
    pub(super) fn new(shared: SandboxShared) -> Self {
        Self(Arc::new(shared))
    }

    pub(super) fn of(shared: Arc<SandboxShared>) -> Self {
        Self(shared)
    }

    pub(super) fn shared(&self) -> &Arc<SandboxShared> {
        &self.0
    }

    /// Makes requests and returns their ids, in order.
    ///
    /// # Errors
    ///
    /// An unknown recipient, an id that exists, or values that do not fit together. Requests of the burst made before
    /// the error stay.
    pub fn request(&self, new: &NewRequest) -> Result<Vec<String>, ControlError> {
        let count = new.count.unwrap_or(1);
        if !(1..=COUNT_MAX).contains(&count) {
            return Err(ControlError::Invalid(format!("`count` is 1 to {COUNT_MAX}")));
        }
        let first = new.first.unwrap_or(1);
        let Some(end) = first.checked_add(count) else {
            return Err(ControlError::Invalid("`first` is too large".into()));
        };
        let (mut ids, mut pushed) = (Vec::new(), Vec::new());
        let mut from = first;
        while from < end {
            let to = end.min(from + CHUNK);
            let mut inner = self.0.lock();
            let made = inner.store.create(new, from..to, self.0.clock.now(), &mut pushed);
            inner.tell(&mut pushed);
            ids.extend(made?);
            from = to;
        }
        Ok(ids)
    }

    /// Ends a pending request: approved or rejected by a person, cancelled by its sender, or expired.
    ///
    /// # Errors
    ///
    /// No such request, not pending any more, or `Pending` as the status.
    pub fn settle(&self, id: &str, status: SandboxStatus) -> Result<(), ControlError> {
        let by = match status {
            SandboxStatus::Approved | SandboxStatus::Rejected => "person",
            SandboxStatus::Cancelled => "sender",
            SandboxStatus::Expired => "platform",
            SandboxStatus::Pending => {
                return Err(ControlError::Invalid("a request does not become pending again".into()));
            }
        };
        let (mut inner, mut pushed) = (self.0.lock(), Vec::new());
        let Some(index) = inner.store.request(id) else {
            return Err(ControlError::NotFound("no such request".into()));
        };
        if inner.store.requests[index].status != SandboxStatus::Pending {
            return Err(ControlError::Conflict("the request is not pending any more".into()));
        }
        inner.store.settle(index, status, by, self.0.clock.now(), &mut pushed);
        inner.tell(&mut pushed);
        Ok(())
    }

    /// Removes one of an agent's contacts, as the other side would.
    ///
    /// # Errors
    ///
    /// No such agent or contact.
    pub fn remove_contact(&self, agent: &str, handle: &str) -> Result<(), ControlError> {
        let (mut inner, mut pushed) = (self.0.lock(), Vec::new());
        let party = party(&inner, agent)?;
        inner.store.remove_contact(party, Some(handle), None, &mut pushed)?;
        inner.tell(&mut pushed);
        Ok(())
    }

    /// From now on this request is listed with another handle, or with none, as if its sender's had changed.
    ///
    /// # Errors
    ///
    /// No such request.
    pub fn rename_request(&self, id: &str, handle: Option<&str>) -> Result<(), ControlError> {
        let mut inner = self.0.lock();
        let index = inner.store.request(id).ok_or_else(|| ControlError::NotFound("no such request".into()))?;
        inner.store.requests[index].from_handle = Some(handle.map(str::to_owned));
        Ok(())
    }

    /// From now on this contact is listed with another handle, or with none. In the control it keeps its old handle.
    ///
    /// # Errors
    ///
    /// No such agent or contact.
    pub fn rename_contact(&self, agent: &str, handle: &str, to: Option<&str>) -> Result<(), ControlError> {
        let mut inner = self.0.lock();
        let party = party(&inner, agent)?;
        Ok(inner.store.rename_contact(party, handle, to.map(str::to_owned))?)
    }

    /// Adds faults after those that wait; all or none.
    ///
    /// # Errors
    ///
    /// A fault that has no meaning, an agent that is not in this world, or too many faults.
    pub fn faults(&self, faults: Vec<Fault>) -> Result<(), ControlError> {
        let mut inner = self.0.lock();
        for fault in &faults {
            fault.check().map_err(ControlError::Invalid)?;
            fault.agent.as_deref().map_or(Ok(()), |agent| party(&inner, agent).map(|_| ()))?;
        }
        for fault in faults {
            inner.faults.add(fault).map_err(ControlError::Conflict)?;
        }
        self.0.arm(&inner);
        Ok(())
    }

    /// Adds one fault.
    ///
    /// # Errors
    ///
    /// As [`Control::faults`].
    pub fn fault(&self, fault: Fault) -> Result<(), ControlError> {
        self.faults(vec![fault])
    }

    /// Removes the faults that wait; faults that have struck go on.
    pub fn clear_faults(&self) {
        let mut inner = self.0.lock();
        inner.faults.clear();
        self.0.arm(&inner);
    }

    /// Closes an agent's socket (default 1001, as a server that disconnects it \[phx\]; 0: without a close frame).
    ///
    /// # Errors
    ///
    /// No such agent, not connected, or no code for a close frame.
    pub fn kick(&self, agent: &str, code: Option<u16>) -> Result<(), ControlError> {
        let code = code.unwrap_or(1001);
        if !is_close_code(code) {
            return Err(ControlError::Invalid(format!("`{code}` is not a valid close code")));
        }
        let inner = self.0.lock();
        if inner.hub.order(party(&inner, agent)?, ConnectionOrder::Close(code, "kicked")) {
            return Ok(());
        }
        Err(ControlError::Conflict("the agent has no connection".into()))
    }

    /// The whole state, with every request and contact.
    pub fn state(&self) -> SandboxState {
        let mut state = self.overview();
        let inner = self.0.lock();
        state.requests = inner.store.requests.iter().map(|row| request_state(&inner, row)).collect();
        state.contacts = inner.store.contact_states();
        state
    }

    /// [`Control::state`] without the requests and contacts themselves.
    pub fn overview(&self) -> SandboxState {
        let inner = self.0.lock();
        let id = |party: PartyIndex| inner.store.parties[party].id.clone();
        SandboxState {
            at_us: self.0.us(),
            counts: counts(&inner.store.requests),
            requests: Vec::new(),
            contacts: Vec::new(),
            live: inner.hub.live(self.0.clock.now().mono, id),
            connects: inner.journal.connects.iter().cloned().collect(),
            ends: inner.journal.ends.iter().cloned().collect(),
            joins: inner.journal.joins.iter().cloned().collect(),
            lists: inner.journal.lists.iter().cloned().collect(),
            faults: inner
                .faults
                .waiting()
                .map(|(fault, left)| WaitingFault { fault: fault.clone(), left: (*left != u64::MAX).then_some(*left) })
                .collect(),
            struck: inner.faults.struck,
            let_pass: inner.faults.let_pass,
        }
    }

    /// Only the totals, for polling.
    pub fn counts(&self) -> RequestCounts {
        counts(&self.0.lock().store.requests)
    }

    /// For each request: from the time its push was written to the time the first successful answer was read, in
    /// microseconds, in the order of the answers; the last million.
    pub fn latencies(&self) -> Vec<u64> {
        self.0.lock().latencies.iter().copied().collect()
    }

    /// Clears these latencies.
    pub fn clear_latencies(&self) {
        self.0.lock().latencies.clear();
    }
}

fn party(inner: &Inner, who: &str) -> Result<PartyIndex, ControlError> {
    inner.store.find(who).ok_or_else(|| ControlError::NotFound("nobody here has that id or handle".into()))
}

fn counts(rows: &[RequestRecord]) -> RequestCounts {
    let mut counts = RequestCounts { requests: rows.len() as u64, ..RequestCounts::default() };
    for row in rows {
        let count = match row.status {
            SandboxStatus::Pending => &mut counts.pending,
            SandboxStatus::Approved => &mut counts.approved,
            SandboxStatus::Rejected => &mut counts.rejected,
            SandboxStatus::Cancelled => &mut counts.cancelled,
            SandboxStatus::Expired => &mut counts.expired,
        };
        *count += 1;
        counts.pushed += row.pushed;
        counts.answers += row.answered;
        counts.refused += row.refused;
    }
    counts
}

fn request_state(inner: &Inner, row: &RequestRecord) -> RequestState {
    let id = |party: PartyIndex| inner.store.parties[party].id.clone();
    RequestState {
        id: row.id.clone(),
        to: id(row.to),
        from: row.from.map(id),
        from_handle: row.from_handle.clone().flatten(),
        from_name: row.from_name.clone().flatten(),
        message: row.message.clone().flatten(),
        status: row.status,
        inserted_at: row.inserted_at.to_string(),
        at_us: micros(row.created),
        settled_by: row.settled_by.clone(),
        answers: row.answers.clone(),
        answered: row.answered,
        pushed: row.pushed,
    }
}
