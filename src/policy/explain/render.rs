//! The tree of reasons for people.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;

use super::values::duration;
use super::{ConditionResult, Explanation, Reason};
use crate::model::Verdict;
use crate::policy::Mode;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();

impl Explanation {
    /// A tree of text that ends in a newline; `time` renders a time. Without `colour` the text is the same, without
    /// escape sequences.
    pub fn render(&self, colour: bool, time: &dyn Fn(Timestamp) -> String) -> String {
        let paint = |style: Style, text: &str| {
            if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
        };
        let mut out = String::new();
        let (verdict, style) = match self.verdict {
            Verdict::Approve => ("approve", GREEN),
            Verdict::Reject => ("reject", RED),
            Verdict::Defer => ("defer", YELLOW),
        };
        let _ = writeln!(out, "{} by {}", paint(style.bold(), verdict), paint(BOLD, &self.by.to_string()));
        let policy = &self.policy[..self.policy.floor_char_boundary(12)];
        let about = format!("request by {} at {}, policy {policy}", self.sender, time(self.at));
        let _ = writeln!(out, "{}", paint(DIM, &about));
        if let Some(due) = self.due {
            let _ = writeln!(out, "not before {}", time(due));
        }
        if let Some(lasts) = self.lasts {
            let _ = writeln!(out, "for {}: then the contact is removed", duration(lasts));
        }
        if let Some(again) = self.reconsider_at.filter(|again| Some(*again) != self.due) {
            let _ = writeln!(out, "{}", paint(DIM, &format!("decided again at {}", time(again))));
        }
        if self.mode == Mode::Shadow {
            let _ = writeln!(out, "{}", paint(YELLOW, "shadow mode: nothing is answered"));
        }
        out + &self.render_reasons(colour)
    }

    /// The reasons alone, each after an empty line.
    pub fn render_reasons(&self, colour: bool) -> String {
        let paint = |style: Style, text: &str| {
            if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
        };
        let mut out = String::new();
        for reason in &self.reasons {
            out.push('\n');
            let (word, style) = match reason.matched {
                Some(true) => ("matches", GREEN),
                Some(false) => ("does not match", DIM),
                None => ("unknown", YELLOW),
            };
            let shadow = if reason.shadow { ", shadow" } else { "" };
            let _ = writeln!(out, "{} ({}{shadow}): {}", paint(BOLD, &reason.rule), reason.then, paint(style, word));
            render_conditions(reason, &mut out, &paint);
        }
        out
    }
}

fn render_conditions(reason: &Reason, out: &mut String, paint: &impl Fn(Style, &str) -> String) {
    let last = reason.conditions.len().saturating_sub(1);
    for (at, ConditionResult { place, key, wanted, saw, holds }) in reason.conditions.iter().enumerate() {
        let branch = if at == last { "└─" } else { "├─" };
        let (word, style) = match holds {
            Some(true) => ("true   ", GREEN),
            Some(false) => ("false  ", DIM),
            None => ("unknown", YELLOW),
        };
        let _ = writeln!(out, "  {branch} {} {place} {key}: wanted {wanted}; saw {saw}", paint(style, word));
    }
}
