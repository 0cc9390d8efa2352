//! Connects the session with the rest: frames in, connect plans out, and the effect of the channel's events on the
//! inbox.

use super::{Action, Core};
use crate::agent::core::counters::Counter;
use crate::agent::core::notice::Notice;
use crate::clock::{Mono, Now};
use crate::inbox::ShowOutcome;
use crate::ledger::Record;
use crate::ledger::entry::Via;
use crate::model::AgentState;
use crate::model::{ConnectFailure, Ended};
use crate::phoenix::{NoteName, SessionInput, SessionOutput};
use crate::platform::{CallError, CallFault, ChannelEvent, Me, Reply};

impl Core {
    pub(super) fn opened(&mut self, conn: u64, now: Now) {
        if conn == self.conn && self.connected {
            self.session_input(SessionInput::Opened, now);
        } else {
            self.act(Action::Close { conn });
        }
    }

    pub(super) fn not_opened(&mut self, conn: u64, refusal: ConnectFailure, now: Now) {
        if conn == self.conn && self.connected {
            self.connected = false;
            if self.shared && !self.ledger_ok {
                // Another doorman may have the agent by now, and its connection.
                self.session.follows_ours(now.mono);
            }
            self.session_input(SessionInput::NotOpened(refusal), now);
        }
    }

    pub(super) fn frame(&mut self, conn: u64, text: &str, received: Mono, now: Now) {
        if conn != self.conn || !self.connected {
            return;
        }
        self.session.handle(SessionInput::Text(text), now);
        self.pump(Some(received), now);
    }

    pub(super) fn binary(&mut self, conn: u64, len: usize, now: Now) {
        if conn == self.conn && self.connected {
            self.session_input(SessionInput::Binary(len), now);
        }
    }

    pub(super) fn closed(&mut self, conn: u64, ended: Ended, now: Now) {
        if conn == self.conn && self.connected {
            self.connected = false;
            self.joined = None;
            self.session_input(SessionInput::Closed(ended), now);
        }
    }

    /// A reload: what the platform forbade may be allowed by now, even under the same rules.
    pub(super) fn key_renewed(&mut self, changed: bool, now: Now) {
        if changed {
            self.key_changed(now);
        }
        self.refusals_reported.clear();
        self.wake_forbidden();
        self.session_input(SessionInput::KeyRenewed, now);
    }

    fn key_changed(&mut self, now: Now) {
        self.identity_lost();
        self.session_input(SessionInput::KeyChanged, now);
        // Pages that are still to arrive may be those of another agent.
        self.inbox.listing.restart("the key changed", now.mono);
        self.inbox.release_listed();
        self.contacts.want(now.mono);
    }

    pub(super) fn me(&mut self, reply: Reply<Me>, changed: bool, now: Now) {
        self.watch_date(reply.date, now);
        if changed {
            self.key_changed(now);
        }
        match reply.result {
            Ok(me) => {
                self.between = None;
                let first = self.handle.is_none();
                self.handle = me.sender.original().cloned();
                self.identity_known(&me.id);
                self.own_owner = me.owner;
                if first && self.is_us() {
                    self.tell(Notice::Identified { handle: self.handle.clone() });
                }
                self.session_input(SessionInput::KeyAccepted(Some(me.id)), now);
            }
            Err(error) => {
                self.throttle(&error, now);
                self.identity_unknown(now);
                match error.fault {
                    CallFault::InBetween(_) => self.in_between(&error, now),
                    CallFault::KeyRefused | CallFault::NoKey | CallFault::Forbidden => self.key_refused(&error, now),
                    CallFault::Malformed(_)
                    | CallFault::NotFound
                    | CallFault::Conflict
                    | CallFault::Throttled
                    | CallFault::Passing(_)
                    | CallFault::Unreachable
                    | CallFault::NoAnswer
                    | CallFault::TooLarge
                    | CallFault::Unreadable(_) => {
                        if !self.is_us() {
                            self.count(Counter::IdentityUnknown);
                            self.tell(Notice::IdentityUnknown { error });
                        }
                        self.session_input(SessionInput::IdentityUnknown, now);
                    }
                }
            }
        }
    }

    pub(super) fn key_refused(&mut self, error: &CallError, now: Now) {
        if self.session.state() != AgentState::Refused {
            self.count(Counter::KeyRefused);
            self.tell(Notice::KeyRefused { error: error.clone() });
        }
        self.identity_lost();
        self.session_input(SessionInput::KeyRefused(error.to_string()), now);
    }

    /// A system between us and the platform answered in its place. Such a system does not know our keys, so the key
    /// does not count as refused.
    pub(super) fn in_between(&mut self, error: &CallError, now: Now) {
        self.count(Counter::BlockedInBetween);
        let again = self.between.as_ref() == Some(error);
        self.tell(Notice::InBetween { error: error.clone(), again });
        self.between = Some(error.clone());
        self.session_input(SessionInput::Blocked(error.to_string()), now);
    }

    /// A REST call succeeded: a refused agent is no longer refused.
    pub(super) fn key_works(&mut self, now: Now) {
        if self.session.state() == AgentState::Refused {
            self.session_input(SessionInput::KeyAccepted(None), now);
        }
    }

    pub(super) fn session_input(&mut self, input: SessionInput<'_>, now: Now) {
        self.session.handle(input, now);
        self.pump_session(now);
    }

    pub(super) fn pump_session(&mut self, now: Now) {
        self.pump(None, now);
    }

    fn pump(&mut self, received: Option<Mono>, now: Now) {
        while let Some(output) = self.session.poll() {
            match output {
                SessionOutput::Connect(plan) => {
                    self.conn += 1;
                    self.connected = true;
                    self.count(Counter::Connects);
                    self.act(Action::Connect { conn: self.conn, plan });
                }
                SessionOutput::Send(text) => self.act(Action::Send { conn: self.conn, text }),
                SessionOutput::Close => {
                    self.connected = false;
                    self.joined = None;
                    self.act(Action::Close { conn: self.conn });
                }
                SessionOutput::Identify => self.ask_me(now),
                SessionOutput::List(why) => {
                    self.joined = Some(self.inbox.mark());
                    self.inbox.listing.restart(why, now.mono);
                    self.contacts.want(now.mono);
                    self.contacts_unwatched(now);
                    self.requests_unwatched(self.unwatched_since(now));
                }
                SessionOutput::ContactEventUnread => self.contacts_unwatched(now),
                SessionOutput::Relist(why) => self.inbox.listing.want(why, now.mono),
                SessionOutput::Event(event) => self.event(event, received, now),
                SessionOutput::Superseded(supersede) => {
                    self.count(Counter::Superseded);
                    self.tell(Notice::Superseded(supersede));
                }
                SessionOutput::State(state, why) => self.state_changed(state, why, now),
                SessionOutput::Note(note) => {
                    // What arrived while the connection was dead but not yet noticed is only in the list.
                    if note.name == NoteName::ConnectionDead {
                        self.inbox.listing.want("the connection was dead", now.mono);
                    }
                    self.count(Counter::Session(note.name));
                    self.tell(Notice::Session(note));
                }
            }
        }
    }

    fn state_changed(&mut self, state: AgentState, why: String, now: Now) {
        if state != self.state {
            self.state_since = now.wall;
        }
        let first = self.state == AgentState::Starting;
        self.state = state;
        self.state_why.clone_from(&why);
        self.record(Record::Session { agent: self.config.agent.clone(), state, why: why.clone(), at: now.wall });
        self.tell(Notice::State { state, why });
        match state {
            AgentState::Yielded | AgentState::Polling => self.inbox.listing.want("there is no channel", now.mono),
            AgentState::Away if first => self.inbox.listing.want("there is no channel", now.mono),
            AgentState::Away => self.inbox.listing.hasten(self.config.timing.list_away, now.mono),
            AgentState::Starting | AgentState::Live | AgentState::Refused | AgentState::Elsewhere => {}
        }
    }

    pub(super) fn event(&mut self, event: ChannelEvent, received: Option<Mono>, now: Now) {
        match event {
            ChannelEvent::RequestReceived(request) => {
                let id = request.id.clone();
                self.sender_shown(&request, now);
                let known = self.known(std::slice::from_ref(&request), 0, now);
                match self.inbox.see_event_of(request, &known, now) {
                    seen @ (ShowOutcome::New | ShowOutcome::Returned) => {
                        self.arrived(&id, seen, Via::Event, received, now)
                    }
                    ShowOutcome::Full => {
                        self.count(Counter::InboxFull);
                        if self.inbox.dropped == 1 {
                            self.tell(Notice::InboxFull);
                        }
                    }
                    ShowOutcome::Known | ShowOutcome::Settled => {}
                }
            }
            ChannelEvent::RequestUpdated { id, status } => self.updated(&id, status, now),
            ChannelEvent::ContactAdded(contact) => self.contact_added(contact, now),
            ChannelEvent::ContactRemoved { id } => self.removed_contact(&id, now),
        }
    }
}
