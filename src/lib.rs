//! doorman stands at an AI agent's door on the Band platform: it holds the agent's contacts channel, decides each contact
//! request by the operator's rules, answers over REST, and keeps the record.
//!
//! The binary is [`cli::main`] and nothing else; the library is its parts, so that tests, benches and the simulation run
//! the very code that ships. It is no library for others: between versions its types change freely.
//!
//! Data flows one way, from the socket to the record, and a stage knows only the types of the stage before it:
//!
//! | stage | pure | what it owns |
//! | --- | --- | --- |
//! | [`platform`] | parsing is | REST, TLS, the socket's driver; what comes back, parsed once and bounded |
//! | [`phoenix`] | yes | frames, the session's states, backoff |
//! | [`inbox`] | yes | one owner per request id, listing passes, tombstones |
//! | [`policy`] | but for loading | the rules language: text → policy; a request and the facts → one decision |
//! | `responder` | yes | slots, rate, and what a reply to an answer means |
//! | [`agent`] | its core is | composes the stages for one agent; its shell carries out what the core asks for |
//! | [`decider`] | no | carries questions about doubtful requests to programs on this machine |
//! | [`ledger`] | no | the record: an engine, and what is written and read through it |
//!
//! Around them: [`daemon`] starts everything from [`config`]'s settings, [`supervisor`] holds many agents and answers the
//! control socket, [`ops`] is logging, signals, systemd and that socket, [`notify`] tells people, [`page`] shows them, [`sandbox`] imitates the platform, [`transcript`] is what both said, [`cli`] is the
//! command line. Underneath: [`model`] the nouns, [`document`] the reading of TOML, [`diagnostics`] the problems found in files, [`files`] the one way to a configured file, [`clock`] the only reader of a clock, [`secret`] keys.
//!
//! `docs/architecture.md` has the states, the rules of the inbox, the promises and the bounds.

pub mod agent;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub mod cli;
#[expect(clippy::disallowed_methods, reason = "the one place where clocks are read for the pure code")]
pub mod clock;
pub mod config;
pub mod daemon;
#[expect(clippy::disallowed_methods, reason = "a shell: it counts what was asked in an hour")]
pub mod decider;
pub mod diagnostics;
pub mod document;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub mod files;
pub mod inbox;
pub mod ledger;
pub mod model;
#[expect(clippy::disallowed_methods, reason = "a shell: it tells what the core and the record say")]
pub mod notify;
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
