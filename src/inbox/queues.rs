//! Which requests are due, and when: each stands in the queue of its stage, and in no other.

use super::{Entry, Inbox, Stage};
use crate::model::RequestId;

impl Inbox {
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
