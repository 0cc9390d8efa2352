//! A separate thread receives the signals, so they work before there is a runtime, and while the code on the runtime
//! hangs. The supervisor decides what to do about them, with one exception: if the process does not end in time, this
//! thread ends it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::sync::mpsc;

/// How long the process may live after the first terminating signal if the start is not complete: there is nothing to
/// drain.
const END_OF_START: Duration = Duration::from_secs(2);
/// How long it may live after the second one.
const END_AT_ONCE: Duration = Duration::from_secs(1);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain. A second one: stop at once.
    Terminate,
    /// SIGHUP: load the rules again.
    Reload,
}

/// The process's signals from now on. Dropping this does not restore the default actions.
#[derive(Debug)]
pub struct Signals {
    heard: mpsc::UnboundedReceiver<Signal>,
    started: Arc<AtomicBool>,
}

impl Signals {
    /// The next signal.
    pub async fn next(&mut self) -> Option<Signal> {
        self.heard.recv().await
    }

    /// Reports that the start is complete: from now on the first terminating signal begins a drain, which has its own
    /// time limit.
    pub fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }
}

/// Takes over SIGTERM, SIGINT and SIGHUP. Call this first, so that code that hangs later cannot keep the process alive.
/// Rust ignores SIGPIPE already: writes fail instead.
///
/// A second signal to end ends the process with `code` after a second at the latest; so does the first one after two seconds,
/// unless [`Signals::started`] was called before.
///
/// # Errors
/// The system refused a handler or a thread.
pub fn listen(code: u8) -> io::Result<Signals> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (tell, heard) = mpsc::unbounded_channel();
    let started = Arc::new(AtomicBool::new(false));
    let is_started = started.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut ends = 0_u32;
        for number in signals.forever() {
            if number == SIGHUP {
                // If nothing receives this any more, the process is ending.
                let _ = tell.send(Signal::Reload);
                continue;
            }
            ends += 1;
            let _ = tell.send(Signal::Terminate);
            if ends > 1 {
                end_after(END_AT_ONCE, code);
            } else if !is_started.load(Ordering::Relaxed) {
                end_after(END_OF_START, code);
            }
        }
    })?;
    Ok(Signals { heard, started })
}

/// Ends the process after this long, without waiting for anything.
fn end_after(wait: Duration, code: u8) {
    let end = move || {
        std::thread::sleep(wait);
        signal_hook::low_level::exit(code.into());
    };
    // If there is no thread to wait on, end at once.
    if std::thread::Builder::new().name("end".to_owned()).spawn(end).is_err() {
        signal_hook::low_level::exit(code.into());
    }
}
