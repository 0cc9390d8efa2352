//! Time: when a request is decided again, and the effect of an unsound clock.

use jiff::Timestamp;

use crate::model::{ContactRequest, Verdict};
use crate::policy::conditions::*;
use crate::policy::rules::{LimitBy, OverdueThen, Quota, Rule, When};
use crate::policy::testkit::*;
use crate::policy::{By, PolicyState};

fn office() -> Condition {
    window(&WORKDAYS, "08:00", "18:00")
}

fn again(rules: Vec<Rule>, now: Timestamp) -> Option<Timestamp> {
    policy(rules).decide(&request("r", "ann"), &sound(), &PolicyState::default(), now).reconsider_at
}

#[test]
fn it_is_reconsidered_when_the_first_condition_flips() {
    let night = at("2026-01-05T03:00:00Z");
    assert_eq!(again(vec![approve("a", office())], night), Some(at("2026-01-05T07:00:00Z")), "a window opens");
    assert_eq!(again(vec![approve("a", office())], noon()), Some(at("2026-01-05T17:00:00Z")), "and closes");
    let never = vec![by_owner(&["bob"]), office()];
    assert_eq!(again(vec![approve("a", never)], night), None, "what is false for good is not waited for");
    assert_eq!(again(vec![approve("a", office()).shadow()], night), None, "nor is a shadow rule");
    let end = noon() + hours(5);
    assert_eq!(again(vec![defer("a", When::Everyone).until(end)], noon()), Some(end), "a rule ends");
    assert_eq!(again(vec![defer("a", When::Everyone).until(end)], end), None, "and is gone");
    let old = AgeOver(hours(3));
    assert_eq!(again(vec![defer("a", old)], noon() + hours(1)), Some(noon() + hours(3)), "an age is reached");
    let wait = vec![approve("a", When::Everyone).wait(minutes(10)), approve("b", office())];
    assert_eq!(again(wait, noon()), Some(noon() + minutes(10)), "a wait ends");
    assert_eq!(again(vec![reject("a", When::Everyone), approve("b", office())], night), None, "rejected for good");
}

#[test]
fn a_rule_ends_at_its_instant() {
    let last = policy(vec![approve("a", When::Everyone).until(noon() + minutes(1))]);
    let ask = |now| said(&last.decide(&request("r", "ann"), &sound(), &PolicyState::default(), now));
    assert_eq!(ask(noon()), "approve by a");
    assert_eq!(ask(noon() + minutes(1)), "defer by no_match");
}

#[test]
fn a_limit_frees_a_slot_when_the_one_that_is_in_the_way_slides_out() {
    let limited = policy(vec![approve("a", When::Everyone).limit(2, hours(1), LimitBy::Rule)]);
    let mut policy_state = PolicyState::default();
    for minute in [0, 10] {
        carry_out(&limited, &mut policy_state, &request(&format!("r{minute}"), "ann"), noon() + minutes(minute));
    }
    let full = limited.decide(&request("r", "bob"), &sound(), &policy_state, noon() + minutes(20));
    assert_eq!((said(&full), full.reconsider_at), ("defer by limit:a".to_owned(), Some(noon() + minutes(60))));
    let free = limited.decide(&request("r", "bob"), &sound(), &policy_state, noon() + minutes(60));
    assert_eq!(said(&free), "approve by a");
}

#[test]
fn an_inserted_at_that_makes_no_sense_is_unknown() {
    let old = policy(vec![reject("r", AgeOver(hours(1)))]);
    let ask = |inserted_at| {
        let request = ContactRequest { inserted_at, ..request("r", "ann") };
        said(&old.decide(&request, &sound(), &PolicyState::default(), noon()))
    };
    assert_eq!(ask(Some(noon() - hours(1))), "reject by r");
    assert_eq!(ask(Some(noon() - minutes(59))), "defer by no_match");
    assert_eq!(ask(Some(noon() + minutes(5))), "defer by no_match", "clocks differ a little");
    assert_eq!(ask(Some(noon() + minutes(6))), "defer by r");
    assert_eq!(ask(None), "defer by r");
}

#[test]
fn with_an_unsound_clock_time_is_unknown_limits_are_full_and_timers_wait() {
    let ask = |rules: Vec<Rule>| {
        let decision = policy(rules).decide(&request("r", "ann"), &unsound(), &PolicyState::default(), noon());
        assert_eq!((decision.reconsider_at, decision.due), (None, None));
        said(&decision)
    };
    assert_eq!(ask(vec![reject("r", office())]), "defer by r");
    assert_eq!(ask(vec![approve("a", office())]), "defer by a");
    assert_eq!(ask(vec![reject("r", AgeOver(hours(1)))]), "defer by r");
    assert_eq!(ask(vec![reject("r", When::Everyone).until(noon() + hours(9))]), "defer by r");
    assert_eq!(ask(vec![approve("a", When::Everyone).limit(5, hours(1), LimitBy::Rule)]), "defer by limit:a");
    assert_eq!(ask(vec![approve("a", When::Everyone).wait(minutes(1))]), "defer by a");
    assert_eq!(ask(vec![approve("a", When::Everyone).lasts(hours(1))]), "defer by a");
    let rescued = vec![approve("a", When::Everyone).wait(minutes(1)), approve("b", When::Everyone)];
    assert_eq!(ask(rescued), "defer by a", "its wait holds for the other, too");
    assert_eq!(ask(vec![approve("a", When::Everyone)]), "approve by a", "what has no time in it goes on");
}

#[test]
fn with_an_unsound_clock_approvals_that_are_counted_wait_and_do_not_pause() {
    let mut counted = policy(vec![approve("a", When::Everyone)]);
    counted.approvals_max = Some(Quota { count: 20, per: hours(1) });
    let decision = counted.decide(&request("r", "ann"), &unsound(), &PolicyState::default(), noon());
    assert_eq!((said(&decision), decision.pauses), ("defer by error:clock".to_owned(), false));
}

#[test]
fn a_waiting_approval_does_not_pause_before_its_time() {
    let mut counted = policy(vec![approve("a", When::Everyone).wait(minutes(5))]);
    counted.approvals_max = Some(Quota { count: 1, per: hours(1) });
    let mut policy_state = PolicyState::default();
    policy_state.reserve(&id("other"), Some(&handle("bob")), Verdict::Approve, &By::Rule(name("a")), &[], noon());
    let mine = request("r", "ann");
    let decide = |now| counted.decide(&mine, &sound(), &policy_state, now);
    assert_eq!((decide(noon()).verdict, decide(noon()).pauses), (Verdict::Approve, false));
    assert!(decide(noon() + minutes(5)).pauses);
}

#[test]
fn two_notices_follow_each_other() {
    let mut notifying = policy(vec![]);
    notifying.overdue = vec![overdue("a", hours(1), OverdueThen::Notify), overdue("b", hours(1), OverdueThen::Notify)];
    let mut policy_state = PolicyState::default();
    let now = noon() + hours(1);
    let mine = request("r", "ann");
    let first = notifying.decide(&mine, &sound(), &policy_state, now);
    assert_eq!((first.notify, first.reconsider_at), (Some(name("a")), Some(now)));
    policy_state.notified(&id("r"), &name("a"));
    let second = notifying.decide(&mine, &sound(), &policy_state, now);
    assert_eq!((second.notify, second.reconsider_at), (Some(name("b")), None));
}
