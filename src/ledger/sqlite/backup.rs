//! A whole copy of a ledger, while the daemon writes it.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{LedgerError, Reading, file, lock};

/// Copies the ledger at `path` to a new file, private, in one piece: what was committed when it began. Returns its size.
/// Blocks for as long as that takes, some seconds a gigabyte; the daemon's log grows meanwhile.
///
/// # Errors
/// [`LedgerError`] where the ledger cannot be read; [`LedgerError::Unusable`] with the copy's path where that is there
/// already or cannot be written. Nothing is left of a copy that is not whole.
pub fn backup(path: &Path, copy: &Path) -> Result<u64, LedgerError> {
    let unusable = |why: String| LedgerError::Unusable { path: copy.display().to_string(), why };
    let reader = Reading::open(path)?;
    if fs::symlink_metadata(copy).is_ok() {
        return Err(unusable("it is there already, and is not replaced".to_owned()));
    }
    let new = lock::beside(copy, ".new");
    // SQLite makes files that others may read; an empty one that is there it fills.
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    made.map_err(|error| unusable(format!("`{}`: {error}", new.display())))?;
    let written = reader.copy_to(&new).and_then(|()| {
        let finished = fs::File::open(&new).and_then(|whole| {
            whole.sync_all()?;
            // Not over a file that came meanwhile.
            fs::hard_link(&new, copy)?;
            Ok(whole.metadata()?.len())
        });
        finished.map_err(|error| unusable(error.to_string()))
    });
    let _ = fs::remove_file(&new);
    file::sync_directory(copy);
    written
}
