//! The platform's side: a sandbox in a process of its own for each contender, and the strangers who ask there.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The agent that everybody asks.
pub const AGENT: &str = "a0000000-0000-4000-8000-000000000001";
/// Its key.
pub const KEY: &str = "key-of-the-bench";
/// Nothing here takes longer.
const STEP_MAX: Duration = Duration::from_secs(300);
const WORLD: &str = "[[agents]]\nid = \"a0000000-0000-4000-8000-000000000001\"\nkey = \"key-of-the-bench\"\n\
                     handle = \"owner/porter\"\nname = \"Porter\"\n\
                     [[users]]\nid = \"b0000000-0000-4000-8000-000000000001\"\nkey = \"key-of-the-owner\"\nhandle = \"owner\"\n\
                     name = \"Owner\"\n";

/// A running sandbox.
pub struct Platform {
    /// Where it listens.
    pub url: String,
    http: reqwest::Client,
    asked: u64,
    _sandbox: Child,
}

impl Platform {
    /// Starts a sandbox with one agent that nobody has asked yet.
    pub async fn start(dir: &Path) -> Self {
        std::fs::write(dir.join("world.toml"), WORLD).unwrap();
        let mut sandbox = Command::new(env!("CARGO_BIN_EXE_doorman"))
            .args(["sandbox", "--listen", "127.0.0.1:0", "--world"])
            .arg(dir.join("world.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(sandbox.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next_line().await.unwrap().unwrap();
            if let Some(url) = line.strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        // Whatever it says later goes nowhere, but the pipe stays open.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, http, asked: 0, _sandbox: sandbox }
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let mut call = self.http.request(method, format!("{}/_sandbox/{path}", self.url));
        if let Some(body) = body {
            call = call.body(body.to_string());
        }
        let reply = call.send().await.unwrap().error_for_status().unwrap();
        serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap()
    }

    /// `count` strangers ask, at once.
    pub async fn ask(&mut self, count: u64, push: bool) {
        let text = "Hello, I am a weather agent and would like to tell your agent about tomorrow.";
        let new = json!({ "to": AGENT, "from_handle": "friends/bot-{n}", "from_name": "Weather {n}", "message": text,
                          "id": "request-{n}", "count": count, "first": self.asked + 1, "push": push });
        self.asked += count;
        self.call(reqwest::Method::POST, "requests", Some(new)).await;
    }

    /// Waits until everybody who ever asked was let in.
    pub async fn all_answered(&self) {
        let wait = async {
            loop {
                let counts = self.call(reqwest::Method::GET, "counts", None).await;
                if counts["approved"].as_u64() == Some(self.asked) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(STEP_MAX, wait).await.expect("somebody was never answered");
    }

    /// `rate` strangers a second for `seconds`, and the waits of all of them in microseconds, sorted.
    pub async fn trickle(&mut self, rate: u64, seconds: u64) -> Vec<u64> {
        self.call(reqwest::Method::DELETE, "latencies", None).await;
        let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        for _ in 0..rate * seconds {
            tick.tick().await;
            self.ask(1, true).await;
        }
        self.all_answered().await;
        let mut all: Vec<u64> =
            serde_json::from_value(self.call(reqwest::Method::GET, "latencies", None).await).unwrap();
        all.sort_unstable();
        all
    }
}
