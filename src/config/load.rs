//! Stub.
use super::{Report, Settings};
/// E.
#[derive(Debug)]
pub struct Env;
impl Env {
    /// p
    pub fn of_process() -> Self {
        Self
    }
}
/// O.
#[derive(Debug, Default)]
pub struct Overrides;
impl Overrides {
    /// s
    pub fn set(&mut self, _k: &str, _v: String) {}
}
/// L.
#[derive(Debug)]
pub struct Loaded {
    /// s
    pub settings: Settings,
    /// r
    pub report: Report,
    /// f
    pub file: Option<std::path::PathBuf>,
}
/// load
pub fn load(_p: Option<&std::path::Path>, _e: &Env, _o: &Overrides) -> Result<Loaded, Report> {
    todo!()
}
/// n
pub fn needs_restart(_a: &Settings, _b: &Settings) -> Vec<String> {
    todo!()
}
