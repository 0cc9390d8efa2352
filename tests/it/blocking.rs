//! Every configured file is replaced by a pipe without a writer: the daemon still answers, decides the other agents'
//! requests, and can be stopped.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use doorman::sandbox::{NewRequest, Sandbox, SandboxOptions, SandboxStatus, World};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::time::timeout;

use crate::process::{AGENT, KEY, Site, TIME};

const NEIGHBOUR: &str = "a0000000-0000-4000-8000-000000000002";

fn pipe(path: &Path) {
    let _ = std::fs::remove_file(path);
    mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
}

/// A platform that knows two agents, and a site whose second agent's key is in `neighbour.key`.
async fn two_agents() -> (Sandbox, Site) {
    let world = World::new().user("u", "ku", "hotel", "Hotel").agent(AGENT, KEY, "hotel/porter", "Porter");
    let world = world.agent(NEIGHBOUR, "key-of-the-neighbour", "hotel/neighbour", "Neighbour");
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, SandboxOptions::default()).await.unwrap();
    let site = Site::new(&format!("url = \"{}\"", sandbox.url()));
    let text = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    let second = format!("[[agents]]\nid = \"{NEIGHBOUR}\"\napi_key_file = \"neighbour.key\"\n[ledger]");
    std::fs::write(site.path("doorman.toml"), text.replace("[ledger]", &second)).unwrap();
    std::fs::write(site.path("neighbour.key"), "key-of-the-neighbour").unwrap();
    for name in ["agent.key", "neighbour.key"] {
        std::fs::set_permissions(site.path(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    (sandbox, site)
}

#[tokio::test]
async fn a_key_that_blocks_stops_one_agent_and_nobody_else() {
    let (sandbox, site) = two_agents().await;
    pipe(&site.path("neighbour.key"));
    let mut doorman = site.run(&[], &[]);
    doorman.says("live", |line| line["state"] == "live" && line["agent"] == AGENT).await;
    let refused = |line: &serde_json::Value| line["event"] == "key_refused" && line["agent"] == NEIGHBOUR;
    let line = doorman.says("the neighbour's key is refused", refused).await;
    assert!(line["why"].as_str().is_some_and(|why| why.contains("a pipe, not a regular file")), "{line}");
    let ids = sandbox.control().request(&NewRequest::to(AGENT).from("friends/ann")).unwrap();
    doorman.answers(&ids[0]).await;
    assert_eq!(sandbox.control().state().requests[0].status, SandboxStatus::Approved);
    // The other key begins to block: what was read before stays good for nobody, and the rest goes on.
    std::fs::write(site.path("key"), "key-of-the-neighbour").unwrap();
    std::fs::set_permissions(site.path("key"), PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(site.path("key"), site.path("neighbour.key")).unwrap();
    pipe(&site.path("agent.key"));
    let output = timeout(TIME, site.command(&["reload", "--wait"]).output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    doorman.says("the neighbour is live", |line| line["state"] == "live" && line["agent"] == NEIGHBOUR).await;
    assert_eq!(site.status().await["id"], AGENT);
    assert_eq!(doorman.stop().await.0, Some(0));
}

#[tokio::test]
async fn a_configuration_rules_or_a_list_that_blocks_at_a_reload_changes_nothing() {
    let (sandbox, site) = two_agents().await;
    let rules = std::fs::read_to_string(site.path("rules.toml")).unwrap();
    let listed = format!(
        "{rules}[lists.more]\nfile = \"more.txt\"\n[rules.more]\nthen = \"approve\"\nwhen = {{ list = \"more\" }}\n"
    );
    std::fs::write(site.path("rules.toml"), &listed).unwrap();
    std::fs::write(site.path("more.txt"), "ann\n").unwrap();
    let mut doorman = site.run(&[], &[]);
    doorman.says("live", |line| line["state"] == "live" && line["agent"] == AGENT).await;
    for (at, name) in ["more.txt", "rules.toml", "doorman.toml"].into_iter().enumerate() {
        let kept = site.path("kept");
        std::fs::rename(site.path(name), &kept).unwrap();
        pipe(&site.path(name));
        // The socket's path is in the configuration, which a command cannot read now, either.
        let socket = site.path("run/doorman.sock").display().to_string();
        let asked = |arguments: &[&str]| {
            let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorman"));
            command.args(arguments).args(["--socket", &socket]).kill_on_drop(true);
            command
        };
        let output = timeout(TIME, asked(&["reload", "--wait"]).output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("a pipe"), "{name}: {said}");
        let output = timeout(TIME, asked(&["status"]).output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{name}");
        let ids = sandbox.control().request(&NewRequest::to(AGENT).from(&format!("friends/n{at}"))).unwrap();
        doorman.answers(&ids[0]).await;
        std::fs::rename(&kept, site.path(name)).unwrap();
    }
    assert_eq!(doorman.stop().await.0, Some(0));
}

#[tokio::test]
async fn a_start_is_refused_and_never_waits() {
    for (name, code, extra) in [
        ("doorman.toml", 78, None),
        ("rules.toml", 78, None),
        ("ledger.db", 74, None),
        ("ledger.db.lock", 74, None),
        ("ca.pem", 78, Some("url = \"https://127.0.0.1:9\"\nca_file = \"ca.pem\"")),
        ("record.jsonl", 78, Some("--record")),
    ] {
        let platform = extra.filter(|extra| !extra.starts_with("--")).unwrap_or("url = \"http://127.0.0.1:9\"");
        let site = Site::new(platform);
        pipe(&site.path(name));
        let path = site.path(name).display().to_string();
        let flags: Vec<&str> = if extra == Some("--record") { vec!["--record", &path] } else { Vec::new() };
        let (ended, said) = site.run(&flags, &[]).ended().await;
        assert_eq!(ended, Some(code), "{name}: {said}");
        assert!(said.contains("a pipe"), "{name}: {said}");
    }
}

#[tokio::test]
async fn commands_read_a_pipe_if_a_person_named_one_and_never_wait_for_the_rest() {
    let site = Site::new("url = \"http://127.0.0.1:9\"");
    let rules = std::fs::read_to_string(site.path("rules.toml")).unwrap();
    pipe(&site.path("pipe"));
    let path = site.path("pipe");
    for command in [&["check", "--rules"][..], &["test", "--rules"]] {
        let (path, rules) = (path.clone(), rules.clone());
        let name = path.display().to_string();
        let writing = tokio::task::spawn_blocking(move || std::fs::write(path, rules));
        let output = site.command(&[command, &[name.as_str()]].concat()).output();
        let output = timeout(TIME, output).await.unwrap().unwrap();
        writing.await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Nobody writes to the pipe, so the command gives up.
    let output = site.command(&["check", "--rules", &path.display().to_string()]).output();
    let output = timeout(TIME, output).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("within 5 s"));
    // Files that the sandbox, `list` and the shell's completions read.
    for (command, code) in [
        (&["sandbox", "--listen", "127.0.0.1:0", "--world", "NAME"][..], 78),
        (&["sandbox", "--listen", "127.0.0.1:0", "--replay", "NAME"], 78),
        (&["sandbox", "--listen", "127.0.0.1:0", "--tls-cert", "NAME", "--tls-key", "NAME"], 78),
    ] {
        let name = path.display().to_string();
        let command: Vec<&str> =
            command.iter().map(|word| if *word == "NAME" { name.as_str() } else { word }).collect();
        let output = timeout(TIME, site.command(&command).output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && said.contains("within 5 s"), "{command:?}: {said}");
    }
    pipe(&site.path("rules.toml"));
    let output = timeout(TIME, site.command(&["list", "show", "friends"]).output()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("a pipe, not a regular file"));
    // A key is checked like in the daemon.
    pipe(&site.path("agent.key"));
    for command in [&["check"][..], &["doctor", "--no-connect"]] {
        let output = timeout(TIME, site.command(command).output()).await.unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(String::from_utf8_lossy(&said).contains("a pipe, not a regular file"), "{command:?}");
    }
}
