//! `doorman approve`, `reject` and `hold`: a person answers or holds one or several requests.

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde_json::json;

use super::agents::AgentArg;
use super::confirm::confirmed;
use super::history::moment;
use super::remote::{Remote, RemoteArgs};
use super::who::WhoArgs;
use super::{CliError, Global, completions, list, output, pending};
use crate::model::{AgentId, Handle, Verdict};
use crate::ops::control::wire::{AnswerDone, ControlOp, PendingList, PendingRow};

/// Arguments of `approve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman pending                       who is waiting
  doorman approve 0192f3c4              by the beginning of the request's id
  doorman approve @ann @bob             several, by handle
  doorman approve --all --by no_match   all that no rule matched; it asks first
  doorman approve @ann --remember friends   and put the handle on a list
  doorman approve @carol --for 2h       a guest: removed again after that

To move the end of a guest who is a contact already, approve the handle again:
`--for` counts from now, and without `--for` the guest stays for good. `doorman
revoke` removes the contact at once. A contact that was approved without an end
gets none: revoke it, and approve the next request with `--for`.

What begins with `@` is a handle, and a UUID is an id. Anything else is a handle
or the beginning of an id; if that could be two requests, nothing is done. The
record names you as `person:NAME`.

Exit status: 0 done, 1 a request is gone, or a handle names several or none, or
the platform refused; 69 no daemon.")]
pub struct ApproveArgs {
    #[command(flatten)]
    whom: Args,
    /// How long the contact stays, such as `2h` or `7d`; else for good
    #[arg(long = "for", value_name = "TIME", conflicts_with = "remember", value_parser = length)]
    lasts: Option<SignedDuration>,
    /// Then put the handle on this list of the rules, and load the list
    #[arg(long, value_name = "LIST", conflicts_with = "all", add = completions::lists())]
    remember: Option<String>,
}

/// Arguments of `reject` and `hold`, and the part of `approve` that they share.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman pending                      who is waiting
  doorman reject @mallory 0192f3c4     several, by handle or by id
  doorman reject --all --by no_match   all that no rule matched; it asks first
  doorman hold @bob                    keep it for a person

What begins with `@` is a handle, and a UUID is an id. Anything else is a handle
or the beginning of an id; if that could be two requests, nothing is done. The
record names you as `person:NAME`.

Exit status: 0 done, 1 a request is gone, or a handle names several or none, or
the platform refused; 69 no daemon.")]
pub struct Args {
    /// Requests: ids, their beginnings (8 characters or more), or handles
    #[arg(value_name = "ID|@HANDLE", required_unless_present = "all", add = completions::waiting())]
    targets: Vec<String>,
    /// Every pending request that was decided by --by
    #[arg(long, requires = "by", conflicts_with = "targets")]
    all: bool,
    /// With --all: the rule, `no_match`, `guard:…` or `limit:…`, as `pending` shows it
    #[arg(long, value_name = "NAME", requires = "all", add = completions::reasons())]
    by: Option<String>,
    /// With --all: do not ask
    #[arg(long, short, requires = "all")]
    yes: bool,
    #[command(flatten)]
    agent: AgentArg,
    /// One JSON object per request
    #[arg(long)]
    json: bool,
    /// Print nothing if all went well
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs `approve`.
///
/// # Errors
/// 69 if no daemon answers, 1 if it was not done, 2 if there is no terminal to ask on.
pub fn approve(args: ApproveArgs, global: &Global) -> Result<u8, CliError> {
    // If the list cannot be edited, the command fails here, before anybody is approved.
    let list = match &args.remember {
        Some(name) => {
            let list = list::ListFile::find(name, args.whom.agent.given(), global)?;
            list.can_be_edited()?;
            Some(list)
        }
        None => None,
    };
    let remote = args.whom.remote.open_as(&args.whom.who, global)?;
    let answered = say(&args.whom, Verdict::Approve, args.lasts, &remote)?;
    let Some(list) = list else { return Ok(answered.code) };
    // With `@`, so that it can only be read as a handle.
    let handle = |one: &str| format!("@{}", one.strip_prefix('@').unwrap_or(one));
    let handles: Vec<String> = answered.done.iter().filter_map(|one| one.handle.as_deref().map(handle)).collect();
    let handles: Vec<&str> = handles.iter().map(String::as_str).collect();
    if handles.is_empty() {
        return Ok(answered.code);
    }
    let remembered = list.add(&handles).and_then(|changed| list::put_in_force(&list, &changed, Some(&remote)))?;
    if !args.whom.quiet && !args.whom.json {
        output::print(&remembered)?;
    }
    Ok(answered.code)
}

/// Runs `reject` or `hold`.
///
/// # Errors
/// As [`approve`].
pub fn run(args: Args, verdict: Verdict, global: &Global) -> Result<u8, CliError> {
    let remote = args.remote.open_as(&args.who, global)?;
    Ok(say(&args, verdict, None, &remote)?.code)
}

struct CommandOutput {
    code: u8,
    /// The requests that were answered or held.
    done: Vec<AnswerDone>,
}

fn say(
    args: &Args,
    verdict: Verdict,
    lasts: Option<SignedDuration>,
    remote: &Remote,
) -> Result<CommandOutput, CliError> {
    let agent = remote.agent(args.agent.given())?;
    let targets = match &args.by {
        Some(by) => everybody(by, args, verdict, agent.clone(), remote)?,
        None => args.targets.clone(),
    };
    let mut said = CommandOutput { code: 0, done: Vec::new() };
    for target in &targets {
        let answered = match one_for(target, verdict, lasts, agent.clone(), remote) {
            Ok(answered) => answered,
            // If there are several requests, one that fails does not keep the others from being answered.
            Err(error) if targets.len() > 1 && error.code == 1 => {
                said.code = 1;
                if args.json {
                    output::print_json(&json!({ "target": target, "error": error.message }))?;
                } else {
                    output::note(&format!("doorman: {}: {}\n", output::shown(target), error.message));
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        if args.json {
            output::print_json(&answered)?;
        } else if !args.quiet || !answered.is_done() {
            output::print_page(&sentence(&answered))?;
        }
        if answered.is_done() {
            said.done.push(answered);
        } else {
            said.code = 1;
        }
    }
    Ok(said)
}

/// Approves, rejects or holds one request.
pub(super) fn one(
    target: &str,
    verdict: Verdict,
    agent: Option<AgentId>,
    remote: &Remote,
) -> Result<AnswerDone, CliError> {
    one_for(target, verdict, None, agent, remote)
}

/// The same; an approval may be limited to a length of time.
fn one_for(
    target: &str,
    verdict: Verdict,
    lasts: Option<SignedDuration>,
    agent: Option<AgentId>,
    remote: &Remote,
) -> Result<AnswerDone, CliError> {
    let for_ms = lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
    remote.ask(&ControlOp::Answer { verdict, target: target.to_owned(), agent, for_ms, exact: false })
}

/// The ids of all pending requests that this rule decided, after a person has seen them and agreed.
fn everybody(
    by: &str,
    args: &Args,
    verdict: Verdict,
    agent: Option<AgentId>,
    remote: &Remote,
) -> Result<Vec<String>, CliError> {
    let PendingList { requests, unknown, more } = remote.ask(&ControlOp::Pending { agent })?;
    output::note(&pending::not_shown(&unknown, more));
    let meant: Vec<PendingRow> = requests.into_iter().filter(|row| row.by.as_deref() == Some(by)).collect();
    if meant.is_empty() {
        return Err(CliError::new(1, format!("no pending request was decided by `{}`", output::shown(by))));
    }
    if !args.yes {
        output::note(&pending::page(&meant, output::now()));
    }
    let question = format!("{} these {} requests?", word(verdict), meant.len());
    if !confirmed(&question, args.yes)? {
        return Err(CliError::new(1, "nothing was answered"));
    }
    Ok(meant.into_iter().map(|row| row.request).collect())
}

/// A length of time, as in a rules file.
fn length(text: &str) -> Result<SignedDuration, String> {
    let length = moment::length(text).ok_or("expected a length of time, such as `2h` or `7d`")?;
    if length < SignedDuration::from_secs(1) { Err("at least a second".to_owned()) } else { Ok(length) }
}

/// The name of the command.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approve => "approve",
        Verdict::Reject => "reject",
        Verdict::Defer => "hold",
    }
}

/// A handle with its `@`, however the platform wrote it.
fn called(handle: Option<&str>) -> String {
    let plain = handle.and_then(|handle| Handle::parse(handle).ok());
    plain.map_or_else(|| output::stranger(handle, 60), |plain| output::stranger(Some(&format!("@{plain}")), 60))
}

/// What became of it, for people: times are those of this machine's zone.
pub(crate) fn sentence(answered: &AnswerDone) -> String {
    sentence_in(answered, &TimeZone::system())
}

fn sentence_in(answered: &AnswerDone, zone: &TimeZone) -> String {
    let who = called(answered.handle.as_deref());
    let request = output::shown(&answered.request);
    let word = word(answered.verdict);
    match answered.outcome.as_str() {
        "approved" | "rejected" | "presumed-approved" | "presumed-rejected" => {
            let past = if answered.verdict == Verdict::Approve { "approved" } else { "rejected" };
            let end = answered
                .ends_at
                .map(|end| format!("; the contact ends at {}", output::local(end, zone)))
                .unwrap_or_default();
            format!("{past} {who} ({request}){end}\n")
        }
        "end-moved" => {
            let end = answered
                .ends_at
                .map(|end| format!(": the contact now ends at {}", output::local(end, zone)))
                .unwrap_or_default();
            format!("{who} ({request}) was let in before{end}\n")
        }
        "end-lifted" => format!("{who} ({request}) was let in before, and stays: the contact has no end any more\n"),
        "held" => format!("{who} ({request}) is on hold: it stays pending until a person approves or rejects it\n"),
        "settled-elsewhere" => {
            format!("{who} ({request}) was settled by somebody else before your {word} arrived\n")
        }
        "unknown" => format!(
            "it is not known whether your {word} of {who} ({request}) arrived; the next listing settles it, see `doorman history`\n"
        ),
        other => format!("your {word} of {who} ({request}) was not taken: {}\n", output::shown(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_has_its_sign_however_it_came() {
        for handle in ["carol", "@carol", "@Carol"] {
            assert_eq!(called(Some(handle)), "@carol");
        }
        assert_eq!(called(Some("@@x")), "@@x");
        assert_eq!(called(None), "-");
    }

    fn answered(verdict: Verdict, outcome: &str) -> AnswerDone {
        AnswerDone {
            request: "r-1".to_owned(),
            agent: AgentId::parse("a-1").unwrap(),
            handle: Some("@bob\u{1b}".to_owned()),
            verdict,
            outcome: outcome.to_owned(),
            ends_at: None,
        }
    }

    #[test]
    fn the_end_of_a_guest_is_shown_in_the_readers_zone() {
        let zone = TimeZone::get("Europe/Paris").unwrap();
        let end = Some("2026-11-30T05:17:31.4Z".parse().unwrap());
        let said = |outcome| sentence_in(&AnswerDone { ends_at: end, ..answered(Verdict::Approve, outcome) }, &zone);
        assert_eq!(said("approved"), "approved @bob\\u{1b} (r-1); the contact ends at 2026-11-30 06:17:31\n");
        assert!(
            said("end-moved").ends_with(": the contact now ends at 2026-11-30 06:17:31\n"),
            "{}",
            said("end-moved")
        );
    }

    #[test]
    fn what_became_of_it() {
        for (verdict, outcome, said, is_done) in [
            (Verdict::Approve, "approved", "approved @bob\\u{1b} (r-1)\n", true),
            (Verdict::Reject, "presumed-rejected", "rejected @bob\\u{1b} (r-1)\n", true),
            (Verdict::Defer, "held", "@bob\\u{1b} (r-1) is on hold", true),
            (Verdict::Approve, "settled-elsewhere", "@bob\\u{1b} (r-1) was settled by somebody else", false),
            (Verdict::Approve, "unknown", "it is not known whether your approve", false),
            (Verdict::Reject, "refused", "your reject of @bob\\u{1b} (r-1) was not taken: refused", false),
        ] {
            let answered = answered(verdict, outcome);
            assert!(sentence(&answered).starts_with(said), "{}", sentence(&answered));
            assert_eq!(answered.is_done(), is_done, "{outcome}");
        }
    }
}
