mod included;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;

const RULES: &str = "version = 1\n[lists.friends]\nfile = \"friends.txt\"\n[rules.friends]\nthen = \"approve\"\nwhen = { list = \"friends\" }\n\
                     [tests.ann]\nrequest = { from_handle = \"ann\" }\nexpect = { verdict = \"approve\" }\n";

struct Dir(tempfile::TempDir);

impl Dir {
    /// A directory with valid rules and a list.
    fn new() -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        dir.write("rules.toml", RULES);
        dir.write("friends.txt", "ann\nbob\ncid\n");
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
        self.mode(name, 0o644);
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self) -> LoadedPolicy {
        load(&self.path("rules.toml"), None, &Shrunk::Refuse)
    }

    fn refused(&self) -> String {
        let loaded = self.load();
        assert!(loaded.policy.is_none() && loaded.report.has_errors());
        loaded.report.render(false)
    }
}

#[test]
fn lists_are_found_beside_the_rules() {
    let loaded = Dir::new().load();
    assert_eq!(loaded.report.render(false), "");
    assert_eq!(loaded.tests.len(), 1);
    let texts = loaded.policy.unwrap().texts.clone();
    let names: Vec<_> = texts.iter().map(|text| text.name.as_str()).collect();
    assert_eq!(names, ["rules.toml", "friends.txt"]);
}

#[test]
fn a_file_that_everybody_may_write_is_refused() {
    for name in ["rules.toml", "friends.txt"] {
        let dir = Dir::new();
        dir.mode(name, 0o666);
        let said = dir.refused();
        assert!(said.contains("may be written by everybody") && said.contains("chmod o-w"), "{said}");
    }
}

#[test]
fn a_file_that_another_group_may_write_is_warned_about() {
    for name in ["rules.toml", "friends.txt"] {
        let dir = Dir::new();
        dir.mode(name, 0o664);
        assert_eq!(dir.load().report.render(false), "", "one's own group is no stranger");
        let foreign = nix::unistd::getegid().as_raw() + 1;
        if std::os::unix::fs::chown(dir.path(name), None, Some(foreign)).is_err() {
            // Only root, and members of both groups, may give a file away.
            return;
        }
        let loaded = dir.load();
        assert!(loaded.policy.is_some());
        let said = loaded.report.render(false);
        assert!(said.starts_with("warning") && said.contains("may be written by the group"), "{said}");
    }
}

#[test]
fn what_is_no_text_file_is_refused() {
    let dir = Dir::new();
    dir.write("rules.toml", b"version = 1\n# \xff\n");
    assert!(dir.refused().contains("line 2 is not UTF-8"));

    fs::remove_file(dir.path("rules.toml")).unwrap();
    assert!(dir.refused().contains("cannot be read: no such file"));

    fs::create_dir(dir.path("rules.toml")).unwrap();
    assert!(dir.refused().contains("is a directory"));

    fs::remove_dir(dir.path("rules.toml")).unwrap();
    nix::unistd::mkfifo(&dir.path("rules.toml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(dir.refused().contains("is a pipe"));
}

#[test]
fn a_file_is_read_no_further_than_its_bound() {
    for name in ["rules.toml", "friends.txt"] {
        let dir = Dir::new();
        fs::File::options().write(true).open(dir.path(name)).unwrap().set_len(1 << 40).unwrap();
        assert!(dir.refused().contains("larger than 16 MiB"));
    }
}

#[test]
fn the_hash_is_of_all_texts_and_names_and_of_nothing_else() {
    let hash = |dir: &Dir| dir.load().policy.unwrap().hash.clone();
    let (one, other) = (Dir::new(), Dir::new());
    let first = hash(&one);
    assert_eq!(first, hash(&other), "wherever it lies");
    assert_eq!(first.as_str().len(), 64);
    one.write("friends.txt", "ann\nbob\ncid\n#\n");
    assert_ne!(first, hash(&one), "a list file");
    other.write("rules.toml", format!("{RULES}\n"));
    assert_ne!(first, hash(&other), "the rules");
}

#[test]
fn recorded_texts_give_the_same_policy() {
    let dir = Dir::new();
    let policy = dir.load().policy.unwrap();
    drop(dir);
    let again = load_texts(Path::new("rules.toml"), &policy.texts);
    assert_eq!(again.policy.unwrap().hash, policy.hash);
    let missing = load_texts(Path::new("rules.toml"), &policy.texts[..1]);
    assert!(missing.policy.is_none());
    assert!(missing.report.render(false).contains("the file `friends.txt` is not on record"));
    assert!(load_texts(Path::new("rules.toml"), &[]).policy.is_none());
}

#[test]
fn a_list_file_that_shrank_needs_a_word() {
    let dir = Dir::new();
    let running = dir.load().policy.unwrap();
    dir.write("friends.txt", "ann\n");
    let path = dir.path("rules.toml");
    let loaded = load(&path, Some(&running), &Shrunk::Refuse);
    assert!(loaded.policy.is_none());
    assert!(loaded.report.render(false).contains("2 of 3 entries are gone, 1 are there now"));
    assert!(load(&path, Some(&running), &Shrunk::Accept).policy.is_some());
    // The entries that a person removed from one list are accepted there; other lost entries are not.
    let removed = |file: &str, entries| Shrunk::Removed { files: vec![dir.path(file)], entries };
    let taken = |shrunk| load(&path, Some(&running), &shrunk).policy.is_some();
    assert!(taken(removed("friends.txt", 2)));
    assert!(!taken(removed("friends.txt", 1)) && !taken(removed("others.txt", 2)));
    // The same under any name of the file.
    std::os::unix::fs::symlink(dir.path("friends.txt"), dir.path("link.txt")).unwrap();
    assert!(!taken(removed("link.txt", 2)));
    let known = || [dir.path("rules.toml"), dir.path("friends.txt")];
    assert!(taken(as_named(removed("link.txt", 2), known())));
    assert!(!taken(as_named(removed("rules.toml", 2), known())));
    assert!(load(&path, None, &Shrunk::Refuse).policy.is_some(), "at start there is nothing to shrink from");
}

#[test]
fn a_list_file_emptied_deleted_or_cut_is_refused() {
    let dir = Dir::new();
    let running = dir.load().policy.unwrap();
    for text in ["", "# nobody\n", "\u{feff}\r\n\t\n"] {
        dir.write("friends.txt", text);
        let loaded = load(&dir.path("rules.toml"), Some(&running), &Shrunk::Accept);
        assert!(loaded.report.render(false).contains("is empty"), "{text:?}");
    }
    fs::remove_file(dir.path("friends.txt")).unwrap();
    assert!(dir.refused().contains("cannot be read"));
}

/// Rules whose list skips bad lines, with more rules after them.
fn skipping(more: &str) -> String {
    RULES.replace("file =", "on_bad_line = \"skip\"\nfile =") + more
}

#[test]
fn a_bad_line_is_left_out_if_that_lets_nobody_in() {
    let dir = Dir::new();
    dir.write("rules.toml", skipping(""));
    dir.write("friends.txt", "ann\nnot a handle\n# more\nbob\n");
    let loaded = dir.load();
    let said = loaded.report.render(false);
    assert!(said.contains("line 2 is left out: `not a handle` is not a handle pattern"), "{said}");
    let texts = loaded.policy.unwrap().texts.clone();
    assert!(texts[1].text.contains("not a handle"), "the record has the file as it was");
    assert!(load_texts(Path::new("rules.toml"), &texts).policy.is_some(), "and can be loaded from it");
    dir.write("friends.txt", "ann\n".to_owned() + &"not a handle\n".repeat(30));
    assert!(dir.load().report.render(false).contains("30 lines are left out"));
    dir.write("friends.txt", "not a handle\n");
    assert!(dir.refused().contains("is empty"), "a file of bad lines alone");
    dir.write("friends.txt", "ann\nbob\nnot a hand");
    assert!(dir.refused().contains("`not a hand` is not a handle pattern"), "a last line without an end");
}

#[test]
fn a_bad_line_refuses_the_file_if_the_list_keeps_somebody_out() {
    let bob = "[rules.bob]\nthen = \"approve\"\nwhen = { owner = \"bob\" }\n";
    for (title, more) in [
        (
            "a reject rule",
            "[rules.no]\nthen = \"reject\"\nwhen = { list = \"friends\", kind = \"agent\" }\n".to_owned(),
        ),
        ("a defer rule", "[rules.no]\nthen = \"defer\"\nwhen = { list = \"friends\", kind = \"agent\" }\n".to_owned()),
        ("an unless", format!("{bob}unless = [{{ list = \"friends\" }}]\n")),
        (
            "an overdue rule",
            "[overdue.no]\nafter = \"1d\"\nthen = \"reject\"\nunless = [{ list = \"friends\" }]\n".to_owned(),
        ),
    ] {
        let dir = Dir::new();
        dir.write("rules.toml", skipping(&more));
        assert!(dir.refused().contains("cannot skip bad lines"), "{title}");
    }
    let dir = Dir::new();
    dir.write("rules.toml", RULES.replace("file = \"friends.txt\"", "entries = [\"ann\"]\non_bad_line = \"skip\""));
    assert!(dir.refused().contains("is for a list with a `file`"));
}

#[test]
fn two_lists_of_one_file_each_say_what_a_bad_line_does() {
    // The first list skips the line, and the second, which keeps people out, must still refuse it.
    let more = "[lists.knaves]\nfile = \"friends.txt\"\n[rules.knaves]\nthen = \"reject\"\nwhen = { list = \"knaves\", kind = \"agent\" }\n";
    for more in [more.to_owned(), more.replace("knaves", "all")] {
        let dir = Dir::new();
        dir.write("rules.toml", skipping(&more));
        assert!(dir.load().policy.is_some(), "sound lines do for both");
        dir.write("friends.txt", "ann\nnot a handle\nbob\n");
        assert!(dir.refused().contains("error: `not a handle` is not a handle pattern"), "{more}");
    }
}

#[test]
fn list_files_may_come_from_windows() {
    let dir = Dir::new();
    dir.write("friends.txt", "\u{feff}@Ann\r\nbob   # a friend\r\n\r\ncid");
    let loaded = dir.load();
    assert_eq!(loaded.report.render(false), "");
    assert!(loaded.tests[0].passed);
}
