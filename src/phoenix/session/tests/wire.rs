//! Recorded messages of real servers, played from `tests/fixtures/phoenix`, whose README explains the lines. The
//! client's messages are compared exactly; each test adds a check of the result.

use std::collections::VecDeque;
use std::path::Path;

use super::*;
use crate::platform::Supersede;
use crate::transcript::{self, Direction, TranscriptLine};

/// Plays a transcript against a session. If it wants the client to act, time passes until it does.
struct Player {
    stage: SessionHarness,
    /// Actions of the session on the wire that the transcript has not yet expected.
    acts: VecDeque<Act>,
    /// How long each connect took.
    waits: Vec<Duration>,
    waiting_since: Mono,
}

#[derive(Debug, PartialEq)]
enum Act {
    Connect(ConnectPlan),
    Send(Value),
    Close,
}

fn play(name: &str) -> Player {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/phoenix").join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let stage = SessionHarness::of(ConnectionMode::Yield);
    let waiting_since = stage.now;
    let mut player = Player { stage, acts: VecDeque::new(), waits: Vec::new(), waiting_since };
    player.give(SessionInput::Start);
    let lines = transcript::read(&text).unwrap_or_else(|error| panic!("{name}.jsonl: {error}"));
    assert_eq!(lines.len(), text.lines().count());
    for (count, line) in lines.iter().enumerate() {
        let place = format!("{name}.jsonl:{}", count + 1);
        match line.dir {
            Some(Direction::Out) => player.want(line, &place),
            Some(Direction::In) => player.say(line, &place),
            None => assert!(line.note.is_some(), "{place}: a line without `dir` is a note"),
        }
    }
    assert!(player.acts.is_empty(), "{name}: the client did more than was recorded: {:?}", player.acts);
    player
}

impl Player {
    fn give(&mut self, input: SessionInput<'_>) {
        let from = self.stage.out.len();
        self.stage.give(input);
        let acts = self.stage.out[from..].iter().filter_map(|output| match output {
            SessionOutput::Connect(plan) => Some(Act::Connect(*plan)),
            SessionOutput::Send(text) => Some(Act::Send(serde_json::from_str(text).unwrap())),
            SessionOutput::Close => Some(Act::Close),
            _ => None,
        });
        self.acts.extend(acts);
    }

    fn want(&mut self, line: &TranscriptLine, place: &str) {
        if line.stop == Some(true) {
            return self.give(SessionInput::Stop);
        }
        for _ in 0..20 {
            if self.acts.is_empty() {
                self.stage.now = self.stage.now.max(self.stage.session.deadline().expect("a deadline"));
                self.give(SessionInput::Tick);
            }
        }
        let act = self.acts.pop_front().unwrap_or_else(|| panic!("{place}: the client does nothing"));
        match act {
            Act::Connect(plan) => {
                let upgrade = line.upgrade.as_ref().unwrap_or_else(|| panic!("{place}: the client connects"));
                assert_eq!(upgrade.vsn.as_deref(), Some("2.0.0"), "{place}");
                let wanted = if plan.take { "supersede" } else { "reject" };
                assert_eq!(upgrade.on_conflict.as_deref(), Some(wanted), "{place}");
                self.waits.push(self.stage.now.since(self.waiting_since));
            }
            Act::Send(frame) => {
                let events = ["phx_join", "phx_leave", "heartbeat"];
                assert!(events.iter().any(|&event| frame[3] == event), "a client sends nothing else: {frame}");
                assert_eq!(line.frame.as_ref(), Some(&frame), "{place}");
            }
            Act::Close => assert!(line.close.is_some(), "{place}: the client closes"),
        }
    }

    fn say(&mut self, line: &TranscriptLine, place: &str) {
        if let Some(frame) = &line.frame {
            let text = frame.as_str().map_or_else(|| frame.to_string(), str::to_owned);
            self.give(SessionInput::Text(&text));
        } else if let Some(length) = line.binary {
            self.give(SessionInput::Binary(length as usize));
        } else if let Some(code) = line.close {
            self.waiting_since = self.stage.now;
            self.give(SessionInput::Closed(code.into()));
        } else if let Some(upgrade) = &line.upgrade {
            if upgrade.status == Some(101) {
                return self.give(SessionInput::Opened);
            }
            self.waiting_since = self.stage.now;
            self.give(SessionInput::NotOpened(ConnectFailure {
                status: upgrade.status,
                code: upgrade.code.clone(),
                by: if upgrade.code.is_some() { RefusedBy::Platform } else { RefusedBy::Empty },
                retry_after: upgrade.retry_after.map(seconds),
                asked: false,
                why: upgrade.error.clone().unwrap_or_else(|| "refused".to_owned()),
            }));
        } else {
            panic!("{place}: the platform says nothing");
        }
    }

    fn joined(&self) -> bool {
        self.stage.session.joined()
    }
}

#[test]
fn a_join_is_answered_and_listed_after() {
    let played = play("join");
    assert!(played.joined());
    assert_eq!(played.stage.lists(), 1);
}

#[test]
fn the_join_of_anothers_topic_asks_whose_the_key_is() {
    let played = play("join_foreign_topic");
    assert!(!played.joined());
    assert!(played.stage.has(&SessionOutput::Identify));
    assert_eq!(played.stage.notes(NoteName::JoinRefused), 1);
}

#[test]
fn a_reply_without_join_ref_is_matched_by_ref() {
    let mut played = play("join_unmatched_topic");
    assert!(played.joined());
    assert_eq!(played.stage.notes(NoteName::JoinRefused), 1, "the control channel's, and matched");
    played.stage.take_sent();
    played.stage.pass(seconds(300));
    assert_eq!(played.stage.take_sent(), Vec::<Value>::new(), "it is never asked for again on this socket");
    assert!(!played.stage.closes());
}

#[test]
fn a_join_that_crashes_is_asked_again_with_fresh_refs() {
    assert!(play("join_crashed").joined());
}

#[test]
fn heartbeats_are_answered_by_ref() {
    let mut played = play("heartbeat");
    played.stage.pass(seconds(54));
    assert!(!played.stage.closes());
}

#[test]
fn events_come_with_and_without_join_ref() {
    assert_eq!(play("event_broadcast").stage.received(), ["r1"]);
    let pushed = play("event_pushed");
    assert_eq!(pushed.stage.received(), ["r1"], "a join_ref of no join of ours is dropped");
    assert_eq!(pushed.stage.notes(NoteName::JoinStale), 1);
}

#[test]
fn the_end_of_an_old_join_is_not_the_end_of_the_new() {
    let played = play("second_join");
    assert!(played.joined());
    assert_eq!(played.stage.received(), ["r1"]);
    assert_eq!(played.stage.notes(NoteName::JoinStale), 1);
}

#[test]
fn leaving_waits_for_nothing() {
    for name in ["leave", "leave_unanswered"] {
        let played = play(name);
        assert_eq!(played.stage.session.deadline(), None, "{name}");
    }
}

#[test]
fn a_channel_that_ends_is_joined_again() {
    for (name, note) in [
        ("channel_crash", NoteName::ChannelCrashed),
        ("channel_crash_old", NoteName::ChannelCrashed),
        ("channel_stop", NoteName::ChannelClosed),
    ] {
        let played = play(name);
        assert!(played.joined(), "{name}");
        assert_eq!(played.stage.notes(note), 1, "{name}");
        assert_eq!(played.stage.lists(), 2, "{name}: listed after each join");
    }
    assert_eq!(play("channel_crash").stage.received(), ["r1"]);
}

#[test]
fn a_crash_of_the_control_channel_touches_nothing_else() {
    let played = play("control_crash");
    assert!(played.joined());
    assert_eq!((played.stage.received(), played.stage.lists()), (vec!["r1".to_owned()], 1));
}

#[test]
fn a_reply_that_nobody_waits_for_is_ignored() {
    let played = play("push_not_joined");
    assert_eq!(played.stage.notes(NoteName::ReplyUnmatched), 1);
    assert_eq!(played.stage.received(), ["r1"]);
}

#[test]
fn a_slow_join_costs_no_connection() {
    let played = play("slow_join");
    assert!(played.joined());
    assert_eq!(played.stage.received(), ["r1"]);
}

#[test]
fn binary_frames_are_ignored() {
    let played = play("binary");
    assert_eq!(played.stage.notes(NoteName::FrameBinary), 1);
    assert_eq!(played.stage.received(), ["r1"]);
}

#[test]
fn frames_may_be_spelt_in_any_way() {
    let played = play("whitespace_and_numbers");
    assert!(played.joined());
    assert_eq!(played.stage.received(), ["r1"]);
}

#[test]
fn what_is_malformed_is_counted_and_survived() {
    let played = play("malformed");
    assert_eq!(played.stage.notes(NoteName::FrameMalformed), 8);
    assert_eq!(played.stage.notes(NoteName::PayloadMalformed), 2);
    assert_eq!(played.stage.notes(NoteName::EventUnknown), 1);
    assert_eq!(played.stage.notes(NoteName::TopicUnknown), 1);
    assert_eq!(played.stage.received(), ["r1"]);
    assert_eq!(played.stage.lists(), 2, "the join's, and one for all that could not be read");
}

#[test]
fn a_supersede_is_logged_and_obeyed() {
    let played = play("control_events");
    let supersede = played.stage.out.iter().find_map(|output| match output {
        SessionOutput::Superseded(Supersede { reason, .. }) => reason.clone(),
        _ => None,
    });
    assert_eq!(supersede.unwrap().raw(), "new_connection");
    assert_eq!(played.stage.notes(NoteName::EventUnknown), 1);
    assert_eq!(played.stage.state(), AgentState::Yielded);
}

#[test]
fn every_end_is_followed_by_a_new_connection() {
    for code in [1000, 1001, 1002, 1007, 1009, 1011, 1012, 1013] {
        let played = play(&format!("end_{code}"));
        assert!(played.joined(), "{code}");
        let (from, to) = match code {
            1012 => (seconds(1), seconds(5)),
            1013 => (seconds(30), seconds(60)),
            _ => (Duration::ZERO, Duration::from_millis(500)),
        };
        assert!((from..=to).contains(&played.waits[1]), "{code}: {:?}", played.waits);
    }
    assert!(play("end_killed").joined());
}

#[test]
fn every_refused_upgrade_is_tried_again() {
    for (name, from, to) in [
        ("upgrade_403", 0, 1),
        ("upgrade_409", 300, 300),
        ("upgrade_429", 30, 31),
        ("upgrade_503", 20, 21),
        ("upgrade_500", 0, 1),
        ("upgrade_400", 0, 1),
    ] {
        let played = play(name);
        assert!((seconds(from)..=seconds(to)).contains(&played.waits[1]), "{name}: {:?}", played.waits);
        assert_eq!(played.stage.has(&SessionOutput::Identify), name == "upgrade_403", "{name}");
        assert_ne!(played.stage.state(), AgentState::Refused, "{name}: only REST says so");
    }
}

#[test]
fn the_older_serializer_is_no_panic() {
    let played = play("upgrade_without_vsn");
    assert_eq!(played.stage.notes(NoteName::FrameMalformed), 1);
}

#[test]
fn events_flow_while_the_list_is_read() {
    let played = play("join_then_list");
    let order =
        played.stage.out.iter().filter(|output| matches!(output, SessionOutput::List(_) | SessionOutput::Event(_)));
    let order: Vec<_> = order.map(|output| matches!(output, SessionOutput::List(_))).collect();
    assert_eq!(order, [true, false, false, false, false, false], "listed after the reply, events at once");
    assert_eq!(played.stage.received(), ["r1", "r2"]);
    assert_ne!(played.stage.state(), AgentState::Live, "not before the list is through");
}

#[test]
fn every_transcript_is_played() {
    let source = include_str!("wire.rs");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/phoenix");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_suffix(".jsonl") {
            let played = source.contains(&format!("\"{name}\"")) || name.starts_with("end_1");
            assert!(played, "{name}.jsonl is played by no test");
        }
    }
}
