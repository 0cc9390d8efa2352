//! Answers by a link in a message: what the link allows, how often, and who is recorded as the person.

use std::os::unix::fs::PermissionsExt;

use super::{PageRoute, ask, page, recorded};
use crate::faults::daemon::Daemon;
use crate::faults::site::{Site, TIME};

const URL: (&str, &str) = ("DOORMAN_PAGE_URL", "http://doorman.example");

/// A site whose target writes each message into a file, with these lines in its table.
async fn notified(more: &str) -> (Site, Daemon, PageRoute) {
    let site = Site::start().await;
    let script = site.path("tell");
    std::fs::write(&script, format!("#!/bin/sh\ncat >> {0}\necho >> {0}\n", site.path("told").display())).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
    let config = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    let table = format!(
        "\n[[notify]]\nname = \"ops\"\nkind = \"command\"\ncommand = [\"{}\"]\nevents = [\"deferred\"]\nevery = \"1s\"\n{more}\n",
        script.display()
    );
    std::fs::write(site.path("doorman.toml"), config + &table).unwrap();
    let (daemon, way) = page(&site, &[URL]).await;
    ask(&site, "r-1", "carol", "Carol", "may I?");
    (site, daemon, way)
}

/// The links in the messages so far, as paths.
async fn links(site: &Site, count: usize) -> Vec<String> {
    let wait = async {
        loop {
            let text = std::fs::read_to_string(site.path("told")).unwrap_or_default();
            let found: Vec<String> = text
                .split("http://doorman.example")
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
                .filter(|path| path.starts_with("/r/"))
                .map(str::to_owned)
                .collect();
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIME, wait).await.expect("the message arrives")
}

/// Waits until the page behind a link offers something.
async fn offered(way: &PageRoute, link: &str) -> String {
    let wait = async {
        loop {
            let answer = way.get(link).await;
            if answer.code == 200 {
                return answer.body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIME, wait).await.expect("the board knows the request")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_answers_once_and_looking_at_it_does_nothing() {
    let (site, daemon, way) = notified("reply = \"link\"").await;
    let link = links(&site, 1).await.remove(0);
    for _ in 0..20 {
        let shown = offered(&way, &link).await;
        assert!(shown.contains("carol") && shown.contains("no rule matches"), "{shown}");
        assert!(shown.contains(">Reject<") && shown.contains(">Hold<") && !shown.contains(">Approve<"), "{shown}");
        assert!(!shown.contains("may I?"), "with `text = \"handle\"` the message is not shown: {shown}");
    }
    let head = way.asking("HEAD", &link).send().await;
    assert!(head.code == 200 && site.control.counts().pending == 1, "looking is not acting");
    let say = |word: &'static str| way.form(&link, &[("say", word)]);
    assert_eq!(say("approve").send().await.code, 403, "approve was not written out");
    assert_eq!(say("dance").send().await.code, 400);
    assert_eq!(say("reject").with("origin", "http://evil.example").send().await.code, 403);
    assert_eq!(say("reject").without("origin").without("sec-fetch-site").send().await.code, 403);
    assert_eq!(site.control.counts().pending, 1);
    let (one, other) = tokio::join!(say("reject").send(), say("reject").send());
    let mut codes = [one.code, other.code];
    codes.sort_unstable();
    assert_eq!(codes, [200, 410], "{one:?} {other:?}");
    let late = say("hold").send().await;
    assert!(late.code == 410 && late.body.contains("this link was used at"), "{late:?}");
    assert_eq!(way.get(&link).await.code, 410);
    let line = recorded(&site, "r-1").await;
    assert_eq!((line["verdict"].as_str(), line["by"].as_str()), (Some("reject"), Some("person:link.ops")));
    let secret = link.trim_start_matches("/r/").to_owned();
    for file in ["ledger.db", "ledger.db-wal", "page-replies.json"] {
        let bytes = std::fs::read(site.path(file)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "the link is in {file}");
    }
    let lines = daemon.stop().await.unwrap();
    assert_eq!(lines.iter().filter(|line| line["event"] == "reply_used").count(), 1);
    assert!(lines.iter().all(|line| !line.to_string().contains(&secret)), "the log has no link");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_approves_only_if_that_was_written_out_and_lasts_over_a_restart() {
    let (site, daemon, way) = notified("reply = \"link\"\nreply_may = [\"approve\"]\ntext = \"none\"").await;
    let link = links(&site, 1).await.remove(0);
    let shown = offered(&way, &link).await;
    assert!(shown.contains(">Approve<") && !shown.contains(">Reject<") && !shown.contains("carol"), "{shown}");
    daemon.stop().await.unwrap();
    let (daemon, way) = page(&site, &[URL]).await;
    offered(&way, &link).await;
    assert_eq!(way.form(&link, &[("say", "reject")]).send().await.code, 403);
    let done = way.form(&link, &[("say", "approve")]).send().await;
    assert!(done.code == 200 && !done.body.contains("carol"), "{done:?}");
    assert_eq!(recorded(&site, "r-1").await["by"], "person:link.ops");
    daemon.stop().await.unwrap();
    // A used link stays used after a restart.
    let (daemon, way) = page(&site, &[URL]).await;
    assert_eq!(way.form(&link, &[("say", "approve")]).send().await.code, 410);
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_settled_meanwhile_and_a_link_of_nobody_say_so() {
    let (site, daemon, way) = notified("reply = \"link\"").await;
    let link = links(&site, 1).await.remove(0);
    assert_eq!(site.cli(&["approve", "r-1"]).await.0, 0);
    let late = way.form(&link, &[("say", "reject")]).send().await;
    assert!(late.code == 410, "{late:?}");
    assert_eq!(recorded(&site, "r-1").await["verdict"], "approve");
    let mut codes = Vec::new();
    for n in 0..102 {
        codes.push(way.get(&format!("/r/{n:064x}")).await.code);
    }
    assert!(codes[..100].iter().all(|code| *code == 410) && codes[101] == 429, "{codes:?}");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_no_links_unless_somebody_wants_them() {
    let (site, daemon, _) = notified("").await;
    daemon.said("message_sent", 1).await.unwrap();
    assert!(!std::fs::read_to_string(site.path("told")).unwrap().contains("/r/"));
    assert!(!site.path("page-replies.json").exists());
    daemon.stop().await.unwrap();
}
