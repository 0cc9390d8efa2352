//! Which agents run here, as the configuration says now: new ones start, those that it names no more end, and a changed one does both.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::{debug, info};

use super::agents::{SupervisedAgent, hide_keys};
use super::{Policies, Start, SupervisorShared, runner};
use crate::agent::Counters;
use crate::config::settings::{AgentSettings, pushed_name};
use crate::fleet::Fleet;
use crate::ledger::{LedgerAddress, LedgerReader};
use crate::model::AgentId;
use crate::ops::board;
use crate::ops::control::wire::Reloaded;
use crate::ops::log::{agent_span, events};
use crate::policy::{self, Policy, Shrunk};

/// What agents have beyond `timing.drain` until their tasks are cut off.
pub(super) const BEYOND_DRAIN: Duration = Duration::from_secs(2);

/// How long a lease that is given up is waited for. If it cannot be given by then, the ledger gives it once it can be.
const GIVE_MAX: Duration = Duration::from_secs(5);

/// What a reload did to the agents.
#[derive(Debug, Default)]
pub(super) struct AgentsChange {
    pub(super) added: Vec<AgentId>,
    pub(super) removed: Vec<AgentId>,
    /// Those that began again, since what the configuration says of them is another thing now.
    pub(super) changed: Vec<AgentId>,
}

impl AgentsChange {
    /// Whether everything is as it was.
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// What says that agents come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AgentsFrom {
    Configuration,
    Roster,
}

impl SupervisorShared {
    /// Has exactly these agents run, each as it is described, by rules that are loaded already. Returns once those that leave have ended:
    /// within `timing.drain`, and some seconds. Whoever still runs is not disturbed.
    pub(super) async fn take_agents(&self, wanted: Vec<AgentSettings>, from: AgentsFrom) -> AgentsChange {
        let before = self.members.all();
        if before.iter().map(|member| &*member.settings).eq(wanted.iter()) {
            return AgentsChange::default();
        }
        let named: HashMap<&AgentId, &AgentSettings> = wanted.iter().map(|agent| (&agent.id, agent)).collect();
        let (mut change, mut leaving, mut known) = (AgentsChange::default(), Vec::new(), HashSet::new());
        for member in before.iter() {
            known.insert(&member.id);
            match named.get(&member.id) {
                Some(agent) if **agent == *member.settings => continue,
                Some(_) => change.changed.push(member.id.clone()),
                None => change.removed.push(member.id.clone()),
            }
            leaving.push(member.clone());
        }
        change.added = wanted.iter().filter(|agent| !known.contains(&agent.id)).map(|agent| agent.id.clone()).collect();
        // Keys first: whoever begins again is away for as short a time as can be.
        let begins: HashSet<&AgentId> = change.added.iter().chain(&change.changed).collect();
        let begins = wanted.iter().filter(|agent| begins.contains(&agent.id)).cloned().collect();
        self.hide_keys_of(begins).await;
        self.members.remove(&leaving, self.settings.timing.drain + BEYOND_DRAIN).await;
        let names = Fleet::names(wanted.iter().map(|agent| &agent.id), !self.settings.notify.is_empty());
        self.fleet.set_names(&names);
        let gone: HashSet<&AgentId> = change.removed.iter().collect();
        leaving.iter().filter(|member| gone.contains(&member.id)).for_each(|member| self.members.keep_counts(member));
        self.start_agents(wanted, &leaving).await;
        self.policies.lock().await.forget_all_but(&self.members.rules());
        self.give_leases_of(&change.removed).await;
        let [added, removed, changed] = match from {
            AgentsFrom::Configuration => [
                "the configuration names it: it starts",
                "the configuration does not name it any more: its connection is closed",
                "the configuration says something else of it: it began again",
            ],
            AgentsFrom::Roster => [
                "the roster names it, and its key is here: it starts",
                "the roster does not name it any more, or its key is gone: its connection is closed",
                "the roster says something else of it: it began again",
            ],
        };
        self.say(&change.added, events::AGENT_ADDED, added);
        self.say(&change.removed, events::AGENT_REMOVED, removed);
        self.say(&change.changed, events::AGENT_CHANGED, changed);
        change
    }

    /// Another doorman may still name these agents.
    async fn give_leases_of(&self, agents: &[AgentId]) {
        let given = join_all(agents.iter().map(|agent| self.around.ledger.give(agent.as_str())));
        match timeout(GIVE_MAX, given).await {
            Ok(given) => {
                for error in given.into_iter().filter_map(Result::err) {
                    debug!(%error, "a lease stays here until it can be given");
                }
            }
            Err(_) => debug!("the database is away: leases are given once it is back"),
        }
    }

    fn say(&self, agents: &[AgentId], event: &'static str, sentence: &'static str) {
        for agent in agents {
            agent_span(agent).in_scope(|| info!(event, "{sentence}"));
        }
    }

    /// Loads every rules file again: those of the agents that are wanted, which may be new; all, if that is unknown.
    pub(super) async fn reload_rules(&self, wanted: Option<&[AgentSettings]>, shrunk: Shrunk) -> Reloaded {
        let (mut policies, now) = (self.policies.lock().await, self.around.clock.now().wall);
        let start = Start { shadow: self.shadow, accept_shrunk: shrunk == Shrunk::Accept, now };
        let used: Option<HashSet<&Path>> = wanted.map(|all| all.iter().map(|agent| agent.rules.as_path()).collect());
        let ledger = LedgerAddress::from(&self.settings.ledger);
        let added = policies.add(wanted.unwrap_or_default(), start, ledger).await;
        // If the ledger cannot be read, that is reported already.
        let looked = policies.look_at_heads(&self.around.ledger, now).await;
        let again = |path: &Path| {
            let fresh = added.as_ref().is_ok_and(|added| added.fresh.contains(path));
            !fresh && used.as_ref().is_none_or(|used| used.contains(path))
        };
        let mut reloaded = policies.reload_those(shrunk, now, again).await;
        let mut more = |ok: bool, said: &str| {
            reloaded.ok &= ok;
            reloaded.problems.get_or_insert_default().push_str(said);
        };
        match &added {
            Ok(added) if added.said.is_empty() => {}
            Ok(added) => more(added.ok, &added.said),
            Err(error) => more(false, error),
        }
        if let Err(error) = looked {
            more(false, &format!("pushed rules were not looked at: {error}\n"));
        }
        reloaded
    }

    async fn hide_keys_of(&self, agents: Vec<AgentSettings>) {
        let redact = self.around.rest.redact().clone();
        // A panic is in the log; each agent hides its key when it reads it.
        let _ = tokio::task::spawn_blocking(move || hide_keys(&agents, &redact)).await;
    }

    /// Starts those of these agents that have no task here. `before`: those that ended just now, whose counters go on.
    pub(super) async fn start_agents(&self, wanted: Vec<AgentSettings>, before: &[Arc<SupervisedAgent>]) {
        let rows = if self.page.is_some() { board::rows_of_each(wanted.len()) } else { 0 };
        let all = self.members.all();
        let here: HashMap<&AgentId, &Arc<SupervisedAgent>> = all.iter().map(|member| (&member.id, member)).collect();
        let before: HashMap<&AgentId, &Counters> = before.iter().map(|member| (&member.id, &member.counters)).collect();
        let mut list = Vec::with_capacity(wanted.len());
        let mut starting = Vec::new();
        let policies = self.policies.lock().await;
        for settings in wanted {
            if let Some(member) = here.get(&settings.id) {
                list.push(Arc::clone(member));
                continue;
            }
            let Some(policy) = policies.subscribe(&settings.rules) else { continue };
            let counters = before.get(&settings.id).map_or_else(Counters::default, |counters| (*counters).clone());
            let stand = self.fleet.stand_of(settings.id.as_str());
            let drain = self.drain.child_token();
            let member =
                Arc::new(SupervisedAgent::new(Arc::new(settings), counters, self.board.slot(rows), stand, drain));
            list.push(member.clone());
            starting.push((member, policy));
        }
        drop(policies);
        self.members.replace(list);
        for (member, policy) in starting {
            let runner = Box::new(runner::Runner {
                settings: member.settings.clone(),
                answers: self.settings.answers,
                credentials: self.settings.platform.credentials,
                around: self.around.clone(),
                policy,
                slot: member.handle.clone(),
                counters: member.counters.clone(),
                board: member.board.clone(),
                watchdog: self.watchdog.clone(),
                drain: member.drain.clone(),
                stand: member.stand.clone(),
                shadow: self.shadow,
                seed: self.next_seed(),
                pace: self.pace.clone(),
            });
            self.members.run(&member, runner.run());
        }
    }
}

/// Files that were not in use before.
pub(super) struct AddedRules {
    /// Those that were read just now: pushed rules are looked at apart.
    fresh: BTreeSet<PathBuf>,
    /// Whether all of these can be used.
    ok: bool,
    /// Errors and warnings, rendered.
    said: String,
}

impl Policies {
    /// Loads the files of these agents that are not in use yet, and compares their lists with the policy that was last in force for
    /// them, according to the ledger.
    pub(super) async fn add(
        &mut self,
        agents: &[AgentSettings],
        start: Start,
        ledger: LedgerAddress,
    ) -> Result<AddedRules, String> {
        let new: BTreeSet<PathBuf> =
            agents.iter().map(|agent| agent.rules.clone()).filter(|path| !self.has(path)).collect();
        let mut fresh = new.clone();
        fresh.retain(|path| pushed_name(path).is_none());
        if new.is_empty() {
            return Ok(AddedRules { fresh, ok: true, said: String::new() });
        }
        let agents = agents.to_vec();
        let load = move || {
            let reader = LedgerReader::open(&ledger).ok();
            Policies::load(new, start, &|path, policy| last_in_force(reader.as_ref()?, &agents, path, policy))
        };
        let loaded = tokio::task::spawn_blocking(load).await;
        let (more, said) = loaded.map_err(|error| format!("loading the rules failed inside doorman: {error}\n"))?;
        let ok = more.status().iter().all(|file| file.problem.is_none());
        self.take_over(more);
        Ok(AddedRules { fresh, ok, said })
    }
}

/// The policy that was last in force for the agents with this rules file, according to the ledger; `None` if it is the one that was
/// loaded now, or unknown.
pub fn last_in_force(
    reader: &LedgerReader,
    agents: &[AgentSettings],
    rules: &Path,
    now: &Policy,
) -> Option<Arc<Policy>> {
    let under = agents.iter().filter(|agent| agent.rules == rules);
    let uses = under.filter_map(|agent| reader.policies_of(&agent.id).ok()?.last().cloned());
    let (hash, _) = uses.max_by_key(|(_, at)| *at)?;
    let texts = (hash != now.hash).then(|| reader.policy_texts(&hash).ok().flatten()).flatten()?;
    policy::load_texts(&now.path, &texts).policy
}
