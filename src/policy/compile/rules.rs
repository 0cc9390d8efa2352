//! `[rules.NAME]` and `[overdue.NAME]`: which keys a rule may have, and which it must have.

use jiff::SignedDuration;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::Compiling;
use super::tables::says_who;
use crate::document::{DateOrMoment, WithSpan, shown};
use crate::model::Verdict;
use crate::policy::ask::{self, Ask};
use crate::policy::conditions::compared::covers;
use crate::policy::raw::{Named, RawOverdue, RawRule, RawWhen};
use crate::policy::rules::{Overdue, OverdueThen, Rule, RuleName, Table, When};

/// The shortest `for`.
const LASTS_MIN: SignedDuration = SignedDuration::from_mins(1);
/// The default of `max_per_hour`.
const OVERDUE_MAX_PER_HOUR: u32 = 20;

impl Compiling<'_> {
    /// Compiles all rules that are sound.
    pub(super) fn rules(&mut self, raw: &[Named<RawRule>]) -> Vec<Rule> {
        raw.iter().filter_map(|rule| self.rule(&rule.name, rule.value.as_ref()?)).collect()
    }

    fn rule(&mut self, name: &WithSpan<String>, raw: &RawRule) -> Option<Rule> {
        let when = match raw.when.as_ref().map(|when| &when.value) {
            None => None,
            Some(RawWhen::Everyone) => Some(When::Everyone),
            Some(RawWhen::Table(table)) => {
                let approves = raw.then.is_none() || raw.approves();
                self.table(table, !approves).map(When::Table)
            }
        };
        let unless: Vec<Table> = raw.unless.iter().filter_map(|table| self.table(table, true)).collect();
        let then = raw.then.as_ref()?.value;
        self.only_of_approvals(then, raw);
        let (when, written) = (when?, raw.when.as_ref()?);
        if raw.approves() {
            self.who(name, raw, written, &when);
        }
        let ask = self.ask(then, raw)?;
        if let When::Table(table) = &when
            && unless.len() == raw.unless.len()
        {
            let switched_off = unless.iter().position(|one| covers(one, table, &mut self.cover_budget));
            if let Some(table) = switched_off.and_then(|place| raw.unless.get(place)) {
                self.problems
                    .error(&table.span, format!("the rule `{}` never matches", name.value))
                    .label("this is so whenever `when` is")
                    .help("make `unless` narrower than `when`, or remove the rule");
            }
        }
        let (until, until_day) = match raw.until.as_ref().map(|until| (until.value, &until.span)) {
            None => (None, None),
            Some((DateOrMoment::Moment(end), _)) => (Some(end), None),
            Some((DateOrMoment::Date(day), span)) => {
                let next = day.tomorrow().map(|next| next.to_datetime(Time::midnight()));
                match next.and_then(|next| TimeZone::UTC.to_timestamp(next)) {
                    Ok(end) => (Some(end), Some(day)),
                    Err(_) => {
                        self.problems.error(span, "`until` is out of range");
                        return None;
                    }
                }
            }
        };
        let rule = Rule {
            name: self.name(&name.value)?,
            then,
            when,
            unless,
            limit: raw.limit.as_ref().map(|limit| limit.value),
            wait: raw.wait.as_ref().map(|wait| wait.value),
            lasts: self.lasts(raw),
            until,
            until_day,
            shadow: raw.shadow.as_ref().is_some_and(|shadow| shadow.value),
            ask,
        };
        Some(if rule.ask.is_some() { ask::named(rule) } else { rule })
    }

    /// The decider that the rule asks; `None` if that is wrong, which has been reported.
    #[expect(clippy::option_option, reason = "the outer one is what was reported")]
    fn ask(&mut self, then: Verdict, raw: &RawRule) -> Option<Option<Ask>> {
        let Some(ask) = &raw.ask else {
            if let Some(may) = &raw.may {
                self.problems
                    .error(&may.span, "`may` is for a rule with `ask`")
                    .label("nobody is asked here")
                    .help("name a decider: `ask = \"NAME\"`");
                return None;
            }
            return Some(None);
        };
        if then != Verdict::Defer {
            self.problems
                .error(&ask.span, "`ask` is for rules that defer")
                .label(format!("this rule says {then}"))
                .help("a decider is asked about what a rule leaves pending");
            return None;
        }
        let Some(decider) = RuleName::parse(&ask.value) else {
            self.problems
                .error(&ask.span, format!("`{}` is not a decider's name", shown(&ask.value)))
                .label("expected a-z, 0-9 and `-`, at most 64 of them")
                .help("a decider is a `[deciders.NAME]` of doorman.toml");
            return None;
        };
        let words = raw.may.as_ref().map_or(&[][..], |may| &may.value);
        if let (Some(may), true, None) = (&raw.may, raw.approves(), &raw.limit) {
            if !raw.limited {
                self.problems
                    .error(&may.span, "a rule whose decider may approve needs a `limit`")
                    .label("without a limit, whoever persuades it can use up your tokens")
                    .help("add, for example, `limit = { count = 5, per = \"1d\", by = \"rule\" }`");
            }
            return None;
        }
        if let Some(limit) = raw.limit.as_ref().filter(|limit| limit.value.then == Verdict::Reject) {
            self.problems
                .error(&limit.span, "the limit of a rule that asks cannot reject")
                .label("`then = \"reject\"` is for approve rules")
                .help("leave `then` out");
            return None;
        }
        Some(Some(Ask {
            decider,
            reject: words.contains(&"reject"),
            approve: words.contains(&"approve"),
            of: "".into(),
        }))
    }

    /// After how long the contact ends; a time that is too short to use the contact is refused.
    fn lasts(&mut self, raw: &RawRule) -> Option<SignedDuration> {
        let WithSpan { value, span } = raw.lasts.as_ref()?;
        if *value < LASTS_MIN {
            self.problems
                .error(span, "`for` is shorter than a minute")
                .label("expected at least `1m`")
                .help("`doorman approve --for` lets somebody in for less");
        }
        Some(*value)
    }

    fn only_of_approvals(&mut self, then: Verdict, raw: &RawRule) {
        if then == Verdict::Approve {
            return;
        }
        let asking = raw.approves();
        let spans = [
            ("limit", raw.limit.as_ref().map(|limit| &limit.span).filter(|_| !asking)),
            ("wait", raw.wait.as_ref().map(|wait| &wait.span)),
            ("for", raw.lasts.as_ref().map(|lasts| &lasts.span).filter(|_| !asking)),
            ("dangerously_approve_everyone", raw.everyone.as_ref().map(|flag| &flag.span).filter(|_| !asking)),
        ];
        for (key, span) in spans {
            let Some(span) = span else { continue };
            self.problems
                .error(span, format!("`{key}` is for approve rules"))
                .label(format!("this rule says {then}"))
                .help("remove it: it would do nothing");
        }
    }

    fn who(&mut self, name: &WithSpan<String>, raw: &RawRule, written: &WithSpan<RawWhen>, when: &When) {
        let said = match (&written.value, when) {
            (RawWhen::Table(written), When::Table(table)) => says_who(written, table),
            _ => Err(None),
        };
        match (said, &raw.everyone) {
            (Ok(()), Some(flag)) if flag.value => {
                self.problems
                    .warning(&flag.span, "`dangerously_approve_everyone` is not needed here")
                    .label("the rule says who it approves")
                    .help("remove it, so that a later change cannot let everybody in");
            }
            (Ok(()), _) => {}
            (Err(_), Some(flag)) if flag.value => {
                if !raw.limited {
                    self.problems
                        .error(&flag.span, "an approve rule for everyone needs a `limit`")
                        .label("without a limit, anybody can use up your tokens")
                        .help("add, for example, `limit = { count = 5, per = \"1h\", by = \"rule\" }`");
                }
            }
            (Err(open), _) => {
                let (span, label) = match open {
                    Some(open) => (open.span, open.why),
                    None => (written.span.clone(), "it would approve anybody".to_owned()),
                };
                self.problems
                    .error(&span, format!("the approve rule `{}` does not say who", name.value))
                    .label(label)
                    .help(
                        "name an `owner`, a `handle` or `list` with a plain owner part, a `handle_regex` that begins with one, \
                         `history = { approved_before = true }` or `history = { approved_over = … }`, or `contact = \"owner\"` or \
                         `\"self\"`; to approve strangers all the same, write both `dangerously_approve_everyone = true` and a `limit`",
                    );
            }
        }
    }

    /// Compiles all overdue rules that are sound.
    pub(super) fn overdue(&mut self, raw: &[Named<RawOverdue>]) -> Vec<Overdue> {
        raw.iter().filter_map(|overdue| self.one_overdue(&overdue.name, overdue.value.as_ref()?)).collect()
    }

    fn one_overdue(&mut self, name: &WithSpan<String>, raw: &RawOverdue) -> Option<Overdue> {
        let unless = raw.unless.iter().filter_map(|table| self.table(table, true)).collect();
        if let (Some(OverdueThen::Notify), Some(most)) = (raw.then, &raw.max_per_hour) {
            self.problems
                .error(&most.span, "`max_per_hour` is for `then = \"reject\"`")
                .label("notices are not limited")
                .help("remove it: it would do nothing");
        }
        Some(Overdue {
            name: self.name(&name.value)?,
            after: raw.after?,
            then: raw.then?,
            unless,
            max_per_hour: raw.max_per_hour.as_ref().map_or(OVERDUE_MAX_PER_HOUR, |most| most.value),
        })
    }
}
