//! The socket's upgrade request: who asks, whether they may connect, and which connection they replace.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::task::TaskTracker;

use super::fault::{Fault, FaultAction, FaultPlace};
use super::reply::{CloseWithoutReply, HttpReply, error, fault_status, raw};
use super::rest::empty;
use super::server::{header as header_text, query};
use super::shared::{STALL, SandboxShared, note};
use super::socket::{self, AcceptedSocket};
use super::store::PartyIndex;
use super::wire::Connect;
use super::world::PartyKind;
use super::{SandboxEnding, malformed};

/// The content of the upgrade request.
struct UpgradeRequest {
    /// The agent, or `None` for a user's own connection.
    agent: Option<PartyIndex>,
    /// Whether the serializer is not Phoenix's second version.
    old_vsn: bool,
}

/// Answers an upgrade request, and starts the connection's task.
pub(super) async fn handle(
    mut request: Request<Incoming>,
    shared: Arc<SandboxShared>,
    ending: SandboxEnding,
    tasks: TaskTracker,
) -> Result<HttpReply, CloseWithoutReply> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let on_conflict = query(&parts, "on_conflict");
    let key_from = match (header_text(&parts, "x-api-key"), query(&parts, "api_key")) {
        (Some(_), _) => "header",
        (None, Some(_)) => "query",
        (None, None) => "none",
    };
    let seen = |agent: Option<PartyIndex>, status: u16| {
        let mut inner = shared.lock();
        let agent = agent.map(|agent| inner.store.parties[agent].id.clone());
        let on_conflict = on_conflict.clone().map(|word| word.chars().take(32).collect());
        let entry = Connect { at_us: shared.us(), agent, status, key: key_from.into(), on_conflict };
        note(&mut inner.journal.connects, entry);
    };
    let asked = match who(&parts, &shared) {
        Ok(asked) => asked,
        Err(refusal) => {
            seen(None, refusal.status().as_u16());
            return Ok(*refusal);
        }
    };
    if shared.throttled(asked.agent) {
        seen(asked.agent, 429);
        return Ok(empty(429));
    }
    let fault = shared.strike(FaultPlace::Upgrade, asked.agent, "");
    if let Some(instead) = before(fault.as_ref(), &shared).await {
        seen(asked.agent, instead.as_ref().map_or(0, |reply| reply.status().as_u16()));
        return instead;
    }
    let reject = match on_conflict.as_deref() {
        _ if shared.options.older => false,
        Some("reject") => true,
        None | Some("supersede") => false,
        Some(_) => {
            seen(asked.agent, 400);
            return Ok(error(400, "invalid_on_conflict", "`on_conflict` is `reject` or `supersede`", None));
        }
    };
    let ends = {
        let mut inner = shared.lock();
        let live = asked.agent.is_some_and(|agent| inner.hub.is_live(agent, shared.clock.now().mono));
        if live && reject {
            None
        } else {
            // A connection that will be closed because of its serializer replaces no other connection.
            Some(inner.hub.open(asked.agent.filter(|_| !asked.old_vsn)))
        }
    };
    let Some(ends) = ends else {
        seen(asked.agent, 409);
        return Ok(error(409, "connection_conflict", "this agent has a live connection", None));
    };
    seen(asked.agent, 101);
    let guest = AcceptedSocket { agent: asked.agent, ends, old_vsn: asked.old_vsn, fault };
    let task_shared = shared.clone();
    tasks.spawn(async move {
        let (number, agent) = (guest.ends.number, guest.agent);
        let mut noted = false;
        let run = async {
            if let Ok(upgraded) = upgrade.await {
                socket::run(TokioIo::new(upgraded), guest, &task_shared, &ending.stop, &mut noted).await;
            }
        };
        ending.kill.run_until_cancelled(run).await;
        if !noted {
            socket::ended(&task_shared, agent, number, (None, "gone"));
        }
    });
    let accept = header_text(&parts, "sec-websocket-key").map(|key| derive_accept_key(key.as_bytes()));
    let mut reply = raw(101, "", bytes::Bytes::new());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Some(accept) = accept.and_then(|accept| HeaderValue::from_str(&accept).ok()) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(reply)
}

/// The agent that asks; or the refusal.
fn who(parts: &Parts, shared: &SandboxShared) -> Result<UpgradeRequest, Box<HttpReply>> {
    let has = |name, word: &str| {
        header_text(parts, name).is_some_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    let is_upgrade = parts.method == Method::GET
        && has("upgrade", "websocket")
        && has("connection", "upgrade")
        && header_text(parts, "sec-websocket-version") == Some("13")
        && header_text(parts, "sec-websocket-key").is_some();
    if !is_upgrade {
        return Err(raw(400, "text/plain", "'connection' header must contain 'upgrade'").into());
    }
    let old_vsn = match query(parts, "vsn").as_deref() {
        None | Some("1.0.0") => true,
        Some("2.0.0") => false,
        Some(_) => return Err(empty(403).into()),
    };
    let key = header_text(parts, "x-api-key").map(str::to_owned).or_else(|| query(parts, "api_key"));
    let inner = shared.lock();
    let Some(party) = key.and_then(|key| inner.store.by_key(&key)) else {
        return Err(error(401, "unauthorized", "missing or invalid API key", None).into());
    };
    let agent_id = query(parts, "agent_id");
    let agent = match (inner.store.parties[party].kind, agent_id) {
        (PartyKind::Agent, None) => Some(party),
        (PartyKind::Agent, Some(id)) => Some(party).filter(|_| inner.store.parties[party].id == id),
        (PartyKind::User, None) => return Ok(UpgradeRequest { agent: None, old_vsn }),
        (PartyKind::User, Some(id)) => inner.store.by_id(&id).filter(|agent| inner.store.owner(*agent) == Some(party)),
    };
    match agent {
        Some(agent) => Ok(UpgradeRequest { agent: Some(agent), old_vsn }),
        None => Err(empty(403).into()),
    }
}

/// What a fault does instead of the upgrade. What it does after the upgrade is up to the socket.
async fn before(fault: Option<&Fault>, shared: &SandboxShared) -> Option<Result<HttpReply, CloseWithoutReply>> {
    let fault = fault?;
    match fault.what {
        FaultAction::Drop => Some(Err(CloseWithoutReply)),
        FaultAction::Stall => {
            tokio::time::sleep(fault.ms.map_or(STALL, std::time::Duration::from_millis)).await;
            Some(Err(CloseWithoutReply))
        }
        FaultAction::Status => Some(Ok(match (fault.code, fault.ms, &fault.reason) {
            (Some(403), None, None) => empty(403),
            _ => fault_status(fault, None),
        })),
        FaultAction::Malformed => Some(Ok(malformed::body(fault.code, shared.next()))),
        FaultAction::EdgePage => Some(Ok(malformed::edge_page(fault.code.unwrap_or(403)))),
        FaultAction::Delay => {
            SandboxShared::pause(fault, 1000).await;
            None
        }
        FaultAction::Close | FaultAction::Supersede | FaultAction::Ghost => None,
        FaultAction::Duplicate
        | FaultAction::Reorder
        | FaultAction::ApplyThenFail
        | FaultAction::CrashChannel
        | FaultAction::StaleList => None,
        FaultAction::BadRow | FaultAction::Throttle => None,
    }
}
