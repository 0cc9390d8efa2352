//! A module of `src/` may use only the modules before it: compares the table of allowed uses with the paths in the
//! code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::Regex;

/// Each module (called a room here), and the rooms that it uses. A room may only use rooms above it, so there is no
/// cycle.
const ROOMS: &[(&str, &[&str])] = &[
    ("variants", &[]),
    ("clock", &[]),
    ("files", &[]),
    ("model", &[]),
    ("diagnostics", &["model"]),
    ("document", &["diagnostics", "model"]),
    ("config", &["diagnostics", "document", "files", "model"]),
    ("secret", &["config", "files", "model"]),
    ("policy", &["diagnostics", "document", "files", "model"]),
    ("ops", &["clock", "config", "files", "model", "policy", "secret"]),
    ("transcript", &["clock", "files", "model", "ops", "secret"]),
    ("platform", &["clock", "config", "files", "model", "ops", "secret", "transcript"]),
    ("decider", &["clock", "config", "model", "policy", "secret"]),
    ("phoenix", &["clock", "config", "model", "platform", "secret", "variants"]),
    ("inbox", &["clock", "model", "platform", "policy"]),
    ("responder", &["clock", "model", "platform"]),
    ("ledger", &["clock", "config", "files", "inbox", "model", "ops", "platform", "policy", "secret"]),
    ("fleet", &["clock", "files", "ledger", "model", "ops"]),
    (
        "agent/core",
        &[
            "clock",
            "config",
            "inbox",
            "ledger",
            "model",
            "phoenix",
            "platform",
            "policy",
            "responder",
            "secret",
            "variants",
        ],
    ),
    (
        "agent",
        &[
            "agent/core",
            "clock",
            "config",
            "decider",
            "fleet",
            "inbox",
            "ledger",
            "model",
            "ops",
            "phoenix",
            "platform",
            "policy",
            "secret",
            "transcript",
        ],
    ),
    ("page", &["clock", "config", "files", "ledger", "model", "ops", "policy", "secret"]),
    ("notify", &["clock", "config", "files", "fleet", "ledger", "model", "ops", "page", "platform", "secret"]),
    (
        "supervisor",
        &[
            "agent",
            "agent/core",
            "config",
            "diagnostics",
            "fleet",
            "inbox",
            "ledger",
            "model",
            "notify",
            "ops",
            "page",
            "phoenix",
            "policy",
            "secret",
        ],
    ),
    (
        "daemon",
        &[
            "agent",
            "clock",
            "config",
            "decider",
            "fleet",
            "ledger",
            "notify",
            "ops",
            "page",
            "platform",
            "policy",
            "secret",
            "supervisor",
            "transcript",
        ],
    ),
    ("sandbox", &["clock", "diagnostics", "model", "transcript"]),
    (
        "cli",
        &[
            "clock",
            "config",
            "daemon",
            "decider",
            "diagnostics",
            "files",
            "ledger",
            "model",
            "notify",
            "ops",
            "page",
            "platform",
            "policy",
            "sandbox",
            "secret",
            "supervisor",
            "transcript",
        ],
    ),
];

/// The daemon's source files, with their paths below `src`, without tests.
fn sources(directory: &Path, below: &str, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
        let only_tests = ["tests", "tests.rs", "testkit.rs", "testing.rs"];
        if only_tests.contains(&path.file_name().unwrap().to_str().unwrap()) {
            continue;
        }
        if path.is_dir() {
            sources(&path, &format!("{name}/"), found);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            found.push((name, code.collect::<Vec<_>>().join("\n")));
        }
    }
}

/// The room of a path of modules.
fn room(path: &str) -> &str {
    let first = path.split("::").next().unwrap_or(path);
    if path == "agent::core" || path.starts_with("agent::core::") { "agent/core" } else { first }
}

/// The modules that a text names from the crate's root, each by the first two parts of its path.
fn named(code: &str) -> Vec<String> {
    let path = Regex::new(r"\bcrate::(\{[^;]*?\}|[a-z_]+(?:::[a-z_]+)?)").unwrap();
    let in_group = Regex::new(r"[{,]\s*([a-z_]+(?:::[a-z_]+)?)").unwrap();
    let mut found = Vec::new();
    for captures in path.captures_iter(code) {
        let text = &captures[1];
        if text.starts_with('{') {
            found.extend(in_group.captures_iter(text).map(|name| name[1].to_owned()));
        } else {
            found.push(text.to_owned());
        }
    }
    found
}

#[test]
fn a_room_uses_only_the_rooms_before_it() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    let mut used: BTreeMap<&str, BTreeMap<String, &str>> = BTreeMap::new();
    for (file, code) in files.iter().filter(|(file, _)| file != "lib.rs" && file != "main.rs") {
        let module = file.trim_end_matches(".rs").replace('/', "::");
        let here = ROOMS.iter().map(|(name, _)| *name).find(|name| *name == room(&module));
        let here = here.unwrap_or_else(|| panic!("src/{file} is in no room of the table"));
        for there in named(code) {
            if room(&there) != here {
                used.entry(here).or_default().insert(room(&there).to_owned(), file);
            }
        }
    }
    let mut before = BTreeSet::new();
    let mut wrong = Vec::new();
    for (room, allowed) in ROOMS {
        let none = BTreeMap::new();
        let uses = used.get(room).unwrap_or(&none);
        for (there, file) in uses.iter().filter(|(there, _)| !allowed.contains(&there.as_str())) {
            wrong.push(format!("`{room}` must not use `{there}`: src/{file} does"));
        }
        for there in allowed.iter().filter(|there| !uses.contains_key(**there)) {
            wrong.push(format!("`{room}` does not use `{there}`: take it out of the table"));
        }
        for there in allowed.iter().filter(|there| !before.contains(*there)) {
            wrong.push(format!("`{there}` does not stand before `{room}` in the table"));
        }
        before.insert(*room);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_are_found_in_every_form() {
    let code = "use crate::model::{AgentId, Verdict};\nuse crate::{clock, agent::core as a,\n policy};\nlet x = crate::ops::log::y();";
    assert_eq!(named(code), ["model", "clock", "agent::core", "policy", "ops::log"]);
    assert_eq!((room("agent::core"), room("agent::shell"), room("model")), ("agent/core", "agent", "model"));
}
