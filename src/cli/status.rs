//! `doorman status`: the state of the running daemon.

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;

use super::agents::AgentArg;
use super::remote::{self, RemoteArgs};
use super::{CliError, Global, output, table};
use crate::model::AgentState;
use crate::ops::control::wire::{AgentStatus, DaemonStatus, NotifyState, PolicyStatus, ServingProblem};
use crate::policy::doubts::SHOWN_MAX;

/// The exit code of `--exit-code` if no daemon answers.
const NO_DAEMON: u8 = 2;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman status                     all agents and rules files
  doorman status --agent ana/helper  one agent, by handle or id
  doorman status --exit-code -q      for cron: 0 well, 1 look, 2 no daemon
  doorman status --json | jq '.agents[] | select(.state != \"live\")'
  curl --unix-socket /run/doorman/doorman.sock http://doorman/metrics

States: starting, live, away (no connection, listing meanwhile), yielded (the
agent itself is connected, listing meanwhile), polling (by configuration),
refused (the key is refused), elsewhere (another doorman has the agent).
Somebody should look if an agent is refused, paused or without rules, if rules
or a configuration were refused, if a decider does not answer, if this machine's
clock is unsound, if the ledger cannot be written, if the page or metrics cannot
be served, or if messages to a target of `[[notify]]` do not arrive.

Exit status: 0 shown; with --exit-code 0 all is well, 1 somebody should look, 2
no daemon answers; otherwise 69 none answers.")]
pub struct Args {
    #[command(flatten)]
    agent: AgentArg,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Show it again every 2 seconds, until interrupted
    #[arg(long, conflicts_with_all = ["json", "exit_code"])]
    watch: bool,
    /// Report by the exit status: 0 all is well, 1 somebody should look, 2 no daemon
    #[arg(long, visible_alias = "check")]
    exit_code: bool,
    /// With --exit-code: print nothing
    #[arg(long, short, requires = "exit_code", conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
///
/// # Errors
/// 69 if no daemon answers, 1 for an unknown agent.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    // None runs, or none answers.
    let absent = |error: CliError| match args.exit_code && error.code == remote::ABSENT {
        true => CliError::new(NO_DAEMON, if args.quiet { String::new() } else { error.message }),
        false => error,
    };
    let remote = args.remote.open(global).map_err(absent)?;
    let wanted = remote.agent(args.agent.given())?;
    loop {
        let mut status = remote.status().map_err(absent)?;
        if let Some(wanted) = &wanted {
            status.agents.retain(|agent| agent.id == *wanted);
        }
        let attention = attention(&status, output::now());
        let code = u8::from(args.exit_code && !attention.is_empty());
        if args.json {
            output::print_json(&status)?;
            return Ok(code);
        }
        let mut page = page(&status, output::now());
        if args.exit_code {
            page = attention.iter().map(|line| format!("{line}\n")).collect();
            if page.is_empty() {
                page = "all is well\n".to_owned();
            }
        }
        if args.watch {
            if !output::watched(&page)? {
                return Ok(0);
            }
        } else {
            return if args.quiet { Ok(code) } else { output::print_page(&page).map(|()| code) };
        }
    }
}

/// The reasons why somebody should look, a line each.
fn attention(status: &DaemonStatus, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if status.ledger != "ok" {
        lines.push(format!("the ledger: {}", output::shown(&status.ledger)));
    }
    for target in &status.notify {
        if target.state != NotifyState::Ok {
            let why = output::shown(target.why.as_deref().unwrap_or_default());
            lines.push(format!("messages to `{}` do not arrive: {why}", output::shown(&target.name)));
        }
    }
    for (path, _) in refused(status) {
        lines.push(format!("what is in `{}` now is not in force: `doorman check` says why", output::shown(path)));
    }
    lines.extend(unserved(status));
    lines.extend(clock_unsound(status));
    for agent in &status.agents {
        let who = output::shown(agent.handle.as_deref().unwrap_or(agent.id.as_str()));
        for decider in &agent.deciders_failing {
            let decider = output::shown(decider);
            lines.push(format!("{who} gets no reply from the decider {decider}: what it is asked about stays pending"));
        }
        if agent.state == AgentState::Refused {
            lines.push(format!("{who} is refused: {}", output::shown(&agent.why)));
        }
        if agent.paused {
            lines.push(format!("{who} is paused{}: `doorman resume`", paused_by(agent, now)));
        }
        if agent.without_rules {
            lines.push(format!("{who} has no rules: `doorman check`"));
        }
    }
    lines
}

/// Who or what paused an agent, how long ago, and with which note.
fn paused_by(agent: &AgentStatus, now: Timestamp) -> String {
    let Some(pause) = &agent.pause else { return String::new() };
    let note = pause.note.as_deref().map(|note| format!(" ({})", output::shown(note))).unwrap_or_default();
    format!(" by {}, {} ago{note}", output::shown(pause.by.who()), output::ago(pause.at, now))
}

/// The whole status, for people.
fn page(status: &DaemonStatus, now: Timestamp) -> String {
    let mut page = format!("doorman {}, ledger: {}\n\n", output::shown(&status.version), output::shown(&status.ledger));
    let header = ["AGENT", "HANDLE", "STATE", "SINCE", "PENDING", "DEFERRED", "SENDING", "LISTED"];
    page += &table::table(&header, status.agents.iter().map(|agent| agent_row(agent, now)).collect());
    // The reasons go below the table, which has no room for a sentence; only for states that need a reason.
    for agent in status.agents.iter().filter(|agent| agent.state != AgentState::Live && !agent.why.is_empty()) {
        let who = agent.handle.as_deref().unwrap_or(agent.id.as_str());
        page += &format!("\n{} is {}: {}\n", output::shown(who), agent.state, output::shown(&agent.why));
    }
    for agent in &status.agents {
        let who = agent.handle.as_deref().unwrap_or(agent.id.as_str());
        if agent.pause.is_some() {
            page += &format!("\n{} is paused{}: `doorman resume`\n", output::shown(who), paused_by(agent, now));
        }
        if agent.doubts > 0 {
            let least = if agent.doubts >= SHOWN_MAX as u64 { "at least " } else { "" };
            let who = output::shown(who);
            page += &format!("\n{who}: {least}{} in doubt, see `doorman doubts`\n", agent.doubts);
        }
        if agent.guests > 0 {
            let late = match agent.guests_late {
                0 => String::new(),
                late => format!(", {late} of them longer than they should be"),
            };
            page += &format!("\n{}: {} let in for a time{late}\n", output::shown(who), agent.guests);
        }
        for remark in &agent.remarks {
            page += &format!("\n{}: {}\n", output::shown(who), output::shown(remark));
        }
    }
    if !status.policies.is_empty() {
        page += "\n";
        let header = ["RULES FILE", "POLICY", "MODE", "SINCE", ""];
        page += &table::table(&header, status.policies.iter().map(|policy| policy_row(policy, now)).collect());
    }
    for target in status.notify.iter().filter(|target| target.state != NotifyState::Ok) {
        let (name, why) = (output::shown(&target.name), output::shown(target.why.as_deref().unwrap_or_default()));
        page += &format!("\nmessages to `{name}` do not arrive: {why}\n");
    }
    for line in unserved(status).chain(clock_unsound(status)) {
        page += &format!("\n{line}\n");
    }
    for (path, problem) in refused(status) {
        let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
        let (path, problem) = (output::shown(path), output::shown_lines(problem));
        page += &format!("\n{red}what is in `{path}` now is not in force:{red:#}\n{}\n", problem.trim_end());
    }
    page
}

/// The files that were refused since what is in force was loaded, each with why.
fn refused(status: &DaemonStatus) -> impl Iterator<Item = (&str, &str)> {
    let configuration = (&status.configuration.path, &status.configuration.problem);
    let files = status.policies.iter().map(|policy| (&policy.path, &policy.problem));
    let all = std::iter::once(configuration).chain(files);
    all.filter_map(|(path, problem)| Some((path.as_str(), problem.as_deref()?)))
}

/// Where the page, or metrics and health, are not served, and why.
fn unserved(status: &DaemonStatus) -> impl Iterator<Item = String> {
    let said = |what: &str, place: &ServingProblem| {
        format!("{what} not served at {}: {}", output::shown(&place.address), output::shown(&place.problem))
    };
    let page = status.page.iter().map(move |place| said("the page is", place));
    page.chain(status.metrics.iter().map(move |place| said("metrics and health are", place)))
}

/// That this machine's clock cannot be trusted: one line, for however many agents.
fn clock_unsound(status: &DaemonStatus) -> Option<String> {
    status.agents.iter().any(|agent| agent.clock_unsound).then(|| {
        "this machine's clock and the platform's differ: conditions on time decide nothing, and guests stay; the log's \
         `clock_unsound` says what time it should be"
            .to_owned()
    })
}

fn agent_row(agent: &AgentStatus, now: Timestamp) -> Vec<String> {
    let mut state = agent.state.as_str().to_owned();
    let marks = [
        (agent.paused, ", paused"),
        (agent.without_rules, ", without rules"),
        (agent.clock_unsound, ", clock unsound"),
    ];
    for (set, word) in marks {
        if set {
            state += word;
        }
    }
    vec![
        agent.id.to_string(),
        agent.handle.as_deref().map_or_else(|| "-".to_owned(), output::shown),
        state,
        output::ago(agent.since, now),
        agent.pending.to_string(),
        agent.deferred.to_string(),
        agent.in_flight.to_string(),
        agent.last_listing.map_or_else(|| "never".to_owned(), |at| format!("{} ago", output::ago(at, now))),
    ]
}

fn policy_row(policy: &PolicyStatus, now: Timestamp) -> Vec<String> {
    let short = |hash: &String| output::shown(&hash[..hash.floor_char_boundary(12)]);
    vec![
        match policy.version {
            Some(version) => format!("{}, version {version}", output::shown(&policy.path)),
            None => output::shown(&policy.path),
        },
        policy.hash.as_ref().map_or_else(|| "none: its agents are without rules".to_owned(), short),
        policy.mode.as_deref().map_or_else(|| "-".to_owned(), output::shown),
        policy.since.map_or_else(|| "-".to_owned(), |at| output::ago(at, now)),
        if policy.problem.is_some() { "refused since, see below".to_owned() } else { String::new() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentId, PausedBy};
    use crate::ops::control::wire::PauseStatus;

    #[test]
    fn the_page() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let status = DaemonStatus {
            version: "0.1.0".to_owned(),
            agents: vec![
                AgentStatus {
                    handle: Some("ana/helper".to_owned()),
                    state: AgentState::Live,
                    paused: true,
                    pause: Some(PauseStatus {
                        by: PausedBy::Person("ann".into()),
                        at: at("2026-11-23T11:00:00Z"),
                        note: Some("on leave \u{1b}".to_owned()),
                    }),
                    pending: 3,
                    deferred: 2,
                    in_flight: 1,
                    clock_unsound: true,
                    deciders_failing: vec!["screen".to_owned()],
                    last_listing: Some(at("2026-11-23T11:59:20Z")),
                    ..AgentStatus::starting(
                        AgentId::parse("11111111-2222-4333-8444-555555555555").unwrap(),
                        at("2026-11-23T10:00:00Z"),
                    )
                },
                AgentStatus {
                    state: AgentState::Away,
                    without_rules: true,
                    why: "dns \u{1b}[31m".to_owned(),
                    ..AgentStatus::starting(
                        AgentId::parse("66666666-2222-4333-8444-555555555555").unwrap(),
                        at("2026-11-23T11:59:57Z"),
                    )
                },
            ],
            policies: vec![PolicyStatus {
                path: "/etc/doorman/rules.toml".to_owned(),
                version: None,
                hash: Some("0123456789abcdef".to_owned()),
                mode: Some("enforce".to_owned()),
                since: Some(at("2026-11-20T12:00:00Z")),
                problem: Some("error: no such key\n  ^ `\u{1b}x`".to_owned()),
            }],
            configuration: Default::default(),
            ledger: "ok".to_owned(),
            notify: Vec::new(),
            page: vec![ServingProblem { address: "127.0.0.1:8480".to_owned(), problem: "in use".to_owned() }],
            metrics: vec![ServingProblem { address: "127.0.0.1:9464".to_owned(), problem: "in use too".to_owned() }],
            counters: Default::default(),
        };
        let attention = attention(&status, at("2026-11-23T12:00:00Z")).join("\n");
        for so in [
            "`/etc/doorman/rules.toml` now is not in force",
            "the page is not served at 127.0.0.1:8480: in use",
            "metrics and health are not served at 127.0.0.1:9464: in use too",
            "no reply from the decider screen",
            "ana/helper is paused by ann, 1h ago (on leave \\u{1b}): `doorman resume`",
            "clock and the platform's differ",
        ] {
            assert!(attention.contains(so), "{so}: {attention}");
        }
        insta::assert_snapshot!(anstream::adapter::strip_str(&page(&status, at("2026-11-23T12:00:00Z"))).to_string(), @r"
        doorman 0.1.0, ledger: ok

         AGENT                                 HANDLE      STATE                        SINCE  PENDING  DEFERRED  SENDING  LISTED
         11111111-2222-4333-8444-555555555555  ana/helper  live, paused, clock unsound  2h     3        2         1        40s ago
         66666666-2222-4333-8444-555555555555  -           away, without rules          3s     0        0         0        never

        66666666-2222-4333-8444-555555555555 is away: dns \u{1b}[31m

        ana/helper is paused by ann, 1h ago (on leave \u{1b}): `doorman resume`

         RULES FILE               POLICY        MODE     SINCE
         /etc/doorman/rules.toml  0123456789ab  enforce  3d     refused since, see below

        the page is not served at 127.0.0.1:8480: in use

        metrics and health are not served at 127.0.0.1:9464: in use too

        this machine's clock and the platform's differ: conditions on time decide nothing, and guests stay; the log's `clock_unsound` says what time it should be

        what is in `/etc/doorman/rules.toml` now is not in force:
        error: no such key
          ^ `\u{1b}x`
        ");
    }
}
