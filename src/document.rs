//! TOML files that people write. They are read with the position of every value, and all problems are reported at once.
//! Their keys are described once, in tables that the reader, the JSON Schema and the reference in `docs/` share.
//!
//! This module does not know what a file means: [`config`](crate::config) knows `doorman.toml`, and
//! [`policy`](crate::policy) knows `rules.toml`.

pub mod keys;
mod problems;
mod read;
pub(crate) mod schema;
mod secrets;
mod values;

pub(crate) use problems::{Problems, WithSpan, nearest, shown};
pub(crate) use read::{KeyValue, TableReader, syntax};
pub(crate) use secrets::{hide_in, hide_in_broken};
pub(crate) use values::{DateOrMoment, duration, in_words};
