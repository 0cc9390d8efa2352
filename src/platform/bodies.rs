//! The bodies of REST's answers, from bytes to types. Pure: fed by the client and by fuzzing.
//!
//! A body is counted before anything is made of it, so that a hostile one of millions of tiny values costs no more memory
//! than its own length. Rows that cannot be read are left out and counted: they stay pending. It never repeats a body's
//! text.

use serde_json::Value;
use tracing::warn;

use super::payload::{self, PayloadProblem};
use super::reply::{Me, Page, Responded};
use crate::model::{AgentId, Contact, ContactRequest, RequestStatus, Sender, StrangerText};
use crate::ops::log::events;

/// Most JSON values of one body: a page of a hundred rows each way has a few thousand.
pub const VALUES_MAX: usize = 64 << 10;
/// Rows of one page whose problems are told one by one.
const PROBLEMS_TOLD: u32 = 5;

/// Why a body is not what it should be. Holds none of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BodyProblem {
    /// No JSON, cut short, or nested too deep.
    #[error("its body is no JSON: does `platform.url` name the API?")]
    NotJson,
    /// More values than [`VALUES_MAX`].
    #[error("its body holds more than {VALUES_MAX} values")]
    TooMany,
    /// JSON, but this is missing or of another type.
    #[error("its body has no usable `{0}`")]
    Lacks(&'static str),
}

/// Parses a body, bounded in depth and in number of values.
pub fn json(body: &[u8]) -> Result<Value, BodyProblem> {
    if values(body) > VALUES_MAX {
        return Err(BodyProblem::TooMany);
    }
    serde_json::from_slice(body).map_err(|_| BodyProblem::NotJson)
}

/// At least as many values as parsing would make: one, and one more for each comma and opening bracket outside of texts.
fn values(body: &[u8]) -> usize {
    let (mut count, mut in_text, mut escaped) = (1_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

/// `GET /agent/me` \[docs\].
pub fn me(body: &[u8]) -> Result<Me, BodyProblem> {
    let body = json(body)?;
    let text = |name: &str| body.get("data").and_then(|data| data.get(name)).and_then(Value::as_str);
    let id = text("id").and_then(|id| AgentId::parse(id).ok()).ok_or(BodyProblem::Lacks("data.id"))?;
    let name = text("name").filter(|name| !name.is_empty()).map(StrangerText::new);
    Ok(Me { id, sender: Sender::parse(text("handle")), name })
}

/// `GET /agent/contacts/requests`: the `received` half \[docs\].
pub fn requests(body: &[u8]) -> Result<Page<ContactRequest>, BodyProblem> {
    let body = json(body)?;
    let rows = body.get("data").and_then(|data| data.get("received")).and_then(Value::as_array);
    let rows = rows.ok_or(BodyProblem::Lacks("data.received"))?;
    let metadata = body.get("metadata").and_then(|metadata| metadata.get("received"));
    Ok(page(rows, "contact request", payload::contact_request, metadata, "total"))
}

/// `GET /agent/contacts` \[docs\].
pub fn contacts(body: &[u8]) -> Result<Page<Contact>, BodyProblem> {
    let body = json(body)?;
    let rows = body.get("data").and_then(Value::as_array).ok_or(BodyProblem::Lacks("data"))?;
    Ok(page(rows, "contact", payload::contact, body.get("metadata"), "total_count"))
}

/// `POST /agent/contacts/requests/respond` \[docs\].
pub fn responded(body: &[u8]) -> Result<Responded, BodyProblem> {
    let body = json(body)?;
    let status = body.get("data").and_then(|data| data.get("status")).and_then(Value::as_str);
    let status = status.ok_or(BodyProblem::Lacks("data.status"))?;
    Ok(Responded { status: RequestStatus::parse(status) })
}

fn page<T>(
    rows: &[Value],
    what: &'static str,
    read: impl Fn(&Value) -> Result<T, PayloadProblem>,
    metadata: Option<&Value>,
    total: &str,
) -> Page<T> {
    let mut items = Vec::with_capacity(rows.len());
    let mut unreadable: u32 = 0;
    for row in rows {
        match read(row) {
            Ok(item) => items.push(item),
            Err(problem) => {
                unreadable += 1;
                if unreadable <= PROBLEMS_TOLD {
                    warn!(event = events::PAYLOAD_MALFORMED, what, why = %problem, "a row of a listing cannot be read: it stays pending");
                }
            }
        }
    }
    if unreadable > PROBLEMS_TOLD {
        let why = format!("{} more rows of the same page", unreadable - PROBLEMS_TOLD);
        warn!(event = events::PAYLOAD_MALFORMED, what, why, "rows of a listing cannot be read: they stay pending");
    }
    let number = |name: &str| metadata.and_then(|metadata| metadata.get(name)).and_then(Value::as_u64);
    let pages = number("total_pages").map(|pages| u32::try_from(pages.max(1)).unwrap_or(u32::MAX));
    Page { items, unreadable, total: number(total), pages }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{"id":"r1","status":"pending","inserted_at":"2026-03-02T10:00:00Z","from_handle":"ann"}"#;

    #[test]
    fn a_page_keeps_what_can_be_read_and_counts_the_rest() {
        let body = format!(
            r#"{{"data":{{"received":[{ROW},7,null,{{"id":"r2"}},{{}}],"sent":[{ROW}]}},
                "metadata":{{"page":1,"page_size":50,"received":{{"total":5,"total_pages":0}},"sent":{{"total":1}}}}}}"#
        );
        let page = requests(body.as_bytes()).unwrap();
        assert_eq!(page.items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["r1"]);
        assert_eq!((page.unreadable, page.total, page.pages), (4, Some(5), Some(1)));
    }

    #[test]
    fn metadata_may_be_missing_or_nonsense_and_the_rows_count() {
        for metadata in ["null", "[]", r#"{"received":7}"#, r#"{"received":{"total":"5","total_pages":-1}}"#] {
            let body = format!(r#"{{"data":{{"received":[{ROW}]}},"metadata":{metadata}}}"#);
            let page = requests(body.as_bytes()).unwrap();
            assert_eq!((page.items.len(), page.total, page.pages), (1, None, None), "{metadata}");
        }
        let endless =
            format!(r#"{{"data":{{"received":[]}},"metadata":{{"received":{{"total_pages":{}}}}}}}"#, u64::MAX);
        assert_eq!(requests(endless.as_bytes()).unwrap().pages, Some(u32::MAX));
    }

    #[test]
    fn what_is_no_page_says_what_it_lacks() {
        for (body, problem) in [
            ("", BodyProblem::NotJson),
            ("<html>", BodyProblem::NotJson),
            (r#"{"data":{"received":["#, BodyProblem::NotJson),
            ("null", BodyProblem::Lacks("data.received")),
            (r#"{"data":[]}"#, BodyProblem::Lacks("data.received")),
            (r#"{"data":{"received":{"0":{}}}}"#, BodyProblem::Lacks("data.received")),
        ] {
            assert_eq!(requests(body.as_bytes()).unwrap_err(), problem, "{body}");
        }
        assert_eq!(requests(b"\xff\xfe").unwrap_err(), BodyProblem::NotJson);
        assert_eq!(contacts(br#"{"data":{}}"#).unwrap_err(), BodyProblem::Lacks("data"));
        assert_eq!(me(br#"{"data":{"id":"two words"}}"#).unwrap_err(), BodyProblem::Lacks("data.id"));
        assert_eq!(responded(br#"{"data":{"status":1}}"#).unwrap_err(), BodyProblem::Lacks("data.status"));
    }

    #[test]
    fn depth_and_number_are_bounded() {
        assert_eq!(json("[".repeat(10_000).as_bytes()).unwrap_err(), BodyProblem::NotJson);
        let many = |count: usize| format!("[{}0]", "0,".repeat(count));
        assert!(json(many(VALUES_MAX - 2).as_bytes()).is_ok());
        assert_eq!(json(many(VALUES_MAX).as_bytes()).unwrap_err(), BodyProblem::TooMany);
        // What only looks like many values, inside a text, does not count.
        let text = format!(r#"["{}\",[{{"]"#, ",[{".repeat(VALUES_MAX));
        assert!(json(text.as_bytes()).is_ok());
    }

    #[test]
    fn the_count_is_never_less_than_what_parsing_makes() {
        fn made(value: &Value) -> usize {
            match value {
                Value::Array(items) => 1 + items.iter().map(made).sum::<usize>(),
                Value::Object(fields) => 1 + fields.values().map(made).sum::<usize>(),
                _ => 1,
            }
        }
        for text in ["1", "[]", "[1,2]", r#"{"a":[{},{"b":"\\"}],"c,":"\"[,"}"#, r#"[["x"],[["\u005b"]]]"#] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(values(text.as_bytes()) >= made(&value), "{text}");
        }
    }

    #[test]
    fn the_smaller_bodies_are_read() {
        let me =
            me(br#"{"data":{"id":"a-1","handle":"@ann/bot","name":"","owner_uuid":null,"feature_flags":{}}}"#).unwrap();
        assert_eq!((me.id.as_str(), me.sender.handle().unwrap().as_str(), me.name), ("a-1", "ann/bot", None));
        assert_eq!(responded(br#"{"data":{"id":"r","status":"approved"}}"#).unwrap().status, RequestStatus::Approved);
        let contact = r#"{"id":"c","handle":"x","name":"X","type":"User","inserted_at":"2026-03-02T10:00:00Z"}"#;
        let page = contacts(
            format!(r#"{{"data":[{contact},{{}}],"metadata":{{"total_count":2,"total_pages":1}}}}"#).as_bytes(),
        );
        let page = page.unwrap();
        assert_eq!((page.items.len(), page.unreadable, page.total, page.pages), (1, 1, Some(2), Some(1)));
    }
}
