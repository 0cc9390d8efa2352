//! The platform's side: the calls that arrive, who has the connection of each agent, and what is pushed.

use std::time::Duration;

use doorman::model::{Answer, ConnectPlan, RequestId, Sender};
use doorman::platform::{CallError, CallFault, Me, Reply, Responded};
use serde_json::{Value, json};

use super::super::events::{Call, CoreInput};
use super::super::platform::{Holder, PlatformModel, SentRequest, Socket};
use super::agents::{failed, refused};
use super::evening::{Evening, Step};
use super::rules::Kind;

/// Rows a page.
const PAGE: usize = 4;
/// A socket from which nothing comes is closed after this long.
const SILENT: Duration = Duration::from_secs(60);
/// A call without a reply is given up after this long.
const TIMEOUT: Duration = Duration::from_secs(15);

/// An agent's place on the platform.
#[derive(Debug, Default)]
pub struct AgentServer {
    pub platform: PlatformModel,
    /// When something came from the socket, and when its last frame comes or goes.
    heard: Duration,
    /// The last that were refused met the connection of a doorman that had lost the agent to them, and woke later and kept it alive.
    pub kept_by_older: bool,
    /// Whose connection the platform still counts.
    ghost_of: u64,
    pub last: Duration,
    pub kinds: Vec<Kind>,
}

impl Evening {
    /// Whose task this is: its doorman, if it still runs.
    fn doorman_of(&self, agent: usize, task: u64) -> Option<usize> {
        self.doormen
            .iter()
            .position(|doorman| doorman.runs[agent].task.as_ref().is_some_and(|running| running.number == task))
    }

    /// A stranger asks.
    pub fn requests(&mut self, agent: usize, kind: Kind) {
        let door = &mut self.doors[agent];
        let number = door.kinds.len();
        door.kinds.push(kind);
        let (id, handle) = (format!("r{number}"), Some(kind.handle(number)));
        let sent = SentRequest {
            number,
            versions: Vec::new(),
            handle,
            message: None,
            inserted_at: self.origin + self.at,
            returned: false,
            status: "pending",
            taken: None,
            bound: None,
            uncertain: 0,
            kind: 0,
            at: self.at,
        };
        let payload = sent.payload(&id);
        door.platform.sent_requests.insert(id, sent);
        self.summary.sent_requests += 1;
        self.tells(agent, "contact_request_received", &payload);
    }

    pub fn server(&mut self, agent: usize, task: u64, call: Call) {
        match call {
            Call::Connect(conn, plan) => self.upgrade(agent, task, conn, plan),
            Call::Text(conn, text) => self.text(agent, task, conn, &text),
            Call::Close(conn) => {
                let holder = &self.doors[agent].platform.holder;
                if matches!(holder, Some(Holder::Daemon(socket)) if socket.conn == conn && socket.life == task) {
                    self.doors[agent].platform.holder = None;
                }
            }
            Call::Me { question, foreign } => {
                let id = doorman::model::AgentId::parse(&self.agents[agent]).unwrap();
                let me = Me { id, sender: Sender::parse(Some("john/agent")), name: None, owner: None };
                let result = self.passes().map_or(Ok(me), Err);
                let reply = Reply { result, date: Some(self.true_wall()) };
                self.back(agent, task, CoreInput::Me { question, foreign, reply });
            }
            Call::Page(fetch) => {
                let page = self.doors[agent].platform.page(fetch.page, PAGE, false);
                let result = self.passes().map_or(Ok(page), Err);
                let reply = Reply { result, date: Some(self.true_wall()) };
                self.back(agent, task, CoreInput::Page(fetch, reply));
            }
            Call::Contacts(call, number) => {
                let page = self.doors[agent].platform.contacts_page(number, PAGE);
                let result = self.passes().map_or(Ok(page), Err);
                let reply = Reply { result, date: Some(self.true_wall()) };
                self.back(agent, task, CoreInput::Contacts(call, reply));
            }
            Call::Respond { request, answer, attempt, written } => {
                let result = self.responds(agent, task, &request, answer);
                let reply = Reply { result, date: Some(self.true_wall()) };
                self.back(agent, task, CoreInput::Responded { request, attempt, reply, written });
            }
            Call::Remove(_) => self.fail("a contact is removed"),
        }
    }

    /// What may happen to any call before it is carried out.
    fn passes(&mut self) -> Option<CallError> {
        let (unreachable, lost) = (self.rates.unreachable, self.rates.lost_call);
        let fault = if self.chance(unreachable) {
            CallFault::Unreachable
        } else if self.chance(lost) {
            CallFault::NoAnswer
        } else {
            return None;
        };
        self.saw("a call that never arrived");
        failed::<()>(fault).result.err()
    }

    fn responds(&mut self, agent: usize, task: u64, id: &RequestId, answer: Answer) -> Result<Responded, CallError> {
        if let Some(error) = self.passes() {
            return Err(error);
        }
        if self.doorman_of(agent, task).is_none() {
            self.saw("an answer that arrives after its task is gone");
        }
        self.truth_arrives(agent, id, answer);
        let now = self.true_wall();
        let done = self.doors[agent].platform.respond(id.as_str(), answer, now);
        if done.is_ok() {
            self.summary.answers += 1;
            let status = self.doors[agent].platform.sent_requests[id.as_str()].status;
            self.tells(agent, "contact_request_updated", &json!({"id": id.as_str(), "status": status}));
        }
        let lost = self.rates.lost_reply;
        if self.chance(lost) {
            self.saw("a reply lost");
            return failed(CallFault::NoAnswer).result;
        }
        done
    }

    /// The way back; a lost reply becomes a timeout, which is noticed late.
    fn back(&mut self, agent: usize, task: u64, owned: CoreInput) {
        let Some(doorman) = self.doorman_of(agent, task) else { return };
        let lost = match &owned {
            CoreInput::Page(_, reply) => reply.result.as_ref().err().map(|error| error.fault),
            CoreInput::Responded { reply, .. } => reply.result.as_ref().err().map(|error| error.fault),
            _ => None,
        };
        let wait = if lost == Some(CallFault::NoAnswer) { TIMEOUT } else { self.soon(60_000) };
        self.steps_in(doorman, wait, Step::Input(agent, task, owned));
    }

    /// Frames of one socket, and its end, keep their order.
    fn in_order(&mut self, agent: usize, task: u64, owned: CoreInput) {
        let Some(doorman) = self.doorman_of(agent, task) else { return };
        if self.doormen[doorman].no_platform {
            return;
        }
        let at = self.doors[agent].last.max(self.at) + self.soon(2_000);
        self.doors[agent].last = at;
        self.steps_in(doorman, at - self.at, Step::Input(agent, task, owned));
    }

    fn upgrade(&mut self, agent: usize, task: u64, conn: u64, plan: ConnectPlan) {
        if self.doorman_of(agent, task).is_none() {
            return;
        }
        self.silent(agent);
        let began = self
            .doorman_of(agent, task)
            .and_then(|doorman| self.run_of(doorman, agent).task.as_ref())
            .map(|task| task.began);
        let door = &mut self.doors[agent];
        let ghost = door.platform.ghost_until.is_some_and(|until| until > self.at);
        let other = matches!(&door.platform.holder, Some(Holder::Daemon(socket)) if socket.life != task);
        if (ghost || other) && !plan.take {
            let older = (ghost && door.ghost_of < task)
                || matches!(&door.platform.holder, Some(Holder::Daemon(socket)) if socket.life < task);
            door.kept_by_older = older && began.is_some_and(|began| door.heard > began);
            self.saw("another doorman's connection in the way");
            return self.in_order(agent, task, CoreInput::NotOpened(conn, refused(Some(409))));
        }
        door.platform.ghost_until = None;
        door.platform.holder = Some(Holder::Daemon(Socket { life: task, conn, join: None, control: None }));
        door.heard = self.at;
        self.in_order(agent, task, CoreInput::Opened(conn));
    }

    /// A socket from which nothing has come for too long is closed.
    fn silent(&mut self, agent: usize) {
        let door = &mut self.doors[agent];
        if self.at - door.heard > SILENT
            && let Some(Holder::Daemon(socket)) = door.platform.holder.take()
        {
            self.in_order(agent, socket.life, CoreInput::Closed(socket.conn, None));
        }
    }

    fn text(&mut self, agent: usize, task: u64, conn: u64, text: &str) {
        let Some(Holder::Daemon(mut socket)) = self.doors[agent].platform.holder.clone() else { return };
        if socket.conn != conn || socket.life != task {
            return;
        }
        let name = self.agents[agent].clone();
        let door = &mut self.doors[agent];
        door.heard = self.at;
        let frames = door.platform.frame(&mut socket, text, &name);
        door.platform.holder = Some(Holder::Daemon(socket));
        for frame in frames {
            self.in_order(agent, task, CoreInput::Frame(conn, frame, 0));
        }
    }

    /// An event to whoever has the connection, and has joined.
    fn tells(&mut self, agent: usize, event: &str, payload: &Value) {
        self.silent(agent);
        let Some(Holder::Daemon(socket)) = self.doors[agent].platform.holder.clone() else { return };
        let Some(join) = socket.join.clone() else { return };
        let frame = json!([join, null, format!("agent_contacts:{}", self.agents[agent]), event, payload]).to_string();
        self.in_order(agent, socket.life, CoreInput::Frame(socket.conn, frame, 0));
    }

    /// A task's socket is closed; `unseen`: the platform does not hear of it yet.
    pub fn socket_ends(&mut self, agent: usize, task: u64, unseen: bool) {
        let ghost = Duration::from_secs(self.rng.u64(5..60));
        let seen = self.rng.u8(..4) > 0 && !unseen;
        let door = &mut self.doors[agent];
        if matches!(&door.platform.holder, Some(Holder::Daemon(socket)) if socket.life == task) {
            door.platform.holder = None;
            if !seen {
                door.platform.ghost_until = Some(self.at + ghost);
                door.ghost_of = task;
            }
        }
    }
}
