//! doorman answers contact requests for AI agents on the Band platform: it joins each agent's contacts channel, decides
//! each contact request by the operator's rules, answers over REST, and records everything.
//!
//! The binary is only [`cli::main`]. Everything else is in this library, so that tests, benches and the simulation run
//! the same code that ships. The library is not meant for other programs: its types change between versions without
//! notice.
//!
//! Data flows one way, from the socket to the ledger, and a stage knows only the types of the stages before it:
//!
//! | stage | pure | what it owns |
//! | --- | --- | --- |
//! | [`platform`] | parsing is | REST, TLS, the socket's driver; what comes back, parsed once and bounded |
//! | [`phoenix`] | yes | frames, the session's states, backoff |
//! | [`inbox`] | yes | one entry per request id, listing passes, tombstones |
//! | [`policy`] | but for loading | the rules language: text → policy; a request and the facts → one decision |
//! | `responder` | yes | slots, rate, and what a reply to an answer means |
//! | [`agent`] | its core is | composes the stages for one agent; its shell carries out what the core asks for |
//! | `decider` | no | carries questions about doubtful requests to programs on this machine |
//! | [`ledger`] | no | the record: an engine, and what is written and read through it |
//!
//! Around them: [`daemon`] starts everything from [`config`]'s settings, [`supervisor`] runs many agents and answers
//! the control socket, [`ops`] has logging, signals, systemd and the control socket, `notify` notifies people,
//! [`page`] shows them the state, [`sandbox`] imitates the platform, [`transcript`] records what doorman and the
//! platform say to each other, [`cli`] is the command line. Underneath: [`model`] has the common types, [`document`]
//! reads TOML, [`diagnostics`] has the problems found in files, `files` is the only way to open a configured file,
//! [`clock`] is the only module that reads a clock, [`secret`] has the keys.
//!
//! `docs/architecture.md` describes the states, the rules of the inbox, the guarantees and the bounds.

/// What tests share with the simulation names the crate from outside.
#[cfg(test)]
extern crate self as doorman;

pub mod agent;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub mod cli;
#[expect(clippy::disallowed_methods, reason = "the one place where clocks are read for the pure code")]
pub mod clock;
pub mod config;
pub mod daemon;
#[expect(clippy::disallowed_methods, reason = "a shell: it counts what was asked in an hour")]
pub(crate) mod decider;
pub mod diagnostics;
pub mod document;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub(crate) mod files;
pub mod fleet;
pub mod inbox;
pub mod ledger;
pub mod model;
#[expect(clippy::disallowed_methods, reason = "a shell: it tells what the core and the record say")]
pub(crate) mod notify;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub mod ops;
pub mod page;
pub mod phoenix;
pub mod platform;
pub mod policy;
pub(crate) mod responder;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub mod sandbox;
pub mod secret;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub mod supervisor;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub mod transcript;
mod variants;
