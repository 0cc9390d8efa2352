//! What the evening prints, and counts.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Failure;
use crate::agent::Notice;
use crate::model::{AgentId, ContactRequest, StrangerText};
use crate::sandbox::{Control, Status};

/// Nothing in the demo takes longer than this.
const STEP_MAX: Duration = Duration::from_secs(8);

/// One evening.
pub(super) struct Stage {
    notices: mpsc::UnboundedReceiver<(AgentId, Notice)>,
    by: BTreeMap<(String, String), u32>,
    answered: BTreeMap<String, u32>,
}

impl Stage {
    /// Hears what the daemon tells.
    pub(super) fn new(notices: mpsc::UnboundedReceiver<(AgentId, Notice)>) -> Self {
        Self { notices, by: BTreeMap::new(), answered: BTreeMap::new() }
    }

    /// Prints and counts the next notice.
    pub(super) async fn next(&mut self) -> Option<Notice> {
        let (_, notice) = self.notices.recv().await?;
        self.show(&notice);
        Some(notice)
    }

    /// Waits until something like this is told.
    pub(super) async fn until(&mut self, is: impl Fn(&Notice) -> bool) -> Result<(), Failure> {
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
    pub(super) async fn decisions(&mut self, count: u32) -> Result<(), Failure> {
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
                say(&format!(
                    "  {:<8} {:<22} {}{}",
                    decision.verdict,
                    who(request),
                    decision.by.reason(),
                    said(request)
                ));
            }
            Notice::Answered { outcome, request, latency, .. } => {
                *self.answered.entry(outcome.to_string()).or_default() += 1;
                let took = latency.map_or_else(String::new, |latency| {
                    format!(" {:.1} ms after the knock", latency.as_secs_f64() * 1e3)
                });
                say(&format!("           {:<22} {outcome}{took}", who(request)));
            }
            Notice::Settled { request, status } => {
                let how = status.as_ref().map_or("gone", |status| status.as_str());
                say(&format!("  settled  {:<22} {how}, not by doorman", request.to_string()));
            }
            Notice::ContactRemoved { handle, .. } => {
                let handle = handle.as_ref().map_or_else(|| "somebody".to_owned(), ToString::to_string);
                say(&format!("  contact  {handle:<22} removed"));
            }
            _ => {}
        }
    }

    /// What the evening came to.
    pub(super) fn summary(&self, control: &Control) {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["verdict", "by", "requests"]);
        for ((verdict, by), count) in &self.by {
            table.add_row([verdict.clone(), by.clone(), count.to_string()]);
        }
        say(&format!("\n{}", table.trim_fmt()));
        let outcomes: Vec<String> = self.answered.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        let pending = control.state().requests.iter().filter(|request| request.status == Status::Pending).count();
        say(&format!("\nanswers: {}; {pending} left pending for a person", outcomes.join(", ")));
    }
}

fn who(request: &ContactRequest) -> String {
    request.sender.original().map_or_else(|| "(no handle)".to_owned(), StrangerText::to_string)
}

pub(super) fn say(text: &str) {
    let _ = writeln!(anstream::stdout(), "{text}");
}

/// What the stranger says of themselves, if anything.
fn said(request: &ContactRequest) -> String {
    let name = request.name.as_ref().map(|name| format!("  “{name}”"));
    let message = request.message.as_ref().map(|message| format!("  says “{message}”"));
    name.into_iter().chain(message).collect()
}
