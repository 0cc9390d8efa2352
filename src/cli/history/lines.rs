//! One request as a row for people, or as a line of JSON. Strangers' text leaves only escaped.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, Width};
use serde_json::json;

use crate::ledger::RecordedRequest;
use crate::model::{StrangerText, Verdict, ascii_json};

/// How many columns a row has.
pub const COLUMNS: usize = 7;
const HEADER: [&str; COLUMNS] = ["RECEIVED", "HANDLE", "VERDICT", "BY", "OUTCOME", "REQUEST", "NAME AND MESSAGE"];
/// Most characters shown of a handle and of name and message together.
const HANDLE_MAX: usize = 64;
const TEXT_MAX: usize = 60;

/// The shape that is promised: `docs/architecture.md`, "Commands".
///
/// Text is as received. What is not ASCII is written as `\u…`, which is the same text to whoever parses it and nothing
/// to a terminal.
pub fn json(request: &RecordedRequest) -> String {
    let raw = |text: Option<&StrangerText>| text.map(|text| text.raw().to_owned());
    let answer = request
        .answer
        .as_ref()
        .map(|answer| json!({ "outcome": answer.outcome, "attempts": answer.attempts, "at": answer.at }));
    // In this order, which `json!` would not keep.
    let fields = [
        ("request", json!(request.request.id)),
        ("agent", json!(request.agent)),
        ("handle", json!(raw(request.request.sender.original()))),
        ("name", json!(raw(request.request.name.as_ref()))),
        ("message", json!(raw(request.request.message.as_ref()))),
        ("received_at", json!(request.first_seen)),
        ("verdict", json!(request.verdict)),
        ("by", json!(request.by)),
        ("policy", json!(request.policy.as_ref().map(|policy| policy.as_str()))),
        ("answer", json!(answer)),
    ];
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    ascii_json(&format!("{{{}}}\n", fields.join(",")))
}

/// One row of the table. Each cell is one line of harmless text.
pub fn row(request: &RecordedRequest) -> [String; COLUMNS] {
    let escaped = |text: &str| StrangerText::new(text).shown(StrangerText::SHOWN_MAX);
    let handle = match request.request.sender.original() {
        Some(handle) => handle.shown(HANDLE_MAX),
        None if request.blanked => "(blanked)".to_owned(),
        None => "-".to_owned(),
    };
    let outcome = match (&request.outcome, &request.answer) {
        (Some(outcome), _) => outcome.to_string(),
        (None, Some(_)) => "open".to_owned(),
        (None, None) => "-".to_owned(),
    };
    let said = [&request.request.name, &request.request.message].into_iter().flatten();
    let said: Vec<String> = said.map(|text| text.shown(TEXT_MAX)).collect();
    [
        format!("{:.0}", request.first_seen),
        handle,
        request.verdict.map_or("-", Verdict::as_str).to_owned(),
        request.by.as_deref().map_or("-".to_owned(), escaped),
        outcome,
        escaped(request.request.id.as_str()),
        if said.is_empty() { "-".to_owned() } else { said.join(": ") },
    ]
}

/// Least widths, with the two spaces between columns, while following, where one row does not know the next.
const WIDTHS: [u16; COLUMNS] = [22, 26, 9, 18, 19, 38, 0];

/// Rows under a header, aligned by spaces, each on one line however wide the window is; coloured on a terminal.
pub fn table(rows: &[[String; COLUMNS]], header: bool, terminal: bool, following: bool) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if terminal {
        // `anstream` takes the colours out again where they are not wanted.
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    if header {
        table.set_header(HEADER);
    }
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, text)| {
            let cell = Cell::new(text);
            let colour = match (column, text.as_str()) {
                (2, "approve") => Color::Green,
                (2, "reject") => Color::Red,
                (2, "defer") => Color::Yellow,
                _ => return cell,
            };
            if terminal { cell.fg(colour) } else { cell }
        });
        table.add_row(cells.collect::<Vec<_>>());
    }
    for (column, width) in table.column_iter_mut().zip(WIDTHS) {
        column.set_padding((0, 2));
        if following {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
        }
    }
    format!("{}\n", table.trim_fmt())
}
