//! HTTP replies in the platform's formats.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use super::fault::Fault;
use super::store::StoreError;

/// An answer.
pub(super) type HttpReply = Response<Full<Bytes>>;

/// The connection must be closed without a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cut without an answer")]
pub(super) struct CloseWithoutReply;

/// An answer with this status and body.
pub(super) fn raw(status: u16, kind: &'static str, body: impl Into<Bytes>) -> HttpReply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !kind.is_empty() {
        reply.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    }
    reply
}

/// A JSON answer.
pub(super) fn json_text(status: u16, body: impl Into<Bytes>) -> HttpReply {
    raw(status, "application/json; charset=utf-8", body)
}

/// A JSON answer.
pub(super) fn json_value(status: u16, body: &Value) -> HttpReply {
    json_text(status, body.to_string())
}

/// `{"error":{…}}`; `request` is null only on a refused upgrade.
pub(super) fn error(status: u16, code: &str, message: &str, request: Option<u64>) -> HttpReply {
    let request = request.map(|number| format!("req-{number:08}"));
    json_value(status, &json!({ "error": { "code": code, "message": message, "request_id": request } }))
}

/// 422 with the parameter, or the field's JSON pointer, whose value is out of its range.
pub(super) fn invalid(field: &str, message: &str, request: u64) -> HttpReply {
    field_error(422, field, message, request)
}

/// 400 with the JSON pointer of the field that is missing, null or of a wrong type: the contacts calls of the generated
/// client do not know 422 \[sdk\].
pub(super) fn malformed(pointer: &str, message: &str, request: u64) -> HttpReply {
    field_error(400, pointer, message, request)
}

fn field_error(status: u16, field: &str, message: &str, request: u64) -> HttpReply {
    let body = json!({ "error": {
        "code": "validation_error", "message": message, "request_id": format!("req-{request:08}"),
        "details": { field: [message] },
    } });
    json_value(status, &body)
}

/// The answer to a problem of the store.
pub(super) fn problem(problem: &StoreError, request: u64) -> HttpReply {
    match problem {
        StoreError::NotFound(message) => error(404, "not_found", message, Some(request)),
        StoreError::Conflict(code, message) => error(409, code, message, Some(request)),
        StoreError::Malformed(pointer, message) => malformed(pointer, message, request),
        StoreError::Invalid(message) => error(422, "validation_error", message, Some(request)),
    }
}

/// The answer of a `status` fault: the platform's code for it, and `Retry-After` if milliseconds were given. Without
/// a request number it is an upgrade's, which has codes of its own.
pub(super) fn fault_status(fault: &Fault, request: Option<u64>) -> HttpReply {
    let (status, ms) = (fault.code.unwrap_or(500), fault.ms);
    let code = match status {
        400 if request.is_none() => "invalid_on_conflict",
        409 if request.is_none() => "connection_conflict",
        429 if request.is_none() => "too_many_requests",
        503 if request.is_none() => "tracking_failed",
        400 => "bad_request",
        401 => "unauthorized",
        403 => "limit_reached",
        404 => "not_found",
        409 => "conflict",
        422 => "validation_error",
        429 => "rate_limited",
        503 => "unavailable",
        _ => "internal_error",
    };
    let message = fault.reason.as_deref().unwrap_or("a fault of the sandbox says so");
    let Some(seconds) = ms.map(|ms| ms.div_ceil(1000)) else { return error(status, code, message, request) };
    let request = request.map(|number| format!("req-{number:08}"));
    let mut reply = json_value(
        status,
        &json!({ "error": { "code": code, "message": message, "request_id": request, "retry_after": seconds } }),
    );
    reply.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
    reply
}
