//! The default paths of the daemon's files. This is the only place that knows them, for the daemon and for the commands
//! that look for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Env;
use crate::config::DEFAULT_FILE;
use crate::config::settings::CONTROL_NAME;

/// The directory of the systemd unit's control socket.
const SYSTEM_RUNTIME: &str = "/run/doorman";

/// The directory of the ledger, for a configuration in the directory `base`. A command that reads the unit's configuration looks where
/// the unit keeps its state, which no variable tells it.
pub(super) fn ledger_directory(env: &Env, base: &Path) -> PathBuf {
    let of_unit = Path::new(DEFAULT_FILE).parent() == Some(base) && env.text("STATE_DIRECTORY").is_none();
    match env.unit_state() {
        Some(state) if of_unit => state.to_owned(),
        _ => state_directory(env),
    }
}

/// The state directory of this process.
pub(super) fn state_directory(env: &Env) -> PathBuf {
    if let Some(directory) = env.text("STATE_DIRECTORY") {
        return first_of(directory);
    }
    let base = match (env.text("XDG_STATE_HOME"), env.text("HOME")) {
        (Some(base), _) => PathBuf::from(base),
        (None, Some(home)) => Path::new(home).join(".local/state"),
        (None, None) => PathBuf::from("."),
    };
    base.join("doorman")
}

/// Where a daemon's control socket may be. The first is where `run` makes it in this environment: in `$RUNTIME_DIRECTORY`
/// (systemd's), else in `$XDG_RUNTIME_DIR/doorman`, else in the state directory. Then those of daemons that were started in
/// another environment: with or without a session of this user (`su`, cron and containers have none), or by systemd.
pub(super) fn control_places(env: &Env) -> Vec<PathBuf> {
    let runtime = env.text("RUNTIME_DIRECTORY").map(first_of);
    let of_unit = runtime.is_some();
    let of_user = |directory: &Path| directory.join("doorman");
    let mut directories: Vec<PathBuf> =
        runtime.into_iter().chain(env.text("XDG_RUNTIME_DIR").map(|directory| of_user(Path::new(directory)))).collect();
    if directories.is_empty() {
        directories.push(state_directory(env));
    }
    if !of_unit {
        directories.extend(env.user_runtime().map(of_user));
        directories.push(state_directory(env));
    }
    directories.push(SYSTEM_RUNTIME.into());
    let mut seen = BTreeSet::new();
    directories.retain(|directory| seen.insert(directory.clone()));
    directories.into_iter().map(|directory| directory.join(CONTROL_NAME)).collect()
}

/// systemd separates several by colons; the first is the unit's own.
fn first_of(directories: &str) -> PathBuf {
    PathBuf::from(directories.split(':').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_finds_the_units_ledger_by_the_units_configuration() {
        let home = || Env::of([("HOME", "/h")]);
        let of = |env: &Env, base: &str| ledger_directory(env, Path::new(base)).display().to_string();
        assert_eq!(of(&home().with_unit_state("/var/lib/doorman"), "/etc/doorman"), "/var/lib/doorman");
        assert_eq!(of(&home().with_unit_state("/var/lib/doorman"), "/h/porter"), "/h/.local/state/doorman");
        assert_eq!(of(&home(), "/etc/doorman"), "/h/.local/state/doorman", "the daemon, or no unit ever ran");
        let env = Env::of([("STATE_DIRECTORY", "/s")]).with_unit_state("/var/lib/doorman");
        assert_eq!(of(&env, "/etc/doorman"), "/s");
    }

    #[test]
    fn the_usual_places() {
        let of = |pairs: &[(&str, &str)]| {
            let found = control_places(&Env::of(pairs.iter().copied()));
            found.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), ["./doorman/doorman.sock", "/run/doorman/doorman.sock"]);
        assert_eq!(of(&[("HOME", "/h")]), ["/h/.local/state/doorman/doorman.sock", "/run/doorman/doorman.sock"]);
        assert_eq!(of(&[("STATE_DIRECTORY", "/s:/t"), ("HOME", "/h")])[0], "/s/doorman.sock");
        assert_eq!(of(&[("RUNTIME_DIRECTORY", "/run/doorman")]), ["/run/doorman/doorman.sock"]);
        assert_eq!(
            of(&[("RUNTIME_DIRECTORY", "/run/a:/run/b"), ("XDG_RUNTIME_DIR", "/run/user/7"), ("HOME", "/h")]),
            ["/run/a/doorman.sock", "/run/user/7/doorman/doorman.sock", "/run/doorman/doorman.sock"]
        );
    }

    #[test]
    fn a_command_finds_the_daemon_of_the_same_user_in_another_environment() {
        let of = |env: &Env| {
            let found = control_places(env);
            found.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        let (session, state) = ("/run/user/7/doorman/doorman.sock", "/h/.local/state/doorman/doorman.sock");
        let system = "/run/doorman/doorman.sock";
        // The daemon was started without a session, and the command runs in one.
        let there = Env::of([("XDG_RUNTIME_DIR", "/run/user/7"), ("HOME", "/h")]).with_user_runtime("/run/user/7");
        assert_eq!(of(&there), [session, state, system]);
        // The daemon was started in a session, and the command runs without one, for example from cron.
        let cron = Env::of([("HOME", "/h")]).with_user_runtime("/run/user/7");
        assert_eq!(of(&cron), [state, session, system]);
        let unit = Env::of([("RUNTIME_DIRECTORY", "/run/doorman"), ("HOME", "/h")]).with_user_runtime("/run/user/7");
        assert_eq!(of(&unit), [system], "in the unit, its own daemon is meant");
    }
}
