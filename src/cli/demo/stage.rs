//! What the evening prints, at which pace, and what it counts.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use tokio::time::{sleep, timeout};

use super::DemoFailure;
use super::daemon::{DemoDaemon, DemoLogLine, command};
use crate::cli::output;
use crate::sandbox::{Control, RequestState, SandboxStatus};

/// No step of the demo takes longer than this.
const STEP_MAX: Duration = Duration::from_secs(20);
/// Time to read a sentence, and a line.
const SENTENCE: Duration = Duration::from_millis(800);
const LINE: Duration = Duration::from_millis(160);
/// Columns of a handle and of what decided.
const HANDLE: usize = 24;
const BY: usize = 22;

/// One run of the demo.
pub(super) struct DemoRun {
    directory: PathBuf,
    daemon: DemoDaemon,
    paced: bool,
    /// Decided and not answered yet: verdict, handle, what decided.
    open: BTreeMap<String, DemoLogLine>,
    by: BTreeMap<(String, String), u32>,
    /// During a burst the single requests are not printed.
    silent: bool,
    answered: usize,
}

impl DemoRun {
    /// Starts the daemon. Only somebody who looks at a terminal needs time to read.
    pub(super) fn begin(directory: &Path, fast: bool) -> Result<Self, DemoFailure> {
        Ok(Self {
            directory: directory.to_owned(),
            daemon: DemoDaemon::start(directory)?,
            paced: !fast && std::io::stdout().is_terminal(),
            open: BTreeMap::new(),
            by: BTreeMap::new(),
            silent: false,
            answered: 0,
        })
    }

    async fn pause(&self, time: Duration) {
        if self.paced {
            sleep(time).await;
        }
    }

    /// Announces what is shown next.
    pub(super) async fn scene(&mut self, sentence: &str, more: &str) -> Result<(), DemoFailure> {
        self.pause(SENTENCE / 2).await;
        let bold = Style::new().bold();
        let more = if more.is_empty() { String::new() } else { format!("{bold}{more}{bold:#}\n") };
        say(&format!("\n{bold}{sentence}{bold:#}\n{more}"))?;
        self.pause(SENTENCE).await;
        Ok(())
    }

    /// Prints and counts the next line of the log.
    async fn next(&mut self) -> Result<DemoLogLine, DemoFailure> {
        let line = timeout(STEP_MAX, self.daemon.next()).await.map_err(|_| "nothing happens any more")?;
        let line = line.ok_or("the daemon ended")?;
        self.show(&line).await?;
        Ok(line)
    }

    /// Waits for a line of the log that satisfies `is`.
    pub(super) async fn until(&mut self, is: impl Fn(&DemoLogLine) -> bool, what: &str) -> Result<(), DemoFailure> {
        let waiting = async {
            while !is(&self.next().await?) {}
            Ok(())
        };
        timeout(STEP_MAX, waiting).await.unwrap_or_else(|_| Err(format!("this did not happen: {what}").into()))
    }

    /// Waits until this many requests are decided, and answered unless they were deferred.
    pub(super) async fn decisions(&mut self, count: usize) -> Result<(), DemoFailure> {
        let mut decided = 0;
        while decided < count || !self.open.is_empty() {
            decided += usize::from(self.next().await?.event == "decided");
        }
        Ok(())
    }

    /// Waits for this many answers of a burst, without a line for each.
    pub(super) async fn answers(&mut self, count: usize) -> Result<usize, DemoFailure> {
        self.silent = true;
        let mut answered = 0;
        while answered < count {
            answered += usize::from(self.next().await?.event == "answered");
        }
        Ok(answered)
    }

    /// Runs one of doorman's commands, as a person would.
    pub(super) async fn command(&mut self, arguments: &[&str]) -> Result<(), DemoFailure> {
        say(&format!("  $ doorman {}\n", arguments.join(" ")))?;
        let output = command(&self.directory, arguments)?.output().await?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        say(&format!("  {}", output::shown_lines(&String::from_utf8_lossy(&output.stdout))))?;
        self.pause(SENTENCE).await;
        Ok(())
    }

    /// Kills the daemon.
    pub(super) async fn crash(&mut self, answered: usize) -> Result<(), DemoFailure> {
        self.daemon.kill().await?;
        let red = AnsiColor::Red.on_default().bold();
        say(&format!("  {answered} bots have their answer …  {red}kill -9{red:#}\n"))?;
        self.open.clear();
        self.pause(SENTENCE).await;
        Ok(())
    }

    /// Starts it again, and proves from the platform's own record that each bot of the burst got one answer.
    pub(super) async fn restart(&mut self, control: &Control, bots: usize) -> Result<(), DemoFailure> {
        say("  … and started again, on the same files\n")?;
        self.daemon = DemoDaemon::start(&self.directory)?;
        let burst = || -> Vec<RequestState> {
            let all = control.state().requests.into_iter();
            all.filter(|one| one.from_handle.as_deref().is_some_and(|from| from.ends_with("/free-followers"))).collect()
        };
        while burst().iter().any(|one| one.status == SandboxStatus::Pending) {
            self.next().await?;
        }
        let burst = burst();
        let rejected = burst.iter().filter(|one| one.status == SandboxStatus::Rejected).count();
        let twice =
            burst.iter().filter(|one| one.answers.iter().filter(|answer| answer.http == 200).count() > 1).count();
        let (green, lost) = (AnsiColor::Green.on_default().bold(), bots - burst.len().min(bots));
        if rejected != bots || twice > 0 || lost > 0 {
            return Err(format!("of {bots} bots {rejected} were rejected, {lost} lost, {twice} answered twice").into());
        }
        *self.by.entry(("reject".to_owned(), "blocked".to_owned())).or_default() += bots as u32;
        say(&format!("  {green}{bots} asked, {rejected} rejected, 0 lost, 0 answered twice{green:#}\n"))?;
        self.pause(SENTENCE).await;
        Ok(())
    }

    async fn show(&mut self, line: &DemoLogLine) -> Result<(), DemoFailure> {
        if self.silent {
            return Ok(());
        }
        match line.event.as_str() {
            "decided" => {
                let verdict = line.verdict.clone().unwrap_or_default();
                *self.by.entry((verdict.clone(), line.by.clone().unwrap_or_default())).or_default() += 1;
                if verdict == "defer" {
                    self.stranger(line, AnsiColor::Yellow, "… waits for a person").await?;
                } else if let Some(request) = &line.request {
                    self.open.insert(request.clone(), line.clone());
                }
            }
            "answered" => {
                self.answered += 1;
                let Some(decided) = line.request.as_ref().and_then(|request| self.open.remove(request)) else {
                    return Ok(());
                };
                let colour =
                    if decided.verdict.as_deref() == Some("approve") { AnsiColor::Green } else { AnsiColor::Red };
                let took = line.latency_ms.map_or_else(String::new, |took| format!(" {took:.0} ms"));
                let done = match line.outcome.as_deref() {
                    Some("approved" | "rejected" | "presumed-approved" | "presumed-rejected") => format!("✓{took}"),
                    other => other.unwrap_or("?").to_owned(),
                };
                self.stranger(&decided, colour, &done).await?;
            }
            "settled" => {
                let status = line.status.as_deref().unwrap_or("settled");
                let who = line.request.as_deref().unwrap_or_default().trim_start_matches("demo-");
                self.row(AnsiColor::Cyan, status, who, "", "not by doorman").await?;
            }
            "state_changed" if line.state.as_deref() == Some("away") => {
                self.row(AnsiColor::Cyan, "away", "no connection", "", "").await?;
            }
            "state_changed" if line.state.as_deref() == Some("live") => {
                self.row(AnsiColor::Cyan, "live", "connected", "", "").await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn stranger(&self, decided: &DemoLogLine, colour: AnsiColor, done: &str) -> Result<(), DemoFailure> {
        let who = decided.handle.as_deref().unwrap_or("(no handle)");
        let (verdict, by) = (decided.verdict.as_deref().unwrap_or("?"), decided.by.as_deref().unwrap_or("?"));
        self.row(colour, verdict, who, by, done).await
    }

    async fn row(&self, colour: AnsiColor, verdict: &str, who: &str, by: &str, done: &str) -> Result<(), DemoFailure> {
        let style = colour.on_default().bold();
        let (who, by) = (cell(who, HANDLE), cell(by, BY));
        let row = format!("  {style}{verdict:<9}{style:#} {who} {by} {done}");
        say(&format!("{}\n", row.trim_end()))?;
        self.pause(LINE).await;
        Ok(())
    }

    /// Prints the totals of the demo.
    pub(super) fn summary(&self, control: &Control) -> Result<(), DemoFailure> {
        let rows = self.by.iter().map(|((verdict, by), count)| vec![verdict.clone(), by.clone(), count.to_string()]);
        let table = crate::cli::table::table(&["VERDICT", "BY", "REQUESTS"], rows.collect());
        let pending =
            control.state().requests.iter().filter(|request| request.status == SandboxStatus::Pending).count();
        say(&format!("\n{table}\n{pending} requests are left for a person (`doorman review`).\n"))
    }

    /// Prints what happens until the daemon ends.
    pub(super) async fn watch(&mut self) -> Result<(), DemoFailure> {
        self.silent = false;
        while let Some(line) = self.daemon.next().await {
            self.show(&line).await?;
        }
        Ok(())
    }

    /// Ends the daemon.
    pub(super) async fn end(self) {
        self.daemon.stop().await;
    }
}

/// A text in a column of its own; strangers' text may be long.
fn cell(text: &str, width: usize) -> String {
    let text = output::shown(text);
    let long = text.chars().count() > width;
    let kept: String = text.chars().take(if long { width - 1 } else { width }).collect();
    let kept = if long { kept + "…" } else { kept };
    format!("{kept:<width$}")
}

fn say(text: &str) -> Result<(), DemoFailure> {
    output::print(text).map_err(|error| error.message.into())
}
