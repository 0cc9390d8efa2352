//! Tables of conditions: `when`, `unless`, and the keys in them.

use toml::de::{DeTable, DeValue};

use super::{RawCondition, RawConditions, RawTableOf, RawValue, RawWhen};
use crate::document::keys::KeyType;
use crate::document::{KeyValue, Problems, TableReader, WithSpan, shown};
use crate::policy::keys;

pub(super) fn when(value: &KeyValue<'_, '_>, what: &str, problems: &mut Problems) -> Option<WithSpan<RawWhen>> {
    let span = value.span();
    match value.node.get_ref() {
        DeValue::String(text) if text == "everyone" => Some(WithSpan { value: RawWhen::Everyone, span }),
        DeValue::String(text) => {
            problems
                .error(&span, format!("`{}` is not a value of `when`", shown(text)))
                .label("expected `\"everyone\"`, or a table of conditions")
                .help("conditions are written `when = { list = \"friends\" }`");
            None
        }
        DeValue::Table(table) => {
            let table = conditions(table, span.clone(), &format!("`when` of {what}"), problems)?;
            Some(WithSpan { value: RawWhen::Table(table), span })
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) => {
            value.wrong_type(problems);
            None
        }
    }
}

pub(super) fn unless(reader: &TableReader<'_, '_>, what: &str, problems: &mut Problems) -> Vec<RawConditions> {
    let Some(value) = reader.get("unless") else { return Vec::new() };
    let what = format!("`unless` of {what}");
    let tables = value.tables(&what, problems).unwrap_or_default();
    tables.iter().filter_map(|table| all_conditions(table, &what, problems)).collect()
}

fn conditions(
    table: &DeTable<'_>,
    span: std::ops::Range<usize>,
    what: &str,
    problems: &mut Problems,
) -> Option<RawConditions> {
    let reader = TableReader::open(table, span, &keys::WHEN, what, problems);
    all_conditions(&reader, what, problems)
}

fn empty(reader: &TableReader<'_, '_>, what: &str, problems: &mut Problems) -> Option<RawConditions> {
    problems
        .error(&reader.span, format!("{what} is empty"))
        .label("no condition")
        .help("name a condition; to match everybody, write `when = \"everyone\"`");
    None
}

fn all_conditions(reader: &TableReader<'_, '_>, what: &str, problems: &mut Problems) -> Option<RawConditions> {
    if reader.written == 0 {
        return empty(reader, what, problems);
    }
    let conditions: Vec<_> = reader.entries().iter().filter_map(|entry| condition(entry, what, problems)).collect();
    Some(RawConditions { span: reader.span.clone(), broken: conditions.len() < reader.written, conditions })
}

/// One key with its value, in the type that the key table names: a condition, or a key that belongs to one.
fn condition(entry: &KeyValue<'_, '_>, what: &str, problems: &mut Problems) -> Option<RawCondition> {
    let value = match entry.key.takes {
        KeyType::Texts => RawValue::Texts(entry.texts(problems)?),
        KeyType::Text => RawValue::Text(entry.text(problems)?),
        KeyType::Bool => RawValue::Bool(entry.boolean(problems)?.value),
        KeyType::Count(..) => RawValue::Count(entry.count(problems)?.value),
        KeyType::Duration => RawValue::Duration(entry.duration(problems)?.value),
        KeyType::Word(_) => RawValue::Word(entry.word(problems)?.value),
        KeyType::Table(_) => {
            let what = format!("`{}` in {what}", entry.key.name);
            RawValue::Table(table_of(&entry.table(&what, problems)?, &what, problems)?)
        }
        // The key table of conditions has none of these.
        KeyType::Version
        | KeyType::TextList
        | KeyType::TextsOrTable(_)
        | KeyType::DateOrMoment
        | KeyType::Moment
        | KeyType::TimeOfDay
        | KeyType::Words(_)
        | KeyType::NamedWords(_)
        | KeyType::Tables(_)
        | KeyType::Named(_)
        | KeyType::WordOrConditions(..) => {
            entry.wrong_type(problems);
            return None;
        }
    };
    Some(RawCondition {
        key: entry.key.name,
        span: entry.key_span().start..entry.span().end.max(entry.key_span().end),
        value,
    })
}

fn table_of(reader: &TableReader<'_, '_>, what: &str, problems: &mut Problems) -> Option<RawTableOf> {
    if reader.written == 0 && reader.section.at_least_one {
        problems.error(&reader.span, format!("{what} is empty")).label("no condition");
        return None;
    }
    let entries: Vec<_> = reader.entries().iter().map(|entry| condition(entry, what, problems)).collect();
    if entries.len() < reader.written {
        return None;
    }
    entries.into_iter().collect::<Option<Vec<_>>>().map(RawTableOf)
}
