//! `doorman check`: every problem and warning, by the daemon's own loader, and what time and the ledger know besides.

mod cost;
mod remembered;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use jiff::SignedDuration;

use super::{CliError, Global, output};
use crate::clock::Clock;
use crate::config::settings::LedgerSettings;
use crate::config::{self, Env, Loaded, Overrides};
use crate::diagnostics::{Report, Severity};
use crate::ledger::LedgerReader;
use crate::model::AgentId;
use crate::platform::tls::{self, TlsError};
use crate::policy::{self, LintContext};
use crate::secret;

/// Arguments.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Exit codes: 0 good · 1 warnings under --strict · 78 refused")]
pub struct Args {
    /// Refuse warnings, too
    #[arg(long)]
    strict: bool,
    /// Check this rules file alone; needs no doorman.toml
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

impl Args {
    /// Of this rules file alone, or of everything that is configured.
    pub(super) fn of(rules: Option<PathBuf>) -> Self {
        Self { rules, ..Self::default() }
    }
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let mut checked = Checked::default();
    let mut ledger = None;
    let named = args.rules.is_some();
    let rules: BTreeMap<PathBuf, Vec<AgentId>> = match args.rules {
        Some(file) => BTreeMap::from([(file, Vec::new())]),
        None => match config::load(global.config.as_deref(), &Env::of_command(), &Overrides::default()) {
            Err(report) => {
                checked.show(&report);
                BTreeMap::new()
            }
            Ok(mut loaded) => {
                keys(&mut loaded);
                tls(&mut loaded);
                loaded.report.sort();
                checked.show(&loaded.report);
                ledger = Some(loaded.settings.ledger);
                let mut rules: BTreeMap<PathBuf, Vec<AgentId>> = BTreeMap::new();
                for agent in loaded.settings.agents {
                    rules.entry(agent.rules).or_default().push(agent.id);
                }
                rules
            }
        },
    };
    let files = rules.len();
    let mut took = Vec::new();
    for (file, agents) in &rules {
        let mut loaded = if named { policy::load_named(file) } else { policy::load(file, None, false) };
        let facts = facts(ledger.as_ref(), agents, &mut loaded.report);
        policy::lint(&mut loaded, &facts);
        checked.show(&loaded.report);
        if let Some(policy) = &loaded.policy {
            took.push((file, cost::measured(policy)));
        }
    }
    let Checked { errors, warnings } = checked;
    let code = match (errors, warnings) {
        (0, 0) => 0,
        (0, _) => u8::from(args.strict),
        _ => 78,
    };
    for (file, time) in took {
        output::print(&cost::said(file, time))?;
    }
    output::print(&format!("{files} rules file(s) checked: {errors} error(s), {warnings} warning(s)\n"))?;
    Ok(code)
}

/// Whether each key is there, and nobody else's.
fn keys(loaded: &mut Loaded) {
    for agent in loaded.settings.agents.clone() {
        let secret::Found { key, warnings } = secret::look(&agent.key);
        if let Err(error) = key {
            loaded
                .report
                .push(Severity::Warning, None, None, format!("agent `{}`: {error}", agent.id))
                .help("`run` reports the agent as refused until it can be read");
        }
        for warning in warnings {
            loaded.blame_key(Severity::Warning, &agent.id, format!("agent `{}`: {warning}", agent.id));
        }
    }
}

/// Whether the daemon could speak TLS, where it would have to.
fn tls(loaded: &mut Loaded) {
    let platform = &loaded.settings.platform;
    if !platform.needs_tls() {
        return;
    }
    if let Err(error) = tls::client_config(platform.ca_file.as_deref()) {
        let message = error.to_string();
        match error {
            TlsError::Ca { .. } => {
                loaded.blame(Severity::Error, "platform.ca_file", message).help("name a PEM file with certificates");
            }
            TlsError::Roots(_) => drop(loaded.report.push(Severity::Error, None, None, message)),
        }
    }
}

/// What the file does not say. A ledger that is not there yet has nothing to tell.
fn facts(ledger: Option<&LedgerSettings>, agents: &[AgentId], report: &mut Report) -> LintContext {
    let now = Clock::start().now().wall;
    let mut facts = LintContext { now: Some(now), ..LintContext::default() };
    let Some(ledger) = ledger else { return facts };
    facts.keep = SignedDuration::try_from(ledger.keep).ok();
    if ledger.path.exists() {
        match LedgerReader::open(&ledger.path).and_then(|reader| remembered::rules(&reader, agents, now)) {
            Ok(rules) => facts.rules = rules,
            Err(error) => {
                report
                    .push(Severity::Warning, None, None, format!("what was recorded is not looked at: {error}"))
                    .help("run `check` as a user who may read the ledger, or repair it with `doorman ledger`");
            }
        }
    }
    facts
}

#[derive(Default)]
struct Checked {
    errors: usize,
    warnings: usize,
}

impl Checked {
    fn show(&mut self, report: &Report) {
        self.errors += report.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        self.warnings += report.problems.iter().filter(|problem| problem.severity == Severity::Warning).count();
        let _ = write!(anstream::stderr(), "{}", report.render(std::io::stderr().is_terminal()));
    }
}
