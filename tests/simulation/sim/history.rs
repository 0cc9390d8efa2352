//! The past as the daemon must count it, whichever part of the record it asks for: what this daemon learned since it
//! started, and everything that was in the ledger then. And what follows from it for strangers who return.

mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use doorman::ledger::Record;
use doorman::model::{Answer, Outcome, RequestId, RequestStatus, Verdict};
use doorman::policy::By;
use doorman::policy::doubts::{DoubtSettlement, Fact};
use doorman::policy::state::HistoryKind;
use jiff::{SignedDuration, Timestamp};

use super::record::LedgerModel;
use super::rules::{AGAIN, APPROVALS_MAX, APPROVALS_PER, BACK, OFTEN, OFTEN_MAX, OFTEN_PER, RUDE, SHUT_OUT, THIRD};
use super::rules::{EACH, EACH_OVER, FICKLE, KNOWN, MANY, PARTED, TOO_OFTEN, TWICE};
use super::world::SimWorld;

/// In the calm part, the next listing begins and ends within this time.
const LISTED_AGAIN: Duration = Duration::from_secs(400);

/// When something happened to an owner, and of which request.
type OwnerMoments = Vec<(Option<RequestId>, Timestamp)>;

/// See the module. All times are those of the daemon's own clock, however wrong it is: the daemon uses it to decide
/// whether a window has passed.
#[derive(Debug, Default)]
pub struct ExpectedHistory {
    /// When somebody of this owner was last rejected.
    rejected: BTreeMap<String, Timestamp>,
    /// When a request of this owner ended without a known reason.
    unseen: BTreeMap<String, BTreeMap<RequestId, Timestamp>>,
    /// When each owner was rejected, let in, and lost a contact; each once for one request.
    met: [BTreeMap<String, OwnerMoments>; 3],
    /// When each of an owner's requests was first seen.
    asked: BTreeMap<String, BTreeMap<RequestId, Timestamp>>,
    /// The handle that each request is from.
    named: BTreeMap<RequestId, String>,
    /// Owners of whom a request was approved, and when this daemon learned of the first.
    welcome: BTreeMap<String, Duration>,
    /// Owners of whom a request was only presumed to be approved.
    perhaps: BTreeSet<String>,
    /// The last answer to each request.
    said: BTreeMap<RequestId, (Answer, By)>,
    /// Those that let in for a time.
    for_a_time: BTreeSet<RequestId>,
    /// Approvals in effect: since when, and whether `approvals_max` counts them.
    let_in: BTreeMap<RequestId, (Timestamp, bool)>,
    /// Approvals since the last resume.
    spent: BTreeMap<RequestId, Timestamp>,
    /// The owner of each request.
    owners: BTreeMap<RequestId, Option<String>>,
    /// Owners of whom the ledger ever refused something: to read it again does not help.
    unsure: BTreeSet<String>,
    /// Requests whose sender the ledger refused to record.
    unnamed: BTreeSet<RequestId>,
}

fn after(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.checked_add(wait).unwrap()
}

impl ExpectedHistory {
    /// What a daemon that starts now must know.
    pub fn on_record(&self, record: &LedgerModel) -> Self {
        let (unsure, unseen, unnamed) = (self.unsure.clone(), self.unseen.clone(), self.unnamed.clone());
        let mut past = Self { unsure, unseen, unnamed, ..Self::default() };
        for row in record.history(Timestamp::MIN) {
            if let (Some(request), Some(handle)) = (&row.request, &row.handle) {
                past.named.insert(request.clone(), handle.to_string());
            }
            past.met(row.owner.to_string(), row.kind, row.request, row.at, Duration::ZERO);
        }
        past.said = record.said().collect();
        past.for_a_time = record.for_a_time().collect();
        // An approval that has been open since before the last resume does not count again when it is repeated.
        past.let_in = record.open().map(|id| (id.clone(), (Timestamp::MIN, false))).collect();
        past.let_in.extend(record.let_in().map(|row| (row.request, (row.at, true))));
        past.spent = record.let_in().map(|row| (row.request, row.at)).collect();
        past
    }

    fn met(&mut self, owner: String, kind: HistoryKind, request: Option<RequestId>, at: Timestamp, heard: Duration) {
        if let Some(which) = counts_as(kind) {
            let met = self.met[which].entry(owner.clone()).or_default();
            // Two contacts with the same handle that are removed at the same moment count as one.
            let twice = request.is_none() && met.contains(&(None, at));
            match met.iter_mut().find(|(one, _)| one.is_some() && *one == request) {
                Some((_, known)) => *known = at.min(*known),
                None if twice => {}
                None => met.push((request.clone(), at)),
            }
        }
        match kind {
            HistoryKind::Requested => {
                let Some(request) = request else { return };
                self.asked.entry(owner).or_default().entry(request).or_insert(at);
            }
            HistoryKind::Approved => {
                self.welcome.entry(owner).or_insert(heard);
            }
            HistoryKind::Rejected => {
                let last = self.rejected.entry(owner).or_insert(at);
                *last = at.max(*last);
            }
            // Nothing shows that it was approved.
            HistoryKind::Presumed => drop(self.perhaps.insert(owner)),
            HistoryKind::Guest | HistoryKind::Removed => {}
        }
    }

    /// What was presumed of this request was not so: the platform, or a person, says how it ended.
    fn was_not_approved(&mut self, request: &RequestId) {
        for approved in self.met[1].values_mut() {
            approved.retain(|(of, _)| of.as_ref() != Some(request));
        }
    }

    fn hear(&mut self, entry: &Record, owner: Option<String>, heard: Duration) {
        if let Record::Intent { request, answer, by, lasts, .. } = entry {
            self.said.insert(request.clone(), (*answer, by.clone()));
            match lasts {
                Some(_) => self.for_a_time.insert(request.clone()),
                None => self.for_a_time.remove(request),
            };
        }
        if let Record::Settled { request, status: None, at, .. }
        | Record::Outcome { request, outcome: Outcome::SettledElsewhere, at, .. } = entry
            && let Some(owner) = &owner
        {
            self.unseen.entry(owner.clone()).or_default().insert(request.clone(), *at);
        }
        if let Record::Outcome { request, outcome: Outcome::Confirmed(_) | Outcome::Presumed(_), .. } = entry
            && let (Some(owner), Some((Answer::Approve, By::Person(_)))) = (&owner, self.said.get(request))
        {
            self.unseen.remove(owner);
        }
        if let Record::Outcome { request, outcome: Outcome::Presumed(_), at, .. } = entry
            && let (Some(owner), Some((_, by))) = (&owner, self.said.get(request))
            && !matches!(by, By::Person(_))
        {
            self.unseen.entry(owner.clone()).or_default().insert(request.clone(), *at);
        }
        if let Record::Settled { request, status: Some(_), .. } | Record::ContactAdded { request: Some(request), .. } =
            entry
        {
            self.unseen.values_mut().for_each(|unseen| {
                unseen.remove(request);
            });
        }
        if let Record::Settled { request, status: Some(status), .. } = entry
            && *status != RequestStatus::Approved
        {
            self.was_not_approved(request);
        }
        match entry {
            Record::Outcome {
                request, outcome: outcome @ (Outcome::Confirmed(_) | Outcome::Presumed(_)), at, ..
            } => {
                let (Some(owner), Some((answer, by))) = (owner, self.said.get(request)) else { return };
                let presumed = matches!(outcome, Outcome::Presumed(_)) && !matches!(by, By::Person(_));
                let kind = match answer {
                    Answer::Approve if self.for_a_time.contains(request) => HistoryKind::Guest,
                    Answer::Approve if presumed => HistoryKind::Presumed,
                    Answer::Approve => HistoryKind::Approved,
                    // Unknown, until something says so.
                    Answer::Reject if presumed => return,
                    Answer::Reject => HistoryKind::Rejected,
                };
                self.met(owner, kind, Some(request.clone()), *at, heard);
            }
            Record::Settled { status: Some(RequestStatus::Approved), .. } => {
                if let Some(owner) = owner.filter(|owner| self.perhaps.contains(owner)) {
                    self.welcome.entry(owner).or_insert(heard);
                }
            }
            Record::Settled { request, status: Some(RequestStatus::Rejected), at, .. } => {
                if let Some(owner) = owner {
                    self.met(owner, HistoryKind::Rejected, Some(request.clone()), *at, heard);
                }
            }
            Record::Settlement { owner, request, said, at, .. } => {
                let owner = owner.to_string();
                let kind = if said.fact() == Fact::Removed { HistoryKind::Removed } else { HistoryKind::Rejected };
                if let (Some(request), Some(unseen)) = (request, self.unseen.get_mut(&owner)) {
                    unseen.remove(request);
                }
                if *said == DoubtSettlement::Approved && self.perhaps.contains(&owner) {
                    self.welcome.entry(owner.clone()).or_insert(heard);
                }
                if let Some(request) = request.as_ref().filter(|_| *said != DoubtSettlement::Approved) {
                    self.was_not_approved(request);
                }
                if said.happened() {
                    self.met(owner, kind, request.clone(), *at, heard);
                }
            }
            Record::Seen { request, at, .. } | Record::Changed { request, at, .. } => {
                if let Some(owner) = owner {
                    // Whoever it is from, it was made when it was first seen.
                    let known = self.asked.values().filter_map(|asked| asked.get(&request.id)).min();
                    let first = known.filter(|_| matches!(entry, Record::Changed { .. })).copied().unwrap_or(*at);
                    self.met(owner, HistoryKind::Requested, Some(request.id.clone()), first, heard);
                }
            }
            Record::Intent { request, answer: Answer::Approve, counts: true, at, .. } => {
                self.let_in.entry(request.clone()).or_insert((*at, true));
                self.spent.entry(request.clone()).or_insert(*at);
            }
            Record::Intent { request, answer: Answer::Reject, .. } | Record::Withdrawn { request, .. } => {
                self.let_in.remove(request);
                self.spent.remove(request);
            }
            Record::Outcome { request, outcome, .. } if !outcome.keeps_charge() => {
                self.let_in.remove(request);
                self.spent.remove(request);
            }
            Record::Pause { on: false, .. } => {
                self.let_in.values_mut().for_each(|(_, counts)| *counts = false);
                self.spent.clear();
            }
            _ => {}
        }
    }

    /// Approvals since the last resume.
    pub fn counted(&self) -> usize {
        self.let_in.values().filter(|(_, counts)| *counts).count()
    }

    /// Whether a request of this owner was rejected so recently that this policy does not approve them.
    fn shut_out(&self, policy: usize, owner: &str, now: Timestamp) -> bool {
        let (Some(within), Some(last)) = (SHUT_OUT[policy], self.rejected.get(owner)) else { return false };
        after(*last, within) > now
    }

    /// Whether a request of this owner ended without a known reason so recently that this policy does not approve them.
    fn in_doubt(&self, within: Option<SignedDuration>, owner: &str, now: Timestamp) -> bool {
        let (Some(within), Some(unseen)) = (within, self.unseen.get(owner)) else { return false };
        unseen.values().any(|at| after(*at, within) > now)
    }

    /// What this policy counts of this kind of stranger: how often it happened to this owner, if that is too often.
    fn too_often(&self, policy: usize, kind: usize, owner: &str, now: Timestamp) -> Option<usize> {
        let which = counted(kind)?;
        let (most, per) = TOO_OFTEN[policy][which]?;
        // An entry with a future date, from a clock that ran ahead, may have been forgotten since.
        let counts = |at: Timestamp| at <= now && after(at, per) > now;
        let count = self.met[which].get(owner)?.iter().filter(|(_, at)| counts(*at)).count();
        (count > most).then_some(count)
    }

    /// The same, but entries that a wrong clock dated in the future also count.
    fn held_back(&self, policy: usize, kind: usize, owner: &str, now: Timestamp) -> bool {
        let Some(which) = counted(kind) else { return false };
        let Some((most, per)) = TOO_OFTEN[policy][which] else { return false };
        let met = self.met[which].get(owner).into_iter().flatten();
        met.filter(|(_, at)| after(*at, per) > now).count() > most
            || (kind == TWICE && self.in_doubt(Some(per), owner, now))
    }

    /// How often this handle was let in, if that is more than this policy allows. With `perhaps`, what is not known to be of
    /// another handle counts as well, and entries that a wrong clock dated in the future.
    fn each_too_often(
        &self,
        policy: usize,
        id: &RequestId,
        owner: &str,
        now: Timestamp,
        perhaps: bool,
    ) -> Option<usize> {
        let ((most, per), handle) = (EACH_OVER[policy]?, self.named.get(id));
        let counts = |at: Timestamp| (perhaps || at <= now) && after(at, per) > now;
        let theirs = |of: &Option<RequestId>| match of.as_ref().and_then(|of| self.named.get(of)) {
            Some(of) => handle.is_some_and(|handle| handle == of),
            None => perhaps,
        };
        let met = self.met[1].get(owner).into_iter().flatten();
        let count = met.filter(|(of, at)| counts(*at) && theirs(of)).count();
        (count > most).then_some(count)
    }

    /// Other requests of this owner's that count now.
    fn asked_lately(&self, owner: &str, except: &RequestId, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let requests = self.asked.get(owner).into_iter().flatten().filter(move |(id, _)| *id != except);
        requests.map(|(_, at)| *at).filter(move |at| after(*at, OFTEN_PER) > now)
    }
}

/// The index of this kind of event in [`ExpectedHistory::met`], and in the limits for a kind of stranger.
fn counts_as(kind: HistoryKind) -> Option<usize> {
    match kind {
        HistoryKind::Requested => None,
        HistoryKind::Rejected => Some(0),
        HistoryKind::Approved | HistoryKind::Guest | HistoryKind::Presumed => Some(1),
        HistoryKind::Removed => Some(2),
    }
}

fn counted(kind: usize) -> Option<usize> {
    [TWICE, MANY, FICKLE].iter().position(|one| *one == kind)
}

impl SimWorld {
    /// The owner of a request, as recorded.
    fn owner(&self, request: &RequestId) -> Option<String> {
        self.past.owners.get(request).cloned().unwrap_or_else(|| self.record.owner(request))
    }

    /// Whether a request of this owner was approved, as far as this daemon had learned by then.
    pub fn let_in_before(&self, owner: &str, at: Duration) -> bool {
        self.past.welcome.get(owner).is_some_and(|heard| *heard < at)
    }

    /// Whether the ledger refused to record the sender of this request: after a restart the owner of an answer to it is
    /// unknown.
    pub fn unnamed_on_record(&self, request: &RequestId) -> bool {
        self.past.unnamed.contains(request)
    }

    /// Whether the ledger ever refused an entry about this owner.
    pub fn unsure(&self, owner: &str) -> bool {
        self.past.unsure.contains(owner)
    }

    /// The daemon records an entry: from now on it knows it.
    pub fn past_hears(&mut self, entry: &Record) {
        if let Record::Seen { request, .. } | Record::Changed { request, .. } = entry {
            if matches!(entry, Record::Seen { .. }) && self.record.is_another(request) {
                self.another(&request.id);
            }
            let owner = request.sender.handle().map(|handle| handle.owner().to_owned());
            self.past.owners.insert(request.id.clone(), owner);
            match request.sender.handle() {
                Some(handle) => self.past.named.insert(request.id.clone(), handle.to_string()),
                None => self.past.named.remove(&request.id),
            };
        }
        let request = match entry {
            Record::Seen { request, .. } | Record::Changed { request, .. } => Some(&request.id),
            Record::Outcome { request, .. } | Record::Settled { request, .. } => Some(request),
            Record::Decided { request, decision, at, .. } if decision.verdict == Verdict::Defer => {
                if self.in_the_way(request.as_str(), *at) {
                    self.saw("shut out by what was before");
                    let kind = self.platform.sent_requests.get(request.as_str()).map(|sent| sent.kind);
                    if kind == Some(EACH) {
                        self.saw("one handle of an owner let in too often");
                    }
                }
                None
            }
            _ => None,
        };
        // Whoever goes at the end that was agreed was not removed.
        if let Record::ContactRemoved { contact, expired: false, at, .. } = entry {
            for owner in self.record.contacts.owners(contact) {
                self.past.met(owner.to_string(), HistoryKind::Removed, None, *at, self.at);
            }
        }
        let owner = request.and_then(|request| self.owner(request));
        self.past.hear(entry, owner, self.at);
    }

    /// The id now belongs to another request: what was recorded about the earlier one does not apply to it, but the
    /// earlier one still counts.
    fn another(&mut self, id: &RequestId) {
        self.saw("an id used again");
        self.note(|| format!("== {id} is another's now"));
        let name = RequestId::parse(&format!("{id}~{}", self.summary.steps)).unwrap();
        self.past.named.remove(id);
        for asked in self.past.asked.values_mut() {
            if let Some(at) = asked.remove(id) {
                asked.insert(name.clone(), at);
            }
        }
        for (one, _) in self.past.met.iter_mut().flat_map(BTreeMap::values_mut).flatten() {
            one.take_if(|one| one == id);
        }
        if let Some(row) = self.past.let_in.remove(id) {
            self.past.let_in.insert(name.clone(), row);
        }
        if let Some(at) = self.past.spent.remove(id) {
            self.past.spent.insert(name.clone(), at);
        }
        for unseen in self.past.unseen.values_mut() {
            if let Some(at) = unseen.remove(id) {
                unseen.insert(name.clone(), at);
            }
        }
        if let Some(at) = self.charged.remove(id) {
            self.charged.insert(name, at);
        }
        self.inherited.remove(id);
        self.renewed.insert(id.clone());
        self.malformed.remove(id.as_str());
        self.person.remove(id.as_str());
        if let Some(sent) = self.platform.sent_requests.get_mut(id.as_str()) {
            (sent.bound, sent.taken, sent.uncertain) = (None, None, 0);
        }
    }

    /// The ledger refused an entry: its content will not be found there.
    pub fn past_loses(&mut self, entry: &Record) {
        if let Record::ContactAdded { contact, .. } = entry {
            self.past.unsure.extend(contact.sender.handle().map(|handle| handle.owner().to_owned()));
        }
        if let Record::Settlement { owner, .. } = entry {
            self.past.unsure.insert(owner.to_string());
        }
        if let Record::ContactRemoved { contact, .. } = entry {
            let owners = self.record.contacts.owners(contact).iter().map(|owner| owner.to_string());
            self.past.unsure.extend(owners);
        }
        let request = match entry {
            Record::Seen { request, .. } | Record::Changed { request, .. } => {
                self.past.unnamed.insert(request.id.clone());
                &request.id
            }
            Record::Outcome { request, .. } | Record::Settled { request, .. } | Record::Withdrawn { request, .. } => {
                request
            }
            _ => return,
        };
        if let Some(owner) = self.owner(request) {
            self.past.unsure.insert(owner);
        }
        self.past.let_in.entry(request.clone()).or_insert((Timestamp::MIN, false));
    }
}
