//! The integration tests: one binary, one module a subject.

#![allow(clippy::unwrap_used, reason = "a test that fails may say so")]

mod control;
mod ledger;
mod shipped_policies;
