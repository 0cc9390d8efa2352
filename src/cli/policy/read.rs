//! Pushed rules, read from the ledger.

use std::path::Path;

use super::super::ledger::{fault, path};
use super::super::{CliError, Global};
use super::shown;
use crate::config::settings::pushed_name;
use crate::diagnostics::{Report, Severity};
use crate::ledger::pushed::PushedVersion;
use crate::ledger::{LedgerAddress, LedgerError, LedgerReader};
use crate::policy::rules::SourceText;
use crate::policy::{self, LoadedPolicy};

/// The ledger that the configuration names.
pub(super) fn open(global: &Global) -> Result<LedgerReader, CliError> {
    LedgerReader::open(&path(None, global)?).map_err(|error| fault(&error))
}

/// The error if nothing was pushed under this name.
pub(super) fn nothing(name: &str) -> CliError {
    let name = shown(name);
    CliError::new(1, format!("nothing was pushed under `{name}`: `doorman policy list` shows the names"))
}

/// A version of a name; the newest if none is given.
pub(super) fn version(reader: &LedgerReader, name: &str, number: Option<u64>) -> Result<PushedVersion, CliError> {
    one_of(reader.pushed_versions(name).map_err(|error| fault(&error))?, name, number)
}

/// The same of all versions of the name, the newest first.
pub(super) fn one_of(versions: Vec<PushedVersion>, name: &str, number: Option<u64>) -> Result<PushedVersion, CliError> {
    let newest = versions.first().ok_or_else(|| nothing(name))?.version;
    let found = versions.into_iter().find(|one| number.is_none_or(|number| one.version == number));
    found.ok_or_else(|| {
        let number = number.unwrap_or_default();
        CliError::new(1, format!("`{}` has no version {number}: the newest is {newest}", shown(name)))
    })
}

/// The texts of a version.
pub(super) fn texts(reader: &LedgerReader, version: &PushedVersion) -> Result<Vec<SourceText>, CliError> {
    let texts = reader.policy_texts(&version.hash).map_err(|error| fault(&error))?;
    texts.ok_or_else(|| CliError::new(74, format!("the texts of policy {} are not on record", version.hash)))
}

/// Compiles the texts of pushed rules, as the daemon does.
pub(super) fn compiled(name: &str, texts: &[SourceText]) -> LoadedPolicy {
    let own = texts.first().map_or("rules.toml", |own| &own.name);
    policy::load_texts(&Path::new(&format!("{}{name}", crate::config::settings::PUSHED)).join(own), texts)
}

/// The newest version of the rules that `ledger:NAME` names, loaded as the daemon loads it; `None`: it names a file.
pub(in crate::cli) fn head_of(rules: &Path, at: &LedgerAddress) -> Option<LoadedPolicy> {
    let name = pushed_name(rules)?;
    let read = || -> Result<Option<Vec<SourceText>>, LedgerError> {
        let reader = LedgerReader::open(at)?;
        let Some(head) = reader.pushed_versions(name)?.into_iter().next() else { return Ok(None) };
        reader.policy_texts(&head.hash)
    };
    let refused = |message: String, help: &str| {
        let mut report = Report::default();
        report.push(Severity::Error, None, None, message).help(help);
        LoadedPolicy { policy: None, report, tests: Vec::new(), files: Vec::new(), shrunk: false, changes: Vec::new() }
    };
    Some(match read() {
        Ok(Some(texts)) => compiled(name, &texts),
        Ok(None) => {
            let message = format!("nothing was pushed under `{}` yet", shown(name));
            refused(message, "push the first version: `doorman policy push NAME rules.toml`")
        }
        Err(error) => refused(
            format!("the rules `{}` cannot be read: {error}", rules.display()),
            "`doorman doctor` looks at the ledger",
        ),
    })
}
