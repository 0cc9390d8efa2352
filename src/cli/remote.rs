//! What the commands that talk to a running daemon share: finding its socket, asking, and naming an agent.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::who::WhoArgs;
use super::{CliError, Global, output};
use crate::model::AgentId;
use crate::ops::control::client::{Client, ClientError, Submitted};
use crate::ops::control::wire::{ControlOp, DaemonStatus, OpReply};
use crate::ops::health::Health;

/// The exit code if no daemon answers.
pub(super) const ABSENT: u8 = 69;
/// How long [`at_once`] waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which daemon. Every command that talks to a running one has these.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RemoteArgs {
    /// The daemon's control socket; else `DOORMAN_CONTROL_PATH`, else `control.path` of the configuration, else the
    /// usual places
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl RemoteArgs {
    /// Connects.
    ///
    /// # Errors
    /// Exit code 69 if no daemon answers, 78 if the configuration that the person named cannot be read.
    pub fn open(&self, global: &Global) -> Result<Remote, CliError> {
        self.open_as(&WhoArgs::default(), global)
    }

    /// Connects, with what the person says about themselves (`--as`, `--note`).
    ///
    /// # Errors
    /// As [`RemoteArgs::open`].
    pub fn open_as(&self, who: &WhoArgs, global: &Global) -> Result<Remote, CliError> {
        let places = match &self.socket {
            Some(path) => vec![path.clone()],
            None => doors(global)?,
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::new(1, format!("the runtime cannot be started: {error}")))?;
        let client = runtime.block_on(Client::find(&places)).map_err(refused)?.saying(who.claim());
        let names = super::places(global, "--socket PATH").map(|places| places.names).unwrap_or_default();
        Ok(Remote { runtime, client, names })
    }
}

/// The control socket of the daemon of this configuration, then its socket for reading: at the configured paths, else
/// at the usual ones. If a path is configured, the usual paths are not tried, since a socket there belongs to another
/// daemon.
///
/// # Errors
/// Exit code 78 if the configuration that the person named cannot be read.
pub fn doors(global: &Global) -> Result<Vec<PathBuf>, CliError> {
    // An absolute path needs no configuration, which may be broken at the moment. A relative path is relative to the
    // configuration, as for the daemon.
    if let Some(path) = super::variable("DOORMAN_CONTROL_PATH").filter(|path| path.is_absolute()) {
        return Ok(vec![path]);
    }
    let places = super::places(global, "--socket PATH")?;
    Ok(places.control.into_iter().chain(places.read).collect())
}

/// The daemon's reply, if there is a daemon that replies at once: for information that is useful but not necessary.
pub fn at_once(global: &Global, op: &ControlOp) -> Option<OpReply> {
    let places = doors(global).ok()?;
    let runtime = Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let asking = async { Client::find(&places).await.ok()?.call(op).await.ok() };
        tokio::time::timeout(PATIENCE, asking).await.ok().flatten()
    })
}

/// A connection to a running daemon.
#[derive(Debug)]
pub struct Remote {
    runtime: Runtime,
    client: Client,
    /// The ids and names of agents, as the configuration has them.
    names: Vec<(String, String)>,
}

impl Remote {
    /// Asks, and waits for the answer, which is of the kind that belongs to the question.
    ///
    /// # Errors
    /// Exit code 1 if the daemon refuses, or its reply is of another kind; 69 if it does not answer.
    pub fn ask<T: TryFrom<OpReply>>(&self, op: &ControlOp) -> Result<T, CliError> {
        let reply = self.runtime.block_on(self.client.call(op)).map_err(refused)?;
        T::try_from(reply).map_err(|_| unexpected())
    }

    /// Asks, and does not wait for the effect.
    ///
    /// # Errors
    /// As [`Remote::ask`].
    pub fn give(&self, op: &ControlOp) -> Result<Submitted, CliError> {
        self.runtime.block_on(self.client.give(op, false)).map_err(refused)
    }

    /// The status.
    ///
    /// # Errors
    /// As [`Remote::ask`].
    pub fn status(&self) -> Result<DaemonStatus, CliError> {
        self.ask(&ControlOp::Status)
    }

    /// Whether the daemon is alive, or ready.
    ///
    /// # Errors
    /// As [`Remote::ask`].
    pub fn health(&self, ready: bool) -> Result<Health, CliError> {
        self.runtime.block_on(self.client.health(ready)).map_err(refused)
    }

    /// The agent that a person means: by its id, name, handle, or the beginning of exactly one id.
    ///
    /// # Errors
    /// Exit code 1 if none or several match; the message lists the agents that exist.
    pub fn agent(&self, text: Option<&str>) -> Result<Option<AgentId>, CliError> {
        let named = |text: &str| self.names.iter().find(|(_, name)| name == text).map(|(id, _)| id.clone());
        text.map(|text| pick(named(text).as_deref().unwrap_or(text), &self.status()?)).transpose()
    }
}

/// See [`Remote::agent`].
fn pick(text: &str, status: &DaemonStatus) -> Result<AgentId, CliError> {
    let known: Vec<_> = status.agents.iter().map(|agent| (agent.id.as_str(), agent.handle.as_deref())).collect();
    let id = super::agents::pick(text, &known)?;
    AgentId::parse(id).map_err(|problem| CliError::new(1, problem.to_string()))
}

fn refused(error: ClientError) -> CliError {
    let code = match &error {
        ClientError::Absent { .. } | ClientError::Forbidden(_) | ClientError::Broken { .. } => ABSENT,
        ClientError::Refused(_) => 1,
    };
    // The daemon's message about a request may quote a stranger.
    CliError::new(code, output::shown_lines(&error.to_string()))
}

/// A reply of the wrong kind.
pub fn unexpected() -> CliError {
    CliError::new(1, "the daemon gave another answer than it was asked for: is it of this version?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::control::wire::AgentStatus;

    fn status() -> DaemonStatus {
        let agent = |id: &str, handle: Option<&str>| AgentStatus {
            handle: handle.map(ToOwned::to_owned),
            ..AgentStatus::starting(AgentId::parse(id).unwrap(), jiff::Timestamp::UNIX_EPOCH)
        };
        DaemonStatus {
            version: "1".to_owned(),
            agents: vec![agent("aaaa-1111", Some("ana/helper")), agent("aaaa-2222", None), agent("bbbb-3333", None)],
            policies: Vec::new(),
            configuration: Default::default(),
            ledger: "ok".to_owned(),
            notify: Vec::new(),
            page: Vec::new(),
            metrics: Vec::new(),
            counters: Default::default(),
        }
    }

    #[test]
    fn an_agent_is_picked_by_id_handle_or_beginning() {
        let status = status();
        let pick = |text| pick(text, &status).map(|id| id.to_string());
        assert_eq!(pick("aaaa-2222").unwrap(), "aaaa-2222");
        assert_eq!(pick("@Ana/Helper").unwrap(), "aaaa-1111");
        assert_eq!(pick("bbbb").unwrap(), "bbbb-3333");
        for text in ["aaaa", "b", "", "nobody"] {
            let error = pick(text).unwrap_err();
            assert_eq!(error.code, 1);
            assert!(error.message.contains("`bbbb-3333`"), "{}", error.message);
        }
    }
}
