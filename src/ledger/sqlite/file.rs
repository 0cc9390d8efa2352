//! The file: created private and complete, and opened only if it is valid, a ledger, and not newer than this doorman;
//! moved aside on request. Nothing in here replaces an existing file.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::lock::{Lock, beside};
use super::{LedgerError, schema, sql};
use crate::files::FileTrust;
use crate::ops::log::events;

/// `door` in ASCII: it distinguishes a ledger from another program's database.
const APPLICATION_ID: i64 = 0x646f_6f72;
/// A ledger up to this size is checked whole when opened (some 30 ms); of a larger one, both ends of every table and
/// index, since a daemon must not spend seconds there. `doorman ledger check` reads everything.
const WHOLE_CHECK_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The identity of a file under any name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity(u64, u64);

/// The identity of the file that is at `path` now.
pub fn identity(path: &Path) -> std::io::Result<FileIdentity> {
    fs::metadata(path).map(|data| FileIdentity(data.dev(), data.ino()))
}

/// Most symbolic links on the way to a ledger, as in the kernel.
const LINKS_MAX: usize = 40;

/// The ledger's real path, if `path` is a link: its lock and its log are beside the real file, whichever name is used.
/// Blocks for some seconds at most.
pub fn real(path: &Path) -> Result<PathBuf, LedgerError> {
    let named = path.to_owned();
    let found = crate::files::within(path, move || {
        let mut at = named;
        for _ in 0..LINKS_MAX {
            let directory = match at.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            };
            match fs::read_link(&at) {
                Ok(target) => at = directory.join(target),
                Err(_) => {
                    let name = at.file_name().unwrap_or_default().to_owned();
                    return Ok(fs::canonicalize(&directory).map_or(at, |directory| directory.join(name)));
                }
            }
        }
        Ok(at)
    });
    found.map_err(|error| unusable(path, error.to_string()))
}

/// Refuses a directory in which others could put a ledger or its log; warns if another group or user could.
pub fn judge_place(path: &Path) -> Result<(), LedgerError> {
    let place = path.to_owned();
    let judged = crate::files::within(path, move || {
        let judged = crate::files::judge_place(&place);
        // The mode is set below; the owner of the file could change it back.
        let of_file =
            fs::metadata(&place).ok().and_then(|meta| crate::files::judge(&place, &meta, FileTrust::File).ok()?);
        Ok(judged.map(|found| found.or(of_file)))
    });
    match judged.map_err(|error| unusable(path, error.to_string()))? {
        Ok(None) => Ok(()),
        Ok(Some(advice)) => {
            tracing::warn!(event = events::LEDGER_EXPOSED, path = %path.display(), why = advice.message, "others may replace the ledger");
            Ok(())
        }
        Err(advice) => {
            let help = advice.help.map(|help| format!(": {help}")).unwrap_or_default();
            Err(unusable(path, advice.message + &help))
        }
    }
}

/// Opens the ledger for writing, making it first if there is none. The caller has the lock.
pub fn open_for_writing(path: &Path, busy: Duration) -> Result<Connection, LedgerError> {
    crate::files::regular_or_missing(path).map_err(|error| unusable(path, error.to_string()))?;
    match fs::metadata(path) {
        Ok(data) if data.len() == 0 => {
            return Err(corrupt(path, "it is empty, which a ledger never is"));
        }
        Ok(data) if data.nlink() > 1 => {
            let why = "the file has another name too (a hard link), and whoever opens it by that name destroys it: remove one \
                       of the names, or give doorman a copy";
            return Err(unusable(path, why));
        }
        Ok(data) => keep_private(path, data.permissions().mode()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(unusable(path, error.to_string())),
    }
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, busy)?;
    let found = check_header(&connection, path)?;
    set_up(&connection).map_err(|error| classify(path, &error))?;
    schema::migrate(&mut connection, found).map_err(|error| failed(path, &error))?;
    check(&connection, path)?;
    Ok(connection)
}

/// A connection to a ledger that is there, without any check.
pub fn connect(path: &Path, flags: OpenFlags, busy: Duration) -> Result<Connection, LedgerError> {
    connect_as(path, path, flags, busy, "")
}

/// The same by another name that SQLite knows it by, with pragmas that must come before the first read.
pub fn connect_as(
    path: &Path,
    name: &Path,
    flags: OpenFlags,
    busy: Duration,
    first: &str,
) -> Result<Connection, LedgerError> {
    let connection = Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| classify(path, &error))?;
    let ready = connection.busy_timeout(busy).and_then(|()| {
        // A query plan must not depend on the bound values; otherwise SQLite compiles a cached statement again each
        // time it runs with other values.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.execute_batch(first)?;
        connection.execute_batch("PRAGMA cache_size = -1024; PRAGMA trusted_schema = OFF;")
    });
    ready.map_err(|error| classify(path, &error))?;
    Ok(connection)
}

/// Checks that it is a ledger and not newer than this doorman. Returns the number of its schema.
pub fn check_header(connection: &Connection, path: &Path) -> Result<i64, LedgerError> {
    let read = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let application = read("application_id").map_err(|error| classify(path, &error))?;
    let found = read("user_version").map_err(|error| classify(path, &error))?;
    if application != APPLICATION_ID {
        return Err(unusable(path, "it is another program's database: give the ledger a path of its own"));
    }
    if found > schema::known() {
        return Err(LedgerError::Newer { path: path.display().to_string(), found, known: schema::known() });
    }
    if found < 1 {
        return Err(corrupt(path, "its schema has no number"));
    }
    Ok(found)
}

/// The check when opening: the whole file if it is small, otherwise both ends of everything.
fn check(connection: &Connection, path: &Path) -> Result<(), LedgerError> {
    let size = fs::metadata(path).map(|data| data.len()).unwrap_or(0);
    let problem = if size <= WHOLE_CHECK_BYTES_MAX {
        first_problem(connection, "quick_check")
    } else {
        read_ends(connection).map(|()| None)
    };
    match problem {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(corrupt(path, why)),
        Err(error) => Err(classify(path, &error)),
    }
}

/// SQLite's own check of every page, and of every index against its table: `None` if all is well. Takes time in
/// proportion to the file.
pub fn check_whole(connection: &Connection) -> rusqlite::Result<Option<String>> {
    first_problem(connection, "integrity_check")
}

fn first_problem(connection: &Connection, pragma: &str) -> rusqlite::Result<Option<String>> {
    let said: String = connection.query_row(&format!("PRAGMA {pragma}(1)"), [], |row| row.get(0))?;
    Ok((said != "ok").then(|| said.lines().last().unwrap_or("it says nothing more").to_lowercase()))
}

/// The first and the last row of each table by each of these keys, which has an index: so the spine of its tree is read on both
/// sides, and nothing else.
fn ends() -> impl Iterator<Item = String> {
    let keys = [
        ("agent", "n"),
        ("text", "n"),
        ("text_chunk", "text"),
        ("chunk", "n"),
        ("policy", "n"),
        ("policy_part", "policy"),
        ("policy_use", "n"),
        ("request", "n"),
        ("request", "agent, first_seen"),
        ("decision", "n"),
        ("decision", "request"),
        ("answer", "n"),
        ("answer", "request"),
        ("charge", "agent, at"),
        ("pause", "n"),
        ("hold", "n"),
        ("notice", "request"),
        ("contact", "n"),
        ("session", "n"),
    ];
    keys.into_iter().flat_map(|(table, key)| {
        ["ASC", "DESC"].map(|direction| {
            // One direction for the whole key: for two, SQLite reads and sorts the table.
            let order = key.replace(',', &format!(" {direction},"));
            format!("SELECT * FROM {table} ORDER BY {order} {direction} LIMIT 1")
        })
    })
}

fn read_ends(connection: &Connection) -> rusqlite::Result<()> {
    for sql in ends() {
        let mut statement = connection.prepare(&sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        if let Some(row) = rows.next()? {
            for column in 0..columns {
                row.get_ref(column)?;
            }
        }
    }
    Ok(())
}

/// Makes a complete new ledger under another name and moves it into place, so that an empty or incomplete file never
/// becomes the ledger.
fn create(path: &Path) -> Result<(), LedgerError> {
    let wal = beside(path, "-wal");
    if fs::metadata(&wal).is_ok_and(|data| data.len() > 0) {
        let why = format!(
            "it is missing, while `{}` is there: put the ledger back, or run `doorman ledger reset`",
            wal.display()
        );
        return Err(unusable(path, why));
    }
    let new = beside(path, ".new");
    let made = make(&new).and_then(|()| {
        fs::rename(&new, path).map_err(|error| unusable(path, error.to_string()))?;
        sync_directory(path);
        Ok(())
    });
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made.map_err(|error| match error {
        LedgerError::Corrupt { why, .. } | LedgerError::Unusable { why, .. } => unusable(path, why),
        other => other,
    })
}

/// Makes the ledger's directory where it is missing, private.
pub fn make_directory(path: &Path) -> Result<(), LedgerError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(|error| unusable(path, format!("its directory `{}`: {error}", parent.display())))
}

fn make(new: &Path) -> Result<(), LedgerError> {
    for stale in [new.to_owned(), beside(new, "-journal"), beside(new, "-wal"), beside(new, "-shm")] {
        match fs::remove_file(&stale) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unusable(new, error.to_string()));
            }
            _ => {}
        }
    }
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)
        .map_err(|error| unusable(new, error.to_string()))?;
    let mut connection = connect(new, OpenFlags::SQLITE_OPEN_READ_WRITE, Duration::ZERO)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(|error| classify(new, &error))?;
    schema::migrate(&mut connection, 0).map_err(|error| failed(new, &error))?;
    connection.close().map_err(|(_, error)| classify(new, &error))
}

/// The settings of the connection that writes. `wal_autocheckpoint` is off because a separate thread does that.
fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = FAST; PRAGMA temp_store = MEMORY;
         PRAGMA journal_size_limit = 16777216;",
    )?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        let why = "this file system cannot do what SQLite's write-ahead log needs".to_owned();
        return Err(rusqlite::Error::SqliteFailure(error, Some(why)));
    }
    connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))
}

fn keep_private(path: &Path, mode: u32) {
    if mode & 0o077 != 0
        && let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(0o600))
    {
        let why = format!("mode {:o} cannot be changed to 0600: {error}", mode & 0o7777);
        tracing::warn!(event = events::LEDGER_EXPOSED, path = %path.display(), why, "other users may read the ledger");
    }
}

/// Moves the ledger and its helpers aside, each with a time in its name, and makes a new one. Returns where the old
/// database went, or `None` if there was none.
///
/// # Errors
/// [`LedgerError::Locked`] while a daemon has it; [`LedgerError::Unusable`] if a file cannot be moved or made.
pub fn reset(path: &Path, now: Timestamp) -> Result<Option<PathBuf>, LedgerError> {
    let path = &real(path)?;
    let _lock = Lock::take(path)?;
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let free = |name: &PathBuf| !["", "-wal", "-shm"].iter().any(|suffix| beside(name, suffix).exists());
    let aside = std::iter::once(format!(".{stamp}"))
        .chain((2_u32..).map(|count| format!(".{stamp}-{count}")))
        .map(|suffix| beside(path, &suffix))
        .find(free)
        .unwrap_or_else(|| beside(path, ".old"));
    let mut moved = None;
    for suffix in ["", "-wal", "-shm"] {
        match fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Ok(()) if suffix.is_empty() => moved = Some(aside.clone()),
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(path, format!("it cannot be moved aside: {error}"))),
        }
    }
    create(path)?;
    Ok(moved)
}

/// Writes the directory's own entry to disk, if the file system supports that.
pub fn sync_directory(path: &Path) {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = fs::File::open(parent).and_then(|directory| directory.sync_all());
}

fn corrupt(path: &Path, why: impl Into<String>) -> LedgerError {
    LedgerError::Corrupt { path: path.display().to_string(), why: why.into() }
}

fn unusable(path: &Path, why: impl Into<String>) -> LedgerError {
    LedgerError::Unusable { path: path.display().to_string(), why: why.into() }
}

/// What a statement of the schema met.
fn failed(path: &Path, error: &sql::Error) -> LedgerError {
    super::columns::read_error(&path.display().to_string(), error)
}

/// An error of SQLite's while opening, by what the caller does next.
pub fn classify(path: &Path, error: &rusqlite::Error) -> LedgerError {
    super::columns::sqlite_error(&path.display().to_string(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_of_a_large_ledger_reads_only_its_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        create(&path).unwrap();
        let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE, Duration::ZERO).unwrap();
        for sql in ends() {
            let plan: Vec<String> = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .and_then(|mut plan| plan.query_map([], |row| row.get(3))?.collect())
                .unwrap();
            assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{sql} sorts: {plan:?}");
        }
        read_ends(&connection).unwrap();
    }
}
