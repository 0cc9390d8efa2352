//! What a refusal means, by what the caller does next. Pure: fed by REST, by refused upgrades, and by fuzzing.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use super::reply::{CallError, CallFault};
use super::{bodies, retry_after};
use crate::model::StrangerText;

/// What an error's body says, in either shape the platform uses \[docs\], or in none.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct ErrorBody {
    /// `error.code`, or the older `error`.
    pub code: Option<StrangerText>,
    /// `error.message`, or the older `message`.
    pub message: Option<StrangerText>,
    /// `error.retry_after`, in seconds.
    pub retry_after: Option<Duration>,
}

/// Reads an error's body; what is no JSON says nothing.
pub fn error_body(body: &[u8]) -> ErrorBody {
    let Ok(value) = bodies::json(body) else { return ErrorBody::default() };
    let text =
        |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(StrangerText::new);
    match value.get("error") {
        Some(Value::Object(error)) => ErrorBody {
            code: text(error.get("code")),
            message: text(error.get("message")),
            retry_after: error.get("retry_after").and_then(seconds),
        },
        Some(error) => ErrorBody {
            code: text(Some(error)),
            message: text(value.get("message")),
            retry_after: value.get("retry_after").and_then(seconds),
        },
        // What a Phoenix server says by itself, outside of the application: `{"errors":{"detail":"Not Found"}}`.
        None => {
            let detail = value.get("errors").and_then(|errors| errors.get("detail"));
            ErrorBody { code: None, message: text(value.get("message")).or_else(|| text(detail)), retry_after: None }
        }
    }
}

/// Seconds as a number, or as a number in a text.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Classifies an answer that is no 2xx. `now` is the platform's own time where it said it.
pub fn refusal(status: StatusCode, retry_after_header: Option<&str>, body: &[u8], now: Timestamp) -> CallError {
    let said = error_body(body);
    let fault = match status.as_u16() {
        status @ (400 | 422) => CallFault::Malformed(status),
        401 => CallFault::KeyRefused,
        403 => CallFault::Forbidden,
        404 => CallFault::NotFound,
        409 => CallFault::Conflict,
        429 => CallFault::Throttled,
        status => CallFault::Passing(status),
    };
    let retry_after = retry_after_header.and_then(|text| retry_after::parse(text, now)).or(said.retry_after);
    let elsewhere = status.is_redirection().then(|| StrangerText::new("it points elsewhere: is `platform.url` right?"));
    CallError { fault, code: said.code, message: said.message.or(elsewhere), retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(status: u16, header: Option<&str>, body: &str) -> CallError {
        let now = "2026-03-02T10:00:00Z".parse().unwrap();
        refusal(StatusCode::from_u16(status).unwrap(), header, body.as_bytes(), now)
    }

    #[test]
    fn every_status_has_its_class() {
        use CallFault::*;
        for (status, fault) in [
            (400, Malformed(400)),
            (401, KeyRefused),
            (403, Forbidden),
            (404, NotFound),
            (408, Passing(408)),
            (409, Conflict),
            (422, Malformed(422)),
            (429, Throttled),
            (500, Passing(500)),
            (503, Passing(503)),
            (302, Passing(302)),
            (418, Passing(418)),
        ] {
            assert_eq!(classify(status, None, "").fault, fault, "{status}");
        }
    }

    #[test]
    fn both_shapes_of_an_error_are_read_and_garbage_is_survived() {
        let new = classify(403, None, r#"{"error":{"code":"limit_reached","message":"plan","request_id":"r"}}"#);
        assert_eq!(new.code.unwrap().raw(), "limit_reached");
        assert_eq!(new.message.unwrap().raw(), "plan");
        let old = classify(401, None, r#"{"error":"unauthorized","message":"bad key"}"#);
        assert_eq!((old.code.unwrap().raw(), old.message.unwrap().raw()), ("unauthorized", "bad key"));
        for body in ["", "<html>", "[1]", "null", r#"{"error":7}"#, r#"{"error":{"code":{}}}"#, "\u{0}"] {
            let error = classify(500, None, body);
            assert_eq!(error.code, None, "{body:?}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(classify(500, None, &deep).code, None);
    }

    #[test]
    fn the_header_wins_over_the_body() {
        let body = r#"{"error":{"code":"slow_down","message":"m","retry_after":7}}"#;
        assert_eq!(classify(429, None, body).retry_after, Some(Duration::from_secs(7)));
        assert_eq!(classify(429, Some("3"), body).retry_after, Some(Duration::from_secs(3)));
        assert_eq!(classify(429, Some("soon"), body).retry_after, Some(Duration::from_secs(7)));
        for (text, wanted) in [
            ("-1e300", None),
            ("1e300", None),
            ("null", None),
            ("[]", None),
            (r#""NaN""#, None),
            (r#""9""#, Some(Duration::from_secs(9))),
            ("0.5", Some(Duration::from_millis(500))),
        ] {
            let body = format!(r#"{{"error":{{"code":"x","message":"m","retry_after":{text}}}}}"#);
            assert_eq!(classify(429, None, &body).retry_after, wanted, "{text}");
        }
    }

    #[test]
    fn a_date_to_wait_for_is_measured_by_the_platforms_own_clock() {
        assert_eq!(classify(503, Some("Mon, 02 Mar 2026 10:01:00 GMT"), "").retry_after, Some(Duration::from_secs(60)));
        assert_eq!(classify(503, Some("Mon, 02 Mar 2026 09:00:00 GMT"), "").retry_after, Some(Duration::ZERO));
    }

    #[test]
    fn a_phoenix_servers_own_words_and_a_redirection_are_told() {
        let own = classify(500, None, r#"{"errors":{"detail":"Internal Server Error"}}"#);
        assert_eq!(own.message.unwrap().raw(), "Internal Server Error");
        assert!(classify(301, None, "<html>").to_string().contains("platform.url"));
    }

    #[test]
    fn a_strangers_text_is_escaped_and_cut_when_told() {
        let error =
            classify(400, None, &format!(r#"{{"error":{{"code":"\u001b[31m","message":"{}"}}}}"#, "x".repeat(9000)));
        let told = error.to_string();
        assert!(!told.contains('\u{1b}') && told.len() < 400, "{told}");
    }
}
