//! Metrics and health over TCP, at `[metrics] listen` or at a port that the service manager opened, for whoever may reach the port. It only reads, and only the board: a
//! flood of scrapes costs answers nothing. A port that cannot be bound is tried again and never stops the daemon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::{Format, Metrics};
use crate::ops::health::{self, Health};
use crate::ops::log::events;
use crate::ops::watchdog::Watchdog;

/// Most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 8;
/// A client must have said everything by then, and must have read the answer by then.
const SPEAK_MAX: Duration = Duration::from_secs(2);
const READ_MAX: Duration = Duration::from_secs(10);
/// Most bytes of a request.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Between tries to bind the port, and to accept where the system cannot.
const BIND_AGAIN: Duration = Duration::from_secs(30);
const ACCEPT_AGAIN: Duration = Duration::from_millis(250);

/// Everything that can be read of the daemon without asking it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readings {
    metrics: Metrics,
    watchdog: Watchdog,
}

impl Readings {
    /// Reads these.
    pub fn new(metrics: Metrics, watchdog: Watchdog) -> Self {
        Self { metrics, watchdog }
    }

    fn alive(&self) -> Health {
        health::alive(&self.watchdog.late())
    }

    fn ready(&self) -> Health {
        health::ready(&self.metrics.board.borrow(), self.metrics.clock.now().mono)
    }
}

/// The routes; the control socket has them as well.
pub fn routes<S: Clone + Send + Sync + 'static>(readings: Readings) -> Router<S> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|State(readings): State<Readings>| async move { answer(&readings.alive()) }))
        .route("/livez", get(|State(readings): State<Readings>| async move { answer(&readings.alive()) }))
        .route("/readyz", get(|State(readings): State<Readings>| async move { answer(&readings.ready()) }))
        .with_state(readings)
}

async fn metrics(State(readings): State<Readings>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    match readings.metrics.page(format, tasks) {
        Ok(page) => ([(header::CONTENT_TYPE, format.content_type())], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn answer(health: &Health) -> Response {
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    match serde_json::to_string(health) {
        Ok(body) => (status, headers, crate::model::ascii_json(&body) + "\n").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Where metrics and health are served.
#[derive(Debug)]
pub enum Port {
    /// At this address, as soon as it can be bound.
    At(SocketAddr),
    /// At one that the service manager bound.
    Given(std::net::TcpListener),
}

/// Serves there until `stop`.
pub async fn serve(port: Port, readings: Readings, stop: CancellationToken) {
    let listener = match port {
        Port::At(address) => tokio::select! {
            () = stop.cancelled() => return,
            listener = bound(address) => listener,
        },
        Port::Given(listener) => match given(listener) {
            Ok(listener) => listener,
            Err(error) => {
                let (address, why) = ("handed over", error.to_string());
                warn!(
                    event = events::METRICS_REFUSED,
                    address, why, "the port that was handed over cannot be used for metrics"
                );
                return;
            }
        },
    };
    let at = listener.local_addr().map_or_else(|error| error.to_string(), |at| at.to_string());
    info!(event = events::METRICS_LISTENING, address = at, "metrics and health are served");
    let router = routes(readings).fallback(nothing);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async { (place.await, listener.accept().await) } => accepted,
        };
        let Ok(place) = place else { break };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection(stream, router) => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                debug!(event = events::METRICS_REFUSED, why = %error, "the metrics listener cannot accept");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// The listener. A failed bind is told once, and again when the reason changes.
async fn bound(address: SocketAddr) -> TcpListener {
    let mut told = None;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                let why = error.to_string();
                if told.as_ref() != Some(&why) {
                    warn!(event = events::METRICS_REFUSED, address = %address, why, "metrics cannot be served there; trying again every 30 s");
                    told = Some(why);
                }
                tokio::time::sleep(BIND_AGAIN).await;
            }
        }
    }
}

fn given(listener: std::net::TcpListener) -> std::io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn connection(stream: TcpStream, router: Router) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SPEAK_MAX)
        .keep_alive(false)
        .max_headers(64)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(SPEAK_MAX + READ_MAX, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(event = events::CONTROL_CALL, op = "broken", why = %error, "a scrape broke"),
        Err(_) => debug!(event = events::CONTROL_CALL, op = "broken", why = "it took too long", "a scrape broke"),
    }
}

async fn nothing() -> Response {
    (StatusCode::NOT_FOUND, "there is /metrics, /healthz, /livez and /readyz\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_that_is_free_later_is_bound_later() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let binding = tokio::spawn(bound(address));
        tokio::time::advance(BIND_AGAIN / 2).await;
        assert!(!binding.is_finished());
        drop(taken);
        // Time runs by itself while everything waits.
        let listener = binding.await.unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
    }
}
