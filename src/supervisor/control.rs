//! Answers the questions of the control socket with the help of the agents' tasks.

mod finding;
mod forwarding;
mod revoking;
mod taken_commands;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::timeout;

use forwarding::{FoundGuest, FoundRequest};
pub(super) use taken_commands::take_given;

use super::SupervisorShared;
use super::agents::SupervisedAgent;
use crate::agent::shell::AgentCommand;
use crate::agent::{OpOutcome, PersonCommand};
use crate::ledger::{LedgerAddress, LedgerHealth};
use crate::model::{AgentId, AgentState, Person, PersonTarget, RequestId, StrangerText, Verdict};
use crate::ops::control::wire::{
    AgentStatus, AgentsDone, ControlCall, ControlOp, DaemonStatus, DoubtList, DoubtRow, DoubtSettled, LoggedOut,
    Notified, OpError, OpReply, PendingList, PendingRow, RemovedEntries, ServingProblem, UnknownAgent,
};
use crate::ops::serving::addresses::ServiceAddresses;
use crate::page::Logins;
use crate::policy::Shrunk;
use crate::policy::doubts::{DoubtSettlement, Fact};

/// Longest wait for the outcome of an answer; longer than one call may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);

fn error(code: &str, message: impl Into<String>) -> OpError {
    OpError { code: code.to_owned(), message: message.into() }
}

/// What is said if an agent's task ended before it could reply: nobody knows whether it was done.
const RESTARTING: &str = "restarting";

fn restarting() -> OpError {
    error(RESTARTING, "the agent's task is being restarted: ask again")
}

fn unserved(addresses: &ServiceAddresses) -> Vec<ServingProblem> {
    addresses.problems().into_iter().map(|(address, problem)| ServingProblem { address, problem }).collect()
}

impl SupervisorShared {
    /// Answers one call. The client may have gone already.
    pub(super) async fn call(&self, call: ControlCall) {
        let reply = match call.op {
            ControlOp::Status => Ok(OpReply::Status(self.status().await)),
            ControlOp::Pending { agent } => self.pending(agent.as_ref()).await,
            op @ (ControlOp::Answer { .. }
            | ControlOp::Revoke { .. }
            | ControlOp::Doubts { .. }
            | ControlOp::Settle { .. }
            | ControlOp::Pause { .. }
            | ControlOp::Resume { .. }) => self.of_agents(op, &call.person).await,
            ControlOp::Reload { accept_shrunk, removed } => {
                let shrunk = match removed {
                    Some(RemovedEntries { file, entries }) if !accept_shrunk => {
                        Shrunk::Removed { files: vec![file], entries }
                    }
                    Some(_) | None => Shrunk::accepted(accept_shrunk),
                };
                Ok(OpReply::Reloaded(self.reload(&format!("person:{}", call.person), shrunk).await))
            }
            ControlOp::NotifyTest { target } => self
                .notify
                .test(&target)
                .await
                .map(|()| OpReply::Notified(Notified { target }))
                .map_err(|problem| error("notify", problem.to_string())),
            ControlOp::NotifyRetry { target } => self
                .notify
                .retry(&target)
                .map(|()| OpReply::Notified(Notified { target }))
                .map_err(|problem| error("notify", problem.to_string())),
            ControlOp::PageLogin { name } => match self.logins() {
                Ok(logins) => logins
                    .invite(&name, &call.person)
                    .await
                    .map(OpReply::PageLink)
                    .map_err(|problem| error("page", problem)),
                Err(problem) => Err(problem),
            },
            ControlOp::PageLogout { name } => match self.logins() {
                Ok(logins) => logins
                    .leave(name.as_deref(), &call.person)
                    .await
                    .map(|ended| OpReply::LoggedOut(LoggedOut { ended }))
                    .map_err(|problem| error("page", problem)),
                Err(problem) => Err(problem),
            },
        };
        let _ = call.reply.send(reply);
    }

    /// What concerns agents.
    async fn of_agents(&self, op: ControlOp, person: &Person) -> Result<OpReply, OpError> {
        match op {
            ControlOp::Answer { verdict, target, agent, for_ms, exact } => {
                let lasts = for_ms.map(|ms| SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX)));
                let lasts = lasts.filter(SignedDuration::is_positive);
                let meant = match RequestId::parse(&target) {
                    Ok(id) if exact => PersonTarget::Id(id),
                    Ok(_) | Err(_) => PersonTarget::parse(&target),
                };
                self.answer(verdict, lasts, (&target, meant), agent.as_ref(), person).await
            }
            ControlOp::Revoke { contacts } => self.revoke(contacts, person).await,
            ControlOp::Doubts { agent } => match self.elsewhere_alone(agent.as_ref())? {
                Some(agent) => self.ask_holder(&agent, ControlOp::Doubts { agent: Some(agent.clone()) }, person).await,
                None => self.doubts(agent.as_ref()).await.map(|doubts| OpReply::Doubts(DoubtList { doubts })),
            },
            ControlOp::Settle { target, said, agent } => self.settle(&target, said, agent.as_ref(), person).await,
            ControlOp::Pause { agent } => self.everywhere(PersonCommand::Pause, agent.as_ref(), person).await,
            ControlOp::Resume { agent } => self.everywhere(PersonCommand::Resume, agent.as_ref(), person).await,
            ControlOp::Status
            | ControlOp::Pending { .. }
            | ControlOp::Reload { .. }
            | ControlOp::NotifyTest { .. }
            | ControlOp::NotifyRetry { .. }
            | ControlOp::PageLogin { .. }
            | ControlOp::PageLogout { .. } => Err(error("failed", "this concerns no agent")),
        }
    }

    fn logins(&self) -> Result<&Logins, OpError> {
        self.page.as_ref().ok_or_else(|| {
            error("page", "this doorman serves no page: `[page]` in its configuration says where, see docs/page.md")
        })
    }

    /// The members that are meant: this one, or all.
    fn chosen(&self, agent: Option<&AgentId>) -> Result<Vec<Arc<SupervisedAgent>>, OpError> {
        let all = self.members.all();
        let chosen: Vec<Arc<SupervisedAgent>> =
            all.iter().filter(|member| agent.is_none_or(|agent| member.id == *agent)).cloned().collect();
        match agent {
            Some(agent) if chosen.is_empty() => {
                Err(error("no-agent", format!("no agent `{agent}` is configured: `doorman status` lists them")))
            }
            Some(_) | None => Ok(chosen),
        }
    }

    pub(super) async fn status(&self) -> DaemonStatus {
        let mut agents = Vec::new();
        for member in self.members.all().iter() {
            let asked = match member.handle.load_full() {
                Some(handle) => handle.ask(AgentCommand::Status).await,
                None => None,
            };
            match asked {
                Some(status) => agents.push(status),
                None => agents.push(self.without_task(member)),
            }
        }
        let counters = self.members.counters().into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        let ledger = match &*self.around.ledger.health().borrow() {
            LedgerHealth::Ok => "ok".to_owned(),
            LedgerHealth::Blocked { why, .. } => format!("blocked: {why}"),
        };
        let policies = self.policies_status();
        let (version, configuration) = (env!("CARGO_PKG_VERSION").to_owned(), self.settings_watch.status());
        let notify = self.notify.status();
        let page = self.page.iter().flat_map(|logins| unserved(logins.addresses())).collect();
        let metrics = unserved(&self.metrics);
        DaemonStatus { version, agents, configuration, policies, ledger, notify, page, metrics, counters }
    }

    /// The status of an agent that has no task here: it is being started, or another doorman answers for it.
    fn without_task(&self, member: &SupervisedAgent) -> AgentStatus {
        match member.board.latest() {
            Some(board) if board.status.state == AgentState::Elsewhere => board.status.clone(),
            Some(_) | None => self.starting(member),
        }
    }

    /// The status of an agent whose task is just being started.
    pub(super) fn starting(&self, member: &SupervisedAgent) -> AgentStatus {
        let since = self.around.clock.now().wall;
        AgentStatus { why: "its task is being started".to_owned(), ..AgentStatus::starting(member.id.clone(), since) }
    }

    async fn pending(&self, agent: Option<&AgentId>) -> Result<OpReply, OpError> {
        let mut requests = self.rows(agent).await?;
        // A request that a rule would have answered, were it not for shadow mode, does not wait for a person; `status`
        // does not count it, either.
        for row in requests.iter_mut().filter(|row| row.stage == "deferred") {
            if row.verdict.is_some_and(|verdict| verdict != Verdict::Defer) {
                row.stage = "shadow".to_owned();
            }
        }
        let unknown = |member: &SupervisedAgent, why: String| UnknownAgent { agent: member.id.clone(), why };
        let without_task = self.chosen(agent)?.into_iter().filter(|member| member.handle.load().is_none());
        let (others, starting): (Vec<Arc<SupervisedAgent>>, Vec<Arc<SupervisedAgent>>) =
            without_task.partition(|member| self.is_elsewhere(member));
        let starting = starting.iter().map(|member| unknown(member, self.without_task(member).why));
        let mut pending = PendingList { requests: Vec::new(), unknown: starting.collect(), more: 0 };
        match self.recorded(&others, None).await {
            Ok((rows, more)) => {
                requests.extend(rows);
                pending.more = more;
            }
            Err(problem) => {
                let why =
                    |member: &SupervisedAgent| format!("{}, and {}", self.without_task(member).why, problem.message);
                pending.unknown.extend(others.iter().map(|member| unknown(member, why(member))));
            }
        }
        requests.sort_by_key(|row| row.inserted_at.unwrap_or(row.first_seen));
        pending.requests = requests;
        Ok(OpReply::Pending(pending))
    }

    async fn answer(
        &self,
        verdict: Verdict,
        lasts: Option<SignedDuration>,
        target: (&str, PersonTarget),
        agent: Option<&AgentId>,
        person: &Person,
    ) -> Result<OpReply, OpError> {
        let lasts = lasts.filter(|_| verdict == Verdict::Approve);
        let meant = target.1.clone();
        let for_ms = lasts.and_then(|lasts| u64::try_from(lasts.as_millis()).ok());
        let to_holder = |agent: &AgentId, target: String, exact: bool| ControlOp::Answer {
            verdict,
            target,
            agent: Some(agent.clone()),
            for_ms,
            exact,
        };
        let (handle, op) = match self.find(target, agent, lasts.is_some()).await {
            Ok(FoundRequest::Here(handle, request)) => (handle, PersonCommand::Answer { verdict, request, lasts }),
            Ok(FoundRequest::There(agent, request)) => {
                return self.ask_holder(&agent, to_holder(&agent, request.to_string(), true), person).await;
            }
            // An approved guest may get a longer time, or a contact without an end. That does not work by the id of a
            // request: a person who types it has seen the request pending, and does not know of an end that somebody
            // else has set since then.
            Err(nobody)
                if verdict == Verdict::Approve && nobody.code == "gone" && matches!(meant, PersonTarget::Handle(_)) =>
            {
                match self.find_guest(&meant, agent).await?.ok_or(nobody)? {
                    FoundGuest::Here(handle, request) => (handle, PersonCommand::MoveEnd { request, lasts }),
                    FoundGuest::There(agent, theirs) => {
                        return self.ask_holder(&agent, to_holder(&agent, format!("@{theirs}"), false), person).await;
                    }
                }
            }
            Err(other) => return Err(other),
        };
        let person = person.clone();
        let asked = handle.ask(|reply| AgentCommand::Op { op, person, reply });
        let Ok(outcome) = timeout(ANSWER_MAX, asked).await else {
            let why =
                handle.ask(AgentCommand::Status).await.map(|status| format!(" ({}: {})", status.state, status.why));
            let message = format!(
                "it could not be sent within {} s{}: it is kept, and goes out as soon as it can; `doorman history` says later what became \
                 of it",
                ANSWER_MAX.as_secs(),
                why.unwrap_or_default()
            );
            return Err(error("waits", message));
        };
        match outcome {
            Some(OpOutcome::Answered(answered)) => Ok(OpReply::Answered(answered.into())),
            Some(OpOutcome::Failed(why)) => Err(why.into()),
            Some(OpOutcome::Settled(_) | OpOutcome::Done) | None => Err(restarting()),
        }
    }

    /// The one pending request that is meant.
    async fn find(
        &self,
        (target, meant): (&str, PersonTarget),
        agent: Option<&AgentId>,
        for_a_time: bool,
    ) -> Result<FoundRequest, OpError> {
        let mut found = Vec::new();
        let chosen = self.chosen(agent)?;
        for member in &chosen {
            let Some(handle) = member.handle.load_full() else { continue };
            let target = meant.clone();
            let ids = handle.ask(|reply| AgentCommand::Find { target, reply }).await.unwrap_or_default();
            found.extend(ids.into_iter().map(|id| FoundRequest::Here(handle.clone(), id)));
        }
        let others: Vec<Arc<SupervisedAgent>> = chosen.into_iter().filter(|member| self.is_elsewhere(member)).collect();
        let (there, more) = self.recorded(&others, Some(&meant)).await?;
        if more > 0 {
            return Err(error("ambiguous", "it could be very many requests: say which by its id, or of which agent"));
        }
        for row in &there {
            found.extend(RequestId::parse(&row.request).map(|id| FoundRequest::There(row.agent.clone(), id)));
        }
        // A complete id means that request, even if it is somebody's handle on another agent.
        if let Some(id) = meant.id()
            && found.iter().any(|found| *found.request() == id)
        {
            found.retain(|found| *found.request() == id);
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(self.nothing_pending(target, agent, for_a_time).await?),
            _ => {
                let ids: Vec<&RequestId> = found.iter().map(FoundRequest::request).collect();
                let mut rows = self.rows(agent).await?;
                rows.extend(there);
                let meant = rows.iter().filter(|row| ids.iter().any(|id| id.as_str() == row.request));
                let now = self.around.clock.now().wall;
                Err(error("ambiguous", finding::ambiguous(target, &meant.collect::<Vec<_>>(), now)))
            }
        }
    }

    /// The one guest that is meant, if there is one.
    async fn find_guest(&self, meant: &PersonTarget, agent: Option<&AgentId>) -> Result<Option<FoundGuest>, OpError> {
        let mut found = Vec::new();
        let chosen = self.chosen(agent)?;
        for member in &chosen {
            let Some(handle) = member.handle.load_full() else { continue };
            let target = meant.clone();
            let ids = handle.ask(|reply| AgentCommand::FindGuests { target, reply }).await.unwrap_or_default();
            found.extend(ids.into_iter().map(|id| FoundGuest::Here(handle.clone(), id)));
        }
        if let Some(handle) = meant.handle() {
            let others: Vec<Arc<SupervisedAgent>> =
                chosen.into_iter().filter(|member| self.is_elsewhere(member)).collect();
            let agents = self.recorded_guests(&others, &handle).await?;
            found.extend(agents.into_iter().map(|agent| FoundGuest::There(agent, handle.clone())));
        }
        if found.len() > 1 {
            let message =
                "several guests have this handle: say of which agent with `--agent`, `doorman contacts` lists them";
            return Err(error("ambiguous", message));
        }
        Ok(found.pop())
    }

    /// Why a target names no pending request: its handle cannot be typed, it was answered already, or there is none.
    async fn nothing_pending(
        &self,
        target: &str,
        agent: Option<&AgentId>,
        for_a_time: bool,
    ) -> Result<OpError, OpError> {
        let mut rows = self.rows(agent).await?;
        let others: Vec<Arc<SupervisedAgent>> =
            self.chosen(agent)?.into_iter().filter(|member| self.is_elsewhere(member)).collect();
        rows.extend(self.recorded(&others, None).await?.0);
        if let Some(message) = finding::not_typed(target, &rows) {
            return Ok(error("ambiguous", message));
        }
        let (path, wanted, agent) = (LedgerAddress::from(&self.settings.ledger), target.to_owned(), agent.cloned());
        let now = self.around.clock.now().wall;
        let said = tokio::task::spawn_blocking(move || finding::already(&path, &wanted, agent, for_a_time, now)).await;
        let message = said.ok().flatten().unwrap_or_else(|| {
            let target = StrangerText::new(target).shown(150);
            format!("nothing pending has the id or handle `{target}`: `doorman pending` lists what is")
        });
        Ok(error("gone", message))
    }

    async fn rows(&self, agent: Option<&AgentId>) -> Result<Vec<PendingRow>, OpError> {
        let mut rows = Vec::new();
        for member in self.chosen(agent)? {
            if let Some(handle) = member.handle.load_full() {
                rows.extend(handle.ask(AgentCommand::Pending).await.unwrap_or_default());
            }
        }
        Ok(rows)
    }

    async fn doubts(&self, agent: Option<&AgentId>) -> Result<Vec<DoubtRow>, OpError> {
        let mut doubts = Vec::new();
        for member in self.chosen(agent)? {
            if let Some(handle) = member.handle.load_full() {
                doubts.extend(handle.ask(AgentCommand::Doubts).await.unwrap_or_default());
            }
        }
        Ok(doubts)
    }

    /// A person settles a doubt; if several agents have such a doubt, the person must name the agent.
    async fn settle(
        &self,
        target: &str,
        said: DoubtSettlement,
        agent: Option<&AgentId>,
        person: &Person,
    ) -> Result<OpReply, OpError> {
        if let Some(agent) = self.elsewhere_alone(agent)? {
            let op = ControlOp::Settle { target: target.to_owned(), said, agent: Some(agent.clone()) };
            return self.ask_holder(&agent, op, person).await;
        }
        let rows = self.doubts(agent).await?;
        let target = match said.fact() {
            Fact::Rejected => {
                finding::doubted(PersonTarget::parse(target), &rows).map_err(|why| error("ambiguous", why))?
            }
            Fact::Removed | Fact::Identity | Fact::Approved => PersonTarget::parse(target),
        };
        let owner = target.handle().map(|handle| handle.owner().to_owned());
        let id = target.id();
        let about = |row: &DoubtRow| match said.fact() {
            Fact::Rejected => id.as_ref().is_some_and(|id| row.subject == id.as_str()),
            Fact::Removed | Fact::Identity | Fact::Approved => owner.as_ref().is_some_and(|owner| row.owner == *owner),
        };
        // What is said of a request also says whether it was approved.
        let of = |row: &DoubtRow| {
            row.fact == said.fact().as_str() || (said.fact() == Fact::Rejected && row.fact == Fact::Approved.as_str())
        };
        let meant = rows.iter().filter(|row| of(row) && about(row));
        let agents: BTreeSet<&AgentId> = meant.map(|row| &row.agent).collect();
        let mut agents = agents.into_iter();
        // The board does not have all rows: if only one agent is meant, the agent itself is asked.
        let chosen = self.chosen(agent)?;
        let (one, more) = match &chosen[..] {
            [only] => (Some(&only.id), None),
            _ => (agents.next(), agents.next()),
        };
        if more.is_some() {
            let message = "several agents have such a doubt: say which with `--agent`, `doorman doubts` lists them";
            return Err(error("ambiguous", message));
        }
        let handle = self.chosen(one)?.into_iter().find(|member| one == Some(&member.id));
        let Some(handle) = handle.and_then(|member| member.handle.load_full()) else {
            let others = self.members.all().iter().filter(|member| self.is_elsewhere(member)).count();
            let beside = match others {
                0 => "",
                _ => "; of an agent that another doorman holds, say which with `--agent`",
            };
            let message = format!("no such doubt: `doorman doubts` lists what may have happened unseen{beside}");
            return Err(error("gone", message));
        };
        let (op, person) = (PersonCommand::Settle { target, said }, person.clone());
        match handle.ask(|reply| AgentCommand::Op { op, person, reply }).await {
            Some(OpOutcome::Settled(ended)) => {
                Ok(OpReply::Settled(DoubtSettled { ended: ended.into_iter().map(Into::into).collect() }))
            }
            Some(OpOutcome::Failed(why)) => Err(why.into()),
            Some(OpOutcome::Answered(_) | OpOutcome::Done) | None => Err(restarting()),
        }
    }

    async fn everywhere(
        &self,
        op: PersonCommand,
        agent: Option<&AgentId>,
        person: &Person,
    ) -> Result<OpReply, OpError> {
        let mut done = AgentsDone { agents: Vec::new(), failed: Vec::new() };
        let chosen = self.chosen(agent)?;
        for member in &chosen {
            let Some(handle) = member.handle.load_full() else { continue };
            let (op, person) = (op.clone(), person.clone());
            if handle.ask(|reply| AgentCommand::Op { op, person, reply }).await.is_some() {
                done.agents.push(member.id.clone());
            }
        }
        let others = chosen.into_iter().filter(|member| self.is_elsewhere(member));
        let to_holder = |member: Arc<SupervisedAgent>| {
            let agent = Some(member.id.clone());
            let op = if op == PersonCommand::Pause { ControlOp::Pause { agent } } else { ControlOp::Resume { agent } };
            (member.id.clone(), op)
        };
        for (agent, reply) in self.ask_holders(others.map(to_holder).collect(), person).await {
            match reply {
                Ok(_) => done.agents.push(agent),
                Err(problem) => done.failed.push(format!("{agent}: {}", problem.message)),
            }
        }
        match done.failed.len() {
            // The one that was named.
            1 if agent.is_some() => Err(error("busy", done.failed.remove(0))),
            _ => Ok(OpReply::Done(done)),
        }
    }
}
