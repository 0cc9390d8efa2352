//! The network path to the platform: cut without a sign, and the platform gone and back.

use std::net::SocketAddr;

use doorman::sandbox::{Control, Fault, FaultAction, FaultPlace};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::checks::{all_decided, live_again, nothing_lost_nothing_twice};
use super::site::Site;

/// A network path between daemon and platform that can be cut like by an unplugged cable: nothing is forwarded any
/// more, no side is informed, and open connections stay open without data until they are given up. A connect during a
/// cut succeeds after the cut, like with TCP's retransmissions.
struct NetworkPath {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    /// Ends the silent connections, too.
    given_up: watch::Sender<bool>,
}

impl NetworkPath {
    async fn to(platform: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let (given_up, is_given_up) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(connection(near, platform, is_cut.clone(), is_given_up.clone()));
            }
        });
        Self { address, cut, given_up }
    }
}

async fn connection(
    mut near: TcpStream,
    platform: SocketAddr,
    mut is_cut: watch::Receiver<bool>,
    mut is_given_up: watch::Receiver<bool>,
) {
    // An error is a test that is over.
    let _ = is_cut.wait_for(|cut| !*cut).await;
    let forward = async {
        match TcpStream::connect(platform).await {
            Ok(mut far) => drop(tokio::io::copy_bidirectional(&mut near, &mut far).await),
            Err(_refused) => {}
        }
    };
    let mut forward = std::pin::pin!(forward);
    let cut = async {
        // An error is a test that is over.
        let _ = is_cut.wait_for(|cut| *cut).await;
    };
    tokio::select! {
        biased;
        // Both ends stay open, but nothing reads or writes them any more.
        () = cut => drop(is_given_up.wait_for(|given_up| *given_up).await),
        () = &mut forward => {}
    }
}

/// Half-open: the daemon notices by its own heartbeat, the platform later. Until then the platform counts the old
/// connection as live and refuses the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_without_a_reset() {
    let site = Site::start().await;
    let way = NetworkPath::to(site.address).await;
    site.configure(way.address, "", "ghost_window = \"10m\"\n");
    // Slow answers, so that some are in flight when the path is cut.
    site.control.fault(Fault::new(FaultPlace::Respond, FaultAction::Delay).ms(20).count(0)).unwrap();
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    site.ask("before", 50, true);
    site.until("answers go out", |control| control.counts().answers > 5).await.unwrap();
    way.cut.send_replace(true);
    site.ask("meanwhile", 50, true);
    daemon.stands("away").await.unwrap();
    way.cut.send_replace(false);
    let met = |control: &Control| control.overview().connects.iter().any(|connect| connect.status == 409);
    site.until("the ghost is met", met).await.unwrap();
    site.until("all decided by listings", all_decided).await.unwrap();
    way.given_up.send_replace(true);
    live_again(&site, &daemon, "after").await.unwrap();
    assert!(!daemon.lines().iter().any(|line| line["state"] == "yielded"), "it yielded to its own ghost");
    daemon.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// In good order and by a crash, each in the middle of a burst.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_platform_goes_and_comes_back() {
    let mut site = Site::start().await;
    site.control.fault(Fault::new(FaultPlace::Respond, FaultAction::Delay).ms(20).count(0)).unwrap();
    let daemon = site.daemon();
    for turn in 0..6 {
        daemon.stands("live").await.unwrap();
        let before = site.control.counts().answers;
        site.ask(&format!("{turn}-before"), 40, true);
        site.until("answers go out", |control| control.counts().answers > before + 5).await.unwrap();
        if turn % 2 == 0 {
            site.crash_platform().await;
        } else {
            site.stop_platform().await;
        }
        daemon.stands("away").await.unwrap();
        site.ask(&format!("{turn}-meanwhile"), 10, true);
        site.resume_platform().await;
        site.until("all decided", all_decided).await.unwrap();
    }
    live_again(&site, &daemon, "after").await.unwrap();
    daemon.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// The listing after a join shows an old state, as a replica may. The next listing, at the interval of an agent that is
/// away, finds what was hidden, although the agent is live by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_old_page_hid_is_found_soon_after_a_join() {
    let site = Site::start().await;
    site.configure(site.address, "", "list_live = \"1h\"\nlist_away = \"500ms\"\n");
    site.control.fault(Fault::new(FaultPlace::List, FaultAction::StaleList).ms(60_000)).unwrap();
    site.ask("before", 3, false);
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    assert_eq!(site.control.overview().struck, 1);
    site.until("all decided", all_decided).await.unwrap();
    daemon.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}
