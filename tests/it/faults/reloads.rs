//! Rules that change in the middle of a burst, while the outcomes of answers are unknown.

use std::collections::HashMap;

use doorman::sandbox::{Fault, FaultAction, FaultPlace, SandboxStatus};
use nix::sys::signal::Signal;

use super::site::Site;

/// Answers are lost on the way there and on the way back, and the rules change to the opposite again and again. A
/// request that may have been answered never gets a different answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mind_that_changes_says_nothing_twice() {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await.unwrap();
    // The platform's events are lost, too, so only listings show what happened.
    site.control
        .fault(Fault::new(FaultPlace::Push, FaultAction::Drop).event("contact_request_updated").count(0))
        .unwrap();
    let rules = std::fs::read_to_string(site.path("rules.toml")).unwrap();
    let turned = rules.replace("approve", "APPROVE").replace("reject", "approve").replace("APPROVE", "reject");
    for turn in 0..8 {
        site.control
            .faults(vec![
                Fault::new(FaultPlace::Respond, FaultAction::ApplyThenFail).count(5),
                Fault::new(FaultPlace::Respond, FaultAction::Stall).ms(150).count(5),
                Fault::new(FaultPlace::Respond, FaultAction::Drop).count(5),
                Fault::new(FaultPlace::Respond, FaultAction::Delay).ms(10).count(40),
            ])
            .unwrap();
        site.ask(&format!("{turn}"), 30, turn % 2 == 0);
        let answers = site.control.counts().answers;
        site.until("answers go out", |control| control.counts().answers > answers + 3).await.unwrap();
        std::fs::write(site.path("rules.toml"), if turn % 2 == 0 { &turned } else { &rules }).unwrap();
        daemon.signal(Signal::SIGHUP);
        daemon.said("reloaded", turn + 1).await.unwrap();
    }
    let decided = |control: &doorman::sandbox::Control| {
        let requests = control.state().requests;
        requests
            .iter()
            .filter(|request| request.status == SandboxStatus::Pending)
            .all(|request| request.id.contains("strangers"))
    };
    site.until("all decided", decided).await.unwrap();
    let lines = daemon.stop().await.unwrap();
    assert!(lines.iter().filter(|line| line["event"] == "answer_unknown").count() >= 8, "nothing was in doubt");
    let mut said: HashMap<&str, (&str, u64)> = HashMap::new();
    for line in lines.iter().filter(|line| line["event"] == "answering") {
        let (request, verdict) = (line["request"].as_str().unwrap(), line["verdict"].as_str().unwrap());
        let (first, times) = said.entry(request).or_insert((verdict, 0));
        assert_eq!(*first, verdict, "{request} got both");
        *times += 1;
    }
    assert!(said.values().any(|(_, times)| *times > 1), "nothing had to be said again");
    for request in site.control.state().requests {
        assert!(request.answers.len() <= 1, "answered again: {request:?}");
        assert_eq!(request.answers.is_empty(), request.id.contains("strangers"), "{request:?}");
    }
    // Both rules must have decided some requests; otherwise the test proves nothing.
    let friends = site.control.state().requests.into_iter().filter(|request| request.id.contains("friends"));
    let fates: std::collections::HashSet<SandboxStatus> = friends.map(|request| request.status).collect();
    assert_eq!(fates.len(), 2, "{fates:?}");
}
