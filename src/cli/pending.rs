//! `doorman pending`: the pending requests, oldest first.

use jiff::Timestamp;

use super::agents::AgentArg;
use super::remote::RemoteArgs;
use super::{CliError, Global, output, table};
use crate::ops::control::wire::{ControlOp, PendingList, PendingRow, UnknownAgent};

/// Characters of a stranger's name and message in the table.
const NAME_CHARS: usize = 24;
const MESSAGE_CHARS: usize = 60;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman pending
  doorman pending --watch
  doorman pending --json | jq -r 'select(.stage == \"deferred\") | .request'

`in doubt`: doorman may have missed something about the sender; see `doorman
doubts`.

What to do next: `doorman review`, or approve, reject, hold or explain with a
request's id or @handle.

Stages: waiting (its rule says to wait, or its turn has not come), deferred (for
a person), shadow (decided, but not answered, since the rules or the daemon are
in shadow), in-flight, retrying, unknown (the next listing settles it), refused
(by the platform).

HELD BY: if several doormen share a database, the other doorman that answers for
the agent. Its requests are shown as they are on record.")]
pub struct Args {
    #[command(flatten)]
    agent: AgentArg,
    /// One JSON object per line, strangers' text as received
    #[arg(long)]
    json: bool,
    /// Show them again every 2 seconds, until interrupted
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
///
/// # Errors
/// 69 if no daemon answers, 1 for an unknown agent.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let remote = args.remote.open(global)?;
    let agent = remote.agent(args.agent.given())?;
    loop {
        let PendingList { requests, unknown, more } = remote.ask(&ControlOp::Pending { agent: agent.clone() })?;
        if args.json {
            for row in &requests {
                output::print_json(row)?;
            }
            output::note(&not_shown(&unknown, more));
            return Ok(0);
        }
        let page = page(&requests, output::now()) + &not_shown(&unknown, more);
        if !args.watch {
            output::print_page(&page)?;
            return Ok(0);
        }
        if !output::watched(&page)? {
            return Ok(0);
        }
    }
}

/// Whose requests are not in the table, a line for each agent; and how many `more` of other doormen's agents.
pub(super) fn not_shown(agents: &[UnknownAgent], more: u64) -> String {
    let line = |one: &UnknownAgent| {
        format!(
            "who waits for agent {} is not known here: {}\n",
            output::shown(one.agent.as_str()),
            output::shown(&one.why)
        )
    };
    let mut text: String = agents.iter().map(line).collect();
    if more > 0 {
        text += &format!("{more} more wait for agents that other doormen hold: `--agent` shows those of one\n");
    }
    text
}

/// The table.
pub(super) fn page(requests: &[PendingRow], now: Timestamp) -> String {
    if requests.is_empty() {
        return "nobody is waiting\n".to_owned();
    }
    page_of(requests, now, output::width())
}

/// The same on a terminal of this width.
pub(super) fn page_of(requests: &[PendingRow], now: Timestamp, width: Option<usize>) -> String {
    let several = requests.iter().any(|row| row.agent != requests[0].agent);
    let mut header = vec!["REQUEST", "HANDLE", "NAME", "MESSAGE", "AGE", "STAGE", "VERDICT", "BY"];
    if several {
        header.insert(1, "AGENT");
    }
    let held = requests.iter().any(|row| row.held_by.is_some());
    if held {
        header.push("HELD BY");
    }
    let replies = requests.iter().any(|row| !row.replies.is_empty());
    if replies {
        header.push("REPLIES");
    }
    table::fitted(&header, requests.iter().map(|row| cells(row, (several, held, replies), now)).collect(), width)
}

fn cells(row: &PendingRow, (several, held, replies): (bool, bool, bool), now: Timestamp) -> Vec<String> {
    let mut stage = output::shown(&row.stage);
    if let Some(due) = row.due {
        stage += &format!(", due in {}", output::ago(now, due));
    }
    let mut cells = vec![
        output::shown(&row.request),
        output::stranger(row.handle.as_deref(), NAME_CHARS * 2),
        output::stranger(row.name.as_deref(), NAME_CHARS),
        output::stranger(row.message.as_deref(), MESSAGE_CHARS),
        output::ago(row.inserted_at.unwrap_or(row.first_seen), now),
        stage,
        row.verdict.map_or_else(|| "-".to_owned(), |verdict| verdict.to_string()),
        match (&row.by, row.doubts.is_empty()) {
            (None, _) => "-".to_owned(),
            (Some(by), true) => output::shown(by),
            (Some(by), false) => format!("{}, in doubt", output::shown(by)),
        },
    ];
    if held {
        cells.push(row.held_by.as_deref().map_or_else(|| "-".to_owned(), output::shown));
    }
    if replies {
        cells.push(if row.replies.is_empty() { "-".to_owned() } else { output::shown(&row.replies.join("; ")) });
    }
    if several {
        cells.insert(1, row.agent.to_string());
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentId, Verdict};

    #[test]
    fn the_table_cannot_be_steered() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let row = PendingRow {
            request: "r-1".to_owned(),
            agent: AgentId::parse("a-1").unwrap(),
            handle: Some("@mallory\u{202e}".to_owned()),
            name: None,
            message: Some("hi\nr-2  @alice  approve\u{1b}[2J".to_owned()),
            inserted_at: Some(at("2026-11-23T10:00:00Z")),
            first_seen: at("2026-11-23T11:00:00Z"),
            verdict: Some(Verdict::Approve),
            by: Some("friends".to_owned()),
            doubts: Vec::new(),
            replies: Vec::new(),
            due: Some(at("2026-11-23T12:05:00Z")),
            stage: "waiting".to_owned(),
            held_by: None,
        };
        let page = page(&[row], at("2026-11-23T12:00:00Z"));
        insta::assert_snapshot!(page, @r"
        REQUEST  HANDLE            NAME  MESSAGE                          AGE  STAGE               VERDICT  BY
        r-1      @mallory\u{202e}  -     hi\nr-2 @alice approve\u{1b}[2J  2h   waiting, due in 5m  approve  friends
        ");
    }
}
