//! Lines that fit a terminal: otherwise a terminal begins the next line with whatever stands there, also with what a
//! stranger wrote.

use std::io::{self, IsTerminal as _};

use comfy_table::Table;

use crate::model::columns;

/// Width that is assumed for a terminal that does not report its width.
const COLUMNS_UNSAID: usize = 80;
/// The prefix of the rest of a line that is too long.
const REST: &str = "    | ";

/// Columns of the terminal, if stdout is one.
pub(crate) fn stdout_width() -> Option<usize> {
    io::stdout().is_terminal().then(|| said(Table::new().width()))
}

/// Columns of the terminal, if stderr is one.
pub(crate) fn stderr_width() -> Option<usize> {
    io::stderr().is_terminal().then(|| said(Table::new().use_stderr().width()))
}

fn said(columns: Option<u16>) -> usize {
    columns.filter(|columns| *columns > 0).map_or(COLUMNS_UNSAID, usize::from)
}

/// Lines of at most `width` columns: the rest of a longer line goes to the next line, with a prefix. Words stay whole
/// if that wastes at most half a line. Colours take no column.
pub(crate) fn folded(text: &str, width: usize) -> String {
    let mut out = String::with_capacity(text.len());
    if width < 4 * REST.len() {
        return text.to_owned();
    }
    for line in text.split_inclusive('\n') {
        let (mut at, mut rest) = (0, line);
        // The last space of this output line: the position after it in `out`, and its column.
        let mut space = None;
        while let Some((character, after)) = next(rest) {
            let wide = if character.starts_with('\u{1b}') { 0 } else { columns(character.trim_end_matches('\n')) };
            if at + wide > width {
                let whole = space.take().filter(|(_, column)| *column > width / 2 && character != " ");
                if let Some((place, column)) = whole {
                    out.replace_range(place - 1..place, &format!("\n{REST}"));
                    at = REST.len() + (at - column);
                } else {
                    out.push('\n');
                    out.push_str(REST);
                    at = REST.len();
                    if character == " " {
                        rest = after;
                        continue;
                    }
                }
            }
            out.push_str(character);
            (at, rest) = (at + wide, after);
            if character == " " {
                space = Some((out.len(), at));
            }
        }
    }
    out
}

/// The next character, or the next colour sequence of our own, and the rest.
fn next(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?;
    let end = match first {
        '\u{1b}' => text.find('m').map_or(1, |end| end + 1),
        character => character.len_utf8(),
    };
    Some(text.split_at(end))
}
