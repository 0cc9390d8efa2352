//! What a person said, and what was said to people: holds, pauses, notices of `overdue`.

use std::sync::Arc;

use super::{PolicyState, RuleName};
use crate::model::RequestId;

impl PolicyState {
    /// A person's `defer`, and its end (an `approve` or `reject` by a person, or the request settled).
    pub fn hold(&mut self, request: &RequestId, person: Option<&str>) {
        match person {
            Some(person) => self.holds.insert(request.clone(), person.into()),
            None => self.holds.remove(request),
        };
    }

    /// Who holds this request, if somebody does.
    pub fn hold_of(&self, request: &RequestId) -> Option<&Arc<str>> {
        self.holds.get(request)
    }

    /// Nothing is answered until [`PolicyState::resume`].
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Resumes, and starts the count of `approvals_max` anew.
    pub fn resume(&mut self) {
        self.paused = false;
        self.approvals.clear();
        self.approvals_gap = None;
    }

    /// Whether the agent is paused.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// An `overdue` notice was given for this request.
    pub fn notified(&mut self, request: &RequestId, overdue: &RuleName) {
        let names = self.notified.entry(request.clone()).or_default();
        if !names.contains(overdue) {
            names.push(overdue.clone());
        }
    }

    /// Whether this `overdue` notice was given for this request.
    pub fn was_notified(&self, request: &RequestId, overdue: &RuleName) -> bool {
        self.notified.get(request).is_some_and(|names| names.contains(overdue))
    }

    /// Forgets what no longer matters for a request that ended: its hold, its notices. Charges and history stay.
    pub fn forget(&mut self, request: &RequestId) {
        self.holds.remove(request);
        self.gone(request);
    }

    /// A listing shows this request no more. It may be a stale one, so what a person holds stays held.
    pub fn gone(&mut self, request: &RequestId) {
        self.notified.remove(request);
    }
}
