//! The rules of requests and contacts, without a network.

use std::time::Duration;

use super::*;
use crate::sandbox::wire::NewRequest;

const PAGE: PageWanted = PageWanted { page: 1, size: 100 };

fn at(seconds: u64) -> Now {
    Now {
        mono: Mono::from_origin(Duration::from_secs(seconds)),
        wall: Timestamp::from_second(1_700_000_000 + seconds as i64).unwrap(),
    }
}

fn store() -> Store {
    let world =
        World::new().agent("a", "ka", "john/a", "A").agent("b", "kb", "maria/b", "B").user("j", "kj", "john", "John");
    Store::new(&world, 7 << 90)
}

fn events(pushed: &[PushedEvent]) -> Vec<(usize, &str)> {
    pushed.iter().map(|pushed| (pushed.to, pushed.event)).collect()
}

#[test]
fn a_request_is_answered_once() {
    let (mut store, mut pushed) = (store(), Vec::new());
    let ids = store.create(&NewRequest::to("a").from("@Maria/B").id("r"), 1..2, at(1), &mut pushed).unwrap();
    assert_eq!(ids, ["r"]);
    assert_eq!(events(&pushed), [(0, "contact_request_received")]);
    pushed.clear();
    assert_eq!(
        store.respond(1, AnswerAction::Approve, 0, at(2), &mut pushed),
        Err(StoreError::NotFound("no such contact request"))
    );
    assert_eq!(
        store.respond(0, AnswerAction::Cancel, 0, at(2), &mut pushed),
        Err(StoreError::NotFound("no such contact request"))
    );
    assert_eq!(pushed.len(), 0);
    assert_eq!(store.respond(0, AnswerAction::Approve, 0, at(2), &mut pushed), Ok(SandboxStatus::Approved));
    assert_eq!(
        events(&pushed),
        [(0, "contact_request_updated"), (1, "contact_request_updated"), (0, "contact_added"), (1, "contact_added")]
    );
    pushed.clear();
    assert!(matches!(store.respond(0, AnswerAction::Reject, 0, at(3), &mut pushed), Err(StoreError::Conflict(..))));
    assert!(pushed.is_empty());
    let http: Vec<u16> = store.requests[0].answers.iter().map(|answer| answer.http).collect();
    assert_eq!(http, [404, 404, 200, 409]);
    assert_eq!(store.requests[0].status, SandboxStatus::Approved);
}

#[test]
fn an_inverse_request_is_an_approval() {
    let (mut store, mut pushed) = (store(), Vec::new());
    let (id, status) = store.add(0, "@maria/b", None, at(1), &mut pushed).unwrap();
    assert_eq!(status, SandboxStatus::Pending);
    assert!(matches!(
        store.add(0, "maria/b", None, at(1), &mut pushed),
        Err(StoreError::Conflict("already_pending", _))
    ));
    assert!(matches!(
        store.add(0, "john/a", None, at(1), &mut pushed),
        Err(StoreError::Conflict("cannot_add_self", _))
    ));
    assert!(matches!(store.add(0, "a b", None, at(1), &mut pushed), Err(StoreError::Malformed("/handle", _))));
    assert!(matches!(store.add(0, "nobody", None, at(1), &mut pushed), Err(StoreError::NotFound(_))));
    assert_eq!(store.add(1, "john/a", None, at(2), &mut pushed), Ok((id, SandboxStatus::Approved)));
    assert!(matches!(
        store.add(1, "john/a", None, at(3), &mut pushed),
        Err(StoreError::Conflict("already_contacts", _))
    ));
    assert_eq!(store.list_contacts(0, PAGE, |_| false).total, 1);
    pushed.clear();
    store.remove_contact(1, Some("john/a"), None, &mut pushed).unwrap();
    assert_eq!(events(&pushed), [(1, "contact_removed"), (0, "contact_removed")]);
    assert_eq!(store.list_contacts(0, PAGE, |_| false).total, 0);
    assert!(matches!(store.remove_contact(0, Some("maria/b"), None, &mut pushed), Err(StoreError::NotFound(_))));
}

#[test]
fn what_was_cancelled_or_expired_is_not_found() {
    let (mut store, mut pushed) = (store(), Vec::new());
    store.add(0, "maria/b", None, at(1), &mut pushed).unwrap();
    assert_eq!(store.by_other_handle(1, AnswerAction::Reject, "@John/A"), Some(0));
    let index = store.by_other_handle(0, AnswerAction::Cancel, "maria/b").unwrap();
    assert_eq!(store.respond(0, AnswerAction::Cancel, index, at(2), &mut pushed), Ok(SandboxStatus::Cancelled));
    assert!(matches!(store.respond(1, AnswerAction::Approve, index, at(3), &mut pushed), Err(StoreError::NotFound(_))));
    assert_eq!(store.list_received(1, PAGE, None).total, 0);
    assert_eq!(store.list_sent(0, PAGE, Some(SandboxStatus::Pending)).total, 0);
    assert_eq!(store.list_sent(0, PAGE, Some(SandboxStatus::Cancelled)).total, 1);
    assert_eq!(store.list_sent(0, PAGE, None).total, 1);
}

#[test]
fn pages_hold_all_newest_first_and_a_stale_one_what_was() {
    let (mut store, mut pushed) = (store(), Vec::new());
    let burst = NewRequest::to("a").from("x{n}").id("r{n}").count(250).first(5);
    store.create(&burst, 5..255, at(1), &mut pushed).unwrap();
    let old = NewRequest::to("a").id("old").inserted_at("2020-01-01T00:00:00Z");
    store.create(&old, 1..2, at(2), &mut pushed).unwrap();
    let page = store.list_received(0, PageWanted { page: 3, size: 100 }, None);
    assert_eq!((page.rows.len(), page.total), (51, 251));
    assert!(page.rows[50].contains("\"old\""));
    assert!(store.list_received(0, PAGE, None).rows[0].contains("\"r254\""));
    assert!(store.list_received(0, PageWanted { page: 4, size: 100 }, None).rows.is_empty());
    store.respond(0, AnswerAction::Reject, 0, at(10), &mut pushed).unwrap();
    assert_eq!(store.list_received(0, PAGE, None).total, 250);
    assert_eq!(store.list_received(0, PAGE, Some(at(9).mono)).total, 251);
    assert_eq!(store.list_received(0, PAGE, Some(at(1).mono)).total, 250);
}

#[test]
fn absent_and_null_are_distinct() {
    let (mut store, mut pushed) = (store(), Vec::new());
    store.create(&NewRequest::to("a").from_null(), 1..2, at(1), &mut pushed).unwrap();
    assert!(pushed[0].payload.contains("\"from_handle\":null"));
    assert!(!pushed[0].payload.contains("from_name"));
    let burst = NewRequest::to("a").id("same").count(2);
    assert!(matches!(store.create(&burst, 1..3, at(1), &mut pushed), Err(StoreError::Invalid(_))));
    assert!(uuid::Uuid::parse_str(&store.requests[0].id).is_ok_and(|id| id.get_version_num() == 4));
}
