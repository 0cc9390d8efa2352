//! The integration tests: one binary, one module a subject.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that fails may say so")]

mod blocking;
mod changed;
mod commands;
mod contacts;
mod control;
mod deciders;
mod demo;
mod doctor;
mod doubts;
mod explained;
mod faults;
mod first_day;
mod fuzz;
mod guests;
mod interface;
mod ledger;
mod life;
mod logs;
mod metrics;
mod notify;
mod page;
mod people;
mod pipes;
mod policy_commands;
mod process;
mod recycled;
mod reference;
mod reload;
mod returned;
mod rooms;
mod rules_reference;
mod sandbox;
mod secrets;
mod settings;
mod shell;
mod shipped_policies;
mod systemd;
mod terminal;
mod tls;
mod transcripts;
mod ways;
mod who;
