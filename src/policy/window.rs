//! When a `[windows.NAME]` is open. Pure: local time comes from the window's own time zone.
//!
//! A window is open while the local time in its zone is from `from` up to, not including, `to`. So an hour that the
//! clocks skip is in no window, an hour that they repeat is in the window both times, and a skipped `from` opens the
//! window when the clocks jump past it. A window that would start on an excepted day stays closed until its next start,
//! also past midnight.

use jiff::Timestamp;
use jiff::ToSpan as _;
use jiff::civil::{Date, Time};

use super::rules::Window;

/// How many local days ahead a flip is looked for: every weekly pattern repeats within these.
const DAYS_AHEAD: i8 = 9;

/// Whether the window is open at this instant.
pub fn is_open(window: &Window, at: Timestamp) -> bool {
    let local = window.tz.to_datetime(at);
    shows_open(window, local.date(), local.time())
}

/// The first instant after `now` at which [`is_open`] changes; `None` for a window that never opens or never closes.
pub fn next_flip(window: &Window, now: Timestamp) -> Option<Timestamp> {
    let open = is_open(window, now);
    let mut date = window.tz.to_datetime(now).date();
    let jump = window.tz.following(now).next().map(|transition| transition.timestamp());
    let listed = window.except.last().max(window.only.last()).copied();
    let last = listed.unwrap_or(date).max(date).saturating_add(DAYS_AHEAD.days());
    while date <= last {
        let next_day = date.tomorrow().ok()?;
        // Around days on which it does not start, a closed window stays closed.
        let starts = [date.yesterday().ok(), Some(date), Some(next_day)].into_iter().flatten();
        if !open && !{ starts }.any(|date| starts_on(window, date)) {
            date = next_day;
            continue;
        }
        let mut edges = [jump, None, None, None, None, None, None, None, None];
        let times = [date, next_day].map(|date| [date.to_datetime(window.from), date.to_datetime(window.to)]);
        for (time, slots) in times.as_flattened().iter().zip(edges[1..].chunks_mut(2)) {
            let ambiguous = window.tz.to_ambiguous_timestamp(*time);
            slots[0] = ambiguous.earlier().ok();
            slots[1] = ambiguous.later().ok();
        }
        // Beyond the end of the next day begin edges that this round does not know.
        let known_until = window.tz.to_ambiguous_timestamp(next_day.to_datetime(Time::midnight())).later().ok()?;
        let first = edges
            .into_iter()
            .flatten()
            .filter(|edge| *edge > now && *edge <= known_until && is_open(window, *edge) != open)
            .min();
        if first.is_some() {
            return first;
        }
        date = next_day;
    }
    None
}

fn starts_on(window: &Window, date: Date) -> bool {
    window.days.contains(&date.weekday())
        && window.except.binary_search(&date).is_err()
        && (window.only.is_empty() || window.only.binary_search(&date).is_ok())
}

fn shows_open(window: &Window, date: Date, time: Time) -> bool {
    let starts_on = |date: Date| starts_on(window, date);
    if window.from < window.to {
        return starts_on(date) && window.from <= time && time < window.to;
    }
    (time >= window.from && starts_on(date)) || (time < window.to && date.yesterday().is_ok_and(starts_on))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RuleName;
    use jiff::SignedDuration;
    use jiff::civil::Weekday;
    use jiff::tz::TimeZone;

    const WORKDAYS: [Weekday; 5] =
        [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday];
    const ALL: [Weekday; 7] = [
        Weekday::Monday,
        Weekday::Tuesday,
        Weekday::Wednesday,
        Weekday::Thursday,
        Weekday::Friday,
        Weekday::Saturday,
        Weekday::Sunday,
    ];

    fn window(days: &[Weekday], from: &str, to: &str) -> Window {
        Window {
            name: RuleName::parse("w").unwrap(),
            tz: TimeZone::get("Europe/Paris").unwrap(),
            days: days.to_vec(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            except: Vec::new(),
            only: Vec::new(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn office_hours_are_local_and_their_end_is_outside() {
        let office = window(&WORKDAYS, "08:00", "18:00");
        for (time, open) in [
            ("2026-01-05T06:59:59Z", false), // Monday, 07:59:59 in Paris
            ("2026-01-05T07:00:00Z", true),
            ("2026-01-05T16:59:59Z", true),
            ("2026-01-05T17:00:00Z", false),
            ("2026-01-10T10:00:00Z", false), // Saturday
            ("2026-07-06T06:00:00Z", true),  // summer time
            ("2026-07-06T05:59:59Z", false),
        ] {
            assert_eq!(is_open(&office, at(time)), open, "{time}");
        }
        assert_eq!(next_flip(&office, at("2026-01-05T06:00:00Z")), Some(at("2026-01-05T07:00:00Z")));
        assert_eq!(next_flip(&office, at("2026-01-05T07:00:00Z")), Some(at("2026-01-05T17:00:00Z")));
        assert_eq!(next_flip(&office, at("2026-01-09T17:00:00Z")), Some(at("2026-01-12T07:00:00Z")), "over a weekend");
    }

    #[test]
    fn over_midnight_the_days_are_those_it_starts_on() {
        let night = window(&[Weekday::Friday], "22:00", "06:00");
        for (time, open) in [
            ("2026-01-09T20:59:00Z", false), // Friday 21:59
            ("2026-01-09T21:00:00Z", true),
            ("2026-01-10T04:59:59Z", true), // Saturday 05:59
            ("2026-01-10T05:00:00Z", false),
            ("2026-01-10T21:30:00Z", false), // Saturday night
            ("2026-01-09T04:00:00Z", false), // Friday morning belongs to Thursday
        ] {
            assert_eq!(is_open(&night, at(time)), open, "{time}");
        }
        assert_eq!(next_flip(&night, at("2026-01-09T21:00:00Z")), Some(at("2026-01-10T05:00:00Z")));
        assert_eq!(next_flip(&night, at("2026-01-10T05:00:00Z")), Some(at("2026-01-16T21:00:00Z")));
    }

    #[test]
    fn clocks_going_forward_skip_what_they_skip() {
        // 2026-03-29: 02:00 becomes 03:00 at 01:00 UTC.
        let early = window(&ALL, "02:30", "04:00");
        assert!(!is_open(&early, at("2026-03-29T00:59:59Z")));
        assert!(is_open(&early, at("2026-03-29T01:00:00Z")), "03:00 is past 02:30");
        assert!(!is_open(&early, at("2026-03-29T02:00:00Z")));
        assert_eq!(next_flip(&early, at("2026-03-29T00:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
        let skipped = window(&ALL, "02:10", "02:50");
        assert_eq!(next_flip(&skipped, at("2026-03-29T00:00:00Z")), Some(at("2026-03-30T00:10:00Z")), "the next day");
    }

    #[test]
    fn clocks_going_back_repeat_what_they_repeat() {
        // 2026-10-25: 03:00 becomes 02:00 at 01:00 UTC.
        let early = window(&ALL, "01:00", "02:30");
        let flips: Vec<_> = std::iter::successors(Some(at("2026-10-24T22:00:00Z")), |now| next_flip(&early, *now))
            .skip(1)
            .take(4)
            .collect();
        let wanted = ["2026-10-24T23:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"];
        assert_eq!(flips, wanted.map(at));
        let office = window(&ALL, "00:00", "12:00");
        assert_eq!(next_flip(&office, at("2026-10-24T22:00:00Z")), Some(at("2026-10-25T11:00:00Z")), "13 hours long");
    }

    #[test]
    fn a_window_that_never_closes_never_flips() {
        assert_eq!(next_flip(&window(&ALL, "08:00", "08:00"), at("2026-03-28T12:00:00Z")), None);
    }

    #[test]
    fn every_flip_is_a_flip_and_none_is_missed() {
        for shape in [
            window(&ALL, "02:30", "04:00"),
            window(&WORKDAYS, "22:30", "02:30"),
            window(&[Weekday::Sunday], "00:00", "00:00"),
            window(&[Weekday::Saturday, Weekday::Monday], "01:15", "03:00"),
        ] {
            for start in ["2026-03-25T00:00:00Z", "2026-10-20T00:00:00Z"] {
                let start = at(start);
                let end = start + SignedDuration::from_hours(24 * 10);
                let mut flip = next_flip(&shape, start);
                let mut now = start;
                while now < end {
                    let next = now + SignedDuration::from_mins(5);
                    let changed = is_open(&shape, now) != is_open(&shape, next);
                    let promised = flip.is_some_and(|flip| flip <= next);
                    assert_eq!(changed, promised, "{} at {now}, flip {flip:?}", shape.from);
                    if promised {
                        flip = next_flip(&shape, next);
                    }
                    now = next;
                }
            }
        }
    }

    fn dates(texts: &[&str]) -> Vec<Date> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_excepted_day_is_closed_also_past_midnight_and_on_days_when_clocks_change() {
        // 2026-03-29: clocks go forward; 2026-10-25: back.
        let days =
            Window { except: dates(&["2026-03-29", "2026-10-25", "2026-12-25"]), ..window(&ALL, "02:30", "04:00") };
        for (time, open) in [
            ("2026-03-28T01:45:00Z", true),
            ("2026-03-29T01:15:00Z", false), // 03:15, open without the exception
            ("2026-03-30T00:45:00Z", true),
            ("2026-10-25T00:45:00Z", false), // 02:45, the first time
            ("2026-10-25T01:45:00Z", false), // 02:45, the second time
            ("2026-10-26T01:45:00Z", true),
        ] {
            assert_eq!(is_open(&days, at(time)), open, "{time}");
        }
        assert_eq!(
            next_flip(&days, at("2026-03-28T03:00:00Z")),
            Some(at("2026-03-30T00:30:00Z")),
            "over the excepted day"
        );
        let night = Window { except: dates(&["2026-03-28"]), ..window(&ALL, "22:00", "06:00") };
        assert!(!is_open(&night, at("2026-03-28T23:00:00Z")) && !is_open(&night, at("2026-03-29T03:00:00Z")));
        assert!(is_open(&night, at("2026-03-28T04:00:00Z")), "the night before goes on till morning");
        assert_eq!(next_flip(&night, at("2026-03-28T05:00:00Z")), Some(at("2026-03-29T20:00:00Z")));
    }

    #[test]
    fn a_window_of_single_days_opens_on_them_alone() {
        let fair = Window { only: dates(&["2026-03-29", "2027-06-01"]), ..window(&ALL, "01:00", "05:00") };
        assert!(is_open(&fair, at("2026-03-29T00:30:00Z")) && is_open(&fair, at("2026-03-29T02:30:00Z")));
        assert!(!is_open(&fair, at("2026-03-29T03:00:00Z")) && !is_open(&fair, at("2026-03-30T00:30:00Z")));
        assert_eq!(next_flip(&fair, at("2026-03-29T03:00:00Z")), Some(at("2027-05-31T23:00:00Z")), "far ahead");
        assert_eq!(next_flip(&fair, at("2027-06-01T04:00:00Z")), None, "never again");
    }
}
