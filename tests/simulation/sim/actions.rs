//! Actions of strangers, people, other clients and the machine.

use std::cmp::Reverse;
use std::time::Duration;

use doorman::agent::core::reach_of;
use doorman::agent::{Core, Input, PersonCommand};
use doorman::model::{AgentState, RequestId, Verdict};
use jiff::SignedDuration;

use super::events::SimEvent;
use super::platform::{Holder, PlatformContact, SentRequest, Version};
use super::rules::{at_once, stranger};
use super::schedule::WorldEvent;
use super::world::{Life, SimWorld, config};

/// A dead connection is noticed within this time: `dead_after`, plus what was still in transit when it died.
const DEAD_NOTICED: Duration = Duration::from_secs(61);
/// Where the crash of the channel was never heard of, the next listing finds out: `list_live`, and a tenth.
const LISTED: Duration = Duration::from_secs(360);
/// The time that a stopping daemon has.
const DRAIN: Duration = Duration::from_secs(10);

impl SimWorld {
    pub fn world(&mut self, happening: WorldEvent) {
        self.note(|| format!("== {happening:?}"));
        match happening {
            WorldEvent::SentRequest { kind } => self.sent(kind),
            WorldEvent::Answered { id } => self.check_answered(&id),
            WorldEvent::End { nth, status } => self.end(nth, status),
            WorldEvent::Behind(behind) => self.behind(behind),
            WorldEvent::GuestParts { nth, again } => self.guest_parts(nth, again),
            WorldEvent::GuestsGone => self.check_guests_gone(),
            WorldEvent::Person { nth, verdict } => self.person_says(nth, verdict),
            WorldEvent::Drop { code, ghost } => self.end_socket(code, ghost),
            WorldEvent::HalfOpen => {
                if let (Some(Holder::Daemon(_)), Some(conn), false) =
                    (&self.platform.holder, self.life.socket, self.half_open)
                {
                    self.half_open = true;
                    self.saw("half-open");
                    self.happens_in(DEAD_NOTICED, WorldEvent::Noticed { life: self.life.number, conn });
                }
            }
            WorldEvent::Noticed { life, conn } => {
                if self.half_open && self.life.number == life && self.life.socket == Some(conn) {
                    self.fail("nobody has answered a heartbeat for so long, and the connection is taken for alive");
                }
            }
            WorldEvent::Flap => self.flapping = true,
            WorldEvent::FlapEnds => self.flapping = false,
            WorldEvent::ChannelCrash => self.crash_channel(),
            WorldEvent::Kill => self.kill(),
            WorldEvent::Stop if self.life.down || self.life.stopping => {}
            WorldEvent::Stop => {
                self.saw("stopped");
                self.life.stopping = true;
                self.happens_in(DRAIN, WorldEvent::DrainEnds { life: self.life.number });
                self.input(Input::Stop);
            }
            WorldEvent::DrainEnds { life } => {
                if self.life.number == life {
                    self.saw("drained by force");
                    self.kill();
                }
            }
            WorldEvent::Start => self.start(),
            WorldEvent::CorrectRules => self.reload(self.in_force),
            WorldEvent::Reload => {
                self.saw("reloaded");
                let another = (self.in_force + self.rng.usize(1..3)) % 3;
                self.reload(another);
                if self.rng.u8(..) < 80 {
                    let wait = Duration::from_millis(self.rng.u64(1..500));
                    self.happens_in(wait, WorldEvent::Reload);
                }
            }
            WorldEvent::Pause => {
                self.saw("paused");
                self.input(Input::Op { token: 2, op: PersonCommand::Pause, person: "alice".into() });
            }
            WorldEvent::Resume if self.calm_since.is_some() && (self.life.down || self.life.stopping) => {
                self.happens_in(Duration::from_secs(1), WorldEvent::Resume);
            }
            WorldEvent::Resume => self.input(Input::Op { token: 3, op: PersonCommand::Resume, person: "alice".into() }),
            WorldEvent::Rival { stubborn } => {
                self.platform.rival = Some(stubborn);
                self.rival_takes();
            }
            WorldEvent::RivalAgain => {
                if self.platform.rival.is_some() {
                    self.rival_takes();
                }
            }
            WorldEvent::RivalGoes => {
                self.platform.rival = None;
                if self.platform.holder == Some(Holder::Rival) {
                    self.platform.holder = None;
                }
            }
            WorldEvent::ClockJump { seconds } => {
                self.saw(if seconds > 0 { "clock ahead" } else { "clock behind" });
                self.skew = SignedDuration::from_secs(seconds);
                self.jumped = true;
            }
            WorldEvent::ClockRight => self.skew = SignedDuration::ZERO,
            WorldEvent::Photograph => self.platform.photograph(),
            WorldEvent::KeyBad => self.key_good = false,
            WorldEvent::KeyGood => self.key_good = true,
            WorldEvent::KeyForeign { told } => self.key_changes(true, told),
            WorldEvent::KeyOurs { .. } if self.calm_since.is_some() => self.key_is_right(),
            WorldEvent::KeyOurs { told } => self.key_changes(false, told),
        }
    }

    fn sent(&mut self, kind: usize) {
        let number = self.platform.sent_requests.len();
        let (handle, message) = stranger(kind, number);
        let id = format!("req-{number:04}");
        let sent = SentRequest {
            number,
            versions: vec![Version { handle: handle.clone(), kind }],
            handle,
            message,
            inserted_at: self.true_wall(),
            returned: false,
            status: "pending",
            taken: None,
            bound: None,
            uncertain: 0,
            kind,
            at: self.at,
        };
        let payload = sent.payload(&id);
        self.platform.sent_requests.insert(id.clone(), sent);
        self.push("contact_request_received", &payload);
        if self.calm_since.is_some() && at_once(self.in_force, kind) {
            let wait = match self.core.state() {
                _ if !self.settled_down() => return,
                AgentState::Live if self.platform.joined() => Duration::from_secs(10),
                AgentState::Live => LISTED,
                _ => Duration::from_secs(45),
            };
            self.happens_in(wait, WorldEvent::Answered { id });
        }
    }

    fn end(&mut self, nth: usize, status: &'static str) {
        let Some(id) = self.nth_pending(nth) else { return };
        self.ends(&id, status, true);
    }

    /// A request ends without an answer of the daemon, with or without an event.
    pub fn ends(&mut self, id: &str, status: &'static str, told: bool) {
        if !self.platform.end(id, status) {
            return;
        }
        self.truth_ends(id, status);
        self.platform.removed_at = self.at;
        self.saw(match status {
            "cancelled" => "cancelled",
            "expired" => "expired",
            _ => "answered by a person elsewhere",
        });
        if status == "approved" {
            let handle = self.platform.sent_requests[id].handle.clone();
            let fellow = PlatformContact::new(format!("contact-{id}"), handle.as_deref(), self.true_wall());
            self.truth_befriends(&fellow);
            self.platform.contacts.retain(|one| one.id != fellow.id);
            self.platform.contacts.push(fellow);
        }
        if told {
            self.tell_end(id);
        }
    }

    fn person_says(&mut self, nth: usize, verdict: Verdict) {
        let Some(id) = self.nth_pending(nth) else { return };
        self.saw(match verdict {
            Verdict::Defer => "held by a person",
            Verdict::Approve | Verdict::Reject => "answered by a person through doorman",
        });
        let request = RequestId::parse(&id).unwrap();
        self.truth_ordered(&id, verdict);
        self.person.entry(id).or_default().push(verdict);
        self.input(Input::Op {
            token: 1,
            op: PersonCommand::Answer { verdict, request, lasts: None },
            person: "alice".into(),
        });
    }

    pub fn nth_pending(&self, nth: usize) -> Option<String> {
        let pending: Vec<&String> =
            self.platform.sent_requests.iter().filter(|(_, sent)| sent.status == "pending").map(|(id, _)| id).collect();
        (!pending.is_empty()).then(|| pending[nth % pending.len()].clone())
    }

    fn reload(&mut self, index: usize) {
        self.in_force = index;
        let policy = self.policies[index].clone();
        self.input(Input::Policy(Some(policy)));
    }

    /// A person resumes an agent that was paused because it approved too many.
    pub fn approvals_spent(&mut self) {
        self.saw("approvals_max reached");
        let most = if self.calm_since.is_some() { 2 } else { 120 };
        let wait = Duration::from_secs(self.rng.u64(1..=most));
        self.happens_in(wait, WorldEvent::Resume);
    }

    /// `kill -9`. A batch that was being recorded was either committed or not; nothing of it is committed later.
    pub fn kill(&mut self) {
        if self.life.down {
            return;
        }
        let life = self.life.number;
        let queue = std::mem::take(&mut self.queue);
        for Reverse(event) in queue.into_sorted_vec().into_iter().rev() {
            match event.what {
                SimEvent::Commit(batch) if event.life == life => {
                    if self.rng.bool() {
                        self.saw("crash with a batch under way, committed");
                        let _refused = self.commit(&batch);
                    } else {
                        self.saw("crash with a batch under way, lost");
                    }
                }
                SimEvent::Core(_) if event.life == life => {}
                _ => self.queue.push(Reverse(event)),
            }
        }
        // The platform may notice at once, or count the connection as live for a while.
        if matches!(self.platform.holder, Some(Holder::Daemon(_))) {
            self.platform.holder = None;
            if self.rng.bool() || self.half_open {
                self.platform.ghost_until = Some(self.at + Duration::from_secs(self.rng.u64(5..60)));
            }
        }
        self.half_open = false;
        self.ended();
    }

    /// A daemon starts with the ledger that the last one left.
    fn start(&mut self) {
        self.life = Life { number: self.life.number, key_foreign: self.key_foreign, ..Life::default() };
        self.inherited.extend(self.record.open().cloned());
        self.charged = self.record.charged("acme");
        self.past = self.past.on_record(&self.record);
        if !self.skew.is_zero() {
            self.saw("start with a wrong clock");
        }
        let held = self.calm_since.is_none() && self.rng.u8(..) < 30;
        if held {
            self.saw("start held");
            let wait = Duration::from_secs(self.rng.u64(1..100));
            self.happens_in(wait, WorldEvent::CorrectRules);
        }
        let policy = (!held).then(|| self.policies[self.in_force].clone());
        let now = self.now();
        let memory = self.record.memory(reach_of(policy.as_deref()), now.wall);
        self.core = Core::new(config(self.life.number, self.seed), policy, memory, now);
        self.input(Input::Start);
    }
}
