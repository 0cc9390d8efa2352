//! Runs the corpora of the fuzz targets, and every input that ever found a fault, through the same functions on the
//! stable toolchain. `tests/fuzz/run` extends the corpora: see `docs/fuzzing.md`.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// A target with fewer inputs has no useful corpus.
const SEEDS_MIN: usize = 5;

#[test]
fn every_input_that_fuzzing_kept_is_survived() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for (name, target) in targets::TARGETS {
        let mut played = 0;
        for kind in ["corpus", "found"] {
            let Ok(folder) = std::fs::read_dir(root.join(kind).join(name)) else { continue };
            for file in folder {
                let path = file.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let survived = std::panic::catch_unwind(|| target(&bytes));
                assert!(survived.is_ok(), "{}", path.display());
                played += 1;
            }
        }
        assert!(played >= SEEDS_MIN, "{name}: {played} inputs");
    }
}

/// The keys of all tables in a JSON Schema.
fn known(schema: &Value, keys: &mut BTreeSet<String>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    keys.extend(properties.into_iter().flat_map(|all| all.keys().cloned()));
    let inside: Vec<&Value> = match schema {
        Value::Object(all) => all.values().collect(),
        Value::Array(all) => all.iter().collect(),
        _ => Vec::new(),
    };
    inside.into_iter().for_each(|one| known(one, keys));
}

/// The keys of all tables of a file.
fn written(value: &toml::Value, keys: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, value)| {
            keys.insert(key.clone());
            written(value, keys);
        }),
        toml::Value::Array(all) => all.iter().for_each(|one| written(one, keys)),
        _ => {}
    }
}

#[test]
fn the_corpora_of_the_rules_have_every_key_in_files_that_load() {
    let schema = doorman::policy::schema();
    let conditions = &schema["definitions"]["rules-when"];
    assert!(conditions["properties"]["list"].is_object(), "where the conditions are: {schema}");
    let history = &schema["definitions"]["rules-when-history"];
    assert!(history["properties"]["rejected_over"].is_object(), "where the keys of `history` are: {schema}");
    for (target, wanted) in [("rules", vec![&schema]), ("evaluator", vec![conditions, history])] {
        let (mut keys, mut has) = (BTreeSet::new(), BTreeSet::new());
        wanted.into_iter().for_each(|one| known(one, &mut keys));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
        for file in std::fs::read_dir(folder).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            for text in targets::loading(target, &bytes) {
                written(&text.parse::<toml::Table>().unwrap().into(), &mut has);
            }
        }
        let missing: Vec<_> = keys.difference(&has).collect();
        assert!(keys.len() > 10 && missing.is_empty(), "{target}: {missing:?}");
    }
}
