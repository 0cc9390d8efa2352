//! Heartbeats: when they are sent, and when the connection counts as dead.

use super::*;

#[test]
fn beats_every_25_s_give_or_take_a_tenth() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    let mut gaps = Vec::new();
    let mut last = stage.now;
    for _ in 0..200 {
        stage.now = stage.session.deadline().unwrap();
        stage.give(SessionInput::Tick);
        assert_eq!(stage.sent().len(), 1);
        stage.answer_beats();
        gaps.push(stage.now.since(last));
        last = stage.now;
    }
    let range = Duration::from_millis(22_500)..=Duration::from_millis(27_500);
    assert!(gaps.iter().all(|gap| range.contains(gap)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap < seconds(24)) && gaps.iter().any(|gap| *gap > seconds(26)), "jittered");
    assert_eq!(stage.state(), AgentState::Live);
}

#[test]
fn without_a_heartbeat_reply_for_55_s_the_connection_is_dead() {
    let mut stage = SessionHarness::dialling(ConnectionMode::Yield);
    stage.answers_beats = false;
    stage.go_live();
    stage.pass(Duration::from_millis(54_999));
    assert!(!stage.closes());
    let beats: Vec<_> = stage.take_sent();
    assert_eq!(beats.len(), 2);
    // Neither events nor replies to something else prove that it lives.
    stage.event(Value::Null, CONTACTS, "contact_removed", json!({"id": "c1"}));
    stage.frame(json!([null, "999", "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    stage.pass(Duration::from_millis(1));
    assert!(stage.closes());
    assert_eq!((stage.state(), stage.notes(NoteName::ConnectionDead)), (AgentState::Away, 1));
    stage.until_connect();
}

#[test]
fn a_late_heartbeat_reply_counts_for_what_it_answers() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    stage.answers_beats = false;
    stage.pass(seconds(54));
    let first = stage.take_sent()[0].clone();
    stage.frame(json!([null, first[1], "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    stage.pass(seconds(54));
    assert!(!stage.closes());
    stage.frame(json!([null, first[1], "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    stage.pass(seconds(1));
    assert!(stage.closes(), "the same reply twice is no second sign of life");
}

#[test]
fn a_machine_that_slept_finds_the_connection_dead_and_beats_no_more() {
    let mut stage = SessionHarness::live(ConnectionMode::Yield);
    stage.jump(seconds(8 * 3600));
    assert!(stage.closes());
    assert_eq!(stage.sent(), Vec::<Value>::new(), "nothing is made up for");
    stage.until_connect();
    stage.go_live();
    stage.jump(seconds(54));
    assert_eq!(stage.sent().len(), 1, "one beat, however many were missed");
    stage.jump(Duration::ZERO);
    assert_eq!(stage.sent().len(), 1);
}
