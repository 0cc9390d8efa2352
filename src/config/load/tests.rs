use std::time::Duration;

use super::*;
use crate::config::settings::{ConnectionMode, KeySource};
use crate::document::keys::KeyType;

mod hidden;
mod replies;

const AGENT: &str = "[[agents]]\nid = \"5f0c1a52-0000-4c0e-8f5e-6d1b3a0c9e21\"\n";

fn of(text: &str, env: &[(&str, &str)]) -> Result<LoadedConfig, Report> {
    load_text(Some("/etc/doorman.toml".into()), Some(text), &Env::of(env.iter().copied()), &Overrides::default())
}

fn refused(text: &str, env: &[(&str, &str)]) -> String {
    of(text, env).expect_err("it is refused").render(false)
}

fn taken(text: &str, env: &[(&str, &str)]) -> Settings {
    of(text, env).unwrap_or_else(|report| panic!("{}", report.render(false))).settings
}

#[test]
fn everything_wrong_is_reported_at_once_each_at_its_value() {
    insta::assert_snapshot!(refused(
        r#"
api_key_file = "agent.key"
[platfrom]
url = "x"
[platform]
url = "ftp://somewhere"
socket_url = "wss://user:secret@host/path"
credentials = "headr"
[[agents]]
id = "me"
api_key_file = "a"
api_key_env = "B"
connection = "Take"
rulez = "r.toml"
[[agents]]
rules = 5
[answers]
in_flight = 0
per_second = "many"
[ledger]
keep = "2 years"
[control]
path = "/a/very/long/path/a/very/long/path/a/very/long/path/a/very/long/path/a/very/long/path/a/very/long/path/a/socket"
[reload]
watch = 1
[log]
format = "xml"
level = "loud,,"
[timing]
heartbeet = "1s"
drain = "0s"
"#,
        &[]
    ));
}

#[test]
fn what_is_no_toml_is_shown_where_it_stops_being_it() {
    insta::assert_snapshot!(refused("[platform]\nurl = \"x\n[agents\n", &[]));
}

#[test]
fn one_agent_in_a_plain_table_is_refused_with_how_it_is_written() {
    insta::assert_snapshot!(refused("[agents]\nid = \"5f0c1a52-0000-4c0e-8f5e-6d1b3a0c9e21\"\n", &[]));
}

#[test]
fn the_environment_is_judged_by_the_same_measure() {
    let wrong = [
        ("DOORMAN_LOG_FORMAT", "jsn"),
        ("DOORMAN_ANSWERS_IN_FLIGHT", "2000"),
        ("DOORMAN_TIMING_DRAIN", "soon"),
        ("DOORMAN_RELOAD_WATCH", "yes"),
        ("DOORMAN_ANSWERS_PERSECOND", "5"),
        ("BAND_REST_URL", "app.band.ai"),
        ("DOORMAN_AGENT_ID", "me"),
        ("DOORMAN_CONNECTION", "steal"),
    ];
    insta::assert_snapshot!(refused("", &wrong));
}

#[test]
fn what_may_be_a_mistake_is_warned_about() {
    let text = format!("[platform]\nurl = \"http://band.example\"\n{AGENT}api_key_env = \"DOORMAN_MY_KEY\"\n");
    let loaded = of(&text, &[("DOORMAN_LOGLEVEL", "debug"), ("DOORMAN_MY_KEY", "k"), ("DOORMAN_CONFIG", "c")]).unwrap();
    insta::assert_snapshot!(loaded.report.render(false));
}

/// `take` is allowed, but gives a warning wherever it is set.
#[test]
fn take_is_warned_about() {
    let file = format!("{AGENT}connection = \"take\"\n");
    let variables = [("DOORMAN_AGENT_ID", "5f0c1a52-0000-4c0e-8f5e-6d1b3a0c9e21"), ("DOORMAN_CONNECTION", "take")];
    for (text, env) in [(file.as_str(), &[][..]), ("", &variables)] {
        let loaded = of(text, env).unwrap();
        let said = loaded.report.render(false);
        assert!(said.contains("ends an official client of this agent for good"), "{said}");
        assert_eq!(said.contains("doorman.toml:"), !text.is_empty(), "{said}");
    }
    for quiet in ["yield", "poll"] {
        let loaded = of(&format!("{AGENT}connection = \"{quiet}\"\n"), &[]).unwrap();
        assert!(!loaded.report.render(false).contains("official client"));
    }
}

#[test]
fn a_mistyped_log_level_is_refused_where_it_stands() {
    let said = refused(&format!("{AGENT}[log]\nlevel = 'loud'\n"), &[("DOORMAN_TIMING_DRAIN", "x")]);
    assert!(said.contains("doorman.toml:4:9") && said.contains("`loud` is not a valid `level`"), "{said}");
    let said = refused(AGENT, &[("DOORMAN_LOG_LEVEL", "inof")]);
    assert!(said.contains("`DOORMAN_LOG_LEVEL` = `inof`") && said.contains("did you mean `info`?"), "{said}");
    let mut overrides = Overrides::default();
    overrides.set("log.level", "wran".to_owned());
    let said = load_text(None, Some(AGENT), &Env::default(), &overrides).unwrap_err().render(false);
    assert!(said.contains("`log.level` = `wran`") && said.contains("did you mean `warn`?"), "{said}");
}

#[test]
fn times_that_contradict_each_other_are_refused_each_at_its_value() {
    insta::assert_snapshot!(refused(
        &format!(
            "{AGENT}[timing]\nheartbeat = \"60s\"\ndead_after = \"66s\"\nbackoff_min = \"2m\"\nrefused_min = \"5m\"\n\
             refused_max = \"4m\"\n"
        ),
        &[]
    ));
    let said = refused(AGENT, &[("DOORMAN_TIMING_HEARTBEAT", "50s")]);
    assert!(said.contains("`DOORMAN_TIMING_HEARTBEAT` = `50s`") && said.contains("`dead_after` is 55s"), "{said}");
    let equal = "[timing]\nheartbeat = \"60s\"\ndead_after = \"67s\"\nbackoff_max = \"1s\"\nbackoff_min = \"1s\"\n";
    taken(&format!("{AGENT}{equal}"), &[]);
}

#[test]
fn one_agent_in_two_spellings_is_there_twice_and_is_called_as_the_platform_does() {
    let id = "5f0c1a52-0000-4c0e-8f5e-6d1b3a0c9e21";
    for spelling in [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}")] {
        let agent = format!("[[agents]]\nid = \"{spelling}\"\n");
        assert_eq!(taken(&agent, &[]).agents[0].id.as_str(), id);
        assert_eq!(taken("", &[("DOORMAN_AGENT_ID", &spelling)]).agents[0].id.as_str(), id);
        let said = refused(&format!("{AGENT}{agent}"), &[]);
        assert!(said.contains("is there twice") && said.contains("doorman.toml:4:6"), "{said}");
    }
}

#[test]
fn where_an_agent_and_the_addresses_came_from_is_shown() {
    let text = format!("[platform]\nurl = \"https://band.example\"\n{AGENT}connection = \"take\"\n");
    let loaded = of(&text, &[("DOORMAN_PLATFORM_SOCKET_URL", "wss://band.example/x")]).unwrap();
    let origin = |key: &str| loaded.origins.iter().find(|(name, ..)| name == key).map(|(_, _, origin)| origin.as_str());
    assert_eq!(origin("platform.rest_url"), Some("from `platform.url`"));
    assert_eq!(origin("platform.socket_url"), Some("`DOORMAN_PLATFORM_SOCKET_URL`"));
    let origins_of = |loaded: &LoadedConfig| format!("{:?}", loaded.agents);
    assert_eq!(
        origins_of(&loaded),
        r#"[AgentOrigins { id: "the file", rules: "the default", connection: "the file" }]"#
    );
    let alone = [("BAND_AGENT_ID", "5f0c1a52-0000-4c0e-8f5e-6d1b3a0c9e21"), ("DOORMAN_RULES", "r.toml")];
    assert_eq!(
        origins_of(&of("", &alone).unwrap()),
        r#"[AgentOrigins { id: "`BAND_AGENT_ID`", rules: "`DOORMAN_RULES`", connection: "the default" }]"#
    );
}

#[test]
fn an_agent_that_is_there_twice_is_refused() {
    insta::assert_snapshot!(refused(&format!("{AGENT}{AGENT}"), &[]));
}

#[test]
fn without_anything_it_says_what_to_do() {
    let report = load_text(None, None, &Env::default(), &Overrides::default()).unwrap_err();
    insta::assert_snapshot!(report.render(false));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let text = format!("{AGENT}[log]\nlevel = \"warn\"\n[answers]\nin_flight = 3\nper_second = 4\n");
    let env =
        Env::of([("DOORMAN_LOG_LEVEL", "debug"), ("DOORMAN_ANSWERS_IN_FLIGHT", "5"), ("DOORMAN_LEDGER_PATH", "")]);
    let mut overrides = Overrides::default();
    overrides.set("log.level", "trace".to_owned());
    let loaded = load_text(Some("/etc/doorman/doorman.toml".into()), Some(&text), &env, &overrides).unwrap();
    assert_eq!(loaded.settings.log.level, "trace");
    assert_eq!((loaded.settings.answers.in_flight, loaded.settings.answers.per_second), (5, 4));
    let origin = |key: &str| loaded.origins.iter().find(|(name, ..)| name == key).map(|(_, _, origin)| origin.as_str());
    assert_eq!(origin("log.level"), Some("a flag"));
    assert_eq!(origin("answers.in_flight"), Some("`DOORMAN_ANSWERS_IN_FLIGHT`"));
    assert_eq!(origin("answers.per_second"), Some("the file"));
    assert_eq!(origin("timing.drain"), Some("the default"));
    assert_eq!(origin("ledger.path"), Some("the default"), "an empty variable is not set");
}

#[test]
fn one_agent_needs_no_file() {
    let env = Env::of([
        ("BAND_AGENT_ID", "5f0c1a52-0000-4c0e-8f5e-6d1b3a0c9e21"),
        ("BAND_API_KEY", "k"),
        ("BAND_REST_URL", "https://band.example/"),
        ("BAND_WS_URL", "wss://band.example/api/v1/socket/websocket"),
        ("DOORMAN_RULES", "/srv/rules.toml"),
        ("DOORMAN_CONNECTION", "poll"),
    ]);
    let settings = load_text(None, None, &env, &Overrides::default()).unwrap().settings;
    let agent = &settings.agents[0];
    assert_eq!(agent.key, KeySource::Env("BAND_API_KEY".to_owned()));
    assert_eq!(agent.rules, Path::new("/srv/rules.toml"));
    assert_eq!(agent.connection, ConnectionMode::Poll);
    assert_eq!(settings.platform.rest.as_str(), "https://band.example/api/v1");
    assert_eq!(settings.platform.socket.as_str(), "wss://band.example/api/v1/socket/websocket");
}

#[test]
fn the_sdks_addresses_count_only_if_nobody_named_a_platform() {
    let band =
        [("BAND_REST_URL", "https://band.example"), ("BAND_WS_URL", "wss://band.example/api/v1/socket/websocket")];
    let hosts = |text: &str, env: &[(&str, &str)]| {
        let platform = taken(text, env).platform;
        (platform.rest.host_str().unwrap().to_owned(), platform.socket.host_str().unwrap().to_owned())
    };
    let both = |host: &str| (host.to_owned(), host.to_owned());
    assert_eq!(hosts(AGENT, &band), both("band.example"));
    let file = format!("[platform]\nurl = \"https://mine.example\"\n{AGENT}");
    assert_eq!(hosts(&file, &band), both("mine.example"));
    let ours = [band[0], band[1], ("DOORMAN_PLATFORM_URL", "https://ours.example")];
    assert_eq!(hosts(AGENT, &ours), both("ours.example"));
    assert_eq!(hosts(&file, &ours), both("ours.example"));
    let half = format!("[platform]\nrest_url = \"https://mine.example\"\n{AGENT}");
    assert_eq!(hosts(&half, &band).0, "mine.example");
}

#[test]
fn an_address_is_the_same_however_it_is_spelt() {
    let platform = |text: &str, env: &[(&str, &str)]| {
        let platform = taken(text, env).platform;
        (platform.rest.to_string(), platform.socket.to_string())
    };
    let wanted = |scheme: &str, socket: &str, host: &str| {
        (format!("{scheme}://{host}/api/v1"), format!("{socket}://{host}/api/v1/socket/websocket"))
    };
    for written in ["HTTPS://Band.Example", "https://band.example:443/", "https://BAND.example/api/v1/"] {
        let file = format!("[platform]\nurl = \"{written}\"\n{AGENT}");
        assert_eq!(platform(&file, &[]), wanted("https", "wss", "band.example"), "{written}");
        let of_sdk = [("BAND_REST_URL", written)];
        assert_eq!(platform(AGENT, &of_sdk), wanted("https", "wss", "band.example"), "{written}");
    }
    let of_sdk = [("BAND_WS_URL", "WSS://Band.Example:443/api/v1/socket/websocket")];
    assert_eq!(platform(AGENT, &of_sdk), wanted("https", "wss", "band.example"));
    let v6 = format!("[platform]\nurl = \"HTTP://[0:0::1]:4400\"\n{AGENT}");
    assert_eq!(platform(&v6, &[]), wanted("http", "ws", "[::1]:4400"));
}

#[test]
fn an_address_of_this_machine_is_one_however_it_is_spelt() {
    let warned = |text: &str| !of(&format!("{text}\n{AGENT}"), &[]).unwrap().report.problems.is_empty();
    for host in
        ["localhost", "LOCALHOST.", "band.localhost.", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"]
    {
        assert!(!warned(&format!("[platform]\nurl = \"http://{host}:4400\"")), "{host}");
    }
    for host in ["localhost.example", "10.0.0.1", "[2001:db8::1]", "[::ffff:10.0.0.1]"] {
        assert!(warned(&format!("[platform]\nurl = \"http://{host}:4400\"")), "{host}");
    }
    for (listen, remote) in [("127.0.0.1", false), ("[::1]", false), ("[::ffff:127.0.0.1]", false), ("0.0.0.0", true)] {
        assert_eq!(warned(&format!("[metrics]\nlisten = \"{listen}:9464\"")), remote, "{listen}");
    }
}

#[test]
fn the_environments_agent_does_not_count_beside_those_of_the_file() {
    let settings = taken(AGENT, &[("DOORMAN_AGENT_ID", "00000000-0000-4000-8000-000000000009")]);
    assert_eq!(settings.agents.len(), 1);
    assert_eq!(settings.agents[0].id.as_str(), "5f0c1a52-0000-4c0e-8f5e-6d1b3a0c9e21");
}

#[test]
fn paths_are_relative_to_the_file_and_addresses_follow_from_one() {
    let text = format!(
        "[platform]\nurl = \"https://band.example\"\nca_file = \"ca.pem\"\n{AGENT}api_key_file = \"k\"\n[ledger]\npath = \"l.db\"\n"
    );
    let settings = load_text(Some("/srv/d/doorman.toml".into()), Some(&text), &Env::default(), &Overrides::default());
    let settings = settings.unwrap().settings;
    assert_eq!(settings.ledger.path, Path::new("/srv/d/l.db"));
    assert_eq!(settings.agents[0].rules, Path::new("/srv/d/rules.toml"));
    assert_eq!(settings.agents[0].key, KeySource::File("/srv/d/k".into()));
    assert_eq!(settings.platform.ca_file.as_deref(), Some(Path::new("/srv/d/ca.pem")));
    assert_eq!(settings.platform.socket.as_str(), "wss://band.example/api/v1/socket/websocket");
}

#[test]
fn the_tables_of_keys_say_what_the_code_does() {
    let loaded = of(AGENT, &[("STATE_DIRECTORY", "/s"), ("RUNTIME_DIRECTORY", "/r")]).unwrap();
    let names: Vec<&str> = loaded.origins.iter().map(|(key, ..)| key.as_str()).collect();
    let mut described: Vec<String> = env::scalars().collect();
    described.sort();
    let mut sorted: Vec<&str> = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, described, "every scalar that is described is read, and every one that is read is described");
    for (key, value, _) in &loaded.origins {
        let (path, name) = key.split_once('.').unwrap();
        let section = keys::SECTIONS.iter().find(|section| section.path == path).unwrap();
        let known = section.keys.iter().find(|known| known.name == name).unwrap();
        let same = match known.takes {
            KeyType::Duration => crate::document::duration(known.default) == crate::document::duration(value),
            _ => match known.default {
                "none" => value.is_empty(),
                "from `url`" => value.contains("app.band.ai"),
                "ledger.db in the state directory" => value == "/s/ledger.db",
                "doorman.sock in the runtime directory" => value == "/r/doorman.sock",
                default => default == value,
            },
        };
        assert!(same, "{key}: described as `{}`, and is `{value}`", known.default);
    }
}

#[test]
fn the_ledger_goes_by_systemd_then_xdg_then_home() {
    let place = |set: &[(&str, &str)]| {
        let found = load_text(None, Some(AGENT), &Env::of(set.iter().copied()), &Overrides::default());
        found.unwrap().settings.ledger.path.display().to_string()
    };
    let all = [("STATE_DIRECTORY", "/var/lib/doorman:/x"), ("XDG_STATE_HOME", "/s"), ("HOME", "/h")];
    assert_eq!(place(&all), "/var/lib/doorman/ledger.db");
    assert_eq!(place(&all[1..]), "/s/doorman/ledger.db");
    assert_eq!(place(&all[2..]), "/h/.local/state/doorman/ledger.db");
    assert_eq!(place(&[("STATE_DIRECTORY", ""), ("HOME", "/h")]), "/h/.local/state/doorman/ledger.db");
}

#[test]
fn places_are_found_while_the_rest_is_being_corrected() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("doorman.toml");
    let text = "nonsense = 1\n[[agents]]\nid = \"x\"\nrules = \"a.toml\"\n[ledger]\npath = \"l.db\"\n[control]\npath = \"run/x.sock\"\n";
    std::fs::write(&file, text).unwrap();
    let found = places(Some(&file), &Env::default()).unwrap();
    let here = |name: &str| directory.path().join(name);
    assert_eq!((found.ledger, found.control), (here("l.db"), vec![here("run/x.sock")]));
    assert_eq!(found.rules, [("x".to_owned(), here("a.toml"))]);
    let spelt = "[[agents]]\nid = \"5F0C1A5200004C0E8F5E6D1B3A0C9E21\"\n";
    std::fs::write(&file, spelt).unwrap();
    assert_eq!(places(Some(&file), &Env::default()).unwrap().rules[0].0, "5f0c1a52-0000-4c0e-8f5e-6d1b3a0c9e21");
    std::fs::write(&file, "nonsense").unwrap();
    assert!(places(Some(&file), &Env::default()).unwrap_err().has_errors(), "no TOML");
    assert!(places(Some(&here("none.toml")), &Env::default()).unwrap_err().has_errors(), "named, and not there");
}

#[test]
fn a_command_looks_first_where_the_daemon_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("doorman.toml");
    std::fs::write(&file, AGENT).unwrap();
    for environment in [
        &[][..],
        &[("HOME", "/h")],
        &[("HOME", "/h"), ("XDG_STATE_HOME", "state")],
        &[("STATE_DIRECTORY", "/s:/t"), ("HOME", "/h")],
        &[("XDG_RUNTIME_DIR", "run"), ("HOME", "/h")],
        &[("RUNTIME_DIRECTORY", "/r:/q"), ("XDG_RUNTIME_DIR", "/run/user/7")],
        &[("DOORMAN_CONTROL_PATH", "x.sock"), ("XDG_RUNTIME_DIR", "/run/user/7")],
        &[("DOORMAN_CONTROL_PATH", "x.sock"), ("DOORMAN_CONTROL_READ_PATH", "y.sock")],
        &[("DOORMAN_CONTROL_READ_PATH", "y.sock")],
    ] {
        let env = Env::of(environment.iter().copied());
        let settings = load(Some(&file), &env, &Overrides::default()).unwrap().settings;
        let found = places(Some(&file), &env).unwrap();
        assert_eq!(settings.control.path, found.control[0], "{environment:?}");
        assert_eq!(settings.ledger.path, found.ledger, "{environment:?}");
        assert!(settings.control.read_path.is_none_or(|read| read == found.read[0]), "{environment:?}");
    }
    let env = Env::of([("DOORMAN_CONTROL_PATH", "x.sock"), ("HOME", "/h")]);
    let found = places(Some(&file), &env).unwrap();
    assert_eq!(found.control, [directory.path().join("x.sock")], "who named one means no other");
}

#[test]
fn what_changed_and_needs_a_restart_is_named() {
    let before = taken(AGENT, &[]);
    let mut now = before.clone();
    assert_eq!(needs_restart(&before, &now), Vec::<String>::new());
    now.answers.in_flight = 1;
    now.timing.drain = Duration::from_secs(1);
    assert_eq!(needs_restart(&before, &now), ["answers", "timing"]);
}

#[test]
fn the_committed_schema_is_the_one_of_this_version() {
    let committed = include_str!("../../../config/doorman.schema.json");
    let now = format!("{:#}\n", keys::schema());
    assert!(committed == now, "run `doorman schema doorman > config/doorman.schema.json`");
}

proptest::proptest! {
    #[test]
    fn any_text_gives_settings_or_problems(text in "(?s).{0,300}") {
        drop(of(&text, &[]).map_err(|report| report.render(true)));
    }

    #[test]
    fn any_values_give_settings_or_problems(
        section in proptest::sample::select(vec!["platform", "answers", "ledger", "control", "reload", "log", "timing"]),
        key in 0usize..20,
        value in proptest::sample::select(vec!["0", "-1", "true", "\"\"", "\"x\"", "[]", "{}", "1e400", "99999999999999999999", "\"1d\"", "2020-01-01"]),
    ) {
        let section = keys::SECTIONS.iter().find(|known| known.path == section).unwrap();
        let key = section.keys[key % section.keys.len()].name;
        let text = format!("{AGENT}[{}]\n{key} = {value}\n", section.path);
        drop(of(&text, &[]).map_err(|report| report.render(true)));
    }
}
