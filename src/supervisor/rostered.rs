//! Agents of the roster in the database that this doorman has a key for. They come and go as those of the configuration do.
//!
//! The database says which agents there are, and by which pushed rules each is decided; the key of each is a file of this machine. What
//! the configuration says of an agent holds here, whatever the roster says of it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::agent_changes::AgentsFrom;
use super::{Start, SupervisorShared};
use crate::config::settings::{AgentSettings, ConnectionMode, KeySource, PUSHED, SecretKind};
use crate::ledger::LedgerAddress;
use crate::ledger::members::RosterMark;
use crate::ledger::roster::{Roster, parse_id};
use crate::model::AgentId;
use crate::ops::log::{agent_span, events};
use crate::secret;

/// How the name of a key's file ends, after the agent's id.
const SUFFIX: &str = ".key";
/// Most entries of the directory of keys that are looked at.
const FILES_MAX: usize = 131_072;
/// Between two looks at the directory of keys.
const LOOK: Duration = Duration::from_secs(2);
/// The directory is read again after this many looks, even if it looks unchanged: a key that could not be used may be good now.
const AGAIN_LOOKS: u32 = 15;
/// Most agents that are named in one line of the log.
const NAMED: usize = 5;

/// Which keys of a directory can be used.
#[derive(Debug, Default)]
pub struct RosterKeys {
    /// Agents whose key was read, and was good.
    good: HashSet<AgentId>,
    /// Those whose file cannot be used, and why.
    pub bad: BTreeMap<AgentId, String>,
    /// When the directory changed last, as it was at the last look.
    changed: Option<SystemTime>,
    /// It was the same at the look before: times of files are coarse, so one look right after a change may miss another.
    twice: bool,
}

impl RosterKeys {
    /// Looks at the directory, and reads the keys of these agents that are new there. Blocks on files.
    ///
    /// # Errors
    /// The directory cannot be read, or has too many entries: what was known stays.
    pub fn look(&mut self, dir: &Path, roster: &Roster) -> std::io::Result<()> {
        // Before the entries: a file that comes in between is seen at the next look.
        let changed = std::fs::metadata(dir)?.modified().ok();
        let mut there = HashSet::new();
        for (number, entry) in std::fs::read_dir(dir)?.enumerate() {
            if number == FILES_MAX {
                return Err(std::io::Error::other(format!("it has more than {FILES_MAX} entries")));
            }
            let name = entry?.file_name();
            there.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(parse_id));
        }
        self.good.retain(|agent| there.contains(agent));
        let mut bad = BTreeMap::new();
        for row in roster.agents.iter().filter(|row| there.contains(&row.agent)) {
            if self.good.contains(&row.agent) {
                continue;
            }
            match secret::read(&file(dir, &row.agent), SecretKind::Key) {
                Ok(_) => drop(self.good.insert(row.agent.clone())),
                Err(error) => drop(bad.insert(row.agent.clone(), error.to_string())),
            }
        }
        self.twice = changed.is_some() && changed == self.changed;
        (self.bad, self.changed) = (bad, changed);
        Ok(())
    }

    /// Whether the directory may be another one than at the last look. Blocks on files.
    fn has_changed(&self, dir: &Path) -> bool {
        let changed = std::fs::metadata(dir).and_then(|meta| meta.modified());
        !self.twice || changed.ok() != self.changed
    }

    /// All keys are read again at the next look.
    fn forget(&mut self) {
        *self = Self::default();
    }
}

fn file(dir: &Path, agent: &AgentId) -> KeySource {
    KeySource::File(dir.join(format!("{agent}{SUFFIX}")))
}

/// The agents of the roster whose keys are there.
pub fn with_keys(roster: &Roster, dir: &Path, keys: &RosterKeys) -> Vec<AgentSettings> {
    let here = roster.agents.iter().filter(|row| keys.good.contains(&row.agent));
    let settings = here.map(|row| AgentSettings {
        id: row.agent.clone(),
        name: row.name.clone(),
        key: file(dir, &row.agent),
        rules: PathBuf::from(format!("{PUSHED}{}", row.rules)),
        connection: ConnectionMode::default(),
    });
    settings.collect()
}

/// The agents that run here: those of the configuration, and those of the roster that it does not name. And the agents that both name.
pub fn both(configured: &[AgentSettings], rostered: &[AgentSettings]) -> (Vec<AgentSettings>, Vec<AgentId>) {
    let named: HashSet<&AgentId> = configured.iter().map(|agent| &agent.id).collect();
    let words = configured.iter().flat_map(|agent| [Some(agent.id.as_str()), agent.name.as_deref()]).flatten();
    let words: HashSet<&str> = words.collect();
    let (mut all, mut overruled) = (configured.to_vec(), Vec::new());
    for agent in rostered {
        if named.contains(&agent.id) {
            overruled.push(agent.id.clone());
            continue;
        }
        // A name means one agent: the configuration's.
        let name = agent.name.clone().filter(|name| !words.contains(name.as_str()));
        all.push(AgentSettings { name, ..agent.clone() });
    }
    (all, overruled)
}

/// The agents of the roster that this doorman has a key for, as it starts; what cannot be read now is looked at soon. Blocks on files.
pub fn at_start(roster: Option<Roster>, dir: Option<&Path>) -> Vec<AgentSettings> {
    let (Some(roster), Some(dir)) = (roster, dir) else { return Vec::new() };
    let mut keys = RosterKeys::default();
    if let Err(problem) = keys.look(dir, &roster) {
        debug!(%problem, "the keys of the roster's agents cannot be looked at yet");
    }
    with_keys(&roster, dir, &keys)
}

/// What the configuration and the roster say now.
#[derive(Debug, Default)]
pub(super) struct AgentSources {
    configured: Vec<AgentSettings>,
    rostered: Vec<AgentSettings>,
    /// The roster's agents that the configuration names, too, as far as that was said.
    overruled: Vec<AgentId>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rostered {
    sources: Mutex<AgentSources>,
    /// Rung when the keys are to be read again.
    again: tokio::sync::Notify,
}

impl Rostered {
    pub(super) fn new(configured: Vec<AgentSettings>, rostered: Vec<AgentSettings>) -> Self {
        let sources = AgentSources { configured, rostered, overruled: Vec::new() };
        Self { sources: Mutex::new(sources), again: tokio::sync::Notify::new() }
    }

    fn sources(&self) -> MutexGuard<'_, AgentSources> {
        // A poisoned lock is fine: each change is whole at any moment.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All agents that run here, with what the configuration says now, if it was read again.
    pub(super) fn all(&self, configured: Option<Vec<AgentSettings>>) -> Vec<AgentSettings> {
        let mut sources = self.sources();
        if let Some(configured) = configured {
            sources.configured = configured;
        }
        let (all, overruled) = both(&sources.configured, &sources.rostered);
        if overruled != sources.overruled {
            if !overruled.is_empty() {
                warn!(
                    event = events::ROSTER_OVERRULED,
                    agents = overruled.len(),
                    named = named(overruled.iter()),
                    "agents of the roster are in this configuration, too: here the configuration holds"
                );
            }
            sources.overruled = overruled;
        }
        all
    }

    /// Whether this agent is here because the roster names it.
    pub(super) fn has(&self, agent: &AgentId) -> bool {
        let sources = self.sources();
        let of = |agents: &[AgentSettings]| agents.iter().any(|one| one.id == *agent);
        of(&sources.rostered) && !of(&sources.configured)
    }

    /// The keys are read again soon.
    pub(super) fn renew_keys(&self) {
        self.again.notify_one();
    }
}

fn named<'a>(agents: impl ExactSizeIterator<Item = &'a AgentId>) -> String {
    let more = if agents.len() > NAMED { ", …" } else { "" };
    let ids: Vec<&str> = agents.take(NAMED).map(AgentId::as_str).collect();
    format!("{}{more}", ids.join(", "))
}

/// Has the agents of the roster come and go, for as long as it is polled.
pub(super) async fn follow(shared: Arc<SupervisorShared>) {
    let mut changes = shared.fleet.roster();
    let Some(dir) = shared.settings.fleet.keys_dir.clone().filter(|_| shared.fleet.is_shared()) else { return };
    let mut follower = Follower { dir, keys: RosterKeys::default(), roster: None, failed: None, looks: 0, due: true };
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            Ok(()) = changes.changed() => follower.roster = None,
            () = shared.rostered.again.notified() => {
                follower.keys.forget();
                follower.due = true;
            }
        }
        let seen = *changes.borrow();
        if let Some(seen) = seen {
            follower.turn(&shared, seen).await;
        }
    }
}

struct Follower {
    dir: PathBuf,
    keys: RosterKeys,
    /// As it was read last; `None`: it is to be read.
    roster: Option<Arc<Roster>>,
    /// Why the directory could not be read, as far as that was said.
    failed: Option<String>,
    looks: u32,
    /// What was found is not in force yet.
    due: bool,
}

impl Follower {
    /// `seen`: how the roster stands in the database.
    async fn turn(&mut self, shared: &Arc<SupervisorShared>, seen: RosterMark) {
        let roster = match self.roster.clone() {
            Some(roster) => roster,
            None => match shared.around.ledger.roster().await {
                // The server that was asked may lag behind the one that is written.
                Ok(roster) if roster.changes < seen.changes => return,
                Ok(roster) => {
                    self.due = true;
                    self.roster.insert(Arc::new(roster)).clone()
                }
                Err(problem) => return debug!(%problem, "the roster cannot be read now"),
            },
        };
        self.looks = self.looks.wrapping_add(1);
        let again = self.looks.is_multiple_of(AGAIN_LOOKS);
        let (mut keys, dir, of, due) = (std::mem::take(&mut self.keys), self.dir.clone(), roster.clone(), self.due);
        let looked = tokio::task::spawn_blocking(move || {
            let bad = keys.bad.clone();
            let wanted = due || again || keys.has_changed(&dir);
            let looked = if wanted { keys.look(&dir, &of).map(|()| true) } else { Ok(false) };
            (keys, bad, looked)
        });
        // A panic is in the log; the next turn begins from nothing.
        let Ok((keys, bad, looked)) = looked.await else { return };
        self.keys = keys;
        match looked {
            Ok(changed) => {
                self.failed = None;
                if !changed {
                    return;
                }
            }
            Err(problem) => {
                let why = problem.to_string();
                if self.failed.as_ref() != Some(&why) {
                    let path = self.dir.display().to_string();
                    error!(event = events::KEYS_UNREADABLE, path, why, "the roster's agents stay as they are");
                }
                self.failed = Some(why);
                return;
            }
        }
        for (agent, why) in self.keys.bad.iter().filter(|(agent, why)| bad.get(*agent) != Some(*why)).take(NAMED) {
            agent_span(agent).in_scope(|| {
                warn!(
                    event = events::ROSTER_KEY,
                    why, "the key of an agent of the roster cannot be used: others may have it"
                );
            });
        }
        self.due = !shared.take_roster(&roster, with_keys(&roster, &self.dir, &self.keys)).await;
    }
}

impl SupervisorShared {
    /// Has these agents of the roster run, beside those of the configuration. `false`: something could not be done now, and is to be
    /// tried again.
    async fn take_roster(&self, roster: &Roster, rostered: Vec<AgentSettings>) -> bool {
        let _one_at_a_time = self.reloading.lock().await;
        let (agents, keys) = (roster.agents.len(), rostered.len());
        let before = std::mem::replace(&mut self.rostered.sources().rostered, rostered);
        let wanted = self.rostered.all(None);
        if !self.add_rules(&wanted).await {
            self.rostered.sources().rostered = before;
            return false;
        }
        let change = self.take_agents(wanted, AgentsFrom::Roster).await;
        if !change.is_empty() {
            let left_out = (roster.left_out > 0).then_some(roster.left_out);
            info!(
                event = events::ROSTER_TAKEN,
                agents, keys, left_out, "this doorman follows the roster in the database"
            );
        }
        true
    }

    /// Loads the rules that these agents need and no agent had before.
    async fn add_rules(&self, wanted: &[AgentSettings]) -> bool {
        let (mut policies, now) = (self.policies.lock().await, self.around.clock.now().wall);
        let start = Start { shadow: self.shadow, accept_shrunk: false, now };
        if let Err(problem) = policies.add(wanted, start, LedgerAddress::from(&self.settings.ledger)).await {
            debug!(problem, "the rules of the roster's agents cannot be loaded now");
            return false;
        }
        // If they cannot be read now, the agents wait for them: rules are looked for every few seconds.
        let _ = policies.look_at_heads(&self.around.ledger, now).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::ledger::roster::RosterAgent;

    fn id(n: u8) -> AgentId {
        AgentId::parse(&format!("a0000000-0000-4000-8000-{n:012}")).unwrap()
    }

    fn roster(agents: &[(u8, Option<&str>)]) -> Roster {
        let row = |(n, name): &(u8, Option<&str>)| RosterAgent {
            agent: id(*n),
            rules: "main".to_owned(),
            name: name.map(str::to_owned),
            by: "person:ann".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            note: None,
        };
        Roster { agents: agents.iter().map(row).collect(), ..Roster::default() }
    }

    fn put(dir: &Path, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn an_agent_is_here_only_while_its_key_is() {
        let dir = tempfile::tempdir().unwrap();
        let of = roster(&[(1, None), (2, Some("porter")), (3, None), (4, None)]);
        let key = "a-key-of-an-agent";
        put(dir.path(), &format!("{}.key", id(1)), key);
        put(dir.path(), &format!("{}.key", id(3)), "x");
        put(dir.path(), &format!("{}.key", id(9)), key);
        for odd in [
            "..key",
            ".key",
            "x\u{1b}[2J.key",
            "a0000000-0000-4000-8000-000000000004",
            "A0000000-0000-4000-8000-000000000004.key",
        ] {
            put(dir.path(), odd, key);
        }
        std::fs::create_dir(dir.path().join(format!("{}.key", id(4)))).unwrap();
        let mut keys = RosterKeys::default();
        keys.look(dir.path(), &of).unwrap();
        let here =
            |keys: &RosterKeys| with_keys(&of, dir.path(), keys).into_iter().map(|agent| agent.id).collect::<Vec<_>>();
        assert_eq!(here(&keys), [id(1)], "not on the roster, no key, no file: none of these");
        assert_eq!(keys.bad.keys().cloned().collect::<Vec<_>>(), [id(3), id(4)]);
        assert!(keys.bad.values().all(|why| !why.contains(key)), "{:?}", keys.bad);
        put(dir.path(), &format!("{}.key", id(2)), key);
        std::fs::remove_file(dir.path().join(format!("{}.key", id(1)))).unwrap();
        keys.look(dir.path(), &of).unwrap();
        assert_eq!(here(&keys), [id(2)]);
        let settings = &with_keys(&of, dir.path(), &keys)[0];
        assert_eq!((settings.rules.to_str(), settings.name.as_deref()), (Some("ledger:main"), Some("porter")));
        let gone = dir.path().join("gone");
        assert!(keys.look(&gone, &of).is_err());
        assert_eq!(here(&keys), [id(2)], "what was known stays");
    }

    #[test]
    fn what_the_configuration_says_of_an_agent_holds() {
        let configured = AgentSettings {
            id: id(1),
            name: Some("porter".to_owned()),
            key: KeySource::Missing,
            rules: "rules.toml".into(),
            connection: ConnectionMode::Poll,
        };
        let rostered = |n: u8, name: &str| AgentSettings {
            id: id(n),
            name: Some(name.to_owned()),
            rules: "ledger:main".into(),
            ..configured.clone()
        };
        let (all, overruled) = both(
            std::slice::from_ref(&configured),
            &[rostered(1, "other"), rostered(2, "porter"), rostered(3, "cook")],
        );
        assert_eq!((all[0].clone(), overruled), (configured, vec![id(1)]));
        let rest: Vec<_> = all[1..].iter().map(|agent| (agent.id.clone(), agent.name.as_deref())).collect();
        assert_eq!(rest, [(id(2), None), (id(3), Some("cook"))], "a name means one agent");
    }
}
