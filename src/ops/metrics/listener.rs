//! Metrics and health over TCP, at `[metrics] listen` or at a port that the service manager opened, for everybody who
//! can reach the port. It only reads, and reads only the board: many scrapes do not delay answers. A port that cannot
//! be bound is tried again, and never stops the daemon.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Metrics, ScrapeFormat};
use crate::ops::health::{self, Health};
use crate::ops::log::events;
use crate::ops::serving::addresses::{AddressKind, ServiceAddresses};
use crate::ops::serving::{self, Limits, Listener, SILENT_MAX, UNREAD_MAX, WAITING_MAX};
use crate::ops::watchdog::Watchdog;

/// Most scrapes served at once; a reply may have 16 MiB.
const SERVED_MAX: usize = 8;
/// Within this time a client must have sent its request, and then read the reply.
const SPEAK_MAX: Duration = Duration::from_secs(2);
const READ_MAX: Duration = Duration::from_secs(10);
/// Most bytes of a request.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Health is asked for by those who restart a daemon that does not answer.
pub(in crate::ops) const AT_ONCE: &[&str] = &["/healthz", "/livez", "/readyz"];
const LIMITS: Limits = Limits {
    silent: SILENT_MAX,
    served: SERVED_MAX,
    waiting: WAITING_MAX,
    at_once: AT_ONCE,
    speak: SPEAK_MAX,
    unread: UNREAD_MAX,
    all: SPEAK_MAX.saturating_add(READ_MAX),
    finish: Duration::ZERO,
    request_bytes: REQUEST_BYTES_MAX,
};

/// Everything that can be read of the daemon without asking it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readings {
    metrics: Metrics,
    watchdog: Watchdog,
}

impl Readings {
    /// Reads from these two.
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

/// The routes; the control socket serves them, too.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(readings: Readings) -> Router<S> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|State(readings): State<Readings>| async move { answer(&readings.alive()) }))
        .route("/livez", get(|State(readings): State<Readings>| async move { answer(&readings.alive()) }))
        .route("/readyz", get(|State(readings): State<Readings>| async move { answer(&readings.ready()) }))
        .with_state(readings)
}

async fn metrics(State(readings): State<Readings>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = ScrapeFormat::accepted(accept);
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

/// Serves metrics and health there until `stop`. `addresses` learns whether that works.
pub async fn serve(port: Port, readings: Readings, addresses: ServiceAddresses, stop: CancellationToken) {
    let name = match &port {
        Port::At(address) => address.to_string(),
        Port::Given(_) => "a port that was handed over".to_owned(),
    };
    let reporter = addresses.add(&name, AddressKind::Port);
    let refused = |why: &str| {
        reporter.refused(why);
        warn!(event = events::METRICS_REFUSED, address = name, why, "metrics and health cannot be served there");
    };
    let listener = match port {
        Port::At(address) => tokio::select! {
            () = stop.cancelled() => return,
            listener = serving::bound(address, refused) => Listener::Tcp(listener),
        },
        Port::Given(listener) => match Listener::of_port(listener) {
            Ok(listener) => listener,
            Err(error) => return refused(&error.to_string()),
        },
    };
    let address = listener.at();
    reporter.served(listener.port());
    info!(event = events::METRICS_LISTENING, address, "metrics and health are served");
    let routes = routes(readings).fallback(nothing);
    serving::serve(listener, serving::for_good(), LIMITS, address, routes, stop).await;
}

async fn nothing() -> Response {
    (StatusCode::NOT_FOUND, "there is /metrics, /healthz, /livez and /readyz\n").into_response()
}
