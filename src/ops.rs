//! What a daemon needs around its work: logging, signals, systemd, hardening, the control socket.
//!
//! Nothing in here decides anything about a request, and nothing in here may block the loops that do.

pub mod board;
pub mod control;
pub mod harden;
pub(crate) mod health;
pub mod log;
pub mod metrics;
pub mod service_manager;
pub(crate) mod serving;
pub mod signals;
pub(crate) mod stop_at;
pub mod watchdog;
