//! Every table and key of a rules file: its type, its default, its meaning. This is the only place for them: the reader
//! refuses keys by it, the JSON Schema is made from it, and a test compares `docs/rules-reference.md` with it.

use super::ask::Ask;
use super::conditions::{self, OverQuota};
use super::decision::Mode;
use super::rules::{LimitBy, OnBadLine, OverdueThen};
use crate::document::keys::{KeyType, Section, key, required};

pub(crate) use super::conditions::HISTORY;

/// Largest count of anything.
pub(crate) const COUNT_MAX: u64 = 1_000_000;
/// The words of `then` in a rule, and of `verdict`.
pub(crate) const VERDICTS: &[&str] = &["approve", "reject", "defer"];
/// The words of `contact` in a test's `request`.
pub(crate) const TEST_CONTACT: &[&str] = &["self", "owner", "none"];
/// The days of a window, Monday first.
pub(crate) const DAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The whole file.
pub static FILE: Section = Section {
    path: "",
    meaning: "A doorman rules file.",
    keys: &[
        required("version", KeyType::Version, "The version of the policy language."),
        key(
            "include",
            KeyType::TextList,
            "none",
            "More rules files, read as part of this one: lists, windows, `protect`, rules that reject or defer, and tests; relative to the file that names them.",
        ),
        key("policy", KeyType::Table(&POLICY), "all defaults", "Settings of the file as a whole."),
        key("lists", KeyType::Named(&LIST), "none", "Lists of handle patterns, which rules name."),
        key("windows", KeyType::Named(&WINDOW), "none", "Hours of the week, which rules name."),
        key("rules", KeyType::Named(&RULE), "none", "The rules; their order never matters."),
        key("overdue", KeyType::Named(&OVERDUE), "none", "What happens to requests that stay pending."),
        key(
            "tests",
            KeyType::Named(&TEST),
            "none",
            "What the rules must decide about these requests; a file with a failing test is refused.",
        ),
    ],
    elsewhere: &[(&POLICY, "it belongs in `[policy]`")],
    ..Section::PLAIN
};

/// `[policy]`.
pub(crate) static POLICY: Section = Section {
    path: "policy",
    meaning: "Settings of the file as a whole.",
    keys: &[
        key(
            "mode",
            KeyType::Word(Mode::WORDS),
            "`\"enforce\"`",
            "`\"shadow\"` decides and records, and answers nothing.",
        ),
        key("no_match", KeyType::Word(&["defer", "reject"]), "`\"defer\"`", "The verdict if no rule matches."),
        key(
            "protect",
            KeyType::TextsOrTable(&PROTECT),
            "nobody",
            "Owners that strangers may try to look like: look-alikes are never approved.",
        ),
        key(
            "approvals_max",
            KeyType::Table(&QUOTA),
            "none",
            "More approvals by rules than this pause the agent until `doorman resume`.",
        ),
    ],
    ..Section::PLAIN
};

/// `protect = { … }`.
pub(crate) static PROTECT: Section = Section {
    path: "policy.protect",
    meaning: "Owners that strangers may try to look like, and how far the guard goes.",
    keys: &[
        required("names", KeyType::Texts, "The owners."),
        key(
            "also",
            KeyType::Words(&["prefix", "suffix"]),
            "none",
            "Also guards against names that begin or end like one of them; not for owners under four characters.",
        ),
    ],
    ..Section::PLAIN
};

/// `{ count, per }`.
pub static QUOTA: Section = Section {
    path: "{ count, per }",
    meaning: "A number of things in a sliding window of time.",
    keys: &[
        required("count", KeyType::Count(1, COUNT_MAX), "How many."),
        required("per", KeyType::Duration, "The length of the window."),
    ],
    ..Section::PLAIN
};

/// `{ count, per, by }`.
pub(crate) static COUNTED: Section = Section {
    path: "{ count, per, by }",
    meaning: "A number of things that happened to an owner in a sliding window of time.",
    keys: &[
        required("count", KeyType::Count(1, COUNT_MAX), "How many."),
        required("per", KeyType::Duration, "The length of the window."),
        key(
            "by",
            KeyType::Word(OverQuota::WORDS),
            "`\"owner\"`",
            "Of all of the owner's handles, or of the sender's alone.",
        ),
    ],
    ..Section::PLAIN
};

/// `[lists.NAME]`.
pub(crate) static LIST: Section = Section {
    path: "lists.NAME",
    meaning: "Handle patterns under one name: entries and a file together.",
    keys: &[
        key("entries", KeyType::TextList, "none", "Handle patterns."),
        key(
            "file",
            KeyType::Text,
            "none",
            "A file with one handle pattern a line and `#` comments; relative to the rules file.",
        ),
        key(
            "allow_empty",
            KeyType::Bool,
            "`false`",
            "Allows an empty list, which is otherwise refused as an accident.",
        ),
        key(
            "max_shrink",
            KeyType::Count(0, 100),
            "`10` if the list rejects or stands in `unless`, else `50`",
            "The share of its entries, in percent, that may be missing from a new version without `--accept-shrunk`.",
        ),
        key(
            "on_bad_line",
            KeyType::Word(OnBadLine::WORDS),
            "`\"refuse\"`",
            "What happens to a line of the file that is not a handle pattern: `refuse` refuses the whole file, `skip` leaves the line out with a warning. `skip` is allowed only for a list that is used nowhere but in `when` of approve rules, and it never skips a last line without a line end.",
        ),
    ],
    ..Section::PLAIN
};

/// `[windows.NAME]`.
pub(crate) static WINDOW: Section = Section {
    path: "windows.NAME",
    meaning: "Hours of the week.",
    keys: &[
        required("tz", KeyType::Text, "The time zone, such as `\"Europe/Paris\"`."),
        key("days", KeyType::Words(DAYS), "every day", "The days on which it starts."),
        key("from", KeyType::TimeOfDay, "`\"00:00\"`", "Its first minute."),
        key("to", KeyType::TimeOfDay, "`\"24:00\"`", "Its end, exclusive; before `from`, it is on the next day."),
        key("except", KeyType::TextList, "none", "Dates on which it does not start, such as holidays."),
        key(
            "except_file",
            KeyType::Text,
            "none",
            "A file of such dates: one on each line with `#` comments, or a calendar (`.ics`); relative to the rules file.",
        ),
        key("only", KeyType::TextList, "every date", "The only dates on which it starts."),
    ],
    ..Section::PLAIN
};

/// `[rules.NAME]`.
pub(crate) static RULE: Section = Section {
    path: "rules.NAME",
    meaning: "One rule.",
    keys: &[
        required(
            "then",
            KeyType::Word(VERDICTS),
            "The verdict on the requests that it matches; reject beats defer, defer beats approve.",
        ),
        required(
            "when",
            KeyType::WordOrConditions("everyone", &WHEN),
            "The requests that it matches: conditions that must all hold, or `\"everyone\"`.",
        ),
        key("unless", KeyType::Tables(&WHEN), "none", "Tables of conditions, any of which switches the rule off."),
        key("limit", KeyType::Table(&LIMIT), "none", "Approvals only: over it, the rule defers, or rejects."),
        key("wait", KeyType::Duration, "none", "Approvals only: how long to wait after the request was first seen."),
        key(
            "for",
            KeyType::Duration,
            "without end",
            "Approvals only, also those of a decider: how long the contact stays before doorman removes it; at least `1m`.",
        ),
        key(
            "until",
            KeyType::DateOrMoment,
            "none",
            "The last day of the rule, in UTC, or the moment at which it ends.",
        ),
        key(
            "ask",
            KeyType::Text,
            "nobody",
            "Rules that defer only: the decider of `doorman.toml` that is asked about what this rule alone keeps waiting.",
        ),
        key(
            "may",
            KeyType::Words(Ask::MAY),
            "nothing: its reply is shown",
            "What the decider's reply may do. `\"approve\"` needs what an approve rule needs, and a `limit`.",
        ),
        key("shadow", KeyType::Bool, "`false`", "Records what the rule would have done, and changes nothing."),
        key(
            "dangerously_approve_everyone",
            KeyType::Bool,
            "`false`",
            "Allows an approve rule that does not say who is approved; needs a `limit`.",
        ),
    ],
    elsewhere: &[(&WHEN, "it is a condition: write `when = { {} = … }`")],
    ..Section::PLAIN
};

/// `limit = { … }`.
pub static LIMIT: Section = Section {
    path: "rules.NAME.limit",
    meaning: "The most approvals in a sliding window of time.",
    keys: &[
        required("count", KeyType::Count(1, COUNT_MAX), "How many."),
        required("per", KeyType::Duration, "The length of the window."),
        key(
            "by",
            KeyType::Word(LimitBy::WORDS),
            "`\"owner\"`",
            "Counted for each owner, for each handle, or for the rule as a whole.",
        ),
        key(
            "then",
            KeyType::Word(&["defer", "reject"]),
            "`\"defer\"`",
            "The verdict over the limit. `\"reject\"` only if the count is certain; `\"defer\"` otherwise.",
        ),
    ],
    ..Section::PLAIN
};

/// A table of conditions. Each key is described where its condition is: in [`super::conditions`].
pub(crate) static WHEN: Section = Section {
    path: "rules.NAME.when",
    meaning: "Conditions that must all hold; of the values of one key, any.",
    keys: conditions::KEYS,
    elsewhere: &[(&RULE, "it belongs to the rule, beside `when`")],
    at_least_one: true,
    secrets: "",
};

/// `[overdue.NAME]`.
pub(crate) static OVERDUE: Section = Section {
    path: "overdue.NAME",
    meaning: "What happens to requests that stay pending.",
    keys: &[
        required("after", KeyType::Duration, "This long after the request came or was first seen, whichever is later."),
        required(
            "then",
            KeyType::Word(OverdueThen::WORDS),
            "`\"notify\"` writes it to the log and the ledger; `\"reject\"` rejects it.",
        ),
        key("unless", KeyType::Tables(&WHEN), "none", "Tables of conditions, any of which exempts a request."),
        key("max_per_hour", KeyType::Count(1, COUNT_MAX), "`20`", "Rejections only: at most this many an hour."),
    ],
    ..Section::PLAIN
};

/// `[tests.NAME]`.
pub(crate) static TEST: Section = Section {
    path: "tests.NAME",
    meaning: "What the rules must decide about one request.",
    keys: &[
        key("at", KeyType::Moment, "Monday `2026-01-05T12:00:00Z`", "The time of the test."),
        key("history", KeyType::Tables(&TEST_HISTORY), "none", "What happened before."),
        key("replies", KeyType::NamedWords(VERDICTS), "nothing", "What deciders say about the request, by name."),
        required("request", KeyType::Table(&TEST_REQUEST), "The request."),
        required("expect", KeyType::Table(&TEST_EXPECT), "What the rules must decide."),
    ],
    elsewhere: &[
        (&TEST_REQUEST, "it belongs to the request: write `request = { {} = … }`"),
        (&TEST_EXPECT, "write `expect = { {} = … }`"),
    ],
    ..Section::PLAIN
};

/// One entry of a test's `history`.
pub(crate) static TEST_HISTORY: Section = Section {
    path: "tests.NAME.history",
    meaning: "An earlier request, and what became of it.",
    keys: &[
        required("from_handle", KeyType::Text, "The sender of the earlier request."),
        required("verdict", KeyType::Word(VERDICTS), "The answer; `\"defer\"`: the request stayed pending."),
        key("by", KeyType::Text, "a person", "The rule that gave it; its `limit` counts it."),
        key("times", KeyType::Count(1, 10_000), "`1`", "How many such requests."),
        required("ago", KeyType::Duration, "How long before the test's moment."),
        key("for", KeyType::Duration, "that of the rule", "Approvals only: how long the contact was to stay."),
        key("removed", KeyType::Bool, "`false`", "Whether the contact was removed again at the same time."),
    ],
    ..Section::PLAIN
};

/// A test's `request`.
pub(crate) static TEST_REQUEST: Section = Section {
    path: "tests.NAME.request",
    meaning: "A request.",
    keys: &[
        key("from_handle", KeyType::Text, "absent", "The sender, as the platform writes it."),
        key("from_name", KeyType::Text, "absent", "The name of the sender."),
        key("message", KeyType::Text, "absent", "The message."),
        key("ago", KeyType::Duration, "`\"0s\"`", "How long before the test's moment it was sent and first seen."),
        key(
            "agent",
            KeyType::Text,
            "unknown",
            "Which agent receives the request: a word that `agents` of a rule may name.",
        ),
        key("contacts", KeyType::Count(0, COUNT_MAX), "unknown", "How many contacts the agent has."),
        key(
            "contact",
            KeyType::Word(TEST_CONTACT),
            "unknown",
            "Who is a contact: the sender, somebody of the sender's owner, or neither.",
        ),
    ],
    elsewhere: &[(&TEST, "it belongs to the test, beside `request`")],
    ..Section::PLAIN
};

/// A test's `expect`.
pub(crate) static TEST_EXPECT: Section = Section {
    path: "tests.NAME.expect",
    meaning: "What the rules must decide.",
    keys: &[
        required("verdict", KeyType::Word(VERDICTS), "The verdict."),
        key(
            "by",
            KeyType::Text,
            "anything",
            "What gives the verdict: a rule, `guard:NAME`, `limit:RULE`, `ask:RULE`, `overdue:NAME`, `no_match` or `paused`.",
        ),
        key("for", KeyType::Duration, "anything", "Approvals only: how long the contact stays."),
    ],
    elsewhere: &[(&TEST, "it belongs to the test, beside `expect`")],
    ..Section::PLAIN
};

/// All tables, in the order in which people should read about them.
pub static SECTIONS: &[&Section] = &[
    &FILE,
    &POLICY,
    &PROTECT,
    &QUOTA,
    &COUNTED,
    &LIST,
    &WINDOW,
    &RULE,
    &LIMIT,
    &WHEN,
    &HISTORY,
    &OVERDUE,
    &TEST,
    &TEST_HISTORY,
    &TEST_REQUEST,
    &TEST_EXPECT,
];

/// The JSON Schema of a rules file.
pub fn schema() -> serde_json::Value {
    crate::document::schema::schema("doorman rules", &FILE, &SECTIONS[1..])
}
