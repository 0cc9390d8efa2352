//! The socket's driver: dials, upgrades, and moves frames. It understands nothing of them.

mod dial;
mod upgrade;

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use dial::Wire;
pub use dial::{DialError, Dialer};
pub use upgrade::open;

/// Longest frame, and longest message, that is read.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// A frame that cannot be written for this long ends the connection.
const WRITE_MAX: Duration = Duration::from_secs(15);
/// How long a closing handshake is waited for.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What the socket says.
#[derive(Debug)]
pub enum SocketEvent {
    /// A text frame, and when it was read.
    Text(Utf8Bytes, Instant),
    /// A binary frame of so many bytes.
    Binary(usize),
    /// It ended, with this close code or without a close frame. Nothing follows.
    Closed(Option<u16>),
}

/// What the socket is told.
#[derive(Debug)]
pub enum SocketCommand {
    /// Send a text frame.
    Send(String),
    /// Close with 1000, and end.
    Close,
}

/// An open socket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<Wire>,
}

impl Socket {
    pub(super) fn new(stream: WebSocketStream<Wire>) -> Self {
        Self { stream }
    }

    /// Moves frames until the socket ends or is told to close; [`SocketEvent::Closed`] is the last event. Pings are
    /// answered. When nobody takes events any more the socket is closed. Dropping the future drops the connection.
    pub async fn run(mut self, events: mpsc::Sender<SocketEvent>, mut commands: mpsc::Receiver<SocketCommand>) {
        let code = loop {
            tokio::select! {
                message = self.stream.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if events.send(SocketEvent::Text(text, Instant::now())).await.is_err() {
                            break self.close().await;
                        }
                    }
                    Some(Ok(Message::Binary(bytes))) => drop(events.send(SocketEvent::Binary(bytes.len())).await),
                    Some(Ok(Message::Close(frame))) => break frame.map(|frame| frame.code.into()),
                    // Reading writes the pong, too.
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Err(_)) | None => break None,
                },
                command = commands.recv() => match command {
                    Some(SocketCommand::Send(text)) => {
                        let sent = timeout(WRITE_MAX, self.stream.send(Message::text(text))).await;
                        if !matches!(sent, Ok(Ok(()))) {
                            break None;
                        }
                    }
                    Some(SocketCommand::Close) | None => break self.close().await,
                },
            }
        };
        let _ = events.send(SocketEvent::Closed(code)).await;
    }

    async fn close(&mut self) -> Option<u16> {
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        let closing = async {
            self.stream.close(Some(goodbye)).await.ok()?;
            while let Some(Ok(message)) = self.stream.next().await {
                if let Message::Close(frame) = message {
                    return frame.map(|frame| frame.code.into());
                }
            }
            None
        };
        timeout(CLOSE_MAX, closing).await.ok().flatten()
    }
}
