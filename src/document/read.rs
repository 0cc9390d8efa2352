//! Reading TOML with its places: the syntax, then tables by their [`Section`], which knows each key.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{DocumentKey, KeyType, Section};
use super::problems::{Problems, WithSpan, misspelt, nearest, shown};
use super::secrets;
use crate::diagnostics::Diagnostic;

/// Most syntax errors that are shown: the first one is the important one.
const SYNTAX_REPORTED_MAX: usize = 10;

/// The tree of a text, or its syntax errors.
pub(crate) fn syntax<'d>(text: &'d str, problems: &mut Problems) -> Option<Spanned<DeTable<'d>>> {
    let (tree, mut errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(tree);
    }
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    // One mistake often causes several errors on its line; only one is shown.
    let line = |error: &toml::de::Error| error.span().map(|span| text[..floor(text, span.start)].matches('\n').count());
    errors.truncate(4 * SYNTAX_REPORTED_MAX);
    errors.dedup_by_key(|error| line(error));
    // If a table occurs twice, so do its keys: errors for these are not shown.
    let mut twice = None;
    errors.retain(|error| {
        let (Some(span), "duplicate key") = (error.span(), error.message()) else { return true };
        let before = &text[..floor(text, span.start)];
        let header = before.rfind("\n[").map_or(0, |at| at + 1);
        let in_header = !before[header..].contains('\n') && text[header..].starts_with('[');
        let reported = twice == Some(header);
        if in_header {
            twice = Some(header);
        }
        in_header || !reported
    });
    for error in errors.iter().take(SYNTAX_REPORTED_MAX) {
        let here = error.span().unwrap_or(0..0);
        let span = moved(here.clone(), problems.offset());
        if error.message() == "duplicate key" {
            let name = shown(text.get(here).unwrap_or_default());
            let diagnostic = problems.error(&span, format!("`{name}` is there twice"));
            diagnostic.label("the second one").help("a table and a key stand once; rename or remove one");
        } else {
            problems.error(&span, "this is not TOML").label(error.message().to_owned());
        }
    }
    None
}

/// A position in a file that begins at `offset`.
fn moved(span: Range<usize>, offset: usize) -> Range<usize> {
    span.start + offset..span.end + offset
}

fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

/// An open table whose keys are all known.
#[derive(Debug)]
pub(crate) struct TableReader<'t, 'd> {
    pub(crate) section: &'static Section,
    /// The table: its header, or its braces.
    pub(crate) span: Range<usize>,
    /// How many keys there are, unknown ones included.
    pub(crate) written: usize,
    entries: Vec<KeyValue<'t, 'd>>,
}

/// The value of a known key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyValue<'t, 'd> {
    pub(crate) key: &'static DocumentKey,
    pub(crate) key_span: (usize, usize),
    pub(crate) node: &'t Spanned<DeValue<'d>>,
    /// Where the current file begins.
    offset: usize,
}

impl<'t, 'd> TableReader<'t, 'd> {
    /// Opens a table: refuses unknown keys, and reports missing ones. `what`: the table's name in messages.
    pub(crate) fn open(
        table: &'t DeTable<'d>,
        span: Range<usize>,
        section: &'static Section,
        what: &str,
        problems: &mut Problems,
    ) -> Self {
        let offset = problems.offset();
        let mut entries = Vec::with_capacity(table.len());
        for (key, node) in table {
            let written: &str = key.get_ref();
            match section.keys.iter().find(|known| known.name == written) {
                Some(known) => {
                    let span = moved(key.span(), offset);
                    entries.push(KeyValue { key: known, key_span: (span.start, span.end), node, offset });
                }
                None => {
                    if secrets::seems(written) && misplaced(written, section).is_none() {
                        problems.hide(moved(node.span(), offset));
                    }
                    unknown(written, &moved(key.span(), offset), section, what, problems);
                }
            }
        }
        let reader = Self { section, span, written: table.len(), entries };
        for key in section.keys {
            if key.required && reader.get(key.name).is_none() {
                problems
                    .error(&reader.span, format!("{what} has no `{}`", key.name))
                    .label(format!("`{}` is missing here", key.name))
                    .help(match key.takes {
                        KeyType::Version => format!("add `{} = 1`", key.name),
                        takes => format!("add `{} = …`: {}", key.name, takes.in_words()),
                    });
            }
        }
        reader
    }

    /// The value of a key, if it is there.
    pub(crate) fn get(&self, key: &str) -> Option<KeyValue<'t, 'd>> {
        debug_assert!(
            self.section.keys.iter().any(|known| known.name == key),
            "{key} is not a key of {}",
            self.section.path
        );
        self.entries.iter().find(|entry| entry.key.name == key).copied()
    }

    /// All of them, in alphabetical order.
    pub(crate) fn entries(&self) -> &[KeyValue<'t, 'd>] {
        &self.entries
    }
}

fn unknown(written: &str, span: &Range<usize>, section: &Section, what: &str, problems: &mut Problems) {
    if problems.crowded() {
        problems.error(span, String::new());
        return;
    }
    let known = section.keys.iter().map(|key| key.name);
    let all = known.clone().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let holds_a_secret = !section.secrets.is_empty() && secrets::seems(written);
    let help = match (misplaced(written, section), nearest(written, known.clone())) {
        (Some(help), _) => help,
        (None, _) if holds_a_secret && misspelt(written, known).is_none() => section.secrets.to_owned(),
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => format!("{what} takes {all}"),
    };
    let message = format!("{what} has no key `{}`", shown(written));
    problems.error(span, message).label("not known here").help(help);
}

/// The table to which a key belongs that is unknown here.
fn misplaced(written: &str, section: &Section) -> Option<String> {
    let has = |section: &Section| section.keys.iter().any(|key| key.name == written);
    section.elsewhere.iter().find(|(other, _)| has(other)).map(|(_, advice)| advice.replace("{}", written))
}

impl<'t, 'd> KeyValue<'t, 'd> {
    /// The value's position.
    pub(crate) fn span(&self) -> Range<usize> {
        self.at(self.node.span())
    }

    /// A position in the current file.
    pub(crate) fn at(&self, span: Range<usize>) -> Range<usize> {
        moved(span, self.offset)
    }

    /// The key's position.
    pub(crate) fn key_span(&self) -> Range<usize> {
        self.key_span.0..self.key_span.1
    }

    /// Reports that the value has the wrong type.
    pub(crate) fn wrong_type<'p>(&self, problems: &'p mut Problems) -> &'p mut Diagnostic {
        self.wrong(self.node, self.key.takes, problems)
    }

    fn wrong<'p>(&self, node: &Spanned<DeValue<'d>>, takes: KeyType, problems: &'p mut Problems) -> &'p mut Diagnostic {
        let found = with_article(node.get_ref().type_str());
        let quotes =
            matches!(takes, KeyType::Duration | KeyType::TimeOfDay | KeyType::Text | KeyType::Texts | KeyType::Word(_));
        let bare = matches!(node.get_ref(), DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_));
        let diagnostic = problems.error(&self.at(node.span()), format!("`{}` does not take {found}", self.key.name));
        diagnostic.label(format!("expected {}", takes.in_words()));
        if let (KeyType::Duration, DeValue::Integer(number)) = (takes, node.get_ref()) {
            diagnostic.help(format!("a duration has a unit: did you mean `\"{}s\"`?", number.as_str()));
        } else if quotes && bare {
            diagnostic.help("write it in quotes");
        }
        diagnostic
    }

    /// A string.
    pub(crate) fn text(&self, problems: &mut Problems) -> Option<WithSpan<String>> {
        match self.node.get_ref() {
            DeValue::String(text) => Some(WithSpan { value: text.to_string(), span: self.span() }),
            _ => {
                self.wrong_type(problems);
                None
            }
        }
    }

    /// One string or several, as the key allows; `None` if one of them is not a string. An empty array is refused.
    pub(crate) fn texts(&self, problems: &mut Problems) -> Option<Vec<WithSpan<String>>> {
        let before = problems.errors();
        let texts = self.texts_among(problems);
        (problems.errors() == before).then_some(texts)
    }

    /// The same; what is not a string is reported and left out, so that what is wrong with the others is reported, too.
    pub(crate) fn texts_among(&self, problems: &mut Problems) -> Vec<WithSpan<String>> {
        let mut texts = Vec::new();
        match self.node.get_ref() {
            DeValue::String(text) if !matches!(self.key.takes, KeyType::TextList) => {
                texts.push(WithSpan { value: text.to_string(), span: self.span() });
            }
            DeValue::Array(array) if array.is_empty() => {
                problems
                    .error(&self.span(), format!("`{}` is empty", self.key.name))
                    .help("name something, or leave the key out");
            }
            DeValue::Array(array) => {
                for one in array.iter() {
                    match one.get_ref() {
                        DeValue::String(text) => {
                            texts.push(WithSpan { value: text.to_string(), span: self.at(one.span()) })
                        }
                        _ => drop(self.wrong(one, KeyType::Text, problems)),
                    }
                }
            }
            _ => drop(self.wrong_type(problems)),
        }
        texts
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, problems: &mut Problems) -> Option<WithSpan<bool>> {
        let value = self.node.get_ref().as_bool();
        if value.is_none() {
            self.wrong_type(problems);
        }
        value.map(|value| WithSpan { value, span: self.span() })
    }

    /// A whole number within the key's bounds.
    pub(crate) fn count(&self, problems: &mut Problems) -> Option<WithSpan<u64>> {
        let (KeyType::Count(least, most), DeValue::Integer(number)) = (self.key.takes, self.node.get_ref()) else {
            self.wrong_type(problems);
            return None;
        };
        let digits = number.as_str().replace('_', "");
        let value = i128::from_str_radix(&digits, number.radix()).ok().and_then(|value| u64::try_from(value).ok());
        match value.filter(|value| (least..=most).contains(value)) {
            Some(value) => Some(WithSpan { value, span: self.span() }),
            None => {
                problems
                    .error(&self.span(), format!("`{}` is out of range", self.key.name))
                    .label(format!("expected {}", self.key.takes.in_words()));
                None
            }
        }
    }

    /// One of the key's words.
    pub(crate) fn word(&self, problems: &mut Problems) -> Option<WithSpan<&'static str>> {
        self.one_word(self.node, problems)
    }

    /// Several of the key's words, at least one.
    pub(crate) fn words(&self, problems: &mut Problems) -> Option<Vec<&'static str>> {
        let DeValue::Array(array) = self.node.get_ref() else {
            self.wrong_type(problems);
            return None;
        };
        if array.is_empty() {
            return self.empty(problems);
        }
        let words: Vec<_> = array.iter().map(|one| self.one_word(one, problems)).collect();
        words.into_iter().map(|word| word.map(|word| word.value)).collect()
    }

    /// Reports that the key has no value.
    fn empty<T>(&self, problems: &mut Problems) -> Option<T> {
        problems
            .error(&self.span(), format!("`{}` is empty", self.key.name))
            .help("name something, or leave the key out");
        None
    }

    fn one_word(&self, node: &Spanned<DeValue<'d>>, problems: &mut Problems) -> Option<WithSpan<&'static str>> {
        let (KeyType::Word(words) | KeyType::Words(words)) = self.key.takes else {
            self.wrong(node, self.key.takes, problems);
            return None;
        };
        self.one_of(words, node, problems)
    }

    fn one_of(
        &self,
        words: &'static [&'static str],
        node: &Spanned<DeValue<'d>>,
        problems: &mut Problems,
    ) -> Option<WithSpan<&'static str>> {
        let DeValue::String(text) = node.get_ref() else {
            self.wrong(node, KeyType::Word(words), problems);
            return None;
        };
        if let Some(value) = words.iter().copied().find(|word| word == text) {
            return Some(WithSpan { value, span: self.at(node.span()) });
        }
        let diagnostic =
            problems.error(&self.at(node.span()), format!("`{}` is not a value of `{}`", shown(text), self.key.name));
        diagnostic.label(format!("expected {}", KeyType::Word(words).in_words()));
        let lower = text.to_lowercase();
        if let Some(near) = synonym(&lower, words).or_else(|| nearest(&lower, words.iter().copied())) {
            diagnostic.help(format!("did you mean `{near}`?"));
        }
        None
    }

    /// One of the key's words by each name, at least one.
    pub(crate) fn named_words(&self, problems: &mut Problems) -> Option<Vec<(WithSpan<String>, &'static str)>> {
        let (KeyType::NamedWords(words), DeValue::Table(table)) = (self.key.takes, self.node.get_ref()) else {
            self.wrong_type(problems);
            return None;
        };
        if table.is_empty() {
            return self.empty(problems);
        }
        let before = problems.errors();
        let mut all = Vec::with_capacity(table.len());
        for (name, node) in table {
            let word = self.one_of(words, node, problems);
            let name = WithSpan { value: name.get_ref().to_string(), span: self.at(name.span()) };
            all.extend(word.map(|word| (name, word.value)));
        }
        (problems.errors() == before).then_some(all)
    }

    /// A table.
    pub(crate) fn table(&self, what: &str, problems: &mut Problems) -> Option<TableReader<'t, 'd>> {
        match (self.key.takes, self.node.get_ref()) {
            (KeyType::Table(section) | KeyType::TextsOrTable(section), DeValue::Table(table)) => {
                Some(TableReader::open(table, self.span(), section, what, problems))
            }
            _ => {
                self.wrong_type(problems);
                None
            }
        }
    }

    /// An array of tables, at least one.
    pub(crate) fn tables(&self, what: &str, problems: &mut Problems) -> Option<Vec<TableReader<'t, 'd>>> {
        let (KeyType::Tables(section), DeValue::Array(array)) = (self.key.takes, self.node.get_ref()) else {
            let diagnostic = self.wrong_type(problems);
            if let DeValue::Table(_) = self.node.get_ref() {
                diagnostic.help(format!("put it in brackets: `{} = [{{ … }}]`", self.key.name));
            }
            return None;
        };
        if array.is_empty() {
            return self.empty(problems);
        }
        let mut tables = Vec::with_capacity(array.len());
        for one in array.iter() {
            match one.get_ref() {
                DeValue::Table(table) => {
                    tables.push(TableReader::open(table, self.at(one.span()), section, what, problems))
                }
                _ => drop(self.wrong(one, KeyType::Table(section), problems)),
            }
        }
        Some(tables)
    }
}

/// The key's word for a word that is usual elsewhere.
fn synonym(written: &str, words: &[&'static str]) -> Option<&'static str> {
    let meant = match written {
        "allow" | "accept" | "permit" | "yes" | "ok" => "approve",
        "deny" | "refuse" | "block" | "decline" | "drop" | "no" => "reject",
        "hold" | "wait" | "ask" | "pending" | "ignore" | "leave" => "defer",
        "alert" | "warn" | "remind" => "notify",
        "human" | "person" => "user",
        "bot" => "agent",
        "dry-run" | "dryrun" | "test" | "log" => "shadow",
        _ => return None,
    };
    words.iter().copied().find(|word| *word == meant)
}

fn with_article(kind: &str) -> String {
    match kind {
        "integer" | "array" => format!("an {kind}"),
        "datetime" => "a date or time".to_owned(),
        _ => format!("a {kind}"),
    }
}
