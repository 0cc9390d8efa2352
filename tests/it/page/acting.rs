//! Actions on the page: who may do them, from where, and their results.

use super::{PageReply, PageRoute, ask, field, page, recorded, until};
use crate::faults::site::{AGENT, Site};

const ACT: (&str, &str) = ("DOORMAN_PAGE_ACT", "true");

/// A site whose page can act over a socket, and a pending request.
macro_rules! acting {
    ($site:ident, $daemon:ident, $way:ident, $form:ident) => {
        let $site = Site::start().await;
        let socket = $site.path("page.sock").display().to_string();
        let ($daemon, $way) = page(&$site, &[ACT, ("DOORMAN_PAGE_SOCKET", &socket)]).await;
        ask(&$site, "r-1", "carol", "Carol", "may I?");
        let pending = until(&$way, "/pending", "carol", |page| page.contains("carol")).await;
        let $form = field(&pending, "form");
    };
}

fn me() -> String {
    doorman::ops::control::peer::account(nix::unistd::geteuid().as_raw())
}

fn wait_is(site: &Site) -> bool {
    site.control.counts().pending == 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_acts_by_default_and_nobody_acts_unknown() {
    for (variables, why) in [(&[][..], "nobody acts on this page"), (&[ACT][..], "nobody knows who you are")] {
        let site = Site::start().await;
        let (daemon, way) = page(&site, variables).await;
        ask(&site, "r-1", "carol", "Carol", "may I?");
        let pending = until(&way, "/pending", "carol", |page| page.contains("carol")).await;
        assert!(!pending.contains("<button"), "{pending}");
        for word in ["approve", "reject", "hold"] {
            let path = format!("/requests/r-1/{word}");
            let answer = way.form(&path, &[("form", "1.2"), ("agent", AGENT), ("sure", "yes")]).send().await;
            assert!(answer.code == 403 && answer.body.contains(why), "{answer:?}");
        }
        assert!(wait_is(&site));
        daemon.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_approves_and_stands_on_record_and_who_comes_after_gets_that_answer() {
    acting!(site, daemon, way, form);
    let fields = [("form", form.as_str()), ("agent", AGENT)];
    // Two people, or one person who clicks twice: only the first action takes effect.
    let (one, other) = tokio::join!(
        way.form("/requests/r-1/approve", &fields).send(),
        way.form("/requests/r-1/approve", &fields).send()
    );
    let mut codes = [one.code, other.code];
    codes.sort_unstable();
    assert!(codes[0] == 200, "{one:?} {other:?}");
    until(&way, "/history", "approved", |page| page.contains(">approved<")).await;
    let late = way.form("/requests/r-1/reject", &[("form", &form), ("agent", AGENT), ("sure", "yes")]).send().await;
    assert!(late.code == 409 && late.body.contains("is already approved by"), "{late:?}");
    assert_eq!(recorded(&site, "r-1").await["by"], format!("person:{} via page", me()));
    assert_eq!(recorded(&site, "r-1").await["verdict"], "approve");
    assert!(!way.get("/pending").await.body.contains("carol"), "it is not offered again");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reject_is_asked_twice_and_a_hold_is_kept() {
    acting!(site, daemon, way, form);
    let fields = [("form", form.as_str()), ("agent", AGENT)];
    let held = way.form("/requests/r-1/hold", &fields).send().await;
    assert!(held.code == 200 && held.body.contains("is on hold"), "{held:?}");
    let asked = way.form("/requests/r-1/reject", &fields).send().await;
    assert!(asked.code == 200 && asked.body.contains("A reject is final"), "{asked:?}");
    assert!(wait_is(&site), "asking is not acting");
    let again = field(&asked.body, "form");
    let sure = way.form("/requests/r-1/reject", &[("form", &again), ("agent", AGENT), ("sure", "yes")]).send().await;
    assert!(sure.code == 200 && sure.body.contains("rejected @carol"), "{sure:?}");
    assert_eq!(recorded(&site, "r-1").await["verdict"], "reject");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_is_let_in_here_too_and_what_became_of_the_contact_is_shown() {
    acting!(site, daemon, way, form);
    ask(&site, "r-2", "dave", "Dave", "me, too?");
    let pending = until(&way, "/pending", "dave", |page| page.contains("dave")).await;
    assert!(pending.contains("<option value=\"7d\">for 7 days</option>"), "{pending}");
    let fields = |lasts| [("form", form.as_str()), ("agent", AGENT), ("for", lasts)];
    let bad = way.form("/requests/r-1/approve", &fields("9y")).send().await;
    assert!(bad.code == 400 && site.control.counts().pending == 2, "{bad:?}");
    let asked = way.form("/requests/r-2/reject", &fields("7d")).send().await;
    assert!(asked.body.contains("<h2>dave</h2>") && asked.body.contains("me, too?"), "whom, and what: {asked:?}");
    let done = way.form("/requests/r-1/approve", &fields("7d")).send().await;
    assert!(done.code == 200 && done.body.contains("the contact ends at"), "{done:?}");
    until(&way, "/contacts", "carol", |page| page.contains("carol")).await;
    let (request, history) = ("/requests/r-1", "/history");
    until(&way, request, "its end", |page| page.contains("let in for a time: the contact ends at")).await;
    until(&way, history, "its end", |page| page.contains(">ends 20")).await;
    let (code, _, err) = site.cli(&["approve", "@carol", "--for", "2h"]).await;
    assert_eq!(code, 0, "{err}");
    until(&way, request, "the other end", |page| page.contains(" moved the end of the contact to ")).await;
    until(&way, history, "the other end", |page| page.contains(", moved by ")).await;
    assert_eq!(site.cli(&["approve", "@carol"]).await.0, 0);
    until(&way, request, "no end", |page| page.contains(" lifted the end of the contact")).await;
    until(&way, history, "no end", |page| page.contains("stays: end lifted by ")).await;
    let (code, _, err) = site.cli(&["revoke", "@carol", "--yes"]).await;
    assert_eq!(code, 0, "{err}");
    until(&way, request, "the removal", |page| page.contains("the contact was removed by ")).await;
    until(&way, history, "the removal", |page| page.contains(">removed by ")).await;
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_from_elsewhere_does_nothing() {
    acting!(site, daemon, way, form);
    let fields = [("form", form.as_str()), ("agent", AGENT)];
    let asking = || way.form("/requests/r-1/approve", &fields);
    for (what, asking, code) in [
        ("another origin", asking().with("origin", "http://evil.example"), 403),
        ("another port of this machine", asking().with("origin", "http://localhost:9090"), 403),
        ("no origin at all", asking().without("origin").without("sec-fetch-site"), 403),
        ("an origin that is hidden", asking().with("origin", "null"), 403),
        ("a site beside", asking().with("sec-fetch-site", "same-site"), 403),
        ("two origins", asking().also("origin", "http://evil.example"), 403),
        ("plain text", asking().with("content-type", "text/plain"), 415),
        ("no type", asking().without("content-type"), 415),
        ("another name", asking().with("host", "evil.example").with("origin", "http://evil.example"), 421),
        ("no token", way.form("/requests/r-1/approve", &[("agent", AGENT)]), 403),
        ("a forged token", way.form("/requests/r-1/approve", &[("form", "1.00"), ("agent", AGENT)]), 403),
        ("a field twice", way.form("/requests/r-1/approve", &[("form", &form), ("form", "x"), ("agent", AGENT)]), 400),
        ("no agent", way.form("/requests/r-1/approve", &[("form", &form)]), 400),
        (
            "another agent",
            way.form("/requests/r-1/approve", &[("form", &form), ("agent", "b0000000-0000-4000-8000-000000000009")]),
            409,
        ),
        (
            "too long",
            way.form("/requests/r-1/approve", &[("form", &form), ("agent", AGENT), ("x", &"x".repeat(70_000))]),
            413,
        ),
        ("another verdict", way.form("/requests/r-1/dance", &fields), 404),
        ("a handle for an id", way.form("/requests/carol/approve", &fields), 409),
    ] {
        let answer = asking.send().await;
        assert_eq!(answer.code, code, "{what}: {answer:?}");
        assert!(wait_is(&site), "{what}");
    }
    let get = way.get("/requests/r-1/approve").await;
    assert!(get.code == 405 && wait_is(&site), "a link never acts");
    assert_eq!(asking().send().await.code, 200, "and the very same form from the page itself does");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_settled_meanwhile_says_so() {
    acting!(site, daemon, way, form);
    assert_eq!(site.cli(&["approve", "r-1"]).await.0, 0);
    until(&way, "/history", "approved", |page| page.contains(">approved<")).await;
    let asked = way.form("/requests/r-1/reject", &[("form", &form), ("agent", AGENT)]).send().await;
    assert!(asked.body.contains("<h2>carol</h2>") && asked.body.contains("may I?"), "from the record: {asked:?}");
    let late = way.form("/requests/r-1/approve", &[("form", &form), ("agent", AGENT)]).send().await;
    assert!(late.code == 409 && late.body.contains("is already approved by"), "{late:?}");
    daemon.stop().await.unwrap();
}

const SECRET: &str = "a-secret-between-proxy-and-page";

/// The reply to a browser that comes through the proxy, or to a client that claims to.
async fn through(way: &PageRoute, headers: &[(&str, &str)]) -> PageReply {
    let mut asking = way.asking("GET", "/pending");
    for (name, value) in headers {
        asking = asking.also(name, value);
    }
    asking.send().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_is_believed_only_from_the_proxy() {
    let site = Site::start().await;
    std::fs::write(site.path("page.proxy"), SECRET).unwrap();
    let directory = site.dir.path().display().to_string();
    let (daemon, way) = page(
        &site,
        &[
            ACT,
            ("DOORMAN_PAGE_IDENTITY", "proxy"),
            ("DOORMAN_PAGE_PROXY_SECRET_CREDENTIAL", "page.proxy"),
            ("CREDENTIALS_DIRECTORY", &directory),
        ],
    )
    .await;
    ask(&site, "r-1", "carol", "Carol", "may I?");
    let user = ("remote-user", "ann");
    let secret = ("x-doorman-proxy", SECRET);
    for headers in [
        &[][..],
        &[user],
        &[secret],
        &[user, ("x-doorman-proxy", "")],
        &[user, ("x-doorman-proxy", "another")],
        &[user, secret, secret],
        &[user, user, secret],
        &[("remote-user", "ann (as root)"), secret],
        &[("remote-user", ""), secret],
    ] {
        let answer = through(&way, headers).await;
        assert!(answer.code == 403 && !answer.body.contains("carol"), "{headers:?}: {answer:?}");
    }
    let shown = loop {
        let answer = through(&way, &[user, secret]).await;
        assert_eq!(answer.code, 200);
        if answer.body.contains("carol") {
            break answer.body;
        }
    };
    assert!(shown.contains("You are ann") && !shown.contains(SECRET), "{shown}");
    let form = field(&shown, "form");
    let click = |who: &'static str| {
        way.form("/requests/r-1/approve", &[("form", &form), ("agent", AGENT)])
            .also("remote-user", who)
            .also(secret.0, secret.1)
    };
    assert_eq!(click("bob").send().await.code, 403, "a form is for whom it was shown");
    assert!(wait_is(&site));
    assert_eq!(click("ann").send().await.code, 200);
    assert_eq!(recorded(&site, "r-1").await["by"], "person:ann via page");
    let lines = daemon.stop().await.unwrap();
    assert!(lines.iter().all(|line| !line.to_string().contains(SECRET)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_logs_one_person_in_once_and_lasts_over_a_restart() {
    let site = Site::start().await;
    let variables = [ACT, ("DOORMAN_PAGE_IDENTITY", "token")];
    let (daemon, way) = page(&site, &variables).await;
    ask(&site, "r-1", "carol", "Carol", "may I?");
    let stranger = way.get("/pending").await;
    assert!(stranger.code == 401 && stranger.body.contains("doorman page login"), "{stranger:?}");
    assert_eq!(site.cli(&["page", "login", "ann (as root)"]).await.0, 1);
    let (code, out, err) = site.cli(&["page", "login", "ann"]).await;
    assert!(code == 0 && err.contains("valid once"), "{out}{err}");
    let path = out.trim().split_once("//").unwrap().1.split_once('/').map(|(_, path)| format!("/{path}")).unwrap();
    for _ in 0..3 {
        let looked = way.get(&path).await;
        assert!(looked.code == 200 && looked.body.contains("Log in as ann"), "{looked:?}");
    }
    assert_eq!(way.form(&path, &[]).with("origin", "http://evil.example").send().await.code, 403);
    let entered = way.form(&path, &[]).send().await;
    assert_eq!(entered.code, 303, "{entered:?}");
    let cookie = entered.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(way.form(&path, &[]).send().await.code, 410, "used up");
    assert_eq!(way.get(&path).await.code, 410);
    let shown = way.asking("GET", "/pending").with("cookie", &cookie).send().await;
    assert!(shown.code == 200 && shown.body.contains("You are ann"), "{shown:?}");
    for forged in
        [format!("{cookie}0"), format!("{cookie}; {cookie}"), format!("doorman-page={}", path.replace("/login/", ""))]
    {
        assert_eq!(way.asking("GET", "/pending").with("cookie", &forged).send().await.code, 401, "{forged}");
    }
    let kept = std::fs::read_to_string(site.path("page-sessions.json")).unwrap();
    assert!(!kept.contains(cookie.split_once('=').unwrap().1), "{kept}");
    let lines = daemon.stop().await.unwrap();
    let secret = path.replace("/login/", "");
    assert!(lines.iter().all(|line| !line.to_string().contains(&secret)), "the log has no link");

    let (daemon, way) = page(&site, &variables).await;
    let shown = loop {
        let answer = way.asking("GET", "/pending").with("cookie", &cookie).send().await;
        assert_eq!(answer.code, 200, "still logged in");
        if answer.body.contains("carol") {
            break answer.body;
        }
    };
    let form = field(&shown, "form");
    let click =
        way.form("/requests/r-1/hold", &[("form", &form), ("agent", AGENT)]).with("cookie", &cookie).send().await;
    assert_eq!(click.code, 200, "{click:?}");
    let (code, out, _) = site.cli(&["page", "logout", "ann"]).await;
    assert!(code == 0 && out.contains("ended 1 "), "{out}");
    assert_eq!(way.asking("GET", "/pending").with("cookie", &cookie).send().await.code, 401);
    daemon.stop().await.unwrap();
}

/// A daemon in this process, with a page and this clock. What the page says of reasons is not asked for here.
async fn with_clock(site: &Site, identity: &str, clock: doorman::clock::Clock) -> (doorman::daemon::Daemon, PageRoute) {
    use std::io::Write as _;
    let path = site.path("doorman.toml");
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    write!(file, "[page]\nact = true\n{identity}\n").unwrap();
    let (env, overrides) = (doorman::config::Env::default(), doorman::config::Overrides::default());
    let loaded = doorman::config::load(Some(&path), &env, &overrides).unwrap();
    let words = doorman::page::PageWords {
        sentence: |answered| format!("answered: {answered:?}"),
        explain: |_, _, _, _, _| Err("not here".to_owned()),
    };
    let unattended = doorman::daemon::DaemonOptions::unattended(clock, 1, &path);
    let options = doorman::daemon::DaemonOptions { words: Some(words), ..unattended };
    let daemon = doorman::daemon::Daemon::start(loaded.settings, options).await.unwrap();
    let socket = site.path("page.sock");
    let listens = async {
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::faults::site::TIME, listens).await.unwrap();
    (daemon, PageRoute::Socket(socket))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_was_left_open_for_a_day_does_nothing_and_says_so() {
    let site = Site::start().await;
    let clock = doorman::clock::Clock::start();
    let (daemon, way) = with_clock(&site, "socket = \"page.sock\"", clock.clone()).await;
    ask(&site, "r-1", "carol", "Carol", "may I?");
    let opened = until(&way, "/pending", "carol", |page| page.contains("carol")).await;
    let form = field(&opened, "form");
    clock.set_skew(jiff::SignedDuration::from_hours(24));
    for (path, sure) in [("/requests/r-1/approve", ""), ("/requests/r-1/reject", "yes"), ("/requests/r-1/hold", "")] {
        let click = way.form(path, &[("form", &form), ("agent", AGENT), ("sure", sure)]).send().await;
        assert!(click.code == 403 && click.body.contains("this page was left open for too long"), "{path}: {click:?}");
        assert!(click.body.contains("open it again"), "{click:?}");
    }
    assert!(wait_is(&site), "nothing was done");
    // The way out that it names is one.
    let again = way.get("/pending").await;
    let form = field(&again.body, "form");
    let click = way.form("/requests/r-1/approve", &[("form", &form), ("agent", AGENT)]).send().await;
    assert_eq!(click.code, 200, "{click:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_yesterday_is_none_and_an_old_link_says_that_it_is_dead() {
    let site = Site::start().await;
    let clock = doorman::clock::Clock::start();
    let (daemon, way) = with_clock(&site, "identity = \"token\"\nsocket = \"page.sock\"", clock.clone()).await;
    let link = async || {
        let (code, out, err) = site.cli(&["page", "login", "ann"]).await;
        assert_eq!(code, 0, "{err}");
        let path = out.trim().split_once("/login/").unwrap().1.to_owned();
        format!("/login/{path}")
    };
    let entered = way.form(&link().await, &[]).send().await;
    let cookie = entered.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let unused = link().await;
    let shown = async || way.asking("GET", "/pending").with("cookie", &cookie).send().await;
    assert_eq!(shown().await.code, 200);
    clock.set_skew(jiff::SignedDuration::from_mins(11));
    assert_eq!((way.get(&unused).await.code, way.form(&unused, &[]).send().await.code), (410, 410));
    assert_eq!(shown().await.code, 200, "a login lasts longer");
    clock.set_skew(jiff::SignedDuration::from_hours(24));
    let late = shown().await;
    assert!(late.code == 401 && late.body.contains("doorman page login"), "{late:?}");
    daemon.stop().await;
}
