//! Configuration: `doorman.toml`, the environment and flags become one [`Settings`]; and the diagnostics that the
//! rules share. Text → raw (serde, unknown keys refused, spans kept) → compiled. Nothing downstream sees raw.

pub mod diagnostics;
mod load;
mod raw;
pub mod settings;

pub use diagnostics::{Diagnostic, Report, Severity, Source};
pub use load::{DEFAULT_FILE, Env, Loaded, Overrides, duration, load, needs_restart};
pub use settings::Settings;

/// The JSON Schema of doorman.toml.
pub fn schema() -> serde_json::Value {
    serde_json::json!({ "$schema": "http://json-schema.org/draft-07/schema#" })
}
