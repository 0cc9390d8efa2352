//! The two policies of the simulation, and what they may say to whom, written down a second time by hand.

use std::sync::Arc;

use doorman::model::Answer;
use doorman::policy::Policy;
use jiff::SignedDuration;

/// The kinds of strangers.
pub const KINDS: usize = 9;
/// Approvals of acme's an hour.
pub const ACME_MAX: usize = 3;
/// Those who wait, and how long under each policy.
pub const SLOW: usize = 7;
pub const WAITS: [SignedDuration; 2] = [SignedDuration::from_secs(90), SignedDuration::from_secs(30)];
/// Those of whom nothing can be said before the contacts are known.
pub const CROWD: usize = 8;

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
[rules.crowd]
then = "approve"
when = { handle = ["crowd/*"] }
unless = [{ contacts_over = 6 }]
[rules.crowded]
then = "reject"
when = { handle = ["crowd/*"], contacts_over = 6 }
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
[rules.crowd]
then = "approve"
when = { handle = ["crowd/*"] }
unless = [{ contacts_over = 6 }]
[rules.crowded]
then = "reject"
when = { handle = ["crowd/*"], contacts_over = 6 }
"#,
];

/// Both policies, compiled by the daemon's own loader.
pub fn policies() -> Vec<Arc<Policy>> {
    let directory = tempfile::tempdir().unwrap();
    let load = |(number, text): (usize, &&str)| {
        let path = directory.path().join(format!("rules{number}.toml"));
        std::fs::write(&path, text).unwrap();
        let loaded = doorman::policy::load(&path, None, false);
        loaded.policy.unwrap_or_else(|| panic!("{}", loaded.report.render(false)))
    };
    TEXTS.iter().enumerate().map(load).collect()
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
        SLOW => (Some(format!("slow/s{number}")), None),
        _ => (Some(format!("crowd/c{number}")), None),
    }
}

/// The answers that a policy may ever give to a kind of stranger.
pub fn allowed(policy: usize, kind: usize, answer: Answer) -> bool {
    match (kind, answer) {
        (0 | 1 | SLOW, Answer::Approve) | (2, Answer::Reject) | (CROWD, _) => true,
        // The second policy blocks acme instead of letting three an hour in.
        (3, Answer::Approve) => policy == 0,
        (3, Answer::Reject) => policy == 1,
        _ => false,
    }
}

/// Whether a kind of stranger is certain to be answered in the end.
pub fn must_end(policy: usize, kind: usize) -> bool {
    match kind {
        0..=2 | SLOW | CROWD => true,
        3 => policy == 1,
        _ => false,
    }
}

/// Whether a kind of stranger is certain to be answered as soon as they are heard of.
pub fn at_once(policy: usize, kind: usize) -> bool {
    kind != SLOW && must_end(policy, kind)
}
