//! Signals, taken by a thread of their own: they work before there is a runtime, and while whatever runs on it hangs. What to
//! do about them is the supervisor's business, but for the end: where that does not come, the thread ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::sync::mpsc;

/// After the first signal to end, where the start is not complete: there is nothing to drain.
const END_OF_START: Duration = Duration::from_secs(2);
/// After the second: what has not ended by then is given up.
const END_AT_ONCE: Duration = Duration::from_secs(1);

/// What the process was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain. A second one: stop at once.
    Terminate,
    /// SIGHUP: load the rules again.
    Reload,
}

/// The process's signals from now on. Dropping it does not bring the default actions back.
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

    /// The start is complete: the first signal to end begins a drain, which has its own bound.
    pub fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }
}

/// Takes over SIGTERM, SIGINT and SIGHUP. Call it first: nothing that hangs later keeps the process. SIGPIPE is Rust's business
/// already: writes fail.
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
                // Where nobody listens any more the process is ending.
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
    // Without a thread to wait on there is no reason to wait.
    if std::thread::Builder::new().name("end".to_owned()).spawn(end).is_err() {
        signal_hook::low_level::exit(code.into());
    }
}
