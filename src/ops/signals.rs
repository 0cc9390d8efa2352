//! Signals, as a stream: what to do about them is the supervisor's business.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What the process was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain. A second one: stop at once.
    Terminate,
    /// SIGHUP: load the rules anew.
    Reload,
}

/// The process's signals from now on. Dropping it does not bring the default actions back.
pub struct Signals(signal_hook_tokio::Signals);

/// Takes over SIGTERM, SIGINT and SIGHUP. Needs a tokio runtime. SIGPIPE is Rust's business already: writes fail.
///
/// # Errors
/// The system refused a handler.
pub fn listen() -> io::Result<Signals> {
    signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP]).map(Signals)
}

impl Stream for Signals {
    type Item = Signal;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Signal>> {
        Pin::new(&mut self.0)
            .poll_next(context)
            .map(|signal| signal.map(|number| if number == SIGHUP { Signal::Reload } else { Signal::Terminate }))
    }
}
