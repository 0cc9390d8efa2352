//! A wall clock that jumps. The daemon runs in this process, since only here it can be given a clock of its own.

use doorman::agent::Notice;
use doorman::clock::Clock;
use doorman::daemon::Daemon;
use doorman::sandbox::{NewRequest, SandboxStatus};
use jiff::SignedDuration;
use tokio::time::timeout;

use super::daemon::{Notices, here};
use super::site::{AGENT, Site, TIME};

const RULES: &str = r#"version = 1
[rules.friends]
then = "approve"
when = { handle = "friends/*" }
limit = { count = 3, per = "1h" }
[rules.slow]
then = "approve"
when = { handle = "slow/*" }
wait = "1h"
[rules.foes]
then = "reject"
when = { handle = "foes/*" }
"#;

struct Doorman {
    site: Site,
    clock: Clock,
    daemon: Daemon,
    notices: Notices,
}

impl Doorman {
    async fn start(site: Site, skew: SignedDuration) -> Self {
        let clock = Clock::start();
        clock.set_skew(skew);
        let (daemon, notices) = here(&site.path("doorman.toml"), clock.clone()).await;
        Self { site, clock, daemon, notices }
    }

    async fn until(&mut self, so: impl Fn(&Notice) -> bool) {
        let wait = async { while !so(&self.notices.recv().await.unwrap().1) {} };
        timeout(TIME, wait).await.expect("it was never reported");
    }

    /// Sends a request, and returns after it is decided.
    async fn ask(&mut self, handle: &str) {
        self.site.control.request(&NewRequest::to(AGENT).from(handle).id(handle)).unwrap();
        self.until(|notice| matches!(notice, Notice::Decided { request, .. } if request.id.as_str() == handle)).await;
    }

    /// Sends a request that is rejected at any time, and returns after it is rejected. Everything that was due before
    /// is then done.
    async fn send_away(&mut self, handle: &str) {
        self.site.control.request(&NewRequest::to(AGENT).from(handle).id(handle)).unwrap();
        self.until(|notice| matches!(notice, Notice::Answered { request, .. } if request.id.as_str() == handle)).await;
    }

    fn approved(&self) -> Vec<String> {
        let requests = self.site.control.state().requests.into_iter();
        requests.filter(|request| request.status == SandboxStatus::Approved).map(|request| request.id).collect()
    }
}

/// No jump, in either direction, opens a limit or ends a wait. Requests whose decision does not depend on time are
/// answered throughout.
#[tokio::test]
async fn a_clock_that_jumps_lets_nobody_in() {
    let site = Site::start().await;
    std::fs::write(site.path("rules.toml"), RULES).unwrap();
    let mut doorman = Doorman::start(site, SignedDuration::ZERO).await;
    doorman.ask("slow/a").await;
    for handle in ["friends/1", "friends/2", "friends/3", "friends/4"] {
        doorman.ask(handle).await;
    }
    doorman.send_away("foes/0").await;
    let let_in = ["friends/1", "friends/2", "friends/3"];
    assert_eq!(doorman.approved(), let_in);
    for (turn, hours) in [2, -2, 30 * 24, -30 * 24].into_iter().enumerate() {
        doorman.clock.set_skew(SignedDuration::from_hours(hours));
        doorman.until(|notice| matches!(notice, Notice::Clock { sound: false, .. })).await;
        doorman.ask(&format!("friends/off-{turn}")).await;
        doorman.send_away(&format!("foes/off-{turn}")).await;
        assert_eq!(doorman.approved(), let_in, "{hours} h");
        doorman.clock.set_skew(SignedDuration::ZERO);
        doorman.until(|notice| matches!(notice, Notice::Clock { sound: true, .. })).await;
        doorman.send_away(&format!("foes/back-{turn}")).await;
        assert_eq!(doorman.approved(), let_in, "back from {hours} h");
    }
    // A daemon that starts with a wrong clock does not know better.
    for hours in [3, -3] {
        let Doorman { daemon, site, .. } = doorman;
        daemon.stop().await;
        doorman = Doorman::start(site, SignedDuration::from_hours(hours)).await;
        doorman.until(|notice| matches!(notice, Notice::Clock { sound: false, .. })).await;
        doorman.send_away(&format!("foes/again-{hours}")).await;
        assert_eq!(doorman.approved(), let_in, "started {hours} h off");
        // The board is published at most once a second.
        let said = async {
            loop {
                let (code, out, _) = doorman.site.cli(&["status", "--exit-code"]).await;
                if code == 1 && out.contains("conditions on time decide nothing") {
                    return;
                }
            }
        };
        timeout(TIME, said).await.expect("`status` never said that the clock is unsound");
    }
    doorman.daemon.stop().await;
}
