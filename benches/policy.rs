//! The cost of one decision, with the index and with every rule evaluated, as rules and lists grow; and of inputs that
//! try to make it explode.
//!
//! `cargo bench --bench policy`; each group's name says what varies. `docs/benchmarks.md` has the results.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use doorman::model::{ContactRequest, Handle, RequestId, Sender, StrangerText, Verdict};
use doorman::policy::conditions::*;
use doorman::policy::index::Index;
use doorman::policy::rules::{
    Condition, Folded, HandleGlob, HandleSet, Limit, LimitBy, List, PatternSet, Quota, RegexPattern, Rule, Table, When,
};
use doorman::policy::state::SavedState;
use doorman::policy::{Circumstances, ClockHealth, Mode, Policy, PolicyHash, PolicyState, RuleName};
use jiff::{SignedDuration, Timestamp};

const MESSAGE: &str = "Hello, I am a weather agent and would like to tell your agent about tomorrow. ";

fn handle(text: &str) -> Handle {
    Handle::parse(text).expect("a plain handle")
}

fn handles(texts: impl IntoIterator<Item = String>) -> HandleSet {
    let mut set = HandleSet::default();
    for text in texts {
        set.insert(handle(&text).view()).expect("room for it");
    }
    set
}

/// A list with handles that no other list has.
fn list(name: &str, count: usize) -> Arc<List> {
    let literals = handles((0..count).map(|at| format!("{name}-{at}/bot")));
    let patterns = PatternSet { literals, ..PatternSet::default() };
    Arc::new(List { name: RuleName::parse(name).expect("a name"), patterns, len: count })
}

fn glob(owner: &str) -> PatternSet {
    let text = format!("{owner}/*-bot");
    let glob = globset::GlobBuilder::new(&text).literal_separator(true).build().expect("a glob");
    let glob = HandleGlob { text: text.into(), literal_owner: Some(owner.into()), matcher: glob.compile_matcher() };
    PatternSet { globs: vec![glob], ..PatternSet::default() }
}

fn regex(text: &str) -> Vec<RegexPattern> {
    vec![RegexPattern::new(text, regex::Regex::new(text).expect("a pattern"), true)]
}

fn literal(text: &str) -> Vec<Folded> {
    vec![Folded::new(text, true)]
}

fn rule(at: usize, condition: impl Into<Condition>) -> Rule {
    let approve = at.is_multiple_of(2);
    let quota = Quota { count: 5, per: SignedDuration::from_hours(1) };
    Rule {
        name: RuleName::parse(&format!("rule-{at:05}")).expect("a name"),
        then: if approve { Verdict::Approve } else { Verdict::Defer },
        when: When::Table(Table { conditions: vec![condition.into()] }),
        unless: Vec::new(),
        limit: approve.then_some(Limit { quota, by: LimitBy::Owner, then: Verdict::Defer }),
        wait: None,
        lasts: None,
        until: None,
        until_day: None,
        shadow: false,
        ask: None,
    }
}

fn policy(rules: Vec<Rule>) -> Policy {
    let protect = doorman::policy::lookalike::Protect::from(&["john", "acme", "weather-service"][..]);
    Policy {
        head: None,
        hash: PolicyHash::new(&"0".repeat(64)),
        path: "rules.toml".into(),
        texts: Vec::new(),
        mode: Mode::Enforce,
        no_match: Verdict::Defer,
        approvals_max: None,
        overdue: Vec::new(),
        tests: Vec::new(),
        steps: 0,
        index: Index::build(&rules, &protect),
        rules,
        protect,
    }
}

/// Rules with handles, owners, globs and patterns that identify the sender.
fn identity_rules(count: usize) -> Vec<Rule> {
    let condition = |at: usize| {
        let owner = format!("owner{at}");
        match at % 4 {
            0 => Condition::from(OwnerIs(vec![owner.as_str().into()])),
            1 => Condition::from(HandleIn(PatternSet {
                literals: handles([format!("{owner}/bot")]),
                ..PatternSet::default()
            })),
            2 => Condition::from(HandleIn(glob(&owner))),
            _ => Condition::from(SlugIs(vec![format!("slug{at}").as_str().into()])),
        }
    };
    (0..count).map(|at| rule(at, condition(at))).collect()
}

/// A thousand rules of every family, ten of them over lists of `listed` handles each.
fn mixed_rules(listed: usize) -> Vec<Rule> {
    let lists: Vec<_> = (0..10).map(|at| list(&format!("list-{at}"), listed / 10)).collect();
    let mut rules = identity_rules(900);
    let more = (900..1_000).map(|at| {
        let condition = match at % 10 {
            0..=3 => Condition::from(InList(vec![Arc::clone(&lists[at % lists.len()])])),
            4 => Condition::from(HandleRegex(regex(&format!(r"\A(?:team{at}-[a-z]+/.*)\z")))),
            5 => Condition::from(NameIs(literal(&format!("somebody {at}")))),
            6 => Condition::from(NameRegex(regex(&format!(r"(?i)^spam{at}")))),
            7 => Condition::from(MessageContains(literal(&format!("invite code {at}")))),
            8 => Condition::from(MessageRegex(regex(&format!(r"(?i)(buy|sell) item{at}")))),
            _ => Condition::from(MessageContains(literal(&format!("word{at}")))),
        };
        rule(at, condition)
    });
    rules.extend(more);
    rules
}

fn stranger(from: &str, message: &str) -> ContactRequest {
    ContactRequest {
        id: RequestId::parse("5f0c8f3e-0000-4000-8000-000000000000").expect("an id"),
        sender: Sender::parse(Some(from)),
        name: Some(StrangerText::new("Weather Agent")),
        message: Some(StrangerText::new(message)),
        inserted_at: Some(Timestamp::UNIX_EPOCH),
        ids: None,
    }
}

fn measure(criterion: &mut Criterion, group: &str, cases: &[(String, Policy, ContactRequest)], naive: bool) {
    let policy_state = PolicyState::restore(SavedState { history_complete: true, ..SavedState::default() });
    let circumstances =
        Circumstances { contacts: Some(3), ..Circumstances::new(Timestamp::UNIX_EPOCH, ClockHealth::Sound) };
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    let mut group = criterion.benchmark_group(group);
    for (name, policy, request) in cases {
        group.bench_function(BenchmarkId::new("indexed", name), |bencher| {
            bencher.iter(|| black_box(policy.decide(black_box(request), &circumstances, &policy_state, now)));
        });
        if naive {
            group.bench_function(BenchmarkId::new("naive", name), |bencher| {
                bencher.iter(|| black_box(policy.decide_naive(black_box(request), &circumstances, &policy_state, now)));
            });
        }
    }
    group.finish();
}

fn deciding(criterion: &mut Criterion) {
    let message = MESSAGE;
    let cases: Vec<_> = [100, 10_000, 100_000]
        .into_iter()
        .flat_map(|listed| {
            let case = |who: &str, from: &str| {
                (format!("{who}, {listed} listed"), policy(mixed_rules(listed)), stranger(from, message))
            };
            [case("a stranger", "mallory/weather-agent"), case("somebody listed", "list-5-5/bot")]
        })
        .collect();
    measure(criterion, "a thousand rules, by size of the lists", &cases, true);

    let cases: Vec<_> = [100, 1_000, 10_000]
        .into_iter()
        .flat_map(|count| {
            let case = |who: &str, from: &str| {
                (format!("{who}, {count} rules"), policy(identity_rules(count)), stranger(from, message))
            };
            [case("a stranger", "mallory/weather-agent"), case("a match", "owner6/x-bot")]
        })
        .collect();
    measure(criterion, "identity rules, by their number", &cases, true);
}

fn blowing_up(criterion: &mut Criterion) {
    let long = MESSAGE.repeat(7).chars().take(500).collect::<String>();
    let wide = long.replace('e', "é");
    let texts = |count: usize| {
        let condition = |at: usize| match at % 3 {
            0 => Condition::from(MessageContains(literal(&format!("phrase number {at}")))),
            1 => Condition::from(MessageRegex(regex(&format!(r"(?i)\bword{at}\b")))),
            _ => Condition::from(MessageRegex(regex(&format!(r"(visit|see) site-{at}\.[a-z]+")))),
        };
        (0..count).map(|at| rule(at, condition(at))).collect::<Vec<_>>()
    };
    // As large as the default size limit of one pattern allows.
    let huge = (1..100)
        .rev()
        .map(|size| format!(r"(?:[\w.-]{{1,{size}}}@[\w.-]{{1,{size}}}\.){{3}}end"))
        .find(|pattern| regex::Regex::new(pattern).is_ok())
        .expect("a pattern that compiles");
    let cases = [
        (
            "a list of 10 MB".to_owned(),
            policy(vec![rule(0, InList(vec![list("big", 550_000)]))]),
            stranger("big-7/bot", &long),
        ),
        ("100 text rules, 500 characters".to_owned(), policy(texts(100)), stranger("mallory", &long)),
        ("1000 text rules, 500 characters".to_owned(), policy(texts(1_000)), stranger("mallory", &long)),
        ("1000 text rules, 500 wide characters".to_owned(), policy(texts(1_000)), stranger("mallory", &wide)),
        (
            "one huge pattern, 500 characters".to_owned(),
            policy(vec![rule(0, MessageRegex(regex(&huge)))]),
            stranger("mallory", &"a.".repeat(250)),
        ),
    ];
    measure(criterion, "what is meant to blow up", &cases, true);
}

fn building(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("building the index");
    group.sample_size(10);
    for listed in [1_000, 100_000] {
        let rules = mixed_rules(listed);
        group.bench_function(BenchmarkId::new("a thousand rules", listed), |bencher| {
            bencher.iter(|| black_box(Index::build(black_box(&rules), &Default::default())));
        });
    }
    let rules = identity_rules(10_000);
    group.bench_function("ten thousand rules", |bencher| {
        bencher.iter(|| black_box(Index::build(black_box(&rules), &Default::default())));
    });
    group.finish();
}

/// The same thousand rules as a file, with their lists beside it, as an operator has them.
fn file(directory: &std::path::Path, lists: usize, listed: usize) -> std::path::PathBuf {
    use std::fmt::Write as _;
    let mut text = String::from("version = 1\n");
    for list in 0..lists {
        let entries: String = (0..listed).map(|at| format!("list-{list}-{at}/bot\n")).collect();
        std::fs::write(directory.join(format!("list-{list}.txt")), entries).expect("a list is written");
        let _ = writeln!(text, "[lists.list-{list}]\nfile = \"list-{list}.txt\"");
    }
    for at in 0..1_000 {
        let when = match (at < 900, at % 10) {
            (true, 0 | 4 | 8) => format!("owner = \"owner{at}\""),
            (true, 1 | 5 | 9) => format!("handle = \"owner{at}/bot\""),
            (true, _) => format!("handle = \"owner{at}/*-bot\""),
            (false, 0..=3) => format!("list = \"list-{}\"", at % lists),
            (false, 4) => format!("handle_regex = '\\A(?:team{at}-[a-z]+/.*)\\z'"),
            (false, 5) => format!("name = \"somebody {at}\""),
            (false, 6) => format!("name_regex = '(?i)^spam{at}'"),
            (false, 7) => format!("message_contains = \"invite code {at}\""),
            (false, 8) => format!("message_regex = '(?i)(buy|sell) item{at}'"),
            _ => format!("message_contains = \"word{at}\""),
        };
        let (then, limit) =
            if at < 900 && at % 2 == 0 { ("approve", "limit = { count = 5, per = \"1h\" }\n") } else { ("defer", "") };
        let _ = writeln!(text, "[rules.rule-{at:05}]\nthen = \"{then}\"\nwhen = {{ {when} }}\n{limit}");
    }
    let path = directory.join("rules.toml");
    std::fs::write(&path, text).expect("the rules are written");
    path
}

fn loading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("loading a thousand rules from files");
    group.sample_size(10).measurement_time(std::time::Duration::from_secs(3));
    for (lists, listed) in [(10, 100), (10, 10_000), (3, 100_000)] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = file(directory.path(), lists, listed);
        let loaded = doorman::policy::load(&path, None, &doorman::policy::Shrunk::Refuse);
        assert!(loaded.policy.is_some(), "{}", loaded.report.render(false));
        group.bench_function(BenchmarkId::new("lists", format!("{lists} of {listed}")), |bencher| {
            bencher.iter(|| black_box(doorman::policy::load(black_box(&path), None, &doorman::policy::Shrunk::Refuse)));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1))
        .sample_size(30);
    targets = deciding, blowing_up, building, loading
}
criterion_main!(benches);
