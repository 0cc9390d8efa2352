//! The page for people: the state of the agents, which requests wait and why, what was decided. Looking and acting are
//! separate: what the page shows comes from the board and the ledger, and no agent is asked for it; an action takes the
//! same way as `doorman approve`, and only a person known by name may act. Everything is bounded, and nothing here
//! decides anything.

mod acting;
mod base;
mod door;
mod form;
mod logins;
mod reading;
mod replies;
mod replying;
mod sessions;
mod state_file;
mod views;
pub(crate) mod words;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::{Clock, Mono};
use crate::config::settings::{ControlSettings, KeySource, PageIdentity, PageSettings, SecretKind};
use crate::ledger::LedgerAddress;
use crate::model::{AgentId, RequestId};
use crate::ops::board::BoardReader;
use crate::ops::control::inherited::GivenPage;
use crate::ops::control::keeping::{SocketCheck, keep_in_place};
use crate::ops::control::socket::{BoundSocket, SocketError};
use crate::ops::control::wire::ControlCall;
use crate::ops::log::events;
use crate::ops::serving::addresses::{AddressKind, ServiceAddresses, ServingReporter};
use crate::ops::serving::{self, BIND_AGAIN, Limits, Listener, SILENT_MAX, UNREAD_MAX, WAITING_MAX};
use crate::secret::{self, Key, Redact};

pub(crate) use logins::Logins;
pub use replies::Replies;
pub use words::PageWords;

/// Most requests served at once.
const SERVED_MAX: usize = 32;
/// Most bytes of a request.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// A client must have sent its whole request within this time.
const SPEAK_MAX: Duration = Duration::from_secs(10);
/// A connection is closed after this time; it includes the wait for an answer's outcome.
const CONNECTION_MAX: Duration = Duration::from_secs(40);
/// Most rows of one page.
const ROWS_MAX: usize = 200;
/// Most concurrent reads of the ledger.
const READINGS_MAX: usize = 2;
/// Requests that were just answered on the page and may still be on the board, and for how long they are remembered.
const JUST_ANSWERED_MAX: usize = 256;
const JUST_ANSWERED: Duration = Duration::from_secs(5);

/// Up to twice as many bytes of headers are held.
const LIMITS: Limits = Limits {
    silent: SILENT_MAX,
    served: SERVED_MAX,
    waiting: WAITING_MAX,
    at_once: &[],
    speak: SPEAK_MAX,
    unread: UNREAD_MAX,
    all: CONNECTION_MAX,
    finish: Duration::ZERO,
    request_bytes: REQUEST_BYTES_MAX / 2,
};

/// Everything that the page needs.
#[derive(Debug)]
pub struct PageParts {
    /// `[page]`.
    pub settings: PageSettings,
    /// The page's socket gets the same group as the control socket.
    pub control: ControlSettings,
    /// The sockets that the service manager passed, in place of `socket` and `listen`.
    pub given: Vec<GivenPage>,
    /// Both clocks.
    pub clock: Clock,
    /// The source of what is shown.
    pub board: BoardReader,
    /// The channel for what people do.
    pub calls: mpsc::Sender<ControlCall>,
    /// The ledger's path.
    pub ledger: LedgerAddress,
    /// The configuration's file, if there is one.
    pub config: Option<PathBuf>,
    /// The keys that no page may show.
    pub redact: Redact,
    /// The links and sessions of people.
    pub logins: Logins,
    /// The functions that put events into words.
    pub words: PageWords,
    /// The links in messages.
    pub replies: Replies,
}

/// The running page.
#[derive(Debug)]
struct RunningPage {
    settings: PageSettings,
    clock: Clock,
    board: BoardReader,
    calls: mpsc::Sender<ControlCall>,
    ledger: LedgerAddress,
    config: Option<PathBuf>,
    redact: Redact,
    logins: Logins,
    words: PageWords,
    replies: Replies,
    /// The secret that a proxy must send before its headers count.
    proxy_secret: Option<Key>,
    forms: form::FormTokens,
    readings: Arc<Semaphore>,
    cache: Mutex<reading::Cache>,
    /// Why people were refused; each reason is logged once.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    answered: Mutex<VecDeque<(AgentId, RequestId, Mono)>>,
}

impl RunningPage {
    /// Remembers for a moment that a request was answered, since the board may still show it.
    fn just_answered(&self, agent: AgentId, request: RequestId) {
        let now = self.clock.now().mono;
        let mut answered = locked(&self.answered);
        answered.retain(|(_, _, at)| now.since(*at) < JUST_ANSWERED);
        if answered.len() >= JUST_ANSWERED_MAX {
            answered.pop_front();
        }
        answered.push_back((agent, request, now));
    }

    fn was_just_answered(&self, agent: &AgentId, request: &str) -> bool {
        let now = self.clock.now().mono;
        locked(&self.answered)
            .iter()
            .any(|(whose, id, at)| whose == agent && id.as_str() == request && now.since(*at) < JUST_ANSWERED)
    }
}

/// A poisoned lock is fine: the values that the page's locks guard are consistent at any moment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether there is a page at all.
pub fn is_wanted(settings: &PageSettings, given: &[GivenPage]) -> bool {
    !given.is_empty() || settings.socket.is_some() || settings.listen.is_some()
}

/// Serves the page until `stop`. A problem of the page is logged and stops nothing else.
pub async fn serve(parts: PageParts, stop: CancellationToken) {
    let PageParts { settings, control, given, clock, board, calls, ledger, config, redact, logins, replies, words } =
        parts;
    let places = places(&settings, given, logins.addresses());
    let everywhere = |place: &str, why: &str| {
        places.iter().for_each(|(_, reporter)| reporter.refused(why));
        refused(place, why);
    };
    let mut key = [0; 64];
    let name = settings.proxy_secret.clone().filter(|_| settings.identity == PageIdentity::Proxy);
    let secret = match name {
        None => None,
        Some(name) => {
            let read =
                tokio::task::spawn_blocking(move || secret::read(&KeySource::Credential(name), SecretKind::Secret))
                    .await;
            match read.map_err(|error| error.to_string()).and_then(|key| key.map_err(|error| error.to_string())) {
                Ok(key) => Some(key),
                Err(why) => return everywhere("page.proxy_secret_credential", &why),
            }
        }
    };
    if let Err(error) = getrandom::fill(&mut key) {
        return everywhere("everywhere", &format!("the system gives no random numbers: {error}"));
    }
    if let Some(secret) = &secret {
        redact.add(secret.expose());
    }
    let page = Arc::new(RunningPage {
        settings,
        clock,
        board,
        calls,
        ledger,
        config,
        redact,
        logins,
        words,
        replies,
        proxy_secret: secret,
        forms: form::FormTokens::new(&key),
        readings: Arc::new(Semaphore::new(READINGS_MAX)),
        cache: Mutex::default(),
        refusals: Mutex::default(),
        answered: Mutex::default(),
    });
    let router = router(&page);
    let group = control.group;
    let mut tasks = tokio::task::JoinSet::new();
    for (place, reporter) in places {
        tasks.spawn(serve_at(place, reporter, group.clone(), router.clone(), stop.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

enum PageListener {
    At(SocketAddr),
    File(PathBuf),
    Given(GivenPage),
}

/// Sockets that were passed replace those of the settings.
fn places(
    settings: &PageSettings,
    given: Vec<GivenPage>,
    page: &ServiceAddresses,
) -> Vec<(PageListener, ServingReporter)> {
    let port = |name: &str| page.add(name, AddressKind::Port);
    let socket = |name: &str| page.add(name, AddressKind::Socket);
    if !given.is_empty() {
        let address_of = |given| match given {
            GivenPage::Port(_) => (PageListener::Given(given), port("a port that was handed over")),
            GivenPage::Socket(_) => (PageListener::Given(given), socket("a socket that was handed over")),
        };
        return given.into_iter().map(address_of).collect();
    }
    let file = settings.socket.clone();
    let file = file.map(|path| (socket(&path.display().to_string()), PageListener::File(path)));
    let listen = settings.listen.map(|at| (port(&at.to_string()), PageListener::At(at)));
    file.into_iter().chain(listen).map(|(reporter, place)| (place, reporter)).collect()
}

async fn serve_at(
    place: PageListener,
    reporter: ServingReporter,
    group: Option<String>,
    router: Router,
    stop: CancellationToken,
) {
    let tell = |address: &str, why: &str| {
        reporter.refused(why);
        refused(address, why);
    };
    let (mut kept, mut again) = (None, serving::for_good());
    let listener = match place {
        PageListener::At(address) => {
            let bound = serving::bound(address, |why| tell(&address.to_string(), why));
            let listener = tokio::select! {
                () = stop.cancelled() => return,
                listener = bound => listener,
            };
            Ok(Listener::Tcp(listener))
        }
        PageListener::File(path) => {
            let (listener, file) = tokio::select! {
                () = stop.cancelled() => return,
                bound = bound_file(path, group, tell) => bound,
            };
            let (made, remade) = mpsc::channel(1);
            again = remade;
            kept = Some((file, made));
            Listener::of_socket(listener)
        }
        PageListener::Given(GivenPage::Port(listener)) => Listener::of_port(listener),
        PageListener::Given(GivenPage::Socket(listener)) => Listener::of_socket(listener),
    };
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return tell("handed over", &error.to_string()),
    };
    reporter.served(listener.port());
    // A socket is bound in one directory and moved to another, so its own address is not its path.
    let address = kept.as_ref().map_or_else(|| listener.at(), |(file, _)| file.path().display().to_string());
    info!(event = events::PAGE_LISTENING, address, "the page is served");

    match kept {
        // The file is removed when its keeper is dropped at the end.
        Some((file, made)) => {
            let serve = serving::serve(listener, again, LIMITS, address, router, stop.clone());
            tokio::join!(serve, in_place(file, made, &reporter, stop));
        }
        None => serving::serve(listener, again, LIMITS, address, router, stop).await,
    }
}

/// Makes sure that the socket's file stays in its place, until `stop`.
async fn in_place(
    file: BoundSocket,
    made: mpsc::Sender<Listener>,
    reporter: &ServingReporter,
    stop: CancellationToken,
) {
    let tell = |seen: SocketCheck<'_>| match seen {
        SocketCheck::Remade(path) => {
            reporter.served(None);
            let path = path.display().to_string();
            warn!(event = events::PAGE_REMADE, path, "the file of the page's socket was gone: made again");
        }
        SocketCheck::Missing(error) => {
            let why = "its file is gone, and another cannot be made";
            reporter.refused(why);
            refused("page.socket", &format!("{why}: {error}"));
        }
    };
    keep_in_place(file, made, tell, stop).await;
}

/// The socket's file, now or as soon as it can be made. The reason for a failure is logged once, and again when it
/// changes.
async fn bound_file(
    path: PathBuf,
    group: Option<String>,
    tell: impl Fn(&str, &str),
) -> (std::os::unix::net::UnixListener, BoundSocket) {
    let mut reported = None;
    loop {
        let (at, of) = (path.clone(), group.clone());
        let bound = tokio::task::spawn_blocking(move || BoundSocket::bind_for(&at, of.as_deref())).await;
        let why = match bound {
            Ok(Ok(mut bound)) => match bound.take_listener() {
                Some(listener) => return (listener, bound),
                None => "it has no listener".to_owned(),
            },
            Ok(Err(error)) => of_page(&error, &path),
            Err(error) => error.to_string(),
        };
        if reported.as_ref() != Some(&why) {
            tell(&path.display().to_string(), &why);
            reported = Some(why);
        }
        tokio::time::sleep(BIND_AGAIN).await;
    }
}

/// The text of the same problem for the page's socket.
fn of_page(error: &SocketError, path: &Path) -> String {
    match error {
        SocketError::Taken(_) => {
            format!("somebody else answers at `{}`: give the page another `page.socket`", path.display())
        }
        SocketError::NotASocket(_) => {
            format!("`{}` exists and is not a socket: remove it, or choose another `page.socket`", path.display())
        }
        SocketError::Directory(_)
        | SocketError::Exposed(_)
        | SocketError::Group { .. }
        | SocketError::OutOfReach { .. }
        | SocketError::TooLong(_)
        | SocketError::Io { .. } => error.to_string(),
    }
}

fn refused(address: &str, why: &str) {
    warn!(event = events::PAGE_REFUSED, address, why, "the page cannot be served there");
}

fn router(page: &Arc<RunningPage>) -> Router {
    Router::new()
        .route("/", get(views::agents))
        .route("/pending", get(views::pending))
        .route("/requests/{id}", get(views::request))
        .route("/requests/{id}/{verdict}", post(acting::answer))
        .route("/history", get(views::history))
        .route("/rules", get(views::rules))
        .route("/contacts", get(views::contacts))
        .route("/login/{link}", get(acting::invited).post(acting::enter))
        .route("/r/{link}", get(replying::show).post(replying::act))
        .route("/logout", post(acting::leave))
        .route("/assets/style.css", get(views::style))
        .fallback(views::nothing)
        .layer(middleware::from_fn_with_state(page.clone(), door::guard))
        .with_state(page.clone())
}
