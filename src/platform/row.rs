//! One row of a list, or the payload of an event, before it is parsed: the raw text of each of its fields. So an unreadable row
//! does not affect the others, and its id can still be read: finding a field works even with half surrogate pairs, numbers beyond any range
//! and any depth elsewhere in the row.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Most fields of one row that are looked at.
const FIELDS_MAX: usize = 256;

/// A row has no more of them today.
const FIELDS_USUAL: usize = 12;

/// The value of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    /// Nothing, or null.
    Absent,
    /// A text.
    Text(Cow<'a, str>),
    /// Something else.
    NotText,
    /// A text that cannot be read.
    NoCharacter,
}

/// See the module.
#[derive(Debug)]
pub struct RowFields<'a> {
    fields: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> RowFields<'a> {
    /// Finds the fields of a row; `None` if it is not an object, or one of too many fields.
    pub(crate) fn of(raw: &'a RawValue) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_str(raw.get());
        let fields = json.deserialize_map(RowVisitor).ok()?;
        Some(Self { fields })
    }

    /// The value of this key. If a key appears twice with different values, it counts as unreadable.
    pub(crate) fn field(&self, key: &str) -> Field<'a> {
        let mut found = self.fields.iter().filter(|(name, _)| name == key).map(|(_, value)| *value);
        let Some(value) = found.next() else { return Field::Absent };
        if found.any(|other| other != value) {
            return Field::NotText;
        }
        match value.as_bytes() {
            b"null" => Field::Absent,
            [b'"', ..] => text(value).map_or(Field::NoCharacter, Field::Text),
            _ => Field::NotText,
        }
    }

    /// The raw value of this key.
    pub(super) fn raw(&self, key: &str) -> Option<&'a str> {
        self.fields.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// The object that is the value of this key.
    pub(crate) fn object(&self, key: &str) -> Option<RowFields<'a>> {
        RowFields::of(serde_json::from_str(self.raw(key)?).ok()?)
    }

    /// A text under this key, or the digits of a whole number.
    pub(super) fn word(&self, key: &str) -> Option<Cow<'a, str>> {
        match self.field(key) {
            Field::Text(text) => Some(text),
            Field::Absent | Field::NoCharacter => None,
            Field::NotText => self.raw(key).filter(|raw| raw.parse::<u64>().is_ok()).map(Cow::Borrowed),
        }
    }

    /// The text of the id, if there is one.
    pub(super) fn id(&self) -> Option<Cow<'a, str>> {
        match self.field("id") {
            Field::Text(text) => Some(text),
            Field::Absent | Field::NotText | Field::NoCharacter => None,
        }
    }
}

/// A JSON string that was found by the parser; borrowed if it contains no escapes.
fn text(raw: &str) -> Option<Cow<'_, str>> {
    let plain = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).filter(|plain| !plain.contains('\\'));
    match plain {
        Some(plain) => Some(Cow::Borrowed(plain)),
        None => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
    }
}

struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(FIELDS_USUAL);
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            if fields.len() == FIELDS_MAX {
                return Err(A::Error::custom("too many fields"));
            }
            // A key that cannot be read is not one of ours.
            if let Some(key) = text(key.get()) {
                fields.push((key, value.get()));
            }
        }
        Ok(fields)
    }
}
