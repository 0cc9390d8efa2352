//! What doorman reports to systemd, over a real datagram socket; signals; the watchdog; what the process denies itself.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use doorman::ops::service_manager::Notifier;
use doorman::ops::signals::{self, Signal};
use doorman::ops::watchdog::Watchdog;
use nix::sys::signal::{Signal as Sig, raise};
use tokio_util::sync::CancellationToken;

/// systemd's end of the socket.
struct Systemd {
    socket: UnixDatagram,
    _dir: tempfile::TempDir,
}

impl Systemd {
    fn listen() -> (Self, Notifier) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let notifier = Notifier::to(path.as_os_str()).unwrap();
        (Self { socket, _dir: dir }, notifier)
    }

    /// The datagrams since the last call, unchanged.
    fn heard(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            all.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        all
    }
}

#[test]
fn a_life_as_systemd_hears_it() {
    let (systemd, notifier) = Systemd::listen();
    notifier.status("2 agents live");
    notifier.ready();
    notifier.reloading();
    notifier.ready();
    notifier.stopping();
    let heard = systemd.heard();
    assert_eq!(heard[..2], ["STATUS=2 agents live\n", "READY=1\n"]);
    let reloading: Vec<&str> = heard[2].lines().collect();
    assert_eq!(reloading[0], "RELOADING=1");
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    let said: i64 = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    let elapsed = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000 - said;
    assert!(elapsed >= 0, "the same clock as systemd's, in the same datagram");
    assert_eq!(heard[3..], ["READY=1\n", "STOPPING=1\n"]);
}

#[test]
fn an_abstract_socket_is_one_too() {
    let name = format!("doorman-test-{}", uuid::Uuid::new_v4());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    Notifier::to(&OsString::from(format!("@{name}"))).unwrap().ready();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1\n");
}

#[test]
fn a_status_is_one_line_whatever_is_in_it() {
    let (systemd, notifier) = Systemd::listen();
    notifier.status("away: x\nREADY=1\u{1b}[2J");
    notifier.status(&"x".repeat(10_000));
    let heard = systemd.heard();
    assert_eq!(heard[0], "STATUS=away: x\\nREADY=1\\u{1b}[2J\n");
    assert_eq!(heard[1].len(), "STATUS=\n".len() + 200);
}

#[test]
fn nobody_listening_is_no_trouble() {
    let silent = Notifier::default();
    silent.ready();
    assert!(!silent.listens());
    assert!(Notifier::to("/nowhere/at/all".as_ref()).is_err());
    let (systemd, notifier) = Systemd::listen();
    drop(systemd);
    notifier.ready();
}

#[test]
fn a_socket_that_is_full_blocks_nobody() {
    let (systemd, notifier) = Systemd::listen();
    for _ in 0..10_000 {
        notifier.ready();
    }
    assert!(!systemd.heard().is_empty());
}

/// Lets the watchdog's task run as often as necessary for this time.
async fn pass(time: Duration) {
    let step = Duration::from_millis(500);
    for _ in 0..time.as_millis() / step.as_millis() {
        tokio::time::advance(step).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_fed_only_while_every_loop_turns() {
    let (systemd, notifier) = Systemd::listen();
    let watchdog = Watchdog::new();
    let stop = CancellationToken::new();
    let limit = Duration::from_secs(30);
    let agent = watchdog.register("agent a-1", Duration::from_secs(20));
    let other = watchdog.register("agent a-2", Duration::from_secs(3_600));
    let task = tokio::spawn(watchdog.clone().run(notifier, Some(limit), stop.clone()));
    pass(Duration::from_secs(16)).await;
    assert_eq!(systemd.heard(), ["WATCHDOG=1\n"; 2], "at once, and at half the limit");
    agent.tick();
    pass(Duration::from_secs(15)).await;
    assert_eq!(systemd.heard().len(), 1);

    pass(Duration::from_secs(60)).await;
    assert_eq!(systemd.heard(), [""; 0], "one loop hangs: silence, although the other turns");
    other.tick();
    agent.tick();
    pass(Duration::from_secs(15)).await;
    assert_eq!(systemd.heard().len(), 1, "it turns again");

    drop(agent);
    pass(Duration::from_secs(60)).await;
    assert_eq!(systemd.heard().len(), 4, "a loop that ended hangs no more");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_is_said() {
    let (systemd, notifier) = Systemd::listen();
    let stop = CancellationToken::new();
    let task = tokio::spawn(Watchdog::new().run(notifier, None, stop.clone()));
    pass(Duration::from_secs(60)).await;
    assert_eq!(systemd.heard(), [""; 0]);
    stop.cancel();
    task.await.unwrap();
}

/// Runs in a separate process, since the second terminating signal ends the process.
#[test]
fn signals_arrive_as_what_they_mean_and_the_second_to_end_ends_the_process() {
    const CHILD: &str = "DOORMAN_TEST_SIGNALS";
    if std::env::var_os(CHILD).is_some() {
        let mut signals = signals::listen(7).unwrap();
        signals.started();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (signal, meaning) in
            [(Sig::SIGHUP, Signal::Reload), (Sig::SIGTERM, Signal::Terminate), (Sig::SIGINT, Signal::Terminate)]
        {
            raise(signal).unwrap();
            assert_eq!(runtime.block_on(signals.next()), Some(meaning), "{signal}");
        }
        // Code that hangs.
        loop {
            std::thread::park();
        }
    }
    let name = "systemd::signals_arrive_as_what_they_mean_and_the_second_to_end_ends_the_process";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name]).env(CHILD, "1").output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Runs in a separate process, since it cannot be undone.
#[test]
fn the_process_denies_itself_core_dumps_and_files_that_others_read() {
    const CHILD: &str = "DOORMAN_TEST_HARDEN";
    if let Some(dir) = std::env::var_os(CHILD) {
        use std::os::unix::fs::MetadataExt as _;
        doorman::ops::harden::process().unwrap();
        doorman::ops::harden::process().unwrap();
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE).unwrap();
        assert_eq!(limit, (0, 0));
        assert!(!nix::sys::prctl::get_dumpable().unwrap());
        let path = std::path::Path::new(&dir).join("file");
        std::fs::write(&path, "").unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = "systemd::the_process_denies_itself_core_dumps_and_files_that_others_read";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
