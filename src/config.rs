//! Configuration: turns `doorman.toml`, the environment and flags into one [`Settings`]. Text → raw (unknown keys
//! refused, positions kept) → settings. Later stages never see raw.

pub mod keys;
mod level;
mod load;
mod raw;
pub mod settings;

pub use keys::schema;
pub(crate) use level::LevelProblem;
pub use level::filter;
pub(crate) use load::{DEFAULT_FILE, LoadedConfig, database_url};
pub use load::{Env, Overrides, Places, load, load_text, needs_restart, places};
pub use settings::Settings;
