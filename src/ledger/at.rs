//! Where a record is.

use std::fmt;
use std::path::{Path, PathBuf};

use super::postgres::Address;
use crate::config::settings::{DatabaseSettings, LedgerSettings};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// In a file.
    File(PathBuf),
    /// In a database of a server.
    Database(Box<Address>),
}

impl At {
    /// Of a file, or of the database in place of it.
    pub fn of(file: &Path, database: Option<&DatabaseSettings>) -> Self {
        database.map_or_else(|| At::File(file.to_owned()), |database| At::Database(Box::new(Address::new(database))))
    }

    /// Whether there may be one: a file that is there, or any database.
    pub fn is_there(&self) -> bool {
        match self {
            At::File(path) => !crate::files::regular_or_missing(path).is_ok_and(|found| found.is_none()),
            At::Database(_) => true,
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::File(path) => path.display().fmt(f),
            At::Database(address) => address.fmt(f),
        }
    }
}

impl From<&LedgerSettings> for At {
    fn from(settings: &LedgerSettings) -> Self {
        Self::of(&settings.path, settings.database.as_ref())
    }
}

impl From<&Path> for At {
    fn from(path: &Path) -> Self {
        At::File(path.to_owned())
    }
}

impl From<&PathBuf> for At {
    fn from(path: &PathBuf) -> Self {
        At::File(path.clone())
    }
}

impl From<&At> for At {
    fn from(at: &At) -> Self {
        at.clone()
    }
}
