//! `doorman sandbox`, the real binary.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use super::harness::raw_http;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
    command.arg("sandbox").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn fails(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// A sandbox on a free port; killed when dropped.
struct RunningSandbox(Child, SocketAddr);

impl RunningSandbox {
    fn start() -> Self {
        let mut child = command(&["--listen", "127.0.0.1:0"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").unwrap().trim_end().parse().unwrap();
        Self(child, address)
    }
}

impl Drop for RunningSandbox {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn it_says_where_it_listens_and_ends_when_asked() {
    let mut running = RunningSandbox::start();
    let key = Some("sandbox-agent-weather");
    let me = raw_http(running.1, "GET", "/api/v1/agent/me", key, "").await;
    assert_eq!(me.json()["data"]["handle"], "john/weather-agent", "the shipped world");
    let (code, said) = fails(&["--listen", &running.1.to_string()]);
    assert!(code == Some(1) && said.contains("is in use already"), "{code:?} {said}");
    let pid = nix::unistd::Pid::from_raw(running.0.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    running.0.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("it is not the platform"), "{said}");
}

#[test]
fn bad_input_gets_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let world = dir.path().join("world.toml");
    std::fs::write(&world, "[[agents]]\nid = \"a\"\nkey = \"k\"\nhandle = \"plain\"\nname = \"A\"\n").unwrap();
    let world = world.to_str().unwrap();
    let (code, said) = fails(&["--listen", "127.0.0.1:0", "--world", world]);
    assert_eq!(code, Some(78), "{said}");
    for told in ["an agent's handle is `owner/slug`", "world.toml:4:10", "handle = \"plain\"", "^^^^^^^"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    for (arguments, expected, word) in [
        (["--world", "/nowhere/world.toml"], 78, "cannot read `/nowhere/world.toml`"),
        (["--listen", "here"], 2, "invalid value 'here'"),
        (["--idle", "0"], 2, "invalid value '0'"),
    ] {
        let (code, said) = fails(&arguments);
        assert!(code == Some(expected) && said.contains(word), "{arguments:?}: {code:?} {said}");
    }
}
