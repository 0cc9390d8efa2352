//! Reads a rules file and its lists from disk, bounded, and refuses those that anybody could have written. What they
//! mean is [`compile`](super::compile())'s business.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use super::Policy;
use super::compile::{TEXT_MAX, compile};
use super::rules::SourceText;
use super::tests_runner::TestResult;
use crate::diagnostics::{Report, Severity};

/// What came of loading a rules file.
#[derive(Debug)]
pub struct Loaded {
    /// The policy, where nothing was refused.
    pub policy: Option<Arc<Policy>>,
    /// All problems, sorted. Its first text is the rules file, where that could be read.
    pub report: Report,
    /// What came of the file's own tests, where it was sound enough to run them.
    pub tests: Vec<TestResult>,
}

/// The text of a list file, and what is to be said about it.
#[derive(Debug)]
pub struct ListText {
    /// What it says.
    pub text: String,
    /// Taken, but worth a warning.
    pub warning: Option<Advice>,
}

/// Something about a file, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Advice {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: Some(help.into()) }
    }
}

/// Loads a rules file and the list files that it names: reads, checks and compiles them and runs the file's own tests.
///
/// `running` is the policy that this one would take the place of; lists must not have lost more than half of their
/// entries since, unless `accept_shrunk`. Blocks while it reads; call it where blocking is allowed.
pub fn load(path: &Path, running: Option<&Policy>, accept_shrunk: bool) -> Loaded {
    let ListText { text, warning } = match read(path) {
        Ok(read) => read,
        Err(Advice { message, help }) => {
            let mut report = Report::default();
            report.push(Severity::Error, None, None, message).help = help;
            return Loaded { policy: None, report, tests: Vec::new() };
        }
    };
    let beside = path.parent().unwrap_or(Path::new(""));
    let mut loaded = compile(path, &text, &|list| read(&beside.join(list)), running, accept_shrunk);
    if let Some(Advice { message, help }) = warning {
        loaded.report.push(Severity::Warning, Some(0), None, message).help = help;
        loaded.report.sort();
    }
    loaded
}

/// Compiles the recorded texts of a policy, without touching a file: the rules first, then the lists.
pub fn load_texts(path: &Path, texts: &[SourceText]) -> Loaded {
    let rules = texts.first().map_or("", |rules| &rules.text);
    let list = |name: &str| {
        let found = texts.iter().skip(1).find(|text| text.name == name);
        let missing =
            || Advice::new(format!("the list file `{name}` is not on record"), "name the rules with `--rules FILE`");
        found.map(|list| ListText { text: list.text.to_string(), warning: None }).ok_or_else(missing)
    };
    compile(path, rules, &list, None, true)
}

/// The bytes of a plain file, at most one more than are taken; `None` where there are none to be had. For telling whether
/// a file changed.
pub(crate) fn bytes(path: &Path) -> Option<Vec<u8>> {
    let file = open(path).ok().filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()))?;
    let mut bytes = Vec::new();
    file.take(TEXT_MAX as u64 + 1).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn open(path: &Path) -> std::io::Result<File> {
    // Opening a pipe would wait for its other end for ever.
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    OpenOptions::new().read(true).custom_flags(nonblocking).open(path)
}

fn read(path: &Path) -> Result<ListText, Advice> {
    let shown = path.display();
    let unreadable = |error: &std::io::Error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "a path is relative to the file that names it; is it there, and spelt like this?"
            }
            std::io::ErrorKind::PermissionDenied => "doorman's user must be able to read it",
            _ => "is it a readable text file?",
        };
        Advice::new(format!("`{shown}` cannot be read: {}", error_text(error)), help)
    };
    let file = open(path).map_err(|error| unreadable(&error))?;
    let warning = check_owner(&file, path).map_err(|error| match error {
        Refused::Unreadable(error) => unreadable(&error),
        Refused::Advice(advice) => advice,
    })?;
    let mut bytes = Vec::new();
    file.take(TEXT_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() > TEXT_MAX {
        let message = format!("`{shown}` is larger than {} MiB", TEXT_MAX >> 20);
        return Err(Advice::new(message, "split it, or remove what is no longer needed"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(ListText { text, warning }),
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(Advice::new(format!("`{shown}` is not a text file: line {line} is not UTF-8"), "save it as UTF-8"))
        }
    }
}

enum Refused {
    Unreadable(std::io::Error),
    Advice(Advice),
}

/// Refuses what is not a file and what everybody may write; warns about what another group may write.
fn check_owner(file: &File, path: &Path) -> Result<Option<Advice>, Refused> {
    let shown = path.display();
    let meta = file.metadata().map_err(Refused::Unreadable)?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a directory" } else { "not a regular file" };
        return Err(Refused::Advice(Advice::new(format!("`{shown}` is {what}"), "name a text file")));
    }
    if meta.mode() & 0o002 != 0 {
        let message = format!("`{shown}` may be written by everybody");
        return Err(Refused::Advice(Advice::new(message, format!("run `chmod o-w {shown}`"))));
    }
    let own = nix::unistd::getegid().as_raw();
    let foreign = meta.mode() & 0o020 != 0 && meta.gid() != own;
    Ok(foreign.then(|| {
        let message = format!("`{shown}` may be written by the group {}", meta.gid());
        Advice::new(message, format!("run `chmod g-w {shown}`, unless that group may decide who gets in"))
    }))
}

/// The system's words without its number.
fn error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
