//! The values that the environment and flags give.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::keys;
use crate::diagnostics::Severity;
use crate::document::keys::KeyType;
use crate::document::{Problems, nearest, shown};

/// Variables of doorman that do not set a scalar of a table.
const OTHERS: [&str; 6] = [
    "DOORMAN_CONFIG",
    "DOORMAN_AGENT_ID",
    "DOORMAN_API_KEY",
    "DOORMAN_API_KEY_FILE",
    "DOORMAN_RULES",
    "DOORMAN_CONNECTION",
];

/// Other programs' variables that are read, too.
const READ_TOO: [&str; 10] = [
    "HOME",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "BAND_AGENT_ID",
    "BAND_REST_URL",
    "BAND_WS_URL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// The unit's `StateDirectory=`. A user without access to it can still see that it exists.
const UNIT_STATE: &str = "/var/lib/doorman";
/// The directory in which each user has an `XDG_RUNTIME_DIR`, by user id, while a session is open.
const USERS_RUNTIME: &str = "/run/user";

/// The environment, as the loader sees it.
#[derive(Debug, Clone, Default)]
pub struct Env {
    variables: BTreeMap<String, String>,
    /// Variables that doorman reads and whose value is not UTF-8.
    unreadable: Vec<String>,
    /// Whether the configuration may come through a pipe.
    pipes: bool,
    /// Where the systemd unit keeps its state; only if that directory exists and a command looks for it.
    unit_state: Option<PathBuf>,
    /// Where this user's sessions have their sockets; only if that directory exists and a command looks for a socket.
    user_runtime: Option<PathBuf>,
}

impl Env {
    /// This process's environment.
    pub fn of_process() -> Self {
        let mut env = Self::default();
        for (name, value) in std::env::vars_os() {
            // All variables that are read have UTF-8 names.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(env.variables.insert(name, value)),
                Err(_) if name.starts_with("DOORMAN_") || READ_TOO.contains(&name.as_str()) => {
                    env.unreadable.push(name)
                }
                Err(_) => {}
            }
        }
        env
    }

    /// The same for a command that ends by itself: the file that is named to it may be a pipe, and it looks for the record of the
    /// daemon that systemd runs, and for the socket of one that runs in a session of the same user.
    pub fn of_command() -> Self {
        let state = Some(PathBuf::from(UNIT_STATE)).filter(|state| state.symlink_metadata().is_ok());
        let runtime = PathBuf::from(format!("{USERS_RUNTIME}/{}", nix::unistd::geteuid()));
        let runtime = Some(runtime).filter(|runtime| runtime.is_dir());
        Self { pipes: true, unit_state: state, user_runtime: runtime, ..Self::of_process() }
    }

    /// An environment with these variables.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let variables = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { variables, ..Self::default() }
    }

    pub(super) fn unit_state(&self) -> Option<&Path> {
        self.unit_state.as_deref()
    }

    pub(super) fn user_runtime(&self) -> Option<&Path> {
        self.user_runtime.as_deref()
    }

    #[cfg(test)]
    pub(super) fn with_user_runtime(self, runtime: &str) -> Self {
        Self { user_runtime: Some(runtime.into()), ..self }
    }

    #[cfg(test)]
    pub(super) fn with_unit_state(self, state: &str) -> Self {
        Self { unit_state: Some(state.into()), ..self }
    }

    pub(super) fn pipes(&self) -> bool {
        self.pipes
    }

    /// Refuses variables whose value is not UTF-8: without them the settings would be different from what was meant.
    pub(super) fn refuse_unreadable(&self, problems: &mut Problems) {
        for name in &self.unreadable {
            problems
                .plain(Severity::Error, format!("the environment variable `{}` is not UTF-8", shown(name)))
                .help("set it to plain text, or unset it");
        }
    }

    pub(super) fn any_unreadable(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// A variable's text; an empty variable counts as not set.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Warns about unknown variables with doorman's prefix, which are probably misspelt. `named`: the variables that
    /// the file refers to.
    pub(super) fn warn_unknown(&self, named: &[&str], problems: &mut Problems) {
        let mut known: Vec<String> = OTHERS.iter().map(|name| (*name).to_owned()).collect();
        known.extend(scalars().map(|key| variable(&key)));
        for name in self.variables.keys().filter(|name| name.starts_with("DOORMAN_")) {
            if known.iter().any(|known| known == name) || named.contains(&name.as_str()) {
                continue;
            }
            let message = format!("the environment variable `{}` sets nothing", shown(name));
            let problem = problems.plain(Severity::Warning, message);
            if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
                problem.help(format!("did you mean `{near}`?"));
            }
        }
    }
}

/// Values that flags give, by `section.key`.
#[derive(Debug, Clone, Default)]
pub struct Overrides(BTreeMap<String, String>);

impl Overrides {
    /// Sets the value of this key, whatever the file and the environment say.
    pub fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }

    pub(super) fn get(&self, key: &str) -> Option<&String> {
        self.0.get(key)
    }
}

/// All scalars that a variable can set, as `section.key`.
pub(crate) fn scalars() -> impl Iterator<Item = String> {
    keys::FILE
        .keys
        .iter()
        .filter_map(|key| match key.takes {
            KeyType::Table(section) => Some(section),
            _ => None,
        })
        .flat_map(|section| section.keys.iter().map(|key| format!("{}.{}", section.path, key.name)))
}

/// The variable that sets a scalar.
pub(crate) fn variable(key: &str) -> String {
    format!("DOORMAN_{}", key.replace('.', "_").to_uppercase())
}
