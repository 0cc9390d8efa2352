//! The data that a `malformed` fault sends. Without a `code` the smaller kinds take turns; with a `code`, that kind is
//! sent.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

use super::reply::{HttpReply, json_text, raw};

/// Number of kinds of unreadable frames. The last one exceeds every limit, and is only sent if its code is given.
pub(super) const FRAMES: u16 = 12;
/// Number of kinds of unreadable bodies. The last one is enormous, and is only sent if its code is given.
pub(super) const BODIES: u16 = 8;
const DEEP: usize = 20_000;

fn pick(code: Option<u16>, turn: u64, kinds: u16) -> u16 {
    code.unwrap_or_else(|| u16::try_from(turn % u64::from(kinds - 1)).unwrap_or(0)) % kinds
}

/// A frame that replaces `right`, on this topic.
pub(super) fn frame(code: Option<u16>, turn: u64, topic: &str, right: &str) -> Message {
    let event = |payload: &str| format!("[null,null,\"{topic}\",\"contact_request_received\",{payload}]");
    Message::text(match pick(code, turn, FRAMES) {
        0 => "not json".to_owned(),
        1 => String::new(),
        2 => "[]".to_owned(),
        3 => "{\"topic\":1}".to_owned(),
        4 => "[{},[],5,null,\"x\"]".to_owned(),
        5 => format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP)),
        6 => right[..right.floor_char_boundary(right.len() / 2)].to_owned(),
        7 => return Message::binary(vec![0, 1, 1, 1, 1, b'1', b'1', b'T', b'e', 0xff]),
        8 => event("{\"id\":5,\"status\":[],\"inserted_at\":\"yesterday\",\"from_handle\":{}}"),
        9 => event("[]"),
        10 => format!("[null,null,\"{topic}\",\"no_such_event\",{{}}]"),
        _ => event(&format!("{{\"id\":\"{}\"}}", "x".repeat(3 << 19))),
    })
}

/// A body that replaces the correct one, with status 200.
pub(super) fn body(code: Option<u16>, turn: u64) -> HttpReply {
    match pick(code, turn, BODIES) {
        0 => raw(200, "text/html", "<html><body>It works!</body></html>"),
        1 => raw(200, "", Bytes::new()),
        2 => json_text(200, "{\"data\":{\"received\":[{\"id\":\"a"),
        3 => json_text(200, "[]"),
        4 => json_text(200, format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP))),
        5 => json_text(200, "{\"data\":{\"received\":5,\"id\":[],\"status\":{}},\"metadata\":[]}"),
        6 => json_text(200, Bytes::from_static(b"{\"data\":\"\xff\xfe\"}")),
        _ => json_text(200, format!("{{\"data\":\"{}\"}}", "x".repeat(16 << 20))),
    }
}

/// The page that a CDN sends to a client that it takes for a bot.
pub(super) fn edge_page(status: u16) -> HttpReply {
    let page = "<!DOCTYPE html><html><head><title>Access denied</title></head><body>error code: 1010</body></html>";
    raw(status, "text/html; charset=UTF-8", page)
}

/// This row of a listing, unreadable: with its id for kinds 0 to 2, without one for all others.
pub(super) fn row(right: &str, kind: u16) -> String {
    let id = serde_json::from_str::<serde_json::Value>(right)
        .ok()
        .and_then(|row| row.get("id").cloned())
        .map_or_else(String::new, |id| id.to_string());
    let message = match kind {
        0 => "\"half \\ud800 a pair\"".to_owned(),
        1 => "1e999".to_owned(),
        2 => format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP)),
        _ => return "{\"id\":\"\\ud800\",\"status\":\"pending\"}".to_owned(),
    };
    format!("{{\"message\":{message},\"id\":{id},\"status\":\"pending\",\"inserted_at\":\"2026-01-01T00:00:00Z\"}}")
}
