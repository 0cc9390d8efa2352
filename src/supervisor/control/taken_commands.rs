//! Commands that another doorman was asked, for agents that this one holds. Each is taken once an agent's task can carry it out, and
//! never after its deadline; the rows say so (`crate::ledger::commands`).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, info};

use super::super::SupervisorShared;
use super::{ANSWER_MAX, RESTARTING, error};
use crate::agent::shell::AgentCommand;
use crate::fleet::AgentHolder;
use crate::ledger::commands::{OpenCommand, REPLY_MAX};
use crate::ledger::{Commands, LedgerAddress, LedgerError, LedgerReader};
use crate::model::{AgentId, Outcome, Person, RequestId, Verdict};
use crate::ops::control::wire::{AnswerDone, ControlOp, OpReply};
use crate::ops::log::{agent_span, events};
use crate::policy::By;

use super::forwarding::{HolderReply, removed};

/// Between two looks for commands.
const LOOK: Duration = Duration::from_millis(500);
/// How long a reply is kept for a database that is away.
const KEPT: Duration = Duration::from_secs(30);

/// By id.
#[derive(Debug, Default)]
struct BegunCommands {
    /// Being carried out.
    running: HashSet<String>,
    /// Taken by this process, and certainly not carried out whole: to be taken again.
    again: HashSet<String>,
}

/// Takes what others ask of this doorman's agents, for as long as it is polled.
pub(in crate::supervisor) async fn take_given(shared: Arc<SupervisorShared>) {
    let Some(commands) = shared.around.ledger.commands() else { return };
    let begun: Arc<Mutex<BegunCommands>> = Arc::default();
    let mut tasks = JoinSet::new();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            Some(_ended) = tasks.join_next() => continue,
        }
        let again: Vec<String> = locked(&begun).again.iter().cloned().collect();
        let open = match commands.open(again.clone()).await {
            Ok(open) => open,
            Err(problem) => {
                debug!(%problem, "it is not known what other doormen were asked");
                continue;
            }
        };
        let there: HashSet<&String> = open.iter().map(|command| &command.id).collect();
        // One that is there no more was done by somebody else, or is too late.
        locked(&begun).again.retain(|id| there.contains(id) || !again.contains(id));
        for command in open {
            if locked(&begun).running.contains(&command.id) {
                continue;
            }
            let Some((agent, op)) = shared.may_carry_out(&command).await else { continue };
            locked(&begun).running.insert(command.id.clone());
            let (shared, commands, begun) = (shared.clone(), commands.clone(), begun.clone());
            tasks.spawn(async move {
                let again = locked(&begun).again.remove(&command.id);
                let id = command.id.clone();
                let whole = shared.carry_out(&commands, command, (agent, op), again).await;
                let mut begun = locked(&begun);
                begun.running.remove(&id);
                if !whole {
                    begun.again.insert(id);
                }
            });
        }
    }
}

fn locked(begun: &Mutex<BegunCommands>) -> std::sync::MutexGuard<'_, BegunCommands> {
    // A poisoned lock is fine: each change is whole at any moment.
    begun.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SupervisorShared {
    /// The command, once its agent's task runs here and knows what is pending. An `Err` is a command that nobody should have written.
    async fn may_carry_out(&self, command: &OpenCommand) -> Option<(AgentId, Result<ControlOp, String>)> {
        let agent = AgentId::parse(&command.lease).ok()?;
        let op = match serde_json::from_str::<ControlOp>(&command.op) {
            Ok(op) if op.for_holder() == Some(&agent) => op,
            Ok(op) => {
                return Some((agent, Err(format!("`{}` is nothing that is done for another doorman", op.name()))));
            }
            Err(problem) => return Some((agent, Err(format!("this doorman does not understand it: {problem}")))),
        };
        let task = self.members.of(&agent)?.handle.load_full()?;
        if !self.is_ours(&agent) {
            return None;
        }
        // Until the first listing nobody knows who is pending. A pause waits for nothing.
        let at_once = matches!(op, ControlOp::Pause { .. } | ControlOp::Resume { .. });
        let listed = at_once || task.ask(AgentCommand::Status).await?.last_listing.is_some();
        listed.then_some((agent, Ok(op)))
    }

    /// Whether an agent does not run here any more, once whatever changes the agents at this moment is done.
    async fn is_removed(&self, agent: &AgentId) -> bool {
        if !self.leaves(agent) {
            return false;
        }
        let _changed = self.reloading.lock().await;
        self.members.of(agent).is_none()
    }

    /// Whether the agent is being taken out of this doorman, which itself goes on.
    fn leaves(&self, agent: &AgentId) -> bool {
        let leaves = self.members.of(agent).is_none_or(|member| member.drain.is_cancelled());
        leaves && !self.drain.is_cancelled()
    }

    /// Whether this doorman holds the agent, and does not give it away just now.
    fn is_ours(&self, agent: &AgentId) -> bool {
        self.members.of(agent).is_some_and(|member| *member.stand.borrow() == AgentHolder::Ours)
    }

    /// Takes it, does it, and replies. `false`: it was not done, or not whole, and may be taken again.
    async fn carry_out(
        &self,
        commands: &Commands,
        command: OpenCommand,
        (agent, op): (AgentId, Result<ControlOp, String>),
        again: bool,
    ) -> bool {
        let epoch = match commands.take(command.id.clone(), again).await {
            Ok(Some(epoch)) => epoch,
            Ok(None) => return true,
            // It may be taken, and was not carried out.
            Err(_) => return false,
        };
        let rostered = self.rostered.has(&agent);
        let person = Person::noting(&command.person, command.note.as_deref());
        let name = op.as_ref().map_or("unknown", ControlOp::name);
        let (by, from) = (format!("person:{person}"), &command.made_by);
        agent_span(&agent).in_scope(|| {
            info!(event = events::COMMAND_TAKEN, op = name, by, from, "a person asked another doorman for this");
        });
        let taken_before = command.was_taken || again;
        let before = match &op {
            Ok(op) if taken_before => match self.said_before(op, &agent, &person).await {
                Ok(before) => before,
                // What became of it is unknown, so it is not carried out again before the record can be read.
                Err(problem) => {
                    debug!(%problem, "it is not known what became of a person's answer");
                    return false;
                }
            },
            Ok(_) | Err(_) => None,
        };
        let mut reply = match (before, op) {
            (Some(answered), _) => Ok(OpReply::Answered(answered)),
            (None, Ok(ControlOp::Revoke { contacts })) if taken_before => {
                match self.revoke_again(contacts, &person).await {
                    Ok(reply) => reply,
                    Err(problem) => {
                        debug!(%problem, "it is not known what became of a person's removal");
                        return false;
                    }
                }
            }
            (None, Ok(op)) => self.of_agents(op, &person).await,
            (None, Err(why)) => Err(error("failed", why)),
        };
        let busy = |code: &str| code == "busy" && (!self.is_ours(&agent) || self.leaves(&agent));
        let not_done = |code: &str| code == RESTARTING || busy(code);
        if reply.as_ref().is_err_and(|problem| not_done(&problem.code)) {
            if !rostered || !self.is_removed(&agent).await {
                return false;
            }
            // No other doorman takes it again.
            reply = Err(error("failed", removed(&agent, "it may have been done: `doorman history` says it")));
        }
        self.reply(commands, command.id, epoch, &reply).await;
        true
    }

    /// What became of this person's answer, if a holder put it on record and could not say so. An `Err` says why the record
    /// could not be read.
    async fn said_before(
        &self,
        op: &ControlOp,
        agent: &AgentId,
        person: &Person,
    ) -> Result<Option<AnswerDone>, String> {
        let ControlOp::Answer { verdict, target, exact: true, .. } = op else { return Ok(None) };
        let (verdict, Ok(request)) = (*verdict, RequestId::parse(target)) else { return Ok(None) };
        if verdict.answer().is_none() {
            return Ok(None);
        }
        let until = Instant::now() + ANSWER_MAX;
        loop {
            let at = LedgerAddress::from(&self.settings.ledger);
            let (agent, person, request) = (agent.clone(), person.clone(), request.clone());
            let read = move || on_record(&at, &agent, &request, verdict, &person);
            let read = tokio::task::spawn_blocking(read).await.map_err(|panicked| panicked.to_string())?;
            match read.map_err(|problem| problem.to_string())? {
                RecordedAnswer::Not => return Ok(None),
                RecordedAnswer::Ended(answered) => return Ok(Some(answered)),
                RecordedAnswer::Open(answered) if Instant::now() >= until => return Ok(Some(answered)),
                RecordedAnswer::Open(_) => sleep(LOOK).await,
            }
        }
    }

    /// Puts the reply where the other doorman looks for it.
    async fn reply(&self, commands: &Commands, id: String, epoch: i64, reply: &HolderReply) {
        let text = serde_json::to_string(reply).unwrap_or_default();
        let mut text = self.around.rest.redact().scrub_quoted(&text).into_owned();
        if text.is_empty() || text.chars().count() > REPLY_MAX {
            let long: HolderReply = Err(error("failed", "it was done, and the reply is too long for another doorman"));
            text = serde_json::to_string(&long).unwrap_or_default();
        }
        let until = Instant::now() + KEPT;
        while let Err(problem) = commands.end(id.clone(), epoch, text.clone()).await {
            debug!(%problem, "a reply does not reach the other doorman yet");
            if Instant::now() >= until {
                return;
            }
            sleep(LOOK).await;
        }
    }
}

/// An answer of a person, as the record knows it.
enum RecordedAnswer {
    Not,
    /// Its fate is open.
    Open(AnswerDone),
    Ended(AnswerDone),
}

/// Blocks on the database.
fn on_record(
    at: &LedgerAddress,
    agent: &AgentId,
    request: &RequestId,
    verdict: Verdict,
    person: &Person,
) -> Result<RecordedAnswer, LedgerError> {
    let found = LedgerReader::open(at)?.request(request)?;
    let Some(found) = found.filter(|found| found.agent == *agent) else { return Ok(RecordedAnswer::Not) };
    let theirs = found.by == Some(By::Person(person.clone()));
    let Some(answer) = found.answer.filter(|answer| theirs && answer.answer.verdict() == verdict) else {
        return Ok(RecordedAnswer::Not);
    };
    let said = |outcome: Outcome| AnswerDone {
        request: request.to_string(),
        agent: agent.clone(),
        handle: found.request.sender.original().map(|text| text.raw().to_owned()),
        verdict,
        outcome: outcome.as_str().to_owned(),
        ends_at: found.ends_at,
    };
    Ok(match answer.outcome {
        None | Some(Outcome::Unknown) => RecordedAnswer::Open(said(Outcome::Unknown)),
        Some(outcome) => RecordedAnswer::Ended(said(outcome)),
    })
}
