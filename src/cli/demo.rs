//! `doorman demo`: a sandbox and the daemon together, and a scripted evening of strangers.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{CliError, Global};
use crate::agent::Notice;
use crate::clock::Clock;
use crate::config::{self, Env, Overrides};
use crate::daemon::{Daemon, Options};
use crate::model::{AgentId, AgentState, ContactRequest, StrangerText};
use crate::ops::notify::Notifier;
use crate::sandbox::{Control, NewRequest, Sandbox, SandboxOptions, Status, World};
use crate::supervisor::Reread;

const AGENT: &str = "7f1f8a52-1f0c-4c0e-8f5e-6d1b3a0c9e21";
const KEY: &str = "demo-key-of-the-concierge";
/// Nothing in the demo takes longer than this.
const STEP_MAX: Duration = Duration::from_secs(8);

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
    super::runtime()?
        .block_on(evening(args.keep))
        .map_err(|error| CliError::new(1, format!("the demo failed: {error}")))
}

/// What the evening prints, and counts.
struct Stage {
    notices: mpsc::UnboundedReceiver<(AgentId, Notice)>,
    by: BTreeMap<(String, String), u32>,
    answered: BTreeMap<String, u32>,
}

async fn evening(keep: bool) -> Result<u8, Failure> {
    let directory = std::env::temp_dir().join(format!("doorman-demo-{}", std::process::id()));
    let loopback = "127.0.0.1:0".parse()?;
    let sandbox = Sandbox::start(loopback, world(), SandboxOptions::default()).await?;
    let settings = write_configuration(&directory, &sandbox.url())?;
    say(&format!("the sandbox listens on {}, the daemon's files are in {}", sandbox.url(), directory.display()));
    let control = sandbox.control();
    let (observer, notices) = mpsc::unbounded_channel();
    let options = Options {
        shadow: false,
        clock: Clock::start(),
        seed: fastrand::u64(..),
        notifier: Notifier::from_env()?,
        watchdog_limit: None,
        observer: Some(observer),
        reread: Reread(Box::new(|| Ok(Vec::new()))),
    };
    let daemon = Daemon::start(settings, options).await?;
    let mut stage = Stage { notices, by: BTreeMap::new(), answered: BTreeMap::new() };
    let sandbox = play(&mut stage, &control, sandbox).await?;
    stage.summary(&control);
    if keep {
        say(&format!(
            "both keep running. Poke them:\n  curl -X POST {}/_sandbox/requests -d '{{\"to\":\"{AGENT}\",\"from_handle\":\"ann\"}}'\n  doorman status --socket {}\nCtrl-C ends both",
            sandbox.url(),
            daemon.control.display()
        ));
        let mut signals = crate::ops::signals::listen()?;
        let printing = async { while stage.next().await.is_some() {} };
        tokio::select! {
            () = printing => {}
            _ = futures_util::StreamExt::next(&mut signals) => {}
        }
    }
    daemon.stop().await;
    sandbox.stop().await;
    std::fs::remove_dir_all(&directory)?;
    Ok(0)
}

fn world() -> World {
    World::new()
        .agent(AGENT, KEY, "hotel/concierge", "The Concierge")
        .user("4b1c9a10-0000-4000-8000-000000000001", "key-ann", "ann", "Ann")
        .user("4b1c9a10-0000-4000-8000-000000000002", "key-john", "john", "John")
}

/// The shipped rules beside a configuration of the demo's own.
fn write_configuration(directory: &Path, url: &str) -> Result<config::Settings, Failure> {
    std::fs::create_dir_all(directory)?;
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text);
    write("rules.toml", include_str!("../../config/rules.toml"))?;
    write("friends.txt", include_str!("../../config/friends.txt"))?;
    write("blocked.txt", include_str!("../../config/blocked.txt"))?;
    write("agent.key", KEY)?;
    let text = format!(
        "[platform]\nurl = \"{url}\"\n[[agents]]\nid = \"{AGENT}\"\napi_key_file = \"agent.key\"\nrules = \"rules.toml\"\n\
         [ledger]\npath = \"ledger.db\"\n[control]\npath = \"run/doorman.sock\"\n[timing]\nbackoff_max = \"2s\"\nlist_away = \"2s\"\n"
    );
    write("doorman.toml", &text)?;
    let loaded = config::load(Some(&directory.join("doorman.toml")), &Env::default(), &Overrides::default());
    Ok(loaded.map_err(|report| report.render(false))?.settings)
}

fn say(text: &str) {
    let _ = writeln!(anstream::stdout(), "{text}");
}

/// The script. Each step waits for what it must bring about.
async fn play(stage: &mut Stage, control: &Control, sandbox: Sandbox) -> Result<Sandbox, Failure> {
    stage.until(|notice| matches!(notice, Notice::State { state: AgentState::Live, .. })).await?;
    say("\n— strangers come one by one");
    let to = || NewRequest::to(AGENT);
    control.request(&to().from("@Ann").named("Ann").saying("it's me"))?;
    control.request(&to().from("john/weather-agent").named("Weather"))?;
    control.request(&to().from("spam-king/offers").saying("win now"))?;
    control.request(&to().from("bob").named("Bob").saying("we boost your SEO"))?;
    control.request(&to().from("j0hn").named("John"))?;
    control.request(&to().from("carol").saying("hello, may I?"))?;
    control.request(&to().from("dave"))?;
    control.request(&to().from_null().named("Nobody"))?;
    control.request(&to().from("@@we/ird//handle").named("\u{1b}[31mred\u{202e}"))?;
    stage.decisions(9).await?;

    say("\n— a burst: eight bots of acme, five of which are let in this hour");
    control.request(&to().from("acme/{n}-bot").count(8))?;
    stage.decisions(8).await?;

    say("\n— a person on the platform answers one, and a sender takes another back");
    let ids = control.request(&to().from("erin").id("demo-erin"))?;
    let more = control.request(&to().from("frank").id("demo-frank"))?;
    stage.decisions(2).await?;
    for (id, status) in [(&ids[0], Status::Approved), (&more[0], Status::Cancelled)] {
        control.settle(id, status)?;
        stage.until(|notice| matches!(notice, Notice::Settled { .. })).await?;
    }

    say("\n— a contact is removed");
    control.remove_contact(AGENT, "ann")?;
    stage.until(|notice| matches!(notice, Notice::ContactRemoved { .. })).await?;

    say("\n— the connection drops, and somebody knocks before it is back");
    let address = sandbox.address();
    sandbox.kill().await;
    stage.until(|notice| matches!(notice, Notice::State { state: AgentState::Away, .. })).await?;
    control.request(&to().from("john").named("John").saying("anybody there?"))?;
    let sandbox = Sandbox::resume(address, control.clone()).await?;
    stage.decisions(1).await?;
    Ok(sandbox)
}

impl Stage {
    /// Prints and counts the next notice.
    async fn next(&mut self) -> Option<Notice> {
        let (_, notice) = self.notices.recv().await?;
        self.show(&notice);
        Some(notice)
    }

    async fn until(&mut self, is: impl Fn(&Notice) -> bool) -> Result<(), Failure> {
        let waiting = async {
            while let Some(notice) = self.next().await {
                if is(&notice) {
                    return true;
                }
            }
            false
        };
        match timeout(STEP_MAX, waiting).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("the daemon ended".into()),
            Err(_) => Err("something that should have happened did not".into()),
        }
    }

    /// Waits until so many requests are decided, and answered where they are to be.
    async fn decisions(&mut self, count: u32) -> Result<(), Failure> {
        let (mut decided, mut open) = (0, 0_i32);
        while decided < count || open > 0 {
            let notice = timeout(STEP_MAX, self.next()).await.map_err(|_| "a request was not decided in time")?;
            match notice {
                Some(Notice::Decided { decision, .. }) => {
                    decided += 1;
                    open += i32::from(decision.verdict.answer().is_some() && decision.due.is_none());
                }
                Some(Notice::Answered { .. }) => open -= 1,
                Some(_) => {}
                None => return Err("the daemon ended".into()),
            }
        }
        Ok(())
    }

    fn show(&mut self, notice: &Notice) {
        match notice {
            Notice::State { state, why } => say(&format!("  [{state}] {why}")),
            Notice::Decided { request, decision, .. } => {
                *self.by.entry((decision.verdict.to_string(), decision.by.to_string())).or_default() += 1;
                say(&format!("  {:<8} {:<28} by {}", decision.verdict.to_string(), who(request), decision.by));
            }
            Notice::Answered { outcome, request, latency, .. } => {
                *self.answered.entry(outcome.to_string()).or_default() += 1;
                let took = latency.map_or_else(String::new, |latency| {
                    format!(" {:.1} ms after the knock", latency.as_secs_f64() * 1e3)
                });
                say(&format!("           {:<28} {outcome}{took}", who(request)));
            }
            Notice::Settled { request, status } => {
                let how = status.as_ref().map_or("gone", |status| status.as_str());
                say(&format!("  settled  {request:<28} {how}, not by doorman"));
            }
            Notice::ContactRemoved { handle, .. } => {
                let handle = handle.as_ref().map_or_else(|| "somebody".to_owned(), ToString::to_string);
                say(&format!("  contact  {handle:<28} removed"));
            }
            _ => {}
        }
    }

    fn summary(&self, control: &Control) {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["verdict", "by", "requests"]);
        for ((verdict, by), count) in &self.by {
            table.add_row([verdict.clone(), by.clone(), count.to_string()]);
        }
        say(&format!("\n{table}"));
        let outcomes: Vec<String> = self.answered.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        let pending = control.state().requests.iter().filter(|request| request.status == Status::Pending).count();
        say(&format!("\nanswers: {}; {pending} left pending for a person", outcomes.join(", ")));
    }
}

fn who(request: &Arc<ContactRequest>) -> String {
    request.sender.original().map_or_else(|| "(no handle)".to_owned(), StrangerText::to_string)
}
