//! A decision's reasons as JSON text: the rules that matched or were unknown, the effect of time and limits, and the
//! circumstances that are not recorded anywhere else. There is one text for each decision, so what is nearly always so is left out.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::Verdict;
use crate::policy::decision::RuleResult;
use crate::policy::doubts::{Basis, Doubt, Fact};
use crate::policy::{Charge, Circumstances, ClockHealth, Decision, RuleName, Truth};

/// The `facts` column of a decision. Empty fields are left out.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ReasonsJson {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    voices: Vec<RuleResultRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reconsider_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    for_s: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    charges: Vec<RecordedCharge>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pauses: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notify: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    doubts: Vec<RecordedDoubt>,
    /// Rows of older doormen have a longer word.
    #[serde(rename = "known", alias = "circumstances", default, skip_serializing_if = "Option::is_none")]
    circumstances: Option<CircumstancesRow>,
}

/// Other columns of the decision's row: what the text leaves out is the same as there.
#[derive(Debug, Clone, Copy)]
pub struct DecisionColumns<'a> {
    /// When it was decided.
    pub at: Timestamp,
    /// The decision.
    pub verdict: Verdict,
    /// Who or what gave it, as the column has it: the name of the rule, if it was one.
    pub by: &'a str,
}

/// A rule and a bucket, or the bucket alone, if the rule is the one that decided.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum RecordedCharge {
    Other(String, String),
    Own([String; 1]),
}

/// Something that may have happened unseen.
#[derive(Debug, Serialize, Deserialize)]
struct RecordedDoubt {
    owner: String,
    fact: String,
    basis: String,
    subject: String,
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// What was known apart from the request.
#[derive(Debug, Serialize, Deserialize)]
struct CircumstancesRow {
    /// Microseconds from when the request was first seen until the decision; left out if there were none.
    #[serde(default, skip_serializing_if = "is_zero")]
    waited_us: i64,
    /// Rows of older doormen have this in place of the former.
    #[serde(default, skip_serializing)]
    first_seen: Option<Timestamp>,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    sound_clock: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contacts: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner_is_contact: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender_is_contact: Option<bool>,
}

/// The result of one rule.
#[derive(Debug, Serialize, Deserialize)]
struct RuleResultRow {
    /// Left out if it gave the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// Left out if it is the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    then: Option<Verdict>,
    /// `null` for unknown; left out if it matched.
    #[serde(default = "matched", skip_serializing_if = "is_matched")]
    matched: Option<bool>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shadow: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
}

fn is_zero(it: &i64) -> bool {
    *it == 0
}

fn yes() -> bool {
    true
}

fn is_yes(it: &bool) -> bool {
    *it
}

fn matched() -> Option<bool> {
    Some(true)
}

fn is_matched(it: &Option<bool>) -> bool {
    *it == Some(true)
}

/// The reasons that [`to_json`] wrote, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecisionReasons {
    /// The rules that matched or were unknown.
    pub rule_results: Vec<RuleResult>,
    /// Approved, but not before this.
    pub due: Option<Timestamp>,
    /// When it would have been decided again.
    pub reconsider_at: Option<Timestamp>,
    /// Approved for this long.
    pub lasts: Option<SignedDuration>,
    /// The charges.
    pub charges: Vec<Charge>,
    /// Whether it paused the agent.
    pub pauses: bool,
    /// What may have happened unseen, if that made a rule unknown.
    pub doubts: Vec<Doubt>,
    /// The `overdue` notice that was due.
    pub notify: Option<RuleName>,
    /// What else was known at the decision; `None` if the row does not say.
    pub circumstances: Option<Circumstances>,
}

/// The column's text, beside these.
pub fn to_json(decision: &Decision, circumstances: &Circumstances, columns: DecisionColumns<'_>) -> String {
    let facts = ReasonsJson {
        voices: decision.rule_results.iter().map(|voice| row(voice, columns)).collect(),
        due: decision.due,
        reconsider_at: decision.reconsider_at,
        for_s: decision.lasts.map(|lasts| lasts.as_secs()),
        charges: decision.charges.iter().map(|charge| charge_row(charge, columns.by)).collect(),
        pauses: decision.pauses,
        notify: decision.notify.as_ref().map(|name| name.as_str().to_owned()),
        doubts: decision.doubts.iter().map(doubt_row).collect(),
        circumstances: Some(CircumstancesRow {
            waited_us: columns.at.as_microsecond() - circumstances.first_seen.as_microsecond(),
            first_seen: None,
            sound_clock: circumstances.clock == ClockHealth::Sound,
            contacts: circumstances.contacts,
            owner_is_contact: circumstances.owner_is_contact,
            sender_is_contact: circumstances.sender_is_contact,
        }),
    };
    // Only strings, numbers and booleans, so JSON can represent everything.
    serde_json::to_string(&facts).unwrap_or_else(|_| "{}".to_owned())
}

/// Reads the column. `None` if it is not what [`to_json`] writes.
pub fn from_json(text: &str, columns: DecisionColumns<'_>) -> Option<DecisionReasons> {
    let facts = parsed(text)?;
    let voices = facts.voices.into_iter().map(|row| voice(row, columns)).collect::<Option<_>>()?;
    Some(DecisionReasons {
        rule_results: voices,
        due: facts.due,
        reconsider_at: facts.reconsider_at,
        lasts: facts.for_s.map(SignedDuration::from_secs),
        charges: facts.charges.into_iter().map(|row| charge(row, columns.by)).collect::<Option<_>>()?,
        pauses: facts.pauses,
        doubts: facts.doubts.into_iter().map(doubt).collect::<Option<_>>()?,
        notify: match facts.notify {
            Some(name) => Some(RuleName::parse(&name)?),
            None => None,
        },
        circumstances: match facts.circumstances {
            Some(row) => Some(circumstances(&row, columns.at)?),
            None => None,
        },
    })
}

/// The rules that matched, shadow rules too; none if the column cannot be read. `by` is the row's.
pub fn matched_rules(text: &str, by: &str) -> Vec<RuleName> {
    let voices = parsed(text).unwrap_or_default().voices.into_iter().filter(|voice| is_matched(&voice.matched));
    let names = voices.map(|voice| RuleName::parse(voice.rule.as_deref().unwrap_or(by)));
    names.collect::<Option<_>>().unwrap_or_default()
}

/// The charges; none if the column cannot be read. `by` is the row's.
pub fn charges(text: &str, by: &str) -> Vec<Charge> {
    let rows = parsed(text).unwrap_or_default().charges.into_iter();
    rows.map(|row| charge(row, by)).collect::<Option<_>>().unwrap_or_default()
}

/// What was in doubt; nothing if the column cannot be read.
pub fn doubts(text: &str) -> Vec<Doubt> {
    parsed(text).unwrap_or_default().doubts.into_iter().map(doubt).collect::<Option<_>>().unwrap_or_default()
}

/// How many contacts were known; `None` if the column does not say, or cannot be read.
pub fn known_contacts(text: &str) -> Option<u64> {
    parsed(text)?.circumstances?.contacts
}

fn parsed(text: &str) -> Option<ReasonsJson> {
    serde_json::from_str(text).ok()
}

fn charge_row(charge: &Charge, by: &str) -> RecordedCharge {
    let (rule, bucket) = (charge.rule.as_str(), charge.bucket.to_string());
    if rule == by { RecordedCharge::Own([bucket]) } else { RecordedCharge::Other(rule.to_owned(), bucket) }
}

fn charge(row: RecordedCharge, by: &str) -> Option<Charge> {
    let (rule, bucket) = match &row {
        RecordedCharge::Other(rule, bucket) => (&**rule, bucket),
        RecordedCharge::Own([bucket]) => (by, bucket),
    };
    Some(Charge { rule: RuleName::parse(rule)?, bucket: bucket.as_str().into() })
}

fn circumstances(row: &CircumstancesRow, at: Timestamp) -> Option<Circumstances> {
    let first_seen = match row.first_seen {
        Some(first_seen) => first_seen,
        None => at.checked_sub(SignedDuration::from_micros(row.waited_us)).ok()?,
    };
    Some(Circumstances {
        first_seen,
        clock: if row.sound_clock { ClockHealth::Sound } else { ClockHealth::Unsound },
        contacts: row.contacts,
        owner_is_contact: row.owner_is_contact,
        sender_is_contact: row.sender_is_contact,
    })
}

fn doubt_row(doubt: &Doubt) -> RecordedDoubt {
    RecordedDoubt {
        owner: doubt.owner.to_string(),
        fact: doubt.fact.as_str().to_owned(),
        basis: doubt.basis.as_str().to_owned(),
        subject: doubt.basis.subject().to_owned(),
        since: doubt.since,
        until: doubt.until,
    }
}

fn doubt(row: RecordedDoubt) -> Option<Doubt> {
    Some(Doubt {
        owner: row.owner.into(),
        sender: None,
        fact: Fact::parse(&row.fact)?,
        since: row.since,
        until: row.until,
        basis: Basis::parse(&row.basis, &row.subject)?,
    })
}

fn row(voice: &RuleResult, columns: DecisionColumns<'_>) -> RuleResultRow {
    RuleResultRow {
        rule: (voice.rule.as_str() != columns.by).then(|| voice.rule.as_str().to_owned()),
        then: Some(voice.then).filter(|then| *then != columns.verdict),
        matched: match voice.truth {
            Truth::True => Some(true),
            Truth::False => Some(false),
            Truth::Unknown => None,
        },
        shadow: voice.shadow,
        unknown: voice.unknown.as_deref().map(str::to_owned),
    }
}

fn voice(row: RuleResultRow, columns: DecisionColumns<'_>) -> Option<RuleResult> {
    Some(RuleResult {
        rule: RuleName::parse(row.rule.as_deref().unwrap_or(columns.by))?,
        then: row.then.unwrap_or(columns.verdict),
        truth: match row.matched {
            Some(true) => Truth::True,
            Some(false) => Truth::False,
            None => Truth::Unknown,
        },
        shadow: row.shadow,
        unknown: row.unknown.map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{By, ErrorKind, PolicyHash};

    fn decision() -> Decision {
        let name = RuleName::parse("friends").unwrap();
        let by = By::Rule(name.clone());
        let matched =
            RuleResult { rule: name, then: Verdict::Approve, truth: Truth::True, shadow: false, unknown: None };
        Decision {
            verdict: Verdict::Approve,
            by,
            rule_results: vec![matched],
            ..Decision::error(ErrorKind::Internal, PolicyHash::new("0f"))
        }
    }

    #[test]
    fn what_the_row_says_already_is_left_out_and_read_from_there() {
        let at = Timestamp::from_second(1_000).unwrap();
        let circumstances = Circumstances { contacts: Some(7), ..Circumstances::new(at, ClockHealth::Sound) };
        let mut decision = decision();
        decision.charges = vec![Charge { rule: RuleName::parse("friends").unwrap(), bucket: "ann".into() }];
        let columns = DecisionColumns { at, verdict: Verdict::Approve, by: "friends" };
        let text = to_json(&decision, &circumstances, columns);
        assert_eq!(text, r#"{"voices":[{}],"charges":[["ann"]],"known":{"contacts":7}}"#);
        let read = from_json(&text, columns).unwrap();
        assert_eq!(read.charges, decision.charges);
        assert_eq!((read.rule_results, read.circumstances), (decision.rule_results, Some(circumstances)));
        assert_eq!(charges(&text, "friends"), decision.charges);
        assert_eq!(matched_rules(&text, "friends"), [RuleName::parse("friends").unwrap()]);
    }

    #[test]
    fn what_differs_from_the_row_is_said() {
        let at = Timestamp::from_second(2_000).unwrap();
        let columns = DecisionColumns { at, verdict: Verdict::Defer, by: "unsure" };
        let mut decision = decision();
        (decision.verdict, decision.by) = (Verdict::Defer, By::parse("unsure").unwrap());
        decision.rule_results[0].truth = Truth::Unknown;
        decision.charges = vec![Charge { rule: RuleName::parse("friends").unwrap(), bucket: "ann".into() }];
        // The clock may have been set back meanwhile.
        for seen in [1_000, 3_000] {
            let seen = Timestamp::from_second(seen).unwrap();
            let circumstances = Circumstances::new(seen, ClockHealth::Unsound);
            let read = from_json(&to_json(&decision, &circumstances, columns), columns).unwrap();
            assert_eq!((&read.rule_results, &read.charges), (&decision.rule_results, &decision.charges));
            assert_eq!(read.circumstances, Some(circumstances));
        }
    }

    #[test]
    fn a_text_that_says_everything_is_read_as_before() {
        let text = r#"{"voices":[{"rule":"friends","then":"reject","matched":true},{"rule":"night","then":"approve","matched":null}],
            "charges":[["friends","rule"]],"circumstances":{"first_seen":"1970-01-01T00:00:09Z","sound_clock":false}}"#;
        let columns = DecisionColumns { at: Timestamp::UNIX_EPOCH, verdict: Verdict::Approve, by: "friends" };
        let read = from_json(text, columns).unwrap();
        let truths: Vec<_> = read.rule_results.iter().map(|it| (it.then, it.truth)).collect();
        assert_eq!(truths, [(Verdict::Reject, Truth::True), (Verdict::Approve, Truth::Unknown)]);
        let seen = Timestamp::from_second(9).unwrap();
        assert_eq!(read.circumstances, Some(Circumstances::new(seen, ClockHealth::Unsound)));
        assert_eq!((charges(text, "").len(), matched_rules(text, "").len(), known_contacts(text)), (1, 1, None));
        assert_eq!(from_json("{}", columns).unwrap().circumstances, None, "a row that does not say");
    }
}
