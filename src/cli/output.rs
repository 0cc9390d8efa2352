//! What every command prints: for people and for pipes, and never so that a stranger's text can steer the terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::CliError;
use crate::clock::Clock;
use crate::model::{StrangerText, ascii_json};
use crate::ops::log::fields::{PROBLEMS, clean};
use crate::secret::Redact;

/// Between two pages of `--watch`.
const WATCH: Duration = Duration::from_secs(2);

/// Prints, with colours where they are wanted. A reader that went away is no error.
///
/// # Errors
/// Exit code 1 where the text cannot be written for another reason.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::new(1, format!("the output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a page of `--watch`, and waits until the next. Only a terminal is cleared; elsewhere pages stand below each other.
///
/// # Errors
/// As `print`.
pub fn watched(page: &str) -> Result<(), CliError> {
    let clear = if io::stdout().is_terminal() { "\u{1b}[H\u{1b}[2J" } else { "" };
    print(&format!("{clear}{page}"))?;
    std::thread::sleep(WATCH);
    Ok(())
}

/// Says something beside the output, on stderr. Nobody may be reading.
pub fn note(text: &str) {
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// One line of JSON.
///
/// # Errors
/// As `print`.
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::new(1, error.to_string()))?;
    print(&(ascii_json(&text) + "\n"))
}

/// Text that did not come from a stranger, harmless in any case.
pub fn shown(text: &str) -> String {
    clean("", text, &Redact::default())
}

/// The same with its lines kept.
pub fn shown_lines(text: &str) -> String {
    clean(PROBLEMS, text, &Redact::default())
}

/// A stranger's text, escaped and cut after so many characters; `-` for none.
pub fn stranger(text: Option<&str>, max: usize) -> String {
    text.map_or_else(|| "-".to_owned(), |text| StrangerText::new(text).shown(max))
}

/// The wall clock.
pub fn now() -> Timestamp {
    Clock::start().now().wall
}

/// How long ago, in one unit: `12s`, `5m`, `3h`, `9d`.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let ago = |seconds: i64| {
            ago(Timestamp::from_second(1_000_000).unwrap(), Timestamp::from_second(1_000_000 + seconds).unwrap())
        };
        assert_eq!([ago(-5), ago(59), ago(61), ago(7_300), ago(200_000)], ["0s", "59s", "1m", "2h", "2d"]);
    }
}
