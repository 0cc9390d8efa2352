//! `doorman test`: the tests that stand in a rules file, one line each, and what each failed one did instead.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use serde_json::json;

use super::explain::sources::{refused, rules_path};
use super::ledger::print;
use super::{CliError, Global};
use crate::policy::{self, Loaded, TestResult};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rules file; else the configured one
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    let path = rules_path(args.rules, None, global)?;
    let loaded = policy::load_named(&path);
    if loaded.policy.is_none() && loaded.tests.is_empty() {
        return Err(refused(&path, &loaded.report));
    }
    let failed = loaded.tests.iter().filter(|test| !test.passed).count();
    let text = if args.json {
        let json = as_json(&path.display().to_string(), &loaded, failed);
        format!("{json:#}\n")
    } else {
        table(&loaded.tests, failed, std::io::stdout().is_terminal())
    };
    print(&text)?;
    Ok(u8::from(failed > 0))
}

fn as_json(path: &str, loaded: &Loaded, failed: usize) -> serde_json::Value {
    let tests: Vec<_> = loaded
        .tests
        .iter()
        .map(|test| {
            json!({
                "name": test.name.as_str(),
                "passed": test.passed,
                "expected": test.expected,
                "verdict": test.got.verdict,
                "by": test.got.by.to_string(),
                "due": test.got.due.map(|due| due.to_string()),
            })
        })
        .collect();
    let hash = loaded.policy.as_ref().map(|policy| policy.hash.as_str());
    json!({ "rules": path, "policy": hash, "passed": loaded.tests.len() - failed, "failed": failed, "tests": tests })
}

fn table(tests: &[TestResult], failed: usize, colour: bool) -> String {
    let paint = |text: &str, colour_code: anstyle::AnsiColor| {
        let style = if colour { colour_code.on_default().bold() } else { anstyle::Style::new() };
        format!("{style}{text}{style:#}")
    };
    let width = tests.iter().map(|test| test.name.as_str().len()).max().unwrap_or(0);
    let mut out = String::new();
    for test in tests {
        let (mark, said) = if test.passed {
            (paint("ok    ", anstyle::AnsiColor::Green), test.said())
        } else {
            (paint("FAILED", anstyle::AnsiColor::Red), format!("expected {}, got {}", test.expected, test.said()))
        };
        let _ = writeln!(out, "{mark}  {:width$}  {said}", test.name);
        if let Some(hint) = test.hint() {
            let _ = writeln!(out, "        {:width$}  {hint}", "");
        }
    }
    let _ = match tests.len() {
        0 => writeln!(out, "there are no tests: add `[tests.NAME]`"),
        _ => writeln!(out, "{} passed, {failed} failed", tests.len() - failed),
    };
    out
}
