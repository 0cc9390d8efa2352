//! Prints the output of every command, for people and for pipes, so that a stranger's text can never control the
//! terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::CliError;
use crate::clock::Clock;
use crate::model::{Handle, StrangerText, ascii_json};
use crate::ops::log::fields::{PROBLEMS, clean};
use crate::ops::log::folded::{folded, stderr_width, stdout_width};
use crate::secret::Redact;

/// Between two pages of `--watch`.
const WATCH: Duration = Duration::from_secs(2);

/// Set after a write to stdout failed because the reader closed the pipe.
static NOBODY_READS: AtomicBool = AtomicBool::new(false);

/// Prints, with colours if they are wanted. A closed pipe is not an error: the command still does everything else it
/// has to do. A command that only prints, without an end, asks [`reader_left`] and ends.
///
/// # Errors
/// Exit code 1 if the text cannot be written for another reason.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            NOBODY_READS.store(true, Ordering::Relaxed);
            Ok(())
        }
        Err(error) => Err(CliError::new(1, format!("the output cannot be written: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Prints a page for people. On a terminal no line is long enough to wrap: otherwise a stranger's text could begin the
/// next line.
///
/// # Errors
/// As `print`.
pub fn print_page(text: &str) -> Result<(), CliError> {
    match width() {
        Some(width) => print(&folded(text, width)),
        None => print(text),
    }
}

/// Columns of the terminal, if stdout is one.
pub fn width() -> Option<usize> {
    stdout_width()
}

/// Whether the reader of the output has gone, so that a command that prints in a loop should end, as in `… | head -1`.
/// Finds that out without writing, so that a command with nothing to print at the moment ends, too.
pub fn reader_left() -> bool {
    if NOBODY_READS.load(Ordering::Relaxed) {
        return true;
    }
    let out = io::stdout();
    let mut polled = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let asked = poll(&mut polled, PollTimeout::ZERO);
    let ended = PollFlags::POLLERR | PollFlags::POLLHUP;
    asked.is_ok() && polled[0].revents().is_some_and(|found| found.intersects(ended))
}

/// Prints a page of `--watch`, and waits until the next one; `false` if the reader has gone. Only a terminal is
/// cleared; otherwise the pages follow each other.
///
/// # Errors
/// As `print`.
pub fn watched(page: &str) -> Result<bool, CliError> {
    let clear = if io::stdout().is_terminal() { "\u{1b}[H\u{1b}[2J" } else { "" };
    print(clear)?;
    print_page(page)?;
    if reader_left() {
        return Ok(false);
    }
    std::thread::sleep(WATCH);
    Ok(!reader_left())
}

/// Prints a message on stderr, beside the output. On a terminal no line is long enough to wrap. Errors of writing are
/// ignored.
pub fn note(text: &str) {
    let folded = stderr_width().map(|width| folded(text, width));
    let _ = anstream::stderr().write_all(folded.as_deref().unwrap_or(text).as_bytes());
}

/// One line of JSON.
///
/// # Errors
/// As `print`.
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::new(1, error.to_string()))?;
    print(&(ascii_json(&text) + "\n"))
}

/// Text that did not come from a stranger, escaped all the same.
pub fn shown(text: &str) -> String {
    clean("", text, &Redact::default()).into_owned()
}

/// The same, but line breaks are kept.
pub fn shown_lines(text: &str) -> String {
    clean(PROBLEMS, text, &Redact::default()).into_owned()
}

/// A stranger's text on one line, escaped, cut to this many columns; `-` for none.
pub fn stranger(text: Option<&str>, max: usize) -> String {
    text.map_or_else(|| "-".to_owned(), |text| StrangerText::new(text).in_columns(max))
}

/// The same for a name that begins a line: if it is not a valid handle, it is quoted, so that its words do not begin
/// the line.
pub fn handle(text: &str, max: usize) -> String {
    let shown = StrangerText::new(text).in_columns(max);
    if Handle::parse(text).is_ok() { shown } else { format!("\"{shown}\"") }
}

/// The wall clock.
pub fn now() -> Timestamp {
    Clock::start().now().wall
}

/// A moment for people, in this zone.
pub fn local(at: Timestamp, zone: &TimeZone) -> String {
    zone.to_datetime(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
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
