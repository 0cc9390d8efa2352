//! Which agents run here, as the configuration says now: new ones start, those that it names no more end, and a changed one does both.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info};

use super::members::{SupervisedAgent, hide_keys};
use super::{Policies, Start, SupervisorShared, runner};
use crate::config::settings::AgentSettings;
use crate::fleet::Fleet;
use crate::ledger::{LedgerAddress, LedgerReader};
use crate::model::AgentId;
use crate::ops::board;
use crate::ops::log::{agent_span, events};
use crate::policy::{self, Policy, Shrunk};

/// What agents have beyond `timing.drain` until their tasks are cut off.
pub(super) const BEYOND_DRAIN: Duration = Duration::from_secs(2);

/// What a reload did to the agents.
#[derive(Debug, Default)]
pub(super) struct RosterChange {
    pub(super) added: Vec<AgentId>,
    pub(super) removed: Vec<AgentId>,
    /// Those that began again, since what the configuration says of them is another thing now.
    pub(super) changed: Vec<AgentId>,
    /// Why the rules of some cannot be used.
    pub(super) problems: Option<String>,
}

impl SupervisorShared {
    /// Has exactly these agents run, each as it is described. Returns once those that leave have ended: within `timing.drain`, and two
    /// seconds. Whoever still runs is not disturbed.
    pub(super) async fn take_agents(&self, wanted: Vec<AgentSettings>, shrunk: &Shrunk) -> RosterChange {
        let _one_at_a_time = self.changing.lock().await;
        let before = self.members.all();
        if before.iter().map(|member| &member.settings).eq(wanted.iter()) {
            return RosterChange::default();
        }
        let now_of = |member: &SupervisedAgent| wanted.iter().find(|agent| agent.id == member.id);
        let leaves = |member: &&Arc<SupervisedAgent>| now_of(member) != Some(&member.settings);
        let leaving: Vec<Arc<SupervisedAgent>> = before.iter().filter(leaves).cloned().collect();
        let (removed, changed): (Vec<AgentId>, Vec<AgentId>) = {
            let (gone, other): (Vec<_>, Vec<_>) = leaving.iter().partition(|member| now_of(member).is_none());
            let ids = |list: Vec<&Arc<SupervisedAgent>>| list.into_iter().map(|member| member.id.clone()).collect();
            (ids(gone), ids(other))
        };
        let known: BTreeSet<&AgentId> = before.iter().map(|member| &member.id).collect();
        let added: Vec<AgentId> =
            wanted.iter().map(|agent| agent.id.clone()).filter(|agent| !known.contains(agent)).collect();
        // Rules and keys first: whoever begins again is away for as short a time as can be.
        let problems = self.take_rules_of(&wanted, shrunk).await;
        self.hide_new_keys(&before, &wanted).await;
        self.members.remove(&leaving, self.settings.timing.drain + BEYOND_DRAIN).await;
        let names = Fleet::names(wanted.iter().map(|agent| &agent.id), !self.settings.notify.is_empty());
        self.fleet.set_names(&names);
        for member in leaving.iter().filter(|member| removed.contains(&member.id)) {
            self.members.keep_counts(member);
            // Another doorman may still have it in its configuration.
            if let Err(error) = self.around.ledger.give(member.id.as_str()).await {
                debug!(%error, agent = %member.id, "the lease stays here until this doorman ends");
            }
        }
        self.start_agents(wanted, &leaving).await;
        self.policies.lock().await.forget_all_but(&self.members.rules());
        self.say(&added, events::AGENT_ADDED, "the configuration names it: it starts");
        self.say(
            &removed,
            events::AGENT_REMOVED,
            "the configuration does not name it any more: its connection is closed",
        );
        self.say(&changed, events::AGENT_CHANGED, "the configuration says something else of it: it began again");
        RosterChange { added, removed, changed, problems }
    }

    fn say(&self, agents: &[AgentId], event: &'static str, sentence: &'static str) {
        for agent in agents {
            agent_span(agent).in_scope(|| info!(event, "{sentence}"));
        }
    }

    /// Loads what is not in use yet. Returns what is wrong with it.
    async fn take_rules_of(&self, wanted: &[AgentSettings], shrunk: &Shrunk) -> Option<String> {
        let now = self.around.clock.now().wall;
        let start = Start { shadow: self.shadow, accept_shrunk: *shrunk == Shrunk::Accept, now };
        let mut policies = self.policies.lock().await;
        let problems = policies.add(wanted, start, LedgerAddress::from(&self.settings.ledger)).await;
        match policies.look_at_heads(&self.around.ledger, now).await {
            Ok(()) => problems,
            Err(error) => Some(format!("{}pushed rules were not looked at: {error}\n", problems.unwrap_or_default())),
        }
    }

    async fn hide_new_keys(&self, before: &[Arc<SupervisedAgent>], wanted: &[AgentSettings]) {
        let new = |agent: &&AgentSettings| !before.iter().any(|member| member.settings == **agent);
        let new: Vec<AgentSettings> = wanted.iter().filter(new).cloned().collect();
        let redact = self.around.rest.redact().clone();
        // A panic is in the log; each agent hides its key when it reads it.
        let _ = tokio::task::spawn_blocking(move || hide_keys(&new, &redact)).await;
    }

    /// Starts those of these agents that have no task here. `before`: those that ended just now, whose counters go on.
    pub(super) async fn start_agents(&self, wanted: Vec<AgentSettings>, before: &[Arc<SupervisedAgent>]) {
        let rows = if self.page.is_some() { board::rows_of_each(wanted.len()) } else { 0 };
        let mut list = Vec::with_capacity(wanted.len());
        let mut starting = Vec::new();
        for settings in wanted {
            if let Some(member) = self.members.of(&settings.id) {
                list.push(member);
                continue;
            }
            let Some(policy) = self.policies.lock().await.subscribe(&settings.rules) else { continue };
            let counters = before.iter().find(|member| member.id == settings.id);
            let counters = counters.map_or_else(Default::default, |member| member.counters.clone());
            let stand = self.fleet.stand_of(settings.id.as_str());
            let drain = self.drain.child_token();
            let member = Arc::new(SupervisedAgent::new(settings, counters, self.board.slot(rows), stand, drain));
            list.push(member.clone());
            starting.push((member, policy));
        }
        self.members.replace(list);
        for (member, policy) in starting {
            let runner = runner::Runner {
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
            };
            self.members.run(&member, runner.run());
        }
    }
}

impl Policies {
    /// Loads the files of these agents that are not in use yet, and compares their lists with the policy that was last in force for
    /// them, according to the ledger. Returns what is wrong with them.
    async fn add(&mut self, agents: &[AgentSettings], start: Start, ledger: LedgerAddress) -> Option<String> {
        let new: BTreeSet<PathBuf> =
            agents.iter().map(|agent| agent.rules.clone()).filter(|path| !self.has(path)).collect();
        if new.is_empty() {
            return None;
        }
        let agents = agents.to_vec();
        let load = move || {
            let reader = LedgerReader::open(&ledger).ok();
            Policies::load(new, start, &|path, policy| last_in_force(reader.as_ref()?, &agents, path, policy))
        };
        match tokio::task::spawn_blocking(load).await {
            Ok((more, said)) => {
                self.take_over(more);
                (!said.is_empty()).then_some(said)
            }
            Err(error) => Some(format!("loading the rules failed inside doorman: {error}\n")),
        }
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
