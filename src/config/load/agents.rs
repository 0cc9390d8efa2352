//! `[[agents]]`, or the one agent that the environment names.

use std::path::PathBuf;

use super::env::variable;
use super::layers::{Layer, Layered};
use super::{AgentOrigins, Loading, key_of};
use crate::config::keys;
use crate::config::raw::RawConfigTable;
use crate::config::settings::{AgentSettings, ConnectionMode, KeySource, PUSHED, may_be_pushed, pushed_name};
use crate::diagnostics::Severity;
use crate::document::shown;
use crate::model::AgentId;

/// An agent's rules file, if none is named.
pub(super) const DEFAULT_RULES: &str = "rules.toml";
/// The setting by which a doorman has agents of the roster.
const KEYS_DIR: &str = "fleet.keys_dir";
const SOURCES: [&str; 3] = ["api_key_file", "api_key_env", "api_key_credential"];

impl Loading<'_> {
    pub(super) fn agents(&mut self) -> Option<Vec<AgentSettings>> {
        let raw = std::mem::take(&mut self.raw.agents);
        let of_targets: Vec<String> = ["url_env", "secret_env"]
            .into_iter()
            .flat_map(|key| self.raw.notify.iter().filter_map(move |one| Some(one.get(key)?.value.clone())))
            .collect();
        if raw.is_empty() {
            // Problems of the agents in the file are reported already.
            let named = ["DOORMAN_AGENT_ID", "BAND_AGENT_ID"].iter().any(|name| self.env.text(name).is_some());
            if !self.raw.agents_written && !named && self.may_have_roster() {
                self.env.warn_unknown(&[], &mut self.problems);
                return Some(Vec::new());
            }
            return if self.raw.agents_written { None } else { self.environments_agent().map(|agent| vec![agent]) };
        }
        let mut agents: Vec<AgentSettings> = Vec::with_capacity(raw.len());
        for one in &raw {
            let Some(agent) = self.agent(one) else { continue };
            if agents.iter().any(|other| other.id == agent.id) {
                let span = one.get("id").map_or(one.span.clone(), |id| id.span.clone());
                self.problems
                    .error(&span, format!("the agent `{}` is there twice", agent.id))
                    .help("remove one of them");
            }
            let called = |other: &AgentSettings| {
                let theirs = [Some(other.id.as_str()), other.name.as_deref()];
                let ours = [Some(agent.id.as_str()), agent.name.as_deref()];
                ours.into_iter().flatten().any(|word| theirs.contains(&Some(word)))
            };
            if let (Some(name), true) =
                (one.get("name"), agents.iter().any(|other| other.id != agent.id && called(other)))
            {
                self.problems
                    .error(&name.span, format!("the name `{}` is another agent's", shown(&name.value)))
                    .help("give each agent a name of its own");
            }
            let origin = |key: &str| match one.get(key) {
                Some(at) => Layer::File(at.span.clone()).origin(),
                None => Layer::Default.origin(),
            };
            self.agent_origins.push(AgentOrigins {
                id: origin("id"),
                rules: origin("rules"),
                connection: origin("connection"),
            });
            if let Some(key) = SOURCES.into_iter().find_map(|source| one.get(source)) {
                self.written.insert(key_of(&agent.id), key.span.clone());
            }
            agents.push(agent);
        }
        let of_agents = raw.iter().filter_map(|one| Some(one.get("api_key_env")?.value.as_str()));
        let named: Vec<&str> = of_agents.chain(of_targets.iter().map(String::as_str)).collect();
        self.env.warn_unknown(&named, &mut self.problems);
        Some(agents)
    }

    fn agent(&mut self, raw: &RawConfigTable) -> Option<AgentSettings> {
        let layered =
            |key: &str| raw.get(key).map(|at| Layered { value: at.value.clone(), layer: Layer::File(at.span.clone()) });
        let id = layered("id").and_then(|id| self.parsed("agents.id", &id, agent_id));
        let connection = layered("connection").unwrap_or(Layered { value: "yield".to_owned(), layer: Layer::Default });
        let connection = self.connection(&connection);
        let sources: Vec<_> = SOURCES.into_iter().filter_map(|name| Some((name, raw.get(name)?))).collect();
        let key = match sources.as_slice() {
            [("api_key_file", at)] => KeySource::File(self.resolve(&at.value)),
            [("api_key_env", at)] => KeySource::Env(at.value.clone()),
            [(_, at)] => KeySource::Credential(at.value.clone()),
            [] => KeySource::Missing,
            [.., (name, second)] => {
                self.problems
                    .error(&second.span, "the agent has more than one source for its key")
                    .label(format!("`{name}` beside `{}`", sources[0].0))
                    .help("keep one of `api_key_file`, `api_key_env`, `api_key_credential`");
                KeySource::Missing
            }
        };
        let name = raw.get("name").map(|at| at.value.clone());
        if let Some(at) = raw.get("name").filter(|at| !is_name(&at.value)) {
            self.problems
                .error(&at.span, format!("`{}` cannot be an agent's name", shown(&at.value)))
                .label("a name has a-z, 0-9 and `-`, at most 64 of them");
        }
        let rules = self.rules(raw.get("rules").map_or(DEFAULT_RULES, |at| at.value.as_str()));
        if let (Some(id), Some(at)) = (&id, raw.get("rules")) {
            self.written.insert(rules_of(id), at.span.clone());
        }
        Some(AgentSettings { id: id?, name, key, rules, connection: connection? })
    }

    /// A rules file is relative to the configuration; a name of pushed rules stays as it is.
    pub(super) fn rules(&self, text: &str) -> PathBuf {
        if text.starts_with(PUSHED) { PathBuf::from(text) } else { self.resolve(text) }
    }

    /// Whether the ledger can hold the rules that agents name in it.
    pub(super) fn pushed_rules(&mut self, agents: &[AgentSettings], has_database: bool) {
        for agent in agents {
            let Some(name) = pushed_name(&agent.rules) else { continue };
            let (message, help) = if !may_be_pushed(name) {
                let message = format!("`{}` cannot be a name of pushed rules", shown(name));
                (message, "a name has a-z, 0-9 and `-`, at most 64 of them")
            } else if has_database {
                continue;
            } else {
                let message = format!("`{PUSHED}{name}` names rules in the ledger, which is a file");
                (message, "name a rules file, or a PostgreSQL database with `url` in `[ledger]`")
            };
            let problem = match self.written.get(&rules_of(&agent.id)).cloned() {
                Some(span) => self.problems.error(&span, message),
                None => self.problems.plain(Severity::Error, message),
            };
            problem.help(help);
        }
    }

    /// One of the three modes; `take` gives a warning.
    fn connection(&mut self, layered: &Layered) -> Option<ConnectionMode> {
        let mode = match self.word("agents.connection", layered, keys::CONNECTIONS)? {
            "take" => ConnectionMode::Take,
            "poll" => ConnectionMode::Poll,
            _ => ConnectionMode::Yield,
        };
        if mode == ConnectionMode::Take {
            let message = "`take` ends an official client of this agent for good: it does not come back after doorman took \
                           its connection";
            let problem = match &layered.layer {
                Layer::File(span) => self.problems.warning(span, message),
                _ => self.problems.plain(Severity::Warning, message),
            };
            problem.help("use `yield`, or `poll` if that client connects with `on_conflict=reject`");
        }
        Some(mode)
    }

    /// Whether the agents may all be on the roster.
    fn may_have_roster(&self) -> bool {
        self.raw.scalars.contains_key(KEYS_DIR) || self.env.text(&variable(KEYS_DIR)).is_some()
    }

    fn no_agent(&mut self) {
        let what = if self.has_file { "no agent is configured" } else { "there is no configuration" };
        self.problems.plain(Severity::Error, what).help(
            "add an `[[agents]]` table, or set `DOORMAN_AGENT_ID`, `DOORMAN_API_KEY_FILE` and `DOORMAN_RULES`; \
             `doorman init` writes a first configuration",
        );
    }

    /// A roster is in a database.
    pub(super) fn agents_somewhere(&mut self, agents: Option<&[AgentSettings]>, has_database: bool) {
        // Agents that are written and refused are reported already.
        if agents.is_some_and(<[_]>::is_empty) && !self.raw.agents_written && !has_database {
            self.no_agent();
        }
    }

    fn environments_agent(&mut self) -> Option<AgentSettings> {
        self.env.warn_unknown(&[], &mut self.problems);
        let of = |name: &str| {
            self.env
                .text(name)
                .map(|value| Layered { value: value.to_owned(), layer: Layer::Variable(name.to_owned()) })
        };
        let (connection, rules) = (of("DOORMAN_CONNECTION"), of("DOORMAN_RULES"));
        let Some(id) = of("DOORMAN_AGENT_ID").or_else(|| of("BAND_AGENT_ID")) else {
            self.no_agent();
            return None;
        };
        let key = match self.env.text("DOORMAN_API_KEY_FILE") {
            Some(path) => KeySource::File(PathBuf::from(path)),
            None => ["DOORMAN_API_KEY", "BAND_API_KEY"]
                .into_iter()
                .find(|name| self.env.text(name).is_some())
                .map_or(KeySource::Missing, |name| KeySource::Env(name.to_owned())),
        };
        let origin = |layered: Option<&Layered>| layered.map_or(&Layer::Default, |layered| &layered.layer).origin();
        self.agent_origins.push(AgentOrigins {
            id: origin(Some(&id)),
            rules: origin(rules.as_ref()),
            connection: origin(connection.as_ref()),
        });
        // The same as a path, and as a name of pushed rules.
        let rules = rules.map_or_else(|| self.base.join(DEFAULT_RULES), |rules| PathBuf::from(rules.value));
        let id = self.parsed("agents.id", &id, agent_id);
        let connection = match connection {
            Some(layered) => self.connection(&layered)?,
            None => ConnectionMode::Yield,
        };
        Some(AgentSettings { id: id?, name: None, key, rules, connection })
    }
}

/// The name under which the position of an agent's `rules` is stored.
fn rules_of(agent: &AgentId) -> String {
    format!("agents.{agent}.rules")
}

pub(super) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

fn agent_id(text: &str) -> Result<AgentId, String> {
    uuid::Uuid::parse_str(text).map_err(|_| "expected a UUID, as the platform shows it".to_owned())?;
    AgentId::parse(text).map_err(|problem| problem.to_string())
}
