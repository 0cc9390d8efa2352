//! The platform's own time, by its replies: `Date`, plus the age of the reply by a cache in between (RFC 9110, 6.6.1; RFC 9111, 5.1).

use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, header};
use jiff::{SignedDuration, Timestamp};

use super::retry_after;

/// A cached reply may be this old, by its `Age`; an older one is not used for the time.
const AGE_MAX: u64 = 24 * 60 * 60;
/// No date has more bytes.
const DATE_BYTES_MAX: usize = 64;

/// Reads the time of replies. All replies of a second say the same, so that it keeps the last one.
#[derive(Debug, Default)]
pub(super) struct ReplyDates(Mutex<Option<(String, Option<Timestamp>)>>);

impl ReplyDates {
    /// When the platform made this reply; `None` if it does not say so, or nothing that can be read.
    pub(super) fn of(&self, headers: &HeaderMap) -> Option<Timestamp> {
        let date = self.read(headers.get(header::DATE)?.to_str().ok()?)?;
        let age = match headers.get(header::AGE) {
            None => 0,
            Some(age) => age.to_str().ok()?.trim().parse::<u64>().ok().filter(|age| *age <= AGE_MAX)?,
        };
        date.checked_add(SignedDuration::from_secs(age.cast_signed())).ok()
    }

    fn read(&self, text: &str) -> Option<Timestamp> {
        if text.len() > DATE_BYTES_MAX {
            return None;
        }
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_ref() {
            Some((known, date)) if known == text => *date,
            Some(_) | None => {
                let date = retry_after::date(text);
                *last = Some((text.to_owned(), date));
                date
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_reply_has_its_own_time_and_what_cannot_be_read_says_nothing() {
        let dates = ReplyDates::default();
        let said = |date: &str, age: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::DATE, HeaderValue::from_str(date).unwrap());
            if let Some(age) = age {
                headers.insert(header::AGE, HeaderValue::from_str(age).unwrap());
            }
            dates.of(&headers).map(|at| at.to_string())
        };
        let (first, next) = ("Mon, 02 Mar 2026 10:00:00 GMT", "Mon, 02 Mar 2026 10:00:01 GMT");
        let at = |text: &str| Some(text.to_owned());
        for (date, age, time) in [
            (first, None, at("2026-03-02T10:00:00Z")),
            (first, Some("90"), at("2026-03-02T10:01:30Z")),
            (next, None, at("2026-03-02T10:00:01Z")),
            (first, None, at("2026-03-02T10:00:00Z")),
            ("yesterday", None, None),
            ("yesterday", None, None),
            (first, Some("86401"), None),
            (first, Some("-1"), None),
            (&format!("{first}{}", " ".repeat(DATE_BYTES_MAX)), None, None),
        ] {
            assert_eq!(said(date, age), time, "{date:?} {age:?}");
        }
        assert_eq!(dates.of(&HeaderMap::new()), None);
    }
}
