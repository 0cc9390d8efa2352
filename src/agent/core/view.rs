//! How an agent stands, for `status`, `pending` and the metrics.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Core;
use crate::agent::Counters;
use crate::inbox::Stage;
use crate::model::{AgentState, StrangerText, Verdict};
use crate::ops::board::AgentBoard;
use crate::ops::control::wire::{AgentStatus, PendingRow};

impl Core {
    /// How many charges and approvals are remembered; in time, only those that some window reaches.
    pub fn remembered(&self) -> (usize, usize) {
        self.policy_state.sizes()
    }

    /// Its line in `status`.
    pub fn status(&self) -> AgentStatus {
        let resting = |stage: Stage| matches!(stage, Stage::Resting { .. });
        let deferred = self.inbox.entries().filter(|entry| {
            resting(entry.stage()) && entry.decision().is_some_and(|decision| decision.verdict == Verdict::Defer)
        });
        AgentStatus {
            id: self.config.agent.clone(),
            handle: self.handle.as_ref().map(ToString::to_string),
            state: self.state,
            paused: self.policy_state.paused(),
            without_rules: self.policy.is_none(),
            since: self.state_since,
            why: self.state_why.clone(),
            pending: self.inbox.len() as u64,
            deferred: deferred.count() as u64,
            in_flight: u64::from(self.responder.in_flight()),
            doubts: self.doubts().len() as u64,
            last_listing: self.last_listing,
            remarks: self.remarks(),
        }
    }

    /// How it stands, for the board.
    pub fn board(&self) -> AgentBoard {
        AgentBoard { status: self.status(), oldest_deferred: self.oldest_deferred(), clock_sound: self.clock.sound() }
    }

    /// When the request that has waited longest for a person was first seen.
    fn oldest_deferred(&self) -> Option<Timestamp> {
        let deferred = self.inbox.entries().filter(|entry| {
            matches!(entry.stage(), Stage::Resting { .. })
                && entry.decision().is_some_and(|decision| decision.verdict == Verdict::Defer)
        });
        deferred.map(|entry| entry.first_seen()).min()
    }

    /// What people should know beside the state.
    fn remarks(&self) -> Vec<String> {
        let blind = self.inbox.listing.blind().map(|blind| {
            format!(
                "row {} of page {} of the pending requests (at {} rows a page) has no readable id, {} such row(s) in all: \
                 nobody is taken for gone while it is listed",
                blind.position, blind.page, blind.size, blind.rows
            )
        });
        self.session.remarks().into_iter().chain(blind).chain(self.beside_the_rules()).collect()
    }

    /// Its state.
    pub fn state(&self) -> AgentState {
        self.state
    }

    /// Since the start, by stable names.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.counters.all()
    }

    /// Goes on with what the agent counted in earlier lives of its task.
    pub fn count_on(&mut self, counters: Counters) {
        for (what, count) in std::mem::replace(&mut self.counters, counters).all() {
            self.counters.add(what, count);
        }
    }

    /// What is pending, oldest first.
    pub fn pending(&self) -> Vec<PendingRow> {
        let mut entries: Vec<_> = self.inbox.entries().collect();
        entries.sort_by_key(|entry| entry.position());
        let text = |text: Option<&StrangerText>| text.map(|text| text.raw_prefix(500).to_owned());
        entries
            .into_iter()
            .map(|entry| PendingRow {
                request: entry.id().to_string(),
                agent: self.config.agent.clone(),
                handle: text(entry.request().sender.original()),
                name: text(entry.request().name.as_ref()),
                message: text(entry.request().message.as_ref()),
                inserted_at: entry.request().inserted_at,
                first_seen: entry.first_seen(),
                verdict: entry.decision().map(|decision| decision.verdict),
                by: match (entry.answer().said(), entry.decision()) {
                    // What keeps an answered request waiting, rather than what answered it.
                    (Some(_), Some(decision)) if decision.verdict == Verdict::Defer && !entry.said_by_person() => {
                        Some(decision.by.to_string())
                    }
                    (Some(said), _) => Some(said.by.to_string()),
                    (None, Some(decision)) => Some(decision.by.to_string()),
                    (None, None) if self.policy.is_none() => Some("error:policy".to_owned()),
                    (None, None) => None,
                },
                doubts: entry
                    .decision()
                    .iter()
                    .flat_map(|decision| &decision.doubts)
                    .map(|doubt| doubt.basis.to_string())
                    .collect(),
                due: entry.decision().and_then(|decision| decision.due),
                stage: entry.stage_word().to_owned(),
            })
            .collect()
    }
}
