//! Rules and lists that change while they are in force: which changes are accepted, which are refused, and what stays
//! in force.

mod agents;
mod daemon;
mod settings_changed;
mod watched;

use std::path::PathBuf;

use doorman::ops::control::wire::PolicyStatus;
use doorman::policy::{Policy, Shrunk};
use doorman::supervisor::{Policies, Start};
use jiff::Timestamp;

const START: Start = Start { shadow: false, accept_shrunk: false, now: Timestamp::UNIX_EPOCH };

/// Files in a temporary directory.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let these = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            these.write(name, text);
        }
        these
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn load(&self, names: &[&str]) -> Policies {
        Policies::load(names.iter().map(|name| self.path(name)), START, &|_, _| None).0
    }
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// Rules that approve one owner.
fn rules(owner: &str) -> String {
    format!("version = 1\n[rules.let-in]\nthen = \"approve\"\nwhen = {{ owner = \"{owner}\" }}\n")
}

/// Rules that approve a list; its file is `list.txt`.
const LISTED: &str = "version = 1\n[lists.friends]\nfile = \"list.txt\"\n\
                      [rules.let-in]\nthen = \"approve\"\nwhen = { list = \"friends\" }\n";

fn only(policies: &Policies) -> PolicyStatus {
    let mut all = policies.status();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn hash(policies: &Policies) -> Option<String> {
    only(policies).hash
}

fn in_force(policies: &Policies, files: &Files, name: &str) -> Option<std::sync::Arc<Policy>> {
    policies.subscribe(&files.path(name)).unwrap().borrow().clone()
}

#[tokio::test]
async fn what_is_good_is_taken_and_the_same_content_is_no_change() {
    let files = Files::new(&[("rules.toml", &rules("ann"))]);
    let mut policies = files.load(&["rules.toml"]);
    let mut told = policies.subscribe(&files.path("rules.toml")).unwrap();
    let before = hash(&policies).unwrap();
    told.mark_unchanged();
    assert!(policies.reload_all(Shrunk::Refuse, now()).await.ok);
    assert!(!told.has_changed().unwrap(), "the same content is no change");
    files.write("rules.toml", &rules("bob"));
    assert_eq!(hash(&policies).unwrap(), before, "not before the reload");
    assert!(policies.reload_all(Shrunk::Refuse, now()).await.ok);
    assert!(told.has_changed().unwrap());
    assert_ne!(hash(&policies).unwrap(), before);
}

#[tokio::test]
async fn what_is_refused_changes_nothing_and_is_taken_once_corrected() {
    let files = Files::new(&[("rules.toml", &rules("ann"))]);
    let mut policies = files.load(&["rules.toml"]);
    let before = hash(&policies);
    let failing = format!(
        "{}[tests.x]\nrequest = {{ from_handle = \"eve\" }}\nexpect = {{ verdict = \"approve\" }}\n",
        rules("ann")
    );
    for broken in [rules("ann").replace("owner", "onwer"), "version =".to_owned(), String::new(), failing] {
        files.write("rules.toml", &broken);
        let reloaded = policies.reload_all(Shrunk::Refuse, now()).await;
        assert!(!reloaded.ok && reloaded.problems.is_some(), "{broken}");
        assert_eq!(hash(&policies), before, "the last good one stays");
        assert!(only(&policies).problem.is_some());
    }
    files.write("rules.toml", &rules("bob"));
    assert!(policies.reload_all(Shrunk::Refuse, now()).await.ok);
    assert_ne!(hash(&policies), before);
    assert_eq!(only(&policies).problem, None);
}

#[tokio::test]
async fn a_list_that_is_emptied_shrunk_or_deleted_changes_nothing() {
    let files = Files::new(&[("rules.toml", LISTED), ("list.txt", "ann\nbob\ncid\ndan\neve\n")]);
    let mut policies = files.load(&["rules.toml"]);
    let before = hash(&policies);
    assert!(before.is_some());
    for (text, word) in [("# nobody\n", "empty"), ("", "empty"), ("ann\nbob\n", "lost")] {
        files.write("list.txt", text);
        let reloaded = policies.reload_all(Shrunk::Refuse, now()).await;
        assert!(!reloaded.ok);
        assert!(reloaded.problems.as_ref().is_some_and(|said| said.contains(word)), "{:?}", reloaded.problems);
        assert_eq!(hash(&policies), before);
    }
    std::fs::remove_file(files.path("list.txt")).unwrap();
    assert!(!policies.reload_all(Shrunk::Refuse, now()).await.ok);
    assert_eq!(hash(&policies), before);

    // The list becomes shorter, but by less than half; or by more than half, deliberately.
    files.write("list.txt", "ann\nbob\ncid\n");
    assert!(policies.reload_all(Shrunk::Refuse, now()).await.ok);
    let less = hash(&policies);
    assert_ne!(less, before);
    files.write("list.txt", "ann\n");
    assert!(!policies.reload_all(Shrunk::Refuse, now()).await.ok);
    assert_eq!(hash(&policies), less);
    assert!(policies.reload_all(Shrunk::Accept, now()).await.ok, "--accept-shrunk");
    assert_ne!(hash(&policies), less);
    // An empty list is refused even if it is deliberate, since it is probably an accident.
    files.write("list.txt", "");
    assert!(!policies.reload_all(Shrunk::Accept, now()).await.ok);
}

#[tokio::test]
async fn rules_that_are_deleted_change_nothing() {
    let files = Files::new(&[("rules.toml", &rules("ann"))]);
    let mut policies = files.load(&["rules.toml"]);
    let before = hash(&policies);
    std::fs::remove_file(files.path("rules.toml")).unwrap();
    assert!(!policies.reload_all(Shrunk::Refuse, now()).await.ok);
    std::fs::create_dir(files.path("rules.toml")).unwrap();
    assert!(!policies.reload_all(Shrunk::Refuse, now()).await.ok);
    assert_eq!(hash(&policies), before);
}

#[tokio::test]
async fn one_of_two_broken_holds_nobody_else_up() {
    let files = Files::new(&[("a.toml", &rules("ann")), ("b.toml", &rules("bob"))]);
    let mut policies = files.load(&["a.toml", "b.toml"]);
    let (a, b) = (in_force(&policies, &files, "a.toml"), in_force(&policies, &files, "b.toml"));
    files.write("a.toml", "version = 1\n[rules.x]\n");
    files.write("b.toml", &rules("cid"));
    let reloaded = policies.reload_all(Shrunk::Refuse, now()).await;
    assert!(!reloaded.ok);
    assert_eq!(reloaded.policies.iter().filter(|one| one.problem.is_some()).count(), 1);
    assert_eq!(in_force(&policies, &files, "a.toml").unwrap().hash, a.unwrap().hash);
    assert_ne!(in_force(&policies, &files, "b.toml").unwrap().hash, b.unwrap().hash);
}

#[tokio::test]
async fn what_was_held_at_the_start_is_in_force_once_corrected() {
    let files = Files::new(&[("rules.toml", LISTED)]);
    let (mut policies, said) = Policies::load([files.path("rules.toml")], START, &|_, _| None);
    assert!(policies.none_usable() && said.contains("list.txt"), "{said}");
    assert!(!policies.reload_all(Shrunk::Refuse, now()).await.ok);
    assert!(policies.none_usable());
    files.write("list.txt", "ann\n");
    assert!(policies.reload_all(Shrunk::Refuse, now()).await.ok);
    assert!(!policies.none_usable());
}

#[tokio::test]
async fn a_list_that_lost_entries_while_doorman_was_down_needs_a_word() {
    let blocked = "version = 1\n[lists.blocked]\nfile = \"list.txt\"\n[rules.keep-out]\nthen = \"reject\"\nwhen = { list = \"blocked\" }\n";
    let names = |count: usize| (0..count).map(|one| format!("foe{one}\n")).collect::<String>();
    let files = Files::new(&[("rules.toml", blocked), ("list.txt", &names(20))]);
    let path = files.path("rules.toml");
    let on_record = in_force(&files.load(&["rules.toml"]), &files, "rules.toml");
    files.write("list.txt", &names(12));
    let load = |accept_shrunk| {
        let start = Start { accept_shrunk, ..START };
        Policies::load([path.clone()], start, &|_, _| on_record.clone())
    };
    let (mut policies, said) = load(false);
    assert!(said.contains("lost more than 10 %") && hash(&policies).is_none(), "{said}");
    assert!(!policies.none_usable(), "the daemon starts, so that `reload --accept-shrunk` can be said to it");
    assert!(!policies.reload_all(Shrunk::Refuse, now()).await.ok, "the record still counts");
    assert!(policies.reload_all(Shrunk::Accept, now()).await.ok);
    assert!(hash(&policies).is_some());
    assert!(hash(&load(true).0).is_some(), "run --accept-shrunk");
}
