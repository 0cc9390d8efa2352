//! The three policies of the simulation, and what they may say to whom, written down a second time by hand.

use std::sync::Arc;

use doorman::model::Answer;
use doorman::policy::Policy;
use jiff::SignedDuration;

/// The kinds of strangers.
pub const KINDS: usize = 14;
/// Approvals of acme's an hour.
pub const ACME_MAX: usize = 3;
/// Those who wait, and how long under each policy.
pub const SLOW: usize = 7;
pub const WAITS: [SignedDuration; 3] =
    [SignedDuration::from_secs(90), SignedDuration::from_secs(30), SignedDuration::from_secs(60)];
/// Those of whom nothing can be said before the contacts are known.
pub const CROWD: usize = 8;
/// Those who come again, friendly or rude: for the first policy the rude ones are to be rejected, for the others whoever was
/// rejected a while ago stays outside.
pub const AGAIN: usize = 9;
pub const RUDE: usize = 10;
pub const SHUT_OUT: [Option<SignedDuration>; 3] =
    [None, Some(SignedDuration::from_hours(1)), Some(SignedDuration::from_mins(20))];
/// Those who ask too often: for the third policy, so many requests, the one in question aside, in this time.
pub const OFTEN: usize = 11;
pub const OFTEN_MAX: usize = 3;
pub const OFTEN_PER: SignedDuration = SignedDuration::from_mins(20);
/// Those whom the third policy lets in if they were let in before.
pub const BACK: usize = 12;
/// Those who are let in unless a contact of theirs was removed a while ago.
pub const KNOWN: usize = 13;
pub const PARTED: [Option<SignedDuration>; 3] =
    [None, Some(SignedDuration::from_hours(1)), Some(SignedDuration::from_mins(20))];
/// Those whose handle is not shown.
pub const UNNAMED: usize = 5;
/// Approvals an hour under the third policy; then it pauses.
pub const THIRD: usize = 2;
pub const APPROVALS_MAX: usize = 8;
pub const APPROVALS_PER: SignedDuration = SignedDuration::from_hours(1);

/// What all have in common.
const COMMON: &str = r#"
[lists.friends]
entries = ["friend0", "friend1", "friend2", "friend0/*", "friend1/*", "friend2/*"]
[rules.friends]
then = "approve"
when = { list = "friends" }
[rules.crowd]
then = "approve"
when = { handle = ["crowd/*"] }
unless = [{ contacts_over = 6 }]
[rules.crowded]
then = "reject"
when = { handle = ["crowd/*"], contacts_over = 6 }
"#;

/// The first asks nothing of the past; the second a little, the third more in every way but one.
const TEXTS: [&str; 3] = [
    r#"
version = 1
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
[rules.known]
then = "approve"
when = { handle = ["known0/*", "known1/*", "known2/*", "known3/*"] }
[rules.again]
then = "approve"
when = { handle = ["again0/*", "again1/*", "again2/*", "often0/*", "often1/*", "back0/*", "back1/*"] }
[rules.rude]
then = "reject"
when = { handle = ["again0/*", "again1/*", "again2/*"], message_contains = ["rude"] }
"#,
    r#"
version = 1
[rules.bad]
then = "reject"
when = { owner = ["bad", "acme"] }
[rules.slow]
then = "approve"
when = { handle = ["slow/*"] }
wait = "30s"
[rules.often]
then = "approve"
when = { handle = ["often0/*", "often1/*"] }
[rules.again]
then = "approve"
when = { handle = ["again0/*", "again1/*", "again2/*"] }
unless = [{ history = { rejected_within = "1h" } }]
[rules.known]
then = "approve"
when = { handle = ["known0/*", "known1/*", "known2/*", "known3/*"] }
unless = [{ history = { removed_within = "1h" } }]
"#,
    r#"
version = 1
[policy]
approvals_max = { count = 8, per = "1h" }
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
wait = "60s"
[rules.again]
then = "approve"
when = { handle = ["again0/*", "again1/*", "again2/*"] }
unless = [{ history = { rejected_within = "20m" } }]
[rules.known]
then = "approve"
when = { handle = ["known0/*", "known1/*", "known2/*", "known3/*"] }
unless = [{ history = { removed_within = "20m" } }]
[rules.often]
then = "approve"
when = { handle = ["often0/*", "often1/*"] }
unless = [{ history = { requests_over = { count = 3, per = "20m" } } }]
[rules.back]
then = "approve"
when = { handle = ["back0/*", "back1/*"], history = { approved_before = true } }
"#,
];

/// The policies, compiled by the daemon's own loader.
pub fn policies() -> Vec<Arc<Policy>> {
    let directory = tempfile::tempdir().unwrap();
    let load = |(number, text): (usize, &&str)| {
        let path = directory.path().join(format!("rules{number}.toml"));
        std::fs::write(&path, format!("{text}{COMMON}")).unwrap();
        let loaded = doorman::policy::load(&path, None, &doorman::policy::Shrunk::Refuse);
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
        UNNAMED => (None, Some("no handle".to_owned())),
        6 => (Some(format!("odd{number}//x")), None),
        SLOW => (Some(format!("slow/s{number}")), None),
        CROWD => (Some(format!("crowd/c{number}")), None),
        AGAIN => (Some(format!("again{}/a{number}", number % 3)), Some("hello again".to_owned())),
        RUDE => (Some(format!("again{}/r{number}", number % 3)), Some("how rude of you".to_owned())),
        OFTEN => (Some(format!("often{}/o{number}", number % 2)), None),
        BACK => (Some(format!("back{}/b{number}", number % 2)), None),
        _ => (Some(format!("known{}/k{number}", number % 4)), None),
    }
}

/// The answers that a policy may ever give to a kind of stranger; where it asks for the past, see `past.rs`.
pub fn allowed(policy: usize, kind: usize, answer: Answer) -> bool {
    match (kind, answer) {
        (0 | 1 | SLOW | AGAIN | OFTEN | KNOWN, Answer::Approve) | (2, Answer::Reject) | (CROWD, _) => true,
        // The second policy blocks acme instead of letting three an hour in.
        (3, Answer::Approve) => policy != 1,
        (3, Answer::Reject) => policy == 1,
        (RUDE, Answer::Approve) => policy != 0,
        (RUDE, Answer::Reject) => policy == 0,
        (BACK, Answer::Approve) => policy != 1,
        _ => false,
    }
}

/// Whether a kind of stranger is certain to be answered in the end, if nothing of the past stands in the way.
pub fn must_end(policy: usize, kind: usize) -> bool {
    match kind {
        0..=2 | SLOW | CROWD | AGAIN | RUDE | OFTEN | KNOWN => true,
        3 => policy == 1,
        BACK => policy != 1,
        _ => false,
    }
}

/// Whether a kind of stranger is certain to be answered as soon as they are heard of, if nothing of the past stands in the way.
pub fn at_once(policy: usize, kind: usize) -> bool {
    kind != SLOW && kind != KNOWN && must_end(policy, kind)
}
