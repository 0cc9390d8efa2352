//! Resources that the machine refuses: disk space, the ledger, descriptors. Needs `prlimit` of util-linux, which
//! changes the limits of a running process.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::Pid;

use super::checks::{all_decided, intents, live_again, nothing_lost_nothing_twice, nothing_twice};
use super::daemon::Daemon;
use super::site::{AGENT, Site, TIME};

fn limit(pid: Pid, what: &str) {
    let done = Command::new("prlimit").args(["--pid", &pid.to_string(), what]).status().unwrap();
    assert!(done.success(), "prlimit {what}: {done}");
}

/// Requests that are answered on the platform without a recorded intent.
fn unrecorded(site: &Site, ledger: &Path) -> Vec<String> {
    // A copy, since SQLite cannot open the file in another mount namespace.
    let copy = tempfile::tempdir().unwrap();
    for name in ["ledger.db", "ledger.db-wal"] {
        std::fs::copy(ledger.with_file_name(name), copy.path().join(name)).unwrap();
    }
    let intents = intents(&copy.path().join("ledger.db")).unwrap();
    let answered = site.control.state().requests.into_iter().filter(|request| request.answered > 0);
    answered.map(|request| request.id).filter(|id| !intents.contains(id)).collect()
}

/// In the middle of a burst nothing can be written any more, until `relief`: every answer waits, and none is sent
/// without a recorded intent. After that everything is answered.
async fn no_room(site: &Site, daemon: Daemon, ledger: &Path, relief: impl FnOnce(&Daemon)) {
    daemon.stands("live").await.unwrap();
    site.ask("burst", 600, true);
    daemon.said("ledger_blocked", 1).await.unwrap();
    site.ask("meanwhile", 20, true);
    // Answers whose intent was recorded before may still arrive; then nothing changes for several listings.
    let listed = daemon.count("listed");
    daemon.said("listed", listed + 3).await.unwrap();
    let before = site.control.counts();
    daemon.said("listed", listed + 6).await.unwrap();
    assert_eq!(site.control.counts().answers, before.answers, "something went out while nothing could be recorded");
    assert!(before.pending > 100, "the limit came too late to show anything: {before:?}");
    assert_eq!(unrecorded(site, ledger), Vec::<String>::new());
    assert_eq!(daemon.state(), "live", "the agent lives on");
    relief(&daemon);
    daemon.said("ledger_recovered", 1).await.unwrap();
    site.until("all decided", all_decided).await.unwrap();
    live_again(site, &daemon, "after").await.unwrap();
    assert_eq!(unrecorded(site, ledger), Vec::<String>::new());
    daemon.stop().await.unwrap();
    nothing_twice(site, false).unwrap();
}

/// A write beyond the limit of a file's size gives EFBIG, if the signal SIGXFSZ is ignored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_may_grow() {
    let site = Site::start().await;
    let daemon = site.daemon_after("trap '' XFSZ; ulimit -S -f 900; exec");
    no_room(&site, daemon, &site.path("ledger.db"), |daemon| limit(daemon.pid(), "--fsize=unlimited:")).await;
}

/// A full file system: a small one for the daemon, in a separate mount namespace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_on_the_disk() {
    let unshare = match nix::unistd::geteuid().is_root() {
        true => "unshare --mount",
        false => "unshare --user --map-root-user --mount",
    };
    let mount =
        |at: &Path| format!("{unshare} sh -c 'mount -t tmpfs -o size=20m none {} && exec \"$@\"' -", at.display());
    let site = Site::start().await;
    let disk = site.path("disk");
    std::fs::create_dir(&disk).unwrap();
    if !Command::new("sh").arg("-c").arg(format!("{} true", mount(&disk))).status().unwrap().success() {
        println!("skipped: nothing can be mounted here");
        return;
    }
    site.configure(site.address, "", "");
    let config = std::fs::read_to_string(site.path("doorman.toml")).unwrap();
    std::fs::write(site.path("doorman.toml"), config.replace("ledger.db", "disk/ledger.db")).unwrap();
    let daemon = site.daemon_after(&format!("exec {}", mount(&disk)));
    daemon.stands("live").await.unwrap();
    let inside = PathBuf::from(format!("/proc/{}/root{}", daemon.pid(), disk.display()));
    let filler = inside.join("filler");
    std::fs::write(&filler, vec![0; (20 << 20) - (500 << 10)]).unwrap();
    no_room(&site, daemon, &inside.join("ledger.db"), |_| std::fs::remove_file(&filler).unwrap()).await;
}

/// No disk space from the beginning: the daemon does not start, and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_for_a_new_ledger() {
    let site = Site::start().await;
    let mut daemon = site.daemon_after("trap '' XFSZ; ulimit -f 8; exec");
    assert_eq!(daemon.ends().await, Some(74), "{}", daemon.tail(9));
    assert_eq!(site.control.counts().answers, 0);
}

/// No descriptor is left, neither for a new socket nor for a call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_descriptor_left() {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    site.ask("before", 20, true);
    site.until("all decided", all_decided).await.unwrap();
    limit(daemon.pid(), "--nofile=3:");
    site.control.kick(AGENT, Some(0)).unwrap();
    daemon.stands("away").await.unwrap();
    site.ask("meanwhile", 20, true);
    // Somebody also connects to the control socket, and cannot get a reply now.
    let waiting = std::os::unix::net::UnixStream::connect(site.path("doorman.sock")).unwrap();
    let tries = daemon.count("reconnect");
    daemon.said("reconnect", tries + 3).await.unwrap();
    assert_eq!(daemon.state(), "away");
    limit(daemon.pid(), "--nofile=1024:");
    drop(waiting);
    let mut status = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorman"));
    let status = status.args(["status", "--socket"]).arg(site.path("doorman.sock")).output();
    let status = tokio::time::timeout(TIME, status).await.expect("the control socket answers again").unwrap();
    assert!(status.status.success(), "{status:?}");
    site.until("all decided", all_decided).await.unwrap();
    live_again(&site, &daemon, "after").await.unwrap();
    let lines = daemon.stop().await.unwrap();
    assert!(lines.iter().all(|line| line["event"] != "panic"));
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// Another daemon has the ledger: the second does not start, and the first does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_anothers() {
    let site = Site::start().await;
    let first = site.daemon();
    first.stands("live").await.unwrap();
    let mut second = site.daemon();
    assert_eq!(second.ends().await, Some(74), "{}", second.tail(9));
    assert!(second.tail(9).contains(&first.pid().to_string()), "it names the holder: {}", second.tail(9));
    live_again(&site, &first, "after").await.unwrap();
    first.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// A ledger that cannot be used prevents the start and stays unchanged: nothing is answered without a record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_cannot_be_used() {
    let site = Site::start().await;
    let daemon = site.daemon();
    live_again(&site, &daemon, "before").await.unwrap();
    daemon.stop().await.unwrap();
    let ledger = site.path("ledger.db");
    let good = std::fs::read(&ledger).unwrap();
    site.ask("meanwhile", 5, true);
    let answers = site.control.counts().answers;
    let middle = good.len() / 2;
    let scribbled = [&good[..middle], &vec![0x5a; good.len() - middle]].concat();
    for bad in [&b"not a database, though long enough to be looked at"[..], &good[..middle], &scribbled, b""] {
        std::fs::write(&ledger, bad).unwrap();
        let mut daemon = site.daemon();
        assert_eq!(daemon.ends().await, Some(74), "{}", daemon.tail(9));
        assert_eq!(std::fs::read(&ledger).unwrap(), bad, "it was changed");
    }
    assert_eq!(site.control.counts().answers, answers);
    std::fs::write(&ledger, &good).unwrap();
    let daemon = site.daemon();
    site.until("all decided", all_decided).await.unwrap();
    live_again(&site, &daemon, "after").await.unwrap();
    daemon.stop().await.unwrap();
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// A ledger that may be read but not written. Root may write any file, so root runs this test as the user nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_read_only() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::start().await;
    let daemon = site.daemon();
    live_again(&site, &daemon, "before").await.unwrap();
    daemon.stop().await.unwrap();
    site.ask("meanwhile", 5, true);
    let answers = site.control.counts().answers;
    let mode = |name: &str, mode| std::fs::set_permissions(site.path(name), PermissionsExt::from_mode(mode)).unwrap();
    for name in ["agent.key", "ledger.db", "ledger.db.lock", "rules.toml", "doorman.toml"] {
        mode(name, 0o444);
    }
    mode("", 0o555);
    let root = nix::unistd::geteuid().is_root();
    let mut daemon =
        site.daemon_after(if root { "exec setpriv --reuid=65534 --regid=65534 --clear-groups" } else { "exec" });
    let code = daemon.ends().await;
    mode("", 0o755);
    assert_eq!(code, Some(74), "{}", daemon.tail(9));
    assert_eq!(site.control.counts().answers, answers);
}

/// Under a running daemon, another process locks the ledger with `sqlite3`; then the ledger is moved away. Every answer
/// waits, and is sent after the ledger is there and unlocked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_taken_away_meanwhile() {
    let site = Site::start().await;
    let daemon = site.daemon();
    live_again(&site, &daemon, "before").await.unwrap();
    let ledger = site.path("ledger.db");
    let aside = site.path("aside.db");
    let moves = |from: &Path, to: &Path| {
        for end in ["", "-wal", "-shm"] {
            let with = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
            std::fs::rename(with(from), with(to)).unwrap();
        }
    };
    for (turn, how) in ["held", "moved"].into_iter().enumerate() {
        let holder = match how {
            "held" => {
                let holder = rusqlite::Connection::open(&ledger).unwrap();
                holder.execute_batch("BEGIN IMMEDIATE").unwrap();
                Some(holder)
            }
            _ => {
                moves(&ledger, &aside);
                None
            }
        };
        let answers = site.control.counts().answers;
        site.ask(how, 10, true);
        daemon.said("ledger_blocked", turn + 1).await.unwrap();
        let listed = daemon.count("listed");
        daemon.said("listed", listed + 3).await.unwrap();
        assert_eq!(site.control.counts().answers, answers, "{how}: answered without a record");
        // A person gets the refusal at once, and it is final: their answer is not sent later.
        let requests = site.control.state().requests;
        let stranger = requests.iter().find(|one| one.id.starts_with(&format!("{how}-strangers"))).unwrap();
        for command in ["approve", "reject", "hold"] {
            let (code, out, err) = site.cli(&[command, &stranger.id]).await;
            assert!(code == 1 && err.contains("the ledger cannot be written now"), "{command}: {out}{err}");
        }
        let (code, out, err) = site.cli(&["explain", &stranger.id]).await;
        assert!(code == 1 && err.contains("is not on record yet, since the ledger cannot be written"), "{out}{err}");
        match holder {
            Some(holder) => holder.execute_batch("ROLLBACK").unwrap(),
            None => moves(&aside, &ledger),
        }
        daemon.said("ledger_recovered", turn + 1).await.unwrap();
        site.until("all decided", all_decided).await.unwrap();
    }
    live_again(&site, &daemon, "after").await.unwrap();
    let lines = daemon.stop().await.unwrap();
    let said = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((said("ledger_blocked"), said("ledger_recovered")), (2, 2), "one line for each trouble and its end");
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// An agent whose data cannot be read does not start and answers nothing. That is not a panic, and the log does not call it one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_cannot_be_read_at_the_start() {
    let site = Site::start().await;
    let daemon = site.daemon();
    live_again(&site, &daemon, "before").await.unwrap();
    daemon.stop().await.unwrap();
    let ledger = rusqlite::Connection::open(site.path("ledger.db")).unwrap();
    ledger.execute_batch("ALTER TABLE pause RENAME TO aside").unwrap();
    let answers = site.control.counts().answers;
    site.ask("meanwhile", 10, true);
    let daemon = site.daemon();
    daemon.said("ledger_unreadable", 2).await.unwrap();
    assert_eq!(site.control.counts().answers, answers, "answered, although the record could not be read");
    ledger.execute_batch("ALTER TABLE aside RENAME TO pause").unwrap();
    site.until("all decided", all_decided).await.unwrap();
    live_again(&site, &daemon, "after").await.unwrap();
    let lines = daemon.stop().await.unwrap();
    let said = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((said("panic"), said("agent_restarts")), (0, 0));
    nothing_lost_nothing_twice(&site, false).unwrap();
}

/// The daemon waits neither for a log that nobody reads nor for one whose reader has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reads_the_log() {
    for gone in [false, true] {
        let site = Site::start().await;
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorman"))
            .arg("run")
            .env_clear()
            .env("DOORMAN_CONFIG", site.path("doorman.toml"))
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = child.stderr.take().unwrap();
        let log = if gone { None } else { Some(log) };
        site.until("live", |control| !control.overview().live.is_empty()).await.unwrap();
        // More than a pipe and the queue behind it hold, at `debug`.
        for turn in 0..4 {
            site.ask(&format!("{turn}"), 250, true);
            site.until("all decided", all_decided).await.unwrap();
        }
        nix::sys::signal::kill(
            Pid::from_raw(child.id().unwrap().try_into().unwrap()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        let code = tokio::time::timeout(TIME, child.wait()).await.expect("it ends").unwrap().code();
        assert_eq!(code, Some(0));
        drop(log);
        nothing_lost_nothing_twice(&site, false).unwrap();
    }
}
