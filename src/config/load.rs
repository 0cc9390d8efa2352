//! From the file, the environment and the flags to [`Settings`]: the one loader of `run`, `check`, `config` and the rest.
//!
//! All problems are reported at once, each at the value concerned. A configuration with a single agent needs no file.

mod agents;
mod database;
mod deciders;
mod default_paths;
pub(crate) mod env;
mod fleet;
mod layers;
mod metrics;
mod notify;
mod page;
mod places;
mod platform;
#[cfg(test)]
mod tests;
mod timing;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub(crate) use database::database_url;
pub use env::{Env, Overrides};
pub use places::{Places, places};

use layers::Layered;

use super::keys;
use super::level::filter;
use super::raw::{self, RawConfig};
use super::settings::{
    Answers, CONTROL_READ_NAME, ControlSettings, LedgerSettings, LogFormat, LogSettings, ReloadSettings,
    SOCKET_PATH_BYTES_MAX, Settings,
};
use crate::diagnostics::{Diagnostic, Report, Severity};
use crate::document::Problems;
use crate::files::{self, Advice, Contents, FileError, FileTrust, ReadOptions};
use crate::model::AgentId;

/// The path of the configuration if none is named.
pub(crate) const DEFAULT_FILE: &str = "/etc/doorman/doorman.toml";
const FILE_BYTES_MAX: usize = 1 << 20;

/// The result of loading.
#[derive(Debug)]
pub struct LoadedConfig {
    /// The result.
    pub settings: Settings,
    /// Warnings.
    pub report: Report,
    /// The origin of each scalar: key, value as shown, origin.
    pub origins: Vec<(String, String, String)>,
    /// The origins of each agent's values, in the order of the settings' agents.
    pub agents: Vec<AgentOrigins>,
    /// The file, if there was one.
    pub file: Option<PathBuf>,
    written: HashMap<String, Range<usize>>,
}

/// The origins of an agent's values.
#[derive(Debug, Clone)]
pub struct AgentOrigins {
    /// Its id.
    pub id: String,
    /// Its rules file.
    pub rules: String,
    /// The origin of `connection`.
    pub connection: String,
}

impl LoadedConfig {
    /// Adds a problem that shows only outside the configuration, such as a missing file. It points at `section.key`, if
    /// that is in the file.
    pub fn blame(&mut self, severity: Severity, key: &str, message: impl Into<String>) -> &mut Diagnostic {
        let span = self.written.get(key).cloned();
        self.report.push(severity, span.is_some().then_some(0), span, message)
    }

    /// The same of an agent's key, whichever source it has.
    pub fn blame_key(&mut self, severity: Severity, agent: &AgentId, message: impl Into<String>) -> &mut Diagnostic {
        self.blame(severity, &key_of(agent), message)
    }
}

/// The name under which the position of an agent's key is stored.
fn key_of(agent: &AgentId) -> String {
    format!("agents.{agent}.key")
}

/// Loads the configuration. The report contains everything that is wrong with it.
pub fn load(path: Option<&Path>, env: &Env, overrides: &Overrides) -> Result<LoadedConfig, Report> {
    let (file, text, warning) = file(path, env, FileTrust::Path)?;
    let mut loaded = load_text(file, text.as_deref(), env, overrides)?;
    if let Some(Advice { message, help }) = warning {
        loaded.report.push(Severity::Warning, None, None, message).help = help;
        loaded.report.sort();
    }
    Ok(loaded)
}

/// The file to use, its text, and advice about it. The file is the one that is named, or the default one, which need
/// not exist.
type ConfigFileText = (Option<PathBuf>, Option<String>, Option<Advice>);

fn file(path: Option<&Path>, env: &Env, trust: FileTrust) -> Result<ConfigFileText, Report> {
    let named = path.map(Path::to_owned).or_else(|| env.text("DOORMAN_CONFIG").map(PathBuf::from));
    let file = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let how = ReadOptions { bytes_max: FILE_BYTES_MAX, pipes: env.pipes(), trust };
    let Advice { message, help } = match files::read(&file, how) {
        Ok(Contents { bytes, warning, .. }) => match String::from_utf8(bytes) {
            Ok(text) => return Ok((Some(file), Some(text), warning)),
            Err(_) => Advice::new(format!("`{}` cannot be read: it is not UTF-8", file.display()), "save it as UTF-8"),
        },
        Err(error) if named.is_none() && error.is_missing() => return Ok((None, None, None)),
        Err(error @ (FileError::System(_) | FileError::NotRegular(_))) => Advice::new(
            format!("`{}` cannot be read: {error}", file.display()),
            "name another with `--config`, or write a first one with `doorman init`",
        ),
        Err(error) => error.advice(&file),
    };
    let mut report = Report::default();
    report.push(Severity::Error, None, None, message).help = help;
    Err(report)
}

/// The same for a text that has been read already. Reads no files.
pub fn load_text(
    file: Option<PathBuf>,
    text: Option<&str>,
    env: &Env,
    overrides: &Overrides,
) -> Result<LoadedConfig, Report> {
    let mut report = Report::default();
    if let (Some(file), Some(text)) = (&file, text) {
        report.add_source(file.clone(), text);
    }
    let mut problems = Problems::new(report);
    let raw = text.map(|text| raw::read(text, &mut problems)).unwrap_or_default();
    let mut loading = Loading::new(env, overrides, problems, raw, file.as_deref());
    let settings = loading.settings();
    let Loading { problems, origins, agent_origins: agents, written, .. } = loading;
    let report = problems.finish();
    match settings {
        Some(settings) if !report.has_errors() => Ok(LoadedConfig { settings, report, origins, agents, file, written }),
        _ => Err(report),
    }
}

/// The settings that differ and are read only at start; agents come and go with a reload.
pub fn needs_restart(before: &Settings, now: &Settings) -> Vec<String> {
    let same = [
        ("platform", before.platform == now.platform),
        ("deciders", before.deciders == now.deciders),
        ("answers", before.answers == now.answers),
        ("ledger", before.ledger == now.ledger),
        ("fleet", before.fleet == now.fleet),
        ("control", before.control == now.control),
        ("metrics", before.metrics == now.metrics),
        ("page", before.page == now.page),
        ("notify", before.notify == now.notify),
        ("reload", before.reload == now.reload),
        ("log", before.log == now.log),
        ("timing", before.timing == now.timing),
    ];
    same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name.to_owned()).collect()
}

struct Loading<'a> {
    env: &'a Env,
    overrides: &'a Overrides,
    problems: Problems,
    raw: RawConfig,
    origins: Vec<(String, String, String)>,
    agent_origins: Vec<AgentOrigins>,
    written: HashMap<String, Range<usize>>,
    base: PathBuf,
    has_file: bool,
}

impl<'a> Loading<'a> {
    fn new(env: &'a Env, overrides: &'a Overrides, problems: Problems, raw: RawConfig, file: Option<&Path>) -> Self {
        let parent = file.and_then(Path::parent).filter(|parent| !parent.as_os_str().is_empty());
        let base = parent.map_or_else(|| PathBuf::from("."), Path::to_owned);
        Self {
            env,
            overrides,
            problems,
            raw,
            origins: Vec::new(),
            agent_origins: Vec::new(),
            written: HashMap::new(),
            base,
            has_file: file.is_some(),
        }
    }

    /// Checks all values before it gives up, so that all problems are reported.
    fn settings(&mut self) -> Option<Settings> {
        self.env.refuse_unreadable(&mut self.problems);
        let platform = self.platform();
        let agents = self.agents();
        let deciders = self.deciders();
        let in_flight = self.number("answers.in_flight", 8);
        let per_second = self.number("answers.per_second", 20);
        let ledger = self.ledger_path();
        let database = self.database();
        let fleet = self.fleet(matches!(database, Some(Some(_))));
        self.agents_somewhere(agents.as_deref(), !matches!(database, Some(None)));
        self.pushed_rules(agents.as_deref().unwrap_or_default(), !matches!(database, Some(None)));
        let keep = self.length("ledger.keep", "400d");
        let control = self.control_path();
        let control_path = self.resolve(&control.value);
        if control_path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let expected = format!("expected at most {SOCKET_PATH_BYTES_MAX} bytes, with its directory");
            self.refuse("control.path", &control, &expected, None);
        }
        let (group, read_group) = (self.given("control.group"), self.given("control.read_group"));
        let read_path = self.read_path(&control_path, read_group.is_some());
        let metrics = self.metrics();
        let page = self.page(&control_path);
        let notify = self.notify(agents.as_deref());
        let watch = self.flag("reload.watch", false);
        let format = self.scalar("log.format", None, "auto");
        let format = self.word("log.format", &format, keys::FORMATS);
        let level = self.scalar("log.level", None, "info");
        let level = self.log_level(&level);
        let timing = self.timing();
        Some(Settings {
            platform: platform?,
            agents: agents?,
            deciders,
            answers: Answers { in_flight: in_flight?, per_second: per_second? },
            ledger: LedgerSettings { path: self.resolve(&ledger.value), database: database?, keep: keep? },
            fleet: fleet?,
            control: ControlSettings { path: control_path, group, read_path, read_group },
            metrics: metrics?,
            page: page?,
            notify: notify?,
            reload: ReloadSettings { watch: watch? },
            log: LogSettings { format: log_format(format?), level: level? },
            timing: timing?,
        })
    }

    fn log_level(&mut self, layered: &Layered) -> Option<String> {
        match filter(&layered.value) {
            Ok(_) => Some(layered.value.clone()),
            Err(problem) => {
                let near = problem.near.map(|near| format!("did you mean `{near}`?"));
                self.refuse("log.level", layered, &problem.to_string(), near);
                None
            }
        }
    }

    fn ledger_path(&mut self) -> Layered {
        let path = default_paths::ledger_directory(self.env, &self.base).join("ledger.db");
        self.scalar("ledger.path", None, &path.display().to_string())
    }

    fn control_path(&mut self) -> Layered {
        let usual = default_paths::control_places(self.env).into_iter().next().unwrap_or_default();
        self.scalar("control.path", None, &usual.display().to_string())
    }

    /// A text; an empty one counts as not given.
    fn given(&mut self, key: &str) -> Option<String> {
        Some(self.scalar(key, None, "").value).filter(|text| !text.is_empty())
    }

    /// The socket for reading: the configured path; else, if a group may use it, a path beside the control socket.
    fn read_path(&mut self, control: &Path, wanted: bool) -> Option<PathBuf> {
        let layered = self.scalar("control.read_path", None, "");
        if layered.value.is_empty() {
            return wanted.then(|| control.with_file_name(CONTROL_READ_NAME));
        }
        let path = self.resolve(&layered.value);
        if path == control {
            self.refuse("control.read_path", &layered, "expected another path than `control.path`", None);
        } else if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let expected = format!("expected at most {SOCKET_PATH_BYTES_MAX} bytes, with its directory");
            self.refuse("control.read_path", &layered, &expected, None);
        }
        Some(path)
    }

    /// Paths are relative to the file.
    fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }
}

fn log_format(word: &str) -> LogFormat {
    match word {
        "human" => LogFormat::Human,
        "json" => LogFormat::Json,
        "journald" => LogFormat::Journald,
        _ => LogFormat::Auto,
    }
}
