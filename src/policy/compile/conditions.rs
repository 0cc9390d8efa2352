//! One table of conditions: each key compiled to what is asked of a request.

use super::Compiling;
use crate::document::{At, shown};
use crate::policy::fold::fold;
use crate::policy::raw::{RawCondition, RawTable, RawValue};
use crate::policy::regexes::Use;
use crate::policy::rules::{Condition, Folded, HistoryConditions, Pattern, PatternSet, Table};

/// What a regular expression looks like that somebody wrote where a literal belongs.
const REGEX_SIGNS: [&str; 9] = [".*", ".+", "(?", r"\b", r"\d", r"\s", r"\w", r"\.", "]+"];

impl Compiling<'_> {
    /// Compiles a table; `None` where something in it is wrong, which is told.
    pub(super) fn table(&mut self, raw: &RawTable) -> Option<Table> {
        let before = self.problems.errors();
        let conditions: Vec<_> = raw.conditions.iter().filter_map(|condition| self.condition(condition)).collect();
        if raw.broken || self.problems.errors() > before || conditions.len() < raw.conditions.len() {
            return None;
        }
        let table = Table { conditions };
        self.contradictions(raw, &table);
        Some(table)
    }

    fn condition(&mut self, raw: &RawCondition) -> Option<Condition> {
        let before = self.problems.errors();
        let condition = match (&raw.value, raw.key) {
            (RawValue::Texts(texts), key) => self.by_texts(key, texts)?,
            (RawValue::Kind(kind), _) => Condition::Kind(*kind),
            (RawValue::Bool(absent), _) => Condition::MessageAbsent(*absent),
            (RawValue::Count(count), "message_longer_than") => {
                Condition::MessageLongerThan(usize::try_from(*count).ok()?)
            }
            (RawValue::Count(count), _) => Condition::ContactsOver(*count),
            (RawValue::Duration(age), _) => Condition::AgeOver(*age),
            (RawValue::History(history), _) => Condition::History(HistoryConditions {
                approved_before: history.approved_before,
                rejected_within: history.rejected_within,
                removed_within: history.removed_within,
                requests_over: history.requests_over,
            }),
        };
        (self.problems.errors() == before).then_some(condition)
    }

    fn by_texts(&mut self, key: &str, texts: &[At<String>]) -> Option<Condition> {
        let condition = match key {
            "handle" => {
                let mut patterns = PatternSet::default();
                for text in texts {
                    self.pattern(text, &mut patterns);
                }
                return Some(Condition::Handle(patterns));
            }
            "owner" => Condition::Owner(texts.iter().filter_map(|text| self.part(key, text)).collect()),
            "slug" => Condition::Slug(texts.iter().filter_map(|text| self.part(key, text)).collect()),
            "handle_regex" => Condition::HandleRegex(self.regexes(texts, Use::WholeHandle)),
            "list" => Condition::List(self.lists_named(texts)),
            "name" => Condition::Name(self.literals(key, texts)),
            "name_regex" => Condition::NameRegex(self.regexes(texts, Use::Search)),
            "message_contains" => Condition::MessageContains(self.literals(key, texts)),
            "message_regex" => Condition::MessageRegex(self.regexes(texts, Use::Search)),
            "window" => Condition::Window(self.windows_named(texts)),
            // Every key that takes texts stands above.
            _ => return None,
        };
        self.twice(texts);
        // A list or window that is broken itself leaves the condition incomplete.
        let found = match &condition {
            Condition::List(lists) => lists.len(),
            Condition::Window(windows) => windows.len(),
            _ => texts.len(),
        };
        (found == texts.len()).then_some(condition)
    }

    fn twice(&mut self, texts: &[At<String>]) {
        let mut seen = std::collections::HashSet::new();
        for text in texts.iter().filter(|text| !seen.insert(text.value.as_str())) {
            self.problems.warning(&text.span, format!("`{}` is there twice", shown(&text.value)));
        }
    }

    fn literals(&mut self, key: &str, texts: &[At<String>]) -> Vec<Folded> {
        let mut literals = Vec::with_capacity(texts.len());
        for text in texts {
            let folded = fold(&text.value);
            if folded.trim().is_empty() {
                self.problems
                    .error(&text.span, format!("`{key}` looks for nothing"))
                    .label("an empty text")
                    .help("an absent message is `message_absent = true`");
            } else if let Some(sign) = REGEX_SIGNS.iter().find(|sign| text.value.contains(**sign)) {
                let family = key.split('_').next().unwrap_or(key);
                self.problems
                    .error(&text.span, format!("`{key}` takes a literal text"))
                    .label(format!("`{sign}` looks like a regular expression"))
                    .help(format!("write `{family}_regex = '…'`"));
            } else {
                literals.push(Folded { text: text.value.as_str().into(), folded: folded.into() });
            }
        }
        literals
    }

    fn regexes(&mut self, texts: &[At<String>], purpose: Use) -> Vec<Pattern> {
        let mut patterns = Vec::with_capacity(texts.len());
        for text in texts {
            match self.regexes.compile(&text.value, purpose) {
                Ok(pattern) => patterns.push(pattern),
                Err(problem) => {
                    let span = self.inside(text, problem.place);
                    let message = format!("`{}` is no pattern that can be used", shown(&text.value));
                    let diagnostic = self.problems.error(&span, message);
                    diagnostic.label(problem.label);
                    diagnostic.help = problem.help.map(str::to_owned);
                }
            }
        }
        patterns
    }

    /// A place inside a string, where the string is written as it is, without escapes; else the whole string.
    fn inside(&self, text: &At<String>, place: Option<std::ops::Range<usize>>) -> std::ops::Range<usize> {
        let one_quote = text.span.len() == text.value.len() + 2;
        match place.filter(|_| one_quote) {
            Some(place) => text.span.start + 1 + place.start..text.span.start + 1 + place.end.max(place.start + 1),
            None => text.span.clone(),
        }
    }
}
