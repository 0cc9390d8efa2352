//! The key of another agent: doorman must read nothing, and above all answer nothing, for that agent.

use doorman::sandbox::{Fault, FaultAction, FaultPlace, NewRequest, SandboxStatus};

use super::checks::{all_decided, live_again};
use super::site::{KEY, NEIGHBOUR, NEIGHBOURS_KEY, Site};

/// Friends send requests to the neighbour, for whom doorman must answer nothing.
fn ask_the_neighbour(site: &Site, count: u64) {
    let new = NewRequest::to(NEIGHBOUR).from("friends/{n}").id("neighbours-{n}").count(count);
    site.control.request(&new).unwrap();
}

fn untouched(site: &Site) -> Result<(), String> {
    let state = site.control.state();
    let touched =
        state.requests.iter().find(|request| request.to == NEIGHBOUR && request.status != SandboxStatus::Pending);
    match (touched, state.lists.iter().find(|list| list.agent == NEIGHBOUR)) {
        (Some(request), _) => Err(format!("answered at another agent's door: {request:?}")),
        (None, Some(list)) => Err(format!("read another agent's list: {list:?}")),
        (None, None) => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_key_from_the_start_opens_no_door_however_late_it_is_found_out() -> Result<(), String> {
    for connection in ["yield", "poll"] {
        for fault in [
            Fault::new(FaultPlace::Me, FaultAction::Delay).ms(1500),
            Fault::new(FaultPlace::Me, FaultAction::Status).code(503).count(4),
            Fault::new(FaultPlace::Me, FaultAction::Drop).count(4),
        ] {
            let site = Site::start().await;
            site.configure(site.address, &format!("connection = \"{connection}\""), "");
            std::fs::write(site.path("agent.key"), NEIGHBOURS_KEY).map_err(|error| error.to_string())?;
            ask_the_neighbour(&site, 5);
            // The upgrade does not show who owns the key.
            site.control.fault(Fault::new(FaultPlace::Upgrade, FaultAction::Status).code(503).count(0)).unwrap();
            site.control.fault(fault).unwrap();
            let daemon = site.daemon();
            daemon.stands("refused").await?;
            untouched(&site)?;
            daemon.stop().await?;
            untouched(&site)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_key_that_a_reload_brings_is_refused_and_nobody_of_ours_counts_as_gone() -> Result<(), String> {
    let site = Site::start().await;
    let daemon = site.daemon();
    daemon.stands("live").await?;
    // Strangers wait for a person, at both agents.
    site.ask("ours", 10, true);
    site.until("all decided", all_decided).await?;
    ask_the_neighbour(&site, 5);
    std::fs::write(site.path("agent.key"), NEIGHBOURS_KEY).map_err(|error| error.to_string())?;
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.stands("refused").await?;
    untouched(&site)?;
    std::fs::write(site.path("agent.key"), KEY).map_err(|error| error.to_string())?;
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    live_again(&site, &daemon, "after").await?;
    let gone = daemon.lines().into_iter().find(|line| line["event"] == "settled");
    daemon.stop().await?;
    untouched(&site)?;
    match gone {
        Some(line) => Err(format!("our own seemed gone: {line}")),
        None => Ok(()),
    }
}
