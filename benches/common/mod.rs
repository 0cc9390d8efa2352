//! What the benches share: the shipped binary as a sandbox and as a daemon, each in a process of its own.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// No step of a bench takes longer than this.
pub const STEP_MAX: Duration = Duration::from_secs(300);
/// The agent that gets all requests.
pub const AGENT: &str = "a0000000-0000-4000-8000-000000000001";
/// Its key.
pub const KEY: &str = "key-of-the-bench";
const WORLD: &str = "[[agents]]\nid = \"a0000000-0000-4000-8000-000000000001\"\nkey = \"key-of-the-bench\"\n\
                     handle = \"owner/porter\"\nname = \"Porter\"\n\
                     [[users]]\nid = \"b0000000-0000-4000-8000-000000000001\"\nkey = \"key-of-the-owner\"\nhandle = \"owner\"\n\
                     name = \"Owner\"\n";

/// A sandbox with one agent and no requests yet; killed when dropped.
pub struct SandboxProcess {
    /// The address on which it listens.
    pub url: String,
    http: reqwest::Client,
    _child: Child,
}

impl SandboxProcess {
    /// Starts it, with its world in this directory.
    pub async fn start(dir: &Path) -> Self {
        std::fs::write(dir.join("world.toml"), WORLD).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_doorman"))
            .args(["sandbox", "--listen", "127.0.0.1:0", "--world"])
            .arg(dir.join("world.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next_line().await.unwrap().unwrap();
            if let Some(url) = line.strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        // Later output is ignored, but the pipe must stay open.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, http, _child: child }
    }

    /// A call of its control API.
    pub async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let mut call = self.http.request(method, format!("{}/_sandbox/{path}", self.url));
        if let Some(body) = body {
            call = call.body(body.to_string());
        }
        let reply = call.send().await.unwrap().error_for_status().unwrap();
        serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap()
    }
}

/// The daemon's files for one agent: `answers` and `more` are lines of `[answers]` and whole tables.
pub fn configure(dir: &Path, url: &str, (agent, key): (&str, &str), rules: &str, answers: &str, more: &str) {
    let text = format!(
        "[platform]\nurl = \"{url}\"\n[[agents]]\nid = \"{agent}\"\napi_key_file = \"agent.key\"\nrules = \"rules.toml\"\n\
         [answers]\n{answers}\n[ledger]\npath = \"ledger.db\"\n[control]\npath = \"doorman.sock\"\n{more}"
    );
    for (name, text) in [("doorman.toml", text.as_str()), ("rules.toml", rules), ("agent.key", key)] {
        std::fs::write(dir.join(name), text).unwrap();
        // A file that has just been written may be written still: the daemon would look twice, half a second apart.
        let file = std::fs::File::options().write(true).open(dir.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }
}

/// A command of the shipped binary on the files in this directory, without this shell's environment.
pub fn doorman(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
    command
        .env_clear()
        .env("DOORMAN_CONFIG", dir.join("doorman.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

/// The daemon, which logs JSON to its stderr.
pub fn daemon(dir: &Path) -> Command {
    let mut command = doorman(dir);
    command.args(["run", "--log-format", "json"]);
    command
}

/// Starts the daemon and waits until it is live; returns the rest of its log.
pub async fn live(dir: &Path) -> (Child, Lines<BufReader<ChildStderr>>) {
    let mut child = daemon(dir).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let live = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("\"state\":\"live\"") {
                return;
            }
        }
        panic!("the daemon ended before it was live");
    };
    tokio::time::timeout(STEP_MAX, live).await.unwrap();
    (child, lines)
}

/// Ends a daemon with SIGTERM and waits for it.
pub async fn stop(daemon: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(daemon.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = tokio::time::timeout(STEP_MAX, daemon.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}
