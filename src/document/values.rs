//! Values of types that TOML does not have, or not exactly: durations, times of day, dates, moments.

use jiff::civil::{Date, Time};
use jiff::fmt::friendly::SpanParser;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, SpanRelativeTo, Timestamp, Unit};
use toml::de::DeValue;
use toml::value::Datetime;

use super::problems::{Problems, WithSpan, shown};
use super::read::KeyValue;

/// A day, or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DateOrMoment {
    Date(Date),
    Moment(Timestamp),
}

/// Longest valid duration.
const DURATION_MAX: SignedDuration = SignedDuration::from_hours(24 * 36_500);

/// Reads a duration such as `1h 30m`; a day is exactly 24 h. The error is the text at the caret.
pub(crate) fn duration(text: &str) -> Result<SignedDuration, &'static str> {
    // A longer text cannot be a duration, so it is not parsed.
    let span = (text.len() <= 128).then(|| SpanParser::new().parse_span(text).ok()).flatten();
    let span = span.ok_or("not a duration: write `10m`, `1h 30m` or `7d`")?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err("months and years differ in length: write days");
    }
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| "too long")?;
    if length.is_negative() {
        Err("a duration cannot be negative")
    } else if length > DURATION_MAX {
        Err("too long: at most 36500d")
    } else {
        Ok(length)
    }
}

/// Reads `HH:MM`; for `24:00` returns midnight and `true`, since it means the end of the day.
fn time_of_day(text: &str) -> Option<(Time, bool)> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |part: &str| {
        (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse::<i8>().ok())
    };
    match (digits(hour)??, digits(minute)??) {
        (24, 0) => Some((Time::midnight(), true)),
        (hour, minute) => Time::new(hour, minute, 0, 0).ok().map(|time| (time, false)),
    }
}

impl KeyValue<'_, '_> {
    /// A duration, positive.
    pub(crate) fn duration(&self, problems: &mut Problems) -> Option<WithSpan<SignedDuration>> {
        let length = self.duration_or_zero(problems)?;
        if length.value.is_zero() {
            problems.error(&length.span, format!("`{}` is zero", self.key.name)).label("expected more than zero");
            return None;
        }
        Some(length)
    }

    /// A duration that may be zero.
    pub(crate) fn duration_or_zero(&self, problems: &mut Problems) -> Option<WithSpan<SignedDuration>> {
        let text = self.text(problems)?;
        match duration(&text.value) {
            Ok(value) => Some(WithSpan { value, span: text.span }),
            Err(why) => {
                let message = format!("`{}` is not a value of `{}`", shown(&text.value), self.key.name);
                problems.error(&text.span, message).label(why);
                None
            }
        }
    }

    /// A time of day. `24:00` means midnight, if the key is the end of something.
    pub(crate) fn time(&self, ends: bool, problems: &mut Problems) -> Option<WithSpan<Time>> {
        let text = self.text(problems)?;
        match time_of_day(&text.value) {
            Some((value, end)) if ends || !end => Some(WithSpan { value, span: text.span }),
            _ => {
                let message = format!("`{}` is not a time of day", shown(&text.value));
                problems.error(&text.span, message).label("expected hours and minutes, such as `08:00`");
                None
            }
        }
    }

    /// A date, or a moment with its offset.
    pub(crate) fn date_or_moment(&self, problems: &mut Problems) -> Option<WithSpan<DateOrMoment>> {
        let has_time = matches!(self.node.get_ref(), DeValue::Datetime(written) if written.time.is_some());
        if has_time {
            let moment = self.moment(problems)?;
            return Some(WithSpan { value: DateOrMoment::Moment(moment.value), span: moment.span });
        }
        let date = self.date(problems)?;
        Some(WithSpan { value: DateOrMoment::Date(date.value), span: date.span })
    }

    /// A date, or a moment.
    fn datetime(&self, problems: &mut Problems) -> Option<Datetime> {
        if let DeValue::Datetime(written) = self.node.get_ref() {
            return Some(*written);
        }
        let is_text = self.node.get_ref().is_str();
        let diagnostic = self.wrong_type(problems);
        if is_text {
            diagnostic.help("leave the quotes out");
        }
        None
    }

    /// A date.
    fn date(&self, problems: &mut Problems) -> Option<WithSpan<Date>> {
        let written = self.datetime(problems)?;
        let date = match (written.date, written.time) {
            (Some(date), None) => i16::try_from(date.year)
                .ok()
                .and_then(|year| Date::new(year, date.month.cast_signed(), date.day.cast_signed()).ok()),
            _ => None,
        };
        match date {
            Some(value) => Some(WithSpan { value, span: self.span() }),
            None => {
                problems
                    .error(&self.span(), format!("`{}` takes a day", self.key.name))
                    .label("expected a date, such as `2027-03-31`, or a moment, such as `2027-03-31T18:00:00+02:00`")
                    .help("the day is meant in UTC, to its end");
                None
            }
        }
    }

    /// A moment between the years 2000 and 2200.
    pub(crate) fn moment(&self, problems: &mut Problems) -> Option<WithSpan<Timestamp>> {
        let written = self.datetime(problems)?;
        let moment = written.offset.and_then(|_| written.to_string().parse::<Timestamp>().ok());
        let Some(value) = moment else {
            problems
                .error(&self.span(), format!("`{}` is not a moment", self.key.name))
                .label("expected a date, a time and an offset, such as `2026-01-05T12:00:00Z`");
            return None;
        };
        if !(2000..2200).contains(&TimeZone::UTC.to_datetime(value).year()) {
            problems
                .error(&self.span(), format!("`{}` is out of range", self.key.name))
                .label("expected a year from 2000 to 2199");
            return None;
        }
        Some(WithSpan { value, span: self.span() })
    }
}

/// A duration for people, in its largest units.
pub(crate) fn in_words(length: SignedDuration) -> String {
    let span = jiff::Span::try_from(length).and_then(|span| {
        span.round(jiff::SpanRound::new().largest(Unit::Day).relative(SpanRelativeTo::days_are_24_hours()))
    });
    span.map_or_else(|_| format!("{length:#}"), |span| format!("{span:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_friendly_and_a_day_is_24_hours() {
        let seconds = |text| duration(text).map(|length| length.as_secs());
        assert_eq!(seconds("10m"), Ok(600));
        assert_eq!(seconds("1h 30m"), Ok(5_400));
        assert_eq!(seconds("7d"), Ok(7 * 86_400));
        assert_eq!(seconds("2 weeks"), Ok(14 * 86_400));
        assert_eq!(seconds("0s"), Ok(0));
        for refused in ["", "10", "P1D", "1mo", "1 year", "-1h", "1h ago", "36501d", "99999999999999999999d", "ten"] {
            assert!(duration(refused).is_err(), "{refused}");
        }
        assert!(duration(&"1h ".repeat(100_000)).is_err());
        assert_eq!(in_words(duration("26h").unwrap()), "1d 2h");
    }

    #[test]
    fn times_of_day_are_hours_and_minutes() {
        let time = |text| time_of_day(text).map(|(time, end)| (time.to_string(), end));
        assert_eq!(time("08:05"), Some(("08:05:00".to_owned(), false)));
        assert_eq!(time("24:00"), Some(("00:00:00".to_owned(), true)));
        for refused in ["8:05", "24:01", "25:00", "08:60", "08:05:00", "+1:00", "-1:00", "", "8pm"] {
            assert_eq!(time(refused), None, "{refused}");
        }
    }
}
