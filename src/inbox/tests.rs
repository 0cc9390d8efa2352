//! Each rule of the inbox as a race that is lost without it.

mod missed;

use std::collections::HashSet;
use std::time::Duration;

use super::*;
use crate::model::{Answer, Sender};
use crate::policy::{By, Decision, ErrorKind, PolicyHash};

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Now {
    let wall = "2026-03-02T10:00:00Z".parse::<Timestamp>().unwrap();
    let wall = wall.checked_add(jiff::SignedDuration::from_secs(seconds.cast_signed())).unwrap();
    Now { mono: Mono::from_origin(Duration::from_secs(seconds)), wall }
}

fn id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

fn request(text: &str) -> ContactRequest {
    ContactRequest {
        id: id(text),
        sender: Sender::parse(Some("john")),
        name: None,
        message: None,
        inserted_at: None,
        ids: None,
    }
}

fn said() -> GivenAnswer {
    GivenAnswer { answer: Answer::Approve, by: By::NoMatch, lasts: None }
}

fn inbox() -> Inbox {
    Inbox::with_capacity(Listing::new(Mono::ZERO, 30 * SECOND, 7), 10)
}

fn page(ids: &[&str], total: u64, pages: u32) -> Page<ContactRequest> {
    Page {
        items: ids.iter().map(|id| request(id)).collect(),
        unreadable: vec![],
        nameless: vec![],
        total: Some(total),
        pages: Some(pages),
    }
}

/// Begins a round and returns its first fetch.
fn begin(inbox: &mut Inbox, now: Now) -> Fetch {
    inbox.listing.restart("test", now.mono);
    let mark = inbox.mark();
    inbox.listing.begin(mark, now.mono, 300 * SECOND).unwrap()
}

/// Reads a one-page pass to its end.
fn pass(inbox: &mut Inbox, ids: &[&str], now: Now) -> (PassEnd, Verified) {
    begin(inbox, now);
    let (_, end) = inbox.page(page(ids, ids.len() as u64, 1), now);
    let end = end.unwrap();
    let verified = inbox.pass_ended(&end);
    (end, verified)
}

fn ready(inbox: &Inbox) -> Vec<String> {
    inbox.ready().map(ToString::to_string).collect()
}

#[test]
fn a_request_has_one_owner_whichever_way_it_comes_first() {
    let mut inbox = inbox();
    assert_eq!(inbox.see_event(request("a"), at(1)), ShowOutcome::New);
    assert_eq!(inbox.see_event(request("a"), at(1)), ShowOutcome::Known);
    begin(&mut inbox, at(2));
    let (new, _) = inbox.page(page(&["a", "b"], 2, 1), at(2));
    assert_eq!(new, vec![(id("b"), ShowOutcome::New)]);
    assert_eq!(inbox.see_event(request("b"), at(3)), ShowOutcome::Known);
    assert_eq!(inbox.len(), 2);
}

#[test]
fn an_answer_binds_its_id_if_the_sender_changed_before_its_end() {
    let from = |handle: &str| ContactRequest { sender: Sender::parse(Some(handle)), ..request("a") };
    let mut inbox = inbox();
    inbox.see_event(from("carol"), at(1));
    inbox.begin_answer(&id("a"), said());
    inbox.fate_unknown(&id("a"));
    let shows = |inbox: &mut Inbox, handle: &str, now: Now| {
        begin(inbox, now);
        let items = vec![from(handle)];
        let (new, end) =
            inbox.page(Page { items, unreadable: vec![], nameless: vec![], total: Some(1), pages: Some(1) }, now);
        inbox.pass_ended(&end.unwrap());
        new
    };
    shows(&mut inbox, "mallory", at(2));
    // A stale page calls it gone: the answer, which was for carol, is presumed to be carried out.
    inbox.settle(&id("a"), Some(said()), at(3));
    assert_eq!(inbox.see_event(from("mallory"), at(100)), ShowOutcome::Settled);
    assert_eq!(shows(&mut inbox, "mallory", at(200)), [(id("a"), ShowOutcome::Returned)]);
    let entry = inbox.entry(&id("a")).unwrap();
    assert!(entry.answer().may_be_heard() && !entry.is_as_answered(), "a person says what becomes of it");
}

#[test]
fn the_queue_gives_the_oldest_first() {
    let mut inbox = inbox();
    let mut late = request("late");
    late.inserted_at = Some(at(50).wall);
    let mut early = request("early");
    early.inserted_at = Some(at(10).wall);
    inbox.see_event(late, at(60));
    inbox.see_event(early, at(61));
    assert_eq!(ready(&inbox), ["early", "late"]);
}

#[test]
fn an_inserted_at_in_the_future_does_not_push_a_request_back() {
    let mut inbox = inbox();
    let mut future = request("future");
    future.inserted_at = Some(at(90_000).wall);
    inbox.see_event(future, at(1));
    inbox.see_event(request("next"), at(2));
    assert_eq!(ready(&inbox), ["future", "next"]);
}

#[test]
fn a_new_request_does_not_wait_for_all_that_are_decided_again() {
    let mut inbox = inbox();
    for name in ["a", "b", "c", "d"] {
        inbox.see_event(request(name), at(1));
        let decision = Decision::error(ErrorKind::Internal, PolicyHash::new("ab"));
        inbox.entry_mut(&id(name)).unwrap().decided(decision);
        inbox.rest(&id(name), None);
    }
    inbox.requeue_resting(|_| true);
    inbox.see_event(request("new"), at(2));
    inbox.see_event(request("newer"), at(3));
    let mut order = Vec::new();
    while let Some(next) = inbox.next_ready().cloned() {
        order.push(next.to_string());
        inbox.rest(&next, None);
    }
    assert_eq!(order, ["a", "new", "b", "newer", "c", "d"]);
    inbox.requeue_resting(|_| true);
    inbox.order(&id("d"), said());
    inbox.requeue(&id("d"));
    assert_eq!(inbox.next_ready(), Some(&id("d")), "what a person said is nothing to be decided again");
}

#[test]
fn what_the_first_pass_lists_is_held_until_it_ends() {
    let mut inbox = inbox();
    begin(&mut inbox, at(1));
    let (_, end) = inbox.page(page(&["a"], 2, 2), at(1));
    assert!(end.is_none());
    inbox.wake(at(2), true);
    assert_eq!(ready(&inbox), Vec::<String>::new(), "answering now would shift page 2");
    let (_, end) = inbox.page(page(&["b"], 2, 2), at(2));
    inbox.pass_ended(&end.unwrap());
    assert_eq!(ready(&inbox), ["a", "b"]);
}

#[test]
fn a_first_pass_that_takes_for_ever_holds_nothing_for_ever() {
    let mut inbox = inbox();
    begin(&mut inbox, at(1));
    inbox.page(page(&["a"], 900, 9), at(1));
    assert_eq!(inbox.deadline(at(1), true), Some(at(6).mono));
    inbox.wake(at(6), true);
    assert_eq!(ready(&inbox), ["a"]);
}

#[test]
fn a_live_event_is_not_held_by_a_pass() {
    let mut inbox = inbox();
    begin(&mut inbox, at(1));
    inbox.page(page(&["a"], 2, 2), at(1));
    inbox.see_event(request("live"), at(1));
    assert_eq!(ready(&inbox), ["live"]);
}

#[test]
fn a_page_older_than_an_answer_does_not_bring_it_back() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(1));
    begin(&mut inbox, at(2));
    inbox.settle(&id("a"), Some(said()), at(3));
    let (new, _) = inbox.page(page(&["a"], 1, 1), at(4));
    assert!(new.is_empty(), "the page was read before the answer");
    assert_eq!(inbox.len(), 0);
}

#[test]
fn an_update_for_an_unknown_id_is_a_tombstone_too() {
    let mut inbox = inbox();
    begin(&mut inbox, at(2));
    inbox.settle(&id("a"), None, at(3));
    let (new, _) = inbox.page(page(&["a"], 1, 1), at(4));
    assert!(new.is_empty());
}

#[test]
fn a_stale_page_of_a_later_pass_does_not_bring_an_answer_back() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(1));
    inbox.settle(&id("a"), Some(said()), at(3));
    let (end, _) = pass(&mut inbox, &["a"], at(10));
    assert_eq!((end.new, inbox.len()), (0, 0));
}

#[test]
fn what_is_listed_long_after_its_answer_comes_back_bound_to_that_answer() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(1));
    inbox.settle(&id("a"), Some(said()), at(3));
    pass(&mut inbox, &["a"], at(100));
    let entry = inbox.entry(&id("a")).unwrap();
    assert_eq!(entry.answer().next(), Some(NextAnswer::Again(&said())), "the earlier answer may have been carried out");
}

#[test]
fn a_late_event_for_an_answered_request_is_no_new_request() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(1));
    inbox.settle(&id("a"), None, at(2));
    assert_eq!(inbox.see_event(request("a"), at(120)), ShowOutcome::Settled);
}

#[test]
fn an_unknown_answer_waits_for_a_pass_that_began_after_it() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(1));
    inbox.begin_answer(&id("a"), said());
    begin(&mut inbox, at(2));
    inbox.fate_unknown(&id("a"));
    let (_, end) = inbox.page(page(&["a"], 1, 1), at(3));
    let verified = inbox.pass_ended(&end.unwrap());
    assert!(verified.still_pending.is_empty(), "this pass began before the attempt ended");
    let (_, verified) = pass(&mut inbox, &["a"], at(4));
    assert_eq!(verified.still_pending, vec![id("a")]);
}

#[test]
fn an_unknown_answer_that_is_listed_no_more_was_carried_out() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(1));
    inbox.begin_answer(&id("a"), said());
    inbox.fate_unknown(&id("a"));
    let (_, verified) = pass(&mut inbox, &[], at(4));
    assert_eq!(verified.no_longer, vec![id("a")]);
}

#[test]
fn passes_follow_while_they_find_something_and_at_most_three() {
    let mut inbox = inbox();
    let mut passes = 1;
    begin(&mut inbox, at(1));
    let names = ["a", "b", "c", "d", "e"];
    loop {
        let (_, end) = inbox.page(page(&names[..passes], passes as u64, 1), at(2));
        let end = end.unwrap();
        inbox.pass_ended(&end);
        let mark = inbox.mark();
        if inbox.listing.again(&end, false, mark, at(2).mono).is_none() {
            break;
        }
        passes += 1;
    }
    assert_eq!(passes, 3);

    let (end, _) = pass(&mut inbox, &["a", "b", "c"], at(9));
    let mark = inbox.mark();
    assert!(inbox.listing.again(&end, false, mark, at(9).mono).is_none(), "nothing new: the round is over");
}

/// Ten requests came while the pages were read, on pages that were already read: only the total shows it, and nothing
/// is new.
#[test]
fn a_pass_that_saw_fewer_rows_than_were_promised_is_read_again_at_once() {
    let mut inbox = inbox();
    pass(&mut inbox, &["a", "b"], at(1));
    for (total, again) in [(12, true), (2, false)] {
        begin(&mut inbox, at(2));
        let (_, end) = inbox.page(page(&["a", "b"], total, 1), at(3));
        let end = end.unwrap();
        assert_eq!((end.new, end.short, end.whole), (0, again, !again));
        let mark = inbox.mark();
        assert_eq!(inbox.listing.again(&end, false, mark, at(3).mono).is_some(), again, "{total}");
    }
}

#[test]
fn a_full_inbox_drops_the_event_and_asks_for_a_listing() {
    let mut inbox = Inbox::with_capacity(Listing::new(Mono::from_origin(3600 * SECOND), 30 * SECOND, 7), 1);
    inbox.see_event(request("a"), at(1));
    assert_eq!(inbox.see_event(request("b"), at(1)), ShowOutcome::Full);
    assert!(inbox.listing.due().unwrap() < at(10).mono);
    inbox.settle(&id("a"), None, at(2));
    pass(&mut inbox, &["b"], at(3));
    assert_eq!(ready(&inbox), ["b"], "the listing brought it again");
}

#[test]
fn whom_a_rule_answers_finds_room_in_a_full_inbox_up_to_a_bound() {
    let mut inbox = Inbox::with_capacity(Listing::new(Mono::from_origin(3600 * SECOND), 30 * SECOND, 7), 1);
    inbox.see_event(request("a"), at(1));
    assert!(inbox.is_full_for(&request("b")) && inbox.is_crowded());
    let see = |inbox: &mut Inbox, name: &str, second| {
        let known = KnownRequests { welcome: HashSet::from([id(name)]), ..KnownRequests::default() };
        inbox.see_event_of(request(name), &known, at(second))
    };
    assert_eq!(inbox.see_event(request("b"), at(1)), ShowOutcome::Full);
    for n in 0..WELCOME_MAX {
        assert_eq!(see(&mut inbox, &format!("w{n}"), 1), ShowOutcome::New);
    }
    assert_eq!(see(&mut inbox, "one-more", 1), ShowOutcome::Full);
    inbox.closed = true;
    inbox.settle(&id("w0"), None, at(2));
    assert_eq!(see(&mut inbox, "x", 2), ShowOutcome::Full, "nothing can be recorded");
}

#[test]
fn a_platform_that_shows_one_page_for_ever_is_not_read_for_ever() {
    let mut inbox = inbox();
    let fetch = begin(&mut inbox, at(1));
    let rows: Vec<String> = (0..PAGE_SIZE).map(|n| format!("r{n}")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let endless = || Page { total: None, pages: None, ..page(&rows, 0, 1) };
    assert!(inbox.page(endless(), at(1)).1.is_none() && inbox.listing.next_page() != Some(fetch));
    let (_, end) = inbox.page(endless(), at(1));
    let end = end.unwrap();
    assert_eq!((end.pages, end.stable, end.whole), (2, false, false), "it proves nothing of what it did not show");
    // Pages that differ are read on.
    begin(&mut inbox, at(1000));
    assert!(inbox.page(endless(), at(1000)).1.is_none());
    let others: Vec<String> = (0..PAGE_SIZE).map(|n| format!("s{n}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let next = Page { total: None, pages: None, ..page(&others, 0, 1) };
    assert!(inbox.page(next, at(1000)).1.is_none());
}

#[test]
fn a_full_inbox_lets_go_of_whoever_is_listed_no_more_and_then_lists_for_those_outside() {
    let mut inbox = Inbox::with_capacity(Listing::new(Mono::from_origin(3600 * SECOND), 30 * SECOND, 7), 2);
    inbox.see_event(request("a"), at(1));
    inbox.see_event(request("b"), at(1));
    let (end, verified) = pass(&mut inbox, &["c"], at(10));
    assert_eq!((end.full, verified.gone.len()), (true, 2), "c has no room, but a and b are not shown");
    for gone in verified.gone {
        inbox.settle(&gone, None, at(10));
    }
    assert!(inbox.listing.due().unwrap() < at(15).mono, "there is room now");
    pass(&mut inbox, &["c"], at(100));
    assert_eq!(ready(&inbox), ["c"]);
}

#[test]
fn timers_wait_while_the_clock_is_unsound() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(1));
    inbox.rest(&id("a"), Some(at(5).wall));
    inbox.wake(at(6), false);
    assert_eq!(inbox.deadline(at(6), false), None);
    assert!(ready(&inbox).is_empty());
    inbox.wake(at(6), true);
    assert_eq!(ready(&inbox), ["a"]);
}

#[test]
fn a_failed_listing_comes_again_soon_and_then_less_often_but_within_the_rhythm() {
    let mut listing = Listing::new(Mono::ZERO, 30 * SECOND, 7);
    let mut now = Mono::ZERO;
    let mut waits = Vec::new();
    for _ in 0..12 {
        let due = listing.due().unwrap();
        waits.push(due.since(now));
        now = due;
        listing.begin(Mark(0), now, 30 * SECOND).unwrap();
        listing.failed(now, None);
    }
    assert!(waits[1] <= 2 * SECOND, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 30 * SECOND), "{waits:?}");
    assert!(waits[11] >= 15 * SECOND, "{waits:?}");
    listing.begin(Mark(0), now + 60 * SECOND, 30 * SECOND).unwrap();
    listing.failed(now, Some(120 * SECOND));
    assert_eq!(listing.due(), Some(now + 120 * SECOND), "what the platform asks for wins");
}

#[test]
fn tombstones_are_forgotten_in_the_end() {
    let mut inbox = inbox();
    inbox.settle(&id("a"), None, at(1));
    inbox.prune(at(800));
    assert!(inbox.tombstone(&id("a")).is_some());
    inbox.prune(at(1000));
    assert!(inbox.tombstone(&id("a")).is_none());
}

/// The same id with another sender.
fn of_mallory(text: &str) -> ContactRequest {
    ContactRequest { sender: Sender::parse(Some("mallory")), ..request(text) }
}

#[test]
fn a_settled_id_that_another_sender_asks_under_is_another_request_once_nothing_stale_can_say_so() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(0));
    inbox.settle(&id("a"), Some(said()), at(1));
    // A late event shows the request as it was.
    assert_eq!(inbox.see_event(of_mallory("a"), at(2)), ShowOutcome::Settled);
    assert_eq!(inbox.listing.due(), Some(at(0).mono), "it is listed sooner anyhow");
    assert_eq!(inbox.see_event(request("a"), at(70)), ShowOutcome::Settled, "nothing of it is different");
    assert_eq!(inbox.see_event(of_mallory("a"), at(70)), ShowOutcome::New);
    let entry = inbox.entry(&id("a")).unwrap();
    assert_eq!((entry.before(), entry.answer().next()), (Some(EarlierRequest::Another), Some(NextAnswer::Rules)));
    assert!(inbox.tombstone(&id("a")).is_none());
    inbox.settle(&id("a"), None, at(80));
    let settled = inbox.tombstone(&id("a")).unwrap();
    assert_eq!(settled.answer, None, "what was said to the one before is not said of this one");
}

#[test]
fn after_a_start_another_request_under_a_settled_id_waits_a_minute_at_most() {
    let mut inbox = inbox();
    inbox.remember_settled(&request("a"), Some(said()), false, at(0));
    assert_eq!(inbox.see_event(of_mallory("a"), at(1)), ShowOutcome::Settled);
    assert!(inbox.listing.due().is_some_and(|due| due <= at(60).mono), "{:?}", inbox.listing.due());
    for (began, before) in [(30, None), (60, Some(EarlierRequest::Another))] {
        begin(&mut inbox, at(began));
        inbox.page(Page { items: vec![of_mallory("a")], ..page(&[], 1, 1) }, at(began + 1));
        assert_eq!(inbox.entry(&id("a")).and_then(Entry::before), before, "{began}");
    }
}

#[test]
fn what_the_record_says_was_answered_is_bound_to_that() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(0));
    inbox.bind(&id("a"), said());
    assert_eq!(inbox.entry(&id("a")).unwrap().answer().next(), Some(NextAnswer::Again(&said())));
    inbox.begin_answer(&id("a"), said());
    inbox.bind(&id("a"), GivenAnswer { answer: Answer::Reject, by: By::NoMatch, lasts: None });
    assert_eq!(inbox.entry(&id("a")).unwrap().answer().said(), Some(&said()), "not while it is on its way");
}

#[test]
fn what_may_have_been_carried_out_binds_until_a_persons_other_answer_is_on_record() {
    let ordered = GivenAnswer { answer: Answer::Reject, by: By::Person("ann".into()), lasts: None };
    for (recorded, heard) in [(false, true), (true, false)] {
        let mut inbox = inbox();
        inbox.see_event(request("a"), at(0));
        inbox.begin_answer(&id("a"), said());
        inbox.fate_unknown(&id("a"));
        inbox.still_pending(&id("a"), at(1).mono);
        inbox.order(&id("a"), ordered.clone());
        let begun = inbox.begin_answer(&id("a"), ordered.clone()).unwrap();
        assert!(begun.gives_up && begun.attempt == 1);
        // The ledger refused the intent, or the intent was recorded and the answer not sent.
        inbox.unsent(&id("a"), recorded, None);
        let answer = inbox.entry(&id("a")).unwrap().answer();
        assert_eq!((answer.may_be_heard(), answer.next()), (heard, Some(NextAnswer::Person(&ordered))), "{recorded}");
        assert_eq!(answer.ends().map(|(said, _)| said.answer), heard.then_some(Answer::Approve));
        assert_eq!(inbox.begin_answer(&id("a"), ordered.clone()).unwrap().gives_up, heard);
    }
}

#[test]
fn an_answer_that_ended_stays_that_of_whom_it_was_for() {
    let from = |who: &str| ContactRequest { sender: Sender::parse(Some(who)), ..request("a") };
    // The record has one row for both: mallory is not answered by rules, either.
    for (who, meant) in [("john", true), ("mallory", false)] {
        let mut inbox = inbox();
        inbox.see_event(from("john"), at(1));
        inbox.begin_answer(&id("a"), said());
        // The request is another's while the answer is on its way.
        begin(&mut inbox, at(2));
        inbox.page(Page { items: vec![from("mallory")], ..page(&[], 1, 1) }, at(2));
        assert_eq!(inbox.entry(&id("a")).unwrap().request().sender, from("mallory").sender);
        inbox.settle(&id("a"), Some(said()), at(3));
        // Long after the end a page lists it once more.
        begin(&mut inbox, at(500));
        let listed = Page { items: vec![from(who)], ..page(&[], 1, 1) };
        let (new, _) = inbox.page(listed, at(501));
        assert_eq!(new, vec![(id("a"), ShowOutcome::Returned)], "{who}");
        let entry = inbox.entry(&id("a")).unwrap();
        assert_eq!((entry.answer().said().cloned(), entry.is_as_answered()), (Some(said()), meant), "{who}");
    }
}
