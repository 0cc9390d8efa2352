//! doorman
pub mod agent;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod inbox;
pub mod ledger;
pub mod model;
pub mod ops;
pub mod phoenix;
pub mod platform;
pub mod policy;
pub mod responder;
pub mod sandbox;
pub mod secret;
pub mod supervisor;
