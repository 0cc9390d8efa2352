//! Frames of Phoenix's serializer 2.0.0: arrays of five. A server ignores what a client appends \[phx\].

use serde_json::Value;

/// A null ref, as JSON.
pub(super) const NULL: &str = "null";

/// A frame from a client. Refs are kept as JSON, strings or numbers as they came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) join_ref: String,
    pub(super) r#ref: String,
    pub(super) topic: String,
    pub(super) event: String,
}

impl Incoming {
    /// `None` for anything that makes a Phoenix server end the connection with 1011.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut frame: Vec<Value> = serde_json::from_str(text).ok()?;
        frame.truncate(5);
        let [join_ref, r#ref, topic, event, payload]: [Value; 5] = frame.try_into().ok()?;
        let is_ref = |value: &Value| matches!(value, Value::Null | Value::String(_) | Value::Number(_));
        match (topic, event, payload) {
            (Value::String(topic), Value::String(event), Value::Object(_)) if is_ref(&join_ref) && is_ref(&r#ref) => {
                Some(Self { join_ref: join_ref.to_string(), r#ref: r#ref.to_string(), topic, event })
            }
            _ => None,
        }
    }
}

/// A reply; refs are JSON, the topic is text.
pub(super) fn reply_frame(join_ref: &str, r#ref: &str, topic: &str, body: Result<(), &str>) -> String {
    let topic = Value::from(topic);
    let payload = match body {
        Ok(()) => "{\"response\":{},\"status\":\"ok\"}".to_owned(),
        Err(reason) => {
            format!("{{\"response\":{{\"reason\":{}}},\"status\":\"error\"}}", Value::from(reason))
        }
    };
    format!("[{join_ref},{ref},{topic},\"phx_reply\",{payload}]")
}

/// An event; refs and payload are JSON, the topic is one of our own agents'.
pub(super) fn event_frame(join_ref: &str, r#ref: &str, topic: &str, event: &str, payload: &str) -> String {
    format!("[{join_ref},{ref},\"{topic}\",\"{event}\",{payload}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_come_back_as_they_were() {
        let frame = Incoming::parse(" [\"a\\n\", 7, \"t\\\"\", \"e\", {\"x\": [1]}] ").unwrap();
        assert_eq!(
            reply_frame(&frame.join_ref, &frame.r#ref, &frame.topic, Err("no")),
            r#"["a\n",7,"t\"","phx_reply",{"response":{"reason":"no"},"status":"error"}]"#
        );
    }

    #[test]
    fn what_is_no_frame_is_none() {
        for text in ["", "{}", "[]", "[1,2,3,4]", "[1,2,\"t\",\"e\",[]]", "[1,2,3,\"e\",{}]", "[{},2,\"t\",\"e\",{}]"] {
            assert_eq!(Incoming::parse(text), None, "{text}");
        }
        assert_eq!(Incoming::parse(&"[".repeat(100_000)), None);
    }

    #[test]
    fn a_sixth_element_is_taken_and_ignored() {
        let five = Incoming::parse("[1,2,\"t\",\"e\",{}]");
        assert!(five.is_some());
        assert_eq!(Incoming::parse("[1,2,\"t\",\"e\",{},6]"), five);
    }
}
