//! `include`: several files read as one, each with its own places, its own directory and its own dangers.

use super::*;

const MAIN: &str = "version = 1
include = [\"common.toml\"]
[rules.ann]
then = \"approve\"
when = { owner = \"ann\" }
unless = [{ window = \"nights\" }]
";
const COMMON: &str = "version = 1
[policy]
protect = [\"acme\"]
[lists.blocked]
file = \"blocked.txt\"
[windows.nights]
tz = \"UTC\"
from = \"22:00\"
to = \"06:00\"
[rules.blocked]
then = \"reject\"
when = { list = \"blocked\" }
[tests.mallory]
request = { from_handle = \"mallory\" }
expect = { verdict = \"reject\", by = \"blocked\" }
";

fn dir() -> Dir {
    let dir = Dir(tempfile::tempdir().unwrap());
    dir.write("rules.toml", MAIN);
    dir.write("common.toml", COMMON);
    dir.write("blocked.txt", "mallory\n");
    dir
}

fn rule(name: &str, then: &str) -> String {
    format!("[rules.{name}]\nthen = \"{then}\"\nwhen = {{ owner = \"{name}\" }}\n")
}

fn including(files: &[&str]) -> String {
    format!("version = 1\ninclude = {files:?}\n")
}

#[test]
fn an_included_file_is_part_of_the_policy() {
    let dir = dir();
    let loaded = dir.load();
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    let policy = loaded.policy.unwrap();
    let rules: Vec<_> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(rules, ["ann", "blocked"]);
    assert_eq!(policy.protect.owners.len(), 1);
    assert_eq!((loaded.tests.len(), loaded.tests[0].passed), (1, true), "its tests are run");
    let names: Vec<_> = policy.texts.iter().map(|text| text.name.as_str()).collect();
    assert_eq!(names, ["rules.toml", "blocked.txt", "common.toml"]);
    let again = load_texts(Path::new("rules.toml"), &policy.texts).policy.unwrap();
    assert_eq!((again.hash.clone(), again.rules.len()), (policy.hash.clone(), 2), "from the record");
    dir.write("common.toml", format!("{COMMON}# more\n"));
    assert_ne!(dir.load().policy.unwrap().hash, policy.hash, "the hash is of it, too");
}

#[test]
fn its_files_are_beside_it() {
    let dir = dir();
    fs::create_dir_all(dir.path("shared/more")).unwrap();
    let third = rule("third", "defer").replace("owner", "list");
    dir.write("shared/common.toml", COMMON.replace("version = 1", "version = 1\ninclude = [\"more/third.toml\"]"));
    dir.write("shared/more/third.toml", format!("version = 1\n[lists.third]\nfile = \"third.txt\"\n{third}"));
    dir.write("shared/more/third.txt", "zoe\n");
    dir.write("shared/blocked.txt", "mallory\nmallory/*\n");
    dir.write("rules.toml", MAIN.replace("common.toml", "shared/common.toml"));
    let loaded = dir.load();
    let policy = loaded.policy.unwrap();
    let names: Vec<_> = policy.texts.iter().skip(1).map(|text| text.name.as_str()).collect();
    let beside = ["shared/blocked.txt", "shared/common.toml", "shared/more/third.toml", "shared/more/third.txt"];
    assert_eq!(names, beside);
    assert!(policy.list("blocked").unwrap().contains(&crate::model::Handle::parse("mallory/bot").unwrap()));
    assert_eq!(load_texts(Path::new("x.toml"), &policy.texts).policy.unwrap().rules.len(), 3);
    let looked: Vec<_> = loaded.files.iter().map(|stamp| stamp.path.clone()).collect();
    for name in names {
        assert!(looked.contains(&dir.path(name)), "{name} is watched");
    }
}

#[test]
fn each_problem_is_at_its_own_file_and_line() {
    let dir = dir();
    let odd = "[rules.odd]\nthen = \"rejct\"\nwhen = { ownr = 1 }\n";
    dir.write("common.toml", COMMON.replace("list = \"blocked\"", "list = \"blokked\"") + odd);
    let said = dir.refused();
    for (place, what) in [
        ("common.toml:12:17", "there is no list `blokked`"),
        ("common.toml:17:8", "`rejct` is not a value"),
        ("common.toml:18:10", "has no key `ownr`"),
    ] {
        assert!(said.contains(place) && said.contains(what), "{place}: {said}");
    }
    assert!(!said.contains("rules.toml:"), "{said}");
    dir.write("common.toml", "version = 1\n[rules.x\n");
    assert!(dir.refused().contains("common.toml:2:"), "what is no TOML");
    dir.write("common.toml", COMMON.replace("verdict = \"reject\"", "verdict = \"defer\""));
    let said = dir.refused();
    assert!(said.contains("the test `mallory` fails") && said.contains("common.toml:15:10"), "{said}");
    dir.write("blocked.txt", "not a handle\n");
    assert!(dir.refused().contains("blocked.txt:1:1"));
    dir.write("rules.toml", MAIN.replace("nights", "days"));
    let said = dir.refused();
    assert!(said.contains("rules.toml:6:22") && said.contains("no window `days`"), "{said}");
}

#[test]
fn an_included_file_lets_nobody_in_and_settles_nothing_for_the_whole() {
    for (more, why) in [
        (rule("eve", "approve"), "the included rule `eve` approves"),
        (rule("eve", "approve") + "shadow = true\n", "the included rule `eve` approves"),
        ("[overdue.x]\nafter = \"7d\"\nthen = \"reject\"\n".to_owned(), "`overdue` has no place in an included file"),
    ] {
        let dir = dir();
        dir.write("common.toml", format!("{COMMON}{more}"));
        let said = dir.refused();
        assert!(said.contains(why) && said.contains("common.toml:"), "{said}");
    }
    let quota = "{ count = 1, per = \"1h\" }";
    for (key, value) in [("mode", "\"enforce\""), ("no_match", "\"reject\""), ("approvals_max", quota)] {
        let dir = dir();
        dir.write("common.toml", COMMON.replace("[policy]\n", &format!("[policy]\n{key} = {value}\n")));
        assert!(dir.refused().contains(&format!("`{key}` has no place in an included file")), "{key}");
    }
}

#[test]
fn a_name_in_two_files_is_refused_with_both_places() {
    let test = "[tests.mallory]\nrequest = { from_handle = \"eve\" }\nexpect = { verdict = \"defer\" }\n";
    for (more, what, first) in [
        (rule("ann", "reject"), "the rule `ann` is in two files", "rules.toml:3"),
        ("[windows.nights]\ntz = \"UTC\"\nfrom = \"21:00\"\n".to_owned(), "the window `nights`", "common.toml:6"),
        ("[lists.blocked]\nentries = [\"eve\"]\n".to_owned(), "the list `blocked`", "common.toml:4"),
        (test.to_owned(), "the test `mallory`", "common.toml:13"),
    ] {
        let dir = dir();
        dir.write("rules.toml", MAIN.replace("common.toml\"", "common.toml\", \"other.toml\""));
        dir.write("other.toml", format!("version = 1\n{more}"));
        let said = dir.refused();
        assert!(said.contains(what) && said.contains("other.toml:2:"), "{said}");
        assert!(said.contains("the first is at ") && said.contains(&format!("{first}:")), "{first}: {said}");
    }
}

#[test]
fn circles_depth_and_number_are_bounded() {
    let dir = dir();
    fs::create_dir_all(dir.path("x")).unwrap();
    for circle in [&["rules.toml"][..], &["./common.toml"], &["other.toml"]] {
        dir.write("common.toml", including(circle));
        dir.write("other.toml", including(&["x/../common.toml"]));
        assert!(dir.refused().contains("includes itself"), "{circle:?}");
    }
    // Two that include the same third one are no circle, and no clash.
    dir.write("rules.toml", MAIN.replace("common.toml\"", "a.toml\", \"b.toml\""));
    for name in ["a.toml", "b.toml"] {
        dir.write(name, including(&["common.toml"]));
    }
    dir.write("common.toml", COMMON);
    assert_eq!(dir.load().policy.unwrap().rules.len(), 2);
    for deep in 0..6 {
        dir.write(&format!("deep-{deep}.toml"), including(&[&format!("deep-{}.toml", deep + 1)]));
    }
    dir.write("deep-6.toml", "version = 1\n");
    dir.write("rules.toml", MAIN.replace("common.toml\"", "common.toml\", \"deep-3.toml\""));
    assert!(dir.load().policy.is_some(), "four deep");
    dir.write("rules.toml", MAIN.replace("common.toml\"", "common.toml\", \"deep-2.toml\""));
    let said = dir.refused();
    assert!(said.contains("more than 4 deep") && said.contains("deep-5.toml:2"), "{said}");
    let many: Vec<String> = (0..33).map(|n| format!("many-{n}.toml")).collect();
    for name in &many {
        dir.write(name, format!("version = 1\n# {name}\n"));
    }
    let some = |count: usize| {
        including(&many[..count].iter().map(String::as_str).collect::<Vec<_>>()) + &rule("ann", "approve")
    };
    dir.write("rules.toml", some(32));
    assert!(dir.load().policy.is_some());
    dir.write("rules.toml", some(33));
    assert!(dir.refused().contains("at most 32 files"));
    dir.write("rules.toml", including(&["many-0.toml"; 300]) + &rule("ann", "approve"));
    assert!(dir.refused().contains("too much is included"), "however often one is named");
    for (files, why) in [
        ("[]", "`include` is empty"),
        ("[\"\"]", "names no path"),
        ("[\"missing.toml\"]", "cannot be read"),
        ("\"common.toml\"", "does not take a string"),
        ("[\"blocked.txt\"]", "blocked.txt:1:"),
    ] {
        dir.write("rules.toml", format!("version = 1\ninclude = {files}\n"));
        assert!(dir.refused().contains(why), "{files}: {}", dir.refused());
    }
}

#[test]
fn an_included_file_that_everybody_may_write_is_refused() {
    let dir = dir();
    dir.mode("common.toml", 0o666);
    let said = dir.refused();
    assert!(said.contains("common.toml") && said.contains("may be written by everybody"), "{said}");
    dir.mode("common.toml", 0o644);
    dir.write("common.toml", b"version = 1\n# \xff\n");
    assert!(dir.refused().contains("line 2 is not UTF-8"));
    fs::remove_file(dir.path("common.toml")).unwrap();
    nix::unistd::mkfifo(&dir.path("common.toml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(dir.refused().contains("is a pipe"));
}

#[test]
fn a_list_of_an_included_file_that_shrank_needs_a_word() {
    let dir = dir();
    dir.write("blocked.txt", "mallory\neve\nbob\n");
    let running = dir.load().policy.unwrap();
    dir.write("blocked.txt", "mallory\n");
    let path = dir.path("rules.toml");
    let loaded = load(&path, Some(&running), &Shrunk::Refuse);
    assert!(loaded.policy.is_none() && loaded.shrunk);
    let removed = Shrunk::Removed { files: vec![dir.path("blocked.txt")], entries: 2 };
    assert!(load(&path, Some(&running), &removed).policy.is_some());
}

#[test]
fn warnings_of_time_are_at_the_included_file() {
    let dir = dir();
    dir.write("common.toml", format!("{COMMON}{}until = 2026-01-01\n", rule("eve", "reject")));
    let mut loaded = dir.load();
    let now = "2026-06-01T00:00:00Z".parse().ok();
    crate::policy::lint(&mut loaded, &crate::policy::LintContext { now, ..Default::default() });
    let said = loaded.report.render(false);
    assert!(said.contains("the rule `eve` has ended") && said.contains("common.toml:19:9"), "{said}");
}
