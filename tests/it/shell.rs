//! What the binary offers to a shell, a package and a new user: completions, manual pages, recipes, a request to a
//! sandbox.

use doorman::sandbox::NewRequest;

use crate::faults::site::{AGENT, Site, TIME};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_know_commands_and_whoever_is_waiting() {
    let site = Site::start().await;
    let (code, script, _) = site.cli(&["completions", "bash"]).await;
    assert!(code == 0 && script.contains("_DOORMAN_COMPLETE"), "{script}");
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    site.control.request(&NewRequest::to(AGENT).from("carol").id("r-1")).unwrap();
    site.control.request(&NewRequest::to(AGENT).from("$(reboot)").id("r-2")).unwrap();
    daemon.said("decided", 2).await.unwrap();
    let complete = async |words: &[&str]| {
        let output = site.command(&[&["--", "doorman"], words].concat()).env("_DOORMAN_COMPLETE", "fish").output();
        let offered = String::from_utf8(output.await.unwrap().stdout).unwrap();
        let word = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
        offered.lines().map(word).collect::<Vec<_>>()
    };
    assert!(complete(&["app"]).await.contains(&"approve".to_owned()));
    assert_eq!(complete(&["approve", "@"]).await, ["@carol"]);
    let all = complete(&["approve", ""]).await;
    assert!(all.contains(&"r-2".to_owned()) && !all.iter().any(|word| word.contains('$')), "{all:?}");
    assert!(complete(&["contacts", "--rule", ""]).await.contains(&"friends".to_owned()));
    assert!(complete(&["status", "--agent", "a00"]).await.contains(&AGENT.to_owned()));
    assert!(complete(&["history", "--agent", "a00"]).await.contains(&AGENT.to_owned()));
    assert_eq!(complete(&["history", "--outcome", "settled"]).await, ["settled-elsewhere"]);
    assert_eq!(complete(&["history", "--verdict", "de"]).await, ["defer"]);
    assert_eq!(complete(&["history", "--rule", "guard:a"]).await, ["guard:answered-before"]);
    assert_eq!(complete(&["man", "rev"]).await, ["review", "revoke"]);
    assert_eq!(site.cli(&["approve", "@carol"]).await.0, 0);
    daemon.said("contact_added", 1).await.unwrap();
    // The ledger knows who sent requests, and who has access; no pending request has a handle that can be typed.
    let offered = async |words: &[&str]| {
        let wait = async { while complete(words).await != ["@carol"] {} };
        tokio::time::timeout(TIME, wait).await.unwrap_or_else(|_| panic!("{words:?}"))
    };
    offered(&["explain", "@"]).await;
    offered(&["history", "--handle", "@"]).await;
    offered(&["revoke", "@"]).await;
    assert!(complete(&["approve", "@"]).await.is_empty());
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn every_command_has_a_manual_page_with_its_sections() {
    let site = Site::start().await;
    let (code, page, err) = site.cli(&["man", "approve"]).await;
    assert_eq!(code, 0, "{err}");
    for section in ["NAME", "SYNOPSIS", "OPTIONS", "FILES", "ENVIRONMENT", "\"EXIT STATUS\"", "EXAMPLES"] {
        assert!(page.contains(&format!(".SH {section}\n")), "no {section} in\n{page}");
    }
    let (code, _, err) = site.cli(&["man", "aprove"]).await;
    assert!(code == 2 && err.contains("approve"), "{err}");
    let directory = site.path("man1");
    let (code, out, err) = site.cli(&["man", "--out", directory.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{err}");
    let pages = std::fs::read_dir(&directory).unwrap().count();
    assert!(out.starts_with(&format!("{pages} pages")) && pages > 25, "{out}");
    for page in ["doorman.1", "doorman-run.1", "doorman-list-add.1", "doorman-sandbox-request.1"] {
        assert!(directory.join(page).is_file(), "no {page}");
    }
}

#[tokio::test]
async fn a_recipe_from_the_binary_is_a_rules_file_that_passes_its_own_tests() {
    let site = Site::start().await;
    let (code, list, _) = site.cli(&["recipes"]).await;
    assert_eq!(code, 0);
    for name in list.lines().skip(1).filter_map(|line| line.split_whitespace().next()) {
        let (code, rules, err) = site.cli(&["recipes", name]).await;
        assert_eq!(code, 0, "{err}");
        let file = site.path("recipe.toml");
        std::fs::write(&file, rules).unwrap();
        let (code, out, err) = site.cli(&["test", "--rules", file.to_str().unwrap()]).await;
        // Some recipes need a list of people, which the user must write.
        assert!(code == 0 || err.contains("cannot be read"), "{name}: {out}{err}");
    }
    assert_eq!(site.cli(&["recipes", "nothing"]).await.0, 2);
}

#[tokio::test]
async fn a_request_to_a_sandbox_needs_no_json() {
    let site = Site::start().await;
    let url = format!("http://{}", site.address);
    let (code, out, err) = site.cli(&["sandbox", "request", "@carol", "--message", "hello", "--url", &url]).await;
    assert_eq!(code, 0, "{err}");
    let request = &site.control.state().requests[0];
    assert_eq!((request.id.as_str(), request.to.as_str()), (out.trim(), AGENT));
    assert_eq!((request.from_handle.as_deref(), request.message.as_deref()), (Some("@carol"), Some("hello")));
    // The configuration names the sandbox and the agent.
    let (code, out, err) = site.cli(&["sandbox", "request", "@dave"]).await;
    assert_eq!(code, 0, "{err}");
    let request = &site.control.state().requests[1];
    assert_eq!((request.id.as_str(), request.to.as_str()), (out.trim(), AGENT));
    // An address with TLS is a real platform and not a sandbox: nothing is sent there.
    std::fs::write(site.path("real.toml"), "[platform]\nurl = \"https://127.0.0.1:9\"\n").unwrap();
    let real = site.path("real.toml");
    let (code, _, err) = site.cli(&["sandbox", "request", "@dave", "--config", real.to_str().unwrap()]).await;
    // Another sandbox may or may not listen at the usual port, so the exit code is open.
    assert!(code != 78 && !err.contains("127.0.0.1:9"), "{code}: {err}");
    let (code, _, err) = site.cli(&["sandbox", "request", "@carol", "--to", "nobody", "--url", &url]).await;
    assert!(code == 1 && err.contains("nobody here has that id or handle"), "{err}");
    let (code, _, err) = site.cli(&["sandbox", "request", "@carol", "--url", "http://127.0.0.1:9"]).await;
    assert!(code == 69 && err.contains("no sandbox answers"), "{err}");
}
