//! The compiler answers any input with diagnostics: it does not panic or hang, and malformed input gives no policy.

use std::path::Path;

use proptest::prelude::*;

use super::*;

const SHIPPED: [(&str, &str); 3] = [
    ("rules.toml", include_str!("../../../config/rules.toml")),
    ("friends.txt", include_str!("../../../config/friends.txt")),
    ("blocked.txt", include_str!("../../../config/blocked.txt")),
];

fn with_list(text: &str, list: &str) -> LoadedPolicy {
    let loaded = compile(
        Path::new("rules.toml"),
        text,
        &|name| {
            let shipped = SHIPPED.iter().skip(1).find(|(known, _)| *known == name).map(|(_, text)| *text);
            Ok(ListText { text: shipped.unwrap_or(list).to_owned(), warning: None })
        },
        None,
        &crate::policy::Shrunk::Refuse,
    );
    assert_eq!(loaded.policy.is_none(), loaded.report.has_errors(), "refused with a reason, or not refused");
    loaded.report.render(true);
    loaded
}

fn of(text: &str) -> LoadedPolicy {
    with_list(text, "ann\n")
}

/// Pieces of valid files, and some invalid ones.
fn piece() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "version = 1\n",
        "include = [\"f\"]\n",
        "[policy]\n",
        "[rules.a]\n",
        "[rules.b]\n",
        "[lists.a]\n",
        "[windows.w]\n",
        "[overdue.o]\n",
        "[tests.t]\n",
        "then = \"approve\"\n",
        "then = \"reject\"\n",
        "when = \"everyone\"\n",
        "when = { list = \"a\" }\n",
        "when = { handle = [\"*/x\", \"ann\"], window = \"w\" }\n",
        "when = { handle_regex = 'a.*', kind = \"agent\" }\n",
        "unless = [{ slug = \"x\" }, {}]\n",
        "limit = { count = 1, per = \"1h\" }\n",
        "wait = \"10m\"\n",
        "until = 2027-03-31\n",
        "until = 9999-12-31\n",
        "dangerously_approve_everyone = true\n",
        "entries = [\"ann\", \"ann\"]\n",
        "file = \"f\"\n",
        "tz = \"UTC\"\n",
        "days = [\"mon\"]\n",
        "from = \"22:00\"\n",
        "to = \"24:00\"\n",
        "after = \"7d\"\n",
        "request = { from_handle = \"ann\" }\n",
        "expect = { verdict = \"defer\", by = \"a\" }\n",
        "at = 2026-03-29T01:30:00Z\n",
        "mode = \"shadow\"\n",
        "history = [{ from_handle = \"ann\", verdict = \"approve\", by = \"a\", times = 3, ago = \"36500d\" }]\n",
        "no_match = \"reject\"\n",
        "protect = [\"ann\"]\n",
        "approvals_max = { count = 1, per = \"1h\" }\n",
        "[[rules]]\n",
        "rules.a.then = 1\n",
        "\"\"\"",
        "'",
        "[",
        "{",
        "=",
        "\u{0}",
        "\u{feff}",
        "é",
    ]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in any::<String>(), list in any::<String>()) {
        with_list(&text, &list);
    }

    #[test]
    fn any_mixture_is_answered(pieces in prop::collection::vec(piece(), 0..24), list in any::<String>()) {
        with_list(&pieces.concat(), &list);
    }

    #[test]
    fn any_mixture_that_is_included_is_answered(pieces in prop::collection::vec(piece(), 0..24)) {
        let main = "version = 1\ninclude = [\"f\", \"./f\", \"g\"]\n[rules.main]\nthen = \"defer\"\nwhen = { list = \"a\" }\n";
        let loaded = with_list(main, &format!("version = 1\n{}", pieces.concat()));
        let approves = |policy: &std::sync::Arc<Policy>| policy.rules.iter().any(|rule| rule.then == Verdict::Approve);
        prop_assert!(!loaded.policy.as_ref().is_some_and(approves), "nobody is let in by an included file");
    }

    #[test]
    fn a_file_with_one_change_is_answered(at in 0_usize..1 << 16, cut in 0_usize..40, put in any::<String>()) {
        let text = SHIPPED[0].1;
        let from = text.floor_char_boundary(at % text.len());
        let to = text.floor_char_boundary((from + cut).min(text.len())).max(from);
        of(&format!("{}{put}{}", &text[..from], &text[to..]));
    }

    #[test]
    fn any_pattern_is_answered(pattern in any::<String>(), regex in "[a-c()\\[\\]{}*+?|.^$\\\\0-9,bwdsSpP]{0,40}") {
        let rule = |key: &str, value: &str| {
            let value = toml::Value::String(value.to_owned());
            of(&format!("version = 1\n[rules.a]\nthen = \"approve\"\nwhen = {{ {key} = {value} }}\n"));
        };
        for key in ["handle", "owner", "slug", "name", "message_contains", "window", "list"] {
            rule(key, &pattern);
        }
        for key in ["handle_regex", "name_regex", "message_regex"] {
            rule(key, &pattern);
            rule(key, &regex);
        }
    }

    #[test]
    fn any_value_of_any_key_is_answered(section in 0_usize..32, key in 0_usize..20, value in 0_usize..18) {
        let section = crate::policy::keys::SECTIONS[section % crate::policy::keys::SECTIONS.len()];
        let key = section.keys[key % section.keys.len()].name;
        let value = ["1", "-1", "0x7fffffffffffffff", "1e400", "nan", "true", "\"\"", "\"x\"", "[]", "[[]]", "[\"x\", 1]", "{}", "{ x = 1 }",
            "[{}]", "1979-05-27", "07:32:00", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999-23:59"][value];
        let text = match section.path {
            "" => format!("{key} = {value}\n"),
            "{ count, per }" => format!("policy.approvals_max.{key} = {value}\n"),
            "rules.NAME.when" => format!("rules.n.when.{key} = {value}\nrules.n.then = \"reject\"\n"),
            path => format!("{}.{key} = {value}\n", path.replace("NAME", "n").replace("history", "history.n")),
        };
        of(&format!("version = 1\n{text}"));
        of(&text);
    }
}

#[test]
fn what_is_meant_to_blow_up_does_not() {
    let rule = |when: &str| format!("version = 1\n[rules.a]\nthen = \"reject\"\nwhen = {{ {when} }}\n");
    let nested = |open: &str, close: &str, depth| format!("version = {}1{}\n", open.repeat(depth), close.repeat(depth));
    for text in [
        nested("[", "]", 100_000),
        nested("{ a = ", " }", 50_000),
        format!("{} = 1\n", vec!["a"; 50_000].join(".")),
        format!("[{}]\n", vec!["a"; 50_000].join(".")),
        "[[rules.a.unless]]\n".repeat(20_000),
        "[".repeat(1_000_000),
        "\n".repeat(1_000_000),
        "a = 1\n".repeat(50_000),
        format!("version = {}\n", "9".repeat(1_000_000)),
        format!("version = 1\n[rules.a]\nwait = \"{}h\"\n", "9".repeat(1_000_000)),
        rule(&format!("handle = [{}]", "\"a*b\", ".repeat(20_000))),
        rule(&format!("handle = \"{}\"", "*a".repeat(500_000))),
        rule(&format!("message_regex = '{}'", "(".repeat(500_000))),
        rule(&format!("message_regex = '{}'", "a?".repeat(4_000))),
        rule(&format!("{} = 1", "x".repeat(1_000_000))),
        format!("version = 1\n[windows.w]\ntz = \"{}\"\n", "../".repeat(100_000)),
    ] {
        assert!(of(&text).policy.is_none());
    }
}

#[test]
fn many_patterns_with_a_star_inside_are_refused() {
    let globs: String = (0..GLOBS_MAX + 1).map(|count| format!("a{count}*\n")).collect();
    let loaded = with_list("version = 1\n[lists.a]\nfile = \"f\"\n", &globs);
    assert!(loaded.report.render(false).contains("patterns with a `*` inside a part"));
}

#[test]
fn a_list_of_rubbish_is_reported_briefly() {
    let loaded = with_list("version = 1\n[lists.a]\nfile = \"f\"\n", &"@@\n".repeat(1_000_000));
    assert!(loaded.report.count(Severity::Error) < 50);
}

#[test]
fn a_text_over_its_bound_is_refused_unread() {
    let text = "#".repeat(TEXT_MAX + 1);
    assert!(of(&text).report.render(false).contains("at most 16 MiB"));
    assert!(with_list("version = 1\n[lists.a]\nfile = \"f\"\n", &text).policy.is_none());
}
