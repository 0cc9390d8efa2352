//! The policy: what an operator's `rules.toml` means, and what it says of one request at one moment.
//!
//! Pure. Text becomes [`raw`](raw) tables with their places, those become one immutable [`Policy`], and
//! [`Policy::decide`] turns a request and the facts into one [`Decision`]. No IO except in [`load`], no clock, no
//! randomness. Semantics: `docs/policy.md`.
//!
//! *Reject beats defer, defer beats approve, nothing matched means `no_match`; the order of the file never matters; and
//! what is unknown never decides.*

pub mod book;
pub mod decision;
pub mod evaluate;
pub mod explain;
pub mod fold;
pub mod history;
pub mod index;
pub mod limits;
pub mod load;
pub mod lookalike;
pub mod overdue;
pub mod replay;
pub mod rules;
#[cfg(test)]
mod testkit;
pub mod window;

pub use book::Book;
pub use decision::{By, Charge, Circumstances, ClockHealth, Decision, ErrorKind, GuardKind, Mode, PolicyHash, Truth};
pub use load::{Loaded, load, load_texts};
pub use rules::{Policy, RuleName};
