//! What happens in the world, and the invariants that must hold whatever does.

use std::time::Duration;

use doorman::agent::{Core, Input, Op};
use doorman::config::settings::ConnectionMode;
use doorman::model::{AgentState, Answer, RequestId};
use jiff::SignedDuration;

use super::platform::{Holder, Knock};
use super::rules::{allowed, must_end, stranger};
use super::schedule::Happening;
use super::world::{World, config};

impl World {
    pub(super) fn world(&mut self, happening: Happening) {
        self.note(|| format!("== {happening:?}"));
        match happening {
            Happening::Knock { kind } => self.knock(kind),
            Happening::End { nth, status } => {
                if let Some(id) = self.nth_pending(nth)
                    && self.platform.end(&id, status)
                {
                    if status == "approved" {
                        let handle = self.platform.knocks[&id].handle.clone();
                        self.platform.contacts.push((format!("contact-{id}"), handle));
                    }
                    self.tell_end(&id);
                }
            }
            Happening::Person { nth, verdict } => {
                if let Some(id) = self.nth_pending(nth) {
                    let request = RequestId::parse(&id).unwrap();
                    self.person.insert(id, verdict);
                    self.input(Input::Op { token: 1, op: Op::Answer { verdict, request }, person: "alice".into() });
                }
            }
            Happening::Drop { code, ghost } => self.end_socket(code, ghost),
            Happening::HalfOpen => self.half_open = matches!(self.platform.holder, Some(Holder::Daemon(_))),
            Happening::Crash => self.crash_channel(),
            Happening::Kill => self.kill(),
            Happening::Reload => {
                self.in_force = 1 - self.in_force;
                let policy = self.policies[self.in_force].clone();
                self.input(Input::Policy(Some(policy)));
            }
            Happening::Pause => self.input(Input::Op { token: 2, op: Op::Pause, person: "alice".into() }),
            Happening::Resume => self.input(Input::Op { token: 3, op: Op::Resume, person: "alice".into() }),
            Happening::Rival => {
                self.end_socket(Some(1000), false);
                self.platform.holder = Some(Holder::Rival);
            }
            Happening::RivalGoes => {
                if self.platform.holder == Some(Holder::Rival) {
                    self.platform.holder = None;
                }
            }
            Happening::ClockJump { seconds } => {
                self.skew = SignedDuration::from_secs(seconds);
                self.jumped = true;
            }
            Happening::ClockRight => self.skew = SignedDuration::ZERO,
            Happening::Photograph => self.platform.photograph(),
            Happening::KeyBad => self.key_good = false,
            Happening::KeyGood => self.key_good = true,
        }
    }

    fn knock(&mut self, kind: usize) {
        let number = self.platform.knocks.len();
        let (handle, message) = stranger(kind, number);
        let id = format!("req-{number:04}");
        let knock = Knock {
            number,
            handle,
            message,
            inserted_at: self.true_wall(),
            status: "pending",
            taken: None,
            bound: None,
            uncertain: 0,
            kind,
        };
        let payload = knock.payload(&id);
        self.platform.knocks.insert(id, knock);
        self.push("contact_request_received", &payload);
    }

    fn nth_pending(&self, nth: usize) -> Option<String> {
        let pending: Vec<&String> =
            self.platform.knocks.iter().filter(|(_, knock)| knock.status == "pending").map(|(id, _)| id).collect();
        (!pending.is_empty()).then(|| pending[nth % pending.len()].clone())
    }

    /// `kill -9`, and a start a while later. What was being recorded may have been committed, or not.
    fn kill(&mut self) {
        self.life += 1;
        self.half_open = false;
        if matches!(self.platform.holder, Some(Holder::Daemon(_))) {
            self.platform.holder = None;
            if self.rng.bool() {
                self.platform.ghost_until = Some(self.at + Duration::from_secs(self.rng.u64(5..60)));
            }
        }
        let now = self.now();
        let memory = self.record.memory();
        let config = config(self.life, self.seed, self.connection());
        self.core = Core::new(config, Some(self.policies[self.in_force].clone()), memory, now);
        self.input(Input::Start);
    }

    /// Before an answer leaves: it must be on record, allowed by the policy that gave it, and never another than before.
    pub(super) fn check_answer(&mut self, id: &RequestId, answer: Answer, attempt: u32) {
        if !self.record.has_intent(id, answer, attempt) {
            self.fail(&format!("{answer} to {id} leaves before its intent is on record"));
        }
        let Some(knock) = self.platform.knocks.get(id.as_str()) else { self.fail("an answer to nobody") };
        if let Some(bound) = knock.bound
            && bound != answer
        {
            self.fail(&format!("{answer} to {id}, which was, or may have been, answered {bound}"));
        }
        let kind = knock.kind;
        let Some((by, policy)) = self.record.intent_by(id) else { self.fail("no intent") };
        let (by, policy) = (by.to_owned(), policy.map(|hash| hash.as_str().to_owned()));
        // A person's word, and a repeated answer, need no rule; a first answer by rule needs one that says so.
        if let Some(policy) = policy.and_then(|hash| self.by_hash.get(&hash).copied())
            && !allowed(policy, kind, answer)
        {
            self.fail(&format!("{answer} to {id} (kind {kind}) by `{by}`: policy {policy} says no such thing"));
        }
        if by.starts_with("person:") && !self.person.contains_key(id.as_str()) {
            self.fail(&format!("{answer} to {id} by `{by}`, who never said a word"));
        }
        if let Some(knock) = self.platform.knocks.get_mut(id.as_str()) {
            knock.bound = Some(answer);
            knock.uncertain += 1;
        }
    }

    /// Three of acme's in an hour, by the record, whatever happened.
    pub(super) fn check_limits(&mut self) {
        for ((rule, bucket), mut times) in self.record.charges() {
            if rule != "acme" {
                continue;
            }
            times.sort();
            for window in times.windows(4) {
                let span = window[3].duration_since(window[0]);
                if span < SignedDuration::from_hours(1) && self.skew.is_zero() && !self.jumped {
                    self.fail(&format!("four of `{bucket}` within {span:#}: the limit is three an hour"));
                }
            }
        }
    }

    /// In the end everybody who can be decided is, and the daemon stands where it should.
    pub(super) fn check_end(&mut self) {
        let state = self.core.state();
        let expected = match self.connection() {
            ConnectionMode::Poll => AgentState::Polling,
            ConnectionMode::Yield | ConnectionMode::Take => AgentState::Live,
        };
        if state != expected {
            self.fail(&format!("two calm hours, and the agent is {state}, not {expected}: {}", self.core.status().why));
        }
        let held: Vec<String> = self
            .core
            .pending()
            .iter()
            .filter(|row| row.by.as_deref().is_some_and(|by| by.starts_with("hold:")))
            .map(|row| row.request.clone())
            .collect();
        let known: Vec<String> = self.core.pending().into_iter().map(|row| row.request).collect();
        let malformed = self.malformed.clone();
        for (id, knock) in &self.platform.knocks {
            if knock.status != "pending" {
                continue;
            }
            if !known.contains(id) {
                self.fail(&format!("{id} is pending, and doorman has lost it"));
            }
            if must_end(self.in_force, knock.kind) && !held.contains(id) && !malformed.contains(id) {
                let row = self.core.pending().into_iter().find(|row| row.request == *id);
                self.fail(&format!("{id} (kind {}) is still pending after two calm hours: {row:?}", knock.kind));
            }
        }
        for id in &known {
            if self.platform.knocks.get(id).is_none_or(|knock| knock.status != "pending") {
                self.fail(&format!("{id} was settled long ago, and doorman still keeps it"));
            }
        }
    }
}
