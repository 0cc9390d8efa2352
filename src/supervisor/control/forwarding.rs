//! Agents that another doorman of the same database holds: what the record knows of them, and how their holder is asked. A command
//! becomes a row, which the holder takes; see `crate::ledger::commands`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::{ANSWER_MAX, error};
use crate::agent::AgentHandle;
use crate::fleet::AgentHolder;
use crate::ledger::Commands;
use crate::ledger::commands::{CommandAdded, CommandProgress, NewCommand};
use crate::ledger::read::{OpenRequest, WantedOpen};
use crate::model::{AgentId, Handle, Person, PersonTarget, RequestId};
use crate::ops::control::wire::{ControlOp, OpError, OpReply, PendingRow};

use super::super::SupervisorShared;
use super::super::agents::SupervisedAgent;

/// A holder must take a command within two times `fleet.ttl`, which is longer than a takeover; but never later than this.
const TAKE_MAX: Duration = Duration::from_secs(60);
/// How long a reply is waited for once a command is taken.
const CARRIED_OUT_MAX: Duration = Duration::from_secs(ANSWER_MAX.as_secs() + 5);
/// Between two looks for the reply.
const LOOK: Duration = Duration::from_millis(200);
/// Commands of one person that wait at the same time.
const AT_ONCE: usize = 64;
/// Most requests of others' agents in one list.
const ROWS_MAX: usize = 10_000;

/// The pending request that a person means.
pub(super) enum FoundRequest {
    /// This doorman holds its agent.
    Here(Arc<AgentHandle>, RequestId),
    /// Another one does.
    There(AgentId, RequestId),
}

impl FoundRequest {
    pub(super) fn request(&self) -> &RequestId {
        match self {
            FoundRequest::Here(_, request) | FoundRequest::There(_, request) => request,
        }
    }
}

/// The guest that a person means.
pub(super) enum FoundGuest {
    Here(Arc<AgentHandle>, RequestId),
    There(AgentId, Handle),
}

/// What the holder replied, as it stands in the row.
pub(super) type HolderReply = Result<OpReply, OpError>;

impl SupervisorShared {
    /// Whether another doorman may hold this agent: then it has to be asked, whoever it is.
    pub(super) fn is_elsewhere(&self, member: &SupervisedAgent) -> bool {
        self.fleet.is_shared()
            && member.handle.load().is_none()
            && matches!(&*member.stand.borrow(), AgentHolder::Theirs(_) | AgentHolder::Nobody(_) | AgentHolder::Give)
    }

    /// The agent that was named, if it is elsewhere.
    pub(super) fn elsewhere_alone(&self, agent: Option<&AgentId>) -> Result<Option<AgentId>, OpError> {
        let chosen = self.chosen(agent)?;
        let only = chosen.first().filter(|member| agent.is_some() && self.is_elsewhere(member));
        Ok(only.map(|member| member.id.clone()))
    }

    /// The open requests of agents that are elsewhere, as the record knows them, and how many more there are; those that a person means,
    /// or all.
    pub(super) async fn recorded(
        &self,
        others: &[Arc<SupervisedAgent>],
        target: Option<&PersonTarget>,
    ) -> Result<(Vec<PendingRow>, u64), OpError> {
        if others.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let agents = others.iter().map(|member| member.id.clone()).collect();
        let wanted = WantedOpen { agents, target: target.cloned(), most: ROWS_MAX };
        let found = self.around.ledger.open_requests(wanted).await.map_err(not_read)?;
        let row = |one: OpenRequest| {
            let holder = others.iter().find(|member| member.id == one.agent);
            let by = holder.and_then(|member| match &*member.stand.borrow() {
                AgentHolder::Theirs(by) => Some(by.clone()),
                AgentHolder::Nobody(_) | AgentHolder::Give | AgentHolder::Ours => None,
            });
            one.into_row(by.as_deref())
        };
        Ok((found.requests.into_iter().map(row).collect(), found.more))
    }

    /// The agents elsewhere that let somebody with this handle in for a time.
    pub(super) async fn recorded_guests(
        &self,
        others: &[Arc<SupervisedAgent>],
        handle: &Handle,
    ) -> Result<Vec<AgentId>, OpError> {
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let agents = others.iter().map(|member| member.id.clone()).collect();
        self.around.ledger.agents_of_guest(agents, handle.clone()).await.map_err(not_read)
    }

    /// Has whoever holds the agent do this, and waits for the reply.
    pub(super) async fn ask_holder(&self, agent: &AgentId, op: ControlOp, person: &Person) -> HolderReply {
        let Some(commands) = self.around.ledger.commands() else {
            return Err(error("failed", "the ledger is shared with no other doorman"));
        };
        // Somebody's key may have been typed in place of a handle.
        let op = serde_json::to_string(&op).map_err(|problem| error("failed", problem.to_string()))?;
        let new = NewCommand {
            id: new_id(),
            lease: agent.to_string(),
            op: self.around.rest.redact().scrub_quoted(&op).into_owned(),
            person: person.name().to_owned(),
            note: person.note().map(ToOwned::to_owned),
            made_by: self.fleet.board().map(|board| board.name.clone()).unwrap_or_default(),
            lasts: (self.settings.fleet.ttl * 2).min(TAKE_MAX),
        };
        let gone = || self.members.of(agent).is_none();
        asked(&commands, agent, new, gone).await
    }

    /// The same for several, some at a time.
    pub(super) async fn ask_holders(
        &self,
        ops: Vec<(AgentId, ControlOp)>,
        person: &Person,
    ) -> Vec<(AgentId, HolderReply)> {
        let asked = ops.into_iter().map(|(agent, op)| async move {
            let reply = self.ask_holder(&agent, op, person).await;
            (agent, reply)
        });
        futures_util::stream::iter(asked).buffered(AT_ONCE).collect().await
    }
}

/// Puts the command on record, and waits until it has ended, or can no longer be taken. `gone`: this doorman does not know the agent any
/// more, since it was taken off the roster or out of the configuration.
async fn asked(commands: &Commands, agent: &AgentId, new: NewCommand, gone: impl Fn() -> bool) -> HolderReply {
    let (id, take_max) = (new.id.clone(), new.lasts);
    let begun = Instant::now();
    match added(commands, new).await? {
        CommandAdded::Added => {}
        CommandAdded::Full => {
            let message =
                "too many commands for agents of other doormen are open, so nothing was done: ask again later";
            return Err(error("busy", message));
        }
    }
    // The database's clock says when the time is over; here it is only when that is asked for.
    let mut patience = take_max;
    let mut taken: Option<String> = None;
    loop {
        sleep(LOOK).await;
        match commands.progress(id.clone()).await {
            Ok(CommandProgress::Ended(reply)) => {
                // Left behind, it is deleted later.
                let _ = commands.forget(id).await;
                return serde_json::from_str::<HolderReply>(&reply).unwrap_or_else(|_| Err(unreadable()));
            }
            Ok(CommandProgress::Taken(by)) if taken.is_none() => {
                patience = begun.elapsed() + CARRIED_OUT_MAX;
                taken = Some(by);
            }
            Ok(CommandProgress::Taken(_) | CommandProgress::Open) => {}
            Ok(CommandProgress::Gone) => return Err(unreadable()),
            Err(_) if begun.elapsed() > take_max + CARRIED_OUT_MAX => return Err(unsaid(agent, taken.as_deref())),
            Err(_) => {}
        }
        if taken.is_none() && gone() && matches!(commands.withdraw(id.clone()).await, Ok(true)) {
            return Err(error("no-agent", removed(agent, "nothing was done")));
        }
        if begun.elapsed() < patience {
            continue;
        }
        if taken.is_some() {
            return Err(unsaid(agent, taken.as_deref()));
        }
        match commands.withdraw(id.clone()).await {
            Ok(true) => return Err(late(agent, take_max)),
            // It was taken at the last moment.
            Ok(false) => patience += CARRIED_OUT_MAX,
            Err(_) => return Err(unsaid(agent, None)),
        }
    }
}

/// Adds it; once more if it is not known whether it is there.
async fn added(commands: &Commands, new: NewCommand) -> Result<CommandAdded, OpError> {
    if let Ok(asked) = commands.add(new.clone()).await {
        return Ok(asked);
    }
    sleep(LOOK).await;
    let id = new.id.clone();
    match commands.add(new).await {
        Ok(asked) => Ok(asked),
        Err(problem) => {
            // If it is there after all, nobody should take it.
            let withdrawn = timeout(LOOK, commands.withdraw(id)).await;
            let done = if matches!(withdrawn, Ok(Ok(true))) { "nothing was done" } else { "it may still be done soon" };
            Err(error("busy", format!("the database cannot be asked, and {done}: {problem}")))
        }
    }
}

fn late(agent: &AgentId, take_max: Duration) -> OpError {
    let message = format!(
        "no doorman took it within {} s, so nothing was done: `doorman fleet status` and `doorman status` say who holds agent `{agent}`",
        take_max.as_secs()
    );
    error("busy", message)
}

/// What is said of a command for an agent that went away meanwhile.
pub(super) fn removed(agent: &AgentId, done: &str) -> String {
    format!("agent `{agent}` was taken off the roster, or out of the configuration, meanwhile, and {done}")
}

fn unsaid(agent: &AgentId, by: Option<&str>) -> OpError {
    let who = by.map_or_else(|| format!("whoever holds agent `{agent}`"), |by| format!("the doorman `{by}`"));
    error("busy", format!("{who} has not replied in time: it may still be done, and `doorman history` says later"))
}

pub(super) fn unreadable() -> OpError {
    error("failed", "the other doorman's reply cannot be read: `doorman history` says what was done")
}

fn not_read(problem: crate::ledger::LedgerError) -> OpError {
    error(
        "busy",
        format!("the record cannot be read, which says what waits for the agents of other doormen: {problem}"),
    )
}

fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
