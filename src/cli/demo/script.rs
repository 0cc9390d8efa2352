//! The script of the demo. Each step waits for its effect.

use super::stage::DemoRun;
use super::{AGENT, DemoFailure};
use crate::sandbox::{Control, NewRequest, Sandbox, SandboxStatus};

/// Bots in the burst during which the daemon is killed, and how many of them have an answer by then.
const BOTS: u64 = 40;
const ANSWERED: usize = 10;
/// Bots that ask while no daemon runs.
const MEANWHILE: u64 = 10;

/// Plays the script; returns the sandbox that runs at the end.
pub(super) async fn play(stage: &mut DemoRun, control: &Control, sandbox: Sandbox) -> Result<Sandbox, DemoFailure> {
    stage.until(|line| line.state.as_deref() == Some("live"), "the agent is live").await?;
    let to = || NewRequest::to(AGENT);

    stage
        .scene(
            "Strangers ask to become contacts of an agent. The rules decide: approve,",
            "reject, or leave it to a person.",
        )
        .await?;
    for new in [
        to().from("@Ann").named("Ann").saying("it's me"),
        to().from("john/weather-agent").named("Weather"),
        to().from("mallory/offers").saying("win now"),
        to().from("bob").named("Bob").saying("we boost your SEO"),
        to().from("j0hn").named("John"),
        to().from("carol").saying("hello, may I?"),
        to().from_null().named("Nobody"),
        to().from("@@we/ird//handle").named("\u{1b}[31mred\u{202e}"),
    ] {
        control.request(&new)?;
        stage.decisions(1).await?;
    }

    stage.scene("A burst: eight bots of acme at once. The rule lets in five an hour.", "").await?;
    control.request(&to().from("acme/{n}-bot").count(8))?;
    stage.decisions(8).await?;

    stage.scene("Carol is left to a person. The person approves her.", "").await?;
    stage.command(&["approve", "@carol"]).await?;

    stage
        .scene(
            "Others answer, too: the owner approves Erin in the web app, and Frank takes",
            "his request back. Doorman only records it.",
        )
        .await?;
    let erin = control.request(&to().from("erin").id("demo-erin"))?;
    let frank = control.request(&to().from("frank").id("demo-frank"))?;
    stage.decisions(2).await?;
    for (id, status) in [(&erin[0], SandboxStatus::Approved), (&frank[0], SandboxStatus::Cancelled)] {
        control.settle(id, status)?;
        stage.until(|line| line.event == "settled", "a request was settled by somebody else").await?;
    }

    stage.scene("The platform goes down, and John asks before the connection is back.", "").await?;
    let address = sandbox.address();
    sandbox.kill().await;
    stage.until(|line| line.state.as_deref() == Some("away"), "the daemon notices").await?;
    control.request(&to().from("john").named("John").saying("anybody there?"))?;
    let sandbox = Sandbox::resume(address, control.clone()).await?;
    stage.decisions(1).await?;

    stage
        .scene(
            "A crash: forty spam bots ask at once, and the daemon is killed in the middle",
            "of its answers. Ten more ask while it is down.",
        )
        .await?;
    control.request(&to().from("bot{n}/free-followers").count(BOTS))?;
    let answered = stage.answers(ANSWERED).await?;
    stage.crash(answered).await?;
    control.request(&to().from("bot{n}/free-followers").count(MEANWHILE).first(BOTS + 1))?;
    stage.restart(control, (BOTS + MEANWHILE) as usize).await?;
    Ok(sandbox)
}
