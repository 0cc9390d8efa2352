//! Each table of the file, from its keys to its raw form.

use jiff::civil::Weekday;
use jiff::{SignedDuration, Timestamp};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::conditions::{unless, when};
use super::{
    Named, RawFile, RawList, RawOverdue, RawPolicy, RawProtect, RawRule, RawTest, RawTestHistory, RawWindow, narrow,
};
use crate::document::keys::{KeyType, Section};
use crate::document::{KeyValue, TableReader};
use crate::document::{Problems, WithSpan, shown};
use crate::model::Verdict;
use crate::policy::RuleName;
use crate::policy::decision::Mode;
use crate::policy::keys;
use crate::policy::rules::{Limit, LimitBy, OnBadLine, OverdueThen, Quota};

/// The default time of a test.
const TEST_AT: Timestamp = Timestamp::constant(1_767_614_400, 0);

/// Reads the whole tree of an included file, in which some keys have no place.
pub(crate) fn included(tree: &Spanned<DeTable<'_>>, problems: &mut Problems) -> RawFile {
    let raw = file(tree, problems);
    let own = |table: &DeTable<'_>, key: &str| table.get_key_value(key).map(|(key, _)| key.span());
    let table = tree.get_ref();
    let policy = table.get("policy").and_then(|policy| policy.get_ref().as_table());
    let settings =
        ["mode", "no_match", "approvals_max"].map(|key| policy.and_then(|policy| Some((key, own(policy, key)?))));
    let overdue = own(table, "overdue").map(|span| ("overdue", span));
    for (key, span) in settings.into_iter().flatten().chain(overdue) {
        let span = span.start + problems.offset()..span.end + problems.offset();
        problems
            .error(&span, format!("`{key}` has no place in an included file"))
            .label("only the rules file itself says this")
            .help("put it into the rules file that includes this one");
    }
    for rule in &raw.rules {
        let approving = rule.value.as_ref().filter(|rule| rule.approves());
        let may = approving.and_then(|rule| rule.may.as_ref()).map(|may| &may.span);
        if let Some(span) = may.or(approving.and_then(|rule| rule.then.as_ref()).map(|then| &then.span)) {
            problems
                .error(span, format!("the included rule `{}` approves", shown(&rule.name.value)))
                .label("an included file lets nobody in")
                .help("put this rule into the rules file itself, so that one file shows who gets in");
        }
    }
    raw
}

/// Reads the whole tree.
pub(crate) fn file(tree: &Spanned<DeTable<'_>>, problems: &mut Problems) -> RawFile {
    let begins = problems.offset();
    let reader = TableReader::open(tree.get_ref(), begins..begins, &keys::FILE, "the file", problems);
    if let Some(version) = reader.get("version")
        && version.node.get_ref().as_integer().is_none_or(|number| number.as_str() != "1")
    {
        problems
            .error(&version.span(), "this version of the policy language is not known")
            .label("expected `1`")
            .help("a newer file needs a newer doorman");
    }
    let tests = named(&reader, "tests", "the test", problems, test);
    if let Some(table) = reader.get("tests")
        && table.node.get_ref().as_table().is_some_and(|table| table.is_empty())
    {
        problems.error(&table.span(), "`tests` is empty").help("add a test, or leave `[tests]` out");
    }
    RawFile {
        include: reader.get("include").and_then(|value| value.texts(problems)).unwrap_or_default(),
        policy: reader
            .get("policy")
            .and_then(|value| value.table("`[policy]`", problems))
            .map(|one| policy(&one, problems))
            .unwrap_or_default(),
        lists: named(&reader, "lists", "the list", problems, list),
        windows: named(&reader, "windows", "the window", problems, window),
        rules: named(&reader, "rules", "the rule", problems, rule),
        overdue: named(&reader, "overdue", "the overdue rule", problems, overdue),
        tests,
    }
}

/// The tables by name under a key. Invalid names are refused, and kept so that references to them get no second error.
fn named<T>(
    file: &TableReader<'_, '_>,
    key: &str,
    what: &str,
    problems: &mut Problems,
    read: fn(&TableReader<'_, '_>, &str, &mut Problems) -> Option<T>,
) -> Vec<Named<T>> {
    let Some(value) = file.get(key) else { return Vec::new() };
    let (KeyType::Named(section), DeValue::Table(table)) = (value.key.takes, value.node.get_ref()) else {
        value.wrong_type(problems).help(format!("write `[{key}.NAME]`, a table each"));
        return Vec::new();
    };
    let mut all = Vec::with_capacity(table.len());
    for (name, node) in table {
        let text: &str = name.get_ref();
        let named = value.at(name.span());
        check_name(text, &named, key, problems);
        let what = format!("{what} `{}`", shown(text));
        let read = match node.get_ref() {
            DeValue::Table(inner) => {
                let reader = TableReader::open(inner, value.at(node.span()), section, &what, problems);
                read(&reader, &what, problems)
            }
            other @ (DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)) => {
                no_table(&value.at(node.span()), other.type_str(), section, &what, problems);
                None
            }
        };
        all.push(Named { name: WithSpan { value: text.to_owned(), span: named }, value: read });
    }
    all
}

fn no_table(span: &std::ops::Range<usize>, found: &str, section: &Section, what: &str, problems: &mut Problems) {
    let diagnostic = problems.error(span, format!("{what} is not a table"));
    diagnostic.label(format!("expected a table, found {found}"));
    diagnostic.help(format!("write `[{}]` above its keys", section.path));
}

fn check_name(name: &str, span: &std::ops::Range<usize>, of: &str, problems: &mut Problems) {
    if RuleName::parse(name).is_none() {
        problems
            .error(span, format!("`{}` cannot be a name", shown(name)))
            .label("a name has a-z, 0-9 and `-`, at most 64 of them");
    } else if of == "rules" && matches!(name, "paused" | "error") {
        problems
            .error(span, format!("no rule can be called `{name}`"))
            .label("taken")
            .help("in logs and tests, this word means something else");
    }
}

fn policy(reader: &TableReader<'_, '_>, problems: &mut Problems) -> RawPolicy {
    let mode = reader.get("mode").and_then(|value| value.word(problems));
    let no_match = reader.get("no_match").and_then(|value| match value.node.get_ref().as_str() {
        Some("approve") => {
            problems
                .error(&value.span(), "`no_match` cannot be `approve`")
                .label("expected `\"defer\"` or `\"reject\"`")
                .help("an approval by default is not possible: write a rule that says who is approved");
            None
        }
        _ => value.word(problems),
    });
    RawPolicy {
        mode: mode.and_then(|word| Mode::parse(word.value)).unwrap_or_default(),
        no_match: no_match.and_then(|word| Verdict::parse(word.value)),
        protect: reader.get("protect").and_then(|value| protect(&value, problems)).unwrap_or_default(),
        approvals_max: reader.get("approvals_max").and_then(|value| quota(&value, problems)),
    }
}

fn protect(value: &KeyValue<'_, '_>, problems: &mut Problems) -> Option<RawProtect> {
    let DeValue::Table(_) = value.node.get_ref() else {
        return Some(RawProtect { names: value.texts(problems)?, ..RawProtect::default() });
    };
    let reader = value.table("`protect`", problems)?;
    let names = reader.get("names").and_then(|value| value.texts(problems));
    let also = match reader.get("also") {
        Some(also) => also.words(problems)?,
        None => Vec::new(),
    };
    Some(RawProtect { names: names?, prefixes: also.contains(&"prefix"), suffixes: also.contains(&"suffix") })
}

fn quota(value: &KeyValue<'_, '_>, problems: &mut Problems) -> Option<Quota> {
    let reader = value.table(&format!("`{}`", value.key.name), problems)?;
    let count = reader.get("count").and_then(|value| value.count(problems));
    let per = reader.get("per").and_then(|value| value.duration(problems));
    Some(Quota { count: narrow(count?.value), per: per?.value })
}

fn list(reader: &TableReader<'_, '_>, what: &str, problems: &mut Problems) -> Option<RawList> {
    let before = problems.errors();
    let entries = reader.get("entries");
    let file = reader.get("file");
    if entries.is_none() && file.is_none() {
        problems
            .error(&reader.span, format!("{what} has neither `entries` nor `file`"))
            .label("expected at least one of them");
    }
    let allow_empty = reader.get("allow_empty").and_then(|value| value.boolean(problems)).is_some_and(|one| one.value);
    let max_shrink = reader.get("max_shrink").and_then(|value| value.count(problems));
    let max_shrink = max_shrink.and_then(|at| u8::try_from(at.value).ok());
    let on_bad_line = reader.get("on_bad_line").and_then(|value| value.word(problems));
    if let (Some(word), None) = (&on_bad_line, &file) {
        problems
            .error(&word.span, "`on_bad_line` is for a list with a `file`")
            .label("this list has none")
            .help("remove it: it would do nothing");
    }
    let skip_bad_lines =
        on_bad_line.filter(|word| OnBadLine::parse(word.value) == OnBadLine::Skip).map(|word| word.span);
    // An array without entries is an empty list, which has a message of its own.
    let bare = entries.is_some_and(|value| value.node.get_ref().as_array().is_some_and(|array| array.is_empty()));
    let file = file.and_then(|value| value.text(problems));
    if let Some(file) = &file
        && (file.value.is_empty() || file.value.contains('\0'))
    {
        problems.error(&file.span, "`file` is not a path");
    }
    let entries = entries.filter(|_| !bare).and_then(|value| value.texts(problems)).unwrap_or_default();
    // A list that is only partly made out would look shrunk or empty.
    (problems.errors() == before).then(|| RawList {
        span: reader.span.clone(),
        entries,
        file,
        allow_empty,
        max_shrink,
        skip_bad_lines,
    })
}

fn window(reader: &TableReader<'_, '_>, _what: &str, problems: &mut Problems) -> Option<RawWindow> {
    let tz = reader.get("tz").and_then(|value| value.text(problems));
    let days = reader.get("days").map(|value| value.words(problems));
    let from = reader.get("from").map(|value| value.time(false, problems));
    let to = reader.get("to").map(|value| value.time(true, problems));
    if let (Some(Some(from)), Some(Some(to))) = (&from, &to)
        && from.value == to.value
        && to.value != jiff::civil::Time::midnight()
    {
        problems
            .error(&to.span, "`from` and `to` are the same")
            .label("an empty window, or a whole day?")
            .help("for whole days, leave both out");
    }
    // All wrong dates of a window are reported at once: one that is not a string hides none of the others.
    let dates = |key: &str, problems: &mut Problems| match reader.get(key) {
        None => Vec::new(),
        Some(value) => value.texts_among(problems),
    };
    let (except, only) = (dates("except", problems), dates("only", problems));
    let except_file = reader.get("except_file").and_then(|value| value.text(problems));
    let dated = ["except", "except_file", "only"].iter().any(|key| reader.get(key).is_some());
    if let (None, None, None, false) = (&days, &from, &to, dated) {
        problems
            .error(&reader.span, "a window that is always open")
            .label("no `days`, no `from`, no `to`")
            .help("say when it is open, or leave the window out");
    }
    let midnight = |time: Option<Option<WithSpan<jiff::civil::Time>>>| match time {
        None => Some(jiff::civil::Time::midnight()),
        Some(time) => time.map(|time| time.value),
    };
    let days = match days {
        None => keys::DAYS.iter().filter_map(|day| weekday(day)).collect(),
        Some(days) => {
            let mut days: Vec<Weekday> = days?.into_iter().filter_map(weekday).collect();
            days.sort_unstable_by_key(|day| day.to_monday_zero_offset());
            days.dedup();
            days
        }
    };
    Some(RawWindow { tz: tz?, days, from: midnight(from)?, to: midnight(to)?, except, except_file, only })
}

fn weekday(word: &str) -> Option<Weekday> {
    match word {
        "mon" => Some(Weekday::Monday),
        "tue" => Some(Weekday::Tuesday),
        "wed" => Some(Weekday::Wednesday),
        "thu" => Some(Weekday::Thursday),
        "fri" => Some(Weekday::Friday),
        "sat" => Some(Weekday::Saturday),
        "sun" => Some(Weekday::Sunday),
        _ => None,
    }
}

fn rule(reader: &TableReader<'_, '_>, what: &str, problems: &mut Problems) -> Option<RawRule> {
    Some(RawRule {
        then: reader.get("then").and_then(|value| verdict(&value, problems)),
        when: reader.get("when").and_then(|value| when(&value, what, problems)),
        unless: unless(reader, what, problems),
        limited: reader.get("limit").is_some(),
        limit: reader.get("limit").and_then(|value| limit(&value, problems)),
        wait: reader.get("wait").and_then(|value| value.duration(problems)),
        lasts: reader.get("for").and_then(|value| value.duration(problems)),
        until: reader.get("until").and_then(|value| value.date_or_moment(problems)),
        shadow: reader.get("shadow").and_then(|value| value.boolean(problems)),
        everyone: reader.get("dangerously_approve_everyone").and_then(|value| value.boolean(problems)),
        ask: reader.get("ask").and_then(|value| value.text(problems)),
        may: reader.get("may").and_then(|value| Some(WithSpan { value: value.words(problems)?, span: value.span() })),
    })
}

fn verdict(value: &KeyValue<'_, '_>, problems: &mut Problems) -> Option<WithSpan<Verdict>> {
    let word = value.word(problems)?;
    Some(WithSpan { value: Verdict::parse(word.value)?, span: word.span })
}

fn limit(value: &KeyValue<'_, '_>, problems: &mut Problems) -> Option<WithSpan<Limit>> {
    let reader = value.table("`limit`", problems)?;
    let count = reader.get("count").and_then(|value| value.count(problems));
    let per = reader.get("per").and_then(|value| value.duration(problems));
    let by = match reader.get("by") {
        None => LimitBy::Owner,
        Some(value) => LimitBy::parse(value.word(problems)?.value)?,
    };
    let then = match reader.get("then") {
        None => Verdict::Defer,
        Some(value) => Verdict::parse(value.word(problems)?.value)?,
    };
    let quota = Quota { count: narrow(count?.value), per: per?.value };
    Some(WithSpan { value: Limit { quota, by, then }, span: value.span() })
}

fn overdue(reader: &TableReader<'_, '_>, what: &str, problems: &mut Problems) -> Option<RawOverdue> {
    let after = reader.get("after").and_then(|value| value.duration(problems));
    let then = reader.get("then").and_then(|value| match value.node.get_ref().as_str() {
        Some("approve") => {
            problems
                .error(&value.span(), "`overdue` never approves")
                .label("expected `\"notify\"` or `\"reject\"`")
                .help("waiting approves nobody: write a rule that says who is approved");
            None
        }
        _ => value.word(problems),
    });
    let unless = unless(reader, what, problems);
    let max_per_hour = reader.get("max_per_hour").and_then(|value| value.count(problems));
    let then = then.and_then(|word| OverdueThen::parse(word.value));
    let max_per_hour = max_per_hour.map(|most| WithSpan { value: narrow(most.value), span: most.span });
    Some(RawOverdue { after: after.map(|after| after.value), then, unless, max_per_hour })
}

fn test(reader: &TableReader<'_, '_>, _what: &str, problems: &mut Problems) -> Option<RawTest> {
    let at = reader.get("at").map(|value| value.moment(problems));
    let history = reader.get("history").and_then(|value| value.tables("this history", problems)).unwrap_or_default();
    let history: Vec<_> = history.iter().map(|one| test_history(one, problems)).collect();
    let replies = match reader.get("replies") {
        None => Vec::new(),
        Some(value) => value.named_words(problems)?,
    };
    let request = reader.get("request").and_then(|value| value.table("the `request`", problems));
    let expected = reader.get("expect").and_then(|value| Some((value.span(), value.table("`expect`", problems)?)));
    let text = |key: &str, problems: &mut Problems| {
        request
            .as_ref()
            .and_then(|reader| reader.get(key))
            .and_then(|value| value.text(problems))
            .map(|text| text.value)
    };
    let (from_handle, from_name, message) =
        (text("from_handle", problems), text("from_name", problems), text("message", problems));
    let ago = request.as_ref().and_then(|reader| reader.get("ago")).and_then(|value| value.duration_or_zero(problems));
    let agent = request.as_ref().and_then(|reader| reader.get("agent")).and_then(|value| value.text(problems));
    let contacts = request.as_ref().and_then(|reader| reader.get("contacts")).and_then(|value| value.count(problems));
    let contact = request.as_ref().and_then(|reader| reader.get("contact")).and_then(|value| value.word(problems));
    let contact = contact.map(|word| (word.value != "none", word.value == "self"));
    let (span, expect) = expected?;
    let verdict = expect.get("verdict").and_then(|value| verdict(&value, problems));
    let by = expect.get("by").and_then(|value| value.text(problems));
    let lasts = expect.get("for").and_then(|value| value.duration(problems));
    Some(RawTest {
        at: at.flatten().map_or(TEST_AT, |at| at.value),
        history: history.into_iter().flatten().collect(),
        from_handle,
        from_name,
        message,
        ago: ago.map_or(SignedDuration::ZERO, |ago| ago.value),
        replies: replies.into_iter().filter_map(|(name, word)| Some((name, Verdict::parse(word)?))).collect(),
        agent,
        contacts: contacts.map(|count| count.value),
        contact,
        expect: span,
        verdict: verdict.map(|verdict| verdict.value),
        by,
        lasts,
    })
}

fn test_history(reader: &TableReader<'_, '_>, problems: &mut Problems) -> Option<RawTestHistory> {
    let from_handle = reader.get("from_handle").and_then(|value| value.text(problems));
    let verdict = reader.get("verdict").and_then(|value| verdict(&value, problems));
    let by = reader.get("by").and_then(|value| value.text(problems));
    let times = reader.get("times").map(|value| value.count(problems));
    let ago = reader.get("ago").and_then(|value| value.duration(problems));
    let lasts = reader.get("for").and_then(|value| value.duration(problems));
    let removed = reader.get("removed").and_then(|value| value.boolean(problems)).is_some_and(|one| one.value);
    Some(RawTestHistory {
        span: reader.span.clone(),
        from_handle: from_handle?.value,
        verdict: verdict?,
        by,
        times: times.flatten().map_or(1, |times| narrow(times.value)),
        ago: ago?.value,
        lasts,
        removed,
    })
}
