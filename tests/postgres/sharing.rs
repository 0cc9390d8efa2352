//! Several real doormen on one real database: they share the agents, die, stop at the worst moments, and lose the database. The sandbox
//! counts what the platform was told.

use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::Database;
use crate::doormen::{Doormen, OPPOSITE, RULES};
use crate::faults::daemon::Daemon;
use crate::watch::Watch;

fn count(daemon: &Daemon, event: &str) -> usize {
    daemon.count(event)
}

/// Waits until the kernel says that the process is stopped.
pub async fn stopped(doormen: &Doormen, daemon: &Daemon) {
    let path = format!("/proc/{}/stat", daemon.pid());
    let is_stopped = || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    };
    doormen.until("stopped", async || is_stopped()).await;
}

/// Three share six agents; one is killed, one comes back at once, one is stopped in order. Requests come all the time.
pub async fn three_share(database: &Database) {
    let doormen = Doormen::of(6, database).await;
    let names = ["a", "b", "c"];
    let a = doormen.start("a");
    doormen.have(database, &names, &[6, 0, 0]).await;
    let watch = Watch::over(&doormen, database);
    doormen.ask(3);
    let (b, c) = (doormen.start("b"), doormen.start("c"));
    doormen.have(database, &names, &[2, 2, 2]).await;
    doormen.ask(3);
    doormen.all_decided_soon().await;
    // Each agent has one connection.
    let live = doormen.control.overview().live;
    let mut connected: Vec<&str> = live.iter().filter(|live| !live.ghost).map(|live| live.agent.as_str()).collect();
    connected.sort_unstable();
    assert_eq!(connected, doormen.agents, "one connection each");
    doormen.until("said which agents it gave", async || count(&a, "lease_given") >= 4).await;
    assert_eq!(count(&a, "lease_lost"), 0);
    // One is killed, and comes back before anybody notices: it has its own agents again. On a machine so slow that somebody did notice,
    // that cannot be seen.
    let dead = |others: &[&Daemon]| others.iter().map(|daemon| count(daemon, "member_dead")).sum::<usize>();
    let taken = count(&a, "lease_taken") + count(&c, "lease_taken");
    let before = doormen.holders(database).await;
    doormen.ask(3);
    b.kill().await;
    doormen.ask(3);
    let b = doormen.start("b");
    doormen.all_decided_soon().await;
    doormen.have(database, &names, &[2, 2, 2]).await;
    if dead(&[&a, &b, &c]) == 0 {
        assert_eq!(doormen.holders(database).await, before, "nobody else has them");
        assert_eq!(count(&a, "lease_taken") + count(&c, "lease_taken"), taken);
    }
    // One is stopped in order, and comes back.
    b.stop().await.unwrap();
    doormen.ask(2);
    let b = doormen.start("b");
    doormen.all_decided_soon().await;
    doormen.have(database, &names, &[2, 2, 2]).await;
    if dead(&[&a, &b, &c]) == 0 {
        assert_eq!(doormen.holders(database).await, before, "a restart moves nothing");
    }
    // One is killed, and does not come back.
    let noticed = dead(&[&a, &b]);
    doormen.ask(3);
    c.kill().await;
    doormen.ask(3);
    doormen.all_decided_soon().await;
    doormen.have(database, &names, &[3, 3, 0]).await;
    doormen.until("one said that it is dead", async || dead(&[&a, &b]) > noticed).await;
    let (code, out, _) = doormen.cli("a", &["status"]).await;
    assert!(code == 0 && out.contains("held by the doorman `b`"), "{out}");
    watch.held("three_share").await;
    a.stop().await.unwrap();
    b.stop().await.unwrap();
    doormen.judge(database).await;
}

/// An agent is taken out of one doorman's configuration, and put back, while both run: the other one has it meanwhile.
pub async fn agents_come_and_go(database: &Database) {
    let doormen = Doormen::of(2, database).await;
    let a = doormen.start("a");
    doormen.have(database, &["a"], &[2]).await;
    let b = doormen.start("b");
    doormen.have(database, &["a", "b"], &[1, 1]).await;
    doormen.ask(3);
    let moved = doormen.holders(database).await["b"][0].clone();
    doormen.forget("b", &moved);
    let (code, out, err) = doormen.cli("b", &["reload", "--wait", "--json"]).await;
    assert!(code == 0 && out.contains(&format!("\"agents_removed\":[\"{moved}\"]")), "{out}{err}");
    let is_at = async |name: &str| doormen.holders(database).await.get(name).is_some_and(|held| held.contains(&moved));
    doormen.until("the other one has it", async || is_at("a").await).await;
    doormen.ask(3);
    doormen.all_decided_soon().await;
    // The only one that may have it does not give it away.
    assert!(is_at("a").await, "b does not name it");
    // b names it again, and gets its share.
    doormen.files("b", RULES, "");
    let (code, out, err) = doormen.cli("b", &["reload", "--wait", "--json"]).await;
    assert!(code == 0 && out.contains(&format!("\"agents_added\":[\"{moved}\"]")), "{out}{err}");
    doormen.have(database, &["a", "b"], &[1, 1]).await;
    doormen.ask(3);
    doormen.all_decided_soon().await;
    a.kill().await;
    doormen.have(database, &["b"], &[2]).await;
    doormen.ask(3);
    doormen.all_decided_soon().await;
    b.stop().await.unwrap();
    doormen.judge(database).await;
}

/// A person moves an agent, and it stays: while its doorman is away, another has it.
pub async fn moved_by_a_person(database: &Database) {
    let doormen = Doormen::of(4, database).await;
    let (a, b) = (doormen.start("a"), doormen.start("b"));
    doormen.have(database, &["a", "b"], &[2, 2]).await;
    doormen.ask(3);
    let moved = doormen.holders(database).await["a"][0].clone();
    let (code, out, err) = doormen.cli("a", &["fleet", "move", &moved[..13], "--to", "b"]).await;
    assert!(code != 0, "several begin so: {out}{err}");
    let (code, out, err) = doormen.cli("a", &["fleet", "move", &moved, "--to", "b"]).await;
    assert!(code == 0 && out.contains("is with `b`"), "{out}{err}");
    doormen.ask(3);
    doormen.all_decided_soon().await;
    let is_at = async |name: &str| doormen.holders(database).await.get(name).is_some_and(|held| held.contains(&moved));
    assert!(is_at("b").await);
    let (_, out, _) = doormen.cli("b", &["fleet", "status", "--json"]).await;
    assert!(out.contains(&format!("\"moved\":[{{\"agent\":\"{moved}\",\"by\":\"person:")), "{out}");
    // Nobody there, and one that does not name it.
    for (name, why) in [("c", "no doorman `c` takes agents"), ("b", "may not have agent")] {
        if name == "b" {
            doormen.forget("b", &moved);
            assert_eq!(doormen.cli("b", &["reload", "--wait"]).await.0, 0);
            doormen.until("the other one has it", async || is_at("a").await).await;
        }
        // The lease set is on record a moment after the reload.
        let refused = async || {
            let (code, _, err) = doormen.cli("a", &["fleet", "move", &moved, "--to", name, "--wait", "1s"]).await;
            code == 1 && err.contains(why)
        };
        doormen.until(why, refused).await;
    }
    // It is named again: the wish holds still.
    doormen.files("b", RULES, "");
    assert_eq!(doormen.cli("b", &["reload", "--wait"]).await.0, 0);
    doormen.until("it goes back", async || is_at("b").await).await;
    let (code, out, err) = doormen.cli("a", &["fleet", "move", &moved, "--to", "any"]).await;
    assert!(code == 0 && out.contains("like any other"), "{out}{err}");
    doormen.ask(3);
    doormen.all_decided_soon().await;
    a.stop().await.unwrap();
    b.stop().await.unwrap();
    doormen.judge(database).await;
}

/// One stops itself at a named point, is taken for dead, and wakes. The other has opposite rules: whatever is decided twice shows.
pub async fn stops_at(database: &Database, point: &str) {
    // One agent and one answer at a time, so that nothing else is past the point: what another agent had looked at may still arrive.
    let alone = ["batch", "intent"].contains(&point);
    let (agents, in_flight) = if alone { (1, "1") } else { (2, "8") };
    let doormen = Doormen::of(agents, database).await;
    doormen.files("a", RULES, "");
    doormen.files("b", OPPOSITE, "");
    let stop_at = format!("{point}:7");
    let a = doormen.start_told("a", &[("DOORMAN_STOP_AT", &stop_at), ("DOORMAN_ANSWERS_IN_FLIGHT", in_flight)]);
    doormen.have(database, &["a"], &[agents]).await;
    let watch = Watch::over(&doormen, database);
    doormen.ask(10);
    stopped(&doormen, &a).await;
    let met = doormen.open_answers(database).await;
    doormen.ask(3);
    let b = doormen.start("b");
    doormen.have(database, &["a", "b"], &[0, agents]).await;
    doormen.all_decided_or_bound(database).await;
    // The other's own answers may be on their way, too: those are not meant.
    let waiting = doormen.pending();
    let bound: Vec<&String> = met.iter().filter(|request| waiting.contains(request)).collect();
    a.signal(Signal::SIGCONT);
    a.said("member_lost", 1).await.unwrap();
    doormen.ask(3);
    doormen.all_decided_or_bound(database).await;
    match point {
        // It looks before each call, and knows that it may be late: what it was about to send is not sent.
        "intent" => {
            assert!(!bound.is_empty(), "no intent was open");
            let waiting = doormen.pending();
            let sent: Vec<_> = bound.iter().filter(|request| !waiting.contains(request)).collect();
            assert!(sent.is_empty(), "sent although another doorman had the agent: {sent:?}");
        }
        // Stopped after the look: what it had on record may arrive late, and is what is on record (`judge`).
        "call" => assert!(!met.is_empty(), "no intent was open"),
        _ => {}
    }
    // It is there again, as somebody new.
    b.kill().await;
    doormen.have(database, &["a", "b"], &[agents, 0]).await;
    doormen.ask(3);
    doormen.all_decided_soon().await;
    watch.held(&format!("stops_at_{point}")).await;
    a.stop().await.unwrap();
    doormen.judge(database).await;
}

/// One is stopped, not at any point of its own, for longer than it counts as alive, again and again.
pub async fn stopped_and_woken(database: &Database) {
    let doormen = Doormen::of(3, database).await;
    doormen.files("a", RULES, "");
    doormen.files("b", OPPOSITE, "");
    let (a, b) = (doormen.start("a"), doormen.start("b"));
    doormen.until("started", async || doormen.counts(database, &["a", "b"]).await.iter().sum::<usize>() == 3).await;
    let watch = Watch::over(&doormen, database);
    let mut moments = fastrand::Rng::with_seed(7);
    for (victim, heir) in [(&a, "b"), (&b, "a"), (&a, "b")] {
        doormen.ask(10);
        tokio::time::sleep(Duration::from_micros(moments.u64(0..60_000))).await;
        victim.signal(Signal::SIGSTOP);
        doormen.ask(3);
        doormen.have(database, &[heir], &[3]).await;
        doormen.all_decided_or_bound(database).await;
        let lost = count(victim, "member_lost");
        victim.signal(Signal::SIGCONT);
        victim.said("member_lost", lost + 1).await.unwrap();
        doormen.ask(3);
        doormen.all_decided_or_bound(database).await;
    }
    watch.held("stopped_and_woken").await;
    doormen.judge(database).await;
    a.stop().await.unwrap();
    b.stop().await.unwrap();
}

/// The database is away for longer than anybody counts as alive, and than agents keep their connections: then everything goes on, and
/// nobody has moved.
pub async fn database_away(database: &Database) {
    let Ok(control) = std::env::var("DOORMAN_TEST_POSTGRES_CTL") else { return };
    let told = |word: &str| {
        let done = std::process::Command::new("sh").arg("-c").arg(format!("{control} {word} >&2")).status().unwrap();
        assert!(done.success(), "pg_ctl {word}");
    };
    let mut doormen = Doormen::of(4, database).await;
    doormen.ttl = "6s";
    let names = ["a", "b"];
    let (a, b) = (doormen.start("a"), doormen.start("b"));
    doormen.have(database, &names, &[2, 2]).await;
    doormen.ask(3);
    doormen.all_decided_soon().await;
    let before = doormen.holders(database).await;
    let watch = Watch::over(&doormen, database);
    told("-m immediate stop");
    doormen.ask(3);
    for daemon in [&a, &b] {
        daemon.said("lease_lapsed", 1).await.unwrap();
    }
    let answered = doormen.answered();
    doormen.ask(3);
    // Every agent is let go of.
    doormen.until("let go of", async || doormen.control.overview().live.iter().all(|live| live.ghost)).await;
    assert_eq!(doormen.answered(), answered, "nothing is answered while nobody can know whose the agents are");
    // One comes back before the other, which has not beaten for longer than anybody lives.
    b.signal(Signal::SIGSTOP);
    told("-w start");
    a.said("lease_back", 1).await.unwrap();
    doormen.until("one looks at the other", async || doormen.pending().len() < 48).await;
    b.signal(Signal::SIGCONT);
    b.said("lease_back", 1).await.unwrap();
    doormen.all_decided_soon().await;
    assert_eq!(doormen.holders(database).await, before, "nobody has moved");
    for daemon in [&a, &b] {
        assert_eq!(count(daemon, "member_dead") + count(daemon, "member_lost"), 0, "nobody is dead because of it");
    }
    watch.held("database_away").await;
    a.stop().await.unwrap();
    b.stop().await.unwrap();
    doormen.judge(database).await;
}

/// A person moves agents away from one, and lets it have some again; meanwhile one of them sends all messages, each once.
pub async fn drained(database: &Database) {
    let doormen = Doormen::of(4, database).await;
    let names = ["a", "b"];
    // As long as there is a gate, a delivery ends only when it opens.
    let (told, gate) = (doormen.path("told"), doormen.path("gate"));
    let program = doormen.path("tell");
    let script = format!(
        "#!/bin/sh\ncat >>{0}\necho >>{0}\n[ ! -p {1} ] || cat {1} >/dev/null\n",
        told.display(),
        gate.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let more = format!(
        "[[notify]]\nname = \"ops\"\nkind = \"command\"\ncommand = [\"{}\"]\nevents = [\"deferred\"]\nevery = \"1s\"\n",
        program.display()
    );
    for name in names {
        doormen.files(name, RULES, &more);
    }
    let messages = || -> Vec<String> {
        let lines = std::fs::read_to_string(&told).unwrap_or_default();
        let messages = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let rows = messages.flat_map(|message| message["requests"].as_array().cloned().unwrap_or_default());
        rows.map(|row| row["request"].as_str().unwrap().to_owned()).collect()
    };
    let strangers = || {
        let requests = doormen.control.state().requests.into_iter();
        let mut ids: Vec<String> = requests
            .filter(|request| request.status == doorman::sandbox::SandboxStatus::Pending)
            .map(|request| request.id)
            .collect();
        ids.sort_unstable();
        ids
    };
    let slow = std::cell::Cell::new(false);
    let all_told = || {
        let mut told = messages();
        told.sort_unstable();
        if slow.get() {
            told.dedup();
        }
        told
    };
    let a = doormen.start("a");
    doormen.have(database, &names, &[4, 0]).await;
    let sends = "SELECT count(*) FROM doorman.lease WHERE name = 'notify' AND holder IS NOT NULL";
    doormen.until("it sends the messages", async || database.count(sends).await == 1).await;
    let b = doormen.start("b");
    doormen.have(database, &names, &[2, 2]).await;
    let watch = Watch::over(&doormen, database);
    doormen.ask(2);
    doormen.all_decided_soon().await;
    doormen.until("told of all strangers", async || all_told() == strangers()).await;
    // It drains while it delivers a message, and finishes that: the other one does not deliver it again.
    let before = all_told().len();
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    doormen.ask(2);
    doormen.until("it delivers", async || all_told().len() > before).await;
    let (code, out, err) = doormen.cli("a", &["fleet", "drain"]).await;
    assert_eq!(code, 0, "{out}{err}");
    doormen.have(database, &names, &[0, 4]).await;
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let open = std::fs::OpenOptions::new().write(true).custom_flags(flags).open(&gate);
    std::fs::remove_file(&gate).unwrap();
    // On a machine so slow that the delivery was given up, it is made again, as it must be.
    slow.set(open.is_err());
    drop(open);
    doormen.all_decided_soon().await;
    // The lease of messages moves as well.
    let settled = async || {
        let (_, out, _) = doormen.cli("b", &["fleet", "status"]).await;
        out.contains("draining") && !out.contains("nobody has")
    };
    doormen.until("it drains, and all are somebody's", settled).await;
    let (_, out, _) = doormen.cli("b", &["fleet", "status", "--json"]).await;
    crate::shape(&out);
    doormen.ask(2);
    doormen.all_decided_soon().await;
    doormen.until("told of all strangers by the other", async || all_told() == strangers()).await;
    if count(&a, "member_dead") + count(&b, "member_dead") == 0 {
        assert_eq!(count(&a, "lease_lost") + count(&b, "lease_lost"), 0, "given, and not lost");
    }
    // Who waits is on record, wherever the agent is.
    let all_known = async || {
        let (_, out, _) = doormen.cli("a", &["pending"]).await;
        strangers().iter().all(|id| out.contains(id.as_str()))
    };
    doormen.until("one shows who waits for the other's agents", all_known).await;
    // A delivery that is not on record is made again, as it must be.
    let on_record = async || database.count("SELECT count(*) FROM doorman.delivery WHERE ended_at IS NULL").await == 0;
    doormen.until("each delivery is on record", on_record).await;
    // The other is gone: who drains takes nothing, until a person says so.
    b.kill().await;
    doormen.until("nobody's", async || doormen.holders(database).await.is_empty()).await;
    let (code, out, err) = doormen.cli("b", &["fleet", "undrain", "a"]).await;
    assert_eq!(code, 0, "{out}{err}");
    doormen.have(database, &names, &[4, 0]).await;
    doormen.ask(2);
    doormen.all_decided_soon().await;
    doormen.until("told of all strangers again", async || all_told() == strangers()).await;
    let (code, _, err) = doormen.cli("b", &["fleet", "drain", "nobody"]).await;
    assert!(code == 1 && err.contains("no doorman `nobody`"), "{code} {err}");
    watch.held("drained").await;
    a.stop().await.unwrap();
    doormen.judge(database).await;
}

/// One stops while its rules' limit is being used up; the other goes on counting if it was.
pub async fn limit_kept(database: &Database) {
    const MOST: usize = 8;
    let rules = format!(
        "version = 1\n[policy]\nmode = \"enforce\"\nno_match = \"defer\"\n[rules.friends]\nthen = \"approve\"\n\
         when = {{ handle = \"friends/*\" }}\nlimit = {{ count = {MOST}, per = \"1h\", by = \"rule\" }}\n"
    );
    let doormen = Doormen::of(1, database).await;
    doormen.files("a", &rules, "");
    doormen.files("b", &rules, "");
    let approved = || {
        let requests = doormen.control.state().requests.into_iter();
        requests.filter(|request| request.status == doorman::sandbox::SandboxStatus::Approved).count()
    };
    let a = doormen.start_told("a", &[("DOORMAN_STOP_AT", "call:4"), ("DOORMAN_ANSWERS_IN_FLIGHT", "2")]);
    doormen.have(database, &["a"], &[1]).await;
    doormen.ask(20);
    stopped(&doormen, &a).await;
    let b = doormen.start("b");
    doormen.have(database, &["a", "b"], &[0, 1]).await;
    doormen.ask(20);
    doormen.until("as many as are allowed", async || approved() == MOST).await;
    a.signal(Signal::SIGCONT);
    a.said("member_lost", 1).await.unwrap();
    b.kill().await;
    doormen.have(database, &["a", "b"], &[1, 0]).await;
    doormen.ask(20);
    doormen
        .until("all are on record", async || {
            database.count("SELECT count(DISTINCT request) FROM doorman.decision").await == 123
        })
        .await;
    assert_eq!(approved(), MOST);
    a.stop().await.unwrap();
}
