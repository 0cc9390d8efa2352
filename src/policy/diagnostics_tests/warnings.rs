//! Warnings: the file is accepted, but `check --strict` refuses it.

use jiff::{SignedDuration, Timestamp};

use super::{Case, LoadedPolicy, compiled, rendered, whole};
use crate::policy::{LintContext, RuleHistory, RuleName, lint};

fn warned(title: &str, loaded: &LoadedPolicy) {
    assert!(loaded.policy.is_some(), "{title} is taken:\n{}", loaded.report.render(false));
    assert!(!loaded.report.problems.is_empty(), "{title} is warned about");
}

macro_rules! snapshots {
    ($($name:ident: $cases:expr;)*) => {
        $(#[test]
        fn $name() {
            let cases: &[Case] = &$cases;
            insta::assert_snapshot!(stringify!($name), rendered(cases, warned));
        })*
    };
}

const TESTED: &str =
    "\n[tests.a]\nrequest = { from_handle = \"ann\", message = \"hello\" }\nexpect = { verdict = \"reject\" }\n";

snapshots! {
    warned_about: [
        ("covered by a reject", "+[rules.a]\nthen = \"approve\"\nwhen = { handle = [\"acme/*-bot\", \"acme/x\"], message_longer_than = 5 }\n[rules.b]\nthen = \"reject\"\nwhen = { owner = \"acme\" }\n[tests.a]\nrequest = { from_handle = \"acme/x\", message = \"long enough\" }\nexpect = { verdict = \"reject\" }\n"),
        ("covered by a defer for everyone", "+[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\n[rules.b]\nthen = \"defer\"\nwhen = \"everyone\"\n[tests.a]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"defer\" }\n"),
        ("covered by two rules together", "+[rules.a]\nthen = \"approve\"\nwhen = { owner = [\"ann\", \"bob\"] }\n[rules.b]\nthen = \"reject\"\nwhen = { owner = \"ann\" }\n[rules.c]\nthen = \"defer\"\nwhen = { owner = \"bob\" }\n[tests.a]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"reject\" }\n[tests.b]\nrequest = { from_handle = \"bob\" }\nexpect = { verdict = \"defer\", by = \"c\" }\n"),
        ("all whom it means look like somebody else", "+[policy]\nprotect = [\"acme\"]\n[rules.a]\nthen = \"approve\"\nwhen = { handle_regex = \"(acm3|acmee)/.*-bot\" }\n"),
        ("a list and an owner that never meet", "+[lists.friends]\nfile = \"friends.txt\"\n[rules.a]\nthen = \"approve\"\nwhen = { list = \"friends\", owner = [\"bob\", \"eve\"] }\n[rules.b]\nthen = \"approve\"\nwhen = { owner = \"ann\", history = { approved_before = false, approved_over = { count = 1, per = \"1d\" } } }\n"),
        ("two rules the same", "+[rules.a]\nthen = \"reject\"\nwhen = { handle = [\"ann\", \"bob\"], kind = \"user\" }\n[rules.b]\nthen = \"reject\"\nwhen = { kind = \"user\", handle = [\"@Bob\", \"ann\"] }\n[tests.a]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"reject\" }\n"),
        ("two entries the same", "+[lists.a]\nentries = [\"bob\", \"bob\"]\nfile = \"twice.txt\"\n[rules.a]\nthen = \"reject\"\nwhen = { list = [\"a\", \"a\"], handle = [\"ann\", \"@Ann\"] }\n[tests.a]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"reject\" }\n"),
        ("no test", "+[rules.a]\nthen = \"reject\"\nwhen = { owner = \"ann\" }\n[rules.b]\nthen = \"reject\"\nshadow = true\nwhen = { owner = \"bob\" }\n[tests.a]\nrequest = { from_handle = \"eve\" }\nexpect = { verdict = \"defer\" }\n"),
        ("everyone is rejected", "+[rules.a]\nthen = \"reject\"\nwhen = \"everyone\"\n[tests.a]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"reject\" }\n"),
        ("a limit above the global one", "+[policy]\napprovals_max = { count = 20, per = \"1h\" }\n[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\nlimit = { count = 5, per = \"10m\" }\n[rules.b]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\nlimit = { count = 100, per = \"1d\" }\n[tests.a]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"approve\" }\n"),
        ("a needless flag", "+[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\ndangerously_approve_everyone = true\nlimit = { count = 1, per = \"1h\" }\n[tests.a]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"approve\" }\n"),
        ("an approval of a test that counts for no limit", "+[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\nlimit = { count = 1, per = \"1h\" }\n[tests.a]\nhistory = [{ from_handle = \"ann\", verdict = \"approve\", ago = \"5m\" }]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"approve\" }\n"),
        ("an approval that would need a text and a time", "+[windows.office]\ntz = \"Europe/Paris\"\nfrom = \"01:00\"\nto = \"02:00\"\n[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\", message_contains = \"heron\", window = \"office\" }\nlimit = { count = 1, per = \"1h\" }\n[tests.a]\nhistory = [{ from_handle = \"ann\", verdict = \"approve\", ago = \"5m\" }]\nrequest = { from_handle = \"ann\", message = \"heron\" }\nat = 2026-03-02T00:30:00Z\nexpect = { verdict = \"approve\" }\n"),
        ("nothing uses it", "+[lists.a]\nentries = [\"ann\"]\n[windows.b]\ntz = \"UTC\"\ndays = [\"sun\"]\n"),
        ("another group may write it", "+[lists.a]\nfile = \"group.txt\"\n[rules.a]\nthen = \"reject\"\nwhen = { list = \"a\" }\n[tests.a]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"reject\" }\n"),
    ];
}

#[test]
fn what_is_no_mistake_is_not_warned_about() {
    for (title, part) in [
        (
            "approvals that no rule with a limit would have given, or that name their rule",
            "[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\nlimit = { count = 9, per = \"1h\" }\n[tests.b]\nhistory = [{ from_handle = \"bob\", verdict = \"approve\", ago = \"5m\" }, { from_handle = \"ann\", verdict = \"approve\", by = \"a\", ago = \"5m\" }]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"approve\" }\n",
        ),
        (
            "covered only in part",
            "[rules.a]\nthen = \"approve\"\nwhen = { owner = [\"ann\", \"bob\"] }\n[rules.b]\nthen = \"reject\"\nwhen = { owner = \"bob\" }\n",
        ),
        (
            "covered with an exception",
            "[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\n[rules.b]\nthen = \"reject\"\nwhen = { owner = \"ann\" }\nunless = [{ kind = \"user\" }]\n",
        ),
        (
            "covered for a while",
            "[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\n[rules.b]\nthen = \"reject\"\nwhen = { owner = \"ann\" }\nuntil = 2027-01-01\n",
        ),
        (
            "covered in shadow",
            "[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\n[rules.b]\nthen = \"reject\"\nwhen = { owner = \"ann\" }\nshadow = true\n",
        ),
        (
            "each of two rules covers one, and nobody the third",
            "[rules.a]\nthen = \"approve\"\nwhen = { owner = [\"ann\", \"bob\", \"eve\"] }\n[rules.b]\nthen = \"reject\"\nwhen = { owner = \"ann\" }\n[rules.c]\nthen = \"reject\"\nwhen = { owner = \"bob\" }\n",
        ),
        (
            "one of two looks like somebody else, or is named literally, or is protected",
            "[policy]\nprotect = [\"acme\"]\n[rules.a]\nthen = \"approve\"\nwhen = { handle_regex = \"(acm3|bob)/.*\" }\n[rules.b]\nthen = \"approve\"\nwhen = { handle = \"acm3/*-bot\" }\n[rules.c]\nthen = \"approve\"\nwhen = { handle_regex = \"acme/x+\" }\n",
        ),
        (
            "a list and an owner that meet in one",
            "[lists.friends]\nfile = \"friends.txt\"\n[rules.a]\nthen = \"approve\"\nwhen = { list = \"friends\", owner = [\"bob\", \"john\"] }\n[rules.b]\nthen = \"approve\"\nwhen = { list = \"friends\", handle_regex = \"ann|eve/.*\" }\n",
        ),
        (
            "narrower than the rule",
            "[rules.a]\nthen = \"approve\"\nwhen = { handle = \"ann/*\" }\n[rules.b]\nthen = \"reject\"\nwhen = { owner = \"ann\", kind = \"user\" }\n",
        ),
    ] {
        let loaded = compiled(&whole(&format!("+{part}")), None);
        let known = |message: &str| message.contains("can never take effect") || message.contains("same as");
        assert!(!loaded.report.problems.iter().any(|problem| known(&problem.message)), "{title}");
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

#[test]
fn an_agent_that_doorman_toml_does_not_have() {
    let text = whole(&format!(
        "+[rules.desk]\nthen = \"reject\"\nwhen = {{ owner = \"zed\", agents = [\"porter\", \"a-1\", \"poter\"] }}\n{}",
        TESTED.replace("reject", "defer")
    ));
    let warned = |agents: Option<Vec<String>>| {
        let mut loaded = compiled(&text, None);
        loaded.report.problems.clear();
        lint(&mut loaded, &LintContext { agents, ..LintContext::default() });
        loaded.report.render(false)
    };
    let said = warned(Some(vec!["porter".to_owned(), "a-1".to_owned()]));
    assert!(said.contains("no agent `poter`") && said.contains("did you mean `porter`?"), "{said}");
    assert_eq!(said.matches("warning").count(), 1, "{said}");
    assert_eq!(warned(None), "", "if doorman.toml was not read");
}

#[test]
fn what_only_time_and_the_ledger_know() {
    let text = whole(&format!(
        "+[rules.idle]\nthen = \"reject\"\nwhen = {{ owner = \"ann\" }}\n[rules.new]\nthen = \"reject\"\nwhen = {{ owner = \"ann\", kind = \"user\" }}\n\
         [rules.old-shadow]\nthen = \"reject\"\nshadow = true\nwhen = {{ history = {{ rejected_within = \"90d\" }} }}\n\
         [rules.over]\nthen = \"reject\"\nwhen = {{ kind = \"agent\" }}\nuntil = 2026-01-31\n{TESTED}"
    ));
    let name = |text| RuleName::parse(text).expect("a name");
    let long = Some(at("2026-01-01T00:00:00Z"));
    let recent = Some(at("2026-03-20T00:00:00Z"));
    let facts = LintContext {
        now: Some(at("2026-03-31T00:00:00Z")),
        keep: Some(SignedDuration::from_hours(24 * 30)),
        agents: None,
        deciders: None,
        rules: [
            (name("idle"), RuleHistory { since: long, shadow_since: None, matched: None }),
            (name("new"), RuleHistory { since: recent, shadow_since: None, matched: None }),
            (name("old-shadow"), RuleHistory { since: long, shadow_since: long, matched: recent }),
        ]
        .into(),
    };
    let mut loaded = compiled(&text, None);
    loaded.report.problems.clear();
    lint(&mut loaded, &facts);
    insta::assert_snapshot!(loaded.report.render(false), @r#"
    warning: nothing matched the rule `idle` in 30 days
     --> rules.toml:2:8
      |
    2 | [rules.idle]
      |        ^^^^
      |
      = help: is it still needed, and does it say what it should?

    warning: the rule `old-shadow` has been in shadow for more than 30 days
      --> rules.toml:10:10
       |
    10 | shadow = true
       |          ^^^^
       |
       = help: `doorman history` shows what it would have done: let it count, or remove it

    warning: `history` reaches further back than the ledger keeps
      --> rules.toml:11:10
       |
    11 | when = { history = { rejected_within = "90d" } }
       |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ the ledger keeps 30d
       |
       = help: shorten it, or raise `keep` in `[ledger]` of doorman.toml

    warning: the rule `over` has ended
      --> rules.toml:15:9
       |
    15 | until = 2026-01-31
       |         ^^^^^^^^^^ this is past
       |
       = help: remove the rule, or give it a later end
    "#);
}

#[test]
fn on_its_last_day_a_rule_has_not_ended() {
    let text = whole("+[rules.a]\nthen = \"reject\"\nwhen = { owner = \"ann\" }\nuntil = 2026-01-31\n");
    let ended = |now| {
        let mut loaded = compiled(&text, None);
        lint(&mut loaded, &LintContext { now: Some(at(now)), ..LintContext::default() });
        loaded.report.problems.iter().any(|problem| problem.message.contains("has ended"))
    };
    assert!(!ended("2026-01-31T23:59:59Z"));
    assert!(ended("2026-02-01T00:00:00Z"));
}
