//! The socket's driver: connects, upgrades, and moves frames. It does not interpret frames, and keeps only a bounded
//! amount of them.

mod upgrade;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::settings::Platform;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use url::Url;

use super::limiter::{Class, Limiter};
use super::net::{ByteStream, Net, NetError, Route};
pub use upgrade::open;

use crate::model::Ended;
use crate::secret::{Key, Redact};

/// Longest frame, and longest message, that is read.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;
/// At most this many bytes of frames may wait to be taken; beyond that nothing is read until all of them were taken.
pub(crate) const WAITING_BYTES_MAX: usize = 4 << 20;
/// Most pings and pongs that are read in a second.
pub(crate) const PINGS_MAX: u32 = 50;
/// A frame that cannot be written for this long ends the connection.
const WRITE_MAX: Duration = Duration::from_secs(15);
/// How long to wait for a closing handshake.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// An event of the socket.
#[derive(Debug)]
pub enum SocketEvent {
    /// A text frame, and when it was read.
    Text(Utf8Bytes, Instant),
    /// A binary frame of this many bytes.
    Binary(usize),
    /// It ended, like this. Nothing follows.
    Closed(Ended),
}

/// A command to the socket.
#[derive(Debug)]
pub enum SocketCommand {
    /// Send a text frame.
    Send(String),
    /// Close with 1000, and end.
    Close,
}

/// Where and how sockets are opened. Clones share what they have learned.
#[derive(Debug, Clone)]
pub struct Dialer {
    url: Url,
    route: Route,
    limiter: Arc<Limiter>,
    user_agent: HeaderValue,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Dialer {
    /// The way to the platform's socket.
    pub fn new(platform: &Platform, net: &Net) -> Result<Self, NetError> {
        Ok(Self {
            url: platform.socket.clone(),
            route: net.route(&platform.socket, false)?,
            limiter: net.limiters().of(&platform.socket),
            user_agent: platform.user_agent.clone(),
            headers: platform.headers.clone(),
        })
    }

    /// A description of the proxy, if one is used.
    pub fn proxy(&self) -> Option<String> {
        self.route.proxy()
    }
}

/// An open socket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<ByteStream>,
    /// The key that opened it: the platform might repeat it where it ends.
    key: Key,
}

impl Socket {
    pub(super) fn new(stream: WebSocketStream<ByteStream>, key: Key) -> Self {
        Self { stream, key }
    }

    /// Moves frames until the socket ends or gets the command to close; [`SocketEvent::Closed`] is the last event. Pings are
    /// answered. If the receiver of events is dropped, the socket is closed. Dropping the future drops the connection.
    pub async fn run(self, events: mpsc::Sender<SocketEvent>, commands: mpsc::Receiver<SocketCommand>) {
        let pings = Pings { count: 0, second_ends: tokio::time::Instant::now() };
        Driver { stream: self.stream, key: self.key, events, commands, waiting: 0, pings }.run().await;
    }
}

struct Driver<S> {
    stream: WebSocketStream<S>,
    key: Key,
    events: mpsc::Sender<SocketEvent>,
    commands: mpsc::Receiver<SocketCommand>,
    /// Bytes of the frames handed over since the queue was last seen empty.
    waiting: usize,
    pings: Pings,
}

/// Pings of this second. Each is answered, so after [`PINGS_MAX`] nothing is read before the second is over.
struct Pings {
    count: u32,
    second_ends: tokio::time::Instant,
}

impl Pings {
    /// Counts one more; returns until when nothing is read, if the limit is reached.
    fn one_more(&mut self) -> Option<tokio::time::Instant> {
        let now = tokio::time::Instant::now();
        if now >= self.second_ends {
            *self = Self { count: 0, second_ends: now + Duration::from_secs(1) };
        }
        self.count += 1;
        (self.count >= PINGS_MAX).then_some(self.second_ends)
    }
}

/// How the socket ends.
enum SocketEnd {
    /// The peer closed, and gets a confirmation.
    Theirs(Option<CloseFrame>),
    /// We got the command to close, or the receiver of events is gone.
    Ours,
    /// The peer sent something that is not accepted; it gets the reason.
    Refused(CloseCode),
    /// The connection broke.
    Broken,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    async fn run(mut self) {
        let end = self.frames().await;
        let ended = match &end {
            SocketEnd::Theirs(frame) => ended(frame.as_ref(), &self.key),
            SocketEnd::Ours => {
                let frame = self.close(CloseCode::Normal, true).await;
                ended(frame.as_ref(), &self.key)
            }
            SocketEnd::Refused(code) => Ended { too_large: *code == CloseCode::Size, ..Ended::default() },
            SocketEnd::Broken => Ended::default(),
        };
        // The receiver learns of the end before the closing handshake.
        let _ = self.events.send(SocketEvent::Closed(ended)).await;
        match end {
            SocketEnd::Theirs(_) => drop(timeout(CLOSE_MAX, self.stream.flush()).await),
            // Without a close frame, the platform may count the connection as alive for a minute.
            SocketEnd::Refused(code) => drop(self.close(code, false).await),
            SocketEnd::Ours | SocketEnd::Broken => {}
        }
    }

    async fn frames(&mut self) -> SocketEnd {
        // Nothing is read before then.
        let mut silent_until = None;
        loop {
            tokio::select! {
                () = until(silent_until), if silent_until.is_some() => silent_until = None,
                message = self.stream.next(), if silent_until.is_none() => {
                    let (event, bytes) = match message {
                        Some(Ok(Message::Text(text))) => {
                            let bytes = text.len();
                            (SocketEvent::Text(text, Instant::now()), bytes)
                        }
                        Some(Ok(Message::Binary(data))) => (SocketEvent::Binary(data.len()), 0),
                        Some(Ok(Message::Close(frame))) => return SocketEnd::Theirs(frame),
                        // Reading writes the pong, too.
                        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                            silent_until = self.pings.one_more();
                            continue;
                        }
                        Some(Err(Error::Capacity(_))) => return SocketEnd::Refused(CloseCode::Size),
                        Some(Err(Error::Utf8(_))) => return SocketEnd::Refused(CloseCode::Invalid),
                        Some(Err(_)) | None => return SocketEnd::Broken,
                    };
                    if self.hand_over(event, bytes).await.is_err() {
                        return SocketEnd::Ours;
                    }
                }
                command = self.commands.recv() => match command {
                    Some(SocketCommand::Send(text)) => {
                        let sent = timeout(WRITE_MAX, self.stream.send(Message::text(text))).await;
                        if !matches!(sent, Ok(Ok(()))) {
                            return SocketEnd::Broken;
                        }
                    }
                    Some(SocketCommand::Close) | None => return SocketEnd::Ours,
                },
            }
        }
    }

    /// Waits while too much is waiting already: a peer that is faster than we are is slowed down, not stored.
    async fn hand_over(&mut self, event: SocketEvent, bytes: usize) -> Result<(), mpsc::error::SendError<()>> {
        if self.events.capacity() == self.events.max_capacity() {
            self.waiting = 0;
        } else if self.waiting + bytes > WAITING_BYTES_MAX {
            drop(self.events.reserve_many(self.events.max_capacity()).await?);
            self.waiting = 0;
        }
        self.waiting += bytes;
        self.events.send(event).await.map_err(|_| mpsc::error::SendError(()))
    }

    /// Sends a close frame, and if `wait`, waits for the peer's.
    async fn close(&mut self, code: CloseCode, wait: bool) -> Option<CloseFrame> {
        let goodbye = CloseFrame { code, reason: Utf8Bytes::default() };
        let closing = async {
            self.stream.close(Some(goodbye)).await.ok()?;
            while wait && let Some(Ok(message)) = self.stream.next().await {
                if let Message::Close(frame) = message {
                    return frame;
                }
            }
            None
        };
        timeout(CLOSE_MAX, closing).await.ok().flatten()
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A close frame, escaped and cut.
fn ended(frame: Option<&CloseFrame>, key: &Key) -> Ended {
    let reason = |frame: &CloseFrame| Redact::of(key).said(frame.reason.as_str()).to_string();
    Ended {
        code: frame.map(|frame| frame.code.into()),
        reason: frame.map(reason).unwrap_or_default(),
        too_large: false,
    }
}

#[cfg(test)]
mod tests;
