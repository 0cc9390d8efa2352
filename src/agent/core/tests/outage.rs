//! The platform is out of reach for a while: how rarely it is called meanwhile, and how soon everything continues after
//! that.

use super::*;
use crate::model::{ConnectFailure, RefusedBy};
use crate::phoenix::NoteName;
use crate::platform::Responded;

/// Lets seconds pass one by one, and answers every call with the result of `reply`.
fn seconds(harness: &mut CoreHarness, count: u32, reply: impl Fn(Answer) -> Result<Responded, CallError>) {
    for _ in 0..count {
        harness.wait(Duration::from_secs(1));
        answer(harness, &reply);
    }
}

/// Gives one reply to each answer in flight.
fn answer(harness: &mut CoreHarness, reply: impl Fn(Answer) -> Result<Responded, CallError>) {
    let mut sent = Vec::new();
    harness.actions.retain(|action| match action {
        Action::Respond { request, attempt, answer, .. } => {
            sent.push((request.clone(), *attempt, *answer));
            false
        }
        _ => true,
    });
    for (request, attempt, answer) in sent {
        let reply = Reply { result: reply(answer), date: None };
        let written = now(harness.at).mono;
        harness.input(Input::Responded { request, attempt, reply, written });
    }
}

fn error(fault: CallFault) -> CallError {
    CallError { fault, code: None, message: None, retry_after: None }
}

/// How many answers were sent, and how many log lines say that answers did not get through.
fn counted(harness: &CoreHarness) -> (usize, usize) {
    (harness.intents(), harness.notices.iter().filter(|notice| matches!(notice, Notice::Retry { .. })).count())
}

#[test]
fn answers_that_do_not_get_through_wait_together_and_longer_each_time() {
    for fault in [CallFault::Unreachable, CallFault::Throttled] {
        let names: Vec<String> = (0..40).map(|number| format!("r{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut harness = CoreHarness::new(SavedAgent::default());
        harness.listed_after(MINUTES, &names);
        for name in &names {
            harness.approve(name, false);
        }
        seconds(&mut harness, 90, |_| Err(error(fault)));
        let (sent, lines) = counted(&harness);
        assert!(sent < 20 && lines < 12, "{fault:?}: {sent} sent, {lines} lines");
        // The first that gets through ends the wait for all.
        let well = |answer: Answer| Ok(Responded { status: answer.status() });
        let begun = harness.at;
        while harness.core.pending().len() == names.len() {
            seconds(&mut harness, 1, well);
        }
        assert!(harness.at - begun <= Duration::from_secs(61), "{fault:?}");
        seconds(&mut harness, 20, well);
        assert!(harness.core.pending().is_empty(), "{fault:?}: {:?}", harness.core.pending().len());
    }
}

#[test]
fn a_connection_that_is_dead_starts_a_listing_at_once() {
    let mut harness = CoreHarness::of(ConnectionMode::Yield, SavedAgent::default(), Some(AGENT));
    harness.joins();
    harness.listed_after(Duration::ZERO, &[]);
    harness.listed_after(Duration::from_secs(35), &[]);
    assert_eq!(harness.core.state(), AgentState::Live);
    harness.actions.clear();
    let dead = |harness: &CoreHarness| {
        harness
            .notices
            .iter()
            .any(|notice| matches!(notice, Notice::Session(note) if note.name == NoteName::ConnectionDead))
    };
    while !dead(&harness) {
        assert!(
            !harness.actions.iter().any(|action| matches!(action, Action::Page(_))),
            "not before it is known to be dead"
        );
        harness.wait(Duration::from_secs(1));
    }
    assert!(harness.actions.iter().any(|action| matches!(action, Action::Page(_))), "{:?}", harness.actions);
}

#[test]
fn a_listing_that_is_through_pulls_a_waiting_redial() {
    let mut harness = CoreHarness::of(ConnectionMode::Yield, SavedAgent::default(), Some(AGENT));
    let conn = harness.joins();
    harness.listed_after(Duration::ZERO, &[]);
    harness.input(Input::Closed { conn, ended: None.into() });
    // The platform does not respond for ten minutes.
    let refused = || ConnectFailure {
        status: None,
        code: None,
        by: RefusedBy::Unknown,
        retry_after: None,
        asked: false,
        why: "connect: refused".to_owned(),
    };
    let mut refused_last = conn;
    let mut longest = Duration::ZERO;
    let mut since = harness.at;
    for _ in 0..600 {
        harness.wait(Duration::from_secs(1));
        let page = harness.actions.iter().position(|action| matches!(action, Action::Page(_)));
        if let Some(Action::Page(fetch)) = page.map(|at| harness.actions.remove(at)) {
            harness.input(Input::Page(fetch, Reply { result: Err(error(CallFault::Unreachable)), date: None }));
        }
        if let Some(conn) = harness.dials().filter(|conn| *conn != refused_last) {
            refused_last = conn;
            longest = longest.max(harness.at - since);
            since = harness.at;
            harness.input(Input::NotOpened { conn, refusal: refused() });
        }
    }
    assert!(longest > Duration::from_secs(30), "{longest:?}");
    // The platform is back: the next listing shows it, and the reconnection follows.
    while harness.actions.iter().all(|action| !matches!(action, Action::Page(_))) {
        harness.wait(Duration::from_secs(1));
    }
    harness.listed_after(Duration::ZERO, &[]);
    harness.wait(Duration::from_secs(1));
    assert_ne!(harness.dials(), Some(refused_last), "it dials within a second");
}
