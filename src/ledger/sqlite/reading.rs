//! Reads a file beside the daemon, after a crash, or from a read-only medium. Takes no lock for which a daemon waits,
//! and creates no file beside the ledger if that can be avoided.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::opening::{log_is_there, open_at_rest, open_beside_daemon};
use super::{file, schema};
use crate::ledger::{LedgerError, sql};

/// See the module.
#[derive(Debug)]
pub struct SqliteReading {
    connection: Connection,
    path: PathBuf,
    /// Read as a file that nobody writes. A daemon that starts later is not seen.
    at_rest: bool,
}

impl SqliteReading {
    /// Opens an existing ledger.
    ///
    /// Without a write-ahead log beside it nobody has it open, so it is read without locks or helper files.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let unusable = |why: String| LedgerError::Unusable { path: path.display().to_string(), why };
        let path = &*file::real(path)?;
        crate::files::regular_or_missing(path).map_err(|error| unusable(error.to_string()))?;
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(unusable("there is none: has doorman run here?".to_owned()));
            }
            Err(error) => return Err(unusable(error.to_string())),
            Ok(data) if data.len() == 0 => {
                let path = path.display().to_string();
                return Err(LedgerError::Corrupt { path, why: "it is empty, which a ledger never is".to_owned() });
            }
            Ok(_) => {}
        }
        let at_rest = !log_is_there(path);
        let connection = if at_rest { open_at_rest(path)? } else { open_beside_daemon(path)? };
        let found = file::check_header(&connection, path)?;
        if found < schema::known() {
            return Err(unusable(format!(
                "it has schema {found}, older than this doorman's {}: start the daemon once, which brings it up to date",
                schema::known()
            )));
        }
        Ok(Self { connection, path: path.to_owned(), at_rest })
    }

    /// The connection for its queries.
    pub fn sql(&self) -> sql::Connection<'_> {
        sql::Connection::Sqlite(&self.connection)
    }

    /// Its real path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a daemon began to write to a file that was opened at rest: then this reader may return old data, and a
    /// new reader sees the new data.
    pub fn outdated(&self) -> bool {
        self.at_rest && log_is_there(&self.path)
    }

    /// Whether the daemon that had the file closed it: the log was deleted, and with it the data that this connection
    /// reads.
    pub fn moved(&self) -> bool {
        !self.at_rest && !log_is_there(&self.path)
    }

    /// SQLite's count of others' commits.
    pub fn version(&self) -> Result<i64, LedgerError> {
        let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
        version.map_err(|error| file::classify(&self.path, &error))
    }

    /// The schema's number.
    pub fn schema(&self) -> Result<i64, LedgerError> {
        let number = self.connection.pragma_query_value(None, "user_version", |row| row.get(0));
        number.map_err(|error| file::classify(&self.path, &error))
    }

    /// Writes a whole, compact copy into this empty file.
    pub fn copy_to(&self, empty: &Path) -> Result<(), LedgerError> {
        use std::os::unix::ffi::OsStrExt as _;
        let name = std::str::from_utf8(empty.as_os_str().as_bytes()).map_err(|error| LedgerError::Unusable {
            path: empty.display().to_string(),
            why: format!("SQLite needs a path in UTF-8: {error}"),
        })?;
        let copied = self.connection.execute("VACUUM INTO ?1", [name]);
        copied.map(drop).map_err(|error| file::classify(empty, &error))
    }

    /// See [`crate::ledger::LedgerReader::check`].
    pub fn check(&self) -> Result<(), LedgerError> {
        match file::check_whole(&self.connection) {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(LedgerError::Corrupt { path: self.path.display().to_string(), why }),
            Err(error) => Err(file::classify(&self.path, &error)),
        }
    }
}
