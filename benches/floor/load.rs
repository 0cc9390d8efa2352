//! The platform's side: a sandbox in a separate process for each program, and the strangers who send requests.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{AGENT, STEP_MAX, SandboxProcess};

/// A running sandbox.
pub struct Platform {
    sandbox: SandboxProcess,
    asked: u64,
}

impl Platform {
    /// Starts a sandbox with one agent and no requests yet.
    pub async fn start(dir: &Path) -> Self {
        Self { sandbox: SandboxProcess::start(dir).await, asked: 0 }
    }

    /// The address on which it listens.
    pub fn url(&self) -> &str {
        &self.sandbox.url
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        self.sandbox.call(method, path, body).await
    }

    /// Sends `count` requests at once.
    pub async fn ask(&mut self, count: u64, push: bool) {
        let text = "Hello, I am a weather agent and would like to tell your agent about tomorrow.";
        let new = json!({ "to": AGENT, "from_handle": "friends/bot-{n}", "from_name": "Weather {n}", "message": text,
                          "id": "request-{n}", "count": count, "first": self.asked + 1, "push": push });
        self.asked += count;
        self.call(reqwest::Method::POST, "requests", Some(new)).await;
    }

    /// Waits until every request so far was approved.
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

    /// Sends `rate` requests a second for `seconds`, and returns the latencies of all requests in microseconds, sorted.
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
