//! Evenings of several doormen on one database: the real cores of the fleet and of the agents, against a model of the database and of
//! the platform. See `docs/simulation.md`.

mod agents;
mod database;
mod evening;
mod keeper;
pub mod leases;
mod process;
mod rules;
mod schedule;
mod server;
mod truth;
mod writer;

use std::sync::Arc;

use doorman::policy::Policy;

use super::summary::Summary;

/// Evenings with numbers from here on have several doormen.
pub const FROM: u64 = 1 << 33;

/// Every fault that must happen in the evenings of one test run.
pub const FAULTS: &[&str] = &[
    "a batch fenced",
    "a batch found to be on record",
    "a call late on its way",
    "a call that never arrived",
    "a commit that nobody confirmed",
    "a connection to the database lost",
    "a doorman cut off from the database",
    "a doorman cut off from the platform",
    "a doorman declared dead",
    "a doorman drained",
    "a doorman found out that it counts as dead",
    "a doorman killed",
    "a doorman stopped",
    "a doorman that nobody confirms",
    "a doorman told to end",
    "a person moved an agent",
    "a person wants an agent nowhere any more",
    "a reply lost",
    "a transaction idle for too long",
    "all connections ended",
    "an agent given to others",
    "an agent taken from a dead doorman",
    "an answer by rules that are not the head",
    "an answer held back at the last look",
    "an answer that arrives after its task is gone",
    "another doorman's connection in the way",
    "rules pushed",
    "stopped after an intent",
    "stopped before a transaction",
    "stopped before an outcome",
    "stopped before it said who is dead",
    "stopped between taking and reading",
    "stopped in a transaction",
    "stopped right before a call",
    "stopped while it beat",
    "the database away",
];

/// The rules of all these evenings.
pub fn policies() -> Vec<Arc<Policy>> {
    rules::policies()
}

/// Plays one.
pub fn play(seed: u64, policies: &[Arc<Policy>], traced: bool) -> (Summary, Vec<String>) {
    evening::Evening::new(seed, policies, traced).run()
}
