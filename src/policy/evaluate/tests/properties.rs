//! Properties of every policy and every request, with the inputs unchanged.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::spec::{PolicySpec, RuleSpec, Scene, Spec, policy_spec, rule_spec, scene};
use crate::model::Verdict;
use crate::policy::explain::explain;
use crate::policy::rules::Rule;
use crate::policy::testkit::hours;
use crate::policy::{By, ClockHealth, Decision, Policy, Truth};

/// Decides under `policy`, in a policy state that `base` filled, so that the inputs are the same for both.
fn decide(policy: &Policy, base: &Policy, scene: &Scene) -> Decision {
    policy.decide(&scene.request, &scene.circumstances, &scene.policy_state(base), scene.now)
}

/// `after` approves only what `before` approved, and not earlier. What came on top of `approvals_max` would have been approved
/// at once; if it has to wait now, it is counted when the wait is over.
fn creates_no_approval(before: &Decision, after: &Decision) -> bool {
    let later = before.pauses && after.due.is_some();
    after.verdict != Verdict::Approve || later || (before.verdict == Verdict::Approve && after.due >= before.due)
}

fn with(spec: &PolicySpec, rule: RuleSpec) -> PolicySpec {
    let mut spec = spec.clone();
    spec.rules.push(rule);
    spec
}

fn is_unknown(rule: &RuleSpec, policy: &Policy, scene: &Scene) -> bool {
    let voices = decide(policy, policy, scene).rule_results;
    voices.iter().any(|voice| voice.rule.as_str() == rule.name && voice.truth == Truth::Unknown)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_offers_all_that_matters(spec in policy_spec(), scene in scene()) {
        let policy = spec.real();
        let policy_state = scene.policy_state(&policy);
        let indexed = policy.decide(&scene.request, &scene.circumstances, &policy_state, scene.now);
        let naive = policy.decide_naive(&scene.request, &scene.circumstances, &policy_state, scene.now);
        prop_assert_eq!(indexed.rule_results, naive.rule_results);
        prop_assert_eq!((indexed.verdict, indexed.by, indexed.due), (naive.verdict, naive.by, naive.due));
        prop_assert_eq!((indexed.reconsider_at, indexed.charges), (naive.reconsider_at, naive.charges));
    }

    #[test]
    fn adding_a_rule_that_does_not_approve_creates_no_approval(
        spec in policy_spec(), rule in rule_spec("a"), reject in any::<bool>(), scene in scene(),
    ) {
        let then = if reject { Verdict::Reject } else { Verdict::Defer };
        let base = spec.real();
        let more = with(&spec, RuleSpec { then, limit: None, wait: None, lasts: None, ask: None, ..rule }).real();
        prop_assert!(creates_no_approval(&decide(&base, &base, &scene), &decide(&more, &base, &scene)));
    }

    #[test]
    fn a_word_counts_only_if_it_was_asked_for_and_as_far_as_it_may(spec in policy_spec(), scene in scene()) {
        let policy = spec.real();
        let mut silent = scene.clone();
        silent.reply = None;
        let (before, after) = (decide(&policy, &policy, &silent), decide(&policy, &policy, &scene));
        let Some(question) = before.asks.clone() else {
            // The decider was not asked. A request that can no longer be approved may be closed when it is overdue, and
            // is decided again for that.
            let closed = before.verdict == Verdict::Defer && matches!(after.by, By::Overdue(_));
            // What an `overdue` rule rejects now was pending before, and the decider may have rejected it then.
            let earlier = (before.verdict, after.verdict) == (Verdict::Reject, Verdict::Reject)
                && matches!((&before.by, &after.by), (By::Overdue(_), By::Ask(_)));
            let closed = closed || earlier;
            let same = (&before.verdict, &before.by, &before.due, &before.charges)
                == (&after.verdict, &after.by, &after.due, &after.charges);
            prop_assert!(same || closed, "{:?} {:?}", before, after);
            return Ok(());
        };
        prop_assert_eq!(before.verdict, Verdict::Defer);
        prop_assert_eq!(&before.by, &By::Rule(question.rule.clone()));
        let rule = policy.rules.iter().find(|rule| rule.name == question.rule).unwrap();
        let ask = rule.ask.as_ref().unwrap();
        match (&after.by, after.verdict) {
            (By::Ask(name), Verdict::Reject) => prop_assert!(*name == rule.name && ask.reject && scene.reply == Some(Verdict::Reject)),
            (By::Ask(name), Verdict::Approve) => {
                prop_assert!(*name == rule.name && ask.approve && scene.reply == Some(Verdict::Approve));
                prop_assert!(after.charges.iter().any(|charge| charge.rule == rule.name), "it is charged");
            }
            (By::Overdue(_), Verdict::Reject) => {}
            (_, verdict) => prop_assert_eq!(verdict, Verdict::Defer),
        }
    }

    #[test]
    fn adding_a_guard_creates_no_approval(spec in policy_spec(), scene in scene()) {
        let without = PolicySpec { protect: false, ..spec.clone() }.real();
        let guarded = PolicySpec { protect: true, ..spec }.real();
        let (before, after) = (decide(&without, &without, &scene), decide(&guarded, &without, &scene));
        prop_assert!(creates_no_approval(&before, &after));
    }

    #[test]
    fn adding_a_limit_creates_no_approval(
        spec in policy_spec(), rule in rule_spec("a"), limit in (1..4_u32, 1..9_i64, 0..3_u8), scene in scene(),
    ) {
        let approve = |limit| RuleSpec { then: Verdict::Approve, limit, ..rule.clone() };
        let (unlimited, limited) = (with(&spec, approve(None)).real(), with(&spec, approve(Some(limit))).real());
        prop_assert!(creates_no_approval(&decide(&unlimited, &limited, &scene), &decide(&limited, &limited, &scene)));
    }

    #[test]
    fn an_end_lets_nobody_in_and_the_shortest_applies(
        spec in policy_spec(), rule in rule_spec("a"), lasts in 1..30_i64, scene in scene(),
    ) {
        let approve = |lasts| RuleSpec { then: Verdict::Approve, lasts, ..rule.clone() };
        let (stays, ends) = (with(&spec, approve(None)).real(), with(&spec, approve(Some(lasts))).real());
        let (before, after) = (decide(&stays, &stays, &scene), decide(&ends, &stays, &scene));
        prop_assert!(creates_no_approval(&before, &after), "{before:?} {after:?}");
        // Of every rule that let in, or that may have.
        let lets_in = |rule: &&Rule| {
            let heard = after.rule_results.iter().any(|voice| voice.rule == rule.name && voice.truth != Truth::False);
            let by_word = after.by == By::Ask(rule.name.clone());
            heard && !rule.shadow && (rule.then == Verdict::Approve || by_word)
        };
        let shortest = ends.rules.iter().filter(lets_in).filter_map(|rule| rule.lasts).min();
        prop_assert_eq!(after.lasts, shortest.filter(|_| after.verdict == Verdict::Approve), "{:?}", after);
        prop_assert!(after.lasts.is_none() || scene.circumstances.clock == ClockHealth::Sound, "an end by a wrong clock");
    }

    #[test]
    fn a_limit_that_rejects_takes_only_what_it_would_not_have_let_in(spec in policy_spec(), scene in scene()) {
        let spoken = |rejects: u8| {
            let mut spec = spec.clone();
            for (_, _, by) in spec.rules.iter_mut().filter_map(|rule| rule.limit.as_mut()) {
                *by = *by % 3 + rejects;
            }
            spec.real()
        };
        let (defers, rejects) = (spoken(0), spoken(3));
        let (before, after) = (decide(&defers, &defers, &scene), decide(&rejects, &defers, &scene));
        if after.verdict == Verdict::Reject && matches!(after.by, By::Limit(_)) {
            prop_assert!(before.verdict != Verdict::Approve, "{before:?}");
            prop_assert!(!matches!(before.by, By::Hold(_) | By::Paused | By::Guard(_) | By::Error(_)), "{before:?}");
            prop_assert_eq!(scene.circumstances.clock, ClockHealth::Sound);
        } else {
            prop_assert_eq!((before.verdict, before.by, before.due), (after.verdict, after.by, after.due));
        }
    }

    #[test]
    fn removing_a_plain_approve_rule_creates_no_approval(
        spec in policy_spec(), rule in rule_spec("a"), scene in scene(),
    ) {
        let rule = RuleSpec { then: Verdict::Approve, limit: None, wait: None, lasts: None, ..rule };
        let more = with(&spec, rule.clone()).real();
        if !is_unknown(&rule, &more, &scene) {
            prop_assert!(creates_no_approval(&decide(&more, &more, &scene), &decide(&spec.real(), &more, &scene)));
        }
    }

    #[test]
    fn shadow_rules_change_nothing(spec in policy_spec(), rule in rule_spec("a"), scene in scene()) {
        let base = spec.real();
        let shadowed = with(&spec, RuleSpec { shadow: true, ..rule }).real();
        let mut before = decide(&base, &base, &scene);
        let mut after = decide(&shadowed, &base, &scene);
        before.rule_results.clear();
        after.rule_results.clear();
        prop_assert_eq!(before, after);
    }

    #[test]
    fn the_order_of_tables_never_matters(
        spec in policy_spec(), order in Just([0_usize, 1, 2, 3]).prop_shuffle(), scene in scene(),
    ) {
        let base = spec.real();
        let mut shuffled = spec.clone();
        shuffled.rules = order.iter().filter_map(|at| spec.rules.get(*at).cloned()).collect();
        prop_assert_eq!(decide(&base, &base, &scene), decide(&shuffled.unsorted(), &base, &scene));
    }

    #[test]
    fn an_unknown_condition_creates_no_answer(spec in policy_spec(), which in any::<prop::sample::Index>(), scene in scene()) {
        let base = spec.real();
        let mut doubtful = spec;
        let mut conditions = doubtful.conditions();
        if conditions.is_empty() {
            return Ok(());
        }
        let at = which.index(conditions.len());
        *conditions[at] = Spec::Contacts;
        let (before, after) = (decide(&base, &base, &scene), decide(&doubtful.real(), &base, &scene));
        prop_assert!(creates_no_approval(&before, &after), "{before:?} {after:?}");
        prop_assert!(after.verdict != Verdict::Reject || before.verdict == Verdict::Reject, "{before:?} {after:?}");
    }

    #[test]
    fn the_same_inputs_give_the_same_decision(spec in policy_spec(), scene in scene()) {
        let (one, other) = (spec.real(), spec.real());
        prop_assert_eq!(decide(&one, &one, &scene), decide(&other, &other, &scene));
    }

    #[test]
    fn explaining_agrees_with_deciding(spec in policy_spec(), scene in scene()) {
        let policy = spec.real();
        let policy_state = scene.policy_state(&policy);
        let decision = policy.decide(&scene.request, &scene.circumstances, &policy_state, scene.now);
        let explanation = explain(&policy, &scene.request, &scene.circumstances, &policy_state, scene.now, None);
        prop_assert_eq!((explanation.verdict, &explanation.by, explanation.due), (decision.verdict, &decision.by, decision.due));
        for rule in &policy.rules {
            let reason = explanation.reasons.iter().find(|reason| reason.rule == rule.name.as_str()).unwrap();
            let voice = decision.rule_results.iter().find(|voice| voice.rule == rule.name);
            if let Some(voice) = voice {
                prop_assert_eq!(reason.matched, voice.truth.known());
            }
            let and = |place: &str| {
                let inside = reason.conditions.iter().filter(|asked| asked.place == place);
                inside.fold(Truth::True, |truth, asked| truth.and(asked.holds.map_or(Truth::Unknown, Truth::from)))
            };
            let unless = (0..rule.unless.len()).fold(Truth::False, |truth, at| truth.or(and(&format!("unless[{at}]"))));
            prop_assert_eq!(and("when").and(!unless).known(), reason.matched, "{:?}", reason);
        }
        let heard = explanation.reasons.iter().filter(|reason| !reason.rule.contains([':', '_']) && reason.rule != "paused");
        let heard = heard.filter(|reason| reason.matched != Some(false)).count();
        prop_assert!(decision.rule_results.is_empty() || decision.rule_results.len() == heard);
        let shown = explanation.render(false, &|at| at.to_string());
        prop_assert!(shown.chars().all(|one| one == '\n' || !one.is_control()), "an escape");
    }

    #[test]
    fn nothing_changes_before_it_is_reconsidered(
        spec in policy_spec(), scene in scene(), part in 0.0..1.0_f64,
    ) {
        let policy = spec.real();
        let policy_state = scene.policy_state(&policy);
        let decide = |now| policy.decide(&scene.request, &scene.circumstances, &policy_state, now);
        let first = decide(scene.now);
        // The agent's reaction to a pause is not simulated here.
        prop_assume!(!first.pauses);
        let end: Timestamp = first.reconsider_at.unwrap_or(scene.now + hours(24 * 30));
        prop_assert!(end >= scene.now);
        let inside = end.duration_since(scene.now).as_secs_f64() * part;
        let now = scene.now + SignedDuration::from_secs_f64(inside.min(1e9));
        let later = decide(now);
        prop_assume!(now < end && !later.pauses);
        prop_assert_eq!((first.verdict, first.due), (later.verdict, later.due), "{:?} at {}", first, now);
        prop_assert!(first.by == later.by || first.verdict == Verdict::Reject);
    }
}
