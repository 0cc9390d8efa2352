//! The pure core of one agent: session, inbox, policy, responder and policy state, composed.
//!
//! [`Core::handle`] takes one [`Input`] at one moment ([`Core::take`] one of several); [`Core::poll`] hands out the [`Action`]s that follow;
//! [`Core::deadline`] says when to come back. It never reads a clock, never does IO, and never answers before the
//! ledger has the intent. Everything that may race is in here, so that the simulation can race it.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod answers;
mod asking;
mod clockwatch;
mod contact_attribution;
mod contacts;
pub mod counters;
mod deciding;
mod doubting;
mod guests;
mod identity;
mod io;
mod listing;
pub(crate) mod notice;
mod outbox;
mod people;
mod recording;
mod remembered;
mod removals;
mod restore;
mod scrubbed;
mod socket;
#[cfg(test)]
mod tests;
mod timers;
mod unexplained;
mod view;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::clock::{Mono, Now};
use crate::inbox::{Inbox, Listing, Mark};
use crate::ledger::entry::{SavedAgent, SavedIdentity};
use crate::model::{AgentState, RequestId, SenderId, StrangerText};
use crate::phoenix::{PhoenixSession, SessionConfig};
use crate::platform::CallError;
use crate::policy::{Policy, PolicyState, ReceivingAgent};
use crate::responder::Responder;

use clockwatch::ClockWatch;
use contacts::ContactList;
use counters::Counter;
pub(crate) use counters::Counters;
pub use doubting::OpenDoubt;
use guests::Guests;
use identity::KeyIdentity;
pub use io::{Action, CoreConfig, Input};
pub use notice::Notice;
pub use outbox::BATCH_MAX;
use outbox::Outbox;
pub(crate) use people::{OpFailure, PersonAnswered};
pub use people::{OpOutcome, PersonCommand};
use remembered::Remembered;
use removals::Removals;
use restore::Restore;
pub use restore::reach_of;
pub(crate) use view::{AgentView, PendingRequest};

/// The action queue keeps its allocation for this many actions between two inputs.
const ACTIONS_KEPT: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    session: PhoenixSession,
    inbox: Inbox,
    responder: Responder,
    policy: Option<Arc<Policy>>,
    /// The version of pushed rules that the ledger has, if it refused an intent for ours.
    newer: Option<u64>,
    policy_state: PolicyState,
    identity: KeyIdentity,
    /// The user who owns this agent, as the platform reports.
    own_owner: Option<SenderId>,
    restore: Restore,
    asking: asking::OpenQuestions,
    contacts: ContactList,
    guests: Guests,
    removals: Removals,
    clock: ClockWatch,
    /// What the ledger knew of requests that have not been seen since the start. In order, so that those that end at
    /// the same moment go on record in the same order each time.
    remembered: BTreeMap<RequestId, Remembered>,
    /// People who wait for the end of an answer.
    waiting: HashMap<RequestId, Vec<u64>>,
    actions: VecDeque<Action>,
    outbox: Outbox,
    /// Intents in the batch under way.
    intents_under_way: Vec<RequestId>,
    recording: bool,
    ledger_ok: bool,
    /// Other doormen share the record, and may have the agent if the ledger does not answer.
    shared: bool,
    conn: u64,
    connected: bool,
    /// Passes that began after this belong to the current join.
    joined: Option<Mark>,
    handle: Option<StrangerText>,
    last_listing: Option<jiff::Timestamp>,
    /// The number of requests that wait for a doubt has been reported.
    doubts_reported: bool,
    /// The contacts of this agent were never read completely: the contacts that exist now are its baseline.
    new_to_record: bool,
    /// An answer of ours let somebody in since the last listing.
    let_in: bool,
    state: AgentState,
    state_since: jiff::Timestamp,
    /// The moment of the last input.
    wall: jiff::Timestamp,
    state_why: String,
    /// The codes of refusals that were already reported.
    refusals_reported: HashSet<String>,
    /// The last REST error that came from a system between us and the platform; `None` once the platform itself
    /// answered.
    between: Option<CallError>,
    /// Limits the decisions of one step, so that a long queue does not starve the socket.
    pace: deciding::DecidingPace,
    counters: Counters,
    rng: fastrand::Rng,
    stopping: bool,
    done: bool,
}

impl Core {
    /// A core that has not started yet; give it [`Input::Start`]. `saved` is what the ledger remembers.
    pub fn new(config: CoreConfig, policy: Option<Arc<Policy>>, saved: SavedAgent, now: Now) -> Self {
        let mut session = PhoenixSession::new(
            SessionConfig {
                agent: config.agent.clone(),
                connection: config.connection,
                credentials: config.credentials,
                timing: config.timing,
                redact: config.redact.clone(),
            },
            config.seed,
        );
        if saved.shared {
            session.follows_ours(now.mono);
        }
        let listing = Listing::new(now.mono + listing::FIRST_LISTING, config.timing.list_away, config.seed ^ 1);
        let policy_state = match &policy {
            Some(policy) => PolicyState::restore_for(saved.policy_state, policy, now.wall),
            None => {
                let charges = now.wall.checked_sub(reach_of(None).charges).ok();
                PolicyState::restore_without_rules(saved.policy_state, charges)
            }
        };
        let mut core = Self {
            session,
            inbox: Inbox::with_capacity(listing, config.capacity),
            responder: Responder::new(config.answers.in_flight, config.answers.per_second),
            policy_state,
            identity: KeyIdentity::default(),
            own_owner: None,
            restore: Restore::default(),
            asking: asking::OpenQuestions::default(),
            contacts: ContactList::new(policy.as_deref(), now),
            guests: Guests::default(),
            removals: Removals::default(),
            policy,
            newer: None,
            clock: ClockWatch::new(saved.newest),
            remembered: BTreeMap::new(),
            waiting: HashMap::new(),
            actions: VecDeque::new(),
            outbox: Outbox::new(config.batch),
            intents_under_way: Vec::new(),
            recording: false,
            ledger_ok: true,
            shared: saved.shared,
            conn: 0,
            connected: false,
            joined: None,
            handle: None,
            last_listing: None,
            doubts_reported: false,
            new_to_record: !saved.contacts_read,
            let_in: false,
            state: AgentState::Starting,
            state_since: now.wall,
            wall: now.wall,
            state_why: "starting".to_owned(),
            refusals_reported: HashSet::new(),
            between: None,
            pace: deciding::DecidingPace::default(),
            counters: Counters::default(),
            rng: fastrand::Rng::with_seed(config.seed ^ 2),
            stopping: false,
            done: false,
            config,
        };
        core.policy_state
            .set_receiving_agent(ReceivingAgent::new(core.config.agent.as_str(), core.config.name.as_deref()));
        for SavedIdentity { owner, identity, basis, at } in saved.identities {
            core.policy_state.doubts_mut().on_record(&owner, &identity, basis, at);
        }
        core.outbox.keep_order(deciding::asks_for_the_past(core.policy.as_deref()));
        core.contacts_on_record(saved.contacts, saved.newest.unwrap_or(now.wall));
        core.remember_guests(saved.guests, now);
        core.remember(saved.open_answers, saved.refused_answers, saved.recent_answers, now);
        core.remember_requests(saved.pending, saved.decided, saved.newest.unwrap_or(now.wall));
        core
    }

    /// Takes one input. Call [`Core::poll`] until `None` afterwards.
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        self.take(input, now);
        self.go_on(now);
    }

    /// Takes one of several inputs of the same moment. Call [`Core::go_on`] after the last: nothing is decided or put on record before.
    pub fn take(&mut self, input: Input<'_>, now: Now) {
        if self.done {
            return;
        }
        self.wall = now.wall;
        match input {
            Input::Start => self.start(now),
            Input::Opened { conn } => self.opened(conn, now),
            Input::NotOpened { conn, refusal } => self.not_opened(conn, refusal, now),
            Input::Frame { conn, text, received } => self.frame(conn, text, received, now),
            Input::Binary { conn, len } => self.binary(conn, len, now),
            Input::Closed { conn, ended } => self.closed(conn, ended, now),
            Input::Me { reply, changed } => self.me(reply, changed, now),
            Input::Page(fetch, reply) => self.page(fetch, reply, now),
            Input::Contacts { call, reply } => self.contacts_page(call, reply, now),
            Input::Responded { request, attempt, reply, written } => {
                self.responded(&request, attempt, reply, written, now);
            }
            Input::DeciderReplied { request, question, result, took } => {
                self.replied(&request, &question, result, took, now)
            }
            Input::Recorded(result) => self.recorded(result, now),
            Input::LedgerHealth(ok) => self.ledger_health(ok),
            Input::Policy(policy) => self.swap_policy(policy, now),
            Input::Restored { number, saved } => self.restored(number, saved.map(|saved| *saved), now),
            Input::KeyRenewed { changed } => self.key_renewed(changed, now),
            Input::Op { token, op, person } => self.op(token, op, person, now),
            Input::Removed { contact, reply } => self.removed(&contact, reply, now),
            Input::Tick => {}
            Input::Stop => self.stop(now),
        }
        self.watch_contacts(now);
    }

    /// Returns the next action, if there is one.
    pub fn poll(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if action.is_none() {
            // Frees the memory that a long queue used.
            self.actions.shrink_to(ACTIONS_KEPT);
        }
        action
    }

    fn start(&mut self, now: Now) {
        self.record_policy(now);
        self.session_input(crate::phoenix::SessionInput::Start, now);
    }

    /// Does everything that follows without further input, in a fixed order: answers come after all checks.
    pub fn go_on(&mut self, now: Now) {
        if self.done {
            return;
        }
        self.pace.measure(now.mono);
        self.watch_clock(now);
        if !self.stopping {
            self.learn_changes(now);
            self.contacts_counted();
            self.contacts_believed(now);
            self.doubts_changed();
        }
        self.fire_timers(now);
        self.tell_doubts();
        self.flush(now);
        self.finish_stopping();
    }

    fn stop(&mut self, now: Now) {
        self.stopping = true;
        self.session_input(crate::phoenix::SessionInput::Stop, now);
        for tokens in std::mem::take(&mut self.waiting).into_values() {
            for token in tokens {
                self.act(Action::Reply {
                    token,
                    outcome: OpOutcome::busy("doorman is stopping: ask again when it runs"),
                });
            }
        }
    }

    fn finish_stopping(&mut self) {
        let in_flight = self.responder.in_flight() > 0 || self.removals.in_flight() > 0;
        if self.stopping && !in_flight && self.outbox.is_empty() && !self.recording && !self.done {
            self.done = true;
            self.act(Action::Done);
        }
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn tell(&mut self, notice: Notice) {
        self.actions.push_back(Action::Tell(notice));
    }

    fn count(&mut self, counter: Counter) {
        self.counters.count(counter);
    }

    /// A random wait between zero and a ceiling that doubles with each attempt (full jitter).
    fn backoff(&mut self, attempts: u32) -> std::time::Duration {
        let timing = &self.config.timing;
        let ceiling = timing.backoff_min.saturating_mul(1 << attempts.min(16)).min(timing.backoff_max);
        ceiling.mul_f64(0.1 + 0.9 * self.rng.f64())
    }

    /// Returns `at`, or the end of the wait that the platform asked for, whichever is later.
    fn after_quiet(&self, at: Mono, now: Now) -> Mono {
        self.responder.blocked(now.mono).map_or(at, |until| at.max(until))
    }
}
