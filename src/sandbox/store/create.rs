//! Creates requests: one or many for a tester, or one for the platform's own `contacts/add`.

use std::collections::hash_map;

use jiff::Timestamp;

use super::{PartyIndex, PushedEvent, REQUESTS_MAX, RequestRecord, Store, StoreError, plain, wire_time};
use crate::clock::Now;
use crate::model::Handle;
use crate::sandbox::wire::{NewRequest, SandboxStatus};
use crate::sandbox::world::PartyKind;

const TEXT_BYTES_MAX: usize = 64 << 10;

struct Draft {
    id: String,
    to: PartyIndex,
    from: Option<PartyIndex>,
    from_handle: Option<Option<String>>,
    from_name: Option<Option<String>>,
    message: Option<Option<String>>,
    ids: (Option<String>, Option<String>),
    inserted_at: Timestamp,
}

impl Store {
    /// Makes the requests numbered `numbers` that `new` describes; with `new.push`, also returns the events to push.
    pub fn create(
        &mut self,
        new: &NewRequest,
        numbers: std::ops::Range<u64>,
        now: Now,
        pushed: &mut Vec<PushedEvent>,
    ) -> Result<Vec<String>, StoreError> {
        let to = match new.to.as_str() {
            "" => self.parties.iter().position(|party| party.kind == PartyKind::Agent),
            who => self.find(who),
        };
        let to = to.ok_or(StoreError::NotFound("nobody here has that id or handle"))?;
        let many = new.count.unwrap_or(1) > 1;
        if many && new.id.as_deref().is_some_and(|id| !id.contains("{n}")) {
            return Err(StoreError::Invalid("with `count`, `id` must contain `{n}`".into()));
        }
        let texts = [&new.from_handle, &new.from_name, &new.message].into_iter().flatten().flatten();
        if texts.chain([&new.from_id, &new.owner_id].into_iter().flatten()).any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(StoreError::Invalid(format!("a text has at most {TEXT_BYTES_MAX} bytes")));
        }
        let inserted_at = match &new.inserted_at {
            None => wire_time(now),
            Some(text) => text
                .parse()
                .map_err(|_| StoreError::Invalid("`inserted_at` is not a time such as 2026-01-31T12:00:00Z".into()))?,
        };
        let mut ids = Vec::new();
        for number in numbers {
            if self.requests.len() >= REQUESTS_MAX {
                return Err(StoreError::Invalid(format!("a sandbox keeps at most {REQUESTS_MAX} requests")));
            }
            let fill = |text: &Option<Option<String>>| {
                text.as_ref().map(|text| text.as_ref().map(|text| text.replace("{n}", &number.to_string())))
            };
            let from_handle = fill(&new.from_handle);
            let from = from_handle.as_ref().and_then(|text| self.by_handle.get(&plain(text.as_ref()?)).copied());
            let from_name = fill(&new.from_name).or_else(|| from.map(|party| Some(self.parties[party].name.clone())));
            let id = match &new.id {
                Some(id) => id.replace("{n}", &number.to_string()),
                None => self.uuid(1, self.requests.len() as u64),
            };
            if crate::model::RequestId::parse(&id).is_err() {
                return Err(StoreError::Invalid("an id is visible ASCII, at most 128 bytes".into()));
            }
            if from == Some(to) {
                return Err(StoreError::Invalid("nobody asks themselves".into()));
            }
            let whose = (new.from_id.clone(), new.owner_id.clone());
            let message = fill(&new.message);
            let index =
                self.insert(Draft { id, to, from, from_handle, from_name, message, ids: whose, inserted_at }, now)?;
            ids.push(self.requests[index].id.clone());
            if new.push.unwrap_or(true) {
                pushed.push(self.tell_received(index));
            }
        }
        Ok(ids)
    }

    fn insert(&mut self, draft: Draft, now: Now) -> Result<usize, StoreError> {
        let Draft { id, to, from, from_handle, from_name, message, ids, inserted_at } = draft;
        let (from_id, owner_id) = ids;
        let index = self.requests.len();
        match self.by_request.entry(id.clone()) {
            hash_map::Entry::Occupied(_) => {
                return Err(StoreError::Conflict("already_exists", "a request with this id exists"));
            }
            hash_map::Entry::Vacant(entry) => entry.insert(index),
        };
        self.received[to].insert((inserted_at, index));
        if let Some(from) = from {
            self.sent[from].insert((inserted_at, index));
        }
        self.requests.push(RequestRecord {
            id,
            to,
            from,
            from_handle,
            from_name,
            message,
            from_id,
            owner_id,
            status: SandboxStatus::Pending,
            inserted_at,
            created: now.mono,
            settled: None,
            settled_by: None,
            answers: Vec::new(),
            answered: 0,
            refused: 0,
            pushed: 0,
            push_written: None,
        });
        Ok(index)
    }

    fn tell_received(&self, index: usize) -> PushedEvent {
        let row = &self.requests[index];
        let payload = row.received_json(None).into();
        PushedEvent { to: row.to, event: "contact_request_received", payload, request: Some(index) }
    }

    /// The platform's `contacts/add`: makes a request, or approves the inverse request if one is pending.
    pub fn add(
        &mut self,
        by: PartyIndex,
        handle: &str,
        message: Option<String>,
        now: Now,
        pushed: &mut Vec<PushedEvent>,
    ) -> Result<(String, SandboxStatus), StoreError> {
        if Handle::parse(handle).is_err() {
            return Err(StoreError::Malformed("/handle", "is not a valid handle"));
        }
        let to = *self.by_handle.get(&plain(handle)).ok_or(StoreError::NotFound("no such handle"))?;
        if to == by {
            return Err(StoreError::Conflict("cannot_add_self", "you cannot add yourself"));
        }
        if self.is_contact(by, to) {
            return Err(StoreError::Conflict("already_contacts", "you are contacts already"));
        }
        if self.pending_between(by, to).is_some() {
            return Err(StoreError::Conflict("already_pending", "your request is pending already"));
        }
        if let Some(inverse) = self.pending_between(to, by) {
            self.settle(inverse, SandboxStatus::Approved, "inverse request", now, pushed);
            return Ok((self.requests[inverse].id.clone(), SandboxStatus::Approved));
        }
        if self.requests.len() >= REQUESTS_MAX {
            return Err(StoreError::Invalid("the sandbox is full".into()));
        }
        let id = self.uuid(1, self.requests.len() as u64);
        let (from_handle, from_name) = (self.parties[by].handle.clone(), self.parties[by].name.clone());
        let draft = Draft {
            id: id.clone(),
            to,
            from: Some(by),
            from_handle: Some(Some(from_handle)),
            from_name: Some(Some(from_name)),
            message: message.map(Some),
            ids: (None, None),
            inserted_at: wire_time(now),
        };
        let index = self.insert(draft, now)?;
        pushed.push(self.tell_received(index));
        Ok((id, SandboxStatus::Pending))
    }
}
