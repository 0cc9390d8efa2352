//! Frames of serializer 2.0.0: `[join_ref, ref, topic, event, payload]`, in both directions \[docs\], \[phx\]. Parsing
//! borrows from the text where it can, is bounded, and does not interpret a frame.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::platform::row::{Field, RowFields};

/// Longest frame that is read (bytes). Its payload is only passed over: whoever needs a field parses that one.
pub(crate) const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// The only messages that a client sends: a channel crashes on an event that it does not know \[phx\].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// Joins a topic; its ref becomes the join's.
    Join,
    /// Leaves a topic. Nothing waits for the reply.
    Leave,
    /// Keeps the connection; on the topic `HEARTBEAT_TOPIC`.
    Heartbeat,
}

/// The topic of heartbeats.
pub(crate) const HEARTBEAT_TOPIC: &str = "phoenix";

/// A frame from the server.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    /// The join it belongs to, if it says so.
    pub join_ref: Option<Ref>,
    /// The push that it replies to, if it is a reply.
    pub reference: Option<Ref>,
    /// The channel.
    pub topic: Cow<'a, str>,
    /// The event.
    pub event: Cow<'a, str>,
    /// The payload: JSON of any form and depth.
    pub payload: &'a RawValue,
}

/// A ref, as far as it could be one of ours: those are whole numbers from 1, sent as decimal text. Servers give them
/// back as text or as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ref {
    /// Perhaps ours.
    Number(u64),
    /// Certainly not ours.
    Foreign,
}

impl Ref {
    /// Whether it is this ref of ours.
    pub fn is(self, ours: u64) -> bool {
        self == Ref::Number(ours)
    }
}

/// Why a text is not a frame. Contains none of that text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameProblem {
    /// Over `FRAME_BYTES_MAX`.
    #[error("a frame of {0} bytes is over the bound of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// Cut off, not JSON, or nested too deeply.
    #[error("a frame of {0} bytes is not JSON")]
    NotJson(usize),
    /// JSON, but no array of five with these types.
    #[error("a frame of {0} bytes is not `[join_ref, ref, topic, event, payload]`")]
    NotAFrame(usize),
}

/// Reads a frame. Extra whitespace and any order of keys are fine; missing, extra or mistyped elements are not.
pub fn parse(text: &str) -> Result<Frame<'_>, FrameProblem> {
    if text.len() > FRAME_BYTES_MAX {
        return Err(FrameProblem::TooLong(text.len()));
    }
    let WireFrame(join_ref, reference, topic, event, payload) =
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => FrameProblem::NotAFrame(text.len()),
            Category::Io | Category::Syntax | Category::Eof => FrameProblem::NotJson(text.len()),
        })?;
    Ok(Frame { join_ref, reference, topic, event, payload })
}

/// Writes a frame. A join's `join_ref` is its own ref; a heartbeat has none.
pub(crate) fn encode(push: Push, join_ref: Option<u64>, reference: u64, topic: &str) -> String {
    let event = match push {
        Push::Join => "phx_join",
        Push::Leave => "phx_leave",
        Push::Heartbeat => "heartbeat",
    };
    let text = |number: u64| Value::String(number.to_string());
    let join_ref = join_ref.map_or(Value::Null, text);
    Value::Array(vec![join_ref, text(reference), topic.into(), event.into(), Value::Object(serde_json::Map::new())])
        .to_string()
}

/// The answer to a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushReply<'a> {
    /// `ok`.
    Ok,
    /// `error`, with its `reason` if it has one; that is the server's text, so it must not be shown unescaped.
    Refused(Option<Cow<'a, str>>),
}

/// Reads the payload of a `phx_reply`. Any status but `ok` is a refusal; `None` if there is no status at all.
pub fn reply(payload: &RawValue) -> Option<PushReply<'_>> {
    let payload = RowFields::of(payload)?;
    let Field::Text(status) = payload.field("status") else { return None };
    if status == "ok" {
        return Some(PushReply::Ok);
    }
    let reason = match payload.object("response").map(|response| response.field("reason")) {
        Some(Field::Text(reason)) => Some(reason),
        Some(Field::Absent | Field::NotText | Field::NoCharacter) | None => None,
    };
    Some(PushReply::Refused(reason))
}

#[derive(serde::Deserialize)]
struct WireFrame<'a>(
    Option<Ref>,
    Option<Ref>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] &'a RawValue,
);

impl<'de> Deserialize<'de> for Ref {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RefVisitor)
    }
}

struct RefVisitor;

impl Visitor<'_> for RefVisitor {
    type Value = Ref;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or null")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ref, E> {
        // Only refs as we write them: `07` and `+7` are not ours.
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        Ok(text.parse().ok().filter(|_| plain).map_or(Ref::Foreign, Ref::Number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Ref, E> {
        Ok(Ref::Number(number))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Ref, E> {
        Ok(Ref::Foreign)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Ref, E> {
        Ok(Ref::Foreign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_send_is_what_was_recorded() {
        for (push, join_ref, reference, topic, frame) in [
            (Push::Join, Some(1), 1, "agent_contacts:agent-1", r#"["1","1","agent_contacts:agent-1","phx_join",{}]"#),
            (Push::Leave, Some(1), 2, "agent_contacts:agent-1", r#"["1","2","agent_contacts:agent-1","phx_leave",{}]"#),
            (Push::Heartbeat, None, 7, HEARTBEAT_TOPIC, r#"[null,"7","phoenix","heartbeat",{}]"#),
            (Push::Join, Some(1), 1, "odd\"\\", r#"["1","1","odd\"\\","phx_join",{}]"#),
        ] {
            assert_eq!(encode(push, join_ref, reference, topic), frame);
        }
    }

    #[test]
    fn refs_are_text_or_numbers_or_null() {
        for (text, join_ref, reference) in [
            (r#"["1","12","t","e",{}]"#, Some(Ref::Number(1)), Some(Ref::Number(12))),
            (r#"[1,12,"t","e",{}]"#, Some(Ref::Number(1)), Some(Ref::Number(12))),
            (r#"[null,null,"t","e",{}]"#, None, None),
            (r#"["07","+7","t","e",{}]"#, Some(Ref::Foreign), Some(Ref::Foreign)),
            (r#"["","x","t","e",{}]"#, Some(Ref::Foreign), Some(Ref::Foreign)),
            (r#"[-1,7.0,"t","e",{}]"#, Some(Ref::Foreign), Some(Ref::Foreign)),
            (r#"["99999999999999999999999",1e9,"t","e",{}]"#, Some(Ref::Foreign), Some(Ref::Foreign)),
        ] {
            let frame = parse(text).unwrap();
            assert_eq!((frame.join_ref, frame.reference), (join_ref, reference), "{text}");
        }
    }

    #[test]
    fn whitespace_escapes_and_any_order_of_keys_are_fine() {
        let frame =
            parse(" [ null ,\n\"7\", \"ph\\u006fenix\" , \"phx_reply\",\t{\"status\":\"ok\",\"response\":{}} ]\n");
        let frame = frame.unwrap();
        assert_eq!((frame.topic.as_ref(), frame.event.as_ref()), ("phoenix", "phx_reply"));
        assert_eq!(reply(frame.payload), Some(PushReply::Ok));
        let other = parse(r#"[null,"7","phoenix","phx_reply",{"response":{},"status":"ok"}]"#).unwrap();
        assert_eq!((frame.topic, frame.event), (other.topic.clone(), other.event));
        assert_eq!(reply(other.payload), Some(PushReply::Ok));
        assert!(matches!(other.topic, Cow::Borrowed(_)), "nothing is copied without need");
    }

    #[test]
    fn what_is_malformed_is_refused_by_kind() {
        for text in ["", "nul", "[", r#"["1","1","t","e""#, "[1,2,\"t\",\"e\",{}] x", "\u{0}", r#"["1","1","t","e",{]"#]
        {
            assert_eq!(parse(text).unwrap_err(), FrameProblem::NotJson(text.len()), "{text:.40}");
        }
        for text in [
            "{}",
            "7",
            "[]",
            r#"["1","1","t","e"]"#,
            r#"[[],"1","t","e",{}]"#,
            r#"["1",true,"t","e",{}]"#,
            r#"["1","1",null,"e",{}]"#,
            r#"["1","1","t",5,{}]"#,
            r#"{"topic":"t","event":"e","payload":{},"ref":"1"}"#,
        ] {
            assert_eq!(parse(text).unwrap_err(), FrameProblem::NotAFrame(text.len()), "{text}");
        }
        assert!(parse(r#"["1","1","t","e",{},6]"#).is_err());
    }

    #[test]
    fn a_payload_of_any_depth_is_passed_over() {
        let deep = format!("{}{}", "[".repeat(FRAME_BYTES_MAX / 4), "]".repeat(FRAME_BYTES_MAX / 4));
        let text =
            format!(r#"["1","1","t","phx_reply",{{"status":"error","response":{{"reason":"no","more":{deep}}}}}]"#);
        let frame = parse(&text).unwrap();
        assert_eq!(reply(frame.payload), Some(PushReply::Refused(Some("no".into()))));
        let text = format!(r#"["1","1","t","e",{deep}]"#);
        assert_eq!(reply(parse(&text).unwrap().payload), None);
    }

    #[test]
    fn the_bound_is_one_mebibyte() {
        let frame = |fill: usize| format!(r#"[null,null,"t","e","{}"]"#, "x".repeat(fill));
        let fits = FRAME_BYTES_MAX - frame(0).len();
        assert!(parse(&frame(fits)).is_ok());
        assert_eq!(parse(&frame(fits + 1)).unwrap_err(), FrameProblem::TooLong(FRAME_BYTES_MAX + 1));
    }

    #[test]
    fn a_reply_is_ok_or_a_refusal() {
        for (payload, wanted) in [
            (r#"{"status":"ok","response":{"reason":"x"}}"#, Some(PushReply::Ok)),
            (
                r#"{"status":"error","response":{"reason":"unauthorized"}}"#,
                Some(PushReply::Refused(Some("unauthorized".into()))),
            ),
            (r#"{"status":"error","response":{}}"#, Some(PushReply::Refused(None))),
            (r#"{"status":"error"}"#, Some(PushReply::Refused(None))),
            (r#"{"status":"timeout","response":7}"#, Some(PushReply::Refused(None))),
            (r#"{"status":7}"#, None),
            ("{}", None),
            ("[]", None),
            ("null", None),
        ] {
            let payload: &RawValue = serde_json::from_str(payload).unwrap();
            assert_eq!(reply(payload), wanted, "{payload}");
        }
    }
}
