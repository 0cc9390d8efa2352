//! The entries that wait to go on record, in order and in batches.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Mono;
use crate::ledger::Record;
use crate::model::{ContactId, Outcome, RequestId, RequestStatus};

/// Entries in one batch: one vector for a whole flood would be grown, copied and given back with every flood.
pub const BATCH_MAX: usize = 512;
/// Entries for which nobody waits go to the ledger together with those of the next moments: each transaction has its price. A crash
/// within this time leaves an answer open whose outcome had arrived, as a crash before the commit does.
pub(super) const TOGETHER: Duration = Duration::from_millis(5);
/// When this many entries wait, no new request is taken in.
pub const ENTRIES_MAX: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    batches: VecDeque<Vec<Record>>,
    len: usize,
    /// Entries pushed since the start; `handed` and `handed_before` are those that went to the ledger, with and without
    /// the last batch.
    pushed: u64,
    handed: u64,
    handed_before: u64,
    /// Most entries in one batch.
    batch: usize,
    /// Something waits for one of the entries.
    urgent: bool,
    /// When the entries are handed over, if nothing waits for them.
    due: Option<Mono>,
    /// [`ENTRIES_MAX`], but in tests.
    pub(super) max: usize,
}

impl Outbox {
    pub(super) fn new(batch: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            len: 0,
            pushed: 0,
            handed: 0,
            handed_before: 0,
            batch,
            urgent: false,
            due: None,
            max: ENTRIES_MAX,
        }
    }

    pub(super) fn push(&mut self, entry: Record) {
        if self.completes(&entry) {
            return;
        }
        self.len += 1;
        self.pushed += 1;
        self.urgent |= !may_wait(&entry);
        match self.batches.back_mut() {
            Some(batch) if batch.len() < self.batch || replaces(batch.last(), &entry) => batch.push(entry),
            _ => self.batches.push_back(vec![entry]),
        }
    }

    /// Whether this entry only adds the answer that made a contact to an entry of the last batch, and was added there:
    /// nearly always the reply to that answer comes a moment after the contact. To the ledger, a contact that changes
    /// is twice the work. Both are of one batch, so the outcome of the answer is on record with it, or before it.
    fn completes(&mut self, entry: &Record) -> bool {
        let Record::ContactAdded { contact, request: Some(maker), guest: None, .. } = entry else { return false };
        let Some(batch) = self.batches.back_mut() else { return false };
        let newest = batch.iter_mut().rev().find(|before| of_contact(before) == Some(&contact.id));
        match newest {
            Some(Record::ContactAdded { contact: before, request, guest: None, .. })
                if request.is_none() && before == contact =>
            {
                *request = Some(maker.clone());
                true
            }
            Some(_) | None => false,
        }
    }

    /// Something waits for the entries so far.
    pub(super) fn hurry(&mut self) {
        self.urgent = true;
    }

    /// Whether the next batch is to be handed over now. If not, [`Outbox::due`] says when.
    pub(super) fn is_due(&mut self, now: Mono) -> bool {
        if self.is_empty() {
            return false;
        }
        self.urgent || self.batches.len() > 1 || *self.due.get_or_insert(now + TOGETHER) <= now
    }

    /// When the entries that wait for others are handed over; `None`: there are none.
    pub(super) fn due(&self) -> Option<Mono> {
        self.due
    }

    pub(super) fn next_batch(&mut self) -> Option<Vec<Record>> {
        let batch = self.batches.pop_front()?;
        // What is left waits for the batch that goes.
        (self.urgent, self.due) = (!self.batches.is_empty(), None);
        self.len -= batch.len();
        self.handed_before = self.handed;
        self.handed += batch.len() as u64;
        Some(batch)
    }

    /// How many entries there were, since the start.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How many of them the ledger has dealt with; `recording`: the last batch is still with it.
    pub(super) fn recorded(&self, recording: bool) -> u64 {
        if recording { self.handed_before } else { self.handed }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= self.max
    }
}

/// Whether `entry` is the answer that replaces the one just withdrawn. Both go on record in one batch: a start between
/// them would find no answer that binds the request.
fn replaces(last: Option<&Record>, entry: &Record) -> bool {
    matches!((last, entry), (Some(Record::Withdrawn { request: before, .. }), Record::Intent { request, .. }) if before == request)
}

/// The contact that was added or removed.
fn of_contact(entry: &Record) -> Option<&ContactId> {
    if let Record::ContactAdded { contact, .. } = entry {
        return Some(&contact.id);
    }
    if let Record::ContactRemoved { contact, .. } = entry { Some(contact) } else { None }
}

/// The requests that are answered once this batch is on record.
pub(super) fn intents(batch: &[Record]) -> Vec<RequestId> {
    let intent = |entry: &Record| {
        if let Record::Intent { request, .. } = entry { Some(request.clone()) } else { None }
    };
    batch.iter().filter_map(intent).collect()
}

/// The contacts that are removed once this batch is on record.
pub(super) fn removals(batch: &[Record]) -> Vec<ContactId> {
    let removal = |entry: &Record| {
        if let Record::Removing { contact, .. } = entry { Some(contact.clone()) } else { None }
    };
    batch.iter().filter_map(removal).collect()
}

/// Whether nothing is done, and nobody gets a reply, only because this is on record.
fn may_wait(entry: &Record) -> bool {
    matches!(entry, Record::Outcome { outcome: Outcome::Confirmed(_), .. } | Record::ContactAdded { .. })
}

/// Whether no decision will ever depend on this entry.
pub(super) fn may_be_missing(entry: &Record) -> bool {
    matches!(
        entry,
        Record::Session { .. }
            | Record::Named { .. }
            | Record::Settled {
                status: None | Some(RequestStatus::Approved | RequestStatus::Expired | RequestStatus::Cancelled),
                ..
            }
            | Record::ContactAdded { guest: None, .. }
            | Record::ContactRemoved { expired: false, .. }
            | Record::ContactsRead { .. }
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{AgentId, AgentState, Answer, Contact, ContactKind, Sender};

    fn session(number: usize) -> Record {
        let agent = AgentId::parse("a").unwrap();
        Record::Session { agent, state: AgentState::Away, why: number.to_string(), at: Timestamp::UNIX_EPOCH }
    }

    fn intent(id: &str) -> Record {
        Record::Intent {
            agent: AgentId::parse("a").unwrap(),
            request: RequestId::parse(id).unwrap(),
            answer: Answer::Reject,
            by: crate::policy::By::NoMatch,
            lasts: None,
            policy: None,
            head: None,
            charges: Vec::new(),
            counts: false,
            attempt: 1,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn batches_are_bounded_and_in_order() {
        let mut outbox = Outbox::new(BATCH_MAX);
        (0..BATCH_MAX + 1).for_each(|number| outbox.push(session(number)));
        let first = outbox.next_batch().unwrap();
        assert_eq!(first.len(), BATCH_MAX);
        assert!(!outbox.is_empty());
        outbox.push(session(BATCH_MAX + 1));
        let rest: Vec<String> = std::iter::from_fn(|| outbox.next_batch())
            .flatten()
            .map(|entry| if let Record::Session { why, .. } = entry { why } else { String::new() })
            .collect();
        assert_eq!(rest, [BATCH_MAX.to_string(), (BATCH_MAX + 1).to_string()]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_nothing_waits_for_goes_with_what_comes_next_or_soon() {
        let outcome = |id: &str| Record::Outcome {
            agent: AgentId::parse("a").unwrap(),
            request: RequestId::parse(id).unwrap(),
            outcome: Outcome::Confirmed(Answer::Reject),
            detail: None,
            refusal: None,
            stay: None,
            at: Timestamp::UNIX_EPOCH,
        };
        let (mut outbox, now) = (Outbox::new(BATCH_MAX), Mono::from_origin(Duration::ZERO));
        assert!(!outbox.is_due(now), "there is nothing");
        outbox.push(outcome("r1"));
        assert_eq!((outbox.is_due(now), outbox.due()), (false, Some(now + TOGETHER)));
        outbox.push(outcome("r2"));
        assert!(!outbox.is_due(now + TOGETHER / 2));
        assert!(outbox.is_due(now + TOGETHER), "the first does not wait longer because of the second");
        outbox.push(intent("r3"));
        assert!(outbox.is_due(now), "an answer waits for its intent");
        assert_eq!((outbox.next_batch().unwrap().len(), outbox.due()), (3, None));
        outbox.push(outcome("r4"));
        outbox.hurry();
        assert!(outbox.is_due(now), "somebody waits");
        assert_eq!(outbox.next_batch().unwrap().len(), 1);
        outbox.push(outcome("r5"));
        assert!(!outbox.is_due(now), "nobody waits for this one");
    }

    fn added(contact: &str, maker: Option<&str>) -> Record {
        let contact = Contact {
            id: ContactId::parse(contact).unwrap(),
            sender: Sender::parse(Some("ann")),
            name: None,
            kind: ContactKind::User,
            inserted_at: None,
            ids: None,
        };
        Record::ContactAdded {
            agent: AgentId::parse("a").unwrap(),
            contact: Box::new(contact),
            request: maker.map(|id| RequestId::parse(id).unwrap()),
            guest: None,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn removed(contact: &str) -> Record {
        let (agent, contact) = (AgentId::parse("a").unwrap(), ContactId::parse(contact).unwrap());
        Record::ContactRemoved { agent, contact, expired: false, at: Timestamp::UNIX_EPOCH }
    }

    fn shown(batch: &[Record]) -> Vec<String> {
        batch.iter().map(|entry| format!("{entry:?}")).collect()
    }

    fn next(outbox: &mut Outbox) -> Vec<String> {
        shown(&outbox.next_batch().unwrap())
    }

    #[test]
    fn a_contact_and_the_answer_that_made_it_are_one_entry_if_both_wait() {
        let mut outbox = Outbox::new(BATCH_MAX);
        let entries = [added("c1", None), added("c2", None), session(1), added("c1", Some("r1"))];
        entries.into_iter().for_each(|entry| outbox.push(entry));
        assert_eq!((outbox.len(), outbox.pushed()), (3, 3));
        assert_eq!(next(&mut outbox), shown(&[added("c1", Some("r1")), added("c2", None), session(1)]));
    }

    #[test]
    fn what_happened_to_a_contact_in_between_is_recorded_in_its_order() {
        let mut outbox = Outbox::new(BATCH_MAX);
        let in_order = [
            [added("c1", None), removed("c1"), added("c1", Some("r1"))],
            // Another answer made it before.
            [added("c2", None), added("c2", Some("r1")), added("c2", Some("r2"))],
        ];
        in_order[0].iter().cloned().for_each(|entry| outbox.push(entry));
        assert_eq!(next(&mut outbox), shown(&in_order[0]));
        in_order[1].iter().cloned().for_each(|entry| outbox.push(entry));
        assert_eq!(next(&mut outbox), shown(&[added("c2", Some("r1")), added("c2", Some("r2"))]));
        // What the ledger has already is completed by an entry of its own.
        outbox.push(added("c3", None));
        assert_eq!(next(&mut outbox).len(), 1);
        outbox.push(added("c3", Some("r3")));
        assert_eq!(next(&mut outbox), shown(&[added("c3", Some("r3"))]));
    }

    #[test]
    fn an_answer_and_the_one_that_it_replaces_are_in_one_batch() {
        let withdrawn = |id: &str| {
            let (agent, request) = (AgentId::parse("a").unwrap(), RequestId::parse(id).unwrap());
            Record::Withdrawn { agent, request, at: Timestamp::UNIX_EPOCH }
        };
        let mut outbox = Outbox::new(1);
        [withdrawn("r1"), intent("r1"), withdrawn("r2"), intent("r3")].into_iter().for_each(|entry| outbox.push(entry));
        let sizes: Vec<usize> = std::iter::from_fn(|| outbox.next_batch()).map(|batch| batch.len()).collect();
        assert_eq!(sizes, [2, 1, 1]);
    }

    #[test]
    fn a_batch_knows_its_own_intents_only() {
        let mut outbox = Outbox::new(BATCH_MAX);
        outbox.push(intent("early"));
        (1..BATCH_MAX).for_each(|number| outbox.push(session(number)));
        outbox.push(intent("late"));
        assert_eq!(intents(&outbox.next_batch().unwrap()), [RequestId::parse("early").unwrap()]);
        assert_eq!(intents(&outbox.next_batch().unwrap()), [RequestId::parse("late").unwrap()]);
    }
}
