//! A model of the ledger: what was committed, and what a starting daemon loads from it.

mod memory;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::contacts::Contacts;
use super::guests::Guests;
use doorman::inbox::GivenAnswer;
use doorman::ledger::Record;
use doorman::model::{Answer, ContactRequest, Outcome, Refusal, RequestId, RequestStatus, Sender, Verdict};
use doorman::policy::doubts::DoubtSettlement as SaidOfDoubt;
use doorman::policy::state::{ApprovalRow, ChargeEnd, ChargeRow, HistoryKind, PauseRecord};
use doorman::policy::{By, DeciderVerdict, Mode, PolicyHash};
use jiff::{SignedDuration, Timestamp};

#[derive(Debug, Clone)]
struct Row {
    answer: Answer,
    by: By,
    policy: Option<PolicyHash>,
    attempts: u32,
    at: Timestamp,
    /// The time of the first of these attempts, from which it counts against a limit.
    since: Timestamp,
    outcome: Option<(Outcome, Timestamp)>,
    /// For `approvals_max`: the number of resumes before it.
    counts: Option<u32>,
    refusal: Option<Refusal>,
    /// How long an approval lasts.
    lasts: Option<SignedDuration>,
    /// The sender of the request at that time.
    sender: Sender,
}

impl Row {
    /// Whether it was, or may have been, carried out according to the ledger.
    fn open(&self) -> bool {
        self.outcome.is_none_or(|(outcome, _)| outcome == Outcome::Unknown)
    }

    fn counts(&self) -> bool {
        self.outcome.is_none_or(|(outcome, _)| outcome.keeps_charge())
    }
}

#[derive(Debug, Default)]
pub struct LedgerModel {
    seen: BTreeMap<RequestId, (Timestamp, Option<String>)>,
    senders: BTreeMap<RequestId, Sender>,
    pub guests: Guests,
    answers: BTreeMap<RequestId, Row>,
    /// Answers that had ended before another one, or the same one again, followed.
    older: Vec<(RequestId, Row)>,
    settled: HashSet<RequestId>,
    /// When requests ended without a known reason.
    unseen: BTreeMap<RequestId, Timestamp>,
    /// When each request was sent, according to the platform.
    sent: BTreeMap<RequestId, Timestamp>,
    /// Of those that ended: requests that only a listing, which may have been stale, called ended.
    gone: HashSet<RequestId>,
    /// Of those that ended: requests that somebody else answered in an unknown way.
    elsewhere: HashSet<RequestId>,
    /// Requests of which the platform reported another end than the one that was presumed.
    overruled: HashSet<RequestId>,
    /// Requests that ended with an approval by a rule whose outcome is unknown.
    presumed: HashSet<RequestId>,
    /// Requests that ended with a rejection by a rule whose outcome is unknown.
    perhaps: HashSet<RequestId>,
    /// Requests whose approval made a contact that was shown.
    met: HashSet<RequestId>,
    decided: BTreeMap<RequestId, (Verdict, By, Mode)>,
    charges: BTreeMap<RequestId, Vec<ChargeRow>>,
    holds: BTreeMap<RequestId, Arc<str>>,
    paused: Option<PauseRecord>,
    resumes: u32,
    /// The answers that were carried out, and when the daemon learned that.
    done: Vec<(RequestId, HistoryKind, Timestamp)>,
    notified: Vec<(RequestId, doorman::policy::RuleName)>,
    /// What deciders replied.
    replies: Vec<(RequestId, DeciderVerdict)>,
    pub contacts: Contacts,
    /// How people settled doubts, and when.
    settlements: Vec<(Arc<str>, Option<RequestId>, SaidOfDoubt, Timestamp)>,
    /// The number of requests whose ids were used again.
    retired: u32,
    /// Whether all contacts have been read once.
    contacts_read: bool,
    newest: Option<Timestamp>,
}

impl LedgerModel {
    /// Whether the ledger has an ended request with this id that had another sender or was sent at another time.
    pub fn is_another(&self, request: &ContactRequest) -> bool {
        let sender = match (self.senders.get(&request.id), &request.sender) {
            (None | Some(Sender::Absent), _) | (_, Sender::Absent) => false,
            (Some(known), now) => known.handle() != now.handle() || (known.handle().is_none() && known != now),
        };
        let sent = self.sent.get(&request.id).zip(request.inserted_at);
        self.settled.contains(&request.id) && (sender || sent.is_some_and(|(known, now)| *known != now))
    }

    /// The id now belongs to another request: the records of the earlier one stay, under another id.
    fn retire(&mut self, id: &RequestId) {
        self.retired += 1;
        let name = RequestId::parse(&format!("{id}~{}", self.retired)).unwrap();
        move_to(&mut self.seen, id, &name);
        move_to(&mut self.senders, id, &name);
        move_to(&mut self.answers, id, &name);
        move_to(&mut self.unseen, id, &name);
        move_to(&mut self.sent, id, &name);
        move_to(&mut self.decided, id, &name);
        move_to(&mut self.charges, id, &name);
        self.holds.remove(id);
        for set in [
            &mut self.settled,
            &mut self.gone,
            &mut self.elsewhere,
            &mut self.presumed,
            &mut self.perhaps,
            &mut self.met,
            &mut self.overruled,
        ] {
            if set.remove(id) {
                set.insert(name.clone());
            }
        }
        self.older.iter_mut().filter(|(one, _)| one == id).for_each(|(one, _)| *one = name.clone());
        self.done.iter_mut().filter(|(one, ..)| one == id).for_each(|(one, ..)| *one = name.clone());
        self.notified.retain(|(one, _)| one != id);
        self.replies.retain(|(one, _)| one != id);
        let settled = self.settlements.iter_mut().filter_map(|(_, request, ..)| request.as_mut());
        settled.filter(|request| *request == id).for_each(|request| *request = name.clone());
    }

    /// An answer that was carried out according to the ledger and differs from what a rule intends, and when the daemon
    /// learned that.
    pub fn carried_out(&self, batch: &[Record]) -> Option<(RequestId, GivenAnswer, Timestamp)> {
        let mut again = HashSet::new();
        batch.iter().find_map(|entry| {
            if let Record::Seen { request, .. } = entry
                && self.is_another(request)
            {
                again.insert(&request.id);
            }
            let Record::Intent { request, answer, by: By::Rule(_) | By::Overdue(_), .. } = entry else { return None };
            let row = self.answers.get(request).filter(|row| row.answer != *answer && !again.contains(request))?;
            let (Outcome::Confirmed(_) | Outcome::Presumed(_), at) = row.outcome? else { return None };
            Some((request.clone(), GivenAnswer { answer: row.answer, by: row.by.clone(), lasts: row.lasts }, at))
        })
    }

    /// Commits a whole batch, or nothing of it and returns what is wrong with it, like the real ledger.
    pub fn commit(&mut self, batch: &[Record]) -> Result<(), String> {
        // What this batch itself opens and ends.
        let mut open: BTreeMap<&RequestId, Option<Answer>> = BTreeMap::new();
        for entry in batch {
            match entry {
                Record::Intent { request, answer, .. } => {
                    let before = open.get(request).copied();
                    let before =
                        before.unwrap_or_else(|| Some(self.answers.get(request).filter(|row| row.open())?.answer));
                    if let Some(before) = before.filter(|before| before != answer) {
                        return Err(format!("{answer} to {request} is intended while {before} is open"));
                    }
                    open.insert(request, Some(*answer));
                }
                Record::Outcome { request, outcome, .. } => {
                    let before = open.get(request).map(Option::is_some);
                    if !before.unwrap_or_else(|| self.answers.get(request).is_some_and(Row::open)) {
                        return Err(format!("{outcome} of {request} is recorded, and no intent is"));
                    }
                    if *outcome != Outcome::Unknown {
                        open.insert(request, None);
                    }
                }
                Record::Withdrawn { request, .. } => drop(open.insert(request, None)),
                _ => {}
            }
        }
        batch.iter().for_each(|entry| self.put(entry));
        Ok(())
    }

    /// If one entry of a batch is refused, commits all entries that report what happened, like the real ledger.
    pub fn commit_but(&mut self, batch: &[Record], refused: Option<usize>) {
        for (number, entry) in batch.iter().enumerate() {
            if !matches!(entry, Record::Intent { .. }) && refused != Some(number) {
                self.put(entry);
            }
        }
    }

    fn put(&mut self, entry: &Record) {
        match entry {
            Record::Seen { request, at, .. } => {
                if self.is_another(request) {
                    self.retire(&request.id);
                }
                let owner = request.sender.handle().map(|handle| handle.owner().to_owned());
                self.seen.entry(request.id.clone()).or_insert((*at, owner));
                if request.sender != Sender::Absent && !self.settled.contains(&request.id) {
                    self.now_of(request);
                }
                self.senders.entry(request.id.clone()).or_insert_with(|| request.sender.clone());
                if self.gone.remove(&request.id) | self.elsewhere.remove(&request.id) {
                    self.settled.remove(&request.id);
                    self.unseen.remove(&request.id);
                }
                if let Some(sent) = request.inserted_at {
                    self.sent.entry(request.id.clone()).or_insert(sent);
                }
                self.newest = self.newest.max(Some(*at));
            }
            // Payloads of the simulation contain no ids of senders.
            Record::Identity { .. } | Record::Vouched { .. } => {}
            Record::Decided { request, decision, at, .. } => {
                self.decided.insert(request.clone(), (decision.verdict, decision.by.clone(), decision.mode));
                self.newest = self.newest.max(Some(*at));
            }
            Record::Intent { request, answer, by, lasts, policy, charges, counts, attempt, at, .. } => {
                // If the same answer is open already, this is another attempt of it.
                let before = self.answers.get(request).filter(|row| row.open() && row.answer == *answer);
                let since = before.map_or(*at, |before| before.since);
                let counts = (*counts && *answer == Answer::Approve).then_some(self.resumes);
                let counts = before.map_or(counts, |before| before.counts);
                // A charge counts from its first intent until it is given back.
                let charged = self.charges.entry(request.clone()).or_default();
                for charge in charges {
                    if !charged.iter().any(|row| row.charge == *charge) {
                        charged.push(ChargeRow {
                            request: Some(request.clone()),
                            charge: charge.clone(),
                            at: *at,
                            end: ChargeEnd::Open,
                        });
                    }
                }
                let row = Row {
                    answer: *answer,
                    by: by.clone(),
                    policy: policy.clone(),
                    attempts: *attempt,
                    at: *at,
                    since,
                    outcome: None,
                    counts,
                    refusal: None,
                    lasts: *lasts,
                    sender: self.senders.get(request).cloned().unwrap_or(Sender::Absent),
                };
                let last = self.answers.insert(request.clone(), row);
                self.older.extend(last.filter(|last| !last.open()).map(|last| (request.clone(), last)));
                self.newest = self.newest.max(Some(*at));
            }
            Record::Outcome { request, outcome, at, refusal, stay, .. } => {
                let Some(row) = self.answers.get_mut(request).filter(|row| row.open()) else { return };
                row.refusal = *refusal;
                row.outcome = Some((*outcome, *at));
                let presumed = matches!(outcome, Outcome::Presumed(_)) && !matches!(row.by, By::Person(_));
                if presumed {
                    let set = if row.answer == Answer::Approve { &mut self.presumed } else { &mut self.perhaps };
                    set.insert(request.clone());
                    self.unseen.insert(request.clone(), *at);
                }
                let perhaps = presumed && row.answer == Answer::Reject;
                if matches!(outcome, Outcome::Confirmed(_) | Outcome::Presumed(_)) && !perhaps {
                    let kind = match row.answer {
                        Answer::Approve if row.lasts.is_some() => HistoryKind::Guest,
                        Answer::Approve => HistoryKind::Approved,
                        Answer::Reject => HistoryKind::Rejected,
                    };
                    self.done.push((request.clone(), kind, *at));
                }
                if let Some(stay) = stay {
                    self.guests.let_in(request, row.sender.clone(), *stay);
                }
                if !outcome.keeps_charge() {
                    self.charges.remove(request);
                }
                if *outcome == Outcome::SettledElsewhere {
                    self.elsewhere.insert(request.clone());
                    self.unseen.insert(request.clone(), *at);
                }
                if !matches!(outcome, Outcome::Unknown | Outcome::Refused) {
                    self.settled.insert(request.clone());
                }
            }
            Record::Settled { request, status, at, .. } => {
                let open = !self.settled.contains(request)
                    || [&self.gone, &self.elsewhere, &self.presumed, &self.perhaps]
                        .iter()
                        .any(|set| set.contains(request));
                if open && *status == Some(RequestStatus::Rejected) && self.seen.contains_key(request) {
                    self.elsewhere.remove(request);
                    self.done.push((request.clone(), HistoryKind::Rejected, *at));
                }
                if status.as_ref().is_some_and(|status| *status != RequestStatus::Approved) {
                    self.overruled.insert(request.clone());
                }
                if self.settled.insert(request.clone()) && status.is_none() {
                    self.gone.insert(request.clone());
                    self.unseen.insert(request.clone(), *at);
                }
                if status.is_some() {
                    // A hold ends with its request: a request that returns is decided like any other.
                    self.holds.remove(request);
                    self.elsewhere.remove(request);
                    self.gone.remove(request);
                    self.presumed.remove(request);
                    self.perhaps.remove(request);
                    self.unseen.remove(request);
                }
            }
            Record::Withdrawn { request, .. } if self.answers.get(request).is_some_and(Row::open) => {
                self.answers.remove(request);
                self.charges.remove(request);
            }
            Record::Withdrawn { .. } => {}
            Record::Pause { on, by, note, at, .. } => {
                let pause = || PauseRecord { by: by.clone(), at: *at, note: note.as_deref().map(str::to_owned) };
                self.paused = on.then(pause);
                self.resumes += u32::from(!on);
            }
            Record::Hold { request, person: Some(person), .. } => {
                drop(self.holds.insert(request.clone(), person.name().into()))
            }
            Record::Hold { request, person: None, .. } => drop(self.holds.remove(request)),
            Record::Notified { request, overdue, .. } => self.notified.push((request.clone(), overdue.clone())),
            Record::ContactAdded { contact, request, guest, at, .. } => {
                if let (Some(doubt), Some(request)) = (guest, request) {
                    self.guests.met(request, &contact.id, *doubt);
                }
                let made = request.as_ref().and_then(|request| self.seen.get(request)?.1.clone());
                self.met.extend(request.clone());
                self.contacts.added(contact, made, *at);
            }
            Record::ContactRemoved { contact, expired, at, .. } => {
                self.guests.left(contact);
                self.contacts.removed(contact, *expired, *at);
            }
            Record::GuestEnd { request, ends_at, .. } => self.guests.end_moved(request, *ends_at),
            Record::GuestUnseen { request, .. } => self.guests.unseen(request),
            Record::Removing { contact, by, .. } => self.guests.removing(contact, by),
            Record::Removal { contact, outcome, .. } => self.guests.removal(contact, *outcome),
            Record::DeciderReplied { request, reply, .. } => self.replies.push((request.clone(), (**reply).clone())),
            Record::Changed { request, .. } => {
                self.now_of(request);
            }
            Record::ContactsRead { .. } => self.contacts_read = true,
            Record::Settlement { owner, request, said, at, .. } => {
                self.settlements.push((owner.clone(), request.clone(), *said, *at));
            }
            Record::Named { .. }
            | Record::Message { .. }
            | Record::Tried { .. }
            | Record::Session { .. }
            | Record::Policy { .. } => {}
        }
    }

    fn now_of(&mut self, request: &ContactRequest) {
        if let Some(sent) = request.inserted_at {
            self.sent.insert(request.id.clone(), sent);
        }
        self.senders.insert(request.id.clone(), request.sender.clone());
        if let Some(seen) = self.seen.get_mut(&request.id) {
            seen.1 = request.sender.handle().map(|handle| handle.owner().to_owned());
        }
    }

    /// Whether the intent of this attempt is recorded, without an outcome.
    pub fn has_intent(&self, request: &RequestId, answer: Answer, attempt: u32) -> bool {
        self.answers.get(request).is_some_and(|row| {
            row.answer == answer
                && row.attempts == attempt
                && row.outcome.is_none_or(|(outcome, _)| matches!(outcome, Outcome::Unknown | Outcome::Refused))
        })
    }

    /// The requests whose answer is open, as a starting daemon loads them.
    pub fn open(&self) -> impl Iterator<Item = &RequestId> {
        self.answers.iter().filter(|(_, row)| row.open()).map(|(id, _)| id)
    }

    /// The last answer to each request.
    pub fn said(&self) -> impl Iterator<Item = (RequestId, (Answer, By))> {
        self.answers.iter().map(|(id, row)| (id.clone(), (row.answer, row.by.clone())))
    }

    /// Those that let in for a time.
    pub fn for_a_time(&self) -> impl Iterator<Item = RequestId> {
        self.answers.iter().filter(|(_, row)| row.lasts.is_some()).map(|(id, _)| id.clone())
    }

    /// Whether the request has ended according to the ledger.
    pub fn ended(&self, request: &str) -> bool {
        RequestId::parse(request).is_ok_and(|id| self.settled.contains(&id))
    }

    /// The owner of the request.
    pub fn owner(&self, request: &RequestId) -> Option<String> {
        self.seen.get(request)?.1.clone()
    }

    /// Whether a person gave the last answer.
    pub fn by_person(&self, request: &RequestId) -> bool {
        self.answers.get(request).is_some_and(|row| matches!(row.by, By::Person(_)))
    }

    /// Whether a person holds this request.
    pub fn holds(&self, request: &RequestId) -> bool {
        self.holds.contains_key(request)
    }

    /// Whether the agent is paused.
    pub fn paused(&self) -> bool {
        self.paused.is_some()
    }

    /// The times that count against a rule's limit, according to its charges and according to the approvals themselves,
    /// each sorted.
    pub fn counted(&self, rule: &str) -> [Vec<Timestamp>; 2] {
        let charges = self.charges.values().flatten().filter(|row| row.charge.rule.as_str() == rule);
        let mut approvals: BTreeMap<&RequestId, Timestamp> = BTreeMap::new();
        for (id, row) in self.standing().filter(|(_, row)| row.by.to_string() == rule) {
            let since = approvals.entry(id).or_insert(row.since);
            *since = row.since.min(*since);
        }
        let mut both = [charges.map(|row| row.at).collect(), approvals.into_values().collect::<Vec<_>>()];
        both.iter_mut().for_each(|times| times.sort());
        both
    }

    /// The approvals that were, or may have been, carried out.
    fn standing(&self) -> impl Iterator<Item = (&RequestId, &Row)> {
        let all = self.answers.iter().chain(self.older.iter().map(|(id, row)| (id, row)));
        all.filter(|(_, row)| row.answer == Answer::Approve && row.counts())
    }

    /// The charges against a rule, by request.
    pub fn charged(&self, rule: &str) -> BTreeMap<RequestId, Timestamp> {
        let charges = self.charges.values().flatten().filter(|row| row.charge.rule.as_str() == rule);
        charges.filter_map(|row| Some((row.request.clone()?, row.at))).collect()
    }

    /// Of those, the ones that `approvals_max` counts, and since when. Requests whose ids others had later have names of their own.
    pub fn let_in(&self) -> impl Iterator<Item = ApprovalRow> {
        let counted = self.standing().filter(|(_, row)| row.counts == Some(self.resumes));
        counted.map(|(id, row)| ApprovalRow { request: id.clone(), at: row.since, open: row.open() })
    }
}

fn move_to<T>(map: &mut BTreeMap<RequestId, T>, id: &RequestId, name: &RequestId) {
    if let Some(row) = map.remove(id) {
        map.insert(name.clone(), row);
    }
}

/// The id that a request had on the platform.
fn original(id: &RequestId) -> RequestId {
    RequestId::parse(id.as_str().split('~').next().unwrap()).unwrap()
}
