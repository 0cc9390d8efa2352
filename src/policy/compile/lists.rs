//! `[lists.NAME]`: entries and files together, held against what they were in the running policy.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::{Compiling, GLOBS_MAX, Running, TEXT_MAX};
use crate::diagnostics::Severity;
use crate::document::{At, shown};
use crate::policy::load::{Advice, ListText};
use crate::policy::patterns::HandlePattern;
use crate::policy::raw::{Named, RawList};
use crate::policy::rules::{List, PatternSet, Policy, SourceText};

/// The lines of a file.
pub(crate) struct FileLines {
    /// Which text of the report it is.
    pub(crate) source: usize,
    pub(crate) lines: Vec<At<String>>,
}

/// Most problems reported of one list file.
const TOLD_MAX: usize = 20;

/// A list file that was read.
pub(super) struct FileText {
    text: Arc<str>,
    source: usize,
    /// Its problems were reported.
    told: bool,
}

impl Compiling<'_> {
    /// Compiles all lists.
    pub(super) fn lists(&mut self, raw: &[Named<RawList>], running: Running<'_>) {
        let before = running.previous.map(sizes).unwrap_or_default();
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
    fn open(&mut self, file: &At<String>) -> Option<FileText> {
        if !self.files.contains_key(&file.value) {
            let text = self.read_file(file);
            self.files.insert(file.value.clone(), text);
        }
        self.files.get_mut(&file.value)?.take()
    }

    fn close(&mut self, at: Option<&At<String>>, file: Option<FileText>) {
        if let (Some(at), Some(file)) = (at, file) {
            self.files.insert(at.value.clone(), Some(file));
        }
    }

    /// The texts of a file with one a line, trimmed, with their places in that file; lines that begin with `#` and empty
    /// ones are left out. `None` where there is no text, which is reported.
    pub(crate) fn lines_of(&mut self, at: &At<String>) -> Option<FileLines> {
        let file = self.open(at)?;
        let mut lines = Vec::new();
        let mut start = 0;
        for line in file.text.split('\n') {
            let begin = start;
            start += line.len() + 1;
            let bare = if begin == 0 { line.trim_start_matches('\u{feff}') } else { line }.trim();
            if !bare.is_empty() && !bare.starts_with('#') {
                let from = bare.as_ptr().addr() - file.text.as_ptr().addr();
                lines.push(At { value: bare.to_owned(), span: from..from + bare.len() });
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

    /// The whole text of a file, and which text of the report it is.
    pub(crate) fn text_of(&mut self, at: &At<String>) -> Option<(usize, Arc<str>)> {
        let file = self.open(at)?;
        let found = (file.source, file.text.clone());
        self.close(Some(at), Some(file));
        Some(found)
    }

    fn read_file(&mut self, file: &At<String>) -> Option<FileText> {
        match (self.read)(&file.value) {
            Ok(ListText { text, warning }) if text.len() <= TEXT_MAX => {
                if let Some(Advice { message, help }) = warning {
                    self.problems.warning(&file.span, message).help = help;
                }
                let text: Arc<str> = text.into();
                let path = self.path.parent().unwrap_or(Path::new("")).join(&file.value);
                Some(FileText { source: self.problems.add_source(&path, text.clone()), text, told: false })
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
        name: &At<String>,
        raw: &RawList,
        file: Option<&mut FileText>,
        running: Running<'_>,
        before: &HashMap<&str, usize>,
    ) -> Option<List> {
        let errors = self.problems.errors();
        let mut patterns = PatternSet::default();
        let mut len = 0;
        for entry in &raw.entries {
            len += usize::from(self.pattern(entry, &mut patterns));
        }
        let in_file = file.is_some();
        if let Some(file) = file {
            len += self.lines(file, &mut patterns);
        }
        if self.problems.errors() > errors {
            return None;
        }
        let shown_name = shown(&name.value);
        let place = raw.file.as_ref().map_or(&raw.span, |file| &file.span);
        if len == 0 && !raw.allow_empty {
            self.problems
                .error(place, format!("the list `{shown_name}` is empty"))
                .label(if in_file { "no entry in the file" } else { "no entry" })
                .help("if that is meant, write `allow_empty = true`");
            return None;
        }
        if let Some(&was) = before.get(name.value.as_str())
            && !running.accept_shrunk
            && len * 2 < was
        {
            self.problems
                .error(place, format!("the list `{shown_name}` lost more than half of its entries"))
                .label(format!("{was} before, {len} now"))
                .help("if that is meant, run `doorman reload --accept-shrunk`");
            return None;
        }
        Some(List { name: self.name(&name.value)?, patterns, len })
    }

    /// The lines of a list file; how many entries were new.
    fn lines(&mut self, file: &mut FileText, patterns: &mut PatternSet) -> usize {
        let (text, source) = (file.text.clone(), file.source);
        let (mut len, mut errors, mut twice) = (0, 0, 0);
        let mut start = 0;
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
            let parsed = HandlePattern::parse(bare);
            let added = match &parsed {
                Ok(pattern) => self.add(pattern, patterns),
                Err(_) => Ok(false),
            };
            match (parsed, added) {
                (Ok(_), Ok(true)) => len += 1,
                _ if file.told => {}
                (Ok(_), Ok(false)) => {
                    twice += 1;
                    if twice <= TOLD_MAX {
                        self.problems.push(
                            Severity::Warning,
                            source,
                            span,
                            format!("`{}` is in the list twice", shown(bare)),
                        );
                    }
                }
                (Ok(_), Err(why)) => {
                    errors += 1;
                    self.problems.push(Severity::Error, source, span, why);
                }
                (Err(problem), _) => {
                    errors += 1;
                    let message = format!("`{}` is not a handle pattern", shown(bare));
                    let diagnostic = self.problems.push(Severity::Error, source, span, message);
                    diagnostic.label(problem.label);
                    diagnostic.help = problem.help.map(str::to_owned);
                }
            }
            if errors == TOLD_MAX {
                self.problems.push(Severity::Error, source, None, "more lines like these may follow".to_owned());
                break;
            }
        }
        file.told = true;
        len
    }

    /// Adds a pattern of the rules file; `false` where it is not one, or was there already, which is reported.
    pub(crate) fn pattern(&mut self, text: &At<String>, patterns: &mut PatternSet) -> bool {
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

/// How long the lists are that a policy's rules speak of.
fn sizes(policy: &Policy) -> HashMap<&str, usize> {
    policy.needs().lists.into_iter().map(|list| (list.name.as_str(), list.len)).collect()
}
