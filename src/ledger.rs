//! The record: one SQLite file, one thread that writes it, one daemon per file. Intent before the call, outcome after.

pub mod entry;

pub use entry::{Entry, LedgerError};
