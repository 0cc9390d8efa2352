//! Approvals by a rule whose answer had an unknown fate: the request is no longer pending, and no contact has shown that
//! it was approved. Somebody else may have rejected it first.
//!
//! Bound: [`PRESUMED_MAX`]. Beyond it all are dropped, and who was approved is unknown for everybody of whom nothing else
//! is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{Handle, RequestId};

/// Most approvals that are kept.
pub(super) const PRESUMED_MAX: usize = 100_000;
/// If this many complete readings of the contacts do not show the sender, the request was not approved.
const MISSED_MAX: u8 = 3;

#[derive(Debug)]
struct PresumedApproval {
    sender: Handle,
    /// When the request was sent.
    since: Timestamp,
    /// Readings up to this number prove nothing about it.
    reading: u64,
    /// How many later readings did not show the sender.
    missed: u8,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Presumed {
    /// Several senders may have had one id.
    by_request: BTreeMap<RequestId, Vec<PresumedApproval>>,
    /// `None` is before all of an owner's.
    by_owner: BTreeSet<(Arc<str>, Option<RequestId>)>,
    len: usize,
}

impl Presumed {
    /// An answer to this request presumably let this sender in. Returns whether that is new; `None`: there is no room.
    pub(super) fn insert(
        &mut self,
        sender: &Handle,
        request: &RequestId,
        since: Timestamp,
        reading: u64,
    ) -> Option<bool> {
        let approvals = self.by_request.entry(request.clone()).or_default();
        if approvals.iter().any(|one| one.sender == *sender) {
            return Some(false);
        }
        if self.len >= PRESUMED_MAX {
            *self = Self::default();
            return None;
        }
        approvals.push(PresumedApproval { sender: sender.clone(), since, reading, missed: 0 });
        self.by_owner.insert((sender.owner().into(), Some(request.clone())));
        self.len += 1;
        Some(true)
    }

    fn requests_of(&self, owner: &str) -> impl Iterator<Item = &RequestId> {
        let owner: Arc<str> = owner.into();
        let from = self.by_owner.range((owner.clone(), None)..);
        from.take_while(move |(of, _)| *of == owner).filter_map(|(_, request)| request.as_ref())
    }

    /// The first approval of this owner: the request, and when it was sent.
    pub(super) fn of(&self, owner: &str) -> Option<(&RequestId, Timestamp)> {
        let request = self.requests_of(owner).next()?;
        let theirs = self.by_request.get(request)?.iter().find(|one| one.sender.owner() == owner)?;
        Some((request, theirs.since))
    }

    /// Removes those of this request that `which` selects, and returns their senders.
    fn take(&mut self, request: &RequestId, which: impl Fn(&Handle, Timestamp) -> bool) -> Vec<Handle> {
        let Some(approvals) = self.by_request.get_mut(request) else { return Vec::new() };
        let taken = approvals.extract_if(.., |one| which(&one.sender, one.since));
        let taken: Vec<Handle> = taken.map(|one| one.sender).collect();
        self.len -= taken.len();
        for sender in &taken {
            if !approvals.iter().any(|one| one.sender.owner() == sender.owner()) {
                self.by_owner.remove(&(sender.owner().into(), Some(request.clone())));
            }
        }
        if approvals.is_empty() {
            self.by_request.remove(request);
        }
        taken
    }

    /// It is known how this request ended; `which`: of these senders, sent then.
    pub(super) fn ended(&mut self, request: &RequestId, which: impl Fn(&Handle, Timestamp) -> bool) -> Vec<Handle> {
        self.take(request, which)
    }

    /// Whether there is one of this request.
    pub(super) fn has(&self, request: &RequestId) -> bool {
        self.by_request.contains_key(request)
    }

    /// It is known that this owner was approved: the others of theirs say nothing new.
    pub(super) fn known(&mut self, owner: &str) -> bool {
        let requests: Vec<RequestId> = self.requests_of(owner).cloned().collect();
        for request in &requests {
            self.take(request, |sender, _| sender.owner() == owner);
        }
        !requests.is_empty()
    }

    /// A contact of this sender is there: returns the request that was approved.
    pub(super) fn shown(&self, sender: &Handle) -> Option<RequestId> {
        let of =
            |request: &&RequestId| self.by_request.get(*request).into_iter().flatten().any(|one| one.sender == *sender);
        self.requests_of(sender.owner()).find(of).cloned()
    }

    /// The contacts were read completely; a contact without a handle that came after `sent` may be that of anybody.
    /// Returns what was not approved, and whether further readings show more.
    pub(super) fn read(
        &mut self,
        reading: u64,
        may_be: impl Fn(Timestamp) -> bool,
    ) -> (Vec<(RequestId, Handle)>, bool) {
        let (mut over, mut more) = (Vec::new(), false);
        for (request, approvals) in &mut self.by_request {
            for one in approvals.iter_mut().filter(|one| one.reading < reading && !may_be(one.since)) {
                one.missed += 1;
                more |= one.missed < MISSED_MAX;
                if one.missed >= MISSED_MAX {
                    over.push((request.clone(), one.sender.clone()));
                }
            }
        }
        for (request, sender) in &over {
            self.take(request, |one, _| one == sender);
        }
        (over, more)
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_owner.iter().map(|(owner, _)| owner)
    }
}
