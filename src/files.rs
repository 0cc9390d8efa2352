//! The only way in which configured files are opened: keys, `doorman.toml`, rules, lists, certificate authorities,
//! transcripts, the ledger's lock.
//!
//! A path may lead to a pipe without a writer, to a device, or to a network file system that hangs. So every file is
//! opened with `O_NONBLOCK`, its type is checked on the open file and not on the path, and it is read up to a limit.
//! All of that happens on a separate thread, so that the caller waits for at most [`TIME`]. A thread that stays blocked
//! in the kernel is abandoned, and no second thread accesses the same path until it returns.

mod trust;

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use trust::{FileTrust, judge, judge_place};

/// How long to wait until a file is opened and read.
pub const TIME: Duration = Duration::from_secs(5);
/// The same while other paths hang: if two paths hang, a third one on the same file system would hang, too.
const TIME_WHILE_OTHERS_HANG: Duration = Duration::from_millis(300);
/// If this many paths hang, the wait for every other path becomes shorter.
const HANGING: usize = 2;

/// A problem or warning about a file, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The problem. Names the file.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Advice {
    /// Both parts.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: Some(help.into()) }
    }
}

/// Why a file could not be read. The text neither names the file nor repeats any of its content.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system reported an error.
    #[error("{}", words(.0))]
    System(#[from] io::Error),
    /// It is not a regular file.
    #[error("it is {0}, not a regular file")]
    NotRegular(&'static str),
    /// It is larger than allowed.
    #[error("it is larger than {0}")]
    TooLarge(String),
    /// The file system, or the process that should write to the pipe, does not respond.
    #[error("it could not be read within {} s: the file system or the other end of the pipe does not answer", TIME.as_secs())]
    Hangs,
    /// Everybody could have written it, or could replace it.
    #[error("{}", .0.message)]
    Untrusted(Advice),
}

impl FileError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            FileError::System(error) => match error.kind() {
                ErrorKind::NotFound => {
                    "a path is relative to the file that names it; is it there, and spelt like this?"
                }
                ErrorKind::PermissionDenied => "doorman's user must be able to read it",
                _ => "is it a readable text file?",
            }
            .to_owned(),
            FileError::NotRegular(_) => "name a text file".to_owned(),
            FileError::TooLarge(_) => "split it, or remove what is no longer needed".to_owned(),
            FileError::Hangs => "is its file system mounted and reachable?".to_owned(),
            FileError::Untrusted(advice) => advice.help.clone().unwrap_or_default(),
        }
    }

    /// The problem with this file, for a report.
    pub(crate) fn advice(&self, path: &Path) -> Advice {
        let shown = path.display();
        match self {
            FileError::Untrusted(advice) => advice.clone(),
            FileError::NotRegular(what) => Advice::new(format!("`{shown}` is {what}"), self.help()),
            FileError::TooLarge(most) => Advice::new(format!("`{shown}` is larger than {most}"), self.help()),
            FileError::System(_) | FileError::Hangs => {
                Advice::new(format!("`{shown}` cannot be read: {self}"), self.help())
            }
        }
    }

    /// Whether the file does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, FileError::System(error) if error.kind() == ErrorKind::NotFound)
    }
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        match error {
            FileError::System(error) => error,
            other => io::Error::other(other.to_string()),
        }
    }
}

/// The system's error message without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// How a file is read.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// A larger file is refused.
    pub bytes_max: usize,
    /// Whether it may be a pipe: only for a file that a person named to a command, never for the daemon.
    pub pipes: bool,
    /// Who may have write access to it.
    pub trust: FileTrust,
}

/// The result of reading.
pub struct Contents {
    /// All of it.
    pub bytes: Vec<u8>,
    /// The metadata of the open file.
    pub meta: Metadata,
    /// A warning about a file that was accepted.
    pub warning: Option<Advice>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Reads a file. Blocks for at most [`TIME`].
///
/// # Errors
/// See [`FileError`].
pub fn read(path: &Path, how: ReadOptions) -> Result<Contents, FileError> {
    let file = path.to_owned();
    within(path, move || read_here(&file, how))
}

/// Opens a file for writing, or as the options say; it must be a regular file. Blocks for at most [`TIME`].
///
/// # Errors
/// See [`FileError`]. A symbolic link is refused if `follow` is not set.
pub fn open(path: &Path, mut options: OpenOptions, follow: bool) -> Result<File, FileError> {
    let flags = if follow { OFlag::O_NONBLOCK } else { OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW };
    options.custom_flags((flags | OFlag::O_NOCTTY).bits());
    let file = path.to_owned();
    within(path, move || {
        let file = options.open(&file).map_err(unopened)?;
        regular(&file.metadata()?)?;
        Ok(file)
    })
}

/// Refuses an existing path that is not a regular file, for code that opens the path itself; if nothing exists there,
/// returns `None`. Blocks for at most [`TIME`].
///
/// # Errors
/// See [`FileError`].
pub(crate) fn regular_or_missing(path: &Path) -> Result<Option<Metadata>, FileError> {
    let file = path.to_owned();
    within(path, move || match std::fs::metadata(&file) {
        Ok(meta) => regular(&meta).map(|()| Some(meta)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    })
}

/// Refuses what is not a program that this process may run, or that everybody may write or replace. Blocks for at most
/// [`TIME`].
///
/// # Errors
/// See [`FileError`].
pub fn program(path: &Path) -> Result<(), FileError> {
    let file = path.to_owned();
    within(path, move || {
        let meta = std::fs::metadata(&file)?;
        regular(&meta)?;
        if meta.mode() & 0o111 == 0 {
            return Err(std::io::Error::from(ErrorKind::PermissionDenied).into());
        }
        judge(&file, &meta, FileTrust::Path).map(drop).map_err(FileError::Untrusted)
    })
}

/// Runs `work`, which may hang, on a separate thread, and waits for at most [`TIME`]. `path` is the path on which it
/// may hang.
/// # Errors
/// [`FileError::Hangs`], and the errors of `work`.
pub fn within<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    static HANG: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let hang = || HANG.lock().unwrap_or_else(PoisonError::into_inner);
    let time = {
        let hang = hang();
        if hang.contains(path) {
            return Err(FileError::Hangs);
        }
        if hang.len() < HANGING { TIME } else { TIME_WHILE_OTHERS_HANG }
    };
    let (sender, receiver) = sync_channel(1);
    let name = path.to_owned();
    std::thread::Builder::new().name("file".to_owned()).spawn(move || {
        let _ = sender.send(work());
        HANG.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    })?;
    match receiver.recv_timeout(time) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the thread that reads it failed").into()),
        Err(RecvTimeoutError::Timeout) => {
            // Under the lock, because the thread sends its result before it removes its path.
            let mut hang = hang();
            receiver.try_recv().unwrap_or_else(|_| {
                hang.insert(path.to_owned());
                Err(FileError::Hangs)
            })
        }
    }
}

fn read_here(path: &Path, how: ReadOptions) -> Result<Contents, FileError> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(unopened)?;
    let meta = file.metadata()?;
    let mut contents = Contents { bytes: Vec::new(), meta, warning: None };
    if how.pipes && contents.meta.file_type().is_fifo() {
        read_pipe(&file, how.bytes_max, &mut contents.bytes)?;
    } else {
        regular(&contents.meta)?;
        contents.warning = judge(path, &contents.meta, how.trust).map_err(FileError::Untrusted)?;
        // Allocates all memory at once: a buffer that grows leaves copies behind, and the content may be a key.
        let expected = usize::try_from(contents.meta.size()).unwrap_or(usize::MAX).min(how.bytes_max);
        contents.bytes.reserve_exact(expected + 1);
        (&file).take(how.bytes_max as u64 + 1).read_to_end(&mut contents.bytes)?;
    }
    if contents.bytes.len() > how.bytes_max {
        return Err(FileError::TooLarge(size(how.bytes_max)));
    }
    Ok(contents)
}

/// Reads until the last writer has gone, for at most [`TIME`].
fn read_pipe(mut file: &File, most: usize, bytes: &mut Vec<u8>) -> Result<(), FileError> {
    let end = Instant::now() + TIME;
    let mut part = vec![0; 64 * 1024];
    while bytes.len() <= most {
        let left = end.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let ready = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], wait);
        match ready {
            Ok(0) => return Err(FileError::Hangs),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        match file.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn regular(meta: &Metadata) -> Result<(), FileError> {
    let kind = meta.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(FileError::NotRegular(match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() || kind.is_char_device() => "a device",
        () => "no file",
    }))
}

/// What cannot even be opened without waiting is not a file, either.
fn unopened(error: io::Error) -> FileError {
    match error.raw_os_error().map(Errno::from_raw) {
        // A pipe without a reader, or a socket.
        Some(Errno::ENXIO) => FileError::NotRegular("a pipe or a socket"),
        Some(Errno::EISDIR) => FileError::NotRegular("a directory"),
        Some(Errno::ELOOP) => io::Error::other("it is a symbolic link").into(),
        _ => error.into(),
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests;
