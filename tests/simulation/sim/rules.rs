//! The three policies of the simulation, and what they may say to whom, written down a second time by hand.

use std::sync::Arc;

use doorman::model::Answer;
use doorman::policy::Policy;
use jiff::SignedDuration;

/// The kinds of strangers.
pub const KINDS: usize = 23;
/// Most approvals of acme an hour.
pub const ACME_MAX: usize = 3;
/// Those who wait, and how long under each policy.
pub const SLOW: usize = 7;
pub const WAITS: [SignedDuration; 3] =
    [SignedDuration::from_secs(90), SignedDuration::from_secs(30), SignedDuration::from_secs(60)];
/// Strangers about whom nothing can be decided before the contacts are known.
pub const CROWD: usize = 8;
/// Strangers who send requests again, friendly or rude ones. The first policy rejects the rude ones; the others do not
/// approve a stranger who was rejected recently.
pub const AGAIN: usize = 9;
pub const RUDE: usize = 10;
pub const SHUT_OUT: [Option<SignedDuration>; 3] =
    [None, Some(SignedDuration::from_hours(1)), Some(SignedDuration::from_mins(20))];
/// Strangers who send too many requests. For the third policy: this many other requests in this time.
pub const OFTEN: usize = 11;
pub const OFTEN_MAX: usize = 3;
pub const OFTEN_PER: SignedDuration = SignedDuration::from_mins(20);
/// Strangers whom the third policy approves if they were approved before.
pub const BACK: usize = 12;
/// Strangers who are approved up to a limit; after that the first policy rejects them.
pub const QUOTA: usize = 13;
pub const QUOTA_MAX: usize = 2;
pub const QUOTA_PER: SignedDuration = SignedDuration::from_mins(20);
/// Strangers who are approved on every day but this one, and on this one only.
pub const HOLIDAY: usize = 14;
pub const FAIR: usize = 15;
/// Strangers who hide what they write: from a rule that rejects it, and behind text that looks like what a rule
/// approves.
pub const VEILED: usize = 16;
pub const FORGED: usize = 17;
/// Strangers who are approved unless they were rejected, or approved, too often.
pub const TWICE: usize = 18;
pub const MANY: usize = 19;
/// From here on, strangers who appear only on evenings with changes that the daemon does not see. Some are approved
/// unless a contact of theirs was removed recently, or too often; others are approved if they are contacts already.
pub const KNOWN: usize = 20;
pub const FICKLE: usize = 21;
pub const MATE: usize = 22;
/// The policy that requires that the handle itself is a contact; the other policies accept a contact of the same owner.
pub const SELF: usize = 1;
/// The limit of too often under each policy, and its period.
pub const TOO_OFTEN: [[Option<(usize, SignedDuration)>; 3]; 3] = {
    let twice = Some((1, SignedDuration::from_mins(20)));
    let fickle = Some((1, SignedDuration::from_hours(1)));
    let (few, more) = (Some((2, SignedDuration::from_mins(20))), Some((4, SignedDuration::from_hours(1))));
    [[None, None, None], [None, more, fickle], [twice, few, fickle]]
};
pub const PARTED: [Option<SignedDuration>; 3] =
    [None, Some(SignedDuration::from_hours(1)), Some(SignedDuration::from_mins(20))];
/// Strangers who are approved for a time, on separate evenings.
pub const GUEST: usize = KINDS;
pub const STAYS: SignedDuration = SignedDuration::from_mins(5);
/// Strangers whose rule ends, and when; and strangers whose approvals are counted by handle, unlike those of their owner. Both
/// appear on separate evenings.
pub const ENDED: usize = KINDS + 1;
pub const UNTIL: &str = "2026-03-02T10:08:00Z";
pub const EACH: usize = KINDS + 2;
/// The limit of too often for one handle under each policy, and its period.
pub const EACH_OVER: [Option<(usize, SignedDuration)>; 3] =
    [None, Some((2, SignedDuration::from_hours(1))), Some((1, SignedDuration::from_mins(20)))];
/// Those whose handle is not shown.
pub const UNNAMED: usize = 5;
/// Most approvals an hour under the third policy; then the agent is paused.
pub const THIRD: usize = 2;
pub const APPROVALS_MAX: usize = 8;
pub const APPROVALS_PER: SignedDuration = SignedDuration::from_hours(1);

/// What all have in common.
const COMMON: &str = r#"
[lists.friends]
entries = ["friend0", "friend1", "friend2", "friend0/*", "friend1/*", "friend2/*"]
[rules.friends]
then = "approve"
when = { list = "friends", agents = ["porter"] }
[rules.guests]
then = "approve"
when = { handle = ["guest/*", "back0/g*", "back1/g*"] }
for = "5m"
[rules.ended]
then = "approve"
when = { handle = ["ended/*"] }
until = 2026-03-02T12:08:00+02:00
[rules.crowd]
then = "approve"
when = { handle = ["crowd/*"] }
unless = [{ contacts_over = 6 }]
[rules.crowded]
then = "reject"
when = { handle = ["crowd/*"], contacts_over = 6 }
[windows.workday]
tz = "UTC"
from = "09:00"
to = "13:00"
except = ["2026-03-02"]
[rules.holiday]
then = "approve"
when = { handle = ["holiday/*"], window = "workday" }
[windows.fair]
tz = "UTC"
from = "09:00"
to = "13:00"
only = ["2026-03-02"]
[rules.fair]
then = "approve"
when = { handle = ["fair/*"], window = "fair" }
[rules.veiled]
then = "reject"
when = { handle = ["veiled/*"], message_contains_file = "words.txt" }
[rules.forged]
then = "approve"
when = { handle = ["forged/*"], message_contains = ["invite 42"] }
[rules.named]
then = "approve"
when = { handle = ["forged/*"], name_contains = ["invited"] }
[rules.elsewhere]
then = "approve"
when = { handle = ["forged/*"], agents = ["desk"] }
"#;

/// The first policy needs no history; the second a little; the third more, in all respects but one.
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
when = { handle = ["again0/*", "again1/*", "again2/*", "twice0/*", "twice1/*"], message_contains = ["rude"] }
[rules.quota]
then = "approve"
when = { handle = ["quota/*"] }
limit = { count = 2, per = "20m", by = "owner", then = "reject" }
[rules.each]
then = "approve"
when = { handle = ["each/*"] }
[rules.often]
then = "approve"
when = { handle = ["twice0/*", "twice1/*", "many0/*", "many1/*", "fickle0/*", "fickle1/*"] }
[rules.mate]
then = "approve"
when = { handle = ["mate0", "mate1", "mate2", "mate0/*", "mate1/*", "mate2/*"], contact = "owner" }
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
[rules.twice]
then = "approve"
when = { handle = ["twice0/*", "twice1/*"] }
[rules.many]
then = "approve"
when = { handle = ["many0/*", "many1/*"] }
unless = [{ history = { approved_over = { count = 4, per = "1h" } } }]
[rules.each]
then = "approve"
when = { handle = ["each/*"] }
unless = [{ history = { approved_over = { count = 2, per = "1h", by = "handle" } } }]
[rules.fickle]
then = "approve"
when = { handle = ["fickle0/*", "fickle1/*"] }
unless = [{ history = { removed_over = { count = 1, per = "1h" } } }]
[rules.mate]
then = "approve"
when = { handle = ["mate0", "mate1", "mate2", "mate0/*", "mate1/*", "mate2/*"], contact = "self" }
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
[rules.quota]
then = "approve"
when = { handle = ["quota/*"] }
limit = { count = 2, per = "20m" }
[rules.twice]
then = "approve"
when = { handle = ["twice0/*", "twice1/*"] }
unless = [{ history = { rejected_over = { count = 1, per = "20m" } } }]
[rules.many]
then = "approve"
when = { handle = ["many0/*", "many1/*"] }
unless = [{ history = { approved_over = { count = 2, per = "20m" } } }]
[rules.each]
then = "approve"
when = { handle = ["each/*"] }
unless = [{ history = { approved_over = { count = 1, per = "20m", by = "handle" } } }]
[rules.fickle]
then = "approve"
when = { handle = ["fickle0/*", "fickle1/*"] }
unless = [{ history = { removed_over = { count = 1, per = "1h" } } }]
[rules.mate]
then = "approve"
when = { handle = ["mate0", "mate1", "mate2", "mate0/*", "mate1/*", "mate2/*"], contact = "owner" }
[rules.nobody]
then = "reject"
when = { handle = ["mate0", "mate1", "mate2", "mate0/*", "mate1/*", "mate2/*"] }
unless = [{ contact = "owner" }]
"#,
];

/// The policies, compiled by the daemon's own loader.
pub fn policies() -> Vec<Arc<Policy>> {
    with([""; 3])
}

/// The same, with a rule that asks a decider.
pub fn asking() -> Vec<Arc<Policy>> {
    with(super::deciders::RULES)
}

fn with(more: [&str; 3]) -> Vec<Arc<Policy>> {
    let directory = tempfile::tempdir().unwrap();
    let strangers: Vec<String> = (0..400).map(|number| format!("stranger{number}")).collect();
    std::fs::write(directory.path().join("words.txt"), "# what is rejected\ncrypto\n").unwrap();
    let load = |(number, text): (usize, &&str)| {
        let path = directory.path().join(format!("rules{number}.toml"));
        std::fs::write(
            &path,
            format!("{text}{COMMON}{}", more[number].replace("STRANGERS", &format!("{strangers:?}"))),
        )
        .unwrap();
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
        // Whoever was let in for a time is not known for it.
        GUEST if number.is_multiple_of(3) => (Some(format!("back{}/g{number}", number % 2)), None),
        GUEST => (Some(format!("guest/g{number}")), None),
        ENDED => (Some(format!("ended/e{number}")), None),
        EACH => (Some(format!("each/h{}", number % 3)), None),
        BACK => (Some(format!("back{}/b{number}", number % 2)), None),
        QUOTA => (Some(format!("quota/q{number}")), None),
        HOLIDAY => (Some(format!("holiday/h{number}")), None),
        FAIR => (Some(format!("fair/f{number}")), None),
        VEILED => (Some(format!("veiled/v{number}")), Some("buy \u{441}ry\u{200b}pt\u{43e}".to_owned())),
        FORGED => (Some(format!("forged/f{number}")), Some("inv\u{200b}ite 42".to_owned())),
        TWICE => {
            let message = if number.is_multiple_of(3) { "how rude" } else { "hello" };
            (Some(format!("twice{}/t{number}", number % 2)), Some(message.to_owned()))
        }
        MANY => (Some(format!("many{}/m{number}", number % 2)), None),
        FICKLE => (Some(format!("fickle{}/f{number}", number % 2)), None),
        MATE if number.is_multiple_of(2) => (Some(format!("mate{}", number % 3)), None),
        MATE => (Some(format!("mate{}/m{number}", number % 3)), None),
        _ => (Some(format!("known{}/k{number}", number % 4)), None),
    }
}

/// The name of a stranger: one that looks like what a rule approves, but is not.
pub fn name(kind: usize) -> Option<&'static str> {
    (kind == FORGED).then_some("inv\u{200b}ited")
}

/// The answers that a policy may ever give to a kind of stranger; if it asks for the past or the contacts, see `history.rs` and
/// `truth.rs`.
pub fn allowed(policy: usize, kind: usize, answer: Answer) -> bool {
    match (kind, answer) {
        (
            0 | 1 | SLOW | AGAIN | OFTEN | KNOWN | HOLIDAY | FAIR | TWICE | MANY | FICKLE | MATE | GUEST | ENDED | EACH,
            Answer::Approve,
        ) => true,
        (2 | VEILED, Answer::Reject) | (CROWD, _) => true,
        (QUOTA, Answer::Approve) => policy != 1,
        (QUOTA | TWICE, Answer::Reject) => policy == 0,
        (MATE, Answer::Reject) => policy == THIRD,
        // The second policy rejects acme instead of approving three an hour.
        (3, Answer::Approve) => policy != 1,
        (3, Answer::Reject) => policy == 1,
        (RUDE, Answer::Approve) => policy != 0,
        (RUDE, Answer::Reject) => policy == 0,
        (BACK, Answer::Approve) => policy != 1,
        _ => false,
    }
}

/// Whether a kind of stranger must be answered in the end, unless something in the past prevents it.
pub fn must_end(policy: usize, kind: usize) -> bool {
    match kind {
        0..=2 | SLOW | CROWD | AGAIN | RUDE | OFTEN | KNOWN | FAIR | VEILED | TWICE | MANY | FICKLE | GUEST | EACH => {
            true
        }
        3 => policy == 1,
        BACK => policy != 1,
        QUOTA => policy == 0,
        _ => false,
    }
}

/// Whether a kind of stranger must be answered as soon as the daemon learns of them, unless something in the past
/// prevents it.
pub fn at_once(policy: usize, kind: usize) -> bool {
    !matches!(kind, SLOW | KNOWN | FICKLE | QUOTA | GUEST | EACH) && must_end(policy, kind)
}
