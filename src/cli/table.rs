//! Tables for people. In a pipe a table is as wide as it needs to be. On a terminal it is used only if it fits, with
//! short ids if necessary; otherwise each row becomes a block. A header is never broken, and each id that is shown can
//! be used in a command.

use std::collections::BTreeSet;

use comfy_table::{ContentArrangement, Table, presets};

use crate::model::columns;

/// Fewest characters of an id, and most before it is shown whole.
const SHORT_MIN: usize = 8;
const SHORT_MAX: usize = 18;

/// A table of rows under a header, for the width of stdout.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    fitted(header, rows, super::output::width())
}

/// The same on a terminal of this width; `None`: no terminal.
pub(super) fn fitted(header: &[&str], rows: Vec<Vec<String>>, width: Option<usize>) -> String {
    let whole = drawn(header, &rows);
    let Some(width) = width.filter(|width| widest(&whole) > *width) else { return whole };
    let (short_header, short_rows) = shortened(header, &rows);
    let short = drawn(&short_header, &short_rows);
    if widest(&short) <= width { short } else { blocks(header, &rows, width) }
}

fn drawn(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied()).add_rows(rows.iter().cloned());
    table.trim_fmt() + "\n"
}

/// Shortens ids, and leaves out the agent's id if there is only one row, which has its handle.
fn shortened<'a>(header: &[&'a str], rows: &[Vec<String>]) -> (Vec<&'a str>, Vec<Vec<String>>) {
    let (mut header, mut rows) = (header.to_vec(), short_ids(header, rows));
    let place = |name: &str| header.iter().position(|other| *other == name);
    if let (Some(agent), Some(handle), [row]) = (place("AGENT"), place("HANDLE"), rows.as_mut_slice())
        && row[handle] != "-"
    {
        header.remove(agent);
        row.remove(agent);
    }
    (header, rows)
}

/// Shortens ids, as far as they still differ.
fn short_ids(header: &[&str], rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut rows = rows.to_vec();
    for (at, _) in header.iter().enumerate().filter(|(_, name)| is_id(name)) {
        let ids: BTreeSet<String> = rows.iter().map(|row| row[at].clone()).collect();
        let short = |id: &str, length: usize| id[..id.floor_char_boundary(length)].to_owned();
        let length = (SHORT_MIN..=SHORT_MAX).find(|length| {
            let shorts: BTreeSet<String> = ids.iter().map(|id| short(id, *length)).collect();
            shorts.len() == ids.len()
        });
        if let Some(length) = length {
            rows.iter_mut().for_each(|row| row[at] = short(&row[at], length));
        }
    }
    rows
}

/// One a row: the first cell, which has room for a whole id, what doorman says of it, and below, each on a line of its own,
/// what strangers chose.
fn blocks(header: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let short = short_ids(header, rows);
    let block = |(whole, row): (&Vec<String>, &Vec<String>)| {
        let mut lines = vec![format!("{} {}", header[0], whole[0])];
        let mut line = String::new();
        let mut chosen = String::new();
        for (name, cell) in header.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty() && *cell != "-") {
            let said = format!("{name} {cell}");
            let said = said.trim_start();
            if matches!(*name, "HANDLE" | "NAME" | "MESSAGE") {
                chosen += &format!("  {said}\n");
            } else if !line.is_empty() && columns(&line) + 2 + columns(said) > width {
                lines.push(std::mem::replace(&mut line, format!("  {said}")));
            } else {
                line += &format!("  {said}");
            }
        }
        lines.extend((!line.is_empty()).then_some(line));
        lines.join("\n") + "\n" + &chosen
    };
    rows.iter().zip(&short).map(block).collect::<Vec<_>>().join("\n")
}

fn is_id(name: &str) -> bool {
    matches!(name, "REQUEST" | "AGENT")
}

fn widest(text: &str) -> usize {
    text.lines().map(columns).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [&str; 6] = ["REQUEST", "HANDLE", "NAME", "AGE", "STAGE", "BY"];

    fn rows(ids: &[&str], name: &str) -> Vec<Vec<String>> {
        let row = |id: &&str| [id, "@mallory/offers", name, "2h", "deferred", "no_match"].map(str::to_owned).to_vec();
        ids.iter().map(row).collect()
    }

    #[test]
    fn a_pipe_gets_whole_ids_and_a_wide_terminal_too() {
        let rows = rows(&["0192f3c4-9a1b-7000-8000-000000000001"], "-");
        for width in [None, Some(120)] {
            assert!(fitted(&HEADER, rows.clone(), width).contains("0192f3c4-9a1b-7000-8000-000000000001"));
        }
    }

    #[test]
    fn a_narrow_terminal_gets_ids_as_short_as_they_differ_and_whole_headers() {
        let ids = ["0192f3c4-9a1b-7000-8000-000000000001", "0192f3c4-9a2c-7000-8000-000000000002"];
        let text = fitted(&HEADER, rows(&ids, "Mallory"), Some(80));
        insta::assert_snapshot!(text, @r"
         REQUEST       HANDLE           NAME     AGE  STAGE     BY
         0192f3c4-9a1  @mallory/offers  Mallory  2h   deferred  no_match
         0192f3c4-9a2  @mallory/offers  Mallory  2h   deferred  no_match
        ");
        let text = fitted(&HEADER, rows(&["0192f3c4-9a1b-7000-8000-000000000001"], "Mallory"), Some(70));
        assert!(text.contains(" 0192f3c4  @mallory"), "{text}");
    }

    #[test]
    fn what_does_not_fit_is_a_block_a_row_and_strangers_text_has_lines_of_its_own() {
        let ids = ["0192f3c4-9a1b-7000-8000-000000000001", "r-2"];
        let text = fitted(&HEADER, rows(&ids, "Bob  STAGE waiting  BY friends, with a long tail"), Some(60));
        insta::assert_snapshot!(text, @r"
        REQUEST 0192f3c4-9a1b-7000-8000-000000000001
          AGE 2h  STAGE deferred  BY no_match
          HANDLE @mallory/offers
          NAME Bob  STAGE waiting  BY friends, with a long tail

        REQUEST r-2
          AGE 2h  STAGE deferred  BY no_match
          HANDLE @mallory/offers
          NAME Bob  STAGE waiting  BY friends, with a long tail
        ");
        let text = fitted(&HEADER, rows(&ids, "x"), Some(24));
        assert!(text.contains("\n  AGE 2h  STAGE deferred\n  BY no_match\n"), "{text}");
    }

    #[test]
    fn the_only_agent_goes_by_its_handle_if_there_is_no_room() {
        let header = ["AGENT", "HANDLE", "STATE"];
        let row =
            |handle: &str| vec![["11111111-2222-4333-8444-555555555555", handle, "live"].map(str::to_owned).to_vec()];
        let text = fitted(&header, row("ana/helper"), Some(30));
        assert!(text.contains("ana/helper") && !text.contains("11111111"), "{text}");
        assert!(fitted(&header, row("-"), Some(30)).contains("11111111 "), "one without a handle is named by its id");
    }
}
