//! The control socket with a minimal supervisor: the server over a real socket, the client, and the commands that use
//! it, run like a person runs them.

use std::path::{Path, PathBuf};

use doorman::clock::Clock;
use doorman::config::settings::PerAgent;
use doorman::model::{AgentId, AgentState, Outcome, Verdict};
use doorman::ops::board;
use doorman::ops::control::client::{Client, ClientError, Submitted};
use doorman::ops::control::peer;
use doorman::ops::control::server::{self, BODY_BYTES_MAX, SocketPurpose};
use doorman::ops::control::socket::BoundSocket;
use doorman::ops::control::wire::{
    AgentStatus, AgentsDone, AnswerDone, ControlCall, ControlOp, DaemonStatus, DoubtList, Notified, OpError, OpReply,
    PendingList, PendingRow, PolicyStatus, Reloaded, Revoked, UnknownAgent,
};
use doorman::ops::metrics::Metrics;
use doorman::ops::metrics::listener::Readings;
use doorman::ops::watchdog::Watchdog;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const AGENT: &str = "11111111-2222-4333-8444-555555555555";

/// The readings of a daemon that has no snapshot yet.
pub fn readings() -> Readings {
    Readings::new(Metrics::new(board::channel().1, Clock::start(), PerAgent::Auto), Watchdog::new())
}

/// A server on its own socket.
struct ControlServer {
    path: PathBuf,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    _dir: tempfile::TempDir,
}

impl ControlServer {
    /// The test itself answers the calls.
    fn open() -> (Self, mpsc::Receiver<ControlCall>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("doorman.sock");
        let (sender, calls) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let server = tokio::spawn(server::serve(
            BoundSocket::bind(&path).unwrap(),
            SocketPurpose::Everything,
            sender,
            readings(),
            doorman::secret::Redact::default(),
            stop.clone(),
        ));
        (Self { path, stop, server, _dir: dir }, calls)
    }

    /// With a supervisor that always gives the same replies.
    fn staffed() -> Self {
        let (door, mut calls) = Self::open();
        tokio::spawn(async move {
            while let Some(call) = calls.recv().await {
                let reply = answer(call.op, call.person.name());
                let _ = call.reply.send(reply);
            }
        });
        door
    }

    async fn client(&self) -> Client {
        Client::find(std::slice::from_ref(&self.path)).await.unwrap()
    }

    async fn close(self) {
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
        assert!(!self.path.exists(), "the socket is gone with its server");
    }

    /// Runs the real binary against this socket: exit code, stdout, stderr.
    async fn doorman(&self, args: &[&str]) -> (i32, String, String) {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorman"))
            .args(args)
            .arg("--socket")
            .arg(&self.path)
            .env_remove("DOORMAN_CONFIG")
            .output()
            .await
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

fn agent() -> AgentId {
    AgentId::parse(AGENT).unwrap()
}

fn status() -> DaemonStatus {
    DaemonStatus {
        version: "9.9.9".to_owned(),
        agents: vec![AgentStatus {
            handle: Some("ana/helper".to_owned()),
            state: AgentState::Away,
            why: "no route to host".to_owned(),
            held_by: None,
            pending: 1,
            deferred: 1,
            ..AgentStatus::starting(agent(), jiff::Timestamp::UNIX_EPOCH)
        }],
        policies: Vec::new(),
        configuration: Default::default(),
        ledger: "ok".to_owned(),
        notify: Vec::new(),
        page: Vec::new(),
        metrics: Vec::new(),
        counters: [("answered".to_owned(), 3)].into(),
    }
}

fn answer(op: ControlOp, person: &str) -> Result<OpReply, OpError> {
    let refuse = |code: &str, message: &str| Err(OpError { code: code.to_owned(), message: message.to_owned() });
    match op {
        ControlOp::Status => Ok(OpReply::Status(status())),
        ControlOp::Pending { .. } => Ok(OpReply::Pending(PendingList {
            more: 3,
            unknown: vec![UnknownAgent { agent: agent(), why: "held by the doorman `host-b`".to_owned() }],
            requests: vec![PendingRow {
                request: "r-1".to_owned(),
                agent: agent(),
                handle: Some("@mallory".to_owned()),
                name: Some("\u{1b}[2JMallory\u{202e}".to_owned()),
                message: None,
                inserted_at: None,
                first_seen: jiff::Timestamp::UNIX_EPOCH,
                verdict: Some(Verdict::Defer),
                by: Some("no_match".to_owned()),
                doubts: Vec::new(),
                replies: Vec::new(),
                due: None,
                stage: "deferred".to_owned(),
                held_by: None,
            }],
        })),
        ControlOp::Answer { target, .. } if target == "gone" => {
            refuse("gone", "the request `gone` is not pending any more")
        }
        ControlOp::Answer { target, .. } if target == "@two" => {
            refuse("ambiguous", "`@two` asks at 2 doors: name the id")
        }
        ControlOp::Answer { verdict, target, agent: wanted, .. } => Ok(OpReply::Answered(AnswerDone {
            request: format!("r-1-{person}"),
            agent: wanted.unwrap_or_else(agent),
            handle: Some(target),
            verdict,
            outcome: verdict.answer().map_or("held", |answer| Outcome::Confirmed(answer).as_str()).to_owned(),
            ends_at: None,
        })),
        ControlOp::PageLogin { .. } | ControlOp::PageLogout { .. } => refuse("page", "this doorman serves no page"),
        ControlOp::NotifyTest { target } | ControlOp::NotifyRetry { target } => {
            Ok(OpReply::Notified(Notified { target }))
        }
        ControlOp::Revoke { contacts } => {
            let removed = contacts.into_iter().map(|contact| contact.contact.to_string()).collect();
            Ok(OpReply::Revoked(Revoked { removed, failed: Vec::new() }))
        }
        ControlOp::Reload { accept_shrunk, .. } => {
            let problem = (!accept_shrunk).then(|| "error: the list shrank\n  --> rules.toml:3".to_owned());
            Ok(OpReply::Reloaded(Reloaded {
                ok: accept_shrunk,
                policies: vec![PolicyStatus {
                    path: "rules.toml".to_owned(),
                    version: None,
                    hash: Some("0123456789abcdef".to_owned()),
                    mode: Some("enforce".to_owned()),
                    since: None,
                    problem: problem.clone(),
                }],
                problems: problem,
                ..Reloaded::default()
            }))
        }
        ControlOp::Doubts { .. } => Ok(OpReply::Doubts(DoubtList { doubts: Vec::new() })),
        ControlOp::Settle { .. } => refuse("gone", "no such doubt"),
        ControlOp::Pause { agent: wanted } | ControlOp::Resume { agent: wanted } => {
            Ok(OpReply::Done(AgentsDone { agents: vec![wanted.unwrap_or_else(agent)], failed: Vec::new() }))
        }
    }
}

/// One exchange by hand: the status line's code, and the body.
pub async fn http(path: &Path, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // The server may refuse and close the connection before the whole request is sent.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    let reply = String::from_utf8(reply).unwrap();
    let code = reply.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, reply.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

pub fn post(body: &str) -> String {
    format!("POST /v1/op HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_call_arrives_with_the_person_and_its_answer_comes_back() {
    let (door, mut calls) = ControlServer::open();
    let client = door.client().await;
    let supervisor = async {
        let call = calls.recv().await.unwrap();
        assert_eq!(
            call.op,
            ControlOp::Answer {
                verdict: Verdict::Reject,
                target: "@bob".to_owned(),
                agent: Some(agent()),
                for_ms: None,
                exact: false
            }
        );
        assert_eq!(call.person.name(), peer::account(nix::unistd::geteuid().as_raw()));
        call.reply.send(Ok(OpReply::Done(AgentsDone { agents: vec![agent()], failed: Vec::new() }))).unwrap();
    };
    let op = ControlOp::Answer {
        verdict: Verdict::Reject,
        target: "@bob".to_owned(),
        agent: Some(agent()),
        for_ms: None,
        exact: false,
    };
    let (reply, ()) = tokio::join!(client.call(&op), supervisor);
    assert_eq!(reply.unwrap(), OpReply::Done(AgentsDone { agents: vec![agent()], failed: Vec::new() }));
    door.close().await;
}

#[tokio::test]
async fn a_refusal_comes_back_as_what_it_is() {
    let door = ControlServer::staffed();
    let op = ControlOp::Answer {
        verdict: Verdict::Approve,
        target: "gone".to_owned(),
        agent: None,
        for_ms: None,
        exact: false,
    };
    let error = door.client().await.call(&op).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(error) if error.code == "gone"), "{error}");
    door.close().await;
}

#[tokio::test]
async fn a_supervisor_that_gives_no_answer_or_is_gone_is_said_to() {
    let (door, mut calls) = ControlServer::open();
    let client = door.client().await;
    let (reply, ()) = tokio::join!(client.call(&ControlOp::Status), async {
        drop(calls.recv().await.unwrap());
    });
    assert!(matches!(reply.unwrap_err(), ClientError::Refused(error) if error.code == "failed"));
    drop(calls);
    let error = client.call(&ControlOp::Status).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(error) if error.code == "busy"));
    door.close().await;
}

#[tokio::test]
async fn what_is_not_waited_for_is_still_done() {
    let (door, mut calls) = ControlServer::open();
    let client = door.client().await;
    let op = ControlOp::Reload { accept_shrunk: false, removed: None };
    let (given, call) = tokio::join!(client.give(&op, false), async { calls.recv().await.unwrap() });
    assert_eq!(given.unwrap(), Submitted::Accepted);
    assert_eq!(call.op, op);
    call.reply
        .send(Ok(OpReply::Done(AgentsDone { agents: Vec::new(), failed: Vec::new() })))
        .expect("the reply is still wanted");
    door.close().await;
}

#[tokio::test]
async fn curl_gets_status_and_metrics() {
    let door = ControlServer::staffed();
    let (code, body) = http(&door.path, "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!((code, serde_json::from_str::<DaemonStatus>(&body).unwrap()), (200, status()));
    let (code, body) = http(&door.path, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(code == 200 && body.contains("doorman_ledger_ok 1\n"), "{body}");
    let (code, body) = http(&door.path, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!((code, body.as_str()), (200, "{\"ok\":true,\"checks\":[{\"name\":\"loops\",\"ok\":true}]}\n"));
    let (code, body) = http(&door.path, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(code == 503 && body.contains("\"why\":\"the daemon is starting\""), "{body}");
    door.close().await;
}

#[tokio::test]
async fn what_is_malformed_gets_a_clear_no_and_the_socket_lives() {
    let door = ControlServer::staffed();
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    for (request, code) in [
        (post("{}"), 400),
        (post("null"), 400),
        (post("{\"op\":\"dance\"}"), 400),
        (post("{\"op\":\"answer\",\"verdict\":\"maybe\",\"target\":\"x\"}"), 400),
        (post("{\"op\":\"pending\",\"agent\":\"\u{1b}\"}"), 400),
        (post(&deep), 400),
        (post(&"x".repeat(BODY_BYTES_MAX + 1)), 400),
        ("POST /v1/op?wait=perhaps HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".to_owned(), 400),
        ("GET /v1/op HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 405),
        ("GET /admin HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404),
        ("\u{1b}[2J what\r\n\r\n".to_owned(), 400),
        (format!("GET /v1/status HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(2 * BODY_BYTES_MAX)), 431),
    ] {
        let (got, body) = http(&door.path, &request).await;
        // For a request that is far too long, a closed connection is enough of a refusal.
        assert!(got == code || (got == 0 && request.len() > BODY_BYTES_MAX), "{got} {body}: {:.80}", request);
    }
    let (code, _) = http(&door.path, &post("{\"op\":\"status\"}")).await;
    assert_eq!(code, 200);
    door.close().await;
}

#[tokio::test]
async fn connections_that_say_nothing_are_in_nobodys_way() {
    let door = ControlServer::staffed();
    let mut idle = Vec::new();
    for _ in 0..4 * server::SERVED_MAX {
        idle.push(UnixStream::connect(&door.path).await.unwrap());
    }
    door.client().await.call(&ControlOp::Status).await.unwrap();
    drop(idle);
    door.close().await;
}

#[tokio::test]
async fn health_waits_for_no_call_that_waits_itself() {
    let (door, mut calls) = ControlServer::open();
    // The supervisor answers none of them.
    let mut waiting = Vec::new();
    for _ in 0..server::SERVED_MAX {
        let mut stream = UnixStream::connect(&door.path).await.unwrap();
        stream.write_all(post("{\"op\":\"status\"}").as_bytes()).await.unwrap();
        waiting.push((stream, calls.recv().await.unwrap()));
    }
    let (code, body) = http(&door.path, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(code == 200 && body.contains("\"ok\":true"), "{body}");
    drop(waiting);
    door.close().await;
}

#[tokio::test]
async fn a_call_under_way_may_end_when_the_daemon_stops() {
    let (door, mut calls) = ControlServer::open();
    let client = door.client().await;
    let stop = door.stop.clone();
    let (reply, ()) = tokio::join!(client.call(&ControlOp::Status), async {
        let call = calls.recv().await.unwrap();
        stop.cancel();
        call.reply.send(Ok(OpReply::Status(status()))).unwrap();
    });
    assert!(reply.is_ok());
    door.close().await;
}

#[tokio::test]
async fn no_daemon_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let places = [dir.path().join("a.sock"), dir.path().join("b.sock")];
    drop(std::os::unix::net::UnixListener::bind(&places[1]).unwrap());
    let error = Client::find(&places).await.unwrap_err().to_string();
    for part in ["no doorman is running here", "a.sock`", "b.sock`", "doorman run", "--socket PATH"] {
        assert!(error.contains(part), "{error}");
    }
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorman"))
        .args(["status", "--socket"])
        .arg(&places[1])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("doorman: no doorman is running here"));
}

#[tokio::test]
async fn the_commands() {
    let door = ControlServer::staffed();
    let person = peer::account(nix::unistd::geteuid().as_raw());
    let (code, out, err) = door.doorman(&["status"]).await;
    assert!(
        code == 0 && out.starts_with("doorman 9.9.9, ledger: ok\n") && out.contains("no route to host"),
        "{out}{err}"
    );
    let (code, out, _) = door.doorman(&["status", "--json", "--agent", "ana/helper"]).await;
    assert_eq!((code, serde_json::from_str::<DaemonStatus>(&out).unwrap()), (0, status()));
    let (code, _, err) = door.doorman(&["status", "--agent", "bob"]).await;
    assert!(code == 1 && err.contains("has no agent `bob`") && err.contains(AGENT), "{err}");

    let (code, out, _) = door.doorman(&["pending"]).await;
    assert!(out.contains("is not known here: held by the doorman `host-b`\n"), "{out}");
    assert!(code == 0 && out.contains("\\u{1b}[2JMallory\\u{202e}") && !out.contains('\u{1b}'), "{out}");
    let (_, out, _) = door.doorman(&["pending", "--json", "--agent", "1111"]).await;
    let row: PendingRow = serde_json::from_str(out.trim()).unwrap();
    assert_eq!((row.request.as_str(), row.stage.as_str()), ("r-1", "deferred"));

    let (code, out, _) = door.doorman(&["approve", "@bob"]).await;
    assert_eq!((code, out), (0, format!("approved @bob (r-1-{person})\n")));
    let (code, out, _) = door.doorman(&["defer", "@bob", "--json"]).await;
    assert_eq!((code, serde_json::from_str::<AnswerDone>(&out).unwrap().outcome), (0, "held".to_owned()));
    for (target, words) in [("gone", "not pending any more"), ("@two", "asks at 2 doors")] {
        let (code, out, err) = door.doorman(&["reject", target]).await;
        assert!(code == 1 && out.is_empty() && err.contains(words), "{err}");
    }

    assert_eq!(door.doorman(&["revoke"]).await.0, 2);
    assert_eq!(door.doorman(&["revoke", "--since", "soon", "--ledger", "/nowhere"]).await.0, 2);

    let (code, out, err) = door.doorman(&["reload", "--wait"]).await;
    assert_eq!((code, out.as_str()), (1, "rules.toml: refused; 0123456789ab stays in force\n"));
    assert!(err.contains("error: the list shrank\n  --> rules.toml:3"), "{err}");
    let (code, out, _) = door.doorman(&["reload", "--wait", "--accept-shrunk"]).await;
    assert_eq!((code, out.as_str()), (0, "rules.toml: 0123456789ab is in force\n"));
    assert_eq!(door.doorman(&["reload"]).await.0, 0);

    let (code, out, _) = door.doorman(&["pause"]).await;
    assert_eq!((code, out), (0, format!("paused {AGENT}\n")));
    let (code, out, _) = door.doorman(&["resume", "@ana/helper"]).await;
    assert_eq!((code, out), (0, format!("resumed {AGENT}\n")));
    door.close().await;
}

#[tokio::test]
async fn a_socket_whose_file_is_deleted_is_made_again_with_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/doorman.sock");
    let (sender, mut calls) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let server = tokio::spawn(server::serve(
        BoundSocket::bind(&path).unwrap(),
        server::SocketPurpose::Everything,
        sender,
        readings(),
        doorman::secret::Redact::default(),
        stop.clone(),
    ));
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let reply = answer(call.op, call.person.name());
            let _ = call.reply.send(reply);
        }
    });
    let reached = async |path: &PathBuf| {
        let found = async {
            loop {
                match Client::find(std::slice::from_ref(path)).await {
                    Ok(client) => return client,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let client = tokio::time::timeout(crate::process::TIME, found).await.expect("the socket comes back");
        client.call(&ControlOp::Status).await.unwrap();
    };
    reached(&path).await;
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    reached(&path).await;
    std::fs::remove_file(&path).unwrap();
    reached(&path).await;
    stop.cancel();
    server.await.unwrap().unwrap();
    assert!(!path.exists(), "the one that was made again is removed at the end, too");
}

#[tokio::test]
async fn what_went_well_may_be_left_unsaid_and_what_did_not_is_said() {
    let door = ControlServer::staffed();
    for args in [&["pause", "-q"][..], &["resume", "--quiet"], &["reload", "-q"], &["approve", "@carol", "-q"]] {
        assert_eq!(door.doorman(args).await, (0, String::new(), String::new()), "{args:?}");
        let (_, out, err) = door.doorman(&args[..args.len() - 1]).await;
        assert!(!out.is_empty(), "{args:?} says something otherwise: {err}");
    }
    for (args, why) in
        [(&["reject", "gone", "-q"][..], "not pending any more"), (&["reload", "--wait", "-q"], "the list shrank")]
    {
        let (code, _, err) = door.doorman(args).await;
        assert!(code == 1 && err.contains(why), "{args:?}: {err}");
    }
    door.close().await;
}
