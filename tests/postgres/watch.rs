//! Looks at the leases all the time: no living doorman's lease is taken, and no agent is without a holder for longer than it may be,
//! counted while a primary can be written and a doorman that takes agents is there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use doorman::sandbox::Control;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::Database;
use crate::doormen::Doormen;
use crate::servers;

/// The longest that an agent may be without a holder: the promise of docs/fleet.md, for a `ttl` of five times what these tests have.
const WITHOUT_MAX: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// One snapshot of both tables. A lease of an agent: its name, holder and epoch. A member: its id, state, beat and `ttl`.
const ROWS: &str = "SELECT true, name, coalesce(holder, ''), epoch, 0::bigint FROM doorman.lease WHERE name <> 'notify'
     UNION ALL SELECT false, id, state, beat, ttl_ms FROM doorman.member";

type LookRow = (bool, String, String, i64, i64);

/// A lease as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SeenLease {
    holder: String,
    epoch: i64,
}

/// A member as it was last seen.
#[derive(Debug)]
struct SeenMember {
    state: String,
    beat: i64,
    ttl: Duration,
    /// When it was seen to have beaten.
    beaten: Instant,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Seen {
    leases: BTreeMap<String, SeenLease>,
    members: BTreeMap<String, SeenMember>,
    /// By agent: when its holder was last seen to have beaten, or when nobody could have held it.
    held: BTreeMap<String, Instant>,
    /// By agent: the longest time without a holder that beats.
    without: BTreeMap<String, Duration>,
    /// By agent: when it was last seen to have a connection to the platform, and the longest time without.
    connected: BTreeMap<String, Instant>,
    unconnected: BTreeMap<String, Duration>,
    takeovers: u32,
    looks: u32,
    /// A fail-over may take leases back to what they were.
    loses: bool,
    wrong: Vec<String>,
}

impl Seen {
    /// Nobody can write the leases: no time counts.
    fn away(&mut self) {
        let now = Instant::now();
        self.held.values_mut().chain(self.connected.values_mut()).for_each(|at| *at = now);
        self.members.values_mut().for_each(|member| member.beaten = now);
    }

    /// `connections`: by agent, those that are open.
    fn look(&mut self, rows: &[LookRow], connections: &BTreeMap<String, usize>, now: Instant) {
        self.looks += 1;
        for (_, id, state, beat, ttl) in rows.iter().filter(|row| !row.0) {
            let ttl = Duration::from_millis((*ttl).unsigned_abs());
            let new = || SeenMember { state: state.clone(), beat: *beat, ttl, beaten: now };
            let member = self.members.entry(id.clone()).or_insert_with(new);
            if member.beat != *beat {
                *member = new();
            }
            member.state.clone_from(state);
        }
        let lives = |id: &str| self.members.get(id).is_some_and(|member| member.state != "dead");
        // Who would take an agent that nobody has.
        let able = self.members.values().any(|member| member.state == "up" && now - member.beaten < member.ttl);
        for (_, name, holder, epoch, _) in rows.iter().filter(|row| row.0) {
            let new = SeenLease { holder: holder.clone(), epoch: *epoch };
            let before = self.leases.insert(name.clone(), new.clone());
            if let Some(before) = before.filter(|before| *before != new) {
                if new.epoch <= before.epoch && !self.loses {
                    self.wrong.push(format!("{name} goes from {before:?} to {new:?}: its epoch does not rise"));
                }
                // One that is given is nobody's first, which is an epoch of its own.
                let at_once = new.epoch == before.epoch + 1 && !before.holder.is_empty() && !new.holder.is_empty();
                if at_once && new.holder != before.holder && lives(&before.holder) {
                    self.wrong.push(format!("{name} is taken from {}, which lives: {new:?}", before.holder));
                }
                self.takeovers += u32::from(at_once && new.holder != before.holder);
            }
            let beaten = self.members.get(holder).filter(|member| member.state != "dead").map(|member| member.beaten);
            let held = self.held.entry(name.clone()).or_insert(now);
            let since = beaten.unwrap_or(*held).max(*held);
            let without = self.without.entry(name.clone()).or_default();
            if able {
                *without = (*without).max(since - *held).max(now - since);
                *held = since;
            } else {
                *held = now;
            }
            let connected = self.connected.entry(name.clone()).or_insert(now);
            let open = connections.get(name).copied().unwrap_or(0);
            if open > 1 {
                self.wrong.push(format!("{name} has {open} connections"));
            }
            if open > 0 || !able {
                *connected = now;
            }
            let unconnected = self.unconnected.entry(name.clone()).or_default();
            *unconnected = (*unconnected).max(now - *connected);
        }
    }
}

/// See the module. Dropping it ends it, unheard.
pub struct Watch {
    task: JoinHandle<Seen>,
    end: oneshot::Sender<()>,
}

impl Watch {
    /// Begins to look at the leases of these agents.
    pub fn over(doormen: &Doormen, database: &Database) -> Self {
        Self::with(doormen, database, false)
    }

    /// The same where the database may lose what it confirmed.
    pub fn over_what_may_be_lost(doormen: &Doormen, database: &Database) -> Self {
        Self::with(doormen, database, true)
    }

    fn with(doormen: &Doormen, database: &Database, loses: bool) -> Self {
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(watch(database.url.clone(), doormen.control.clone(), loses, ended));
        Self { task, end }
    }

    /// Ends it: what must hold has held.
    pub async fn held(self, name: &str) {
        let _ = self.end.send(());
        let seen = self.task.await.unwrap();
        assert!(seen.looks > 10 && !seen.without.is_empty(), "nothing was watched: {seen:?}");
        assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
        let worst =
            |times: &BTreeMap<String, Duration>| times.values().max().copied().unwrap_or_default().as_secs_f64();
        println!(
            "  {name}: {} leases taken over; longest without a holder {:.1} s, without a connection {:.1} s",
            seen.takeovers,
            worst(&seen.without),
            worst(&seen.unconnected)
        );
        for (what, times) in [("a holder that beats", &seen.without), ("a connection", &seen.unconnected)] {
            let too_long: Vec<_> = times.iter().filter(|(_, without)| **without > WITHOUT_MAX).collect();
            assert!(too_long.is_empty(), "without {what} for longer than {WITHOUT_MAX:?}: {too_long:?}");
        }
    }
}

async fn watch(url: String, control: Control, loses: bool, mut ended: oneshot::Receiver<()>) -> Seen {
    let mut seen = Seen { loses, ..Seen::default() };
    let mut client: Option<Client> = None;
    loop {
        if !matches!(ended.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            return seen;
        }
        let rows = match &client {
            Some(open) => rows(open).await,
            None => {
                client = servers::writable(&url).await;
                // No time counts before the first look on this connection.
                seen.away();
                if client.is_none() {
                    tokio::time::sleep(LOOK).await;
                }
                continue;
            }
        };
        match rows {
            Some(rows) => {
                let mut connections = BTreeMap::new();
                for live in control.overview().live.into_iter().filter(|live| !live.ghost) {
                    *connections.entry(live.agent).or_insert(0) += 1;
                }
                seen.look(&rows, &connections, Instant::now());
            }
            None => client = None,
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Both tables, if this server can be asked and written.
async fn rows(client: &Client) -> Option<Vec<LookRow>> {
    let asked = async {
        let writes = client.query_one("SHOW transaction_read_only", &[]).await?;
        let rows = client.query(ROWS, &[]).await?;
        Ok::<_, tokio_postgres::Error>((writes.get::<_, String>(0) == "off", rows))
    };
    match tokio::time::timeout(Duration::from_secs(5), asked).await {
        Ok(Ok((true, rows))) => {
            Some(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect())
        }
        _ => None,
    }
}

/// It notices what must not be, and only that.
pub fn notices() {
    let begun = Instant::now();
    let lease = |holder: &str, epoch| (true, "agent".to_owned(), holder.to_owned(), epoch, 0);
    let member = |id: &str, state: &str, beat| (false, id.to_owned(), state.to_owned(), beat, 3_000);
    let one = BTreeMap::from([("agent".to_owned(), 1)]);
    // Looks a second apart, each with `a` in this state and at this beat, while `b` beats all the time.
    let watched = |looks: &[(LookRow, &str, i64)], connections: &BTreeMap<String, usize>| {
        let mut seen = Seen::default();
        for (second, (lease, state, beat)) in looks.iter().enumerate() {
            let rows = [lease.clone(), member("a", state, *beat), member("b", "up", second as i64)];
            seen.look(&rows, connections, begun + Duration::from_secs(second as u64));
        }
        seen
    };
    let beats = watched(
        &[(lease("a", 1), "up", 0), (lease("a", 1), "up", 1), (lease("", 2), "up", 2), (lease("b", 3), "up", 3)],
        &one,
    );
    // From the last look at which it was held to the first at which it is again: never less than it was.
    assert!(beats.wrong.is_empty() && beats.without["agent"] == Duration::from_secs(2), "given: {beats:?}");
    let dead = watched(&[(lease("a", 1), "up", 0), (lease("a", 1), "dead", 0), (lease("b", 2), "dead", 0)], &one);
    assert!(dead.wrong.is_empty() && dead.takeovers == 1, "taken from a dead one: {dead:?}");
    let stolen = watched(&[(lease("a", 1), "up", 0), (lease("b", 2), "up", 1)], &one);
    assert!(stolen.wrong[0].contains("which lives"), "{stolen:?}");
    let back = watched(&[(lease("a", 2), "up", 0), (lease("b", 2), "dead", 0)], &one);
    assert!(back.wrong[0].contains("does not rise"), "{back:?}");
    let twice = watched(&[(lease("a", 1), "up", 0)], &BTreeMap::from([("agent".to_owned(), 2)]));
    assert!(twice.wrong[0].contains("2 connections"), "{twice:?}");
    let silent = vec![(lease("a", 1), "up", 0); 33];
    let silent = watched(&silent, &BTreeMap::new());
    assert!(silent.without["agent"] > WITHOUT_MAX && silent.unconnected["agent"] > WITHOUT_MAX, "{silent:?}");
}
