//! The configuration's page contains, for every key, what the code knows of it. `DOORMAN_WRITE_DOCS=1 cargo test --test
//! it reference` writes the tables again.

use std::path::{Path, PathBuf};

use doorman::config::keys as config;
use doorman::document::keys::{DocumentKey, Section};
use doorman::policy::keys as rules;

const BEGIN: &str = "<!-- keys -->\n";
const END: &str = "<!-- /keys -->";

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Compares the text between the marks with the expected one.
fn hold(name: &str, expected: &str) {
    let path = page(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let begin = text.find(BEGIN).unwrap_or_else(|| panic!("{name} has no mark")) + BEGIN.len();
    let end = begin + text[begin..].find(END).unwrap_or_else(|| panic!("{name} has no end mark"));
    if std::env::var_os("DOORMAN_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{}{expected}{}", &text[..begin], &text[end..])).unwrap();
    } else {
        assert!(text[begin..end] == *expected, "{name} is not what the code says: see tests/it/reference.rs");
    }
}

fn default(key: &DocumentKey) -> String {
    const WORDS: [&str; 6] = ["none", "required", "nobody", "absent", "unknown", "anything"];
    match key.default {
        "" => "none".to_owned(),
        words if WORDS.contains(&words) || words.contains([' ', '`']) => words.to_owned(),
        value => format!("`{value}`"),
    }
}

fn takes(key: &DocumentKey) -> String {
    key.takes.in_words().replace('|', "\\|")
}

fn heading(section: &Section, array: bool) -> String {
    match (section.path, array) {
        ("", _) => "The file".to_owned(),
        (path, _) if path.starts_with('{') => format!("`{path}`"),
        (path, true) => format!("`[[{path}]]`"),
        (path, false) => format!("`[{path}]`"),
    }
}

/// A heading, the purpose of the table, and a row for each key.
fn described(section: &Section, array: bool, last: impl Fn(&DocumentKey) -> Option<String>) -> String {
    let mut out = format!("### {}\n\n{}\n\n", heading(section, array), section.meaning);
    let variable = section.keys.iter().any(|key| last(key).is_some());
    out.push_str(if variable {
        "| key | takes | default | variable | meaning |\n| --- | --- | --- | --- | --- |\n"
    } else {
        "| key | takes | default | meaning |\n| --- | --- | --- | --- |\n"
    });
    for key in section.keys {
        let variable = last(key).map(|name| format!("`{name}` | ")).unwrap_or_default();
        out.push_str(&format!("| `{}` | {} | {} | {variable}{} |\n", key.name, takes(key), default(key), key.meaning));
    }
    out + "\n"
}

fn variable(section: &Section, key: &DocumentKey) -> Option<String> {
    let scalar = !matches!(section.path, "" | "agents");
    scalar.then(|| format!("DOORMAN_{}_{}", section.path, key.name).to_uppercase())
}

#[test]
fn the_configurations_page_has_every_key() {
    let tables = config::SECTIONS.iter().skip(1);
    let page: String =
        tables.map(|section| described(section, section.path == "agents", |key| variable(section, key))).collect();
    hold("docs/configuration.md", &page);
}

#[test]
fn no_key_is_without_words() {
    for section in config::SECTIONS.iter().chain(rules::SECTIONS) {
        assert!(section.meaning.ends_with('.'), "{}", section.path);
        for key in section.keys {
            assert!(key.meaning.ends_with('.') && !key.meaning.contains('|'), "{}.{}", section.path, key.name);
        }
    }
}

/// Every row of the page of bounds names a constant with its value in the source.
#[test]
fn the_bounds_are_those_of_the_source() {
    let text = std::fs::read_to_string(page("docs/bounds.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.rsplit_once("| `")?.1.strip_suffix("` |"));
    let mut held = 0;
    for row in rows {
        let (file, constant) = row.split_once("`: `").unwrap_or_else(|| panic!("not `FILE`: `CONSTANT`: {row}"));
        let source = std::fs::read_to_string(page(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("const {constant};")), "{file} has no `{constant}`");
        held += 1;
    }
    assert!(held >= 40, "{held} bounds");
}

/// A heading in the form that links use after `#`.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect::<String>().replace(' ', "-")
}

/// The pages that are written for people.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![page("README.md"), page("CONTRIBUTING.md"), page("SECURITY.md")];
    for folder in ["docs", "docs/decisions"] {
        let files = std::fs::read_dir(page(folder)).unwrap().map(|file| file.unwrap().path());
        pages.extend(files.filter(|file| file.extension().is_some_and(|ext| ext == "md")));
    }
    pages
}

#[test]
fn every_page_and_every_section_that_is_linked_exists() {
    let mut links = 0;
    for file in pages() {
        let text = std::fs::read_to_string(&file).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains([' ', '\n']) {
                continue;
            }
            let (path, section) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            assert!(target.exists(), "{} links to {link}, which does not exist", file.display());
            if !section.is_empty() {
                let there = std::fs::read_to_string(&target).unwrap();
                let found = there.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == section);
                assert!(found, "{} links to {link}, and there is no such heading", file.display());
            }
            links += 1;
        }
    }
    assert!(links > 40, "{links} links");
}

/// Everything in which a page, a file or a section may be named.
fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let kept = ["rs", "md", "toml", "txt", "json", "service"];
        if file.is_dir() {
            texts(&file, found);
        } else if file.extension().is_some_and(|ext| kept.iter().any(|kept| ext == *kept)) {
            found.push(file);
        }
    }
}

/// A text without line breaks and comment markers, so that a wrapped sentence is on one line.
fn unwrapped(text: &str) -> String {
    let line = |line: &str| line.trim().trim_start_matches(['/', '!', '#', '*']).trim().to_owned();
    text.lines().map(line).collect::<Vec<_>>().join(" ")
}

/// The files that a text names by their path from the root, each with what follows.
fn named<'a>(text: &'a str, folder: &str) -> Vec<(&'a str, &'a str)> {
    let of_path = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let named = text.match_indices(folder).filter_map(|(at, _)| {
        let begins = text[..at].chars().next_back().is_none_or(|before| !of_path(before) && before != '}');
        let end = text[at..].find(|c| !of_path(c)).map_or(text.len(), |length| at + length);
        let path = text[at..end].trim_end_matches(['.', '-']);
        let file = Path::new(path).extension().is_some() || path.ends_with('/');
        (begins && file).then(|| (path, &text[at + path.len()..]))
    });
    named.collect()
}

#[test]
fn every_page_file_and_section_that_is_named_exists() {
    let mut files = pages();
    for folder in ["src", "config", "systemd", "benches", "tests/it", "tests/simulation"] {
        texts(&page(folder), &mut files);
    }
    let (mut names, mut sections, mut wrong) = (0, 0, Vec::new());
    for file in files {
        let text = unwrapped(&std::fs::read_to_string(&file).unwrap());
        for folder in ["docs/", "src/", "tests/", "benches/", "systemd/", "config/recipes/"] {
            for (path, rest) in named(&text, folder) {
                names += 1;
                if !page(path).exists() && !file.parent().unwrap().join(path).exists() {
                    wrong.push(format!("{} names {path}, which does not exist", file.display()));
                    continue;
                }
                let Some(section) = rest.strip_prefix("`, \"").and_then(|rest| rest.split('"').next()) else {
                    continue;
                };
                sections += 1;
                let there = std::fs::read_to_string(page(path)).unwrap_or_default();
                if !there.lines().any(|line| line.starts_with('#') && line.trim_start_matches('#').trim() == section) {
                    wrong.push(format!("{} names the section `{section}` of {path}", file.display()));
                }
            }
        }
        // A page must be named with its folder; otherwise this test cannot check that the section exists.
        let bare = text.match_indices(".md`, \"").filter(|(at, _)| {
            let path = text[..*at].rsplit('`').next().unwrap_or_default();
            !path.contains('/') && !path.contains("](")
        });
        wrong.extend(bare.map(|(at, _)| {
            let path = text[..at].rsplit('`').next().unwrap_or_default();
            format!("{} names a section of `{path}.md` without its folder", file.display())
        }));
    }
    assert!(names > 100 && sections > 1, "{names} names, {sections} sections");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
