//! A client for Phoenix Channels: frames, the session's state machine, backoff. Pure: time and randomness are
//! arguments, and actions are returned as data.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub(crate) mod backoff;
pub mod frame;
pub mod session;

pub(crate) use session::SessionOutput;
pub use session::{NoteName, PhoenixSession, SessionConfig, SessionInput};
