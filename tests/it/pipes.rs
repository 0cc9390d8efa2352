//! A command that prints in a loop ends when its pipe is closed, as in `doorman history -f | head -1`.

use std::process::Stdio;

use doorman::sandbox::{NewRequest, Sandbox, SandboxOptions, SandboxStatus, World};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use crate::process::{AGENT, KEY, Site, TIME};

/// Reads one line of a command's output and closes the pipe; returns the command's exit code.
async fn head(site: &Site, arguments: &[&str]) -> Option<i32> {
    let mut child = site.command(arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(TIME, lines.next_line()).await.expect("it says something").unwrap();
    assert!(line.is_some_and(|line| !line.is_empty()), "{arguments:?}");
    drop(lines);
    let ended = timeout(TIME, child.wait()).await;
    ended.unwrap_or_else(|_| panic!("{arguments:?} never ends")).unwrap().code()
}

#[tokio::test]
async fn commands_that_print_in_a_loop_end_with_their_reader() {
    let world = World::new().user("u", "ku", "hotel", "Hotel").agent(AGENT, KEY, "hotel/porter", "Porter");
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, SandboxOptions::default()).await.unwrap();
    let site = Site::new(&format!("url = \"{}\"", sandbox.url()));
    let transcript = site.path("transcript.jsonl").display().to_string();
    let mut doorman = site.run(&["--record", &transcript], &[]);
    doorman.is("live").await;
    let ids = sandbox.control().request(&NewRequest::to(AGENT).from("friends/ann")).unwrap();
    doorman.answers(&ids[0]).await;
    // There is nothing new to print, but the command notices that the reader has gone.
    for arguments in
        [&["history", "-f"][..], &["history", "-f", "--json"], &["status", "--watch"], &["pending", "--watch"]]
    {
        assert_eq!(head(&site, arguments).await, Some(0), "{arguments:?}");
    }
    // A command asks no question that nobody can see.
    sandbox.control().request(&NewRequest::to(AGENT).from("nobody")).unwrap();
    doorman.says("it waits", |line| line["event"] == "decided" && line["verdict"] == "defer").await;
    let mut review = site.command(&["review"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(review.stdout.take().unwrap()).lines();
    while timeout(TIME, lines.next_line()).await.unwrap().unwrap().is_some_and(|line| !line.contains("the rules:")) {}
    drop(lines);
    let mut typed = review.stdin.take().unwrap();
    typed.write_all(b"a\n").await.unwrap();
    assert_eq!(timeout(TIME, review.wait()).await.unwrap().unwrap().code(), Some(0));
    drop(typed);
    let waiting = sandbox.control().state().requests.iter().filter(|one| one.status == SandboxStatus::Pending).count();
    assert_eq!(waiting, 1, "an answer that nobody saw asked for is not sent");
    assert_eq!(doorman.stop().await.0, Some(0));
}
