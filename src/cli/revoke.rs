//! `doorman revoke`: removes contacts that doorman approved; nobody else's.

use jiff::{Span, Timestamp, Unit};

use super::remote::{self, Door};
use super::{CliError, Global};
use crate::ops::control::wire::{ControlOp, OpReply};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman revoke @mallory
  doorman revoke --since 1h            everybody whom doorman let in within the last hour
  doorman revoke --since 2026-11-23T18:00:00Z --agent ana/helper

Contacts that somebody else approved are never touched. After a rule that let in too many:
`doorman pause`, mend the rules, `doorman reload --wait`, `doorman revoke --since …`,
`doorman resume`. Exit code 1: some could not be removed, or there was nothing to remove.")]
#[group(id = "who", required = true, multiple = true, args = ["handle", "since"])]
pub struct Args {
    /// Whose contact
    handle: Option<String>,
    /// Approved since then: a duration (`90m`, `1h 30m`, `2d`) or a time
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only this agent's contacts: its id, the beginning of it, or its handle
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    door: Door,
}

/// Runs the command.
///
/// # Errors
/// 69 where no daemon answers, 1 where it was not done.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let remote = args.door.open(global)?;
    let agent = remote.agent(args.agent.as_deref())?;
    let reply = remote.call(&ControlOp::Revoke { handle: args.handle, since: args.since, agent })?;
    let OpReply::Revoked { removed, failed } = &reply else { return Err(remote::unexpected()) };
    if args.json {
        remote::print_json(&reply)?;
    } else {
        let mut text: String =
            removed.iter().map(|who| format!("removed {}\n", remote::stranger(Some(who), 150))).collect();
        text.extend(failed.iter().map(|why| format!("not removed: {}\n", remote::shown(why))));
        if text.is_empty() {
            text += "no contact that doorman approved fits: nothing was removed\n";
        }
        remote::print(&text)?;
    }
    Ok(u8::from(!failed.is_empty() || removed.is_empty()))
}

/// A time, or a duration before now. A day is 24 hours.
fn moment(text: &str) -> Result<Timestamp, String> {
    moment_at(text, remote::now())
}

fn moment_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let wrong = || "write a duration (`90m`, `1h 30m`, `2d`) or a time (`2026-11-23T18:00:00Z`)".to_owned();
    let span: Span = text.parse().map_err(|_| wrong())?;
    if span.get_years() != 0 || span.get_months() != 0 || span.is_negative() || span.is_zero() {
        return Err(wrong());
    }
    let seconds = span.total(jiff::SpanTotal::from(Unit::Second).days_are_24_hours()).map_err(|_| wrong())?;
    now.checked_sub(jiff::SignedDuration::from_secs(seconds as i64)).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let now: Timestamp = "2026-11-23T18:00:00Z".parse().unwrap();
        for (text, wanted) in [
            ("1h", "2026-11-23T17:00:00Z"),
            ("1h 30m", "2026-11-23T16:30:00Z"),
            ("2d", "2026-11-21T18:00:00Z"),
            ("1w", "2026-11-16T18:00:00Z"),
            ("2026-01-01T00:00:00+01:00", "2025-12-31T23:00:00Z"),
        ] {
            assert_eq!(moment_at(text, now).unwrap().to_string(), wanted, "{text}");
        }
        for text in ["", "soon", "-1h", "0s", "1mo", "1y", "99999999999999h", "7"] {
            assert!(moment_at(text, now).unwrap_err().contains("`90m`"), "{text}");
        }
    }
}
