//! State of the page that survives a restart: a separate file beside the ledger, for the hashes of links and of
//! cookies.
//!
//! A change is stored in the file before anybody is shown it. So, whatever ends the process, a used link stays
//! used, and a person who was logged out stays logged out. If the file cannot be written, the change is not reported as
//! done.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use super::locked;
use crate::files::{self, FileTrust, ReadOptions};
use crate::ops::log::events;

/// One file, and its content.
#[derive(Debug)]
pub(super) struct StateFile<T> {
    file: PathBuf,
    kept: Mutex<T>,
    writing: Mutex<()>,
}

impl<T: Clone + Default + Serialize + DeserializeOwned + Send + 'static> StateFile<T> {
    /// Loads the stored state. If the file cannot be read, the state is empty, so nobody is let in. Blocks on the file
    /// system.
    pub(super) fn open(file: PathBuf, bytes_max: usize) -> Self {
        let kept = match read(&file, bytes_max) {
            Ok(kept) => kept,
            Err(why) => {
                let path = file.display().to_string();
                warn!(event = events::PAGE_FILE, path, why, "every login or link of this file is void");
                T::default()
            }
        };
        Self { file, kept: Mutex::new(kept), writing: Mutex::default() }
    }

    /// An empty state, without reading the file.
    pub(super) fn empty(file: PathBuf) -> Self {
        Self { file, kept: Mutex::default(), writing: Mutex::default() }
    }

    /// Reads the state. Readers do not wait for the disk.
    pub(super) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&locked(&self.kept))
    }

    /// Changes it, and says how that went when the file has it. If it cannot be written, `undo` gets what `change` gave. That
    /// goes on to its end even if nobody waits for it any more.
    ///
    /// # Errors
    /// It is not in the file.
    pub(super) async fn change<R: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut T) -> R + Send + 'static,
        undo: impl FnOnce(&mut T, &R) + Send + 'static,
    ) -> Result<R, String> {
        let shelf = self.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let done = change(&mut locked(&shelf.kept));
            match shelf.write() {
                Ok(()) => Ok(done),
                Err(error) => {
                    undo(&mut locked(&shelf.kept), &done);
                    let (path, why) = (shelf.file.display().to_string(), error.to_string());
                    warn!(event = events::PAGE_FILE, path, why, "a login or a link could not be written down");
                    Err(why)
                }
            }
        });
        changed.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// One thread writes at a time, and writes the newest state.
    fn write(&self) -> io::Result<()> {
        let _one = locked(&self.writing);
        let kept = locked(&self.kept).clone();
        write(&self.file, &kept)
    }
}

fn read<T: Default + DeserializeOwned>(file: &Path, bytes_max: usize) -> Result<T, String> {
    let how = ReadOptions { bytes_max, pipes: false, trust: FileTrust::Path };
    match files::read(file, how) {
        Ok(contents) => serde_json::from_slice(&contents.bytes).map_err(|error| error.to_string()),
        Err(error) if error.is_missing() => Ok(T::default()),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes a file that no other user can read, in one step, and flushes it, so that it survives a loss of power.
fn write(file: &Path, kept: &impl Serialize) -> io::Result<()> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A record in a database makes no directory for itself.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let new = file.with_extension("new");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(&serde_json::to_vec(kept)?)?;
    out.sync_all()?;
    fs::rename(&new, file)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn open(file: &Path) -> Arc<StateFile<Vec<u8>>> {
        Arc::new(StateFile::open(file.to_owned(), 1_000))
    }

    #[tokio::test]
    async fn what_is_said_to_be_done_is_in_the_file_and_what_is_not_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state/kept.json");
        let shelf = open(&file);
        shelf.change(|kept| kept.push(1), |_, ()| unreachable!()).await.unwrap();
        assert_eq!(open(&file).read(Clone::clone), [1]);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // A directory at the path makes every write fail.
        fs::create_dir(file.with_extension("new")).unwrap();
        shelf.change(|kept| kept.push(2), |kept, ()| kept.truncate(1)).await.unwrap_err();
        assert_eq!(shelf.read(Clone::clone), [1]);
        assert_eq!(open(&file).read(Clone::clone), [1]);
    }

    #[test]
    fn a_file_that_is_damaged_or_anybodys_is_void() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kept.json");
        for text in ["", "{}", "[1, 2", &format!("[{}1]", "1,".repeat(600))] {
            fs::write(&file, text).unwrap();
            assert!(open(&file).read(Vec::is_empty), "{text}");
        }
        fs::write(&file, "[1]").unwrap();
        assert_eq!(open(&file).read(Clone::clone), [1]);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(open(&file).read(Vec::is_empty), "anybody could have written it");
    }
}
