//! What the commands that talk to a running daemon share: finding its socket, asking, naming an agent, and showing
//! what comes back without letting it steer the terminal.

use std::io::{self, Write as _};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use super::{CliError, Global};
use crate::clock::Clock;
use crate::model::{AgentId, StrangerText, ascii_json};
use crate::ops::control::client::{Client, ClientError, Submitted};
use crate::ops::control::socket::usual_places;
use crate::ops::control::wire::{ControlOp, OpReply, Status};
use crate::ops::log::fields::{PROBLEMS, clean};
use crate::ops::log::redact::Redact;

/// The exit code where no daemon answers.
const ABSENT: u8 = 69;

/// Which daemon.
#[derive(Debug, Clone, clap::Args)]
pub struct Door {
    /// The daemon's control socket; else `DOORMAN_CONTROL_PATH`, `control.path` of the configuration, else the usual places
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl Door {
    /// Connects.
    ///
    /// # Errors
    /// Exit code 69 where no daemon answers, 78 where the configuration named by hand cannot be read.
    pub fn open(&self, global: &Global) -> Result<Remote, CliError> {
        let places = match self.socket.clone().or_else(|| super::variable("DOORMAN_CONTROL_PATH")) {
            Some(path) => vec![path],
            None => doors(global)?,
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::new(1, format!("the runtime cannot be started: {error}")))?;
        let client = runtime.block_on(Client::find(&places)).map_err(refused)?;
        Ok(Remote { runtime, client })
    }
}

/// Where the daemon of this configuration has its control socket: where somebody said, else in one of the usual places. One
/// in a usual place is another's, where somebody said otherwise.
///
/// # Errors
/// Exit code 78 where the configuration named by hand cannot be read.
pub fn doors(global: &Global) -> Result<Vec<PathBuf>, CliError> {
    Ok(match super::places(global, "--socket PATH")?.control {
        Some(control) => vec![control],
        None => usual_places(|name| std::env::var_os(name)),
    })
}

/// A daemon that answers.
#[derive(Debug)]
pub struct Remote {
    runtime: Runtime,
    client: Client,
}

impl Remote {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Exit code 1 where the daemon says no, 69 where it does not answer.
    pub fn call(&self, op: &ControlOp) -> Result<OpReply, CliError> {
        self.runtime.block_on(self.client.call(op)).map_err(refused)
    }

    /// Asks, and does not wait for what comes of it.
    ///
    /// # Errors
    /// As [`Remote::call`].
    pub fn give(&self, op: &ControlOp) -> Result<Submitted, CliError> {
        self.runtime.block_on(self.client.give(op, false)).map_err(refused)
    }

    /// The status.
    ///
    /// # Errors
    /// As [`Remote::call`].
    pub fn status(&self) -> Result<Status, CliError> {
        match self.call(&ControlOp::Status)? {
            OpReply::Status(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    /// The agent that a person means: an id, a handle, or the beginning of one id only.
    ///
    /// # Errors
    /// Exit code 1 where that is none or several; the message lists those that there are.
    pub fn agent(&self, text: Option<&str>) -> Result<Option<AgentId>, CliError> {
        text.map(|text| pick(text, &self.status()?)).transpose()
    }
}

/// See [`Remote::agent`].
fn pick(text: &str, status: &Status) -> Result<AgentId, CliError> {
    let known: Vec<_> = status.agents.iter().map(|agent| (agent.id.as_str(), agent.handle.as_deref())).collect();
    let id = super::agents::pick(text, &known)?;
    AgentId::parse(id).map_err(|problem| CliError::new(1, problem.to_string()))
}

fn refused(error: ClientError) -> CliError {
    let code = match &error {
        ClientError::Absent { .. } | ClientError::Forbidden(_) | ClientError::Broken { .. } => ABSENT,
        ClientError::Refused(_) => 1,
    };
    // What a daemon says of a request may quote a stranger.
    CliError::new(code, shown(&error.to_string()))
}

/// A reply of the wrong kind.
pub fn unexpected() -> CliError {
    CliError::new(1, "the daemon gave another answer than it was asked for: is it of this version?")
}

/// Prints, with colours where they are wanted. A reader that went away is no error.
///
/// # Errors
/// Exit code 1 where the text cannot be written for another reason.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::new(1, format!("the output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// One line of JSON.
///
/// # Errors
/// As `print`.
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::new(1, error.to_string()))?;
    print(&(ascii_json(&text) + "\n"))
}

/// Text that did not come from a stranger, harmless in any case.
pub fn shown(text: &str) -> String {
    clean("", text, &Redact::default())
}

/// The same with its lines kept.
pub fn shown_lines(text: &str) -> String {
    clean(PROBLEMS, text, &Redact::default())
}

/// A stranger's text, escaped and cut after so many characters; `-` for none.
pub fn stranger(text: Option<&str>, max: usize) -> String {
    text.map_or_else(|| "-".to_owned(), |text| StrangerText::new(text).shown(max))
}

/// The wall clock.
pub fn now() -> Timestamp {
    Clock::start().now().wall
}

/// How long ago, in one unit: `12s`, `5m`, `3h`, `9d`.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AgentState;
    use crate::ops::control::wire::AgentStatus;

    fn status() -> Status {
        let agent = |id: &str, handle: Option<&str>| AgentStatus {
            id: AgentId::parse(id).unwrap(),
            handle: handle.map(ToOwned::to_owned),
            state: AgentState::Live,
            paused: false,
            held: false,
            since: Timestamp::UNIX_EPOCH,
            why: String::new(),
            pending: 0,
            deferred: 0,
            in_flight: 0,
            doubts: 0,
            last_listing: None,
            remarks: Vec::new(),
        };
        Status {
            version: "1".to_owned(),
            agents: vec![agent("aaaa-1111", Some("ana/helper")), agent("aaaa-2222", None), agent("bbbb-3333", None)],
            policies: Vec::new(),
            configuration: Default::default(),
            ledger: "ok".to_owned(),
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
    #[test]
    fn ages() {
        let ago = |seconds: i64| {
            ago(Timestamp::from_second(1_000_000).unwrap(), Timestamp::from_second(1_000_000 + seconds).unwrap())
        };
        assert_eq!([ago(-5), ago(59), ago(61), ago(7_300), ago(200_000)], ["0s", "59s", "1m", "2h", "2d"]);
    }
}
