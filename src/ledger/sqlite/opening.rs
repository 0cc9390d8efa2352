//! The ways to open a ledger only for reading.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{LedgerError, file, lock};

/// How long a read waits while the daemon locks the file, which it does only for moments.
const BUSY: Duration = Duration::from_secs(5);

/// Whether there is a write-ahead log.
pub fn log_is_there(path: &Path) -> bool {
    std::fs::metadata(lock::beside(path, "-wal")).is_ok()
}

/// Opens the file at rest: SQLite is promised that it does not change.
pub fn open_at_rest(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    file::connect_as(path, &uri(path, "immutable=1"), flags, BUSY, "")
}

/// Opens it with the log's index in shared memory, like the daemon. If that index can neither be found nor made (after
/// a crash, on a read-only medium), nobody can be writing: then the index is made in our own memory.
pub fn open_beside_daemon(path: &Path) -> Result<Connection, LedgerError> {
    // Opening reads the schema, and with it the log.
    match file::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, BUSY) {
        Err(LedgerError::Unusable { .. }) if !lock::beside(path, "-shm").exists() => open_alone(path),
        other => other,
    }
}

fn open_alone(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    file::connect_as(path, &uri(path, "vfs=unix-none"), flags, BUSY, "PRAGMA locking_mode = EXCLUSIVE;")
}

/// The path as a URI with a parameter of SQLite's.
fn uri(path: &Path, parameter: &str) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = String::from("file://");
    for byte in absolute.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push('?');
    uri.push_str(parameter);
    uri.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crashs_leavings_are_read_without_making_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b%?#.db");
        crate::ledger::sqlite::file::open_for_writing(&path, Duration::ZERO).unwrap();
        let writer = Connection::open(&path).unwrap();
        writer.execute("INSERT INTO agent (id) VALUES ('x')", []).unwrap();
        let copied = dir.path().join("copy of it.db");
        for suffix in ["", "-wal"] {
            std::fs::copy(lock::beside(&path, suffix), lock::beside(&copied, suffix)).unwrap();
        }
        let connection = open_alone(&copied).unwrap();
        let agents: i64 = connection.query_row("SELECT count(*) FROM agent", [], |row| row.get(0)).unwrap();
        assert_eq!(agents, 1);
        assert!(!lock::beside(&copied, "-shm").exists());
    }
}
