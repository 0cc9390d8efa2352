//! Tables of conditions, and what conditions of several kinds share when they are compiled: literals, regular
//! expressions, parts of a handle.

use std::sync::Arc;

use super::Compiling;
use crate::diagnostics::Severity;
use crate::document::{WithSpan, shown};
use crate::policy::conditions::{Condition, OpenScope, SenderScope, Written};
use crate::policy::raw::RawConditions;
use crate::policy::regexes::Use;
use crate::policy::rules::{Folded, RegexPattern, Table};
use crate::policy::text::fold;

/// Signs that somebody wrote a regular expression where a literal belongs.
const REGEX_SIGNS: [&str; 9] = [".*", ".+", "(?", r"\b", r"\d", r"\s", r"\w", r"\.", "]+"];

/// Finds a condition that says who is let in; else the condition that is closest to that.
pub(super) fn says_who(raw: &RawConditions, table: &Table) -> Result<(), Option<OpenScope>> {
    let mut nearest = None;
    for (written, condition) in raw.conditions.iter().zip(&table.conditions) {
        match condition.0.says_who(written) {
            SenderScope::Said => return Ok(()),
            SenderScope::Open(open) => nearest = nearest.or(Some(open)),
            SenderScope::Silent => {}
        }
    }
    Err(nearest)
}

impl Compiling<'_> {
    /// Compiles a table; `None` if something in it is wrong, which has been reported.
    /// `disclosing`: its conditions also look at the disclosed form of texts.
    pub(super) fn table(&mut self, raw: &RawConditions, disclosing: bool) -> Option<Table> {
        self.disclosing = disclosing;
        let before = self.problems.errors();
        let conditions: Vec<_> = raw.conditions.iter().filter_map(|one| Condition::compile(one, self)).collect();
        if raw.broken || self.problems.errors() > before || conditions.len() < raw.conditions.len() {
            return None;
        }
        let table = Table { conditions };
        let written = Written { raw: &raw.conditions, compiled: &table.conditions };
        for (raw, condition) in raw.conditions.iter().zip(&table.conditions) {
            condition.0.contradictions(raw, &written, self.problems);
        }
        Some(table)
    }

    /// Warns about duplicate values.
    pub(crate) fn twice(&mut self, texts: &[WithSpan<String>]) {
        let mut seen = std::collections::HashSet::new();
        for text in texts.iter().filter(|text| !seen.insert(text.value.as_str())) {
            self.problems.warning(&text.span, format!("`{}` is there twice", shown(&text.value)));
        }
    }

    /// Literal owners or slugs.
    pub(crate) fn parts(&mut self, key: &str, texts: &[WithSpan<String>]) -> Option<Vec<Arc<str>>> {
        let parts: Vec<_> = texts.iter().filter_map(|text| self.part(key, text)).collect();
        self.twice(texts);
        (parts.len() == texts.len()).then_some(parts)
    }

    /// Literal texts; `regex_key` is the key to suggest if a regular expression was meant.
    pub(crate) fn literals(&mut self, key: &str, regex_key: &str, texts: &[WithSpan<String>]) -> Option<Vec<Folded>> {
        let mut literals = Vec::with_capacity(texts.len());
        for text in texts {
            let folded = fold(&text.value);
            if folded.trim().is_empty() {
                self.problems
                    .error(&text.span, format!("`{key}` looks for an empty text"))
                    .label("an empty text")
                    .help("an absent message is `message_absent = true`");
            } else if let Some(sign) = REGEX_SIGNS.iter().find(|sign| text.value.contains(**sign)) {
                self.problems
                    .error(&text.span, format!("`{key}` takes a literal text"))
                    .label(format!("`{sign}` looks like a regular expression"))
                    .help(format!("write `{regex_key} = '…'`"));
            } else {
                let literal = Folded::new(&text.value, self.disclosing);
                // Each makes a disclosed form of its own.
                if literal.letters.is_some()
                    && self.disclosing
                    && let Err(problem) = self.regexes.spend(64)
                {
                    let message =
                        format!("the texts and patterns of this file cost too much: `{}`", shown(&text.value));
                    self.problems.error(&text.span, message).label(problem.label);
                }
                literals.push(literal);
            }
        }
        self.twice(texts);
        (literals.len() == texts.len()).then_some(literals)
    }

    /// The literal texts of a file with one a line.
    pub(crate) fn literals_of_file(&mut self, file: &WithSpan<String>) -> Option<Vec<Folded>> {
        let read = self.lines_of(file)?;
        let mut literals = Vec::with_capacity(read.lines.len());
        for line in &read.lines {
            if fold(&line.value).trim().is_empty() {
                let message = format!("`{}` is an empty text", shown(&line.value));
                self.problems.push(Severity::Error, read.source, Some(line.span.clone()), message);
            } else {
                let literal = Folded::new(&line.value, self.disclosing);
                if literal.letters.is_some()
                    && self.disclosing
                    && let Err(problem) = self.regexes.spend(64)
                {
                    let message = "the texts and patterns of this rules file cost too much".to_owned();
                    self.problems
                        .push(Severity::Error, read.source, Some(line.span.clone()), message)
                        .label(problem.label);
                    return None;
                }
                literals.push(literal);
            }
        }
        (literals.len() == read.lines.len()).then_some(literals)
    }

    /// Regular expressions.
    pub(crate) fn regexes(&mut self, texts: &[WithSpan<String>], purpose: Use) -> Option<Vec<RegexPattern>> {
        let mut patterns = Vec::with_capacity(texts.len());
        for text in texts {
            match self.regexes.compile(&text.value, purpose, self.disclosing) {
                Ok(pattern) => patterns.push(pattern),
                Err(problem) => {
                    let span = inside(text, problem.place);
                    let message = format!("`{}` is not a pattern that can be used", shown(&text.value));
                    let diagnostic = self.problems.error(&span, message);
                    diagnostic.label(problem.label);
                    diagnostic.help = problem.help.map(str::to_owned);
                }
            }
        }
        self.twice(texts);
        (patterns.len() == texts.len()).then_some(patterns)
    }
}

/// A place inside a string, if the string is written as it is, without escapes; else the whole string.
fn inside(text: &WithSpan<String>, place: Option<std::ops::Range<usize>>) -> std::ops::Range<usize> {
    let one_quote = text.span.len() == text.value.len() + 2;
    match place.filter(|_| one_quote) {
        Some(place) => text.span.start + 1 + place.start..text.span.start + 1 + place.end.max(place.start + 1),
        None => text.span.clone(),
    }
}
