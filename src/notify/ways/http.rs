//! Webhooks, chats and topics: one POST or PUT each. Redirects are not followed, and only the beginning of the reply is
//! read.

use std::error::Error as _;

use jiff::Timestamp;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};
use url::Url;

use super::{Secrets, Undelivered};
use crate::config::settings::{NotifyTarget, NotifyWay};
use crate::model::StrangerText;
use crate::notify::message::Message;
use crate::notify::{NotifyContext, render};
use crate::platform::retry_after;
use crate::platform::tls::{self, TlsError};
use crate::secret::{Key, signing};

/// The time for one call, from the first byte to the last.
const CALL_MAX: std::time::Duration = std::time::Duration::from_secs(10);
const CONNECT_MAX: std::time::Duration = std::time::Duration::from_secs(5);
/// Most bytes of an answer that are read, and most characters that are shown.
const ANSWER_BYTES_MAX: usize = 4096;
const ANSWER_CHARS_MAX: usize = 200;
/// Discord refuses more characters than this.
const DISCORD_CHARS_MAX: usize = 2000;
/// ntfy turns a message of more bytes into a file.
const NTFY_BYTES_MAX: usize = 4000;
/// Slack cuts at 40,000 characters, Matrix refuses events of more than 65,535 bytes.
const CHAT_BYTES_MAX: usize = 30_000;

pub(super) async fn deliver(
    target: &NotifyTarget,
    secrets: &Secrets,
    id: &str,
    message: &Message,
    around: &NotifyContext,
) -> Result<(), Undelivered> {
    let client = client(target, secrets).await?;
    let request = request(&client, target, secrets, id, message, around.clock.now().wall)?;
    let mut response = request.send().await.map_err(|error| failure(&error.without_url()))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| retry_after::parse(value.to_str().ok()?, around.clock.now().wall));
    let body = beginning(&mut response, ANSWER_BYTES_MAX).await;
    let said = StrangerText::new(String::from_utf8_lossy(&body).trim()).shown(ANSWER_CHARS_MAX);
    let what = if status.is_redirection() { "a redirect, which is not followed" } else { "refused" };
    let why = if said.is_empty() { format!("{what} ({status})") } else { format!("{what} ({status}): {said}") };
    let asked = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    Err(Undelivered { why, after: after.filter(|_| asked), gone: status == StatusCode::GONE })
}

/// The HTTP client for a target, with the target's own CA.
pub(super) async fn client(target: &NotifyTarget, secrets: &Secrets) -> Result<Client, Undelivered> {
    Client::builder()
        .tls_backend_preconfigured(tls_of(target, secrets).await?)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(CALL_MAX)
        .connect_timeout(CONNECT_MAX)
        .user_agent(concat!("doorman/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| failure(&error))
}

/// The beginning of the reply.
pub(super) async fn beginning(response: &mut Response, most: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < most
        && let Ok(Some(piece)) = response.chunk().await
    {
        body.extend_from_slice(&piece[..piece.len().min(most - body.len())]);
    }
    body
}

/// The TLS settings, if TLS is used: the machine's root certificates and the target's own CA.
async fn tls_of(target: &NotifyTarget, secrets: &Secrets) -> Result<rustls::ClientConfig, Undelivered> {
    let over_tls = match &target.way {
        NotifyWay::Matrix { server, .. } => server.scheme() == "https",
        NotifyWay::Webhook { .. }
        | NotifyWay::Slack { .. }
        | NotifyWay::Discord { .. }
        | NotifyWay::Ntfy { .. }
        | NotifyWay::Mail { .. }
        | NotifyWay::Command { .. } => address(secrets)?.scheme() == "https",
    };
    let ca_file = target.ca_file.clone();
    let made = tokio::task::spawn_blocking(move || match over_tls {
        true => tls::client_config(ca_file.as_deref()).map(|config| config.as_ref().clone()),
        false => tls::for_plain_http(),
    });
    match made.await {
        Ok(Ok(config)) => Ok(config),
        Ok(Err(TlsError::Ca { path, why })) => {
            Err(Undelivered::new(format!("`ca_file` = `{path}` cannot be used: {why}")))
        }
        Ok(Err(error @ (TlsError::Roots(_) | TlsError::Variable { .. }))) => Err(Undelivered::new(error.to_string())),
        Err(_) => Err(Undelivered::new("setting TLS up failed inside doorman")),
    }
}

/// What went wrong, with its causes and without the address.
pub(super) fn failure(error: &reqwest::Error) -> Undelivered {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        why.push_str(&format!(": {error}"));
        cause = error.source();
    }
    Undelivered::new(why)
}

fn request(
    client: &Client,
    target: &NotifyTarget,
    secrets: &Secrets,
    id: &str,
    message: &Message,
    now: Timestamp,
) -> Result<RequestBuilder, Undelivered> {
    let (title, text) = (render::title(message), render::text(message));
    let whole = format!("{title}\n{text}");
    match &target.way {
        NotifyWay::Webhook { .. } => {
            let body = webhook_body(message, now);
            let mut request = client
                .post(address(secrets)?)
                .header(header::CONTENT_TYPE, "application/json")
                .header("webhook-id", id)
                .header("webhook-timestamp", now.as_second().to_string());
            if !secrets.keys.is_empty() {
                let signatures = signing::signatures(&secrets.keys, id, now.as_second(), body.as_bytes());
                let signatures = signatures.map_err(|unusable| Undelivered::new(unusable.to_string()))?;
                request = request.header("webhook-signature", signatures);
            }
            Ok(request.body(body))
        }
        NotifyWay::Slack { .. } => {
            let text = render::cut(&render::slack(&whole), CHAT_BYTES_MAX);
            let body = json!({"text": text, "mrkdwn": false, "unfurl_links": false, "unfurl_media": false});
            Ok(client.post(address(secrets)?).json(&body))
        }
        NotifyWay::Discord { .. } => {
            // 4: do not show previews of links.
            let content = render::discord(&whole, DISCORD_CHARS_MAX);
            let content = render::own_links(content, message);
            let body = json!({"content": content, "allowed_mentions": {"parse": []}, "flags": 4});
            Ok(client.post(address(secrets)?).json(&body))
        }
        NotifyWay::Ntfy { .. } => {
            let (server, topic) = topic(address(secrets)?)?;
            let body = json!({"topic": topic, "title": title, "message": render::cut(&text, NTFY_BYTES_MAX), "tags": ["door"]});
            let request = client.post(server).json(&body);
            Ok(match secrets.keys.first() {
                Some(token) => request.bearer_auth(token.expose()),
                None => request,
            })
        }
        NotifyWay::Matrix { server, room } => {
            let mut url = server.clone();
            url.path_segments_mut()
                .map_err(|()| Undelivered::new("the homeserver's address has no path"))?
                .pop_if_empty()
                .extend(["_matrix", "client", "v3", "rooms", room, "send", "m.room.message", id]);
            // With empty mentions a stranger's text cannot notify anybody.
            let body = json!({"msgtype": "m.notice", "body": render::cut(&whole, CHAT_BYTES_MAX), "m.mentions": {}});
            let token = secrets.keys.first().ok_or_else(|| Undelivered::new("there is no access token"))?;
            Ok(client.request(Method::PUT, url).bearer_auth(token.expose()).json(&body))
        }
        NotifyWay::Mail { .. } | NotifyWay::Command { .. } => Err(Undelivered::new("this way has no address")),
    }
}

/// The body for a webhook: [`Message`], with a type and a time as Standard Webhooks defines them.
fn webhook_body(message: &Message, now: Timestamp) -> String {
    let kind = if message.test { "doorman.test" } else { "doorman.news" };
    let body: Value = json!({"type": kind, "timestamp": now, "data": message});
    body.to_string()
}

pub(super) fn address(secrets: &Secrets) -> Result<Url, Undelivered> {
    let text = secrets.address.as_ref().map(Key::expose).unwrap_or_default();
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
    url.ok_or_else(|| Undelivered::new("what is kept as its address is not an address that begins with `https://`"))
}

/// Splits a topic's address: ntfy accepts JSON at the root of the server.
pub(super) fn topic(url: Url) -> Result<(Url, String), Undelivered> {
    let unusable = || Undelivered::new("expected a topic's address, such as `https://ntfy.example.org/TOPIC`");
    let mut server = url;
    let topic = server.path_segments().and_then(|mut parts| parts.next_back().map(str::to_owned)).unwrap_or_default();
    if topic.is_empty() {
        return Err(unusable());
    }
    server.path_segments_mut().map_err(|()| unusable())?.pop();
    Ok((server, topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_implementation_accepts_the_signatures() {
        let (id, now) = ("dm_1", Timestamp::now());
        let body = webhook_body(&Message::test(now), now);
        let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="];
        let keys = secrets.map(|secret| Key::parse(secret).unwrap());
        let signed = signing::signatures(&keys, id, now.as_second(), body.as_bytes()).unwrap();
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", now.as_second().to_string().parse().unwrap());
        headers.insert("webhook-signature", signed.parse().unwrap());
        for secret in secrets {
            let verifier = standardwebhooks::Webhook::new(secret).unwrap();
            verifier.verify(body.as_bytes(), &headers).expect("either secret is good while one is being changed");
            assert!(verifier.verify(format!("{body} ").as_bytes(), &headers).is_err());
        }
    }

    #[test]
    fn a_topic_is_the_last_part_of_its_address() {
        let of = |text: &str| topic(Url::parse(text).unwrap()).map(|(server, topic)| (server.to_string(), topic));
        assert_eq!(of("https://ntfy.sh/ops").unwrap(), ("https://ntfy.sh/".to_owned(), "ops".to_owned()));
        assert_eq!(of("https://x.org/ntfy/ops").unwrap(), ("https://x.org/ntfy".to_owned(), "ops".to_owned()));
        assert!(of("https://ntfy.sh/").is_err());
    }
}
