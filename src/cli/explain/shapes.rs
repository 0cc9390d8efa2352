//! What `explain --json` prints.

use jiff::Timestamp;
use serde::Serialize;

use crate::model::{AgentId, PausedBy, RemovedBy, RequestId, Verdict};
use crate::policy::By;
use crate::policy::explain::Explanation;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct ExplainOutput {
    /// `record`: what happened; `now`: what would happen if the request came now; `hypothetical`: what would happen
    /// under the given assumptions.
    pub(super) basis: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) record: Option<RecordView>,
    /// If `record` is present, its `verdict` and `by` are those of the ledger.
    #[serde(flatten)]
    pub(super) explanation: Option<Explanation>,
}

/// What the ledger says of a request, beside the reasons.
#[derive(Debug, Serialize)]
pub(super) struct RecordView {
    pub(super) request: RequestId,
    pub(super) agent: AgentId,
    /// As received.
    pub(super) handle: Option<String>,
    pub(super) received_at: Timestamp,
    /// The last verdict: a rule's, or a person's.
    pub(super) verdict: Option<Verdict>,
    pub(super) by: Option<By>,
    /// The note of the person who answered or holds it.
    pub(super) note: Option<String>,
    pub(super) answered_at: Option<Timestamp>,
    pub(super) outcome: Option<crate::model::Outcome>,
    pub(super) settled: Option<String>,
    pub(super) settled_at: Option<Timestamp>,
    /// When the resulting contact is removed, or was to be removed.
    pub(super) ends_at: Option<Timestamp>,
    /// Why doorman does not remove it by itself.
    pub(super) end_in_doubt: Option<&'static str>,
    /// A person's last word on that end.
    pub(super) end_moved: Option<EndMovedView>,
    /// Who removed the resulting contact, if doorman removed it.
    pub(super) removed: Option<RemovedView>,
    /// When that contact was removed, by whomever.
    pub(super) contact_removed_at: Option<Timestamp>,
    /// Who or what paused the agent, if the pause is what decided.
    pub(super) paused: Option<PausedView>,
    /// The last words of people on doubts about the sender's owner, oldest first.
    pub(super) settlements: Vec<SettlementView>,
    /// What deciders said of it, whatever came of that.
    pub(super) replies: Vec<DeciderReplyView>,
    /// `enforce`, or `shadow`: decided, but not answered.
    pub(super) mode: &'static str,
    /// What the rules had decided last, and when.
    pub(super) rules: Option<VerdictView>,
    /// What the rules say when they decide it again from the record, if that is something else.
    pub(super) differs: Option<VerdictView>,
    /// What the rules in force would say now, if that is something else.
    pub(super) today: Option<VerdictView>,
    /// How many older requests of this handle are on record, up to the most that are counted.
    pub(super) older: usize,
    /// The newest of these.
    pub(super) older_requests: Vec<RequestId>,
    /// Why there are no reasons, if there are none.
    pub(super) unexplained: Option<String>,
}

/// A pause of the agent.
#[derive(Debug, Serialize)]
pub(super) struct PausedView {
    /// `person:NAME`, or `approvals_max`.
    pub(super) by: PausedBy,
    pub(super) at: Timestamp,
    pub(super) note: Option<String>,
}

/// What a person said of a doubt.
#[derive(Debug, Serialize)]
pub(super) struct SettlementView {
    /// The request that the doubt rested on.
    pub(super) request: Option<String>,
    pub(super) said: String,
    /// The person's name.
    pub(super) by: String,
    pub(super) at: Timestamp,
    pub(super) note: Option<String>,
}

/// Where a person moved the end of a guest's contact.
#[derive(Debug, Serialize)]
pub(super) struct EndMovedView {
    /// `None`: the guest stays.
    pub(super) ends_at: Option<Timestamp>,
    /// The person's name.
    pub(super) by: String,
    pub(super) at: Timestamp,
    pub(super) note: Option<String>,
}

/// What a decider said.
#[derive(Debug, Serialize)]
pub(super) struct DeciderReplyView {
    pub(super) at: Timestamp,
    pub(super) decider: String,
    pub(super) verdict: Verdict,
    /// As untrusted as a stranger's text.
    pub(super) reason: Option<String>,
}

/// A contact that doorman removed.
#[derive(Debug, Serialize)]
pub(super) struct RemovedView {
    /// `person:NAME`, or `expired`.
    pub(super) by: RemovedBy,
    pub(super) at: Timestamp,
    pub(super) note: Option<String>,
}

/// A verdict, what gave it, under which policy, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct VerdictView {
    pub(super) verdict: Verdict,
    pub(super) by: By,
    pub(super) policy: String,
    pub(super) at: Timestamp,
}
