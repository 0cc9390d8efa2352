//! Newer rules are pushed while answers are about to go on record.

use std::sync::Arc;

use super::*;
use crate::policy::rules::Head;
use crate::policy::testkit::{approve, by_handle, hours, policy, reject};

/// Ann and Bob are let in, one of them in an hour; or both are turned away.
fn version(number: u64, lets_in: bool) -> Option<Arc<Policy>> {
    let friends = || by_handle(&["ann", "bob"]);
    let rule = match lets_in {
        true => approve("friends", friends()).limit(1, hours(1), crate::policy::rules::LimitBy::Rule),
        false => reject("friends", friends()),
    };
    let mut policy = policy(vec![rule]);
    policy.hash = PolicyHash::new(&format!("{:064x}", u8::from(lets_in)));
    policy.head = Some(Arc::new(Head { name: "main".into(), version: number }));
    Some(Arc::new(policy))
}

struct Pushed {
    harness: CoreHarness,
    /// The head in the ledger.
    head: u64,
    judged: usize,
}

impl Pushed {
    fn new() -> Self {
        let mut harness = CoreHarness::new(SavedAgent::default());
        harness.stalled = true;
        let mut pushed = Self { harness, head: 1, judged: 0 };
        pushed.tell(Input::Policy(version(1, true)));
        pushed
    }

    fn tell(&mut self, input: Input<'_>) {
        self.harness.input(input);
        self.record();
    }

    /// The ledger takes what waits, but no batch with an intent by other rules than the head.
    fn record(&mut self) {
        while self.harness.core.recording {
            let outdated = self.harness.recorded[self.judged..]
                .iter()
                .any(|entry| matches!(entry, Record::Intent { head: Some(head), .. } if head.version != self.head));
            self.judged = self.harness.recorded.len();
            let error = LedgerError::Outdated { name: "main".to_owned(), version: self.head };
            self.harness.input(Input::Recorded(if outdated { Err(error) } else { Ok(()) }));
        }
    }

    fn listed(&mut self, shown: &[(&str, &str)]) {
        let of = |(id, handle): &(&str, &str)| ContactRequest { sender: Sender::parse(Some(handle)), ..request(id) };
        self.harness.lists_after(MINUTES, &shown.iter().map(of).collect::<Vec<_>>());
        self.record();
    }

    /// Request, answer and version of each intent, whether it was taken or not.
    fn intents(&self) -> Vec<(String, Answer, Option<u64>)> {
        let intents = self.harness.recorded.iter().filter_map(|entry| match entry {
            Record::Intent { request, answer, head, .. } => {
                Some((request.to_string(), *answer, head.as_ref().map(|head| head.version)))
            }
            _ => None,
        });
        intents.collect()
    }

    /// The answers that left.
    fn sent(&self) -> Vec<(String, Answer)> {
        let sent = self.harness.actions.iter().filter_map(|action| match action {
            Action::Respond { request, answer, .. } => Some((request.to_string(), *answer)),
            _ => None,
        });
        sent.collect()
    }
}

#[test]
fn an_answer_by_older_rules_is_taken_back_and_decided_by_the_newer_ones() {
    let mut pushed = Pushed::new();
    pushed.head = 2;
    pushed.listed(&[("r1", "ann")]);
    assert_eq!(pushed.intents(), [("r1".to_owned(), Answer::Approve, Some(1))]);
    assert_eq!(pushed.sent(), []);
    assert_eq!(pushed.harness.core.counters()["rules_outdated"], 1);
    // It is not tried again and again: these rules answer nothing any more, for nobody.
    pushed.listed(&[("r1", "ann"), ("r2", "bob")]);
    assert_eq!(pushed.intents().len(), 1, "{:?}", pushed.intents());
    // A person's answer goes out.
    pushed.harness.approve("r2", false);
    pushed.record();
    assert_eq!(pushed.sent(), [("r2".to_owned(), Answer::Approve)]);
    assert_eq!(pushed.intents()[1].2, None, "no version stands in a person's way");
    pushed.harness.confirmed("r2", Answer::Approve);
    pushed.record();
    pushed.tell(Input::Policy(version(2, false)));
    assert_eq!(pushed.sent()[1..], [("r1".to_owned(), Answer::Reject)], "once, by the newer rules");
    assert_eq!(pushed.intents().len(), 3);
    assert_eq!(pushed.intents()[2], ("r1".to_owned(), Answer::Reject, Some(2)));
}

#[test]
fn the_share_of_a_limit_is_given_back() {
    let mut pushed = Pushed::new();
    pushed.head = 2;
    pushed.listed(&[("r1", "ann")]);
    // The same rules once more: one of them may be let in in this hour, and it is not used up.
    pushed.tell(Input::Policy(version(2, true)));
    assert_eq!(pushed.sent(), [("r1".to_owned(), Answer::Approve)], "the same policy, and the head");
    pushed.harness.confirmed("r1", Answer::Approve);
    pushed.record();
    pushed.listed(&[("r2", "bob")]);
    assert_eq!(pushed.sent().len(), 1, "the limit is full now");
}

#[test]
fn newer_rules_that_come_first_decide_at_once() {
    let mut pushed = Pushed::new();
    pushed.harness.lists_after(MINUTES, &[ContactRequest { sender: Sender::parse(Some("ann")), ..request("r1") }]);
    // Its intent is with the ledger, or about to be, when the newer rules come here.
    pushed.harness.input(Input::Policy(version(2, false)));
    pushed.head = 2;
    pushed.record();
    assert_eq!(pushed.sent(), [("r1".to_owned(), Answer::Reject)]);
}

#[test]
fn a_ledger_that_was_put_back_is_asked_again_after_a_while() {
    let mut pushed = Pushed::new();
    pushed.tell(Input::Policy(version(3, true)));
    pushed.head = 2;
    pushed.listed(&[("r1", "ann")]);
    assert_eq!(pushed.intents().len(), 1, "not at once: {:?}", pushed.intents());
    pushed.harness.wait(Duration::from_secs(2));
    pushed.record();
    assert_eq!((pushed.intents().len(), pushed.sent().len()), (2, 0));
    pushed.tell(Input::Policy(version(2, false)));
    pushed.harness.wait(Duration::from_secs(2));
    pushed.record();
    assert_eq!(pushed.sent(), [("r1".to_owned(), Answer::Reject)]);
}
