//! The words in which the page tells what happened. They are those of the commands, which hand them over: the page knows no
//! command.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::ledger::{LedgerReader, RecordedRequest};
use crate::ops::control::wire::Answered;
use crate::policy::explain::Explanation;

/// What `explain` says of a request, then and now.
#[derive(Debug)]
pub struct Told {
    /// What happened, in one sentence.
    pub sentence: String,
    /// What the rules had said last, as `VERDICT by WHAT`, when, and under which policy.
    pub said: Option<(String, Timestamp, String)>,
    /// Why there are no reasons of then, or why they are not those of the decision.
    pub remark: Option<String>,
    /// What deciders said of it, and what became of the contact, a sentence each.
    pub beside: Vec<String>,
    /// The reasons of then.
    pub then: Option<Explanation>,
    /// What the rules in force say of it now, or why that cannot be said.
    pub now: Result<Explanation, String>,
}

/// Tells of a request on record at a moment, with times in these words, under the configuration of this file.
pub type Explain = fn(
    &LedgerReader,
    &RecordedRequest,
    Timestamp,
    &dyn Fn(Timestamp) -> String,
    Option<PathBuf>,
) -> Result<Told, String>;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// What became of a person's answer.
    pub sentence: fn(&Answered) -> String,
    /// Why a request was answered as it was.
    pub explain: Explain,
}
