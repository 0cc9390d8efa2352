//! Builds policies, requests and books for the tests of deciding, without any TOML.

use std::sync::Arc;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::conditions::{ContactsOver, HandleIn, InList, InWindow, OwnerIs};
use super::index::Index;
use super::lookalike::Protect;
use super::rules::{
    Condition, Folded, HandleGlob, Limit, LimitBy, List, Overdue, OverdueThen, PatternSet, Quota, RegexPattern, Rule,
    Table, When, Window,
};
use super::state::PauseRecord;
use super::{Circumstances, ClockHealth, Decision, Mode, Policy, PolicyHash, PolicyState, RuleName};
use crate::model::{ContactRequest, Handle, PausedBy, RequestId, Sender, StrangerText, Verdict};

/// Monday noon, as in a rules file's own tests.
pub(crate) fn noon() -> Timestamp {
    "2026-01-05T12:00:00Z".parse().unwrap()
}

/// A pause by a person.
pub(crate) fn a_pause() -> PauseRecord {
    PauseRecord { by: PausedBy::Person("ann".into()), at: noon(), note: None }
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

pub(crate) fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

pub(crate) fn name(text: &str) -> RuleName {
    RuleName::parse(text).unwrap()
}

pub(crate) fn handle(text: &str) -> Handle {
    Handle::parse(text).unwrap()
}

pub(crate) fn id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

pub(crate) fn policy(rules: Vec<Rule>) -> Policy {
    Policy {
        hash: PolicyHash::new(&"ab".repeat(32)),
        head: None,
        path: "rules.toml".into(),
        texts: Vec::new(),
        mode: Mode::Enforce,
        no_match: Verdict::Defer,
        protect: Protect::default(),
        approvals_max: None,
        rules,
        overdue: Vec::new(),
        tests: Vec::new(),
        steps: 0,
        index: Index::default(),
    }
    .indexed()
}

impl Policy {
    /// Sorts and indexes, as the loader does.
    pub(crate) fn indexed(mut self) -> Self {
        self.rules.sort_by(|one, other| one.name.cmp(&other.name));
        self.index = Index::build(&self.rules, &self.protect);
        self
    }

    pub(crate) fn protecting(mut self, owners: &[&str]) -> Self {
        self.protect = Protect::from(owners);
        self.indexed()
    }
}

pub(crate) fn rule(rule: &str, then: Verdict, when: impl Into<When>) -> Rule {
    Rule {
        name: name(rule),
        then,
        when: when.into(),
        unless: Vec::new(),
        limit: None,
        wait: None,
        lasts: None,
        until: None,
        until_day: None,
        shadow: false,
        ask: None,
    }
}

pub(crate) fn approve(name: &str, when: impl Into<When>) -> Rule {
    rule(name, Verdict::Approve, when)
}

pub(crate) fn reject(name: &str, when: impl Into<When>) -> Rule {
    rule(name, Verdict::Reject, when)
}

pub(crate) fn defer(name: &str, when: impl Into<When>) -> Rule {
    rule(name, Verdict::Defer, when)
}

impl Rule {
    pub(crate) fn unless(mut self, condition: impl Into<Condition>) -> Self {
        self.unless.push(Table { conditions: vec![condition.into()] });
        self
    }

    pub(crate) fn limit(mut self, count: u32, per: SignedDuration, by: LimitBy) -> Self {
        self.limit = Some(Limit { quota: Quota { count, per }, by, then: Verdict::Defer });
        self
    }

    pub(crate) fn lasts(mut self, lasts: SignedDuration) -> Self {
        self.lasts = Some(lasts);
        self
    }

    pub(crate) fn wait(mut self, wait: SignedDuration) -> Self {
        self.wait = Some(wait);
        self
    }

    pub(crate) fn until(mut self, end: Timestamp) -> Self {
        self.until = Some(end);
        self
    }

    pub(crate) fn shadow(mut self) -> Self {
        self.shadow = true;
        self
    }
}

impl<T: Into<Condition>> From<T> for When {
    fn from(condition: T) -> Self {
        When::Table(Table { conditions: vec![condition.into()] })
    }
}

impl From<Vec<Condition>> for When {
    fn from(conditions: Vec<Condition>) -> Self {
        When::Table(Table { conditions })
    }
}

pub(crate) fn patterns(texts: &[&str]) -> PatternSet {
    let mut set = PatternSet::default();
    for &text in texts {
        match text.split_once('/') {
            None => drop(set.literals.insert(handle(text).view())),
            Some((owner, "*")) => drop(set.agents_of.insert(owner.into())),
            Some(("*", slug)) if !slug.contains('*') => drop(set.slugs.insert(slug.into())),
            Some(_) if !text.contains('*') => drop(set.literals.insert(handle(text).view())),
            Some((owner, _)) => set.globs.push(HandleGlob {
                text: text.into(),
                literal_owner: (!owner.contains('*')).then(|| owner.into()),
                matcher: globset::GlobBuilder::new(text).literal_separator(true).build().unwrap().compile_matcher(),
            }),
        }
    }
    set
}

pub(crate) fn by_handle(texts: &[&str]) -> Condition {
    HandleIn(patterns(texts)).into()
}

pub(crate) fn by_owner(texts: &[&str]) -> Condition {
    OwnerIs(texts.iter().map(|&text| text.into()).collect()).into()
}

pub(crate) fn by_list(list: &str, texts: &[&str]) -> Condition {
    InList(vec![Arc::new(List { name: name(list), patterns: patterns(texts), len: texts.len() })]).into()
}

pub(crate) fn pattern(text: &str, whole: bool) -> RegexPattern {
    let source = if whole { format!(r"\A(?:{text})\z") } else { text.to_owned() };
    RegexPattern::new(text, regex::Regex::new(&source).unwrap(), false)
}

pub(crate) fn folded(text: &str) -> Folded {
    Folded::new(text, false)
}

pub(crate) fn window(days: &[Weekday], from: &str, to: &str) -> Condition {
    window_on(days, from, to, &[], &[])
}

/// The same, except on some days, or only on some days.
pub(crate) fn window_on(days: &[Weekday], from: &str, to: &str, except: &[&str], only: &[&str]) -> Condition {
    let dates = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    InWindow(vec![Arc::new(Window {
        name: name("office"),
        tz: TimeZone::get("Europe/Paris").unwrap(),
        days: days.to_vec(),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        except: dates(except),
        only: dates(only),
    })])
    .into()
}

pub(crate) const WORKDAYS: [Weekday; 5] =
    [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday];

/// Always unknown in [`ask`], where the number of contacts is not known.
pub(crate) fn unknown() -> Condition {
    ContactsOver(0).into()
}

pub(crate) fn overdue(overdue: &str, after: SignedDuration, then: OverdueThen) -> Overdue {
    Overdue { name: name(overdue), after, then, unless: Vec::new(), max_per_hour: 20 }
}

pub(crate) fn request(request: &str, from: &str) -> ContactRequest {
    ContactRequest {
        id: id(request),
        sender: Sender::parse(Some(from)),
        name: None,
        message: None,
        inserted_at: Some(noon()),
        ids: None,
    }
}

pub(crate) fn saying(from: &str, name: Option<&str>, message: Option<&str>) -> ContactRequest {
    let text = |text: Option<&str>| text.map(StrangerText::new);
    ContactRequest { name: text(name), message: text(message), ..request("r", from) }
}

pub(crate) fn sound() -> Circumstances {
    Circumstances::new(noon(), ClockHealth::Sound)
}

pub(crate) fn unsound() -> Circumstances {
    Circumstances { clock: ClockHealth::Unsound, ..sound() }
}

/// Decides a request seen at noon with an empty policy state, at noon.
pub(crate) fn ask(policy: &Policy, from: &str) -> Decision {
    policy.decide(&request("r", from), &sound(), &PolicyState::default(), noon())
}

/// `verdict by WHAT`.
pub(crate) fn said(decision: &Decision) -> String {
    format!("{} by {}", decision.verdict, decision.by)
}

/// Decides and, if it is an answer that goes out now, reserves it.
pub(crate) fn carry_out(
    policy: &Policy,
    policy_state: &mut PolicyState,
    request: &ContactRequest,
    now: Timestamp,
) -> Decision {
    policy_state.seen(&request.id, request.sender.handle(), now);
    let decision = policy.decide(request, &sound(), policy_state, now);
    if decision.verdict.answer().is_some() && decision.due.is_none() {
        policy_state.reserve(
            &request.id,
            request.sender.handle(),
            decision.verdict,
            &decision.by,
            &decision.charges,
            now,
        );
    }
    decision
}
