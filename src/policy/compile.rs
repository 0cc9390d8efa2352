//! From the texts of a policy to the policy: pure, and of bounded cost on any input. All problems are reported at
//! once; a policy comes out only if nothing is.

#[cfg(test)]
mod bounds;
mod calendar;
pub(super) mod include;
mod lists;
mod names;
mod rules;
mod tables;
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::index::Index;
use super::load::{Advice, ListText, LoadedPolicy};
use super::lookalike::Protect;
use super::raw::RawProtect;
use super::rules::{List, PolicyTest, RuleName, SourceText, Window};
use super::tests_runner::{self, TestResult};
use super::{Policy, PolicyHash, conditions, lint, regexes};
use crate::diagnostics::{Report, Severity};
use crate::document::{Problems, WithSpan, shown};
use crate::model::{Handle, Verdict};
use include::{Gathered, Included};

/// Largest text of a rules file or list file that is believed (bytes).
pub(crate) const TEXT_MAX: usize = 16 * 1024 * 1024;
/// Most patterns with a `*` inside a part, in all lists and rules together: each costs some memory.
const GLOBS_MAX: usize = 10_000;

/// Gives the text of a file by its path as written.
pub(super) type ReadFile<'a> = dyn Fn(&str) -> Result<ListText, Advice> + 'a;

/// The state of compiling one file.
pub(crate) struct Compiling<'p> {
    pub(crate) problems: &'p mut Problems,
    /// The rules file, and who reads the files that it names.
    path: &'p Path,
    read: &'p ReadFile<'p>,
    /// The directory of each included file, from the rules file's, by which text of the report the file is.
    directories: BTreeMap<usize, PathBuf>,
    /// The files that were read, by path from the rules file; `None` if one could not be read, which has been reported.
    files: BTreeMap<String, Option<lists::ListFileText>>,
    /// Declared names; `None` if the thing itself is broken, which has been reported.
    lists: BTreeMap<String, Option<Arc<List>>>,
    windows: BTreeMap<String, Option<Arc<Window>>>,
    /// Names that rules refer to.
    used: std::collections::BTreeSet<(&'static str, String)>,
    regexes: regexes::Compiler,
    /// Whether the conditions of the table that is compiled also look at the disclosed form of texts.
    disclosing: bool,
    globs: usize,
    /// Whether a list lost too many entries.
    shrunk: bool,
    cover_budget: u32,
}

/// Which lists may have lost more of their entries than their `max_shrink`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Shrunk {
    /// None.
    #[default]
    Refuse,
    /// Any: a person has checked them.
    Accept,
    /// The list with this file, if it lost no more than a person removed from it.
    Removed {
        /// Its file, by every name that rules have for it.
        files: Vec<PathBuf>,
        /// How many entries were taken off.
        entries: usize,
    },
}

impl Shrunk {
    /// [`Shrunk::Accept`], or else none.
    pub fn accepted(all: bool) -> Self {
        if all { Shrunk::Accept } else { Shrunk::Refuse }
    }

    /// Whether a list with this file may have lost this many entries.
    fn allows(&self, list: Option<&Path>, lost: usize) -> bool {
        match self {
            Shrunk::Refuse => false,
            Shrunk::Accept => true,
            Shrunk::Removed { files, entries } => {
                list.is_some_and(|list| files.iter().any(|file| file == list)) && lost <= *entries
            }
        }
    }
}

/// Compiles the text of a rules file.
///
/// `lists` gives the text of a list file by its path as written; `previous` is the running policy, against which lists
/// must not have lost more than their `max_shrink`, unless `shrunk` accepts it. Never panics, and takes time linear in the input but
/// for regular expressions, which are bounded.
pub(crate) fn compile(
    path: &Path,
    text: &str,
    lists: &dyn Fn(&str) -> Result<ListText, Advice>,
    previous: Option<&Policy>,
    shrunk: &Shrunk,
) -> LoadedPolicy {
    let mut report = Report::default();
    let shared: Arc<str> = text.into();
    report.add_source(path, shared.clone());
    let mut problems = Problems::new(report);
    let (mut tests, running) = (Vec::new(), PolicyInForce { previous, accepted: shrunk });
    let mut shrunk = false;
    let policy = whole(path, &shared, lists, running, &mut problems, (&mut tests, &mut shrunk));
    let policy = policy.filter(|_| problems.errors() == 0).map(Arc::new);
    LoadedPolicy { policy, report: problems.finish(), tests, files: Vec::new(), shrunk, changes: Vec::new() }
}

/// What the lists are compared with.
#[derive(Clone, Copy)]
struct PolicyInForce<'a> {
    previous: Option<&'a Policy>,
    accepted: &'a Shrunk,
}

fn whole(
    path: &Path,
    text: &Arc<str>,
    read: &ReadFile<'_>,
    running: PolicyInForce<'_>,
    problems: &mut Problems,
    (results, shrunk): (&mut Vec<TestResult>, &mut bool),
) -> Option<Policy> {
    if text.len() > TEXT_MAX {
        problems.push(Severity::Error, 0, None, format!("a rules file has at most {} MiB", TEXT_MAX >> 20));
        return None;
    }
    let Gathered { raw, included } = include::gather(path, text, read, problems)?;
    let directory = |name: &str| Path::new(name).parent().unwrap_or(Path::new("")).to_owned();
    let mut compiling = Compiling {
        problems,
        path,
        read,
        directories: included.iter().map(|file| (file.source, directory(&file.name))).collect(),
        files: BTreeMap::new(),
        lists: BTreeMap::new(),
        windows: BTreeMap::new(),
        used: Default::default(),
        regexes: regexes::Compiler::default(),
        disclosing: false,
        globs: 0,
        shrunk: false,
        cover_budget: conditions::compared::BUDGET,
    };
    compiling.lists(&raw.lists, running);
    compiling.windows(&raw.windows);
    let protect = compiling.protect(&raw.policy.protect);
    let rules = compiling.rules(&raw.rules);
    let overdue = compiling.overdue(&raw.overdue);
    let tests = compiling.tests(&raw);
    *shrunk = compiling.shrunk;
    let used = std::mem::take(&mut compiling.used);
    let steps = compiling.regexes.steps();
    let texts = compiling.texts();
    if problems.errors() > 0 {
        return None;
    }
    let own = SourceText { name: own_name(path), text: text.clone() };
    let mut others: Vec<SourceText> = included.iter().map(Included::text).chain(texts).collect();
    others.sort_by(|one, other| one.name.cmp(&other.name));
    others.dedup();
    if let Some(pair) = others.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let message = format!("`{}` changed while it was read", shown(&pair[0].name));
        problems.push(Severity::Error, 0, None, message).help = Some("load the rules once more".to_owned());
        return None;
    }
    let texts: Vec<SourceText> = std::iter::once(own).chain(others).collect();
    let policy = Policy {
        hash: hash(&texts),
        head: None,
        path: path.to_owned(),
        texts,
        mode: raw.policy.mode,
        no_match: raw.policy.no_match.unwrap_or(Verdict::Defer),
        steps,
        index: Index::build(&rules, &protect),
        protect,
        approvals_max: raw.policy.approvals_max,
        rules,
        overdue,
        tests,
    };
    lists::only_let_in(&raw.lists, &policy, problems);
    *results = tests_runner::run_tests(&policy);
    tell_failures(results, problems);
    lint::of_file(&policy, &raw, &used, results, problems);
    Some(policy)
}

fn tell_failures(results: &[TestResult], problems: &mut Problems) {
    for result in results.iter().filter(|result| !result.passed) {
        let message = format!("the test `{}` fails", result.name);
        let diagnostic = problems.push(Severity::Error, result.source, Some(result.span.clone()), message);
        diagnostic.label(format!("expected {}, got {}", result.expected, result.said()));
        if let Some(help) = result.hint() {
            diagnostic.help(help);
        }
    }
}

/// The rules file's own name among the texts.
fn own_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "rules.toml".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A hash over names and texts, in order, each preceded by its length.
fn hash(texts: &[SourceText]) -> PolicyHash {
    let mut hasher = Sha256::new();
    for part in texts.iter().flat_map(|text| [text.name.as_str(), &text.text]) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    PolicyHash::new(&hex)
}

impl Compiling<'_> {
    /// A name that the raw file was read with; a bad one has been reported.
    fn name(&self, text: &str) -> Option<RuleName> {
        RuleName::parse(text)
    }

    /// Owners to protect.
    fn protect(&mut self, raw: &RawProtect) -> Protect {
        let mut owners: Vec<Arc<str>> = raw.names.iter().filter_map(|owner| self.part("protect", owner)).collect();
        owners.sort_unstable();
        owners.dedup();
        Protect { owners, prefixes: raw.prefixes, suffixes: raw.suffixes }
    }

    /// One part of a handle, as a literal: an owner or a slug.
    fn part(&mut self, key: &str, text: &WithSpan<String>) -> Option<Arc<str>> {
        let bare =
            if key == "slug" { text.value.as_str() } else { text.value.strip_prefix('@').unwrap_or(&text.value) };
        let lower = bare.to_ascii_lowercase();
        if Handle::is_part(&lower) {
            return Some(lower.into());
        }
        let diagnostic = self.problems.error(&text.span, format!("`{}` is not a valid `{key}`", shown(&text.value)));
        let odd = bare.chars().find(|odd| r"[](){}|^$+?\".contains(*odd));
        if bare.contains('*') {
            diagnostic.label(format!("`{key}` takes a literal")).help("patterns are written `handle = […]`");
        } else if let Some(odd) = odd {
            diagnostic
                .label(format!("`{odd}` cannot be in a handle"))
                .help("regular expressions are written `handle_regex = '…'`");
        } else if bare.contains('/') {
            diagnostic
                .label(format!("`{key}` takes one part of a handle"))
                .help("a handle is `owner/slug`; the whole of it is written `handle = […]`");
        } else {
            diagnostic.label("expected a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit");
        }
        None
    }
}
