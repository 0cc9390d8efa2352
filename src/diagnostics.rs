//! Problems in files, all at once, sorted by place, each with its line, a caret under the very value, and a hint.

mod render;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// How severe a problem is.
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
    /// The path, as shown.
    pub path: PathBuf,
    /// Its content.
    pub text: Arc<str>,
    /// Bytes that are never shown, since they may be somebody's key.
    pub hidden: Vec<Range<usize>>,
}

/// One problem. Messages are lower case, without a final stop, input in backticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Index into [`Report::sources`]; `None` if there is no text (a missing file, an environment variable).
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
    /// The texts that the problems point into.
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

    /// Shows these bytes of a text as `***`, whichever problem points at their line.
    pub fn hide(&mut self, source: usize, bytes: Range<usize>) {
        if let Some(source) = self.sources.get_mut(source) {
            source.hidden.push(bytes);
        }
    }

    /// Adds a problem; the result allows to add `label` and `help`.
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

    /// Sorts the problems: those without a text first, then by text and position; errors before warnings.
    pub fn sort(&mut self) {
        self.problems.sort_by_cached_key(|problem| {
            let place = problem.span.as_ref().map(|span| (span.start, span.end));
            (problem.source, place, problem.severity, problem.message.clone())
        });
        self.problems.dedup();
    }

    /// All problems in the style of a compiler: the line, a caret under the exact value, and what to do about it. Ends
    /// in a newline unless there are no problems. Text from the files is escaped for terminals.
    pub fn render(&self, colour: bool) -> String {
        render::render(self, colour)
    }

    /// The number of problems of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    /// Whether there are errors.
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
