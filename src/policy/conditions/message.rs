//! `message_contains`, `message_contains_file`, `message_regex`, `message_absent`, `message_longer_than`: what the sender says. An absent message
//! is a fact: nothing is found in it.

use super::compared::{regexes_follow, sorted};
use super::{Compile, Condition, ConditionKind, Written, never_together, row};
use crate::document::Problems;
use crate::document::keys::{DocumentKey, KeyType, key};
use crate::policy::Truth;
use crate::policy::compile::Compiling;
use crate::policy::evaluate::Evaluation;
use crate::policy::evaluate::inputs::Inputs;
use crate::policy::explain::values;
use crate::policy::index::{Anchor, IndexBuilder};
use crate::policy::raw::RawCondition;
use crate::policy::regexes::Use;
use crate::policy::rules::{Folded, RegexPattern};
use crate::policy::text::TextForms;

/// `message_contains = […]`: literal, case and width folded.
#[derive(Debug)]
pub struct MessageContains(pub Vec<Folded>);

/// `message_contains_file = "…"`: the same, with the texts of a file.
#[derive(Debug)]
pub(crate) struct MessageContainsFile {
    /// As written.
    pub file: std::sync::Arc<str>,
    /// Its lines.
    pub texts: Vec<Folded>,
}

/// `message_regex = …`: searches.
#[derive(Debug)]
pub struct MessageRegex(pub Vec<RegexPattern>);

/// `message_absent = true|false`.
#[derive(Debug)]
pub(crate) struct MessageAbsent(pub bool);

/// `message_longer_than = N` characters.
#[derive(Debug)]
pub(crate) struct MessageLongerThan(pub usize);

/// `message_absent = true` can only hold if there is no message.
fn not_absent(written: &RawCondition, table: &Written<'_>, problems: &mut Problems) {
    if table.get::<MessageAbsent>().is_some_and(|(_, absent)| absent.0) {
        let both = format!("`message_absent = true` and `{}`", written.key);
        never_together(written, "there is no message to look at", &both, problems);
    }
}

impl Compile for MessageContains {
    const KEY: DocumentKey = key(
        "message_contains",
        KeyType::Texts,
        "",
        "This text is found in the message, whatever the case and width of its letters.",
    );

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        compiling.literals("message_contains", "message_regex", written.texts()?).map(Self)
    }
}

impl ConditionKind for MessageContains {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        Evaluation::of(inputs.message().map_or(Truth::False, |text| text.contains(&self.0)))
    }

    fn wanted(&self) -> String {
        values::some(self.0.iter().map(|text| text.text.to_string()))
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        values::text(inputs.message(), self.0.iter().any(|one| one.disclosing))
    }

    fn canonical(&self) -> String {
        sorted("message_contains", self.0.iter().map(|text| &*text.folded))
    }

    fn anchor(&self) -> Option<Anchor> {
        self.0.iter().all(|one| one.letters.is_none() || !one.disclosing).then_some(Anchor::Text)
    }

    fn add_to<'a>(&'a self, index: &mut IndexBuilder<'a>) {
        index.message_contains(&self.0);
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow
            .downcast::<MessageContains>()
            .is_some_and(|one| one.0.iter().all(|one| self.0.iter().any(|other| one.folded.contains(&*other.folded))))
    }

    fn contradictions(&self, written: &RawCondition, table: &Written<'_>, problems: &mut Problems) {
        not_absent(written, table, problems);
    }
}

impl Compile for MessageContainsFile {
    const KEY: DocumentKey = key(
        "message_contains_file",
        KeyType::Text,
        "",
        "A text of this file is found in the message: one text on each line, `#` lines are comments; relative to the rules file.",
    );

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        let file = written.text()?;
        let texts = compiling.literals_of_file(file)?;
        Some(Self { file: file.value.as_str().into(), texts })
    }
}

impl ConditionKind for MessageContainsFile {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        Evaluation::of(inputs.message().map_or(Truth::False, |text| text.contains(&self.texts)))
    }

    fn wanted(&self) -> String {
        format!("a text of {} ({} texts)", self.file, self.texts.len())
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        values::text(inputs.message(), self.texts.iter().any(|one| one.disclosing))
    }

    fn canonical(&self) -> String {
        format!("message_contains_file {}", self.file)
    }

    fn anchor(&self) -> Option<Anchor> {
        self.texts.iter().all(|one| one.letters.is_none() || !one.disclosing).then_some(Anchor::Text)
    }

    fn add_to<'a>(&'a self, index: &mut IndexBuilder<'a>) {
        index.message_contains(&self.texts);
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow.downcast::<MessageContainsFile>().is_some_and(|one| one.file == self.file)
    }

    fn contradictions(&self, written: &RawCondition, table: &Written<'_>, problems: &mut Problems) {
        not_absent(written, table, problems);
    }
}

impl Compile for MessageRegex {
    const KEY: DocumentKey =
        key("message_regex", KeyType::Texts, "", "A regular expression that is found in the message.");

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        compiling.regexes(written.texts()?, Use::Search).map(Self)
    }
}

impl ConditionKind for MessageRegex {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        Evaluation::of(inputs.message().map_or(Truth::False, |text| text.matches(&self.0)))
    }

    fn wanted(&self) -> String {
        values::some(self.0.iter().map(|pattern| pattern.text.to_string()))
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        values::text(inputs.message(), self.0.iter().any(|one| one.disclosing))
    }

    fn canonical(&self) -> String {
        sorted("message_regex", self.0.iter().map(|pattern| &*pattern.text))
    }

    fn anchor(&self) -> Option<Anchor> {
        self.0.iter().all(|one| one.letters.is_none() || !one.disclosing).then_some(Anchor::Text)
    }

    fn add_to<'a>(&'a self, index: &mut IndexBuilder<'a>) {
        index.message_regex(&self.0);
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow.downcast::<MessageRegex>().is_some_and(|one| regexes_follow(&one.0, &self.0))
    }

    fn contradictions(&self, written: &RawCondition, table: &Written<'_>, problems: &mut Problems) {
        not_absent(written, table, problems);
    }
}

impl Compile for MessageAbsent {
    const KEY: DocumentKey =
        key("message_absent", KeyType::Bool, "", "There is no message; with `false`, there is one.");

    fn compile(written: &RawCondition, _compiling: &mut Compiling<'_>) -> Option<Self> {
        written.boolean().map(Self)
    }
}

impl ConditionKind for MessageAbsent {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        Evaluation::fact(inputs.request.message.is_none() == self.0)
    }

    fn wanted(&self) -> String {
        self.0.to_string()
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        if inputs.request.message.is_some() { "a message" } else { values::ABSENT }.to_owned()
    }

    fn canonical(&self) -> String {
        format!("{self:?}")
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        let speaks = narrow.downcast::<MessageContains>().is_some()
            || narrow.downcast::<MessageContainsFile>().is_some()
            || narrow.downcast::<MessageRegex>().is_some()
            || narrow.downcast::<MessageLongerThan>().is_some();
        (speaks && !self.0) || narrow.downcast::<MessageAbsent>().is_some_and(|one| one.0 == self.0)
    }
}

impl Compile for MessageLongerThan {
    const KEY: DocumentKey = key(
        "message_longer_than",
        KeyType::Count(0, 4095),
        "",
        "The message has more characters than this, as it was sent.",
    );

    fn compile(written: &RawCondition, _compiling: &mut Compiling<'_>) -> Option<Self> {
        usize::try_from(written.count()?).ok().map(Self)
    }
}

impl ConditionKind for MessageLongerThan {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        Evaluation::of(inputs.message().map_or(Truth::False, |text| text.longer_than(self.0)))
    }

    fn wanted(&self) -> String {
        format!("more than {} characters", self.0)
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        let length = |text: &TextForms<'_>| {
            let most = if text.original().is_cut() { "at least " } else { "" };
            format!("{most}{} characters", text.original().raw().chars().count())
        };
        inputs.message().map_or_else(|| values::ABSENT.to_owned(), length)
    }

    fn canonical(&self) -> String {
        format!("{self:?}")
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow.downcast::<MessageLongerThan>().is_some_and(|one| one.0 >= self.0)
    }

    fn contradictions(&self, written: &RawCondition, table: &Written<'_>, problems: &mut Problems) {
        not_absent(written, table, problems);
    }
}
