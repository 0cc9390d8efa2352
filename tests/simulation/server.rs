//! The platform's side of a run: what arrives there, what goes wrong with it, and what is pushed.

use std::time::Duration;

use doorman::model::{AgentId, Contact, ContactId, ContactKind, RequestId, Sender};
use doorman::phoenix::{ConnectPlan, Refusal};
use doorman::platform::{CallError, CallFault, Me, Page, Reply};
use serde_json::{Value, json};

use super::platform::{Holder, Socket};
use super::world::{AGENT, Call, Owned, PAGE, What, World};

fn error(fault: CallFault, retry_after: Option<Duration>) -> CallError {
    CallError { fault, code: None, message: None, retry_after }
}

fn refusal(status: Option<u16>) -> Refusal {
    Refusal {
        status,
        code: status.filter(|status| *status == 409).map(|_| "connection_conflict".to_owned()),
        retry_after: None,
        why: "refused".to_owned(),
    }
}

impl World {
    pub(super) fn server(&mut self, call: Call, life: u64) {
        match call {
            Call::Connect(conn, plan) => self.upgrade(conn, plan, life),
            Call::Text(conn, text) => self.text(conn, &text, life),
            Call::Close(conn) => self.client_closed(conn, life),
            Call::Me => {
                let me =
                    Me { id: AgentId::parse(AGENT).unwrap(), sender: Sender::parse(Some("john/agent")), name: None };
                let result = self.passing().map_or(Ok(me), Err);
                let reply = Reply { result, date: Some(self.true_wall()) };
                self.back(life, Owned::Me(reply));
            }
            Call::Page(fetch) => {
                let rate = self.rates.stale;
                let stale = self.chance(rate);
                let result = match self.passing() {
                    Some(error) => Err(error),
                    None => Ok(self.platform.page(fetch.page, PAGE, stale)),
                };
                let reply = Reply { result, date: Some(self.true_wall()) };
                self.back(life, Owned::Page(fetch, reply));
            }
            Call::Contacts(call, page) => {
                let all = &self.platform.contacts;
                let from = (page as usize - 1) * PAGE;
                let items =
                    all.iter().skip(from).take(PAGE).map(|(id, handle)| contact(id, handle.as_deref())).collect();
                let pages = Some(all.len().div_ceil(PAGE).max(1) as u32);
                let page = Page { items, unreadable: 0, total: Some(all.len() as u64), pages };
                let result = self.passing().map_or(Ok(page), Err);
                let reply = Reply { result, date: Some(self.true_wall()) };
                self.back(life, Owned::Contacts(call, reply));
            }
            Call::Respond { request, answer, attempt, written } => {
                let result = self.respond(&request, answer);
                let reply = Reply { result, date: Some(self.true_wall()) };
                // A reply that is lost becomes a timeout; the daemon hears of it late.
                let late = matches!(&reply.result, Err(error) if error.fault == CallFault::NoAnswer);
                let owned = Owned::Responded { request, attempt, reply, written };
                if late {
                    let wait = Duration::from_millis(self.rng.u64(50..15_000));
                    self.later(life, wait, owned);
                } else {
                    self.back(life, owned);
                }
            }
        }
    }

    /// What may befall any reading call.
    fn passing(&mut self) -> Option<CallError> {
        if !self.key_good {
            return Some(error(CallFault::KeyRefused, None));
        }
        let rates = self.rates.clone();
        if self.chance(rates.unreachable) {
            return Some(error(CallFault::Unreachable, None));
        }
        if self.chance(rates.lost_reply) {
            return Some(error(CallFault::NoAnswer, None));
        }
        if self.chance(rates.failed) {
            return Some(error(CallFault::Passing(503), Some(Duration::from_secs(self.rng.u64(1..20)))));
        }
        if self.chance(rates.throttled) {
            return Some(error(CallFault::Throttled, Some(Duration::from_secs(self.rng.u64(1..30)))));
        }
        None
    }

    fn respond(
        &mut self,
        id: &RequestId,
        answer: doorman::model::Answer,
    ) -> Result<doorman::platform::Responded, CallError> {
        let rates = self.rates.clone();
        if !self.key_good {
            return Err(error(CallFault::KeyRefused, None));
        }
        if self.chance(rates.unreachable) {
            return Err(error(CallFault::Unreachable, None));
        }
        if self.chance(rates.lost_call) {
            return Err(error(CallFault::NoAnswer, None));
        }
        if self.chance(rates.failed) {
            return Err(error(CallFault::Passing(500), None));
        }
        if self.chance(rates.throttled) {
            return Err(error(CallFault::Throttled, Some(Duration::from_secs(self.rng.u64(1..30)))));
        }
        if self.chance(rates.forbidden) {
            return Err(error(CallFault::Forbidden, None));
        }
        if self.chance(rates.malformed) {
            return Err(error(CallFault::Malformed(422), None));
        }
        let done = self.platform.respond(id.as_str(), answer);
        if done.is_ok() {
            self.summary.answers += 1;
            self.tell_end(id.as_str());
        }
        if self.chance(rates.lost_reply) {
            return Err(error(CallFault::NoAnswer, None));
        }
        if self.chance(rates.failed_after) {
            return Err(error(CallFault::Passing(502), None));
        }
        done
    }

    fn back(&mut self, life: u64, owned: Owned) {
        let wait = Duration::from_micros(self.rng.u64(100..60_000));
        self.later(life, wait, owned);
    }

    fn later(&mut self, life: u64, wait: Duration, owned: Owned) {
        if life == self.life {
            self.schedule(self.at + wait, What::Core(owned));
        }
    }

    fn upgrade(&mut self, conn: u64, plan: ConnectPlan, life: u64) {
        if life != self.life {
            return;
        }
        let rate = self.rates.upgrade;
        if !self.key_good {
            return self.back(life, Owned::NotOpened(conn, refusal(Some(401))));
        }
        if self.chance(rate) {
            let status = self.rng.choice([None, Some(500), Some(503), Some(403)]).unwrap_or(None);
            return self.back(life, Owned::NotOpened(conn, refusal(status)));
        }
        let ghost = self.platform.ghost_until.is_some_and(|until| until > self.at);
        let rival = self.platform.holder == Some(Holder::Rival);
        if (ghost || rival) && !plan.take {
            return self.back(life, Owned::NotOpened(conn, refusal(Some(409))));
        }
        self.half_open = false;
        self.platform.ghost_until = None;
        self.platform.holder = Some(Holder::Daemon(Socket { life, conn, join: None, control: None }));
        self.last_push = self.at;
        self.back_in_order(Owned::Opened(conn));
    }

    fn back_in_order(&mut self, owned: Owned) {
        let wait = Duration::from_micros(self.rng.u64(10..3_000));
        let at = self.last_push.max(self.at) + wait;
        self.last_push = at;
        self.schedule(at, What::Core(owned));
    }

    fn text(&mut self, conn: u64, text: &str, life: u64) {
        let Some(Holder::Daemon(mut socket)) = self.platform.holder.clone() else { return };
        if socket.conn != conn || socket.life != life || self.half_open {
            return;
        }
        let joining = text.contains("phx_join") && text.contains("agent_contacts");
        let rate = self.rates.join;
        if joining && self.chance(rate) {
            return;
        }
        let frames = self.platform.frame(&mut socket, text, AGENT);
        self.platform.holder = Some(Holder::Daemon(socket));
        for frame in frames {
            self.back_in_order(Owned::Frame(conn, frame));
        }
    }

    fn client_closed(&mut self, conn: u64, life: u64) {
        if matches!(&self.platform.holder, Some(Holder::Daemon(socket)) if socket.conn == conn && socket.life == life) {
            self.platform.holder = None;
        }
    }

    /// The platform's side of the socket ends.
    pub(super) fn end_socket(&mut self, code: Option<u16>, ghost: bool) {
        let Some(Holder::Daemon(socket)) = self.platform.holder.take() else { return };
        if ghost {
            self.platform.ghost_until = Some(self.at + Duration::from_secs(self.rng.u64(5..60)));
        }
        if socket.life == self.life && !self.half_open {
            self.back_in_order(Owned::Closed(socket.conn, code));
        }
    }

    /// Pushes an event, if anybody is joined: lost, doubled, late or in order.
    pub(super) fn push(&mut self, event: &str, payload: &Value) {
        let Some(Holder::Daemon(socket)) = self.platform.holder.clone() else { return };
        let Some(join) = socket.join.clone() else { return };
        if self.half_open || socket.life != self.life {
            return;
        }
        let join = if self.rng.bool() { json!(join) } else { Value::Null };
        let frame = json!([join, null, format!("agent_contacts:{AGENT}"), event, payload]).to_string();
        let rates = self.rates.clone();
        if self.chance(rates.push_lost) {
            return;
        }
        if self.chance(rates.push_doubled) {
            self.back_in_order(Owned::Frame(socket.conn, frame.clone()));
        }
        if self.chance(rates.push_late) {
            let wait = Duration::from_millis(self.rng.u64(1..5_000));
            self.later(socket.life, wait, Owned::Frame(socket.conn, frame));
        } else {
            self.back_in_order(Owned::Frame(socket.conn, frame));
        }
    }

    /// Everybody concerned hears how a request ended.
    pub(super) fn tell_end(&mut self, id: &str) {
        let Some(knock) = self.platform.knocks.get(id).cloned() else { return };
        self.push("contact_request_updated", &json!({"id": id, "status": knock.status}));
        if knock.status == "approved" {
            let payload = json!({
                "id": format!("contact-{id}"), "type": "User", "inserted_at": self.true_wall().to_string(),
                "handle": knock.handle, "name": null,
            });
            self.push("contact_added", &payload);
        }
    }

    /// The channel's process crashes; the socket lives.
    pub(super) fn crash_channel(&mut self) {
        let Some(Holder::Daemon(mut socket)) = self.platform.holder.clone() else { return };
        let Some(join) = socket.join.take() else { return };
        let conn = socket.conn;
        self.platform.holder = Some(Holder::Daemon(socket));
        if !self.half_open {
            let frame = json!([join, join, format!("agent_contacts:{AGENT}"), "phx_error", {}]).to_string();
            self.back_in_order(Owned::Frame(conn, frame));
        }
    }
}

fn contact(id: &str, handle: Option<&str>) -> Contact {
    Contact {
        id: ContactId::parse(id).unwrap(),
        sender: Sender::parse(handle),
        name: None,
        kind: ContactKind::User,
        inserted_at: None,
    }
}
