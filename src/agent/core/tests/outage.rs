//! The platform is out of reach for a while: how rarely it is called meanwhile, and how soon everything continues after
//! that.

use super::*;
use crate::model::{ConnectFailure, RefusedBy};
use crate::phoenix::NoteName;
use crate::platform::Responded;

/// Lets seconds pass one by one, and answers every call with the result of `reply`.
fn seconds(held: &mut Held, count: u32, reply: impl Fn(Answer) -> Result<Responded, CallError>) {
    for _ in 0..count {
        held.wait(Duration::from_secs(1));
        answer(held, &reply);
    }
}

/// Gives one reply to each answer in flight.
fn answer(held: &mut Held, reply: impl Fn(Answer) -> Result<Responded, CallError>) {
    let mut sent = Vec::new();
    held.asked.retain(|action| match action {
        Action::Respond { request, attempt, answer, .. } => {
            sent.push((request.clone(), *attempt, *answer));
            false
        }
        _ => true,
    });
    for (request, attempt, answer) in sent {
        let reply = Reply { result: reply(answer), date: None };
        let written = now(held.at).mono;
        held.tell(Input::Responded { request, attempt, reply, written });
    }
}

fn error(fault: CallFault) -> CallError {
    CallError { fault, code: None, message: None, retry_after: None }
}

/// How many answers were sent, and how many log lines say that answers did not get through.
fn counted(held: &Held) -> (usize, usize) {
    (held.intents(), held.told.iter().filter(|notice| matches!(notice, Notice::Retry { .. })).count())
}

#[test]
fn answers_that_do_not_get_through_wait_together_and_longer_each_time() {
    for fault in [CallFault::Unreachable, CallFault::Throttled] {
        let names: Vec<String> = (0..40).map(|number| format!("r{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut held = Held::new(SavedAgent::default());
        held.listed_after(MINUTES, &names);
        for name in &names {
            held.approve(name, false);
        }
        seconds(&mut held, 90, |_| Err(error(fault)));
        let (sent, lines) = counted(&held);
        assert!(sent < 20 && lines < 12, "{fault:?}: {sent} sent, {lines} lines");
        // The first that gets through ends the wait for all.
        let well = |answer: Answer| Ok(Responded { status: answer.status() });
        let begun = held.at;
        while held.core.pending().len() == names.len() {
            seconds(&mut held, 1, well);
        }
        assert!(held.at - begun <= Duration::from_secs(61), "{fault:?}");
        seconds(&mut held, 20, well);
        assert!(held.core.pending().is_empty(), "{fault:?}: {:?}", held.core.pending().len());
    }
}

#[test]
fn a_connection_that_is_dead_starts_a_listing_at_once() {
    let mut held = Held::of(ConnectionMode::Yield, SavedAgent::default(), Some(AGENT));
    held.joins();
    held.listed_after(Duration::ZERO, &[]);
    held.listed_after(Duration::from_secs(35), &[]);
    assert_eq!(held.core.state(), AgentState::Live);
    held.asked.clear();
    let dead = |held: &Held| {
        held.told.iter().any(|notice| matches!(notice, Notice::Session(note) if note.name == NoteName::ConnectionDead))
    };
    while !dead(&held) {
        assert!(
            !held.asked.iter().any(|action| matches!(action, Action::Page(_))),
            "not before it is known to be dead"
        );
        held.wait(Duration::from_secs(1));
    }
    assert!(held.asked.iter().any(|action| matches!(action, Action::Page(_))), "{:?}", held.asked);
}

#[test]
fn a_listing_that_is_through_pulls_a_waiting_redial() {
    let mut held = Held::of(ConnectionMode::Yield, SavedAgent::default(), Some(AGENT));
    let conn = held.joins();
    held.listed_after(Duration::ZERO, &[]);
    held.tell(Input::Closed { conn, ended: None.into() });
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
    let mut since = held.at;
    for _ in 0..600 {
        held.wait(Duration::from_secs(1));
        let page = held.asked.iter().position(|action| matches!(action, Action::Page(_)));
        if let Some(Action::Page(fetch)) = page.map(|at| held.asked.remove(at)) {
            held.tell(Input::Page(fetch, Reply { result: Err(error(CallFault::Unreachable)), date: None }));
        }
        if let Some(conn) = held.dials().filter(|conn| *conn != refused_last) {
            refused_last = conn;
            longest = longest.max(held.at - since);
            since = held.at;
            held.tell(Input::NotOpened { conn, refusal: refused() });
        }
    }
    assert!(longest > Duration::from_secs(30), "{longest:?}");
    // The platform is back: the next listing shows it, and the reconnection follows.
    while held.asked.iter().all(|action| !matches!(action, Action::Page(_))) {
        held.wait(Duration::from_secs(1));
    }
    held.listed_after(Duration::ZERO, &[]);
    held.wait(Duration::from_secs(1));
    assert_ne!(held.dials(), Some(refused_last), "it dials within a second");
}
