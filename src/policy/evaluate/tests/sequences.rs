//! Properties over time: no limit is ever exceeded, across crashes and reloads, and a request never blocks itself.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::model::{Handle, Outcome, RequestId, Verdict};
use crate::policy::conditions::HistoryCondition;
use crate::policy::rules::{LimitBy, Quota, When};
use crate::policy::state::{ApprovalRow, ChargeEnd, ChargeRow, HistoryKind, OwnerHistoryRow, SavedState};
use crate::policy::testkit::*;
use crate::policy::{Charge, Policy, PolicyState};

const HANDLES: [&str; 5] = ["acme/a", "acme/b", "acme", "ann", "ann/a"];

#[derive(Debug, Clone)]
enum SequenceStep {
    /// A request comes, and is answered with this outcome, or not yet.
    Ask(usize, Option<Outcome>),
    /// The open answer gets this outcome.
    Settle(Outcome),
    Wait(i64),
    Crash,
    /// Another policy; whether the record is read again for it.
    Reload(usize, bool),
    Prune,
}

fn steps() -> impl Strategy<Value = Vec<SequenceStep>> {
    let outcome = prop_oneof![
        Just(Outcome::Confirmed(crate::model::Answer::Approve)),
        Just(Outcome::Presumed(crate::model::Answer::Approve)),
        Just(Outcome::Unknown),
        Just(Outcome::Refused),
        Just(Outcome::Gone),
        Just(Outcome::SettledElsewhere),
    ];
    let step = prop_oneof![
        8 => (0..HANDLES.len(), prop::option::weighted(0.7, outcome.clone())).prop_map(|(who, what)| SequenceStep::Ask(who, what)),
        1 => outcome.prop_map(SequenceStep::Settle),
        5 => (1..90_i64).prop_map(SequenceStep::Wait),
        1 => Just(SequenceStep::Crash),
        1 => (0..4_usize, any::<bool>()).prop_map(|(policy, read)| SequenceStep::Reload(policy, read)),
        1 => Just(SequenceStep::Prune),
    ];
    prop::collection::vec(step, 1..80)
}

/// Limits that a reload makes longer, shorter, coarser, or takes away.
fn policies() -> Vec<Policy> {
    let with = |a: Option<(u32, i64, LimitBy)>, b: Option<(u32, i64, LimitBy)>| {
        let mut rules = vec![approve("a", When::Everyone), approve("b", by_owner(&["acme"]))];
        for (rule, limit) in rules.iter_mut().zip([a, b]) {
            rule.limit = limit.map(|(count, per, by)| crate::policy::rules::Limit {
                quota: Quota { count, per: minutes(per) },
                by,
                then: Verdict::Defer,
            });
        }
        policy(rules)
    };
    vec![
        with(Some((3, 60, LimitBy::Owner)), Some((2, 60, LimitBy::Handle))),
        with(Some((4, 240, LimitBy::Rule)), Some((3, 30, LimitBy::Owner))),
        with(Some((2, 30, LimitBy::Rule)), None),
        with(None, Some((2, 200, LimitBy::Rule))),
    ]
}

/// An approval that went out, as the record has it.
#[derive(Debug)]
struct Row {
    request: RequestId,
    handle: Handle,
    charges: Vec<Charge>,
    at: Timestamp,
    outcome: Option<Outcome>,
}

impl Row {
    fn kept(&self) -> bool {
        self.outcome.is_none_or(Outcome::keeps_charge)
    }
}

struct SequenceRun {
    policies: Vec<Policy>,
    current: usize,
    rows: Vec<Row>,
    policy_state: PolicyState,
    now: Timestamp,
    next: usize,
}

impl SequenceRun {
    fn policy(&self) -> &Policy {
        &self.policies[self.current]
    }

    /// What the ledger would read, as far back as the policy asks.
    fn memory(&self) -> SavedState {
        let reach = self.policy().charge_reach();
        let since = reach.map_or(self.now, |reach| self.now - reach);
        let mut memory = SavedState { history_complete: true, ..SavedState::default() };
        for row in self.rows.iter().filter(|row| row.kept()) {
            if row.at > since {
                let charges = row.charges.iter().cloned();
                memory.charges.extend(charges.map(|charge| ChargeRow {
                    request: Some(row.request.clone()),
                    charge,
                    at: row.at,
                    end: ChargeEnd::of(
                        row.outcome.is_none_or(|outcome| outcome == Outcome::Unknown),
                        matches!(row.outcome, Some(Outcome::Confirmed(_))),
                    ),
                }));
            }
            let open = row.outcome.is_none_or(|outcome| outcome == Outcome::Unknown);
            memory.approvals.push(ApprovalRow { request: row.request.clone(), at: row.at, open });
        }
        memory
    }

    fn ask(&mut self, who: usize, outcome: Option<Outcome>) -> Result<(), TestCaseError> {
        self.next += 1;
        let request = request(&format!("r{}", self.next), HANDLES[who]);
        let decision = carry_out(&self.policies[self.current], &mut self.policy_state, &request, self.now);
        if decision.verdict != Verdict::Approve {
            return Ok(());
        }
        let handle = handle(HANDLES[who]);
        let again = carry_out(&self.policies[self.current], &mut self.policy_state, &request, self.now);
        prop_assert_eq!(again.verdict, Verdict::Approve, "it blocked itself");
        self.rows.push(Row {
            request: request.id.clone(),
            handle: handle.clone(),
            charges: decision.charges,
            at: self.now,
            outcome: None,
        });
        self.check()?;
        if let Some(outcome) = outcome {
            self.settle(self.rows.len() - 1, outcome);
        }
        Ok(())
    }

    fn settle(&mut self, row: usize, outcome: Outcome) {
        let row = &mut self.rows[row];
        row.outcome = Some(outcome);
        self.policy_state.settle(&row.request, Some(&row.handle), Verdict::Approve, outcome, self.now);
    }

    /// The newest approval is within every limit that it was charged to.
    fn check(&self) -> Result<(), TestCaseError> {
        let Some(newest) = self.rows.last() else { return Ok(()) };
        for rule in self.policy().rules.iter() {
            let Some(limit) = rule.limit.filter(|_| newest.charges.iter().any(|charge| charge.rule == rule.name))
            else {
                continue;
            };
            let same = |row: &&Row| match limit.by {
                LimitBy::Owner => row.handle.owner() == newest.handle.owner(),
                LimitBy::Handle => row.handle == newest.handle,
                LimitBy::Rule => true,
            };
            let count = self
                .rows
                .iter()
                .filter(|row| row.kept() && row.at + limit.quota.per > self.now)
                .filter(|row| row.charges.iter().any(|charge| charge.rule == rule.name))
                .filter(same)
                .count();
            prop_assert!(count <= limit.quota.count as usize, "{count} by {} of {limit:?}", rule.name);
        }
        Ok(())
    }

    fn step(&mut self, step: &SequenceStep) -> Result<(), TestCaseError> {
        match step {
            SequenceStep::Ask(who, outcome) => self.ask(*who, *outcome)?,
            SequenceStep::Settle(outcome) => {
                let open = self.rows.iter().position(|row| matches!(row.outcome, None | Some(Outcome::Unknown)));
                if let Some(row) = open {
                    self.settle(row, *outcome);
                }
            }
            SequenceStep::Wait(length) => self.now += minutes(*length),
            SequenceStep::Crash => self.policy_state = PolicyState::restore_for(self.memory(), self.policy(), self.now),
            SequenceStep::Reload(policy, read) => {
                self.current = *policy;
                if *read && !self.policy_state.covers(self.policy(), self.now) {
                    let memory = self.memory();
                    self.policy_state.absorb(memory, &self.policies[self.current], self.now);
                    prop_assert!(self.policy_state.covers(self.policy(), self.now));
                }
                self.policy_state.prune(&self.policies[self.current], self.now);
            }
            SequenceStep::Prune => self.policy_state.prune(&self.policies[self.current], self.now),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_limit_is_ever_exceeded(steps in steps(), first in 0..4_usize) {
        let mut world = SequenceRun {
            policies: policies(),
            current: first,
            rows: Vec::new(),
            policy_state: PolicyState::default(),
            now: noon(),
            next: 0,
        };
        for step in &steps {
            world.step(step)?;
        }
    }

    #[test]
    fn what_is_pruned_or_read_again_answers_the_same_or_unknown(
        asked in prop::collection::vec((0..HANDLES.len(), 0..600_i64), 0..20), count in 1..4_u32, per in 1..9_i64,
    ) {
        let mut needs = policy(vec![]);
        let condition = HistoryCondition {
            requests_over: Some(Quota { count, per: hours(per) }),
            ..Default::default()
        };
        needs.rules.push(reject("r", condition));
        let needs = needs.indexed();
        let now = noon();
        let mut rows = Vec::new();
        let (mut whole, mut pruned) = (PolicyState::default(), PolicyState::default());
        pruned.prune(&needs, now - hours(24));
        let mut asked = asked;
        asked.sort_by_key(|(_, ago)| -ago);
        let mut per_owner: HashMap<String, usize> = HashMap::new();
        for (which, (who, ago)) in asked.iter().enumerate() {
            let (who, request, at) = (handle(HANDLES[*who]), id(&format!("r{which}")), now - minutes(*ago));
            *per_owner.entry(who.owner().to_owned()).or_default() += 1;
            whole.seen(&request, Some(&who), at);
            pruned.seen(&request, Some(&who), at);
            pruned.seen(&request, Some(&who), at);
            pruned.prune(&needs, at);
            let owner = who.owner().into();
            rows.push(OwnerHistoryRow { owner, handle: None, request: Some(request), kind: HistoryKind::Requested, at });
        }
        let memory = SavedState { history: rows, history_complete: true, ..SavedState::default() };
        let read = PolicyState::restore_for(memory, &needs, now);
        for who in HANDLES {
            for later in [SignedDuration::ZERO, hours(1), hours(5)] {
                let ask = |policy_state: &PolicyState| said(&needs.decide(&request("mine", who), &sound(), policy_state, now + later));
                prop_assert_eq!(ask(&whole), ask(&pruned));
                prop_assert_eq!(ask(&whole), ask(&read));
            }
        }
    }
}

#[test]
fn a_reload_that_reaches_further_back_counts_as_full_until_the_record_is_read() {
    let limited = |per| policy(vec![approve("a", When::Everyone).limit(2, per, LimitBy::Rule)]);
    let (short, long) = (limited(hours(1)), limited(hours(10)));
    let mut policy_state =
        PolicyState::restore_for(SavedState { history_complete: true, ..SavedState::default() }, &short, noon());
    let ask = |policy_state: &PolicyState, policy: &Policy| {
        policy.decide(&request("r", "ann"), &sound(), policy_state, noon())
    };
    assert_eq!(said(&ask(&policy_state, &short)), "approve by a");
    assert!(policy_state.covers(&short, noon()) && !policy_state.covers(&long, noon()));
    let blind = ask(&policy_state, &long);
    assert_eq!((said(&blind), blind.reconsider_at), ("defer by limit:a".to_owned(), Some(noon() + hours(9))));
    let charge = |which: &str, ago| ChargeRow {
        request: Some(id(which)),
        charge: Charge { rule: name("a"), bucket: "".into() },
        at: noon() - hours(ago),
        end: ChargeEnd::Confirmed,
    };
    let memory = SavedState { charges: vec![charge("x", 3)], history_complete: true, ..SavedState::default() };
    policy_state.absorb(memory.clone(), &long, noon());
    assert_eq!(said(&ask(&policy_state, &long)), "approve by a", "one place is left");
    policy_state.absorb(memory, &long, noon());
    assert_eq!(policy_state.sizes().0, 1, "nothing is counted twice");
}

#[test]
fn what_is_not_kept_is_given_back() {
    let limited = policy(vec![approve("a", When::Everyone).limit(1, hours(1), LimitBy::Rule)]);
    for outcome in [
        Outcome::Confirmed(crate::model::Answer::Approve),
        Outcome::Presumed(crate::model::Answer::Approve),
        Outcome::Unknown,
        Outcome::Refused,
        Outcome::Gone,
    ] {
        let mut policy_state = PolicyState::default();
        carry_out(&limited, &mut policy_state, &request("one", "ann"), noon());
        policy_state.settle(&id("one"), Some(&handle("ann")), Verdict::Approve, outcome, noon());
        let other = limited.decide(&request("two", "bob"), &sound(), &policy_state, noon());
        assert_eq!(other.verdict == Verdict::Approve, !outcome.keeps_charge(), "{outcome}");
        assert_eq!(policy_state.sizes(), if outcome.keeps_charge() { (1, 1) } else { (0, 0) });
    }
}

#[test]
fn a_burst_of_distinct_owners_leaves_nothing_behind_that_nobody_asks_about() {
    let plain = policy(vec![approve("a", When::Everyone)]);
    let mut policy_state = PolicyState::default();
    policy_state.prune(&plain, noon());
    for which in 0..5_000 {
        carry_out(&plain, &mut policy_state, &request(&format!("r{which}"), &format!("o{which}/bot")), noon());
        policy_state.settle(
            &id(&format!("r{which}")),
            None,
            Verdict::Approve,
            Outcome::Confirmed(crate::model::Answer::Approve),
            noon(),
        );
    }
    policy_state.prune(&plain, noon() + hours(30));
    assert_eq!(policy_state.sizes(), (0, 0));
    assert_eq!(policy_state.history.len(), 0);
}

#[test]
fn a_place_that_a_reload_let_go_of_is_paid_again_when_the_same_answer_is_decided_again() {
    let limited = policy(vec![approve("a", When::Everyone).limit(1, hours(1), LimitBy::Rule)]);
    let plain = policy(vec![approve("a", When::Everyone)]);
    let mut policy_state = PolicyState::default();
    carry_out(&limited, &mut policy_state, &request("one", "ann"), noon());
    // Its intent was never recorded, so reading the record again does not bring it back.
    policy_state.absorb(SavedState { history_complete: true, ..SavedState::default() }, &plain, noon());
    policy_state.absorb(SavedState { history_complete: true, ..SavedState::default() }, &limited, noon());
    assert_eq!(policy_state.sizes().0, 0);
    carry_out(&limited, &mut policy_state, &request("one", "ann"), noon());
    assert_eq!(said(&limited.decide(&request("two", "bob"), &sound(), &policy_state, noon())), "defer by limit:a");
    carry_out(&limited, &mut policy_state, &request("one", "ann"), noon());
    assert_eq!(policy_state.sizes().0, 1, "and never twice");
}

#[test]
fn approvals_that_nobody_counts_are_let_go_and_a_reload_that_counts_them_waits_for_the_record() {
    let plain = policy(vec![approve("a", When::Everyone)]);
    let quota = |count| {
        let mut policy = policy(vec![approve("a", When::Everyone)]);
        policy.approvals_max = Some(Quota { count, per: hours(1) });
        policy.indexed()
    };
    let mut policy_state =
        PolicyState::restore_for(SavedState { history_complete: true, ..SavedState::default() }, &plain, noon());
    for which in 0..20 {
        carry_out(&plain, &mut policy_state, &request(&format!("r{which}"), "ann"), noon() + minutes(which));
        policy_state.settle(
            &id(&format!("r{which}")),
            None,
            Verdict::Approve,
            Outcome::Confirmed(crate::model::Answer::Approve),
            noon() + minutes(which),
        );
    }
    let now = noon() + minutes(19);
    carry_out(&plain, &mut policy_state, &request("open", "ann"), now);
    assert_eq!(policy_state.sizes().1, 1, "what is on its way may not be on record yet");
    policy_state.prune(&plain, now);
    assert_eq!(policy_state.sizes().1, 1);
    let ask = |policy_state: &PolicyState, policy: &Policy| {
        said(&policy.decide(&request("next", "bob"), &sound(), policy_state, now))
    };
    assert!(!policy_state.covers(&quota(15), now));
    assert_eq!(ask(&policy_state, &quota(15)), "defer by error:ledger", "a count that falls short approves nobody");
    let approvals = (0..20).map(|which| ApprovalRow {
        request: id(&format!("r{which}")),
        at: noon() + minutes(which),
        open: false,
    });
    let memory = SavedState { approvals: approvals.collect(), history_complete: true, ..SavedState::default() };
    policy_state.absorb(memory, &quota(15), now);
    assert_eq!((policy_state.sizes().1, ask(&policy_state, &quota(15))), (21, "defer by paused".to_owned()));
    assert_eq!(ask(&policy_state, &quota(22)), "approve by a");
}
