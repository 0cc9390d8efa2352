//! When a request that a pass does not show is gone, and when the pass proves nothing.

use super::*;

#[test]
fn gone_needs_a_stable_pass_that_began_after_the_request_was_seen() {
    let mut inbox = inbox();
    begin(&mut inbox, at(1));
    inbox.see_event(request("a"), at(2));
    let (_, end) = inbox.page(page(&[], 0, 1), at(3));
    assert!(inbox.pass_ended(&end.unwrap()).gone.is_empty(), "it came while the pass was read");

    begin(&mut inbox, at(4));
    inbox.listing.disturb();
    let (_, end) = inbox.page(page(&[], 0, 1), at(5));
    assert!(inbox.pass_ended(&end.unwrap()).gone.is_empty(), "something was answered meanwhile");

    begin(&mut inbox, at(6));
    let (_, end) = inbox.page(page(&["b"], 2, 1), at(6));
    assert!(inbox.pass_ended(&end.unwrap()).gone.is_empty(), "two were promised, one was shown");

    let (_, verified) = pass(&mut inbox, &["b"], at(8));
    assert_eq!(verified.gone, vec![id("a")]);
}

#[test]
fn a_total_that_moves_between_pages_proves_nothing() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(1));
    begin(&mut inbox, at(2));
    inbox.page(page(&["b"], 3, 2), at(2));
    let (_, end) = inbox.page(page(&["c"], 2, 2), at(2));
    let end = end.unwrap();
    assert!(!end.stable);
    assert!(inbox.pass_ended(&end).gone.is_empty());
}

#[test]
fn a_row_that_cannot_be_read_proves_nothing() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(1));
    begin(&mut inbox, at(2));
    let unreadable = Page { nameless: vec![1], ..page(&[], 1, 1) };
    let (_, end) = inbox.page(unreadable, at(2));
    assert!(inbox.pass_ended(&end.unwrap()).gone.is_empty());
}

#[test]
fn who_slips_from_page_to_page_while_the_total_stays_is_not_gone() {
    let mut inbox = inbox();
    for id in ["a", "b", "c"] {
        inbox.see_event(request(id), at(1));
    }
    // `a` ends and `d` arrives between the pages, and `c` moves to the one already read.
    let slipped = |inbox: &mut Inbox, now| {
        begin(inbox, now);
        inbox.page(page(&["a", "b"], 3, 2), now);
        let (_, end) = inbox.page(page(&["d"], 3, 2), now);
        inbox.pass_ended(&end.unwrap())
    };
    assert!(slipped(&mut inbox, at(10)).gone.is_empty(), "missed once");
    pass(&mut inbox, &["b", "c", "d"], at(50));
    assert!(slipped(&mut inbox, at(100)).gone.is_empty(), "shown meanwhile");
    assert_eq!(slipped(&mut inbox, at(150)).gone, [id("c")], "missed twice in succession");
}

#[test]
fn an_answer_of_unknown_fate_whose_request_slips_past_was_not_carried_out() {
    let mut inbox = inbox();
    for id in ["a", "b", "c"] {
        inbox.see_event(request(id), at(1));
    }
    inbox.begin_answer(&id("c"), said());
    inbox.fate_unknown(&id("c"));
    let reads = |inbox: &mut Inbox, pages: [&[&str]; 2], now| {
        begin(inbox, now);
        inbox.page(page(pages[0], 3, 2), now);
        let (_, end) = inbox.page(page(pages[1], 3, 2), now);
        inbox.pass_ended(&end.unwrap())
    };
    let slipped: [&[&str]; 2] = [&["a", "b"], &["d"]];
    let verified = reads(&mut inbox, slipped, at(10));
    assert!(verified.no_longer.is_empty() && verified.open, "one more pass tells");
    let verified = reads(&mut inbox, [&["b", "c"], &["d"]], at(11));
    assert_eq!((verified.still_pending, verified.open), (vec![id("c")], false));

    inbox.begin_answer(&id("c"), said());
    inbox.fate_unknown(&id("c"));
    assert!(reads(&mut inbox, slipped, at(20)).no_longer.is_empty());
    assert_eq!(reads(&mut inbox, slipped, at(21)).no_longer, [id("c")]);
}

#[test]
fn what_was_missing_before_the_answer_says_nothing_about_its_fate() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(1));
    let round = |inbox: &mut Inbox, seconds| {
        begin(inbox, at(seconds));
        disturbed(inbox, page(&["c"], 1, 1), at(seconds)).1.no_longer
    };
    for seconds in [100, 200, 300] {
        round(&mut inbox, seconds);
    }
    inbox.begin_answer(&id("a"), said());
    assert!(round(&mut inbox, 400).is_empty());
    inbox.fate_unknown(&id("a"));
    for seconds in [500, 600, 700] {
        assert!(round(&mut inbox, seconds).is_empty(), "{seconds}");
    }
    assert_eq!(round(&mut inbox, 800), [id("a")]);
}

/// A request is answered during this pass, so the pass alone proves nothing.
fn disturbed(inbox: &mut Inbox, page: Page<ContactRequest>, now: Now) -> (PassEnd, Verified) {
    inbox.listing.disturb();
    let (_, end) = inbox.page(page, now);
    let end = end.unwrap();
    let verified = inbox.pass_ended(&end);
    (end, verified)
}

#[test]
fn where_every_pass_is_disturbed_four_rounds_in_succession_without_somebody_are_proof() {
    let mut inbox = inbox();
    inbox.see_event(request("a"), at(1));
    inbox.see_event(request("b"), at(1));
    inbox.begin_answer(&id("b"), said());
    inbox.fate_unknown(&id("b"));
    let round = |inbox: &mut Inbox, seconds, page| {
        begin(inbox, at(seconds));
        disturbed(inbox, page, at(seconds))
    };
    let proves = |(_, verified): (PassEnd, Verified)| (verified.gone, verified.no_longer);
    let nobody = (Vec::new(), Vec::new());
    for seconds in [100, 200, 300] {
        assert_eq!(proves(round(&mut inbox, seconds, page(&["c"], 1, 1))), nobody);
    }
    let odd = Page { nameless: vec![1], ..page(&["c"], 2, 1) };
    assert_eq!(proves(round(&mut inbox, 400, odd)), nobody, "either may be the row that nobody could read");
    assert_eq!(proves(round(&mut inbox, 450, page(&["c"], 3, 1))), nobody, "or one of the two that were promised, too");
    round(&mut inbox, 500, page(&["a", "b", "c"], 3, 1));
    for seconds in [600, 700, 800] {
        assert_eq!(proves(round(&mut inbox, seconds, page(&["c"], 1, 1))), nobody, "shown meanwhile");
    }
    // Another pass of the same round.
    let (end, verified) = round(&mut inbox, 900, Page { nameless: vec![1], ..page(&["c", "d"], 3, 1) });
    assert!(verified.gone.is_empty());
    let mark = inbox.mark();
    assert!(inbox.listing.again(&end, false, mark, at(900).mono).is_some());
    assert_eq!(proves(disturbed(&mut inbox, page(&["c", "d"], 2, 1), at(900))), nobody, "too soon after");
    assert_eq!(proves(round(&mut inbox, 1000, page(&["c", "d"], 2, 1))), (vec![id("a")], vec![id("b")]));
}
