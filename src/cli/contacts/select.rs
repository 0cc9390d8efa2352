//! Which contacts are meant: by handle, pattern, rule, time, list, or by what the rules say of them.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::cli::explain::sources;
use crate::cli::ledger::fault;
use crate::cli::{CliError, Global, agents, output};
use crate::ledger::LedgerReader;
use crate::ledger::read::{RecordedContact, WantedContacts};
use crate::model::{AgentId, Handle, PersonTarget, Sender};
use crate::policy::audit::{self, Audit};
use crate::policy::rules::PatternSet;
use crate::policy::{self, By, Policy, ReceivingAgent};

/// Who let a contact in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum LetInBy {
    /// A rule.
    Rule(String),
    /// A person, with a command of doorman.
    Person(String),
    /// No answer of doorman.
    NobodyHere,
}

impl LetInBy {
    pub(in crate::cli) fn of(contact: &RecordedContact) -> Self {
        match &contact.by {
            None => LetInBy::NobodyHere,
            Some(By::Person(person)) => LetInBy::Person(person.to_string()),
            Some(by) => LetInBy::Rule(by.to_string()),
        }
    }
}

impl fmt::Display for LetInBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LetInBy::Rule(rule) => f.write_str(&output::shown(rule)),
            LetInBy::Person(person) => write!(f, "person:{}", output::shown(person)),
            LetInBy::NobodyHere => f.write_str("not by doorman"),
        }
    }
}

/// A handle pattern of the command line.
pub(in crate::cli) fn pattern(text: &str) -> Result<Arc<PatternSet>, String> {
    audit::pattern(text).map(Arc::new)
}

/// The contact's handle, if it is a plain one.
pub(in crate::cli) fn handle(contact: &RecordedContact) -> Option<Handle> {
    Sender::parse(contact.handle.as_ref().map(|text| text.raw())).handle().cloned()
}

/// The owner of all handles that the pattern matches, if there is exactly one.
pub(in crate::cli) fn owner(patterns: &PatternSet) -> Option<String> {
    let PatternSet { literals, agents_of, slugs, globs, .. } = patterns;
    let globs = globs.iter().map(|glob| glob.literal_owner.as_deref());
    let owners = literals.iter().map(|handle| Some(handle.owner()));
    let owners =
        owners.chain(agents_of.iter().map(|owner| Some(&**owner))).chain(globs).chain(slugs.iter().map(|_| None));
    let owners: Option<BTreeSet<&str>> = owners.collect();
    owners.filter(|owners| owners.len() == 1)?.pop_first().map(str::to_owned)
}

/// Whether one of the patterns is that of a handle as received.
pub(in crate::cli) fn fits_handle(patterns: &PatternSet, handle: Option<&str>) -> bool {
    let PatternSet { literals, agents_of, slugs, globs, .. } = patterns;
    if literals.is_empty() && agents_of.is_empty() && globs.is_empty() {
        // With slugs only, the handle need not be parsed for most contacts: there may be a million.
        let last = handle.and_then(|handle| handle.rsplit('/').next()).unwrap_or_default();
        if !slugs.iter().any(|slug| slug.eq_ignore_ascii_case(last)) {
            return false;
        }
    }
    Sender::parse(handle).handle().is_some_and(|handle| patterns.contains(handle))
}

/// Whether one of the patterns matches the contact.
pub(in crate::cli) fn fits(patterns: &PatternSet, contact: &RecordedContact) -> bool {
    handle(contact).is_some_and(|handle| patterns.contains(&handle))
}

/// One contact, or all of a pattern, as somebody named them.
#[derive(Debug, Clone)]
pub(in crate::cli) enum NamedContacts {
    /// One contact: its handle, its contact id, or the id of the request behind it, read as [`PersonTarget`] says.
    One(String),
    /// All whose handles match.
    Pattern(Arc<PatternSet>),
}

impl NamedContacts {
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        if text.contains('*') {
            pattern(text).map(NamedContacts::Pattern)
        } else {
            Ok(NamedContacts::One(text.to_owned()))
        }
    }

    /// Calls `take` with each contact that it names, and with whether it names exactly that one. Returns whether there
    /// was one.
    ///
    /// # Errors
    /// Exit code 1 if an id is abbreviated and several ids begin with it, 74 if the ledger cannot be read.
    fn each(
        &self,
        narrowed: &Narrowed<'_>,
        reader: &LedgerReader,
        mut take: impl FnMut(RecordedContact, bool) -> ControlFlow<()>,
    ) -> Result<bool, CliError> {
        let text = match self {
            NamedContacts::Pattern(patterns) => {
                let matches = |handle: Option<&str>| fits_handle(patterns, handle);
                let owner = owner(patterns);
                let wanted = WantedContacts { owner: owner.as_deref(), fits: Some(&matches), ..narrowed.wanted() };
                return narrowed.read(reader, &wanted, |contact| take(contact, false));
            }
            NamedContacts::One(text) => text,
        };
        let target = PersonTarget::parse(text);
        let mut any = false;
        if !matches!(target, PersonTarget::Id(_)) {
            let plain = target.handle();
            let theirs = |handle: Option<&str>| {
                handle == Some(text) || (plain.is_some() && Sender::parse(handle).handle() == plain.as_ref())
            };
            let owner = plain.as_ref().map(|handle| handle.owner());
            let wanted = WantedContacts { owner, fits: Some(&theirs), ..narrowed.wanted() };
            any = narrowed.read(reader, &wanted, |contact| take(contact, true))?;
        }
        if let (false, Some(id)) = (any, target.id()) {
            let wanted = WantedContacts { id: Some(id.as_str()), ..narrowed.wanted() };
            any = false;
            narrowed.read(reader, &wanted, |contact| {
                let whole = contact.contact.as_str() == id.as_str() || contact.request.as_ref() == Some(&id);
                any |= whole;
                if whole { take(contact, true) } else { ControlFlow::Continue(()) }
            })?;
        }
        if let (false, Some(beginning)) = (any, target.beginning()) {
            let wanted = WantedContacts { id: Some(beginning), ..narrowed.wanted() };
            let mut meant = Vec::new();
            narrowed.read(reader, &wanted, |contact| {
                meant.push(contact);
                if meant.len() > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if meant.len() > 1 {
                let beginning = output::shown(beginning);
                let why = format!("several ids begin with `{beginning}`: write more of the one you mean");
                return Err(CliError::new(1, why));
            }
            if let Some(only) = meant.pop() {
                any = true;
                // Whether or not more are wanted.
                let _ = take(only, true);
            }
        }
        Ok(any)
    }
}

/// The contacts to which a command's options limit it, as far as the ledger can tell.
#[derive(Debug, Default)]
pub(in crate::cli) struct Narrowed<'a> {
    /// Only this agent's.
    pub(in crate::cli) agent: Option<&'a AgentId>,
    /// Only those since then.
    pub(in crate::cli) since: Option<Timestamp>,
    /// Only contacts that this rule let in.
    pub(in crate::cli) rule: Option<&'a str>,
    /// Only these; empty: everybody.
    pub(in crate::cli) named: &'a [NamedContacts],
}

impl<'a> Narrowed<'a> {
    fn wanted(&self) -> WantedContacts<'a> {
        WantedContacts { agent: self.agent, since: self.since, ..WantedContacts::default() }
    }

    /// Reads these contacts, and calls `take` with each that the rule let in. Returns whether there was one.
    fn read(
        &self,
        reader: &LedgerReader,
        wanted: &WantedContacts<'_>,
        mut take: impl FnMut(RecordedContact) -> ControlFlow<()>,
    ) -> Result<bool, CliError> {
        let mut any = false;
        let read = reader.each_contact(wanted, |contact| {
            any = true;
            let by_rule = self.rule.is_none_or(|rule| LetInBy::of(&contact) == LetInBy::Rule(rule.to_owned()));
            if by_rule { take(contact) } else { ControlFlow::Continue(()) }
        });
        read.map(|()| any).map_err(|error| fault(&error))
    }

    /// Calls `take` with each of them, page by page, and with whether the person named exactly that one. Returns the
    /// names that match no contact.
    ///
    /// # Errors
    /// As [`NamedContacts::each`], and the errors of `take`.
    pub(in crate::cli) fn each(
        &self,
        reader: &LedgerReader,
        mut take: impl FnMut(RecordedContact, bool) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<Vec<String>, CliError> {
        let mut failed = None;
        let mut take = |contact, exactly| {
            take(contact, exactly).unwrap_or_else(|error| {
                failed = Some(error);
                ControlFlow::Break(())
            })
        };
        let mut nobody = Vec::new();
        if self.named.is_empty() {
            let wanted = WantedContacts { by: self.rule, ..self.wanted() };
            self.read(reader, &wanted, |contact| take(contact, false))?;
        }
        for one in self.named {
            let found = one.each(self, reader, &mut take)?;
            if let (false, NamedContacts::One(text)) = (found, one) {
                nobody.push(text.clone());
            }
        }
        failed.map_or(Ok(nobody), Err)
    }
}

/// The rules that contacts are judged by: those of a file, or for each agent those in force according to the ledger.
pub(in crate::cli) struct ContactRules<'a> {
    reader: &'a LedgerReader,
    given: Option<Arc<Policy>>,
    in_force: HashMap<AgentId, Arc<Policy>>,
    /// The names by which rules may mean each agent.
    receiving: HashMap<AgentId, ReceivingAgent>,
    global: &'a Global,
}

impl<'a> ContactRules<'a> {
    /// # Errors
    /// Exit code 78 if the file is refused.
    pub(in crate::cli) fn new(
        reader: &'a LedgerReader,
        file: Option<&PathBuf>,
        global: &'a Global,
    ) -> Result<Self, CliError> {
        let given = file.map(|path| sources::policy_of(path, global)).transpose()?;
        Ok(Self { reader, given, in_force: HashMap::new(), receiving: HashMap::new(), global })
    }

    /// # Errors
    /// Exit code 1 if the ledger knows no rules in force for this agent.
    pub(in crate::cli) fn of(&mut self, agent: &AgentId) -> Result<Arc<Policy>, CliError> {
        if let Some(policy) = self.given.as_ref().or_else(|| self.in_force.get(agent)) {
            return Ok(policy.clone());
        }
        let unknown = || {
            let why = format!(
                "the record does not say which rules are in force for `{agent}`: name them with `--rules FILE`"
            );
            CliError::new(1, why)
        };
        let hash = self.reader.policy_in_force(agent).map_err(|error| fault(&error))?.ok_or_else(unknown)?;
        let texts = self.reader.policy_texts(&hash).map_err(|error| fault(&error))?.ok_or_else(unknown)?;
        let name = texts.first().map_or_else(|| "rules.toml".to_owned(), |first| first.name.clone());
        let loaded = policy::load_texts(name.as_ref(), &texts);
        let policy = loaded.policy.ok_or_else(|| sources::refused(name.as_ref(), &loaded.report))?;
        self.in_force.insert(agent.clone(), policy.clone());
        Ok(policy)
    }

    /// What the rules say of a contact now.
    ///
    /// # Errors
    /// As [`ContactRules::of`].
    pub(in crate::cli) fn audit(&mut self, contact: &RecordedContact, now: Timestamp) -> Result<Audit, CliError> {
        let policy = self.of(&contact.agent)?;
        let receiving = self
            .receiving
            .entry(contact.agent.clone())
            .or_insert_with_key(|agent| agents::receiving(agent, self.global));
        Ok(policy.audit(handle(contact).as_ref(), Some(receiving), now))
    }

    /// Whether a contact is on this list.
    ///
    /// # Errors
    /// As [`ContactRules::of`]; exit code 1 if no rule uses a list of this name.
    pub(in crate::cli) fn on_list(&mut self, list: &str, contact: &RecordedContact) -> Result<bool, CliError> {
        let policy = self.of(&contact.agent)?;
        let Some(patterns) = policy.list(list) else {
            let list = output::shown(list);
            return Err(CliError::new(
                1,
                format!("no rule in force uses a list `{list}`: the rules file names its lists"),
            ));
        };
        Ok(fits(patterns, contact))
    }
}
