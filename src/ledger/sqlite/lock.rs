//! One daemon for each ledger: an advisory `flock` on a file beside it. It is not on the database itself, since closing
//! any descriptor of the database would release SQLite's own locks. The lock file stays when the lock is released; its
//! text is only a hint.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::LedgerError;
use crate::files;

/// Held as long as the ledger is open; the kernel releases it when the process ends in any way.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
}

impl Lock {
    /// Takes the lock of the ledger at `path` without waiting, and writes this process's id into it.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] if another process holds it, [`LedgerError::Unusable`] if the lock file cannot be made.
    pub fn take(path: &Path) -> Result<Self, LedgerError> {
        let beside = lock_path(path);
        let unusable = |why: String| LedgerError::Unusable {
            path: path.display().to_string(),
            why: format!("its lock `{}`: {why}", beside.display()),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = files::open(&beside, options, true).map_err(|error| unusable(error.to_string()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let written = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| writeln!(*file, "{}", std::process::id()));
                if let Err(error) = written {
                    // The lock is the kernel's; its text only names the holder, and a full disk must not matter here.
                    tracing::debug!(%error, "the ledger's lock file does not say who holds it");
                }
                Ok(Self { file })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                Err(LedgerError::Locked { path: path.display().to_string(), pid: holder(file) })
            }
            Err((_, errno)) => Err(unusable(errno.desc().to_owned())),
        }
    }
}

impl Lock {
    /// Whether the file that is locked is the one with this device and inode.
    pub fn is(&self, device: u64, inode: u64) -> bool {
        self.file.metadata().is_ok_and(|held| (held.dev(), held.ino()) == (device, inode))
    }
}

fn holder(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// `PATH.lock`.
pub fn lock_path(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

/// The path with something after its last name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
