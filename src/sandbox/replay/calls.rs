//! REST calls during a replay: each gets the reply that the same call got in the transcript, in the same order.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderValue, header};
use serde_json::{Value, json};

use super::script::{Exchange, RESPOND, Script};
use super::{CloseWithoutReply, HttpReply, ReplayShared};
use crate::sandbox::reply::{error, json_value, raw};

/// Longest garbled body.
const GARBLED_MAX: u64 = 16 << 20;
/// How long `me` waits for the socket.
const KNOWN_WAIT: Duration = Duration::from_secs(2);

/// What makes two calls the same: method, path, query, and the request that is answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CallKey {
    method: String,
    path: String,
    query: String,
    request: String,
}

impl CallKey {
    fn of(method: &str, path: &str, query: Option<&str>, body: Option<&Value>) -> Self {
        let request = body.and_then(|body| body.get("request_id").or_else(|| body.get("contact_id"))?.as_str());
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.unwrap_or_default().to_owned(),
            request: request.unwrap_or_default().to_owned(),
        }
    }
}

/// How often each call has come.
#[derive(Debug, Default)]
pub(super) struct RecordedCalls {
    recorded: HashMap<CallKey, Vec<usize>>,
    came: HashMap<CallKey, usize>,
}

impl RecordedCalls {
    pub(super) fn of(script: &Script) -> Self {
        let mut recorded: HashMap<CallKey, Vec<usize>> = HashMap::new();
        for (index, Exchange { call, .. }) in script.calls.iter().enumerate() {
            let (method, path) = (call.method.as_deref().unwrap_or("GET"), call.path.as_deref().unwrap_or_default());
            let same = CallKey::of(method, path, call.query.as_deref(), call.body.as_ref());
            recorded.entry(same).or_default().push(index);
        }
        Self { recorded, came: HashMap::new() }
    }

    /// The recorded call that this one repeats, and whether it has arrived more often than in the transcript.
    fn next(&mut self, same: &CallKey) -> Option<(usize, bool)> {
        let places = self.recorded.get(same)?;
        let came = self.came.entry(same.clone()).or_default();
        let more = *came >= places.len();
        let index = *places.get(*came).or(places.last())?;
        *came = came.saturating_add(1);
        Some((index, more))
    }
}

/// Answers a call below `/api/v1/`.
pub(super) async fn answer(
    stage: &ReplayShared,
    method: &str,
    path: &str,
    query: Option<&str>,
    body: &[u8],
) -> Result<HttpReply, CloseWithoutReply> {
    if path == "agent/me" {
        // The reply must contain the client's own id, which only its socket tells; a client that opens no socket gets
        // the recorded one.
        let _ = tokio::time::timeout(KNOWN_WAIT, stage.known.cancelled()).await;
    }
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let same = CallKey::of(method, path, query, body.as_ref());
    let found = stage.scene().calls.next(&same);
    let action = body.as_ref().and_then(|body| body["action"].as_str());
    if path == RESPOND {
        stage.answers.send_modify(|count| *count += 1);
    }
    let Some((index, more)) = found else {
        let what = if same.request.is_empty() { String::new() } else { format!(" for `{}`", same.request) };
        stage.tell(format!("not in the transcript: {method} {path}{what}; answered as if all were well"));
        return Ok(by_default(stage, &same, action));
    };
    let Exchange { call, answer, took } = &stage.script.calls[index];
    if action.is_some() && more {
        stage.tell(format!("`{}` is answered once more than it was; 409", same.request));
        return Ok(error(409, "conflict", "answered already", Some(0)));
    }
    let then = call.body.as_ref().and_then(|body| body["action"].as_str());
    if let Some(action) = action {
        if then == Some(action) {
            stage.tell(format!("`{}`: {action}, as it was", same.request));
        } else {
            stage.tell(format!("`{}`: {action}, which was {} then", same.request, then.unwrap_or("nothing")));
        }
    }
    tokio::time::sleep(if stage.fast { Duration::ZERO } else { *took }).await;
    let Some(status) = answer.status else { return Err(CloseWithoutReply) };
    let mut reply = match (&answer.body, answer.garbled) {
        _ if action.is_some() && then != action && status < 300 => by_default(stage, &same, action),
        (Some(body), _) => raw(status, "application/json; charset=utf-8", stage.recast(body.to_string())),
        (None, bytes) => {
            let bytes = usize::try_from(bytes.unwrap_or(0).min(GARBLED_MAX)).unwrap_or(0);
            raw(status, "text/plain", "x".repeat(bytes))
        }
    };
    if let Some(wait) = answer.retry_after.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
        reply.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    Ok(reply)
}

/// The reply if the transcript has none.
fn by_default(stage: &ReplayShared, same: &CallKey, action: Option<&str>) -> HttpReply {
    let totals = json!({ "total": 0, "total_pages": 0 });
    match same.path.as_str() {
        "agent/me" => {
            let actual = stage.scene().actual.clone().or_else(|| stage.script.agent.clone());
            json_value(200, &json!({ "data": { "id": actual, "handle": null, "name": null } }))
        }
        "agent/contacts/requests" => json_value(
            200,
            &json!({ "data": { "received": [], "sent": [] },
                     "metadata": { "page": 1, "page_size": 100, "received": totals, "sent": totals } }),
        ),
        "agent/contacts" => json_value(
            200,
            &json!({ "data": [],
                     "metadata": { "page": 1, "page_size": 100, "total_count": 0, "total_pages": 0 } }),
        ),
        RESPOND => {
            let status = match action {
                Some("approve") => "approved",
                Some("reject") => "rejected",
                _ => "cancelled",
            };
            json_value(200, &json!({ "data": { "id": same.request, "status": status } }))
        }
        "agent/contacts/remove" => json_value(200, &json!({ "data": { "status": "removed" } })),
        _ => error(404, "not_found", "no such call", Some(0)),
    }
}
