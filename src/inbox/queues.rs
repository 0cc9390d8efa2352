//! Which requests are due, and when: each request is in the queue of its stage, and in no other.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::entry::DecisionQueue;
use super::{Entry, Inbox, NextAnswer, QueuePosition, Stage, text_of};
use crate::clock::{Mono, Now};
use crate::model::{RequestId, Verdict};

impl Inbox {
    /// Releases the requests of the first pass.
    pub(crate) fn release_listed(&mut self) {
        let held_back = |id: &RequestId| {
            matches!(
                self.entries.get(id).map(|entry| entry.queue),
                Some(DecisionQueue::Delayed { held_back: true, .. })
            )
        };
        let held_back: Vec<RequestId> =
            self.delays.iter().map(|(_, id)| id).filter(|id| held_back(id)).cloned().collect();
        for id in held_back {
            self.requeue(&id);
        }
    }

    /// Moves the requests that are due to the queue. `clock_sound` is whether timers of the wall clock may fire.
    pub(crate) fn wake(&mut self, now: Now, clock_sound: bool) {
        while let Some((until, id)) = self.delays.first().cloned() {
            if until > now.mono {
                break;
            }
            self.requeue(&id);
        }
        while clock_sound && let Some((at, id)) = self.timers.first().cloned() {
            if at > now.wall {
                break;
            }
            self.requeue(&id);
        }
    }

    /// The request that is decided next. A reload sends everybody who waits for a person back to the queue, and a new sender must
    /// not wait for all of them: those that rules deferred before take every second turn, and the others the rest.
    pub(crate) fn next_ready(&self) -> Option<&RequestId> {
        let (mut new, mut again) = (self.ready.values(), self.ready_again.values());
        match self.again_was_last {
            true => new.next().or_else(|| again.next()),
            false => again.next().or_else(|| new.next()),
        }
    }

    /// All ready requests, oldest first: those that rules deferred before come last.
    #[cfg(test)]
    pub fn ready(&self) -> impl Iterator<Item = &RequestId> {
        self.ready.values().chain(self.ready_again.values())
    }

    /// Decided, and nothing to send: it rests, at most until `reconsider_at`.
    pub fn rest(&mut self, id: &RequestId, reconsider_at: Option<Timestamp>) {
        self.move_to(id, DecisionQueue::Resting { reconsider_at });
    }

    /// Ready to be decided (again).
    pub(crate) fn requeue(&mut self, id: &RequestId) {
        let deferred = |entry: &Entry| {
            let by_rules = matches!(entry.answer.next(), Some(NextAnswer::Rules));
            by_rules && entry.decision().is_some_and(|decision| decision.verdict == Verdict::Defer)
        };
        let again = self.entries.get(id).is_some_and(|entry| deferred(entry));
        self.move_to(id, DecisionQueue::Ready { again });
    }

    /// Puts all resting requests that `fits` selects back into the queue.
    pub(crate) fn requeue_resting(&mut self, fits: impl Fn(&Entry) -> bool) {
        let ids: Vec<RequestId> = self
            .entries
            .values()
            .filter(|entry| matches!(entry.stage(), Stage::Resting { .. }) && fits(entry))
            .map(|entry| entry.request.id.clone())
            .collect();
        for id in ids {
            self.requeue(&id);
        }
    }

    /// When a request is due next: a delay, or a timer if the clock can be trusted. The listing has a time of its own.
    pub fn deadline(&self, now: Now, clock_sound: bool) -> Option<Mono> {
        let delay = self.delays.first().map(|(until, _)| *until);
        let timer = self.timers.first().filter(|_| clock_sound).map(|(at, _)| now.mono_at(*at));
        delay.into_iter().chain(timer).min()
    }

    pub(super) fn insert(&mut self, entry: Entry, queue: DecisionQueue) {
        let id = entry.request.id.clone();
        self.text_bytes += text_of(&entry.request);
        if let Some(before) = self.entries.insert(id.clone(), Box::new(entry)) {
            self.text_bytes -= text_of(&before.request);
        }
        self.move_to(&id, queue);
    }

    /// Puts the request into this queue, and removes it from any other.
    pub(super) fn move_to(&mut self, id: &RequestId, queue: DecisionQueue) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let (before, position) = (entry.queue, entry.position);
        entry.queue = queue;
        self.unlist(id, before, position);
        if let (DecisionQueue::Ready { again }, false) = (before, matches!(queue, DecisionQueue::Ready { .. })) {
            self.again_was_last = again;
        }
        match queue {
            DecisionQueue::Ready { again } => drop(self.ready_mut(again).insert(position, id.clone())),
            DecisionQueue::Resting { reconsider_at: Some(at) } => drop(self.timers.insert((at, id.clone()))),
            DecisionQueue::Delayed { until, .. } => drop(self.delays.insert((until, id.clone()))),
            DecisionQueue::Resting { reconsider_at: None } | DecisionQueue::Out => {}
        }
    }

    pub(super) fn unlist(&mut self, id: &RequestId, queue: DecisionQueue, position: QueuePosition) {
        match queue {
            DecisionQueue::Ready { again } => drop(self.ready_mut(again).remove(&position)),
            DecisionQueue::Resting { reconsider_at: Some(at) } => drop(self.timers.remove(&(at, id.clone()))),
            DecisionQueue::Delayed { until, .. } => drop(self.delays.remove(&(until, id.clone()))),
            DecisionQueue::Resting { reconsider_at: None } | DecisionQueue::Out => {}
        }
    }

    fn ready_mut(&mut self, again: bool) -> &mut BTreeMap<QueuePosition, RequestId> {
        if again { &mut self.ready_again } else { &mut self.ready }
    }
}
