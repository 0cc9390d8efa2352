//! Many agents in one process: one that panics, is refused, is slow or is flooded does not affect the others. The bench
//! `benches/agents` has the figures for a thousand agents.

use std::fmt::Write as _;

use doorman::agent::Notice;
use doorman::clock::Clock;
use doorman::model::AgentState;
use doorman::sandbox::{
    Control, Fault, FaultAction, FaultPlace, NewRequest, Sandbox, SandboxOptions, SandboxStatus, World,
};
use doorman::supervisor::SupervisorOrder;
use tokio::time::timeout;

use super::daemon::{Notices, here};
use super::site::TIME;

const AGENTS: usize = 30;
/// By their indexes.
const PANICS: usize = 0;
const REFUSED: usize = 1;
const SLOW: usize = 2;
const FLOODED: usize = 3;
const FIRST_WELL: usize = 4;
/// With the default of 20 answers a second, this takes longer than everything else in this test.
const FLOOD: u64 = 3000;

fn id(agent: usize) -> String {
    format!("a0000000-0000-4000-8000-{agent:012}")
}

fn ask(control: &Control, agent: usize, mark: &str) {
    let new = NewRequest::to(&id(agent)).from("friends/one").id(&format!("{mark}-{agent}"));
    control.request(&new).unwrap();
}

fn status(control: &Control, mark: &str, agent: usize) -> SandboxStatus {
    let id = format!("{mark}-{agent}");
    control.state().requests.into_iter().find(|request| request.id == id).unwrap().status
}

/// Waits until all these agents have sent a notice like this.
async fn until(notices: &mut Notices, mut agents: Vec<usize>, so: impl Fn(&Notice) -> bool) {
    let wait = async {
        while !agents.is_empty() {
            let (who, notice) = notices.recv().await.unwrap();
            if so(&notice) {
                agents.retain(|agent| id(*agent) != who.as_str());
            }
        }
    };
    timeout(TIME, wait).await.unwrap_or_else(|_| panic!("never reported by {agents:?}"));
}

fn is_answered(notice: &Notice) -> bool {
    matches!(notice, Notice::Answered { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_in_trouble_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let rules = "version = 1\n[rules.friends]\nthen = \"approve\"\nwhen = { handle = \"friends/*\" }\n";
    std::fs::write(dir.path().join("rules.toml"), rules).unwrap();
    let mut text = String::new();
    for agent in 0..AGENTS {
        world = world.agent(&id(agent), &format!("key-of-agent-{agent}"), &format!("owner{agent}/porter"), "Porter");
        let key = if agent == REFUSED { "wrong-key".to_owned() } else { format!("key-of-agent-{agent}") };
        std::fs::write(dir.path().join(format!("{agent}.key")), key).unwrap();
        let id = id(agent);
        let _ = write!(text, "[[agents]]\nid = \"{id}\"\napi_key_file = \"{agent}.key\"\nrules = \"rules.toml\"\n");
    }
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, SandboxOptions::default()).await.unwrap();
    let control = sandbox.control();
    let url = sandbox.url();
    let _ = write!(
        text,
        "[platform]\nurl = \"{url}\"\n[ledger]\npath = \"ledger.db\"\n[control]\npath = \"doorman.sock\"\n\
         [timing]\njoin_timeout = \"2s\"\nrefused_min = \"100ms\"\nrefused_max = \"200ms\"\n"
    );
    std::fs::write(dir.path().join("doorman.toml"), text).unwrap();
    let (daemon, mut notices) = here(&dir.path().join("doorman.toml"), Clock::start()).await;
    let live = |notice: &Notice| matches!(notice, Notice::State { state: AgentState::Live, .. });
    until(&mut notices, (0..AGENTS).filter(|agent| *agent != REFUSED).collect(), live).await;

    // All faults at the same time.
    control.fault(Fault::new(FaultPlace::Respond, FaultAction::Stall).ms(600_000).count(0).agent(&id(SLOW))).unwrap();
    ask(&control, SLOW, "trouble");
    let flood = NewRequest::to(&id(FLOODED)).from("friends/{n}").id("flood-{n}").count(FLOOD);
    let flooding = control.clone();
    let flood = tokio::task::spawn_blocking(move || flooding.request(&flood).map(drop));
    daemon.orders.send(SupervisorOrder::Panic(PANICS)).await.unwrap();
    ask(&control, REFUSED, "trouble");
    for round in 0..5 {
        let mark = format!("round{round}");
        for agent in FIRST_WELL..AGENTS {
            ask(&control, agent, &mark);
        }
        until(&mut notices, (FIRST_WELL..AGENTS).collect(), is_answered).await;
    }
    flood.await.unwrap().unwrap();
    let answered = |request: &&doorman::sandbox::wire::RequestState| request.status == SandboxStatus::Approved;
    let requests = control.state().requests;
    let of_flood = requests.iter().filter(|request| request.id.starts_with("flood")).filter(answered).count() as u64;
    assert!(of_flood < FLOOD, "the others waited for the flood to end");
    assert_eq!(status(&control, "trouble", SLOW), SandboxStatus::Pending);
    assert_eq!(status(&control, "trouble", REFUSED), SandboxStatus::Pending);

    // Each agent recovers when its fault ends: the one that panicked has started again, the refused one gets a good
    // key.
    control.clear_faults();
    std::fs::write(dir.path().join(format!("{REFUSED}.key")), format!("key-of-agent-{REFUSED}")).unwrap();
    // The other one may have been live again during the rounds.
    until(&mut notices, vec![REFUSED], live).await;
    ask(&control, PANICS, "after");
    let well = async {
        let asked = [("after", PANICS), ("trouble", SLOW), ("trouble", REFUSED)];
        while asked.iter().any(|(mark, agent)| status(&control, mark, *agent) != SandboxStatus::Approved) {
            notices.recv().await.unwrap();
        }
    };
    timeout(TIME, well).await.expect("one of the three is not well again");
    daemon.stop().await;
    let twice = control.state().requests.into_iter().find(|request| request.answered > 1);
    assert_eq!(twice, None);
    sandbox.stop().await;
}
