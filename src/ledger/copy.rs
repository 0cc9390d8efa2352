//! A record moves from one engine to the other, as it is: each row with its number, and both sides counted and hashed before it
//! counts.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::postgres::{self, Address};
use super::sql::{self, Connection, ToSql};
use super::sqlite::{file, lock};
use super::{LedgerAddress, LedgerError, columns};

/// Each table before those that refer to it, and what its rows are ordered by.
const TABLES: [(&str, &str); 28] = [
    ("agent", "n"),
    ("text", "n"),
    ("chunk", "n"),
    ("text_chunk", "text, k"),
    ("policy", "n"),
    ("policy_part", "policy, k"),
    ("policy_use", "n"),
    ("policy_version", "n"),
    ("request", "n"),
    ("request_change", "n"),
    ("decision", "n"),
    ("answer", "n"),
    ("charge", "agent, at, request, rule, bucket"),
    ("pause", "n"),
    ("hold", "n"),
    ("notice", "n"),
    ("contact", "n"),
    ("contact_owner", "contact, owner"),
    ("contact_removal", "contact, at"),
    ("session", "n"),
    ("settlement", "n"),
    ("identity", "n"),
    ("delivery", "n"),
    ("notify_mark", "target"),
    ("told", "n"),
    ("guest", "n"),
    ("removal", "n"),
    ("guest_end", "n"),
];
/// Values in one statement.
const VALUES_MAX: usize = 2_000;

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Each table with its rows.
    pub tables: Vec<(&'static str, u64)>,
    /// What the file is called now, which holds no record in use any more.
    pub aside: Option<PathBuf>,
}

/// Copies a record. With `try_it` everything is done and undone.
///
/// A file must be used by no daemon, and is moved aside in the end. A database's leases are taken, so that a daemon that still runs
/// writes nothing more.
///
/// # Errors
/// [`LedgerError`]: nothing was changed then. If the target holds a record already, too.
pub fn copy(from: &LedgerAddress, to: &LedgerAddress, try_it: bool) -> Result<Copied, LedgerError> {
    match (from, to) {
        (LedgerAddress::File(file), LedgerAddress::Database(database)) => to_database(file, database, try_it),
        (LedgerAddress::Database(database), LedgerAddress::File(file)) => to_file(database, file, try_it),
        (LedgerAddress::File(_), LedgerAddress::File(path)) => {
            Err(unusable(path.display(), "the record is in a file already: `doorman ledger backup` copies that"))
        }
        (LedgerAddress::Database(_), LedgerAddress::Database(address)) => {
            Err(unusable(address, "the record is in a database already: `pg_dump` and `pg_restore` copy that"))
        }
    }
}

fn to_database(path: &Path, address: &Address, try_it: bool) -> Result<Copied, LedgerError> {
    let path = &*file::real(path)?;
    if !path.exists() {
        return Err(unusable(path.display(), "there is none: has doorman run here?"));
    }
    let aside = lock::beside(path, ".copied");
    if aside.exists() {
        return Err(unusable(aside.display(), "it is there already: move it away"));
    }
    let lock = lock::Lock::take(path)?;
    // Brings its log into it, and its schema up to date.
    let source = file::open_for_writing(path, std::time::Duration::ZERO)?;
    let target = postgres::prepare(address)?;
    let failed = |error: &sql::Error| columns::read_error(address.shown(), error);
    let into = Connection::Postgres(&target);
    let done = (|| -> Result<Vec<(&'static str, u64)>, sql::Error> {
        target.begin("BEGIN")?;
        target.batch("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")?;
        for (table, _) in TABLES {
            let rows: i64 = into.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
            if rows > 0 {
                return Err(sql::Error::damaged("there is a record in it already, which is not replaced"));
            }
        }
        let tables = rows_of_all((&source).into(), into, &source)?;
        for (table, key) in TABLES {
            if key == "n" {
                target.batch(&format!(
                    "SELECT setval(pg_get_serial_sequence('{table}', 'n'), (SELECT coalesce(max(n), 0) + 1 FROM {table}), false)"
                ))?;
            }
        }
        into.prepare_cached("UPDATE meta SET copied_from = ?1")?.execute([path.display().to_string()])?;
        if try_it {
            target.rollback()
        } else {
            target.commit()?
        }
        Ok(tables)
    })();
    if done.is_err() {
        target.rollback();
    }
    let tables = done.map_err(|error| failed(&error))?;
    if !try_it {
        for (table, _) in TABLES {
            // The server plans as for empty tables until it looks at them by itself, in a minute or so: no matter if this fails.
            let _ = target.batch(&format!("ANALYZE {table}"));
        }
    }
    // The last connection takes its log away.
    source.close().map_err(|(_, error)| file::classify(path, &error))?;
    if !try_it {
        std::fs::rename(path, &aside).map_err(|error| {
            unusable(path.display(), &format!("it was copied, and cannot be moved aside ({error}): do that by hand"))
        })?;
        file::sync_directory(path);
    }
    drop(lock);
    Ok(Copied { tables, aside: (!try_it).then_some(aside) })
}

fn to_file(address: &Address, path: &Path, try_it: bool) -> Result<Copied, LedgerError> {
    let path = &*file::real(path)?;
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(unusable(path.display(), "it is there already, and is not replaced"));
    }
    file::make_directory(path)?;
    file::judge_place(path)?;
    let lock = lock::Lock::take(path)?;
    let new = lock::beside(path, ".new");
    let source = postgres::prepare(address)?;
    let failed = |error: &sql::Error| columns::read_error(address.shown(), error);
    let copied = (|| -> Result<Vec<(&'static str, u64)>, LedgerError> {
        let target = file::open_for_writing(&new, std::time::Duration::ZERO)?;
        if !try_it {
            // Whoever still writes is fenced.
            postgres::take_all(&source).map_err(|error| failed(&error))?;
        }
        let tables = (|| {
            source.begin("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
            source.batch("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")?;
            let writing = Connection::Sqlite(&target).begin()?;
            let tables = rows_of_all(Connection::Postgres(&source), Connection::Sqlite(&target), &target)?;
            writing.commit()?;
            source.rollback();
            Ok(tables)
        })();
        let tables = tables.map_err(|error: sql::Error| failed(&error))?;
        target.close().map_err(|(_, error)| file::classify(&new, &error))?;
        if !try_it {
            std::fs::rename(&new, path).map_err(|error| unusable(path.display(), &error))?;
            file::sync_directory(path);
        }
        Ok(tables)
    })();
    for left in [new.clone(), lock::beside(&new, "-wal"), lock::beside(&new, "-shm")] {
        // Nothing is left of a copy that is not whole.
        let _ = std::fs::remove_file(left);
    }
    drop(lock);
    Ok(Copied { tables: copied?, aside: None })
}

/// All tables, each compared when it is there.
fn rows_of_all(
    from: Connection<'_>,
    into: Connection<'_>,
    named_by: &rusqlite::Connection,
) -> sql::Result<Vec<(&'static str, u64)>> {
    let mut copied = Vec::with_capacity(TABLES.len());
    for (table, key) in TABLES {
        let columns = named_by
            .prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))?
            .query_map([], |row| Ok(format!("\"{}\"", row.get::<_, String>(0)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let read = format!("SELECT {} FROM {table} ORDER BY {key}", columns.join(", "));
        let sent = rows_of(from, into, table, &columns, &read)?;
        let arrived = summed(into, &read, columns.len())?;
        if sent != arrived {
            return Err(sql::Error::damaged(&format!("the table `{table}` did not arrive as it was sent")));
        }
        copied.push((table, sent.0));
    }
    Ok(copied)
}

/// Rows of one table, some in each statement; how many, and what they come to.
fn rows_of(
    from: Connection<'_>,
    into: Connection<'_>,
    table: &str,
    columns: &[String],
    read: &str,
) -> sql::Result<(u64, [u8; 32])> {
    let most = (VALUES_MAX / columns.len()).max(1);
    let mut sum = Sum::default();
    let mut statement = from.prepare_cached(read)?;
    let mut rows = statement.query([])?;
    let mut values: Vec<rusqlite::types::Value> = Vec::new();
    loop {
        let row = rows.next()?;
        let ended = row.is_none();
        if let Some(row) = row {
            for column in 0..columns.len() {
                let value = row.get_ref(column)?;
                sum.add(value);
                values.push(value.try_into().map_err(|_| sql::Error::damaged("a text that is no UTF-8"))?);
            }
            sum.rows += 1;
        }
        let waiting = values.len() / columns.len();
        if waiting == most || (ended && waiting > 0) {
            let numbers: Vec<String> = (0..waiting)
                .map(|row| {
                    let places: Vec<String> =
                        (1..=columns.len()).map(|column| format!("?{}", row * columns.len() + column)).collect();
                    format!("({})", places.join(", "))
                })
                .collect();
            let insert = format!("INSERT INTO {table} ({}) VALUES {}", columns.join(", "), numbers.join(", "));
            let params: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
            into.prepare_cached(&insert)?.execute(params.as_slice())?;
            values.clear();
        }
        if ended {
            return Ok(sum.end());
        }
    }
}

/// What the rows of a table come to.
fn summed(connection: Connection<'_>, read: &str, columns: usize) -> sql::Result<(u64, [u8; 32])> {
    let mut sum = Sum::default();
    let mut statement = connection.prepare_cached(read)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            sum.add(row.get_ref(column)?);
        }
        sum.rows += 1;
    }
    Ok(sum.end())
}

#[derive(Default)]
struct Sum {
    rows: u64,
    hash: Sha256,
}

impl Sum {
    /// Each value with its kind and length, so that no two rows look alike.
    fn add(&mut self, value: rusqlite::types::ValueRef<'_>) {
        use rusqlite::types::ValueRef;
        let (kind, bytes): (u8, &[u8]) = match value {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(number) => (1, &number.to_be_bytes()),
            ValueRef::Real(number) => (2, &number.to_be_bytes()),
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(bytes) => (4, bytes),
        };
        self.hash.update([kind]);
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }

    fn end(self) -> (u64, [u8; 32]) {
        (self.rows, self.hash.finalize().into())
    }
}

fn unusable(what: impl ToString, why: &(impl ToString + ?Sized)) -> LedgerError {
    LedgerError::Unusable { path: what.to_string(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_table_of_the_schema_is_copied() {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        crate::ledger::sqlite::schema::migrate(&mut connection, 0).unwrap();
        let mut there: Vec<String> = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        there.retain(|name| !name.starts_with("sqlite_"));
        let mut copied: Vec<&str> = super::TABLES.iter().map(|(name, _)| *name).collect();
        copied.sort_unstable();
        assert_eq!(copied, there);
    }
}
