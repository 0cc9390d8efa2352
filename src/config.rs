//! Configuration: `doorman.toml`, the environment and flags become one [`Settings`]; and the diagnostics that the
//! rules share. Text → raw (serde, unknown keys refused, spans kept) → compiled. Nothing downstream sees raw.

pub mod diagnostics;
pub mod settings;

pub use diagnostics::{Diagnostic, Report, Severity, Source};
pub use settings::Settings;
pub mod load;
pub use load::*;
