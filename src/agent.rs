//! One agent: wires the stages session → inbox → policy → responder → ledger.
//!
//! [`core`] composes the pure stages and speaks in inputs and actions; the simulation drives this very core. `shell`
//! carries the actions out against the real socket, platform and ledger. `core::notice` lists the notices of an agent,
//! and `notice_log` writes them to the log.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub mod core;
mod noise;
pub(crate) mod notice_log;
mod notice_metrics;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub(crate) mod shell;

pub(crate) use self::core::Counters;
pub use self::core::{Action, BATCH_MAX, Core, CoreConfig, Input, Notice, OpOutcome, PersonCommand};
pub use shell::Agent;
pub(crate) use shell::AgentHandle;
