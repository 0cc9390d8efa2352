//! The policy: what an operator's `rules.toml` means, and what it says of one request at one moment.
//!
//! Pure. Text becomes raw tables with their places, those are compiled to one immutable [`Policy`], and
//! [`Policy::decide`] turns a request and the facts into one [`Decision`]. No IO except in [`load()`], no clock, no
//! randomness. Semantics: `docs/policy.md`.
//!
//! *Reject beats defer, and defer beats approve. If nothing matches, `no_match` applies. The order of the file never
//! matters. An unknown condition never decides.*
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub mod ask;
pub(crate) mod audit;
pub(crate) mod compile;
pub mod conditions;
pub(crate) mod decision;
#[cfg(test)]
mod diagnostics_tests;
pub mod doubts;
pub(crate) mod evaluate;
pub(crate) mod explain;
mod handle_set;
pub(crate) mod history;
pub mod index;
pub mod keys;
pub(crate) mod lint;
pub(crate) mod list_changes;
pub mod load;
pub mod lookalike;
pub(crate) mod overdue;
mod patterns;
mod raw;
mod regexes;
pub(crate) mod replay;
pub mod rules;
pub mod state;
#[cfg(test)]
pub(crate) mod testkit;
pub(crate) mod tests_runner;
pub(crate) mod text;
pub(crate) mod window;

pub use ask::{Ask, DeciderVerdict, Question};
pub use compile::Shrunk;
pub(crate) use compile::TEXT_MAX;
pub use compile::include::joined;
pub use conditions::ReceivingAgent;
pub(crate) use decision::Truth;
pub use decision::{By, Charge, Circumstances, ClockHealth, Decision, ErrorKind, GuardKind, Mode, PolicyHash};
pub(crate) use evaluate::shorter;
pub use keys::schema;
pub(crate) use lint::RuleHistory;
pub use lint::{LintContext, lint};
pub(crate) use list_changes::{ListChange, list_changes, uses_lists};
pub use load::{LoadedPolicy, load, load_texts};
pub(crate) use load::{load_named, load_named_after};
pub use rules::{Policy, RuleName};
pub use state::PolicyState;
pub(crate) use tests_runner::TestResult;
