//! What a refusal means, by what the caller does next. Pure: fed by REST, by refused upgrades, and by fuzzing.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use super::reply::{CallError, CallFault};
use super::{bodies, retry_after};
use crate::model::StrangerText;
use crate::secret::Redact;

/// The contents of an error's body, in one of the two forms that the platform uses \[docs\]; empty for any other form.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct ErrorBody {
    /// `error.code`, or the older `error`.
    pub code: Option<StrangerText>,
    /// `error.message`, or the older `message`.
    pub message: Option<StrangerText>,
    /// `error.retry_after`, in seconds.
    pub retry_after: Option<Duration>,
}

/// Reads an error's body; a body that is not JSON gives nothing.
pub(crate) fn error_body(body: &[u8], redact: &Redact) -> ErrorBody {
    let Ok(value) = bodies::json(body) else { return ErrorBody::default() };
    let text = |value: Option<&Value>| {
        value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(|text| redact.said(text))
    };
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
        // An error of the Phoenix server itself, outside of the application: `{"errors":{"detail":"Not Found"}}`.
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

/// Who wrote a refusal's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusalAuthor {
    /// Unknown: it is empty, or could not be read.
    None,
    /// The platform's: JSON with an `error`, or with Phoenix's own `errors` \[docs, phx\].
    Platform,
    /// A system between us and the platform; this is the beginning of its text.
    Between(StrangerText),
}

/// Most characters of a foreign page that are repeated.
const EXCERPT_CHARS_MAX: usize = 200;

/// The excerpt is searched for keys up to this length, so that a key that takes many bytes is found completely.
const EXCERPT_BYTES_MAX: usize = 64 << 10;

/// Who wrote this body.
pub fn words(body: &[u8], redact: &Redact) -> RefusalAuthor {
    if body.trim_ascii().is_empty() {
        return RefusalAuthor::None;
    }
    let shaped = |value: Value| {
        value.as_object().is_some_and(|object| ["error", "errors"].iter().any(|key| object.contains_key(*key)))
    };
    match bodies::json(body).is_ok_and(shaped) {
        true => RefusalAuthor::Platform,
        false => RefusalAuthor::Between(excerpt(body, redact)),
    }
}

/// Whether the body of a 2xx cannot be the platform's, for example a login page: it is not empty and does not begin
/// like JSON.
pub(crate) fn is_foreign_page(body: &[u8]) -> bool {
    body.trim_ascii_start().first().is_some_and(|first| !matches!(first, b'{' | b'['))
}

/// The beginning of a page, on one line.
pub(crate) fn excerpt(body: &[u8], redact: &Redact) -> StrangerText {
    let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES_MAX)]);
    let text = redact.scrub(&text);
    let words: Vec<&str> = text.split_whitespace().take(EXCERPT_CHARS_MAX).collect();
    StrangerText::new(&words.join(" ").chars().take(EXCERPT_CHARS_MAX).collect::<String>())
}

/// Classifies a reply that is not a 2xx. `body` is `None` if it could not be read; what is shown of it has no keys of
/// `redact`. `now` is the platform's own time, if the reply has it.
///
/// A status has its meaning only if the platform sent it: any other system (a CDN, a proxy, a firewall, a login page)
/// refuses for its own reasons, and knows neither keys nor requests. 401 and 403 need a body in the platform's own
/// format; other statuses may come without a body. 407, 451 and 511 never come from the platform. 429 and redirections
/// mean the same whoever sends them.
pub fn refusal(
    status: StatusCode,
    retry_after_header: Option<&str>,
    body: Option<&[u8]>,
    now: Timestamp,
    redact: &Redact,
) -> CallError {
    let bytes = body.unwrap_or_default();
    let said = error_body(bytes, redact);
    let code = status.as_u16();
    let words = words(bytes, redact);
    let foreign = match (code, &words) {
        (429, _) => false,
        _ if status.is_redirection() => false,
        (407 | 451 | 511, _) => true,
        (_, RefusalAuthor::Between(_)) => true,
        (401 | 403, RefusalAuthor::None) => true,
        (_, RefusalAuthor::None | RefusalAuthor::Platform) => false,
    };
    let fault = match code {
        code if foreign => CallFault::InBetween(code),
        code @ (400 | 422) => CallFault::Malformed(code),
        401 => CallFault::KeyRefused,
        403 => CallFault::Forbidden,
        404 => CallFault::NotFound,
        409 => CallFault::Conflict,
        429 => CallFault::Throttled,
        code => CallFault::Passing(code),
    };
    let retry_after = retry_after_header.and_then(|text| retry_after::parse(text, now)).or(said.retry_after);
    let message = match (foreign, words) {
        (true, RefusalAuthor::Between(page)) => Some(page),
        (true, RefusalAuthor::None) => Some(StrangerText::new("its body is empty")),
        (true, RefusalAuthor::Platform) | (false, _) if status.is_redirection() => Some(StrangerText::new(
            "it points elsewhere: is `platform.url` right, or is there a login page in between?",
        )),
        (true, RefusalAuthor::Platform) | (false, _) => said.message,
    };
    CallError { fault, code: if foreign { None } else { said.code }, message, retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(status: u16, header: Option<&str>, body: &str) -> CallError {
        let now = "2026-03-02T10:00:00Z".parse().unwrap();
        refusal(StatusCode::from_u16(status).unwrap(), header, Some(body.as_bytes()), now, &Redact::default())
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
            let body = r#"{"error":{"code":"c","message":"m","request_id":"r"}}"#;
            assert_eq!(classify(status, None, body).fault, fault, "{status}");
        }
    }

    #[test]
    fn a_page_of_something_in_between_is_not_taken_for_the_platform() {
        let pages = [
            "<!DOCTYPE html><title>Access denied</title> error code: 1010",
            "Forbidden",
            r#"{"message":"No API key found in request"}"#,
            "[]",
            "null",
        ];
        for page in pages {
            for status in [400, 401, 403, 404, 407, 409, 422, 451, 500, 502, 503] {
                let error = classify(status, None, page);
                assert_eq!(error.fault, CallFault::InBetween(status), "{page}");
                assert_eq!(error.code, None);
                assert!(error.to_string().contains(&page[..2]), "{error}");
            }
            assert_eq!(classify(429, None, page).fault, CallFault::Throttled);
        }
        // Without a known author, a status that only the platform may send is not believed; any other is.
        for (status, fault) in [
            (401, CallFault::InBetween(401)),
            (403, CallFault::InBetween(403)),
            (407, CallFault::InBetween(407)),
            (404, CallFault::NotFound),
            (409, CallFault::Conflict),
            (502, CallFault::Passing(502)),
        ] {
            assert_eq!(classify(status, None, "").fault, fault, "{status}");
        }
        let own = r#"{"errors":{"detail":"Forbidden"}}"#;
        assert_eq!(classify(403, None, own).fault, CallFault::Forbidden);
        assert_eq!(classify(511, None, own).fault, CallFault::InBetween(511));
    }

    #[test]
    fn a_foreign_page_is_repeated_escaped_on_one_line_and_only_its_beginning() {
        let page = format!("<html>\r\n\u{1b}[31m{}", "x".repeat(9000));
        let said = classify(403, None, &page).message.unwrap();
        assert_eq!(said.raw().chars().count(), 200);
        assert!(said.to_string().starts_with(r"<html> \u{1b}[31mxx"), "{said}");
        assert!(
            !is_foreign_page(b" {") && !is_foreign_page(b"") && is_foreign_page(b"\n<html>") && is_foreign_page(b"ok")
        );
    }

    #[test]
    fn both_shapes_of_an_error_are_read_and_what_is_malformed_is_survived() {
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
        assert_eq!(classify(429, Some("soon"), body).retry_after, Some(retry_after::UNREADABLE));
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
    fn a_phoenix_servers_own_words_and_a_redirection_are_shown() {
        let own = classify(500, None, r#"{"errors":{"detail":"Internal Server Error"}}"#);
        assert_eq!(own.message.unwrap().raw(), "Internal Server Error");
        assert!(classify(301, None, "<html>").to_string().contains("platform.url"));
    }

    #[test]
    fn a_strangers_text_is_escaped_and_cut_when_shown() {
        let error =
            classify(400, None, &format!(r#"{{"error":{{"code":"\u001b[31m","message":"{}"}}}}"#, "x".repeat(9000)));
        let message = error.to_string();
        assert!(!message.contains('\u{1b}') && message.len() < 400, "{message}");
    }
}
