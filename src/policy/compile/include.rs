//! `include`: several rules files that are read as one. The first may say everything; the others only what keeps people out,
//! and what that needs: lists, windows, `protect`, rules that reject or defer, tests.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::{ReadFile, TEXT_MAX};
use crate::document::{Problems, WithSpan, shown};
use crate::policy::load::{Advice, ListText};
use crate::policy::raw::{self, Named, RawFile};
use crate::policy::rules::SourceText;

/// Most files that are included, at whatever depth.
const FILES_MAX: usize = 32;
/// Most times that a file is read; one that several others include is read for each.
const READS_MAX: usize = 256;
/// How deep an included file may include others.
const DEPTH_MAX: usize = 4;

/// All files of a policy that are TOML, read as one.
pub(in crate::policy) struct Gathered {
    pub(in crate::policy) raw: RawFile,
    /// The included files, in the order in which they were read.
    pub(in crate::policy) included: Vec<Included>,
}

/// A file that was included.
pub(in crate::policy) struct Included {
    /// Its path, from the first file.
    pub(in crate::policy) name: String,
    pub(in crate::policy) text: Arc<str>,
    /// The index of its text in the report.
    pub(in crate::policy) source: usize,
}

struct Gathering<'a> {
    path: &'a Path,
    read: &'a ReadFile<'a>,
    problems: &'a mut Problems,
    gathered: Gathered,
    /// How often a file was read, and the bytes of all.
    reads: usize,
    bytes: usize,
    /// The error that there are too many files has been reported.
    full: bool,
}

/// Reads a rules file, the first text of the report, and all files that it includes. `None` if the first is not TOML.
pub(in crate::policy) fn gather(
    path: &Path,
    text: &Arc<str>,
    read: &ReadFile<'_>,
    problems: &mut Problems,
) -> Option<Gathered> {
    let tree = crate::document::syntax(text, problems)?;
    let raw = raw::file(&tree, problems);
    let include = raw.include.clone();
    let gathered = Gathered { raw, included: Vec::new() };
    let mut gathering = Gathering { path, read, problems, gathered, reads: 0, bytes: 0, full: false };
    let own = path.file_name().map(|name| plain(Path::new(name))).unwrap_or_default();
    gathering.all(&include, Path::new(""), &mut vec![own]);
    let Gathering { mut gathered, problems, .. } = gathering;
    let raw = &mut gathered.raw;
    refuse_clashes("list", &mut raw.lists, problems);
    refuse_clashes("window", &mut raw.windows, problems);
    refuse_clashes("rule", &mut raw.rules, problems);
    refuse_clashes("test", &mut raw.tests, problems);
    Some(gathered)
}

/// The path of a file that another one names, relative to the first rules file: the path as written, after the
/// directory of the file that names it.
pub fn joined(directory: &Path, written: &str) -> String {
    if directory.as_os_str().is_empty() { written.to_owned() } else { directory.join(written).to_string_lossy().into() }
}

/// A path without `.` and, as far as the text alone shows, without `..`: only for comparing two paths.
fn plain(path: &Path) -> String {
    use std::path::Component;
    let mut parts: Vec<Component<'_>> = Vec::new();
    for part in path.components() {
        match (part, parts.last()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.iter().collect::<std::path::PathBuf>().to_string_lossy().into_owned()
}

impl Gathering<'_> {
    /// Reads these files, named in a file of this directory. `chain`: the files that led here.
    fn all(&mut self, files: &[WithSpan<String>], directory: &Path, chain: &mut Vec<String>) {
        for file in files {
            self.one(file, directory, chain);
        }
    }

    fn one(&mut self, file: &WithSpan<String>, directory: &Path, chain: &mut Vec<String>) {
        if file.value.is_empty() || file.value.contains('\0') {
            self.problems.error(&file.span, "`include` names no path").label("expected the path of a rules file");
            return;
        }
        let name = joined(directory, &file.value);
        let known = plain(Path::new(&name));
        if chain.contains(&known) {
            self.problems
                .error(&file.span, format!("`{}` includes itself", shown(&file.value)))
                .label("a circle of files")
                .help("remove this entry");
            return;
        }
        if chain.len() > DEPTH_MAX {
            self.problems
                .error(&file.span, format!("files are included more than {DEPTH_MAX} deep"))
                .help("name the file in the rules file itself");
            return;
        }
        self.reads += 1;
        if self.reads > READS_MAX {
            return self.too_much(file);
        }
        let text: Arc<str> = match (self.read)(&name) {
            Err(Advice { message, help }) => {
                self.problems.error(&file.span, message).help = help;
                return;
            }
            Ok(ListText { text, warning }) => {
                if let Some(Advice { message, help }) = warning {
                    self.problems.warning(&file.span, message).help = help;
                }
                text.into()
            }
        };
        // Two files may include the same third one, which then is there once.
        let same = |one: &Included| plain(Path::new(&one.name)) == known && one.text == text;
        if self.gathered.included.iter().any(same) {
            return;
        }
        self.bytes += text.len();
        if self.gathered.included.len() >= FILES_MAX || self.bytes > TEXT_MAX {
            return self.too_much(file);
        }
        let place = self.path.parent().unwrap_or(Path::new("")).join(&name);
        let source = self.problems.begin(&place, text.clone());
        self.gathered.included.push(Included { name: name.clone(), text: text.clone(), source });
        let Some(tree) = crate::document::syntax(&text, self.problems) else { return };
        let RawFile { include, policy, lists, windows, rules, overdue: _, tests } = raw::included(&tree, self.problems);
        let all = &mut self.gathered.raw;
        let protect = &mut all.policy.protect;
        protect.names.extend(policy.protect.names);
        protect.prefixes |= policy.protect.prefixes;
        protect.suffixes |= policy.protect.suffixes;
        all.lists.extend(lists);
        all.windows.extend(windows);
        all.rules.extend(rules);
        all.tests.extend(tests);
        chain.push(known);
        let directory = Path::new(&name).parent().unwrap_or(Path::new("")).to_owned();
        self.all(&include, &directory, chain);
        chain.pop();
    }
}

impl Gathering<'_> {
    /// Reported once.
    fn too_much(&mut self, file: &WithSpan<String>) {
        if !std::mem::replace(&mut self.full, true) {
            self.problems
                .error(&file.span, "too much is included")
                .label(format!("at most {FILES_MAX} files, and {} MiB in all of them", TEXT_MAX >> 20));
        }
    }
}

/// Sorts the named items, and refuses a name that two files have; the first one stays.
fn refuse_clashes<T>(what: &str, all: &mut Vec<Named<T>>, problems: &mut Problems) {
    let mut first: HashMap<String, std::ops::Range<usize>> = HashMap::new();
    all.retain(|one| match first.get(&one.name.value) {
        None => {
            first.insert(one.name.value.clone(), one.name.span.clone());
            true
        }
        Some(other) => {
            let other = problems.in_words(other);
            problems
                .error(&one.name.span, format!("the {what} `{}` is in two files", shown(&one.name.value)))
                .label("the second one")
                .help(format!("the first is at {other}: rename or remove one"));
            false
        }
    });
    all.sort_by(|one, other| one.name.value.cmp(&other.name.value));
}

impl Included {
    /// Its text, for the record.
    pub(in crate::policy) fn text(&self) -> SourceText {
        SourceText { name: self.name.clone(), text: self.text.clone() }
    }
}
