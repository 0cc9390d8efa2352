//! Turns the lines of a transcript into a script: the platform's side of each connection, with the points at which it
//! waits for the client, and the calls with their replies.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde_json::Value;

use crate::transcript::{Direction, RestLine, TranscriptLine, Upgrade};

/// A longer recorded pause is shortened to this when it is played.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// The path of the client's answers.
pub(super) const RESPOND: &str = "agent/contacts/requests/respond";

/// Why a transcript cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// It has several agents, and none was chosen.
    #[error("it is the transcript of several agents: choose one with `--replay-agent`, such as `{0}`")]
    Several(String),
    /// It has no such agent.
    #[error("there is no agent `{0}` in it")]
    Unknown(String),
    /// It contains nothing to play.
    #[error("the platform says nothing in it")]
    Empty,
}

/// The script.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// The recorded agent.
    pub(super) agent: Option<String>,
    pub(super) conns: Vec<RecordedConnection>,
    pub(super) calls: Vec<Exchange>,
}

/// One recorded connection, or a refused attempt.
#[derive(Debug, Clone, Default)]
pub(super) struct RecordedConnection {
    pub(super) answer: Upgrade,
    pub(super) steps: Vec<RecordedStep>,
    /// For each heartbeat of the client, whether it was answered.
    pub(super) beats: Vec<bool>,
    /// The time of its last line.
    last: Option<u64>,
    /// The refs of the heartbeats.
    beat_refs: Vec<Value>,
}

#[derive(Debug, Clone)]
pub(super) struct RecordedStep {
    /// The pause since the line before.
    pub(super) pause: Duration,
    /// How many answers of the client had been sent before.
    pub(super) after: usize,
    pub(super) what: PlatformStep,
}

/// What the platform does next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PlatformStep {
    /// Waits for the client to send this.
    Await { join_ref: Value, reference: Value, topic: String, event: String },
    /// Sends a frame, with the client's refs in place of the recorded ones.
    Frame(Vec<Value>),
    /// Sends a text as it is.
    Text(String),
    /// Sends this many bytes that are not JSON.
    Garbled(u64),
    /// Sends this many bytes in a binary frame.
    Binary(u64),
    /// Ends the connection, with this code or without a close frame.
    End(Option<u16>),
}

/// A recorded call with its answer.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) call: RestLine,
    pub(super) answer: RestLine,
    pub(super) took: Duration,
}

impl Script {
    /// The script for one agent; if `agent` is left out, the transcript must have only one.
    ///
    /// # Errors
    ///
    /// Several agents and none chosen, no such agent, or nothing said.
    pub fn of(lines: &[TranscriptLine], agent: Option<&str>) -> Result<Self, ScriptError> {
        let agents: BTreeSet<&str> = lines.iter().filter_map(|line| line.agent.as_deref()).collect();
        let agent = match (agent, agents.len()) {
            (Some(agent), _) if agents.contains(agent) => Some(agent.to_owned()),
            (Some(agent), _) => return Err(ScriptError::Unknown(agent.to_owned())),
            (None, 0) => topic_agent(lines),
            (None, 1) => agents.first().map(|&agent| agent.to_owned()),
            (None, _) => return Err(ScriptError::Several(agents.first().map_or("", |&agent| agent).to_owned())),
        };
        let mut maker = Maker::default();
        for line in lines {
            if line.transcript.is_some() {
                maker.run += 1;
            }
            if line.agent.is_none() || line.agent == agent {
                maker.take(line);
            }
        }
        let script = Self { agent, conns: maker.conns, calls: maker.calls };
        if script.conns.is_empty() && script.calls.is_empty() { Err(ScriptError::Empty) } else { Ok(script) }
    }
}

/// The agent that the topics name.
fn topic_agent(lines: &[TranscriptLine]) -> Option<String> {
    let topics = lines.iter().filter_map(|line| line.frame.as_ref()?.get(2)?.as_str()?.split_once(':'));
    topics.map(|(_, agent)| agent.to_owned()).next()
}

#[derive(Default)]
struct Maker {
    run: u64,
    answers: usize,
    conns: Vec<RecordedConnection>,
    calls: Vec<Exchange>,
    /// The place in `conns` by run and number.
    places: HashMap<(u64, u64), usize>,
    /// Calls without an answer yet, by run and number.
    open: HashMap<(u64, u64), (RestLine, u64)>,
}

impl Maker {
    fn take(&mut self, line: &TranscriptLine) {
        if let Some(rest) = &line.rest {
            return self.call(line, rest);
        }
        let (Some(dir), number) = (line.dir, line.conn.unwrap_or(0)) else { return };
        if let (Direction::Out, Some(_)) = (dir, &line.upgrade) {
            self.places.insert((self.run, number), self.conns.len());
            self.conns.push(RecordedConnection { last: line.at, ..RecordedConnection::default() });
            return;
        }
        let Some(conn) = self.places.get(&(self.run, number)).and_then(|&index| self.conns.get_mut(index)) else {
            return;
        };
        let pause = Duration::from_millis(line.at.unwrap_or(0).saturating_sub(conn.last.unwrap_or(0))).min(PAUSE_MAX);
        conn.last = line.at.or(conn.last);
        if let Some(what) = conn.take(dir, line) {
            conn.steps.push(RecordedStep { pause, after: self.answers, what });
        }
    }

    fn call(&mut self, line: &TranscriptLine, rest: &RestLine) {
        let (key, at) = ((self.run, rest.call), line.at.unwrap_or(0));
        if line.dir == Some(Direction::Out) {
            self.answers += usize::from(rest.path.as_deref() == Some(RESPOND));
            self.open.insert(key, (rest.clone(), at));
        } else if let Some((call, sent)) = self.open.remove(&key) {
            let took = Duration::from_millis(at.saturating_sub(sent)).min(PAUSE_MAX);
            self.calls.push(Exchange { call, answer: rest.clone(), took });
        }
    }
}

impl RecordedConnection {
    fn take(&mut self, dir: Direction, line: &TranscriptLine) -> Option<PlatformStep> {
        match dir {
            Direction::Out => self.heard(line.frame.as_ref()?.as_array()?),
            Direction::In => self.said(line),
        }
    }

    fn heard(&mut self, frame: &[Value]) -> Option<PlatformStep> {
        let [join_ref, reference, Value::String(topic), Value::String(event), _] = frame else { return None };
        if event == "heartbeat" {
            self.beats.push(false);
            self.beat_refs.push(reference.clone());
            return None;
        }
        Some(PlatformStep::Await {
            join_ref: join_ref.clone(),
            reference: reference.clone(),
            topic: topic.clone(),
            event: event.clone(),
        })
    }

    fn said(&mut self, line: &TranscriptLine) -> Option<PlatformStep> {
        if let Some(upgrade) = &line.upgrade {
            self.answer = upgrade.clone();
            return None;
        }
        if let Some(frame) = &line.frame {
            return match frame {
                Value::String(text) => Some(PlatformStep::Text(text.clone())),
                Value::Array(frame) if frame.get(2).and_then(Value::as_str) == Some("phoenix") => {
                    if let Some(index) = self.beat_refs.iter().position(|beat| Some(beat) == frame.get(1)) {
                        self.beats[index] = true;
                    }
                    None
                }
                Value::Array(frame) => Some(PlatformStep::Frame(frame.clone())),
                other => Some(PlatformStep::Text(other.to_string())),
            };
        }
        let other = line.garbled.map(PlatformStep::Garbled).or(line.binary.map(PlatformStep::Binary));
        other.or(line.close.map(PlatformStep::End))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::read;

    #[test]
    fn every_fixture_can_be_played() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/phoenix");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                let script = Script::of(&read(&std::fs::read_to_string(&path).unwrap()).unwrap(), None).unwrap();
                assert!(!script.conns.is_empty(), "{}", path.display());
            }
        }
    }

    #[test]
    fn connections_that_overlap_and_runs_are_kept_apart() {
        let text = r#"{"transcript":1}
{"agent":"a","conn":1,"dir":"out","upgrade":{}}
{"agent":"a","conn":1,"dir":"in","upgrade":{"status":101}}
{"agent":"a","conn":2,"dir":"out","upgrade":{}}
{"agent":"a","conn":1,"dir":"in","close":null}
{"agent":"a","conn":2,"dir":"in","upgrade":{"status":409}}
{"transcript":1}
{"agent":"a","conn":1,"dir":"out","upgrade":{}}
{"agent":"a","conn":1,"dir":"in","upgrade":{"status":503}}
"#;
        let script = Script::of(&read(text).unwrap(), None).unwrap();
        let answers: Vec<_> = script.conns.iter().map(|conn| conn.answer.status.unwrap()).collect();
        assert_eq!(answers, [101, 409, 503]);
        assert_eq!(script.conns[0].steps[0].what, PlatformStep::End(None));
    }

    #[test]
    fn one_agent_is_played_at_a_time() {
        let text =
            "{\"agent\":\"a\",\"dir\":\"out\",\"upgrade\":{}}\n{\"agent\":\"b\",\"dir\":\"out\",\"upgrade\":{}}\n";
        let lines = read(text).unwrap();
        assert_eq!(Script::of(&lines, None).unwrap_err(), ScriptError::Several("a".into()));
        assert_eq!(Script::of(&lines, Some("c")).unwrap_err(), ScriptError::Unknown("c".into()));
        assert_eq!(Script::of(&lines, Some("b")).unwrap().conns.len(), 1);
        assert_eq!(Script::of(&[], None).unwrap_err(), ScriptError::Empty);
    }

    #[test]
    fn heartbeats_are_no_steps_but_it_is_kept_which_were_answered() {
        let text = r#"{"dir":"out","upgrade":{}}
{"dir":"out","frame":[null,"3","phoenix","heartbeat",{}]}
{"dir":"in","frame":[null,"3","phoenix","phx_reply",{"status":"ok","response":{}}]}
{"dir":"out","frame":[null,"4","phoenix","heartbeat",{}]}
"#;
        let script = Script::of(&read(text).unwrap(), None).unwrap();
        assert_eq!((script.conns[0].beats.as_slice(), script.conns[0].steps.len()), (&[true, false][..], 0));
    }

    #[test]
    fn whatever_is_left_of_a_transcript_is_played_or_refused() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/phoenix");
        let text = std::fs::read_to_string(folder.join("malformed.jsonl")).unwrap();
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
            // Cuts off the end, and then also the beginning.
            for part in [&text[..end], text[..end].split_once('\n').map_or("", |(_, rest)| rest)] {
                if let Ok(lines) = read(part) {
                    let _ = Script::of(&lines, None);
                }
            }
            let odd = text.replacen(&text[end..text.ceil_char_boundary(end + 1)], "7", 1);
            if let Ok(lines) = read(&odd) {
                let _ = Script::of(&lines, None);
            }
        }
    }
}
