//! The integration tests: one binary, one module a subject.

mod ledger;
mod shipped_policies;
