//! Where a record is.

use std::fmt;
use std::path::{Path, PathBuf};

use super::postgres::Address;
use crate::config::settings::{DatabaseSettings, LedgerSettings};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerAddress {
    /// In a file.
    File(PathBuf),
    /// In a database of a server.
    Database(Box<Address>),
}

impl LedgerAddress {
    /// Of a file, or of the database in place of it.
    pub fn of(file: &Path, database: Option<&DatabaseSettings>) -> Self {
        database.map_or_else(
            || LedgerAddress::File(file.to_owned()),
            |database| LedgerAddress::Database(Box::new(Address::new(database))),
        )
    }

    /// Whether there may be one: a file that is there, or any database.
    pub fn is_there(&self) -> bool {
        match self {
            LedgerAddress::File(path) => !crate::files::regular_or_missing(path).is_ok_and(|found| found.is_none()),
            LedgerAddress::Database(_) => true,
        }
    }
}

impl fmt::Display for LedgerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerAddress::File(path) => path.display().fmt(f),
            LedgerAddress::Database(address) => address.fmt(f),
        }
    }
}

impl From<&LedgerSettings> for LedgerAddress {
    fn from(settings: &LedgerSettings) -> Self {
        Self::of(&settings.path, settings.database.as_ref())
    }
}

impl From<&Path> for LedgerAddress {
    fn from(path: &Path) -> Self {
        LedgerAddress::File(path.to_owned())
    }
}

impl From<&PathBuf> for LedgerAddress {
    fn from(path: &PathBuf) -> Self {
        LedgerAddress::File(path.clone())
    }
}

impl From<&LedgerAddress> for LedgerAddress {
    fn from(at: &LedgerAddress) -> Self {
        at.clone()
    }
}
