//! Reading the page: what it shows, whatever strangers wrote, and who is refused.

use super::{PageRoute, ask, page, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::faults::site::{AGENT, Site, TIME};

const HOSTILE: [&str; 5] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'; </textarea></style><style>*{display:none}",
    "\u{202e}evil\u{0}\u{7}\n\r\u{1b}[2J",
    "&lt;b&gt; {{ 7 * 7 }} {% include x %} javascript:alert(1)",
];

/// A tag without its quoted texts, and without the text after it.
fn bare(tag: &str) -> String {
    tag.split('"').step_by(2).collect::<String>().split('>').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_shows_what_is_and_nothing_that_strangers_wrote_is_markup() {
    let site = Site::start().await;
    let (daemon, way) = page(&site, &[]).await;
    site.ask("one", 3, true);
    for (n, text) in HOSTILE.iter().enumerate() {
        ask(&site, &format!("h-{n}"), text, text, text);
    }
    let pending = until(&way, "/pending", "six wait", |page| page.matches("<article").count() == 6).await;
    assert!(pending.contains("strangers/1") && pending.contains("no rule matches"), "{pending}");
    assert!(!pending.contains("<form"), "nobody acts by default: {pending}");
    let agents = until(&way, "/", "six decided", |page| page.contains("6 left to a person")).await;
    assert!(agents.contains("hotel/porter") && agents.contains(">live<") && agents.contains("<svg"), "{agents}");
    // Counts are cached for half a minute, so the chart is read before.
    let history =
        until(&way, "/history", "all settled", |page| page.contains(">approved<") && page.contains(">rejected<")).await;
    let rules = until(&way, "/rules", "both rules", |page| page.contains("friends") && page.contains("foes")).await;
    assert!(rules.contains("enforce"), "{rules}");
    let contacts = until(&way, "/contacts", "friends", |page| page.contains("friends/")).await;
    let request = until(&way, "/requests/h-0", "it", |page| page.contains("Now, by the rules in force")).await;
    assert!(request.contains("It is pending") && request.contains(">Then<"), "{request}");
    let plain = way.get("/requests/one-strangers-1").await.body;
    assert!(plain.contains("2 that did not match"), "{plain}");
    let style = way.get("/assets/style.css").await;
    assert_eq!((style.code, style.headers["content-type"].to_str().unwrap()), (200, "text/css; charset=utf-8"));
    for text in [&pending, &agents, &history, &rules, &contacts, &request] {
        for bad in [
            "<script",
            "<img",
            "onerror=alert(1)>",
            "<style",
            "</textarea",
            "style=",
            "\u{202e}",
            "\u{1b}",
            "\u{0}",
            " on",
            "49",
        ] {
            let found = match bad {
                // An attribute would follow a tag's name.
                " on" => text.split('<').skip(1).any(|tag| bare(tag).contains(" on")),
                "49" => text.contains("{{") && text.contains(">49<"),
                bad => text.contains(bad),
            };
            assert!(!found, "{bad} in {text}");
        }
    }
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_has_its_headers_and_nothing_is_kept_or_framed() {
    let site = Site::start().await;
    let (daemon, way) = page(&site, &[]).await;
    for path in ["/", "/pending", "/history", "/rules", "/contacts", "/nowhere", "/requests/none", "/login/x"] {
        let answer = way.get(path).await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        for part in
            ["default-src 'none'", "style-src 'self'", "img-src 'self'", "form-action 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("script") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        assert!(
            !answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("access-control-allow-origin")
        );
        assert!(!answer.body.contains("<script"), "{path}");
    }
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_by_another_name_is_turned_away_and_that_is_logged_once() {
    let site = Site::start().await;
    let (daemon, way) = page(&site, &[("DOORMAN_PAGE_URL", "https://doorman.example.org")]).await;
    for host in ["evil.example", "localhost.evil.example:80", "doorman.example.org:9", "127.0.0.2", "@localhost"] {
        let answer = way.asking("GET", "/pending").with("host", host).send().await;
        assert_eq!(answer.code, 421, "{host}");
        assert!(!answer.body.contains("<article"));
    }
    for host in ["doorman.example.org", "localhost", "127.0.0.1:1", "[::1]:1"] {
        assert_eq!(way.asking("GET", "/pending").with("host", host).send().await.code, 200, "{host}");
    }
    assert_eq!(way.asking("GET", "/").with("host", "localhost").also("host", "localhost").send().await.code, 400);
    assert_eq!(way.asking("DELETE", "/").send().await.code, 405);
    assert_eq!(way.asking("OPTIONS", "/").with("origin", "http://evil.example").send().await.code, 405);
    assert_eq!(way.get(&format!("/requests/{}", "x".repeat(200))).await.code, 404);
    assert_eq!(way.get("/history?page=999999999999999999999").await.code, 200);
    let lines = daemon.stop().await.unwrap();
    let warned = lines.iter().filter(|line| line["event"] == "page_denied" && line["level"] == "warn").count();
    assert_eq!(warned, 3, "once for each reason: {lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_reported_and_stops_nothing() {
    let site = Site::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = site.daemon_with_env(&[], &[("DOORMAN_PAGE_LISTEN", &taken.local_addr().unwrap().to_string())]);
    daemon.said("page_refused", 1).await.unwrap();
    daemon.stands("live").await.unwrap();
    site.ask("one", 1, true);
    site.until("both are answered", |control| control.counts().pending == 1).await.unwrap();
    assert_eq!(daemon.count("page_refused"), 1);
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_or_too_much_are_in_nobodys_way() {
    let site = Site::start().await;
    let (daemon, way) = page(&site, &[]).await;
    let PageRoute::Port(address) = &way else { unreachable!() };
    let mut idle = Vec::new();
    for _ in 0..30 {
        idle.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(way.get("/pending").await.code, 200);
    // It is refused, or the connection ends before all of it was sent.
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let long = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(80 * 1024));
    let _ = stream.write_all(long.as_bytes()).await;
    let mut said = Vec::new();
    let _ = tokio::time::timeout(TIME, stream.read_to_end(&mut said)).await.unwrap();
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&said));
    drop(idle);
    assert_eq!(way.get("/").await.code, 200);
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_of_its_own_knows_who_looks_and_is_gone_at_the_end() {
    let site = Site::start().await;
    let socket = site.path("page.sock").display().to_string();
    let (daemon, way) = page(&site, &[("DOORMAN_PAGE_SOCKET", &socket)]).await;
    let me = doorman::ops::control::peer::account(nix::unistd::geteuid().as_raw());
    let agents = way.get("/").await;
    assert!(
        agents.code == 200 && agents.body.contains(&format!("You are {me}")) && agents.body.contains(AGENT),
        "{agents:?}"
    );
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(site.path("page.sock")).unwrap().permissions().mode() & 0o777, 0o600);
    daemon.stop().await.unwrap();
    assert!(!site.path("page.sock").exists());
}
