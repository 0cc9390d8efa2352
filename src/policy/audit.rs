//! What a policy says of somebody who is a contact already: whether its rules would let them in.
//!
//! A contact is judged as a request without text, at no particular moment. Conditions on the moment (windows, ages,
//! numbers of contacts, limits, waits, pauses) never count against a contact. Conditions on a name, a message or the
//! past are unknown, and an unknown condition never decides: such a contact cannot be evaluated.

use std::fmt;

use jiff::Timestamp;

use super::conditions::{ContactBasis, ReceivingAgent};
use super::evaluate::inputs::Inputs;
use super::patterns::HandlePattern;
use super::rules::{PatternSet, Policy, Rule, Table, When};
use super::state::SavedState;
use super::{By, Circumstances, ClockHealth, GuardKind, PolicyState, RuleName, Truth, evaluate};
use crate::model::{ContactRequest, Handle, RequestId, Sender, Verdict};

/// The result for one contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audit {
    /// This rule would let them in.
    Approved(RuleName),
    /// This reject rule certainly matches.
    Rejected(RuleName),
    /// No rule would let them in: a rule defers them, they look like a protected owner, or no rule approves them.
    NotApproved(By),
    /// It depends on something that is not known of a contact.
    CannotBeEvaluated(UnknownReason),
}

/// What is not known about a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnknownReason {
    /// The contact has no plain handle.
    Handle,
    /// This condition of this rule.
    Condition {
        /// The rule that has the condition.
        rule: RuleName,
        /// Its key in the rules file.
        key: &'static str,
    },
}

impl Audit {
    /// `approved`, `rejected`, `not-approved`, `cannot-be-evaluated`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Audit::Approved(_) => "approved",
            Audit::Rejected(_) => "rejected",
            Audit::NotApproved(_) => "not-approved",
            Audit::CannotBeEvaluated(_) => "cannot-be-evaluated",
        }
    }
}

/// For people: one clause.
impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Audit::Approved(rule) => write!(f, "approved by `{rule}`"),
            Audit::Rejected(rule) => write!(f, "rejected by `{rule}`"),
            Audit::NotApproved(By::NoMatch) => f.write_str("not approved: no rule lets them in"),
            Audit::NotApproved(by) => write!(f, "not approved: `{by}`"),
            Audit::CannotBeEvaluated(UnknownReason::Handle) => f.write_str("cannot be evaluated: no plain handle"),
            Audit::CannotBeEvaluated(UnknownReason::Condition { rule, key }) => {
                write!(f, "cannot be evaluated: `{rule}` asks for `{key}`")
            }
        }
    }
}

/// The result of one rule for a contact, and what made it unknown.
struct AuditedRule<'p> {
    rule: &'p Rule,
    truth: Truth,
    unknown: Option<&'static str>,
}

impl AuditedRule<'_> {
    fn unknown(&self) -> Audit {
        let (rule, key) = (self.rule.name.clone(), self.unknown.unwrap_or("when"));
        Audit::CannotBeEvaluated(UnknownReason::Condition { rule, key })
    }
}

impl Policy {
    /// What these rules say of a contact of this agent with this handle; `now` is for rules that have ended.
    pub fn audit(&self, handle: Option<&Handle>, receiving: Option<&ReceivingAgent>, now: Timestamp) -> Audit {
        let (Some(handle), Ok(id)) = (handle, RequestId::parse("audit")) else {
            return Audit::CannotBeEvaluated(UnknownReason::Handle);
        };
        let sender = Sender::parse(Some(handle.as_str()));
        let request = ContactRequest { id, sender, name: None, message: None, inserted_at: None, ids: None };
        let circumstances = Circumstances::new(now, ClockHealth::Sound);
        let mut policy_state = PolicyState::restore(SavedState::default());
        if let Some(receiving) = receiving {
            policy_state.set_receiving_agent(receiving.clone());
        }
        let inputs = self.inputs(&request, &circumstances, &policy_state, now);
        let audited: Vec<AuditedRule<'_>> =
            self.rules.iter().filter(|rule| !rule.shadow).map(|rule| audit_rule(rule, &inputs)).collect();
        let find = |then: Verdict, truth: Truth| audited.iter().find(|one| one.rule.then == then && one.truth == truth);

        if let Some(reject) = find(Verdict::Reject, Truth::True) {
            return Audit::Rejected(reject.rule.name.clone());
        }
        if let Some(defer) = find(Verdict::Defer, Truth::True) {
            return Audit::NotApproved(By::Rule(defer.rule.name.clone()));
        }
        let named = audited.iter().any(|one| {
            one.rule.then == Verdict::Approve && one.truth == Truth::True && evaluate::names_literally(one.rule, handle)
        });
        if !named && self.look_alike(handle, &inputs).is_some() {
            return Audit::NotApproved(By::Guard(GuardKind::LookAlike));
        }
        let (approve, perhaps) = (find(Verdict::Approve, Truth::True), find(Verdict::Approve, Truth::Unknown));
        if approve.or(perhaps).is_none() {
            // Even if something is unknown: no rule lets them in.
            return Audit::NotApproved(By::NoMatch);
        }
        for speaks_against in [Verdict::Reject, Verdict::Defer] {
            if let Some(unknown) = find(speaks_against, Truth::Unknown) {
                return unknown.unknown();
            }
        }
        match (approve, perhaps) {
            (Some(approve), _) => Audit::Approved(approve.rule.name.clone()),
            (None, Some(unknown)) => unknown.unknown(),
            (None, None) => Audit::NotApproved(By::NoMatch),
        }
    }

    /// The handle patterns of a list, if some rule uses a list of this name.
    pub fn list(&self, name: &str) -> Option<&PatternSet> {
        self.needs().lists.into_iter().find(|list| list.name.as_str() == name).map(|list| &list.patterns)
    }
}

/// One handle pattern as people write it: `john`, `acme/*`, `acme/*-bot`, `*/support`.
pub fn pattern(text: &str) -> Result<PatternSet, String> {
    let pattern = HandlePattern::parse(text).map_err(|problem| match problem.help {
        Some(help) => format!("{}: {help}", problem.label),
        None => problem.label,
    })?;
    let mut set = PatternSet::default();
    set.insert(&pattern)?;
    Ok(set)
}

/// `when AND NOT unless`. Conditions on the moment never count against the contact.
fn audit_rule<'p>(rule: &'p Rule, inputs: &Inputs<'_>) -> AuditedRule<'p> {
    let ended = rule.until.is_some_and(|end| inputs.now >= end);
    let helps = rule.then == Verdict::Approve;
    let mut unknown = None;
    let mut truth = match &rule.when {
        _ if ended => Truth::False,
        When::Everyone => Truth::True,
        When::Table(table) => all(table, inputs, helps, &mut unknown),
    };
    for unless in &rule.unless {
        if truth == Truth::False {
            break;
        }
        truth = truth.and(!all(unless, inputs, !helps, &mut unknown));
    }
    AuditedRule { rule, truth, unknown }
}

/// All conditions of a table; `moment` is the value of a condition on the moment. If the result is unknown, `unknown`
/// is set to the first unknown condition.
fn all(table: &Table, inputs: &Inputs<'_>, moment: bool, unknown: &mut Option<&'static str>) -> Truth {
    let mut first = None;
    let truth = table.conditions.iter().fold(Truth::True, |so_far, condition| {
        let truth = match condition.0.of_contact() {
            ContactBasis::ByHandle => condition.0.evaluate(inputs).truth,
            ContactBasis::OfTheMoment => moment.into(),
            ContactBasis::Unknown => Truth::Unknown,
        };
        if truth == Truth::Unknown {
            first.get_or_insert(condition.0.key().name);
        }
        so_far.and(truth)
    });
    if truth == Truth::Unknown {
        *unknown = unknown.or(first);
    }
    truth
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::policy::load_texts;
    use crate::policy::rules::SourceText;

    fn policy(rules: &str) -> Arc<Policy> {
        let text = format!("version = 1\n[policy]\nmode = \"enforce\"\nno_match = \"defer\"\n{rules}");
        let loaded =
            load_texts(Path::new("rules.toml"), &[SourceText { name: "rules.toml".into(), text: text.into() }]);
        loaded.policy.unwrap_or_else(|| panic!("{}", loaded.report.render(false)))
    }

    fn audit(rules: &str, handle: &str) -> String {
        let now = "2026-01-07T03:00:00Z".parse().unwrap();
        policy(rules).audit(Some(&Handle::parse(handle).unwrap()), None, now).to_string()
    }

    const FRIENDS: &str = "[rules.friends]\nthen = \"approve\"\nwhen = { handle = [\"ann\", \"acme/*\"] }\n";

    #[test]
    fn the_handle_alone_decides() {
        let foes = format!("{FRIENDS}[rules.foes]\nthen = \"reject\"\nwhen = {{ handle = \"acme/spam\" }}\n");
        assert_eq!(audit(&foes, "ann"), "approved by `friends`");
        assert_eq!(audit(&foes, "acme/spam"), "rejected by `foes`");
        assert_eq!(audit(&foes, "bob"), "not approved: no rule lets them in");
        assert_eq!(policy(&foes).audit(None, None, Timestamp::UNIX_EPOCH).as_str(), "cannot-be-evaluated");
        let strict = foes.replace("no_match = \"defer\"", "no_match = \"reject\"");
        assert_eq!(audit(&strict, "bob"), "not approved: no rule lets them in", "nobody is rejected by no rule");
    }

    #[test]
    fn what_needs_text_or_the_past_cannot_be_evaluated() {
        for (condition, key) in [
            ("message_contains = \"seo\"", "message_contains"),
            ("message_absent = true", "message_absent"),
            ("name = \"Ann\"", "name"),
            ("history = { rejected_within = \"1d\" }", "history"),
        ] {
            let rules = format!("{FRIENDS}[rules.foes]\nthen = \"reject\"\nwhen = {{ {condition} }}\n");
            assert_eq!(audit(&rules, "ann"), format!("cannot be evaluated: `foes` asks for `{key}`"));
            let narrow = rules.replace(condition, &format!("{condition}, owner = \"mallory\""));
            assert_eq!(audit(&narrow, "ann"), "approved by `friends`", "{key}: another owner");
            assert_eq!(audit(&rules, "bob"), "not approved: no rule lets them in", "{key}: that much is certain");
        }
    }

    #[test]
    fn the_moment_never_speaks_against_a_contact() {
        let windows = "[windows.office]\ntz = \"UTC\"\ndays = [\"mon\"]\nfrom = \"09:00\"\nto = \"17:00\"\n";
        for (then, condition, said) in [
            ("approve", "handle = \"bob\", window = \"office\"", "approved by `timed`"),
            ("reject", "handle = \"ann\", window = \"office\"", "approved by `friends`"),
            ("defer", "contacts_over = 0", "approved by `friends`"),
        ] {
            let rules = format!("{windows}{FRIENDS}[rules.timed]\nthen = \"{then}\"\nwhen = {{ {condition} }}\n");
            assert_eq!(audit(&rules, if then == "approve" { "bob" } else { "ann" }), said, "{then} {condition}");
        }
        let limited = FRIENDS.replace("\n[", "\n") + "limit = { count = 1, per = \"1h\" }\nwait = \"1h\"\n";
        assert_eq!(audit(&limited, "ann"), "approved by `friends`");
        let ended = format!("{FRIENDS}until = 2026-01-01\n");
        assert_eq!(audit(&ended, "ann"), "not approved: no rule lets them in", "a rule that has ended");
    }

    #[test]
    fn a_look_alike_is_not_approved_unless_named() {
        let rules =
            "protect = [\"john\"]\n[rules.all]\nthen = \"approve\"\nwhen = { handle_regex = ['j0hn/.+', 'ann/.+'] }\n";
        assert_eq!(audit(rules, "j0hn/bot"), "not approved: `guard:look-alike`");
        assert_eq!(audit(rules, "ann/bot"), "approved by `all`");
        let named = rules.replace("handle_regex = ['j0hn/.+', 'ann/.+']", "handle = \"j0hn/*\"");
        assert_eq!(audit(&named, "j0hn/bot"), "approved by `all`");
    }
}
