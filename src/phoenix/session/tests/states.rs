//! Every row of the table of states, but for heartbeats, the listings' rhythm and the keys, over stepped time.

use super::*;

fn crash(stage: &mut SessionHarness, join_ref: &Value) {
    stage.frame(json!([join_ref, join_ref, CONTACTS, "phx_error", {"reason": "channel_crash"}]));
}

/// The ref of this topic's join that was sent last.
fn join_ref(stage: &mut SessionHarness, topic: &str) -> Value {
    let mut joins = stage.take_sent().into_iter().filter(|frame| frame[3] == "phx_join" && frame[2] == topic);
    joins.next_back().expect("a join of the topic")[1].clone()
}

/// Lets time pass until this topic is requested again, and returns the ref.
fn until_join(stage: &mut SessionHarness, topic: &str) -> Value {
    for _ in 0..50 {
        if stage.sent().iter().any(|frame| frame[2] == topic) {
            return join_ref(stage, topic);
        }
        stage.now = stage.now.max(stage.session.deadline().unwrap());
        stage.give(SessionInput::Tick);
        stage.answer_beats();
    }
    panic!("it does not join again");
}

#[test]
fn starting_until_something_is_known() {
    let mut stage = SessionHarness::of(ConnectionMode::Yield);
    assert_eq!(stage.state(), AgentState::Starting);
    stage.give(SessionInput::Start);
    assert_eq!(stage.out, [SessionOutput::Connect(ConnectPlan { take: false, key_in_query: false })], "at once");
    stage.give(SessionInput::Start);
    assert_eq!(stage.out.len(), 1, "once");
    stage.give(SessionInput::Opened);
    assert_eq!(stage.state(), AgentState::Starting);
    stage.answer_joins();
    assert_eq!(stage.state(), AgentState::Starting, "joined is not yet live");
    stage.give(SessionInput::Listed);
    assert_eq!(stage.states(), [AgentState::Live]);
}

#[test]
fn joined_means_list_and_listed_means_live() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.give(SessionInput::Listed);
    stage.give(SessionInput::Opened);
    stage.give(SessionInput::Listed);
    assert_eq!((stage.state(), stage.session.joined()), (AgentState::Starting, false), "a listing before the join");
    stage.answer_joins();
    assert!(stage.session.joined());
    assert_eq!(stage.lists(), 1);
    stage.give(SessionInput::Listed);
    assert_eq!(stage.state(), AgentState::Live);
}

#[test]
fn a_machine_that_slept_while_waiting_connects_once() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.give(SessionInput::NotOpened(refusal(Some(503))));
    stage.jump(seconds(8 * 3600));
    assert_eq!(stage.out.iter().filter(|output| matches!(output, SessionOutput::Connect(_))).count(), 1);
    stage.jump(seconds(8 * 3600));
    assert!(stage.closes(), "a dial without an end is given up");
    stage.until_connect();
}

#[test]
fn an_unanswered_join_is_late_after_15_s_and_asked_again_after_30() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.give(SessionInput::Opened);
    let first = join_ref(&mut stage, CONTACTS);
    stage.pass(Duration::from_millis(14_999));
    assert_eq!(stage.notes(NoteName::JoinTimeout), 0);
    stage.pass(Duration::from_millis(501));
    assert_eq!(stage.notes(NoteName::JoinTimeout), 2, "both channels");
    stage.pass(seconds(15));
    let second = join_ref(&mut stage, CONTACTS);
    assert_ne!(first, second);
    stage.frame(json!([first, first, CONTACTS, "phx_reply", {"status": "ok", "response": {}}]));
    assert!(!stage.session.joined(), "the first join's reply is not the second's");
    stage.frame(json!([second, second, CONTACTS, "phx_reply", {"status": "ok", "response": {}}]));
    assert!(stage.session.joined());
}

#[test]
fn the_late_reply_to_a_join_is_taken() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.give(SessionInput::Opened);
    let join = join_ref(&mut stage, CONTACTS);
    stage.pass(seconds(16));
    assert_eq!(stage.notes(NoteName::JoinTimeout), 2);
    stage.frame(json!([join, join, CONTACTS, "phx_reply", {"status": "ok", "response": {}}]));
    assert!(stage.session.joined());
    stage.event(
        json!(join),
        CONTACTS,
        "contact_request_received",
        json!({"id": "r1", "status": "pending", "inserted_at": "x"}),
    );
    assert_eq!(stage.received(), ["r1"]);
    stage.pass(seconds(20));
    assert!(stage.session.joined(), "and not asked again");
}

#[test]
fn five_failed_joins_in_a_row_and_it_is_a_new_socket() {
    for end in ["refused", "crashed in the join", "error", "close", "unanswered"] {
        let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
        stage.give(SessionInput::Opened);
        let mut join = join_ref(&mut stage, CONTACTS);
        for count in 1..=5 {
            let refused = |reason| json!([join, join, CONTACTS, "phx_reply", {"status": "error", "response": {"reason": reason}}]);
            let before = stage.now;
            match end {
                "refused" => stage.frame(refused("not now")),
                "crashed in the join" => stage.frame(refused("join crashed")),
                "error" => crash(&mut stage, &join),
                "close" => {
                    stage.frame(json!([join, join, CONTACTS, "phx_reply", {"status": "ok", "response": {}}]));
                    stage.give(SessionInput::Listed);
                    stage.frame(json!([join, join, CONTACTS, "phx_close", {}]));
                    assert_eq!(stage.state(), AgentState::Away);
                }
                // Here heartbeats get replies and joins do not.
                _ => stage.pass(seconds(15)),
            }
            assert_eq!(stage.closes(), count == 5, "{end}: {count}");
            if count < 5 {
                let next = until_join(&mut stage, CONTACTS);
                assert_ne!(next, join, "{end}: fresh refs");
                let ceiling = Duration::from_millis(500 << (count - 1)) + seconds(31);
                assert!(stage.now.since(before) <= ceiling, "{end}: {count}");
                join = next;
            }
        }
        assert_eq!(stage.state(), AgentState::Away, "{end}");
        stage.until_connect();
    }
}

#[test]
fn a_join_that_lasted_ends_the_row() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.give(SessionInput::Opened);
    for _ in 0..12 {
        let join = until_join(&mut stage, CONTACTS);
        stage.frame(json!([join, join, CONTACTS, "phx_reply", {"status": "ok", "response": {}}]));
        stage.pass(seconds(60));
        crash(&mut stage, &join);
        assert!(!stage.closes());
    }
}

#[test]
fn the_end_of_the_channel_is_the_end_of_live_and_another_joins_end_is_not() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    for frame in [
        json!(["77", "77", CONTACTS, "phx_error", {}]),
        json!(["77", "77", CONTACTS, "phx_close", {}]),
        json!(["1", "1", "agent_contacts:other", "phx_error", {}]),
        json!(["x", null, CONTACTS, "phx_close", {}]),
    ] {
        stage.frame(frame);
        assert_eq!((stage.state(), stage.session.joined()), (AgentState::Live, true));
    }
    stage.frame(json!([null, null, CONTACTS, "phx_error", {}]));
    assert_eq!((stage.state(), stage.session.joined()), (AgentState::Away, false), "without a join_ref it may be ours");
    stage.give(SessionInput::Listed);
    assert_eq!(stage.state(), AgentState::Away, "a listing without a join is not live");
}

#[test]
fn the_control_channel_never_costs_the_socket() {
    for reason in ["unmatched topic", "unauthorized", "whatever"] {
        let mut stage = SessionHarness::live(ConnectionMode::Yield);
        stage.frame(json!(["2", "2", CONTROL, "phx_error", {}]));
        stage.pass(seconds(1));
        let join = stage.take_sent()[0][1].clone();
        stage.frame(json!([null, join, CONTROL, "phx_reply", {"status": "error", "response": {"reason": reason}}]));
        stage.pass(seconds(3600));
        assert_eq!((stage.take_sent(), stage.state()), (vec![], AgentState::Live), "{reason}: not asked again");
    }
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    let mut join = json!("2");
    for count in 0..30 {
        let crash = match count % 2 {
            0 => json!([join, join, CONTROL, "phx_error", {}]),
            _ => json!([join, join, CONTROL, "phx_reply", {"status": "error", "response": {"reason": "join crashed"}}]),
        };
        stage.frame(crash);
        let before = stage.now;
        join = until_join(&mut stage, CONTROL);
        assert!(stage.now.since(before) <= seconds(60), "{count}: with backoff");
        assert_eq!(stage.state(), AgentState::Live, "{count}");
    }
    stage.pass(seconds(600));
    assert!(stage.take_sent().len() > 2, "unanswered, it is asked for again");
    assert_eq!((stage.state(), stage.closes()), (AgentState::Live, false));
}

#[test]
fn every_end_is_away_and_waits_within_the_backoff() {
    let ends: [fn(&mut SessionHarness); 6] = [
        |stage| stage.give(SessionInput::Closed(None.into())),
        |stage| stage.give(SessionInput::Closed(Some(1011).into())),
        |stage| stage.give(SessionInput::Closed(Some(4000).into())),
        |stage| stage.give(SessionInput::NotOpened(refusal(None))),
        |stage| stage.give(SessionInput::NotOpened(refusal(Some(404)))),
        |stage| stage.give(SessionInput::NotOpened(refusal(Some(502)))),
    ];
    for (which, end) in ends.into_iter().enumerate() {
        let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
        let mut longest = Duration::ZERO;
        for count in 0..300 {
            if which < 3 {
                stage.give(SessionInput::Opened);
            }
            end(&mut stage);
            assert_eq!(stage.state(), AgentState::Away, "{which}");
            let wait = stage.until_connect();
            let ceiling = Duration::from_millis(500 << count.min(7)).min(seconds(60));
            assert!(wait <= ceiling, "{which}: {wait:?} after {count}");
            longest = longest.max(wait);
        }
        assert!(longest > seconds(45), "{which}: {longest:?}, and it never gives up");
    }
}

#[test]
fn a_listing_that_is_through_pulls_the_redial_of_a_platform_that_was_out_of_reach() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    stage.give(SessionInput::Closed(None.into()));
    for status in [None, Some(503)] {
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            longest = longest.max(stage.until_connect());
            stage.give(SessionInput::NotOpened(refusal(status)));
        }
        assert!(longest > seconds(45), "{longest:?}");
        let mut waits = Vec::new();
        for _ in 0..50 {
            stage.give(SessionInput::Listed);
            assert_eq!(stage.state(), AgentState::Away, "there is no channel");
            waits.push(stage.until_connect());
            stage.give(SessionInput::NotOpened(refusal(status)));
        }
        let soon = waits.iter().all(|wait| *wait <= stage.session.config.timing.backoff_min);
        assert_eq!(soon, status.is_none(), "an answer, even a bad one, is the socket's own word: {waits:?}");
    }
    // One listing causes one attempt: the next attempt is as far away as before.
    stage.give(SessionInput::NotOpened(refusal(None)));
    let waits: Vec<_> = (0..50)
        .map(|_| {
            stage.give(SessionInput::NotOpened(refusal(None)));
            stage.until_connect()
        })
        .collect();
    assert!(waits.iter().any(|wait| *wait > seconds(30)), "{waits:?}");
}

#[test]
fn the_backoff_is_back_at_its_base_after_60_s_live_and_not_before() {
    for (live, back) in [(59, false), (60, true)] {
        let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
        for _ in 0..20 {
            stage.give(SessionInput::NotOpened(refusal(None)));
            stage.until_connect();
        }
        stage.go_live();
        stage.pass(seconds(live));
        stage.give(SessionInput::Closed(None.into()));
        let mut longest = stage.until_connect();
        for _ in 0..6 {
            stage.give(SessionInput::NotOpened(refusal(None)));
            longest = longest.max(stage.until_connect());
        }
        assert_eq!(longest <= seconds(32), back, "{live}: {longest:?}");
    }
}

#[test]
fn joined_without_being_listed_proves_nothing() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    let mut waits = Vec::new();
    for _ in 0..12 {
        stage.go_joined();
        stage.pass(seconds(3600));
        stage.give(SessionInput::Closed(None.into()));
        waits.push(stage.until_connect());
    }
    assert!(waits[4..].iter().any(|wait| *wait > seconds(8)), "{waits:?}");
}

#[test]
fn what_the_platform_asks_for_raises_the_floor() {
    for seed in 0..50 {
        let mut stage = SessionHarness::new(ConnectionMode::Yield, CredentialsMode::Auto, seed);
        stage.give(SessionInput::Start);
        let mut between = |input, from, to| {
            if matches!(input, SessionInput::Closed(_)) {
                stage.give(SessionInput::Opened);
            }
            stage.give(input);
            let wait = stage.until_connect();
            assert!((seconds(from)..=seconds(to)).contains(&wait), "{wait:?}");
            // Back to the base.
            stage.go_live();
            stage.pass(seconds(60));
            stage.give(SessionInput::Closed(None.into()));
            stage.until_connect();
        };
        let waits = |status, after| {
            SessionInput::NotOpened(ConnectFailure { retry_after: Some(seconds(after)), ..refusal(Some(status)) })
        };
        between(SessionInput::Closed(Some(1012).into()), 1, 5);
        between(SessionInput::Closed(Some(1013).into()), 30, 60);
        // A bare 429 waits for the brake that all agents share, and for plain backoff.
        between(SessionInput::NotOpened(refusal(Some(429))), 0, 1);
        between(waits(429, 120), 120, 121);
        between(waits(503, 7), 7, 8);
        between(waits(503, u64::MAX), 900, 901);
    }
}

#[test]
fn poll_never_opens_a_socket() {
    let mut stage = SessionHarness::of(ConnectionMode::Poll);
    stage.give(SessionInput::Start);
    assert_eq!(stage.states(), [AgentState::Polling]);
    stage.give(SessionInput::Listed);
    stage.pass(seconds(7 * 86_400));
    assert_eq!(stage.states(), [AgentState::Polling]);
    assert!(!stage.connects());
}

#[test]
fn stop_leaves_closes_and_is_silent() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    stage.give(SessionInput::Stop);
    let events: Vec<_> = stage.sent().into_iter().map(|frame| (frame[2].clone(), frame[3].clone())).collect();
    assert_eq!(events, [(json!(CONTACTS), json!("phx_leave")), (json!(CONTROL), json!("phx_leave"))]);
    assert_eq!(stage.out.last(), Some(&SessionOutput::Close));
    stage.out.clear();
    for input in [
        SessionInput::Tick,
        SessionInput::Start,
        SessionInput::Opened,
        SessionInput::Listed,
        SessionInput::KeyRenewed,
        SessionInput::Closed(None.into()),
        SessionInput::Stop,
    ] {
        stage.give(input);
    }
    stage.jump(seconds(86_400));
    assert_eq!((stage.out.len(), stage.session.deadline()), (0, None));
}

#[test]
fn a_socket_that_nobody_asked_for_is_closed() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.give(SessionInput::NotOpened(refusal(None)));
    stage.give(SessionInput::Opened);
    assert!(stage.closes());
    assert_eq!(stage.sent(), Vec::<Value>::new());
}

#[test]
fn unreadable_events_ask_for_one_listing_at_a_time() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    for _ in 0..1000 {
        stage.event(json!("1"), CONTACTS, "contact_request_received", json!({"id": null}));
    }
    assert_eq!((stage.lists(), stage.notes(NoteName::PayloadMalformed)), (1, 1000));
    stage.pass(seconds(29));
    assert_eq!(stage.lists(), 1);
    stage.pass(seconds(1));
    assert_eq!(stage.lists(), 2, "what came after the first is not forgotten");
    let again = |output: &&SessionOutput| matches!(output, SessionOutput::List(_));
    assert_eq!(stage.out.iter().filter(again).count(), 0, "what is being read is read on");
    stage.pass(seconds(3600));
    assert_eq!(stage.lists(), 2);
}

#[test]
fn an_enormous_frame_is_refused_and_survived() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    let enormous = format!(r#"["1",null,"{CONTACTS}","contact_removed",{{"id":"{}"}}]"#, "x".repeat(1 << 20));
    stage.give(SessionInput::Text(&enormous));
    assert_eq!((stage.notes(NoteName::FrameTooLong), stage.lists()), (1, 1));
    assert_eq!(stage.state(), AgentState::Live);
}
