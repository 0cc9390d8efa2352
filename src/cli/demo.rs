//! `doorman demo`: a sandbox and the daemon together, and a scripted evening of strangers.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use self::stage::{Stage, say};
use super::{CliError, Global};
use crate::clock::Clock;
use crate::config::{self, Env, Overrides};
use crate::daemon::{Daemon, Options};
use crate::sandbox::{Sandbox, SandboxOptions, World};

mod script;
mod stage;

const AGENT: &str = "7f1f8a52-1f0c-4c0e-8f5e-6d1b3a0c9e21";
const KEY: &str = "demo-key-of-the-concierge";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave the sandbox and the daemon running afterwards, and say how to poke them; Ctrl-C ends both
    #[arg(long)]
    keep: bool,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command.
pub fn run(args: Args, _global: &Global) -> Result<u8, CliError> {
    super::runtime(1)?
        .block_on(evening(args.keep))
        .map_err(|error| CliError::new(1, format!("the demo failed: {error}")))
}

async fn evening(keep: bool) -> Result<u8, Failure> {
    let directory = Directory::create()?;
    let directory = directory.0.as_path();
    let loopback = "127.0.0.1:0".parse()?;
    let sandbox = Sandbox::start(loopback, world(), SandboxOptions::default()).await?;
    let settings = write_configuration(directory, &sandbox.url())?;
    say(&format!("the sandbox listens on {}\nthe daemon's files are in {}", sandbox.url(), directory.display()));
    let control = sandbox.control();
    let (observer, notices) = mpsc::unbounded_channel();
    let from = directory.join("doorman.toml");
    let options = Options { observer: Some(observer), ..Options::unattended(Clock::start(), fastrand::u64(..), &from) };
    let daemon = Daemon::start(settings, options).await?;
    let mut stage = Stage::new(notices);
    let sandbox = script::play(&mut stage, &control, sandbox).await?;
    stage.summary(&control);
    if keep {
        let socket = daemon.control.display();
        let shown = directory.display();
        let doorman = program(std::env::current_exe(), std::env::current_dir());
        say(&format!(
            "\nboth keep running, and print what happens here. In another terminal:\n\
             \n  curl -X POST {}/_sandbox/requests -d '{{\"to\":\"{AGENT}\",\"from_handle\":\"ann\"}}'\
             \n  {doorman} status --socket {socket}\
             \n  {doorman} pending --socket {socket}\
             \n  {doorman} approve @carol --socket {socket}\
             \n  {doorman} history --ledger {shown}/ledger.db\
             \n  {doorman} reload --wait --socket {socket}   # after a change in {shown}/rules.toml\n\
             \nCtrl-C ends both, and removes the files",
            sandbox.url(),
        ));
        let mut signals = crate::ops::signals::listen(0)?;
        signals.started();
        let printing = async { while stage.next().await.is_some() {} };
        tokio::select! {
            () = printing => {}
            _ = signals.next() => {}
        }
    }
    daemon.stop().await;
    sandbox.stop().await;
    Ok(0)
}

/// What to type for this program: after `cargo run` there is no `doorman` on the PATH.
fn program(path: std::io::Result<PathBuf>, here: std::io::Result<PathBuf>) -> String {
    let Ok(path) = path else { return "doorman".to_owned() };
    let below = here.ok().and_then(|here| Some(Path::new(".").join(path.strip_prefix(here).ok()?)));
    let text = below.unwrap_or(path).display().to_string();
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
    if plain(&text) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The demo's own directory, removed with all that is in it, however the demo ends.
struct Directory(PathBuf);

impl Directory {
    /// Nobody else can enter it, and it was not there before.
    fn create() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("doorman-demo-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn world() -> World {
    World::new()
        .agent(AGENT, KEY, "hotel/concierge", "The Concierge")
        .user("4b1c9a10-0000-4000-8000-000000000001", "key-ann", "ann", "Ann")
        .user("4b1c9a10-0000-4000-8000-000000000002", "key-john", "john", "John")
}

/// The shipped rules beside a configuration of the demo's own.
fn write_configuration(directory: &Path, url: &str) -> Result<config::Settings, Failure> {
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text);
    write("rules.toml", include_str!("../../config/rules.toml"))?;
    write("friends.txt", include_str!("../../config/friends.txt"))?;
    write("blocked.txt", include_str!("../../config/blocked.txt"))?;
    write("agent.key", KEY)?;
    let text = format!(
        "[platform]\nurl = \"{url}\"\n[[agents]]\nid = \"{AGENT}\"\napi_key_file = \"agent.key\"\nrules = \"rules.toml\"\n\
         [ledger]\npath = \"ledger.db\"\n[control]\npath = \"run/doorman.sock\"\n[answers]\nper_second = 200\n[timing]\nbackoff_max = \"2s\"\nlist_away = \"2s\"\n"
    );
    write("doorman.toml", &text)?;
    let loaded = config::load(Some(&directory.join("doorman.toml")), &Env::default(), &Overrides::default());
    Ok(loaded.map_err(|report| report.render(false))?.settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_named_so_that_it_can_be_typed() {
        let named = |path: &str, here: &str| program(Ok(path.into()), Ok(here.into()));
        assert_eq!(named("/home/ann/doorman/target/debug/doorman", "/home/ann/doorman"), "./target/debug/doorman");
        assert_eq!(named("/usr/bin/doorman", "/home/ann"), "/usr/bin/doorman");
        assert_eq!(named("/my files/ann's/doorman", "/home"), r"'/my files/ann'\''s/doorman'");
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(program(Ok("/a/doorman".into()), Err(gone())), "/a/doorman");
        assert_eq!(program(Err(gone()), Err(gone())), "doorman");
    }
}
