//! An outside decider: a `defer` rule with `ask` asks another program about a request that only this rule keeps
//! pending. The program's verdict is a fact like others, and counts only as far as the rule's `may` allows.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::conditions::compared::canonical;
use super::rules::{Rule, RuleName};
use crate::model::{ContactRequest, StrangerText, Verdict};

/// Most characters of a name or a handle, and of a message, in a question. A decider sees the whole text or is not
/// asked: a verdict about a part of the text would not be a verdict about the request.
pub(crate) const NAME_CHARS_MAX: usize = 200;
/// See [`NAME_CHARS_MAX`].
pub(crate) const MESSAGE_CHARS_MAX: usize = 1_500;

/// A rule's `ask` and `may`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The decider: a name in `doorman.toml`.
    pub decider: RuleName,
    /// Its verdict may reject.
    pub reject: bool,
    /// Its verdict may approve.
    pub approve: bool,
    /// Identifies the content of the rule: a question under another rule is another question.
    pub of: Arc<str>,
}

impl Ask {
    /// The words of `may`.
    pub(crate) const MAY: &'static [&'static str] = &["reject", "approve"];
}

/// A question to a decider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The rule that keeps the request waiting.
    pub rule: RuleName,
    /// Who is asked.
    pub decider: RuleName,
    /// Identifies the question: the decider, the rule and the request's own text. The same question is not asked again.
    pub key: Arc<str>,
}

/// A decider's verdict about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeciderVerdict {
    /// The decider.
    pub decider: RuleName,
    /// The [`Question::key`] that it answers; `None`: any question, in a test.
    pub key: Option<Arc<str>>,
    /// What it thinks.
    pub verdict: Verdict,
    /// The reason, in the decider's own words; untrusted like a stranger's text.
    pub reason: Option<StrangerText>,
}

/// Computes the identifier of a rule's content, once for all questions.
pub(crate) fn named(mut rule: Rule) -> Rule {
    let said = hex(Sha256::digest(canonical(&rule)));
    if let Some(ask) = &mut rule.ask {
        ask.of = said.into();
    }
    rule
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the whole text fits into a question.
fn fits(text: Option<&StrangerText>, most: usize) -> bool {
    text.is_none_or(|text| !text.is_cut() && text.raw().chars().nth(most).is_none())
}

/// The question that a rule has about a request. `None` if its texts are too long to be shown whole: it waits for a person.
pub(crate) fn question(rule: &Rule, request: &ContactRequest) -> Option<Question> {
    let ask = rule.ask.as_ref()?;
    let names = [request.sender.original(), request.name.as_ref()];
    if !(names.into_iter().all(|name| fits(name, NAME_CHARS_MAX)) && fits(request.message.as_ref(), MESSAGE_CHARS_MAX))
    {
        return None;
    }
    let text = |text: Option<&StrangerText>| text.map_or_else(|| "-".to_owned(), |text| format!("+{}", text.raw()));
    let parts = [
        ask.decider.as_str().to_owned(),
        rule.name.as_str().to_owned(),
        ask.of.to_string(),
        text(request.sender.original()),
        text(request.name.as_ref()),
        text(request.message.as_ref()),
    ];
    let mut hasher = Sha256::new();
    for part in &parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    Some(Question { rule: rule.name.clone(), decider: ask.decider.clone(), key: hex(hasher.finalize()).into() })
}

impl DeciderVerdict {
    /// Whether it answers this question.
    pub(crate) fn answers(&self, question: &Question) -> bool {
        self.decider == question.decider && self.key.as_ref().is_none_or(|key| *key == question.key)
    }

    /// In words, escaped.
    pub fn in_words(&self) -> String {
        let reason = self.reason.as_ref().map(|reason| format!(": {}", reason.shown(200))).unwrap_or_default();
        format!("{} says {}{reason}", self.decider, self.verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rules::SourceText;
    use crate::policy::{LoadedPolicy, load_texts};

    const RULES: &str = "version = 1
[policy]
protect = [\"acme\"]
approvals_max = { count = 50, per = \"1h\" }
[rules.unsure]
then = \"defer\"
when = { owner = [\"bob\", \"acmf\", \"eve\"] }
ask = \"screen\"
may = [\"reject\", \"approve\"]
limit = { count = 1, per = \"1h\" }
[rules.never]
then = \"reject\"
when = { owner = \"eve\" }
[rules.later]
then = \"defer\"
when = { handle = \"bob/later\" }
";

    fn load(text: String) -> LoadedPolicy {
        let texts = [SourceText { name: "rules.toml".into(), text: text.into() }];
        load_texts(std::path::Path::new("rules.toml"), &texts)
    }

    /// Rules with a test for this sender and this verdict.
    fn said(from: &str, word: &str, expected: &str, more: &str) {
        let (verdict, by) = expected.split_once(' ').unwrap();
        let text = format!(
            "{RULES}[tests.x]\nrequest = {{ from_handle = \"{from}\" }}\n{word}{more}\nexpect = {{ verdict = \"{verdict}\", by = \"{by}\" }}\n"
        );
        let loaded = load(text);
        assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    }

    #[test]
    fn a_word_decides_only_what_its_rule_alone_keeps_waiting() {
        let (approve, reject, defer) = (
            "replies = { screen = \"approve\" }\n",
            "replies = { screen = \"reject\" }\n",
            "replies = { screen = \"defer\" }\n",
        );
        said("bob", "", "defer unsure", "");
        said("bob", defer, "defer unsure", "");
        said("bob", approve, "approve ask:unsure", "");
        said("bob", reject, "reject ask:unsure", "");
        let used = "history = [{ from_handle = \"bob\", verdict = \"approve\", by = \"unsure\", ago = \"5m\" }]";
        // A limit, another rule, a guard and a reject rule still apply.
        said("bob", approve, "defer limit:unsure", used);
        said("bob", reject, "reject ask:unsure", used);
        said("bob/later", approve, "defer later", "");
        said("bob/later", reject, "defer later", "");
        said("acmf", approve, "defer guard:look-alike", "");
        said("acmf", reject, "defer guard:look-alike", "");
        said("eve", approve, "reject never", "");
        said("zed", approve, "defer no_match", "");
    }

    #[test]
    fn a_word_lets_in_for_the_shortest_time_that_a_rule_says() {
        let guests = RULES.replace("per = \"1h\" }\n[rules.never]", "per = \"1h\" }\nfor = \"7d\"\n[rules.never]");
        assert_ne!(guests, RULES);
        let friends = "[rules.friends]\nthen = \"approve\"\nwhen = { handle = \"bob/friend\" }\nfor = \"2h\"\n";
        for (from, lasts) in [("bob", "7d"), ("bob/friend", "2h")] {
            let text = format!(
                "{guests}{friends}[tests.x]\nrequest = {{ from_handle = \"{from}\" }}\nreplies = {{ screen = \"approve\" }}\n\
                 expect = {{ verdict = \"approve\", by = \"ask:unsure\", for = \"{lasts}\" }}\n"
            );
            let loaded = load(text);
            assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
        }
        // A rule whose decider may not approve lets nobody in, so `for` would do nothing.
        let text = guests.replace(", \"approve\"]\nlimit = { count = 1, per = \"1h\" }", "]");
        assert!(load(text).report.render(false).contains("`for` is for approve rules"));
    }

    #[test]
    fn what_a_word_may_not_do_it_does_not() {
        let advice = RULES.replace("may = [\"reject\", \"approve\"]\nlimit = { count = 1, per = \"1h\" }\n", "");
        for word in ["approve", "reject"] {
            let text = format!(
                "{advice}[tests.x]\nrequest = {{ from_handle = \"bob\" }}\nreplies = {{ screen = \"{word}\" }}\nexpect = {{ verdict = \"defer\", by = \"unsure\" }}\n"
            );
            let loaded = load(text);
            assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (from, to, why) in [
            ("limit = { count = 1, per = \"1h\" }\n", "", "whose decider may approve needs a `limit`"),
            ("when = { owner = [\"bob\", \"acmf\", \"eve\"] }", "when = { kind = \"agent\" }", "does not say who"),
            (
                "then = \"defer\"\nwhen = { owner = [",
                "then = \"approve\"\nwhen = { owner = [",
                "`ask` is for rules that defer",
            ),
            ("ask = \"screen\"\n", "", "`may` is for a rule with `ask`"),
            ("ask = \"screen\"", "ask = \"Screen!\"", "is not a decider's name"),
            ("may = [\"reject\", \"approve\"]", "may = []", "`may` is empty"),
            ("may = [\"reject\", \"approve\"]", "may = [\"defer\"]", "is not a value of `may`"),
            ("may = [\"reject\", \"approve\"]", "may = [\"reject\"]", "`limit` is for approve rules"),
            ("per = \"1h\" }\n[rules.never]", "per = \"1h\", then = \"reject\" }\n[rules.never]", "cannot reject"),
        ] {
            assert!(RULES.contains(from), "{from}");
            let loaded = load(RULES.replacen(from, to, 1));
            let said = loaded.report.render(false);
            assert!(loaded.policy.is_none() && said.contains(why), "{why}: {said}");
        }
        let test = "[tests.x]\nrequest = { from_handle = \"bob\" }\nreplies = { other = \"reject\" }\nexpect = { verdict = \"defer\" }\n";
        assert!(load(format!("{RULES}{test}")).report.render(false).contains("no rule asks `other`"));
    }

    #[test]
    fn who_says_more_than_a_decider_would_see_is_not_asked_about() {
        let loaded = load(RULES.to_owned());
        let policy = loaded.policy.unwrap();
        let rule = policy.rules.iter().find(|rule| rule.ask.is_some()).unwrap();
        let asked = |message: String, name: String| {
            let request = ContactRequest {
                message: Some(StrangerText::new(&message)),
                name: Some(StrangerText::new(&name)),
                ..crate::policy::testkit::request("r", "bob")
            };
            question(rule, &request).is_some()
        };
        assert!(asked("é".repeat(MESSAGE_CHARS_MAX), "n".repeat(NAME_CHARS_MAX)));
        assert!(!asked("é".repeat(MESSAGE_CHARS_MAX + 1), String::new()), "the end may say the contrary");
        assert!(!asked(String::new(), "n".repeat(NAME_CHARS_MAX + 1)));
        let approve = "replies = { screen = \"approve\" }\n";
        let long = format!("message = \"{}\"", "x".repeat(MESSAGE_CHARS_MAX + 1));
        let text = format!(
            "{RULES}[tests.x]\nrequest = {{ from_handle = \"bob\", {long} }}\n{approve}expect = {{ verdict = \"defer\", by = \"unsure\" }}\n"
        );
        let loaded = load(text);
        assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    }

    #[test]
    fn another_text_or_another_rule_is_another_question() {
        use crate::policy::testkit::request;
        let rule = |text: &str| load(text.to_owned()).policy.unwrap();
        let (policy, other) = (rule(RULES), rule(&RULES.replace("count = 1", "count = 2")));
        let find = |policy: &crate::policy::Policy, from: &str, message: Option<&str>| {
            let asked = ContactRequest { message: message.map(StrangerText::new), ..request("r", from) };
            question(policy.rules.iter().find(|rule| rule.ask.is_some()).unwrap(), &asked).unwrap().key
        };
        let key = find(&policy, "bob", None);
        assert_eq!(key, find(&policy, "bob", None));
        assert_ne!(key, find(&other, "bob", None));
        assert_ne!(key, find(&policy, "bob/x", None));
        assert_ne!(key, find(&policy, "bob", Some("")));
    }
}

/// The response of a decider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeciderReply {
    /// What it thinks.
    pub verdict: Verdict,
    /// The reason, in its own words.
    pub reason: Option<StrangerText>,
}

/// The decider gave no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskFailure {
    /// Why.
    pub fault: AskFault,
    /// The next question must wait this long, if that is known.
    pub again: Option<std::time::Duration>,
}

/// Why a decider gave no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskFault {
    /// The configuration has no decider of this name.
    NotConfigured,
    /// Its limit of questions an hour is used up.
    Spent,
    /// The secret that signs the questions cannot be read, or cannot sign.
    NoSecret,
    /// It cannot be reached, or it ended the connection.
    Unreachable,
    /// It took too long.
    Slow,
    /// It answered with another status than 200.
    Status(u16),
    /// Its answer is too large.
    TooLarge,
    /// Its answer is not in the expected form.
    Unreadable,
    /// Its answer is to another request.
    WrongId,
}

impl AskFault {
    /// Whether the question itself may be the cause: then it is not repeated for ever.
    pub(crate) fn is_of_the_question(self) -> bool {
        match self {
            AskFault::NotConfigured | AskFault::Spent | AskFault::NoSecret | AskFault::Unreachable => false,
            AskFault::Slow | AskFault::Status(_) | AskFault::TooLarge | AskFault::Unreadable | AskFault::WrongId => {
                true
            }
        }
    }

    /// The word for it, in the log and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            AskFault::NotConfigured => "not-configured",
            AskFault::Spent => "per-hour-spent",
            AskFault::NoSecret => "no-secret",
            AskFault::Unreachable => "unreachable",
            AskFault::Slow => "slow",
            AskFault::Status(_) => "refused",
            AskFault::TooLarge => "too-large",
            AskFault::Unreadable => "unreadable",
            AskFault::WrongId => "wrong-id",
        }
    }
}
