//! Accepts connections, speaks TLS and HTTP/1.1, and passes each request to its handler. It knows the paths, but not
//! their meaning.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::reply::{CloseWithoutReply, HttpReply, error, raw};
use super::shared::SandboxShared;
use super::{SandboxEnding, rest, tester, upgrade};

/// Most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 16_384;
/// Most bytes of a request's body.
pub(super) const BODY_MAX: usize = 4 << 20;
const HEAD_MAX: usize = 64 << 10;
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Accepts until the sandbox ends.
pub(super) async fn run(listener: TcpListener, shared: Arc<SandboxShared>, ending: SandboxEnding, tasks: TaskTracker) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let acceptor = shared.options.tls.clone().map(tokio_rustls::TlsAcceptor::from);
    loop {
        let accept = async {
            let permit = permits.clone().acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = ending.stop.cancelled() => return,
            () = ending.kill.cancelled() => return,
            accepted = accept => accepted,
        };
        let Ok((tcp, _)) = accepted else {
            // Probably there are no descriptors left; some will be closed soon.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let served = connection(tcp, acceptor.clone(), shared.clone(), ending.clone(), tasks.clone());
        let kill = ending.kill.clone();
        tasks.spawn(async move {
            kill.run_until_cancelled(served).await;
            drop(permit);
        });
    }
}

async fn connection(
    tcp: TcpStream,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    shared: Arc<SandboxShared>,
    ending: SandboxEnding,
    tasks: TaskTracker,
) {
    let _ = tcp.set_nodelay(true);
    match acceptor {
        None => serve(tcp, shared, ending, tasks).await,
        Some(acceptor) => {
            if let Ok(Ok(tls)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await {
                serve(tls, shared, ending, tasks).await;
            }
        }
    }
}

async fn serve<I>(io: I, shared: Arc<SandboxShared>, ending: SandboxEnding, tasks: TaskTracker)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stop = ending.stop.clone();
    let service = service_fn(move |request| handle(request, shared.clone(), ending.clone(), tasks.clone()));
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = stop.cancelled() => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

async fn handle(
    request: Request<Incoming>,
    shared: Arc<SandboxShared>,
    ending: SandboxEnding,
    tasks: TaskTracker,
) -> Result<HttpReply, CloseWithoutReply> {
    let path = request.uri().path().to_owned();
    if path == "/api/v1/socket/websocket" {
        return upgrade::handle(request, shared, ending, tasks).await;
    }
    let (parts, body) = request.into_parts();
    let read = match parts.method {
        Method::GET | Method::HEAD => Ok(Bytes::new()),
        _ => Limited::new(body, BODY_MAX).collect().await.map(|body| body.to_bytes()),
    };
    let Ok(body) = read else {
        return Ok(error(413, "too_large", "the body is too large or was cut off", Some(shared.next())));
    };
    if let Some(call) = path.strip_prefix("/api/v1/") {
        return rest::handle(call, &parts, &body, &shared).await;
    }
    if let Some(call) = path.strip_prefix("/_sandbox/") {
        return Ok(tester::handle(call, &parts, &body, &super::Control::of(shared)));
    }
    if path == "/" {
        return Ok(raw(200, "text/plain", "a doorman sandbox: an imitation of the platform, and no platform\n"));
    }
    Ok(error(404, "not_found", "no such path", Some(shared.next())))
}

/// The decoded value of a query parameter, the first of that name.
pub(super) fn query(parts: &http::request::Parts, name: &str) -> Option<String> {
    let query = parts.uri.query()?;
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// A header's text.
pub(super) fn header<'a>(parts: &'a http::request::Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}
