//! The rules files: each loaded as one snapshot, swapped at once, the last good one kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::ops::control::wire::{PolicyStatus, Reloaded};
use crate::ops::log::events;
use crate::policy::{Loaded, Mode, Policy};

/// Looks between tries to load a file that was refused, even if it looks the same: a missing list may have come.
const RETRY_LOOKS: u32 = 5;

/// All rules files in use.
#[derive(Debug)]
pub struct Policies {
    files: BTreeMap<PathBuf, RulesFile>,
    /// `run --shadow`: whatever the files say, nothing is answered.
    shadow: bool,
}

#[derive(Debug)]
struct RulesFile {
    in_force: watch::Sender<Option<Arc<Policy>>>,
    since: Option<Timestamp>,
    /// Why what the file says now is not in force.
    problem: Option<String>,
    /// The files that were read, as they stood when they were loaded.
    loaded: Vec<Stamp>,
    /// What a look found and loaded; it counts when the next look loads the same.
    found: Option<Vec<Stamp>>,
    looks: u32,
}

/// A file as a look sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    /// Hash of the content; `None`: it cannot be read.
    content: Option<[u8; 32]>,
}

impl Stamp {
    fn take(path: &Path) -> Self {
        Self::of(path, crate::policy::load::bytes(path).as_deref())
    }

    fn of(path: &Path, bytes: Option<&[u8]>) -> Self {
        use sha2::Digest as _;
        Self { path: path.to_owned(), content: bytes.map(|bytes| sha2::Sha256::digest(bytes).into()) }
    }
}

impl Policies {
    /// Loads each of these files. A refused one holds its agents; the rendered report of all is the second part.
    ///
    /// With `shadow`, each is in force as if its `mode` were `"shadow"`.
    pub fn load(paths: impl IntoIterator<Item = PathBuf>, shadow: bool, now: Timestamp) -> (Self, String) {
        let mut files = BTreeMap::new();
        let mut said = String::new();
        for path in paths {
            if files.contains_key(&path) {
                continue;
            }
            let mut file = RulesFile {
                in_force: watch::Sender::new(None),
                since: None,
                problem: None,
                loaded: Vec::new(),
                found: None,
                looks: 0,
            };
            let loaded = crate::policy::load(&path, None, false);
            said.push_str(&loaded.report.render(false));
            file.take(&path, loaded, shadow, now);
            files.insert(path, file);
        }
        (Self { files, shadow }, said)
    }

    /// Whether no file is in force: every agent would be without rules.
    pub fn all_without_rules(&self) -> bool {
        self.files.values().all(|file| file.in_force.borrow().is_none())
    }

    /// The policy in force for this file, now and from now on.
    pub fn subscribe(&self, path: &Path) -> Option<watch::Receiver<Option<Arc<Policy>>>> {
        self.files.get(path).map(|file| file.in_force.subscribe())
    }

    /// Every file's line in `status`.
    pub fn status(&self) -> Vec<PolicyStatus> {
        self.files.iter().map(|(path, file)| file.status(path)).collect()
    }

    /// Loads every file anew.
    pub async fn reload_all(&mut self, accept_shrunk: bool, now: Timestamp) -> Reloaded {
        let mut problems = String::new();
        let mut ok = true;
        for (path, file) in &mut self.files {
            let rendered = file.reload(path, accept_shrunk, self.shadow, now).await;
            ok &= file.problem.is_none();
            problems.push_str(&rendered);
        }
        let problems = (!problems.is_empty()).then_some(problems);
        Reloaded { ok, policies: self.status(), needs_restart: Vec::new(), problems }
    }

    /// Looks at the files, and takes those that changed and have stood still since the last look: what is put in force
    /// was read twice with the same content, rules and lists together, so that nothing half-written ever counts.
    pub async fn poll_files(&mut self, now: Timestamp) {
        for (path, file) in &mut self.files {
            let paths: Vec<PathBuf> = file.loaded.iter().map(|stamp| stamp.path.clone()).collect();
            let seen =
                tokio::task::spawn_blocking(move || paths.iter().map(|path| Stamp::take(path)).collect::<Vec<_>>());
            let Ok(seen) = seen.await else { continue };
            file.looks += 1;
            let again = file.problem.is_some() && file.looks.is_multiple_of(RETRY_LOOKS);
            if seen == file.loaded && file.found.is_none() && !again {
                continue;
            }
            let Ok(loaded) = file.read(path, false).await else { continue };
            let stamps = stamps(path, &loaded);
            if file.found.as_ref() == Some(&stamps) {
                file.take(path, loaded, self.shadow, now);
            } else {
                file.found = Some(stamps);
            }
        }
    }

    /// Says again what is still wrong.
    pub fn repeat_problems(&self) {
        for (path, file) in &self.files {
            if let Some(problem) = &file.problem {
                file.tell_problem(path, problem);
            }
        }
    }
}

impl RulesFile {
    async fn reload(&mut self, path: &Path, accept_shrunk: bool, shadow: bool, now: Timestamp) -> String {
        match self.read(path, accept_shrunk).await {
            Ok(loaded) => {
                let rendered = loaded.report.render(false);
                self.take(path, loaded, shadow, now);
                rendered
            }
            Err(error) => {
                let problem = format!("loading `{}` failed inside doorman: {error}\n", path.display());
                error!(event = events::INTERNAL, why = problem, "a rules file could not be loaded");
                self.problem = Some(problem.clone());
                problem
            }
        }
    }

    /// Loads the file, and changes nothing. An error is a fault of ours.
    async fn read(&self, path: &Path, accept_shrunk: bool) -> Result<Loaded, tokio::task::JoinError> {
        let before = self.in_force.borrow().clone();
        let file = path.to_owned();
        tokio::task::spawn_blocking(move || crate::policy::load(&file, before.as_deref(), accept_shrunk)).await
    }

    /// Puts what was loaded in force, or keeps what is.
    fn take(&mut self, path: &Path, mut loaded: Loaded, shadow: bool, now: Timestamp) {
        self.loaded = stamps(path, &loaded);
        if shadow && let Some(policy) = loaded.policy.as_mut().and_then(Arc::get_mut) {
            policy.mode = Mode::Shadow;
        }
        self.found = None;
        let rendered = loaded.report.render(false);
        let shown = path.display().to_string();
        match loaded.policy {
            None => {
                if self.problem.as_ref() != Some(&rendered) {
                    self.tell_problem(path, &rendered);
                }
                self.problem = Some(rendered);
            }
            Some(policy) => {
                self.problem = None;
                let same = self.in_force.borrow().as_ref().is_some_and(|before| before.hash == policy.hash);
                if same {
                    return;
                }
                if !rendered.is_empty() {
                    warn!(event = events::CONFIG_WARNED, path = shown, problems = rendered, "taken, with warnings");
                }
                let mode = mode_word(policy.mode);
                let rules = policy.rules.len();
                info!(
                    event = events::POLICY_LOADED,
                    path = shown,
                    policy = policy.hash.short(),
                    mode,
                    rules,
                    "a policy is in force"
                );
                self.since = Some(now);
                self.in_force.send_replace(Some(policy));
            }
        }
    }

    fn tell_problem(&self, path: &Path, problem: &str) {
        let shown = path.display().to_string();
        let kept = self.in_force.borrow().as_ref().map(|policy| policy.hash.short().to_owned());
        match kept {
            Some(policy) => error!(
                event = events::POLICY_REFUSED,
                path = shown,
                policy,
                problems = problem,
                "refused: the last good one stays in force"
            ),
            None => error!(
                event = events::AGENT_WITHOUT_RULES,
                path = shown,
                problems = problem,
                "refused: its agents are without rules, everything stays pending"
            ),
        }
    }

    fn status(&self, path: &Path) -> PolicyStatus {
        let in_force = self.in_force.borrow();
        PolicyStatus {
            path: path.display().to_string(),
            hash: in_force.as_ref().map(|policy| policy.hash.as_str().to_owned()),
            mode: in_force.as_ref().map(|policy| mode_word(policy.mode).to_owned()),
            since: self.since,
            problem: self.problem.clone(),
        }
    }
}

/// Of what was loaded, not of what is there by now: a change in between is found by the next look.
fn stamps(path: &Path, loaded: &Loaded) -> Vec<Stamp> {
    let read = loaded.report.sources.iter();
    let mut stamps: Vec<Stamp> = read.map(|source| Stamp::of(&source.path, Some(source.text.as_bytes()))).collect();
    if !stamps.iter().any(|stamp| stamp.path == path) {
        stamps.insert(0, Stamp::take(path));
    }
    stamps
}

fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn in_shadow_no_policy_is_in_force_that_enforces_before_or_after_a_reload() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.toml");
        let rules = |no_match: &str| {
            std::fs::write(&path, format!("version = 1\n[policy]\nmode = \"enforce\"\nno_match = \"{no_match}\"\n"))
                .unwrap();
        };
        for (shadow, mode) in [(true, Mode::Shadow), (false, Mode::Enforce)] {
            rules("defer");
            let (mut policies, said) = Policies::load([path.clone()], shadow, Timestamp::UNIX_EPOCH);
            let in_force = policies.subscribe(&path).unwrap();
            assert_eq!(in_force.borrow().as_ref().map(|policy| policy.mode), Some(mode), "{said}");
            rules("reject");
            policies.reload_all(false, Timestamp::UNIX_EPOCH).await;
            let policy = in_force.borrow().clone().unwrap();
            assert_eq!((policy.mode, policy.no_match), (mode, crate::model::Verdict::Reject));
        }
    }
}
