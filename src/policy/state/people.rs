//! What people decided, and the notices for people: holds, pauses, notices of `overdue`.

use std::sync::Arc;

use super::{PauseRecord, PolicyState, RuleName};
use crate::model::{Handle, RequestId};
use crate::policy::ask::{DeciderVerdict, Question};

/// Most decider verdicts that are kept for one request.
const REPLIES_MAX: usize = 8;

impl PolicyState {
    /// A person's `defer`, and its end (an `approve` or `reject` by a person, or the request settled).
    pub fn hold(&mut self, request: &RequestId, person: Option<&str>) {
        match person {
            Some(person) => self.holds.insert(request.clone(), person.into()),
            None => self.holds.remove(request),
        };
    }

    /// The person who holds this request, if there is one.
    pub fn hold_of(&self, request: &RequestId) -> Option<&Arc<str>> {
        self.holds.get(request)
    }

    /// Nothing is answered until [`PolicyState::resume`].
    pub fn pause(&mut self, pause: PauseRecord) {
        self.paused = Some(pause);
    }

    /// Resumes, and starts the count of `approvals_max` at zero.
    pub fn resume(&mut self) {
        self.paused = None;
        self.approvals.clear();
        self.approvals_gap = None;
    }

    /// Whether the agent is paused.
    pub fn paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Who or what paused the agent, if it is paused.
    pub fn pause_in_force(&self) -> Option<&PauseRecord> {
        self.paused.as_ref()
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

    /// A decider gave this verdict about a request. Its newest verdict for each question counts, so going back to an
    /// earlier rule asks nothing again.
    pub fn add_reply(&mut self, request: &RequestId, reply: DeciderVerdict) {
        let words = self.replies.entry(request.clone()).or_default();
        words.retain(|word| word.decider != reply.decider || word.key != reply.key);
        if words.len() == REPLIES_MAX {
            words.remove(0);
        }
        words.push(reply);
    }

    /// The verdict for this question.
    pub fn word_on(&self, request: &RequestId, question: &Question) -> Option<&DeciderVerdict> {
        self.replies.get(request)?.iter().find(|word| word.answers(question))
    }

    /// All verdicts of deciders about this request.
    pub fn replies_to(&self, request: &RequestId) -> &[DeciderVerdict] {
        self.replies.get(request).map_or(&[], Vec::as_slice)
    }

    /// Forgets what no longer matters for a request that ended: its hold, its notices. Charges and history stay.
    pub fn forget(&mut self, request: &RequestId) {
        self.holds.remove(request);
        self.replies.remove(request);
        self.gone(request);
    }

    /// A request came whose id may have belonged to an earlier one: the charges and the history of the earlier one
    /// still count, in addition to those of the new one.
    pub fn came_again(&mut self, request: &RequestId, handle: Option<&Handle>) {
        self.open.remove(request);
        if let Some(handle) = handle {
            self.history.came_again(handle.owner(), request);
        }
    }

    /// The platform gave this id to another request: what people decided about the earlier one does not apply to it.
    pub fn id_reused(&mut self, request: &RequestId) {
        self.forget(request);
        for (_, rejected) in self.overdue.values_mut().flatten() {
            rejected.take_if(|known| known == request);
        }
    }

    /// A listing no longer shows this request. The listing may be stale, so a person's hold stays.
    pub fn gone(&mut self, request: &RequestId) {
        self.notified.remove(request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Answer, Outcome, Verdict};
    use crate::policy::testkit::{handle, hours, id, name, noon};
    use crate::policy::{By, Charge};

    #[test]
    fn an_id_that_is_used_again_pays_again_and_gives_back_only_its_own() {
        let mut state = PolicyState::default();
        let (ann, by, request) = (handle("ann"), By::Rule(name("friends")), id("r1"));
        let charges = [Charge { rule: name("friends"), bucket: "ann".into() }];
        state.seen(&request, Some(&ann), noon());
        state.reserve(&request, Some(&ann), Verdict::Approve, &by, &charges, noon());
        state.settle(&request, Some(&ann), Verdict::Approve, Outcome::Confirmed(Answer::Approve), noon());
        state.hold(&request, Some("zoe"));
        let later = noon() + hours(1);
        state.came_again(&request, Some(&ann));
        state.id_reused(&request);
        state.seen(&request, Some(&ann), later);
        assert_eq!(state.hold_of(&request), None);
        assert_eq!(state.history.requests_within("ann", hours(9), &request, later).count(), 1, "the one before");
        state.reserve(&request, Some(&ann), Verdict::Approve, &by, &charges, later);
        assert_eq!(state.sizes(), (2, 2));
        assert_eq!(state.approvals_within(hours(9), &request, later), 1);
        state.give_back(&request);
        assert_eq!(state.sizes(), (1, 1));
    }
}
