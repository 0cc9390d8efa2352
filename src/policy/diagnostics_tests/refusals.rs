//! The reasons for which a file is refused.

use super::{Case, LoadedPolicy, compiled, rendered};

fn refused(title: &str, loaded: &LoadedPolicy) {
    assert!(loaded.policy.is_none() && loaded.report.has_errors(), "{title} is refused");
}

macro_rules! snapshots {
    ($($name:ident: $cases:expr;)*) => {
        $(#[test]
        fn $name() {
            let cases: &[Case] = &$cases;
            insta::assert_snapshot!(stringify!($name), rendered(cases, refused));
        })*
    };
}

const WHO: &str = "+[rules.a]\nthen = \"approve\"\n";

snapshots! {
    syntax_and_version: [
        ("no TOML", "version = 1\n[rules.a\nthen = \"approve\"\n"),
        ("several mistakes", "version = \nmode = \"enforce\n[policy]\n"),
        ("a rule twice", "+[rules.a]\nthen = \"defer\"\nwhen = \"everyone\"\n\n[rules.a]\nthen = \"defer\"\nwhen = \"everyone\"\n"),
        ("a key twice", "version = 1\nversion = 1\n"),
        ("an empty file", ""),
        ("no version", "[policy]\nmode = \"enforce\"\n"),
        ("another version", "version = 2\n"),
        ("a version in quotes", "version = \"1\"\n"),
    ];
    keys: [
        ("a typo in a key", "+[rules.a]\nthen = \"reject\"\nwhen = { mesage_regex = 'x' }\n"),
        ("a typo in a table", "+[rule.a]\nthen = \"reject\"\n"),
        ("a condition beside `when`", "+[rules.a]\nthen = \"reject\"\nwhen = { kind = \"agent\" }\nhandle = \"x\"\n"),
        ("a rule's key among the conditions", "+[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\", limit = { count = 1, per = \"1h\" } }\n"),
        ("a policy's key at the top", "version = 1\nmode = \"shadow\"\n"),
        ("nothing near", "+[lists.a]\nentries = [\"ann\"]\nzzz = 1\n"),
        ("no `then`, no `when`", "+[rules.a]\nshadow = true\n"),
        ("a window without tz", "+[windows.office]\ndays = [\"mon\"]\n"),
        ("keys missing inside", "+[policy]\napprovals_max = { count = 3 }\n\n[overdue.a]\nthen = \"notify\"\n\n[tests.a]\nrequest = {}\n"),
        ("keys of a test in the wrong table", "+[tests.a]\nverdict = \"defer\"\nmessage = \"x\"\nrequest = { from_handle = \"ann\", at = 2026-12-25T10:00:00Z }\nexpect = { verdict = \"defer\", replies = { screen = \"reject\" } }\n"),
        ("no table", "+[rules]\na = 1\n"),
        ("no tables at all", "version = 1\nrules = []\n"),
        ("names that are none", "+[lists.Friends]\nentries = [\"ann\"]\n[rules.\"my rule\"]\nthen = \"defer\"\nwhen = { list = \"Friends\" }\n[rules.paused]\nthen = \"defer\"\nwhen = \"everyone\"\n"),
    ];
    types_and_values: [
        ("wrong types", "+[policy]\nprotect = 5\napprovals_max = 3\n\n[rules.a]\nthen = true\nwhen = { handle = [\"ann\", 5], message_absent = \"yes\" }\nunless = { slug = \"x\" }\nwait = 10\nuntil = \"2027-03-31\"\nshadow = 1\n"),
        ("a word that is none", "+[rules.a]\nthen = \"aprove\"\nwhen = { kind = \"bot\" }\n"),
        ("numbers out of range", "+[policy]\napprovals_max = { count = 0, per = \"1h\" }\n\n[rules.a]\nthen = \"defer\"\nwhen = { contacts_over = -1, message_longer_than = 99999999999999999999 }\n"),
        ("durations that are none", "+[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\", age_over = \"10\" }\nwait = \"1 month\"\nlimit = { count = 1, per = \"-1h\" }\n[overdue.a]\nafter = \"0s\"\nthen = \"notify\"\n[overdue.b]\nafter = \"200 years\"\nthen = \"notify\"\n"),
        ("a moment without an offset for `until`", "+[rules.a]\nthen = \"deny\"\nwhen = \"everyone\"\nuntil = 2027-03-31T10:00:00\n[tests.t]\nrequest = { handle = \"ann\" }\nexpect = { verdict = \"defer\" }\n"),
        ("windows", "+[windows.a]\ntz = \"Europe/Pari\"\ndays = [\"monday\"]\nfrom = \"8:00\"\nto = \"25:00\"\n[windows.b]\ntz = \"paris\"\nfrom = \"08:00\"\nto = \"12:00\"\n[windows.c]\ntz = \"UTC\"\nfrom = \"08:00\"\nto = \"08:00\"\n[windows.d]\ntz = \"UTC\"\n[windows.e]\ntz = \"UTC\"\ndays = []\n"),
        ("all wrong dates of a window", "+[windows.a]\ntz = \"Europe/Pari\"\nexcept = [2026-12-25, \"2026-13-01\", 5]\nonly = [\"soon\"]\nexcept_file = 7\n"),
        ("a `when` that is no table", "+[rules.a]\nthen = \"defer\"\nwhen = \"anyone\"\n[rules.b]\nthen = \"defer\"\nwhen = true\n"),
        ("`no_match` approves", "+[policy]\nno_match = \"approve\"\n"),
        ("`overdue` approves", "+[overdue.a]\nafter = \"1d\"\nthen = \"approve\"\n"),
        ("`overdue` does something else", "+[overdue.a]\nafter = \"1d\"\nthen = \"rejct\"\n"),
    ];
    empty_things: [
        ("an empty `when`", "+[rules.a]\nthen = \"reject\"\nwhen = {}\n"),
        ("an empty `unless`", "+[rules.a]\nthen = \"reject\"\nwhen = { slug = \"x\" }\nunless = [{}]\n[rules.b]\nthen = \"reject\"\nwhen = { slug = \"x\" }\nunless = []\n"),
        ("an empty value", "+[rules.a]\nthen = \"reject\"\nwhen = { handle = [] }\n"),
        ("an empty `history`", "+[rules.a]\nthen = \"reject\"\nwhen = { history = {} }\n"),
        ("an empty literal", "+[rules.a]\nthen = \"reject\"\nwhen = { message_contains = \" \", name = \"\" }\n"),
        ("empty `[tests]`", "+[tests]\n"),
        ("an empty list", "+[lists.a]\nentries = []\n[lists.b]\nfile = \"empty.txt\"\n[lists.c]\nallow_empty = true\n"),
    ];
    names_that_do_not_exist: [
        ("a list, a window", "+[lists.friends]\nentries = [\"ann\"]\n[rules.a]\nthen = \"approve\"\nwhen = { list = \"freinds\", window = \"office\" }\n"),
        ("in tests", "+[rules.friends]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\n\n[tests.a]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"approve\", by = \"friend\" }\n[tests.b]\nrequest = {}\nexpect = { verdict = \"defer\", by = \"limit:friends\" }\n[tests.c]\nrequest = {}\nexpect = { verdict = \"defer\", by = \"guard:lookalike\" }\n[tests.d]\nrequest = {}\nexpect = { verdict = \"defer\", by = \"overdue:close\" }\n[tests.e]\nrequest = {}\nexpect = { verdict = \"defer\", by = \"person:ann\" }\n[tests.f]\nrequest = {}\nexpect = { verdict = \"defer\", by = \"nomatch\" }\n"),
        ("a broken thing is reported once", "+[lists.friends]\nentries = [\"@@ann\"]\n[rules.a]\nthen = \"approve\"\nwhen = { list = \"friends\" }\n"),
    ];
    who: [
        ("everyone", "+[rules.a]\nthen = \"approve\"\nwhen = \"everyone\"\n"),
        ("what they say of themselves", "+[rules.a]\nthen = \"approve\"\nwhen = { name = \"Ann\", message_contains = \"code\" }\n"),
        ("an agent's name alone", "+[rules.a]\nthen = \"approve\"\nwhen = { handle = [\"acme/*-bot\", \"*/support\"] }\n"),
        ("a list with somebody's", "+[lists.a]\nfile = \"anybodys.txt\"\n[rules.a]\nthen = \"approve\"\nwhen = { list = \"a\" }\n"),
        ("a pattern that begins with anything", "+[rules.a]\nthen = \"approve\"\nwhen = { handle_regex = ['acme/.*', '.*/acme'] }\n"),
        ("not approved before", "+[rules.a]\nthen = \"approve\"\nwhen = { history = { approved_before = false } }\n"),
        ("only by `unless`", "+[rules.a]\nthen = \"approve\"\nwhen = { kind = \"agent\" }\nunless = [{ owner = \"ann\" }]\n"),
        ("dangerously, without a limit", "+[rules.a]\nthen = \"approve\"\nwhen = \"everyone\"\ndangerously_approve_everyone = true\n"),
        ("dangerously, but no", "+[rules.a]\nthen = \"approve\"\nwhen = \"everyone\"\ndangerously_approve_everyone = false\nlimit = { count = 1, per = \"1h\" }\n"),
    ];
    contradictions: [
        ("users with a slug", "+[rules.a]\nthen = \"reject\"\nwhen = { kind = \"user\", slug = \"bot\" }\n"),
        ("users with agents' handles", "+[rules.a]\nthen = \"reject\"\nwhen = { kind = \"user\", handle = [\"john/*\", \"*/support\"] }\n"),
        ("agents with users' handles", "+[rules.a]\nthen = \"reject\"\nwhen = { kind = \"agent\", handle = \"john\" }\n[rules.b]\nthen = \"reject\"\nwhen = { slug = \"x\", handle = \"john\" }\n"),
        ("another owner's handles", "+[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\", handle = \"john/*\" }\n"),
        ("no message, and what it says", "+[rules.a]\nthen = \"reject\"\nwhen = { message_absent = true, message_regex = 'x' }\n"),
        ("a pattern that fits no handle", "+[rules.a]\nthen = \"approve\"\nwhen = { handle_regex = ['@acme/.*', 'Acme/.*'] }\n"),
        ("switched off whenever it is on", "+[rules.a]\nthen = \"reject\"\nwhen = { handle = \"john/*\", kind = \"agent\" }\nunless = [{ slug = \"x\" }, { owner = [\"john\", \"ann\"] }]\n"),
        ("for approvals only", "+[rules.a]\nthen = \"reject\"\nwhen = \"everyone\"\nlimit = { count = 1, per = \"1h\" }\nwait = \"1h\"\ndangerously_approve_everyone = true\n"),
        ("an end if there is no contact, or before anybody could use it", "+[rules.a]\nthen = \"defer\"\nwhen = \"everyone\"\nfor = \"7d\"\n[rules.b]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\nfor = \"59s\"\n[tests.t]\nrequest = { from_handle = \"bob\" }\nexpect = { verdict = \"defer\", for = \"1h\" }\n"),
        ("notices are not limited", "+[overdue.a]\nafter = \"1d\"\nthen = \"notify\"\nmax_per_hour = 3\n"),
    ];
    patterns: [
        ("handles", "+[rules.a]\nthen = \"reject\"\nwhen = { handle = [\"jöhn\", \"@@john\", \"acme/(a|b)\", \"*\", \"*/*\", \"a/b/c\", \"acme/**\", \"\", \"john smith\", \"-x\"] }\n"),
        ("owners and slugs", "+[policy]\nprotect = [\"john/bot\", \"a*\"]\n[rules.a]\nthen = \"reject\"\nwhen = { owner = [\"acme/*\", \"a.*\", \"jöhn\"], slug = [\"@bot\", \"[ab]\"] }\n"),
        ("a list file", "+[lists.a]\nfile = \"odd.txt\"\n"),
        ("a list file that is not there", "+[lists.a]\nfile = \"nowhere.txt\"\n"),
        ("a list of nothing", "+[lists.a]\n"),
        ("regular expressions", "+[rules.a]\nthen = \"reject\"\nwhen = { message_regex = ['(seo', 'x*', '(a{1000}){1000}', 'a(?=b)'], name_regex = \"\\\\p{Xyz}\" }\n"),
        ("regular expressions where literals belong", "+[rules.a]\nthen = \"reject\"\nwhen = { name = '.*bot.*', message_contains = ['\\bseo\\b', 'c.+'] }\n"),
    ];
    tests_that_fail: [
        ("another verdict", "+[rules.friends]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\n[rules.careful]\nthen = \"defer\"\nwhen = { contacts_over = 5 }\n\n[tests.a]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"approve\" }\n[tests.b]\nrequest = { from_handle = \"bob\", contacts = 1 }\nexpect = { verdict = \"approve\", by = \"friends\" }\n[tests.c]\nrequest = { from_handle = \"ann\", contacts = 9 }\nexpect = { verdict = \"defer\", by = \"no_match\" }\n"),
        ("overdue in shadow mode", "+[policy]\nmode = \"shadow\"\n[overdue.close]\nafter = \"1d\"\nthen = \"reject\"\n[tests.a]\nrequest = { from_handle = \"ann\", ago = \"2d\" }\nexpect = { verdict = \"reject\", by = \"overdue:close\" }\n"),
        ("history that cannot be", "+[rules.friends]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\n[tests.a]\nhistory = [\n  { from_handle = \"@@ann\", verdict = \"approve\", ago = \"1h\" },\n  { from_handle = \"ann\", verdict = \"reject\", by = \"friends\", ago = \"1h\" },\n  { from_handle = \"ann\", verdict = \"reject\", removed = true, ago = \"1h\" },\n  { from_handle = \"ann\", verdict = \"reject\", by = \"frends\", ago = \"1h\" },\n  { from_handle = \"ann\", verdict = \"reject\", times = 99999999, ago = \"1h\" },\n]\nrequest = {}\nexpect = { verdict = \"defer\" }\n"),
        ("a moment that is none", "+[tests.a]\nat = 2026-01-05\nrequest = {}\nexpect = { verdict = \"defer\" }\n[tests.b]\nat = \"2026-01-05T12:00:00Z\"\nrequest = {}\nexpect = { verdict = \"defer\" }\n[tests.c]\nat = 1026-01-05T12:00:00Z\nrequest = {}\nexpect = { verdict = \"defer\" }\n"),
    ];
    all_at_once: [
        ("sorted by place", "version = 1\n\n[policy]\nno_match = \"approve\"\n\n[lists.friends]\nfile = \"odd.txt\"\n\n[rules.zoe]\nthen = \"reject\"\nwhen = { lst = \"friends\" }\n\n[rules.ann]\nthen = \"approve\"\nwhen = \"everyone\"\nwait = \"soon\"\n\n[tests]\n"),
    ];
}

#[test]
fn a_list_that_shrank_is_refused() {
    let file = |entries: &str| {
        format!(
            "version = 1\n[lists.friends]\nentries = [{entries}]\n[rules.a]\nthen = \"approve\"\nwhen = {{ list = \"friends\" }}\n"
        )
    };
    let running = compiled(&file("\"a\", \"b\", \"c\", \"d\""), None).policy.expect("sound");
    assert!(compiled(&file("\"a\", \"b\""), Some(&running)).policy.is_some(), "half is left");
    let loaded = compiled(&file("\"a\""), Some(&running));
    refused("shrunk", &loaded);
    insta::assert_snapshot!(loaded.report.render(false), @r"
    error: the list `friends` lost more than 50 % of its entries
     --> rules.toml:2:1
      |
    2 | [lists.friends]
      | ^^^^^^^^^^^^^^^ 3 of 4 entries are gone, 1 are there now
      |
      = help: if that is meant, run `doorman reload --accept-shrunk`, or set `max_shrink` for this list
    ");
    let accepted = super::super::compile::compile(
        std::path::Path::new("r"),
        &file("\"a\""),
        &super::list,
        Some(&running),
        &crate::policy::Shrunk::Accept,
    );
    assert!(accepted.policy.is_some());
}

#[test]
fn a_list_that_keeps_somebody_out_loses_a_tenth_at_most() {
    let names = |count: usize| (0..count).map(|one| format!("\"a{one}\"")).collect::<Vec<_>>().join(", ");
    let file = |count: usize, more: &str, rule: &str| {
        format!("version = 1\n[lists.blocked]\nentries = [{}]\n{more}\n[rules.a]\n{rule}\n", names(count))
    };
    let rejects = "then = \"reject\"\nwhen = { list = \"blocked\" }";
    let excepts = "then = \"approve\"\nwhen = { owner = \"ann\" }\nunless = [{ list = \"blocked\" }]";
    let approves = "then = \"approve\"\nwhen = { list = \"blocked\" }";
    for (rule, more, left, taken) in [
        (rejects, "", 18, true),
        (rejects, "", 17, false),
        (excepts, "", 17, false),
        (approves, "", 17, true),
        (rejects, "max_shrink = 50", 10, true),
        (rejects, "max_shrink = 50", 9, false),
        (approves, "max_shrink = 0", 19, false),
    ] {
        let running = compiled(&file(20, more, rule), None).policy.expect("sound");
        let loaded = compiled(&file(left, more, rule), Some(&running));
        assert_eq!((loaded.policy.is_some(), loaded.shrunk), (taken, !taken), "{rule} {more} {left}");
    }
    // The number of entries is the same, but the entries differ: those who were kept out no longer are.
    let running = compiled(&file(20, "", rejects), None).policy.expect("sound");
    let others = file(20, "", rejects).replace("\"a1", "\"b1");
    assert!(compiled(&others, Some(&running)).shrunk);
}

/// Whoever gets the error that an approve rule does not say who reads all the ways to do so.
#[test]
fn approving_by_anything_that_says_who_is_taken_and_the_error_names_each_way() {
    let refused = compiled(&super::whole(&format!("{WHO}when = \"everyone\"\n")), None).report.render(false);
    for (when, named) in [
        ("{ owner = \"ann\" }", "`owner`"),
        ("{ handle = [\"ann\", \"john/*\", \"acme/*-bot\"] }", "`handle`"),
        ("{ list = \"friends\" }\n[lists.friends]\nentries = [\"ann\"]", "`list`"),
        ("{ handle_regex = 'acme/(a|b).*' }", "`handle_regex`"),
        ("{ history = { approved_before = true } }", "`history = { approved_before = true }`"),
        ("{ history = { approved_over = { count = 1, per = \"30d\" } } }", "`history = { approved_over = … }`"),
        ("{ contact = \"owner\" }", "`contact = \"owner\"`"),
        ("{ contact = \"self\" }", "`\"self\"`"),
        ("{ slug = \"bot\", owner = \"ann\" }", "`owner`"),
        (
            "\"everyone\"\ndangerously_approve_everyone = true\nlimit = { count = 1, per = \"1h\" }",
            "`dangerously_approve_everyone = true` and a `limit`",
        ),
    ] {
        let loaded = compiled(&super::whole(&format!("{WHO}when = {when}\n")), None);
        assert!(loaded.policy.is_some(), "{when}\n{}", loaded.report.render(false));
        assert!(refused.contains(named), "{named} is a way, and is not named: {refused}");
    }
}
