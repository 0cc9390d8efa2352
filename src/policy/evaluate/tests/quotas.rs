//! The sentences of `docs/policy.md` about limits, history, `approvals_max` and `overdue`.

use jiff::SignedDuration;

use crate::model::{Answer, ContactRequest, Outcome, Sender, Verdict};
use crate::policy::conditions::*;
use crate::policy::rules::{LimitBy, OverdueThen, Quota, Rule, When};
use crate::policy::state::{ApprovalRow, ChargeEnd, ChargeRow, EndedAnswer, HistoryKind, OwnerHistoryRow, SavedState};
use crate::policy::testkit::*;
use crate::policy::{By, Circumstances, Mode, Policy, PolicyState};

#[test]
fn an_unknown_approve_rule_still_holds_to_its_limit_and_wait() {
    let limited = policy(vec![
        approve("a", unknown()).limit(1, hours(1), LimitBy::Rule).wait(minutes(10)),
        approve("b", When::Everyone),
    ]);
    let mut policy_state = PolicyState::default();
    let first = limited.decide(&request("r1", "ann"), &sound(), &policy_state, noon());
    assert_eq!((said(&first), first.due), ("approve by b".to_owned(), Some(noon() + minutes(10))));
    assert_eq!(first.charges.len(), 1, "charged to `a`");
    policy_state.reserve(&id("r1"), Some(&handle("ann")), Verdict::Approve, &first.by, &first.charges, noon());
    let second = limited.decide(&request("r2", "mary"), &sound(), &policy_state, noon());
    assert_eq!(said(&second), "defer by limit:a");
}

#[test]
fn the_shortest_end_of_all_that_match_or_may_applies() {
    let lasts = |rules| ask(&policy(rules), "ann").lasts;
    let (a, b) = (|| approve("a", When::Everyone), || approve("b", by_handle(&["ann"])).lasts(hours(5)));
    assert_eq!(lasts(vec![a()]), None);
    assert_eq!(lasts(vec![a(), b()]), Some(hours(5)), "one with an end is enough");
    assert_eq!(lasts(vec![a().lasts(hours(2)), b()]), Some(hours(2)));
    assert_eq!(lasts(vec![a().lasts(hours(2)), approve("c", by_handle(&["bob"])).lasts(hours(1))]), Some(hours(2)));
    assert_eq!(lasts(vec![a(), approve("c", unknown()).lasts(hours(1))]), Some(hours(1)), "it may match");
    assert_eq!(lasts(vec![a().lasts(hours(2)), reject("r", When::Everyone)]), None, "nobody is let in");
    let mut shadow = b();
    shadow.shadow = true;
    assert_eq!(lasts(vec![a(), shadow]), None, "it only records");
}

#[test]
fn an_approval_with_an_end_is_no_acquaintance_and_its_end_no_removal() {
    let mut state = PolicyState::restore(SavedState { history_complete: true, ..SavedState::default() });
    let (ann, applied) = (handle("ann"), Outcome::Confirmed(Answer::Approve));
    let before =
        policy(vec![approve("b", HistoryCondition { approved_before: Some(true), ..HistoryCondition::default() })]);
    let said_of = |state: &PolicyState| said(&before.decide(&request("r9", "ann"), &sound(), state, noon()));
    state.settle_as(
        &id("r1"),
        Some(&ann),
        EndedAnswer {
            verdict: Verdict::Approve,
            outcome: applied,
            guest: true,
            by_person: false,
            sent: noon(),
            first_seen: noon(),
        },
        noon(),
    );
    assert_eq!(said_of(&state), "defer by no_match");
    let twice = OverQuota { quota: Quota { count: 0, per: hours(1) }, by_handle: false };
    let counted =
        policy(vec![reject("r", HistoryCondition { approved_over: Some(twice), ..HistoryCondition::default() })]);
    assert_eq!(said(&counted.decide(&request("r9", "ann"), &sound(), &state, noon())), "reject by r", "it is counted");

    let contact = crate::model::Contact {
        id: crate::model::ContactId::parse("c1").unwrap(),
        sender: Sender::parse(Some("ann")),
        name: None,
        kind: crate::model::ContactKind::User,
        inserted_at: None,
        ids: None,
    };
    let removed =
        policy(vec![reject("r", HistoryCondition { removed_within: Some(hours(1)), ..HistoryCondition::default() })]);
    let removed_of = |state: &PolicyState| said(&removed.decide(&request("r9", "ann"), &sound(), state, noon()));
    state.doubts_mut().contact_seen(&contact, 1, noon());
    state.contact_expired(&contact.id);
    assert_eq!(removed_of(&state), "defer by no_match");
    state.doubts_mut().contact_seen(&contact, 2, noon());
    state.contact_removed(&contact.id, noon());
    assert_eq!(removed_of(&state), "reject by r", "by somebody, it counts");

    state.settle(&id("r2"), Some(&ann), Verdict::Approve, applied, noon());
    assert_eq!(said_of(&state), "approve by b", "for good, it counts");
}

#[test]
fn an_approve_rule_over_its_limit_defers_and_no_other_rescues() {
    for (by, second, third) in
        [(LimitBy::Owner, "acme/b", "other/a"), (LimitBy::Handle, "acme/a", "acme/b"), (LimitBy::Rule, "other/a", "")]
    {
        let limited = policy(vec![
            approve("bots", KindCondition(SenderKind::Agent)).limit(1, hours(1), by),
            approve("all", When::Everyone),
        ]);
        let mut policy_state = PolicyState::default();
        let mut next = 0;
        let mut ask = |from: &str, later| {
            next += 1;
            said(&carry_out(&limited, &mut policy_state, &request(&format!("r{next}"), from), noon() + later))
        };
        assert_eq!(ask("acme/a", minutes(0)), "approve by all");
        assert_eq!(ask(second, minutes(59)), "defer by limit:bots", "{by:?}");
        assert_eq!(ask(second, minutes(60)), "approve by all", "{by:?}: slid out");
        if !third.is_empty() {
            assert_eq!(ask(third, minutes(61)), "approve by all", "{by:?}: another bucket");
        }
    }
}

#[test]
fn every_matching_limit_is_charged_and_the_longest_wait_applies() {
    let two = policy(vec![
        approve("a", When::Everyone).limit(5, hours(1), LimitBy::Rule).wait(minutes(5)),
        approve("b", by_handle(&["ann"])).limit(5, hours(1), LimitBy::Owner).wait(minutes(10)),
        approve("c", by_handle(&["bob"])).limit(5, hours(1), LimitBy::Owner).wait(hours(10)),
        approve("d", When::Everyone).limit(5, hours(1), LimitBy::Handle),
    ]);
    let waiting = ask(&two, "ann");
    assert_eq!((said(&waiting), waiting.due), ("approve by a".to_owned(), Some(noon() + minutes(10))));
    let charged: Vec<_> = waiting.charges.iter().map(|one| (one.rule.as_str(), &*one.bucket)).collect();
    assert_eq!(charged, [("a", ""), ("b", "ann"), ("d", "@ann")]);
    let ripe = two.decide(&request("r", "ann"), &sound(), &PolicyState::default(), noon() + minutes(10));
    assert_eq!((said(&ripe), ripe.due), ("approve by a".to_owned(), None));
}

#[test]
fn a_request_never_counts_against_itself() {
    let limited = policy(vec![approve("a", When::Everyone).limit(1, hours(1), LimitBy::Rule)]);
    let mut policy_state = PolicyState::default();
    let mine = request("mine", "ann");
    for _ in 0..3 {
        assert_eq!(said(&carry_out(&limited, &mut policy_state, &mine, noon())), "approve by a");
    }
    assert_eq!(policy_state.sizes(), (1, 1), "and pays once");
    assert_eq!(said(&carry_out(&limited, &mut policy_state, &request("theirs", "bob"), noon())), "defer by limit:a");
}

#[test]
fn approvals_max_pauses_and_resume_counts_from_zero() {
    let mut counted = policy(vec![approve("a", When::Everyone)]);
    counted.approvals_max = Some(Quota { count: 2, per: hours(1) });
    let mut policy_state = PolicyState::default();
    for (which, wanted) in [("1", "approve by a"), ("2", "approve by a"), ("3", "defer by paused")] {
        let decision = carry_out(&counted, &mut policy_state, &request(which, "ann"), noon());
        assert_eq!((said(&decision).as_str(), decision.pauses), (wanted, which == "3"));
    }
    policy_state.pause(a_pause());
    let paused = counted.decide(&request("4", "ann"), &sound(), &policy_state, noon());
    assert_eq!((said(&paused), paused.pauses), ("defer by paused".to_owned(), false));
    policy_state.resume();
    assert_eq!(said(&carry_out(&counted, &mut policy_state, &request("3", "ann"), noon())), "approve by a");
}

#[test]
fn a_persons_answer_counts_towards_nothing() {
    let limited = policy(vec![approve("a", When::Everyone).limit(1, hours(1), LimitBy::Rule)]);
    let mut policy_state = PolicyState::default();
    let charges = ask(&limited, "ann").charges;
    policy_state.reserve(&id("p"), Some(&handle("ann")), Verdict::Approve, &By::Person("eve".into()), &charges, noon());
    assert_eq!(policy_state.sizes(), (0, 0));
}

#[test]
fn history_is_by_owner_and_unknown_if_the_record_does_not_know() {
    let asking = |history| policy(vec![reject("r", history)]);
    let before = asking(HistoryCondition { approved_before: Some(false), ..HistoryCondition::default() });
    let rejected = asking(HistoryCondition { rejected_within: Some(hours(1)), ..HistoryCondition::default() });
    let row = |kind| OwnerHistoryRow {
        owner: "ann".into(),
        handle: None,
        request: Some(id("old")),
        kind,
        at: noon() - minutes(30),
    };
    let policy_state = |history: Vec<OwnerHistoryRow>, complete| {
        PolicyState::restore(SavedState { history, history_complete: complete, ..SavedState::default() })
    };
    let ask = |policy: &Policy, policy_state: &PolicyState, later| {
        said(&policy.decide(&request("r", "ann/bot"), &sound(), policy_state, noon() + later))
    };
    let (yes, no) = (row(HistoryKind::Approved), row(HistoryKind::Rejected));
    assert_eq!(ask(&before, &policy_state(vec![], true), hours(0)), "reject by r");
    assert_eq!(ask(&before, &policy_state(vec![], false), hours(0)), "defer by r");
    assert_eq!(ask(&before, &policy_state(vec![yes], false), hours(0)), "defer by no_match", "what is known is known");
    assert_eq!(ask(&rejected, &policy_state(vec![no.clone()], true), hours(0)), "reject by r");
    assert_eq!(ask(&rejected, &policy_state(vec![no], true), minutes(30)), "defer by no_match", "slid out");
    assert_eq!(ask(&rejected, &policy_state(vec![], true), hours(0)), "defer by no_match");
}

#[test]
fn requests_over_counts_the_others() {
    let quota = Quota { count: 1, per: hours(1) };
    let over = HistoryCondition { requests_over: Some(quota), ..HistoryCondition::default() };
    let many = policy(vec![reject("r", over)]);
    let mut policy_state = PolicyState::default();
    for (minute, which) in [(0, "r"), (1, "s"), (2, "t")] {
        let asked = request(which, &format!("ann/{which}"));
        let verdict = carry_out(&many, &mut policy_state, &asked, noon() + minutes(minute)).verdict;
        assert_eq!(verdict == Verdict::Reject, which == "t", "{which}: two others are more than one");
    }
    let first = many.decide(&request("r", "ann/r"), &sound(), &policy_state, noon() + minutes(3));
    assert_eq!((said(&first), first.reconsider_at), ("reject by r".to_owned(), Some(noon() + minutes(61))));
}

#[test]
fn overdue_rejects_only_what_would_certainly_not_be_approved_now() {
    let closing = |rules| {
        let mut policy = policy(rules);
        policy.overdue = vec![overdue("close", hours(24), OverdueThen::Reject)];
        policy
    };
    let later = |policy: &Policy, late| {
        policy.decide(&request("r", "ann"), &sound(), &PolicyState::default(), noon() + hours(late))
    };
    let nothing = closing(vec![]);
    assert_eq!(later(&nothing, 0).reconsider_at, Some(noon() + hours(24)));
    assert_eq!(said(&later(&nothing, 24)), "reject by overdue:close");
    assert_eq!(said(&later(&closing(vec![defer("d", When::Everyone)]), 24)), "reject by overdue:close");
    assert_eq!(said(&later(&closing(vec![approve("a", unknown())]), 24)), "defer by a");
    let doubtful = closing(vec![approve("a", When::Everyone), reject("r", unknown())]);
    assert_eq!(said(&later(&doubtful, 24)), "defer by r", "if `r` were false it would be approved");
    let waiting = closing(vec![approve("a", When::Everyone).wait(hours(48))]);
    assert_eq!(said(&later(&waiting, 24)), "approve by a");
    let mut spared = closing(vec![]);
    spared.overdue[0].unless.push(crate::policy::rules::Table { conditions: vec![by_owner(&["ann"])] });
    assert_eq!(said(&later(&spared, 24)), "defer by no_match");
    spared.overdue[0].unless[0].conditions = vec![unknown()];
    assert_eq!(said(&later(&spared, 24)), "defer by no_match", "unknown means: not now");
}

#[test]
fn overdue_spares_what_is_pending_for_other_reasons() {
    let mut closing = policy(vec![]);
    closing.overdue = vec![overdue("close", hours(1), OverdueThen::Reject)];
    let now = noon() + hours(2);
    let mut policy_state = PolicyState::default();
    let mine = request("r", "ann");
    let decide =
        |policy: &Policy, request: &ContactRequest, circumstances: &Circumstances, policy_state: &PolicyState| {
            said(&policy.decide(request, circumstances, policy_state, now))
        };
    assert_eq!(decide(&closing, &mine, &sound(), &policy_state), "reject by overdue:close");
    let ageless = ContactRequest { inserted_at: None, ..mine.clone() };
    assert_eq!(decide(&closing, &ageless, &sound(), &policy_state), "defer by no_match", "unknown means: not now");
    assert_eq!(decide(&closing, &mine, &unsound(), &policy_state), "defer by no_match");
    let odd = ContactRequest { sender: Sender::Absent, ..mine.clone() };
    assert_eq!(decide(&closing, &odd, &sound(), &policy_state), "defer by guard:handle-not-plain");
    let late = Circumstances { first_seen: now - minutes(1), ..sound() };
    assert_eq!(decide(&closing, &mine, &late, &policy_state), "defer by no_match", "from the later of the two");
    policy_state.hold(&id("r"), Some("eve"));
    assert_eq!(decide(&closing, &mine, &sound(), &policy_state), "defer by hold:eve");
    policy_state.hold(&id("r"), None);
    policy_state.pause(a_pause());
    assert_eq!(decide(&closing, &mine, &sound(), &policy_state), "defer by paused");
    policy_state.resume();
    closing.mode = Mode::Shadow;
    assert_eq!(decide(&closing, &mine, &sound(), &policy_state), "defer by no_match");
}

#[test]
fn overdue_rejects_at_most_so_many_an_hour_and_notifies_once() {
    let mut closing = policy(vec![]);
    closing.overdue =
        vec![overdue("close", hours(2), OverdueThen::Reject), overdue("tell", hours(1), OverdueThen::Notify)];
    closing.overdue[0].max_per_hour = 1;
    let mut policy_state = PolicyState::default();
    let decision = closing.decide(&request("r", "ann"), &sound(), &policy_state, noon() + hours(1));
    assert_eq!((said(&decision), decision.notify), ("defer by no_match".to_owned(), Some(name("tell"))));
    for which in ["r", "s"] {
        policy_state.notified(&id(which), &name("tell"));
    }
    assert_eq!(closing.decide(&request("r", "ann"), &sound(), &policy_state, noon() + hours(1)).notify, None);
    let now = noon() + hours(2);
    assert_eq!(said(&carry_out(&closing, &mut policy_state, &request("r", "ann"), now)), "reject by overdue:close");
    assert_eq!(
        said(&carry_out(&closing, &mut policy_state, &request("r", "ann"), now)),
        "reject by overdue:close",
        "itself"
    );
    let second = carry_out(&closing, &mut policy_state, &request("s", "bob"), now);
    assert_eq!((said(&second), second.reconsider_at), ("defer by no_match".to_owned(), Some(now + hours(1))));
}

#[test]
fn a_limit_that_rejects_does_so_only_if_the_count_is_certain() {
    let mut rules = vec![
        approve("bots", by_owner(&["acme"])).limit(1, hours(1), LimitBy::Owner),
        approve("also", by_handle(&["acme/*"])),
    ];
    rules[0].limit.as_mut().unwrap().then = Verdict::Reject;
    let policy = policy(rules);
    let mut state = PolicyState::restore(SavedState { history_complete: true, ..SavedState::default() });
    let first = request("one", "acme/a");
    assert_eq!(said(&carry_out(&policy, &mut state, &first, noon())), "approve by also");
    let second = request("two", "acme/b");
    let decide = |state: &PolicyState, now| policy.decide(&second, &sound(), state, now);
    assert_eq!(said(&decide(&state, noon())), "defer by limit:bots", "the fate of the first answer is open");
    state.settle(&first.id, first.sender.handle(), Verdict::Approve, Outcome::Confirmed(Answer::Approve), noon());
    assert_eq!(said(&decide(&state, noon())), "reject by limit:bots", "though another rule approves");
    let mut presumed = PolicyState::restore(SavedState { history_complete: true, ..SavedState::default() });
    carry_out(&policy, &mut presumed, &first, noon());
    let outcome = Outcome::Presumed(Answer::Approve);
    presumed.settle(&first.id, first.sender.handle(), Verdict::Approve, outcome, noon());
    presumed.prune(&policy, noon());
    assert_eq!(said(&decide(&presumed, noon())), "defer by limit:bots", "nobody confirmed the first answer");
    assert_eq!(said(&policy.decide(&second, &unsound(), &state, noon())), "defer by limit:bots");
    assert_eq!(said(&decide(&state, noon() + hours(1))), "approve by also", "the window has passed");
    state.hold(&second.id, Some("eve"));
    assert_eq!(said(&decide(&state, noon())), "defer by hold:eve", "a hold comes first");
}

#[test]
fn a_limit_rejects_only_whom_its_rule_matches_for_certain_and_nobody_past_a_guard() {
    let spent = |rule: Rule, protected: &[&str], from: &str| {
        let mut rule = rule.limit(1, hours(1), LimitBy::Rule);
        rule.limit.as_mut().unwrap().then = Verdict::Reject;
        let policy = policy(vec![rule]).protecting(protected);
        let mut state = PolicyState::restore(SavedState { history_complete: true, ..SavedState::default() });
        let charge = policy.rules[0].charge(&handle("other")).unwrap();
        state.reserve(&id("one"), Some(&handle("other")), Verdict::Approve, &By::NoMatch, &[charge], noon());
        let outcome = Outcome::Confirmed(Answer::Approve);
        state.settle(&id("one"), Some(&handle("other")), Verdict::Approve, outcome, noon());
        said(&policy.decide(&request("two", from), &sound(), &state, noon()))
    };
    assert_eq!(spent(approve("all", When::Everyone), &[], "johm"), "reject by limit:all");
    assert_eq!(spent(approve("all", unknown()), &[], "johm"), "defer by limit:all", "perhaps it does not match");
    assert_eq!(spent(approve("all", When::Everyone), &["john"], "johm"), "defer by guard:look-alike");
}

#[test]
fn a_limit_that_rejects_counts_after_a_restart_what_the_record_knows_to_be_carried_out() {
    let mut rules = vec![approve("bots", by_owner(&["acme"])).limit(1, hours(1), LimitBy::Owner)];
    rules[0].limit.as_mut().unwrap().then = Verdict::Reject;
    let policy = policy(rules);
    let first = request("one", "acme/a");
    let charge = policy.rules[0].charge(first.sender.handle().unwrap()).unwrap();
    let restored = |open, confirmed, read| {
        let memory = SavedState {
            charges: vec![ChargeRow {
                request: Some(first.id.clone()),
                charge: charge.clone(),
                at: noon() - minutes(5),
                end: ChargeEnd::of(open, confirmed),
            }],
            approvals: vec![ApprovalRow { request: first.id.clone(), at: noon() - minutes(5), open }],
            history_complete: true,
            ..SavedState::default()
        };
        let state = match read {
            true => PolicyState::restore_for(memory, &policy, noon()),
            false => PolicyState::restore_without_rules(memory, Some(noon() - minutes(10))),
        };
        said(&policy.decide(&request("two", "acme/b"), &sound(), &state, noon()))
    };
    assert_eq!(restored(false, true, true), "reject by limit:bots");
    assert_eq!(restored(true, false, true), "defer by limit:bots", "the fate of that answer is open");
    assert_eq!(restored(false, false, true), "defer by limit:bots", "it is only presumed to be carried out");
    assert_eq!(restored(false, true, false), "defer by limit:bots", "not all of the window was read");
}

#[test]
fn a_rejection_under_an_id_that_is_used_again_gives_back_no_place_of_the_one_before() {
    let policy = policy(vec![approve("bots", by_owner(&["acme"])).limit(1, hours(1), LimitBy::Owner)]);
    let first = request("one", "acme/a");
    let charge = policy.rules[0].charge(first.sender.handle().unwrap()).unwrap();
    let third = |open| {
        let at = noon() - minutes(5);
        let memory = SavedState {
            charges: vec![ChargeRow {
                request: Some(first.id.clone()),
                charge: charge.clone(),
                at,
                end: ChargeEnd::of(open, !open),
            }],
            approvals: vec![ApprovalRow { request: first.id.clone(), at, open }],
            history_complete: true,
            ..SavedState::default()
        };
        let mut state = PolicyState::restore_for(memory, &policy, noon());
        // Another request has the id now.
        state.reserve(&first.id, Some(&handle("bob")), Verdict::Reject, &By::parse("foes").unwrap(), &[], noon());
        said(&policy.decide(&request("two", "acme/b"), &sound(), &state, noon()))
    };
    assert_eq!(third(false), "defer by limit:bots");
    assert_eq!(third(true), "approve by bots", "an answer that is not carried out costs nothing");
}

#[test]
fn whose_a_place_is_is_forgotten_once_the_platform_confirms_and_the_place_counts_as_before() {
    let policy = policy(vec![approve("bots", by_owner(&["acme"])).limit(2, hours(1), LimitBy::Owner)]);
    let asks = |number: usize| request(&format!("r{number}"), &format!("acme/{number}"));
    let decide = |state: &PolicyState, number| said(&policy.decide(&asks(number), &sound(), state, noon()));
    for outcome in [Outcome::Confirmed(Answer::Approve), Outcome::Presumed(Answer::Approve), Outcome::Refused] {
        let mut state = PolicyState::restore(SavedState { history_complete: true, ..SavedState::default() });
        // Not a whole number of microseconds, which is what the record keeps.
        let begun = noon() - minutes(5) + SignedDuration::from_nanos(1_234);
        for number in [1, 2] {
            let at = begun + SignedDuration::from_nanos(i64::try_from(number).unwrap());
            let asked = asks(number);
            let charge = policy.rules[0].charge(asked.sender.handle().unwrap()).unwrap();
            state.reserve(
                &asked.id,
                asked.sender.handle(),
                Verdict::Approve,
                &By::parse("bots").unwrap(),
                &[charge],
                at,
            );
        }
        assert_eq!(decide(&state, 3), "defer by limit:bots");
        let first = asks(1);
        state.settle(&first.id, first.sender.handle(), Verdict::Approve, outcome, noon());
        let full = outcome != Outcome::Refused;
        assert_eq!(decide(&state, 3), if full { "defer by limit:bots" } else { "approve by bots" }, "{outcome:?}");
        // The record has the same, and nothing is counted twice, whichever of the two has it by its request.
        let row = |number: usize, end| ChargeRow {
            request: Some(asks(number).id),
            charge: policy.rules[0].charge(asks(number).sender.handle().unwrap()).unwrap(),
            at: noon() - minutes(5) + SignedDuration::from_micros(1),
            end,
        };
        let ends = |confirmed| if confirmed { ChargeEnd::Confirmed } else { ChargeEnd::Open };
        let confirmed = matches!(outcome, Outcome::Confirmed(_));
        let mut charges = vec![row(2, ChargeEnd::Open)];
        charges.extend(full.then(|| row(1, ends(confirmed))));
        let saved = SavedState { charges, history_complete: true, ..SavedState::default() };
        let before = state.sizes().0;
        state.absorb(saved, &policy, noon());
        assert_eq!(state.sizes().0, before, "{outcome:?}");
        // What was refused is asked again, and its place is free.
        let second = asks(2);
        state.settle(&second.id, second.sender.handle(), Verdict::Approve, Outcome::Refused, noon());
        assert_eq!(state.sizes().0, usize::from(full), "{outcome:?}");
        assert_eq!(decide(&state, 3), "approve by bots", "{outcome:?}");
    }
}

#[test]
fn what_a_start_reads_without_a_request_is_certain() {
    let mut rules = vec![approve("bots", by_owner(&["acme"])).limit(1, hours(1), LimitBy::Owner)];
    rules[0].limit.as_mut().unwrap().then = Verdict::Reject;
    let policy = policy(rules);
    let (one, two) = (request("one", "acme/a"), request("two", "acme/b"));
    let charge = policy.rules[0].charge(one.sender.handle().unwrap()).unwrap();
    let row = ChargeRow { request: None, charge, at: noon() - minutes(5), end: ChargeEnd::Confirmed };
    let saved = SavedState { charges: vec![row], history_complete: true, ..SavedState::default() };
    let mut state = PolicyState::restore_for(saved, &policy, noon());
    assert_eq!(said(&policy.decide(&two, &sound(), &state, noon())), "reject by limit:bots");
    // Another request of the same id that is in flight, and fails, takes nothing from it.
    let by = By::parse("foes").unwrap();
    state.reserve(&one.id, one.sender.handle(), Verdict::Reject, &by, &[], noon());
    state.settle(&one.id, one.sender.handle(), Verdict::Reject, Outcome::Refused, noon());
    assert_eq!(
        (said(&policy.decide(&two, &sound(), &state, noon())), state.sizes().0),
        ("reject by limit:bots".to_owned(), 1)
    );
}
