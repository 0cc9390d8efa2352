//! Leases that a doorman gives though it lives: the platform does not answer it, or its configuration does not name the agent any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream};

use crate::Database;
use crate::doormen::{Doormen, RULES};
use crate::roster::done;

/// A way to the platform that can be cut: connections end, and new ones are closed at once.
struct Way {
    address: std::net::SocketAddr,
    open: Arc<AtomicBool>,
    cut: Arc<tokio::sync::Notify>,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, cut) = (Arc::new(AtomicBool::new(true)), Arc::new(tokio::sync::Notify::new()));
        let (is_open, is_cut) = (open.clone(), cut.clone());
        tokio::spawn(async move {
            loop {
                let Ok((mut here, _)) = listener.accept().await else { continue };
                if !is_open.load(Ordering::SeqCst) {
                    continue;
                }
                let (is_open, is_cut) = (is_open.clone(), is_cut.clone());
                tokio::spawn(async move {
                    let ended = is_cut.notified();
                    tokio::pin!(ended);
                    ended.as_mut().enable();
                    let Ok(mut there) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    if is_open.load(Ordering::SeqCst) {
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                            () = ended => {}
                        }
                    }
                });
            }
        });
        Self { address, open, cut }
    }

    fn is_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
        self.cut.notify_waiters();
    }
}

/// One loses the platform and keeps the database: the other gets its agents and answers everybody; it takes none back before the platform
/// answers it. Where both lose it, nobody gives anything.
pub async fn given_when_away(database: &Database) {
    let mut doormen = Doormen::of(4, database).await;
    doormen.ttl = "3s";
    let ways = [Way::to(doormen.port()).await, Way::to(doormen.port()).await];
    for (name, way) in [("a", &ways[0]), ("b", &ways[1])] {
        let dir = doormen.files_to(name, &way.address.to_string(), &database.ledger, RULES, "join_timeout = \"1s\"\n");
        let path = dir.join("doorman.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("[fleet]\n", "[fleet]\ngive_when_away = \"2s\"\n")).unwrap();
    }
    let a = doormen.start("a");
    doormen.have(database, &["a"], &[4]).await;
    doormen.ask(2);
    doormen.all_decided_soon().await;
    // Nobody else is there: it keeps what it has.
    ways[0].is_open(false);
    let away = |lines: &[serde_json::Value]| {
        let away = lines.iter().filter(|line| line["state"] == "away").map(|line| line["agent"].to_string());
        away.collect::<std::collections::HashSet<_>>().len() == 4
    };
    a.until("all are away", away).await.unwrap();
    doormen.ask(2);
    // Another one comes, which does not reach the platform either: nobody gives, for longer than it would take.
    ways[1].is_open(false);
    let b = doormen.start("b");
    doormen
        .until("both are there", async || {
            database.count("SELECT count(*) FROM doorman.member WHERE state = 'up'").await == 2
        })
        .await;
    let beats = "SELECT min(beat) FROM doorman.member WHERE state = 'up'";
    let from = database.count(beats).await;
    doormen.until("they have watched each other for a while", async || database.count(beats).await >= from + 12).await;
    assert_eq!(a.count("member_away") + b.count("member_away"), 0, "nobody else has the platform");
    // The other one has it now: when it has got an agent, and that is live, all others follow.
    ways[1].is_open(true);
    doormen.have(database, &["a", "b"], &[0, 4]).await;
    assert_eq!((a.count("member_away"), b.count("member_away")), (1, 0));
    let out = done(&doormen, "b", &["fleet", "status"]).await;
    assert!(out.lines().any(|line| line.contains(" a ") && line.contains(" away ")), "{out}");
    doormen.all_decided_soon().await;
    // The one with all agents loses it, too: it keeps them, since nobody else has it; and it is killed: the other one takes them though
    // it has no platform, rather than nobody.
    b.kill().await;
    doormen.have(database, &["a", "b"], &[4, 0]).await;
    ways[0].is_open(true);
    a.said("member_back", 1).await.unwrap();
    doormen.ask(2);
    doormen.all_decided_soon().await;
    a.stop().await.unwrap();
    doormen.judge(database).await;
}

/// A lease that cannot be given at once holds up no reload, and is given once it can be: somebody keeps its row locked, or all rows.
pub async fn reload_does_not_wait_for_a_lease(database: &Database) {
    let doormen = Doormen::of(3, database).await;
    let a = doormen.start("a");
    doormen.have(database, &["a"], &[3]).await;
    let row = format!("SELECT * FROM doorman.lease WHERE name = '{}' FOR UPDATE", doormen.agents[1]);
    for (gone, locks) in [(1, row.as_str()), (2, "LOCK TABLE doorman.lease IN EXCLUSIVE MODE")] {
        let gone = doormen.agents[gone].as_str();
        let client = Database::client(&database.url).await;
        client.batch_execute(&format!("BEGIN; {locks}")).await.unwrap();
        doormen.forget("a", gone);
        let out = done(&doormen, "a", &["reload", "--wait", "--json"]).await;
        assert!(out.contains(gone), "{out}");
        let given = format!("SELECT count(*) FROM doorman.lease WHERE name = '{gone}' AND holder IS NULL");
        assert_eq!(database.count(&given).await, 0, "the reload has ended before the lease was given");
        client.batch_execute("ROLLBACK").await.unwrap();
        doormen.until("given once it can be", async || database.count(&given).await == 1).await;
    }
    a.stop().await.unwrap();
}
