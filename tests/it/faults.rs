//! Faults, tested with the real binary: of the platform, of the machine, and caused by other clients of the same agent.

mod chaos;
pub mod checks;
mod clock;
mod coexistence;
pub mod daemon;
mod edge;
mod flood;
mod keys;
mod kills;
mod machine;
mod many;
mod matrix;
mod network;
mod reloads;
pub mod site;
pub mod strangers;
