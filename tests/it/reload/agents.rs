//! Agents that come and go while the daemon runs: the configuration is changed, and loaded again.

use doorman::sandbox::{NewRequest, Sandbox, SandboxOptions, SandboxStatus, World};
use serde_json::Value;
use tokio::time::timeout;

use crate::pipes::until;
use crate::process::{AGENT, Doorman, KEY, Site, TIME};

const OTHER: &str = "a0000000-0000-4000-8000-000000000002";
const OTHER_KEY: &str = "key-of-the-other";

struct TwoAgents {
    sandbox: Sandbox,
    site: Site,
    /// The configuration with one agent.
    alone: String,
}

impl TwoAgents {
    /// A platform with two agents, and a configuration that names the first.
    async fn new() -> Self {
        let world = World::new().user("u", "ku", "hotel", "Hotel").agent(AGENT, KEY, "hotel/porter", "Porter");
        let world = world.agent(OTHER, OTHER_KEY, "hotel/other", "Other");
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, SandboxOptions::default()).await.unwrap();
        let site = Site::new(&format!("url = \"{}\"", sandbox.url()));
        std::fs::write(site.path("other.key"), OTHER_KEY).unwrap();
        let alone = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
        Self { sandbox, site, alone }
    }

    fn configure(&self, text: &str) {
        std::fs::write(self.site.path("doorman.toml"), text).unwrap();
    }

    /// The other agent is configured, too, with these rules.
    fn both(&self, rules: &str) {
        let other =
            format!("[[agents]]\nid = \"{OTHER}\"\napi_key_file = \"other.key\"\nrules = \"{rules}\"\n[ledger]");
        self.configure(&self.alone.replace("[ledger]", &other));
    }

    /// The exit code of a reload, and its reply.
    async fn reload(&self) -> (Option<i32>, Value) {
        let output = timeout(TIME, self.site.command(&["reload", "--wait", "--json"]).output()).await.unwrap().unwrap();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    }

    async fn status(&self) -> Value {
        let output = timeout(TIME, self.site.command(&["status", "--json"]).output()).await.unwrap().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn asks(&self, agent: &str, handle: &str) -> String {
        self.sandbox.control().request(&NewRequest::to(agent).from(handle)).unwrap().remove(0)
    }

    fn stands(&self, request: &str) -> SandboxStatus {
        self.sandbox.control().state().requests.iter().find(|one| one.id == request).unwrap().status
    }

    /// The agents that the platform sees connected.
    fn connected(&self) -> Vec<String> {
        let mut live: Vec<String> = self.sandbox.control().state().live.into_iter().map(|live| live.agent).collect();
        live.sort();
        live.dedup();
        live
    }
}

async fn live(doorman: &mut Doorman, agent: &str) {
    doorman.says("live", |line| line["state"] == "live" && line["agent"] == agent).await;
}

#[tokio::test]
async fn an_agent_that_is_added_answers_and_nobody_else_is_disturbed() {
    let two = TwoAgents::new().await;
    let mut doorman = two.site.run(&[], &[]);
    live(&mut doorman, AGENT).await;
    let waits = two.asks(OTHER, "friends/ann");
    two.both("rules.toml");
    let (code, reply) = two.reload().await;
    assert_eq!((code, &reply["agents_added"]), (Some(0), &serde_json::json!([OTHER])), "{reply}");
    assert_eq!(reply["needs_restart"], serde_json::json!([]));
    doorman.answers(&waits).await;
    assert_eq!(two.stands(&waits), SandboxStatus::Approved);
    let mine = two.asks(AGENT, "friends/bob");
    doorman.answers(&mine).await;
    // The same again is no change.
    let (_, reply) = two.reload().await;
    assert_eq!([&reply["agents_added"], &reply["agents_changed"]], [&serde_json::json!([]); 2]);
    let (code, said) = doorman.stop().await;
    assert_eq!(code, Some(0));
    let states = said.lines().filter(|line| line.contains("\"state_changed\"") && line.contains(AGENT));
    let lives = states.filter(|line| line.contains("\"live\"")).count();
    assert_eq!(lives, 1, "the first agent kept its connection\n{said}");
}

#[tokio::test]
async fn an_agent_that_is_removed_is_answered_for_no_more_and_its_record_is_there_when_it_comes_back() {
    let two = TwoAgents::new().await;
    two.both("rules.toml");
    let mut doorman = two.site.run(&[], &[]);
    live(&mut doorman, AGENT).await;
    live(&mut doorman, OTHER).await;
    let waits = two.asks(OTHER, "strangers/cid");
    doorman.says("deferred", |line| line["event"] == "decided" && line["request"] == waits.as_str()).await;
    let before = two.status().await;
    two.configure(&two.alone);
    let (code, reply) = two.reload().await;
    assert_eq!((code, &reply["agents_removed"]), (Some(0), &serde_json::json!([OTHER])), "{reply}");
    doorman.says("removed", |line| line["event"] == "agent_removed" && line["agent"] == OTHER).await;
    until("its connection is closed", || two.connected() == [AGENT]).await;
    let later = two.asks(OTHER, "friends/dan");
    let mine = two.asks(AGENT, "friends/eve");
    doorman.answers(&mine).await;
    assert_eq!(two.stands(&later), SandboxStatus::Pending, "nobody answers for it");
    let now = two.status().await;
    assert_eq!(now["agents"].as_array().unwrap().len(), 1);
    for (name, count) in before["counters"].as_object().unwrap() {
        assert!(now["counters"][name].as_u64() >= count.as_u64(), "{name} fell: {before}\n{now}");
    }
    // Its rules may go with it: what nobody uses is not loaded.
    two.both("strict.toml");
    assert_eq!(two.reload().await.0, Some(1), "there is no such file");
    two.configure(&two.alone);
    assert_eq!(two.reload().await.0, Some(0), "and nobody needs it any more");
    // A person's word for it is refused, not lost.
    let output = two.site.command(&["approve", "@strangers/cid"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    two.both("rules.toml");
    let (_, reply) = two.reload().await;
    assert_eq!(reply["agents_added"], serde_json::json!([OTHER]));
    doorman.answers(&later).await;
    let output = two.site.command(&["approve", "@strangers/cid"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(two.stands(&waits), SandboxStatus::Approved);
    assert_eq!(doorman.stop().await.0, Some(0));
}

#[tokio::test]
async fn an_agent_that_is_described_otherwise_begins_again_as_the_configuration_says_now() {
    let two = TwoAgents::new().await;
    two.both("rules.toml");
    std::fs::write(
        two.site.path("strict.toml"),
        "version = 1\n[rules.friends]\nthen = \"reject\"\nwhen = { handle = \"friends/*\" }\n",
    )
    .unwrap();
    let mut doorman = two.site.run(&[], &[]);
    live(&mut doorman, OTHER).await;
    two.both("strict.toml");
    let (code, reply) = two.reload().await;
    assert_eq!((code, &reply["agents_changed"]), (Some(0), &serde_json::json!([OTHER])), "{reply}");
    let request = two.asks(OTHER, "friends/ann");
    doorman.answers(&request).await;
    assert_eq!(two.stands(&request), SandboxStatus::Rejected);
    // Rules that cannot be used leave it without rules, and say so.
    two.both("missing.toml");
    let (code, reply) = two.reload().await;
    assert_eq!(code, Some(1), "{reply}");
    assert!(reply["problems"].as_str().is_some_and(|said| said.contains("missing.toml")), "{reply}");
    live(&mut doorman, OTHER).await;
    let request = two.asks(OTHER, "friends/bob");
    doorman.says("seen", |line| line["event"] == "request_seen" && line["request"] == request.as_str()).await;
    assert_eq!(two.stands(&request), SandboxStatus::Pending);
    // Rules that no agent uses are not listed.
    let files: Vec<Value> = two.status().await["policies"].as_array().unwrap().to_vec();
    let names: Vec<&str> =
        files.iter().map(|file| file["path"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["missing.toml", "rules.toml"]);
    assert_eq!(doorman.stop().await.0, Some(0));
}
