//! Reads a rules file and the files that it names from disk, bounded, and refuses files that anybody could have
//! written. `compile` interprets them.

use std::cell::RefCell;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::Policy;
use super::compile::{Shrunk, TEXT_MAX, compile};
use super::list_changes::{ListChange, list_changes};
use super::rules::SourceText;
use super::tests_runner::TestResult;
use crate::diagnostics::{Report, Severity};
use crate::files::{self, Contents, FileTrust, ReadOptions};

pub use crate::files::Advice;

/// The result of loading a rules file.
#[derive(Debug)]
pub struct LoadedPolicy {
    /// The policy, if nothing was refused.
    pub policy: Option<Arc<Policy>>,
    /// All problems, sorted. Its first text is the rules file, if that could be read.
    pub report: Report,
    /// The results of the file's own tests, if it was valid enough to run them.
    pub tests: Vec<TestResult>,
    /// The files that were read, as they were then; the rules file first.
    pub files: Vec<FileStamp>,
    /// Whether it was refused for a list that lost too many entries.
    pub shrunk: bool,
    /// The changes of its lists since the policy that runs.
    pub changes: Vec<ListChange>,
}

/// The text of a file that the rules name, and a remark about it.
#[derive(Debug)]
pub(crate) struct ListText {
    /// The text.
    pub text: String,
    /// The file is accepted, but with this warning.
    pub warning: Option<Advice>,
}

/// Loads a rules file and the files that it names, included files and lists: reads, checks and compiles them and runs the file's own tests.
///
/// `running` is the policy that this one would take the place of; no list may have lost more of its entries since than its
/// `max_shrink`, unless `shrunk` accepts it. Blocks while it reads; call it where blocking is allowed.
pub fn load(path: &Path, running: Option<&Policy>, shrunk: &Shrunk) -> LoadedPolicy {
    load_as(path, DAEMON, running, shrunk)
}

/// Loads a rules file that a person named to a command: it may be a pipe, and its directory is not judged.
pub(crate) fn load_named(path: &Path) -> LoadedPolicy {
    load_as(path, COMMAND, None, &Shrunk::Refuse)
}

/// The same, if it takes the place of this policy, as for [`load`].
pub(crate) fn load_named_after(path: &Path, running: Option<&Policy>, shrunk: &Shrunk) -> LoadedPolicy {
    load_as(path, COMMAND, running, shrunk)
}

fn load_as(path: &Path, how: ReadOptions, running: Option<&Policy>, shrunk: &Shrunk) -> LoadedPolicy {
    let stamps = RefCell::default();
    let ListText { text, warning } = match read(path, how, &stamps) {
        Ok(read) => read,
        Err(Advice { message, help }) => {
            let mut report = Report::default();
            report.push(Severity::Error, None, None, message).help = help;
            let files = stamps.into_inner();
            return LoadedPolicy { policy: None, report, tests: Vec::new(), files, shrunk: false, changes: Vec::new() };
        }
    };
    let beside = path.parent().unwrap_or(Path::new(""));
    let list = |list: &str| read(&beside.join(list), ReadOptions { pipes: false, ..how }, &stamps);
    let mut loaded = compile(path, &text, &list, running, shrunk);
    loaded.files = stamps.into_inner();
    // Where blocking is allowed: a list may have a million entries.
    if let (Some(before), Some(after)) = (running, loaded.policy.as_deref())
        && before.hash != after.hash
    {
        loaded.changes = list_changes(before, after);
    }
    if let Some(Advice { message, help }) = warning {
        loaded.report.push(Severity::Warning, Some(0), None, message).help = help;
        loaded.report.sort();
    }
    loaded
}

/// Compiles the recorded texts of a policy, without touching a file: the rules first, then all that they name.
pub fn load_texts(path: &Path, texts: &[SourceText]) -> LoadedPolicy {
    let rules = texts.first().map_or("", |rules| &rules.text);
    compile(path, rules, &|name| text_of(texts, name), None, &Shrunk::Accept)
}

/// The recorded text of a file that the rules name.
pub(super) fn text_of(texts: &[SourceText], name: &str) -> Result<ListText, Advice> {
    let found = texts.iter().skip(1).find(|text| text.name == name);
    let missing = || Advice::new(format!("the file `{name}` is not on record"), "name the rules with `--rules FILE`");
    found.map(|text| ListText { text: text.text.to_string(), warning: None }).ok_or_else(missing)
}

/// A person who removed entries from a list may name its file differently, perhaps by a link: this finds the names that
/// the rules use for the same file. Blocks on the file system.
pub(crate) fn as_named(shrunk: Shrunk, known: impl IntoIterator<Item = PathBuf>) -> Shrunk {
    let identity = |path: &Path| {
        let meta = files::within(path, {
            let path = path.to_owned();
            move || Ok(std::fs::metadata(path)?)
        });
        meta.ok().map(|meta| (meta.dev(), meta.ino()))
    };
    match shrunk {
        Shrunk::Removed { mut files, entries } => {
            let meant: Vec<_> = files.iter().filter_map(|file| identity(file)).collect();
            files.extend(known.into_iter().filter(|path| identity(path).is_some_and(|it| meant.contains(&it))));
            Shrunk::Removed { files, entries }
        }
        Shrunk::Refuse | Shrunk::Accept => shrunk,
    }
}

/// A file as it was at one moment. If two stamps are equal, the file did not change in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    /// Which file.
    pub path: PathBuf,
    /// `None`: it cannot be read.
    found: Option<FileState>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileState {
    hash: [u8; 32],
    size: u64,
    inode: (u64, u64),
    changed: Timestamp,
    /// Whether its last line has its end.
    ended: bool,
}

impl FileStamp {
    /// Reads the current state of the file. Blocks.
    pub fn take(path: &Path) -> Self {
        let how = ReadOptions { trust: FileTrust::Anybody, ..DAEMON };
        let found = files::read(path, how).ok().map(|contents| FileState::of(&contents.bytes, &contents.meta));
        Self { path: path.to_owned(), found }
    }

    /// Whether the file cannot be read, or its last line has its end.
    pub(crate) fn is_ended(&self) -> bool {
        self.found.as_ref().is_none_or(|found| found.ended)
    }

    /// Whether it was changed less than this long ago, or in the future: it may still be written.
    pub(crate) fn is_fresh(&self, now: Timestamp, age: SignedDuration) -> bool {
        self.found.as_ref().is_some_and(|found| now.duration_since(found.changed) < age)
    }
}

impl FileState {
    fn of(bytes: &[u8], meta: &Metadata) -> Self {
        let nanoseconds = i32::try_from(meta.mtime_nsec()).unwrap_or(0);
        Self {
            hash: Sha256::digest(bytes).into(),
            size: meta.size(),
            inode: (meta.dev(), meta.ino()),
            changed: Timestamp::new(meta.mtime(), nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH),
            ended: bytes.is_empty() || bytes.ends_with(b"\n"),
        }
    }
}

/// The settings for a daemon that reads rules and lists.
const DAEMON: ReadOptions = ReadOptions { bytes_max: TEXT_MAX, pipes: false, trust: FileTrust::Path };
/// The settings for a command that reads rules named by a person: a pipe is allowed, and the file's current directory
/// does not matter, since the file may be used elsewhere.
const COMMAND: ReadOptions = ReadOptions { bytes_max: TEXT_MAX, pipes: true, trust: FileTrust::File };

fn read(path: &Path, how: ReadOptions, stamps: &RefCell<Vec<FileStamp>>) -> Result<ListText, Advice> {
    let contents = files::read(path, how);
    let found = contents.as_ref().ok().map(|contents| FileState::of(&contents.bytes, &contents.meta));
    stamps.borrow_mut().push(FileStamp { path: path.to_owned(), found });
    let Contents { bytes, warning, .. } = contents.map_err(|error| error.advice(path))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(ListText { text, warning }),
        Err(error) => {
            let shown = path.display();
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(Advice::new(format!("`{shown}` is not a text file: line {line} is not UTF-8"), "save it as UTF-8"))
        }
    }
}

#[cfg(test)]
mod tests;
