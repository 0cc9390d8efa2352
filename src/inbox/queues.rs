//! Which requests are due, and when: each stands in the queue of its stage, and in no other.

use jiff::Timestamp;

use super::{Entry, Inbox, Stage};
use crate::clock::{Mono, Now};
use crate::model::RequestId;

impl Inbox {
    /// Lets go of what the first pass listed.
    pub fn release_held(&mut self) {
        let held: Vec<RequestId> = self
            .delays
            .iter()
            .filter(|(_, id)| {
                matches!(self.entries.get(id).map(|entry| entry.stage), Some(Stage::Delayed { held: true, .. }))
            })
            .map(|(_, id)| id.clone())
            .collect();
        for id in held {
            self.set(&id, Stage::Ready);
        }
    }

    /// Moves what is due to the queue. `clock_sound` is whether the wall clock's timers may fire.
    pub fn wake(&mut self, now: Now, clock_sound: bool) {
        while let Some((until, id)) = self.delays.first().cloned() {
            if until > now.mono {
                break;
            }
            self.set(&id, Stage::Ready);
        }
        while clock_sound && let Some((at, id)) = self.timers.first().cloned() {
            if at > now.wall {
                break;
            }
            self.set(&id, Stage::Ready);
        }
    }

    /// The oldest request that is ready to be decided.
    pub fn next_ready(&self) -> Option<&RequestId> {
        self.ready.values().next()
    }

    /// All ready requests, oldest first.
    pub fn ready(&self) -> impl Iterator<Item = &RequestId> {
        self.ready.values()
    }

    /// Decided, and nothing to send: it rests, at most until `reconsider_at`.
    pub fn rest(&mut self, id: &RequestId, reconsider_at: Option<Timestamp>) {
        self.set(id, Stage::Resting { reconsider_at });
    }

    /// Not before this; then it is decided again.
    pub fn delay(&mut self, id: &RequestId, until: Mono) {
        self.set(id, Stage::Delayed { until, held: false });
    }

    /// Its answer has been decided on: nobody else touches it.
    pub fn begin_answer(&mut self, id: &RequestId) {
        self.set(id, Stage::InFlight);
    }

    /// Its answer was sent and nothing certain was heard.
    pub fn unknown(&mut self, id: &RequestId) {
        let ended = self.mark();
        self.set(id, Stage::Unknown { ended });
    }

    /// Ready to be decided (again).
    pub fn requeue(&mut self, id: &RequestId) {
        self.set(id, Stage::Ready);
    }

    /// Everything that rests and fits goes back to the queue.
    pub fn requeue_resting(&mut self, fits: impl Fn(&Entry) -> bool) {
        let ids: Vec<RequestId> = self
            .entries
            .values()
            .filter(|entry| matches!(entry.stage, Stage::Resting { .. }) && fits(entry))
            .map(|entry| entry.request.id.clone())
            .collect();
        for id in ids {
            self.set(&id, Stage::Ready);
        }
    }

    /// When something here is due next: a delay, or a timer if the clock can be believed. Not the listing's own time.
    pub fn deadline(&self, now: Now, clock_sound: bool) -> Option<Mono> {
        let delay = self.delays.first().map(|(until, _)| *until);
        let timer = self.timers.first().filter(|_| clock_sound).map(|(at, _)| now.mono_at(*at));
        delay.into_iter().chain(timer).min()
    }

    pub(super) fn insert(&mut self, entry: Entry, stage: Stage) {
        let id = entry.request.id.clone();
        self.entries.insert(id.clone(), Box::new(entry));
        self.set(&id, stage);
    }

    pub(super) fn set(&mut self, id: &RequestId, stage: Stage) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let (before, place) = (entry.stage, entry.place);
        entry.stage = stage;
        match before {
            Stage::Ready => drop(self.ready.remove(&place)),
            Stage::Resting { reconsider_at: Some(at) } => drop(self.timers.remove(&(at, id.clone()))),
            Stage::Delayed { until, .. } => drop(self.delays.remove(&(until, id.clone()))),
            Stage::Resting { reconsider_at: None } | Stage::InFlight | Stage::Unknown { .. } => {}
        }
        match stage {
            Stage::Ready => drop(self.ready.insert(place, id.clone())),
            Stage::Resting { reconsider_at: Some(at) } => drop(self.timers.insert((at, id.clone()))),
            Stage::Delayed { until, .. } => drop(self.delays.insert((until, id.clone()))),
            Stage::Resting { reconsider_at: None } | Stage::InFlight | Stage::Unknown { .. } => {}
        }
    }

    pub(super) fn unlist(&mut self, entry: &Entry) {
        let id = &entry.request.id;
        match entry.stage {
            Stage::Ready => drop(self.ready.remove(&entry.place)),
            Stage::Resting { reconsider_at: Some(at) } => drop(self.timers.remove(&(at, id.clone()))),
            Stage::Delayed { until, .. } => drop(self.delays.remove(&(until, id.clone()))),
            Stage::Resting { reconsider_at: None } | Stage::InFlight | Stage::Unknown { .. } => {}
        }
    }
}
