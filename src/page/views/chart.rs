//! Decisions by the hour as a bar chart, drawn on the server: the browser runs no script.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::ledger::read::ByHour;

/// The drawing's size, in its own units.
const WIDTH: u64 = 720;
const HEIGHT: u64 = 120;

/// The whole chart.
pub(super) struct Chart {
    pub(super) bars: Vec<Bar>,
    pub(super) most: u64,
    /// Approve, reject, defer.
    pub(super) sums: [u64; 3],
    pub(super) cut: bool,
    pub(super) width: u64,
    pub(super) height: u64,
}

/// One hour.
pub(super) struct Bar {
    pub(super) hour: String,
    /// Its label below the bar; every sixth bar has one.
    pub(super) mark: String,
    pub(super) counts: [u64; 3],
    pub(super) x: u64,
    pub(super) width: u64,
    pub(super) parts: Vec<HourPart>,
}

/// One verdict of an hour.
pub(super) struct HourPart {
    pub(super) class: &'static str,
    pub(super) y: u64,
    pub(super) height: u64,
}

impl Chart {
    pub(super) fn new(by_hour: &ByHour, now: Timestamp, hours: i64) -> Self {
        let zone = TimeZone::system();
        let last = now.as_second().div_euclid(3_600);
        let counts = |hour| by_hour.hours.get(&hour).copied().unwrap_or_default();
        let shown = last - hours + 1..=last;
        let most = shown.clone().map(|hour| counts(hour).iter().sum()).max().unwrap_or(0);
        let slot = WIDTH / u64::try_from(hours).unwrap_or(1).max(1);
        let (mut bars, mut sums) = (Vec::new(), [0; 3]);
        for (index, hour) in (0_u64..).zip(shown) {
            let counts = counts(hour);
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
            let at = zone.to_datetime(Timestamp::from_second(hour * 3_600).unwrap_or(now));
            let x = index * slot;
            let mark = if at.hour() % 6 == 0 { at.strftime("%H:%M").to_string() } else { String::new() };
            bars.push(Bar {
                hour: at.strftime("%a %H:%M").to_string(),
                mark,
                counts,
                x: x + 3,
                width: slot - 6,
                parts: parts(counts, most),
            });
        }
        Self { bars, most, sums, cut: by_hour.cut, width: WIDTH, height: HEIGHT }
    }
}

/// The parts of a bar, one above the other; a count that is not zero is at least two units high.
fn parts(counts: [u64; 3], most: u64) -> Vec<HourPart> {
    let mut parts = Vec::new();
    let mut floor = HEIGHT;
    for (class, count) in ["approve", "reject", "defer"].into_iter().zip(counts) {
        if count == 0 {
            continue;
        }
        let height = (count.saturating_mul(HEIGHT - 6) / most.max(1)).max(2).min(floor);
        floor -= height;
        parts.push(HourPart { class, y: floor, height });
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_within_the_drawing() {
        for counts in [[0, 0, 0], [1, 0, 0], [1, 1, 1_000_000], [u64::MAX / 4, 1, 1]] {
            let most = counts.iter().sum();
            let parts = parts(counts, most);
            assert_eq!(parts.len(), counts.iter().filter(|count| **count > 0).count());
            assert!(parts.iter().all(|part| part.y + part.height <= HEIGHT && part.height >= 2));
        }
    }
}
