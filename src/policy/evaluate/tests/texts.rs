//! Conditions on text, from the text in the file to the decision: which form of a text counts for which condition.

use std::path::Path;

use crate::model::{ContactRequest, StrangerText};
use crate::policy::compile::compile;
use crate::policy::explain::explain;
use crate::policy::load::ListText;
use crate::policy::testkit::*;
use crate::policy::{Policy, PolicyState};

fn rules(text: &str) -> std::sync::Arc<Policy> {
    let words = |_: &str| Ok(ListText { text: "# words\ncrypto\nsecond phrase\n".to_owned(), warning: None });
    let loaded =
        compile(Path::new("rules.toml"), &format!("version = 1\n{text}"), &words, None, &crate::policy::Shrunk::Refuse);
    loaded.policy.unwrap_or_else(|| panic!("{}", loaded.report.render(false)))
}

fn decided(policy: &Policy, request: &ContactRequest) -> String {
    said(&policy.decide(request, &sound(), &PolicyState::default(), noon()))
}

const DISGUISED: [&str; 9] = [
    "cry\u{200B}pto",
    "cry\u{AD}pto",
    "cry\u{200D}pto",
    "cry\u{2060}pto",
    "cry\u{FE0F}pto",
    "cry\u{180E}pto",
    "cry\u{E0001}pto",
    "ｃｒｙｐｔｏ",
    "сrурtо",
];

#[test]
fn a_disguised_word_is_found_wherever_it_keeps_somebody_out() {
    let conditions = [
        "message_contains = \"crypto\"",
        "message_regex = '(?i)\\bcrypto\\b'",
        "message_contains_file = \"words.txt\"",
    ];
    for condition in conditions {
        let reject = rules(&format!("[rules.r]\nthen = \"reject\"\nwhen = {{ {condition} }}\n"));
        let unless = rules(&format!(
            "[rules.a]\nthen = \"approve\"\nwhen = {{ owner = \"ann\" }}\nunless = [{{ {condition} }}]\n"
        ));
        for text in DISGUISED {
            let request = saying("ann", None, Some(&format!("buy {text} now")));
            assert_eq!(decided(&reject, &request), "reject by r", "{condition} {text:?}");
            assert_eq!(decided(&unless, &request), "defer by no_match", "{condition} {text:?}");
        }
        let clean = saying("ann", None, Some("a letter"));
        assert_eq!(decided(&reject, &clean), "defer by no_match");
        assert_eq!(decided(&unless, &clean), "approve by a");
    }
}

#[test]
fn a_disguised_word_lets_nobody_in() {
    for condition in ["message_contains = \"crypto\"", "message_regex = 'crypto'", "message_contains_file = \"w.txt\""]
    {
        let approve = rules(&format!("[rules.a]\nthen = \"approve\"\nwhen = {{ owner = \"ann\", {condition} }}\n"));
        let ask = |text| decided(&approve, &saying("ann", None, Some(text)));
        assert_eq!(ask("CRYPTO"), "approve by a", "case is folded");
        assert_eq!(ask("ｃｒｙｐｔｏ"), "approve by a", "so is width");
        assert_eq!(ask("cry\u{200B}pto"), "defer by no_match");
        assert_eq!(ask("сrурtо"), "defer by no_match");
    }
}

#[test]
fn names_are_compared_like_messages() {
    for condition in ["name = \"support\"", "name_contains = \"suppo\"", "name_regex = '^support$'"] {
        let reject = rules(&format!("[rules.r]\nthen = \"reject\"\nwhen = {{ {condition} }}\n"));
        for name in ["Support", "ＳＵＰＰＯＲＴ", "sup\u{200B}port", "ѕuрроrt"] {
            assert_eq!(decided(&reject, &saying("ann", Some(name), None)), "reject by r", "{condition} {name:?}");
        }
        assert_eq!(decided(&reject, &saying("ann", Some("Ann"), None)), "defer by no_match");
        assert_eq!(decided(&reject, &saying("ann", None, None)), "defer by no_match", "an absent name is a fact");
    }
}

#[test]
fn a_pattern_that_asks_for_case_still_does() {
    let shouting = rules("[rules.r]\nthen = \"reject\"\nwhen = { message_regex = '[A-Z]{5}' }\n");
    assert_eq!(decided(&shouting, &saying("ann", None, Some("HELLO"))), "reject by r");
    assert_eq!(decided(&shouting, &saying("ann", None, Some("hello"))), "defer by no_match");
}

#[test]
fn what_a_cut_text_does_not_show_is_unknown() {
    let long = format!("hello {}", "x".repeat(StrangerText::KEPT_MAX));
    let request = saying("ann", None, Some(&long));
    let reject =
        |word: &str| rules(&format!("[rules.r]\nthen = \"reject\"\nwhen = {{ message_contains = \"{word}\" }}\n"));
    assert_eq!(decided(&reject("hello"), &request), "reject by r");
    assert_eq!(decided(&reject("crypto"), &request), "defer by r", "it may have been in what was cut off");
    let unless = rules(
        "[rules.a]\nthen = \"approve\"\nwhen = { owner = \"ann\" }\nunless = [{ message_contains = \"crypto\" }]\n",
    );
    assert_eq!(decided(&unless, &request), "defer by a");
}

#[test]
fn explaining_shows_the_text_as_it_was_compared() {
    let reject = rules("[rules.r]\nthen = \"reject\"\nwhen = { message_contains = \"crypto\" }\n");
    let explanation =
        explain(&reject, &saying("ann", None, Some("cry\u{200B}pto")), &sound(), &PolicyState::default(), noon(), None);
    let saw = &explanation.reasons[0].conditions[0].saw;
    assert_eq!(saw, r"cry\u{200b}pto (compared as `crypto`)");
}
