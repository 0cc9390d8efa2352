//! Where the control socket is, and how it is made: other users can never reach it, not even for a moment; and it is
//! never taken from a daemon that still answers on it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use tracing::warn;

use crate::config::settings::SOCKET_PATH_BYTES_MAX;
use crate::files::{self, Advice};
use crate::ops::log::events;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers on it.
    #[error("another doorman answers at `{0}`: stop it first, or give this one another `control.path`")]
    Taken(PathBuf),
    /// Others could replace the socket.
    #[error(
        "the directory `{0}` belongs to somebody else or others may write to it: give the control socket a directory of its own with mode 0700"
    )]
    Directory(PathBuf),
    /// Others could replace a directory on the way to it, and so the socket.
    #[error("{0}")]
    Exposed(String),
    /// There is no such group, or the socket cannot be given to it.
    #[error("the control socket cannot be given to the group `{group}`: {why}")]
    Group {
        /// Which.
        group: String,
        /// Why.
        why: String,
    },
    /// Members of the group cannot reach the socket.
    #[error(
        "the group `{group}` cannot pass through `{directory}` to the control socket: put the socket into a directory that it can enter, for example `/run/doorman`, with `control.path` and `control.read_path`"
    )]
    OutOfReach {
        /// The group.
        group: String,
        /// The directory that they cannot pass through.
        directory: PathBuf,
    },
    /// Something that is not a socket is at the path.
    #[error("`{0}` exists and is not a socket: remove it, or choose another `control.path`")]
    NotASocket(PathBuf),
    /// The path is longer than a Unix socket's path may be.
    #[error(
        "the control socket's path `{0}` is longer than {SOCKET_PATH_BYTES_MAX} bytes: choose a shorter `control.path`"
    )]
    TooLong(PathBuf),
    /// The system reported an error.
    #[error("the control socket `{path}` cannot be made: {why}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
}

/// A bound socket. Dropping it removes the file, if it is still this one.
#[derive(Debug)]
pub struct BoundSocket {
    listener: Option<UnixListener>,
    path: PathBuf,
    /// `None`: somebody else made the file, and removes it.
    identity: Option<(u64, u64)>,
    /// The file's mode says who may use it.
    shared: bool,
    /// The group whose members may use it.
    group: Option<Box<str>>,
}

impl BoundSocket {
    /// The same, but members of this group may use it, too: the file gets this group and mode 0660.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub(crate) fn bind_for(path: &Path, group: Option<&str>) -> Result<Self, SocketError> {
        let Some(group) = group else { return Self::bind(path) };
        let failed = |why: String| SocketError::Group { group: group.to_owned(), why };
        let found = Group::from_name(group).map_err(|error| failed(error.to_string()))?;
        let gid = found.ok_or_else(|| failed("there is no such group".to_owned()))?.gid.as_raw();
        let missing = path.parent().filter(|directory| !directory.exists()).map(Path::to_owned);
        let mut bound = Self::bind(path)?;
        if let Some(directory) = missing {
            // The directory was made just now for this socket: others may pass through it, but not list it.
            fs::set_permissions(&directory, Permissions::from_mode(0o711))
                .map_err(|why| SocketError::Io { path: directory.clone(), why })?;
        }
        if let Some(directory) = path.ancestors().skip(1).find(|directory| !lets_through(directory, gid)) {
            return Err(SocketError::OutOfReach { group: group.to_owned(), directory: directory.to_owned() });
        }
        let why = "doorman must be root, or a member of it";
        chown(path, None, Some(gid)).map_err(|error| failed(format!("{error}: {why}")))?;
        fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(|error| failed(error.to_string()))?;
        bound.shared = true;
        bound.group = Some(group.into());
        Ok(bound)
    }

    /// A socket that the service manager made. Everybody whom its mode allows may use it, and doorman does not remove
    /// the file.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub fn inherited(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let path = listener.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
        Ok(Self { listener: Some(listener), path, identity: None, shared: true, group: None })
    }

    /// Whether the file's mode alone says who may use it.
    pub(super) fn shared(&self) -> bool {
        self.shared
    }

    /// Binds `path`. If its directory is missing, makes it with mode 0700; otherwise the directory must belong to this
    /// user or to root, and nobody else may write to it. Replaces a socket on which nothing answers.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io = |why| SocketError::Io { path: path.to_owned(), why };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        private_directory(directory)
            .map_err(io)?
            .then_some(())
            .ok_or_else(|| SocketError::Directory(directory.into()))?;
        match files::judge_place(path) {
            Ok(None) => {}
            Ok(Some(advice)) => {
                warn!(event = events::CONTROL_EXPOSED, path = %path.display(), why = advice.message, "others may replace the control socket");
            }
            Err(Advice { message, help }) => {
                return Err(SocketError::Exposed(help.map_or(message.clone(), |help| format!("{message}: {help}"))));
            }
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::Taken(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        // Binds in a directory that only this user can enter, then moves the socket: it is private before others can
        // reach it, and it replaces an abandoned socket in one step.
        let nursery = BindDirectory::make(directory).map_err(io)?;
        let born = nursery.0.join("s");
        if born.as_os_str().len() > SOCKET_PATH_BYTES_MAX || path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(SocketError::TooLong(path.to_owned()));
        }
        let listener = UnixListener::bind(&born).map_err(io)?;
        fs::set_permissions(&born, Permissions::from_mode(0o600)).map_err(io)?;
        let metadata = fs::symlink_metadata(&born).map_err(io)?;
        fs::rename(&born, path).map_err(io)?;
        listener.set_nonblocking(true).map_err(io)?;
        let identity = Some((metadata.dev(), metadata.ino()));
        Ok(Self { listener: Some(listener), path: path.to_owned(), identity, shared: false, group: None })
    }

    /// The path of its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file at the path is still this socket's. Blocks on the file system.
    fn in_place(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| Some((found.dev(), found.ino())) == self.identity)
    }

    /// If its file is gone, makes another socket in its place for the same users. A file that another process made is
    /// not made again. Blocks on the file system.
    pub(super) fn made_again(&self) -> Option<Result<Self, SocketError>> {
        let lost = self.identity.is_some() && !self.in_place();
        lost.then(|| Self::bind_for(&self.path, self.group.as_deref()))
    }

    /// The listener, which is given out once; it is non-blocking.
    pub(crate) fn take_listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if self.in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A directory for the moment of binding, with a short name since a socket's path is short.
struct BindDirectory(PathBuf);

impl BindDirectory {
    fn make(directory: &Path) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            let path = directory.join(format!(".d{:06x}", fastrand::u32(..0x0100_0000)));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < 16 => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for BindDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.join("s"));
        let _ = fs::remove_dir(&self.0);
    }
}

/// Makes the directory, or returns whether the existing one is closed to others.
fn private_directory(directory: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).recursive(true).create(directory)?;
        }
        Err(error) => return Err(error),
    }
    let found = fs::metadata(directory)?;
    let owner = found.uid();
    let mine = owner == nix::unistd::geteuid().as_raw() || owner == 0;
    Ok(found.is_dir() && mine && found.mode() & 0o022 == 0)
}

/// Whether members of this group can pass through the directory.
fn lets_through(directory: &Path, gid: u32) -> bool {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    fs::metadata(directory)
        .is_ok_and(|found| found.mode() & 0o001 != 0 || (found.gid() == gid && found.mode() & 0o010 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn it_is_private_with_a_directory_of_its_own_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/doorman/doorman.sock");
        let bound = BoundSocket::bind(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["doorman.sock"], "nothing is left of the binding");
        drop(bound);
        assert!(!path.exists());
    }

    fn own_group() -> String {
        Group::from_gid(nix::unistd::getegid()).unwrap().unwrap().name
    }

    #[test]
    fn a_group_may_use_it_if_its_members_can_reach_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/doorman.sock");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let group = own_group();
        let error = BoundSocket::bind_for(&path, Some(&group)).unwrap_err();
        assert!(matches!(&error, SocketError::OutOfReach { directory, .. } if directory == dir.path()), "{error}");
        assert!(!path.exists(), "nothing is left");

        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        fs::remove_dir(dir.path().join("run")).unwrap();
        let bound = BoundSocket::bind_for(&path, Some(&group)).unwrap();
        assert!(bound.shared());
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o660, 0o711));
        assert_eq!(fs::metadata(&path).unwrap().gid(), nix::unistd::getegid().as_raw());
        drop(bound);
        assert!(!BoundSocket::bind_for(&path, None).unwrap().shared());
        assert_eq!(mode(path.parent().unwrap()), 0o711);

        let error = BoundSocket::bind_for(&path, Some("no-such-group-here")).unwrap_err();
        assert!(matches!(error, SocketError::Group { .. }), "{error}");
    }

    #[test]
    fn a_socket_of_the_service_manager_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let bound = BoundSocket::inherited(UnixListener::bind(&path).unwrap()).unwrap();
        assert_eq!((bound.path(), bound.shared()), (path.as_path(), true));
        drop(bound);
        assert!(path.exists());
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for open in [0o770, 0o707, 0o1777] {
            fs::set_permissions(dir.path(), Permissions::from_mode(open)).unwrap();
            let error = BoundSocket::bind(&dir.path().join("x.sock")).unwrap_err();
            assert!(matches!(error, SocketError::Directory(_)), "{open:o}: {error}");
        }
    }

    #[test]
    fn a_directory_on_the_way_that_others_may_replace_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/x.sock");
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let error = BoundSocket::bind(&path).unwrap_err();
        assert!(matches!(&error, SocketError::Exposed(why) if why.contains("and so replace")), "{error}");
        assert!(!path.exists());
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(BoundSocket::bind(&path).is_ok(), "nobody replaces a directory where the bit is set");
    }

    #[test]
    fn an_abandoned_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        drop(UnixListener::bind(&path).unwrap());
        let first = BoundSocket::bind(&path).unwrap();
        let error = BoundSocket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::Taken(_)), "{error}");
        assert!(path.exists(), "the failed one left the first one's socket alone");
        drop(first);
    }

    #[test]
    fn a_file_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        fs::write(&path, "dear diary").unwrap();
        assert!(matches!(BoundSocket::bind(&path).unwrap_err(), SocketError::NotASocket(_)));
        assert_eq!(fs::read(&path).unwrap(), b"dear diary");
    }

    #[test]
    fn only_its_own_file_is_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let bound = BoundSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
        drop(other);
    }

    #[test]
    fn a_long_path_is_said_to_be_long() {
        let dir = tempfile::tempdir().unwrap();
        let error = BoundSocket::bind(&dir.path().join("x".repeat(120))).unwrap_err();
        assert!(matches!(error, SocketError::TooLong(_)), "{error}");
    }
}
