//! `[tests.NAME]`: what a test may refer to.

use jiff::SignedDuration;

use std::collections::{HashMap, HashSet};

use super::{Compiling, PolicyTest};
use crate::document::{WithSpan, nearest, shown};
use crate::model::{Sender, StrangerText, Verdict};
use crate::policy::ask::DeciderVerdict;
use crate::policy::raw::{RawFile, RawRule, RawTest, RawTestHistory};
use crate::policy::rules::{RuleName, TestHistory, TestRequest};

/// The largest product of rules and tests of one file: each test evaluates all rules.
const QUESTIONS_MAX: usize = 50_000_000;

/// What tests may refer to, by name.
struct Known<'a> {
    rules: HashMap<&'a str, Option<&'a RawRule>>,
    overdue: HashSet<&'a str>,
}

/// Most requests that the histories of one file make up.
const HISTORY_MAX: u64 = 100_000;

impl Compiling<'_> {
    /// Compiles all tests that are sound.
    pub(super) fn tests(&mut self, raw: &RawFile) -> Vec<PolicyTest> {
        if let Some(last) = raw.tests.last()
            && raw.tests.len().saturating_mul(raw.rules.len()) > QUESTIONS_MAX
        {
            self.problems
                .error(&last.name.span, "the tests of this file would take too long: too many tests times rules");
            return Vec::new();
        }
        let known = Known {
            rules: raw.rules.iter().map(|rule| (rule.name.value.as_str(), rule.value.as_ref())).collect(),
            overdue: raw.overdue.iter().map(|one| one.name.value.as_str()).collect(),
        };
        let mut left = HISTORY_MAX;
        raw.tests
            .iter()
            .filter_map(|test| self.test(&test.name.value, test.value.as_ref()?, &known, &mut left))
            .collect()
    }

    fn test(&mut self, name: &str, test: &RawTest, known: &Known<'_>, left: &mut u64) -> Option<PolicyTest> {
        if let Some(by) = &test.by {
            self.check_by(by, known);
        }
        let history: Vec<_> = test.history.iter().map(|one| self.history(one, test, known, left)).collect();
        let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(StrangerText::new);
        if test.at.checked_sub(test.ago).is_err() {
            self.problems
                .error(&test.expect, "the request of the test is before the earliest possible time")
                .help("shorten `ago`");
            return None;
        }
        if let Some(agent) = test.agent.as_ref().filter(|agent| RuleName::parse(&agent.value).is_none()) {
            self.problems
                .error(&agent.span, format!("`{}` is not an agent's name", shown(&agent.value)))
                .label("expected a-z, 0-9 and `-`, at most 64 of them");
            return None;
        }
        let (source, span) = self.problems.locate(&test.expect);
        Some(PolicyTest {
            name: self.name(name)?,
            at: test.at,
            history: history.into_iter().collect::<Option<_>>()?,
            request: TestRequest {
                sender: Sender::parse(test.from_handle.as_deref()),
                name: text(&test.from_name),
                message: text(&test.message),
                ago: test.ago,
                replies: self.replies(test, known),
                agent: test.agent.as_ref().map(|agent| agent.value.as_str().into()),
                contacts: test.contacts,
                contact: test.contact,
            },
            verdict: test.verdict?,
            by: test.by.as_ref().map(|by| by.value.clone()),
            lasts: self.expected_end(test),
            source,
            span,
        })
    }

    /// After how long the contact is expected to end.
    fn expected_end(&mut self, test: &RawTest) -> Option<SignedDuration> {
        let lasts = test.lasts.as_ref()?;
        if test.verdict.is_some_and(|verdict| verdict != Verdict::Approve) {
            self.only_approved(lasts);
        }
        Some(lasts.value)
    }

    fn only_approved(&mut self, lasts: &WithSpan<SignedDuration>) {
        self.problems.error(&lasts.span, "`for` is for approvals").label("only a contact has an end");
    }

    fn history(
        &mut self,
        raw: &RawTestHistory,
        test: &RawTest,
        known: &Known<'_>,
        left: &mut u64,
    ) -> Option<TestHistory> {
        let before = self.problems.errors();
        let sender = Sender::parse(Some(&raw.from_handle));
        if sender.handle().is_none() {
            let message = format!("`{}` is not a plain handle and has no history", shown(&raw.from_handle));
            self.problems.error(&raw.span, message);
        }
        match left.checked_sub(u64::from(raw.times)) {
            Some(rest) => *left = rest,
            None => {
                self.problems.error(&raw.span, format!("the tests' histories have more than {HISTORY_MAX} requests"));
            }
        }
        if test.at.checked_sub(raw.ago).is_err() {
            self.problems.error(&raw.span, "this is before the earliest possible time").help("shorten `ago`");
        }
        if raw.removed && raw.verdict.value != Verdict::Approve {
            self.problems
                .error(&raw.verdict.span, "only a contact that was approved can be removed")
                .label("expected `\"approve\"`");
        }
        if let Some(lasts) = raw.lasts.as_ref().filter(|_| raw.verdict.value != Verdict::Approve) {
            self.only_approved(lasts);
        }
        let by = raw.by.as_ref().and_then(|by| self.answered_by(by, &raw.verdict, known));
        (self.problems.errors() == before).then_some(TestHistory {
            sender,
            verdict: raw.verdict.value,
            by,
            times: raw.times,
            ago: raw.ago,
            lasts: raw.lasts.as_ref().map(|lasts| lasts.value),
            removed: raw.removed,
        })
    }

    /// The verdicts of deciders in a test; a decider that no rule asks is reported.
    fn replies(&mut self, test: &RawTest, known: &Known<'_>) -> Vec<DeciderVerdict> {
        let mut all = Vec::with_capacity(test.replies.len());
        for (name, verdict) in &test.replies {
            let asked = |rule: &&RawRule| rule.ask.as_ref().is_some_and(|ask| ask.value == name.value);
            match RuleName::parse(&name.value).filter(|_| known.rules.values().flatten().any(asked)) {
                Some(decider) => all.push(DeciderVerdict { decider, key: None, verdict: *verdict, reason: None }),
                None => {
                    let message = format!("no rule asks `{}`", shown(&name.value));
                    self.problems.error(&name.span, message).help("`replies` names deciders: the `ask` of a rule");
                }
            }
        }
        all
    }

    /// The rule that gave an answer in a history.
    fn answered_by(
        &mut self,
        by: &WithSpan<String>,
        verdict: &WithSpan<Verdict>,
        known: &Known<'_>,
    ) -> Option<RuleName> {
        let Some(rule) = known.rules.get(by.value.as_str()) else {
            self.no_rule(by, &by.value, known);
            return None;
        };
        let then = rule.and_then(|rule| rule.then.as_ref()).map(|then| then.value);
        // The answer may have come from the verdict of its decider.
        let may =
            rule.and_then(|rule| rule.may.as_ref()).is_some_and(|may| may.value.contains(&verdict.value.as_str()));
        if then.is_some_and(|then| then != verdict.value) && !may {
            let said = then.map_or("", Verdict::as_str);
            let message = format!("the rule `{}` never says {}", shown(&by.value), verdict.value);
            self.problems.error(&verdict.span, message).label(format!("expected `\"{said}\"`"));
        }
        RuleName::parse(&by.value)
    }

    /// Checks the `by` that a test expects.
    fn check_by(&mut self, by: &WithSpan<String>, known: &Known<'_>) {
        let (kind, name) = by.value.split_once(':').unwrap_or(("", &by.value));
        let rule = known.rules.get(name);
        match kind {
            "" if rule.is_some() || matches!(name, "no_match" | "paused") => {}
            "" | "limit" if rule.is_none() => self.no_rule(by, name, known),
            "limit" => {
                if rule.copied().flatten().is_some_and(|rule| !rule.limited) {
                    self.no_by(by, "that rule has no `limit`");
                }
            }
            "guard" => {
                if !matches!(name, "handle-not-plain" | "look-alike") {
                    self.no_by(by, "there are `guard:handle-not-plain` and `guard:look-alike`");
                }
            }
            "ask" if rule.is_none() => self.no_rule(by, name, known),
            "ask" => {
                if rule.copied().flatten().is_some_and(|rule| rule.may.is_none()) {
                    self.no_by(by, "that rule's decider may do nothing: it has no `may`");
                }
            }
            "overdue" => self.check_overdue(by, name, known),
            _ => self.no_by(
                by,
                "expected a rule, `guard:NAME`, `limit:RULE`, `ask:RULE`, `overdue:NAME`, `no_match` or `paused`",
            ),
        }
    }

    fn check_overdue(&mut self, by: &WithSpan<String>, name: &str, known: &Known<'_>) {
        if !known.overdue.contains(name) {
            self.no_by(by, &format!("there is no `[overdue.{}]`", shown(name)));
        }
    }

    fn no_rule(&mut self, by: &WithSpan<String>, name: &str, known: &Known<'_>) {
        let rules = known.rules.keys().copied().take(self.advice());
        let near = nearest(name, rules).or_else(|| nearest(name, ["no_match", "paused"])).map(str::to_owned);
        self.no_such("rule", &WithSpan { value: name.to_owned(), span: by.span.clone() }, near);
    }

    fn no_by(&mut self, by: &WithSpan<String>, label: &str) {
        self.problems.error(&by.span, format!("nothing is decided by `{}`", shown(&by.value))).label(label);
    }
}
