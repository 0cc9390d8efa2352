//! The WebSocket upgrade: what is asked for, and what a refusal says.

use std::time::Duration;

use http::{HeaderMap, Request, header};
use jiff::Timestamp;
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, http::Response};
use url::Url;

use super::{Dialer, FRAME_BYTES_MAX, Socket};
use crate::model::AgentId;
use crate::phoenix::{ConnectPlan, Refusal};
use crate::platform::{classify, retry_after, tls};
use crate::secret::Key;

/// Read ahead, and written at once: small, since there may be a thousand sockets that are mostly idle.
const BUFFER_BYTES: usize = 8 << 10;

/// Opens a socket for an agent. `limit` bounds each phase: connecting with TLS, then the upgrade. Dropping the future
/// gives up.
pub async fn open(
    dialer: &Dialer,
    agent: &AgentId,
    key: &Key,
    plan: ConnectPlan,
    limit: Duration,
) -> Result<Socket, Refusal> {
    let wire = match timeout(limit, dialer.dial()).await {
        Ok(Ok(wire)) => wire,
        Ok(Err((phase, error))) => {
            let why = tls::explain(&error).unwrap_or_else(|| error.to_string());
            return Err(refusal(format!("{phase}: {why}")));
        }
        Err(_) => return Err(refusal(format!("connect: no answer within {limit:?}"))),
    };
    let request = request(&dialer.url, agent, key, plan)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    match timeout(limit, client_async_with_config(request, wire, Some(config))).await {
        Ok(Ok((stream, _))) => Ok(Socket::new(stream)),
        Ok(Err(Error::Http(response))) => Err(refused(&response)),
        Ok(Err(error)) => Err(refusal(format!("upgrade: {}", plain(&error)))),
        Err(_) => Err(refusal(format!("upgrade: no answer within {limit:?}"))),
    }
}

fn request(base: &Url, agent: &AgentId, key: &Key, plan: ConnectPlan) -> Result<Request<()>, Refusal> {
    let mut url = base.clone();
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("vsn", "2.0.0").append_pair("agent_id", agent.as_str());
        query.append_pair("on_conflict", if plan.take { "supersede" } else { "reject" });
        if plan.key_in_query {
            query.append_pair("api_key", key.expose());
        }
    }
    // The url may hold the key, so no error of its parsing is passed on.
    let mut request =
        url.as_str().into_client_request().map_err(|_| refusal("upgrade: the url cannot be used".to_owned()))?;
    if !plan.key_in_query {
        request.headers_mut().insert("x-api-key", key.header());
    }
    let agent = header::HeaderValue::from_static(concat!("doorman/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(header::USER_AGENT, agent);
    Ok(request)
}

fn refusal(why: String) -> Refusal {
    Refusal { status: None, code: None, retry_after: None, why }
}

/// Reads a refused upgrade; its body is as much as came with the head.
fn refused(response: &Response<Option<Vec<u8>>>) -> Refusal {
    let status = response.status();
    let text = |headers: &HeaderMap, name| {
        headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok()).map(str::to_owned)
    };
    let now =
        text(response.headers(), header::DATE).and_then(|date| retry_after::date(&date)).unwrap_or_else(Timestamp::now);
    let body = response.body().as_deref().unwrap_or_default();
    let after = text(response.headers(), header::RETRY_AFTER);
    let said = classify::refusal(status, after.as_deref(), body, now);
    let code = said.code.as_ref().map(ToString::to_string);
    let named = code.as_ref().map(|code| format!(" `{code}`")).unwrap_or_default();
    Refusal {
        status: Some(status.as_u16()),
        code,
        retry_after: said.retry_after,
        why: format!("upgrade: http {}{named}", status.as_u16()),
    }
}

/// An error of the handshake, in words without the request that led to it.
fn plain(error: &Error) -> String {
    match error {
        Error::Io(error) => tls::explain(error).unwrap_or_else(|| error.to_string()),
        Error::Protocol(error) => error.to_string(),
        Error::ConnectionClosed | Error::AlreadyClosed => "the connection ended".to_owned(),
        _ => "the answer is no WebSocket upgrade".to_owned(),
    }
}
