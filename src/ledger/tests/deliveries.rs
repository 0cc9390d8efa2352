//! Messages to people: which requests wait, up to where a target was notified, and one message at a time.

use super::*;
use crate::ledger::deliveries::{Delivery, DeliveryEnd, DeliveryMark, NAMED_MAX, WantedRequests};

const BOTH: WantedRequests = WantedRequests { deferred: true, overdue: true };

fn message(id: &str, mark: &DeliveryMark) -> Record {
    Record::Message { target: "ops".into(), id: id.into(), body: "{}".to_owned(), mark: mark.clone(), at: at(50) }
}

fn tried(id: &str, end: Option<DeliveryEnd>) -> Record {
    let why = Some("no route".to_owned());
    Record::Tried { id: id.into(), attempts: 1, end, next_at: at(60), why, at: at(55) }
}

/// Who is new to a target with this mark.
async fn new(ledger: &Ledger, mark: &DeliveryMark, wanted: WantedRequests) -> (Vec<String>, u64, u64) {
    let waiting = ledger.waiting(Vec::new(), mark.clone(), wanted, None).await.unwrap().unwrap();
    let names = waiting.new.iter().map(|request| request.request.as_str().to_owned()).collect();
    (names, waiting.more, waiting.all)
}

#[tokio::test]
async fn who_waits_for_a_person_is_news_once_and_whoever_is_answered_is_none() {
    let world = TestLedger::new();
    let ledger = world.open();
    let defers = |name: &str, second| decided(name, Verdict::Defer, "unsure", second);
    for name in ["r1", "r2", "r3"] {
        ledger.commit(vec![seen(name, Some("ann"), 0), defers(name, 1)]).await.unwrap();
    }
    ledger.commit(vec![seen("r4", Some("ann"), 0), decided("r4", Verdict::Approve, "friends", 1)]).await.unwrap();
    let settled =
        Record::Settled { agent: agent(), request: id("r2"), status: Some(RequestStatus::Cancelled), at: at(2) };
    ledger.commit(vec![settled]).await.unwrap();
    let nothing = DeliveryMark::default();
    assert_eq!(new(&ledger, &nothing, BOTH).await, (vec!["r1".to_owned(), "r3".to_owned()], 0, 2));
    let waiting = ledger.waiting(Vec::new(), nothing.clone(), BOTH, None).await.unwrap().unwrap();
    let mark = DeliveryMark { decision: waiting.decision, overdue: waiting.overdue, conditions: Vec::new() };
    assert_eq!(new(&ledger, &mark, BOTH).await, (vec![], 0, 2), "they wait, and that is no news");
    let looked = Some((waiting.decision, waiting.overdue));
    assert!(ledger.waiting(Vec::new(), mark.clone(), BOTH, looked).await.unwrap().is_none(), "nothing happened since");
    // Decided again, for another reason: the same request still waits.
    ledger.commit(vec![decided("r1", Verdict::Defer, "other", 5)]).await.unwrap();
    assert_eq!(new(&ledger, &mark, BOTH).await, (vec![], 0, 2));
    assert_eq!(
        ledger
            .waiting(vec![AgentId::parse("0c5b0a2e-7a55-4e6f-9d1f-00000000000f").unwrap()], nothing, BOTH, None)
            .await
            .unwrap()
            .unwrap()
            .all,
        0
    );
}

#[tokio::test]
async fn what_a_target_does_not_hear_of_takes_no_room_from_what_it_does() {
    let world = TestLedger::new();
    let ledger = world.open();
    for number in 0..NAMED_MAX + 5 {
        let name = format!("r{number}");
        ledger.commit(vec![seen(&name, Some("ann"), 0), decided(&name, Verdict::Defer, "unsure", 1)]).await.unwrap();
    }
    let last = format!("r{}", NAMED_MAX + 4);
    let notified = Record::Notified { agent: agent(), request: id(&last), overdue: rule("late"), at: at(3) };
    ledger.commit(vec![notified]).await.unwrap();
    let (named, more, all) = new(&ledger, &DeliveryMark::default(), BOTH).await;
    assert_eq!((named.len(), more, all), (NAMED_MAX, 5, NAMED_MAX as u64 + 5));
    let overdue = WantedRequests { deferred: false, overdue: true };
    assert_eq!(new(&ledger, &DeliveryMark::default(), overdue).await, (vec![last], 0, NAMED_MAX as u64 + 5));
}

#[tokio::test]
async fn one_message_is_under_way_to_a_target_and_its_text_goes_when_it_ends() {
    let world = TestLedger::file();
    let ledger = world.open();
    let mark = DeliveryMark { decision: 7, overdue: 3, conditions: vec!["paused:x".to_owned()] };
    ledger.commit(vec![message("m1", &mark)]).await.unwrap();
    let second = ledger.commit(vec![message("m2", &DeliveryMark::default())]).await;
    assert!(matches!(second, Err(LedgerError::Refused { .. })), "{second:?}");
    ledger.commit(vec![tried("m1", None)]).await.unwrap();
    let Delivery { mark: known, open, .. } = ledger.delivery("ops").await.unwrap();
    let open = open.unwrap();
    assert_eq!(
        (known, open.id.as_str(), open.attempts, open.why.as_deref()),
        (mark.clone(), "m1", 1, Some("no route"))
    );
    ledger.commit(vec![tried("m1", Some(DeliveryEnd::GaveUp))]).await.unwrap();
    let delivery = ledger.delivery("ops").await.unwrap();
    assert_eq!((delivery.open, delivery.failed.map(|(end, ..)| end)), (None, Some(DeliveryEnd::GaveUp)));
    let kept: Option<String> = world.sql().query_row("SELECT body FROM delivery", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, None);
    ledger.commit(vec![message("m2", &mark)]).await.unwrap();
    assert_eq!(ledger.delivery("other").await.unwrap(), Delivery::default(), "each target for itself");
}

#[tokio::test]
async fn what_deciders_said_goes_with_who_waits() {
    let world = TestLedger::new();
    let ledger = world.open();
    let said = |decider: &str, verdict, reason: Option<&str>, second| Record::DeciderReplied {
        agent: agent(),
        request: id("r1"),
        rule: rule("unsure"),
        reply: Box::new(crate::policy::DeciderVerdict {
            decider: rule(decider),
            key: Some("0".repeat(64).into()),
            verdict,
            reason: reason.map(StrangerText::new),
        }),
        took: std::time::Duration::from_millis(3),
        at: at(second),
    };
    let mut batch = vec![seen("r1", Some("ann"), 0), decided("r1", Verdict::Defer, "unsure", 1)];
    batch.extend([seen("r2", Some("bob"), 0), decided("r2", Verdict::Defer, "unsure", 1)]);
    batch.extend([said("screen", Verdict::Reject, Some("sales"), 2), said("second", Verdict::Defer, None, 3)]);
    ledger.commit(batch).await.unwrap();
    let waiting = ledger.waiting(Vec::new(), DeliveryMark::default(), BOTH, None).await.unwrap().unwrap();
    let replies: Vec<Vec<_>> = waiting
        .new
        .iter()
        .map(|one| {
            let word = |word: &crate::ledger::deliveries::WaitingDeciderReply| {
                (word.decider.clone(), word.verdict, word.reason.as_ref().map(|text| text.raw().to_owned()))
            };
            one.replies.iter().map(word).collect()
        })
        .collect();
    let screen = ("screen".to_owned(), Verdict::Reject, Some("sales".to_owned()));
    assert_eq!(replies, [vec![("second".to_owned(), Verdict::Defer, None), screen], vec![]]);
}
