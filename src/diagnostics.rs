//! Problems in files, all at once, sorted by place, each with its line, a caret under the very value, and a hint.

mod render;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; `check --strict` refuses it.
    Warning,
}

/// A text that problems point into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As shown.
    pub path: PathBuf,
    /// What it says.
    pub text: Arc<str>,
    /// Bytes that are never shown, since they may be somebody's key.
    pub hidden: Vec<Range<usize>>,
}

/// One problem. Messages are lower case, without a final stop, input in backticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Refused, or only warned about.
    pub severity: Severity,
    /// Index into [`Report::sources`]; `None` where there is no text (a missing file, an environment variable).
    pub source: Option<usize>,
    /// Bytes of the source; `None`: the file as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
    /// What stands at the caret.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

/// All problems of a set of files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What the problems point into.
    pub sources: Vec<Source>,
    /// The problems, sorted by [`Report::sort`].
    pub problems: Vec<Diagnostic>,
}

impl Report {
    /// Adds a text and returns its index.
    pub(crate) fn add_source(&mut self, path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> usize {
        self.sources.push(Source { path: path.into(), text: text.into(), hidden: Vec::new() });
        self.sources.len() - 1
    }

    /// These bytes of a text are shown as `***`, whatever problem points at their line.
    pub fn hide(&mut self, source: usize, bytes: Range<usize>) {
        if let Some(source) = self.sources.get_mut(source) {
            source.hidden.push(bytes);
        }
    }

    /// Adds a problem; chain `label` and `help` on what comes back.
    pub fn push(
        &mut self,
        severity: Severity,
        source: Option<usize>,
        span: Option<Range<usize>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.problems.push(Diagnostic { severity, source, span, message: message.into(), label: None, help: None });
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    /// Puts the problems in order: those of no text first, then by text and place; errors before warnings.
    pub fn sort(&mut self) {
        self.problems.sort_by_cached_key(|problem| {
            let place = problem.span.as_ref().map(|span| (span.start, span.end));
            (problem.source, place, problem.severity, problem.message.clone())
        });
        self.problems.dedup();
    }

    /// All problems as a compiler shows them: the line, a caret under the very value, what to do about it. Ends in a
    /// newline unless there is nothing to say. What is shown of the files is made harmless for terminals.
    pub fn render(&self, colour: bool) -> String {
        render::render(self, colour)
    }

    /// How many of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    /// Whether anything is refused.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

impl Diagnostic {
    /// What stands at the caret.
    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// What to do about it.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }
}
