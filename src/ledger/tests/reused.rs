//! Ids that the platform gives to something else later.

use super::*;
use crate::inbox::GivenAnswer;
use crate::policy::state::{ChargeEnd, HistoryKind};

fn sent(name: &str, handle: Option<&str>, sent: i64, second: i64) -> Record {
    let request = ContactRequest { inserted_at: Some(at(sent)), ..request(name, handle) };
    Record::Seen { agent: agent(), request: request.into(), via: Via::Listing, at: at(second) }
}

fn approved(name: &str, second: i64) -> [Record; 2] {
    let charges = vec![charge("friends", "ann")];
    [intent(name, Answer::Approve, charges, 1, second), outcome(name, Outcome::Confirmed(Answer::Approve), second)]
}

fn rows(world: &TestLedger) -> Vec<(Option<String>, bool, Option<String>)> {
    let requests = world.reader().requests(&Filter::default()).unwrap();
    let row = |one: RecordedRequest| {
        let handle = one.request.sender.original().map(|text| text.raw().to_owned());
        (handle, one.answer.is_some(), one.settled)
    };
    requests.into_iter().map(row).collect()
}

fn row(handle: &str, answered: bool, settled: Option<&str>) -> (Option<String>, bool, Option<String>) {
    (Some(handle.to_owned()), answered, settled.map(str::to_owned))
}

#[tokio::test]
async fn another_sender_or_time_under_the_id_of_one_that_ended_is_another_request() {
    let world = TestLedger::new();
    let ledger = world.open();
    let mut batch = vec![sent("r1", Some("ann"), 0, 1)];
    batch.extend(approved("r1", 2));
    batch.push(Record::Hold { agent: agent(), request: id("r1"), person: Some("zoe".into()), at: at(2) });
    // The same request with its handle in another spelling, or unreadable, is not another request.
    batch.extend([sent("r1", Some("@Ann"), 0, 3), sent("r1", None, 0, 4)]);
    ledger.commit(batch).await.unwrap();
    assert_eq!(rows(&world), [row("ann", true, Some("approved"))]);
    // Another time, then another sender.
    let mut batch = vec![sent("r1", Some("ann"), 100, 101)];
    batch.extend(approved("r1", 102));
    batch.push(sent("r1", Some("mallory"), 100, 103));
    ledger.commit(batch).await.unwrap();
    assert_eq!(
        rows(&world),
        [row("ann", true, Some("approved")), row("ann", true, Some("approved")), row("mallory", false, None)]
    );
    let memory = load(&ledger, 104).await;
    assert_eq!(memory.pending.iter().map(|one| one.first_seen).collect::<Vec<_>>(), [at(103)]);
    assert!(memory.policy_state.holds.is_empty(), "a person held the one before");
    assert_eq!((memory.policy_state.charges.len(), memory.policy_state.approvals.len()), (2, 2));
    let asked = memory.policy_state.history.iter().filter(|row| row.kind == HistoryKind::Requested);
    let asked: Vec<_> = asked.map(|row| (&*row.owner, row.request.is_some())).collect();
    assert_eq!(asked, [("ann", false), ("ann", false), ("mallory", true)], "each was made");
    let state = crate::policy::PolicyState::restore(memory.policy_state);
    assert_eq!(state.sizes(), (2, 2));
    // Entries now apply to the last request with this id.
    ledger.commit(vec![intent("r1", Answer::Reject, vec![], 1, 105)]).await.unwrap();
    let reader = world.reader();
    let last = reader.request(&id("r1")).unwrap().unwrap();
    assert_eq!(last.request.sender.handle().unwrap().as_str(), "mallory");
    assert_eq!(last.answer.unwrap().answer, Answer::Reject);
    assert_eq!(reader.beginning("r").unwrap(), [id("r1")]);
}

#[tokio::test]
async fn a_pending_request_whose_sender_changed_while_nobody_watched_is_the_same_request() {
    let world = TestLedger::file();
    let ledger = world.open();
    ledger.commit(vec![sent("r1", None, 0, 1), sent("r2", Some("carol"), 0, 1)]).await.unwrap();
    ledger.commit(vec![sent("r1", Some("ann"), 0, 2), sent("r2", Some("mallory"), 0, 2)]).await.unwrap();
    assert_eq!(rows(&world), [row("ann", false, None), row("mallory", false, None)]);
    let before: Vec<Option<String>> = {
        let sql = world.sql();
        let mut statement = sql.prepare("SELECT handle FROM request_change ORDER BY n").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(before, [None, Some("carol".to_owned())]);
}

#[tokio::test]
async fn who_changes_a_name_again_and_again_fills_no_disk() {
    let world = TestLedger::file();
    let ledger = world.open();
    for turn in 0..200 {
        ledger.commit(vec![sent("r1", Some(&format!("ann{turn}")), 0, turn)]).await.unwrap();
    }
    let sql = world.sql();
    let mut statement = sql.prepare("SELECT handle FROM request_change ORDER BY n").unwrap();
    let before: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!((before.len(), &*before[62], &*before[63]), (64, "ann62", "ann198"));
    assert_eq!(rows(&world), [row("ann199", false, None)]);
}

#[tokio::test]
async fn an_answer_that_was_carried_out_is_never_followed_by_another_of_a_rule() {
    let world = TestLedger::new();
    let ledger = world.open();
    let mut batch = vec![sent("r1", Some("ann"), 0, 1), sent("r2", Some("bob"), 0, 1)];
    batch.extend(approved("r1", 2));
    ledger.commit(batch).await.unwrap();
    let both = || vec![intent("r2", Answer::Approve, vec![], 1, 9), intent("r1", Answer::Reject, vec![], 1, 9)];
    for _ in 0..2 {
        let said = GivenAnswer { answer: Answer::Approve, by: By::parse("friends").unwrap(), lasts: None };
        let refused = ledger.commit(both()).await;
        assert_eq!(refused, Err(LedgerError::Answered { request: id("r1"), said }));
        assert!(load(&ledger, 10).await.open_answers.is_empty(), "no intent of that batch was written");
    }
    ledger.commit(vec![intent("r1", Answer::Approve, vec![], 1, 11)]).await.unwrap();
    ledger.commit(vec![outcome("r1", Outcome::Confirmed(Answer::Approve), 12)]).await.unwrap();
    let by_person = match intent("r1", Answer::Reject, vec![], 1, 13) {
        Record::Intent { agent, request, answer, charges, counts, attempt, lasts, at, .. } => {
            let by = By::Person("zoe".into());
            Record::Intent { agent, request, answer, by, lasts, policy: None, head: None, charges, counts, attempt, at }
        }
        other => other,
    };
    ledger.commit(vec![by_person]).await.unwrap();
}

#[tokio::test]
async fn a_contact_that_comes_again_does_not_undo_its_removal() {
    let world = TestLedger::new();
    let ledger = world.open();
    let added = |handle: &str, request: Option<&str>, second: i64| Record::ContactAdded {
        agent: agent(),
        contact: Box::new(Contact {
            id: ContactId::parse("c1").unwrap(),
            sender: Sender::parse(Some(handle)),
            name: None,
            kind: ContactKind::User,
            inserted_at: Some(at(second)),
            ids: None,
        }),
        request: request.map(id),
        guest: None,
        at: at(second),
    };
    let gone = |second| Record::ContactRemoved {
        agent: agent(),
        contact: ContactId::parse("c1").unwrap(),
        expired: false,
        at: at(second),
    };
    let mut batch = vec![sent("r1", Some("mallory"), 0, 0)];
    batch.extend(approved("r1", 1));
    batch.extend([added("mallory", Some("r1"), 1), gone(5), added("carol", None, 9)]);
    ledger.commit(batch).await.unwrap();
    let removed = |state: &SavedAgent| {
        let history = state.policy_state.history.iter().filter(|row| row.kind == HistoryKind::Removed);
        history.map(|row| (row.owner.to_string(), row.at)).collect::<std::collections::BTreeSet<_>>()
    };
    let memory = load(&ledger, 10).await;
    assert!(removed(&memory).contains(&("mallory".to_owned(), at(5))), "{:?}", removed(&memory));
    assert!(memory.contacts[0].elsewhere && memory.contacts[0].since == at(9), "what is known of it is of the new one");
    ledger.commit(vec![gone(20)]).await.unwrap();
    let memory = load(&ledger, 30).await;
    assert!(removed(&memory).contains(&("carol".to_owned(), at(20))) && memory.contacts.is_empty());
    assert_eq!(removed(&memory).iter().filter(|(owner, _)| owner == "mallory").count(), 2);
}

#[tokio::test]
async fn an_open_answer_is_for_whom_it_was_meant_whatever_its_request_became_since() {
    let world = TestLedger::new();
    let ledger = world.open();
    let changed = |handle: &str, second| Record::Changed {
        agent: agent(),
        request: request("r1", Some(handle)).into(),
        at: at(second),
    };
    // Decided in the very step in which a change was learnt: for the new sender.
    let batch =
        vec![sent("r1", None, 0, 0), changed("ann", 1), changed("bob", 2), intent("r1", Answer::Approve, vec![], 1, 2)];
    ledger.commit(batch).await.unwrap();
    let senders = |memory: SavedAgent| {
        let senders = memory.open_answers.into_iter().map(|open| open.sender);
        senders.map(|sender| sender.handle().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(senders(load(&ledger, 3).await), ["bob"]);
    ledger.commit(vec![outcome("r1", Outcome::Unknown, 3), changed("mallory", 4), changed("eve", 5)]).await.unwrap();
    assert_eq!(senders(load(&ledger, 6).await), ["bob"]);
    // This stays when the outcome is known: a stale page must not repeat the answer to somebody else.
    ledger.commit(vec![outcome("r1", Outcome::Presumed(Answer::Approve), 7)]).await.unwrap();
    let recent = load(&ledger, 8).await.recent_answers.remove(0);
    assert_eq!(recent.request.sender.handle().unwrap().as_str(), "bob");
    assert_eq!(recent.unmet, Some(recent.request.sender));
}

#[tokio::test]
async fn only_what_an_open_answer_costs_can_be_given_back() {
    let world = TestLedger::new();
    let ledger = world.open();
    let mut batch = vec![sent("r1", Some("ann"), 0, 1), sent("r2", Some("ann"), 0, 1)];
    batch.extend(approved("r1", 2));
    batch.push(intent("r2", Answer::Approve, vec![charge("friends", "ann")], 1, 3));
    // The id of the approved request now belongs to another one, which will be rejected.
    batch.extend([sent("r1", Some("bob"), 100, 101), sent("r3", Some("ann"), 100, 101)]);
    ledger.commit(batch).await.unwrap();
    let memory = load(&ledger, 102).await.policy_state;
    let charges: Vec<_> =
        memory.charges.iter().map(|row| (row.request.as_ref().unwrap().as_str(), row.end == ChargeEnd::Open)).collect();
    assert_eq!(charges, [("r1", false), ("r2", true)]);
    let approvals: Vec<_> = memory.approvals.iter().map(|row| (row.request.as_str(), row.open)).collect();
    assert_eq!(approvals, [("r1", false), ("r2", true)]);
    let mut state = crate::policy::PolicyState::restore(memory);
    for name in ["r1", "r2"] {
        state.reserve(&id(name), None, crate::model::Verdict::Reject, &By::parse("foes").unwrap(), &[], at(103));
    }
    assert_eq!(state.sizes(), (1, 1), "what r1 cost before stays, what r2 had reserved is given back");
}

#[tokio::test]
async fn what_the_earlier_request_of_an_id_met_is_not_taken_for_what_the_next_one_met() {
    let world = TestLedger::new();
    let ledger = world.open();
    let settled = |name: &str, second| Record::Settled {
        agent: agent(),
        request: id(name),
        status: Some(RequestStatus::Rejected),
        at: at(second),
    };
    let settlement = Record::Settlement {
        agent: agent(),
        owner: "ann".into(),
        request: Some(id("r3")),
        said: crate::policy::doubts::DoubtSettlement::Rejected,
        person: "zoe".into(),
        at: at(5),
    };
    let rejected = Outcome::Confirmed(Answer::Reject);
    let mut batch = vec![sent("r1", Some("ann"), 0, 1), sent("r2", Some("ann"), 0, 1), sent("r3", Some("ann"), 0, 1)];
    batch.extend([
        intent("r1", Answer::Reject, vec![], 1, 2),
        outcome("r1", rejected, 3),
        settled("r2", 4),
        settlement,
    ]);
    for name in ["r1", "r2"] {
        batch.push(sent(name, Some("ann"), 100, 101));
    }
    batch.extend([intent("r1", Answer::Reject, vec![], 1, 102), outcome("r1", rejected, 103), settled("r2", 104)]);
    ledger.commit(batch).await.unwrap();
    let history = load(&ledger, 105).await.policy_state.history;
    let met = history.iter().filter(|row| row.kind == HistoryKind::Rejected);
    let met: Vec<_> = met.map(|row| (row.request.as_ref().map(RequestId::as_str), row.at)).collect();
    assert_eq!(
        met,
        [(None, at(3)), (None, at(4)), (Some("r3"), at(5)), (Some("r1"), at(103)), (Some("r2"), at(104))],
        "each counts once, however often it is read beside what is remembered"
    );
}
