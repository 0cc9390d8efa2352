//! How the model's types are stored in columns, in both directions.

use std::borrow::Cow;

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use super::{LedgerError, sql};
use crate::model::{Sender, StrangerText};

/// Most characters kept of one text field.
pub const TEXT_CHARS_MAX: usize = 500;

/// A time in microseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Micros(pub Timestamp);

impl ToSql for Micros {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_microsecond().into())
    }
}

impl FromSql for Micros {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let micros = value.as_i64()?;
        Timestamp::from_microsecond(micros).map(Self).map_err(|_| FromSqlError::OutOfRange(micros))
    }
}

/// A value that a type of the model parses from its text.
pub struct Parsed<T>(pub T);

macro_rules! parsed {
    ($($name:ty => $parse:expr;)*) => {$(
        impl FromSql for Parsed<$name> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let parse: fn(&str) -> Option<$name> = $parse;
                parse(value.as_str()?).map(Self).ok_or(FromSqlError::InvalidType)
            }
        }
    )*};
}

parsed! {
    crate::model::AgentId => |text| crate::model::AgentId::parse(text).ok();
    crate::model::RequestId => |text| crate::model::RequestId::parse(text).ok();
    crate::model::Handle => |text| crate::model::Handle::parse(text).ok();
    crate::model::ContactId => |text| crate::model::ContactId::parse(text).ok();
    crate::model::SenderId => |text| crate::model::SenderId::parse(text).ok();
    crate::model::ContactKind => crate::model::ContactKind::parse;
    crate::model::Verdict => crate::model::Verdict::parse;
    crate::model::Answer => |text| crate::model::Verdict::parse(text)?.answer();
    crate::model::Outcome => crate::model::Outcome::parse;
    crate::policy::PolicyHash => |text| Some(crate::policy::PolicyHash::new(text));
    crate::model::Refusal => crate::model::Refusal::parse;
    crate::policy::By => crate::policy::By::parse;
    crate::policy::RuleName => crate::policy::RuleName::parse;
    crate::policy::Mode => crate::policy::Mode::parse;
    crate::model::GuestDoubt => crate::model::GuestDoubt::parse;
    crate::model::PausedBy => crate::model::PausedBy::parse;
    crate::model::RemovedBy => crate::model::RemovedBy::parse;
    super::Via => super::Via::parse;
}

/// At most [`TEXT_CHARS_MAX`] characters of the original text of a stranger; see [`holdable`].
pub fn kept(text: Option<&StrangerText>) -> Option<Cow<'_, str>> {
    text.map(|text| holdable(text.raw_prefix(TEXT_CHARS_MAX)))
}

/// At most [`TEXT_CHARS_MAX`] characters of our own text, which may quote others'.
pub fn cut(text: &str) -> Cow<'_, str> {
    holdable(match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((at, _)) => &text[..at],
        None => text,
    })
}

/// U+0000 as U+FFFD: SQLite's text functions end at the first, and other engines refuse it.
fn holdable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { text.into() }
}

/// The owner's part of a plain handle.
pub fn owner_of(sender: &Sender) -> Option<&str> {
    sender.handle().map(|handle| handle.owner())
}

/// What a failed read means for the caller.
pub fn read_error(path: &str, error: &sql::Error) -> LedgerError {
    match error {
        sql::Error::Sqlite(error) => sqlite_error(path, error),
        sql::Error::Postgres(failure) => LedgerError::Unusable { path: path.to_owned(), why: failure.to_string() },
    }
}

/// The same of SQLite.
pub fn sqlite_error(path: &str, error: &rusqlite::Error) -> LedgerError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let (path, why) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => LedgerError::Corrupt { path, why },
        Some(_) => LedgerError::Unusable { path, why },
        // Not an error of SQLite: the file holds a value that doorman never writes.
        None => LedgerError::Corrupt { path, why },
    }
}
