//! Finds the rules that can match a request.

/// See the module.
#[derive(Debug, Default)]
pub struct Index {}
