//! The invariants: what must hold whatever happens.

use std::time::Duration;

use doorman::config::settings::ConnectionMode;
use doorman::ledger::{LedgerError, Record};
use doorman::model::{AgentState, Answer, PausedBy, RequestId, Verdict};
use doorman::policy::{By, Charge, GuardKind};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::rules::must_end;
use super::rules::{ACME_MAX, APPROVALS_MAX, CROWD, ENDED, FAIR, FICKLE, HOLIDAY, KNOWN, MATE, QUOTA, SLOW};
use super::rules::{THIRD, UNTIL, WAITS};
use super::world::{IN_FLIGHT, SimWorld, connection};

/// An intent that is checked before it is recorded.
struct Intent<'a> {
    id: &'a RequestId,
    answer: Answer,
    by: &'a By,
    /// The policy that decided so; `None` for a person's answer, or for a repeated answer.
    policy: Option<&'a str>,
    at: Timestamp,
}

/// An answer that was carried out this lately is remembered without the ledger.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(14);
/// More connects than this within a minute are an error.
const CONNECTS_MAX: usize = 20;
/// If no policy counts approvals, only those in flight are remembered.
const REMEMBERED_MAX: usize = IN_FLIGHT as usize;
/// A join that gets its reply within this time has not timed out.
const ANSWERED_IN_TIME: Duration = Duration::from_secs(5);
/// Within this time after a join, the daemon must ask for the list.
const LISTS_WITHIN: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);

impl SimWorld {
    /// Checks the entries that the daemon records, in their order.
    pub fn check_batch(&mut self, batch: &[Record]) {
        let mut paused = self.record.paused();
        for entry in batch {
            match entry {
                Record::Pause { on, by, at, .. } => {
                    paused = *on;
                    if *on && *by == PausedBy::ApprovalsMax {
                        self.check_paused(*at);
                        self.approvals_spent();
                    }
                }
                Record::Policy { hash, .. } => self.life.policy = Some(hash.as_str().to_owned()),
                Record::Intent { request, answer, by, policy, charges, at, .. } => {
                    let policy = policy.as_ref().map(|hash| hash.as_str());
                    let intent = Intent { id: request, answer: *answer, by, policy, at: *at };
                    if paused && policy.is_some() && !self.life.gap {
                        self.fail(&format!("{answer} to {request} is decided by `{by}` while the agent is paused"));
                    }
                    self.check_intent(&intent);
                    if *answer == Answer::Reject {
                        self.charged.remove(request);
                    }
                    self.charge(request, by, charges, *at);
                }
                Record::Outcome { request, outcome, .. } if !outcome.keeps_charge() => {
                    self.charged.remove(request);
                }
                Record::ContactRemoved { contact, .. } => self.check_removed(contact),
                Record::Settlement { owner, request, said, .. } => self.truth_settled(owner, request.as_ref(), *said),
                Record::Withdrawn { request, .. } | Record::Settled { request, .. } => {
                    if matches!(entry, Record::Settled { status: None, .. }) {
                        self.check_gone(request);
                    }
                    self.charged.remove(request);
                }
                _ => {}
            }
            self.past_hears(entry);
        }
    }

    /// Checks an intent that counts against acme's limit: the limit must not be used up already.
    fn charge(&mut self, id: &RequestId, by: &By, charges: &[Charge], at: Timestamp) {
        if by.to_string() != "acme" || charges.is_empty() {
            return;
        }
        self.charged.entry(id.clone()).or_insert(at);
        let mut times: Vec<Timestamp> = self.charged.values().copied().collect();
        times.sort();
        self.check_windows(&times);
    }

    fn check_windows(&self, times: &[Timestamp]) {
        for window in times.windows(ACME_MAX + 1).filter(|_| !self.jumped) {
            let span = window[ACME_MAX].duration_since(window[0]);
            if span < SignedDuration::from_hours(1) {
                self.fail(&format!("{} of acme's within {span:#}: the limit is {ACME_MAX} an hour", window.len()));
            }
        }
    }

    /// Commits a batch. The ledger refuses a batch that contradicts its content, which may only happen if an earlier
    /// batch was lost.
    pub fn commit(&mut self, batch: &[Record]) -> Result<(), LedgerError> {
        if let Some((request, said, at)) = self.record.carried_out(batch) {
            if !self.jumped && !self.life.gap && self.now().wall.duration_since(at) < REMEMBERED {
                self.fail(&format!("only the ledger knew that {request} was answered {}", said.answer));
            }
            self.record.commit_but(batch, None);
            return Err(LedgerError::Answered { request, said });
        }
        if let Err(why) = self.record.commit(batch) {
            if !self.life.gap {
                self.fail(&why);
            }
            self.record.commit_but(batch, None);
            return Err(LedgerError::Refused { why });
        }
        self.check_limits();
        if !self.gaps {
            self.check_asked_limit();
        }
        Ok(())
    }

    /// A first answer needs a rule that decides so now; a further answer must be the same as before, or a person's.
    fn check_intent(&mut self, intent: &Intent<'_>) {
        let Intent { id, answer, by, policy, at } = *intent;
        let Some(sent) = self.platform.sent_requests.get(id.as_str()) else { self.fail("an answer to nobody") };
        let (bound, since, status) = (sent.bound, sent.inserted_at, sent.status);
        // All senders that are possible according to what the daemon was shown; exactly one if that is certain.
        let senders: Vec<usize> = self.senders(id.as_str(), at).iter().map(|version| version.kind).collect();
        let kind = if senders.len() == 1 { senders[0] } else { usize::MAX };
        let Some(policy) = policy else {
            let said = self.person.get(id.as_str()).is_some_and(|said| said.contains(&answer.verdict()));
            let by_person = matches!(by, By::Person(_));
            if by_person && !said {
                self.fail(&format!("{answer} to {id} by `{by}`, who never said so"));
            }
            if !by_person && bound.is_none() && !self.inherited.contains(id) && !self.unnamed_on_record(id) {
                self.fail(&format!(
                    "{answer} to {id} by `{by}` once more, which nobody can have heard: no rule was asked"
                ));
            }
            let number = self.policies.iter().position(|one| Some(one.hash.as_str()) == self.life.policy.as_deref());
            let says = |number: usize| senders.iter().any(|kind| self.may_say(number, *kind, answer));
            if !by_person && !number.is_some_and(says) {
                self.fail(&format!("{answer} to {id} by `{by}` once more, which the rules in force do not say"));
            }
            if by_person {
                return self.check_order(id, answer, at);
            }
            self.check_subject(id, answer, None, at);
            if let (Answer::Approve, Some(number)) = (answer, number) {
                self.check_truth(number, id, kind, at);
            }
            return;
        };
        if self.life.policy.as_deref() != Some(policy) {
            self.fail(&format!("{answer} to {id} by `{by}` under rules that are not in force"));
        }
        let number = self.policies.iter().position(|one| one.hash.as_str() == policy);
        let Some(number) = number else { self.fail("an answer under rules that nobody wrote") };
        self.check_subject(id, answer, Some(number), at);
        if matches!(by, By::Ask(_)) {
            self.check_word(id, answer, number, at);
        }
        if !senders.iter().any(|kind| self.may_say(number, *kind, answer)) {
            self.fail(&format!("{answer} to {id} (kinds {senders:?}) by `{by}`: policy {number} says no such thing"));
        }
        if answer == Answer::Approve {
            self.check_past(number, id, kind, at);
            self.check_truth(number, id, kind, at);
        }
        if kind == MATE {
            self.check_contact(number, id, answer, at);
        }
        if kind == QUOTA && answer == Answer::Reject {
            self.check_spent(id, at);
        }
        let today = self.true_wall().duration_since(self.now().wall).abs() < SignedDuration::from_hours(12);
        if kind == HOLIDAY && !self.jumped {
            self.fail(&format!("{answer} to {id} by `{by}` on a day that is excepted"));
        }
        if kind == FAIR && !today {
            self.fail(&format!("{answer} to {id} by `{by}` on another day than the only one"));
        }
        if self.record.holds(id) && status == "pending" && !self.renewed.contains(id) {
            self.fail(&format!("{answer} to {id} by `{by}`, which a person holds"));
        }
        if kind == SLOW && !self.jumped && self.true_wall().duration_since(since) < WAITS[number] {
            self.fail(&format!("{answer} to {id} by `{by}` before its wait is over"));
        }
        if kind == ENDED {
            if at >= UNTIL.parse().unwrap() {
                self.fail(&format!("{answer} to {id} by `{by}`, a rule that has ended"));
            }
            self.saw("let in before a rule ended");
        }
        let timed = matches!(kind, SLOW | HOLIDAY | FAIR | QUOTA | ENDED);
        if timed && self.skew.abs() > SignedDuration::from_mins(6) && self.life.state == Some(AgentState::Live) {
            self.fail(&format!(
                "{answer} to {id} by `{by}`, which time decides, by a clock that is not to be believed"
            ));
        }
        if kind == CROWD && !self.life.contacts_read {
            self.fail(&format!("{answer} to {id} by `{by}`, by contacts that nobody has read"));
        }
    }

    /// Before an answer is sent: it must be recorded, must not differ from the earlier answer, and must be one of few
    /// in flight.
    pub fn check_answer(&mut self, id: &RequestId, answer: Answer, attempt: u32) {
        if !self.record.has_intent(id, answer, attempt) {
            self.fail(&format!("{answer} to {id} leaves before its intent is on record"));
        }
        if !self.life.flying.insert(id.clone()) {
            self.fail(&format!("{answer} to {id} leaves while another is on its way"));
        }
        if self.life.flying.len() > IN_FLIGHT as usize {
            self.fail(&format!("{} answers are on their way at once", self.life.flying.len()));
        }
        if !self.life.contacts_read {
            self.saw("contacts unknown while somebody is decided");
        }
        let Some(sent) = self.platform.sent_requests.get(id.as_str()) else { self.fail("an answer to nobody") };
        // Somebody else ended it, and a page that is behind brought it back: no answer of ours is heard any more.
        let over = sent.status != "pending" && sent.taken.is_none();
        // A person may give a different answer.
        let by_person = self.record.by_person(id);
        if !by_person {
            self.check_leaves(id, answer);
        }
        let Some(sent) = self.platform.sent_requests.get_mut(id.as_str()) else { self.fail("an answer to nobody") };
        if let Some(bound) = sent.bound.filter(|bound| *bound != answer && !over && !by_person) {
            self.fail(&format!("{answer} to {id}, which was, or may have been, answered {bound}"));
        }
        if by_person && sent.bound != Some(answer) {
            // A person's other answer replaces all earlier attempts that may have been carried out.
            sent.uncertain = 0;
        }
        sent.bound = Some(answer);
        sent.uncertain += 1;
    }

    /// At most three approvals of acme in an hour, both by the charges and by the approvals in the ledger, if the
    /// ledger is complete.
    fn check_limits(&self) {
        if !self.gaps {
            self.record.counted("acme").iter().for_each(|times| self.check_windows(times));
        }
    }

    /// The daemon must not send too many connects.
    pub fn check_connect(&mut self, conn: u64) {
        self.life.socket = Some(conn);
        self.life.joined_at = None;
        self.life.connects.push_back(self.at);
        while self.life.connects.front().is_some_and(|at| self.at - *at > MINUTE) {
            self.life.connects.pop_front();
        }
        if self.life.connects.len() > CONNECTS_MAX {
            self.fail(&format!("{} connects within a minute", self.life.connects.len()));
        }
    }

    /// After every step: checks the meaning of live, and that the daemon is live again in time.
    pub fn check_state(&mut self) {
        let state = self.core.state();
        self.check_listed();
        if self.life.state.replace(state) != Some(state) && state == AgentState::Live {
            self.check_live();
        }
        if self.settled_down() && state != self.expected() && !self.life.stopping {
            self.fail(&format!("it is calm, and the agent is {state}: {}", self.core.status().why));
        }
    }

    /// What a frame tells the daemon of its join.
    pub fn hears(&mut self, conn: u64, text: &str) {
        let Ok(Value::Array(parts)) = serde_json::from_str(text) else { return };
        let [join, _, topic, event, payload] = parts.as_slice() else { return };
        if !topic.as_str().is_some_and(|topic| topic.starts_with("agent_contacts:")) {
            return;
        }
        let in_time = self.life.joined_at.is_some_and(|at| self.at - at < ANSWERED_IN_TIME);
        match event.as_str() {
            Some("phx_reply") if in_time && payload["status"] == "ok" => {
                let told = join.as_str().map(|join| (conn, join.to_owned()));
                if self.life.told_join != told {
                    self.life.contacts_call = None;
                }
                self.life.told_join = told;
                self.truth_joined();
            }
            Some("phx_error" | "phx_close") => {
                self.life.told_join.take_if(|(_, told)| join.is_null() || join.as_str() == Some(told));
            }
            // What belongs to an earlier join says nothing, by the protocol: the next join and reading find out.
            Some(_) if !join.is_null() && join.as_str() != self.life.join.as_deref() => {}
            Some(event) if self.life.socket == Some(conn) => self.truth_hears(event, payload),
            _ => {}
        }
    }

    /// The daemon sends a frame; perhaps it asks to join.
    pub fn asks_to_join(&mut self, text: &str) {
        let Ok(Value::Array(parts)) = serde_json::from_str(text) else { return };
        let [join, _, topic, event, _] = parts.as_slice() else { return };
        if event == "phx_join" && topic.as_str().is_some_and(|topic| topic.starts_with("agent_contacts:")) {
            self.life.join = join.as_str().map(str::to_owned);
        }
    }

    /// A request that arrived while nobody had joined is only in the list. So the daemon must read the list after a
    /// join, at once if nothing prevents that.
    fn check_listed(&self) {
        let (Some(joined), Some(calm)) = (self.life.joined_at, self.calm_since) else { return };
        let in_the_way = self.life.stopping || joined < calm + MINUTE;
        if !in_the_way && self.at > joined + LISTS_WITHIN && self.life.listed_at < Some(joined) {
            self.fail("joined, and the list is not read");
        }
    }

    /// Live means that every request that was pending at the join is known, unless pages shifted or were stale since
    /// then.
    fn check_live(&mut self) {
        let Some(joined) = self.life.joined_at else { self.fail("live without a join") };
        if self.platform.removed_at >= joined || self.platform.stale_at >= joined {
            return;
        }
        let known: Vec<String> = self.core.pending().into_iter().map(|row| row.request.id.to_string()).collect();
        for (id, sent) in &self.platform.sent_requests {
            // A request that a stale page once called gone is accepted again only after several pages show it.
            let misled = self.platform.stale_at > Duration::ZERO && (self.record.ended(id) || self.life.gap);
            let garbled = !self.platform.garbled.is_empty() || self.platform.readable_at >= joined || sent.returned;
            if sent.status == "pending" && sent.at < joined && !known.contains(id) && !misled && !garbled {
                self.fail(&format!("live, and {id} was pending at the join and is not known"));
            }
        }
    }

    fn expected(&self) -> AgentState {
        match connection(self.seed) {
            ConnectionMode::Poll => AgentState::Polling,
            ConnectionMode::Yield | ConnectionMode::Take => AgentState::Live,
        }
    }

    /// Whether the calm has lasted long enough for the daemon to be live again, from any state.
    pub fn settled_down(&self) -> bool {
        let patience = match self.calm_from {
            // Sixteen times `yield_retry`, if only the closes show who has the connection.
            _ if self.platform.old => 5_100,
            AgentState::Refused => 1_500,
            // A dead connection, a connect, backoff, joins, a ghost connection, and yielding to it once.
            _ => 700,
        };
        self.calm_since.is_some_and(|since| self.at > since + Duration::from_secs(patience))
    }

    pub fn check_answered(&mut self, id: &str) {
        let sent = &self.platform.sent_requests[id];
        if sent.status == "pending" && !self.in_the_way(id, self.now().wall) {
            self.fail(&format!(
                "{id} (kind {}) came {:?} ago in a calm world, and nobody answered",
                sent.kind,
                self.at - sent.at
            ));
        }
    }

    /// At the end every request that can be decided is decided, every pending request is known, and the daemon is in
    /// the right state.
    pub fn check_end(&mut self) {
        let state = self.core.state();
        if state != self.expected() {
            self.fail(&format!("the end, and the agent is {state}: {}", self.core.status().why));
        }
        let rows = self.core.pending();
        let now = self.now().wall;
        for (id, sent) in self.platform.sent_requests.iter().filter(|(_, sent)| sent.status == "pending") {
            let Some(row) = rows.iter().find(|row| row.request.id.as_str() == *id) else {
                self.fail(&format!("{id} is pending, and doorman has lost it"));
            };
            let held = matches!(row.by, Some(By::Hold(_) | By::Guard(GuardKind::AnsweredBefore)));
            // If an id was used again, it may be unknown which request the person meant.
            let spoken_of = self.person.contains_key(id) || self.renewed.contains(&row.request.id);
            if matches!(row.by, Some(By::Hold(_))) && !spoken_of {
                self.fail(&format!("{id} is held, and nobody ever spoke of it"));
            }
            if row.verdict.is_none() && row.by.is_none() {
                self.fail(&format!("{id} was never decided: {row:?}"));
            }
            // With a clock that was wrong, a removal may be dated so that it counts beyond the end of the evening.
            let parted = matches!(sent.kind, KNOWN | FICKLE | QUOTA) && (self.jumped || self.gaps);
            let excused = held || parted || self.malformed.contains(id) || self.in_the_way(id, now);
            let must_end = self.word_ends(id, excused)
                || must_end(self.in_force, sent.kind)
                || (sent.kind == MATE && self.is_contact(id));
            if must_end && !excused {
                self.fail(&format!("{id} (kind {}) is still pending after two calm hours: {row:?}", sent.kind));
            }
            if !must_end && !excused && row.verdict == Some(Verdict::Reject) {
                self.fail(&format!("{id} (kind {}) stands to be rejected: {row:?}", sent.kind));
            }
        }
        self.check_guests();
        let (charges, approvals) = self.core.remembered();
        // Approvals that were read again count as open for a day.
        let read = if self.life.reading > 0 { self.past.counted() } else { 0 };
        let most = REMEMBERED_MAX + read + if self.in_force == THIRD { APPROVALS_MAX } else { 0 };
        if charges > 2 * ACME_MAX || approvals > most {
            self.fail(&format!(
                "{charges} charges and {approvals} approvals are remembered, though no window reaches them"
            ));
        }
        for row in &rows {
            if self.platform.sent_requests.get(row.request.id.as_str()).is_none_or(|sent| sent.status != "pending") {
                self.fail(&format!("{} was settled long ago, and doorman still keeps it", row.request.id));
            }
        }
    }
}
