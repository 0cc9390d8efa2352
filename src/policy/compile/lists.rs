//! `[lists.NAME]`: entries and files together, compared with the same list in the running policy.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::include::joined;
use super::{Compiling, GLOBS_MAX, PolicyInForce, TEXT_MAX};
use crate::diagnostics::Severity;
use crate::document::{Problems, WithSpan, shown};
use crate::policy::list_changes::{UsedList, used};
use crate::policy::load::{Advice, ListText};
use crate::policy::patterns::HandlePattern;
use crate::policy::raw::{Named, RawList};
use crate::policy::rules::{List, OnBadLine, PatternSet, Policy, SourceText};

/// The lines of a file.
pub(crate) struct FileLines {
    /// The index of its text in the report.
    pub(crate) source: usize,
    pub(crate) lines: Vec<WithSpan<String>>,
}

/// Most of its entries that a list may lose at once, in percent.
const MAX_SHRINK: u8 = 50;
/// The same of a list whose entries keep somebody out: half of a blocklist lets strangers in.
const MAX_SHRINK_RESTRICTING: u8 = 10;
/// Most problems reported of one list file.
const REPORTED_MAX: usize = 20;

/// A list file that was read.
pub(super) struct ListFileText {
    text: Arc<str>,
    source: usize,
    /// Its warnings were reported.
    warned: bool,
    /// Its errors were reported.
    refused: bool,
}

/// Refuses `on_bad_line = "skip"` if a skipped entry could let somebody in: for every list that is used anywhere but
/// in `when` of approve rules.
pub(super) fn only_let_in(raw: &[Named<RawList>], policy: &Policy, problems: &mut Problems) {
    let used = used(policy);
    for Named { name, value } in raw {
        let Some(span) = value.as_ref().and_then(|list| list.skip_bad_lines.as_ref()) else { continue };
        if used.get(name.value.as_str()).is_some_and(|used| used.elsewhere) {
            problems
                .error(span, format!("the list `{}` cannot skip bad lines", shown(&name.value)))
                .label("it does more than to let in: it stands in an `unless`, or in a rule that does not approve")
                .help("an entry that is left out would keep nobody out: remove `on_bad_line`, or make two lists of it");
        }
    }
}

impl Compiling<'_> {
    /// Compiles all lists.
    pub(super) fn lists(&mut self, raw: &[Named<RawList>], running: PolicyInForce<'_>) {
        let before = running.previous.map(used).unwrap_or_default();
        for Named { name, value } in raw {
            let list = value.as_ref().and_then(|list| {
                // A file that cannot be read is reported once; the list is broken.
                let mut file = match &list.file {
                    None => None,
                    Some(file) => Some(self.open(file)?),
                };
                let compiled = self.list(name, list, file.as_mut(), running, &before);
                self.close(list.file.as_ref(), file);
                compiled
            });
            self.lists.insert(name.value.clone(), list.map(Arc::new));
        }
    }

    /// The texts of all files that were read, by path.
    pub(super) fn texts(self) -> Vec<SourceText> {
        let texts = self.files.into_iter();
        texts.filter_map(|(name, file)| file.map(|file| SourceText { name, text: file.text })).collect()
    }

    /// Takes a file, which is read once, until [`Compiling::close`].
    fn open(&mut self, file: &WithSpan<String>) -> Option<ListFileText> {
        let name = self.name_of_file(file);
        if !self.files.contains_key(&name) {
            let text = self.read_file(&name, file);
            self.files.insert(name.clone(), text);
        }
        self.files.get_mut(&name)?.take()
    }

    fn close(&mut self, at: Option<&WithSpan<String>>, file: Option<ListFileText>) {
        if let (Some(at), Some(file)) = (at, file) {
            self.files.insert(self.name_of_file(at), Some(file));
        }
    }

    /// A file's path relative to the rules file: it is written relative to the file that names it.
    fn name_of_file(&self, at: &WithSpan<String>) -> String {
        let (source, _) = self.problems.locate(&at.span);
        self.directories.get(&source).map_or_else(|| at.value.clone(), |directory| joined(directory, &at.value))
    }

    /// The texts of a file that has one on each line, trimmed, with their places in that file; empty lines and lines
    /// that begin with `#` are left out. `None` if there is no text, which is reported.
    pub(crate) fn lines_of(&mut self, at: &WithSpan<String>) -> Option<FileLines> {
        let file = self.open(at)?;
        let mut lines = Vec::new();
        let mut start = 0;
        for line in file.text.split('\n') {
            let begin = start;
            start += line.len() + 1;
            let bare = if begin == 0 { line.trim_start_matches('\u{feff}') } else { line }.trim();
            if !bare.is_empty() && !bare.starts_with('#') {
                let from = bare.as_ptr().addr() - file.text.as_ptr().addr();
                lines.push(WithSpan { value: bare.to_owned(), span: from..from + bare.len() });
            }
        }
        let source = file.source;
        self.close(Some(at), Some(file));
        if lines.is_empty() {
            self.problems
                .error(&at.span, format!("`{}` has no text in it", shown(&at.value)))
                .help("write one text on each line");
            return None;
        }
        Some(FileLines { source, lines })
    }

    /// The whole text of a file, and its index in the report.
    pub(crate) fn text_of(&mut self, at: &WithSpan<String>) -> Option<(usize, Arc<str>)> {
        let file = self.open(at)?;
        let found = (file.source, file.text.clone());
        self.close(Some(at), Some(file));
        Some(found)
    }

    fn read_file(&mut self, name: &str, file: &WithSpan<String>) -> Option<ListFileText> {
        match (self.read)(name) {
            Ok(ListText { text, warning }) if text.len() <= TEXT_MAX => {
                if let Some(Advice { message, help }) = warning {
                    self.problems.warning(&file.span, message).help = help;
                }
                let text: Arc<str> = text.into();
                let path = self.path.parent().unwrap_or(Path::new("")).join(name);
                Some(ListFileText {
                    source: self.problems.add_source(&path, text.clone()),
                    text,
                    warned: false,
                    refused: false,
                })
            }
            Ok(_) => {
                self.problems.error(&file.span, format!("a list file has at most {} MiB", TEXT_MAX >> 20));
                None
            }
            Err(Advice { message, help }) => {
                self.problems.error(&file.span, message).help = help;
                None
            }
        }
    }

    fn list(
        &mut self,
        name: &WithSpan<String>,
        raw: &RawList,
        file: Option<&mut ListFileText>,
        running: PolicyInForce<'_>,
        before: &HashMap<&str, UsedList<'_>>,
    ) -> Option<List> {
        let errors = self.problems.errors();
        let mut patterns = PatternSet::default();
        let mut len = 0;
        for entry in &raw.entries {
            len += usize::from(self.pattern(entry, &mut patterns));
        }
        let in_file = file.is_some();
        if let Some(file) = file {
            let bad = raw.skip_bad_lines.as_ref().map_or(OnBadLine::Refuse, |_| OnBadLine::Skip);
            len += self.lines(file, bad, &mut patterns);
        }
        if self.problems.errors() > errors {
            return None;
        }
        patterns.literals.shrink();
        let shown_name = shown(&name.value);
        let place = raw.file.as_ref().map_or(&raw.span, |file| &file.span);
        if len == 0 && !raw.allow_empty {
            self.problems
                .error(place, format!("the list `{shown_name}` is empty"))
                .label(if in_file { "no entry in the file" } else { "no entry" })
                .help("if that is meant, write `allow_empty = true`");
            return None;
        }
        if let Some(was) = before.get(name.value.as_str()) {
            let default = if was.restricts { MAX_SHRINK_RESTRICTING } else { MAX_SHRINK };
            let most = raw.max_shrink.unwrap_or(default);
            // Entries that no longer keep somebody out count, however many new entries there are.
            let lost = if was.restricts {
                was.list.patterns.missing_from(&patterns)
            } else {
                was.list.len.saturating_sub(len)
            };
            let beside = self.path.parent().unwrap_or(Path::new(""));
            let file = raw.file.as_ref().map(|file| beside.join(self.name_of_file(file)));
            if lost as u64 * 100 > was.list.len as u64 * u64::from(most)
                && !running.accepted.allows(file.as_deref(), lost)
            {
                self.shrunk = true;
                self.problems
                    .error(place, format!("the list `{shown_name}` lost more than {most} % of its entries"))
                    .label(format!("{lost} of {} entries are gone, {len} are there now", was.list.len))
                    .help("if that is meant, run `doorman reload --accept-shrunk`, or set `max_shrink` for this list");
                return None;
            }
        }
        Some(List { name: self.name(&name.value)?, patterns, len })
    }

    /// The lines of a list file; how many entries were new.
    fn lines(&mut self, file: &mut ListFileText, on_bad_line: OnBadLine, patterns: &mut PatternSet) -> usize {
        let (text, source) = (file.text.clone(), file.source);
        let (mut len, mut errors, mut twice, mut skipped) = (0, 0, 0, 0);
        let (mut start, mut room) = (0, String::new());
        for line in text.split('\n') {
            let begin = start;
            start += line.len() + 1;
            let entry = line.split('#').next().unwrap_or_default();
            let entry = if begin == 0 { entry.trim_start_matches('\u{feff}') } else { entry };
            let bare = entry.trim();
            if bare.is_empty() {
                continue;
            }
            let from = bare.as_ptr().addr() - text.as_ptr().addr();
            let span = Some(from..from + bare.len());
            let added = match bare.contains('*') {
                true => HandlePattern::parse(bare).map(|pattern| self.add(&pattern, patterns)),
                false => HandlePattern::literal(bare, &mut room).map(|handle| patterns.literals.insert(handle)),
            };
            match added {
                Ok(added) => match added {
                    Ok(true) => len += 1,
                    Ok(false) => {
                        twice += 1;
                        if !file.warned && twice <= REPORTED_MAX {
                            let message = format!("`{}` is in the list twice", shown(bare));
                            self.problems.push(Severity::Warning, source, span, message);
                        }
                    }
                    Err(why) => {
                        errors += 1;
                        if !file.refused {
                            self.problems.push(Severity::Error, source, span, why);
                        }
                    }
                },
                // A last line without a line end may be incomplete, because the file is still being written.
                Err(problem) if on_bad_line == OnBadLine::Skip && start <= text.len() => {
                    skipped += 1;
                    if !file.warned && skipped <= REPORTED_MAX {
                        let number = text.as_bytes()[..begin].iter().filter(|byte| **byte == b'\n').count() + 1;
                        let message = format!("line {number} is left out: `{}` is not a handle pattern", shown(bare));
                        let diagnostic = self.problems.push(Severity::Warning, source, span, message);
                        diagnostic.label(problem.label);
                        diagnostic.help = problem.help.map(str::to_owned);
                    }
                }
                Err(problem) => {
                    errors += 1;
                    if !file.refused {
                        let message = format!("`{}` is not a handle pattern", shown(bare));
                        let diagnostic = self.problems.push(Severity::Error, source, span, message);
                        diagnostic.label(problem.label);
                        diagnostic.help = problem.help.map(str::to_owned);
                    }
                }
            }
            if errors == REPORTED_MAX {
                if !file.refused {
                    self.problems.push(Severity::Error, source, None, "more lines like these may follow".to_owned());
                }
                break;
            }
        }
        if skipped > REPORTED_MAX && !file.warned {
            let message = format!("{skipped} lines are left out, since they are not handle patterns");
            self.problems.push(Severity::Warning, source, None, message);
        }
        file.warned = true;
        file.refused |= errors > 0;
        len
    }

    /// Adds a pattern of the rules file; `false` if it is invalid or a duplicate, which is reported.
    pub(crate) fn pattern(&mut self, text: &WithSpan<String>, patterns: &mut PatternSet) -> bool {
        let pattern = match HandlePattern::parse(&text.value) {
            Ok(pattern) => pattern,
            Err(problem) => {
                let message = format!("`{}` is not a handle pattern", shown(&text.value));
                let diagnostic = self.problems.error(&text.span, message);
                diagnostic.label(problem.label);
                diagnostic.help = problem.help.map(str::to_owned);
                return false;
            }
        };
        match self.add(&pattern, patterns) {
            Ok(true) => true,
            Ok(false) => {
                self.problems.warning(&text.span, format!("`{}` is there twice", shown(&text.value)));
                false
            }
            Err(why) => {
                self.problems.error(&text.span, why);
                false
            }
        }
    }

    fn add(&mut self, pattern: &HandlePattern, patterns: &mut PatternSet) -> Result<bool, String> {
        if let HandlePattern::Glob { .. } = pattern {
            self.globs += 1;
            if self.globs > GLOBS_MAX {
                return Err(format!("more than {GLOBS_MAX} patterns with a `*` inside a part"));
            }
        }
        patterns.insert(pattern)
    }
}
