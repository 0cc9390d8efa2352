//! The daemon's side of the control sockets. It accepts root and the daemon's own user, and if a group was given the
//! file, everybody who may use the file. It turns each request into a [`ControlCall`] for the supervisor, and knows nothing
//! else. Everything is bounded: connections, headers, bodies, waiting.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::keeping::{SocketCheck, keep_in_place};
use super::peer::Peer;
use super::socket::BoundSocket;
use super::wire::{Claim, ControlCall, ControlOp, ControlRequest, OpError, OpReply};
use crate::model::{Person, ascii_json};
use crate::ops::log::events;
use crate::ops::metrics::listener::{self, Readings};
use crate::ops::serving::{self, Limits, Listener, SILENT_MAX, UNREAD_MAX, WAITING_MAX};
use crate::secret::Redact;

/// Most calls served at once.
pub const SERVED_MAX: usize = 32;
/// Most bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// A client must have sent its whole request within this time.
const SPEAK_MAX: Duration = Duration::from_secs(10);
/// Longest wait for the supervisor: a reload of many large lists, an answer that is retried.
const REPLY_MAX: Duration = Duration::from_secs(120);
/// Most time of a connection: a person may read a long reply through a pager.
const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// How long calls that have begun may go on after `stop`.
const STOP_MAX: Duration = Duration::from_secs(2);
const LIMITS: Limits = Limits {
    silent: SILENT_MAX,
    served: SERVED_MAX,
    waiting: WAITING_MAX,
    at_once: listener::AT_ONCE,
    speak: SPEAK_MAX,
    unread: UNREAD_MAX,
    all: CONNECTION_MAX,
    finish: STOP_MAX,
    request_bytes: BODY_BYTES_MAX,
};

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketPurpose {
    /// Everything.
    Everything,
    /// Only operations that change nothing.
    Reading,
}

/// The socket that a call came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CallSocket {
    purpose: SocketPurpose,
    /// The file's mode says who may use it.
    shared: bool,
}

/// Serves the socket until `stop`, and removes it then. A call that has begun at that moment has 2 s to end. If the
/// socket's file is deleted or replaced, the socket is made again.
///
/// # Errors
/// The listener cannot be used with this runtime.
pub async fn serve(
    mut socket: BoundSocket,
    purpose: SocketPurpose,
    calls: mpsc::Sender<ControlCall>,
    readings: Readings,
    redact: Redact,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let Some(listener) = socket.take_listener() else { return Ok(()) };
    let (listener, address) = (Listener::of_socket(listener)?, socket.path().display().to_string());
    let door = CallSocket { purpose, shared: socket.shared() };
    let router = router(calls, readings).layer(Extension(door)).layer(Extension(redact.clone()));
    let router = router.layer(axum::middleware::map_response_with_state(redact, without_keys));
    let (made, again) = mpsc::channel(1);
    let kept = tokio::spawn(keep_in_place(socket, made, tell, stop.clone()));
    serving::serve(listener, again, LIMITS, address, router, stop).await;
    // A file system that hangs must not keep the process.
    let _ = tokio::time::timeout(STOP_MAX, kept).await;
    Ok(())
}

/// Logs what happened to the socket's file.
fn tell(seen: SocketCheck<'_>) {
    match seen {
        SocketCheck::Remade(path) => {
            let path = path.display().to_string();
            tracing::warn!(event = events::CONTROL_REMADE, path, "the control socket's file was gone: made again");
        }
        SocketCheck::Missing(why) => {
            let message =
                "the control socket's file is gone, and another cannot be made: no command reaches this daemon";
            tracing::warn!(event = events::CONTROL_REFUSED, %why, "{message}");
        }
    }
}

impl CallSocket {
    /// Refuses a peer that is not allowed, and logs that.
    fn check(self, peer: Peer) -> Result<(), Refused> {
        if self.shared || peer.is_ours() {
            return Ok(());
        }
        tracing::warn!(
            event = events::CONTROL_REFUSED,
            why = format!("user {} may not", peer.uid),
            "a call was refused"
        );
        Err(refuse("forbidden", "only root and the daemon's own user may use this socket"))
    }

    /// The same of an operation: a socket for reading takes none that changes anything.
    fn check_op(self, peer: Peer, op: &ControlOp) -> Result<(), Refused> {
        self.check(peer)?;
        if self.purpose == SocketPurpose::Everything || op.only_reads() {
            return Ok(());
        }
        let name = op.name();
        tracing::warn!(
            event = events::CONTROL_REFUSED,
            why = format!("user {} asked for `{name}` on the socket for reading", peer.uid),
            "a call was refused"
        );
        let message =
            "you may only read here: for this, be a member of the control socket's group, or use `sudo doorman …`";
        Err(refuse("read-only", message))
    }
}

type CallSender = State<mpsc::Sender<ControlCall>>;

fn router(calls: mpsc::Sender<ControlCall>, readings: Readings) -> Router {
    let readings = listener::routes(readings).layer(middleware::from_fn(only_allowed));
    Router::new()
        .route("/v1/op", post(operate))
        .route("/v1/status", get(status))
        .merge(readings)
        .fallback(nothing)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(calls)
}

/// The routes that only read the board are open to the same accounts as everything else here.
async fn only_allowed(
    Extension(peer): Extension<Peer>,
    Extension(door): Extension<CallSocket>,
    request: axum::extract::Request,
    next: Next,
) -> Result<Response, Refused> {
    door.check(peer)?;
    Ok(next.run(request).await)
}

#[derive(Debug, Deserialize)]
struct OperateQuery {
    /// `false`: answer as soon as the supervisor has the call.
    #[serde(default = "yes")]
    wait: bool,
}

fn yes() -> bool {
    true
}

async fn operate(
    State(calls): CallSender,
    Extension(peer): Extension<Peer>,
    Extension(door): Extension<CallSocket>,
    Extension(redact): Extension<Redact>,
    Query(manner): Query<OperateQuery>,
    body: Body,
) -> Result<Response, Refused> {
    let ControlRequest { op, mut who } = serde_json::from_slice(&body.0)
        .map_err(|error| refuse("malformed", format!("the body is not a valid operation: {error}")))?;
    for said in [&mut who.name, &mut who.note].into_iter().flatten() {
        *said = redact.scrub(said).into_owned();
    }
    let reply = call(&calls, (peer, door), op, who).await?;
    if manner.wait {
        let reply = answer(reply).await?;
        Ok(json(&reply))
    } else {
        // A task holds the receiver until the reply is there: if it were dropped, the supervisor would see that nobody
        // waits.
        tokio::spawn(answer(reply));
        Ok((StatusCode::ACCEPTED, json(&serde_json::json!({ "accepted": true }))).into_response())
    }
}

async fn status(
    State(calls): CallSender,
    Extension(peer): Extension<Peer>,
    Extension(door): Extension<CallSocket>,
) -> Result<Response, Refused> {
    match answer(call(&calls, (peer, door), ControlOp::Status, Claim::default()).await?).await? {
        OpReply::Status(status) => Ok(json(&status)),
        _ => Err(refuse("failed", "the daemon gave another answer than it was asked for")),
    }
}

async fn nothing() -> Refused {
    refuse("unknown", "there is `POST /v1/op`, and `GET` of `/v1/status`, `/metrics`, `/healthz` and `/readyz`")
}

type OpReplyReceiver = oneshot::Receiver<Result<OpReply, OpError>>;

/// No reply contains a key, whatever the platform said. JSON changes at most a key's escapes, and the key is masked
/// where it stands.
async fn without_keys(State(redact): State<Redact>, response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return refuse("failed", "the reply could not be put together").into_response();
    };
    // It may be long, and agents run on this thread.
    let scrubbed = tokio::task::spawn_blocking(move || {
        let scrubbed = std::str::from_utf8(&bytes).ok().map(|text| redact.scrub_quoted(text));
        match scrubbed {
            Some(std::borrow::Cow::Owned(scrubbed)) => Bytes::from(scrubbed),
            Some(std::borrow::Cow::Borrowed(_)) | None => bytes,
        }
    });
    let Ok(body) = scrubbed.await else {
        return refuse("failed", "the reply could not be put together").into_response();
    };
    head.headers.remove(axum::http::header::CONTENT_LENGTH);
    Response::from_parts(head, body.into())
}

/// Hands the operation to the supervisor.
async fn call(
    calls: &mpsc::Sender<ControlCall>,
    (peer, door): (Peer, CallSocket),
    op: ControlOp,
    who: Claim,
) -> Result<OpReplyReceiver, Refused> {
    door.check_op(peer, &op)?;
    if let Some(problem) = who.problem() {
        return Err(refuse("malformed", problem));
    }
    let person = tokio::task::spawn_blocking(move || peer.person(&who)).await;
    let person = person.unwrap_or_else(|_| Person::from(format!("uid:{}", peer.uid).as_str()));
    tracing::debug!(event = events::CONTROL_CALL, op = op.name(), by = person.name(), "the control socket is used");
    let (reply, receiver) = oneshot::channel();
    match tokio::time::timeout(SPEAK_MAX, calls.send(ControlCall { op, person, reply })).await {
        Ok(Ok(())) => Ok(receiver),
        Ok(Err(_)) => Err(refuse("busy", "the daemon is stopping")),
        Err(_) => Err(refuse("busy", "the daemon has too much to do just now: try again")),
    }
}

/// Waits for the supervisor's reply.
async fn answer(reply: OpReplyReceiver) -> Result<OpReply, Refused> {
    match tokio::time::timeout(REPLY_MAX, reply).await {
        Ok(Ok(Ok(reply))) => Ok(reply),
        Ok(Ok(Err(error))) => Err(Refused(error)),
        Ok(Err(_)) => Err(refuse("failed", "the daemon gave no answer; its log says more")),
        Err(_) => Err(refuse("busy", format!("no answer within {} s; it may still be done", REPLY_MAX.as_secs()))),
    }
}

/// A whole body, in time.
struct Body(Bytes);

impl<S: Send + Sync> axum::extract::FromRequest<S> for Body {
    type Rejection = Refused;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Refused> {
        match tokio::time::timeout(SPEAK_MAX, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(_)) => {
                Err(refuse("malformed", format!("the body is broken, or longer than {BODY_BYTES_MAX} bytes")))
            }
            Err(_) => Err(refuse("malformed", "the body did not arrive in time")),
        }
    }
}

/// Many replies contain strangers' text, and a person who uses `curl` sees it on a terminal.
fn json(body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], ascii_json(&text)).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// An error with its HTTP status.
struct Refused(OpError);

fn refuse(code: &str, message: impl Into<String>) -> Refused {
    Refused(OpError { code: code.to_owned(), message: message.into() })
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0.code.as_str() {
            "malformed" => StatusCode::BAD_REQUEST,
            "forbidden" | "read-only" => StatusCode::FORBIDDEN,
            "unknown" | "no-agent" => StatusCode::NOT_FOUND,
            "gone" => StatusCode::GONE,
            "ambiguous" | "shadow" => StatusCode::CONFLICT,
            "busy" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, json(&self.0)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32) -> Peer {
        Peer { uid, pid: None }
    }

    #[test]
    fn root_and_ourselves_are_let_in() {
        assert!(peer(0).is_ours());
        assert!(peer(nix::unistd::geteuid().as_raw()).is_ours());
        assert!(!peer(64_321).is_ours());
    }

    #[tokio::test]
    async fn a_stranger_is_refused_before_the_supervisor_hears_of_it() {
        let (calls, mut heard) = mpsc::channel(1);
        let ask = async |shared, purpose, op| {
            let door = CallSocket { purpose, shared };
            call(&calls, (peer(64_321), door), op, Claim::default()).await.err().map(|refused| refused.0.code)
        };
        let pause = || ControlOp::Pause { agent: None };
        for purpose in [SocketPurpose::Everything, SocketPurpose::Reading] {
            assert_eq!(ask(false, purpose, ControlOp::Status).await.as_deref(), Some("forbidden"));
        }
        assert_eq!(ask(true, SocketPurpose::Reading, pause()).await.as_deref(), Some("read-only"));
        assert!(heard.try_recv().is_err());
        assert_eq!(ask(true, SocketPurpose::Reading, ControlOp::Status).await, None);
        assert_eq!(heard.try_recv().unwrap().op, ControlOp::Status);
        assert_eq!(ask(true, SocketPurpose::Everything, pause()).await, None);
        assert_eq!(heard.try_recv().unwrap().person.name(), "uid:64321");
    }
}
