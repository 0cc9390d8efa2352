//! A text that a stranger chose never begins a line on a terminal of 80 columns and 24 lines, so it cannot look like
//! one of our lines.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::history::lines::TerminalSize;
use super::{contacts, doubts, pending, review};
use crate::ledger::RecordedRequest;
use crate::ledger::entry::Via;
use crate::ledger::read::RecordedContact;
use crate::model::{AgentId, ContactId, ContactRequest, RequestId, Sender, StrangerText, Verdict, columns};
use crate::ops::control::wire::{DoubtRow, PendingRow};
use crate::ops::log::fields::{FieldValue, LogFields, clean};
use crate::ops::log::folded::folded;
use crate::ops::log::format::{LineFormat, LogLine};
use crate::policy::{Circumstances, ClockHealth, Mode, PolicyState};
use crate::secret::Redact;

const WIDTH: usize = 80;
/// Texts that imitate our lines.
const FORGED: [&str; 4] = [
    "REQUEST r-9  AGE 2h  STAGE waiting",
    "r-9      @friend  -     hello  2h   waiting  approve  friends",
    "approved by ann at 08:00:09",
    "[a]pprove [r]eject [h]old [s]kip [u]ndo [q]uit > ",
];

/// Each imitation, behind every filler that could push it to the beginning of a line.
fn hostile() -> impl Iterator<Item = String> {
    let fillers = [" ", "x", "x ", "名", "é", "\u{1b}", "\n", "\u{2003}", "\u{200b}", "\\", "\t "];
    let pushed = fillers.into_iter().flat_map(|filler| (0..110).map(move |count| filler.repeat(count)));
    pushed.zip(FORGED.into_iter().cycle()).map(|(before, forged)| format!("{before}{forged}"))
}

/// The lines of a page as a terminal shows them, if every character beyond ASCII takes its greatest width.
fn lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in page.lines() {
        let mut shown = String::new();
        for character in line.chars() {
            if columns(&shown) + columns(character.encode_utf8(&mut [0; 4])) > WIDTH {
                lines.push(std::mem::take(&mut shown));
            }
            shown.push(character);
        }
        lines.push(shown);
    }
    lines
}

fn innocent(what: &str, page: &str) {
    let page = anstream::adapter::strip_str(page).to_string();
    for line in lines(&page) {
        assert!(columns(&line) <= WIDTH);
        // A row may be indented by one or two columns.
        let begins = line.strip_prefix("  ").or_else(|| line.strip_prefix(' ')).unwrap_or(&line);
        let forged = FORGED.iter().find(|forged| begins.starts_with(&forged[..5]));
        let ours = begins.starts_with("REQUEST ") && !begins.contains("r-9");
        assert!(forged.is_none() || ours, "{what} shows a stranger's line:\n{line}\n\nin\n{page}");
    }
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn agent() -> AgentId {
    AgentId::parse("a0000000-0000-4000-8000-000000000001").unwrap()
}

fn request(id: &str, text: &str) -> ContactRequest {
    ContactRequest {
        id: RequestId::parse(id).unwrap(),
        sender: Sender::parse(Some(text)),
        name: Some(StrangerText::new(text)),
        message: Some(StrangerText::new(text)),
        inserted_at: None,
        ids: None,
    }
}

fn row(id: &str, text: &str) -> PendingRow {
    PendingRow {
        request: id.to_owned(),
        agent: agent(),
        handle: Some(text.to_owned()),
        name: Some(text.to_owned()),
        message: Some(text.to_owned()),
        inserted_at: None,
        first_seen: now(),
        verdict: Some(Verdict::Defer),
        by: Some("no_match".to_owned()),
        doubts: Vec::new(),
        replies: Vec::new(),
        due: None,
        stage: "deferred".to_owned(),
        held_by: None,
    }
}

fn shown(page: &str) -> String {
    folded(page, WIDTH)
}

/// One as long as the platform's ids, and a short one.
const IDS: [&str; 2] = ["0192f3c4-9a1b-7000-8000-000000000001", "r-1"];

#[test]
fn pending_and_review_show_no_line_of_a_strangers() {
    for text in hostile() {
        for id in IDS {
            innocent("pending", &shown(&pending::page_of(&[row(id, &text), row("r-2", "x")], now(), Some(WIDTH))));
            innocent("review", &shown(&review::page(&row(id, &text), 0, 1, None)));
        }
    }
}

#[test]
fn contacts_and_doubts_show_no_line_of_a_strangers() {
    for text in hostile() {
        let contact = RecordedContact {
            agent: agent(),
            contact: ContactId::parse("c-1").unwrap(),
            handle: Some(StrangerText::new(&text)),
            name: Some(StrangerText::new(&text)),
            kind: None,
            since: Some(now()),
            request: RequestId::parse(IDS[0]).ok(),
            by: None,
            ends_at: None,
            end_in_doubt: None,
        };
        innocent("contacts", &shown(&contacts::page_of(&[contact], &[], now(), Some(WIDTH))));
        let doubt = DoubtRow {
            agent: agent(),
            owner: text.clone(),
            fact: "rejected".to_owned(),
            since: now(),
            basis: "request-vanished".to_owned(),
            subject: IDS[0].to_owned(),
            rests_on: format!("request {} is not listed any more, and nobody said how it ended", IDS[0]),
            ends_at: None,
        };
        innocent("doubts", &shown(&doubts::page(&[doubt], now(), Some(WIDTH))));
    }
}

#[test]
fn history_shows_no_line_of_a_strangers() {
    let page = TerminalSize { width: Some(WIDTH), following: false, zone: TimeZone::UTC, now: now() };
    let note = "hello [removed: expired]".to_owned();
    for (text, id) in hostile().chain([note]).zip(IDS.into_iter().cycle()) {
        let recorded = RecordedRequest {
            row: 1,
            decision_row: None,
            answer_row: None,
            answer_after: None,
            mode: Mode::Enforce,
            happened_at: now(),
            settled_at: None,
            elsewhere: false,
            agent: agent(),
            request: request(id, &text),
            first_seen: now(),
            via: Via::Event,
            blanked: false,
            decided_at: None,
            verdict: None,
            by: None,
            policy: None,
            answered_at: None,
            answer: None,
            settled: None,
            outcome: None,
            note: None,
            removed: None,
            lasts: None,
            ends_at: None,
            end_in_doubt: None,
            end_moved: None,
            contact_removed_at: None,
        };
        innocent("history", &shown(&page.table(&[page.row(&recorded)], true)));
        let [.., said] = page.row(&recorded);
        assert!(!said.contains('['), "what stands in brackets is doorman's own note: {said}");
    }
}

#[test]
fn explain_shows_no_line_of_a_strangers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.toml");
    let mut text = "version = 1\n[policy]\nmode = \"enforce\"\nprotect = [\"john\"]\n".to_owned();
    let _ =
        write!(text, "[rules.sales]\nthen = \"reject\"\nwhen = {{ message_contains = \"invoice\", name = \"bob\" }}\n");
    let _ = write!(text, "[rules.friends]\nthen = \"approve\"\nwhen = {{ handle = \"friends/*\" }}\n");
    std::fs::write(&path, text).unwrap();
    let policy = crate::policy::load(&path, None, &crate::policy::Shrunk::Refuse).policy.unwrap();
    let circumstances = Circumstances {
        first_seen: now(),
        clock: ClockHealth::Sound,
        contacts: None,
        sender_is_contact: None,
        owner_is_contact: None,
    };
    for text in hostile() {
        let request = request("r-1", &text);
        let explained =
            crate::policy::explain::explain(&policy, &request, &circumstances, &PolicyState::default(), now(), None);
        innocent("explain", &shown(&explained.render(true, &|at| at.to_string())));
    }
}

#[test]
fn the_log_shows_no_line_of_a_strangers() {
    for text in hostile() {
        let mut fields = LogFields::default();
        fields.set("agent", FieldValue::Text(agent().to_string()));
        for name in ["handle", "name"] {
            fields.set(name, FieldValue::Text(clean(name, &text, &Redact::default()).into_owned()));
        }
        let line = LogLine {
            ts: now(),
            level: tracing::Level::INFO,
            event: "decided".to_owned(),
            message: "defer by no_match".to_owned(),
            fields,
        };
        let shown = shown(&String::from_utf8(line.render(LineFormat::Human { colour: false })).unwrap());
        innocent("the log", &shown);
    }
}

#[test]
fn what_wraps_is_marked() {
    let line = format!("{} tail\nnext\n", "x".repeat(78));
    assert_eq!(folded(&line, 80), format!("{}\n    | tail\nnext\n", "x".repeat(78)), "a word stays whole");
    let line = format!("ab {} {}\n", "y".repeat(100), "word ".repeat(16));
    let wrapped = folded(&line, 80);
    assert!(wrapped.starts_with(&format!("ab {}\n    | yyy", "y".repeat(77))), "{wrapped}");
    assert!(wrapped.lines().all(|line| line.len() <= 80) && wrapped.matches("word").count() == 16, "{wrapped}");
    assert_eq!(wrapped.replace("\n    | ", " ").split(' ').filter(|word| *word == "word").count(), 16, "{wrapped}");
    assert_eq!(folded("\u{1b}[1mab\u{1b}[0m\n", 80), "\u{1b}[1mab\u{1b}[0m\n", "a colour takes no column");
}
