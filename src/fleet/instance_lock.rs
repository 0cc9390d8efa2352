//! A file in the state directory says which life of doorman was the last one there, and is locked as long as that life lasts. Who gets
//! the lock on the same boot of the same machine knows for certain that the last life has ended, and waits for nobody to notice.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::files;
use crate::ledger::LedgerError;

/// Longer than what doorman writes there.
const BYTES_MAX: u64 = 512;

/// Held for the life of the process. See the module.
#[derive(Debug)]
pub struct InstanceLock {
    file: Option<Flock<File>>,
    instance: String,
    boot: String,
    before: Option<String>,
}

impl InstanceLock {
    /// Takes the place beside the ledger's path. If no file can be made, doorman runs without: then others have to notice that its
    /// last life has ended.
    ///
    /// # Errors
    /// [`LedgerError::Locked`]: another doorman runs in this state directory.
    pub fn take(ledger: &Path) -> Result<Self, LedgerError> {
        Self::on_boot(ledger, boot_id())
    }

    fn on_boot(ledger: &Path, boot: String) -> Result<Self, LedgerError> {
        let path = beside(ledger);
        let mut place = Self { file: None, instance: new_id(), boot, before: None };
        if let Some(directory) = path.parent() {
            // If that does not work, neither does the next step.
            let _ = std::fs::DirBuilder::new().recursive(true).create(directory);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = match files::open(&path, options, true) {
            Ok(file) => file,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "nothing remembers this life of doorman");
                return Ok(place);
            }
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                place.read(&file);
                place.file = Some(file);
                Ok(place)
            }
            Err((_, Errno::EWOULDBLOCK)) => Err(LedgerError::Locked { path: path.display().to_string(), pid: None }),
            Err((_, error)) => {
                tracing::debug!(path = %path.display(), %error, "nothing remembers this life of doorman");
                Ok(place)
            }
        }
    }

    /// Instance, life and boot, a line each.
    fn read(&mut self, file: &File) {
        let mut text = String::new();
        if file.take(BYTES_MAX).read_to_string(&mut text).is_err() {
            return;
        }
        let mut lines = text.lines().map(str::trim);
        let (instance, life, boot) = (lines.next(), lines.next(), lines.next());
        let Some(instance) = instance.filter(|instance| is_id(instance)) else { return };
        instance.clone_into(&mut self.instance);
        // On another boot the file may be a copy, as of a cloned machine.
        if !self.boot.is_empty() && boot == Some(&self.boot) {
            self.before = life.filter(|life| is_id(life)).map(str::to_owned);
        }
    }

    /// The same for each life here.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The last life here, if it has certainly ended.
    pub fn before(&self) -> Option<&str> {
        self.before.as_deref()
    }

    /// An id for a new life, which is written down.
    pub fn new_life(&mut self) -> String {
        let life = new_id();
        if let Some(file) = &mut self.file {
            let text = format!("{}\n{life}\n{}\n", self.instance, self.boot);
            let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
            if let Err(error) = written {
                tracing::debug!(%error, "nothing remembers this life of doorman");
            }
        }
        life
    }
}

/// `PATH.member`.
fn beside(ledger: &Path) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(".member");
    name.into()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn is_id(text: &str) -> bool {
    uuid::Uuid::parse_str(text).is_ok()
}

#[expect(clippy::disallowed_methods, reason = "a shell: nobody else may have the id")]
fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_life_knows_the_last_one_and_two_at_once_cannot_be() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("new/ledger.db");
        let mut first = InstanceLock::on_boot(&ledger, "b1".to_owned()).unwrap();
        assert_eq!(first.before(), None);
        let life = first.new_life();
        assert!(matches!(InstanceLock::on_boot(&ledger, "b1".to_owned()), Err(LedgerError::Locked { .. })));
        let instance = first.instance().to_owned();
        drop(first);
        let second = InstanceLock::on_boot(&ledger, "b1".to_owned()).unwrap();
        assert_eq!((second.instance(), second.before()), (instance.as_str(), Some(life.as_str())));
        drop(second);
        // A copy on another machine, or after another start of it.
        let other = InstanceLock::on_boot(&ledger, "b2".to_owned()).unwrap();
        assert_eq!((other.instance(), other.before()), (instance.as_str(), None));
        drop(other);
        std::fs::write(beside(&ledger), "x'; DROP TABLE lease; --\n\u{0}").unwrap();
        let odd = InstanceLock::on_boot(&ledger, "b1".to_owned()).unwrap();
        assert!(is_id(odd.instance()) && odd.before().is_none());
    }

    #[test]
    fn without_a_file_it_is_somebody_new_each_time() {
        let mut place = InstanceLock::on_boot(Path::new("/proc/nowhere/ledger.db"), "b".to_owned()).unwrap();
        assert!(place.before().is_none() && is_id(&place.new_life()));
    }
}
