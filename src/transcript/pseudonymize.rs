//! Replaces strangers' text. Only text that the platform itself produces (ids, states, times, codes) stays unchanged.
//! All other text is replaced; a handle is replaced by one of the same shape, the same one everywhere in one recording.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Keys whose text comes from the platform, not from a stranger.
const PLAIN: &[&str] = &[
    "action",
    "code",
    "contact_id",
    "correlation_id",
    "id",
    "inserted_at",
    "owner_uuid",
    "reason",
    "request_id",
    "status",
    "target_socket_id",
    "type",
    "updated_at",
];
/// Keys whose text is a handle.
const HANDLES: &[&str] = &["from_handle", "handle", "to_handle"];
/// Longest text that passes as the platform's.
const PLAIN_CHARS_MAX: usize = 128;
/// Longest key that stays unchanged.
const KEY_CHARS_MAX: usize = 64;

/// Replaces text. The salt is not stored, so that handles cannot be found by trying.
#[derive(Debug)]
pub(super) struct Pseudonyms {
    salt: [u8; 16],
}

impl Pseudonyms {
    pub(super) fn new() -> Self {
        Self { salt: *uuid::Uuid::new_v4().as_bytes() }
    }

    /// A frame: `[join_ref, ref, topic, event, payload]`, or any other value.
    pub(super) fn frame(&self, frame: Value) -> Value {
        match frame {
            Value::Array(items) => {
                let part = |(index, item)| match item {
                    Value::String(text) if index < 4 => self.plain(text),
                    item => self.body(item),
                };
                Value::Array(items.into_iter().enumerate().map(part).collect())
            }
            other => self.body(other),
        }
    }

    /// A payload or a body.
    pub(super) fn body(&self, value: Value) -> Value {
        self.under("", value)
    }

    fn under(&self, key: &str, value: Value) -> Value {
        match value {
            Value::String(text) if PLAIN.contains(&key) => self.plain(text),
            Value::String(text) if HANDLES.contains(&key) => self.handle(&text).into(),
            Value::String(text) => hidden(&text).into(),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.under(key, item)).collect()),
            Value::Object(fields) => {
                let field = |(key, value): (String, Value)| {
                    let value = self.under(&key, value);
                    let known = key.len() <= KEY_CHARS_MAX
                        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                    (if known { key } else { self.pseudonym(&key) }, value)
                };
                Value::Object(fields.into_iter().map(field).collect::<Map<_, _>>())
            }
            other => other,
        }
    }

    fn plain(&self, text: String) -> Value {
        let plain = text.len() <= PLAIN_CHARS_MAX && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if plain { text.into() } else { self.pseudonym(&text).into() }
    }

    /// `@owner/slug` → `@h1a2b3c4d/h5e6f7a8b`: keeps the `@` and the number of parts; the same owner gets the same
    /// pseudonym.
    fn handle(&self, handle: &str) -> String {
        if handle.trim().is_empty() {
            return handle.chars().map(|_| ' ').collect();
        }
        let (at, name) = handle.strip_prefix('@').map_or(("", handle), |name| ("@", name));
        let parts: Vec<String> = name.splitn(3, '/').map(|part| self.pseudonym(part)).collect();
        format!("{at}{}", parts.join("/"))
    }

    fn pseudonym(&self, text: &str) -> String {
        let digest = Sha256::new().chain_update(self.salt).chain_update(text.to_lowercase()).finalize();
        let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("h{digits}")
    }
}

/// An empty text stays empty, since that has a meaning.
fn hidden(text: &str) -> String {
    match text.chars().count() {
        0 => String::new(),
        1 => "a text of 1 character".to_owned(),
        count => format!("a text of {count} characters"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_the_platform_makes_up_passes() {
        let pseudonyms = Pseudonyms::new();
        let shown = pseudonyms.body(json!({
            "id": "r-1", "status": "pending", "inserted_at": "2026-03-02T10:00:00Z", "from_handle": "@Ann/helper",
            "from_name": "Ann", "message": "", "secret word": "secret", "tags": ["secret", {"name": null, "count": 3}],
        }));
        assert_eq!((&shown["id"], &shown["status"]), (&json!("r-1"), &json!("pending")));
        assert_eq!((&shown["from_name"], &shown["message"]), (&json!("a text of 3 characters"), &json!("")));
        assert_eq!(shown["tags"], json!(["a text of 6 characters", {"name": null, "count": 3}]));
        let text = shown.to_string();
        assert!(!text.contains("secret") && !text.to_lowercase().contains("ann"), "{text}");
    }

    #[test]
    fn a_handle_keeps_its_shape_and_is_the_same_everywhere_in_one_recording() {
        let pseudonyms = Pseudonyms::new();
        let handle = pseudonyms.handle("@Ann/helper");
        assert!(crate::model::Handle::parse(&handle).is_ok(), "{handle}");
        assert_eq!(pseudonyms.handle("ann/helper"), handle[1..], "however it is written");
        assert_eq!(pseudonyms.handle("ann"), handle[1..10], "the owner is the same");
        assert_ne!(
            pseudonyms.handle("@Ann/helper"),
            Pseudonyms::new().handle("@Ann/helper"),
            "another recording, another name"
        );
    }

    #[test]
    fn a_frame_keeps_its_refs_topic_and_event() {
        let pseudonyms = Pseudonyms::new();
        let frame = json!(["1", null, "agent_contacts:a-1", "contact_removed", {"id": "c-1", "note": "secret"}]);
        let shown = pseudonyms.frame(frame);
        let wanted =
            r#"["1",null,"agent_contacts:a-1","contact_removed",{"id":"c-1","note":"a text of 6 characters"}]"#;
        assert_eq!(shown.to_string(), wanted);
        let odd = pseudonyms.frame(json!(["1", null, "täxt", {"secret": 1}, "secret", "secret"])).to_string();
        assert!(!odd.contains("täxt") && !odd.contains("\"secret\","), "{odd}");
    }

    #[test]
    fn an_id_that_is_none_does_not_pass() {
        let text = Pseudonyms::new().body(json!({ "id": "naïve\n", "code": "x".repeat(200) })).to_string();
        assert!(!text.contains("naïve") && !text.contains("xxx"), "{text}");
    }
}
