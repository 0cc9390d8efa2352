//! What a policy state is rebuilt from: the rows in the ledger.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{ContactId, Handle, PausedBy, RequestId};
use crate::policy::ask::DeciderVerdict;
use crate::policy::decision::Charge;
use crate::policy::doubts::Doubt;
use crate::policy::rules::RuleName;

/// A charge as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRow {
    /// For which request. `None` if that was not read, since the platform confirmed its answer: nothing asks.
    pub request: Option<RequestId>,
    /// Against which limit and bucket.
    pub charge: Charge,
    /// Since when.
    pub at: Timestamp,
    /// What became of the answer that it pays for.
    pub end: ChargeEnd,
}

/// What became of the answer that a charge pays for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeEnd {
    /// It may still fail, and the place would be given back. Never so for an earlier request with the same id.
    Open,
    /// It is over, and the platform did not confirm it: its end is presumed.
    Unconfirmed,
    /// The platform confirmed it.
    Confirmed,
}

impl ChargeEnd {
    /// Of an answer that may still fail, or not, and that the platform confirmed, or did not.
    pub fn of(open: bool, confirmed: bool) -> Self {
        match (open, confirmed) {
            (true, _) => ChargeEnd::Open,
            (false, true) => ChargeEnd::Confirmed,
            (false, false) => ChargeEnd::Unconfirmed,
        }
    }
}

/// Something an owner did or met, as the ledger remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HistoryKind {
    /// A request by this owner was first seen.
    Requested,
    /// A request by this owner was approved by us.
    Approved,
    /// A request by this owner was approved by us, for a time.
    Guest,
    /// A request by this owner was presumably approved by us: the fate of the answer was unknown, and no contact shows
    /// it.
    Presumed,
    /// A request by this owner was rejected by us.
    Rejected,
    /// A contact of this owner's was removed.
    Removed,
}

/// One row of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerHistoryRow {
    /// The owner.
    pub owner: Arc<str>,
    /// The handle, if it is known.
    pub handle: Option<Handle>,
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
    /// Whether that answer may still fail; see [`ChargeEnd::Open`].
    pub open: bool,
}

/// A pause of an agent: who or what paused it, when, and the person's note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseRecord {
    /// Who or what paused it.
    pub by: PausedBy,
    /// When.
    pub at: Timestamp,
    /// What the person noted.
    pub note: Option<String>,
}

/// All that a policy state is rebuilt from.
#[derive(Debug, Clone, Default)]
pub struct SavedState {
    /// Current charges.
    pub charges: Vec<ChargeRow>,
    /// History, as far back as the policy asks.
    pub history: Vec<OwnerHistoryRow>,
    /// Whether `history` is all there is that far back; `false` makes history unknown.
    pub history_complete: bool,
    /// Approvals by rule since the last resume.
    pub approvals: Vec<ApprovalRow>,
    /// Requests that a person deferred, and who.
    pub holds: Vec<(RequestId, Arc<str>)>,
    /// Why the agent is paused, if it is.
    pub paused: Option<PauseRecord>,
    /// Rejections by `overdue` rules in the last hour.
    pub overdue_rejects: Vec<(RuleName, Timestamp)>,
    /// Owners that were let in, since when, and whose contact was never recognised.
    pub unmet: Vec<(Arc<str>, Timestamp)>,
    /// The last removal of a contact that never had a readable handle.
    pub nameless: Option<(ContactId, Timestamp)>,
    /// Requests that ended in an unknown way; for a decision in the past, everything that was in doubt then.
    pub doubts: Vec<Doubt>,
    /// The verdicts of deciders.
    pub replies: Vec<(RequestId, DeciderVerdict)>,
    /// `overdue` notices already given.
    pub notified: Vec<(RequestId, RuleName)>,
}
