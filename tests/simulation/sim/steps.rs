//! One step of a run: an input reaches the daemon or the platform, and the daemon's actions are carried out.

use std::time::Duration;

use doorman::agent::{Action, Input, Notice, OpOutcome};
use doorman::ledger::{LedgerError, RestoreReach};
use doorman::model::{AgentState, RequestId};
use doorman::platform::{CallError, CallFault, Responded};
use jiff::Timestamp;

use super::events::{Call, CoreInput, Scheduled, SimEvent};
use super::schedule::WorldEvent;
use super::world::SimWorld;

/// Inputs within this time may be taken together.
const AT_ONCE: Duration = Duration::from_micros(1_500);

impl SimWorld {
    pub fn happen(&mut self, event: Scheduled) {
        let stale = event.life != self.life.number;
        match event.what {
            SimEvent::World(happening) => self.world(happening),
            // A call that was sent before the daemon died still arrives; its reply does not.
            SimEvent::Server(call) => self.server(call, event.life),
            SimEvent::Core(_) | SimEvent::Commit(_) | SimEvent::GoOn | SimEvent::Reading { .. } if stale => {}
            SimEvent::GoOn => self.goes_on(),
            SimEvent::Reading { number, reach, now } => self.reads(number, reach, now),
            SimEvent::Commit(batch) => {
                let rate = self.rates.ledger;
                if self.chance(rate) {
                    self.saw("ledger refused a batch");
                    self.life.gap = true;
                    self.gaps = true;
                    let refused = self.rng.usize(..batch.len());
                    self.record.commit_but(&batch, Some(refused));
                    self.past_loses(&batch[refused]);
                    return self
                        .input_owned(CoreInput::Recorded(Err(LedgerError::Refused { why: "a whim".to_owned() })));
                }
                let committed = self.commit(&batch);
                self.input_owned(CoreInput::Recorded(committed));
            }
            SimEvent::Core(owned) => {
                if matches!(
                    owned,
                    CoreInput::Page(..)
                        | CoreInput::Contacts(..)
                        | CoreInput::Responded { .. }
                        | CoreInput::Removed(..)
                ) {
                    if event.seq < self.replied {
                        self.saw("replies out of order");
                    }
                    self.replied = self.replied.max(event.seq);
                }
                self.input_owned(owned);
            }
        }
    }

    fn input_owned(&mut self, owned: CoreInput) {
        self.note(|| format!("-> {owned:?}"));
        match owned {
            CoreInput::Opened(conn) => {
                self.input(Input::Opened { conn });
                let rate = self.rates.cut;
                if self.chance(rate) {
                    self.end_socket(None, true);
                }
            }
            CoreInput::NotOpened(conn, refusal) => self.input(Input::NotOpened { conn, refusal }),
            CoreInput::Frame(conn, text, number) => {
                if number < self.frames.1 {
                    self.saw("frames out of order");
                }
                self.frames.1 = self.frames.1.max(number);
                self.hears(conn, &text);
                let received = self.now().mono;
                self.input(Input::Frame { conn, text: &text, received });
            }
            CoreInput::Closed(conn, code) => {
                if self.life.socket == Some(conn) {
                    self.saw(match (self.life.joined_at, self.core.state()) {
                        (None, _) => "drop while joining",
                        (Some(_), AgentState::Live) => "drop while live",
                        (Some(_), _) => "drop before the first listing",
                    });
                    self.life.socket = None;
                }
                self.input(Input::Closed { conn, ended: code.into() });
            }
            CoreInput::Me { question, foreign, reply } => self.hears_me(question, foreign, reply),
            CoreInput::Page(fetch, reply) => {
                if let Ok(page) = &reply.result {
                    self.truth_lists(fetch, page);
                }
                self.input(Input::Page(fetch, reply));
            }
            CoreInput::Contacts(call, reply) => {
                // The first page contains the number of contacts.
                self.life.contacts_read |= reply.result.is_ok();
                if let Some(page) = reply.result.as_ref().ok().filter(|_| self.life.contacts_call == Some(call)) {
                    self.truth_reads(page);
                }
                self.input(Input::Contacts { call, reply });
            }
            CoreInput::Responded { request, attempt, reply, written } => {
                self.life.flying.remove(&request);
                self.heard(&request, &reply.result);
                self.input(Input::Responded { request, attempt, reply, written });
            }
            CoreInput::Restored(number, memory) => {
                if number < self.life.reading {
                    self.saw("record read for rules that are gone");
                }
                self.input(Input::Restored { number, saved: memory });
            }
            CoreInput::Removed(contact, reply) => {
                if reply.result.is_ok() {
                    self.life.expired.insert(contact.clone());
                }
                self.input(Input::Removed { contact, reply });
            }
            told @ CoreInput::DeciderReplied { .. } => self.hears_word(told),
            CoreInput::Recorded(result) => self.input(Input::Recorded(result)),
        }
    }

    /// What the daemon now knows for certain: after an attempt that was refused outright, another answer may follow.
    fn heard(&mut self, request: &RequestId, result: &Result<Responded, CallError>) {
        let Err(error) = result else { return };
        if matches!(error.fault, CallFault::Malformed(_)) {
            self.malformed.insert(request.as_str().to_owned());
        }
        let refused = matches!(
            error.fault,
            CallFault::Throttled
                | CallFault::Forbidden
                | CallFault::Malformed(_)
                | CallFault::KeyRefused
                | CallFault::NoKey
                | CallFault::Unreachable
        );
        if let Some(sent) = self.platform.sent_requests.get_mut(request.as_str())
            && refused
        {
            sent.uncertain = sent.uncertain.saturating_sub(1);
            if sent.uncertain == 0 && sent.taken.is_none() {
                sent.bound = None;
            }
        }
    }

    /// Gives the core one input and carries out its actions; the daemon may be killed after each of them.
    pub fn input(&mut self, input: Input<'_>) {
        if self.life.down {
            return;
        }
        let now = self.now();
        // As the shell does it, on some evenings: what comes at one moment is taken before the core goes on.
        if self.seed % 4 == 3 && matches!(input, Input::Frame { .. } | Input::Responded { .. }) {
            self.core.take(input, now);
            self.schedule(self.at + AT_ONCE, SimEvent::GoOn);
        } else {
            self.core.handle(input, now);
        }
        self.acts();
    }

    fn goes_on(&mut self) {
        if !self.life.down {
            let now = self.now();
            self.core.go_on(now);
            self.acts();
        }
    }

    fn acts(&mut self) {
        let life = self.life.number;
        while let Some(action) = self.core.poll() {
            self.act(action);
            let rate = self.rates.crash;
            if self.life.number == life && self.chance(rate) {
                self.saw("crash between two steps");
                self.kill();
            }
            if self.life.number != life || self.life.down {
                return;
            }
        }
        self.check_state();
    }

    fn act(&mut self, action: Action) {
        self.check_key(&action);
        self.note(|| format!("   <- {action:?}"));
        match action {
            Action::Connect { conn, plan } => {
                self.check_connect(conn);
                self.after(SimEvent::Server(Call::Connect(conn, plan)));
            }
            Action::Send { conn, text } => {
                self.asks_to_join(&text);
                self.in_order(SimEvent::Server(Call::Text(conn, text)));
            }
            Action::Close { conn } => {
                if self.life.socket == Some(conn) {
                    self.life.socket = None;
                }
                self.in_order(SimEvent::Server(Call::Close(conn)));
            }
            Action::Me => self.asks_me(),
            Action::Page(fetch) => {
                self.life.listed_at = Some(self.at);
                self.truth_asks(fetch);
                self.after(SimEvent::Server(Call::Page(fetch)));
            }
            Action::Contacts { call, page, .. } => {
                self.life.contacts_call = Some(call);
                self.after(SimEvent::Server(Call::Contacts(call, page)));
            }
            Action::Respond { request, answer, attempt } => {
                self.check_answer(&request, answer, attempt);
                let written = self.now().mono;
                self.after(SimEvent::Server(Call::Respond { request, answer, attempt, written }));
            }
            Action::Remove { contact, .. } => {
                self.check_removal(&contact);
                self.after(SimEvent::Server(Call::Remove(contact)));
            }
            Action::Record(batch) => {
                self.check_batch(&batch);
                let wait = Duration::from_micros(self.rng.u64(20..5_000));
                self.schedule(self.at + wait, SimEvent::Commit(batch));
            }
            Action::Ask { request, question, .. } => self.asks(&request, question),
            Action::Restore { number, reach } => {
                self.saw("record read again");
                self.life.reading = number;
                let now = self.now().wall;
                self.after(SimEvent::Reading { number, reach, now });
            }
            Action::Tell(Notice::Listed { .. }) => self.truth_listed(),
            Action::Reply { outcome: OpOutcome::Settled(_), .. } => {
                if let Some(owner) = self.settling.take() {
                    self.truth_said(owner);
                }
            }
            Action::Reply { .. } | Action::Tell(_) => {}
            Action::Done if self.life.stopping => self.ended(),
            Action::Done => self.fail("nobody told it to stop"),
        }
    }

    /// The record is read again, at once or a while later; the result also takes some time to arrive.
    fn reads(&mut self, number: u64, reach: RestoreReach, now: Timestamp) {
        let (unread, late) = (self.rates.unread, self.rates.read_late);
        let memory = if self.chance(unread) {
            self.saw("record unreadable");
            None
        } else {
            Some(Box::new(self.record.memory(reach, now).policy_state))
        };
        let what = SimEvent::Core(CoreInput::Restored(number, memory));
        if self.chance(late) {
            self.saw("record read late");
            let wait = Duration::from_millis(self.rng.u64(50..60_000));
            return self.schedule(self.at + wait, what);
        }
        self.after(what);
    }

    pub fn after(&mut self, what: SimEvent) {
        let wait = Duration::from_micros(self.rng.u64(100..80_000));
        self.schedule(self.at + wait, what);
    }

    /// Frames of one socket keep their order.
    fn in_order(&mut self, what: SimEvent) {
        let at = self.last_push.max(self.at) + Duration::from_micros(self.rng.u64(10..2_000));
        self.last_push = at;
        self.schedule(at, what);
    }

    /// No daemon runs now; one starts a while later.
    pub fn ended(&mut self) {
        self.truth_dies();
        self.life = super::world::Life { number: self.life.number + 1, down: true, ..Default::default() };
        let wait = if self.rng.bool() { self.rng.u64(50..2_000) } else { self.rng.u64(2_000..120_000) };
        let wait = Duration::from_millis(wait);
        self.happens_in(wait, WorldEvent::Start);
        self.unwatched(wait);
    }
}
