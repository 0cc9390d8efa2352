//! The semantics, sentence by sentence; and what must hold of every policy.

mod quotas;
mod sentences;
mod time;
