//! The daemon in a separate process, in its own directory, and its log.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

/// Longer than anything here takes: a test that waits this long has failed.
pub const TIME: Duration = Duration::from_secs(60);
/// The agent.
pub const AGENT: &str = "a0000000-0000-4000-8000-000000000001";
/// Its key.
pub const KEY: &str = "band-key-of-the-porter";
/// Friends are approved, everybody else is deferred.
const RULES: &str = "version = 1\n[policy]\nmode = \"enforce\"\nno_match = \"defer\"\n[rules.friends]\nthen = \"approve\"\n\
                     when = { handle = \"friends/*\" }\n[rules.foes]\nthen = \"reject\"\nwhen = { handle = \"foes/*\" }\n";
const TIMING: &str = "[timing]\njoin_timeout = \"5s\"\nbackoff_min = \"20ms\"\nbackoff_max = \"200ms\"\nlist_live = \"1s\"\n\
                      list_away = \"200ms\"\ndrain = \"2s\"\n";

/// A directory with a configuration, the rules and the key.
pub struct Site(tempfile::TempDir);

impl Site {
    /// `platform`: the lines of the table `[platform]`.
    pub fn new(platform: &str) -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        site.configure(platform);
        for (name, text) in [("rules.toml", RULES), ("agent.key", KEY)] {
            std::fs::write(site.path(name), text).unwrap();
        }
        site
    }

    /// Writes the configuration again.
    pub fn configure(&self, platform: &str) {
        let text = format!(
            "[platform]\n{platform}\n[[agents]]\nid = \"{AGENT}\"\napi_key_file = \"agent.key\"\nrules = \"rules.toml\"\n\
             [ledger]\npath = \"ledger.db\"\n[control]\npath = \"run/doorman.sock\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n\
             {TIMING}"
        );
        std::fs::write(self.path("doorman.toml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The binary with these arguments, without the relevant parts of this process's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
        command.args(arguments).arg("--config").arg(self.path("doorman.toml"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_ascii_uppercase();
            let ours = ["DOORMAN_", "BAND_", "SSL_CERT_"].iter().any(|prefix| text.starts_with(prefix));
            if ours || text.ends_with("_PROXY") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Starts the daemon with more arguments and variables.
    pub fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Doorman {
        let mut command = self.command(&[&["run"], arguments].concat());
        let mut child = command.envs(variables.iter().copied()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Doorman { child, lines, said: Vec::new(), unasked: Vec::new() }
    }

    /// `doorman status --json` of the running daemon: its agent.
    pub async fn status(&self) -> Value {
        let output = timeout(TIME, self.command(&["status", "--json"]).output()).await.unwrap().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        status["agents"][0].clone()
    }
}

/// The running daemon; killed when dropped.
pub struct Doorman {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
    unasked: Vec<Value>,
}

impl Doorman {
    /// The first line of the log that satisfies `so` and was not returned before; waits for it if necessary.
    pub async fn says(&mut self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.unasked.iter().position(&so) {
            return self.unasked.remove(at);
        }
        let reading = async {
            while let Some(text) = self.lines.next_line().await.unwrap() {
                let line: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
                self.said.push(text);
                if so(&line) {
                    return Some(line);
                }
                self.unasked.push(line);
            }
            None
        };
        match timeout(TIME, reading).await {
            Ok(Some(line)) => line,
            _ => panic!("it never said: {what}\n{}", self.said.join("\n")),
        }
    }

    /// Waits until the agent is in this state.
    pub async fn is(&mut self, state: &str) -> Value {
        self.says(state, |line| line["event"] == "state_changed" && line["state"] == state).await
    }

    /// Waits until this request was answered; returns the line.
    pub async fn answers(&mut self, request: &str) -> Value {
        self.says(request, |line| line["event"] == "answered" && line["request"] == request).await
    }

    /// Tells it to drain and waits for its end; the exit code and all that it said.
    pub async fn stop(self) -> (Option<i32>, String) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.ended().await
    }

    /// Waits for its end; returns the exit code and the whole log.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let ending = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.said.push(line);
            }
            self.child.wait().await.unwrap().code()
        };
        let code = timeout(TIME, ending).await.unwrap();
        (code, self.said.join("\n"))
    }
}

/// A path as it stands in TOML.
pub fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
