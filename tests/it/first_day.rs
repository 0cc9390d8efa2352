//! What a new user does first: `init`, `check`, `doctor`, and the first day in shadow; with the real binary.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use doorman::ops::control::server::{self, SocketPurpose};
use doorman::ops::control::socket::BoundSocket;
use doorman::sandbox::{Fault, FaultAction, FaultPlace, NewRequest, Sandbox, SandboxOptions, SandboxStatus, World};

use crate::faults::site::Site;
use crate::terminal::Terminal;

const AGENT: &str = "a0000000-0000-4000-8000-000000000001";
const OTHER: &str = "a0000000-0000-4000-8000-000000000002";
const KEY: &str = "key-of-the-porter";

async fn platform() -> Sandbox {
    let world = World::new()
        .user("u", "key-of-the-hotel", "hotel", "Hotel")
        .agent(AGENT, KEY, "hotel/porter", "Porter")
        .agent(OTHER, "key-of-the-cook", "hotel/cook", "Cook");
    Sandbox::start(([127, 0, 0, 1], 0).into(), world, SandboxOptions::default()).await.unwrap()
}

fn doorman(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_doorman"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that ends without reading closes its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    assert!(!String::from_utf8_lossy(&said).contains("key-of"), "a key is shown");
    output
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn init_writes_what_check_and_doctor_find_good_and_never_writes_over_anything() {
    let platform = platform().await;
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let url = platform.url();
    let init = ["init", "d", "--agent", AGENT, "--url", &url];
    let output = doorman(here, &init, KEY);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let mode = std::fs::metadata(here.join("d/agent.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let rules = std::fs::read_to_string(here.join("d/rules.toml")).unwrap();
    assert!(rules.contains("mode = \"shadow\"") && rules.contains("\"hotel/*\""), "the owner is known:\n{rules}");
    let check = doorman(here, &["check", "--strict", "--config", "d/doorman.toml"], "");
    assert_eq!(check.status.code(), Some(0), "{}", text(&check));
    let doctor = doorman(here, &["doctor", "--config", "d/doorman.toml", "--json"], "");
    assert_eq!(doctor.status.code(), Some(0), "{}", text(&doctor));
    let output_text = text(&doctor);
    for part in ["its key is accepted: hotel/porter", "its socket opens", "can be listed: 0", "none is running"] {
        assert!(output_text.contains(part), "no `{part}` in\n{output_text}");
    }
    let before = std::fs::read(here.join("d/doorman.toml")).unwrap();
    let again = doorman(here, &init, KEY);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert_eq!(std::fs::read(here.join("d/doorman.toml")).unwrap(), before);
}

/// A client that connects with `on_conflict=reject` could not start beside a doorman that has the connection.
#[tokio::test(flavor = "multi_thread")]
async fn init_writes_poll_for_a_client_that_rejects() {
    let platform = platform().await;
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let url = platform.url();
    for (at, (client, connection, disabled)) in [
        (&["--client", "typescript"][..], "poll", true),
        (&["--client", "python"], "yield", true),
        (&["--client", "python", "--client-rejects"], "poll", true),
        (&["--client-rejects"], "poll", true),
        (&["--client", "none"], "yield", false),
        (&[], "yield", true),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("d{at}");
        let init = [&["init", &name, "--agent", AGENT, "--url", &url], client].concat();
        let output = doorman(here, &init, KEY);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let written = std::fs::read_to_string(here.join(name).join("doorman.toml")).unwrap();
        assert!(written.ends_with(&format!("\nconnection = \"{connection}\"\n")), "{client:?}: {written}");
        assert_eq!(text(&output).contains("`DISABLED`"), disabled, "{client:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn init_writes_nothing_if_the_key_is_no_good() {
    let platform = platform().await;
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let url = platform.url();
    let nowhere = "http://127.0.0.1:9";
    for (agent, url, key, code) in [
        (AGENT, url.as_str(), "nobodys-key", 77),
        (AGENT, url.as_str(), "key-of-the-cook", 77),
        (AGENT, url.as_str(), "", 2),
        (AGENT, url.as_str(), "two words", 2),
        ("porter", url.as_str(), KEY, 2),
        (AGENT, nowhere, KEY, 69),
    ] {
        let output = doorman(here, &["init", "d", "--agent", agent, "--url", url], key);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert_eq!(files(&here.join("d")), 0, "nothing was written");
    }
    let offline = doorman(here, &["init", "d", "--agent", AGENT, "--url", nowhere, "--offline"], KEY);
    assert_eq!(offline.status.code(), Some(0), "{}", text(&offline));
    assert_eq!(files(&here.join("d")), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_for_systemd_writes_the_unit_and_names_the_key_by_its_credential() {
    let platform = platform().await;
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let output = doorman(here, &["init", "d", "--agent", AGENT, "--url", &platform.url(), "--systemd"], KEY);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let read = |name: &str| std::fs::read_to_string(here.join("d").join(name)).unwrap();
    assert!(read("doorman.toml").contains("api_key_credential = \"agent.key\""), "{}", read("doorman.toml"));
    let program = format!("ExecStart={} run\n", env!("CARGO_BIN_EXE_doorman"));
    assert!(read("doorman.service").contains(&program), "{}", read("doorman.service"));
    for (unit, group) in [("doorman.socket", "doorman-admin"), ("doorman-read.socket", "doorman-read")] {
        assert!(read(unit).contains(&format!("SocketGroup={group}\n")), "{}", read(unit));
        assert!(read("doorman.sysusers.conf").contains(&format!("\ng {group} -\n")));
        assert!(text(&output).contains(&format!("{unit} /etc/systemd/system/")), "{}", text(&output));
    }
    assert!(read("doorman-metrics.socket").contains("FileDescriptorName=metrics\n"));
    assert!(read("doorman-page.socket").contains("SocketGroup=doorman-admin\n"));
    for schema in ["rules", "doorman"] {
        serde_json::from_str::<serde_json::Value>(&read(&format!("{schema}.schema.json"))).unwrap();
        assert!(read(&format!("{schema}.toml")).starts_with(&format!("#:schema ./{schema}.schema.json\n")));
    }
    assert!(text(&output).contains("systemctl enable --now doorman"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_what_is_not_well_and_what_to_do() {
    let platform = platform().await;
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let url = platform.url();
    doorman(here, &["init", "d", "--agent", AGENT, "--url", &url], KEY);
    let doctor = |said: &str, code: i32| {
        let output = doorman(here, &["doctor", "--config", "d/doorman.toml"], "");
        let output_text = text(&output);
        assert!(output_text.contains(said), "no `{said}` in\n{output_text}");
        assert_eq!(output.status.code(), Some(code), "{output_text}");
    };
    let key = here.join("d/agent.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    doctor("`chmod 600` it", 0);
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&key, "nobodys-key").unwrap();
    doctor("the platform refuses the key", 77);
    std::fs::write(&key, "key-of-the-cook").unwrap();
    doctor("the key is another agent's", 77);
    std::fs::remove_file(&key).unwrap();
    doctor("no key from the file", 77);
    std::fs::write(&key, KEY).unwrap();
    std::fs::write(here.join("d/rules.toml"), "nonsense").unwrap();
    doctor("refused, with 1 error(s)", 78);
    platform.stop().await;
    doctor("the platform cannot be reached", 78);
    std::fs::write(here.join("d/doorman.toml"), "nonsense").unwrap();
    doctor("this is not TOML", 78);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_throws_nobody_off() {
    let platform = platform().await;
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let url = platform.url();
    doorman(here, &["init", "d", "--agent", AGENT, "--url", &url], KEY);
    let address = platform.address();
    let socket = format!("ws://{address}/api/v1/socket/websocket?vsn=2.0.0&agent_id={AGENT}&api_key={KEY}");
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut agent, _) = tokio_tungstenite::client_async(socket, tcp).await.unwrap();
    let output = doorman(here, &["doctor", "--config", "d/doorman.toml"], "");
    assert!(text(&output).contains("doorman would yield"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(0));
    agent.send(Message::text(r#"[null,"1","phoenix","heartbeat",{}]"#)).await.unwrap();
    let reply = agent.next().await.unwrap().unwrap();
    assert!(reply.to_text().unwrap().contains("phx_reply"), "the agent is still connected: {reply:?}");
}

/// A reply from an intermediary says nothing about the key, and `platform.url` is not the cause.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_distinguishes_a_page_in_between_from_the_platform() {
    let site = Site::start().await;
    let key = std::fs::metadata(site.path("agent.key")).unwrap().permissions().mode();
    std::fs::set_permissions(site.path("agent.key"), std::fs::Permissions::from_mode(key & 0o600)).unwrap();
    for (at, code) in
        [(FaultPlace::Me, 403), (FaultPlace::Me, 200), (FaultPlace::List, 407), (FaultPlace::Upgrade, 403)]
    {
        site.control.fault(Fault::new(at, FaultAction::EdgePage).code(code)).unwrap();
        let output = site.command(&["doctor"]).output().await.unwrap();
        let output_text = text(&output);
        assert_eq!(output.status.code(), Some(69), "{output_text}");
        assert!(
            output_text.contains("something in between") && output_text.contains("error code: 1010"),
            "{output_text}"
        );
        assert!(
            !output_text.contains("is `platform.url` right") && !output_text.contains("refuses the key"),
            "{output_text}"
        );
    }
    let keys = || site.control.overview().connects.into_iter().map(|connect| connect.key).collect::<Vec<_>>();
    assert_eq!(keys().last().map(String::as_str), Some("header"));
    assert!(keys().iter().all(|key| key == "header"), "no key in a URL: {:?}", keys());
    // Only an empty 403 of the platform itself leads to an attempt with the key in the query.
    site.control.fault(Fault::new(FaultPlace::Upgrade, FaultAction::Status).code(403)).unwrap();
    let output_text = text(&site.command(&["doctor"]).output().await.unwrap());
    assert!(output_text.contains("its socket opens, with the key in the query"), "{output_text}");
    // For an agent that polls the socket is not tried: its own client could not connect at that moment.
    let before = keys().len();
    site.configure(site.address, "connection = \"poll\"", "");
    let output_text = text(&site.command(&["doctor"]).output().await.unwrap());
    assert!(output_text.contains("`connection` is `poll`") && keys().len() == before, "{output_text}");
}

/// This configuration names its own socket, so a daemon at one of the usual paths is not its daemon.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_takes_no_other_daemon_for_this_one() {
    let site = Site::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let usual = elsewhere.path().join("doorman").join("doorman.sock");
    let (calls, _nobody) = tokio::sync::mpsc::channel(1);
    let stop = tokio_util::sync::CancellationToken::new();
    let other = tokio::spawn(server::serve(
        BoundSocket::bind(&usual).unwrap(),
        SocketPurpose::Everything,
        calls,
        crate::control::readings(),
        doorman::secret::Redact::default(),
        stop.clone(),
    ));
    let doctor = async || {
        let output = site.command(&["doctor"]).env("XDG_RUNTIME_DIR", elsewhere.path()).output().await.unwrap();
        text(&output)
    };
    let output_text = doctor().await;
    assert!(output_text.contains("none is running") && output_text.contains("its socket opens"), "{output_text}");
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    let output_text = doctor().await;
    assert!(output_text.contains("one is running") && !output_text.contains("`DISABLED`"), "{output_text}");
    // `doctor` reports what the daemon has noticed of an agent: here, that the agent's own client answers requests,
    // too.
    let ids = site.control.request(&NewRequest::to(AGENT).from("a-stranger")).unwrap();
    daemon.until("it waits", |lines| lines.iter().any(|line| line["verdict"] == "defer")).await.unwrap();
    site.control.settle(&ids[0], SandboxStatus::Approved).unwrap();
    let noticed = |lines: &[serde_json::Value]| lines.iter().any(|line| line["event"] == "settled_against_policy");
    daemon.until("it was answered by somebody else", noticed).await.unwrap();
    let output_text = doctor().await;
    assert!(output_text.contains("`DISABLED`"), "{output_text}");
    daemon.stop().await.unwrap();
    stop.cancel();
    other.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_everything_is_decided_and_nothing_is_answered() -> Result<(), String> {
    let site = Site::start().await;
    site.ask("a", 3, true);
    let daemon = site.daemon_with(&["--shadow"]);
    let decided = |lines: &[serde_json::Value]| lines.iter().filter(|line| line["event"] == "decided").count() >= 7;
    daemon.until("all seven are decided", decided).await?;
    let lines = daemon.stop().await?;
    let decided: Vec<_> = lines.iter().filter(|line| line["event"] == "decided").collect();
    assert!(decided.iter().all(|line| line["mode"] == "shadow"), "{decided:?}");
    assert!(decided.iter().any(|line| line["verdict"] == "approve"), "{decided:?}");
    let counts = site.control.counts();
    assert_eq!((counts.answers, counts.pending), (0, 7), "nothing was answered");
    Ok(())
}

/// With `su`, in cron and in a container there is no session: the daemon's socket is then in its state directory, and a
/// command in a session also looks there.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_a_session_is_found_from_one() -> Result<(), String> {
    let site = Site::start().await;
    let text = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    std::fs::write(site.path("doorman.toml"), text.replace("[control]\npath = \"doorman.sock\"\n", "")).unwrap();
    let state = site.path("state");
    let state = state.to_str().unwrap();
    let daemon = site.daemon_with_env(&[], &[("XDG_STATE_HOME", state)]);
    daemon.stands("live").await?;
    let socket = site.path("state/doorman/doorman.sock");
    assert!(socket.exists(), "where it is made without a session");
    let session = site.path("session");
    std::fs::create_dir(&session).unwrap();
    for of_session in [false, true] {
        for command in ["status", "pending", "doubts", "doctor"] {
            let mut asked = site.command(&[command]);
            asked.env("XDG_STATE_HOME", state);
            if of_session {
                asked.env("XDG_RUNTIME_DIR", &session);
            }
            let output = asked.output().await.unwrap();
            let output_text = self::text(&output);
            assert!(
                output.status.success() && !output_text.contains("none is running"),
                "{command}, {of_session}: {output_text}"
            );
        }
    }
    // A file that was deleted is made again.
    std::fs::remove_file(&socket).unwrap();
    daemon.said("control_remade", 1).await?;
    assert!(site.command(&["status"]).env("XDG_STATE_HOME", state).output().await.unwrap().status.success());
    daemon.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_init_asks_again_until_each_answer_is_good() {
    let platform = platform().await;
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut terminal = Terminal::start(here, &["init", "d", "--url", &platform.url()], &[]);
    let client = "the agent's own client (python, typescript, other, none): ";
    for (question, bad, why, good) in [
        ("the agent's id (a UUID): ", "porter", "not a valid agent id: `porter`", AGENT),
        (client, "cobol", "`cobol` is none of these", "python"),
        ("does it connect with `on_conflict=reject` (yes, no): ", "maybe", "answer `yes` or `no`", "yes"),
        ("its API key (not shown): ", "key-of-the-cook", "this key is another agent's", KEY),
    ] {
        for (answer, said) in [("", "nothing was entered"), (bad, why)] {
            terminal.until(question);
            if question.contains("not shown") {
                terminal.until_hidden();
            }
            terminal.types(answer);
            terminal.until(said);
        }
        assert_eq!(files(here), 0, "nothing is written before all is good");
        terminal.until(question);
        if question.contains("not shown") {
            terminal.until_hidden();
        }
        terminal.types(good);
    }
    terminal.until("written: ");
    assert_eq!(terminal.ends(), Some(0), "{}", terminal.said);
    assert!(!terminal.said.contains("key-of"), "a key is shown: {}", terminal.said);
    let written = std::fs::read_to_string(here.join("d/doorman.toml")).unwrap();
    assert!(written.contains("connection = \"poll\"") && written.contains(AGENT), "{written}");
    // Nothing more is asked about a client that is none, and only the end of what is typed ends it.
    let mut terminal = Terminal::start(here, &["init", "e", "--agent", AGENT, "--url", &platform.url()], &[]);
    terminal.until(client);
    terminal.types("none");
    terminal.until("its API key");
    terminal.until_hidden();
    terminal.types(KEY);
    assert_eq!(terminal.ends(), Some(0), "{}", terminal.said);
    assert!(
        !terminal.said.contains("on_conflict=reject` (yes") && !terminal.said.contains("DISABLED"),
        "{}",
        terminal.said
    );
    let mut terminal = Terminal::start(here, &["init", "f", "--url", &platform.url()], &[]);
    terminal.until("a UUID");
    terminal.hangs_up();
    assert_eq!((terminal.ends(), files(here)), (Some(2), 2), "{}", terminal.said);
}
