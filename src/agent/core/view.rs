//! The current state of an agent, for `status`, `pending` and the metrics. The shell puts it into words.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::Core;
use super::Counters;
use crate::inbox::{Entry, Stage};
use crate::model::{AgentId, AgentState, ContactRequest, StrangerText, Verdict};
use crate::policy::ask::AskFault;
use crate::policy::doubts::Doubt;
use crate::policy::state::PauseRecord;
use crate::policy::{By, DeciderVerdict, ErrorKind, RuleName};

/// The current state of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    /// Its id.
    pub id: AgentId,
    /// Its handle, once the platform reported it.
    pub handle: Option<StrangerText>,
    /// The state of its connection.
    pub state: AgentState,
    /// Nothing is answered until `resume`: who or what paused it.
    pub paused: Option<PauseRecord>,
    /// Its rules were refused at start.
    pub without_rules: bool,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Why, for people.
    pub why: String,
    /// Requests that are known and pending.
    pub pending: u64,
    /// Of these: decided `defer`.
    pub deferred: u64,
    /// Answers on their way.
    pub in_flight: u64,
    /// Doubts that the rules in force ask about.
    pub doubts: u64,
    /// Guests that are there now.
    pub guests: u64,
    /// Of these: after their end.
    pub guests_late: u64,
    /// The end of the last whole listing.
    pub last_listing: Option<Timestamp>,
    /// Remarks for people beside the state, one sentence each; escaped.
    pub remarks: Vec<String>,
    /// Deciders that fail, and why.
    pub deciders_failing: Vec<(RuleName, AskFault)>,
    /// When the request that has waited longest for a person was first seen.
    pub oldest_deferred: Option<Timestamp>,
    /// Whether the clock can be believed.
    pub clock_sound: bool,
}

/// One pending request.
#[derive(Debug, Clone)]
pub struct PendingRequest {
    /// The request.
    pub request: Arc<ContactRequest>,
    /// The agent that received it.
    pub agent: AgentId,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// The last decision, if there was one.
    pub verdict: Option<Verdict>,
    /// What gave that decision, or what keeps the request waiting.
    pub by: Option<By>,
    /// Doubts about the sender's owner that made a rule unknown.
    pub doubts: Vec<Doubt>,
    /// The verdicts of deciders about it, in words.
    pub replies: Vec<String>,
    /// When it will be answered, if it waits.
    pub due: Option<Timestamp>,
    /// The word for where it is: see `crate::inbox::Entry::stage_word`.
    pub stage: &'static str,
}

impl Core {
    /// How many charges and approvals are remembered; in time, only those that some window reaches.
    pub fn remembered(&self) -> (usize, usize) {
        self.policy_state.sizes()
    }

    /// The current state of the agent.
    pub fn status(&self) -> AgentView {
        let resting = |stage: Stage| matches!(stage, Stage::Resting { .. });
        let deferred = self.inbox.entries().filter(|entry| {
            resting(entry.stage()) && entry.decision().is_some_and(|decision| decision.verdict == Verdict::Defer)
        });
        let (guests, guests_late) = self.guest_counts();
        AgentView {
            id: self.config.agent.clone(),
            handle: self.handle.clone(),
            state: self.state,
            paused: self.policy_state.pause_in_force().cloned(),
            without_rules: self.policy.is_none(),
            since: self.state_since,
            why: self.state_why.clone(),
            pending: self.inbox.len() as u64,
            deferred: deferred.count() as u64,
            in_flight: u64::from(self.responder.in_flight()),
            doubts: self.doubts().len() as u64,
            guests,
            guests_late,
            last_listing: self.last_listing,
            remarks: self.remarks(),
            deciders_failing: self.deciders_failing(),
            oldest_deferred: self.oldest_deferred(),
            clock_sound: self.clock.sound(),
        }
    }

    /// When the request that has waited longest for a person was first seen.
    fn oldest_deferred(&self) -> Option<Timestamp> {
        let deferred = self.inbox.entries().filter(|entry| {
            matches!(entry.stage(), Stage::Resting { .. })
                && entry.decision().is_some_and(|decision| decision.verdict == Verdict::Defer)
        });
        deferred.map(|entry| entry.first_seen()).min()
    }

    /// Remarks for people beside the state.
    fn remarks(&self) -> Vec<String> {
        let blind = self.inbox.listing.blind().map(|blind| {
            format!(
                "row {} of page {} of the pending requests (at {} rows a page) has no readable id, {} such row(s) in all: \
                 nobody is taken for gone while it is listed",
                blind.position, blind.page, blind.size, blind.rows
            )
        });
        self.session
            .remarks()
            .into_iter()
            .chain(blind)
            .chain(self.deciders_silent())
            .chain(self.bounds_reached())
            .chain(self.beside_the_rules())
            .chain(self.guest_remarks())
            .collect()
    }

    fn deciders_silent(&self) -> impl Iterator<Item = String> {
        self.deciders_failing().into_iter().map(|(decider, why)| {
            format!("the decider {decider} gives no reply ({}): what it is asked about stays pending", why.as_str())
        })
    }

    /// Bounds that are reached now, and what that means.
    fn bounds_reached(&self) -> impl Iterator<Item = String> {
        let room = (self.inbox.is_crowded() && !self.inbox.closed).then(|| {
            format!(
                "there is no room for more requests ({} are here, with {} MiB of text): others wait at the platform and are not \
                 shown here, but whoever a rule answers is let in",
                self.inbox.len(),
                self.inbox.text_bytes() >> 20
            )
        });
        let record = self.inbox.closed.then(|| {
            format!(
                "{} entries wait to go on record: nobody new is let in until there is room, and news that decide nothing are left \
                 out",
                self.outbox.len()
            )
        });
        let contacts = self.policy_state.doubts().contacts().crowded().then(|| {
            "there are more contacts than are known one by one: how many is unknown, and facts about those beyond are in doubt"
                .to_owned()
        });
        room.into_iter().chain(record).chain(contacts)
    }

    /// The state of the connection.
    pub fn state(&self) -> AgentState {
        self.state
    }

    /// Since the start, by stable names.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.counters.all()
    }

    /// Continues the counters of earlier runs of this agent's task.
    pub fn count_on(&mut self, counters: Counters) {
        self.counters.hand_to(counters);
    }

    /// What is pending, oldest first.
    pub fn pending(&self) -> Vec<PendingRequest> {
        let mut entries: Vec<_> = self.inbox.entries().collect();
        entries.sort_by_key(|entry| entry.position());
        entries.into_iter().map(|entry| self.pending_request(entry)).collect()
    }

    /// At most `most` pending requests: those that wait for a person come first, oldest first.
    pub fn pending_first(&self, most: usize) -> Vec<PendingRequest> {
        if most == 0 {
            return Vec::new();
        }
        let waits = |entry: &Entry| {
            matches!(entry.stage(), Stage::Resting { .. })
                && entry.decision().is_none_or(|decision| decision.verdict == Verdict::Defer)
        };
        let key = |entry: &&Entry| (!waits(entry), entry.position());
        let mut entries: Vec<_> = self.inbox.entries().collect();
        if entries.len() > most {
            entries.select_nth_unstable_by_key(most, key);
            entries.truncate(most);
        }
        entries.sort_unstable_by_key(key);
        entries.into_iter().map(|entry| self.pending_request(entry)).collect()
    }

    fn pending_request(&self, entry: &Entry) -> PendingRequest {
        PendingRequest {
            request: entry.request().clone(),
            agent: self.config.agent.clone(),
            first_seen: entry.first_seen(),
            verdict: entry.decision().map(|decision| decision.verdict),
            by: match (entry.answer().said(), entry.decision()) {
                // What keeps a decided request waiting, rather than what decided it.
                (Some(_), Some(decision)) if decision.verdict == Verdict::Defer && !entry.said_by_person() => {
                    Some(decision.by.clone())
                }
                (Some(said), _) => Some(said.by.clone()),
                (None, Some(decision)) => Some(decision.by.clone()),
                (None, None) if self.policy.is_none() => Some(By::Error(ErrorKind::Policy)),
                (None, None) => None,
            },
            replies: self.policy_state.replies_to(entry.id()).iter().map(DeciderVerdict::in_words).collect(),
            doubts: entry.decision().map(|decision| decision.doubts.clone()).unwrap_or_default(),
            due: entry.decision().and_then(|decision| decision.due),
            stage: entry.stage_word(),
        }
    }
}
