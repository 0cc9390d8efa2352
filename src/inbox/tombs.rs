//! Tombstones: ids that are settled, so that an older page, or an older event, does not bring them back.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::{Forced, Mark};
use crate::clock::Mono;
use crate::model::RequestId;

/// A listing that began this soon after a request was settled may be stale and is not believed about it.
pub(super) const STALE_GRACE: Duration = Duration::from_secs(60);
/// How long a settled id is remembered.
const KEPT: Duration = Duration::from_secs(900);
/// How many are remembered at most; the oldest go first.
const TOMBS_MAX: usize = 50_000;

/// One settled id.
#[derive(Debug, Clone)]
pub struct Tomb {
    /// When, in the order of events.
    pub mark: Mark,
    /// When, on the clock.
    pub at: Mono,
    /// What we answered, if we did: the only answer it may get if it ever comes back.
    pub answer: Option<Forced>,
}

#[derive(Debug, Default)]
pub(super) struct Tombs {
    by_id: HashMap<RequestId, Tomb>,
    order: VecDeque<(Mark, RequestId)>,
}

impl Tombs {
    pub(super) fn put(&mut self, id: RequestId, mut tomb: Tomb) {
        if let Some(before) = self.by_id.get(&id) {
            // The update that follows our own answer must not make us forget what we said.
            tomb.answer = tomb.answer.or_else(|| before.answer.clone());
        }
        self.order.push_back((tomb.mark, id.clone()));
        self.by_id.insert(id, tomb);
        if self.order.len() > TOMBS_MAX {
            self.drop_oldest();
        }
    }

    pub(super) fn get(&self, id: &RequestId) -> Option<&Tomb> {
        self.by_id.get(id)
    }

    pub(super) fn remove(&mut self, id: &RequestId) {
        self.by_id.remove(id);
    }

    pub(super) fn prune(&mut self, now: Mono) {
        while let Some((mark, id)) = self.order.front() {
            let live = self.by_id.get(id).filter(|tomb| tomb.mark == *mark);
            if live.is_some_and(|tomb| now.since(tomb.at) < KEPT) {
                break;
            }
            self.drop_oldest();
        }
        if self.by_id.is_empty() {
            self.by_id.shrink_to(64);
            self.order.shrink_to(64);
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((mark, id)) = self.order.pop_front()
            && self.by_id.get(&id).is_some_and(|tomb| tomb.mark == mark)
        {
            self.by_id.remove(&id);
        }
    }
}
