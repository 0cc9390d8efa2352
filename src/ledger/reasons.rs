//! A decision's reasons as JSON text: the rules that matched or were unknown, the effect of time and limits, and the
//! circumstances that are not recorded anywhere else.

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
    charges: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pauses: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notify: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    doubts: Vec<RecordedDoubt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    circumstances: Option<CircumstancesRow>,
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
    first_seen: Timestamp,
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
    rule: String,
    then: Verdict,
    /// `true`, or `null` for unknown.
    matched: Option<bool>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shadow: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
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

/// The column's text.
pub fn to_json(decision: &Decision, circumstances: &Circumstances) -> String {
    let facts = ReasonsJson {
        voices: decision.rule_results.iter().map(row).collect(),
        due: decision.due,
        reconsider_at: decision.reconsider_at,
        for_s: decision.lasts.map(|lasts| lasts.as_secs()),
        charges: decision
            .charges
            .iter()
            .map(|charge| (charge.rule.as_str().to_owned(), charge.bucket.to_string()))
            .collect(),
        pauses: decision.pauses,
        notify: decision.notify.as_ref().map(|name| name.as_str().to_owned()),
        doubts: decision.doubts.iter().map(doubt_row).collect(),
        circumstances: Some(CircumstancesRow {
            first_seen: circumstances.first_seen,
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
pub fn from_json(text: &str) -> Option<DecisionReasons> {
    let facts: ReasonsJson = serde_json::from_str(text).ok()?;
    let voices = facts.voices.into_iter().map(voice).collect::<Option<_>>()?;
    let charges = facts
        .charges
        .into_iter()
        .map(|(rule, bucket)| Some(Charge { rule: RuleName::parse(&rule)?, bucket: bucket.into() }));
    Some(DecisionReasons {
        rule_results: voices,
        due: facts.due,
        reconsider_at: facts.reconsider_at,
        lasts: facts.for_s.map(SignedDuration::from_secs),
        charges: charges.collect::<Option<_>>()?,
        pauses: facts.pauses,
        doubts: facts.doubts.into_iter().map(doubt).collect::<Option<_>>()?,
        notify: match facts.notify {
            Some(name) => Some(RuleName::parse(&name)?),
            None => None,
        },
        circumstances: facts.circumstances.map(|row| Circumstances {
            first_seen: row.first_seen,
            clock: if row.sound_clock { ClockHealth::Sound } else { ClockHealth::Unsound },
            contacts: row.contacts,
            owner_is_contact: row.owner_is_contact,
            sender_is_contact: row.sender_is_contact,
        }),
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

fn row(voice: &RuleResult) -> RuleResultRow {
    RuleResultRow {
        rule: voice.rule.as_str().to_owned(),
        then: voice.then,
        matched: match voice.truth {
            Truth::True => Some(true),
            Truth::False => Some(false),
            Truth::Unknown => None,
        },
        shadow: voice.shadow,
        unknown: voice.unknown.as_deref().map(str::to_owned),
    }
}

fn voice(row: RuleResultRow) -> Option<RuleResult> {
    Some(RuleResult {
        rule: RuleName::parse(&row.rule)?,
        then: row.then,
        truth: match row.matched {
            Some(true) => Truth::True,
            Some(false) => Truth::False,
            None => Truth::Unknown,
        },
        shadow: row.shadow,
        unknown: row.unknown.map(Into::into),
    })
}
