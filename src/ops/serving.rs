//! Serves HTTP over TCP or a Unix socket, within bounds on the number of connections, the time for a request and the
//! time of a connection. Metrics and the page use it, with their own routes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::control::peer::Peer;
use crate::ops::log::events;

/// Pause before an address that is in use is tried again.
pub const BIND_AGAIN: Duration = Duration::from_secs(30);
/// Pause after the system could not accept a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(250);

/// The limits of a service.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most connections at once; more wait to be accepted.
    pub connections: usize,
    /// A client must have sent its headers within this time.
    pub speak: Duration,
    /// A connection is closed after this time, whatever it does.
    pub all: Duration,
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
    let mut told = None;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                let why = error.to_string();
                if told.as_ref() != Some(&why) {
                    tell(&why);
                    told = Some(why);
                }
                tokio::time::sleep(BIND_AGAIN).await;
            }
        }
    }
}

/// Serves until `stop`; then closes the connections that are still open. Each listener that `again` yields replaces the
/// one before.
pub async fn serve(
    mut listener: Listener,
    mut again: mpsc::Receiver<Listener>,
    limits: Limits,
    router: Router,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let tasks = TaskTracker::new();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async { (place.await, listener.accept().await) } => accepted,
            Some(new) = again.recv() => {
                listener = new;
                continue;
            }
        };
        let Ok(place) = place else { break };
        match accepted {
            Ok((stream, caller)) => {
                let (router, stop) = (router.clone().layer(Extension(caller)), stop.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection(stream, limits, router) => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                debug!(event = events::CONTROL_CALL, op = "broken", why = %error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection(stream: Stream, limits: Limits, router: Router) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.speak)
        .keep_alive(false)
        .max_headers(64)
        .max_buf_size(limits.request_bytes);
    let service = TowerToHyperService::new(router);
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
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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
}
