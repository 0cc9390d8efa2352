//! Agents that start together behind a balancer that takes few calls a second and refuses the others with a bare 429: how
//! long until all are live, beside the time that the calls which were taken need at least, and how many were refused.

use std::path::Path;
use std::time::Instant;

use doorman::sandbox::{Fault, FaultAction, FaultPlace, Sandbox, SandboxOptions, World};
use tokio::process::Command;

use crate::place::{configure, id, start};

const AGENTS: usize = 20;
const PER_SECOND: u32 = 5;

/// How many agents are live, by `doorman status`.
async fn live(dir: &Path) -> usize {
    let output = Command::new(env!("CARGO_BIN_EXE_doorman"))
        .args(["status", "--json"])
        .env_clear()
        .env("DOORMAN_CONFIG", dir.join("doorman.toml"))
        .output()
        .await
        .unwrap();
    // Before the daemon is running there is no output.
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let agents = status["agents"].as_array().cloned().unwrap_or_default();
    agents.iter().filter(|agent| agent["state"] == "live").count()
}

/// Several starts, a row each.
pub async fn run(dir: &Path, rounds: usize) {
    for round in 0..rounds {
        let mut world = World::new();
        for agent in 0..AGENTS {
            world =
                world.agent(&id(agent), &format!("key-of-agent-{agent}"), &format!("owner{agent}/porter"), "Porter");
        }
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, SandboxOptions::default()).await.unwrap();
        let control = sandbox.control();
        control.fault(Fault::new(FaultPlace::Any, FaultAction::Throttle).per_second(PER_SECOND)).unwrap();
        let dir = dir.join(format!("brake-{round}"));
        configure(&dir, &sandbox.url(), AGENTS, false);
        let begun = Instant::now();
        let child = start(&dir);
        while live(&dir).await < AGENTS {
            assert!(begun.elapsed() < crate::STEP_MAX, "never: all are live behind the balancer");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let took = begun.elapsed().as_secs_f64();
        let state = control.overview();
        drop(child);
        let ideal = state.let_pass as f64 / f64::from(PER_SECOND);
        let refused = state.struck as f64 / (state.struck + state.let_pass) as f64;
        let within = took <= ideal * 1.5 && refused <= 0.15;
        println!(
            "{:<34} all live after {took:.1} s, {:.2} × the {ideal:.1} s that {} calls need; {:.0} % of the calls refused: {}",
            format!("{AGENTS} agents, {PER_SECOND} calls/s"),
            took / ideal,
            state.let_pass,
            refused * 100.0,
            if within { "within 1.5 × and 15 %" } else { "NOT within 1.5 × and 15 %" }
        );
        sandbox.stop().await;
    }
}
