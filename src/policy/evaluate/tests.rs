//! The semantics, sentence by sentence, and the properties of every policy.

mod properties;
mod quotas;
mod sentences;
mod sequences;
mod spec;
mod texts;
mod time;
