use super::*;
use crate::policy::doubts::{Basis, Doubt};
use crate::policy::testkit::{handle, hours, id, minutes, noon};

fn over(count: u32, per: SignedDuration) -> HistoryNeeds {
    HistoryNeeds { requests: Some((per, count)), ..HistoryNeeds::default() }
}

#[test]
fn what_was_let_go_is_unknown_for_a_policy_that_asks_further_back() {
    let mut history = History::default();
    history.add("ann", HistoryKind::Requested, Some(&id("old")), noon() - hours(5));
    history.add("ann", HistoryKind::Rejected, None, noon() - hours(5));
    history.add("ann", HistoryKind::Approved, None, noon() - hours(5));
    history.prune(HistoryNeeds { rejected: Some(hours(1)), ..over(1, hours(1)) }, noon());
    let quota = |hours| Quota { count: 1, per: hours };
    assert_eq!(history.requests_over("ann", quota(hours(1)), &id("r"), noon()), Evaluation::FALSE);
    let long = history.requests_over("ann", quota(hours(6)), &id("r"), noon());
    assert_eq!((long.truth, long.flips), (Truth::Unknown, Some(noon() + hours(1))));
    assert_eq!(history.rejected_within("ann", hours(1), noon()), Evaluation::FALSE);
    assert_eq!(history.rejected_within("bob", hours(6), noon()).truth, Truth::Unknown);
    assert_eq!(history.approved("ann", noon()), Truth::Unknown);
    assert!(history.covers(&over(1, hours(1)), noon()) && !history.covers(&over(1, hours(6)), noon()));
    history.prune(HistoryNeeds::default(), noon());
    history.add("ann", HistoryKind::Requested, Some(&id("new")), noon());
    assert_eq!(history.len(), 0, "nobody asks");
    assert!(!history.covers(&over(1, minutes(1)), noon()));
}

#[test]
fn what_is_counted_is_unknown_if_more_may_have_happened_unseen() {
    let mut history = History::default();
    let ann = handle("ann/bot");
    let over = |by_handle| OverQuota { quota: Quota { count: 1, per: hours(2) }, by_handle };
    for (kind, request) in [(HistoryKind::Rejected, "r1"), (HistoryKind::Approved, "a1"), (HistoryKind::Approved, "a2")]
    {
        history.add_of("ann", Some(&ann), kind, Some(&id(request)), noon() - hours(1));
    }
    assert_eq!(history.rejected_over(&ann, over(false), noon()), Evaluation::FALSE);
    let basis = |id: &str| Basis::Vanished(RequestId::parse(id).unwrap());
    let doubt = |fact, until| Doubt {
        owner: "ann".into(),
        sender: None,
        fact,
        since: noon() - hours(1),
        until,
        basis: basis("v"),
    };
    history.doubts.add(doubt(Fact::Rejected, Some(noon() - hours(1))));
    let evaluation = history.rejected_over(&ann, over(true), noon());
    assert_eq!(evaluation, Evaluation::until(Truth::Unknown, noon() + hours(1)), "it may have been a second one");
    history.add_of("ann", Some(&ann), HistoryKind::Rejected, Some(&id("r2")), noon());
    assert_eq!(history.rejected_over(&ann, over(true), noon()).truth, Truth::True, "two are two");
    assert_eq!(history.approved_over(&ann, over(true), noon()).truth, Truth::True);
    history.doubts.add(doubt(Fact::Identity, None));
    assert_eq!(history.approved_over(&ann, over(true), noon()).truth, Truth::Unknown, "of somebody else, perhaps");
}

#[test]
fn what_is_only_presumed_may_have_happened() {
    let mut history = History::default();
    let ann = handle("ann/bot");
    let over = OverQuota { quota: Quota { count: 1, per: hours(2) }, by_handle: false };
    for (kind, request) in [(HistoryKind::Presumed, "a1"), (HistoryKind::Approved, "a2"), (HistoryKind::Presumed, "a3")]
    {
        history.add_of("ann", Some(&ann), kind, Some(&id(request)), noon() - hours(1));
    }
    assert_eq!(history.approved_over(&ann, over, noon()).truth, Truth::Unknown);
    history.not_approved("ann", &id("a3"));
    history.not_approved("ann", &id("a2"));
    assert_eq!(history.approved_over(&ann, over, noon()).truth, Truth::Unknown, "what is sure stays");
    history.not_approved("ann", &id("a1"));
    assert_eq!(history.approved_over(&ann, over, noon()), Evaluation::FALSE);
    for kind in [HistoryKind::Presumed, HistoryKind::Approved] {
        history.add_of("ann", Some(&ann), kind, Some(&id("a1")), noon() - hours(1));
    }
    assert_eq!(history.approved_over(&ann, over, noon()).truth, Truth::True, "it was one after all");
}

#[test]
fn one_owner_keeps_no_more_than_the_largest_count_needs() {
    let mut history = History::default();
    history.prune(over(3, hours(24)), noon());
    for which in 0..100 {
        history.add("ann", HistoryKind::Requested, Some(&id(&format!("r{which}"))), noon() + minutes(which));
    }
    assert_eq!(history.len(), 5);
    let quota = Quota { count: 3, per: hours(24) };
    assert_eq!(history.requests_over("ann", quota, &id("r99"), noon() + hours(2)).truth, Truth::True);
}

#[test]
fn the_bounds_hold_and_what_they_cost_is_unknown() {
    let mut history = History::default();
    for which in 0..=REQUESTS_MAX {
        let at = noon() + SignedDuration::from_secs(which as i64);
        history.add(&format!("o{which}"), HistoryKind::Requested, Some(&id("r")), at);
    }
    assert!(history.len() <= REQUESTS_MAX / 2 + 1, "{}", history.len());
    let quota = Quota { count: 1, per: hours(24) };
    assert_eq!(history.requests_over("o1", quota, &id("s"), noon() + hours(1)).truth, Truth::Unknown);
}
