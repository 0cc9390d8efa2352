//! Stub.
/// Loaded.
#[derive(Debug)]
pub struct Loaded {
    /// p
    pub policy: Option<std::sync::Arc<super::Policy>>,
    /// r
    pub report: crate::config::Report,
}
/// Load.
pub fn load(_p: &std::path::Path, _b: Option<&super::Policy>, _a: bool) -> Loaded {
    todo!()
}
