//! What a recording contains, and what it must not contain.

use super::*;
use crate::transcript::{TranscriptLine, read};

fn recorded(text: bool, most: u64, work: impl FnOnce(&TranscriptRecorder, &AgentId)) -> (String, u32) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("transcript.jsonl");
    let redact = Redact::default();
    redact.add("band-key-of-the-porter");
    let recorder = TranscriptRecorder::open(&path, text, most, redact, Clock::start()).unwrap();
    work(&recorder, &AgentId::parse("a-1").unwrap());
    assert!(recorder.finish(files::TIME));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    (std::fs::read_to_string(&path).unwrap(), mode)
}

#[test]
fn a_key_is_not_written_even_if_the_platform_repeats_it_and_text_was_asked_for() {
    for text in [false, true] {
        let (written, mode) = recorded(text, RECORD_BYTES_MAX, |recorder, agent| {
            let plan = ConnectPlan { take: false, key_in_query: true };
            recorder.upgrade(agent, 1, plan);
            recorder.frame(agent, 1, Direction::In, r#"["1",null,"t","e",{"id":"band-key-of-the-porter"}]"#);
            recorder.frame(agent, 1, Direction::In, "no JSON: band-key-of-the-porter");
            let call = recorder.call(agent, "GET", "agent/me", None, None);
            recorder.answered(agent, call, 401, None, br#"{"error":{"code":"band-key-of-the-porter"}}"#);
            recorder.unanswered(agent, call, "band-key-of-the-porter");
        });
        assert!(!written.contains("porter"), "{written}");
        assert_eq!((read(&written).unwrap().len(), mode), (7, 0o600), "{written}");
    }
}

#[test]
fn text_is_kept_only_if_that_was_asked_for() {
    let say = |recorder: &TranscriptRecorder, agent: &AgentId| {
        recorder.frame(agent, 1, Direction::In, r#"["1",null,"t","e",{"from_handle":"ann","message":"hello"}]"#);
        recorder.frame(agent, 1, Direction::In, "hello ann");
    };
    let (with, _) = recorded(true, RECORD_BYTES_MAX, say);
    assert!(with.contains(r#""from_handle":"ann""#) && with.contains(r#""frame":"hello ann""#), "{with}");
    let (without, _) = recorded(false, RECORD_BYTES_MAX, say);
    assert!(!without.contains("ann") && !without.contains("hello"), "{without}");
    assert_eq!(read(&without).unwrap()[2].garbled, Some(9));
}

#[test]
fn a_file_that_is_full_ends_the_recording_and_says_so() {
    let (written, _) = recorded(false, 2_000, |recorder, agent| {
        (0..100).for_each(|_| recorder.binary(agent, 1, 7));
    });
    assert!(written.len() < 2_200, "{}", written.len());
    let lines = read(&written).unwrap();
    assert!(
        matches!(lines.last(), Some(TranscriptLine { note: Some(note), .. }) if note.contains("its bound")),
        "{written}"
    );
}

#[test]
fn a_file_is_appended_to_made_private_and_never_reached_by_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.jsonl");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    for _ in 0..2 {
        TranscriptRecorder::open(&path, false, RECORD_BYTES_MAX, Redact::default(), Clock::start())
            .unwrap()
            .finish(files::TIME);
    }
    assert_eq!(read(&std::fs::read_to_string(&path).unwrap()).unwrap().len(), 2);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(TranscriptRecorder::open(&link, false, RECORD_BYTES_MAX, Redact::default(), Clock::start()).is_err());
    assert!(
        TranscriptRecorder::open(directory.path(), false, RECORD_BYTES_MAX, Redact::default(), Clock::start()).is_err()
    );
}
