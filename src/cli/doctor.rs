//! `doorman doctor`: checks everything that `run` needs, one line each, and says how to correct what is wrong.

mod beside;
mod roster;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comfy_table::presets;
use serde_json::json;
use tokio::sync::mpsc;

use super::{CliError, Global, output, remote};
use crate::config::settings::{AgentSettings, ConnectionMode, CredentialsMode, SecretKind};
use crate::config::{self, Env, Overrides, Settings};
use crate::diagnostics::Severity;
use crate::files::{self, Advice};
use crate::ledger::{self, LedgerAddress, LedgerReader, Server};
use crate::model::{AgentState, ConnectPlan, RefusedBy};
use crate::ops::control::client::Client;
use crate::ops::control::wire::{ControlOp, OpReply};
use crate::platform::net::{Net, NetError};
use crate::platform::rest::{PagePlace, Rest};
use crate::platform::socket::{self, Dialer};
use crate::platform::tls;
use crate::platform::{CallError, CallFault};
use crate::secret::Redact;
use crate::secret::{self, Key};

/// How long to wait for each reply of the platform.
const LIMIT: Duration = Duration::from_secs(10);

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman doctor
  doorman doctor --no-connect    without the WebSocket
  doorman doctor --json | jq -r 'select(.result != \"ok\") | .check'

It looks at the configuration, each rules file, the ledger, whether a daemon
answers and what it has noticed, each agent's key, and for each agent the
platform's REST interface and its WebSocket. The WebSocket is tried only if no
daemon runs. It is opened with `on_conflict=reject` and closed at once, so an
agent that is connected stays connected. An older platform that ignores
`on_conflict` would disconnect it for a moment; `--no-connect` leaves that check
out, and so does `connection = \"poll\"`.

Then it looks at the page, the port of metrics, each target of [[notify]] and
each decider: whether the port is free or doorman's, and whether the other end
can be reached. No message is sent, and no decider is asked; `doorman notify
test` sends a message.

Without --config and DOORMAN_CONFIG, a `doorman.toml` in this directory is used
before the one in /etc, as with every command; the output says which it is.

Exit status: 0 all well, warnings included; 69 the platform, a target or a
decider cannot be reached; 74 the ledger; 77 a key is refused; 78 configuration,
rules, or a port or socket that another program has; if several apply, the first
that is shown.")]
pub struct Args {
    /// Do not try the WebSocket
    #[arg(long)]
    no_connect: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckResult {
    Ok,
    Warning,
    Failed,
}

impl CheckResult {
    fn word(self) -> &'static str {
        match self {
            CheckResult::Ok => "ok",
            CheckResult::Warning => "warning",
            CheckResult::Failed => "failed",
        }
    }
}

/// The results of all checks.
#[derive(Debug, Default)]
struct Findings {
    lines: Vec<(CheckResult, String, String)>,
    code: u8,
    /// The keys that were tried.
    redact: Redact,
}

impl Findings {
    fn ok(&mut self, what: &str, how: impl Into<String>) {
        self.lines.push((CheckResult::Ok, what.to_owned(), how.into()));
    }

    fn warn(&mut self, what: &str, how: impl Into<String>) {
        self.lines.push((CheckResult::Warning, what.to_owned(), how.into()));
    }

    /// Removes the keys from all lines, in case the platform repeated one.
    fn scrub(&mut self) {
        for (_, _, how) in &mut self.lines {
            *how = self.redact.scrub(how).into_owned();
        }
    }

    fn fail(&mut self, code: u8, what: &str, how: impl Into<String>) {
        self.lines.push((CheckResult::Failed, what.to_owned(), how.into()));
        if self.code == 0 {
            self.code = code;
        }
    }
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let mut findings = Findings::default();
    match config::load(global.config.as_deref(), &Env::of_command(), &Overrides::default()) {
        Err(report) => findings.fail(78, "configuration", format!("refused\n{}", report.render(false).trim_end())),
        Ok(loaded) => {
            let from = loaded.file.as_ref().map_or("the environment".to_owned(), |file| file.display().to_string());
            match loaded.report.problems.is_empty() {
                true => findings.ok("configuration", from),
                false => findings.warn("configuration", format!("{from}\n{}", loaded.report.render(false).trim_end())),
            }
            rules(&loaded.settings, &mut findings);
            ledger(&loaded.settings, &mut findings);
            roster::look(&loaded.settings, &mut findings);
            let socket = &loaded.settings.control.path;
            check_trust(socket, &format!("control socket {}", socket.display()), 78, &mut findings);
            let doors = remote::doors(global)?;
            super::runtime(1)?.block_on(async {
                let running = daemon(&doors, &mut findings).await;
                platform(&loaded.settings, running, args.no_connect, &mut findings).await;
                beside::check(&loaded.settings, running, &mut findings).await;
            });
        }
    }
    findings.scrub();
    show(&findings, args.json)?;
    Ok(findings.code)
}

fn rules(settings: &Settings, findings: &mut Findings) {
    let mut files: Vec<_> = settings.agents.iter().map(|agent| agent.rules.clone()).collect();
    files.sort_unstable();
    files.dedup();
    for file in files {
        let what = format!("rules {}", file.display());
        let loaded = super::policy::head_of(&file, &LedgerAddress::from(&settings.ledger))
            .unwrap_or_else(|| crate::policy::load(&file, None, &crate::policy::Shrunk::Refuse));
        let report = loaded.report;
        match (report.count(Severity::Error), report.count(Severity::Warning)) {
            (0, 0) => findings.ok(&what, "taken, and its tests pass"),
            (0, warnings) => findings.warn(&what, format!("taken, with {warnings} warning(s): see `doorman check`")),
            (errors, _) => findings.fail(78, &what, format!("refused, with {errors} error(s): see `doorman check`")),
        }
    }
}

/// Whether others could replace a file that doorman writes. A failure has this exit code.
fn check_trust(path: &Path, what: &str, code: u8, findings: &mut Findings) {
    match files::judge_place(path) {
        Ok(None) => {}
        Ok(Some(advice)) => findings.warn(what, said(&advice)),
        Err(advice) => findings.fail(code, what, said(&advice)),
    }
}

fn said(advice: &Advice) -> String {
    advice.help.as_ref().map_or_else(|| advice.message.clone(), |help| format!("{}: {help}", advice.message))
}

fn ledger(settings: &Settings, findings: &mut Findings) {
    if let LedgerAddress::Database(address) = LedgerAddress::from(&settings.ledger) {
        let what = format!("ledger {address}");
        match ledger::inspect(&address) {
            Ok(Server { version, schema, loses }) => {
                let schema = schema.map_or_else(
                    || "no record in it yet: the first `doorman run` makes it".to_owned(),
                    |schema| format!("schema {schema}"),
                );
                findings.ok(&what, format!("PostgreSQL {version}, {schema}"));
                if let Some(why) = loses {
                    findings.warn(&what, format!("it may lose what it confirmed: {why}"));
                }
            }
            Err(error) => findings.fail(74, &what, error.to_string()),
        }
        return;
    }
    let path = &settings.ledger.path;
    let what = format!("ledger {}", path.display());
    check_trust(path, &what, 74, findings);
    if !super::is_there(path) {
        findings.ok(&what, "not there yet: the first `doorman run` makes it");
        return;
    }
    match LedgerReader::open(path) {
        Ok(_) => findings.ok(&what, "opens; `doorman ledger check` reads every page of it"),
        Err(error) => findings.fail(74, &what, error.to_string()),
    }
}

async fn platform(settings: &Settings, running: bool, no_connect: bool, findings: &mut Findings) {
    let net = match Net::new(&settings.platform) {
        Ok(net) => net,
        Err(error @ NetError::Tls(_)) => return findings.fail(78, "tls", error.to_string()),
        Err(error) => return findings.fail(78, "platform", error.to_string()),
    };
    let rest = match Rest::new(&settings.platform, &net, LIMIT) {
        Ok(rest) => rest.watched(findings.redact.clone(), None),
        Err(error) => return findings.fail(78, "platform", error.to_string()),
    };
    let dialer = match Dialer::new(&settings.platform, &net) {
        Ok(dialer) => Arc::new(dialer),
        Err(error) => return findings.fail(78, "platform", error.to_string()),
    };
    if settings.platform.needs_tls()
        && let Some(variables) = tls::authorities()
    {
        findings.ok("tls", format!("the certificate authorities of this machine are those of {variables}"));
    }
    for (what, proxy) in [("REST", rest.proxy().map(str::to_owned)), ("the WebSocket", dialer.proxy())] {
        let way =
            proxy.map_or_else(|| "goes straight, through no proxy".to_owned(), |proxy| format!("goes through {proxy}"));
        findings.ok("proxy", format!("{what} {way}"));
    }
    for agent in &settings.agents {
        let what = format!("agent {}", agent.id);
        if secret::of_unit(&agent.key) {
            let instead = "`doorman status` says whether the platform takes it. As root, `CREDENTIALS_DIRECTORY=DIRECTORY doorman \
                           doctor` tries it with the files in that directory";
            findings.warn(&what, format!("not tried: its key is {}; {instead}", beside::unseen()));
            continue;
        }
        let secret::KeyReading { key, warnings } = secret::inspect(&agent.key, SecretKind::Key);
        for warning in warnings {
            findings.warn(&what, warning);
        }
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                findings.fail(77, &what, error.to_string());
                continue;
            }
        };
        if !identify(&rest, agent, &key, &what, findings).await {
            continue;
        }
        if running {
            findings.ok(&what, "its socket is the running daemon's, and not tried");
        } else if no_connect {
            findings.ok(&what, "its socket is not tried");
        } else if agent.connection == ConnectionMode::Poll {
            // Trying it would keep the agent's own client from connecting for a moment, and a client that uses
            // `on_conflict=reject` would stop for good.
            findings.ok(&what, "its socket is not tried: `connection` is `poll`");
        } else {
            connect(&dialer, settings.platform.credentials, (agent, &key), &what, findings).await;
        }
    }
}

/// Whether a daemon runs; and what it has noticed of its agents.
async fn daemon(doors: &[PathBuf], findings: &mut Findings) -> bool {
    let Ok(client) = Client::find(doors).await else {
        findings.ok("daemon", "none is running");
        return false;
    };
    findings.ok("daemon", "one is running: `doorman status` says how it stands");
    match client.call(&ControlOp::Status).await {
        Ok(OpReply::Status(status)) => {
            for agent in status.agents {
                if agent.state == AgentState::Refused {
                    findings.fail(
                        77,
                        &format!("agent {}", agent.id),
                        format!("it is refused: {}", output::shown(&agent.why)),
                    );
                }
                for remark in agent.remarks {
                    findings.warn(&format!("agent {}", agent.id), output::shown(&remark));
                }
            }
            for target in status.notify {
                if let Some(why) = target.why {
                    let what = format!("notify {}", target.name);
                    findings.warn(&what, format!("its last message did not arrive: {}", output::shown(&why)));
                }
            }
        }
        Ok(_) => findings.warn("daemon", remote::unexpected().message),
        Err(error) => findings.warn("daemon", output::shown_lines(&error.to_string())),
    }
    true
}

/// Why a REST call failed, and where to look.
fn unreached(error: &CallError, rest: &Rest) -> String {
    let why = error.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    let (fault, base) = (error.fault, rest.base());
    match fault {
        CallFault::InBetween(_) => format!(
            "{fault}{why}: a proxy, a firewall or a CDN answers in the platform's place; look there, the key is not the reason"
        ),
        CallFault::NotFound => format!("{fault}{why} (at {base}): is `platform.url` right?"),
        _ => match rest.proxy() {
            Some(proxy) => format!("{fault}{why}: does {proxy} work, and is `platform.url` right?"),
            None => format!("{fault}{why}: is `platform.url` right?"),
        },
    }
}

/// Asks the platform which agent the key belongs to.
async fn identify(rest: &Rest, agent: &AgentSettings, key: &Key, what: &str, findings: &mut Findings) -> bool {
    let client = rest.agent(agent.id.clone(), key.clone());
    match client.me().await.result {
        Ok(me) if me.id == agent.id => {
            let handle = me.sender.original().map_or_else(|| "without a handle".to_owned(), ToString::to_string);
            findings.ok(what, format!("its key is accepted: {handle}"));
        }
        Ok(me) => {
            let whose = output::shown(me.id.as_str());
            findings.fail(77, what, format!("the key is another agent's ({whose}): put the right one in its place"));
            return false;
        }
        Err(error) => {
            let why = error.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
            let source = secret::describe(&agent.key);
            match error.fault {
                CallFault::KeyRefused | CallFault::NoKey | CallFault::Forbidden => {
                    findings.fail(77, what, format!("the platform refuses the key from {source}{why}"));
                }
                _ => findings.fail(69, what, unreached(&error, rest)),
            }
            return false;
        }
    }
    match client.requests(1, 1, PagePlace::Begins).await.result {
        Ok(page) => {
            let pending = page.total.map_or_else(|| "some".to_owned(), |total| total.to_string());
            findings.ok(what, format!("its pending requests can be listed: {pending}"));
        }
        Err(error) => {
            findings.fail(69, what, format!("its pending requests cannot be listed: {}", unreached(&error, rest)));
        }
    }
    true
}

/// Opens the socket as the daemon would, without taking it from anybody, and closes it.
async fn connect(
    dialer: &Dialer,
    credentials: CredentialsMode,
    (agent, key): (&AgentSettings, &Key),
    what: &str,
    findings: &mut Findings,
) {
    let ways = match credentials {
        CredentialsMode::Auto => &[false, true][..],
        CredentialsMode::Header => &[false],
        CredentialsMode::Query => &[true],
    };
    for &key_in_query in ways {
        let plan = ConnectPlan { take: false, key_in_query };
        match socket::open(dialer, &agent.id, key, plan, LIMIT).await {
            Ok(socket) => {
                let (events, _heard) = mpsc::channel(16);
                // The channel for commands is closed from the start, so the socket leaves at once.
                let (_, commands) = mpsc::channel(1);
                socket.run(events, commands).await;
                let how = if key_in_query { ", with the key in the query" } else { "" };
                return findings.ok(what, format!("its socket opens{how}"));
            }
            Err(refusal) if refusal.status == Some(409) && !matches!(refusal.by, RefusedBy::Between(_)) => {
                return findings.ok(what, "its socket is in use by the agent itself: doorman would yield, and list");
            }
            // The platform itself answers so if it does not read the header. Only then is the key tried in the URL: no
            // other server gets a key in a URL.
            Err(refusal)
                if refusal.status == Some(403) && refusal.by == RefusedBy::Empty && ways.len() > 1 && !key_in_query => {
            }
            Err(refusal) => return findings.fail(69, what, format!("its socket does not open: {}", refusal.why)),
        }
    }
}

fn show(findings: &Findings, as_json: bool) -> Result<(), CliError> {
    if as_json {
        for (result, what, how) in &findings.lines {
            output::print_json(&json!({ "check": what, "result": result.word(), "detail": how }))?;
        }
        return Ok(());
    }
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    }
    for (result, what, how) in &findings.lines {
        table.add_row([result.word(), what, how]);
    }
    output::print(&format!("{}\n", table.trim_fmt()))
}
