//! The days of a calendar file (iCalendar, RFC 5545), such as the public holidays that many sites offer.

use icalendar::parser::{read_calendar, unfold};
use jiff::ToSpan as _;
use jiff::civil::Date;

/// Largest calendar that is read (bytes).
const SIZE_MAX: usize = 4 << 20;
/// Most days of one file.
const DAYS_MAX: usize = 20_000;
/// Deepest nesting of components.
const DEPTH_MAX: usize = 8;

/// The days on which its events are, each day of an event that lasts longer. The error is a sentence for the operator.
pub(super) fn days(text: &str) -> Result<Vec<Date>, String> {
    if text.len() > SIZE_MAX {
        return Err(format!("a calendar has at most {} MiB", SIZE_MAX >> 20));
    }
    let unfolded = unfold(text);
    let mut depth = 0_usize;
    for line in unfolded.lines() {
        let begins = line.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("BEGIN:"));
        let ends = line.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("END:"));
        depth = if begins { depth + 1 } else { depth.saturating_sub(usize::from(ends)) };
        if depth > DEPTH_MAX {
            return Err("this is not a calendar: its parts are nested too deep".to_owned());
        }
    }
    let calendar = read_calendar(&unfolded).map_err(|_| "this is not a calendar that can be read".to_owned())?;
    let mut days = Vec::new();
    for event in calendar.components.iter().filter(|part| part.name == "VEVENT") {
        let property = |name: &str| event.find_prop(name).map(|found| found.val.as_str());
        if property("RRULE").is_some() || property("RDATE").is_some() {
            return Err("this calendar has an event that repeats: export one with an event for each year".to_owned());
        }
        let Some(first) = property("DTSTART").and_then(date) else {
            return Err("this calendar has an event without a valid `DTSTART`".to_owned());
        };
        // The end is exclusive.
        let last = property("DTEND").and_then(date).and_then(|end| end.yesterday().ok()).unwrap_or(first).max(first);
        let mut day = first;
        while day <= last {
            days.push(day);
            if days.len() > DAYS_MAX {
                return Err(format!("this calendar has more than {DAYS_MAX} days"));
            }
            day = day.saturating_add(1.day());
        }
    }
    if days.is_empty() {
        return Err("this calendar has no events".to_owned());
    }
    Ok(days)
}

/// `20261225`, or the date of `20261225T000000Z`.
fn date(value: &str) -> Option<Date> {
    let digits = value.trim().get(..8)?;
    Date::strptime("%Y%m%d", digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLIDAYS: &str = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\n\
        DTSTART;VALUE=DATE:20261225\r\nDTEND;VALUE=DATE:20261227\r\nSUMMARY:Christmas\\, and a very\r\n  long name\r\nEND:VEVENT\r\n\
        BEGIN:VEVENT\r\nUID:2\r\nDTSTART;VALUE=DATE:20270101\r\nSUMMARY:New Year\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

    #[test]
    fn each_day_of_each_event_is_read() {
        let read: Vec<_> = days(HOLIDAYS).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(read, ["2026-12-25", "2026-12-26", "2027-01-01"]);
    }

    #[test]
    fn what_cannot_be_read_in_full_is_refused() {
        for text in [
            "",
            "2026-12-25",
            "BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n",
            &HOLIDAYS.replace("UID:2", "RRULE:FREQ=YEARLY"),
            &HOLIDAYS.replace("DTSTART;VALUE=DATE:20270101", "DTSTART:soon"),
            &"BEGIN:VCALENDAR\r\n".repeat(100_000),
        ] {
            assert!(days(text).is_err(), "{}", &text[..text.len().min(60)]);
        }
    }
}
