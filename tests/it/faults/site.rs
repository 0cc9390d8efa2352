//! A sandbox in this process, a daemon in one of its own, and the directory that they share.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use doorman::sandbox::{Control, NewRequest, Sandbox, SandboxOptions, World};
use tokio::process::Command;
use tokio::time::timeout;

use super::daemon::Daemon;

/// Longer than anything here takes on a slow machine: a test that waits this long has failed.
pub const TIME: Duration = Duration::from_secs(180);
/// The agent.
pub const AGENT: &str = "a0000000-0000-4000-8000-000000000001";
/// Another agent of the same owner's.
pub const NEIGHBOUR: &str = "a0000000-0000-4000-8000-000000000002";
/// Its key.
pub const NEIGHBOURS_KEY: &str = "key-of-the-neighbour";
/// The agent's key.
pub const KEY: &str = "key-of-the-agent";
/// Friends are let in, foes are sent away, everybody else waits for a person.
const RULES: &str = r#"version = 1
[policy]
mode = "enforce"
no_match = "defer"
[rules.friends]
then = "approve"
when = { handle = "friends/*" }
[rules.foes]
then = "reject"
when = { handle = "foes/*" }
"#;
/// The documented values, divided by about a hundred.
const TIMING: &str = r#"heartbeat = "150ms"
dead_after = "1s"
join_timeout = "3s"
backoff_min = "20ms"
backoff_max = "200ms"
proven_after = "500ms"
list_live = "400ms"
list_away = "200ms"
yield_retry = "200ms"
ghost_window = "2s"
ghost_retry = "100ms"
refused_min = "100ms"
refused_max = "400ms"
retry_after_max = "1s"
drain = "2s"
"#;

/// An address of this machine that no other site has: while a platform is away, its port must not become the near end of
/// somebody's connection.
fn own_address() -> SocketAddr {
    static SITES: AtomicU16 = AtomicU16::new(0);
    let [high, low] = SITES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    ([127, 1 + (std::process::id() % 250) as u8, high, low.max(1)], 0).into()
}

/// See the module.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub control: Control,
    pub address: SocketAddr,
    sandbox: Option<Sandbox>,
}

impl Site {
    /// A platform that knows one agent, and a daemon's files for it.
    pub async fn start() -> Self {
        Self::of(SandboxOptions::default()).await
    }

    /// The same with these options of the sandbox.
    pub async fn of(options: SandboxOptions) -> Self {
        let world = World::new().user("u", "ku", "hotel", "Hotel").agent(AGENT, KEY, "hotel/porter", "Porter");
        let world = world.agent(NEIGHBOUR, NEIGHBOURS_KEY, "hotel/neighbour", "Neighbour");
        let sandbox = match Sandbox::start(own_address(), world.clone(), options.clone()).await {
            Ok(sandbox) => sandbox,
            Err(_) => Sandbox::start(([127, 0, 0, 1], 0).into(), world, options).await.unwrap(),
        };
        Self::files(sandbox.control(), sandbox.address(), Some(sandbox))
    }

    /// The files of one more daemon, for the same agent on the same platform.
    pub fn beside(&self) -> Self {
        Self::files(self.control.clone(), self.address, None)
    }

    fn files(control: Control, address: SocketAddr, sandbox: Option<Sandbox>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rules.toml"), RULES).unwrap();
        std::fs::write(dir.path().join("agent.key"), KEY).unwrap();
        let site = Self { dir, control, address, sandbox };
        site.configure(address, "", "");
        site
    }

    /// Writes the configuration again: with this address, additional lines for `[[agents]]`, and values for `[timing]`
    /// in place of the short ones.
    pub fn configure(&self, address: SocketAddr, agent: &str, timing: &str) {
        let mut text = format!(
            "[platform]\nurl = \"http://{address}\"\n[[agents]]\nid = \"{AGENT}\"\napi_key_file = \"agent.key\"\n\
             rules = \"rules.toml\"\n{agent}\n[answers]\nper_second = 0\n[ledger]\npath = \"ledger.db\"\n\
             [control]\npath = \"doorman.sock\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n[timing]\n"
        );
        for line in TIMING.lines() {
            let name = line.split(' ').next().unwrap_or_default();
            let put = timing.lines().find(|line| line.split(' ').next() == Some(name));
            let _ = writeln!(text, "{}", put.unwrap_or(line));
        }
        std::fs::write(self.path("doorman.toml"), text).unwrap();
    }

    /// The path of a file of the daemon.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the daemon.
    pub fn daemon(&self) -> Daemon {
        self.daemon_with(&[])
    }

    /// Starts it with these flags.
    pub fn daemon_with(&self, flags: &[&str]) -> Daemon {
        self.daemon_with_env(flags, &[])
    }

    /// Starts it with these flags and variables.
    pub fn daemon_with_env(&self, flags: &[&str], variables: &[(&str, &str)]) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
        command.arg("run").args(flags).env_clear().envs(variables.iter().copied());
        Daemon::spawn(command, self.dir.path())
    }

    /// Runs another command of the binary on this site's files; returns its exit code, stdout and stderr.
    pub async fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        let running = self.command(arguments).output();
        let output = timeout(TIME, running).await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The same, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
        command
            .args(arguments)
            .env_clear()
            .env("DOORMAN_CONFIG", self.path("doorman.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts it by a shell: these words come before the program's name.
    pub fn daemon_after(&self, words: &str) -> Daemon {
        let mut command = Command::new("sh");
        command.env_clear().arg("-c").arg(format!("{words} {} run", env!("CARGO_BIN_EXE_doorman")));
        Daemon::spawn(command, self.dir.path())
    }

    /// The platform is killed.
    pub async fn crash_platform(&mut self) {
        self.sandbox.take().unwrap().kill().await;
    }

    /// The platform stops in order.
    pub async fn stop_platform(&mut self) {
        self.sandbox.take().unwrap().stop().await;
    }

    /// The platform starts again with its whole state.
    pub async fn resume_platform(&mut self) {
        let resume = async {
            loop {
                match Sandbox::resume(self.address, self.control.clone()).await {
                    Ok(sandbox) => return sandbox,
                    // A process that is just being started holds a copy of the old socket until it runs.
                    Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        self.sandbox = Some(timeout(TIME, resume).await.unwrap());
    }

    /// Sends requests: this many friends, then as many foes, then a few strangers.
    pub fn ask(&self, batch: &str, each: u64, push: bool) {
        for (who, each) in [("friends", each), ("foes", each), ("strangers", each.div_ceil(10))] {
            let new = NewRequest { push: Some(push), ..NewRequest::to(AGENT) };
            let new = new.from(&format!("{who}/{{n}}")).id(&format!("{batch}-{who}-{{n}}")).count(each);
            self.control.request(&new).unwrap();
        }
    }

    /// Waits until the sandbox's state satisfies `so`; checks it every few milliseconds.
    pub async fn until(&self, what: &str, so: impl Fn(&Control) -> bool) -> Result<(), String> {
        let wait = async {
            while !so(&self.control) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TIME, wait).await.map_err(|_| format!("never: {what}; {:?}", self.control.counts()))
    }
}
