//! A small world of agents and requests, for the tests of the ledger and of what reads it.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;

use super::sqlite::{file, lock};
use super::*;
use crate::ledger::read::{OutcomeFilter, TimeOf, WantedContacts};
use crate::ledger::reasons::DecisionReasons;
use crate::model::*;
use crate::policy::decision::{By, RuleResult};
use crate::policy::{Charge, Circumstances, ClockHealth, Decision, Mode, PolicyHash, RuleName, Truth};

mod charges;
mod commands;
mod deliveries;
mod doubts;
mod guests;
mod leases;
mod lost;
mod model;
mod policies;
mod pushed;
mod reading;
mod reused;
mod schema;
mod trouble;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(super) fn agent() -> AgentId {
    AgentId::parse("0c5b0a2e-7a55-4e6f-9d1f-000000000001").unwrap()
}

pub(super) fn id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

pub(super) fn rule(text: &str) -> RuleName {
    RuleName::parse(text).unwrap()
}

pub(super) fn hash() -> PolicyHash {
    PolicyHash::new(&"ab".repeat(32))
}

pub(super) fn request(name: &str, handle: Option<&str>) -> ContactRequest {
    ContactRequest {
        id: id(name),
        sender: Sender::parse(handle),
        name: Some(StrangerText::new("Ann")),
        message: Some(StrangerText::new("let me in")),
        inserted_at: Some(at(-5)),
        ids: None,
    }
}

pub(super) fn seen(name: &str, handle: Option<&str>, second: i64) -> Record {
    Record::Seen { agent: agent(), request: request(name, handle).into(), via: Via::Event, at: at(second) }
}

pub(super) fn decision(verdict: Verdict, by: By) -> Decision {
    Decision { verdict, by, ..Decision::error(crate::policy::ErrorKind::Internal, hash()) }
}

pub(super) fn circumstances() -> Circumstances {
    Circumstances { contacts: Some(7), ..Circumstances::new(at(1), ClockHealth::Unsound) }
}

pub(super) fn decided(name: &str, verdict: Verdict, by: &str, second: i64) -> Record {
    let decision = Box::new(decision(verdict, By::Rule(rule(by))));
    Record::Decided { agent: agent(), request: id(name), decision, circumstances: circumstances(), at: at(second) }
}

pub(super) fn charge(rule_name: &str, bucket: &str) -> Charge {
    Charge { rule: rule(rule_name), bucket: bucket.into() }
}

pub(super) fn intent(name: &str, answer: Answer, charges: Vec<Charge>, attempt: u32, second: i64) -> Record {
    Record::Intent {
        agent: agent(),
        request: id(name),
        answer,
        by: By::parse("friends").unwrap(),
        lasts: None,
        policy: Some(hash()),
        head: None,
        charges,
        counts: answer == Answer::Approve,
        attempt,
        at: at(second),
    }
}

pub(super) fn outcome(name: &str, outcome: Outcome, second: i64) -> Record {
    Record::Outcome {
        agent: agent(),
        request: id(name),
        outcome,
        detail: None,
        refusal: None,
        stay: None,
        at: at(second),
    }
}

pub(super) const REACH: RestoreReach = RestoreReach {
    charges: SignedDuration::from_hours(1),
    approvals: Some(SignedDuration::from_hours(1)),
    history: Some(HistoryReach::Ever),
    merged: true,
};

/// A record of its own. If `DOORMAN_TEST_POSTGRES` names a server, it is a database there, but for what only a file has.
struct TestLedger {
    dir: tempfile::TempDir,
    pages: Arc<AtomicU32>,
    database: Option<LedgerAddress>,
}

impl TestLedger {
    fn new() -> Self {
        Self { database: database(), ..Self::file() }
    }

    /// In a file, whatever the environment says.
    fn file() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), pages: Arc::default(), database: None }
    }

    fn path(&self) -> PathBuf {
        assert!(self.database.is_none(), "only a file has a path");
        self.dir.path().join("state/ledger.db")
    }

    fn at(&self) -> LedgerAddress {
        self.database.clone().unwrap_or_else(|| LedgerAddress::File(self.path()))
    }

    /// Retries at once, and does not wait for database locks.
    fn try_open(&self) -> Result<Ledger, LedgerError> {
        let options = LedgerOptions {
            retry: Duration::from_millis(1),
            busy: Duration::ZERO,
            pages_max: Some(Arc::clone(&self.pages)),
            ..LedgerOptions::default()
        };
        Ledger::open(self.at(), options)
    }

    fn open(&self) -> Ledger {
        self.try_open().unwrap()
    }

    fn reader(&self) -> LedgerReader {
        LedgerReader::open(self.at()).unwrap()
    }

    fn sql(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

/// A new database of the server that `DOORMAN_TEST_POSTGRES` names (`tests/postgres/run` starts one), in which it ends in `/postgres`.
pub(super) fn database() -> Option<LedgerAddress> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let server = std::env::var("DOORMAN_TEST_POSTGRES").ok()?;
    let name = format!("unit_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let LedgerAddress::Database(address) = database_at(server.clone()) else { unreachable!("it is a database") };
    let session = address.connect(postgres::ConnectionPurpose::Write).unwrap();
    session.batch(&format!("CREATE DATABASE {name}")).unwrap();
    Some(database_at(server.replace("/postgres?", &format!("/{name}?"))))
}

fn database_at(url: String) -> LedgerAddress {
    let config = crate::config::database_url(&url).unwrap();
    let (password, ca_file) = (crate::config::settings::KeySource::Missing, None);
    let settings = crate::config::settings::DatabaseSettings { url, config, password, ca_file, connections: 4 };
    LedgerAddress::Database(Box::new(Address::new(&settings)))
}

async fn load(ledger: &Ledger, second: i64) -> SavedAgent {
    ledger.load_agent(&agent(), at(second), REACH).await.unwrap()
}

type Writing = tokio::task::JoinHandle<Result<(), LedgerError>>;

#[tokio::test]
async fn the_file_is_private_and_has_one_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = TestLedger::file();
    let ledger = world.open();
    ledger.commit(vec![seen("r1", Some("ann"), 0)]).await.unwrap();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let file = lock::beside(&world.path(), suffix);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    let error = world.try_open().unwrap_err();
    assert_eq!(error, LedgerError::Locked { path: world.path().display().to_string(), pid: Some(std::process::id()) });
    assert!(matches!(reset(&world.path(), at(0)), Err(LedgerError::Locked { .. })));
    ledger.close().await.unwrap();
    world.open().close().await.unwrap();
    assert!(!lock::beside(&world.path(), "-wal").exists(), "a clean end leaves no log");
}

#[tokio::test]
async fn a_loose_mode_is_tightened() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = TestLedger::file();
    world.open().close().await.unwrap();
    std::fs::set_permissions(world.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    world.open().close().await.unwrap();
    assert_eq!(std::fs::metadata(world.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_refused_entry_takes_only_the_intents_of_its_own_batch() {
    let world = TestLedger::new();
    let ledger = world.open();
    // Not polled between: all three wait in the same group.
    let (first, second, third) = tokio::join!(
        ledger.commit(vec![seen("r1", Some("ann"), 0)]),
        ledger.commit(vec![
            seen("r2", Some("bob"), 1),
            outcome("never-seen", Outcome::Confirmed(Answer::Approve), 1),
            intent("r2", Answer::Approve, vec![charge("friends", "bob")], 1, 1),
            Record::Settled { agent: agent(), request: id("r1"), status: Some(RequestStatus::Cancelled), at: at(1) },
        ]),
        ledger.commit(vec![seen("r3", None, 2)]),
    );
    assert_eq!((first, third), (Ok(()), Ok(())));
    assert!(matches!(second, Err(LedgerError::Refused { .. })), "{second:?}");
    let memory = load(&ledger, 3).await;
    let known: Vec<_> = memory.pending.into_iter().map(|one| one.id).collect();
    assert_eq!(known, [id("r2"), id("r3")], "what happened is on record");
    assert!(
        memory.open_answers.is_empty() && memory.policy_state.charges.is_empty(),
        "what was about to happen is not"
    );
}

#[tokio::test]
async fn a_second_different_answer_cannot_be_intended_while_one_is_open() {
    let world = TestLedger::file();
    let ledger = world.open();
    ledger.commit(vec![seen("r1", Some("ann"), 0)]).await.unwrap();
    ledger.commit(vec![intent("r1", Answer::Approve, vec![], 1, 1)]).await.unwrap();
    let reject = || ledger.commit(vec![intent("r1", Answer::Reject, vec![], 1, 2)]);
    assert!(matches!(reject().await, Err(LedgerError::Refused { .. })), "after an intent");
    ledger.commit(vec![outcome("r1", Outcome::Unknown, 3)]).await.unwrap();
    assert!(matches!(reject().await, Err(LedgerError::Refused { .. })), "after an unknown outcome");
    // The same again is a retry.
    ledger.commit(vec![intent("r1", Answer::Approve, vec![], 2, 4)]).await.unwrap();
    let open = load(&ledger, 5).await.open_answers;
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].attempts, open[0].answer, open[0].at), (2, Answer::Approve, at(1)));
    // An answer that certainly never left may be withdrawn, and then another one is possible.
    ledger.commit(vec![Record::Withdrawn { agent: agent(), request: id("r1"), at: at(6) }]).await.unwrap();
    reject().await.unwrap();
    // And by hand: the index itself refuses it.
    let insert = world.sql().execute(
        "INSERT INTO answer (agent, request, answer, \"by\", at, attempts, reserved_at, last_at)
         SELECT agent, request, 'approve', 'x', 0, 1, 0, 0 FROM answer LIMIT 1",
        [],
    );
    assert!(insert.unwrap_err().to_string().contains("UNIQUE"));
}

#[tokio::test]
async fn a_resume_starts_the_count_of_approvals_at_zero() {
    let world = TestLedger::new();
    let ledger = world.open();
    let pause =
        |on, second| Record::Pause { agent: agent(), on, by: PausedBy::ApprovalsMax, note: None, at: at(second) };
    ledger.commit(vec![seen("r1", None, 0), intent("r1", Answer::Approve, vec![], 1, 1)]).await.unwrap();
    ledger.commit(vec![pause(true, 2)]).await.unwrap();
    let memory = load(&ledger, 3).await.policy_state;
    assert_eq!((memory.paused.is_some(), memory.approvals.len()), (true, 1));
    // A clock that went back changes nothing: rows count, not times.
    ledger
        .commit(vec![pause(false, 100), seen("r2", None, 4), intent("r2", Answer::Approve, vec![], 1, 5)])
        .await
        .unwrap();
    let memory = load(&ledger, 6).await.policy_state;
    assert_eq!((memory.paused.is_some(), memory.approvals.len()), (false, 1));
    assert_eq!(memory.approvals[0].request, id("r2"));
}

#[tokio::test]
async fn a_hold_survives_a_request_that_was_wrongly_taken_for_gone() {
    let world = TestLedger::new();
    let ledger = world.open();
    let hold = |person: Option<&str>| Record::Hold {
        agent: agent(),
        request: id("r1"),
        person: person.map(Into::into),
        at: at(1),
    };
    let gone = Record::Settled { agent: agent(), request: id("r1"), status: None, at: at(2) };
    ledger.commit(vec![seen("r1", None, 0), hold(Some("eve")), hold(Some("ann")), gone]).await.unwrap();
    let held = [(id("r1"), "ann".into())];
    assert_eq!(load(&ledger, 3).await.policy_state.holds, held, "it may come back after the next start, too");
    ledger.commit(vec![seen("r1", None, 4)]).await.unwrap();
    let memory = load(&ledger, 5).await;
    assert_eq!(memory.policy_state.holds, held);
    assert_eq!(memory.pending[0].first_seen, at(0), "the first time stays the first");
    ledger.commit(vec![hold(None)]).await.unwrap();
    assert!(load(&ledger, 6).await.policy_state.holds.is_empty());
}

#[tokio::test]
async fn old_text_is_blanked_and_history_stays() {
    let world = TestLedger::new();
    let ledger = world.open();
    for n in 0..1200 {
        ledger.commit(vec![seen(&format!("r{n}"), Some("@Ann/bot"), n)]).await.unwrap();
    }
    assert_eq!(ledger.blank_older_than(at(1100)).await, Ok(1100));
    assert_eq!(ledger.blank_older_than(at(1100)).await, Ok(0), "once is enough");
    let history = load(&ledger, 2000).await.policy_state.history;
    assert_eq!(history.len(), 1200);
    assert!(history.iter().all(|row| &*row.owner == "ann"));
    ledger.close().await.unwrap();
    let all = world.reader().requests(&Filter::default()).unwrap();
    let (old, young) = all.split_at(1100);
    assert!(old.iter().all(|row| row.blanked && row.request.sender == Sender::Absent && row.request.message.is_none()));
    assert!(young.iter().all(|row| !row.blanked && row.request.message.is_some()));
}

#[tokio::test]
async fn contacts_are_listed_with_the_answer_that_made_them_and_removed_ones_are_not() {
    let world = TestLedger::new();
    let ledger = world.open();
    let contact = |name: &str, handle: &str| Contact {
        id: ContactId::parse(name).unwrap(),
        sender: Sender::parse(Some(handle)),
        name: None,
        kind: ContactKind::User,
        inserted_at: None,
        ids: None,
    };
    let added = |name: &str, handle: &str, request: Option<&str>, second| Record::ContactAdded {
        agent: agent(),
        contact: Box::new(contact(name, handle)),
        request: request.map(id),
        guest: None,
        at: at(second),
    };
    let mut batch = vec![added("c0", "zoe", None, 0)];
    for (n, handle) in [(1, "@Ann"), (2, "bob"), (3, "carl")] {
        let name = format!("r{n}");
        batch.push(seen(&name, Some(handle), n));
        batch.push(intent(&name, Answer::Approve, vec![], 1, n));
        batch.push(outcome(&name, Outcome::Confirmed(Answer::Approve), n));
        batch.push(added(&format!("c{n}"), handle, Some(&name), n));
    }
    let removed = ContactId::parse("c3").unwrap();
    batch.push(Record::ContactRemoved { agent: agent(), contact: removed, expired: false, at: at(9) });
    ledger.commit(batch).await.unwrap();
    let here = world.reader().contacts(Some(&agent())).unwrap();
    let here: Vec<_> = here.iter().map(|one| (one.contact.as_str(), one.by.clone(), one.since)).collect();
    let friends = || By::parse("friends");
    assert_eq!(here, [("c0", None, Some(at(0))), ("c1", friends(), Some(at(1))), ("c2", friends(), Some(at(2)))]);
    // Each way to narrow the selection finds exactly the right contacts.
    let reader = world.reader();
    let found = |wanted: WantedContacts<'_>| {
        let mut found = Vec::new();
        let each = reader.each_contact(&wanted, |one| {
            found.push(one.contact.to_string());
            ControlFlow::Continue(())
        });
        each.unwrap();
        found
    };
    let wanted = WantedContacts::default;
    let agents = [agent(), AgentId::parse("somebody-else").unwrap()];
    assert_eq!(found(wanted()), ["c0", "c1", "c2"]);
    assert_eq!(found(WantedContacts { agent: Some(&agents[0]), ..wanted() }), ["c0", "c1", "c2"]);
    assert!(found(WantedContacts { agent: Some(&agents[1]), ..wanted() }).is_empty());
    assert_eq!(found(WantedContacts { since: Some(at(2)), ..wanted() }), ["c2"]);
    assert_eq!(found(WantedContacts { newest: Some(2), ..wanted() }), ["c1", "c2"]);
    assert_eq!(found(WantedContacts { newest: Some(1), agent: Some(&agents[0]), ..wanted() }), ["c2"]);
    assert_eq!(found(WantedContacts { newest: Some(1), by: Some("friends"), ..wanted() }), ["c2"]);
    assert_eq!(found(WantedContacts { by: Some("friends"), ..wanted() }), ["c1", "c2"]);
    assert!(found(WantedContacts { by: Some("foes"), ..wanted() }).is_empty());
    assert_eq!(found(WantedContacts { not_by_doorman: true, ..wanted() }), ["c0"]);
    assert_eq!(found(WantedContacts { owner: Some("ann"), ..wanted() }), ["c1"], "as it is compared");
    assert!(found(WantedContacts { owner: Some("carl"), ..wanted() }).is_empty(), "removed");
    assert_eq!(found(WantedContacts { id: Some("c"), ..wanted() }), ["c0", "c1", "c2"]);
    assert_eq!(found(WantedContacts { id: Some("r2"), ..wanted() }), ["c2"], "by the request behind it");
    assert!(found(WantedContacts { id: Some("r3"), ..wanted() }).is_empty(), "removed");
    assert!(found(WantedContacts { id: Some("c1"), by: Some("foes"), ..wanted() }).is_empty());
    let bob = |handle: Option<&str>| handle == Some("bob");
    assert_eq!(found(WantedContacts { fits: Some(&bob), ..wanted() }), ["c2"]);
    // An approval that came too late let nobody in.
    ledger
        .commit(vec![
            seen("r4", Some("dan"), 4),
            intent("r4", Answer::Approve, vec![], 1, 4),
            outcome("r4", Outcome::SettledElsewhere, 4),
            added("c4", "dan", Some("r4"), 4),
        ])
        .await
        .unwrap();
    assert_eq!(found(WantedContacts { not_by_doorman: true, ..wanted() }), ["c0", "c4"]);
    assert_eq!(found(WantedContacts { by: Some("friends"), ..wanted() }), ["c1", "c2"]);
    // No contact is unexplained until all were read once, and then only those that came later.
    let unexplained = || reader.contacts_unexplained(None, None).unwrap().len();
    assert_eq!(unexplained(), 0);
    assert!(!load(&ledger, 10).await.contacts_read);
    ledger.commit(vec![Record::ContactsRead { agent: agent(), at: at(0) }]).await.unwrap();
    ledger.commit(vec![Record::ContactsRead { agent: agent(), at: at(20) }]).await.unwrap();
    assert!(load(&ledger, 10).await.contacts_read);
    assert_eq!(unexplained(), 0, "c0 was there");
    ledger.commit(vec![added("c5", "eve", None, 5)]).await.unwrap();
    assert_eq!(unexplained(), 1, "the first reading counts");
    let history = load(&ledger, 10).await.policy_state.history;
    let removals: Vec<_> =
        history.iter().filter(|row| row.kind == crate::policy::state::HistoryKind::Removed).collect();
    assert_eq!((removals.len(), &*removals[0].owner, removals[0].at), (1, "carl", at(9)));
}

/// An agent's start reads what it can need, not all that it ever did.
#[tokio::test]
async fn of_old_answers_the_last_are_remembered_and_of_new_ones_those_of_a_day() {
    let day = 24 * 3_600;
    let world = TestLedger::new();
    let ledger = world.open();
    let answered = |name: String, second: i64| {
        let count = 1;
        vec![
            seen(&name, Some("ann"), second),
            intent(&name, Answer::Approve, vec![], count, second),
            outcome(&name, Outcome::Confirmed(Answer::Approve), second),
        ]
    };
    let ids = async |second: i64| {
        let recent = load(&ledger, second).await.recent_answers;
        recent.into_iter().map(|one| one.request.id.to_string()).collect::<Vec<_>>()
    };
    for n in 0..100 {
        ledger.commit(answered(format!("old-{n}"), n)).await.unwrap();
    }
    assert_eq!(ids(100).await.len(), 100, "all are of one day");
    for n in 0..10 {
        ledger.commit(answered(format!("new-{n}"), 3 * day + n)).await.unwrap();
    }
    let found = ids(3 * day).await;
    assert_eq!(found.len(), 64, "the last ones in any case");
    assert_eq!((found[0].as_str(), found[63].as_str()), ("new-9", "old-46"));
    // A clock that is wrong for one answer takes nothing from the others, whichever way.
    ledger.commit(answered("wrong".to_owned(), 400 * day)).await.unwrap();
    assert_eq!(ids(3 * day).await.len(), 64);
    ledger.commit(answered("right".to_owned(), 3 * day + 20)).await.unwrap();
    let found = ids(3 * day).await;
    assert_eq!((found.len(), found[0].as_str(), found[1].as_str()), (64, "right", "wrong"));
    // Approvals are read as far back as they are counted.
    let approvals = async |approvals: Option<SignedDuration>| {
        let reach = RestoreReach { approvals, charges: SignedDuration::from_hours(24 * 365), ..REACH };
        let saved = ledger.load_agent(&agent(), at(3 * day + 30), reach).await.unwrap();
        saved.policy_state.approvals.iter().map(|row| row.open).collect::<Vec<_>>()
    };
    ledger.commit(vec![seen("open", Some("bob"), 5), intent("open", Answer::Approve, vec![], 1, 5)]).await.unwrap();
    let counting = approvals(Some(SignedDuration::from_hours(24 * 365))).await;
    assert_eq!((counting.len(), counting.iter().filter(|open| **open).count()), (113, 1));
    assert_eq!(approvals(Some(SignedDuration::from_hours(1))).await.len(), 13, "and the one whose fate is open");
    assert_eq!(approvals(None).await, [true], "nobody counts them");
}
