//! `docs/interface.md` against the code and against a running daemon: the objects of the control socket are written from their
//! types; those of the commands are compared, key by key, with what the real binary prints.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::control::{http, post};
use crate::faults::site::Site;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A field: its key, its type in Rust, its description, and whether it may be absent.
struct Field {
    key: String,
    of: String,
    words: String,
    optional: bool,
}

/// A struct that is sent over the wire, or an operation.
struct Object {
    name: String,
    words: String,
    fields: Vec<Field>,
}

/// Links to code are useful only to readers of the code, so they become plain text.
fn plain(words: &str) -> String {
    let mut words = words.replace("[`", "`").replace("`]", "`").replace("; see `crate::model::PersonTarget`", "");
    while let Some(at) = words.find("`ControlOp::") {
        let end = at + 1 + words[at + 1..].find('`').unwrap();
        let op = kebab(&words[at + 12..end]);
        words.replace_range(at..=end, &format!("`{op}`"));
    }
    words
}

/// A variant's name in serde's spelling.
fn kebab(name: &str) -> String {
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

/// What a source says: its public structs that can be written as JSON, the operations, which are an enum's variants, and the
/// words of the other enums.
#[derive(Default)]
struct SourceContents {
    structs: Vec<Object>,
    ops: Vec<Object>,
    enums: Vec<(String, Vec<String>)>,
}

fn said_by(source: &str) -> SourceContents {
    let SourceContents { mut structs, mut ops, mut enums } = SourceContents::default();
    let (mut words, mut attributes, mut serialized) = (String::new(), String::new(), false);
    let mut place = "";
    let source = source.replace("pub(crate) ", "pub ");
    for line in source.lines() {
        let text = line.trim();
        if let Some(said) = text.strip_prefix("/// ") {
            words = format!("{words} {said}").trim().to_owned();
            continue;
        }
        if text.starts_with("#[") {
            attributes += text;
            serialized |= text.contains("Serialize");
            continue;
        }
        let said = plain(&std::mem::take(&mut words));
        let attributes = std::mem::take(&mut attributes);
        let object = |name: &str| Object { name: name.to_owned(), words: said.clone(), fields: Vec::new() };
        match (line, place) {
            _ if line.starts_with("pub struct ") && serialized => {
                structs.push(object(line.split(' ').nth(2).unwrap()));
                place = "struct";
            }
            ("pub enum ControlOp {", _) => place = "ops",
            ("pub enum OpReply {", _) => place = "",
            _ if line.starts_with("pub enum ") && serialized => {
                enums.push((line.split(' ').nth(2).unwrap().to_owned(), Vec::new()));
                place = "enum";
            }
            ("}", _) => place = "",
            _ if place == "ops" && line.starts_with("    ") && !line.starts_with("     ") && text != "}," => {
                ops.push(object(&kebab(text.trim_end_matches([',', '{', ' ']))));
            }
            _ if place == "enum" => {
                enums.last_mut().unwrap().1.push(format!("`{}`", kebab(text.trim_end_matches(','))));
            }
            _ if !place.is_empty() && text.contains(": ") => {
                let (key, of) = text.trim_start_matches("pub ").trim_end_matches(',').split_once(": ").unwrap();
                let renamed = attributes.split_once("rename = \"").map(|(_, rest)| rest.split('"').next().unwrap());
                let optional = attributes.contains("skip_serializing_if");
                let of = if attributes.contains("flatten") { "flattened" } else { of };
                let fields = &mut if place == "ops" { ops.last_mut() } else { structs.last_mut() }.unwrap().fields;
                fields.push(Field { key: renamed.unwrap_or(key).to_owned(), of: of.to_owned(), words: said, optional });
            }
            _ => {}
        }
        serialized &= text.is_empty();
    }
    SourceContents { structs, ops, enums }
}

/// The JSON type of a Rust type.
fn kind(of: &str, known: &BTreeMap<String, String>) -> String {
    let inner = |prefix: &str| of.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    if let Some(inner) = inner("Option<") {
        return format!("{} or null", kind(inner, known));
    }
    if let Some(inner) = inner("Vec<") {
        return format!("list of {}", kind(inner, known));
    }
    match of.rsplit("::").next().unwrap() {
        "String" | "AgentId" | "ContactId" | "PausedBy" | "PathBuf" => "text".to_owned(),
        "AgentState" => "a state".to_owned(),
        "Verdict" => "`approve`, `reject` or `defer`".to_owned(),
        "DoubtSettlement" => "a word of `doorman settle --help`".to_owned(),
        "Timestamp" => "time".to_owned(),
        "u64" | "u32" | "usize" => "number".to_owned(),
        "bool" => "true or false".to_owned(),
        "BTreeMap<String, u64>" => "object of numbers".to_owned(),
        "flattened" => "an operation".to_owned(),
        other if of.contains("BTreeMap") => panic!("{other}"),
        other => known.get(other).unwrap_or_else(|| panic!("what is `{other}` in JSON?")).clone(),
    }
}

fn table(object: &Object, known: &BTreeMap<String, String>) -> String {
    let mut text = "| key | type | meaning |\n| --- | --- | --- |\n".to_owned();
    for field in &object.fields {
        let mut of = kind(&field.of, known);
        if field.optional {
            of = format!("{}, may be absent", of.trim_end_matches(" or null"));
        }
        let key = if field.of == "flattened" { "op" } else { &field.key };
        writeln!(text, "| `{key}` | {of} | {} |", field.words).unwrap();
    }
    text
}

fn generated() -> String {
    let SourceContents { mut structs, ops, enums } = said_by(
        &["wire.rs", "wire/replies.rs", "wire/status.rs"].map(|file| read(&format!("src/ops/control/{file}"))).concat(),
    );
    structs.extend(said_by(&read("src/ops/health.rs")).structs);
    structs.retain(|object| !object.fields.is_empty());
    let link = |object: &Object| format!("[`{}`](#{})", object.name, object.name.to_lowercase());
    let mut known: BTreeMap<String, String> =
        structs.iter().map(|object| (object.name.clone(), link(object))).collect();
    known.extend(enums.into_iter().map(|(name, words)| (name, words.join(", "))));
    let mut text = "### Operations\n\n".to_owned();
    for op in &ops {
        writeln!(text, "#### `\"op\":\"{}\"`\n\n{}\n", op.name, op.words).unwrap();
        if !op.fields.is_empty() {
            writeln!(text, "{}", table(op, &known)).unwrap();
        }
    }
    text += "### Objects\n";
    for object in &structs {
        writeln!(text, "\n#### `{}`\n\n{}\n\n{}", object.name, object.words, table(object, &known).trim_end()).unwrap();
    }
    text
}

#[test]
fn the_page_has_every_object_of_the_control_socket() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/interface.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- wire -->\n", "<!-- /wire -->");
    let start = page.find(begin).unwrap() + begin.len();
    let stop = page.find(end).unwrap();
    if page[start..stop] != generated() {
        if std::env::var_os("DOORMAN_WRITE_DOCS").is_some() {
            std::fs::write(&path, format!("{}{}{}", &page[..start], generated(), &page[stop..])).unwrap();
        }
        panic!("docs/interface.md is not what the code says; DOORMAN_WRITE_DOCS=1 writes it again");
    }
}

/// The keys of every table of the page, by its heading, and whether each may be absent.
fn documented() -> BTreeMap<String, BTreeMap<String, bool>> {
    let page = read("docs/interface.md");
    let (mut all, mut heading) = (BTreeMap::<String, BTreeMap<String, bool>>::new(), String::new());
    for line in page.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches(['#', ' ']).trim_matches('`').to_owned();
        } else if let Some((key, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | ")) {
            let of = rest.split(" | ").next().unwrap();
            all.entry(heading.clone()).or_default().insert(key.to_owned(), of.contains("may be absent"));
        }
    }
    all
}

/// The path of every value, in the page's spelling.
fn keys(at: &str, value: &Value, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                all.insert(path.clone());
                keys(&path, value, all);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| keys(&format!("{at}[]"), value, all)),
        _ => {}
    }
}

/// Compares one object with its table.
fn hold(heading: &str, value: &Value, pages: &BTreeMap<String, BTreeMap<String, bool>>) {
    let page = pages.get(heading).unwrap_or_else(|| panic!("no table for {heading}"));
    let mut said = BTreeSet::new();
    keys("", value, &mut said);
    let mut free = BTreeSet::from(["counters", "answers"]);
    // In the tables of objects, a key that contains another object has a link to that object's table.
    free.extend(
        page.keys()
            .map(String::as_str)
            .filter(|key| heading.starts_with(char::is_uppercase) && !key.contains('.') && *key != "reply"),
    );
    for key in &said {
        let top = key.split(['.', '[']).next().unwrap();
        let known = page.contains_key(key) || (key != top && free.contains(top));
        assert!(known, "`{key}` of {heading} is not on the page: {value}");
    }
    for (key, optional) in page.iter().filter(|(key, _)| !key.contains(['.', '['])) {
        assert!(*optional || said.contains(key), "`{key}` of {heading} is on the page and was not said: {value}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_daemon_and_its_commands_say_is_what_the_page_says() {
    let pages = documented();
    let site = Site::start().await;
    let daemon = site.daemon_with_env(&[], &[]);
    daemon.stands("live").await.unwrap();
    site.ask("one", 1, true);
    site.until("two are answered", |control| control.counts().pending == 1).await.unwrap();

    let socket = site.path("doorman.sock");
    let op = async |body: Value| {
        let (code, said) = http(&socket, &post(&body.to_string())).await;
        let mut said: Value = serde_json::from_str(&said).unwrap();
        let reply = said.as_object_mut().unwrap().remove("reply");
        (code, reply.and_then(|reply| Some(reply.as_str()?.to_owned())).unwrap_or_default(), said)
    };
    let (code, reply, status) = op(json!({ "op": "status" })).await;
    assert_eq!((code, reply.as_str()), (200, "status"));
    hold("DaemonStatus", &status, &pages);
    hold("AgentStatus", &status["agents"][0], &pages);
    hold("ConfigurationStatus", &status["configuration"], &pages);
    hold("PolicyStatus", &status["policies"][0], &pages);
    let (_, reply, pending) = loop {
        let said = op(json!({ "op": "pending", "agent": null })).await;
        if said.2["requests"].as_array().is_some_and(|rows| rows.len() == 1) {
            break said;
        }
    };
    assert_eq!(reply, "pending");
    hold("PendingList", &pending, &pages);
    hold("PendingRow", &pending["requests"][0], &pages);
    let (_, reply, doubts) = op(json!({ "op": "doubts", "agent": null })).await;
    assert_eq!(reply, "doubts");
    hold("DoubtList", &doubts, &pages);
    let (_, _, reloaded) = op(json!({ "op": "reload", "accept_shrunk": false })).await;
    hold("Reloaded", &reloaded, &pages);
    let target = &pending["requests"][0]["request"];
    let held =
        json!({ "op": "answer", "verdict": "defer", "target": target, "agent": null, "who": { "note": "later" } });
    let (code, reply, answered) = op(held).await;
    assert_eq!((code, reply.as_str()), (200, "answered"));
    hold("AnswerDone", &answered, &pages);
    let (_, _, done) = op(json!({ "op": "pause", "agent": null })).await;
    hold("AgentsDone", &done, &pages);
    let (code, _, error) = op(json!({ "op": "answer", "verdict": "approve", "target": "nobody", "agent": null })).await;
    assert_ne!(code, 200);
    hold("OpError", &error, &pages);
    let (code, _, error) = op(json!({ "op": "dance" })).await;
    assert_eq!((code, error["code"].as_str()), (400, Some("malformed")));

    let asked = pending["requests"][0]["request"].as_str().unwrap();
    for (command, heading) in [
        (&["history", "--json"][..], "history --json"),
        (&["explain", "--json", asked], "explain --json"),
        (&["contacts", "--json"], "contacts --json"),
        (&["doctor", "--json"], "doctor --json"),
        (&["check", "--json"], "check --json"),
        (&["test", "--json"], "test --json"),
        (&["config", "--json"], "config --json"),
        (&["ledger", "info", "--json"], "ledger info --json"),
        (&["ledger", "check", "--json"], "ledger check --json"),
        (&["health", "--json"], "Health"),
        (&["health", "--json", "--ready"], "Health"),
        (&["pending", "--json"], "PendingRow"),
        (&["status", "--json"], "DaemonStatus"),
    ] {
        let (_, out, err) = site.cli(command).await;
        let objects: Vec<Value> = serde_json::Deserializer::from_str(&out).into_iter().map(Result::unwrap).collect();
        assert!(!objects.is_empty(), "{command:?}: {err}");
        for object in &objects {
            hold(heading, object, &pages);
        }
    }
    let (_, out, err) = site.cli(&["history", "--csv"]).await;
    let page = read("docs/interface.md");
    let said = page.split_once("### `history --csv`").and_then(|(_, rest)| rest.split("\n\n").nth(2)).unwrap();
    let columns: Vec<&str> = said.split(',').map(|column| column.trim().trim_matches('`')).collect();
    assert_eq!(out.lines().next(), Some(columns.join(",").as_str()), "{err}");
    daemon.stop().await.unwrap();
}
