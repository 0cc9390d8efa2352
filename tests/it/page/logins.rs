//! Links for a login: each works once, whatever ends the daemon, and none leads to another process.

use super::{PageReply, PageRoute, page};
use crate::faults::site::{AGENT, Site};

const ACT: (&str, &str) = ("DOORMAN_PAGE_ACT", "true");
const TOKEN: (&str, &str) = ("DOORMAN_PAGE_IDENTITY", "token");

/// A link for ann, as a path.
async fn link(site: &Site) -> String {
    let (code, out, err) = site.cli(&["page", "login", "ann"]).await;
    assert_eq!(code, 0, "{out}{err}");
    format!("/{}", out.trim().splitn(4, '/').nth(3).unwrap())
}

/// The cookie of a login, as browsers send it.
fn cookie(entered: &PageReply) -> String {
    assert_eq!(entered.code, 303, "{entered:?}");
    entered.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

async fn shown(way: &PageRoute, cookie: &str) -> u16 {
    way.asking("GET", "/history").with("cookie", cookie).send().await.code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_link_stays_used_and_a_login_stays_though_the_daemon_is_killed_at_once() {
    let site = Site::start().await;
    for _ in 0..5 {
        let (daemon, way) = page(&site, &[ACT, TOKEN]).await;
        let link = link(&site).await;
        // Two uses at the same time: only one of them succeeds.
        let (one, other) = tokio::join!(way.form(&link, &[]).send(), way.form(&link, &[]).send());
        daemon.kill().await;
        let mut codes = [one.code, other.code];
        codes.sort_unstable();
        assert_eq!(codes, [303, 410], "{one:?} {other:?}");
        let cookie = cookie(if one.code == 303 { &one } else { &other });
        let (daemon, way) = page(&site, &[ACT, TOKEN]).await;
        assert_eq!(way.form(&link, &[]).send().await.code, 410, "used up before the kill");
        assert_eq!(shown(&way, &cookie).await, 200);
        assert_eq!(site.cli(&["page", "logout", "--all"]).await.0, 0);
        daemon.kill().await;
        let (daemon, way) = page(&site, &[ACT, TOKEN]).await;
        assert_eq!(shown(&way, &cookie).await, 401, "logged out before the kill");
        daemon.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_cannot_be_written_down_is_not_used_and_a_damaged_file_lets_nobody_in() {
    let site = Site::start().await;
    let (daemon, way) = page(&site, &[ACT, TOKEN]).await;
    let first = link(&site).await;
    let inside = cookie(&way.form(&link(&site).await, &[]).send().await);
    // A directory at the path makes every write fail.
    std::fs::create_dir(site.path("page-sessions.new")).unwrap();
    let refused = way.form(&first, &[]).send().await;
    assert!(refused.code == 503 && refused.body.contains("nobody is logged in"), "{refused:?}");
    assert!(!refused.headers.contains_key("set-cookie"));
    let (code, _, err) = site.cli(&["page", "login", "bob"]).await;
    assert!(code == 1 && err.contains("so there is none"), "{err}");
    let (code, _, err) = site.cli(&["page", "logout", "ann"]).await;
    assert!(code == 1 && err.contains("a restart would undo it"), "{err}");
    assert_eq!(shown(&way, &inside).await, 401, "and out all the same");
    std::fs::remove_dir(site.path("page-sessions.new")).unwrap();
    let again = link(&site).await;
    let inside = cookie(&way.form(&again, &[]).send().await);
    assert_eq!(shown(&way, &inside).await, 200);
    daemon.said("page_file", 3).await.unwrap();
    daemon.stop().await.unwrap();

    let whole = std::fs::read(site.path("page-sessions.json")).unwrap();
    std::fs::write(site.path("page-sessions.json"), &whole[..whole.len() / 2]).unwrap();
    let (daemon, way) = page(&site, &[ACT, TOKEN]).await;
    assert_eq!(shown(&way, &inside).await, 401);
    let lines = daemon.stop().await.unwrap();
    assert_eq!(lines.iter().filter(|line| line["event"] == "page_file").count(), 1, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_link_leads_to_a_port_that_somebody_else_holds() {
    let site = Site::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let daemon = site.daemon_with_env(&[], &[ACT, TOKEN, ("DOORMAN_PAGE_LISTEN", &at)]);
    daemon.said("page_refused", 1).await.unwrap();
    daemon.stands("live").await.unwrap();
    let (code, out, err) = site.cli(&["page", "login", "ann"]).await;
    assert!(code == 1 && out.is_empty(), "{out}");
    assert!(err.contains(&format!("the page is not served at {at}")) && err.contains("in use"), "{err}");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_turned_away_at_the_door_reads_what_to_do_and_is_led_nowhere_else() {
    let site = Site::start().await;
    let (daemon, way) = page(&site, &[ACT, TOKEN]).await;
    let nobody = format!("/login/{}", "0".repeat(64));
    for (path, code) in [("/pending", 401), (nobody.as_str(), 410)] {
        let answer = way.get(path).await;
        assert_eq!(answer.code, code);
        assert!(answer.body.contains("<code>doorman page login NAME</code>"), "{}", answer.body);
        assert!(!answer.body.contains("<a "), "each of these would turn them away, too: {}", answer.body);
    }
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_whose_file_is_deleted_or_replaced_is_made_again_and_said() {
    let site = Site::start().await;
    let path = site.path("page.sock");
    let (daemon, way) = page(&site, &[ACT, ("DOORMAN_PAGE_SOCKET", &path.display().to_string())]).await;
    for (times, replaced) in [(1, false), (2, true)] {
        std::fs::remove_file(&path).unwrap();
        let other = replaced.then(|| std::os::unix::net::UnixListener::bind(&path).unwrap());
        // Nothing listens there any more: the abandoned file is replaced.
        drop(other);
        daemon.said("page_remade", times).await.unwrap();
        let answer = way.get("/").await;
        assert!(answer.code == 200 && answer.body.contains(AGENT), "{answer:?}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // A file of another kind is not replaced, and the problem is reported once.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "dear diary").unwrap();
    daemon.said("page_refused", 1).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"dear diary");
    std::fs::remove_file(&path).unwrap();
    daemon.said("page_remade", 3).await.unwrap();
    assert_eq!(way.get("/").await.code, 200);
    assert_eq!(daemon.count("page_refused"), 1);
    daemon.stop().await.unwrap();
    assert!(!path.exists());
}
