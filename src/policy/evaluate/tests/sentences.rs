//! The sentences of `docs/policy.md` about verdicts and guards.

use crate::model::{ContactRequest, Sender, Verdict};
use crate::policy::conditions::*;
use crate::policy::rules::{LimitBy, When};
use crate::policy::testkit::*;
use crate::policy::{By, PolicyState, Truth};

/// A condition that is true for a user, and one that is false.
const T: fn() -> Condition = || KindCondition(SenderKind::User).into();
const F: fn() -> Condition = || KindCondition(SenderKind::Agent).into();

#[test]
fn and_or_not_are_kleenes() {
    use Truth::{False, True, Unknown};
    for (one, other, and, or) in [
        (True, True, True, True),
        (True, False, False, True),
        (True, Unknown, Unknown, True),
        (False, False, False, False),
        (False, Unknown, False, Unknown),
        (Unknown, Unknown, Unknown, Unknown),
    ] {
        assert_eq!((one.and(other), other.and(one)), (and, and), "{one:?} and {other:?}");
        assert_eq!((one.or(other), other.or(one)), (or, or), "{one:?} or {other:?}");
    }
    assert_eq!([!True, !False, !Unknown], [False, True, Unknown]);
}

#[test]
fn a_rule_is_when_and_not_any_unless() {
    let cases: [(Vec<Condition>, Vec<Condition>, Option<Truth>); 10] = [
        (vec![T()], vec![], Some(Truth::True)),
        (vec![T(), F()], vec![], None),
        (vec![T(), unknown()], vec![], Some(Truth::Unknown)),
        (vec![F(), unknown()], vec![], None),
        (vec![T()], vec![F()], Some(Truth::True)),
        (vec![T()], vec![F(), T()], None),
        (vec![T()], vec![unknown()], Some(Truth::Unknown)),
        (vec![T()], vec![unknown(), T()], None),
        (vec![unknown()], vec![T()], None),
        (vec![F()], vec![unknown()], None),
    ];
    for (at, (when, unless, truth)) in cases.into_iter().enumerate() {
        let rule = unless.into_iter().fold(approve("a", when), |rule, one| rule.unless(one));
        let decision = ask(&policy(vec![rule]), "ann");
        assert_eq!(decision.rule_results.first().map(|voice| voice.truth), truth, "case {at}");
    }
}

#[test]
fn reject_beats_defer_beats_approve_whatever_the_order() {
    let a = || approve("m", When::Everyone);
    let d = || defer("z", When::Everyone);
    let r = || reject("y", When::Everyone);
    assert_eq!(said(&ask(&policy(vec![a()]), "ann")), "approve by m");
    assert_eq!(said(&ask(&policy(vec![a(), d()]), "ann")), "defer by z");
    assert_eq!(said(&ask(&policy(vec![d(), a()]), "ann")), "defer by z");
    assert_eq!(said(&ask(&policy(vec![a(), d(), r()]), "ann")), "reject by y");
    assert_eq!(said(&ask(&policy(vec![r(), d(), a()]), "ann")), "reject by y");
}

#[test]
fn where_nothing_matched_it_is_no_match() {
    let mut none = policy(vec![approve("a", by_owner(&["john"]))]);
    assert_eq!(said(&ask(&none, "ann")), "defer by no_match");
    none.no_match = Verdict::Reject;
    assert_eq!(said(&ask(&none, "ann")), "reject by no_match");
}

#[test]
fn an_unknown_rule_never_decides() {
    assert_eq!(said(&ask(&policy(vec![reject("r", unknown())]), "ann")), "defer by r");
    assert_eq!(said(&ask(&policy(vec![defer("d", unknown())]), "ann")), "defer by d");
    let decision = ask(&policy(vec![approve("a", When::Everyone), reject("r", unknown())]), "ann");
    assert_eq!(said(&decision), "defer by r");
    assert_eq!(decision.rule_results[1].unknown.as_deref(), Some("contacts_over"), "the reason is kept");

    let mut approving = policy(vec![approve("a", unknown())]);
    approving.no_match = Verdict::Reject;
    assert_eq!(said(&ask(&approving, "ann")), "defer by a", "not `no_match`");
    let other = policy(vec![approve("a", unknown()), approve("b", When::Everyone)]);
    assert_eq!(said(&ask(&other, "ann")), "approve by b", "somebody else may approve");
}

#[test]
fn identity_is_unknown_if_there_is_no_plain_handle_and_the_guard_defers() {
    let all = policy(vec![reject("r", When::Everyone), approve("a", by_handle(&["ann"]))]);
    for sender in [Sender::Absent, Sender::parse(Some("@@ann")), Sender::parse(Some("änn"))] {
        let request = ContactRequest { sender, ..request("r", "ann") };
        let decision = all.decide(&request, &sound(), &PolicyState::default(), noon());
        assert_eq!(said(&decision), "defer by guard:handle-not-plain");
        assert_eq!(decision.reconsider_at, None);
    }
}

#[test]
fn absent_texts_are_facts_and_not_doubts() {
    let texts = policy(vec![
        reject("a", NameRegex(vec![pattern("B", false)])),
        reject("b", MessageContains(vec![folded("x")])),
        reject("c", MessageLongerThan(3)),
        reject("d", MessageRegex(vec![pattern("[0-9]", false)])),
        reject("e", NameIs(vec![folded("ＡＮＮ")])),
        defer("f", MessageAbsent(true)),
    ]);
    let ask =
        |name, message| said(&texts.decide(&saying("ann", name, message), &sound(), &PolicyState::default(), noon()));
    assert_eq!(ask(None, None), "defer by f");
    assert_eq!(ask(Some("Bob"), None), "reject by a");
    assert_eq!(ask(None, Some("aXb")), "reject by b", "case is folded");
    assert_eq!(ask(None, Some("äöü")), "defer by no_match", "3 characters, not bytes");
    assert_eq!(ask(None, Some("äöüß")), "reject by c");
    assert_eq!(ask(None, Some("a1")), "reject by d");
    assert_eq!(ask(Some("Ann"), None), "reject by e", "width and case are folded");
}

#[test]
fn paused_comes_before_a_hold_before_a_guard_before_the_rules() {
    let all = policy(vec![reject("r", When::Everyone)]).protecting(&["john"]);
    let odd = ContactRequest { sender: Sender::Absent, ..request("r", "x") };
    let mut policy_state = PolicyState::default();
    policy_state.hold(&id("r"), Some("eve"));
    policy_state.pause(a_pause());
    let ask = |policy_state: &PolicyState, request: &ContactRequest| {
        said(&all.decide(request, &sound(), policy_state, noon()))
    };
    assert_eq!(ask(&policy_state, &odd), "defer by paused");
    policy_state.resume();
    assert_eq!(ask(&policy_state, &odd), "defer by hold:eve");
    assert_eq!(ask(&policy_state, &request("r", "ann")), "defer by hold:eve", "no rule undoes it");
    policy_state.hold(&id("r"), None);
    assert_eq!(ask(&policy_state, &odd), "defer by guard:handle-not-plain");
}

#[test]
fn by_is_the_first_in_alphabetical_order_of_what_gave_the_verdict() {
    let two = policy(vec![approve("b", When::Everyone), approve("a", When::Everyone), defer("0", F())]);
    assert_eq!(said(&ask(&two, "ann")), "approve by a");
    let limited = || approve("a", When::Everyone).limit(1, hours(1), LimitBy::Rule);
    let mut policy_state = PolicyState::default();
    let charges = ask(&policy(vec![limited()]), "x").charges;
    policy_state.reserve(&id("other"), Some(&handle("x")), Verdict::Approve, &By::Rule(name("a")), &charges, noon());
    let by = |with| {
        let policy = policy(vec![limited(), defer(with, When::Everyone), approve("0", When::Everyone)]);
        policy.decide(&request("r", "ann"), &sound(), &policy_state, noon()).by.to_string()
    };
    assert_eq!([by("k"), by("z")], ["k", "limit:a"]);
}

#[test]
fn a_look_alike_is_never_approved_but_may_be_rejected() {
    let rules = || vec![approve("all", T()), reject("bad", by_handle(&["j0hn/x"]))];
    let guarded = policy(rules()).protecting(&["john"]);
    assert_eq!(said(&ask(&guarded, "jhon")), "defer by guard:look-alike");
    assert_eq!(said(&ask(&guarded, "j0hn/x")), "reject by bad");
    assert_eq!(said(&ask(&guarded, "john")), "approve by all", "it is the protected owner");
    assert_eq!(said(&ask(&guarded, "j0hn/y")), "defer by guard:look-alike");
    let named = guarded.decide(&saying("mallory", Some("JОHN"), None), &sound(), &PolicyState::default(), noon());
    assert_eq!(said(&named), "defer by guard:look-alike", "by name, with a Cyrillic О");
    let mut rejecting = policy(rules()).protecting(&["john"]);
    rejecting.no_match = Verdict::Reject;
    assert_eq!(said(&ask(&rejecting, "j0hn/y")), "reject by no_match", "better off than no other stranger");
}

#[test]
fn whoever_the_matching_approve_rule_names_literally_is_exempt() {
    let exempt = |condition: Condition| ask(&policy(vec![approve("a", condition)]).protecting(&["john"]), "johm");
    assert_eq!(said(&exempt(by_handle(&["johm"]))), "approve by a");
    assert_eq!(said(&exempt(by_list("l", &["johm"]))), "approve by a");
    assert_eq!(said(&exempt(by_owner(&["johm"]))), "approve by a", "a literal owner");
    assert_eq!(said(&exempt(T())), "defer by guard:look-alike", "nobody is named");
    let open = policy(vec![approve("a", by_handle(&["joh*/*"]))]).protecting(&["john"]);
    assert_eq!(said(&ask(&open, "johm/bot")), "defer by guard:look-alike", "the owner is not a literal");
    let agents = policy(vec![approve("a", by_handle(&["johm/*"]))]).protecting(&["john"]);
    assert_eq!(said(&ask(&agents, "johm/bot")), "approve by a", "all agents of a literal owner");
    let shadow = policy(vec![approve("s", by_handle(&["johm"])).shadow(), approve("a", When::Everyone)]);
    assert_eq!(said(&ask(&shadow.protecting(&["john"]), "johm")), "defer by guard:look-alike");
    let unsure = vec![by_handle(&["johm"]), unknown()];
    let unsure = policy(vec![approve("u", unsure), approve("a", When::Everyone)]).protecting(&["john"]);
    assert_eq!(said(&ask(&unsure, "johm")), "defer by guard:look-alike", "the rule that names it must match");
}

#[test]
fn shadow_rules_are_heard_and_change_nothing() {
    let plain = ask(&policy(vec![approve("a", by_owner(&["ann"]))]), "ann");
    let with = ask(&policy(vec![reject("r", When::Everyone).shadow(), approve("a", by_owner(&["ann"]))]), "ann");
    assert_eq!(said(&with), said(&plain));
    assert!(with.rule_results.iter().any(|voice| voice.shadow && voice.truth == Truth::True));
}

#[test]
fn an_index_that_was_not_built_offers_everything() {
    let mut bare = policy(vec![approve("a", by_owner(&["ann"]))]).protecting(&["john"]);
    bare.index = crate::policy::index::Index::default();
    assert_eq!(said(&ask(&bare, "ann")), "approve by a");
    assert_eq!(said(&ask(&bare, "j0hn")), "defer by guard:look-alike");
}

#[test]
fn a_list_that_several_rules_name_is_asked_for_each() {
    let friends = || by_list("friends", &["ann", "bob/*"]);
    let friends = friends();
    let again = || Condition::from(InList(friends.downcast::<InList>().unwrap().0.clone()));
    let two = policy(vec![approve("a", again()), defer("b", again()), reject("c", vec![F(), again()])]);
    assert_eq!(said(&ask(&two, "ann")), "defer by b");
    assert_eq!(said(&ask(&two, "bob/x")), "reject by c");
    assert_eq!(said(&ask(&two, "bob")), "defer by no_match");
}
