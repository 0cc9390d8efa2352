//! What `check` and `test` find, in formats for programs: JSON, GitHub's annotations, JUnit. Texts from files are
//! escaped.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::output::{shown, shown_lines};
use crate::diagnostics::{Report, Severity, Source};

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum FindingsFormat {
    /// For people
    #[default]
    Human,
    /// JSON
    Json,
    /// Annotations of a GitHub workflow
    Github,
    /// JUnit's XML
    Junit,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub severity: Severity,
    /// The file, and the line and column (from 1, in characters) where the finding begins; `None` if it is not about a
    /// file.
    pub path: Option<PathBuf>,
    pub position: Option<(usize, usize)>,
    pub message: String,
    pub help: Option<String>,
}

/// The problems of a report, in its order.
pub(super) fn of_report(report: &Report) -> Vec<Finding> {
    let finding = |problem: &crate::diagnostics::Diagnostic| {
        let source = problem.source.and_then(|index| report.sources.get(index));
        let label = problem.label.as_ref().map(|label| format!(": {label}")).unwrap_or_default();
        Finding {
            severity: problem.severity,
            path: source.map(|source| source.path.clone()),
            position: source.zip(problem.span.as_ref()).map(|(source, span)| position(source, span.start)),
            message: shown(&format!("{}{label}", problem.message)),
            help: problem.help.as_deref().map(shown),
        }
    };
    report.problems.iter().map(finding).collect()
}

/// Line and column of a byte.
pub(super) fn position(source: &Source, at: usize) -> (usize, usize) {
    let before = &source.text[..source.text.floor_char_boundary(at)];
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

impl Finding {
    fn file(&self) -> String {
        self.path.as_deref().map(|path| shown(&path.display().to_string())).unwrap_or_default()
    }

    /// One object of `check --json`.
    pub(super) fn json(&self) -> Value {
        json!({
            "severity": word(self.severity),
            "path": self.path.as_ref().map(|_| self.file()),
            "line": self.position.map(|(line, _)| line),
            "column": self.position.map(|(_, column)| column),
            "message": self.message,
            "help": self.help,
        })
    }

    /// One line for GitHub.
    pub(super) fn github(&self) -> String {
        let mut properties = vec!["title=doorman".to_owned()];
        if self.path.is_some() {
            properties.insert(0, format!("file={}", property(&self.file())));
        }
        if let Some((line, column)) = self.position {
            properties.push(format!("line={line},col={column}"));
        }
        let help = self.help.as_ref().map(|help| format!("\n{help}")).unwrap_or_default();
        format!("::{} {}::{}\n", word(self.severity), properties.join(","), data(&format!("{}{help}", self.message)))
    }

    fn text(&self) -> String {
        let position = self.position.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}{position}: {}: {}{help}", self.file(), word(self.severity), self.message)
    }
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// One test case of JUnit's.
#[derive(Debug)]
pub(super) struct JunitCase {
    pub class: String,
    pub name: String,
    /// Why it failed.
    pub failures: Vec<String>,
    /// Other text to print.
    pub said: Vec<String>,
}

/// A case for each file; a refused file fails.
pub(super) fn cases(files: &[PathBuf], findings: &[Finding], strict: bool) -> Vec<JunitCase> {
    let of = |path: Option<&Path>, name: String| {
        let theirs = |finding: &&Finding| finding.path.as_deref() == path;
        let fails = |finding: &&Finding| strict || finding.severity == Severity::Error;
        let texts = |failed: bool| {
            findings.iter().filter(theirs).filter(|one| fails(one) == failed).map(Finding::text).collect::<Vec<_>>()
        };
        JunitCase { class: "check".to_owned(), name, failures: texts(true), said: texts(false) }
    };
    let named = files.iter().map(|path| of(Some(path), shown(&path.display().to_string())));
    let mut cases: Vec<JunitCase> = named.collect();
    let mut others: Vec<&Path> = findings.iter().filter_map(|one| one.path.as_deref()).collect();
    others.retain(|path| !files.iter().any(|file| file == path));
    others.dedup();
    cases.extend(others.into_iter().map(|path| of(Some(path), shown(&path.display().to_string()))));
    if findings.iter().any(|finding| finding.path.is_none()) {
        cases.push(of(None, "configuration".to_owned()));
    }
    cases
}

/// JUnit's XML.
pub(super) fn junit(suite: &str, cases: &[JunitCase]) -> String {
    let failed = cases.iter().filter(|case| !case.failures.is_empty()).count();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failed}\">\n",
        cases.len()
    );
    for case in cases {
        let _ = write!(out, "    <testcase classname=\"{}\" name=\"{}\"", xml(&case.class), xml(&case.name));
        if case.failures.is_empty() && case.said.is_empty() {
            out.push_str("/>\n");
            continue;
        }
        out.push_str(">\n");
        if let Some(first) = case.failures.first() {
            let _ =
                writeln!(out, "      <failure message=\"{}\">{}</failure>", xml(first), xml(&case.failures.join("\n")));
        }
        if !case.said.is_empty() {
            let _ = writeln!(out, "      <system-out>{}</system-out>", xml(&case.said.join("\n")));
        }
        out.push_str("    </testcase>\n");
    }
    out + "  </testsuite>\n</testsuites>\n"
}

/// Text for XML, which knows no control characters.
fn xml(text: &str) -> String {
    let text = shown_lines(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Finding {
        let path = Some(PathBuf::from("a,b:c.toml"));
        let message = "100 % <wrong> & \"bad\"".to_owned();
        Finding { severity: Severity::Error, path, position: Some((2, 4)), message, help: Some("do\nit".to_owned()) }
    }

    #[test]
    fn a_place_counts_characters_from_one() {
        let mut report = Report::default();
        let source = report.add_source("x.toml", "a = 1\né = 2\n");
        report.push(Severity::Error, Some(source), Some(9..10), "no").label("here");
        assert_eq!(of_report(&report)[0].position, Some((2, 3)));
        assert_eq!(of_report(&report)[0].message, "no: here");
    }

    #[test]
    fn what_has_a_meaning_there_is_escaped() {
        assert_eq!(
            finding().github(),
            "::error file=a%2Cb%3Ac.toml,title=doorman,line=2,col=4::100 %25 <wrong> & \"bad\"%0Ado%0Ait\n"
        );
        let xml = junit("doorman check", &cases(&[PathBuf::from("good.toml")], &[finding()], false));
        assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
        assert!(xml.contains("name=\"good.toml\"/>") && xml.contains("&lt;wrong&gt; &amp; &quot;bad&quot;"), "{xml}");
        assert!(!xml.contains("<wrong>"), "{xml}");
    }

    #[test]
    fn a_warning_fails_if_it_is_strict() {
        let warning = Finding { severity: Severity::Warning, ..finding() };
        let failed = |strict| cases(&[], std::slice::from_ref(&warning), strict)[0].failures.len();
        assert_eq!((failed(false), failed(true)), (0, 1));
    }
}
