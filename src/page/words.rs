//! The sentences with which the page describes events. They are the same as those of the commands, which pass them in
//! as functions, so that the page does not depend on the commands.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::ledger::{LedgerReader, RecordedRequest};
use crate::ops::control::wire::AnswerDone;
use crate::policy::explain::Explanation;

/// What `explain` says of a request, then and now.
#[derive(Debug)]
pub struct ExplainText {
    /// What happened, in one sentence.
    pub sentence: String,
    /// What the rules had said last, as `VERDICT by WHAT`, when, and under which policy.
    pub said: Option<(String, Timestamp, String)>,
    /// Why there are no reasons from that time, or why they differ from those of the decision.
    pub remark: Option<String>,
    /// What deciders said of it, and what became of the contact, a sentence each.
    pub beside: Vec<String>,
    /// The reasons at the time of the decision.
    pub then: Option<Explanation>,
    /// What the rules in force say of it now, or why that cannot be said.
    pub now: Result<Explanation, String>,
}

/// Explains a request on record at a moment, with times in this format, under the configuration in this file.
pub type Explain = fn(
    &LedgerReader,
    &RecordedRequest,
    Timestamp,
    &dyn Fn(Timestamp) -> String,
    Option<PathBuf>,
) -> Result<ExplainText, String>;

/// The functions that the commands pass in.
#[derive(Debug, Clone, Copy)]
pub struct PageWords {
    /// The result of a person's answer.
    pub sentence: fn(&AnswerDone) -> String,
    /// Why a request was answered as it was.
    pub explain: Explain,
}
