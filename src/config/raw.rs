//! `doorman.toml` as written: every value with its position; unknown keys refused, types checked, values not checked
//! yet.

use std::collections::HashMap;
use std::ops::Range;

use toml::de::DeValue;

use super::keys;
use crate::document::keys::{KeyType, Section};
use crate::document::{Problems, TableReader, WithSpan, hide_in, hide_in_broken, in_words, shown, syntax};

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct RawConfig {
    /// The scalars in the file, as text, by `section.key`.
    pub(super) scalars: HashMap<String, WithSpan<String>>,
    /// `[[agents]]`, as far as each can be made out.
    pub(super) agents: Vec<RawConfigTable>,
    /// `[deciders.NAME]`, likewise.
    pub(super) deciders: Vec<RawDecider>,
    /// Whether the file may have agents although none could be read.
    pub(super) agents_written: bool,
    /// `[[notify]]`, the same.
    pub(super) notify: Vec<RawConfigTable>,
    /// Whether the text is not valid TOML.
    pub(super) unreadable: bool,
}

/// One of `[[agents]]` or `[[notify]]`: its values, by key.
#[derive(Debug)]
pub(super) struct RawConfigTable {
    /// The table.
    pub(super) span: Range<usize>,
    values: HashMap<&'static str, WithSpan<String>>,
}

/// One `[deciders.NAME]`.
#[derive(Debug)]
pub(super) struct RawDecider {
    pub(super) name: WithSpan<String>,
    pub(super) table: RawConfigTable,
}

impl RawConfigTable {
    pub(super) fn get(&self, key: &str) -> Option<&WithSpan<String>> {
        self.values.get(key)
    }
}

/// Reads a text. Problems are reported; the valid parts are returned all the same, so that they are checked in the same
/// run.
pub(super) fn read(text: &str, problems: &mut Problems) -> RawConfig {
    let Some(tree) = syntax(text, problems) else {
        hide_in_broken(text, &keys::NO_SECRETS, problems);
        return RawConfig { agents_written: true, unreadable: true, ..RawConfig::default() };
    };
    hide_in(tree.get_ref(), &keys::NO_SECRETS, problems);
    let file = TableReader::open(tree.get_ref(), 0..0, &keys::FILE, "the file", problems);
    let mut raw = RawConfig::default();
    for entry in file.entries() {
        match entry.key.takes {
            KeyType::Tables(section) => {
                let (name, what) =
                    if section.path == keys::AGENT.path { ("agents", "agent") } else { ("notify", "target") };
                raw.agents_written |= name == "agents";
                if let DeValue::Table(_) = entry.node.get_ref() {
                    problems
                        .error(&entry.span(), format!("`{name}` is one of several"))
                        .label("expected two brackets")
                        .help(format!("write `[[{name}]]`, once for each {what}"));
                    continue;
                }
                let tables = entry.tables(if what == "agent" { "an agent" } else { "a target" }, problems);
                let tables = tables.unwrap_or_default().iter().map(|table| one_of_several(table, problems)).collect();
                *(if name == "agents" { &mut raw.agents } else { &mut raw.notify }) = tables;
            }
            KeyType::Named(section) => {
                let DeValue::Table(named) = entry.node.get_ref() else {
                    entry.wrong_type(problems).help(format!("write `[{}.NAME]`, a table each", entry.key.name));
                    continue;
                };
                for (name, node) in named {
                    let name = WithSpan { value: name.get_ref().to_string(), span: entry.at(name.span()) };
                    let DeValue::Table(inner) = node.get_ref() else {
                        problems.error(&entry.at(node.span()), format!("`{}` is not a table", shown(&name.value)));
                        continue;
                    };
                    let what = format!("`[{}.{}]`", entry.key.name, shown(&name.value));
                    let table = TableReader::open(inner, entry.at(node.span()), section, &what, problems);
                    raw.deciders.push(RawDecider { name, table: one_of_several(&table, problems) });
                }
            }
            _ => {
                if let Some(table) = entry.table(&format!("`[{}]`", entry.key.name), problems) {
                    for (key, value) in values(&table, problems) {
                        raw.scalars.insert(format!("{}.{key}", table.section.path), value);
                    }
                }
            }
        }
    }
    raw
}

fn one_of_several(table: &TableReader<'_, '_>, problems: &mut Problems) -> RawConfigTable {
    RawConfigTable { span: table.span.clone(), values: values(table, problems).collect() }
}

/// The values of a table that have the right type, as text, since the environment and flags also give text.
fn values(
    table: &TableReader<'_, '_>,
    problems: &mut Problems,
) -> impl Iterator<Item = (&'static str, WithSpan<String>)> + use<> {
    let mut values = Vec::with_capacity(table.entries().len());
    for entry in table.entries() {
        let value = match entry.key.takes {
            KeyType::Bool => entry.boolean(problems).map(|at| WithSpan { value: at.value.to_string(), span: at.span }),
            KeyType::Count(..) => {
                entry.count(problems).map(|at| WithSpan { value: at.value.to_string(), span: at.span })
            }
            KeyType::Duration => {
                entry.duration(problems).map(|at| WithSpan { value: in_words(at.value), span: at.span })
            }
            KeyType::Word(_) => entry.word(problems).map(|at| WithSpan { value: at.value.to_owned(), span: at.span }),
            KeyType::TextList => entry.texts(problems).map(|texts| {
                let lines: Vec<String> = texts.into_iter().map(|text| text.value).collect();
                WithSpan { value: lines.join("\n"), span: entry.span() }
            }),
            _ => entry.text(problems),
        };
        values.extend(value.map(|value| (entry.key.name, value)));
    }
    values.into_iter()
}

/// The type of a key, by `section.key`.
pub(super) fn takes(key: &str) -> Option<KeyType> {
    let (path, name) = key.split_once('.')?;
    let section: &Section = keys::SECTIONS.iter().find(|section| section.path == path)?;
    section.keys.iter().find(|key| key.name == name).map(|key| key.takes)
}
