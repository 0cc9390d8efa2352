//! The platform's side of a run: the calls that arrive, the faults, and the events that are pushed.

use std::time::Duration;

use doorman::model::{Answer, ConnectFailure, ConnectPlan, RefusedBy, RequestId};
use doorman::platform::{CallError, CallFault, Reply, Responded};
use serde_json::{Value, json};

use super::events::{Call, CoreInput, SimEvent};
use super::platform::{Holder, Socket};
use super::schedule::WorldEvent;
use super::world::{AGENT, PAGE, SimWorld};

fn error(fault: CallFault, retry_after: Option<Duration>) -> CallError {
    CallError { fault, code: None, message: None, retry_after }
}

fn refusal(status: Option<u16>) -> ConnectFailure {
    ConnectFailure {
        status,
        code: status.filter(|status| *status == 409).map(|_| "connection_conflict".to_owned()),
        by: if status.is_some() { RefusedBy::Empty } else { RefusedBy::Unknown },
        retry_after: None,
        asked: false,
        why: "refused".to_owned(),
    }
}

impl SimWorld {
    pub fn server(&mut self, call: Call, life: u64) {
        match call {
            Call::Connect(conn, plan) => self.upgrade(conn, plan, life),
            Call::Text(conn, text) => self.text(conn, &text, life),
            Call::Close(conn) => self.client_closed(conn, life),
            Call::Me { question, foreign } => self.says_me(question, foreign, life),
            Call::Page(fetch) => {
                let rate = self.rates.stale;
                let stale = self.chance(rate) && self.platform.stale.is_some();
                let result = match self.passing() {
                    Some(error) => Err(error),
                    None => Ok(self.platform.page(fetch.page, PAGE, stale)),
                };
                if stale && result.is_ok() {
                    self.saw("stale page");
                    self.platform.stale_at = self.at;
                }
                if fetch.page > 1 && result.as_ref().is_ok_and(|page| page.items.is_empty()) {
                    self.saw("page cut short of what was asked, by a shift");
                }
                let reply = Reply { result, date: Some(self.true_wall()) };
                self.back(life, CoreInput::Page(fetch, reply));
            }
            Call::Contacts(call, number) => {
                let page = self.platform.contacts_page(number, PAGE);
                let result = self.passing().map_or(Ok(page), Err);
                let reply = Reply { result, date: Some(self.true_wall()) };
                self.back(life, CoreInput::Contacts(call, reply));
            }
            Call::Remove(contact) => {
                let result = self.removes(contact.as_str());
                let reply = Reply { result, date: Some(self.true_wall()) };
                self.back(life, CoreInput::Removed(contact, reply));
            }
            Call::Respond { request, answer, attempt, written } => {
                if life != self.life.number {
                    self.saw("answer on its way when the daemon died");
                }
                let result = self.respond(&request, answer);
                let reply = Reply { result, date: Some(self.true_wall()) };
                self.back(life, CoreInput::Responded { request, attempt, reply, written });
            }
        }
    }

    /// A fault that may happen to any call before it is carried out.
    pub fn passing(&mut self) -> Option<CallError> {
        if !self.key_good {
            self.saw("key refused");
            return Some(error(CallFault::KeyRefused, None));
        }
        let rates = self.rates.clone();
        if self.chance(rates.unreachable) {
            self.saw("unreachable");
            return Some(error(CallFault::Unreachable, None));
        }
        if self.chance(rates.lost_call) {
            self.saw("reply lost");
            return Some(error(CallFault::NoAnswer, None));
        }
        if self.chance(rates.failed) {
            let wait = self.rng.bool().then(|| Duration::from_secs(self.rng.u64(1..20)));
            return Some(error(CallFault::Passing(503), wait));
        }
        if self.chance(rates.throttled) {
            self.saw("throttled");
            return Some(error(CallFault::Throttled, Some(Duration::from_secs(self.rng.u64(1..30)))));
        }
        None
    }

    fn respond(&mut self, id: &RequestId, answer: Answer) -> Result<Responded, CallError> {
        let rates = self.rates.clone();
        if let Some(error) = self.passing() {
            return Err(error);
        }
        if self.chance(rates.forbidden) {
            self.saw("forbidden");
            return Err(error(CallFault::Forbidden, None));
        }
        if self.chance(rates.malformed) {
            self.saw("malformed");
            return Err(error(CallFault::Malformed(422), None));
        }
        let done = self.platform.respond(id.as_str(), answer, self.true_wall());
        if done.is_ok() {
            self.summary.answers += 1;
            self.platform.removed_at = self.at;
            self.unnamed(id.as_str());
            if answer == Answer::Approve {
                self.truth_welcomes(id);
            }
            self.tell_end(id.as_str());
        } else if self.platform.sent_requests.get(id.as_str()).is_some_and(|sent| sent.status == "cancelled") {
            self.saw("answer cancelled by its sender meanwhile");
        }
        let failed = if self.chance(rates.lost_reply) {
            self.saw("reply lost");
            CallFault::NoAnswer
        } else if self.chance(rates.failed_after) {
            CallFault::Passing(502)
        } else {
            return done;
        };
        if done.is_ok() {
            self.saw("answer applied, reported failed");
        }
        Err(error(failed, None))
    }

    /// The way back, in no fixed order; a lost reply becomes a timeout, which the daemon notices late.
    pub fn back(&mut self, life: u64, owned: CoreInput) {
        let lost = match &owned {
            CoreInput::Page(_, Reply { result: Err(error), .. }) => error.fault == CallFault::NoAnswer,
            CoreInput::Removed(_, Reply { result: Err(error), .. }) => error.fault == CallFault::NoAnswer,
            CoreInput::Responded { reply: Reply { result: Err(error), .. }, .. } => error.fault == CallFault::NoAnswer,
            _ => false,
        };
        let rate = self.rates.late_reply;
        let wait = if lost || self.chance(rate) {
            self.saw("reply late");
            Duration::from_millis(self.rng.u64(50..15_000))
        } else {
            Duration::from_micros(self.rng.u64(100..60_000))
        };
        self.later(life, wait, owned);
    }

    fn later(&mut self, life: u64, wait: Duration, owned: CoreInput) {
        if life == self.life.number {
            self.schedule(self.at + wait, SimEvent::Core(owned));
        }
    }

    fn upgrade(&mut self, conn: u64, plan: ConnectPlan, life: u64) {
        if life != self.life.number {
            return self.saw("crash while dialling");
        }
        let rate = self.rates.upgrade;
        if !self.key_good {
            return self.back(life, CoreInput::NotOpened(conn, refusal(Some(401))));
        }
        if self.chance(rate) {
            self.saw("dial failed");
            let status = self.rng.choice([None, Some(500), Some(503), Some(403)]).unwrap_or(None);
            return self.back(life, CoreInput::NotOpened(conn, refusal(status)));
        }
        let ghost = self.platform.ghost_until.is_some_and(|until| until > self.at);
        let rival = self.platform.holder == Some(Holder::Rival);
        if (ghost || rival) && !plan.take && !self.platform.old {
            if ghost {
                self.saw("ghost in the way");
            }
            return self.back(life, CoreInput::NotOpened(conn, refusal(Some(409))));
        }
        if rival && self.platform.rival == Some(true) {
            self.saw("clients fight");
            let wait = Duration::from_millis(self.rng.u64(500..30_000));
            self.happens_in(wait, WorldEvent::RivalAgain);
        }
        self.half_open = false;
        self.platform.ghost_until = None;
        self.platform.holder = Some(Holder::Daemon(Socket { life, conn, join: None, control: None }));
        self.last_push = self.at;
        self.back_in_order(CoreInput::Opened(conn));
    }

    fn back_in_order(&mut self, owned: CoreInput) {
        let wait = Duration::from_micros(self.rng.u64(10..3_000));
        let at = self.last_push.max(self.at) + wait;
        self.last_push = at;
        self.schedule(at, SimEvent::Core(owned));
    }

    fn text(&mut self, conn: u64, text: &str, life: u64) {
        let Some(Holder::Daemon(mut socket)) = self.platform.holder.clone() else { return };
        if socket.conn != conn || socket.life != life || self.half_open {
            return;
        }
        let joining = text.contains("phx_join") && text.contains("agent_contacts");
        let (join, cut) = (self.rates.join, self.rates.cut);
        if self.chance(cut) {
            let ghost = self.rng.bool();
            return self.end_socket(None, ghost);
        }
        if joining && self.chance(join) {
            return self.saw("join unanswered");
        }
        if joining && socket.join.is_some() && self.life.told_join == socket.join.clone().map(|join| (conn, join)) {
            self.fail("joined again, though the join stands and was answered");
        }
        let frames = self.platform.frame(&mut socket, text, AGENT);
        if joining && life == self.life.number {
            self.life.joined_at = Some(self.at);
        }
        self.platform.holder = Some(Holder::Daemon(socket));
        for frame in frames {
            self.frame(conn, frame);
        }
        if joining && self.flapping {
            self.saw("flapping");
            self.end_socket(Some(1011), false);
        }
    }

    fn client_closed(&mut self, conn: u64, life: u64) {
        if matches!(&self.platform.holder, Some(Holder::Daemon(socket)) if socket.conn == conn && socket.life == life) {
            self.platform.holder = None;
            // What ends a connection that is dead does not arrive.
            if std::mem::take(&mut self.half_open) {
                self.platform.ghost_until = Some(self.at + Duration::from_secs(self.rng.u64(5..60)));
            }
        }
    }

    /// The platform's side of the socket ends.
    pub fn end_socket(&mut self, code: Option<u16>, ghost: bool) {
        let Some(Holder::Daemon(socket)) = self.platform.holder.take() else { return };
        if ghost {
            self.platform.ghost_until = Some(self.at + Duration::from_secs(self.rng.u64(5..60)));
        }
        if socket.life == self.life.number && !self.half_open {
            self.back_in_order(CoreInput::Closed(socket.conn, code));
        }
    }

    /// Another client takes the connection: the client that had it is informed, or on an older platform only closed.
    pub fn rival_takes(&mut self) {
        if let Some(Holder::Daemon(Socket { conn, control: Some(control), .. })) = self.platform.holder.clone()
            && !self.half_open
        {
            self.saw("superseded");
            let frame = json!([control, null, format!("agent_control:{AGENT}"), "supersede", {"reason": "superseded"}]);
            self.frame(conn, frame.to_string());
        }
        self.end_socket(Some(1000), false);
        self.platform.holder = Some(Holder::Rival);
    }

    /// Pushes an event, if somebody has joined.
    pub fn push(&mut self, event: &str, payload: &Value) {
        let Some(Holder::Daemon(socket)) = self.platform.holder.clone() else { return };
        let Some(join) = socket.join.clone() else { return };
        if self.half_open || socket.life != self.life.number {
            return;
        }
        let join = if self.rng.bool() { json!(join) } else { Value::Null };
        let frame = json!([join, null, format!("agent_contacts:{AGENT}"), event, payload]).to_string();
        self.frame(socket.conn, frame);
    }

    /// A frame to the daemon: lost, broken, doubled, late, or just in order.
    fn frame(&mut self, conn: u64, mut text: String) {
        let heard = |socket: &Socket| socket.conn == conn && socket.life == self.life.number;
        if !matches!(&self.platform.holder, Some(Holder::Daemon(socket)) if heard(socket)) {
            return;
        }
        let rates = self.rates.clone();
        if self.chance(rates.frame_lost) {
            return self.saw("frame lost");
        }
        if self.chance(rates.frame_broken) {
            self.saw("frame broken");
            text.truncate(text.len() / 2);
        }
        self.frames.0 += 1;
        let number = self.frames.0;
        if self.chance(rates.frame_doubled) {
            self.saw("frame doubled");
            self.back_in_order(CoreInput::Frame(conn, text.clone(), number));
        }
        if self.chance(rates.frame_late) {
            self.saw("frame late");
            let wait = Duration::from_millis(self.rng.u64(1..5_000));
            self.schedule(self.at + wait, SimEvent::Core(CoreInput::Frame(conn, text, number)));
        } else {
            self.back_in_order(CoreInput::Frame(conn, text, number));
        }
    }

    /// The channel pushes an event about a contact.
    pub fn tell_contact(&mut self, id: &str) {
        let fellow = self.platform.contacts.iter().find(|fellow| fellow.id == id);
        if let Some(payload) = fellow.map(|fellow| fellow.payload()) {
            self.push("contact_added", &payload);
        }
    }

    /// All clients concerned get an event that says how a request ended.
    pub fn tell_end(&mut self, id: &str) {
        let Some(sent) = self.platform.sent_requests.get(id).cloned() else { return };
        self.push("contact_request_updated", &json!({"id": id, "status": sent.status}));
        if sent.status == "approved" {
            self.tell_contact(&format!("contact-{id}"));
        }
    }

    /// The channel's process crashes; the socket lives.
    pub fn crash_channel(&mut self) {
        let Some(Holder::Daemon(mut socket)) = self.platform.holder.clone() else { return };
        let Some(join) = socket.join.take() else { return };
        self.saw("channel crashed");
        let conn = socket.conn;
        self.platform.holder = Some(Holder::Daemon(socket));
        if !self.half_open {
            let frame = json!([join, join, format!("agent_contacts:{AGENT}"), "phx_error", {}]).to_string();
            self.frame(conn, frame);
        }
    }
}
