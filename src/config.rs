//! Configuration: turns `doorman.toml`, the environment and flags into one [`Settings`]. Text → raw (unknown keys
//! refused, positions kept) → settings. Later stages never see raw.

pub mod keys;
mod level;
mod load;
mod raw;
pub mod settings;

pub use keys::schema;
pub use level::{LevelProblem, filter};
pub use load::{
    AgentOrigins, DEFAULT_FILE, Env, LoadedConfig, Overrides, Places, database_url, load, load_text, needs_restart,
    places,
};
pub use settings::Settings;
