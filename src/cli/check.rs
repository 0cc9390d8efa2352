//! `doorman check`: every problem and warning, found by the daemon's own loader, and warnings that depend on the time
//! and the ledger.

mod cost;
mod remembered;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use serde_json::json;

use super::explain::sources::loaded_of;
use super::findings::{self, Finding, FindingsFormat};
use super::policy::head_of;
use super::{CliError, Global, output};
use crate::clock::Clock;
use crate::config::settings::{AgentSettings, LedgerSettings, SecretKind, pushed_name};
use crate::config::{self, Env, LoadedConfig, Overrides, Settings};
use crate::diagnostics::{Report, Severity};
use crate::ledger::{LedgerAddress, LedgerReader};
use crate::model::AgentId;
use crate::platform::tls::{self, TlsError};
use crate::policy::{self, LintContext};
use crate::secret;

/// Arguments.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  doorman check                        doorman.toml and the rules that it names
  doorman check --rules rules.toml     a rules file alone
  doorman check --config doorman.toml  another configuration
  doorman check --format github        annotations in a workflow

Without --config and DOORMAN_CONFIG, every command uses the doorman.toml in the
current directory, then /etc/doorman/doorman.toml. Problems of doorman.toml and
of the rules are reported together.

Exit status: 0 no errors, 1 warnings under --strict, 78 refused.")]
pub struct Args {
    /// Which of the two a file is, `check` does not guess
    #[arg(value_name = "FILE", hide = true)]
    file: Option<PathBuf>,
    /// Refuse warnings, too
    #[arg(long)]
    strict: bool,
    /// Check this rules file alone; needs no doorman.toml
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: FindingsFormat,
    /// The same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl Args {
    /// Of this rules file alone, or of everything that is configured.
    pub(super) fn of(rules: Option<PathBuf>) -> Self {
        Self { rules, ..Self::default() }
    }
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    if let Some(file) = &args.file {
        let file = super::output::shown(&file.display().to_string());
        let message = format!(
            "say what `{file}` is: `doorman check --rules {file}` for rules, `doorman check --config {file}` for a configuration"
        );
        return Err(CliError::new(2, message));
    }
    let format = if args.json { FindingsFormat::Json } else { args.format };
    let mut checked = Checked { format, ..Checked::default() };
    let mut beside = ConfiguredFacts::default();
    let named = args.rules.is_some();
    let rules: BTreeMap<PathBuf, Vec<AgentId>> = match args.rules {
        Some(file) => BTreeMap::from([(file, Vec::new())]),
        None => match config::load(global.config.as_deref(), &Env::of_command(), &Overrides::default()) {
            Err(report) => {
                checked.files.extend(global.config.clone());
                checked.show(&report);
                rules_of_broken(global.config.as_deref())
            }
            Ok(mut loaded) => {
                keys(&mut loaded);
                tls(&mut loaded);
                loaded.report.sort();
                checked.files.extend(loaded.file.clone());
                checked.show(&loaded.report);
                beside = ConfiguredFacts::of(&loaded.settings);
                let mut rules: BTreeMap<PathBuf, Vec<AgentId>> = BTreeMap::new();
                for agent in loaded.settings.agents {
                    rules.entry(agent.rules).or_default().push(agent.id);
                }
                rules
            }
        },
    };
    let mut took = Vec::new();
    for (file, agents) in &rules {
        let mut loaded = match named {
            true => loaded_of(file, global)?,
            false => beside
                .ledger
                .as_ref()
                .and_then(|ledger| head_of(file, &ledger.into()))
                .unwrap_or_else(|| policy::load(file, None, &policy::Shrunk::Refuse)),
        };
        beside.lint(&mut loaded, agents);
        checked.files.push(file.clone());
        checked.show(&loaded.report);
        if let Some(policy) = &loaded.policy {
            took.push((file, cost::measured(policy)));
        }
    }
    let (errors, warnings) = (checked.count(Severity::Error), checked.count(Severity::Warning));
    let code = match (errors, warnings) {
        (0, 0) => 0,
        (0, _) => u8::from(args.strict),
        _ => 78,
    };
    if format == FindingsFormat::Human {
        for (file, time) in took {
            output::print(&cost::said(file, time))?;
        }
    }
    let text = match format {
        FindingsFormat::Human => {
            let from = global
                .config
                .clone()
                .filter(|_| !named)
                .map(|file| format!("{}: ", output::shown(&file.display().to_string())));
            let from = from.or_else(|| (!named && checked.files.is_empty()).then(nowhere)).unwrap_or_default();
            format!("{from}{} rules file(s) checked: {errors} error(s), {warnings} warning(s)\n", rules.len())
        }
        FindingsFormat::Json => {
            let files: Vec<String> = checked.files.iter().map(|file| file.display().to_string()).collect();
            let problems: Vec<_> = checked.findings.iter().map(Finding::json).collect();
            let (all, good) = (json!(files), code == 0);
            return output::print_json(
                &json!({ "files": all, "errors": errors, "warnings": warnings, "ok": good, "problems": problems }),
            )
            .map(|()| code);
        }
        FindingsFormat::Github => checked.findings.iter().map(Finding::github).collect(),
        FindingsFormat::Junit => {
            findings::junit("doorman check", &findings::cases(&checked.files, &checked.findings, args.strict))
        }
    };
    output::print(&text)?;
    Ok(code)
}

/// What the configuration says that rules depend on.
#[derive(Default)]
struct ConfiguredFacts {
    ledger: Option<LedgerSettings>,
    /// The ids and names of agents; `None`: others may be on the roster.
    agents: Option<Vec<String>>,
    deciders: Option<Vec<String>>,
}

impl ConfiguredFacts {
    fn of(settings: &Settings) -> Self {
        let words = |agent: &AgentSettings| [Some(agent.id.to_string()), agent.name.clone()];
        Self {
            ledger: Some(settings.ledger.clone()),
            agents: match settings.fleet.keys_dir {
                None => Some(settings.agents.iter().flat_map(words).flatten().collect()),
                Some(_) => None,
            },
            deciders: Some(settings.deciders.iter().map(|one| one.name.clone()).collect()),
        }
    }

    /// Adds the warnings that the rules alone do not give.
    fn lint(&self, loaded: &mut policy::LoadedPolicy, agents: &[AgentId]) {
        let mut facts = facts(self.ledger.as_ref(), agents, &mut loaded.report);
        facts.agents.clone_from(&self.agents);
        facts.deciders.clone_from(&self.deciders);
        policy::lint(loaded, &facts);
    }
}

/// Adds to rules that are about to be pushed the warnings of `check`, as far as this machine's configuration can be read: for the
/// agents that it has under this name.
pub(super) fn lint_pushed(loaded: &mut policy::LoadedPolicy, name: &str, global: &Global) {
    let configured = config::load(global.config.as_deref(), &Env::of_command(), &Overrides::default());
    let Ok(config::LoadedConfig { settings, .. }) = configured else {
        return ConfiguredFacts::default().lint(loaded, &[]);
    };
    let of_name = |agent: &AgentSettings| (pushed_name(&agent.rules) == Some(name)).then(|| agent.id.clone());
    let agents: Vec<AgentId> = settings.agents.iter().filter_map(of_name).collect();
    ConfiguredFacts::of(&settings).lint(loaded, &agents);
}

/// Where a configuration was looked for in vain.
fn nowhere() -> String {
    let here = std::path::absolute("doorman.toml").unwrap_or_else(|_| PathBuf::from("doorman.toml"));
    format!("there is no `{}` and no `{}`: ", output::shown(&here.display().to_string()), config::DEFAULT_FILE)
}

/// The rules files that a refused configuration names, as far as it can be read; else those beside it.
fn rules_of_broken(file: Option<&Path>) -> BTreeMap<PathBuf, Vec<AgentId>> {
    let named = config::places(file, &Env::of_command()).map(|places| places.rules).unwrap_or_default();
    let mut rules: BTreeMap<PathBuf, Vec<AgentId>> = named.into_iter().map(|(_, path)| (path, Vec::new())).collect();
    if rules.is_empty() {
        let beside = file.unwrap_or(Path::new(config::DEFAULT_FILE)).with_file_name("rules.toml");
        rules.extend(Some((beside, Vec::new())).filter(|(path, _)| path.is_file()));
    }
    rules
}

/// Whether each key exists and nobody else can read it, as far as it can be seen from here.
fn keys(loaded: &mut LoadedConfig) {
    for agent in loaded.settings.agents.clone() {
        if secret::of_unit(&agent.key) {
            continue;
        }
        let secret::KeyReading { key, warnings } = secret::inspect(&agent.key, SecretKind::Key);
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

/// Whether the daemon could speak TLS, if its platform needs it.
fn tls(loaded: &mut LoadedConfig) {
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
            TlsError::Roots(_) | TlsError::Variable { .. } => {
                loaded.report.push(Severity::Error, None, None, message);
            }
        }
    }
}

/// Facts for the warnings that the file itself does not contain. A ledger that does not exist yet adds nothing.
fn facts(ledger: Option<&LedgerSettings>, agents: &[AgentId], report: &mut Report) -> LintContext {
    let now = Clock::start().now().wall;
    let mut facts = LintContext { now: Some(now), ..LintContext::default() };
    let Some(ledger) = ledger else { return facts };
    facts.keep = SignedDuration::try_from(ledger.keep).ok();
    if LedgerAddress::from(ledger).is_there() {
        match LedgerReader::open(ledger).and_then(|reader| remembered::rules(&reader, agents, now)) {
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
    format: FindingsFormat,
    files: Vec<PathBuf>,
    findings: Vec<Finding>,
}

impl Checked {
    fn show(&mut self, report: &Report) {
        self.findings.extend(findings::of_report(report));
        if self.format == FindingsFormat::Human {
            let _ = write!(anstream::stderr(), "{}", report.render(std::io::stderr().is_terminal()));
        }
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}
