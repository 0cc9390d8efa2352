//! `doorman review`: one pending request after the other, with its reasons. An answer is sent when the next one is chosen, so
//! that the last one can be taken back.

use std::io::BufRead;

use super::agents::AgentArg;
use super::answer::{one, sentence};
use super::ledger::path;
use super::remote::{Remote, RemoteArgs};
use super::who::WhoArgs;
use super::{CliError, Global, output, pending};
use crate::ledger::LedgerReader;
use crate::model::{RequestId, Verdict};
use crate::ops::control::wire::{ControlOp, PendingList, PendingRow};
use crate::policy::Truth;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman review                  all who wait, one after the other
  doorman review --by no_match    only those that no rule matched

For each request: what it says, what the rules say of it, and a question.
  a  approve    h  hold: no rule answers it any more   u  undo the last answer
  r  reject     s  skip: it stays as it is             q  send the last, and end

An answer is sent when the next one is chosen, or at the end; until then `u`
undoes it. Ctrl-C ends without sending the last one.

Exit status: 0 all that was chosen is done, 1 not all, 69 no daemon.")]
pub struct Args {
    /// Only requests that were decided by this rule, `no_match`, `guard:…` or `limit:…`
    #[arg(long, value_name = "NAME", add = super::completions::reasons())]
    by: Option<String>,
    #[command(flatten)]
    agent: AgentArg,
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// What the person chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReviewChoice {
    Say(Verdict),
    Skip,
    Undo,
    Quit,
}

impl ReviewChoice {
    fn parse(line: &str) -> Option<Self> {
        match line.trim().to_ascii_lowercase().as_str() {
            "a" | "approve" => Some(ReviewChoice::Say(Verdict::Approve)),
            "r" | "reject" => Some(ReviewChoice::Say(Verdict::Reject)),
            "h" | "hold" => Some(ReviewChoice::Say(Verdict::Defer)),
            "s" | "skip" => Some(ReviewChoice::Skip),
            "u" | "undo" => Some(ReviewChoice::Undo),
            "q" | "quit" => Some(ReviewChoice::Quit),
            _ => None,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// 69 if no daemon answers.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let remote = args.remote.open_as(&args.who, global)?;
    let agent = remote.agent(args.agent.given())?;
    let PendingList { mut requests, unknown, more } = remote.ask(&ControlOp::Pending { agent })?;
    output::note(&pending::not_shown(&unknown, more));
    requests.retain(|row| args.by.is_none() || row.by == args.by);
    if requests.is_empty() {
        output::note("nobody is waiting\n");
        return Ok(0);
    }
    // Without the ledger only `by` is shown, and no reasons.
    let reader = path(None, global).ok().and_then(|path| LedgerReader::open(&path).ok());
    let mut sender = ReviewSender { remote: &remote, failed: false };
    go_through(&requests, reader.as_ref(), &mut std::io::stdin().lock(), &mut |row, verdict| {
        sender.send(row, verdict)
    })?;
    Ok(u8::from(sender.failed))
}

struct ReviewSender<'a> {
    remote: &'a Remote,
    failed: bool,
}

impl ReviewSender<'_> {
    fn send(&mut self, row: &PendingRow, verdict: Verdict) -> Result<(), CliError> {
        match one(&row.request, verdict, Some(row.agent.clone()), self.remote) {
            Ok(answered) => {
                self.failed |= !answered.is_done();
                output::print_page(&format!("  {}", sentence(&answered)))
            }
            // Somebody else may have answered it first: the review continues with the others.
            Err(error) if error.code == 1 => {
                self.failed = true;
                output::print(&format!("  {}\n", error.message))
            }
            Err(error) => Err(error),
        }
    }
}

fn go_through(
    requests: &[PendingRow],
    reader: Option<&LedgerReader>,
    lines: &mut impl BufRead,
    send: &mut impl FnMut(&PendingRow, Verdict) -> Result<(), CliError>,
) -> Result<(), CliError> {
    // The last choice, which is not sent yet; a skip can be taken back, too.
    let mut last: Option<(usize, Option<Verdict>)> = None;
    let mut at = 0;
    loop {
        match requests.get(at) {
            Some(row) => {
                output::print_page(&page(row, at, requests.len(), reader))?;
                output::print("[a]pprove [r]eject [h]old [s]kip [u]ndo [q]uit > ")?;
            }
            None if last.is_some_and(|(_, verdict)| verdict.is_some()) => {
                output::print("\nthat was the last one. Enter sends your last answer, u undoes it > ")?;
            }
            None => return Ok(()),
        }
        // The person cannot see the question any more: an answer that was not sent yet is dropped.
        if output::reader_left() {
            return Ok(());
        }
        let mut line = String::new();
        let read = lines.read_line(&mut line).map_err(|error| CliError::new(1, error.to_string()))?;
        let choice = match ReviewChoice::parse(&line) {
            // The end of the input ends the review.
            _ if read == 0 => ReviewChoice::Quit,
            Some(choice) if at < requests.len() || matches!(choice, ReviewChoice::Undo | ReviewChoice::Quit) => choice,
            None if at == requests.len() && line.trim().is_empty() => ReviewChoice::Quit,
            Some(_) | None => continue,
        };
        if choice == ReviewChoice::Undo {
            if let Some((before, _)) = last.take() {
                at = before;
            }
            continue;
        }
        if let Some((before, Some(verdict))) = last.take() {
            send(&requests[before], verdict)?;
        }
        match choice {
            ReviewChoice::Say(verdict) => last = Some((at, Some(verdict))),
            ReviewChoice::Skip => last = Some((at, None)),
            ReviewChoice::Undo | ReviewChoice::Quit => return Ok(()),
        }
        at += 1;
    }
}

pub(super) fn page(row: &PendingRow, at: usize, of: usize, reader: Option<&LedgerReader>) -> String {
    let age = output::ago(row.inserted_at.unwrap_or(row.first_seen), output::now());
    let mut page = format!("\n{} of {of}  {}", at + 1, output::stranger(row.handle.as_deref(), 60));
    if let Some(name) = &row.name {
        page += &format!("  “{}”", output::stranger(Some(name), 40));
    }
    page += &format!("  {age} ago  ({})\n", output::shown(&row.request));
    if let Some(message) = &row.message {
        page += &format!("  says: {}\n", output::stranger(Some(message), 500));
    }
    let by = row.by.as_deref().map_or_else(|| "not decided yet".to_owned(), output::shown);
    let verdict = row.verdict.map_or_else(String::new, |verdict| format!("{verdict}, by "));
    page += &format!("  the rules: {verdict}{by}\n");
    for word in &row.replies {
        page += &format!("  decider: {}\n", output::shown(word));
    }
    for reason in reader.map(|reader| reasons(row, reader)).unwrap_or_default() {
        page += &format!("    {reason}\n");
    }
    page
}

/// What each rule that had something to say said, from the ledger.
fn reasons(row: &PendingRow, reader: &LedgerReader) -> Vec<String> {
    let Ok(id) = RequestId::parse(&row.request) else { return Vec::new() };
    let decisions = reader.decisions_of(&id).unwrap_or_default();
    let Some(last) = decisions.into_iter().rfind(|one| one.agent == row.agent) else { return Vec::new() };
    let voice = |voice: crate::policy::decision::RuleResult| {
        let truth = match (voice.truth, &voice.unknown) {
            (Truth::True, _) => "matches".to_owned(),
            (Truth::Unknown, Some(key)) => format!("is unknown: `{key}`"),
            (Truth::Unknown, None) => "is unknown".to_owned(),
            (Truth::False, _) => "does not match".to_owned(),
        };
        let shadow = if voice.shadow { ", in shadow" } else { "" };
        format!("{} rule `{}` {truth}{shadow}", voice.then, voice.rule)
    };
    last.facts.rule_results.into_iter().map(voice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AgentId;

    fn row(id: &str) -> PendingRow {
        PendingRow {
            request: id.to_owned(),
            agent: AgentId::parse("a-1").unwrap(),
            handle: Some("@mallory\u{1b}".to_owned()),
            name: None,
            message: Some("a\n[a]pprove".to_owned()),
            inserted_at: None,
            first_seen: jiff::Timestamp::UNIX_EPOCH,
            verdict: Some(Verdict::Defer),
            by: Some("no_match".to_owned()),
            doubts: Vec::new(),
            replies: Vec::new(),
            due: None,
            stage: "deferred".to_owned(),
            held_by: None,
        }
    }

    fn sent(typed: &str) -> Vec<String> {
        let mut sent = Vec::new();
        let requests = [row("r-1"), row("r-2")];
        go_through(&requests, None, &mut typed.as_bytes(), &mut |row, verdict| {
            sent.push(format!("{verdict} {}", row.request));
            Ok(())
        })
        .unwrap();
        sent
    }

    #[test]
    fn an_answer_goes_out_with_the_next_and_can_be_taken_back_until_then() {
        assert_eq!(sent("a\nr\n\n"), ["approve r-1", "reject r-2"]);
        assert_eq!(sent("a\nu\nr\ns\n"), ["reject r-1"]);
        assert_eq!(sent("s\nh\nu\na\n\n"), ["approve r-2"]);
        assert_eq!(sent("a\ns\nu\nu\n"), ["approve r-1"], "what is sent is not taken back");
        assert_eq!(sent("a\nh\nu\nq\n"), ["approve r-1"]);
        assert_eq!(sent("a\n"), ["approve r-1"], "the end of the input");
        assert_eq!(sent("u\nwhat?\n\nq\n"), Vec::<String>::new());
    }

    #[test]
    fn what_deciders_said_is_shown() {
        let replies = vec!["screen says reject: looks like an offer".to_owned()];
        let page = page(&PendingRow { replies, ..row("r-1") }, 0, 1, None);
        assert!(page.contains("\n  decider: screen says reject: looks like an offer\n"), "{page}");
    }

    #[test]
    fn a_stranger_cannot_write_lines_of_the_page() {
        let page = page(&row("r-1"), 0, 1, None);
        assert!(!page.contains("decider:"), "{page}");
        assert!(page.contains("@mallory\\u{1b}") && page.contains("says: a\\n[a]pprove\n"), "{page}");
    }
}
