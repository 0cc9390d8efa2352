//! Parses the bodies of REST replies into types. Pure: called by the client and by fuzzing.
//!
//! A list is read row by row: an unreadable row affects no other row. Its id is read first, and if there is one, the
//! row counts for that id. Of an answer's reply one word is taken, and the rest only checked. In any other body the values are
//! counted before it is parsed, so that a hostile body of millions of tiny values needs no more memory than its own length. No
//! error repeats the text of a body.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use tracing::warn;

use super::payload::{self, PayloadProblem};
use super::reply::{Listed, Me, Page, Responded, Unreadable};
use super::row::RowFields;
use crate::model::{
    AgentId, Contact, ContactId, ContactRequest, RequestId, RequestStatus, Sender, SenderId, StrangerText,
};
use crate::ops::log::events;

/// Most JSON values of one body that is parsed whole.
pub(crate) const VALUES_MAX: usize = 64 << 10;
/// Most rows of one page: ten times the requested number.
pub(crate) const ROWS_MAX: usize = 1_000;
/// How many problems with rows of one page are reported one by one.
const PROBLEMS_REPORTED_MAX: usize = 5;

/// Why a body does not have the expected form. Contains none of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BodyProblem {
    /// No JSON, cut short, or nested too deep.
    #[error("its body is not JSON: does `platform.url` name the API?")]
    NotJson,
    /// More values than `VALUES_MAX`.
    #[error("its body holds more than {VALUES_MAX} values")]
    TooMany,
    /// More rows than `ROWS_MAX`.
    #[error("its page holds more than {ROWS_MAX} rows")]
    TooManyRows,
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
    let owner = text("owner_uuid").and_then(|id| SenderId::parse(id).ok());
    Ok(Me { id, sender: Sender::parse(text("handle")), name, owner })
}

/// `GET /agent/contacts/requests`: the `received` half \[docs\].
pub fn requests(body: &[u8]) -> Result<Page<ContactRequest>, BodyProblem> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        #[serde(borrow)]
        metadata: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        received: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow)]
        received: Option<&'a RawValue>,
    }
    let text = BodyText::of(body);
    let lacks = BodyProblem::Lacks("data.received");
    let body: Body<'_> = part(text.is_json()?).ok_or(lacks)?;
    let data: Data<'_> = body.data.and_then(|data| part(data.get())).ok_or(lacks)?;
    let metadata = body.metadata.and_then(|metadata| part::<Metadata<'_>>(metadata.get())?.received);
    let count = PageTotals { total: "total", metadata };
    page(&text, data.received, lacks, "contact request", RequestId::parse, payload::contact_request_row, count)
}

/// `GET /agent/contacts` \[docs\].
pub fn contacts(body: &[u8]) -> Result<Page<Contact>, BodyProblem> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        #[serde(borrow)]
        metadata: Option<&'a RawValue>,
    }
    let text = BodyText::of(body);
    let lacks = BodyProblem::Lacks("data");
    let body: Body<'_> = part(text.is_json()?).ok_or(lacks)?;
    let count = PageTotals { total: "total_count", metadata: body.metadata };
    page(&text, body.data, lacks, "contact", ContactId::parse, payload::contact_row, count)
}

/// `POST /agent/contacts/requests/respond` \[docs\].
pub fn responded(body: &[u8]) -> Result<Responded, BodyProblem> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Data {
        status: Option<String>,
    }
    let body: &RawValue = serde_json::from_slice(body).map_err(|_| BodyProblem::NotJson)?;
    let data = part::<Body<'_>>(body.get()).and_then(|body| body.data);
    let status = data.and_then(|data| part::<Data>(data.get())?.status).ok_or(BodyProblem::Lacks("data.status"))?;
    Ok(Responded { status: RequestStatus::parse(&status) })
}

/// A body as text. Bytes that are not UTF-8 are replaced, and rows with a replacement are not accepted.
struct BodyText<'a> {
    text: Cow<'a, str>,
    damaged: bool,
}

impl<'a> BodyText<'a> {
    fn of(body: &'a [u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        Self { damaged: matches!(text, Cow::Owned(_)), text }
    }

    /// The text, if all of it is JSON. Does not check surrogates, ranges and depth.
    fn is_json(&self) -> Result<&str, BodyProblem> {
        serde_json::from_str::<&RawValue>(&self.text).map(RawValue::get).map_err(|_| BodyProblem::NotJson)
    }
}

/// Parses an object as one of our types: serde would take a list for it, too, and go by the order of its values.
fn part<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    json.trim_start().starts_with('{').then(|| serde_json::from_str(json).ok())?
}

/// The rows of a list, each in its raw form.
struct RawRows<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for RawRows<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = RawRows<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawRows<'de>, A::Error> {
                let mut rows = Vec::new();
                while let Some(row) = list.next_element()? {
                    if rows.len() == ROWS_MAX {
                        return Err(A::Error::custom(TOO_MANY_ROWS));
                    }
                    rows.push(row);
                }
                Ok(RawRows(rows))
            }
        }
        deserializer.deserialize_seq(Each)
    }
}

/// Distinguishes one error of [`RawRows`] from the others.
const TOO_MANY_ROWS: &str = "too many rows";

/// The part of a page that says how many rows and pages there are.
struct PageTotals<'a> {
    total: &'static str,
    metadata: Option<&'a RawValue>,
}

impl PageTotals<'_> {
    /// A number of the metadata; other fields do not matter.
    fn number(&self, name: &str) -> Option<u64> {
        let row = RowFields::of(self.metadata?)?;
        row.raw(name)?.parse().ok()
    }
}

fn page<T: Listed, E>(
    text: &BodyText<'_>,
    rows: Option<&RawValue>,
    lacks: BodyProblem,
    what: &'static str,
    parse_id: impl Fn(&str) -> Result<T::Id, E>,
    read: impl Fn(&RowFields<'_>) -> Result<T, PayloadProblem>,
    count: PageTotals<'_>,
) -> Result<Page<T>, BodyProblem> {
    let rows: RawRows<'_> = match serde_json::from_str(rows.ok_or(lacks)?.get()) {
        Ok(rows) => rows,
        Err(error) if error.to_string().starts_with(TOO_MANY_ROWS) => return Err(BodyProblem::TooManyRows),
        Err(_) => return Err(lacks),
    };
    let mut page = Page {
        items: Vec::with_capacity(rows.0.len()),
        unreadable: vec![],
        nameless: vec![],
        total: None,
        pages: None,
    };
    for (position, raw) in (1..).zip(&rows.0) {
        let row = RowFields::of(raw);
        let id = row.as_ref().and_then(|row| parse_id(&row.id()?).ok());
        // The reading changed a row with bytes that are not UTF-8.
        let damaged = text.damaged && raw.get().contains(char::REPLACEMENT_CHARACTER);
        let read = match &row {
            None => Err("it is not an object, or has too many fields".to_owned()),
            Some(_) if damaged => Err("it is not UTF-8".to_owned()),
            Some(row) => read(row).map_err(|problem| problem.to_string()),
        };
        match (read, id) {
            (Ok(item), _) => page.items.push(item),
            (Err(why), Some(id)) => page.unreadable.push(Unreadable { id, position, why }),
            (Err(why), None) => {
                page.nameless.push(position);
                if page.nameless.len() <= PROBLEMS_REPORTED_MAX {
                    warn!(
                        event = events::PAYLOAD_MALFORMED,
                        what, why, "row {position} of a page has no readable id: it stays pending"
                    );
                }
            }
        }
    }
    for row in page.unreadable.iter().take(PROBLEMS_REPORTED_MAX) {
        let (why, position) = (&row.why, row.position);
        warn!(
            event = events::PAYLOAD_MALFORMED,
            what, why, "row {position} of a page cannot be read: it stays pending"
        );
    }
    let untold = page.unreadable.len().saturating_sub(PROBLEMS_REPORTED_MAX)
        + page.nameless.len().saturating_sub(PROBLEMS_REPORTED_MAX);
    if untold > 0 {
        let why = format!("{untold} more rows of the same page");
        warn!(event = events::PAYLOAD_MALFORMED, what, why, "rows of a page cannot be read: they stay pending");
    }
    page.total = count.number(count.total);
    page.pages = count.number("total_pages").map(|pages| u32::try_from(pages.max(1)).unwrap_or(u32::MAX));
    Ok(page)
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
        assert_eq!((page.nameless, page.total, page.pages), (vec![2, 3, 5], Some(5), Some(1)));
        let [unreadable] = &page.unreadable[..] else { panic!("{:?}", page.unreadable) };
        assert_eq!((unreadable.id.as_str(), unreadable.position), ("r2", 4));
        assert_eq!(unreadable.why, "`status` is missing, `inserted_at` is missing");
    }

    /// A page with a row that has this `message` (raw JSON), and a valid row beside it.
    fn beside(message: &str) -> Page<ContactRequest> {
        let row = format!(
            r#"{{"id":"odd","status":"pending","inserted_at":"2026-03-02T10:00:00Z","from_handle":"bob","message":{message}}}"#
        );
        let body = format!(r#"{{"data":{{"received":[{row},{ROW}]}},"metadata":{{"received":{{"total":2}}}}}}"#);
        requests(body.as_bytes()).unwrap()
    }

    #[test]
    fn a_row_that_cannot_be_read_costs_no_other_and_stands_for_its_id() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for message in
            [r#""half \ud800 a pair""#, r#""\udc00""#, "1e999", "123456789012345678901234567890", &deep, "{}"]
        {
            let page = beside(message);
            assert_eq!(page.items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["r1"], "{message:.40}");
            assert_eq!(page.unreadable.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["odd"], "{message:.40}");
            assert_eq!((page.nameless.len(), page.rows()), (0, 2));
        }
        // Fields that we do not read may have any value.
        for other in ["\"x\",\"other\":1e999", &format!("\"x\",\"other\":{deep}"), r#""x","\ud800":1"#] {
            assert_eq!(beside(other).items.len(), 2, "{other:.40}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_cost_their_row_alone() {
        let odd = br#"{"id":"odd","status":"pending","inserted_at":"2026-03-02T10:00:00Z","message":"#;
        let body = [br#"{"data":{"received":["#, &odd[..], b"\"\xff\"},", ROW.as_bytes(), b"]}}"].concat();
        let page = requests(&body).unwrap();
        assert_eq!((page.items.len(), page.unreadable.len()), (1, 1));
        assert_eq!((page.unreadable[0].id.as_str(), page.unreadable[0].why.as_str()), ("odd", "it is not UTF-8"));
        // A replacement character that was really in the text is accepted.
        assert_eq!(beside("\"\u{fffd}\"").items.len(), 2);
    }

    #[test]
    fn an_id_is_never_guessed() {
        for id in [
            r#""\ud800""#,
            "7",
            "null",
            "\"\"",
            "\"two words\"",
            &format!("\"{}\"", "x".repeat(200)),
            r#""a","id":"b""#,
        ] {
            let body = format!(r#"{{"data":{{"received":[{{"id":{id}}},{ROW}]}}}}"#);
            let page = requests(body.as_bytes()).unwrap();
            assert_eq!((page.items.len(), page.unreadable.len(), page.nameless), (1, 0, vec![1]), "{id:.40}");
        }
        let escaped = format!(r#"{{"data":{{"received":[{{"\u0069d":"\u0061-1"}},{ROW}]}}}}"#);
        assert_eq!(requests(escaped.as_bytes()).unwrap().unreadable[0].id.as_str(), "a-1");
    }

    #[test]
    fn a_long_message_is_cut_and_says_so_and_a_long_handle_is_not_plain() {
        // 500 characters as people count them, of 25 bytes each.
        let family = "👨\u{200d}👩\u{200d}👧\u{200d}👦".repeat(500);
        let message = beside(&format!("\"{family}\"")).items.remove(0).message.unwrap();
        assert_eq!((message.raw(), message.is_cut()), (family.as_str(), false));
        let message = beside(&format!("\"{}\"", "é".repeat(20_000))).items.remove(0).message.unwrap();
        assert_eq!((message.raw().len(), message.is_cut()), (32 << 10, true));
        let long = format!("\"x\",\"from_handle\":\"{}\"", "a".repeat(40_000)).replace("\"from_handle\"", "\"handle\"");
        assert_eq!(beside(&long).items.len(), 2);
        let handle = format!(
            r#"{{"data":{{"received":[{{"id":"h","status":"pending","inserted_at":"x","from_handle":"{}"}}]}}}}"#,
            "a".repeat(40_000)
        );
        assert!(requests(handle.as_bytes()).unwrap().items[0].sender.handle().is_none());
    }

    #[test]
    fn a_page_of_too_many_rows_is_refused() {
        let body = format!(r#"{{"data":{{"received":[{}0]}}}}"#, "0,".repeat(ROWS_MAX));
        assert_eq!(requests(body.as_bytes()).unwrap_err(), BodyProblem::TooManyRows);
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
            (r#"[{"received":[]}]"#, BodyProblem::Lacks("data.received")),
            (r#"{"data":[[]]}"#, BodyProblem::Lacks("data.received")),
        ] {
            assert_eq!(requests(body.as_bytes()).unwrap_err(), problem, "{body}");
        }
        assert_eq!(requests(b"\xff\xfe").unwrap_err(), BodyProblem::NotJson);
        assert_eq!(contacts(br#"{"data":{}}"#).unwrap_err(), BodyProblem::Lacks("data"));
        assert_eq!(contacts(b"[[]]").unwrap_err(), BodyProblem::Lacks("data"), "a list has no names");
        assert_eq!(me(br#"{"data":{"id":"two words"}}"#).unwrap_err(), BodyProblem::Lacks("data.id"));
        for body in [
            r#"{"data":{"status":1}}"#,
            r#"{"data":{"status":null}}"#,
            r#"{"data":["approved"]}"#,
            r#"[{"status":"approved"}]"#,
            r#"[["approved"]]"#,
            r#"{"data":{"status":"approved","status":"rejected"}}"#,
            r#"{"data":{"status":"approved"},"data":{"status":"rejected"}}"#,
        ] {
            assert_eq!(responded(body.as_bytes()).unwrap_err(), BodyProblem::Lacks("data.status"), "{body}");
        }
        for body in ["", "approved", r#"{"data":{"status":"approved"}"#, "{\"data\":{\"status\":\"approved\"}} x"] {
            assert_eq!(responded(body.as_bytes()).unwrap_err(), BodyProblem::NotJson, "{body}");
        }
    }

    #[test]
    fn depth_and_number_are_bounded() {
        assert_eq!(json("[".repeat(10_000).as_bytes()).unwrap_err(), BodyProblem::NotJson);
        let many = |count: usize| format!("[{}0]", "0,".repeat(count));
        assert!(json(many(VALUES_MAX - 2).as_bytes()).is_ok());
        assert_eq!(json(many(VALUES_MAX).as_bytes()).unwrap_err(), BodyProblem::TooMany);
        // Characters inside a string that only look like many values do not count.
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
        assert_eq!((page.items.len(), page.nameless, page.total, page.pages), (1, vec![2], Some(2), Some(1)));
    }
}
