//! `doorman approve`, `reject` and `defer`: a person's word on one request.

use super::remote::{self, Door};
use super::{CliError, Global};
use crate::model::Verdict;
use crate::ops::control::wire::{Answered, ControlOp, OpReply};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman pending                     who is waiting
  doorman approve 0192f3c4-…          by the request's id
  doorman reject @mallory             by handle, if that names one request only
  doorman defer @bob --agent a1b2     keep it for a person: no rule answers it any more

What begins with `@` is a handle, and a UUID is an id. Anything else is the handle of
somebody who waits, else an id or its beginning. What was said is on record as yours
(`person:NAME`).
Exit code 1: the request is gone, the handle names several or none, or the platform refused.")]
pub struct Args {
    /// A request's id, its beginning (8 characters or more), or the sender's handle
    #[arg(value_name = "ID or HANDLE")]
    target: String,
    /// Only at this agent's door: its id, the beginning of it, or its handle
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
pub fn run(args: Args, verdict: Verdict, global: &Global) -> Result<u8, CliError> {
    let remote = args.door.open(global)?;
    let agent = remote.agent(args.agent.as_deref())?;
    let OpReply::Answered(answered) = remote.call(&ControlOp::Answer { verdict, target: args.target, agent })? else {
        return Err(remote::unexpected());
    };
    if args.json {
        remote::print_json(&answered)?;
    } else {
        remote::print(&sentence(&answered))?;
    }
    Ok(u8::from(!done(&answered)))
}

/// Whether what the person wanted is so now.
fn done(answered: &Answered) -> bool {
    matches!(answered.outcome.as_str(), "applied" | "presumed-applied" | "held")
}

fn sentence(answered: &Answered) -> String {
    let who = remote::stranger(answered.handle.as_deref(), 60);
    let request = remote::shown(&answered.request);
    let verdict = answered.verdict;
    match answered.outcome.as_str() {
        "applied" | "presumed-applied" => {
            let past = if verdict == Verdict::Approve { "approved" } else { "rejected" };
            format!("{past} {who} ({request})\n")
        }
        "held" => format!("{who} ({request}) is held: it stays pending until a person approves or rejects it\n"),
        "settled-elsewhere" => {
            format!("{who} ({request}) was settled by somebody else before your {verdict} arrived\n")
        }
        "unknown" => format!(
            "it is not known whether your {verdict} of {who} ({request}) arrived; the next listing settles it, see `doorman history`\n"
        ),
        other => format!("your {verdict} of {who} ({request}) was not taken: {}\n", remote::shown(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AgentId;

    fn answered(verdict: Verdict, outcome: &str) -> Answered {
        Answered {
            request: "r-1".to_owned(),
            agent: AgentId::parse("a-1").unwrap(),
            handle: Some("@bob\u{1b}".to_owned()),
            verdict,
            outcome: outcome.to_owned(),
        }
    }

    #[test]
    fn what_became_of_it() {
        for (verdict, outcome, said, is_done) in [
            (Verdict::Approve, "applied", "approved @bob\\u{1b} (r-1)\n", true),
            (Verdict::Reject, "presumed-applied", "rejected @bob\\u{1b} (r-1)\n", true),
            (Verdict::Defer, "held", "@bob\\u{1b} (r-1) is held", true),
            (Verdict::Approve, "settled-elsewhere", "@bob\\u{1b} (r-1) was settled by somebody else", false),
            (Verdict::Approve, "unknown", "it is not known whether your approve", false),
            (Verdict::Reject, "refused", "your reject of @bob\\u{1b} (r-1) was not taken: refused", false),
        ] {
            let answered = answered(verdict, outcome);
            assert!(sentence(&answered).starts_with(said), "{}", sentence(&answered));
            assert_eq!(done(&answered), is_done, "{outcome}");
        }
    }
}
