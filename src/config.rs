//! Configuration: `doorman.toml`, the environment and flags become one [`Settings`]; and the diagnostics that the
//! rules share. Text → raw (serde, unknown keys refused, spans kept) → compiled. Nothing downstream sees raw.

pub mod diagnostics;
mod load;
mod raw;
pub mod settings;

pub use diagnostics::{Diagnostic, Report, Severity, Source};
pub use load::{DEFAULT_FILE, Env, Loaded, Overrides, duration, load, needs_restart};
pub use settings::Settings;
