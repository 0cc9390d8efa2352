//! What an agent counts. The counts belong to the agent and not to its task: they go on where a task that failed is
//! started again, so that no sum ever falls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts by stable names. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Counters {
    /// One more.
    pub fn count(&self, what: &'static str) {
        self.add(what, 1);
    }

    /// So many more.
    pub fn add(&self, what: &'static str, count: u64) {
        // A count is whole at any moment, whoever panicked.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += count;
    }

    /// All of them as they are now.
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
