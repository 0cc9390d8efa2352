//! The two policies of the simulation, and what they may say to whom.

use std::sync::Arc;

use doorman::model::Answer;
use doorman::policy::Policy;

/// Before the first reload, and after it.
const TEXTS: [&str; 2] = [
    r#"
version = 1
[lists.friends]
entries = ["friend0", "friend1", "friend2", "friend0/*", "friend1/*", "friend2/*"]
[rules.friends]
then = "approve"
when = { list = "friends" }
[rules.bad]
then = "reject"
when = { owner = ["bad"] }
[rules.acme]
then = "approve"
when = { handle = ["acme/*"] }
limit = { count = 3, per = "1h", by = "owner" }
[rules.slow]
then = "approve"
when = { handle = ["slow/*"] }
wait = "90s"
"#,
    r#"
version = 1
[lists.friends]
entries = ["friend0", "friend1", "friend2", "friend0/*", "friend1/*", "friend2/*"]
[rules.friends]
then = "approve"
when = { list = "friends" }
[rules.bad]
then = "reject"
when = { owner = ["bad", "acme"] }
[rules.slow]
then = "approve"
when = { handle = ["slow/*"] }
wait = "30s"
"#,
];

pub fn policies() -> Vec<Arc<Policy>> {
    use doorman::model::{Handle, Verdict};
    use doorman::policy::rules::*;
    use doorman::policy::{Mode, PolicyHash, RuleName, index::Index};
    let name = |t: &str| RuleName::parse(t).unwrap();
    let set = |lits: &[&str], agents: &[&str]| PatternSet {
        literals: lits.iter().map(|h| Handle::parse(h).unwrap()).collect(),
        agents_of: agents.iter().map(|a| Arc::from(*a)).collect(),
        ..Default::default()
    };
    let rule = |n: &str, then, cond, limit, wait: Option<i64>| Rule {
        name: name(n),
        then,
        when: When::Table(Table { conditions: vec![cond] }),
        unless: vec![],
        limit,
        wait: wait.map(jiff::SignedDuration::from_secs),
        until: None,
        until_day: None,
        shadow: false,
    };
    (0..2)
        .map(|p| {
            let friends = Arc::new(List {
                name: name("friends"),
                patterns: set(&["friend0", "friend1", "friend2"], &["friend0", "friend1", "friend2"]),
                len: 6,
            });
            let mut rules = vec![
                rule(
                    "bad",
                    Verdict::Reject,
                    Condition::Owner(if p == 0 { vec!["bad".into()] } else { vec!["bad".into(), "acme".into()] }),
                    None,
                    None,
                ),
                rule("friends", Verdict::Approve, Condition::List(vec![friends]), None, None),
                rule(
                    "slow",
                    Verdict::Approve,
                    Condition::Handle(set(&[], &["slow"])),
                    None,
                    Some(if p == 0 { 90 } else { 30 }),
                ),
            ];
            if p == 0 {
                rules.insert(
                    0,
                    rule(
                        "acme",
                        Verdict::Approve,
                        Condition::Handle(set(&[], &["acme"])),
                        Some(Limit {
                            quota: Quota { count: 3, per: jiff::SignedDuration::from_hours(1) },
                            by: LimitBy::Owner,
                        }),
                        None,
                    ),
                );
            }
            let index = Index::build(&rules, &[]);
            Arc::new(Policy {
                hash: PolicyHash::new(&format!("{p:064}")),
                path: "x".into(),
                texts: vec![],
                mode: Mode::Enforce,
                no_match: Verdict::Defer,
                protect: vec![],
                approvals_max: None,
                rules,
                overdue: vec![],
                tests: vec![],
                index,
            })
        })
        .collect()
}
/// The strangers, by handle and message.
pub fn stranger(kind: usize, number: usize) -> (Option<String>, Option<String>) {
    match kind {
        0 => (Some(format!("friend{}", number % 3)), None),
        1 => (Some(format!("@Friend{}/Bot-{number}", number % 3)), Some("hello".to_owned())),
        2 => (Some("bad/actor".to_owned()), None),
        3 => (Some(format!("acme/bot-{number}")), None),
        4 => (Some(format!("stranger{number}")), Some("who are you".to_owned())),
        5 => (None, Some("no handle".to_owned())),
        6 => (Some(format!("odd{number}//x")), None),
        _ => (Some(format!("slow/s{number}")), None),
    }
}

/// The answers that a policy may ever give to a kind of stranger, written down apart from the policy.
pub fn allowed(policy: usize, kind: usize, answer: Answer) -> bool {
    match (kind, answer) {
        (0 | 1 | 7, Answer::Approve) | (2, Answer::Reject) => true,
        // The second policy blocks acme instead of letting three an hour in.
        (3, Answer::Approve) => policy == 0,
        (3, Answer::Reject) => policy == 1,
        _ => false,
    }
}

/// Whether a kind of stranger is certain to be answered in the end.
pub fn must_end(policy: usize, kind: usize) -> bool {
    match kind {
        0..=2 | 7 => true,
        3 => policy == 1,
        _ => false,
    }
}
