//! The paths of the daemon's files, for commands that need nothing else of the configuration: they must also work while
//! the file has errors.

use std::path::{Path, PathBuf};

use super::agents::DEFAULT_RULES;
use url::Url;

use super::layers::Layer;
use super::{Env, Loading, Overrides, default_paths};
use crate::config::raw;
use crate::config::settings::{CONTROL_READ_NAME, DatabaseSettings};
use crate::diagnostics::Report;
use crate::document::Problems;
use crate::files::FileTrust;
use crate::model::AgentId;

/// The paths of the daemon's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The configuration, if there is one.
    pub file: Option<PathBuf>,
    /// The ledger's file.
    pub ledger: PathBuf,
    /// The database that holds the ledger in place of the file.
    pub database: Option<DatabaseSettings>,
    /// The name of this doorman among those that share the database, if it was given one.
    pub fleet_name: Option<String>,
    /// Possible paths of the control socket, the likeliest first; exactly one if it was configured.
    pub control: Vec<PathBuf>,
    /// The socket for reading of each of these.
    pub read: Vec<PathBuf>,
    /// The id of each agent with a valid id, and its rules file.
    pub rules: Vec<(String, PathBuf)>,
    /// The ids and names of agents that have a name.
    pub names: Vec<(String, String)>,
    /// The platform's address, if it can be read.
    pub platform: Option<Url>,
}

/// Finds them. Fails only if a file that was named cannot be read, or is not TOML.
pub fn places(path: Option<&Path>, env: &Env) -> Result<Places, Report> {
    let (file, text, _) = super::file(path, env, FileTrust::Anybody)?;
    let mut report = Report::default();
    if let (Some(file), Some(text)) = (&file, &text) {
        report.add_source(file.clone(), text.as_str());
    }
    let mut problems = Problems::new(report);
    env.refuse_unreadable(&mut problems);
    if env.any_unreadable() {
        return Err(problems.finish());
    }
    let raw = text.as_deref().map(|text| raw::read(text, &mut problems)).unwrap_or_default();
    if raw.unreadable {
        return Err(problems.finish());
    }
    let overrides = Overrides::default();
    let mut loading = Loading::new(env, &overrides, problems, raw, file.as_deref());
    let platform = loading.platform().map(|platform| platform.rest);
    let ledger = loading.ledger_path().value;
    // Another record than the one that is meant would be worse than none.
    let Some(database) = loading.database() else { return Err(loading.problems.finish()) };
    let fleet_name = loading.given("fleet.name");
    let control = loading.control_path();
    let named = !matches!(control.layer, Layer::Default);
    let read = loading.scalar("control.read_path", None, "").value;
    let mut rules: Vec<(String, PathBuf)> = Vec::new();
    let mut names = Vec::new();
    for agent in &loading.raw.agents {
        let id = agent.get("id").map(|id| canonical(&id.value)).unwrap_or_default();
        names.extend(agent.get("name").map(|name| (id.clone(), name.value.clone())));
        rules.push((id, loading.rules(agent.get("rules").map_or(DEFAULT_RULES, |rules| rules.value.as_str()))));
    }
    if let (true, Some(id)) = (rules.is_empty(), env.text("DOORMAN_AGENT_ID").or_else(|| env.text("BAND_AGENT_ID"))) {
        let path = env.text("DOORMAN_RULES").map_or_else(|| loading.resolve(DEFAULT_RULES), PathBuf::from);
        rules.push((canonical(id), path));
    }
    let control: Vec<PathBuf> = match named {
        true => vec![loading.resolve(&control.value)],
        false => default_paths::control_places(env).iter().map(|path| loading.base.join(path)).collect(),
    };
    let beside = control.iter().map(|path| path.with_file_name(CONTROL_READ_NAME));
    let read: Vec<PathBuf> = match (named, read.is_empty()) {
        (true, false) => vec![loading.resolve(&read)],
        (false, false) => std::iter::once(loading.resolve(&read)).chain(beside).collect(),
        (_, true) => beside.collect(),
    };
    Ok(Places { ledger: loading.resolve(&ledger), database, fleet_name, control, read, rules, names, platform, file })
}

/// The id as the ledger has it, if it is a valid id.
fn canonical(id: &str) -> String {
    AgentId::parse(id).map_or_else(|_| id.to_owned(), |id| id.to_string())
}
