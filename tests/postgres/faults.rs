//! A sandbox, a daemon, and what must hold after everything that went wrong: as in `tests/it/faults`.

#![allow(dead_code, unreachable_pub, reason = "the other tests use all of it")]

#[path = "../it/faults/checks.rs"]
pub mod checks;
#[path = "../it/faults/daemon.rs"]
pub mod daemon;
#[path = "../it/faults/site.rs"]
pub mod site;
