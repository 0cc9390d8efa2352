//! The entries that wait to go on record, in batches: those that an answer or a person waits for, and those for which nobody waits.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Mono;
use crate::ledger::Record;
use crate::model::{ContactId, Outcome, RequestId, RequestStatus};

/// Entries in one batch: one vector for a whole flood would be grown, copied and given back with every flood.
pub const BATCH_MAX: usize = 512;
/// Room for so many is made at once.
const BATCH_USUAL: usize = 16;
/// An entry for which nobody waits goes to the ledger this much later, together with those that come meanwhile: each transaction has
/// its price. A crash within this time leaves an answer open whose outcome had arrived, as a crash before the commit does.
pub(super) const TOGETHER: Duration = Duration::from_millis(100);
/// The same if the rules ask for the past: then such an entry goes before the next decision, and with it.
pub(super) const TOGETHER_IN_ORDER: Duration = Duration::from_millis(5);
/// If more entries than this wait for nobody, the older half goes to the ledger. The younger half stays: the answer that made a contact
/// usually becomes known a moment after the contact.
const LATER_MAX: usize = 512;
/// Room for so many of them is kept while there are none.
const LATER_KEPT: usize = 16;
/// When this many entries wait, no new request is taken in.
pub const ENTRIES_MAX: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    /// In the order in which they go to the ledger.
    batches: VecDeque<Vec<Record>>,
    /// Those for which nobody waits, oldest first. They go after all batches, unless something comes that must not overtake them.
    /// `None`: it was completed, and is the last by now.
    later: VecDeque<Option<Record>>,
    /// When all of `later` joins the batches.
    due: Option<Mono>,
    /// A decision may depend on how earlier answers ended: nothing overtakes.
    in_order: bool,
    /// How many there are in `batches` and in `later`.
    len: usize,
    /// Entries that joined the batches since the start; `handed` and `handed_before` are those that went to the ledger, with and without
    /// the last batch.
    joined: u64,
    handed: u64,
    handed_before: u64,
    /// Most entries in one batch.
    batch: usize,
    /// [`ENTRIES_MAX`], but in tests.
    pub(super) max: usize,
}

impl Outbox {
    pub(super) fn new(batch: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            later: VecDeque::new(),
            due: None,
            in_order: false,
            len: 0,
            joined: 0,
            handed: 0,
            handed_before: 0,
            batch,
            max: ENTRIES_MAX,
        }
    }

    /// Whether each entry goes to the ledger in the order of [`Outbox::push`] from now on. If rules ask for the past, the record of a
    /// decision must not come before the record of what it depends on.
    pub(super) fn keep_order(&mut self, in_order: bool) {
        self.in_order = in_order;
    }

    pub(super) fn push(&mut self, entry: Record) {
        if !may_wait(&entry) {
            if self.in_order || !may_overtake(&entry) {
                self.catch_up();
            }
            self.len += 1;
            return self.join(entry);
        }
        let entry = match self.completed(&entry) {
            Some(completed) => completed,
            None => {
                self.len += 1;
                entry
            }
        };
        self.later.push_back(Some(entry));
        if self.later.len() > LATER_MAX {
            self.hand_on(LATER_MAX / 2);
        }
    }

    /// Everything so far goes to the ledger next: what comes now depends on it, or somebody waits for it.
    pub(super) fn catch_up(&mut self) {
        self.due = None;
        self.hand_on(self.later.len());
        // Frees the memory that a flood used.
        self.later.shrink_to(LATER_KEPT);
    }

    /// The oldest `count` of `later` join the batches.
    fn hand_on(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(entry) = self.later.pop_front().flatten() {
                self.join(entry);
            }
        }
    }

    fn join(&mut self, entry: Record) {
        self.joined += 1;
        match self.batches.back_mut() {
            Some(batch) if batch.len() < self.batch || replaces(batch.last(), &entry) => batch.push(entry),
            _ => {
                let mut batch = Vec::with_capacity(BATCH_USUAL);
                batch.push(entry);
                self.batches.push_back(batch);
            }
        }
    }

    /// If this entry only adds the answer that made a contact to an entry of `later`: that entry, completed, in place of both. Nearly
    /// always the reply to that answer comes a moment after the contact. To the ledger, a contact that changes is twice the work.
    /// It goes on record after the outcome of its answer, which was pushed before.
    fn completed(&mut self, entry: &Record) -> Option<Record> {
        let Record::ContactAdded { contact, request: Some(maker), guest: None, .. } = entry else { return None };
        let newest =
            self.later.iter_mut().rev().find(|before| before.as_ref().and_then(of_contact) == Some(&contact.id))?;
        match newest {
            Some(Record::ContactAdded { contact: before, request: request @ None, guest: None, .. })
                if before == contact =>
            {
                *request = Some(maker.clone());
                newest.take()
            }
            Some(_) | None => None,
        }
    }

    /// Whether a batch is to be handed over now. If not, [`Outbox::due`] says when.
    pub(super) fn is_due(&mut self, now: Mono) -> bool {
        let wait = if self.in_order { TOGETHER_IN_ORDER } else { TOGETHER };
        if !self.later.is_empty() && *self.due.get_or_insert(now + wait) <= now {
            self.catch_up();
        }
        !self.batches.is_empty()
    }

    /// When the entries that wait for others are handed over; `None`: there are none.
    pub(super) fn due(&self) -> Option<Mono> {
        self.due
    }

    pub(super) fn next_batch(&mut self) -> Option<Vec<Record>> {
        let batch = self.batches.pop_front()?;
        self.len -= batch.len();
        self.handed_before = self.handed;
        self.handed += batch.len() as u64;
        Some(batch)
    }

    /// The number of all entries since the start. They are on record once [`Outbox::recorded`] is as large.
    pub(super) fn mark(&mut self) -> u64 {
        self.catch_up();
        self.joined
    }

    /// How many entries the ledger has dealt with; `recording`: the last batch is still with it.
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

/// The contact that was added.
fn of_contact(entry: &Record) -> Option<&ContactId> {
    if let Record::ContactAdded { contact, .. } = entry { Some(&contact.id) } else { None }
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

/// Whether this may go on record before entries that may wait: a new request, and the decision and the intent that follow, do not depend
/// on how the answers to other requests ended, unless the rules ask for that.
fn may_overtake(entry: &Record) -> bool {
    matches!(entry, Record::Seen { .. } | Record::Decided { .. } | Record::Intent { .. })
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

    fn outcome(id: &str) -> Record {
        Record::Outcome {
            agent: AgentId::parse("a").unwrap(),
            request: RequestId::parse(id).unwrap(),
            outcome: Outcome::Confirmed(Answer::Reject),
            detail: None,
            refusal: None,
            stay: None,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_nothing_waits_for_goes_with_what_comes_soon() {
        let (mut outbox, now) = (Outbox::new(BATCH_MAX), Mono::from_origin(Duration::ZERO));
        assert!(!outbox.is_due(now), "there is nothing");
        outbox.push(outcome("r1"));
        assert_eq!((outbox.is_due(now), outbox.due()), (false, Some(now + TOGETHER)));
        outbox.push(outcome("r2"));
        assert!(!outbox.is_due(now + TOGETHER / 2));
        assert!(outbox.is_due(now + TOGETHER), "the first does not wait longer because of the second");
        assert_eq!((outbox.next_batch().unwrap().len(), outbox.due()), (2, None));
        outbox.push(outcome("r4"));
        outbox.catch_up();
        assert!(outbox.is_due(now), "somebody waits");
        assert_eq!(outbox.next_batch().unwrap().len(), 1);
        outbox.push(outcome("r5"));
        assert!(!outbox.is_due(now), "nobody waits for this one");
    }

    #[test]
    fn only_what_does_not_depend_on_it_overtakes_an_outcome() {
        let (mut outbox, now) = (Outbox::new(BATCH_MAX), Mono::from_origin(Duration::ZERO));
        outbox.push(outcome("r1"));
        outbox.push(intent("r2"));
        assert!(outbox.is_due(now), "an answer waits for its intent");
        assert_eq!(next(&mut outbox), shown(&[intent("r2")]));
        assert!(!outbox.is_due(now));
        outbox.push(session(1));
        assert!(outbox.is_due(now));
        assert_eq!(next(&mut outbox), shown(&[outcome("r1"), session(1)]));
        // The rules ask for the past.
        outbox.keep_order(true);
        outbox.push(outcome("r3"));
        assert_eq!((outbox.is_due(now), outbox.due()), (false, Some(now + TOGETHER_IN_ORDER)));
        outbox.push(intent("r4"));
        assert!(outbox.is_due(now));
        assert_eq!(next(&mut outbox), shown(&[outcome("r3"), intent("r4")]));
    }

    #[test]
    fn a_mark_is_reached_when_everything_before_it_is_on_record() {
        let mut outbox = Outbox::new(2);
        outbox.push(outcome("r1"));
        outbox.push(intent("r2"));
        let mark = outbox.mark();
        outbox.push(intent("r3"));
        outbox.push(outcome("r4"));
        let mut before = Vec::new();
        while outbox.recorded(false) < mark {
            before.extend(next(&mut outbox));
        }
        assert!(before.contains(&format!("{:?}", outcome("r1"))));
    }

    #[test]
    fn a_flood_goes_to_the_ledger_in_parts() {
        let (mut outbox, now) = (Outbox::new(BATCH_MAX), Mono::from_origin(Duration::ZERO));
        (0..LATER_MAX).for_each(|number| outbox.push(outcome(&number.to_string())));
        assert!(!outbox.is_due(now));
        outbox.push(outcome("one-more"));
        assert!(outbox.is_due(now));
        let older: Vec<Record> = (0..LATER_MAX / 2).map(|number| outcome(&number.to_string())).collect();
        assert_eq!(next(&mut outbox), shown(&older));
        assert_eq!((outbox.len(), outbox.is_due(now)), (LATER_MAX / 2 + 1, false));
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
        let entries = [added("c1", None), added("c2", None), outcome("r1"), added("c1", Some("r1"))];
        entries.into_iter().for_each(|entry| outbox.push(entry));
        assert_eq!((outbox.len(), outbox.mark()), (3, 3));
        let in_order = [added("c2", None), outcome("r1"), added("c1", Some("r1"))];
        assert_eq!(next(&mut outbox), shown(&in_order), "the outcome is never on record after what it caused");
    }

    #[test]
    fn what_happened_to_a_contact_in_between_is_recorded_in_its_order() {
        let mut outbox = Outbox::new(BATCH_MAX);
        let in_order = [
            [added("c1", None), removed("c1"), added("c1", Some("r1"))],
            // Another answer made it before.
            [added("c2", None), added("c2", Some("r1")), added("c2", Some("r2"))],
        ];
        for entries in &in_order {
            entries.iter().cloned().for_each(|entry| outbox.push(entry));
            outbox.catch_up();
        }
        let (removed_between, answered_twice) = (shown(&in_order[0]), shown(&in_order[1][1..]));
        assert_eq!(next(&mut outbox), [removed_between, answered_twice].concat());
        // What the ledger has already is completed by an entry of its own.
        outbox.push(added("c3", None));
        outbox.catch_up();
        assert_eq!(next(&mut outbox).len(), 1);
        outbox.push(added("c3", Some("r3")));
        outbox.catch_up();
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
