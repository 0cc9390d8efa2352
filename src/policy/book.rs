//! One agent's own state as the policy sees it: charges against limits, history by owner, approvals, holds, the pause.
//!
//! Pure data behind pure methods. It lives in the agent's task, is rebuilt from the ledger at start, and is the only
//! state that a decision depends on besides the request, its circumstances and the time.

use std::sync::Arc;

use jiff::Timestamp;

use super::decision::{By, Charge};
use crate::model::{Handle, Outcome, RequestId, Verdict};

/// A charge as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRow {
    /// For which request.
    pub request: RequestId,
    /// Against which limit and bucket.
    pub charge: Charge,
    /// Since when.
    pub at: Timestamp,
}

/// Something an owner did or met, as the ledger remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HistoryKind {
    /// A request by this owner was first seen.
    Requested,
    /// A request by this owner was approved by us.
    Approved,
    /// A request by this owner was rejected by us.
    Rejected,
    /// A contact of this owner's was removed.
    Removed,
}

/// One row of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// Whose.
    pub owner: Arc<str>,
    /// By which request; `None` for removals.
    pub request: Option<RequestId>,
    /// What.
    pub kind: HistoryKind,
    /// When.
    pub at: Timestamp,
}

/// An approval that counts towards `approvals_max` (a person's does not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRow {
    /// Which request.
    pub request: RequestId,
    /// When its intent was recorded.
    pub at: Timestamp,
}

/// All that a book is rebuilt from.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Live charges.
    pub charges: Vec<ChargeRow>,
    /// History, as far back as the policy asks.
    pub history: Vec<HistoryRow>,
    /// Whether `history` is all there is that far back; `false` makes history unknown.
    pub history_complete: bool,
    /// Approvals by rule since the last resume.
    pub approvals: Vec<ApprovalRow>,
    /// Requests that a person deferred, and who.
    pub holds: Vec<(RequestId, Arc<str>)>,
    /// Whether the agent is paused.
    pub paused: bool,
    /// Rejections by `overdue` rules in the last hour.
    pub overdue_rejects: Vec<(super::RuleName, Timestamp)>,
    /// `overdue` notices already given.
    pub notified: Vec<(RequestId, super::RuleName)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Book {
    _todo: (),
}

#[allow(missing_docs, unused_variables, clippy::todo)]
impl Book {
    /// Rebuilds the book at start.
    pub fn restore(memory: Memory) -> Self {
        todo!()
    }
    /// A request by this handle was first seen. Idempotent per request.
    pub fn seen(&mut self, request: &RequestId, handle: Option<&Handle>, at: Timestamp) {
        todo!()
    }
    /// The intent: reserves the decision's charges and counts the approval, in the same step in which it was decided.
    /// Idempotent per request: a retry of the same answer charges nothing again. A person's answer charges nothing.
    pub fn reserve(
        &mut self,
        request: &RequestId,
        handle: Option<&Handle>,
        verdict: Verdict,
        by: &By,
        charges: &[Charge],
        at: Timestamp,
    ) {
        todo!()
    }
    /// What became of an answer: gives back what it does not keep ([`Outcome::keeps_charge`]), and writes history.
    pub fn settle(
        &mut self,
        request: &RequestId,
        handle: Option<&Handle>,
        verdict: Verdict,
        outcome: Outcome,
        at: Timestamp,
    ) {
        todo!()
    }
    /// A contact of this handle's owner was removed.
    pub fn removed(&mut self, handle: &Handle, at: Timestamp) {
        todo!()
    }
    /// A person's `defer`, and its end (an `approve` or `reject` by a person, or the request settled).
    pub fn hold(&mut self, request: &RequestId, person: Option<&str>) {
        todo!()
    }
    pub fn hold_of(&self, request: &RequestId) -> Option<&Arc<str>> {
        todo!()
    }
    pub fn pause(&mut self) {
        todo!()
    }
    /// Resumes, and starts the count of `approvals_max` anew.
    pub fn resume(&mut self) {
        todo!()
    }
    pub fn paused(&self) -> bool {
        todo!()
    }
    /// An `overdue` notice was given for this request.
    pub fn notified(&mut self, request: &RequestId, overdue: &super::RuleName) {
        todo!()
    }
    /// Forgets what no longer matters for a request that is settled (holds, notices). Charges and history stay.
    pub fn forget(&mut self, request: &RequestId) {
        todo!()
    }
    /// Drops what has slid out of every window; called now and then.
    pub fn prune(&mut self, policy: &super::Policy, now: Timestamp) {
        todo!()
    }
}
