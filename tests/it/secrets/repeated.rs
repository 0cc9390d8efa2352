//! A platform that repeats the key: in refusals of every kind, in close reasons, and in what strangers are called.

use doorman::sandbox::{Fault, FaultAction, FaultPlace, NewRequest};

use super::{files_are_clean, says};
use crate::faults::site::{AGENT, KEY, Site};

/// The forms of the key, after the transport's encoding is undone.
const WRITTEN: [&str; 5] = [
    KEY,
    "key%2Dof%2dthe%2Dagent",
    "\\u006bey-of-the\\u002Dagent",
    "key\\u{2d}of-the-agent",
    "eC1hcGkta2V5OmtleS1vZi10aGUtYWdlbnQ=",
];

fn shown(text: &str) -> Option<&'static str> {
    WRITTEN.into_iter().find(|written| text.contains(written.trim_end_matches('=')))
}

/// No output that people can see shows the key.
async fn look(site: &Site, after: &str) {
    let ledger = site.path("ledger.db").display().to_string();
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["pending"],
        &["pending", "--json"],
        &["doubts"],
        &["approve", "named"],
        &["history", "--ledger", &ledger],
        &["history", "--json", "--ledger", &ledger],
        &["explain", "named", "--json", "--ledger", &ledger],
        &["contacts", "--json", "--ledger", &ledger],
    ] {
        let (_, out, err) = site.cli(arguments).await;
        assert_eq!(shown(&out), None, "after {after}, {arguments:?}:\n{out}");
        assert_eq!(shown(&err), None, "after {after}, {arguments:?}:\n{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_platform_repeats_is_shown_nowhere_and_kept_nowhere() -> Result<(), String> {
    let mut site = Site::start().await;
    let daemon = site.daemon_with(&["--log-level", "trace"]);
    daemon.stands("live").await?;
    let everything = WRITTEN.join(" ");
    let new = NewRequest::to(AGENT).from("friends/x").named(&everything).saying(&everything);
    site.control.request(&new).unwrap();
    site.control.request(&NewRequest::to(AGENT).named(WRITTEN[1]).saying(&everything).id("named")).unwrap();
    site.until("one is let in", |control| control.counts().pending == 1).await?;
    look(&site, "requests").await;
    // Each place repeats the key in each form, and the daemon receives it.
    for (number, written) in WRITTEN.into_iter().enumerate() {
        // A listing that is abandoned because of a join logs nothing, whatever its reply would have been.
        daemon.stands("live").await?;
        for (at, what, code) in [
            (FaultPlace::Respond, FaultAction::Status, 422),
            (FaultPlace::List, FaultAction::Status, 503),
            (FaultPlace::Push, FaultAction::Close, 1011),
            (FaultPlace::Join, FaultAction::Status, 500),
        ] {
            let place = format!("{at:?} {number}");
            let heard = |lines: &[serde_json::Value]| lines.iter().filter(|line| says(line, "***")).count();
            let before = heard(&daemon.lines());
            let reason = format!("{number} no: {written}");
            site.control.fault(Fault::new(at, what).code(code).reason(&reason)).unwrap();
            match at {
                FaultPlace::Respond | FaultPlace::Push => {
                    let new = NewRequest::to(AGENT).from("friends/y").id(&format!("{at:?}-{number}"));
                    site.control.request(&new).unwrap();
                }
                FaultPlace::Join => drop(site.control.kick(AGENT, Some(1012))),
                _ => {}
            }
            daemon.until(&place, |lines| heard(lines) > before).await?;
        }
        look(&site, written).await;
    }
    for line in daemon.stop().await? {
        assert_eq!(shown(&line.to_string().replace("\\\\", "\\")), None, "{line}");
    }
    files_are_clean(site.dir.path());
    for entry in std::fs::read_dir(site.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("agent.key") {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert_eq!(shown(&text), None, "in {}", path.display());
        }
    }
    site.crash_platform().await;
    Ok(())
}
