//! What an answer costs: when it counts, and when it is given back.

use super::*;
use crate::ledger::read::RowMoment;
use crate::policy::state::{ChargeEnd, SavedState};

#[tokio::test]
async fn a_refused_answer_that_is_sent_again_is_charged_again() {
    let world = TestLedger::new();
    let ledger = world.open();
    let charges = || vec![charge("friends", "ann")];
    ledger.commit(vec![seen("r1", Some("ann"), 0), intent("r1", Answer::Approve, charges(), 1, 1)]).await.unwrap();
    ledger.commit(vec![outcome("r1", Outcome::Refused, 2)]).await.unwrap();
    let memory = load(&ledger, 3).await;
    assert!(
        memory.policy_state.charges.is_empty()
            && memory.policy_state.approvals.is_empty()
            && memory.open_answers.is_empty()
    );
    assert_eq!(memory.refused_answers.len(), 1);
    ledger.commit(vec![intent("r1", Answer::Approve, charges(), 2, 10)]).await.unwrap();
    let memory = load(&ledger, 11).await;
    assert_eq!(memory.policy_state.charges.iter().map(|row| row.at).collect::<Vec<_>>(), [at(10)]);
    assert_eq!(memory.policy_state.approvals.iter().map(|row| row.at).collect::<Vec<_>>(), [at(10)]);
    assert_eq!((memory.open_answers[0].attempts, memory.refused_answers.len()), (2, 0));
}

#[tokio::test]
async fn what_an_answer_costs_counts_whether_its_outcome_is_known_or_not() {
    let world = TestLedger::new();
    let ledger = world.open();
    let charges = vec![charge("friends", "ann")];
    ledger.commit(vec![seen("r1", Some("ann"), 0), intent("r1", Answer::Approve, charges, 1, 1)]).await.unwrap();
    for (second, came) in [(2, None), (3, Some(Outcome::Unknown)), (4, Some(Outcome::Confirmed(Answer::Approve)))] {
        if let Some(came) = came {
            ledger.commit(vec![outcome("r1", came, second)]).await.unwrap();
        }
        let counted = |state: SavedState| {
            state.charges.iter().map(|row| (row.at, row.end == ChargeEnd::Open)).collect::<Vec<_>>()
        };
        let expected = [(at(1), second < 4)];
        assert_eq!(counted(load(&ledger, 10).await.policy_state), expected, "after a start: {came:?}");
        let then = world.reader().state_at(&agent(), None, None, REACH, RowMoment::at(at(10))).unwrap();
        assert_eq!(counted(then), expected, "at a moment of the past: {came:?}");
    }
}

#[tokio::test]
async fn all_that_an_answer_costs_is_given_back_whenever_it_was_tried_again() {
    // Later, at the same moment, and by a clock that went back.
    for again in [20, 10, 5] {
        let world = TestLedger::new();
        let ledger = world.open();
        let (ann, more) = (charge("friends", "ann"), charge("friends", "more"));
        ledger.commit(vec![seen("r1", Some("ann"), 0), seen("r2", Some("bob"), 0)]).await.unwrap();
        ledger.commit(vec![intent("r2", Answer::Approve, vec![charge("friends", "bob")], 1, 10)]).await.unwrap();
        ledger.commit(vec![intent("r1", Answer::Approve, vec![ann.clone(), ann.clone()], 1, 10)]).await.unwrap();
        ledger.commit(vec![intent("r1", Answer::Approve, vec![ann, more], 2, again)]).await.unwrap();
        let charges = async || {
            let read = load(&ledger, 40).await.policy_state.charges;
            let mut charges: Vec<_> = read.iter().map(|row| (row.charge.bucket.to_string(), row.at)).collect();
            charges.sort();
            charges
        };
        let of = |bucket: &str, second| (bucket.to_owned(), at(second));
        assert_eq!(
            charges().await,
            [of("ann", 10), of("bob", 10), of("more", again)],
            "each once, as of its first try"
        );
        ledger.commit(vec![outcome("r1", Outcome::Refused, 30)]).await.unwrap();
        assert_eq!(charges().await, [of("bob", 10)], "tried again at {again}");
    }
}

#[tokio::test]
async fn a_start_reads_of_whom_a_charge_is_only_while_its_answer_may_turn_out_otherwise() {
    let (approve, reject) = (Answer::Approve, Answer::Reject);
    let cases = [
        (vec![], Some(ChargeEnd::Open)),
        (vec![Outcome::Unknown], Some(ChargeEnd::Open)),
        (vec![Outcome::Presumed(approve)], Some(ChargeEnd::Unconfirmed)),
        (vec![Outcome::Confirmed(approve)], None),
        (vec![Outcome::Unknown, Outcome::Confirmed(approve)], None),
    ];
    for (outcomes, end) in cases {
        let world = TestLedger::new();
        let ledger = world.open();
        let charges = vec![charge("friends", "ann")];
        ledger.commit(vec![seen("r1", Some("ann"), 0), intent("r1", approve, charges, 1, 1)]).await.unwrap();
        // Of another request nothing is certain, which says nothing of this one.
        let charges = vec![charge("friends", "bob")];
        ledger.commit(vec![seen("r2", Some("bob"), 0), intent("r2", reject, charges, 1, 2)]).await.unwrap();
        ledger.commit(vec![outcome("r2", Outcome::Presumed(reject), 3)]).await.unwrap();
        for (second, came) in (3..).zip(&outcomes) {
            ledger.commit(vec![outcome("r1", *came, second)]).await.unwrap();
        }
        let read = async |merged| {
            let reach = RestoreReach { merged, ..REACH };
            let charges = ledger.load_agent(&agent(), at(10), reach).await.unwrap().policy_state.charges;
            charges.into_iter().map(|row| (row.request, row.at, row.end)).collect::<Vec<_>>()
        };
        let bob = (Some(id("r2")), at(2), ChargeEnd::Unconfirmed);
        let ann = (end.map(|_| id("r1")), at(1), end.unwrap_or(ChargeEnd::Confirmed));
        assert_eq!(read(false).await, [ann.clone(), bob.clone()], "{outcomes:?}");
        assert_eq!(read(true).await, [(Some(id("r1")), ann.1, ann.2), bob], "{outcomes:?}");
    }
}
