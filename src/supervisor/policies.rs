//! The rules files. Each is loaded as one snapshot and replaced in one step; the last good policy stays in force.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::config::settings::{PUSHED, pushed_name};
use crate::diagnostics::Severity;
use crate::ledger::{Ledger, LedgerError, pushed};
use crate::model::AgentId;
use crate::ops::control::wire::{PolicyStatus, Reloaded};
use crate::ops::log::events;
use crate::policy::load::{self, FileStamp};
use crate::policy::rules::{Head, SourceText};
use crate::policy::{self, ListChange, LoadedPolicy, Mode, Policy, Shrunk};

/// A refused file is loaded again after this many checks, even if it looks unchanged: a missing list may exist now.
const RETRY_LOOKS: u32 = 5;

/// A file without a newline at its end is accepted under `reload.watch` only after it was unchanged for this long.
const UNENDED_TIME: Duration = Duration::from_secs(10);
/// A file that was changed less than this long ago may still be written.
const FRESH: SignedDuration = SignedDuration::from_secs(5);
/// Time until such a file is checked again.
const SECOND_LOOK: Duration = Duration::from_millis(500);
/// Most such checks.
const LOOKS_MAX: u32 = 10;
/// Interval between looks whether anybody still uses a policy that was replaced.
const RETIRE_RHYTHM: Duration = Duration::from_secs(1);

/// How the rules are loaded at the start.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// `run --shadow`.
    pub shadow: bool,
    /// `run --accept-shrunk`.
    pub accept_shrunk: bool,
    /// The wall clock.
    pub now: Timestamp,
}

/// All rules files in use.
#[derive(Debug)]
pub struct Policies {
    files: BTreeMap<PathBuf, RulesFile>,
    /// `run --shadow`: nothing is answered, whatever the files say.
    shadow: bool,
}

#[derive(Debug)]
struct RulesFile {
    in_force: watch::Sender<Option<Arc<Policy>>>,
    since: Option<Timestamp>,
    /// Why the file's current content is not in force.
    problem: Option<String>,
    /// Whether it was refused only for a list that lost entries.
    shrunk: bool,
    /// The policy that was in force before this process began, if the start compared the file with it.
    last: Option<Arc<Policy>>,
    /// The files that were read, with their state when they were loaded.
    loaded: Vec<FileStamp>,
    /// Of pushed rules: the version that was looked at last.
    seen: pushed::KnownVersion,
    /// What the last check found and loaded; it takes effect if the next check loads the same.
    found: Option<(Vec<FileStamp>, Instant)>,
    looks: u32,
}

impl Policies {
    /// Loads each of these files. A refused file leaves its agents without rules; the second part of the result is the
    /// rendered report of all files. A file that was changed just before is checked twice. Blocks while it reads.
    ///
    /// With `shadow`, each is in force as if its `mode` were `"shadow"`. `last` gives the policy that was last in force for a
    /// file, as far as that is on record: no list may have lost too many entries since, unless `accept_shrunk`.
    pub fn load(
        paths: impl IntoIterator<Item = PathBuf>,
        start: Start,
        last: &dyn Fn(&Path, &Policy) -> Option<Arc<Policy>>,
    ) -> (Self, String) {
        let mut files = BTreeMap::new();
        let mut said = String::new();
        let paths: BTreeSet<PathBuf> = paths.into_iter().collect();
        let (pushed, paths): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) =
            paths.into_iter().partition(|path| pushed_name(path).is_some());
        files.extend(pushed.into_iter().map(|path| (path, RulesFile::empty())));
        let loaded: Vec<(PathBuf, LoadedPolicy)> =
            settled(paths.into_iter().map(|path| (path, None)).collect(), &Shrunk::accepted(start.accept_shrunk));
        for (path, mut loaded) in loaded {
            let with_lists = loaded.policy.as_deref().filter(|policy| policy::uses_lists(policy));
            let last = with_lists.and_then(|policy| last(&path, policy));
            if let Some(last) = &last {
                loaded = policy::load(&path, Some(last), &Shrunk::accepted(start.accept_shrunk));
            }
            let mut file = RulesFile { last: last.clone(), ..RulesFile::empty() };
            said.push_str(&loaded.report.render(false));
            file.take(&path, loaded, start.shadow, start.now);
            files.insert(path, file);
        }
        (Self { files, shadow: start.shadow }, said)
    }

    /// Whether no file is in force, and none would be even if shrunken lists were accepted: then no agent could ever
    /// answer a request. Pushed rules may come at any time.
    pub fn none_usable(&self) -> bool {
        let never = |(path, file): (&PathBuf, &RulesFile)| {
            file.in_force.borrow().is_none() && !file.shrunk && pushed_name(path).is_none()
        };
        !self.files.is_empty() && self.files.iter().all(never)
    }

    /// Puts in force what was pushed since the last look. What a person pushed shrinks lists as that person wanted.
    ///
    /// # Errors
    /// If the ledger cannot be read now: what is in force stays.
    pub async fn look_at_heads(&mut self, ledger: &Ledger, now: Timestamp) -> Result<(), LedgerError> {
        let known: Vec<(String, pushed::KnownVersion)> =
            self.pushed().map(|(name, file)| (name, file.seen.clone())).collect();
        if known.is_empty() {
            return Ok(());
        }
        for (head, texts) in ledger.heads(known).await? {
            let path = PathBuf::from(format!("{PUSHED}{}", head.name));
            let Some(file) = self.files.get_mut(&path) else { continue };
            let (of, version) = (path.clone(), Head { name: head.name.as_str().into(), version: head.version });
            let before = file.before();
            let load = move || load_pushed(&of, &texts, version, before.as_deref());
            let Ok(loaded) = tokio::task::spawn_blocking(load).await else { continue };
            file.seen = Some((head.version, head.hash));
            file.take(&path, loaded, self.shadow, now);
        }
        for (path, file) in &mut self.files {
            let Some(name) = pushed_name(path).filter(|_| file.seen.is_none() && file.problem.is_none()) else {
                continue;
            };
            let problem = format!("nothing was pushed under this name yet: `doorman policy push {name} rules.toml`\n");
            file.tell_problem(path, &problem);
            file.problem = Some(problem);
        }
        Ok(())
    }

    /// Whether this file is in use.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    /// Uses what was loaded, too.
    pub(super) fn take_over(&mut self, more: Policies) {
        self.files.extend(more.files);
    }

    /// Forgets the files that none of these agents has.
    pub(super) fn forget_all_but(&mut self, rules: &[(AgentId, PathBuf)]) {
        let used: BTreeSet<&PathBuf> = rules.iter().map(|(_, path)| path).collect();
        for (_, file) in self.files.extract_if(.., |path, _| !used.contains(path)) {
            retire(file.in_force.send_replace(None));
            retire(file.last);
        }
    }

    fn pushed(&self) -> impl Iterator<Item = (String, &RulesFile)> {
        self.files.iter().filter_map(|(path, file)| Some((pushed_name(path)?.to_owned(), file)))
    }

    /// The policy in force for this file, and its later changes.
    pub fn subscribe(&self, path: &Path) -> Option<watch::Receiver<Option<Arc<Policy>>>> {
        self.files.get(path).map(|file| file.in_force.subscribe())
    }

    /// The line of every file in `status`.
    pub fn status(&self) -> Vec<PolicyStatus> {
        self.files.iter().map(|(path, file)| file.status(path)).collect()
    }

    /// Loads every file again.
    pub async fn reload_all(&mut self, shrunk: Shrunk, now: Timestamp) -> Reloaded {
        self.reload_those(shrunk, now, |_| true).await
    }

    /// Loads these files again.
    pub(super) async fn reload_those(
        &mut self,
        shrunk: Shrunk,
        now: Timestamp,
        which: impl Fn(&Path) -> bool,
    ) -> Reloaded {
        let mut problems = String::new();
        let mut ok = true;
        let (pushed, files): (Vec<_>, Vec<_>) =
            self.files.iter().filter(|(path, _)| which(path)).partition(|(path, _)| pushed_name(path).is_some());
        for (_, file) in pushed {
            ok &= file.problem.is_none();
            problems.extend(file.problem.as_deref());
        }
        let running: Vec<(PathBuf, Option<Arc<Policy>>)> =
            files.into_iter().map(|(path, file)| (path.clone(), file.before())).collect();
        let known: BTreeSet<PathBuf> =
            self.files.values().flat_map(|file| file.loaded.iter().map(|stamp| stamp.path.clone())).collect();
        match tokio::task::spawn_blocking(move || settled(running, &load::as_named(shrunk, known))).await {
            Ok(all) => {
                for (path, loaded) in all {
                    let Some(file) = self.files.get_mut(&path) else { continue };
                    problems.push_str(&loaded.report.render(false));
                    file.take(&path, loaded, self.shadow, now);
                    ok &= file.problem.is_none();
                }
            }
            Err(error) => {
                ok = false;
                problems = format!("loading the rules failed inside doorman: {error}\n");
                error!(event = events::INTERNAL, why = problems, "the rules could not be loaded");
            }
        }
        let problems = (!problems.is_empty()).then_some(problems);
        Reloaded { ok, policies: self.status(), problems, ..Reloaded::default() }
    }

    /// Checks the files, and puts those in force that changed and have not changed since the last check. A policy in
    /// force was thus read twice with the same content, rules and lists together, so that a half-written file never
    /// takes effect.
    pub async fn poll_files(&mut self, now: Timestamp) {
        for (path, file) in self.files.iter_mut().filter(|(path, _)| pushed_name(path).is_none()) {
            let paths: Vec<PathBuf> = file.loaded.iter().map(|stamp| stamp.path.clone()).collect();
            let Ok(seen) = tokio::task::spawn_blocking(move || stamps_of(&paths)).await else { continue };
            file.looks += 1;
            let again = file.problem.is_some() && file.looks.is_multiple_of(RETRY_LOOKS);
            if seen == file.loaded && file.found.is_none() && !again {
                continue;
            }
            let (name, running) = (path.clone(), file.before());
            let loaded = tokio::task::spawn_blocking(move || policy::load(&name, running.as_deref(), &Shrunk::Refuse));
            let Ok(loaded) = loaded.await else { continue };
            match &file.found {
                Some((found, since)) if *found == loaded.files => {
                    // A line without its end may be half a line.
                    if loaded.files.iter().all(FileStamp::is_ended) || since.elapsed() >= UNENDED_TIME {
                        file.take(path, loaded, self.shadow, now);
                    }
                }
                _ => file.found = Some((loaded.files, Instant::now())),
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
    /// Nothing was read yet.
    fn empty() -> Self {
        Self {
            in_force: watch::Sender::new(None),
            since: None,
            problem: None,
            shrunk: false,
            last: None,
            loaded: Vec::new(),
            seen: None,
            found: None,
            looks: 0,
        }
    }

    /// The policy with which lists are compared.
    fn before(&self) -> Option<Arc<Policy>> {
        self.in_force.borrow().clone().or_else(|| self.last.clone())
    }

    /// Puts the loaded policy in force, or keeps the present one.
    fn take(&mut self, path: &Path, mut loaded: LoadedPolicy, shadow: bool, now: Timestamp) {
        self.loaded = std::mem::take(&mut loaded.files);
        self.shrunk = loaded.shrunk;
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
                let was_refused = self.problem.take().is_some();
                let same = |before: &Arc<Policy>| before.hash == policy.hash && before.head == policy.head;
                let same = self.in_force.borrow().as_ref().is_some_and(same);
                // Whoever read of the refusal reads of its end.
                if same && !was_refused {
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
                    version = policy.head.as_ref().map(|head| head.version),
                    mode,
                    rules,
                    "a policy is in force"
                );
                if same {
                    return;
                }
                for change in loaded.changes {
                    let ListChange { name, added, removed, entries } = change;
                    info!(
                        event = events::LIST_CHANGED,
                        path = shown,
                        list = name,
                        added,
                        removed,
                        entries,
                        "+{added} −{removed} entries of list {name}"
                    );
                }
                self.since = Some(now);
                retire(self.in_force.send_replace(Some(policy)));
                retire(self.last.take());
            }
        }
    }

    fn tell_problem(&self, path: &Path, problem: &str) {
        let shown = path.display().to_string();
        let kept = self.in_force.borrow().as_ref().map(|policy| policy.hash.short().to_owned());
        match kept {
            Some(policy) if pushed_name(path).is_some() => error!(
                event = events::POLICY_REFUSED,
                path = shown,
                policy,
                problems = problem,
                "refused: no rule answers until a version is pushed that this doorman can use"
            ),
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
            version: in_force.as_ref().and_then(|policy| Some(policy.head.as_ref()?.version)),
            hash: in_force.as_ref().map(|policy| policy.hash.as_str().to_owned()),
            mode: in_force.as_ref().map(|policy| mode_word(policy.mode).to_owned()),
            since: self.since,
            problem: self.problem.clone(),
        }
    }
}

/// Drops a policy on a thread that may be slow, once nobody uses it any more: a list may have a million entries.
fn retire(policy: Option<Arc<Policy>>) {
    let (Some(policy), Ok(runtime)) = (policy, tokio::runtime::Handle::try_current()) else { return };
    runtime.spawn(async move {
        while Arc::strong_count(&policy) > 1 {
            tokio::time::sleep(RETIRE_RHYTHM).await;
        }
        let _ = tokio::task::spawn_blocking(move || drop(policy)).await;
    });
}

/// Compiles pushed rules, which take the place of those before. Blocks for as long as that takes.
fn load_pushed(path: &Path, texts: &[SourceText], head: Head, before: Option<&Policy>) -> LoadedPolicy {
    // Their own file name is a part of their hash.
    let own = texts.first().map_or("rules.toml", |own| &own.name);
    let mut loaded = policy::load_texts(&path.join(own), texts);
    if let Some(policy) = loaded.policy.as_mut().and_then(Arc::get_mut) {
        policy.head = Some(Arc::new(head));
    }
    if let (Some(before), Some(after)) = (before, loaded.policy.as_deref())
        && before.hash != after.hash
    {
        loaded.changes = policy::list_changes(before, after);
    }
    loaded
}

/// Loads each file after it stopped changing: a file that was changed just before is checked again a little later. A
/// file that keeps changing is refused.
fn settled(files: Vec<(PathBuf, Option<Arc<Policy>>)>, shrunk: &Shrunk) -> Vec<(PathBuf, LoadedPolicy)> {
    let load = |(path, running): (PathBuf, Option<Arc<Policy>>)| {
        let loaded = policy::load(&path, running.as_deref(), shrunk);
        (path, running, loaded)
    };
    let mut all: Vec<_> = files.into_iter().map(load).collect();
    for look in 1.. {
        let now = Timestamp::now();
        let fresh = |loaded: &LoadedPolicy| loaded.files.iter().any(|stamp| stamp.is_fresh(now, FRESH));
        if !all.iter().any(|(.., loaded)| fresh(loaded)) {
            break;
        }
        std::thread::sleep(SECOND_LOOK);
        let mut changed = false;
        for (path, running, loaded) in &mut all {
            let paths: Vec<PathBuf> = loaded.files.iter().map(|stamp| stamp.path.clone()).collect();
            if stamps_of(&paths) == loaded.files {
                continue;
            }
            changed = true;
            *loaded = policy::load(path, running.as_deref(), shrunk);
            if look == LOOKS_MAX {
                loaded.policy = None;
                let message = format!("`{}`, or a list of it, is being written", path.display());
                let problem = loaded.report.push(Severity::Error, None, None, message);
                problem.help("reload once it is complete; to replace a file in one step, write another and rename it");
            }
        }
        if !changed || look == LOOKS_MAX {
            break;
        }
    }
    all.into_iter().map(|(path, _, loaded)| (path, loaded)).collect()
}

fn stamps_of(paths: &[PathBuf]) -> Vec<FileStamp> {
    paths.iter().map(|path| FileStamp::take(path)).collect()
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
            let start = Start { shadow, accept_shrunk: false, now: Timestamp::UNIX_EPOCH };
            let (mut policies, said) = Policies::load([path.clone()], start, &|_, _| None);
            let in_force = policies.subscribe(&path).unwrap();
            assert_eq!(in_force.borrow().as_ref().map(|policy| policy.mode), Some(mode), "{said}");
            rules("reject");
            policies.reload_all(Shrunk::Refuse, Timestamp::UNIX_EPOCH).await;
            let policy = in_force.borrow().clone().unwrap();
            assert_eq!((policy.mode, policy.no_match), (mode, crate::model::Verdict::Reject));
        }
    }
}
