//! The start of many agents with the real binary, until all are live: on an empty ledger, and on a large one.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use doorman::sandbox::{Control, Sandbox, SandboxOptions, World};

use super::{common, filled};

/// No step takes longer than this.
const STEP_MAX: Duration = Duration::from_secs(300);
/// A policy with a limit and a condition on history: the start reads the state for both from the ledger.
pub const RULES: &str = "version = 1\n[policy]\nmode = \"enforce\"\napprovals_max = { count = 1000, per = \"1h\" }\n\
                     [rules.friends]\nthen = \"approve\"\nwhen = { handle = \"friends/*\" }\nlimit = { count = 5, per = \"1h\" }\n";

/// The time from the start of the process until every agent has joined. Consumes the ledger.
pub async fn until_live(place: &Path, ledger: &Path, agents: u64) -> Duration {
    let mut world = World::new();
    for n in 0..agents {
        world =
            world.agent(filled::agent(n).as_str(), &format!("key-of-agent-{n}"), &format!("owner{n}/porter"), "Porter");
    }
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, SandboxOptions::default()).await.unwrap();
    let control = sandbox.control();
    let dir = place.join("daemon");
    configure(&dir, &sandbox.url(), ledger, agents);
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let begun = Instant::now();
    let mut child = common::doorman(&dir).arg("run").stderr(log).spawn().unwrap();
    while joined(&control) < agents as usize {
        let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < STEP_MAX, "not all are live: {}", log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begun.elapsed();
    for command in ["pending", "status"] {
        let begun = Instant::now();
        let status = common::doorman(&dir).arg(command).stderr(std::process::Stdio::null()).status().await.unwrap();
        assert!(status.success(), "{command}: {status}");
        println!("doorman {command:<60} {:>8.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    }
    child.kill().await.unwrap();
    sandbox.stop().await;
    std::fs::remove_dir_all(dir).unwrap();
    took
}

fn configure(dir: &Path, url: &str, ledger: &Path, agents: u64) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("rules.toml"), RULES).unwrap();
    let mut text = format!(
        "[platform]\nurl = \"{url}\"\n[ledger]\npath = \"{}\"\n[control]\npath = \"doorman.sock\"\n[log]\nlevel = \"warn\"\n",
        ledger.display()
    );
    for n in 0..agents {
        std::fs::write(dir.join(format!("{n}.key")), format!("key-of-agent-{n}")).unwrap();
        let id = filled::agent(n);
        let _ = write!(text, "[[agents]]\nid = \"{id}\"\napi_key_file = \"{n}.key\"\nrules = \"rules.toml\"\n");
    }
    std::fs::write(dir.join("doorman.toml"), text).unwrap();
}

fn joined(control: &Control) -> usize {
    let live = control.overview().live;
    live.iter().filter(|live| live.topics.iter().any(|topic| topic.starts_with("agent_contacts:"))).count()
}
