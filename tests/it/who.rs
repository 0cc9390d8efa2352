//! Who did it: the person behind a shared account, what is claimed and noted, the group that may use the socket, and the
//! socket that only reads; with the real binary.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use doorman::sandbox::{NewRequest, SandboxStatus};
use serde_json::Value;

use crate::faults::site::{AGENT, Site};

const RULES: &str = "version = 1\n[policy]\nmode = \"enforce\"\nno_match = \"defer\"\n";

async fn site(control: &str) -> Site {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    let path = site.path("doorman.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("[control]\n"), "{text}");
    std::fs::write(&path, text.replace("[control]\n", &format!("[control]\n{control}"))).unwrap();
    for (id, from) in [("r-1", "bob"), ("r-2", "carol"), ("r-3", "dave"), ("r-4", "erin")] {
        site.control.request(&NewRequest::to(AGENT).from(from).id(id).saying("hello")).unwrap();
    }
    site
}

async fn decided(site: &Site) {
    let all = |_: &doorman::sandbox::Control| crate::faults::checks::on_record(site) >= 4;
    site.until("all are decided", all).await.unwrap();
}

async fn on_record(site: &Site, id: &str) -> Value {
    let (code, out, err) = site.cli(&["history", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let rows = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.into_iter().find(|row| row["request"] == id).unwrap()
}

/// The login behind this test's session, if the system knows one: it is the person then.
fn person(otherwise: &str) -> String {
    let own = nix::unistd::geteuid().as_raw();
    let login = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|uid| uid.trim().parse::<u32>().ok());
    match login.filter(|login| ![own, u32::MAX, 65_534].contains(login)) {
        Some(login) => {
            let name = |uid| doorman::ops::control::peer::account(uid);
            format!("{} (as {})", name(login), name(own))
        }
        None => otherwise.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_names_the_person_and_what_they_noted() {
    let site = site("").await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    decided(&site).await;
    let own = doorman::ops::control::peer::account(nix::unistd::geteuid().as_raw());

    let mut approve = site.command(&["approve", "@bob", "--note", "she called: \u{1b}[2J ok"]);
    assert!(approve.env("SUDO_USER", "ann").output().await.unwrap().status.success());
    let row = on_record(&site, "r-1").await;
    let sudo = if own == "root" { "ann (as root)".to_owned() } else { format!("ann (claimed by {own})") };
    assert_eq!(row["by"], format!("person:{}", person(&sudo)));
    assert_eq!(row["note"], "she called: \u{1b}[2J ok");
    let (_, out, _) = site.cli(&["explain", "@bob"]).await;
    assert!(out.contains("\nnote: she called: \\u{1b}[2J ok\n"), "{out}");
    let (_, out, _) = site.cli(&["history"]).await;
    assert!(out.contains("[note: she called: \\u{1b}[2J ok]"), "{out}");

    let claimed = format!("person:eve (claimed by {})", person(&own).replace(['(', ')'], ""));
    assert_eq!(site.cli(&["reject", "@carol", "--as", "eve"]).await.0, 0);
    assert_eq!((on_record(&site, "r-2").await)["by"], claimed);
    // A hold, and then the answer of another person.
    assert_eq!(site.cli(&["hold", "@dave", "--as", "eve", "--note", "ask zoe"]).await.0, 0);
    assert_eq!((on_record(&site, "r-3").await)["note"], "ask zoe");
    assert_eq!(site.cli(&["approve", "@dave"]).await.0, 0);
    assert_eq!((on_record(&site, "r-3").await)["note"], Value::Null);

    // A removed contact is shown with the person who removed it.
    let contacts = || async { site.cli(&["contacts", "--json"]).await.1 };
    while !contacts().await.contains("bob") {
        tokio::task::yield_now().await;
    }
    let (code, _, err) = site.cli(&["revoke", "@bob", "--yes", "--as", "eve", "--note", "spam"]).await;
    assert_eq!(code, 0, "{err}");
    let mut row = on_record(&site, "r-1").await;
    while row["removed"].is_null() {
        tokio::task::yield_now().await;
        row = on_record(&site, "r-1").await;
    }
    assert_eq!((&row["removed"]["by"], &row["removed"]["note"]), (&claimed.into(), &"spam".into()));
    let (_, out, _) = site.cli(&["explain", "r-1"]).await;
    assert!(out.contains("the contact was removed by eve (claimed by ") && out.contains(", note: spam\n"), "{out}");

    // A text that could be mistaken for doorman's own words is refused before anything is done.
    for (option, text) in [("--as", "ann (as root)"), ("--as", ""), ("--note", " ")] {
        assert_eq!(site.cli(&["reject", "@erin", option, text]).await.0, 2, "{option} {text}");
    }
    assert_eq!(site.control.state().requests.iter().filter(|one| one.status == SandboxStatus::Pending).count(), 1);
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_for_reading_reads_and_does_nothing_else() {
    let group = nix::unistd::Group::from_gid(nix::unistd::getegid()).unwrap().unwrap().name;
    let site = site(&format!("group = \"{group}\"\nread_group = \"{group}\"\n")).await;
    // A group can reach a socket only through directories that it may pass through.
    let directory = site.path("doorman.toml").parent().unwrap().to_owned();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o711)).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    decided(&site).await;
    let (code, out, err) = site.cli(&["config", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("control.read_group"), "{out}");
    let control = site.path("doorman.sock");
    let read = control.with_file_name("read.sock");
    for path in [&control, &read] {
        let found = std::fs::metadata(path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o660, nix::unistd::getegid().as_raw()), "{path:?}");
    }
    let read = read.to_str().unwrap();
    for command in ["status", "pending", "doubts", "health"] {
        let (code, _, err) = site.cli(&[command, "--socket", read]).await;
        assert_eq!(code, 0, "{command}: {err}");
    }
    for command in [
        &["approve", "@bob"][..],
        &["reject", "@bob"],
        &["hold", "@bob"],
        &["settle", "@bob", "removed"],
        &["pause"],
        &["resume"],
        &["reload", "--wait"],
        &["reload"],
    ] {
        let (code, _, err) = site.cli(&[command, &["--socket", read]].concat()).await;
        assert!(code == 1 && err.contains("you may only read here"), "{command:?} {code}: {err}");
    }
    assert!(site.control.state().requests.iter().all(|request| request.status == SandboxStatus::Pending));
    let (_, out, _) = site.cli(&["status", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["agents"][0]["paused"], false);
    daemon.stop().await.unwrap();
    assert!(!control.exists() && !std::path::Path::new(read).exists());
}
