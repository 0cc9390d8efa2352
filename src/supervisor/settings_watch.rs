//! `doorman.toml` while the daemon runs. Every reload reads it again. Its agents come and go (`super::agent_changes`); of everything else
//! it is reported what needs a restart. A problem in the file is stored here, and reported until a reload finds it corrected.

use std::sync::{Mutex, PoisonError};

use tracing::error;

use crate::config::settings::AgentSettings;
use crate::ops::control::wire::ConfigurationStatus;
use crate::ops::log::events;

/// What a reload finds in the configuration.
#[derive(Debug, Default)]
pub struct ConfigNow {
    /// The settings that changed and need a restart, by name.
    pub needs_restart: Vec<String>,
    /// The agents; `None`: those that there are.
    pub agents: Option<Vec<AgentSettings>>,
}

/// Reads the configuration again; or says what is wrong with it.
pub struct Reread {
    /// Where it is read from, for people.
    pub from: String,
    /// Reads it.
    pub read: Box<dyn Fn() -> Result<ConfigNow, String> + Send + Sync>,
}

impl std::fmt::Debug for Reread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reread").field("from", &self.from).finish_non_exhaustive()
    }
}

/// The configuration as the last reload found it.
#[derive(Debug)]
pub(super) struct SettingsWatch {
    reread: Reread,
    problem: Mutex<Option<String>>,
}

impl SettingsWatch {
    /// At the start the configuration was accepted.
    pub(super) fn new(reread: Reread) -> Self {
        Self { reread, problem: Mutex::default() }
    }

    /// Reads it again, and tells what is wrong with it.
    pub(super) fn reload(&self) -> Result<ConfigNow, String> {
        let read = (self.reread.read)();
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = read.as_ref().err().cloned();
        self.repeat_problems();
        read
    }

    /// Says again what is still wrong.
    pub(super) fn repeat_problems(&self) {
        if let Some(problems) = self.problem() {
            error!(
                event = events::CONFIG_REFUSED,
                path = self.reread.from,
                problems,
                "refused: the configuration of the start stays in force, and the next start would fail"
            );
        }
    }

    pub(super) fn status(&self) -> ConfigurationStatus {
        ConfigurationStatus { path: self.reread.from.clone(), problem: self.problem() }
    }

    fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::clock::Clock;
    use crate::ops::log::format::LineFormat;
    use crate::ops::log::layer;
    use crate::secret::Redact;

    #[test]
    fn what_is_wrong_is_said_again_until_it_is_corrected() {
        let corrected = Arc::new(AtomicBool::new(false));
        let now = corrected.clone();
        let read =
            move || if now.load(Ordering::Relaxed) { Ok(ConfigNow::default()) } else { Err("no such key".to_owned()) };
        let watch = SettingsWatch::new(Reread { from: "doorman.toml".to_owned(), read: Box::new(read) });
        let sink = Arc::new(Mutex::new(Vec::new()));
        let look = layer(LineFormat::Json, sink.clone(), Redact::default(), Clock::start());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(look), || {
            let said = || {
                let text = String::from_utf8(std::mem::take(&mut *sink.lock().unwrap())).unwrap();
                text.matches("\"problems\":\"no such key\"").count()
            };
            watch.repeat_problems();
            assert_eq!((said(), watch.status().problem), (0, None), "nothing is wrong yet");
            assert!(watch.reload().is_err());
            assert_eq!(said(), 1);
            watch.repeat_problems();
            watch.repeat_problems();
            assert_eq!(said(), 2);
            assert_eq!(watch.status().problem.as_deref(), Some("no such key"));
            corrected.store(true, Ordering::Relaxed);
            assert!(watch.reload().is_ok());
            watch.repeat_problems();
            assert_eq!((said(), watch.status().problem), (0, None));
        });
    }
}
