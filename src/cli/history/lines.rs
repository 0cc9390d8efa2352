//! One request as a row for people, as a line of JSON, or as a line of CSV. Strangers' text leaves only escaped.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, ContentArrangement, Table};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::ledger::RecordedRequest;
use crate::model::{Outcome, StrangerText, Verdict, ascii_json, columns};
use crate::policy::Mode;

/// How many columns a row has.
pub const COLUMNS: usize = 9;
const HEADER: [&str; COLUMNS] =
    ["RECEIVED", "DECIDED", "ANSWERED", "HANDLE", "VERDICT", "BY", "OUTCOME", "REQUEST", "NAME AND MESSAGE"];
const VERDICT: usize = 4;
const BY: usize = 5;
const OUTCOME: usize = 6;
const REQUEST: usize = 7;
const TEXT: usize = 8;
/// Most characters shown of a handle and of name and message together.
const HANDLE_MAX: usize = 64;
/// The same on the narrowest terminal.
const HANDLE_MIN: usize = 24;
const TEXT_MAX: usize = 60;
/// Fewest characters of an id on a terminal, and most before it is shown whole.
const SHORT_MIN: usize = 8;
const SHORT_MAX: usize = 18;
/// A message is shown only if it has at least this many columns.
const TEXT_MIN: usize = 16;

/// One line of `history --json`. Its keys are public: a change of one is a line in `CHANGELOG.md`.
///
/// Text is as received. Characters beyond ASCII are written as `\u…`: a JSON parser reads the same text, and a terminal
/// sees only ASCII.
pub fn json(request: &RecordedRequest) -> String {
    let raw = |text: Option<&StrangerText>| text.map(|text| text.raw().to_owned());
    let answer = request
        .answer
        .as_ref()
        .map(|answer| json!({ "outcome": answer.outcome, "attempts": answer.attempts, "at": answer.at }));
    let settled = request
        .settled
        .as_ref()
        .map(|word| json!({ "as": word, "at": request.settled_at, "elsewhere": request.elsewhere }));
    let removed = request.removed.as_ref();
    let removed = removed.map(|one| json!({ "by": one.by, "at": one.at, "note": one.note }));
    let end_moved = request.end_moved.as_ref();
    let end_moved =
        end_moved.map(|one| json!({ "ends_at": one.ends_at, "by": one.by, "at": one.at, "note": one.note }));
    // `json!` would not keep this order.
    let fields = [
        ("request", json!(request.request.id)),
        ("agent", json!(request.agent)),
        ("handle", json!(raw(request.request.sender.original()))),
        ("name", json!(raw(request.request.name.as_ref()))),
        ("message", json!(raw(request.request.message.as_ref()))),
        ("received_at", json!(request.first_seen)),
        ("decided_at", json!(request.decided_at)),
        ("answered_at", json!(request.answered_at)),
        ("verdict", json!(request.verdict)),
        ("by", json!(request.by)),
        ("note", json!(request.note)),
        ("mode", json!(mode(request))),
        ("policy", json!(request.policy.as_ref().map(|policy| policy.as_str()))),
        ("answer", json!(answer)),
        ("settled", json!(settled)),
        ("ends_at", json!(request.ends_at)),
        ("end_in_doubt", json!(request.end_in_doubt.map(|doubt| doubt.as_str()))),
        ("end_moved", json!(end_moved)),
        ("removed", json!(removed)),
        ("contact_removed_at", json!(request.contact_removed_at)),
    ];
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    ascii_json(&format!("{{{}}}\n", fields.join(",")))
}

fn mode(request: &RecordedRequest) -> &'static str {
    match request.mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
    }
}

/// The header of [`csv`].
pub const CSV_HEADER: &str = "request,agent,handle,name,message,received_at,decided_at,answered_at,verdict,by,note,mode,outcome,settled,settled_at,policy,ends_at,removed_by,contact_removed_at\n";

/// One line of CSV (RFC 4180), times in UTC. Strangers' text is escaped, and never begins like a spreadsheet's formula.
pub fn csv(request: &RecordedRequest) -> String {
    let stranger = |text: Option<&StrangerText>| {
        let text = text.map(|text| text.shown(StrangerText::KEPT_MAX)).unwrap_or_default();
        if text.starts_with(['=', '+', '-', '@', '\t']) { format!("'{text}") } else { text }
    };
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let escaped =
        |text: Option<&str>| text.map(|text| StrangerText::new(text).shown(StrangerText::KEPT_MAX)).unwrap_or_default();
    let handle = match request.request.sender.handle() {
        Some(handle) => handle.to_string(),
        None => stranger(request.request.sender.original()),
    };
    let fields = [
        escaped(Some(request.request.id.as_str())),
        request.agent.to_string(),
        handle,
        stranger(request.request.name.as_ref()),
        stranger(request.request.message.as_ref()),
        time(Some(request.first_seen)),
        time(request.decided_at),
        time(request.answered_at),
        request.verdict.map(|verdict| verdict.as_str().to_owned()).unwrap_or_default(),
        escaped(request.by.as_ref().map(ToString::to_string).as_deref()),
        stranger(request.note.as_deref().map(StrangerText::new).as_ref()),
        mode(request).to_owned(),
        request.outcome.map(|outcome| outcome.to_string()).unwrap_or_default(),
        escaped(request.settled.as_deref()),
        time(request.settled_at),
        request.policy.as_ref().map(|policy| policy.as_str().to_owned()).unwrap_or_default(),
        time(request.ends_at),
        stranger(request.removed.as_ref().map(|removed| StrangerText::new(&removed.by.to_string())).as_ref()),
        time(request.contact_removed_at),
    ];
    let quoted = |field: &String| {
        if field.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.clone()
        }
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

/// Where the rows are shown.
#[derive(Debug, Clone)]
pub struct TerminalSize {
    /// Columns of the terminal; `None`: no terminal.
    pub width: Option<usize>,
    /// Rows are printed one by one, before the next ones are known.
    pub following: bool,
    /// The zone that times are shown in.
    pub zone: TimeZone,
    /// The current time, which decides what "today" is.
    pub now: Timestamp,
}

impl TerminalSize {
    /// A time for people: on a terminal, only the time of day if it is today.
    pub fn time(&self, at: Timestamp) -> String {
        let (at, now) = (self.zone.to_datetime(at), self.zone.to_datetime(self.now));
        let format = match self.width {
            Some(_) if at.date() == now.date() => "%H:%M:%S",
            Some(_) if at.year() == now.year() => "%m-%d %H:%M",
            Some(_) => "%Y-%m-%d",
            None => "%Y-%m-%d %H:%M:%S",
        };
        at.strftime(format).to_string()
    }

    /// Most characters of a handle, so that a long one does not take the room of other columns.
    fn handle_max(&self) -> usize {
        self.width.map_or(HANDLE_MAX, |width| (width / 3).clamp(HANDLE_MIN, HANDLE_MAX))
    }

    /// One row of the table. Each cell is one line of escaped text.
    pub fn row(&self, request: &RecordedRequest) -> [String; COLUMNS] {
        let escaped = |text: &str| StrangerText::new(text).shown(StrangerText::SHOWN_MAX);
        let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| self.time(at));
        let handle = match request.request.sender.original() {
            Some(handle) => crate::cli::output::handle(handle.raw(), self.handle_max()),
            None if request.blanked => "(blanked)".to_owned(),
            None => "-".to_owned(),
        };
        let said = [&request.request.name, &request.request.message].into_iter().flatten();
        // Brackets mark doorman's own notes here: a stranger's text must not contain them.
        let theirs = said.map(|text| text.in_columns(TEXT_MAX).replace('[', "(").replace(']', ")"));
        let mut said: Vec<String> = vec![theirs.collect::<Vec<_>>().join(": ")];
        let noted = |who: &str, note: &Option<String>| {
            note.as_ref().map(|note| format!("[{who}: {}]", StrangerText::new(note).in_columns(TEXT_MAX)))
        };
        said.extend(noted("note", &request.note));
        said.extend(request.contact_notes(&|at| self.time(at)).iter().map(|note| format!("[{}]", escaped(note))));
        said.retain(|text| !text.is_empty());
        [
            time(Some(request.first_seen)),
            time(request.decided_at),
            time(request.answered_at),
            handle,
            request.verdict.map_or("-", Verdict::as_str).to_owned(),
            request.by.as_ref().map_or("-".to_owned(), |by| escaped(&by.to_string())),
            outcome(request),
            escaped(request.request.id.as_str()),
            if said.is_empty() { "-".to_owned() } else { said.join(" ") },
        ]
    }

    /// Rows under a header, aligned by spaces, each on one line; coloured on a terminal. A narrow terminal gets short ids and
    /// fewer columns: no word is broken. If there is no room for texts, doorman's own notes stand on a line below their row.
    pub fn table(&self, rows: &[[String; COLUMNS]], header: bool) -> String {
        let Some(width) = self.width else {
            return drawn(rows, &(0..COLUMNS).collect::<Vec<_>>(), &self.least(), header, false);
        };
        let mut rows = rows.to_vec();
        let length = short_ids(&rows);
        for row in &mut rows {
            row[REQUEST].truncate(row[REQUEST].floor_char_boundary(length));
        }
        // The columns in the order in which they are left out. `long`: if ids are too long to be distinguished when
        // shortened, the sender's handle names the request.
        let long = (length > SHORT_MAX).then_some(REQUEST);
        let mut columns: Vec<usize> = (0..COLUMNS).collect();
        for gone in [None, Some(TEXT), Some(0), long, Some(1), Some(2), Some(BY)] {
            columns.retain(|column| Some(*column) != gone);
            let fixed: usize =
                columns.iter().filter(|column| **column != TEXT).map(|column| self.wide(&rows, *column) + 2).sum();
            let room = width.saturating_sub(fixed);
            if columns.contains(&TEXT) {
                if room < TEXT_MIN {
                    continue;
                }
                for row in &mut rows {
                    row[TEXT] = fit(&row[TEXT], room);
                }
                break;
            }
            if fixed <= width + 2 {
                break;
            }
        }
        let table = drawn(&rows, &columns, &self.least(), header, true);
        if columns.contains(&TEXT) {
            return table;
        }
        // Each row is one line.
        let mut below = rows.iter().map(|row| notes(&row[TEXT])).rev().collect::<Vec<_>>();
        below.extend(header.then_some(None));
        let mut text = String::new();
        for line in table.lines() {
            text += &format!("{line}\n");
            if let Some(Some(notes)) = below.pop() {
                text += &format!("  {}\n", fit(notes, width.saturating_sub(2)));
            }
        }
        text
    }

    /// Columns that this column takes.
    fn wide(&self, rows: &[[String; COLUMNS]], column: usize) -> usize {
        let cells = rows.iter().map(|row| columns(&row[column])).max().unwrap_or_default();
        cells.max(HEADER[column].len()).max(self.least()[column])
    }

    /// Least widths while following.
    fn least(&self) -> [usize; COLUMNS] {
        match (self.following, self.width) {
            (false, _) => [0; COLUMNS],
            (true, Some(_)) => [11, 11, 11, 16, 7, 10, 8, 8, 0],
            (true, None) => [19, 19, 19, 24, 7, 16, 17, 36, 0],
        }
    }
}

/// The outcome, in a word or two.
fn outcome(request: &RecordedRequest) -> String {
    if request.mode == Mode::Shadow && request.settled.is_none() {
        return "shadow".to_owned();
    }
    if request.contact_removed_at.is_some() {
        return "removed".to_owned();
    }
    match (&request.outcome, request.settled.as_deref()) {
        (Some(Outcome::SettledElsewhere), Some(word @ ("approved" | "rejected"))) => format!("{word} elsewhere"),
        (Some(Outcome::SettledElsewhere), Some(word @ ("expired" | "cancelled"))) => word.to_owned(),
        (Some(outcome), _) => outcome.to_string(),
        (None, _) if request.answer.is_some() => "open".to_owned(),
        (None, _) => "-".to_owned(),
    }
}

/// How long ids must be so that they differ.
fn short_ids(rows: &[[String; COLUMNS]]) -> usize {
    let mut ids: Vec<&str> = rows.iter().map(|row| row[REQUEST].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let differ = |length: usize| {
        ids.windows(2)
            .all(|two| two[0][..two[0].floor_char_boundary(length)] != two[1][..two[1].floor_char_boundary(length)])
    };
    (SHORT_MIN..=SHORT_MAX).find(|length| differ(*length)).unwrap_or(usize::MAX)
}

/// As much of a text as fits, with a mark if it was cut.
fn fit(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    let mut shown = String::new();
    for character in text.chars() {
        if columns(&shown) + columns(character.encode_utf8(&mut [0; 4])) + 2 > room {
            break;
        }
        shown.push(character);
    }
    shown + "…"
}

/// Doorman's own notes in the last cell, which begin with the first bracket.
fn notes(cell: &str) -> Option<&str> {
    cell.find('[').map(|at| &cell[at..])
}

fn drawn(
    rows: &[[String; COLUMNS]],
    columns: &[usize],
    least: &[usize; COLUMNS],
    header: bool,
    terminal: bool,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if terminal {
        // `anstream` takes the colours out again if they are not wanted.
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let padded = |text: &str, column: usize| {
        format!("{text}{}", " ".repeat(least[column].saturating_sub(crate::model::columns(text))))
    };
    if header {
        table.set_header(columns.iter().map(|column| padded(HEADER[*column], *column)).collect::<Vec<_>>());
    }
    for row in rows {
        let shadow = row[OUTCOME] == "shadow";
        let cells = columns.iter().map(|column| {
            let cell = Cell::new(padded(&row[*column], *column));
            let colour = match (*column, row[*column].as_str()) {
                (VERDICT, "approve" | "reject") if shadow => Color::DarkGrey,
                (VERDICT, "approve") => Color::Green,
                (VERDICT, "reject") => Color::Red,
                (VERDICT, "defer") => Color::Yellow,
                _ => return cell,
            };
            if terminal { cell.fg(colour) } else { cell }
        });
        table.add_row(cells.collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, outcome: &str) -> [String; COLUMNS] {
        let cells =
            ["21:06:45", "21:06:46", "21:06:50", "acme/3-bot", "approve", "acme-bots", outcome, id, "Ann: let me in"];
        cells.map(str::to_owned)
    }

    fn page(width: Option<usize>) -> TerminalSize {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        TerminalSize { width, following: false, zone: TimeZone::get("Europe/Paris").unwrap(), now }
    }

    fn shown(rows: &[[String; COLUMNS]], width: usize) -> String {
        anstream::adapter::strip_str(&page(Some(width)).table(rows, true)).to_string()
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_word_is_broken() {
        let ids = ["0192f3c4-9a1b-7000-8000-000000000001", "0192f3c4-9a2c-7000-8000-000000000002"];
        let rows = [row(ids[0], "approved"), row(ids[1], "shadow")];
        for width in [60, 80, 100, 120, 200] {
            let text = shown(&rows, width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert_eq!(text.lines().count(), 3, "{text}");
        }
        insta::assert_snapshot!(shown(&rows, 80), @r"
        DECIDED   ANSWERED  HANDLE      VERDICT  BY         OUTCOME   REQUEST
        21:06:46  21:06:50  acme/3-bot  approve  acme-bots  approved  0192f3c4-9a1
        21:06:46  21:06:50  acme/3-bot  approve  acme-bots  shadow    0192f3c4-9a2
        ");
        // Ids that differ only at their ends are left out, which leaves room for the times.
        let long = ["0192f3c4-9a1b-7000-8000-000000000001", "0192f3c4-9a1b-7000-8000-000000000002"];
        insta::assert_snapshot!(shown(&long.map(|id| row(id, "approved")), 80), @r"
        DECIDED   ANSWERED  HANDLE      VERDICT  BY         OUTCOME
        21:06:46  21:06:50  acme/3-bot  approve  acme-bots  approved
        21:06:46  21:06:50  acme/3-bot  approve  acme-bots  approved
        ");
    }

    #[test]
    fn a_narrow_terminal_has_doormans_notes_below_the_row() {
        let mut rows = [
            row("0192f3c4-9a1b-7000-8000-000000000001", "approved"),
            row("0192f3c4-9a1b-7000-8000-000000000001", "approved"),
        ];
        rows[0][TEXT] = "Ann: let me (in) [ends 21:07:50]".to_owned();
        rows[1][TEXT] = "Ann: let me (in) [ends 23:06:50, moved by ann]".to_owned();
        insta::assert_snapshot!(shown(&rows, 80), @r"
        RECEIVED  DECIDED   ANSWERED  HANDLE      VERDICT  BY         OUTCOME   REQUEST
        21:06:45  21:06:46  21:06:50  acme/3-bot  approve  acme-bots  approved  0192f3c4
          [ends 21:07:50]
        21:06:45  21:06:46  21:06:50  acme/3-bot  approve  acme-bots  approved  0192f3c4
          [ends 23:06:50, moved by ann]
        ");
        let text = anstream::adapter::strip_str(&page(Some(80)).table(&rows, false)).to_string();
        assert_eq!(text.lines().nth(1), Some("  [ends 21:07:50]"), "without a header as well: {text}");
        assert!(shown(&rows, 200).lines().count() == 3, "if there is room, they stand in the row");
    }

    #[test]
    fn people_read_local_time_and_the_date_if_it_is_not_today() {
        let time = |width, text: &str| page(width).time(text.parse().unwrap());
        assert_eq!(time(Some(80), "2026-11-23T11:00:00Z"), "12:00:00");
        assert_eq!(time(Some(80), "2026-11-22T11:00:00Z"), "11-22 12:00");
        assert_eq!(time(Some(80), "2025-11-22T11:00:00Z"), "2025-11-22");
        assert_eq!(time(None, "2026-11-23T11:00:00Z"), "2026-11-23 12:00:00");
    }
}
