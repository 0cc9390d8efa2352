//! What one decision takes on this machine, for a name and a message of 500 characters each. It refuses nothing: what a file may cost
//! is computed, and the same everywhere.

use std::path::Path;
use std::time::Duration;

use crate::clock::Clock;
use crate::model::{ContactRequest, RequestId, Sender, StrangerText};
use crate::policy::state::SavedState;
use crate::policy::{Circumstances, ClockHealth, Policy, PolicyState};

/// A decision that takes longer than this is reported as slow.
const SLOW: Duration = Duration::from_millis(5);
/// Characters of the longest message that the platform takes.
const CHARACTERS: usize = 500;
/// Each text is measured this many times and the quickest time counts: other load on the machine is not the file's
/// fault.
const TIMES: usize = 3;

/// The longest of several texts.
pub(super) fn measured(policy: &Policy) -> Duration {
    let texts = ["a", "ab", "a word ", "à la сагtе, 日本 "];
    texts.iter().map(|text| of_text(policy, text)).max().unwrap_or_default()
}

fn of_text(policy: &Policy, text: &str) -> Duration {
    let text: String = text.chars().cycle().take(CHARACTERS).collect();
    let Ok(id) = RequestId::parse("measured") else { return Duration::ZERO };
    let text = Some(StrangerText::new(&text));
    let sender = Sender::parse(Some("stranger/agent"));
    let request = ContactRequest { id, sender, name: text.clone(), message: text, inserted_at: None, ids: None };
    let clock = Clock::start();
    let now = clock.now().wall;
    let circumstances = Circumstances::new(now, ClockHealth::Sound);
    let state = PolicyState::restore(SavedState::default());
    let once = || {
        let began = clock.now().mono;
        std::hint::black_box(policy.decide(&request, &circumstances, &state, now));
        clock.now().mono.since(began)
    };
    (0..TIMES).map(|_| once()).min().unwrap_or_default()
}

/// In words.
pub(super) fn said(file: &Path, time: Duration) -> String {
    let (file, ms) = (file.display(), time.as_secs_f64() * 1e3);
    let slow = match time > SLOW {
        true => "; warning: that is slow, and every request waits for those before it: shorten the regular expressions",
        false => "",
    };
    format!("{file}: a decision takes {ms:.2} ms on this machine, for texts of {CHARACTERS} characters{slow}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_file_is_called_slow() {
        let said = |ms| said(Path::new("rules.toml"), Duration::from_millis(ms));
        assert!(said(6).contains("warning: that is slow"));
        assert_eq!(said(2), "rules.toml: a decision takes 2.00 ms on this machine, for texts of 500 characters\n");
    }
}
