//! The agents of this process. They come and go with a reload of the configuration, each with a task of its own.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::agent::{AgentHandle, Counters};
use crate::config::settings::{AgentSettings, SecretKind};
use crate::fleet::AgentHolder;
use crate::model::AgentId;
use crate::ops::board::AgentSlot;
use crate::ops::log::{agent_span, events};
use crate::secret::{self, Redact};

/// One agent as the supervisor sees it.
#[derive(Debug)]
pub(super) struct SupervisedAgent {
    pub(super) id: AgentId,
    /// What the configuration says of it.
    pub(super) settings: Arc<AgentSettings>,
    /// Empty while its task is being (re)started.
    pub(super) handle: Arc<ArcSwapOption<AgentHandle>>,
    /// The agent's counters, which outlive the task.
    pub(super) counters: Counters,
    /// What the agent last published, which also outlives the task.
    pub(super) board: AgentSlot,
    /// Which doorman answers for it.
    pub(super) stand: watch::Receiver<AgentHolder>,
    /// Ends its task once what was begun is finished.
    pub(super) drain: CancellationToken,
    task: Mutex<Option<AbortHandle>>,
    ended: CancellationToken,
}

impl SupervisedAgent {
    /// An agent without a task.
    pub(super) fn new(
        settings: Arc<AgentSettings>,
        counters: Counters,
        board: AgentSlot,
        stand: watch::Receiver<AgentHolder>,
        drain: CancellationToken,
    ) -> Self {
        Self {
            id: settings.id.clone(),
            settings,
            handle: Arc::default(),
            counters,
            board,
            stand,
            drain,
            task: Mutex::default(),
            ended: CancellationToken::new(),
        }
    }

    /// Ends the task: what was begun is finished within `drain`, or is cut off. Returns once the task has ended.
    async fn leave(&self, drain: Duration) {
        self.drain.cancel();
        if timeout(drain, self.ended.cancelled()).await.is_err() {
            self.abort();
            self.ended.cancelled().await;
        }
    }

    fn abort(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            task.abort();
        }
    }
}

/// All agents, in the order of the configuration.
#[derive(Debug, Default)]
pub(super) struct SupervisedAgents {
    list: ArcSwap<Vec<Arc<SupervisedAgent>>>,
    rules: ArcSwap<Vec<(AgentId, PathBuf)>>,
    tasks: TaskTracker,
    /// What those counted that are no longer here: no sum may fall.
    left: Mutex<BTreeMap<&'static str, u64>>,
}

impl SupervisedAgents {
    /// All of them, now.
    pub(super) fn all(&self) -> Arc<Vec<Arc<SupervisedAgent>>> {
        self.list.load_full()
    }

    /// This one.
    pub(super) fn of(&self, agent: &AgentId) -> Option<Arc<SupervisedAgent>> {
        self.list.load().iter().find(|member| member.id == *agent).cloned()
    }

    /// Each agent's rules file.
    pub(super) fn rules(&self) -> Arc<Vec<(AgentId, PathBuf)>> {
        self.rules.load_full()
    }

    /// From now on these are all.
    pub(super) fn replace(&self, list: Vec<Arc<SupervisedAgent>>) {
        let rules = list.iter().map(|member| (member.id.clone(), member.settings.rules.clone())).collect();
        self.rules.store(Arc::new(rules));
        self.list.store(Arc::new(list));
    }

    /// Runs the agent's task until it is drained or aborted.
    pub(super) fn run(&self, member: &SupervisedAgent, task: impl Future<Output = ()> + Send + 'static) {
        let ended = member.ended.clone().drop_guard();
        let handle = self.tasks.spawn(async move {
            let _ended = ended;
            task.await;
        });
        *member.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.abort_handle());
    }

    /// Ends these agents' tasks, all at the same time, and takes them off the list.
    pub(super) async fn remove(&self, leaving: &[Arc<SupervisedAgent>], drain: Duration) {
        let mut ending = tokio::task::JoinSet::new();
        for member in leaving {
            let member = member.clone();
            ending.spawn(async move { member.leave(drain).await });
        }
        while ending.join_next().await.is_some() {}
        let gone: HashSet<&AgentId> = leaving.iter().map(|member| &member.id).collect();
        self.replace(self.all().iter().filter(|member| !gone.contains(&member.id)).cloned().collect());
    }

    /// Goes on counting for an agent that is gone.
    pub(super) fn keep_counts(&self, member: &SupervisedAgent) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        member.counters.add_to(&mut left);
    }

    /// What all agents counted since the start, those that are gone included.
    pub(super) fn counters(&self) -> BTreeMap<&'static str, u64> {
        let mut counters = self.left.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for member in self.all().iter() {
            member.counters.add_to(&mut counters);
        }
        counters
    }

    /// Waits until no agent has a task.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Cuts off the tasks that are left, and waits until they have ended. How many there were.
    pub(super) async fn abort(&self) -> usize {
        let left = self.tasks.len();
        for member in self.all().iter() {
            member.abort();
        }
        self.ended().await;
        left
    }
}

/// Hides these agents' keys from the log, all in one step: each single step would cost as much as all keys together. A key that
/// cannot be read now is hidden when its agent reads it. Blocks on files.
pub(crate) fn hide_keys(agents: &[AgentSettings], redact: &Redact) {
    let mut found = Vec::with_capacity(agents.len());
    for agent in agents {
        let secret::KeyReading { key, warnings } = secret::inspect(&agent.key, SecretKind::Key);
        found.extend(key.ok());
        for why in warnings {
            let source = secret::describe(&agent.key);
            agent_span(&agent.id)
                .in_scope(|| warn!(event = events::KEY_EXPOSED, source, why, "an agent's key is not kept safely"));
        }
    }
    redact.add_all(found.iter().map(secret::Key::expose));
}
