//! Other clients of the same agent: the agent itself, through the official client; our own ghost; another doorman.

use std::net::SocketAddr;

use doorman::sandbox::wire::Connect;
use doorman::sandbox::{Control, Fault, FaultAction, FaultPlace, SandboxOptions};
use tokio::task::JoinHandle;

use super::checks::{all_decided, live_again, nothing_lost_nothing_twice, nothing_twice};
use super::daemon::Daemon;
use super::site::{AGENT, KEY, Site};
use crate::sandbox::harness::Client;

/// Such a long time between listings that only pushed requests can be answered in between.
const PUSHED_ONLY: &str = "list_live = \"1h\"\n";
/// Limits long enough that a busy machine ends no connection: in these tests every end has a meaning.
const PATIENT: &str = "dead_after = \"60s\"\njoin_timeout = \"60s\"\n";

/// The agent's own connection, as the official client makes it: it joins its channels and stays.
struct Agent(JoinHandle<Option<u16>>);

impl Agent {
    /// By default the official client takes the connection; with `reject` it asks first, as a first connect may.
    async fn connect(address: SocketAddr, on_conflict: &str) -> Result<Self, u16> {
        let query = format!("vsn=2.0.0&agent_id={AGENT}{on_conflict}");
        let mut client = Client::connect(address, &query, Some(KEY)).await.map_err(|(status, _)| status)?;
        client.say(&format!(r#"["1","1","agent_control:{AGENT}","phx_join",{{}}]"#)).await;
        client.say(&format!(r#"["2","2","agent_contacts:{AGENT}","phx_join",{{}}]"#)).await;
        client.until(|frame| frame.starts_with(r#"["2","2","#)).await;
        Ok(Self(tokio::spawn(async move { client.end().await })))
    }

    fn is_connected(&self) -> bool {
        !self.0.is_finished()
    }

    /// Ends without a close frame, as a process that dies.
    async fn leave(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

const REJECT: &str = "&on_conflict=reject";
const SUPERSEDE: &str = "&on_conflict=supersede";

/// The daemon's own connects; the other clients in these tests make none that match.
fn connects(control: &Control, of: impl Fn(&Connect) -> bool) -> usize {
    control.overview().connects.iter().filter(|connect| of(connect)).count()
}

/// Sends requests; the next round of listing answers them. A round has at most three passes, and begins 30 s ± 20 %
/// after the one before, so that takes at most 45 s.
async fn answered_by_the_next_listing(site: &Site, daemon: &Daemon, batch: &str) {
    let passes = |control: &Control| -> Vec<u64> {
        control.overview().lists.into_iter().filter(|list| list.page == 1).map(|list| list.at_us).collect()
    };
    let before = passes(&site.control).len();
    site.ask(batch, 2, true);
    site.until("all decided", all_decided).await.unwrap_or_else(|why| panic!("{why}\n{}", daemon.tail(25)));
    let answers = site.control.state().requests.into_iter().filter(|request| request.id.starts_with(batch));
    let last = answers.flat_map(|request| request.answers).map(|answer| answer.at_us).max().unwrap();
    let since: Vec<u64> = passes(&site.control)[before..].iter().copied().filter(|at| *at <= last).collect();
    // One more pass may have been running when the requests came.
    assert!((1..=4).contains(&since.len()), "{since:?}\n{}", daemon.tail(25));
}

/// The default mode. The agent's client takes the connection by default. doorman yields, answers by listing, asks for
/// the socket without ever taking it, and gets it back after the agent has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn yield_gives_way_and_comes_back() {
    let site = Site::start().await;
    site.configure(site.address, "", &format!("{PATIENT}{PUSHED_ONLY}list_away = \"700ms\"\n"));
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    for (turn, on_conflict) in ["", SUPERSEDE].into_iter().enumerate() {
        let agent = Agent::connect(site.address, on_conflict).await.unwrap_or_else(|status| panic!("{status}"));
        daemon.stands("yielded").await.unwrap();
        let refused = connects(&site.control, |connect| connect.status == 409);
        answered_by_the_next_listing(&site, &daemon, &format!("{turn}-away")).await;
        let tried = |control: &Control| connects(control, |connect| connect.status == 409) > refused + 3;
        site.until("doorman asks for the socket", tried).await.unwrap();
        assert!(agent.is_connected(), "the agent was thrown off");
        agent.leave().await;
        daemon.stands("live").await.unwrap();
        live_again(&site, &daemon, &format!("{turn}-back")).await.unwrap();
    }
    let polite = |connect: &Connect| connect.on_conflict.as_deref() == Some("reject");
    assert_eq!(connects(&site.control, |connect| !polite(connect)), 2, "the agent's two, and none of doorman's");
    daemon.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// An agent that was there first is not disturbed, not even for a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn yield_never_takes_the_connection_from_an_agent_that_has_it() {
    let site = Site::start().await;
    let agent = Agent::connect(site.address, REJECT).await.unwrap_or_else(|status| panic!("{status}"));
    let daemon = site.daemon();
    daemon.stands("yielded").await.unwrap();
    answered_by_the_next_listing(&site, &daemon, "away").await;
    assert!(agent.is_connected());
    agent.leave().await;
    daemon.stands("live").await.unwrap();
    live_again(&site, &daemon, "back").await.unwrap();
    daemon.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// `take` takes the connection from any client. If a client takes it back each time, doorman stops after three losses,
/// says so, and does not disturb that client for a while; requests in that time are answered by listing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn take_takes_and_does_not_fight_for_long() {
    let site = Site::start().await;
    site.configure(site.address, "connection = \"take\"", &format!("{PATIENT}yield_retry = \"1h\"\n"));
    let first = Agent::connect(site.address, REJECT).await.unwrap_or_else(|status| panic!("{status}"));
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    assert_eq!(first.0.await.unwrap(), Some(1000), "the agent had to go");
    for loss in 1..=3 {
        let agent = Agent::connect(site.address, SUPERSEDE).await.unwrap_or_else(|status| panic!("{status}"));
        if loss < 3 {
            assert_eq!(agent.0.await.unwrap(), Some(1000), "doorman takes it back");
            daemon
                .until("live again", |lines| lines.iter().filter(|line| line["state"] == "live").count() > loss)
                .await
                .unwrap();
            continue;
        }
        daemon.stands("yielded").await.unwrap();
        answered_by_the_next_listing(&site, &daemon, "away").await;
        assert_eq!(daemon.count("connection_fight"), 1, "{}", daemon.tail(25));
        assert!(agent.is_connected());
    }
    daemon.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// `poll` never opens a socket, so that an agent can connect that refuses to replace another connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poll_leaves_the_socket_alone() {
    let site = Site::start().await;
    site.configure(site.address, "connection = \"poll\"", &format!("{PATIENT}list_away = \"700ms\"\n"));
    let daemon = site.daemon();
    daemon.stands("polling").await.unwrap();
    answered_by_the_next_listing(&site, &daemon, "before").await;
    let agent = Agent::connect(site.address, REJECT).await.unwrap_or_else(|status| panic!("{status}"));
    answered_by_the_next_listing(&site, &daemon, "with").await;
    assert!(agent.is_connected());
    agent.leave().await;
    // It reconnects like the official client: only the first connect asks.
    let agent = Agent::connect(site.address, SUPERSEDE).await.unwrap_or_else(|status| panic!("{status}"));
    answered_by_the_next_listing(&site, &daemon, "after").await;
    assert!(agent.is_connected());
    assert_eq!(site.control.overview().connects.len(), 2, "doorman opened a socket");
    daemon.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// The daemon does not mistake its own ghost connection for the agent. It retries at the documented interval (15 to 20
/// s), and the first attempt after the ghost's end succeeds, so at most 20 s later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_own_ghost_is_outwaited() {
    let site = Site::start().await;
    let timing = "ghost_retry = \"150ms\"\nghost_window = \"1m\"\nyield_retry = \"1h\"\n";
    site.configure(site.address, "", &format!("{PATIENT}{timing}"));
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    site.control.fault(Fault::new(FaultPlace::Heartbeat, FaultAction::Ghost).ms(1500)).unwrap();
    daemon.stands("away").await.unwrap();
    site.ask("meanwhile", 3, true);
    daemon.stands("live").await.unwrap();
    live_again(&site, &daemon, "after").await.unwrap();
    let waits: Vec<f64> = (daemon.lines().iter())
        .filter(|line| {
            line["event"] == "reconnect" && line["why"].as_str().is_some_and(|why| why.contains("still count"))
        })
        .filter_map(|line| line["why"].as_str()?.strip_prefix("trying again in ")?.split(' ').next()?.parse().ok())
        .collect();
    assert!(!waits.is_empty(), "{waits:?}\n{}", daemon.tail(40));
    // The log shows tenths of a second.
    assert!(waits.iter().all(|wait| (0.1..=0.2).contains(wait)), "{waits:?}");
    let tries: Vec<u16> = site.control.overview().connects.into_iter().map(|connect| connect.status).collect();
    assert_eq!(tries.iter().filter(|status| **status == 101).count(), 2, "{tries:?}");
    assert_eq!(tries.last(), Some(&101));
    assert!(!daemon.lines().iter().any(|line| line["state"] == "yielded"), "it yielded to its own ghost");
    daemon.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// A platform that ignores `on_conflict` and does not say who took the connection: after three short connections
/// doorman knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_platform_is_known_by_its_closes() {
    let site = Site::of(SandboxOptions { older: true, ..SandboxOptions::default() }).await;
    site.configure(site.address, "", &format!("{PATIENT}yield_retry = \"1h\"\nproven_after = \"60s\"\n"));
    let daemon = site.daemon();
    for turn in 1..=3 {
        daemon
            .until("live again", |lines| lines.iter().filter(|line| line["state"] == "live").count() >= turn)
            .await
            .unwrap();
        let agent = Agent::connect(site.address, "").await.unwrap_or_else(|status| panic!("{status}"));
        if turn < 3 {
            assert_eq!(agent.0.await.unwrap(), Some(1000), "this platform lets the last one win");
        } else {
            daemon.stands("yielded").await.unwrap();
            answered_by_the_next_listing(&site, &daemon, "away").await;
            assert!(agent.is_connected(), "the agent was thrown off again");
        }
    }
    assert_eq!(site.control.overview().connects.len(), 6);
    daemon.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// Two daemons, each with its own ledger: one has the socket, both answer, and no request is answered twice. When the
/// first one ends, the second gets the socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_doormen_do_no_harm() {
    for connection in ["connection = \"yield\"", "connection = \"take\""] {
        let site = Site::start().await;
        let other = site.beside();
        for site in [&site, &other] {
            site.configure(site.address, connection, "");
        }
        let first = site.daemon();
        first.stands("live").await.unwrap();
        let second = other.daemon();
        let loser = match connection.contains("take") {
            true => &first,
            false => &second,
        };
        for turn in 0..5 {
            site.ask(&format!("{turn}"), 30, turn % 2 == 0);
            site.until("all decided", all_decided).await.unwrap();
        }
        loser.stands("yielded").await.unwrap();
        for daemon in [&first, &second] {
            let bad = |line: &&serde_json::Value| line["level"] == "error" && line["event"] != "key_refused";
            assert_eq!(daemon.lines().iter().find(bad), None);
        }
        if connection.contains("yield") {
            first.stop().await.unwrap();
            live_again(&site, &second, "after").await.unwrap();
        } else {
            first.stop().await.unwrap();
        }
        second.stop().await.unwrap();
        // Both may send the same answer at the same time: the platform accepts one, and refuses the other.
        nothing_twice(&site, true).unwrap();
    }
}
