//! The key: how it is sent, who refuses it, and whose it is, under stepped time.

use super::*;

fn refused() -> SessionInput<'static> {
    SessionInput::KeyRefused("the platform refuses the key (http 401)".to_owned())
}

fn ours() -> SessionInput<'static> {
    SessionInput::KeyAccepted(Some(agent("agent-1")))
}

/// Lets time pass until the next question of whose the key is, and returns how long that took.
fn until_probe(stage: &mut SessionHarness) -> Duration {
    let from = stage.now;
    stage.out.clear();
    while !stage.has(&SessionOutput::Identify) {
        assert!(!stage.connects(), "no socket while the key is refused");
        stage.now = stage.now.max(stage.session.deadline().unwrap());
        stage.give(SessionInput::Tick);
    }
    stage.now.since(from)
}

fn refuse_join(stage: &mut SessionHarness) {
    let join = stage.sent().into_iter().rfind(|frame| frame[2] == CONTACTS).unwrap()[1].clone();
    stage.out.clear();
    stage
        .frame(json!([join, join, CONTACTS, "phx_reply", {"status": "error", "response": {"reason": "unauthorized"}}]));
}

#[test]
fn an_unauthorized_join_is_settled_by_whose_the_key_is() {
    for (answer, state) in [
        (ours(), AgentState::Starting),
        (SessionInput::KeyAccepted(Some(agent("AGENT-1"))), AgentState::Starting),
        (SessionInput::IdentityUnknown, AgentState::Starting),
        (SessionInput::KeyAccepted(None), AgentState::Starting),
        (SessionInput::KeyAccepted(Some(agent("agent-2"))), AgentState::Refused),
        (refused(), AgentState::Refused),
    ] {
        let label = format!("{answer:?}");
        let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
        stage.give(SessionInput::Opened);
        refuse_join(&mut stage);
        assert!(stage.has(&SessionOutput::Identify));
        stage.give(answer);
        assert_eq!(stage.state(), state, "{label}");
        assert_eq!(stage.closes(), state == AgentState::Refused, "{label}");
        stage.out.clear();
        stage.pass(seconds(1));
        let joins = stage.sent().iter().filter(|frame| frame[2] == CONTACTS).count();
        assert_eq!(joins, usize::from(state != AgentState::Refused), "{label}: again with backoff, or not at all");
    }
}

#[test]
fn a_foreign_key_is_named_and_only_its_owner_ends_it() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    stage.give(SessionInput::KeyAccepted(Some(agent("agent-2"))));
    let why = stage.out.iter().find_map(|output| match output {
        SessionOutput::State(AgentState::Refused, why) => Some(why.clone()),
        _ => None,
    });
    assert_eq!(why.unwrap(), "this key belongs to `agent-2`");
    stage.give(SessionInput::KeyAccepted(None));
    assert_eq!(stage.state(), AgentState::Refused, "the other agent's listing is accepted, too");
    until_probe(&mut stage);
    stage.give(ours());
    assert!(stage.connects());
}

#[test]
fn an_unauthorized_join_is_asked_about_once_at_a_time() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.give(SessionInput::Opened);
    refuse_join(&mut stage);
    assert!(stage.has(&SessionOutput::Identify));
    for _ in 0..3 {
        stage.out.clear();
        while !stage.sent().iter().any(|frame| frame[2] == CONTACTS) {
            stage.now = stage.session.deadline().unwrap();
            stage.give(SessionInput::Tick);
        }
        refuse_join(&mut stage);
        assert!(!stage.has(&SessionOutput::Identify), "the first question is still open");
    }
}

#[test]
fn a_refused_key_closes_the_socket_and_is_probed_every_1_to_15_min() {
    for (mut stage, dialled) in [
        (SessionHarness::live(ConnectionMode::Yield), true),
        (SessionHarness::dialling(ConnectionMode::Take), true),
        (SessionHarness::of(ConnectionMode::Poll), false),
    ] {
        stage.give(SessionInput::Start);
        stage.give(refused());
        assert_eq!((stage.state(), stage.closes()), (AgentState::Refused, dialled));
        for wanted in [60, 120, 240, 480, 900, 900, 900] {
            let wait = until_probe(&mut stage);
            assert!((seconds(wanted * 9 / 10)..=seconds(wanted)).contains(&wait), "{wait:?} of {wanted}");
            stage.give(refused());
            // Other replies that were in flight change nothing.
            stage.give(refused());
            stage.give(refused());
        }
        until_probe(&mut stage);
        stage.give(ours());
        assert_eq!(stage.connects(), dialled);
        let state = if dialled { AgentState::Away } else { AgentState::Polling };
        assert_eq!(stage.state(), state);
        assert!(stage.plan().is_none_or(|plan| !plan.key_in_query));
    }
}

#[test]
fn a_probe_without_an_answer_is_repeated() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    stage.give(refused());
    for _ in 0..5 {
        let wait = until_probe(&mut stage);
        assert!(wait <= seconds(900));
    }
    stage.give(SessionInput::IdentityUnknown);
    assert_eq!(stage.state(), AgentState::Refused, "silence accepts nothing");
    until_probe(&mut stage);
}

#[test]
fn the_wait_is_short_again_only_after_the_key_was_proven() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    stage.give(refused());
    until_probe(&mut stage);
    stage.give(ours());
    stage.give(refused());
    let wait = until_probe(&mut stage);
    assert!(wait > seconds(60), "accepted here and refused there is no new refusal: {wait:?}");
    stage.give(ours());
    stage.go_live();
    stage.give(refused());
    assert!(until_probe(&mut stage) <= seconds(60));
}

#[test]
fn a_new_key_is_probed_at_once() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    stage.give(SessionInput::KeyRenewed);
    assert_eq!(stage.out, [], "nothing to correct");
    stage.give(refused());
    stage.out.clear();
    stage.give(SessionInput::KeyRenewed);
    assert!(stage.has(&SessionOutput::Identify));
    stage.give(ours());
    assert!(stage.connects());
}

#[test]
fn nothing_that_is_late_opens_a_socket_with_a_refused_key() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.give(refused());
    stage.out.clear();
    stage.give(SessionInput::Opened);
    assert!(stage.closes(), "the dial that was under way");
    for input in [
        SessionInput::Closed(None.into()),
        SessionInput::NotOpened(refusal(None)),
        SessionInput::Listed,
        SessionInput::Text("[null,null,\"x\",\"y\",{}]"),
        SessionInput::KeyAccepted(None),
    ] {
        stage.give(input);
    }
    assert_eq!((stage.state(), stage.connects(), stage.sent()), (AgentState::Refused, false, vec![]));
}

#[test]
fn auto_tries_the_query_once_if_rest_accepts_the_key() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.give(SessionInput::NotOpened(refusal(Some(403))));
    assert!(stage.has(&SessionOutput::Identify));
    assert_eq!(stage.state(), AgentState::Away, "a refused upgrade alone is away");
    stage.out.clear();
    stage.give(ours());
    assert_eq!(stage.plan(), Some(ConnectPlan { take: false, key_in_query: true }), "at once");
    assert_eq!(stage.notes(NoteName::CredentialsFallback), 1);
    assert_eq!(stage.session.remarks().len(), 1);
    // The query was refused as well: it is never used again with this key.
    stage.out.clear();
    for turn in 0..5 {
        stage.give(SessionInput::NotOpened(refusal(Some(403))));
        stage.give(ours());
        stage.jump(seconds(60));
        assert!(!stage.plan().unwrap().key_in_query, "{turn}");
        assert!(stage.session.remarks()[0].contains("in the header again"));
        assert_eq!(stage.notes(NoteName::CredentialsFallback), 1, "{turn}");
        stage.out.retain(|output| matches!(output, SessionOutput::Note(_)));
    }
    // Another key may.
    stage.give(SessionInput::KeyChanged);
    assert_eq!(stage.session.remarks(), [""; 0]);
    stage.give(SessionInput::NotOpened(refusal(Some(403))));
    stage.out.clear();
    stage.give(ours());
    assert!(stage.plan().unwrap().key_in_query);
}

#[test]
fn the_query_is_kept_if_it_works() {
    for works in [SessionInput::Opened, SessionInput::NotOpened(refusal(Some(409)))] {
        let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
        stage.give(SessionInput::NotOpened(refusal(Some(403))));
        stage.give(ours());
        let opened = matches!(works, SessionInput::Opened);
        stage.give(works);
        if opened {
            stage.give(SessionInput::Closed(Some(1012).into()));
        }
        for status in [None, Some(500), Some(429)] {
            stage.out.clear();
            stage.jump(seconds(600));
            assert!(stage.plan().unwrap().key_in_query);
            stage.give(SessionInput::NotOpened(refusal(status)));
        }
        assert!(stage.session.remarks()[0].contains("access logs"));
    }
}

#[test]
fn an_answer_that_comes_while_dialling_again_counts_for_the_next_time() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.give(SessionInput::NotOpened(refusal(Some(403))));
    stage.until_connect();
    stage.give(ours());
    assert_eq!(stage.notes(NoteName::CredentialsFallback), 1);
    stage.give(SessionInput::NotOpened(refusal(Some(500))));
    stage.out.clear();
    // The try that was under way had the header: the one try of the query is still to come.
    stage.jump(seconds(60));
    assert!(stage.plan().unwrap().key_in_query);
}

#[test]
fn something_in_between_refuses_no_key_and_leaks_none() {
    let page = || {
        SessionInput::NotOpened(ConnectFailure {
            by: RefusedBy::Between("<html>".to_owned()),
            why: "upgrade: http 403 <html>".to_owned(),
            ..refusal(Some(403))
        })
    };
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    for turn in 0..5 {
        stage.give(page());
        assert!(!stage.has(&SessionOutput::Identify), "{turn}");
        assert_eq!(stage.state(), AgentState::Away);
        stage.give(ours());
        stage.jump(seconds(60));
        assert!(!stage.plan().unwrap().key_in_query, "{turn}");
        stage.out.retain(|output| matches!(output, SessionOutput::Note(_)));
    }
    let loud = |output: &&SessionOutput| matches!(output, SessionOutput::Note(note) if note.name == NoteName::BlockedInBetween && note.level == NoteLevel::Warn);
    assert_eq!(stage.out.iter().filter(loud).count(), 1, "loudly once");
    // A conflict that a system in between reports does not count.
    let conflict = ConnectFailure { by: RefusedBy::Between("x".to_owned()), ..refusal(Some(409)) };
    stage.give(SessionInput::NotOpened(conflict));
    assert_eq!(stage.state(), AgentState::Away);
}

#[test]
fn a_platform_behind_something_is_away_and_not_refused_until_a_listing_is_through() {
    let blocked = || SessionInput::Blocked("http 403: <html>".to_owned());
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    stage.give(blocked());
    assert_eq!((stage.state(), stage.closes()), (AgentState::Away, false), "the socket stays");
    stage.give(SessionInput::Listed);
    assert_eq!(stage.state(), AgentState::Live);
    let mut stage = SessionHarness::of(ConnectionMode::Poll);
    stage.give(SessionInput::Start);
    stage.give(blocked());
    assert_eq!(stage.state(), AgentState::Away);
    stage.give(SessionInput::Listed);
    assert_eq!(stage.state(), AgentState::Polling);
}

#[test]
fn nothing_else_puts_the_key_into_the_query() {
    let in_query = |credentials, status, answer| {
        let mut stage = SessionHarness::new(ConnectionMode::Yield, credentials, 1);
        stage.give(SessionInput::Start);
        stage.give(SessionInput::NotOpened(refusal(status)));
        stage.give(answer);
        stage.out.clear();
        stage.jump(seconds(60));
        stage.plan().unwrap().key_in_query
    };
    for status in [None, Some(400), Some(401), Some(404), Some(429), Some(500), Some(503)] {
        assert!(!in_query(CredentialsMode::Auto, status, ours()), "{status:?}");
    }
    assert!(!in_query(CredentialsMode::Auto, Some(403), SessionInput::IdentityUnknown));
    assert!(!in_query(CredentialsMode::Auto, Some(403), SessionInput::KeyAccepted(None)));
    assert!(!in_query(CredentialsMode::Header, Some(403), ours()));
    assert!(in_query(CredentialsMode::Query, None, SessionInput::IdentityUnknown));
}

#[test]
fn an_upgrade_that_was_refused_before_one_that_was_not_is_forgotten() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.give(SessionInput::NotOpened(refusal(Some(403))));
    stage.until_connect();
    stage.give(SessionInput::Opened);
    stage.give(SessionInput::Closed(None.into()));
    stage.give(ours());
    stage.jump(seconds(60));
    assert!(!stage.plan().unwrap().key_in_query);
}
