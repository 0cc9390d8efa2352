//! The WebSocket upgrade: the request, and the reading of a refusal.
//!
//! The request is made with an HTTP client and not with that of tungstenite, which reads only the part of a refusal's
//! body that came together with its head: the code and `retry_after` would be lost if they came a packet later.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use url::Position;

use super::{ByteStream, Class, Dialer, FRAME_BYTES_MAX, Socket};
use crate::model::AgentId;
use crate::model::{ConnectFailure, ConnectPlan, RefusedBy};
use crate::platform::limiter::NoTurn;
use crate::platform::rest::ACCEPT_LANGUAGE;
use crate::platform::{classify, retry_after, tls};
use crate::secret::{Key, Redact};

/// Read ahead, and written at once: small, since there may be a thousand sockets that are mostly idle.
const BUFFER_BYTES: usize = 4 << 10;
/// Most bytes of the answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a refusal's body.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// How long to wait for a refusal's body; the status is known without it.
const REFUSAL_WAIT: Duration = Duration::from_secs(2);
/// Most characters of the platform's code.
const CODE_SHOWN_MAX: usize = 64;

/// Opens a socket for an agent, when its turn has come. `limit` bounds each of two phases: the connection with its TLS,
/// then the upgrade. Dropping the future gives up.
pub async fn open(
    dialer: &Dialer,
    agent: &AgentId,
    key: &Key,
    plan: ConnectPlan,
    limit: Duration,
) -> Result<Socket, ConnectFailure> {
    let turn = match dialer.limiter.turn(Class::Call).await {
        Ok(turn) => turn,
        Err(NoTurn::Paused(left) | NoTurn::Unreached(left)) => {
            let why = format!("not tried: the host takes no calls for {:.0} s more", left.as_secs_f64());
            return Err(ConnectFailure { retry_after: Some(left), ..refusal(why) });
        }
    };
    let opened = try_open(dialer, agent, key, plan, limit).await;
    match &opened {
        Ok(_) => turn.ended(Some(101), None),
        Err(refusal) => turn.ended(refusal.status, refusal.retry_after),
    }
    opened.map_err(|refusal| ConnectFailure { why: format!("{} (tried {})", refusal.why, dialer.url), ..refusal })
}

async fn try_open(
    dialer: &Dialer,
    agent: &AgentId,
    key: &Key,
    plan: ConnectPlan,
    limit: Duration,
) -> Result<Socket, ConnectFailure> {
    let wire = dialer.route.dial(limit).await.map_err(|failure| refusal(failure.to_string()))?;
    let nonce = generate_key();
    let request = request(dialer, agent, key, plan, &nonce)?;
    match timeout(limit, upgrade(wire, request)).await {
        Ok(Ok(UpgradeResponse::Upgraded { head, wire })) => {
            check(&head, &nonce).map_err(|why| unanswered(format!("upgrade: {why}")))?;
            let stream = WebSocketStream::from_raw_socket(wire, Role::Client, Some(config())).await;
            Ok(Socket::new(stream, key.clone()))
        }
        Ok(Ok(UpgradeResponse::Refused { head, body })) => {
            // The platform's text is shown to people, and might repeat the key.
            Err(refused(&head, body.as_deref(), &Redact::of(key)))
        }
        Ok(Err(error)) => {
            Err(unanswered(format!("upgrade: {}", tls::explain(&error).unwrap_or_else(|| tls::innermost(&error)))))
        }
        Err(_) => Err(unanswered(format!("upgrade: no answer within {limit:?}"))),
    }
}

/// How frames are read and written.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * FRAME_BYTES_MAX)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
}

/// `GET /…/websocket?vsn=2.0.0&agent_id=…&on_conflict=…` \[docs, sdk\].
fn request(
    dialer: &Dialer,
    agent: &AgentId,
    key: &Key,
    plan: ConnectPlan,
    nonce: &str,
) -> Result<Request<Empty<Bytes>>, ConnectFailure> {
    let mut url = dialer.url.clone();
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("vsn", "2.0.0").append_pair("agent_id", agent.as_str());
        query.append_pair("on_conflict", if plan.take { "supersede" } else { "reject" });
        if plan.key_in_query {
            query.append_pair("api_key", key.expose());
        }
    }
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let mut request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, nonce)
        .header(header::USER_AGENT, &dialer.user_agent)
        .header(header::ACCEPT_LANGUAGE, ACCEPT_LANGUAGE);
    for (name, value) in &dialer.headers {
        request = request.header(name, value);
    }
    if !plan.key_in_query {
        request = request.header("x-api-key", key.header());
    }
    // The URL may contain the key, so no error of its parsing is passed on.
    request.body(Empty::new()).map_err(|_| refusal("upgrade: the url cannot be used".to_owned()))
}

/// The reply over HTTP.
enum UpgradeResponse {
    /// 101: from here on the bytes belong to the WebSocket.
    Upgraded { head: Response<()>, wire: ByteStream },
    /// Anything else, with its body if that could be read.
    Refused { head: Response<()>, body: Option<Bytes> },
}

async fn upgrade(wire: ByteStream, request: Request<Empty<Bytes>>) -> hyper::Result<UpgradeResponse> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(wire)).await?;
    let mut connection = pin!(connection.without_shutdown());
    let mut exchange = pin!(async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let head = Response::from_parts(head, ());
        let body = if head.status() == StatusCode::SWITCHING_PROTOCOLS { None } else { Some(gather(body).await) };
        hyper::Result::Ok((head, body))
    });
    let mut ended = None;
    let (head, body) = loop {
        tokio::select! {
            answer = &mut exchange => break answer?,
            end = &mut connection, if ended.is_none() => ended = Some(end),
        }
    };
    if let Some(body) = body {
        return Ok(UpgradeResponse::Refused { head, body });
    }
    let parts = match ended {
        Some(end) => end?,
        None => connection.await?,
    };
    // Not `from_partially_read`: whatever its buffer grows to, that reads each frame in two small pieces as soon as an earlier frame is
    // still in use. A copy, so that the buffer of the HTTP client goes.
    let wire = parts.io.into_inner().read_again(Bytes::copy_from_slice(&parts.read_buf));
    Ok(UpgradeResponse::Upgraded { head, wire })
}

/// A refusal's body; `None` if it is too large, too slow, or broken.
async fn gather(body: Incoming) -> Option<Bytes> {
    match timeout(REFUSAL_WAIT, Limited::new(body, REFUSAL_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Some(body.to_bytes()),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// Whether a 101 answers this very request for a WebSocket (RFC 6455, section 4.1).
fn check(head: &Response<()>, nonce: &str) -> Result<(), &'static str> {
    let is = |name, wanted: &str| text(head.headers(), name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
    let upgrades = text(head.headers(), header::CONNECTION)
        .is_some_and(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")));
    if !upgrades || !is(header::UPGRADE, "websocket") {
        return Err("the answer is not a WebSocket upgrade");
    }
    if text(head.headers(), header::SEC_WEBSOCKET_ACCEPT) != Some(derive_accept_key(nonce.as_bytes()).as_str()) {
        return Err("the answer is to another request");
    }
    let unasked = [header::SEC_WEBSOCKET_EXTENSIONS, header::SEC_WEBSOCKET_PROTOCOL];
    if unasked.iter().any(|name| head.headers().contains_key(name)) {
        return Err("the answer insists on an extension that was not asked for");
    }
    Ok(())
}

fn refusal(why: String) -> ConnectFailure {
    ConnectFailure { status: None, code: None, by: RefusedBy::Unknown, retry_after: None, asked: false, why }
}

/// The request was sent, and the platform may have accepted it.
fn unanswered(why: String) -> ConnectFailure {
    ConnectFailure { asked: true, ..refusal(why) }
}

/// Reads a refused upgrade.
fn refused(head: &Response<()>, body: Option<&[u8]>, redact: &Redact) -> ConnectFailure {
    let status = head.status();
    let now = text(head.headers(), header::DATE).and_then(retry_after::date).unwrap_or_else(Timestamp::now);
    let said = classify::refusal(status, text(head.headers(), header::RETRY_AFTER), body, now, redact);
    let by = match (body.map(|body| classify::words(body, redact)), status.as_u16()) {
        (_, 407 | 451 | 511) => RefusedBy::Between(said.message.map(|page| page.to_string()).unwrap_or_default()),
        (None, _) => RefusedBy::Unknown,
        (Some(classify::RefusalAuthor::None), _) => RefusedBy::Empty,
        (Some(classify::RefusalAuthor::Platform), _) => RefusedBy::Platform,
        // A Phoenix server itself reports a request that it could not process \[phx\].
        (Some(classify::RefusalAuthor::Between(_)), 400) => RefusedBy::Unknown,
        (Some(classify::RefusalAuthor::Between(page)), _) => RefusedBy::Between(page.to_string()),
    };
    let code = said.code.map(|code| code.shown(CODE_SHOWN_MAX));
    let named = code.as_ref().map(|code| format!(" `{code}`")).unwrap_or_default();
    let between = match &by {
        RefusedBy::Between(page) => {
            format!(", not the platform's answer, but that of something in between: `{page}`")
        }
        RefusedBy::Unknown | RefusedBy::Empty | RefusedBy::Platform => String::new(),
    };
    let elsewhere = if status.is_redirection() { ", it points elsewhere: is `platform.url` right?" } else { "" };
    ConnectFailure {
        status: Some(status.as_u16()),
        retry_after: said.retry_after,
        asked: false,
        why: format!("upgrade: http {}{named}{between}{elsewhere}", status.as_u16()),
        code,
        by,
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests;
