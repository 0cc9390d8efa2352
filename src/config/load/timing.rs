//! `[timing]`, and values in it that contradict each other.

use std::collections::HashMap;
use std::time::Duration;

use super::Loading;
use super::layers::{Layer, Layered};
use crate::config::settings::Timing;
use crate::document::in_words;

type Figures = HashMap<&'static str, Layered>;

impl Loading<'_> {
    pub(super) fn timing(&mut self) -> Option<Timing> {
        let mut timing = Timing::default();
        let mut whole = true;
        let mut figures = Figures::new();
        for (name, place) in timing.fields() {
            let key = format!("timing.{name}");
            let layered = self.scalar(&key, None, &words(*place));
            match self.length_of(&key, &layered) {
                Some(length) => *place = length,
                None => whole = false,
            }
            figures.insert(name, layered);
        }
        if !whole {
            return None;
        }
        let beats = self.beats_before_death(&timing, &figures);
        let backoff = self.in_order(("backoff_min", timing.backoff_min), ("backoff_max", timing.backoff_max), &figures);
        let refused = self.in_order(("refused_min", timing.refused_min), ("refused_max", timing.refused_max), &figures);
        (beats && backoff && refused).then_some(timing)
    }

    /// If a connection counts as dead before its next heartbeat can be answered, no connection ever stays alive.
    fn beats_before_death(&mut self, timing: &Timing, figures: &Figures) -> bool {
        let beat = timing.heartbeat.saturating_add(timing.heartbeat / 10);
        if timing.dead_after > beat {
            return true;
        }
        let (beat, dead) = (words(beat), words(timing.dead_after));
        if written(figures, "dead_after") {
            let expected = format!("expected more than `heartbeat` and a tenth: {beat}");
            self.contradicts("dead_after", figures, &expected, "raise `dead_after`, or lower `heartbeat`");
        } else {
            let expected = format!("with a tenth it is {beat}, and `dead_after` is {dead}");
            self.contradicts("heartbeat", figures, &expected, "lower `heartbeat`, or raise `dead_after`");
        }
        false
    }

    fn in_order(&mut self, least: (&str, Duration), most: (&str, Duration), figures: &Figures) -> bool {
        if least.1 <= most.1 {
            return true;
        }
        if written(figures, most.0) {
            let expected = format!("expected at least `{}`, {}", least.0, words(least.1));
            let help = format!("raise `{}`, or lower `{}`", most.0, least.0);
            self.contradicts(most.0, figures, &expected, &help);
        } else {
            let expected = format!("expected at most `{}`, {}", most.0, words(most.1));
            let help = format!("lower `{}`, or raise `{}`", least.0, most.0);
            self.contradicts(least.0, figures, &expected, &help);
        }
        false
    }

    fn contradicts(&mut self, name: &str, figures: &Figures, expected: &str, help: &str) {
        if let Some(layered) = figures.get(name) {
            self.refuse(&format!("timing.{name}"), layered, expected, Some(help.to_owned()));
        }
    }
}

/// Whether the value was set and is not the default.
fn written(figures: &Figures, name: &str) -> bool {
    figures.get(name).is_some_and(|layered| !matches!(layered.layer, Layer::Default))
}

fn words(length: Duration) -> String {
    jiff::SignedDuration::try_from(length).map_or_else(|_| String::new(), in_words)
}
