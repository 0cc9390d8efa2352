//! `Retry-After`: seconds, or an HTTP date.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// The wait for a value that cannot be parsed: the server asked for a wait, so "soon" would be wrong.
pub(crate) const UNREADABLE: Duration = Duration::from_secs(30);
/// Dates in other formats that some servers write, in addition to those of HTTP.
const OTHER_DATES: [&str; 2] = ["%a, %d %b %Y %H:%M:%S %z", "%a %b %e %H:%M:%S %Y"];

/// How long to wait; `None` if the header is empty. `now` is the platform's own `Date` if the reply had one, else our
/// time: a wrong clock here must not change the meaning of a date.
///
/// Lenient: `1.5`, `30s`, `120, 120`, RFC 3339 and a date with an offset are accepted. The caller must bound the
/// result.
pub fn parse(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim().trim_matches('"').trim();
    if text.is_empty() {
        return None;
    }
    if let Some(at) = date(text).or_else(|| other_date(text)) {
        return Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
    }
    // The first number counts; a unit of seconds or the rest of a list may follow.
    let digits = text.trim_start_matches('+');
    let end = digits.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    let rest = rest.trim_start_matches([' ', ',', ';']);
    let unit = rest.split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ms" => 0.001,
        "m" | "min" | "minute" | "minutes" => 60.0,
        _ => return Some(UNREADABLE),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * factor);
    Some(seconds.map_or(UNREADABLE, |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
}

fn other_date(text: &str) -> Option<Timestamp> {
    if text.len() > 64 {
        return None;
    }
    let rfc3339 = text.parse::<Timestamp>().ok();
    rfc3339.or_else(|| OTHER_DATES.iter().find_map(|format| Timestamp::strptime(format, text).ok()))
}

/// An HTTP date.
pub fn date(text: &str) -> Option<Timestamp> {
    let at: SystemTime = httpdate::parse_http_date(text.trim()).ok()?;
    Timestamp::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dates_are_read_generously_and_nothing_that_was_said_means_soon() {
        let now: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        let seconds = |seconds: f64| Some(Duration::from_secs_f64(seconds));
        let unreadable = Some(UNREADABLE);
        for (text, wait) in [
            ("120", seconds(120.0)),
            (" 0 ", seconds(0.0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", seconds(60.0)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", seconds(60.0)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", seconds(0.0)),
            ("Sun, 06 Nov 1994 08:50:37 +0000", seconds(60.0)),
            ("1994-11-06T08:50:37Z", seconds(60.0)),
            ("1.5", seconds(1.5)),
            ("+7", seconds(7.0)),
            ("\"30\"", seconds(30.0)),
            ("30s", seconds(30.0)),
            ("30 seconds", seconds(30.0)),
            ("250ms", seconds(0.25)),
            ("2 min", seconds(120.0)),
            ("120, 120", seconds(120.0)),
            ("120;foo", unreadable),
            ("-5", unreadable),
            ("soon", unreadable),
            ("1e3", unreadable),
            ("99999999999999999999999", Some(Duration::MAX)),
            ("", None),
            ("  ", None),
        ] {
            assert_eq!(parse(text, now), wait, "{text:?}");
        }
    }
}
