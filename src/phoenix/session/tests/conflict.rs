//! Who has the one connection: yielding, taking, ghosts and fights, over stepped time.

use super::*;

fn conflict() -> SessionInput<'static> {
    SessionInput::NotOpened(ConnectFailure { code: Some("connection_conflict".to_owned()), ..refusal(Some(409)) })
}

fn supersede(stage: &mut SessionHarness) {
    stage.event(Value::Null, CONTROL, "supersede", json!({"reason": "new_connection", "retryable": false}));
}

#[test]
fn every_connect_of_yield_rejects_and_of_take_supersedes() {
    for (mode, take) in [(ConnectionMode::Yield, false), (ConnectionMode::Take, true)] {
        let mut stage = SessionHarness::of(mode);
        stage.give(SessionInput::Start);
        for _ in 0..10 {
            assert_eq!(stage.plan().unwrap().take, take);
            stage.give(SessionInput::NotOpened(refusal(None)));
            stage.out.clear();
            stage.jump(seconds(60));
        }
    }
}

#[test]
fn a_conflict_yields_and_is_tried_every_5_min() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    for count in 0..5 {
        stage.give(conflict());
        assert_eq!(stage.state(), AgentState::Yielded);
        assert_eq!(stage.states().len(), usize::from(count == 0), "said once");
        assert_eq!(stage.until_connect(), seconds(300));
    }
    stage.give(SessionInput::Opened);
    stage.answer_joins();
    assert_eq!(stage.state(), AgentState::Yielded, "until it is live");
    stage.give(SessionInput::Listed);
    assert_eq!(stage.state(), AgentState::Live);
}

#[test]
fn a_conflict_soon_after_our_own_drop_may_be_our_ghost() {
    let drops: [fn(&mut SessionHarness); 3] = [
        |stage| stage.give(SessionInput::Closed(None.into())),
        |stage| {
            // The platform accepts the next attempt, but its reply is lost.
            stage.give(SessionInput::Closed(Some(1012).into()));
            stage.until_connect();
            stage.give(SessionInput::NotOpened(ConnectFailure { asked: true, ..refusal(None) }));
        },
        |stage| {
            stage.answers_beats = false;
            stage.jump(seconds(55));
        },
    ];
    for drop in drops {
        let mut stage = SessionHarness::live(ConnectionMode::Yield);
        drop(&mut stage);
        let dropped = stage.now;
        stage.until_connect();
        let mut tries = 0;
        while stage.now.since(dropped) < seconds(90) {
            stage.give(conflict());
            assert_eq!(stage.state(), AgentState::Away);
            let wait = stage.until_connect();
            assert!((seconds(15)..=seconds(20)).contains(&wait), "{wait:?}");
            tries += 1;
        }
        assert!(tries >= 4);
        stage.give(conflict());
        assert_eq!(stage.state(), AgentState::Yielded, "a ghost does not live so long");
    }
}

#[test]
fn a_conflict_after_a_clean_end_is_no_ghost() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    stage.give(SessionInput::Closed(Some(1012).into()));
    stage.until_connect();
    stage.give(conflict());
    assert_eq!(stage.state(), AgentState::Yielded);
}

#[test]
fn a_supersede_yields_at_once() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    supersede(&mut stage);
    assert!(stage.closes());
    assert_eq!(stage.states(), [AgentState::Yielded]);
    stage.give(SessionInput::Closed(Some(1000).into()));
    assert_eq!(stage.states(), [AgentState::Yielded], "the close that follows means nothing more");
    assert_eq!(stage.until_connect(), seconds(300));
}

#[test]
fn three_short_connections_within_10_min_are_somebody_elses_doing() {
    for code in [1000, 1001] {
        let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
        stage.older = true;
        for count in 1..=3 {
            stage.go_joined();
            stage.pass(seconds(59));
            stage.give(SessionInput::Closed(Some(code).into()));
            let wanted = if count < 3 { AgentState::Away } else { AgentState::Yielded };
            assert_eq!(stage.state(), wanted, "{code}: {count}");
            let wait = stage.until_connect();
            assert_eq!(wait == seconds(300), count == 3, "{code}: {count}: {wait:?}");
        }
        // The platform has shown that it does not support `on_conflict`: one more loss is enough. Since each attempt
        // disconnects the other client, attempts become rarer.
        for wait in [600, 1200, 2400, 4800, 4800] {
            stage.go_joined();
            stage.give(SessionInput::Closed(Some(code).into()));
            assert_eq!(stage.state(), AgentState::Yielded);
            assert_eq!(stage.until_connect(), seconds(wait));
        }
        // Until a connection lasts.
        stage.go_live();
        stage.pass(seconds(61));
        stage.give(SessionInput::Closed(Some(1012).into()));
        stage.until_connect();
        stage.go_joined();
        stage.give(SessionInput::Closed(Some(code).into()));
        assert_eq!(stage.state(), AgentState::Away);
    }
}

#[test]
fn ends_that_are_long_apart_late_or_of_another_kind_are_not() {
    let endless = |code: Option<u16>, joined: bool, lives: u64, pause: u64| {
        let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
        stage.older = true;
        for _ in 0..12 {
            match joined {
                true => stage.go_joined(),
                false => stage.give(SessionInput::Opened),
            }
            stage.pass(seconds(lives));
            stage.give(SessionInput::Closed(code.into()));
            assert_eq!(stage.state(), AgentState::Away, "{code:?} {joined} {lives} {pause}");
            stage.until_connect();
            // Connecting is slow here.
            for _ in 0..pause / 30 {
                stage.pass(seconds(30));
                stage.give(SessionInput::NotOpened(refusal(None)));
                stage.until_connect();
            }
        }
    };
    endless(Some(1001), true, 61, 0);
    endless(Some(1001), true, 1, 301);
    endless(Some(1001), false, 1, 0);
    endless(Some(1012), true, 1, 0);
    endless(Some(1011), true, 1, 0);
    endless(None, true, 1, 0);
}

#[test]
fn what_proves_a_connection_shows_a_short_one_too() {
    for (lives, state) in [(4, AgentState::Yielded), (5, AgentState::Away)] {
        let mut stage = SessionHarness::of(ConnectionMode::Yield);
        stage.session.config.timing.proven_after = seconds(5);
        stage.older = true;
        stage.give(SessionInput::Start);
        for _ in 0..3 {
            stage.go_joined();
            stage.pass(seconds(lives));
            stage.give(SessionInput::Closed(Some(1000).into()));
            stage.until_connect();
        }
        assert_eq!(stage.state(), state, "{lives} s");
    }
}

#[test]
fn take_fights_twice_and_then_yields_for_10_min() {
    let losses: [fn(&mut SessionHarness); 3] = [
        |stage| {
            stage.go_live();
            supersede(stage);
        },
        |stage| {
            stage.go_live();
            stage.give(SessionInput::Closed(Some(1000).into()));
        },
        |stage| stage.give(conflict()),
    ];
    for (which, lose) in losses.into_iter().enumerate() {
        let mut stage = SessionHarness::dialling(ConnectionMode::Take);
        // Only an older platform signals it by the close alone.
        stage.older = which == 1;
        for count in 1..=6 {
            lose(&mut stage);
            let third = count % 3 == 0;
            assert_eq!(stage.notes(NoteName::ConnectionFight), usize::from(third), "{which}: {count}");
            let wanted = if third { AgentState::Yielded } else { AgentState::Away };
            assert_eq!(stage.state(), wanted, "{which}: {count}");
            let wait = stage.until_connect();
            assert_eq!(wait == seconds(600), third, "{which}: {count}: {wait:?}");
        }
    }
}

#[test]
fn take_that_is_seldom_disturbed_does_not_yield() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Take);
    for _ in 0..10 {
        stage.go_live();
        stage.pass(seconds(301));
        supersede(&mut stage);
        assert_eq!(stage.state(), AgentState::Away);
        stage.until_connect();
    }
}

#[test]
fn a_platform_that_says_who_took_the_place_is_believed_when_it_says_nothing() {
    // By the join of the control channel, by a conflict, by a supersede.
    let shows: [fn(&mut SessionHarness); 3] = [
        |stage| stage.older = false,
        |stage| {
            stage.give(conflict());
            stage.until_connect();
        },
        |stage| {
            stage.go_joined();
            supersede(stage);
            stage.until_connect();
        },
    ];
    for mode in [ConnectionMode::Yield, ConnectionMode::Take] {
        for show in shows {
            let mut stage = SessionHarness::dialling(mode);
            stage.older = true;
            show(&mut stage);
            // A rolling restart: each new connection is closed again soon.
            for _ in 0..6 {
                stage.go_joined();
                stage.pass(seconds(5));
                stage.give(SessionInput::Closed(Some(1001).into()));
                assert_eq!(stage.state(), AgentState::Away, "{mode:?}");
                assert!(stage.until_connect() <= seconds(60));
            }
            assert_eq!(stage.notes(NoteName::ConnectionFight), 0);
        }
    }
}

#[test]
fn take_does_not_count_the_end_of_a_connection_that_was_proven() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Take);
    stage.older = true;
    for _ in 0..6 {
        stage.go_live();
        stage.pass(seconds(61));
        stage.give(SessionInput::Closed(Some(1000).into()));
        assert_eq!(stage.state(), AgentState::Away);
        stage.until_connect();
    }
}

#[test]
fn an_agent_that_comes_and_goes_is_a_case_for_poll() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    for gap in 1..=3 {
        assert_eq!(stage.session.remarks(), [""; 0], "{gap}");
        stage.give(conflict());
        stage.until_connect();
        stage.go_live();
        stage.pass(seconds(3600));
        stage.give(SessionInput::Closed(Some(1012).into()));
        stage.until_connect();
    }
    let [remark] = &stage.session.remarks()[..] else { panic!() };
    assert!(remark.contains("`connection = \"poll\"`"), "{remark}");
    stage.jump(seconds(25 * 3600));
    assert_eq!(stage.session.remarks(), [""; 0]);
}
