//! `doorman test`: runs the tests in a rules file, one line each, and says what happened in each test that failed.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::explain::sources::{loaded_of, refused, rules_path};
use super::findings::{self, Finding, FindingsFormat, JunitCase};
use super::ledger::print;
use super::{CliError, Global};
use crate::diagnostics::Severity;
use crate::policy::{LoadedPolicy, TestResult};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  doorman test                       the tests of the configured rules
  doorman test --rules new.toml
  doorman test --format junit > report.xml

Exit status: 0 all pass, 1 one fails, 78 the rules cannot be read.")]
pub struct Args {
    /// The rules file; else the configured one
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// A file without `--rules`; only to say what to write instead
    #[arg(hide = true)]
    file: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    format: FindingsFormat,
    /// The same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args, global: &Global) -> Result<u8, CliError> {
    if let Some(file) = &args.file {
        let file = super::output::shown(&file.display().to_string());
        return Err(CliError::new(2, format!("name the rules with `doorman test --rules {file}`")));
    }
    let format = if args.json { FindingsFormat::Json } else { args.format };
    let path = rules_path(args.rules, None, global)?;
    let loaded = loaded_of(&path, global)?;
    if loaded.policy.is_none() && loaded.tests.is_empty() {
        let found = findings::of_report(&loaded.report);
        match format {
            FindingsFormat::Human | FindingsFormat::Json => {}
            FindingsFormat::Github => print(&found.iter().map(Finding::github).collect::<String>())?,
            FindingsFormat::Junit => {
                print(&findings::junit("doorman test", &findings::cases(std::slice::from_ref(&path), &found, false)))?
            }
        }
        return Err(refused(&path, &loaded.report));
    }
    let failed = loaded.tests.iter().filter(|test| !test.passed).count();
    let text = match format {
        FindingsFormat::Human => table(&loaded.tests, failed, std::io::stdout().is_terminal()),
        FindingsFormat::Json => format!("{:#}\n", as_json(&path.display().to_string(), &loaded, failed)),
        FindingsFormat::Github => github(&path, &loaded),
        FindingsFormat::Junit => findings::junit("doorman test", &cases(&path, &loaded.tests)),
    };
    print(&text)?;
    Ok(u8::from(failed > 0))
}

/// Why a test failed.
fn why(test: &TestResult) -> String {
    let hint = test.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("test `{}`: expected {}, got {}{hint}", test.name, test.expected, test.said())
}

/// An annotation for each test that fails.
fn github(path: &Path, loaded: &LoadedPolicy) -> String {
    let failed = loaded.tests.iter().filter(|test| !test.passed);
    let finding = |test: &TestResult| {
        let source = loaded.report.sources.get(test.source);
        Finding {
            severity: Severity::Error,
            path: Some(source.map_or_else(|| path.to_owned(), |source| source.path.clone())),
            position: source.map(|source| findings::position(source, test.span.start)),
            message: why(test),
            help: None,
        }
    };
    failed.map(|test| finding(test).github()).collect()
}

fn cases(path: &Path, tests: &[TestResult]) -> Vec<JunitCase> {
    let case = |test: &TestResult| JunitCase {
        class: path.display().to_string(),
        name: test.name.to_string(),
        failures: (!test.passed).then(|| why(test)).into_iter().collect(),
        said: Vec::new(),
    };
    tests.iter().map(case).collect()
}

fn as_json(path: &str, loaded: &LoadedPolicy, failed: usize) -> serde_json::Value {
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
