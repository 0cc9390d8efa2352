//! Runs a file's own `[tests]`: each in a policy state of its own, with only the history of the test.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};

use super::decision::{By, Circumstances, ClockHealth, Decision, Mode, Truth};
use super::rules::{Policy, PolicyTest, RuleName, TestHistory};
use super::{PolicyState, ReceivingAgent};
use crate::document::in_words;
use crate::model::{ContactRequest, Outcome, RequestId, Sender, Verdict};
use crate::policy::state::{EndedAnswer, SavedState};

/// The result of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// Its name.
    pub name: RuleName,
    /// Whether the policy decides as the test expects.
    pub passed: bool,
    /// What the test expects: `defer by limit:acme-bots`, or the verdict alone.
    pub expected: String,
    /// The decision of the policy.
    pub got: Decision,
    /// The index of the text in the loader's report that has its `expect`.
    pub source: usize,
    /// The place there (bytes).
    pub span: Range<usize>,
}

impl TestResult {
    /// The decision of the policy, in the form of [`TestResult::expected`].
    pub fn said(&self) -> String {
        sentence(self.got.verdict, Some(&self.got.by.to_string()), self.got.lasts)
    }

    /// A hint why a test failed.
    pub fn hint(&self) -> Option<String> {
        if self.passed {
            return None;
        }
        let voices: Vec<_> = self
            .got
            .rule_results
            .iter()
            .map(|voice| {
                let doubt = match (&voice.unknown, voice.truth) {
                    (Some(key), Truth::Unknown) => format!(", but `{key}` is unknown"),
                    _ => String::new(),
                };
                let shadow = if voice.shadow { ", in shadow" } else { "" };
                format!("`{}` says {}{shadow}{doubt}", voice.rule, voice.then)
            })
            .collect();
        let overdue = self.expected.contains("overdue:") && self.got.mode == Mode::Shadow;
        if overdue {
            Some("in shadow mode nothing is overdue".to_owned())
        } else if voices.is_empty() && matches!(self.got.by, By::NoMatch) {
            Some("no rule matches this request".to_owned())
        } else if voices.is_empty() {
            None
        } else {
            Some(voices.join("; "))
        }
    }
}

/// `approve by guests for 7d`, as far as the parts are given.
fn sentence(verdict: Verdict, by: Option<&str>, lasts: Option<SignedDuration>) -> String {
    let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
    let lasts = lasts.map(|lasts| format!(" for {}", in_words(lasts))).unwrap_or_default();
    format!("{verdict}{by}{lasts}")
}

/// Runs all tests of a policy, in alphabetical order.
pub(crate) fn run_tests(policy: &Policy) -> Vec<TestResult> {
    policy.tests.iter().map(|test| run(policy, test)).collect()
}

fn run(policy: &Policy, test: &PolicyTest) -> TestResult {
    let sent = test.at.checked_sub(test.request.ago).unwrap_or(test.at);
    let mut policy_state = PolicyState::restore(SavedState { history_complete: true, ..SavedState::default() });
    if let Some(agent) = &test.request.agent {
        policy_state.set_receiving_agent(ReceivingAgent::new(agent, None));
    }
    let mut past: Vec<(Timestamp, &TestHistory)> =
        test.history.iter().map(|one| (test.at.checked_sub(one.ago).unwrap_or(test.at), one)).collect();
    past.sort_by_key(|(at, _)| *at);
    let mut number = 0_u32;
    for (at, one) in past {
        for _ in 0..one.times {
            number += 1;
            if let Some(id) = id(&format!("history-{number}")) {
                happen(policy, &mut policy_state, one, &id, number, at);
            }
        }
    }
    let decision = id("test").map(|id| {
        for reply in &test.request.replies {
            policy_state.add_reply(&id, reply.clone());
        }
        policy_state.seen(&id, test.request.sender.handle(), sent);
        let request = ContactRequest {
            id,
            sender: test.request.sender.clone(),
            name: test.request.name.clone(),
            message: test.request.message.clone(),
            inserted_at: Some(sent),
            ids: None,
        };
        let circumstances = Circumstances {
            contacts: test.request.contacts,
            owner_is_contact: test.request.contact.map(|(owner, _)| owner),
            sender_is_contact: test.request.contact.map(|(_, sender)| sender),
            ..Circumstances::new(sent, ClockHealth::Sound)
        };
        policy.decide(&request, &circumstances, &policy_state, test.at)
    });
    let got = decision.unwrap_or_else(|| Decision::error(super::ErrorKind::Internal, policy.hash.clone()));
    let by = got.by.to_string();
    TestResult {
        name: test.name.clone(),
        passed: got.verdict == test.verdict
            && test.by.as_ref().is_none_or(|expected| *expected == by)
            && test.lasts.is_none_or(|expected| got.lasts == Some(expected)),
        expected: sentence(test.verdict, test.by.as_deref(), test.lasts),
        got,
        source: test.source,
        span: test.span.clone(),
    }
}

/// Ids that we make are always valid.
fn id(text: &str) -> Option<RequestId> {
    RequestId::parse(text).ok()
}

/// One request of the history: seen, answered, and perhaps its contact removed, all at one moment.
fn happen(
    policy: &Policy,
    policy_state: &mut PolicyState,
    past: &TestHistory,
    id: &RequestId,
    number: u32,
    at: Timestamp,
) {
    let Sender::Plain { handle, .. } = &past.sender else { return };
    policy_state.seen(id, Some(handle), at);
    let Some(answer) = past.verdict.answer() else { return };
    let index = past.by.as_ref().and_then(|name| policy.rules.binary_search_by(|rule| rule.name.cmp(name)).ok());
    let rule = index.and_then(|index| policy.rules.get(index));
    let by_word = rule.is_some_and(|rule| rule.ask.is_some());
    let by = match past.by.clone() {
        None => By::Person("test".into()),
        Some(name) if by_word => By::Ask(name),
        Some(name) => By::Rule(name),
    };
    let charges: Vec<_> = rule.and_then(|rule| rule.charge(handle)).into_iter().collect();
    policy_state.reserve(id, Some(handle), past.verdict, &by, &charges, at);
    let guest = past.lasts.or_else(|| rule.and_then(|rule| rule.lasts)).is_some();
    policy_state.settle_as(
        id,
        Some(handle),
        EndedAnswer {
            verdict: past.verdict,
            outcome: Outcome::Confirmed(answer),
            guest,
            by_person: false,
            sent: at,
            first_seen: at,
        },
        at,
    );
    if past.removed {
        // Removals are distinguished by their times.
        let apart = SignedDuration::from_micros(number.into());
        policy_state.removed(handle, at.checked_sub(apart).unwrap_or(at));
    }
}
