//! Keeps a socket's file where it was made: others may delete what is in a runtime directory, and nobody would reach a daemon that
//! is well.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::socket::{Bound, SocketError};

/// How often the file is looked at.
const LOOK_RHYTHM: Duration = Duration::from_secs(2);

/// What was seen at a look.
#[derive(Debug)]
pub enum Seen<'a> {
    /// The file was gone, and was made again.
    Remade(&'a Path),
    /// It is gone, and cannot be made again; said once for each reason.
    Missing(&'a SocketError),
}

/// Looks at the socket's file until `stop`, and removes it then. Where it was deleted or replaced, another is made in its
/// place, and its listener is handed to `made`.
pub async fn keep_in_place(
    socket: Bound,
    made: mpsc::Sender<UnixListener>,
    tell: impl Fn(Seen<'_>),
    stop: CancellationToken,
) {
    let mut socket = Arc::new(socket);
    // Why there is none, so that it is said once.
    let mut missing = None;
    let mut looks = interval_at(Instant::now() + LOOK_RHYTHM, LOOK_RHYTHM);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        let old = Arc::clone(&socket);
        let bound = tokio::task::spawn_blocking(move || old.made_again()).await;
        let failed = |why| Some(SocketError::Io { path: socket.path().to_owned(), why });
        let problem = match bound {
            Ok(None) | Err(_) => None,
            Ok(Some(Ok(mut bound))) => match bound.take_listener().map(UnixListener::from_std) {
                Some(Ok(listener)) => {
                    socket = Arc::new(bound);
                    tell(Seen::Remade(socket.path()));
                    if made.send(listener).await.is_err() {
                        return;
                    }
                    None
                }
                Some(Err(error)) => failed(error),
                None => None,
            },
            Ok(Some(Err(error))) => Some(error),
        };
        let why = problem.as_ref().map(ToString::to_string);
        if let Some(problem) = problem.filter(|_| why != missing) {
            tell(Seen::Missing(&problem));
        }
        missing = why;
    }
}
