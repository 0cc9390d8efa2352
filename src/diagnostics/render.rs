//! Renders problems in the style of rustc. Only the line on which a problem begins is shown, and for a very long line
//! only its position, so that the cost of a report does not depend on the size of the files.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Padding, Renderer, Snippet, normalize_untrusted_str};

use super::{Diagnostic, Report, Severity, Source};
use crate::model::StrangerText;

/// Of longer lines only the place is shown (bytes). Shorter ones are trimmed around the caret to the terminal's width.
const LINE_MAX: usize = 8192;
/// The replacement for hidden bytes.
const REDACTED: &str = "***";

/// See [`Report::render`].
pub(super) fn render(report: &Report, colour: bool) -> String {
    let renderer = if colour { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
    let starts: Vec<Vec<usize>> = report.sources.iter().map(|source| line_starts(&source.text)).collect();
    let mut out = String::new();
    for problem in &report.problems {
        let source = problem.source.and_then(|index| Some((report.sources.get(index)?, starts.get(index)?)));
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&one(problem, source, &renderer));
        out.push('\n');
    }
    out
}

fn one(problem: &Diagnostic, source: Option<(&Source, &Vec<usize>)>, renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level.primary_title(problem.message.as_str()).elements(None::<Padding>);
    if let Some((source, starts)) = source {
        let path = harmless(&source.path.display().to_string());
        match &problem.span {
            None => group = group.element(Origin::path(path)),
            Some(span) => {
                let excerpt = Excerpt::of(source, starts, span);
                if excerpt.text.len() > LINE_MAX {
                    group = group.element(Origin::path(path).line(excerpt.line).char_column(excerpt.column));
                    if let Some(label) = &problem.label {
                        group = group.element(Level::NOTE.message(normalize_untrusted_str(label)));
                    }
                } else {
                    let caret = AnnotationKind::Primary.span(excerpt.caret);
                    let caret = caret.label(problem.label.as_deref().map(normalize_untrusted_str));
                    let snippet = Snippet::source(excerpt.text).path(path).line_start(excerpt.line).annotation(caret);
                    group = group.element(snippet);
                }
            }
        }
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
    }
    renderer.render(&[group])
}

/// The line on which a span begins.
struct Excerpt<'a> {
    /// Counted from 1.
    line: usize,
    /// In characters, counted from 1.
    column: usize,
    text: Cow<'a, str>,
    /// Bytes of `text`.
    caret: Range<usize>,
}

impl<'a> Excerpt<'a> {
    /// Takes any span, even one that is out of bounds or splits a character.
    fn of(source: &'a Source, starts: &[usize], span: &Range<usize>) -> Self {
        let text: &'a str = &source.text;
        let start = text.floor_char_boundary(span.start);
        let line = starts.partition_point(|&begin| begin <= start).max(1);
        let begin = starts.get(line - 1).copied().unwrap_or(0);
        let whole = text[begin..].split('\n').next().unwrap_or_default();
        let whole = whole.strip_suffix('\r').unwrap_or(whole);
        let from = (start - begin).min(whole.len());
        let from = whole.floor_char_boundary(from);
        let to = whole.ceil_char_boundary(span.end.saturating_sub(begin).clamp(from, whole.len()));
        let column = whole[..from].chars().count() + 1;
        let (text, caret) = pseudonymized(whole, begin, &source.hidden, from..to);
        Self { line, column, text, caret }
    }
}

/// The line that begins at `begin`, with `***` for its hidden bytes, and the caret's new position.
fn pseudonymized<'a>(
    whole: &'a str,
    begin: usize,
    hidden: &[Range<usize>],
    caret: Range<usize>,
) -> (Cow<'a, str>, Range<usize>) {
    let within = |at: usize| whole.floor_char_boundary(at.saturating_sub(begin).min(whole.len()));
    let mut parts: Vec<Range<usize>> = hidden.iter().map(|bytes| within(bytes.start)..within(bytes.end)).collect();
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() {
        return (Cow::Borrowed(whole), caret);
    }
    parts.sort_unstable_by_key(|part| (part.start, part.end));
    parts.dedup_by(|next, part| {
        let joined = next.start <= part.end;
        if joined {
            part.end = part.end.max(next.end);
        }
        joined
    });
    let mut text = String::new();
    let mut at = 0;
    for part in &parts {
        text.push_str(&whole[at..part.start]);
        text.push_str(REDACTED);
        at = part.end;
    }
    text.push_str(&whole[at..]);
    // If the caret is within hidden bytes, it covers the whole `***`.
    let moved = |place: usize, past_the_mark: usize| {
        parts.iter().filter(|part| part.start < place).fold(place, |moved, part| match place < part.end {
            true => moved - (place - part.start) + past_the_mark,
            false => moved + REDACTED.len() - part.len(),
        })
    };
    let caret = moved(caret.start, 0)..moved(caret.end, REDACTED.len());
    (Cow::Owned(text), caret)
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0)
        .chain(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1))
        .collect()
}

/// The renderer escapes everything but paths, so they are escaped here.
fn harmless(path: &str) -> String {
    StrangerText::new(path).shown(StrangerText::KEPT_MAX).replace(r"\\", r"\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, span: Range<usize>) -> String {
        let mut report = Report::default();
        let source = report.add_source("rules.toml", text);
        report.push(Severity::Error, Some(source), Some(span), "wrong").label("here").help("correct it");
        report.render(false)
    }

    #[test]
    fn a_problem_looks_like_a_compilers() {
        let text = "version = 1\n\twait = 10\n";
        insta::assert_snapshot!(report(text, 20..22), @r"
        error: wrong
         --> rules.toml:2:9
          |
        2 |     wait = 10
          |            ^^ here
          |
          = help: correct it
        ");
    }

    #[test]
    fn wide_characters_push_the_caret_along() {
        insta::assert_snapshot!(report("a = [\"名前\", 1]\n", 14..15), @r#"
        error: wrong
         --> rules.toml:1:11
          |
        1 | a = ["名前", 1]
          |             ^ here
          |
          = help: correct it
        "#);
    }

    #[test]
    fn of_several_lines_the_first_is_shown() {
        insta::assert_snapshot!(report("a = [\n  1,\n]\nb = 2\n", 4..12), @r"
        error: wrong
         --> rules.toml:1:5
          |
        1 | a = [
          |     ^ here
          |
          = help: correct it
        ");
    }

    #[test]
    fn of_a_long_line_what_is_around_the_caret_is_shown() {
        for side in [1_000, 100_000] {
            let text = format!("a = \"{}\" # {}\n", "x".repeat(side), "y".repeat(side));
            let rendered = report(&text, side + 10..side + 11);
            assert!(rendered.contains(&format!("rules.toml:1:{}\n", side + 11)), "{rendered}");
            assert!(rendered.contains("here"), "{rendered}");
            assert!(rendered.lines().all(|line| line.len() < 200), "{rendered}");
        }
    }

    #[test]
    fn what_steers_a_terminal_is_shown_harmless() {
        let mut report = Report::default();
        let source = report.add_source("a\u{1b}[31m\u{202e}.toml", "name = \"\u{1b}[2J\u{202e}\"\n");
        report.push(Severity::Warning, Some(source), Some(7..16), "odd `\u{1b}[2J\u{202e}`").label("\u{7}");
        let rendered = report.render(false);
        let steers = |character: char| (character.is_control() && character != '\n') || character == '\u{202e}';
        assert!(!rendered.contains(steers), "{rendered:?}");
    }

    #[test]
    fn a_problem_may_have_no_place_or_no_text() {
        let mut report = Report::default();
        report.add_source("rules.toml", "");
        report.push(Severity::Error, None, None, "`rules.toml` cannot be read").help("does it exist?");
        report.push(Severity::Warning, Some(0), None, "no tests");
        insta::assert_snapshot!(report.render(false), @r"
        error: `rules.toml` cannot be read
         |
         = help: does it exist?

        warning: no tests
        --> rules.toml
        ");
    }

    #[test]
    fn any_span_is_survived_and_whatever_is_hidden() {
        for text in ["", "\n", "é", "a\r\né\n", "xé = 'yé'"] {
            for start in 0..12 {
                for end in 0..12 {
                    report(text, start..end);
                    let mut report = Report::default();
                    report.add_source("a", text);
                    report.push(Severity::Error, Some(0), Some(end..start), "wrong");
                    report.push(Severity::Error, Some(0), Some(4..6), "wrong");
                    report.hide(0, start..end);
                    report.hide(0, 3..5);
                    report.hide(0, 5..6);
                    report.render(false);
                }
            }
        }
    }

    #[test]
    fn what_is_hidden_is_shown_by_no_problem_of_its_line() {
        let text = "a = { key = 'SECRET', id = 5 }\n";
        let mut report = Report::default();
        report.add_source("doorman.toml", text);
        report.hide(0, 12..20);
        for span in [6..9, 12..20, 14..16, 22..24, 0..30] {
            report.push(Severity::Error, Some(0), Some(span), "wrong");
        }
        insta::assert_snapshot!(report.render(false));
    }

    #[test]
    fn problems_are_sorted_by_place_and_said_once() {
        let mut report = Report::default();
        report.add_source("a", "xx");
        report.add_source("b", "xx");
        for (source, at, message) in [(Some(1), 0, "4"), (Some(0), 1, "3"), (Some(0), 0, "2"), (None, 0, "1")] {
            report.push(Severity::Error, source, source.map(|_| at..at + 1), message);
            report.push(Severity::Error, source, source.map(|_| at..at + 1), message);
        }
        report.sort();
        let order: Vec<_> = report.problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(order, ["1", "2", "3", "4"]);
    }
}
