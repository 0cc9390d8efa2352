//! While the platform does not answer this doorman and it has given its agents to others, nobody here calls the platform: this asks it
//! now and then whether it answers.

use std::sync::Arc;

use tracing::debug;

use super::SupervisorShared;
use crate::config::settings::SecretKind;
use crate::secret;

/// Asks the platform for as long as this doorman takes no agents because of it; the reply counts as any agent's (`CallHearing`). Never
/// ends by itself.
pub(super) async fn ask_whether_it_answers(shared: Arc<SupervisorShared>) {
    let mut away = shared.fleet.platform().away();
    let mut turn = 0_usize;
    loop {
        if away.wait_for(|away| *away).await.is_err() {
            return std::future::pending().await;
        }
        tokio::time::sleep(shared.settings.timing.list_away).await;
        if !*away.borrow() {
            continue;
        }
        // One agent after the other: the key of one may be refused, or missing.
        let agents = shared.members.all();
        let Some(member) = turn.checked_rem(agents.len()).and_then(|at| agents.get(at)).cloned() else { continue };
        turn = turn.wrapping_add(1);
        let source = member.settings.key.clone();
        match tokio::task::spawn_blocking(move || secret::read(&source, SecretKind::Key)).await {
            Ok(Ok(key)) => {
                let reply = shared.around.rest.agent(member.id.clone(), key).me().await;
                debug!(answered = reply.result.is_ok(), "asked the platform whether it answers");
            }
            Ok(Err(_)) | Err(_) => debug!("no key to ask the platform with"),
        }
    }
}
