//! Makes sure that a socket's file stays where it was made: others may delete what is in a runtime directory, and then
//! nobody could reach a running daemon.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::socket::{BoundSocket, SocketError};
use crate::ops::serving::Listener;

/// How often the file is checked.
const LOOK_RHYTHM: Duration = Duration::from_secs(2);

/// The result of a check.
#[derive(Debug)]
pub enum SocketCheck<'a> {
    /// The file was gone, and has been made again.
    Remade(&'a Path),
    /// The file is gone, and cannot be made again; reported once for each reason.
    Missing(&'a SocketError),
}

/// Checks the socket's file until `stop`, and removes it then. If the file was deleted or replaced, makes another
/// socket in its place and sends its listener to `made`.
pub async fn keep_in_place(
    socket: BoundSocket,
    made: mpsc::Sender<Listener>,
    tell: impl Fn(SocketCheck<'_>),
    stop: CancellationToken,
) {
    let mut socket = Arc::new(socket);
    // Why the socket is missing, so that this is logged once.
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
                    tell(SocketCheck::Remade(socket.path()));
                    if made.send(Listener::Unix(listener)).await.is_err() {
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
            tell(SocketCheck::Missing(&problem));
        }
        missing = why;
    }
}
