//! Plays the platform's side of a transcript to the client that connects: each recorded message is sent when the client
//! has come as far as the recorded client had. It accepts any key, stores no requests, and knows only the transcript;
//! `docs/transcripts.md` says what it does if the client behaves differently.

mod calls;
mod play;
mod script;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, Request};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::calls::RecordedCalls;
pub use self::script::Script;
use super::reply::{CloseWithoutReply, HttpReply, error};
use super::server::{BODY_MAX, query};
use crate::model::StrangerText;

/// Most characters of a sentence.
const SENTENCE_MAX: usize = 400;
/// Most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;

/// A running replay. Dropping it ends it.
#[derive(Debug)]
pub struct RunningReplay {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What its tasks share.
#[derive(Debug)]
struct ReplayShared {
    script: Script,
    /// Whether pauses are left out.
    fast: bool,
    events: mpsc::UnboundedSender<String>,
    scene: Mutex<ReplayProgress>,
    /// Cancelled when a client has asked for a socket, and so has shown which agent it is.
    known: CancellationToken,
    /// How many of the client's answers have arrived.
    answers: watch::Sender<usize>,
    stop: CancellationToken,
}

/// The progress of the play.
#[derive(Debug)]
struct ReplayProgress {
    /// The next recorded connection.
    next: usize,
    calls: RecordedCalls,
    /// The id of the client's agent.
    actual: Option<String>,
}

impl RunningReplay {
    /// Starts on this address (port 0: a free one). `fast` leaves out the recorded pauses; events are described in
    /// sentences. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn start(
        address: SocketAddr,
        script: Script,
        fast: bool,
        events: mpsc::UnboundedSender<String>,
    ) -> io::Result<RunningReplay> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let scene = Mutex::new(ReplayProgress { next: 0, calls: RecordedCalls::of(&script), actual: None });
        let stage = Arc::new(ReplayShared {
            script,
            fast,
            events,
            scene,
            known: CancellationToken::new(),
            answers: watch::Sender::new(0),
            stop: stop.clone(),
        });
        tasks.spawn(accept(listener, stage, tasks.clone()));
        Ok(RunningReplay { address, stop, tasks })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for RunningReplay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl ReplayShared {
    fn scene(&self) -> MutexGuard<'_, ReplayProgress> {
        self.scene.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Describes an event. The sentence is escaped for terminals, whatever the transcript and the client contain.
    fn tell(&self, what: String) {
        // Nobody may receive it.
        let _ = self.events.send(StrangerText::new(&what).shown(SENTENCE_MAX));
    }

    /// Replaces the recorded agent's id by that of the client's agent.
    fn recast(&self, text: String) -> String {
        match (&self.script.agent, &self.scene().actual) {
            (Some(recorded), Some(actual)) if recorded != actual => text.replace(recorded.as_str(), actual),
            _ => text,
        }
    }
}

async fn accept(listener: TcpListener, stage: Arc<ReplayShared>, tasks: TaskTracker) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accept = async {
            let permit = permits.clone().acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = stage.stop.cancelled() => return,
            accepted = accept => accepted,
        };
        let Ok((tcp, _)) = accepted else {
            // Probably there are no descriptors left; some will be closed soon.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let (stop, served) = (stage.stop.clone(), serve(tcp, stage.clone(), tasks.clone()));
        tasks.spawn(async move {
            stop.run_until_cancelled(served).await;
            drop(permit);
        });
    }
}

async fn serve(tcp: TcpStream, stage: Arc<ReplayShared>, tasks: TaskTracker) {
    let _ = tcp.set_nodelay(true);
    let service = service_fn(move |request| handle(request, stage.clone(), tasks.clone()));
    // How a client's connection ends does not matter here.
    let _ =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades().await;
}

async fn handle(
    request: Request<Incoming>,
    stage: Arc<ReplayShared>,
    tasks: TaskTracker,
) -> Result<HttpReply, CloseWithoutReply> {
    let path = request.uri().path().to_owned();
    if path == "/api/v1/socket/websocket" {
        return play::upgrade(request, &stage, &tasks).await;
    }
    let (parts, body) = request.into_parts();
    let body = match parts.method {
        Method::GET => bytes::Bytes::new(),
        _ => match Limited::new(body, BODY_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return Ok(error(413, "too_large", "the body is too large or was cut off", None)),
        },
    };
    match path.strip_prefix("/api/v1/") {
        Some(path) => calls::answer(&stage, parts.method.as_str(), path, parts.uri.query(), &body).await,
        None => Ok(error(404, "not_found", "no such path", None)),
    }
}

/// The agent that an upgrade is for.
fn agent_of(parts: &http::request::Parts) -> Option<String> {
    query(parts, "agent_id").filter(|id| crate::model::AgentId::parse(id).is_ok())
}
