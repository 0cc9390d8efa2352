//! `doorman demo`: a sandbox in this process, the daemon in one of its own, and strangers who ask to be let in.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use self::stage::DemoRun;
use super::{CliError, Global, output};
use crate::config::{self, Env, Overrides};
use crate::sandbox::{Sandbox, SandboxOptions, World};

mod daemon;
mod script;
mod stage;

const AGENT: &str = "7f1f8a52-1f0c-4c0e-8f5e-6d1b3a0c9e21";
const KEY: &str = "demo-key-of-the-concierge";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman demo
  doorman demo --fast    without pauses
  doorman demo --keep    and then try commands on it

A sandbox imitates the platform; the daemon is this program, in a process of its
own, with the rules that doorman ships. Nothing leaves this machine, and all
files are removed at the end. It takes about 15 seconds.

Exit status: 0 it worked, 1 it did not.")]
pub struct Args {
    /// Without pauses, as it is without a terminal
    #[arg(long)]
    fast: bool,
    /// Leave the sandbox and the daemon running; Ctrl-C ends both
    #[arg(long)]
    keep: bool,
}

type DemoFailure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command.
///
/// # Errors
/// 1 if something that should have happened did not.
pub fn run(args: Args, _global: &Global) -> Result<u8, CliError> {
    super::runtime(1)?
        .block_on(async {
            let mut signals = crate::ops::signals::listen(0)?;
            signals.started();
            tokio::select! {
                played = evening(&args) => played,
                _ = signals.next() => Ok(0),
            }
        })
        .map_err(|error| CliError::new(1, format!("the demo failed: {error}")))
}

async fn evening(args: &Args) -> Result<u8, DemoFailure> {
    let directory = Directory::create()?;
    let directory = directory.0.as_path();
    let sandbox = Sandbox::start("127.0.0.1:0".parse()?, world(), SandboxOptions::default()).await?;
    write_configuration(directory, &sandbox.url())?;
    let control = sandbox.control();
    let mut stage = DemoRun::begin(directory, args.fast)?;
    let sandbox = script::play(&mut stage, &control, sandbox).await?;
    stage.summary(&control)?;
    let doorman = program(std::env::current_exe(), std::env::current_dir());
    if args.keep {
        let (socket, shown) = (directory.join("run/doorman.sock"), directory.display());
        let socket = socket.display();
        output::print(&format!(
            "\nBoth keep running, and print what happens here. In another terminal:\n\
             \n  {doorman} sandbox request @zoe --message hello --url {}\
             \n  {doorman} status --socket {socket}\
             \n  {doorman} pending --socket {socket}\
             \n  {doorman} approve @zoe --socket {socket}\
             \n  {doorman} history --ledger {shown}/ledger.db\
             \n  {doorman} reload --wait --socket {socket}   # after a change in {shown}/rules.toml\n\
             \nCtrl-C ends both, and removes the files\n",
            sandbox.url(),
        ))
        .map_err(|error| error.message)?;
        stage.watch().await?;
    } else {
        let next = [
            ("recipes", "rules for common situations"),
            ("sandbox", "an imitation of the platform"),
            ("init my-agent", "your own agent, in shadow"),
        ];
        let lines = next.map(|(command, what)| format!("  {:<40} {what}\n", format!("{doorman} {command}")));
        output::print(&format!("\nNext:\n{}", lines.concat())).map_err(|error| error.message)?;
    }
    stage.end().await;
    sandbox.stop().await;
    Ok(0)
}

/// The command that starts this program: after `cargo run` there is no `doorman` on the PATH.
fn program(path: std::io::Result<PathBuf>, here: std::io::Result<PathBuf>) -> String {
    let Ok(path) = path else { return "doorman".to_owned() };
    if on_path(&path) {
        return "doorman".to_owned();
    }
    let below = here.ok().and_then(|here| Some(Path::new(".").join(path.strip_prefix(here).ok()?)));
    let text = below.unwrap_or(path).display().to_string();
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
    if plain(&text) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Whether a shell finds this program under the name `doorman`.
fn on_path(program: &Path) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&path).map(|one| one.join("doorman")).find(|one| one.is_file());
    first.is_some_and(|first| std::fs::canonicalize(first).ok() == std::fs::canonicalize(program).ok())
}

/// The demo's own directory. It is removed with everything in it, however the demo ends.
struct Directory(PathBuf);

impl Directory {
    /// Makes a new directory that nobody else can enter.
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

/// Writes the shipped rules and a configuration for the demo, and checks both as the daemon will.
fn write_configuration(directory: &Path, url: &str) -> Result<(), DemoFailure> {
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text);
    write("rules.toml", include_str!("../../config/rules.toml"))?;
    write("friends.txt", include_str!("../../config/friends.txt"))?;
    write("blocked.txt", include_str!("../../config/blocked.txt"))?;
    write("agent.key", KEY)?;
    let text = format!(
        "[platform]\nurl = \"{url}\"\n[[agents]]\nid = \"{AGENT}\"\napi_key_file = \"agent.key\"\nrules = \"rules.toml\"\n\
         [ledger]\npath = \"ledger.db\"\n[control]\npath = \"run/doorman.sock\"\n[answers]\nper_second = 50\n\
         [timing]\nbackoff_min = \"100ms\"\nbackoff_max = \"1s\"\nlist_away = \"2s\"\n"
    );
    write("doorman.toml", &text)?;
    let loaded = config::load(Some(&directory.join("doorman.toml")), &Env::default(), &Overrides::default());
    loaded.map_err(|report| report.render(false))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_named_so_that_it_can_be_typed() {
        let named = |path: &str, here: &str| program(Ok(path.into()), Ok(here.into()));
        assert_eq!(named("/home/ann/doorman/target/debug/doorman", "/home/ann/doorman"), "./target/debug/doorman");
        assert_eq!(named("/opt/none/doorman", "/home/ann"), "/opt/none/doorman");
        assert_eq!(named("/my files/ann's/doorman", "/home"), r"'/my files/ann'\''s/doorman'");
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(program(Ok("/a/doorman".into()), Err(gone())), "/a/doorman");
        assert_eq!(program(Err(gone()), Err(gone())), "doorman");
    }
}
