//! The evening itself. Each step waits for what it must bring about.

use super::Failure;
use super::stage::{Stage, say};
use crate::agent::Notice;
use crate::model::AgentState;
use crate::sandbox::{Control, NewRequest, Sandbox, Status};

use super::AGENT;

/// Plays it; gives the sandbox that is up at the end.
pub(super) async fn play(stage: &mut Stage, control: &Control, sandbox: Sandbox) -> Result<Sandbox, Failure> {
    stage.until(|notice| matches!(notice, Notice::State { state: AgentState::Live, .. })).await?;
    say("\n— strangers come one by one");
    let to = || NewRequest::to(AGENT);
    control.request(&to().from("@Ann").named("Ann").saying("it's me"))?;
    control.request(&to().from("john/weather-agent").named("Weather"))?;
    control.request(&to().from("mallory/offers").saying("win now"))?;
    control.request(&to().from("bob").named("Bob").saying("we boost your SEO"))?;
    control.request(&to().from("j0hn").named("John"))?;
    control.request(&to().from("carol").saying("hello, may I?"))?;
    control.request(&to().from("dave"))?;
    control.request(&to().from_null().named("Nobody"))?;
    control.request(&to().from("@@we/ird//handle").named("\u{1b}[31mred\u{202e}"))?;
    stage.decisions(9).await?;

    say("\n— a burst: eight bots of acme, five of which are let in this hour");
    control.request(&to().from("acme/{n}-bot").count(8))?;
    stage.decisions(8).await?;

    say("\n— a person on the platform answers one, and a sender takes another back");
    let ids = control.request(&to().from("erin").id("demo-erin"))?;
    let more = control.request(&to().from("frank").id("demo-frank"))?;
    stage.decisions(2).await?;
    for (id, status) in [(&ids[0], Status::Approved), (&more[0], Status::Cancelled)] {
        control.settle(id, status)?;
        stage.until(|notice| matches!(notice, Notice::Settled { .. })).await?;
    }

    say("\n— a contact is removed");
    control.remove_contact(AGENT, "ann")?;
    stage.until(|notice| matches!(notice, Notice::ContactRemoved { .. })).await?;

    say("\n— the connection drops, and somebody knocks before it is back");
    let address = sandbox.address();
    sandbox.kill().await;
    stage.until(|notice| matches!(notice, Notice::State { state: AgentState::Away, .. })).await?;
    control.request(&to().from("john").named("John").saying("anybody there?"))?;
    let sandbox = Sandbox::resume(address, control.clone()).await?;
    stage.decisions(1).await?;
    Ok(sandbox)
}
