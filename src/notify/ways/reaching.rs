//! Whether a target can be reached, for `doorman doctor`: as far as that can be checked without sending a message.

use reqwest::header;
use serde::Deserialize;

use super::{Secrets, TRY_MAX, Undelivered, command, http, mail, read_secrets};
use crate::config::settings::{NotifyTarget, NotifyWay};
use crate::secret::Redact;

/// Most bytes of a list of rooms.
const ROOMS_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Rooms {
    joined_rooms: Vec<String>,
}

/// What the check of the target found. Takes at most about 15 s.
pub(in crate::notify) async fn reach(target: &NotifyTarget, redact: &Redact) -> Result<&'static str, Undelivered> {
    let tried = async {
        let secrets = read_secrets(target, redact).await?;
        match &target.way {
            NotifyWay::Webhook { .. }
            | NotifyWay::Slack { .. }
            | NotifyWay::Discord { .. }
            | NotifyWay::Ntfy { .. } => server(target, &secrets).await,
            NotifyWay::Matrix { server, room } => joined(target, &secrets, server, room).await,
            NotifyWay::Mail { server, .. } => {
                mail::greet(target, server, &secrets).await?;
                Ok("its server takes a connection, and the password if there is one")
            }
            NotifyWay::Command { program, .. } => {
                command::trusted(program).await?;
                Ok("its program is there, and nobody else may write it")
            }
        }
    };
    let tried = tokio::time::timeout(TRY_MAX, tried).await;
    tried
        .unwrap_or_else(|_| Err(Undelivered::new(format!("no answer within {} s", TRY_MAX.as_secs()))))
        .map_err(|undelivered| Undelivered { why: redact.scrub(&undelivered.why).into_owned(), ..undelivered })
}

/// Sends a request to the root of the server: the target's own address might take any call for a message.
async fn server(target: &NotifyTarget, secrets: &Secrets) -> Result<&'static str, Undelivered> {
    let mut url = http::address(secrets)?;
    if matches!(target.way, NotifyWay::Ntfy { .. }) {
        http::topic(url.clone())?;
    }
    url.set_path("/");
    url.set_query(None);
    let client = http::client(target, secrets).await?;
    client.head(url).send().await.map_err(|error| http::failure(&error.without_url()))?;
    Ok("its server answers")
}

/// Asks whether the token's account has joined the room.
async fn joined(
    target: &NotifyTarget,
    secrets: &Secrets,
    server: &url::Url,
    room: &str,
) -> Result<&'static str, Undelivered> {
    let mut url = server.clone();
    url.path_segments_mut()
        .map_err(|()| Undelivered::new("the homeserver's address has no path"))?
        .pop_if_empty()
        .extend(["_matrix", "client", "v3", "joined_rooms"]);
    let token = secrets.keys.first().ok_or_else(|| Undelivered::new("there is no access token"))?;
    let client = http::client(target, secrets).await?;
    let asked = client.get(url).bearer_auth(token.expose()).header(header::ACCEPT, "application/json");
    let mut response = asked.send().await.map_err(|error| http::failure(&error.without_url()))?;
    if !response.status().is_success() {
        return Err(Undelivered::new(format!("the homeserver does not take the access token ({})", response.status())));
    }
    let body = http::beginning(&mut response, ROOMS_BYTES_MAX).await;
    let rooms: Rooms =
        serde_json::from_slice(&body).map_err(|_| Undelivered::new("what answers there is no Matrix homeserver"))?;
    if rooms.joined_rooms.iter().any(|joined| joined == room) {
        Ok("the homeserver takes the token, and its account is in the room")
    } else {
        Err(Undelivered::new("the account of the token has not joined the room"))
    }
}
