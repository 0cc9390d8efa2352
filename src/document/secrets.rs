//! Keys and passwords that people write in the wrong place: no problem may show them.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problems::Problems;

/// Parts of a name that suggest a secret.
const WORDS: [&str; 4] = ["key", "token", "secret", "password"];

/// Whether a key of this name seems to hold a secret.
pub(crate) fn seems(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// Hides the values of all keys, at any level, that seem to be secrets. `known`: keys that are not secrets.
pub(crate) fn hide_in(table: &DeTable<'_>, known: &[&str], problems: &mut Problems) {
    for (key, value) in table {
        let name: &str = key.get_ref();
        if seems(name) && !known.contains(&name) {
            problems.hide(value.span());
        } else {
            hide_in_value(value, known, problems);
        }
    }
}

fn hide_in_value(value: &Spanned<DeValue<'_>>, known: &[&str], problems: &mut Problems) {
    match value.get_ref() {
        DeValue::Table(table) => hide_in(table, known, problems),
        DeValue::Array(array) => array.iter().for_each(|one| hide_in_value(one, known, problems)),
        _ => {}
    }
}

/// Hides what seems to be a secret in a text that is not valid TOML. It is then uncertain which value belongs to which
/// key, so it hides rather too much than too little.
pub(crate) fn hide_in_broken(text: &str, known: &[&str], problems: &mut Problems) {
    // The delimiter that ends a value over several lines.
    let mut open: Option<&str> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let from = match open {
            Some(end) => {
                if line.contains(end) {
                    open = None;
                }
                Some(0)
            }
            None => {
                let from = value_of_secret(line, known);
                open = from.and_then(|from| end_of(line[from..].trim()));
                from
            }
        };
        if let Some(from) = from {
            problems.hide(at + from..at + line.trim_end().len());
        }
        at += line.len();
    }
}

/// Where on a line the value of a key begins that seems to hold a secret.
fn value_of_secret(line: &str, known: &[&str]) -> Option<usize> {
    let part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let mut first = true;
    let mut at = 0;
    while let Some(begin) = line[at..].find(part_of_name).map(|found| at + found) {
        let end = line[begin..].find(|c| !part_of_name(c)).map_or(line.len(), |found| begin + found);
        let name = &line[begin..end];
        let rest = line[end..].trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
        let is_key = first || rest.starts_with(['=', ':']);
        if is_key && seems(name) && !known.contains(&name) {
            let value = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '=' | ':'));
            return Some(line.len() - value.len());
        }
        (first, at) = (false, end);
    }
    None
}

/// The delimiter that ends a value, if that is not on this line.
fn end_of(value: &str) -> Option<&'static str> {
    [("\"\"\"", "\"\"\""), ("'''", "'''"), ("[", "]"), ("{", "}")].into_iter().find_map(|(begin, end)| {
        let rest = value.strip_prefix(begin)?;
        (!rest.contains(end)).then_some(end)
    })
}
