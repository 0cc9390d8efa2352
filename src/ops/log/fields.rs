//! The values of a line: taken from spans and events, with keys removed, escaped and cut. Every value of a line goes
//! through [`LogFields`].

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};

use crate::model::hides;
use crate::secret::Redact;

/// Most characters of one value.
pub const VALUE_CHARS_MAX: usize = 1_000;
/// Most characters of the field [`PROBLEMS`], which quotes lines of files.
pub const PROBLEMS_CHARS_MAX: usize = 16_000;
/// Most fields of one line; more are dropped.
pub const FIELDS_MAX: usize = 40;
/// Hardly a line has more.
const FIELDS_USUAL: usize = 16;
/// The only field that keeps its line breaks: the rendered problems of a file.
pub const PROBLEMS: &str = "problems";
/// Most values are no longer, in bytes.
const TEXT_USUAL: usize = 120;
/// Most bytes of one value that are examined.
const RAW_BYTES_MAX: usize = 64 * 1024;

/// One value, ready to be shown.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// Escaped and cut.
    Text(String),
    /// An integer.
    Whole(i64),
    /// An integer too large for `i64`.
    Natural(u64),
    /// A floating-point number; always finite.
    Fraction(f64),
    /// A boolean.
    Truth(bool),
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldValue::Text(text) => f.write_str(text),
            FieldValue::Whole(number) => write!(f, "{number}"),
            FieldValue::Natural(number) => write!(f, "{number}"),
            FieldValue::Fraction(number) => write!(f, "{number}"),
            FieldValue::Truth(truth) => write!(f, "{truth}"),
        }
    }
}

/// Values by name, in the order they were first given. The last value of a name wins.
#[derive(Debug, Clone, Default)]
pub struct LogFields(pub Vec<(&'static str, FieldValue)>);

impl LogFields {
    /// Adds a value or replaces it.
    pub fn set(&mut self, name: &'static str, value: FieldValue) {
        match self.0.iter().position(|(known, _)| *known == name) {
            Some(at) => self.0[at].1 = value,
            None if self.0.len() < FIELDS_MAX => {
                if self.0.is_empty() {
                    self.0.reserve(FIELDS_USUAL);
                }
                self.0.push((name, value));
            }
            None => {}
        }
    }

    /// Removes a text and returns it.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(at).1.to_string())
    }
}

/// Collects the fields of a span or an event.
pub struct Collect<'a> {
    fields: &'a mut LogFields,
    redact: &'a Redact,
}

impl<'a> Collect<'a> {
    /// Collects into `fields`, with the keys of `redact` removed.
    pub fn new(fields: &'a mut LogFields, redact: &'a Redact) -> Self {
        Self { fields, redact }
    }

    fn text(&mut self, field: &Field, text: &str) {
        let value = FieldValue::Text(clean(field.name(), text, self.redact).into_owned());
        self.fields.set(field.name(), value);
    }

    /// The same, if nobody else needs the text.
    fn owned(&mut self, field: &Field, text: String) {
        let other = match clean(field.name(), &text, self.redact) {
            Cow::Borrowed(whole) if whole.len() == text.len() => None,
            cleaned => Some(cleaned.into_owned()),
        };
        self.fields.set(field.name(), FieldValue::Text(other.unwrap_or(text)));
    }
}

impl Visit for Collect<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // Six decimals: a microsecond as a part of a second. That keeps lines short.
        let rounded = (value * 1e6).round() / 1e6;
        if rounded.is_finite() {
            self.fields.set(field.name(), FieldValue::Fraction(rounded));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.set(field.name(), FieldValue::Whole(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.set(field.name(), FieldValue::Natural(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.set(field.name(), FieldValue::Truth(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = Bounded(String::with_capacity(TEXT_USUAL));
        let _ = write!(text, "{value}");
        let mut source = value.source();
        while let Some(error) = source {
            let _ = write!(text, ": {error}");
            source = error.source();
        }
        self.owned(field, text.0);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::with_capacity(TEXT_USUAL));
        let _ = write!(text, "{value:?}");
        self.owned(field, text.0);
    }
}

/// A text buffer with a maximal length.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = RAW_BYTES_MAX.saturating_sub(self.0.len());
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Removes keys from one value, escapes it and cuts it.
pub fn clean<'a>(name: &str, text: &'a str, redact: &Redact) -> Cow<'a, str> {
    let text = &text[..text.floor_char_boundary(RAW_BYTES_MAX)];
    let text = redact.scrub(text);
    let (max, lines) = if name == PROBLEMS { (PROBLEMS_CHARS_MAX, true) } else { (VALUE_CHARS_MAX, false) };
    if text.len() <= max && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        // Nearly all values: nothing to escape, nothing to cut.
        return text;
    }
    let mut out = String::with_capacity(text.len().min(max));
    let mut used = 0;
    for character in text.chars() {
        let before = out.len();
        match character {
            '\n' if lines => out.push('\n'),
            ' '..='~' => out.push(character),
            character if character.is_ascii() || hides(character) => out.extend(character.escape_default()),
            character => out.push(character),
        }
        // An escaped character counts with its whole escape sequence, so that no line becomes longer than allowed.
        used += if out.len() - before > 4 { out.len() - before } else { 1 };
        if used > max {
            out.truncate(before);
            out.push('…');
            break;
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_whoever_wrote_it() {
        let redact = Redact::default();
        assert_eq!(
            clean("why", "a\u{1b}]0;x\u{7}\nb\r\u{202e}c\u{200b}d\u{85}", &redact),
            r"a\u{1b}]0;x\u{7}\nb\r\u{202e}c\u{200b}d\u{85}"
        );
        assert_eq!(clean("why", "naïve – “名” …", &redact), "naïve – “名” …");
    }

    #[test]
    fn only_problems_keep_their_lines() {
        let redact = Redact::default();
        assert_eq!(clean(PROBLEMS, "a\nb\u{1b}", &redact), "a\nb\\u{1b}");
        assert_eq!(clean("message", "a\nb", &redact), r"a\nb");
    }

    #[test]
    fn a_value_is_cut() {
        let redact = Redact::default();
        for text in ["x".repeat(100_000), "\u{202e}".repeat(50_000), "é".repeat(100_000)] {
            assert!(clean("why", &text, &redact).chars().count() <= VALUE_CHARS_MAX + 1);
        }
    }

    #[test]
    fn the_last_value_of_a_name_wins_and_fields_are_bounded() {
        let mut fields = LogFields::default();
        fields.set("state", FieldValue::Whole(1));
        fields.set("state", FieldValue::Whole(2));
        assert_eq!(fields.0, [("state", FieldValue::Whole(2))]);
        for event in super::super::events::EVENTS {
            fields.set(event.name, FieldValue::Truth(true));
        }
        assert_eq!(fields.0.len(), FIELDS_MAX);
    }
}
