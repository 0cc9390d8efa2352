//! Notifications of the real binary, over real sockets, to servers that accept, refuse, hang, or are gone.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;
use doorman::config::settings::NotifyEvent;
use doorman::sandbox::NewRequest;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::timeout;

use crate::faults::daemon::Daemon;
use crate::faults::site::{AGENT, Site, TIME};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// A stranger's text with every markup that some service would interpret.
const HOSTILE: &str = "@everyone <!channel> <https://evil.example|bank> **b** `c`\n\u{202e}# h\r\nSubject: x";

/// One call that a receiver got.
#[derive(Debug, Clone)]
struct ReceivedCall {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl ReceivedCall {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// The replies of a receiver; the last one is repeated for ever.
#[derive(Debug, Clone)]
enum ReceiverReply {
    Status(u16),
    Redirect(String),
    /// It accepts the call and sends no reply.
    Silence,
}

/// A server that writes down what it gets.
#[derive(Debug, Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<ReceivedCall>>>,
    answers: Arc<Mutex<VecDeque<ReceiverReply>>>,
}

impl Receiver {
    /// Starts one; returns it with its address.
    async fn start(answers: &[ReceiverReply]) -> (Self, String) {
        let receiver = Self { got: Arc::default(), answers: Arc::new(Mutex::new(answers.iter().cloned().collect())) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (receiver, address)
    }

    fn all(&self) -> Vec<ReceivedCall> {
        self.got.lock().unwrap().clone()
    }

    /// Waits for this many calls.
    async fn calls(&self, count: usize) -> Vec<ReceivedCall> {
        let wait = async {
            while self.all().len() < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(TIME, wait).await.unwrap_or_else(|_| panic!("only {:?}", self.all()));
        self.all()
    }
}

async fn take(
    State(receiver): State<Receiver>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    receiver.got.lock().unwrap().push(ReceivedCall { method, uri, headers, body });
    let answer = {
        let mut answers = receiver.answers.lock().unwrap();
        let last = answers.len() == 1;
        if last { answers.front().cloned() } else { answers.pop_front() }
    };
    match answer {
        None => StatusCode::OK.into_response(),
        Some(ReceiverReply::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(ReceiverReply::Redirect(to)) => (StatusCode::FOUND, [("location", to)]).into_response(),
        Some(ReceiverReply::Silence) => std::future::pending().await,
    }
}

/// A site whose configuration also has these `[[notify]]` tables; the files are written with the given names and
/// contents.
async fn site(tables: &str, files: &[(&str, &str)]) -> Site {
    let site = Site::start().await;
    for (name, text) in files {
        std::fs::write(site.path(name), text).unwrap();
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(site.path("doorman.toml")).unwrap();
    write!(file, "\n{tables}\n").unwrap();
    site
}

fn stranger(site: &Site, id: &str) {
    let new = NewRequest::to(AGENT).from("mallory").id(id).named(HOSTILE).saying(HOSTILE);
    site.control.request(&new).unwrap();
}

async fn live(site: &Site) -> Daemon {
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    daemon
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_reported_once_signed_and_again_under_the_same_id_after_a_kill() {
    let (receiver, address) = Receiver::start(&[ReceiverReply::Status(503), ReceiverReply::Status(200)]).await;
    let table = "[[notify]]\nname = \"ops\"\nkind = \"webhook\"\nurl_file = \"ops.url\"\nsecret_file = \"ops.secret\"\nevery = \"1s\"\n";
    let site = site(table, &[("ops.url", &format!("{address}/hook/a-secret-path")), ("ops.secret", SECRET)]).await;
    let daemon = live(&site).await;
    stranger(&site, "one");
    let first = receiver.calls(1).await.remove(0);
    daemon.said("message_failed", 1).await.unwrap();
    daemon.kill().await;
    // No daemon runs while the second request arrives.
    stranger(&site, "two");
    let daemon = live(&site).await;
    let got = receiver.calls(3).await;
    assert_eq!(first.header("webhook-id"), got[1].header("webhook-id"), "the same message, tried again");
    assert_ne!(first.header("webhook-id"), got[2].header("webhook-id"));
    let verifier = standardwebhooks::Webhook::new(SECRET).unwrap();
    for call in &got {
        verifier.verify(&call.body, &call.headers).unwrap();
        assert_eq!((call.method.as_str(), call.uri.path()), ("POST", "/hook/a-secret-path"));
    }
    let requests = |call: &ReceivedCall| {
        let body = call.json();
        let requests = body["data"]["requests"].as_array().unwrap().clone();
        requests.iter().map(|one| one["request"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((requests(&got[1]), requests(&got[2])), (vec!["one".to_owned()], vec!["two".to_owned()]));
    let second = got[2].json();
    assert_eq!(second["data"]["waiting"], 2);
    let line = &second["data"]["requests"][0];
    assert_eq!(
        (line["handle"].as_str(), line["name"].as_str()),
        (Some("mallory"), None),
        "handles only, unless asked for"
    );
    // After another start, a request that was reported already or that a person answered is not reported again.
    let (code, _, error) = site.cli(&["reject", "one", "two"]).await;
    assert_eq!(code, 0, "{error}");
    daemon.stop().await.unwrap();
    let daemon = live(&site).await;
    stranger(&site, "three");
    let got = receiver.calls(4).await;
    assert_eq!(requests(&got[3]), ["three"]);
    assert_eq!(got[3].json()["data"]["waiting"], 1);
    // Neither the address nor the secret appears anywhere.
    let (_, status, _) = site.cli(&["status", "--json"]).await;
    let (_, list, _) = site.cli(&["notify", "list"]).await;
    let lines = daemon.stop().await.unwrap();
    let ledger = std::fs::read(site.path("ledger.db")).unwrap();
    let log: String = lines.iter().map(Value::to_string).collect();
    for secret in ["a-secret-path", &SECRET[6..]] {
        for (what, text) in [("status", &status), ("notify list", &list), ("the log", &log)] {
            assert!(!text.contains(secret), "{what} has a secret: {text}");
        }
        assert!(!ledger.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
    assert!(list.contains("ops") && list.contains("webhook") && list.contains("ok"), "{list}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_makes_no_answer_late_and_loses_nothing() {
    let (receiver, address) = Receiver::start(&[ReceiverReply::Silence]).await;
    let table = "[[notify]]\nname = \"ops\"\nkind = \"webhook\"\nurl_file = \"ops.url\"\nevery = \"1s\"\n";
    let site = site(table, &[("ops.url", &address)]).await;
    let daemon = live(&site).await;
    stranger(&site, "first");
    receiver.calls(1).await;
    // Now the receiver hangs; friends are approved and foes rejected all the same.
    site.ask("crowd", 50, true);
    site.until("a hundred are answered", |control| control.counts().pending == 6).await.unwrap();
    assert_eq!(receiver.all().len(), 1, "one message is under way, and no more");
    *receiver.answers.lock().unwrap() = VecDeque::from([ReceiverReply::Status(204)]);
    // A person asks for a delivery now; all requests that came in the meantime are one message.
    daemon.said("message_failed", 1).await.unwrap();
    let (code, _, error) = site.cli(&["notify", "retry", "ops"]).await;
    assert_eq!(code, 0, "{error}");
    let got = receiver.calls(3).await;
    assert_eq!(got[0].header("webhook-id"), got[1].header("webhook-id"));
    assert_eq!(got[2].json()["data"]["requests"].as_array().unwrap().len(), 5);
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_of_a_dead_receiver_stays_one_message_whoever_comes_meanwhile() {
    let (receiver, address) = Receiver::start(&[ReceiverReply::Status(500)]).await;
    let table = "[[notify]]\nname = \"ops\"\nkind = \"webhook\"\nurl_file = \"ops.url\"\nevery = \"1s\"\n";
    let site = site(table, &[("ops.url", &address)]).await;
    let daemon = live(&site).await;
    stranger(&site, "first");
    daemon.said("message_failed", 1).await.unwrap();
    let crowd = NewRequest { push: Some(true), ..NewRequest::to(AGENT).from("crowd/{n}").id("crowd-{n}").count(2_000) };
    site.control.request(&crowd).unwrap();
    site.ask("friends", 20, true);
    site.until("friends and foes have their answers", |control| control.counts().pending == 2_003).await.unwrap();
    let metrics = loop {
        let (_, out, _) = site.cli(&["status", "--json"]).await;
        let status: Value = serde_json::from_str(&out).unwrap();
        if status["agents"][0]["deferred"] == 2_003 {
            break status;
        }
    };
    assert_eq!(metrics["notify"][0]["state"], "retrying", "{metrics}");
    assert!(daemon.count("message_failed") <= 2, "reported for each try, not for each request: {}", daemon.tail(20));
    let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
    let kept: (i64, i64) = ledger
        .query_row("SELECT count(*), max(length(body)) FROM delivery", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert!(kept.0 == 1 && kept.1 < 20_000, "{kept:?}");
    *receiver.answers.lock().unwrap() = VecDeque::from([ReceiverReply::Status(204)]);
    let tried = receiver.all().len();
    assert_eq!(site.cli(&["notify", "retry", "ops"]).await.0, 0);
    let got = receiver.calls(tried + 2).await;
    let last = got.last().unwrap();
    let news = &last.json()["data"];
    assert_eq!(news["requests"].as_array().unwrap().len(), 20);
    assert_eq!(news["more_requests"], 2_002 - 20);
    assert!(last.body.len() < 20_000, "{}", last.body.len());
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_gone_is_left_alone_and_the_others_hear_of_it() {
    let (gone, gone_at) = Receiver::start(&[ReceiverReply::Status(410)]).await;
    let (other, other_at) = Receiver::start(&[]).await;
    let tables = "[[notify]]\nname = \"old\"\nkind = \"webhook\"\nurl_file = \"old.url\"\nevery = \"1s\"\n\
                  [[notify]]\nname = \"new\"\nkind = \"webhook\"\nurl_file = \"new.url\"\nevery = \"1s\"\nevents = [\"notify_failed\", \"paused\"]\n";
    let site = site(tables, &[("old.url", &gone_at), ("new.url", &other_at)]).await;
    let daemon = live(&site).await;
    stranger(&site, "one");
    daemon.said("message_gave_up", 1).await.unwrap();
    let body = other.calls(1).await.remove(0).json();
    let condition = &body["data"]["conditions"][0];
    assert_eq!((condition["event"].as_str(), condition["subject"].as_str()), (Some("notify_failed"), Some("old")));
    assert_eq!(body["data"]["requests"].as_array().unwrap().len(), 0, "requests are none of its events");
    let (code, said, _) = site.cli(&["status", "--exit-code"]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("`old` do not arrive"), "{said}");
    stranger(&site, "two");
    daemon
        .until("the second is decided", |lines| {
            lines.iter().any(|line| line["event"] == "decided" && line["request"] == "two")
        })
        .await
        .unwrap();
    assert_eq!(gone.all().len(), 1);
    // The target exists again.
    *gone.answers.lock().unwrap() = VecDeque::from([ReceiverReply::Status(200)]);
    assert_eq!(site.cli(&["notify", "retry", "old"]).await.0, 0);
    let got = gone.calls(2).await;
    assert_eq!(got[1].json()["data"]["requests"][0]["request"], "two");
    let body = other.calls(2).await;
    assert_eq!(body[1].json()["data"]["conditions"][0]["holds"], false);
    // Gone again: after `retry` no message says that it still gets nothing, although there is nothing to send yet.
    *gone.answers.lock().unwrap() = VecDeque::from([ReceiverReply::Status(410)]);
    stranger(&site, "three");
    let state = async |is: &str| {
        let shown = async {
            loop {
                let (_, out, _) = site.cli(&["notify", "list", "--json"]).await;
                let targets = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
                if targets.into_iter().any(|target| target["name"] == "old" && target["state"] == is) {
                    return;
                }
            }
        };
        timeout(TIME, shown).await.unwrap_or_else(|_| panic!("`old` was never {is}"));
    };
    state("stopped").await;
    assert_eq!(site.cli(&["notify", "retry", "old"]).await.0, 0);
    state("gave-up").await;
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_service_obeys_what_a_stranger_wrote_and_each_gets_what_it_takes() {
    let (receiver, address) = Receiver::start(&[]).await;
    let mut tables = String::new();
    for kind in ["slack", "discord", "ntfy"] {
        tables.push_str(&format!(
            "[[notify]]\nname = \"{kind}\"\nkind = \"{kind}\"\nurl_file = \"{kind}.url\"\ntext = \"full\"\n"
        ));
    }
    tables.push_str(&format!(
        "[[notify]]\nname = \"matrix\"\nkind = \"matrix\"\nurl = \"{address}\"\nroom = \"!r:example.org\"\nsecret_file = \"matrix.token\"\ntext = \"full\"\n"
    ));
    let urls: Vec<(String, String)> =
        ["slack", "discord", "ntfy"].map(|kind| (format!("{kind}.url"), format!("{address}/{kind}"))).to_vec();
    let mut files: Vec<(&str, &str)> = urls.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
    files.push(("matrix.token", "a-matrix-token"));
    let site = site(&tables, &files).await;
    for n in 0..30 {
        stranger(&site, &format!("r{n}"));
    }
    let daemon = live(&site).await;
    let got = receiver.calls(4).await;
    let of = |path: &str| {
        let found = got.iter().find(|call| call.uri.path().starts_with(path));
        found.unwrap_or_else(|| panic!("nothing at {path}: {got:?}")).clone()
    };
    let slack = of("/slack").json();
    let text = slack["text"].as_str().unwrap();
    assert!(!text.contains(['<', '>']) && text.contains("&lt;!channel&gt;"), "{text}");
    assert_eq!((slack["unfurl_links"].as_bool(), slack["mrkdwn"].as_bool()), (Some(false), Some(false)));
    let discord = of("/discord").json();
    assert_eq!(discord["allowed_mentions"]["parse"], serde_json::json!([]));
    let content = discord["content"].as_str().unwrap();
    assert!(content.chars().count() <= 2000 && content.contains("\\*\\*b\\*\\*"), "{content}");
    let ntfy = of("/").json_of_topic(&got);
    assert_eq!(ntfy["topic"], "ntfy");
    assert!(ntfy["message"].as_str().unwrap().len() <= 4096);
    let matrix = of("/_matrix/client/v3/rooms/!r:example.org/send/m.room.message/dm_");
    assert_eq!((matrix.method.as_str(), matrix.header("authorization")), ("PUT", "Bearer a-matrix-token"));
    assert_eq!(
        (matrix.json()["msgtype"].as_str(), &matrix.json()["m.mentions"]),
        (Some("m.notice"), &serde_json::json!({}))
    );
    let said = matrix.json()["body"].as_str().unwrap().to_owned();
    let texts = [text, content, ntfy["message"].as_str().unwrap(), &said].map(str::to_owned);
    for text in texts {
        assert!(!text.contains(['\u{202e}', '\r']) && !text.lines().any(|line| line.starts_with("Subject")), "{text}");
    }
    for call in &got {
        assert!(call.json().to_string().contains("30 requests wait"), "however much is cut, the number is there");
    }
    daemon.stop().await.unwrap();
}

impl ReceivedCall {
    /// The call to the root of the server, where ntfy accepts JSON.
    fn json_of_topic(&self, all: &[ReceivedCall]) -> Value {
        all.iter().find(|call| call.uri.path() == "/").unwrap().json()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_cannot_be_written_is_reported_all_the_same() {
    let (receiver, address) = Receiver::start(&[ReceiverReply::Silence]).await;
    let table = "[[notify]]\nname = \"ops\"\nkind = \"webhook\"\nurl_file = \"ops.url\"\nevery = \"1s\"\n";
    let site = site(table, &[("ops.url", &address)]).await;
    let daemon = live(&site).await;
    stranger(&site, "one");
    // While this message is being delivered, the ledger's file goes away: the result of the delivery cannot be
    // recorded.
    receiver.calls(1).await;
    let (ledger, aside) = (site.path("ledger.db"), site.path("aside.db"));
    let moves = |from: &std::path::Path, to: &std::path::Path| {
        for end in ["", "-wal", "-shm"] {
            let with = |path: &std::path::Path| format!("{}{end}", path.display());
            std::fs::rename(with(from), with(to)).unwrap();
        }
    };
    moves(&ledger, &aside);
    site.ask("meanwhile", 1, true);
    daemon.said("ledger_blocked", 1).await.unwrap();
    *receiver.answers.lock().unwrap() = VecDeque::from([ReceiverReply::Status(200)]);
    daemon.said("message_failed", 1).await.unwrap();
    assert_eq!(site.cli(&["notify", "retry", "ops"]).await.0, 0);
    let holds = |call: &ReceivedCall| {
        let conditions = call.json()["data"]["conditions"].as_array().unwrap().clone();
        conditions.iter().find(|one| one["event"] == "ledger_blocked").map(|one| one["holds"].as_bool().unwrap())
    };
    let reported = async |wanted: bool| {
        let wait = async {
            while receiver.all().last().and_then(holds) != Some(wanted) {
                tokio::task::yield_now().await;
            }
        };
        timeout(TIME, wait).await.unwrap_or_else(|_| panic!("never reported {wanted}: {:?}", receiver.all()));
    };
    reported(true).await;
    moves(&aside, &ledger);
    daemon.said("ledger_recovered", 1).await.unwrap();
    reported(false).await;
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_not_followed_and_a_test_says_why_it_failed() {
    let (elsewhere, elsewhere_at) = Receiver::start(&[]).await;
    let (receiver, address) = Receiver::start(&[ReceiverReply::Redirect(elsewhere_at)]).await;
    let tables = "[[notify]]\nname = \"ops\"\nkind = \"webhook\"\nurl_file = \"ops.url\"\n\
                  [[notify]]\nname = \"nowhere\"\nkind = \"webhook\"\nurl_file = \"missing.url\"\n";
    let site = site(tables, &[("ops.url", &address)]).await;
    let daemon = live(&site).await;
    let (code, _, error) = site.cli(&["notify", "test", "ops"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("redirect") && error.contains("302"), "{error}");
    assert_eq!((receiver.all().len(), elsewhere.all().len()), (1, 0));
    let (code, _, error) = site.cli(&["notify", "test", "nowhere"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("missing.url"), "{error}");
    let (code, _, error) = site.cli(&["notify", "test", "nobody"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("doorman notify list"), "{error}");
    *receiver.answers.lock().unwrap() = VecDeque::from([ReceiverReply::Status(200)]);
    let (code, said, _) = site.cli(&["notify", "test", "ops"]).await;
    assert_eq!((code, said.contains("took the message")), (0, true), "{said}");
    assert_eq!(receiver.all().last().unwrap().json()["type"], "doorman.test");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_gets_the_message_and_ends_with_everything_it_started() {
    let site = Site::start().await;
    let script = |name: &str, text: &str| {
        let path = site.path(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let kept = site.path("kept.json").display().to_string();
    let environment = site.path("environment").display().to_string();
    let good = script("good", &format!("env > {environment}\nsleep 1000 & cat > {kept}.new && mv {kept}.new {kept}"));
    let bad = script("bad", "echo 'no such room' >&2\nexit 3");
    let pid = site.path("pid").display().to_string();
    let slow = script("slow", &format!("sleep 1000 & echo $! > {pid}.new; mv {pid}.new {pid}; wait"));
    let open = script("open", "exit 0");
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(site.path("doorman.toml")).unwrap();
    for (name, program) in [("good", &good), ("bad", &bad), ("slow", &slow), ("open", &open)] {
        let events = if name == "good" { "deferred" } else { "notify_failed" };
        writeln!(
            file,
            "\n[[notify]]\nname = \"{name}\"\nkind = \"command\"\ncommand = [\"{program}\"]\nevents = [\"{events}\"]"
        )
        .unwrap();
    }
    drop(file);
    let daemon = live(&site).await;
    stranger(&site, "one");
    site.until("the program ran", |_| site.path("kept.json").exists()).await.unwrap();
    let message: Value = serde_json::from_slice(&std::fs::read(site.path("kept.json")).unwrap()).unwrap();
    assert_eq!(message["requests"][0]["request"], "one");
    // A process that the program left running holds its standard error; that is not an error of the program.
    daemon.said("message_sent", 1).await.unwrap();
    let environment = std::fs::read_to_string(site.path("environment")).unwrap();
    assert!(environment.contains("DOORMAN_TARGET=good"), "{environment}");
    let (code, _, error) = site.cli(&["notify", "test", "bad"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("no such room") && error.contains('3'), "{error}");
    let (code, _, error) = site.cli(&["notify", "test", "open"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("written by everybody"), "{error}");
    let (code, _, error) = site.cli(&["notify", "test", "slow"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("did not end"), "{error}");
    let child: i32 = std::fs::read_to_string(site.path("pid")).unwrap().trim().parse().unwrap();
    let gone = |_: &doorman::sandbox::Control| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    site.until("what the program started is gone", gone).await.unwrap();
    daemon.signal(Signal::SIGTERM);
    daemon.stop().await.unwrap();
}

#[test]
fn the_page_lists_every_event() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/notifications.md");
    let page = std::fs::read_to_string(page).unwrap();
    for event in NotifyEvent::ALL {
        let row = format!("| `{}` | {}. |", event.as_str(), event.meaning());
        assert!(page.contains(&row), "docs/notifications.md does not have this row:\n{row}");
    }
}
