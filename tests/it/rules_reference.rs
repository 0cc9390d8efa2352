//! Compares `docs/rules-reference.md` with the code, in both directions: it has every key with its type, default and
//! meaning, and nothing else, and every example loads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use doorman::document::keys::{DocumentKey, Section};
use doorman::policy::{self, keys::SECTIONS};

const HEAD: &str = "| key | takes | default | meaning | example |\n| --- | --- | --- | --- | --- |\n";

/// The names that examples may use.
const AROUND: &str = "version = 1\n[lists.friends]\nfile = \"friends.txt\"\n[windows.office]\ntz = \"Europe/Paris\"\nfrom = \"08:00\"\n\
                      [rules.friends]\nthen = \"approve\"\nwhen = { list = \"friends\" }\n\
                      [rules.unsure]\nthen = \"defer\"\nwhen = { kind = \"agent\" }\nask = \"screen\"\n";

fn page() -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules-reference.md");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

fn title(section: &Section) -> String {
    if section.path.is_empty() { "The file".to_owned() } else { format!("`{}`", section.path) }
}

/// The examples that the page has, by section and key.
fn examples(text: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
        } else if let Some((key, rest)) = line.strip_prefix("| `").and_then(|line| line.split_once("` | ")) {
            let example = rest.trim_end_matches(" |").rsplit_once(" | ").map_or("", |(_, example)| example);
            found.insert((section.clone(), key.to_owned()), example.trim_matches('`').to_owned());
        }
    }
    found
}

fn row(section: &Section, key: &DocumentKey, examples: &BTreeMap<(String, String), String>) -> String {
    let example = examples.get(&(title(section), key.name.to_owned())).map_or("", String::as_str);
    let default = match key.default {
        "" => "not checked",
        default => default,
    };
    format!("| `{}` | {} | {default} | {} | `{example}` |\n", key.name, key.takes.in_words(), key.meaning)
}

fn made(examples: &BTreeMap<(String, String), String>) -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let _ = write!(text, "\n## {}\n\n{}\n\n{HEAD}", title(section), section.meaning);
        text.extend(section.keys.iter().map(|key| row(section, key, examples)));
    }
    text
}

#[test]
fn the_page_says_what_the_code_says() {
    let (path, text) = page();
    let mark = "<!-- keys -->\n";
    let begin = text.find(mark).unwrap() + mark.len();
    let made = made(&examples(&text));
    if text[begin..] != made {
        if std::env::var_os("DOORMAN_WRITE_DOCS").is_some() {
            std::fs::write(&path, format!("{}{made}", &text[..begin])).unwrap();
        }
        panic!("docs/rules-reference.md is not what the code says; DOORMAN_WRITE_DOCS=1 writes it again");
    }
}

/// A minimal rules file with this example in this section, and everything else that the section needs.
fn file_with(section: &Section, key: &str, example: &str) -> String {
    let (before, needed, after): (&str, &[&str], &str) = match section.path {
        "tests.NAME.expect" if key == "for" => (
            "[rules.more]\nthen = \"approve\"\nwhen = { owner = \"acme\" }\nfor = \"7d\"\n[tests.more]\n\
             request = { from_handle = \"acme\" }\nexpect = { ",
            &["verdict = \"approve\""],
            " }\n",
        ),
        "policy" => ("[policy]\n", &[], "\n"),
        "policy.protect" => ("[policy]\nprotect = { ", &["names = [\"john\"]"], " }\n"),
        "{ count, per }" => ("[policy]\napprovals_max = { ", &["count = 9", "per = \"1h\""], " }\n"),
        "{ count, per, by }" => (
            "[rules.more]\nthen = \"defer\"\nwhen = { history = { rejected_over = { ",
            &["count = 9", "per = \"1h\""],
            " } } }\n",
        ),
        "lists.NAME" => ("[lists.more]\n", &["entries = [\"x\"]", "file = \"friends.txt\""], "\n"),
        "windows.NAME" => ("[windows.more]\n", &["tz = \"UTC\"", "from = \"09:00\""], "\n"),
        "rules.NAME" if matches!(key, "ask" | "may") => {
            ("[rules.more]\n", &["then = \"defer\"", "when = { owner = \"acme\" }", "ask = \"screen\""], "\n")
        }
        "rules.NAME" => ("[rules.more]\n", &["then = \"approve\"", "when = { owner = \"acme\" }"], "\n"),
        "rules.NAME.limit" => (
            "[rules.more]\nthen = \"approve\"\nwhen = { owner = \"acme\" }\nlimit = { ",
            &["count = 5", "per = \"1h\""],
            " }\n",
        ),
        "rules.NAME.when" => ("[rules.more]\nthen = \"defer\"\nwhen = { ", &[], " }\n"),
        "rules.NAME.when.history" => ("[rules.more]\nthen = \"defer\"\nwhen = { history = { ", &[], " } }\n"),
        "overdue.NAME" => ("[overdue.more]\n", &["after = \"1d\"", "then = \"reject\""], "\n"),
        "tests.NAME" => {
            ("[tests.more]\n", &["request = { from_handle = \"bob\" }", "expect = { verdict = \"defer\" }"], "\n")
        }
        "tests.NAME.history" => (
            "[tests.more]\nrequest = { from_handle = \"bob\" }\nexpect = { verdict = \"defer\" }\nhistory = [{ ",
            &["from_handle = \"ann\"", "verdict = \"approve\"", "ago = \"1h\""],
            " }]\n",
        ),
        "tests.NAME.request" => ("[tests.more]\nexpect = { verdict = \"defer\" }\nrequest = { ", &[], " }\n"),
        "tests.NAME.expect" => {
            ("[tests.more]\nrequest = { from_handle = \"bob\" }\nexpect = { ", &["verdict = \"defer\""], " }\n")
        }
        other => panic!("no place for examples of `{other}`"),
    };
    let others = needed.iter().filter(|line| line.split(' ').next() != Some(key)).copied();
    let lines: Vec<&str> = others.chain([example]).collect();
    let inline = before.ends_with("{ ");
    format!("{AROUND}{before}{}{after}", lines.join(if inline { ", " } else { "\n" }))
}

#[test]
fn every_example_is_of_its_key_and_loads() {
    let (_, text) = page();
    let examples = examples(&text);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("friends.txt"), "ann\n").unwrap();
    std::fs::write(directory.path().join("words.txt"), "# of salesmen\nrank higher\n").unwrap();
    std::fs::write(directory.path().join("holidays.txt"), "2026-12-25 # Christmas\n").unwrap();
    let rules = directory.path().join("rules.toml");
    for section in SECTIONS {
        for key in section.keys {
            let example = &examples[&(title(section), key.name.to_owned())];
            let own = example.trim_start_matches('[').split([' ', '.', ']']).next();
            assert_eq!(own, Some(key.name), "the example of `{}` in {}", key.name, title(section));
            if !section.path.is_empty() {
                let file = file_with(section, key.name, example);
                std::fs::write(&rules, &file).unwrap();
                let loaded = policy::load(&rules, None, &policy::Shrunk::Refuse);
                let policy = loaded.policy.unwrap_or_else(|| panic!("{file}\n{}", loaded.report.render(false)));
                if section.path == "rules.NAME.when" {
                    let rule = policy.rules.iter().find(|rule| rule.name.as_str() == "more").unwrap();
                    assert_eq!(rule.when.keys(), [key.name], "the condition is of its own key: {file}");
                }
            }
        }
    }
}
