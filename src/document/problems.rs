//! Collects the problems of a rules file and its lists. At most as many are shown as a person can read, but no error is
//! lost: the file is refused if there is one.

use std::ops::Range;

use crate::diagnostics::{Diagnostic, Report, Severity};

/// Most problems of one severity that are shown.
const REPORTED_MAX: usize = 200;

/// A value, and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WithSpan<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// See the module.
///
/// A place counts through all files that are read into one tree: the first, and those that it includes. Each begins
/// where the one before ends, so that a place alone says in which file it is ([`Problems::begin`]).
#[derive(Debug)]
pub(crate) struct Problems {
    report: Report,
    /// Where each file begins, and the index of its text in the report; sorted, the first at 0.
    files: Vec<(usize, usize)>,
    errors: usize,
    warnings: usize,
    /// Stands for the problem that is no longer shown, so that callers can still add to it.
    unreported: Diagnostic,
}

impl Problems {
    /// Over a report whose first text is the rules file.
    pub(crate) fn new(report: Report) -> Self {
        let unreported = Diagnostic {
            severity: Severity::Warning,
            source: None,
            span: None,
            message: String::new(),
            label: None,
            help: None,
        };
        Self { report, files: vec![(0, 0)], errors: 0, warnings: 0, unreported }
    }

    /// Begins another file: adds its text to the report, and returns the index of the text.
    pub(crate) fn begin(&mut self, path: &std::path::Path, text: std::sync::Arc<str>) -> usize {
        let (last, source) = self.files.last().copied().unwrap_or_default();
        let before = self.report.sources.get(source).map_or(0, |source| source.text.len());
        let source = self.report.add_source(path, text);
        self.files.push((last + before + 1, source));
        source
    }

    /// Where the current file begins.
    pub(crate) fn offset(&self) -> usize {
        self.files.last().map_or(0, |(begins, _)| *begins)
    }

    /// The index of the text that contains a position, and the position within it.
    pub(crate) fn locate(&self, span: &Range<usize>) -> (usize, Range<usize>) {
        let after = self.files.partition_point(|(begins, _)| *begins <= span.start);
        let (begins, source) = self.files.get(after.saturating_sub(1)).copied().unwrap_or_default();
        (source, span.start - begins..span.end.saturating_sub(begins))
    }

    /// A place for people: file and line.
    pub(crate) fn in_words(&self, span: &Range<usize>) -> String {
        let (source, span) = self.locate(span);
        let Some(source) = self.report.sources.get(source) else { return String::new() };
        let line = source.text[..source.text.floor_char_boundary(span.start)].matches('\n').count() + 1;
        format!("{}:{line}", shown(&source.path.display().to_string()))
    }

    /// Adds an error: the file is refused.
    pub(crate) fn error(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        let (source, span) = self.locate(span);
        self.push(Severity::Error, source, Some(span), message.into())
    }

    /// Adds a warning: the file is accepted.
    pub(crate) fn warning(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        let (source, span) = self.locate(span);
        self.push(Severity::Warning, source, Some(span), message.into())
    }

    /// The same in a text that is not read into the tree, such as a list.
    pub(crate) fn push(
        &mut self,
        severity: Severity,
        source: usize,
        span: Option<Range<usize>>,
        message: String,
    ) -> &mut Diagnostic {
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count > REPORTED_MAX {
            &mut self.unreported
        } else {
            self.report.push(severity, Some(source), span, message)
        }
    }

    /// A problem without a text: of an environment variable, a flag, or a missing file.
    pub(crate) fn plain(&mut self, severity: Severity, message: impl Into<String>) -> &mut Diagnostic {
        match severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        self.report.push(severity, None, None, message)
    }

    /// Adds another text to which problems can point.
    pub(crate) fn add_source(&mut self, path: &std::path::Path, text: std::sync::Arc<str>) -> usize {
        self.report.add_source(path, text)
    }

    /// These bytes of the file may be somebody's key: no problem shows them.
    pub(crate) fn hide(&mut self, bytes: Range<usize>) {
        let (source, bytes) = self.locate(&bytes);
        self.report.hide(source, bytes);
    }

    /// The number of errors so far, shown or not.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// Whether there are so many problems that further ones would not be shown, and need not be looked for.
    pub(crate) fn crowded(&self) -> bool {
        self.errors > REPORTED_MAX
    }

    /// The report, sorted, with the number of problems that are not shown.
    pub(crate) fn finish(mut self) -> Report {
        self.report.sort();
        for (count, severity, what) in
            [(self.errors, Severity::Error, "problems"), (self.warnings, Severity::Warning, "warnings")]
        {
            if let Some(more) = count.checked_sub(REPORTED_MAX + 1) {
                self.report.push(severity, None, None, format!("and {} more {what}", more + 1));
            }
        }
        self.report
    }
}

/// The known word that is nearest to the written one, if one is near enough.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The cost of a comparison is the product of both lengths.
    if written.len() > 64 {
        return None;
    }
    let known: Vec<&str> = known.into_iter().filter(|known| known.len() <= 64).collect();
    let begins = |one: &&&str| {
        let ends = one.strip_suffix(written).is_some_and(|rest| rest.ends_with('_'));
        written.len() >= 3 && (one.starts_with(written) || written.starts_with(**one) || ends)
    };
    misspelt(written, known.iter().copied()).or_else(|| known.iter().filter(begins).min().copied())
}

/// The known word that was probably meant, if only about one letter is wrong.
pub(crate) fn misspelt<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known = known.into_iter().filter(|known| written.len() <= 64 && known.len() <= 64);
    let rated = known.map(|one| (strsim::damerau_levenshtein(written, one), one));
    let (distance, best) = rated.min()?;
    (distance <= (written.chars().count() / 3).max(1) && distance < best.chars().count()).then_some(best)
}

/// A text from a file, as shown: on one line, escaped, not too long.
pub(crate) fn shown(text: &str) -> String {
    crate::model::StrangerText::new(text).shown(60).replace(r"\\", r"\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_if_it_is_near() {
        let known = ["message_contains", "message_regex", "name", "owner"];
        for (written, expected) in [
            ("mesage_regex", Some("message_regex")),
            ("onwer", Some("owner")),
            ("message", Some("message_contains")),
            ("nmae", Some("name")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), expected, "{written}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), known), None);
    }

    #[test]
    fn warnings_never_crowd_an_error_out() {
        let mut report = Report::default();
        report.add_source("rules.toml", "");
        let mut problems = Problems::new(report);
        for count in 0..REPORTED_MAX + 7 {
            problems.warning(&(0..0), format!("{count}"));
        }
        problems.error(&(0..0), "refused");
        let report = problems.finish();
        assert!(report.has_errors());
        assert!(report.problems.iter().any(|problem| problem.message == "and 7 more warnings"));
    }
}
