//! `doorman replay`: decides the recorded requests again under other rules, and shows what would change. Only reads
//! files.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::explain::sources::{policy_of, to_replay};
use super::history::moment;
use super::ledger::{fault, path, print};
use super::{CliError, Global, agents};
use crate::clock::Clock;
use crate::ledger::{Filter, LedgerReader};
use crate::model::{AgentId, Verdict, ascii_json};
use crate::policy::replay::{GivenVerdict, Recorded, VerdictChange, replay};

/// Most changes shown to people; `--json` has all of them.
const SHOWN_MAX: usize = 200;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman replay --rules new.toml                        what would change
  doorman replay --rules new.toml --since 30d --check    exit 1 if anything does

Exit status: 0 done; 1 with --check, something would change; 74 the ledger
cannot be read; 78 the rules are refused.")]
pub struct Args {
    /// The other rules
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// Only what came since then: `30d`, `2026-11-23`, or with a zone
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only of this agent: its id, the beginning of it, its handle, or its `name`
    #[arg(long, value_name = "AGENT", add = super::completions::agents())]
    agent: Option<String>,
    /// Exit with 1 if anything would change
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The ledger to use; else the daemon's own
    #[arg(long, value_name = "PATH")]
    ledger: Option<PathBuf>,
}

/// What the replays of all agents found together; what `--json` prints.
#[derive(Debug, Default, Serialize)]
struct ReplayTotals {
    /// Requests that were decided again.
    requests: usize,
    /// Requests whose text was blanked because of its age; they cannot be decided again.
    skipped: usize,
    /// How often `approvals_max` would have paused an agent.
    pauses: usize,
    changes: Vec<AgentChange>,
}

#[derive(Debug, Serialize)]
struct AgentChange {
    agent: AgentId,
    #[serde(flatten)]
    change: VerdictChange,
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let now = Clock::start().now().wall;
    let since = moment::option("since", args.since.as_deref())?;
    let policy = policy_of(&args.rules, global)?;
    let reader = LedgerReader::open(&path(args.ledger, global)?).map_err(|error| fault(&error))?;
    let agent = agents::on_record(args.agent.as_deref(), Some(&reader), global)?;
    let filter = Filter { since, agent, ..Filter::default() };
    let mut found = ReplayTotals::default();
    let mut agents: BTreeMap<AgentId, Vec<Recorded>> = BTreeMap::new();
    for recorded in reader.requests(&filter).map_err(|error| fault(&error))? {
        if recorded.blanked {
            found.skipped += 1;
        } else {
            found.requests += 1;
            let replies = reader.replies_to(&recorded).map_err(|error| fault(&error))?;
            let agent = recorded.agent.clone();
            agents.entry(agent).or_default().push(Recorded { replies, ..to_replay(recorded) });
        }
    }
    let bar = progress_bar(found.requests);
    for (agent, mut recorded) in agents {
        let spans = reader.contact_spans(&agent, None).map_err(|error| fault(&error))?;
        for one in &mut recorded {
            let seen = &mut one.circumstances;
            let is = spans.as_ref().zip(one.request.sender.handle());
            let is = is.map(|(spans, handle)| spans.at(handle, seen.first_seen));
            (seen.owner_is_contact, seen.sender_is_contact) = is.unzip();
        }
        recorded.sort_by_key(|one| one.circumstances.first_seen);
        let one = replay(&policy, &agents::receiving(&agent, global), &recorded, now, |_| bar.inc(1));
        found.pauses += one.pauses;
        found.changes.extend(one.changes.into_iter().map(|change| AgentChange { agent: agent.clone(), change }));
    }
    bar.finish_and_clear();
    found.changes.sort_by_key(|of| (of.change.now.verdict, of.change.received_at));
    let text = if args.json {
        let json = serde_json::to_string_pretty(&found);
        let json = json.map_err(|error| CliError::new(1, format!("cannot be written as JSON: {error}")))?;
        ascii_json(&json) + "\n"
    } else {
        shown(&found, &TimeZone::system())
    };
    print(&text)?;
    Ok(u8::from(args.check && !found.changes.is_empty()))
}

/// Drawn on stderr, and only if that is a terminal.
fn progress_bar(requests: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(requests as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("deciding again {bar:30} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Times are those of `zone`.
fn shown(found: &ReplayTotals, zone: &TimeZone) -> String {
    let mut text = String::new();
    if !found.changes.is_empty() {
        let mut table = Table::new();
        table.load_style(NOTHING);
        if std::io::stdout().is_terminal() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
        }
        table.set_header(["RECEIVED", "HANDLE", "WAS", "NOW", "REQUEST"]);
        for AgentChange { change, .. } in found.changes.iter().take(SHOWN_MAX) {
            table.add_row([
                super::output::local(change.received_at, zone),
                change.handle.clone().unwrap_or_else(|| "-".to_owned()),
                said(&change.was),
                said(&change.now),
                change.request.to_string(),
            ]);
        }
        text.push_str(&table.trim_fmt());
        text.push('\n');
        if let Some(more) = found.changes.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
            text.push_str(&format!("and {more} more: `--json` shows all\n"));
        }
        text.push('\n');
    }
    text.push_str(&summary(found));
    text
}

fn summary(found: &ReplayTotals) -> String {
    let count = |verdict| found.changes.iter().filter(|of| of.change.now.verdict == verdict).count();
    let both =
        |of: &&AgentChange| (of.change.was.verdict, of.change.now.verdict) == (Verdict::Approve, Verdict::Approve);
    let ends = found.changes.iter().filter(both).count();
    let mut text = match found.changes.len() {
        0 => format!("nothing would change in {} requests\n", found.requests),
        changed => {
            let other_ends = match ends {
                0 => String::new(),
                ends => format!(", {ends} approved for another time"),
            };
            format!(
                "{changed} of {} requests would change: {} newly approved, {} newly rejected, {} newly left pending{other_ends}\n",
                found.requests,
                count(Verdict::Approve) - ends,
                count(Verdict::Reject),
                count(Verdict::Defer)
            )
        }
    };
    if found.pauses > 0 {
        text.push_str(&format!("`approvals_max` would have paused {} times\n", found.pauses));
    }
    if found.skipped > 0 {
        text.push_str(&format!("{} requests were left out: their text was blanked for its age\n", found.skipped));
    }
    text
}

fn said(said: &GivenVerdict) -> String {
    match &said.by {
        Some(by) => {
            let end = said.lasts().map(|lasts| format!(" for {lasts}"));
            format!("{} by {by}{}", said.verdict, end.unwrap_or_default())
        }
        None => "not decided".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RequestId;
    use crate::policy::By;

    fn change(request: &str, was: Verdict, now: Verdict) -> AgentChange {
        let said = |verdict| GivenVerdict { verdict, by: By::parse("friends"), for_s: None };
        AgentChange {
            agent: AgentId::parse("a").unwrap(),
            change: VerdictChange {
                request: RequestId::parse(request).unwrap(),
                handle: None,
                name: None,
                message: None,
                received_at: "2026-01-05T12:00:00.5Z".parse().unwrap(),
                was: said(was),
                now: said(now),
            },
        }
    }

    #[test]
    fn the_summary_counts_what_would_change() {
        let changes =
            vec![change("r1", Verdict::Defer, Verdict::Approve), change("r2", Verdict::Approve, Verdict::Reject)];
        let found = ReplayTotals { requests: 9, skipped: 1, pauses: 2, changes };
        assert_eq!(
            summary(&found),
            "2 of 9 requests would change: 1 newly approved, 1 newly rejected, 0 newly left pending\n\
             `approvals_max` would have paused 2 times\n\
             1 requests were left out: their text was blanked for its age\n"
        );
        assert_eq!(
            summary(&ReplayTotals { requests: 3, ..ReplayTotals::default() }),
            "nothing would change in 3 requests\n"
        );
        let mut longer = change("r3", Verdict::Approve, Verdict::Approve);
        longer.change.now.for_s = Some(7_200);
        let found_longer = ReplayTotals { requests: 9, changes: vec![longer], ..ReplayTotals::default() };
        assert!(
            summary(&found_longer)
                .ends_with("0 newly approved, 0 newly rejected, 0 newly left pending, 1 approved for another time\n")
        );
        assert!(shown(&found_longer, &TimeZone::UTC).contains("approve by friends for 2h"));
        let text = shown(&found, &TimeZone::get("Europe/Paris").unwrap());
        assert!(text.contains("defer by friends") && text.contains("2026-01-05 13:00:00"), "{text}");
    }

    #[test]
    fn the_json_names_the_agent_of_each_change() {
        let changes = vec![change("r1", Verdict::Defer, Verdict::Approve)];
        let json = serde_json::to_value(ReplayTotals { requests: 1, changes, ..ReplayTotals::default() }).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"requests": 1, "skipped": 0, "pauses": 0, "changes": [{
                "agent": "a", "request": "r1", "handle": null, "name": null, "message": null,
                "received_at": "2026-01-05T12:00:00.5Z",
                "was": {"verdict": "defer", "by": "friends"}, "now": {"verdict": "approve", "by": "friends"},
            }]})
        );
    }
}
