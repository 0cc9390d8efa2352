//! Files that are checked repeatedly: content only takes effect after it was read twice unchanged.

use std::os::unix::fs::symlink;

use super::{Files, LISTED, hash, now, only, rules};
use doorman::supervisor::Policies;

/// Checks the files this many times.
async fn look(policies: &mut Policies, times: usize) {
    for _ in 0..times {
        policies.poll_files(now()).await;
    }
}

#[tokio::test]
async fn a_change_counts_when_it_has_been_seen_twice() {
    let files = Files::new(&[("rules.toml", &rules("ann"))]);
    let mut policies = files.load(&["rules.toml"]);
    let before = hash(&policies);
    look(&mut policies, 3).await;
    for (at, owner) in ["bob", "cid", "dan"].into_iter().enumerate() {
        files.write("rules.toml", &rules(owner));
        look(&mut policies, 1).await;
        assert_eq!(hash(&policies), before, "look {at}: it never stands still");
    }
    look(&mut policies, 1).await;
    assert_ne!(hash(&policies), before, "it stood still");
    // A change that is undone between two checks is no change.
    let after = hash(&policies);
    files.write("rules.toml", &rules("eve"));
    look(&mut policies, 1).await;
    files.write("rules.toml", &rules("dan"));
    look(&mut policies, 5).await;
    assert_eq!(hash(&policies), after);
}

#[tokio::test]
async fn what_is_half_written_is_never_in_force_nor_complained_about() {
    let whole = format!("{}[rules.bar]\nthen = \"reject\"\nwhen = {{ owner = \"eve\" }}\n", rules("ann"));
    let files = Files::new(&[("rules.toml", &rules("bob"))]);
    let mut policies = files.load(&["rules.toml"]);
    let before = hash(&policies);
    // Some beginnings of the file are valid rules, but without the rule that rejects.
    for end in (0..whole.len()).step_by(7) {
        files.write("rules.toml", &whole[..end]);
        look(&mut policies, 1).await;
        assert_eq!((hash(&policies), only(&policies).problem), (before.clone(), None), "{end}");
    }
    files.write("rules.toml", &whole);
    look(&mut policies, 2).await;
    assert_ne!(hash(&policies), before);
}

#[tokio::test]
async fn what_is_half_written_is_never_in_force_while_a_problem_lasts_either() {
    let whole = format!("{}[rules.bar]\nthen = \"reject\"\nwhen = {{ owner = \"eve\" }}\n", rules("ann"));
    let files = Files::new(&[("rules.toml", "version = 1\n[rules.x]\n")]);
    let mut policies = files.load(&["rules.toml"]);
    assert!(policies.none_usable());
    // Any check may be the one that loads again because of the problem.
    for round in 0..12 {
        files.write("rules.toml", &format!("{}# {round}\n", rules("ann")));
        look(&mut policies, 1).await;
        assert!(policies.none_usable(), "round {round}: half of it is in force");
    }
    files.write("rules.toml", &whole);
    look(&mut policies, 2).await;
    assert!(!policies.none_usable());
}

#[tokio::test]
async fn a_refusal_stays_until_it_is_corrected_and_a_list_that_comes_later_is_found() {
    let files = Files::new(&[("rules.toml", &rules("ann"))]);
    let mut policies = files.load(&["rules.toml"]);
    let before = hash(&policies);
    files.write("rules.toml", LISTED);
    look(&mut policies, 20).await;
    assert_eq!(hash(&policies), before);
    assert!(only(&policies).problem.is_some_and(|problem| problem.contains("list.txt")));
    files.write("list.txt", "ann\n");
    look(&mut policies, 12).await;
    assert_ne!(hash(&policies), before);
    assert_eq!(only(&policies).problem, None);
}

#[tokio::test]
async fn renames_over_a_file_are_changes() {
    let files = Files::new(&[("rules.toml", LISTED), ("list.txt", "ann\n")]);
    let mut policies = files.load(&["rules.toml"]);
    let before = hash(&policies);
    files.write("list.new", "ann\nbob\n");
    std::fs::rename(files.path("list.new"), files.path("list.txt")).unwrap();
    look(&mut policies, 2).await;
    let after = hash(&policies);
    assert_ne!(after, before);
    // An editor moves the old file away, and during one check no file exists.
    std::fs::rename(files.path("rules.toml"), files.path("rules.toml~")).unwrap();
    look(&mut policies, 1).await;
    files.write("rules.toml", &format!("{LISTED}# more\n"));
    look(&mut policies, 2).await;
    assert_ne!(hash(&policies), after);
    assert_eq!(only(&policies).problem, None, "and nobody was alarmed");
}

#[tokio::test]
async fn an_included_file_and_its_list_are_looked_at_too() {
    let common = "version = 1\n[lists.blocked]\nfile = \"blocked.txt\"\n\
                  [rules.blocked]\nthen = \"reject\"\nwhen = { list = \"blocked\" }\n";
    let files = Files::new(&[]);
    std::fs::create_dir(files.path("shared")).unwrap();
    files.write("shared/common.toml", common);
    files.write("shared/blocked.txt", "eve\n");
    files.write("rules.toml", &rules("ann").replace("version = 1", "version = 1\ninclude = [\"shared/common.toml\"]"));
    let mut policies = files.load(&["rules.toml"]);
    let mut before = hash(&policies);
    assert!(before.is_some());
    let more = format!("{common}# more\n");
    for (name, text) in [("shared/common.toml", more.as_str()), ("shared/blocked.txt", "eve\nbob\n")] {
        files.write(name, text);
        look(&mut policies, 1).await;
        assert_eq!(hash(&policies), before, "{name}: not before it stood still");
        look(&mut policies, 1).await;
        assert_ne!(hash(&policies), before, "{name}");
        before = hash(&policies);
    }
    // A half-written file does not take effect, even if it would approve somebody.
    let approving = format!("{common}{}", &rules("eve")["version = 1\n".len()..]);
    for text in [common.trim_end(), &approving] {
        files.write("shared/common.toml", text);
        look(&mut policies, 3).await;
        assert_eq!(hash(&policies), before, "{text}");
    }
}

#[tokio::test]
async fn a_config_map_is_swapped_as_one() {
    let files = Files::new(&[]);
    for (version, list) in [("v1", "ann\n"), ("v2", "bob\n"), ("v3", "ann\nbob\n")] {
        std::fs::create_dir(files.path(version)).unwrap();
        files.write(&format!("{version}/rules.toml"), &format!("{LISTED}# {version}\n"));
        files.write(&format!("{version}/list.txt"), list);
    }
    // Like Kubernetes: the files are links through `..data`, which is replaced by a rename.
    let swap = |version: &str| {
        symlink(version, files.path("..data_tmp")).unwrap();
        std::fs::rename(files.path("..data_tmp"), files.path("..data")).unwrap();
    };
    swap("v1");
    for name in ["rules.toml", "list.txt"] {
        symlink(format!("..data/{name}"), files.path(name)).unwrap();
    }
    let mut policies = files.load(&["rules.toml"]);
    let mut told = policies.subscribe(&files.path("rules.toml")).unwrap();
    let mut seen = Vec::new();
    for version in ["v2", "v3", "v1"] {
        swap(version);
        for _ in 0..3 {
            look(&mut policies, 1).await;
            if told.has_changed().unwrap() {
                seen.push(told.borrow_and_update().clone().unwrap());
            }
        }
        let texts = &seen.last().unwrap().texts;
        assert!(texts[0].text.ends_with(&format!("# {version}\n")));
        assert_eq!(&*texts[1].text, std::fs::read_to_string(files.path("list.txt")).unwrap());
    }
    assert_eq!(seen.len(), 3, "one swap each");
}

#[tokio::test]
async fn what_is_no_file_is_neither_waited_for_nor_read_without_end() {
    let files = Files::new(&[("rules.toml", &rules("ann"))]);
    let mut policies = files.load(&["rules.toml"]);
    let before = hash(&policies);
    for what in ["pipe", "endless", "directory"] {
        std::fs::remove_file(files.path("rules.toml")).unwrap();
        match what {
            "pipe" => nix::unistd::mkfifo(&files.path("rules.toml"), nix::sys::stat::Mode::S_IRUSR).unwrap(),
            "endless" => symlink("/dev/zero", files.path("rules.toml")).unwrap(),
            _ => std::fs::create_dir(files.path("rules.toml")).unwrap(),
        }
        look(&mut policies, 3).await;
        assert_eq!(hash(&policies), before, "{what}");
        assert!(only(&policies).problem.is_some(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_without_its_end_may_be_half_a_line() {
    let files = Files::new(&[("rules.toml", LISTED), ("list.txt", "ann\n")]);
    let mut policies = files.load(&["rules.toml"]);
    let before = hash(&policies);
    files.write("list.txt", "ann\nbob\ncarol-and-her-bo");
    look(&mut policies, 6).await;
    assert_eq!(hash(&policies), before, "it stands still, but for less than 10 s");
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    look(&mut policies, 1).await;
    assert_ne!(hash(&policies), before);
}
