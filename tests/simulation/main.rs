//! Runs the pure stages together in virtual time, with all kinds of faults, for thousands of seeds.
//!
//! A failing seed is named; `SIM_TRACE=1` also prints the steps that led to the failure, and `cargo run --release
//! --example simulate -- --seed N` plays that seed alone. `REGRESSIONS` keeps seeds that failed once.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a simulation that fails may say so")]

mod sim;

/// Number of seeds in every `cargo test`; `SIM_SEEDS` sets another number.
const SEEDS: u64 = 2_000;

/// Seeds that once found a fault, and which. What a seed plays changes as the simulation grows; so each fault is also
/// covered by a mutation or a unit test.
const REGRESSIONS: &[(u64, &str)] = &[
    (26, "a wait was counted from a clock that had run ahead"),
    (340, "an intent that never reached anybody bound its request to that answer"),
    (357, "a refusal after an attempt of unknown fate freed the request"),
    (56, "what was listed while the agent was held was put on record as gone"),
    (471, "what a person held was let go when a stale page called it gone"),
    (659, "the first decision after the clock was right again still took the wrong time for first seen"),
    (740, "the same, across a restart"),
    (940, "an answer that the ledger held for open, though it was not, kept its request pending for ever"),
    (454, "an outcome was recorded for an answer that had ended, had come back on a stale page, and was gone again"),
    (1_125, "a start by a clock that ran ahead left history in doubt for as long as it had been ahead"),
    (5_029, "a resume was undone by a reading of the record that had begun before it"),
    (7_939, "a start by a clock that was behind took history that nobody had read for complete"),
    (17_974, "the same, in a held agent"),
    (13_643, "what was given back while the record was read was found on it, and not counted when it was taken again"),
    (1_796, "answers that had ended were forgotten when the clock jumped"),
    (1_816, "a refusal freed a request across a restart"),
    (8_110, "a limit was exceeded: a place that a reload let go of was not paid again"),
    (8_937, "a place was counted from an intent that the ledger had refused, not from the one that went out"),
    (13_207, "an answer that somebody else outdid was given again, uncharged"),
    (108, "a limit rejected because of an answer that was only presumed to be carried out"),
    (79, "a contact was not on record before the end of the answer that made it"),
    (485, "the same"),
    (2_421, "the end of a guest was forgotten if the same answer was given once more"),
    (137, "what was pending under an id used again was not known for a minute after a start"),
    (553, "a rejection of a request that had vanished was not heard after a restart"),
];

/// The same for evenings of several doormen, counted from the first of those.
const FLEET_REGRESSIONS: &[(u64, &str)] = &[
    (80, "the model's writer did not look again after a lease that it could not give"),
    (79, "a doorman that had stood still for long took the connection of another doorman for another client's"),
];

fn seeds() -> u64 {
    std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn whatever_happens_nobody_is_lost_and_nobody_is_answered_twice() {
    let seeds = seeds();
    let asked = sim::ASKED_FROM..sim::ASKED_FROM + seeds / 4;
    let seeds: Vec<u64> = REGRESSIONS.iter().map(|(seed, _)| *seed).chain(0..seeds).chain(asked).collect();
    let played = sim::play(&seeds, false, |_| ());
    assert_eq!(played.failed, [], "replay one with `SIM_TRACE=1 cargo run --release --example simulate -- --seed N`");
    assert_eq!(
        played.summary.missing(sim::faults(sim::ASKED_FROM)),
        [""; 0],
        "faults that never happened, so that nothing was proven of them"
    );
    let answers = played.summary.answers;
    assert!(answers > seeds.len() as u64, "the world was too quiet to prove anything: {answers} answers");
}

/// A twentieth as many as the others.
#[test]
fn several_doormen_lose_nobody_and_never_say_two_things() {
    let seeds = seeds() / 20;
    let seeds: Vec<u64> = FLEET_REGRESSIONS.iter().map(|(seed, _)| *seed).chain(0..seeds).collect();
    let seeds: Vec<u64> = seeds.into_iter().map(|seed| sim::FLEET_FROM + seed).collect();
    let played = sim::play(&seeds, false, |_| ());
    assert_eq!(played.failed, [], "replay one with `SIM_TRACE=1 cargo run --release --example simulate -- --seed N`");
    let missing = played.summary.missing(sim::faults(sim::FLEET_FROM));
    assert_eq!(missing, [""; 0], "faults that never happened, so that nothing was proven of them");
    let answers = played.summary.answers;
    assert!(answers > seeds.len() as u64 * 10, "the world was too quiet to prove anything: {answers} answers");
}

/// The mutations in `mutations.toml` still fit the source, and each was detected, by a seed, a test or a scenario: see
/// `tests/simulation/mutate`.
#[test]
fn every_mutation_fits_the_source_and_was_noticed() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(root.join("tests/simulation/mutations.toml")).unwrap();
    let list: toml::Table = list.parse().unwrap();
    let mutations = list["mutation"].as_array().unwrap();
    assert!(mutations.len() >= 65, "{} mutations", mutations.len());
    let scenarios = std::fs::read_to_string(root.join("tests/postgres/main.rs")).unwrap();
    for mutation in mutations {
        let text = |key: &str| mutation.get(key).and_then(toml::Value::as_str).unwrap_or_default();
        let name = text("name");
        let source = std::fs::read_to_string(root.join(text("file"))).unwrap();
        assert_eq!(source.matches(text("find")).count(), 1, "{name}: `{}` in {}", text("find"), text("file"));
        assert_ne!(text("find"), text("replace"), "{name}");
        let seed = mutation.get("seed").is_some() && !text("found").is_empty();
        let test = text("test").rsplit_once("::").is_some_and(|(file, test)| {
            let source = std::fs::read_to_string(root.join(file)).unwrap();
            source.contains(&format!("fn {test}("))
        });
        let scenario = mutation.get("scenario").is_some() && scenarios.contains(&format!("\"{}\"", text("scenario")));
        let noticed = [seed, test, scenario].into_iter().filter(|noticed| *noticed).count();
        assert_eq!(noticed, 1, "{name}: nothing noticed it yet, or its test has another name by now");
    }
}
