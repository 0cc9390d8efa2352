//! A whole copy of a ledger, while the daemon writes it.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{LedgerError, SqliteReading, file, lock};

/// Copies the ledger at `path` to a new private file, as one snapshot: everything that was committed when the copy
/// began. Returns its size. Blocks meanwhile, some seconds for a gigabyte; the daemon's log grows in that time.
///
/// # Errors
/// [`LedgerError`] if the ledger cannot be read; [`LedgerError::Unusable`] with the copy's path if that is there
/// already or cannot be written. Nothing is left of a copy that is not whole.
pub fn backup(path: &Path, copy: &Path) -> Result<u64, LedgerError> {
    let unusable = |why: String| LedgerError::Unusable { path: copy.display().to_string(), why };
    let reader = SqliteReading::open(path)?;
    if fs::symlink_metadata(copy).is_ok() {
        return Err(unusable("it is there already, and is not replaced".to_owned()));
    }
    let new = lock::beside(copy, ".new");
    // SQLite creates files that others may read, but it fills an existing empty file.
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    made.map_err(|error| unusable(format!("`{}`: {error}", new.display())))?;
    let written = reader.copy_to(&new).and_then(|()| {
        let finished = fs::File::open(&new).and_then(|whole| {
            whole.sync_all()?;
            // Must not replace a file that appeared meanwhile.
            fs::hard_link(&new, copy)?;
            Ok(whole.metadata()?.len())
        });
        finished.map_err(|error| unusable(error.to_string()))
    });
    let _ = fs::remove_file(&new);
    file::sync_directory(copy);
    written
}
