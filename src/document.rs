//! TOML files that people write: read with the place of every value, all problems told at once, and described once, in
//! tables of keys that the reader, the JSON Schema and the reference in `docs/` share.
//!
//! It knows no file's meaning: `doorman.toml` is [`config`](crate::config)'s, `rules.toml` is [`policy`](crate::policy)'s.

pub mod keys;
mod problems;
mod read;
pub mod schema;
mod secrets;
mod values;

pub(crate) use problems::{At, Problems, nearest, shown};
pub(crate) use read::{TableReader, Value, syntax};
pub(crate) use secrets::{hide_in, hide_in_broken};
pub(crate) use values::{DateOrMoment, duration, in_words};
