//! From the file, the environment and the flags to [`Settings`]: the one loader of `run`, `check` and `config`.
//!
//! Flags win over `DOORMAN_SECTION_KEY`, those over the file, the file over the official SDK's names, those over the
//! defaults. A single agent needs no file at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use url::Url;

use super::raw::Raw;
use super::settings::{
    AgentSettings, Answers, ConnectionMode, ControlSettings, CredentialsMode, KeySource, LedgerSettings, LogFormat,
    LogSettings, Platform, ReloadSettings, Settings, Timing,
};
use super::{Report, Severity};
use crate::model::AgentId;

/// Where the configuration is, if nobody says.
pub const DEFAULT_FILE: &str = "/etc/doorman/doorman.toml";
const DEFAULT_URL: &str = "https://app.band.ai";
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The environment, as the loader sees it.
#[derive(Debug, Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// This process's environment; what is no text is left out.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    /// An environment of these.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }
}

/// Values that flags give, by `section.key`.
#[derive(Debug, Clone, Default)]
pub struct Overrides(BTreeMap<String, String>);

impl Overrides {
    /// This key has this value, whatever the file and the environment say.
    pub fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}

/// What came of loading.
#[derive(Debug)]
pub struct Loaded {
    /// The result.
    pub settings: Settings,
    /// Warnings.
    pub report: Report,
    /// Where each scalar came from: key, value as shown, origin.
    pub origins: Vec<(String, String, String)>,
    /// The file, if there was one.
    pub file: Option<PathBuf>,
}

/// Loads the configuration. Everything that is wrong with it is in the report.
pub fn load(path: Option<&Path>, env: &Env, overrides: &Overrides) -> Result<Loaded, Report> {
    let mut loading = Loading {
        env,
        overrides,
        report: Report::default(),
        origins: Vec::new(),
        base: PathBuf::from("."),
        source: None,
    };
    let (raw, file) = loading.file(path);
    let raw = match raw {
        Some(raw) if !loading.report.has_errors() => raw,
        _ => return Err(loading.report),
    };
    let settings = loading.settings(&raw, file.as_deref());
    loading.report.sort();
    match settings {
        Some(settings) if !loading.report.has_errors() => {
            Ok(Loaded { settings, report: loading.report, origins: loading.origins, file })
        }
        _ => Err(loading.report),
    }
}

/// The settings that differ and are read only at start.
pub fn needs_restart(before: &Settings, now: &Settings) -> Vec<String> {
    let mut changed = Vec::new();
    let mut note = |name: &str, same: bool| {
        if !same {
            changed.push(name.to_owned());
        }
    };
    note("platform", before.platform == now.platform);
    note("agents", before.agents == now.agents);
    note("answers", before.answers == now.answers);
    note("ledger", before.ledger == now.ledger);
    note("control", before.control == now.control);
    note("reload", before.reload == now.reload);
    note("log", before.log == now.log);
    note("timing", before.timing == now.timing);
    changed
}

/// A duration in friendly form; a day is 24 h.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|_| "it is no duration: write it like `30s`, `5m` or `1h 30m`".to_owned())?;
    let length = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| "months and years have no fixed length: use days".to_owned())?;
    if length <= SignedDuration::ZERO {
        return Err("it must be longer than nothing".to_owned());
    }
    Duration::try_from(length).map_err(|error| error.to_string())
}

struct Loading<'a> {
    env: &'a Env,
    overrides: &'a Overrides,
    report: Report,
    origins: Vec<(String, String, String)>,
    base: PathBuf,
    source: Option<usize>,
}

impl Loading<'_> {
    fn error(&mut self, message: impl Into<String>, help: &str) {
        let diagnostic = self.report.push(Severity::Error, self.source, None, message);
        if !help.is_empty() {
            diagnostic.help(help);
        }
    }

    fn file(&mut self, path: Option<&Path>) -> (Option<Raw>, Option<PathBuf>) {
        let named = path.map(Path::to_owned).or_else(|| self.env.text("DOORMAN_CONFIG").map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let text = match std::fs::metadata(&path) {
            Ok(file) if file.len() > FILE_BYTES_MAX => Err("it is larger than 1 MiB".to_owned()),
            Ok(_) => std::fs::read_to_string(&path).map_err(|error| error.to_string()),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return (Some(Raw::default()), None);
            }
            Err(error) => Err(error.to_string()),
        };
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                self.error(
                    format!("`{}` cannot be read: {why}", path.display()),
                    "name another with `--config`, or write a first one with `doorman init`",
                );
                return (None, None);
            }
        };
        let source = self.report.add_source(path.clone(), text.as_str());
        self.source = Some(source);
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.base = parent.to_owned();
        }
        match toml::from_str::<Raw>(&text) {
            Ok(raw) => (Some(raw), Some(path)),
            Err(error) => {
                let message = error.message().to_owned();
                self.report.push(Severity::Error, Some(source), error.span(), message);
                (None, None)
            }
        }
    }

    /// The value of a scalar, and where it came from.
    fn scalar(&mut self, key: &str, file: Option<String>, sdk: Option<&str>, default: &str) -> String {
        let name = format!("DOORMAN_{}", key.replace('.', "_").to_uppercase());
        let (value, origin) = if let Some(value) = self.overrides.0.get(key) {
            (value.clone(), "a flag".to_owned())
        } else if let Some(value) = self.env.text(&name) {
            (value.to_owned(), format!("`{name}`"))
        } else if let Some(value) = file {
            (value, "the file".to_owned())
        } else if let Some((sdk, value)) = sdk.and_then(|sdk| Some((sdk, self.env.text(sdk)?))) {
            (value.to_owned(), format!("`{sdk}`"))
        } else {
            (default.to_owned(), "the default".to_owned())
        };
        self.origins.push((key.to_owned(), value.clone(), origin));
        value
    }

    fn parsed<T>(&mut self, key: &str, value: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(why) => {
                self.error(format!("`{key}` = `{}`: {why}", value.escape_debug()), "");
                None
            }
        }
    }

    fn number(&mut self, key: &str, file: Option<u32>, default: u32) -> Option<u32> {
        let value = self.scalar(key, file.map(|number| number.to_string()), None, &default.to_string());
        self.parsed(key, &value, |text| text.parse::<u32>().map_err(|_| "it must be a whole number".to_owned()))
    }

    fn settings(&mut self, raw: &Raw, file: Option<&Path>) -> Option<Settings> {
        let platform = self.platform(raw);
        let agents = self.agents(raw, file);
        let in_flight = self.number("answers.in_flight", raw.answers.in_flight, 8);
        if in_flight.is_some_and(|number| !(1..=1024).contains(&number)) {
            self.error("`answers.in_flight` must be 1 to 1024", "");
        }
        let per_second = self.number("answers.per_second", raw.answers.per_second, 20);
        let keep = self.scalar("ledger.keep", raw.ledger.keep.clone(), None, "400d");
        let keep = self.parsed("ledger.keep", &keep, duration);
        let state = self.directory("STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state");
        let ledger =
            self.scalar("ledger.path", raw.ledger.path.clone(), None, &state.join("ledger.db").display().to_string());
        let runtime = match (self.env.text("RUNTIME_DIRECTORY"), self.env.text("XDG_RUNTIME_DIR")) {
            (Some(directory), _) => PathBuf::from(directory),
            (None, Some(directory)) => Path::new(directory).join("doorman"),
            (None, None) => state.clone(),
        };
        let control = self.scalar(
            "control.path",
            raw.control.path.clone(),
            None,
            &runtime.join("doorman.sock").display().to_string(),
        );
        let watch = self.scalar("reload.watch", raw.reload.watch.map(|watch| watch.to_string()), None, "false");
        let watch = self.parsed("reload.watch", &watch, |text| {
            text.parse::<bool>().map_err(|_| "it must be true or false".to_owned())
        });
        let format = self.scalar("log.format", raw.log.format.clone(), None, "auto");
        let format = self.parsed("log.format", &format, |text| match text {
            "auto" => Ok(LogFormat::Auto),
            "human" => Ok(LogFormat::Human),
            "json" => Ok(LogFormat::Json),
            "journald" => Ok(LogFormat::Journald),
            _ => Err("it must be `auto`, `human`, `json` or `journald`".to_owned()),
        });
        let level = self.scalar("log.level", raw.log.level.clone(), None, "info");
        self.parsed("log.level", &level, |text| {
            crate::ops::log::filter(text).map(drop).map_err(|error| error.to_string())
        });
        let timing = self.timing(raw);
        let (ledger, control) = (self.resolve(&ledger), self.resolve(&control));
        if control.as_os_str().len() > 107 {
            self.error(
                format!("`control.path` = `{}` is longer than the 107 bytes a socket may have", control.display()),
                "set a shorter one",
            );
        }
        Some(Settings {
            platform: platform?,
            agents: agents?,
            answers: Answers { in_flight: in_flight?, per_second: per_second? },
            ledger: LedgerSettings { path: ledger, keep: keep? },
            control: ControlSettings { path: control },
            reload: ReloadSettings { watch: watch? },
            log: LogSettings { format: format?, level },
            timing: timing?,
        })
    }

    /// Paths in the file are relative to it.
    fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    fn directory(&self, systemd: &str, xdg: &str, home: &str) -> PathBuf {
        if let Some(directory) = self.env.text(systemd) {
            return PathBuf::from(directory);
        }
        let base = match (self.env.text(xdg), self.env.text("HOME")) {
            (Some(base), _) => PathBuf::from(base),
            (None, Some(base)) => Path::new(base).join(home),
            (None, None) => PathBuf::from("."),
        };
        base.join("doorman")
    }

    fn platform(&mut self, raw: &Raw) -> Option<Platform> {
        let url = self.scalar("platform.url", raw.platform.url.clone(), None, DEFAULT_URL);
        let origin = |text: &str| text.trim_end_matches('/').trim_end_matches("/api/v1").to_owned();
        let rest = self.scalar("platform.rest_url", raw.platform.rest_url.clone(), Some("BAND_REST_URL"), &url);
        let rest = format!("{}/api/v1", origin(&rest));
        let socket = origin(&url).replacen("http", "ws", 1) + "/api/v1/socket/websocket";
        let socket = self.scalar("platform.socket_url", raw.platform.socket_url.clone(), Some("BAND_WS_URL"), &socket);
        let address = |schemes: [&'static str; 2]| {
            move |text: &str| {
                let url = Url::parse(text).map_err(|error| error.to_string())?;
                if !schemes.contains(&url.scheme()) || url.host_str().is_none() {
                    return Err(format!(
                        "it must begin with `{}://` or `{}://` and name a host",
                        schemes[0], schemes[1]
                    ));
                }
                if url.username() != "" || url.password().is_some() || url.query().is_some() {
                    return Err("it must not hold a user, a password or a query".to_owned());
                }
                Ok(url)
            }
        };
        let rest = self.parsed("platform.rest_url", &rest, address(["https", "http"]));
        let socket = self.parsed("platform.socket_url", &socket, address(["wss", "ws"]));
        let credentials = self.scalar("platform.credentials", raw.platform.credentials.clone(), None, "auto");
        let credentials = self.parsed("platform.credentials", &credentials, |text| match text {
            "auto" => Ok(CredentialsMode::Auto),
            "header" => Ok(CredentialsMode::Header),
            "query" => Ok(CredentialsMode::Query),
            _ => Err("it must be `auto`, `header` or `query`".to_owned()),
        });
        let ca_file = self.scalar("platform.ca_file", raw.platform.ca_file.clone(), None, "");
        let ca_file = (!ca_file.is_empty()).then(|| self.resolve(&ca_file));
        let (rest, socket) = (rest?, socket?);
        let loopback = |url: &Url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if [&rest, &socket].into_iter().any(|url| matches!(url.scheme(), "http" | "ws") && !loopback(url)) {
            self.report
                .push(
                    Severity::Warning,
                    self.source,
                    None,
                    "the platform is spoken to without TLS: the key can be read on the way",
                )
                .help("use `https://`");
        }
        Some(Platform { rest, socket, ca_file, credentials: credentials? })
    }

    fn agents(&mut self, raw: &Raw, file: Option<&Path>) -> Option<Vec<AgentSettings>> {
        if raw.agents.is_empty() {
            return self.environments_agent(file).map(|agent| vec![agent]);
        }
        let mut agents: Vec<AgentSettings> = Vec::new();
        for (number, agent) in raw.agents.iter().enumerate() {
            let name = format!("agents[{number}]");
            let id = self.parsed(&format!("{name}.id"), &agent.id, agent_id);
            let connection = agent.connection.as_deref().unwrap_or("yield");
            let connection = self.parsed(&format!("{name}.connection"), connection, connection_mode);
            let key = match (&agent.api_key_file, &agent.api_key_env, &agent.api_key_credential) {
                (Some(path), None, None) => KeySource::File(self.resolve(path)),
                (None, Some(name), None) => KeySource::Env(name.clone()),
                (None, None, Some(name)) => KeySource::Credential(name.clone()),
                (None, None, None) => KeySource::Missing,
                _ => {
                    self.error(
                        format!("`{name}` has more than one source for its key"),
                        "keep one of `api_key_file`, `api_key_env`, `api_key_credential`",
                    );
                    KeySource::Missing
                }
            };
            let rules = self.resolve(agent.rules.as_deref().unwrap_or("rules.toml"));
            let (Some(id), Some(connection)) = (id, connection) else { continue };
            if agents.iter().any(|other| other.id == id) {
                self.error(format!("the agent `{id}` is there twice"), "remove one of them");
            }
            agents.push(AgentSettings { id, key, rules, connection });
        }
        Some(agents)
    }

    fn environments_agent(&mut self, file: Option<&Path>) -> Option<AgentSettings> {
        let id = self.env.text("DOORMAN_AGENT_ID").or_else(|| self.env.text("BAND_AGENT_ID")).map(str::to_owned);
        let Some(id) = id else {
            let what = if file.is_some() { "no agent is configured" } else { "there is no configuration" };
            self.error(what, "add an `[[agents]]` table, or set `DOORMAN_AGENT_ID`, `DOORMAN_API_KEY_FILE` and `DOORMAN_RULES`; `doorman init` writes a first configuration");
            return None;
        };
        let id = self.parsed("DOORMAN_AGENT_ID", &id, agent_id);
        let key = match self.env.text("DOORMAN_API_KEY_FILE") {
            Some(path) => KeySource::File(PathBuf::from(path)),
            None => ["DOORMAN_API_KEY", "BAND_API_KEY"]
                .into_iter()
                .find(|name| self.env.text(name).is_some())
                .map_or(KeySource::Missing, |name| KeySource::Env(name.to_owned())),
        };
        let rules = self.env.text("DOORMAN_RULES").map_or_else(|| self.base.join("rules.toml"), PathBuf::from);
        let connection = self.env.text("DOORMAN_CONNECTION").unwrap_or("yield").to_owned();
        let connection = self.parsed("DOORMAN_CONNECTION", &connection, connection_mode);
        Some(AgentSettings { id: id?, key, rules, connection: connection? })
    }

    fn timing(&mut self, raw: &Raw) -> Option<Timing> {
        let mut timing = Timing::default();
        let mut whole = true;
        for (name, place) in timing.fields() {
            let key = format!("timing.{name}");
            let default = format!("{}ms", place.as_millis());
            let value = self.scalar(&key, raw.timing.get(name).cloned(), None, &default);
            match self.parsed(&key, &value, duration) {
                Some(length) => *place = length,
                None => whole = false,
            }
        }
        let known: Vec<&str> = Timing::default().fields().iter().map(|(name, _)| *name).collect();
        for name in raw.timing.keys().filter(|name| !known.contains(&name.as_str())) {
            let near = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, name));
            let help = near.map_or_else(String::new, |near| format!("did you mean `{near}`?"));
            self.error(format!("`timing.{}` is no key", name.escape_debug()), &help);
        }
        whole.then_some(timing)
    }
}

fn agent_id(text: &str) -> Result<AgentId, String> {
    uuid::Uuid::parse_str(text).map_err(|_| "an agent's id is a UUID, as the platform shows it".to_owned())?;
    AgentId::parse(text).map_err(|problem| problem.to_string())
}

fn connection_mode(text: &str) -> Result<ConnectionMode, String> {
    match text {
        "yield" => Ok(ConnectionMode::Yield),
        "take" => Ok(ConnectionMode::Take),
        "poll" => Ok(ConnectionMode::Poll),
        _ => Err("it must be `yield`, `take` or `poll`".to_owned()),
    }
}
