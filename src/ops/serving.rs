//! Serves HTTP over TCP or a Unix socket, within bounds on the number of connections, the time for a request and the
//! time of a connection. Metrics, the page and the control socket use it, each with its own routes.

pub mod addresses;
mod crowd;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::control::peer::Peer;
use crate::ops::log::events;
use crowd::{Crowd, Crowding, GroupGuard};

/// Pause before an address that is in use is tried again.
pub const BIND_AGAIN: Duration = Duration::from_secs(30);
/// Pause after the system could not accept a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(250);
/// Most connections at once that have not sent their request. For one more, the oldest of them is closed.
pub const SILENT_MAX: usize = 64;
/// Most requests that wait until they are served. A further one gets 503.
pub const WAITING_MAX: usize = 64;
/// If requests wait, a client has this time to read its reply.
pub const UNREAD_MAX: Duration = Duration::from_secs(2);

/// The limits of a service.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most connections at once that have not sent their request. For one more, the oldest of them is closed.
    pub silent: usize,
    /// Most requests served at once, until their replies have been sent.
    pub served: usize,
    /// Most requests that wait until they are served. A further one gets 503.
    pub waiting: usize,
    /// Paths whose replies are small and quick: they wait for nobody, and do not count as served.
    pub at_once: &'static [&'static str],
    /// A client must have sent its headers within this time.
    pub speak: Duration,
    /// If requests wait, a client has this time to read its reply.
    pub unread: Duration,
    /// A connection is closed after this time, whatever it does.
    pub all: Duration,
    /// After the stop, requests that have begun may go on for this time.
    pub finish: Duration,
    /// Most bytes of headers that are held; a last reading may bring as many again.
    pub request_bytes: usize,
}

/// Where connections are accepted.
#[derive(Debug)]
pub enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Who is at the other end, as far as the system says: an extension of each request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Caller {
    /// Unknown: the connection came over TCP.
    Port,
    /// This account.
    Socket(Peer),
}

impl Listener {
    /// A port that is open already.
    ///
    /// # Errors
    /// It cannot be used with this runtime.
    pub fn of_port(listener: std::net::TcpListener) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Listener::Tcp)
    }

    /// A Unix socket that is open already.
    ///
    /// # Errors
    /// It cannot be used with this runtime.
    pub fn of_socket(listener: std::os::unix::net::UnixListener) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(Listener::Unix)
    }

    /// Its address or path, for people.
    pub fn at(&self) -> String {
        match self {
            Listener::Tcp(listener) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |at| at.to_string())
            }
            Listener::Unix(listener) => listener
                .local_addr()
                .ok()
                .and_then(|at| at.as_pathname().map(|path| path.display().to_string()))
                .unwrap_or_else(|| "a socket without a name".to_owned()),
        }
    }

    /// The port number, if this is a port.
    pub fn port(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        }
    }

    async fn accept(&self) -> std::io::Result<(Stream, Caller)> {
        match self {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| (Stream::Tcp(stream), Caller::Port)),
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                let peer = Peer { uid: peer.uid(), pid: peer.pid() };
                Ok((Stream::Unix(stream), Caller::Socket(peer)))
            }
        }
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

/// For [`serve`], if the listener never changes.
pub fn for_good() -> mpsc::Receiver<Listener> {
    mpsc::channel(1).1
}

/// Binds a port, now or as soon as that is possible. A failure is reported once, and again when its reason changes.
pub async fn bound(address: SocketAddr, tell: impl Fn(&str)) -> TcpListener {
    let mut reported = None;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                let why = error.to_string();
                if reported.as_ref() != Some(&why) {
                    tell(&why);
                    reported = Some(why);
                }
                tokio::time::sleep(BIND_AGAIN).await;
            }
        }
    }
}

/// Serves until `stop`; then closes the connections that are still open. Each listener that `again` yields replaces the
/// one before. `address` is for the log.
pub async fn serve(
    mut listener: Listener,
    mut again: mpsc::Receiver<Listener>,
    limits: Limits,
    address: String,
    router: Router,
    stop: CancellationToken,
) {
    let crowd = Arc::new(Crowd::new(address, limits));
    let tasks = TaskTracker::new();
    let end = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(new) = again.recv() => {
                listener = new;
                continue;
            }
        };
        match accepted {
            Ok((stream, caller)) => {
                let router = match caller {
                    Caller::Port => router.clone(),
                    Caller::Socket(peer) => router.clone().layer(Extension(peer)),
                };
                let close = end.child_token();
                let silent = crowd.accepted(close.clone());
                let (router, crowd) = (router.layer(Extension(caller)), crowd.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = close.cancelled() => {}
                        () = connection(stream, &crowd, limits, router, silent, close.clone()) => {}
                    }
                });
                // If many come at once, each is read before a later one can take its place.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                debug!(event = events::CONTROL_CALL, op = "broken", why = %error, "a connection cannot be accepted");
                crowd.report(Crowding::System);
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(limits.finish, tasks.wait()).await.is_err() {
        end.cancel();
        tasks.wait().await;
    }
}

/// Serves one request. `silent` ends when the request is there.
async fn connection(
    stream: Stream,
    crowd: &Arc<Crowd>,
    limits: Limits,
    router: Router,
    silent: GroupGuard,
    close: CancellationToken,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.speak)
        .keep_alive(false)
        .max_headers(64)
        .max_buf_size(limits.request_bytes);
    let silent = Arc::new(Mutex::new(Some(silent)));
    // Kept until the reply has been sent.
    let kept = Arc::new(Mutex::new(None));
    let routes = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        let (crowd, routes, close) = (crowd.clone(), routes.clone(), close.clone());
        let (silent, kept) = (silent.clone(), kept.clone());
        async move {
            drop(silent.lock().unwrap_or_else(PoisonError::into_inner).take());
            if limits.at_once.contains(&request.uri().path()) {
                return routes.call(request).await;
            }
            let Some(turn) = crowd.turn().await else { return Ok(too_many()) };
            let reply = routes.call(request).await;
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((turn, crowd.replying(close)));
            reply
        }
    });
    let served = async {
        match stream {
            Stream::Tcp(stream) => http.serve_connection(TokioIo::new(stream), service).await,
            Stream::Unix(stream) => http.serve_connection(TokioIo::new(stream), service).await,
        }
    };
    match tokio::time::timeout(limits.all, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(event = events::CONTROL_CALL, op = "broken", why = %error, "a connection broke"),
        Err(_) => debug!(event = events::CONTROL_CALL, op = "broken", why = "it took too long", "a connection broke"),
    }
    drop(kept);
}

fn too_many() -> Response {
    let headers = [
        (header::RETRY_AFTER, HeaderValue::from_static("1")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, "too many requests at once: try again\n").into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_that_is_free_later_is_bound_later() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let reports = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reports);
        let binding = tokio::spawn(bound(address, move |_| _ = counted.fetch_add(1, Ordering::Relaxed)));
        tokio::time::advance(BIND_AGAIN / 2).await;
        assert!(!binding.is_finished());
        // Refused again and again, for the same reason.
        for _ in 0..5 {
            tokio::time::advance(BIND_AGAIN).await;
        }
        assert_eq!(reports.load(Ordering::Relaxed), 1, "the same reason is reported once");
        drop(taken);
        // Tokio's paused clock advances by itself while every task waits.
        let listener = binding.await.unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
    }

    const LONG: Duration = Duration::from_secs(3_600);
    /// No test needs nearly as long.
    const TIME: Duration = Duration::from_secs(120);

    fn limits() -> Limits {
        Limits {
            silent: 4,
            served: 2,
            waiting: 1,
            at_once: &["/quick"],
            speak: LONG,
            unread: LONG,
            all: LONG,
            finish: Duration::ZERO,
            request_bytes: 16 * 1024,
        }
    }

    /// Serves these routes; ends when the second value is dropped.
    async fn served(limits: Limits, router: Router) -> (SocketAddr, tokio_util::sync::DropGuard) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let name = "a test".to_owned();
        tokio::spawn(serve(Listener::Tcp(listener), for_good(), limits, name, router, stop.clone()));
        (address, stop.drop_guard())
    }

    /// A connection that has asked for this path and has read nothing yet.
    async fn asking(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    /// The status of the reply, of which only the first line is read.
    async fn status(stream: &mut TcpStream) -> String {
        let mut line = [0; 12];
        let read = tokio::time::timeout(TIME, stream.read_exact(&mut line)).await.expect("no reply in time");
        read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&line[9..]).into_owned())
    }

    /// Replies longer than what the system keeps for a client that does not read.
    fn long_and_quick() -> Router {
        let long = || async { "x".repeat(64 << 20) };
        Router::new().route("/long", get(long)).route("/quick", get(|| async { "quick" }))
    }

    #[tokio::test]
    async fn whoever_sends_no_request_makes_room_for_whoever_does() {
        let (address, _serving) = served(limits(), long_and_quick()).await;
        let mut silent = Vec::new();
        for _ in 0..40 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /quick HTTP/1.1\r\nhost: ").await.unwrap();
            silent.push(stream);
        }
        for path in ["/quick", "/long"] {
            assert_eq!(status(&mut asking(address, path).await).await, "200", "{path}");
        }
        assert_eq!(status(&mut silent[0]).await, "", "the oldest one was closed");
        let newest = silent.last_mut().unwrap();
        newest.write_all(b"x\r\n\r\n").await.unwrap();
        assert_eq!(status(newest).await, "200", "the newest ones were not");
    }

    #[tokio::test]
    async fn whoever_does_not_read_makes_room_for_whoever_waits() {
        let (address, _serving) =
            served(Limits { unread: Duration::from_millis(1), ..limits() }, long_and_quick()).await;
        let mut unread = Vec::new();
        for _ in 0..10 {
            let mut stream = asking(address, "/long").await;
            assert_eq!(status(&mut stream).await, "200");
            unread.push(stream);
        }
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(TIME, unread[0].read_to_end(&mut rest)).await.unwrap();
        assert!(ended.is_err() || rest.len() < 64 << 20, "the oldest one was closed before its end");
    }

    #[tokio::test]
    async fn a_quick_reply_waits_for_nobody_and_of_the_others_only_so_many_wait() {
        let go = Arc::new(tokio::sync::Semaphore::new(0));
        let of_route = go.clone();
        let slow = move || {
            let go = of_route.clone();
            async move { drop(go.acquire().await) }
        };
        let (address, _serving) = served(limits(), long_and_quick().route("/slow", get(slow))).await;
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..4 {
            asked.spawn(async move { status(&mut asking(address, "/slow").await).await });
        }
        assert_eq!(asked.join_next().await.unwrap().unwrap(), "503", "two are served, and one waits");
        assert_eq!(status(&mut asking(address, "/quick").await).await, "200");
        go.add_permits(1);
        assert_eq!(asked.join_all().await, ["200", "200", "200"]);
    }
}
