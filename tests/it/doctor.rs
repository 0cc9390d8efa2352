//! What `doorman doctor` says about what runs beside the agents: the page, the port of metrics, the targets of
//! notifications and the deciders.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::faults::site::{AGENT, Site};

/// The output of doctor: the result and reason of each check; and the exit code.
async fn doctor(site: &Site) -> (Vec<(String, String, String)>, i32) {
    let (code, out, err) = site.cli(&["doctor", "--no-connect", "--json"]).await;
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{out}{err}")));
    (lines.map(|line| (text(&line, "check"), text(&line, "result"), text(&line, "detail"))).collect(), code)
}

fn has_line(lines: &[(String, String, String)], check: &str, result: &str, detail: &str) {
    let so = |line: &&(String, String, String)| line.0 == check && line.1 == result && line.2.contains(detail);
    assert!(lines.iter().any(|line| so(&line)), "no `{check}` {result} `{detail}` in {lines:#?}");
}

fn add(site: &Site, tables: &str) {
    let config = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    std::fs::write(site.path("doorman.toml"), config + tables).unwrap();
}

fn secret(site: &Site, name: &str, text: &str) {
    std::fs::write(site.path(name), text).unwrap();
    std::fs::set_permissions(site.path(name), PermissionsExt::from_mode(0o600)).unwrap();
}

/// A server that always sends this reply, and the first request that it got.
fn server(says: &'static str) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (hear, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut read = [0; 4096];
            let count = stream.read(&mut read).unwrap_or(0);
            let _ = hear.send(String::from_utf8_lossy(&read[..count]).into_owned());
            let _ = stream.write_all(says.as_bytes());
        }
    });
    (address, heard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_and_deciders_that_are_dead_or_wrong_are_named_and_nobody_gets_anything() {
    let site = Site::start().await;
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (alive, heard) = server("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let (rooms, _) = server(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 33\r\nconnection: close\r\n\r\n{\"joined_rooms\":[\"!a:b.example\"]}",
    );
    secret(&site, "dead.url", &format!("http://{dead}/a-secret-path"));
    secret(&site, "wrong.url", "ftp://example.org/a-secret-path");
    secret(&site, "alive.url", &format!("http://{alive}/a-secret-path"));
    secret(&site, "token", "a-token-of-matrix");
    add(
        &site,
        &format!(
            "\n[[notify]]\nname = \"dead\"\nkind = \"slack\"\nurl_file = \"dead.url\"\n\
             [[notify]]\nname = \"wrong\"\nkind = \"webhook\"\nurl_file = \"wrong.url\"\n\
             [[notify]]\nname = \"none\"\nkind = \"ntfy\"\nurl_file = \"none.url\"\n\
             [[notify]]\nname = \"alive\"\nkind = \"discord\"\nurl_file = \"alive.url\"\n\
             [[notify]]\nname = \"mail\"\nkind = \"mail\"\nurl = \"smtp://{dead}\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n\
             [[notify]]\nname = \"room\"\nkind = \"matrix\"\nurl = \"http://{rooms}\"\nroom = \"!c:b.example\"\nsecret_file = \"token\"\n\
             [[notify]]\nname = \"pager\"\nkind = \"command\"\ncommand = [\"{0}/no-such-program\"]\n\
             [[notify]]\nname = \"unit\"\nkind = \"slack\"\nurl_credential = \"notify.unit\"\n\
             [deciders.gone]\nurl = \"http://{dead}/\"\n\
             [deciders.there]\nurl = \"http://{alive}/\"\n\
             [deciders.socket]\nunix = \"{0}/no.sock\"\n",
            site.path("").display()
        ),
    );
    let (lines, code) = doctor(&site).await;
    assert_eq!(code, 69, "{lines:#?}");
    has_line(&lines, "notify dead", "failed", "refused");
    has_line(&lines, "notify wrong", "failed", "is not an address");
    has_line(&lines, "notify none", "failed", "no address from the file");
    let none = lines.iter().find(|(what, ..)| what == "notify none").unwrap();
    assert!(none.2.contains("none.url") && !none.2.contains("address right"), "{none:?}");
    has_line(&lines, "notify alive", "ok", "`doorman notify test alive`");
    has_line(&lines, "notify mail", "failed", "refused");
    has_line(&lines, "notify room", "failed", "has not joined the room");
    has_line(&lines, "notify pager", "failed", "no-such-program");
    has_line(&lines, "notify unit", "ok", "a credential of the unit");
    has_line(&lines, "decider gone", "failed", "waits");
    has_line(&lines, "decider there", "ok", "it was asked nothing");
    has_line(&lines, "decider socket", "failed", "no.sock");
    let shown = format!("{lines:?}");
    assert!(!shown.contains("a-secret-path") && !shown.contains("a-token-of-matrix"), "{shown}");
    let heard: Vec<String> = heard.try_iter().collect();
    assert!(heard.iter().all(|call| call.is_empty() || call.starts_with("HEAD / ")), "{heard:?}");
}

/// As `doorman init --systemd` writes it: a person's shell cannot see the key, which is no fault of the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_only_the_unit_sees_is_no_fault_and_a_refused_one_is_named_all_the_same() {
    let site = Site::start().await;
    let config = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    let agent = format!("agent {AGENT}");
    let key = config.lines().find(|line| line.starts_with("api_key_file")).unwrap().to_owned();
    let of_unit = config.replace(&key, "api_key_credential = \"agent.key\"");

    let refused = config.replace(&key, "api_key_file = \"wrong.key\"");
    secret(&site, "wrong.key", "a-key-that-nobody-has");
    std::fs::write(site.path("doorman.toml"), refused).unwrap();
    let daemon = site.daemon();
    daemon.stands("refused").await.unwrap();

    std::fs::write(site.path("doorman.toml"), of_unit).unwrap();
    let (code, _, err) = site.cli(&["check"]).await;
    assert!(code == 0 && !err.contains("CREDENTIALS_DIRECTORY"), "{err}");
    let (lines, code) = doctor(&site).await;
    has_line(&lines, &agent, "warning", "only the service sees");
    has_line(&lines, &agent, "failed", "it is refused");
    assert_eq!(code, 77, "{lines:#?}");
    daemon.stop().await.unwrap();
    let (lines, code) = doctor(&site).await;
    assert_eq!(code, 0, "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_somebody_else_has_is_named_while_a_daemon_runs_and_while_none_does() {
    let site = Site::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let socket = site.path("page.sock").display().to_string();
    add(&site, &format!("\n[page]\nlisten = \"{at}\"\nsocket = \"{socket}\"\n[metrics]\nlisten = \"{free}\"\n"));
    let (page, metrics, file) = (format!("page {at}"), format!("metrics {free}"), format!("page {socket}"));
    let (lines, code) = doctor(&site).await;
    assert_eq!(code, 78, "{lines:#?}");
    has_line(&lines, &page, "failed", "in use");
    has_line(&lines, &metrics, "ok", "free");
    has_line(&lines, &file, "ok", "will make it");

    let daemon = site.daemon();
    daemon.said("page_refused", 1).await.unwrap();
    daemon.said("page_listening", 1).await.unwrap();
    daemon.said("metrics_listening", 1).await.unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = taken.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
        taken
    });
    let (lines, code) = doctor(&site).await;
    assert_eq!(code, 78, "{lines:#?}");
    has_line(&lines, &page, "failed", "another program has the port");
    has_line(&lines, &metrics, "ok", "the daemon serves it");
    has_line(&lines, &file, "ok", "somebody answers");
    drop(answering.join().unwrap());
    let (lines, _) = doctor(&site).await;
    has_line(&lines, &page, "failed", "`doorman status` says why");
    daemon.stop().await.unwrap();
}
