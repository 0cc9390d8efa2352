//! A moment as people write it on a command line.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use crate::cli::CliError;
use crate::clock::Clock;

/// The moment that an option names, in this machine's clock and zone.
///
/// # Errors
/// Exit code 2 if it is not a valid moment.
pub fn option(option: &str, text: Option<&str>) -> Result<Option<Timestamp>, CliError> {
    let parse = |text: &str| {
        let now = Clock::start().now().wall;
        parse(text, now, &TimeZone::system()).map_err(|why| CliError::new(2, format!("`--{option} {text}`: {why}")))
    };
    text.map(parse).transpose()
}

/// Reads a time with its zone, a local date or date and time, or how long ago (`2h`, `7d`, `1h 30m`; a day is 24 h).
pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let local = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(|date| date.at(0, 0, 0, 0)));
    if let Ok(local) = local {
        return zone.to_timestamp(local).map_err(|error| error.to_string());
    }
    let ago = length(text).ok_or("expected how long ago, such as `2h` or `7d`, or a date, such as `2026-11-23`")?;
    now.checked_sub(ago).map_err(|_| "that is before all time".to_owned())
}

/// Reads a length of time: `2h`, `7d`, `1h 30m`; a day is 24 h.
pub fn length(text: &str) -> Option<SignedDuration> {
    let span: Span = text.trim().parse().ok()?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    (!length.is_negative()).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Europe/Paris").unwrap();
        for (text, at) in [
            ("2h", "2026-11-23T10:00:00Z"),
            ("1h 30m", "2026-11-23T10:30:00Z"),
            ("7d", "2026-11-16T12:00:00Z"),
            ("1 week", "2026-11-16T12:00:00Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-11-20T10:00", "2026-11-20T09:00:00Z"),
            ("2026-11-20 10:00", "2026-11-20T09:00:00Z"),
            ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
        ] {
            assert_eq!(parse(text, now, &zone).map(|at| at.to_string()), Ok(at.to_owned()), "{text}");
        }
        for text in ["", "yesterday-ish", "2h ago then", "175000000h", "-2h", "2026-13-01"] {
            assert!(parse(text, now, &zone).is_err(), "{text}");
        }
    }
}
