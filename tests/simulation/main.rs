//! The pure stages together, under virtual time, with everything going wrong: seeds by the thousand.
//!
//! A failing seed prints itself; `SIM_TRACE=1` adds what led to it. Seeds that once failed are kept in `REGRESSIONS`.

mod checks;
mod platform;
mod record;
mod schedule;
mod server;
mod world;
