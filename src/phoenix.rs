//! Phoenix Channels as a client: frames, the session's state machine, backoff. Pure: time and randomness are
//! arguments, and what is to be done comes out as data.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub(crate) mod backoff;
pub mod frame;
pub mod session;

pub use session::{Input, Note, NoteLevel, NoteName, Output, Session, SessionConfig};
