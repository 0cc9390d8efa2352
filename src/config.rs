//! Configuration: `doorman.toml`, the environment and flags become one [`Settings`]; and the diagnostics that the
//! rules share. Text → raw (unknown keys refused, places kept) → settings. Nothing downstream sees raw.

pub mod diagnostics;
pub mod keys;
mod load;
mod raw;
pub mod settings;

pub use diagnostics::{Diagnostic, Report, Severity, Source};
pub use keys::schema;
pub use load::{AgentOrigins, DEFAULT_FILE, Env, Loaded, Overrides, Places, load, load_text, needs_restart, places};
pub use settings::Settings;
