//! The book as it may have stood at a moment of the past, from what the record says was done.

use jiff::Timestamp;

use super::{Recorded, is_rule};
use crate::model::{Outcome, Verdict};
use crate::policy::{Book, By, Policy, RuleName, Truth};

/// Rebuilds the book for `policy` at the moment `at` from one agent's recorded requests, in order of first seen: who
/// asked, what was answered, and what that was charged to. What was approved up to `resumed` no longer counts towards
/// `approvals_max`. Pauses, holds and removed contacts are the caller's to add.
pub fn book_at(policy: &Policy, recorded: &[Recorded], resumed: Option<Timestamp>, at: Timestamp) -> Book {
    let mut book = Book::default();
    book.prune(policy, Timestamp::MIN);
    let mut answers: Vec<(Timestamp, &Recorded)> = Vec::new();
    for one in recorded.iter().filter(|one| one.circumstances.first_seen <= at) {
        book.seen(&one.request.id, one.request.sender.handle(), one.circumstances.first_seen);
        if let Some(answered) = one.answered_at.filter(|answered| *answered < at) {
            answers.push((answered, one));
        }
    }
    answers.sort_by_key(|(answered, _)| *answered);
    let mut resumed = resumed;
    for (answered, one) in answers {
        if resumed.take_if(|resumed| *resumed <= answered).is_some() {
            book.resume();
        }
        let (Some(verdict), Some(by)) = (one.verdict, &one.by) else { continue };
        let (id, handle) = (&one.request.id, one.request.sender.handle());
        let by = recorded_by(by);
        let charges = match (verdict, handle) {
            (Verdict::Approve, Some(handle)) => {
                let voices = policy.decide(&one.request, &one.circumstances, &book, answered).voices;
                let matched = |name: &RuleName| {
                    is_rule(one.by.as_deref(), name)
                        || voices.iter().any(|voice| voice.rule == *name && voice.truth == Truth::True)
                };
                let rules = policy.rules.iter().filter(|rule| !rule.shadow && matched(&rule.name));
                rules.filter_map(|rule| rule.charge(handle)).collect()
            }
            _ => Vec::new(),
        };
        book.reserve(id, handle, verdict, &by, &charges, answered);
        book.settle(id, handle, verdict, one.outcome.unwrap_or(Outcome::Unknown), answered);
    }
    if resumed.is_some() {
        book.resume();
    }
    book
}

/// What gave an answer: the record's text, as far as the book cares.
fn recorded_by(text: &str) -> By {
    match text.split_once(':') {
        Some(("person", name)) => By::Person(name.into()),
        Some(("overdue", name)) => RuleName::parse(name).map_or(By::NoMatch, By::Overdue),
        _ => RuleName::parse(text).map_or(By::NoMatch, By::Rule),
    }
}
