//! What a TOML file may contain: its tables, their keys, the type and meaning of each key. The reader uses it to refuse
//! unknown keys, the JSON Schema is generated from it, and tests compare the reference in `docs/` with it.

/// A table of the file.
#[derive(Debug)]
pub struct Section {
    /// How people write it: `rules.NAME`.
    pub path: &'static str,
    /// What it is for.
    pub meaning: &'static str,
    /// The keys that it may contain.
    pub keys: &'static [DocumentKey],
    /// Tables whose keys people put here by mistake, and what to tell them; `{}` is the key.
    pub elsewhere: &'static [(&'static Section, &'static str)],
    /// Whether it may not be empty.
    pub at_least_one: bool,
    /// What to tell people who put a key or a password here; nothing if they are offered the nearest name as usual.
    pub secrets: &'static str,
}

impl Section {
    /// A table without keys.
    pub(crate) const PLAIN: Section =
        Section { path: "", meaning: "", keys: &[], elsewhere: &[], at_least_one: false, secrets: "" };
}

/// One key of a table.
#[derive(Debug)]
pub struct DocumentKey {
    /// Its name.
    pub name: &'static str,
    /// The type of its value.
    pub takes: KeyType,
    /// Whether the table is refused without it.
    pub required: bool,
    /// What holds if it is left out, for people.
    pub default: &'static str,
    /// What it means, one sentence.
    pub meaning: &'static str,
}

/// The type of a key's value.
#[derive(Debug, Clone, Copy)]
pub enum KeyType {
    /// The number 1.
    Version,
    /// A string.
    Text,
    /// A string, or an array of strings of which one must match.
    Texts,
    /// The same, or a table.
    TextsOrTable(&'static Section),
    /// An array of strings.
    TextList,
    /// `true` or `false`.
    Bool,
    /// An integer within these bounds.
    Count(u64, u64),
    /// A friendly duration, such as `"1h 30m"`.
    Duration,
    /// A date without quotes, or a date and time with its offset.
    DateOrMoment,
    /// A date and time with its offset, without quotes.
    Moment,
    /// `"HH:MM"`.
    TimeOfDay,
    /// One of these strings.
    Word(&'static [&'static str]),
    /// An array of these strings.
    Words(&'static [&'static str]),
    /// A table.
    Table(&'static Section),
    /// An array of tables.
    Tables(&'static Section),
    /// Tables by name.
    Named(&'static Section),
    /// These strings by name.
    NamedWords(&'static [&'static str]),
    /// This string, or a table of conditions.
    WordOrConditions(&'static str, &'static Section),
}

impl KeyType {
    /// In words, with an example: completes "expected …".
    pub fn in_words(self) -> String {
        let listed = |words: &[&str]| words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
        match self {
            KeyType::Version => "the number `1`".to_owned(),
            KeyType::Text => "a string".to_owned(),
            KeyType::Texts => "a string, or an array of strings".to_owned(),
            KeyType::TextsOrTable(_) => "a string, an array of strings, or a table".to_owned(),
            KeyType::TextList => "an array of strings".to_owned(),
            KeyType::Bool => "`true` or `false`".to_owned(),
            KeyType::Count(least, most) => format!("a whole number from {least} to {most}"),
            KeyType::Duration => "a duration, such as `\"10m\"`, `\"1h 30m\"` or `\"7d\"`".to_owned(),
            KeyType::DateOrMoment => {
                "a date without quotes, such as `2027-03-31`, or a moment, such as `2027-03-31T18:00:00+02:00`"
                    .to_owned()
            }
            KeyType::Moment => "a date and time without quotes, such as `2026-01-05T12:00:00Z`".to_owned(),
            KeyType::TimeOfDay => "a time of day, such as `\"08:00\"`".to_owned(),
            KeyType::Word(words) => format!("one of {}", listed(words)),
            KeyType::Words(words) => format!("an array of {}", listed(words)),
            KeyType::Table(_) | KeyType::Named(_) => "a table".to_owned(),
            KeyType::NamedWords(words) => format!("a table with, by name, one of {}", listed(words)),
            KeyType::Tables(_) => "an array of tables".to_owned(),
            KeyType::WordOrConditions(word, _) => format!("`\"{word}\"`, or a table of conditions"),
        }
    }
}

/// A key that may be left out.
pub const fn key(name: &'static str, takes: KeyType, default: &'static str, meaning: &'static str) -> DocumentKey {
    DocumentKey { name, takes, required: false, default, meaning }
}

/// A key that must be there.
pub const fn required(name: &'static str, takes: KeyType, meaning: &'static str) -> DocumentKey {
    DocumentKey { name, takes, required: true, default: "required", meaning }
}
