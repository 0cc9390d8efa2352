//! Transcripts: what one doorman and the platform said to each other, one JSON object a line. `doorman run --record`
//! writes them, `doorman sandbox --replay` and the tests of the session play them. `docs/transcripts.md` is the format.
//!
//! This module owns the lines and what they may contain: never a key, and strangers' text only if that was requested.
//! It decides nothing, and a recording that fails never delays the daemon.

mod pseudonymize;
mod recorder;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub(crate) use recorder::{RECORD_BYTES_MAX, TranscriptRecorder};

/// The version that a header line names.
pub(crate) const VERSION: u32 = 1;
/// Largest transcript that is read (bytes).
pub(crate) const READ_BYTES_MAX: usize = 256 << 20;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The client: doorman.
    Out,
    /// The platform.
    In,
}

/// One line. Exactly one of the fields after `note` is present; none of them in a header or in a line with only a note.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TranscriptLine {
    /// The header's version; a header begins a run of doorman.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcript: Option<u32>,
    /// Milliseconds since the run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// The agent's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The number of the agent's connection, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conn: Option<u64>,
    /// Who sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<Direction>,
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The upgrade request, or its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
    /// A text frame: as JSON; or as a string with the exact text of the frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<Value>,
    /// A text frame that is not JSON and not included: its length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub garbled: Option<u64>,
    /// A binary frame: its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<u64>,
    /// The end of the connection: its close code, or null if there was none.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub close: Option<Option<u16>>,
    /// The client was ordered to leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<bool>,
    /// A REST call, or its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<RestLine>,
}

/// An upgrade. Out: the query without any key. In: the reply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upgrade {
    /// The serializer's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vsn: Option<String>,
    /// `reject` or `supersede`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<String>,
    /// How the key went: `header` or `query`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The HTTP status; 101 means that the socket is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The platform's error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// Why there was no reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A REST call. Out: `method`, `path`, `query`, `body`. In: `status` and `body`, or `error`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestLine {
    /// The number that links a call and its reply; counted through the run.
    pub call: u64,
    /// `GET` or `POST`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Below `/api/v1/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Without the question mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<String>,
    /// JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// A body that is not JSON and not included: its length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub garbled: Option<u64>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Distinguishes `null` from an absent field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u16>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Why a text is not a valid transcript.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Over `READ_BYTES_MAX`.
    #[error("it has more than {READ_BYTES_MAX} bytes")]
    TooLong,
    /// A line that is not valid.
    #[error("line {line} is not a line of a transcript: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Written by a later version.
    #[error("line {line} names version {version}, and this doorman reads {VERSION}: use a newer one")]
    Version {
        /// From 1.
        line: usize,
        /// The version named in the header.
        version: u32,
    },
}

/// Reads a transcript. Ignores unknown keys, empty lines, and a last line that was cut off.
///
/// # Errors
///
/// A line that is not valid, a newer version, or a text that is too long.
pub fn read(text: &str) -> Result<Vec<TranscriptLine>, ReadError> {
    if text.len() > READ_BYTES_MAX {
        return Err(ReadError::TooLong);
    }
    let mut lines = Vec::new();
    for (count, text) in text.split_inclusive('\n').enumerate() {
        let line = count + 1;
        if text.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<TranscriptLine>(text) {
            Ok(TranscriptLine { transcript: Some(version), .. }) if version > VERSION => {
                return Err(ReadError::Version { line, version });
            }
            Ok(read) => lines.push(read),
            // The daemon that wrote it was killed.
            Err(error) if error.is_eof() && !text.ends_with('\n') => {}
            Err(error) => return Err(ReadError::Line { line, why: error.to_string() }),
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were() {
        let text = r#"{"transcript":1,"note":"a header"}
{"at":5,"agent":"a","conn":1,"dir":"out","upgrade":{"vsn":"2.0.0","on_conflict":"reject","key":"header"}}
{"at":6,"agent":"a","conn":1,"dir":"in","frame":["1",null,"t","e",{}]}
{"at":7,"agent":"a","conn":1,"dir":"in","close":null}
{"at":8,"agent":"a","dir":"in","rest":{"call":1,"status":200,"body":{"data":[]}}}
"#;
        let lines = read(text).unwrap();
        assert_eq!(lines[3].close, Some(None), "an end without a code is an end");
        let back: String = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        assert_eq!(back, text);
    }

    #[test]
    fn what_is_no_transcript_is_refused_with_its_place() {
        assert!(matches!(read("{}\nhello\n"), Err(ReadError::Line { line: 2, .. })));
        assert!(matches!(read("{\"dir\":\"sideways\"}"), Err(ReadError::Line { line: 1, .. })));
        assert!(matches!(read("{\"transcript\":2}"), Err(ReadError::Version { line: 1, version: 2 })));
        assert_eq!(read("\n{\"later\":\"key\"}\n{\"frame\":[\"cut o").unwrap(), [TranscriptLine::default()]);
    }
}
