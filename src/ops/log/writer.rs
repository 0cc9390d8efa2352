//! The queue between the daemon and the reader of its log. It is bounded, and the daemon never waits for it. If the
//! reader stalls, lines are lost, and a later line says how many. An answer never waits for the log: the durable record
//! is the ledger, not the log.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::Level;

use super::fields::{FieldValue, LogFields};
use super::folded::folded;
use super::format::{LineFormat, LogLine};
use crate::clock::Clock;

/// Most bytes waiting to be written. From a half on, debug and trace lines are dropped; warnings and errors may use a
/// quarter more.
pub const QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The cost of each waiting line, in addition to its bytes.
const LINE_OVERHEAD: usize = 48;
/// Lines that come within this time of the first are written with it: each wake of the thread, and each write, has its price.
const TOGETHER: Duration = Duration::from_millis(2);
/// Lines are written together, up to this many bytes.
const BATCH_BYTES: usize = 64 * 1024;

/// The receiver of rendered lines.
pub trait Sink: Send + Sync + 'static {
    /// Takes one line. Must not block.
    fn line(&self, level: Level, bytes: Vec<u8>);
}

/// For tests: keeps everything in memory.
impl Sink for Arc<Mutex<Vec<u8>>> {
    fn line(&self, _level: Level, mut bytes: Vec<u8>) {
        self.lock().unwrap_or_else(PoisonError::into_inner).append(&mut bytes);
    }
}

/// What the writer's thread writes to.
pub(super) enum LogTarget {
    /// A pipe or a file, or machines that read a terminal.
    Stream(Box<dyn Write + Send>),
    /// People who read a terminal, if it is one: no line is long enough to wrap.
    Terminal {
        /// Where it is.
        stream: Box<dyn Write + Send>,
        /// Its columns now; `None`: it is none.
        width: fn() -> Option<usize>,
    },
    /// journald: one datagram a line.
    Datagram(UnixDatagram),
}

impl LogTarget {
    /// Connects to journald's socket.
    pub(super) fn journald(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(LogTarget::Datagram(socket))
    }

    /// Errors are ignored: there is no place left to report them.
    fn write(&mut self, lines: impl Iterator<Item = Vec<u8>>) {
        match self {
            LogTarget::Stream(stream) => write_together(stream, lines),
            LogTarget::Terminal { stream, width } => match width() {
                Some(width) => {
                    let fitting = |line: Vec<u8>| folded(&String::from_utf8_lossy(&line), width).into_bytes();
                    write_together(stream, lines.map(fitting));
                }
                None => write_together(stream, lines),
            },
            LogTarget::Datagram(socket) => {
                for line in lines {
                    let _ = socket.send(&line);
                }
            }
        }
    }
}

fn write_together(stream: &mut impl Write, lines: impl Iterator<Item = Vec<u8>>) {
    let mut batch = Vec::new();
    for mut line in lines {
        batch.append(&mut line);
        if batch.len() >= BATCH_BYTES {
            let _ = stream.write_all(&batch);
            batch.clear();
        }
    }
    let _ = stream.write_all(&batch).and_then(|()| stream.flush());
}

/// The queue. Clones share its contents.
#[derive(Clone)]
pub(super) struct LogQueue {
    shared: Arc<QueueShared>,
}

struct QueueShared {
    state: Mutex<QueueState>,
    /// Signals that there is something to write.
    work: Condvar,
    /// Signals that everything was written.
    idle: Condvar,
    max: usize,
}

#[derive(Default)]
struct QueueState {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    writing: bool,
    closed: bool,
    /// The writer waits for a first line: only then is it worth a system call to wake it.
    waiting: bool,
    /// Those that wait in [`LogQueue::flush`].
    flushing: usize,
}

impl LogQueue {
    /// A queue whose thread writes to `target`; `format` is that of the thread's own messages.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(super) fn start(target: LogTarget, format: LineFormat, clock: Clock, max: usize) -> io::Result<Self> {
        let shared = Arc::new(QueueShared { state: Mutex::default(), work: Condvar::new(), idle: Condvar::new(), max });
        let queue = Self { shared: Arc::clone(&shared) };
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_all(target, format, &clock))?;
        Ok(queue)
    }

    /// Waits until everything was written, at most this long. Returns whether it was.
    pub(super) fn flush(&self, at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        let mut state = self.shared.lock();
        state.flushing += 1;
        self.shared.work.notify_one();
        let mut in_time = true;
        while in_time && (!state.lines.is_empty() || state.writing || state.dropped > 0) {
            match end.checked_duration_since(Instant::now()) {
                Some(left) => state = wait(&self.shared.idle, state, left),
                None => in_time = false,
            }
        }
        state.flushing -= 1;
        in_time
    }

    /// Lets the thread end once everything was written.
    pub(super) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
    }
}

impl Sink for LogQueue {
    fn line(&self, level: Level, bytes: Vec<u8>) {
        let max = self.shared.max;
        let room = match level {
            Level::ERROR | Level::WARN => max + max / 4,
            Level::INFO => max,
            Level::DEBUG | Level::TRACE => max / 2,
        };
        let mut state = self.shared.lock();
        if state.bytes + bytes.len() + LINE_OVERHEAD > room {
            state.dropped += 1;
            return;
        }
        state.bytes += bytes.len() + LINE_OVERHEAD;
        state.lines.push_back(bytes);
        let wake = std::mem::take(&mut state.waiting);
        drop(state);
        if wake {
            self.shared.work.notify_one();
        }
    }
}

impl QueueShared {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut target: LogTarget, format: LineFormat, clock: &Clock) {
        loop {
            let mut state = self.lock();
            while state.lines.is_empty() && state.dropped == 0 && !state.closed {
                state.waiting = true;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.lines.is_empty() && state.dropped == 0 {
                return;
            }
            if !state.closed && state.flushing == 0 {
                state = wait(&self.work, state, TOGETHER);
            }
            let lines = std::mem::take(&mut state.lines);
            let dropped = std::mem::take(&mut state.dropped);
            // Bytes that are being written still count: a stalled reader must not double the bound.
            state.writing = true;
            drop(state);
            let written: usize = lines.iter().map(|line| line.len() + LINE_OVERHEAD).sum();
            let report = (dropped > 0).then(|| report(dropped, clock).render(format));
            target.write(lines.into_iter().chain(report));
            let mut state = self.lock();
            state.bytes -= written;
            state.writing = false;
            if state.flushing > 0 && state.lines.is_empty() && state.dropped == 0 {
                self.idle.notify_all();
            }
        }
    }
}

/// Waits for a signal, at most this long.
fn wait<'a>(signal: &Condvar, state: MutexGuard<'a, QueueState>, at_most: Duration) -> MutexGuard<'a, QueueState> {
    match signal.wait_timeout(state, at_most) {
        Ok((state, _)) => state,
        Err(poisoned) => poisoned.into_inner().0,
    }
}

/// The line that says how many lines were lost.
fn report(dropped: u64, clock: &Clock) -> LogLine {
    let mut fields = LogFields::default();
    fields.set("lines", FieldValue::Natural(dropped));
    LogLine {
        ts: clock.now().wall,
        level: Level::WARN,
        event: super::events::LOG_DROPPED.to_owned(),
        message: format!("{dropped} lines of the log were dropped: nobody read them fast enough"),
        fields,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that takes nothing until the test allows it.
    struct Stalled {
        go: mpsc::Receiver<()>,
        began: mpsc::Sender<()>,
        got: Arc<Mutex<Vec<u8>>>,
        free: bool,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.free {
                self.began.send(()).unwrap();
                self.go.recv().unwrap();
                self.free = true;
            }
            self.got.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_gets_their_number_but_blocks_nobody() {
        let (go, wait) = mpsc::channel();
        let (began, begun) = mpsc::channel();
        let got = Arc::new(Mutex::new(Vec::new()));
        let target = LogTarget::Stream(Box::new(Stalled { go: wait, began, got: Arc::clone(&got), free: false }));
        let queue = LogQueue::start(target, LineFormat::Json, Clock::start(), 10_000).unwrap();
        queue.line(Level::INFO, b"first\n".to_vec());
        begun.recv().unwrap();
        for _ in 0..1_000 {
            queue.line(Level::INFO, b"0123456789012345678901234567890123456789012345678901\n".to_vec());
        }
        assert!(queue.shared.lock().bytes <= 10_000);
        queue.line(Level::DEBUG, b"debug\n".to_vec());
        queue.line(Level::ERROR, b"error\n".to_vec());
        assert!(!queue.flush(Duration::ZERO), "it does not wait for a reader that stalls");
        go.send(()).unwrap();
        while !queue.flush(Duration::from_secs(60)) {}
        let text = String::from_utf8(got.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("first\n0123"), "in order");
        assert!(text.contains("error\n") && !text.contains("debug\n"), "what is louder has more room");
        let kept = text.lines().filter(|line| line.starts_with("0123")).count();
        assert!(text.contains(&format!("\"lines\":{}", 1_000 - kept + 1)), "{}", text.lines().last().unwrap());
    }

    #[test]
    fn a_closed_queue_writes_what_it_has() {
        let (sender, receiver) = mpsc::channel::<Vec<u8>>();
        struct ChannelWriter(mpsc::Sender<Vec<u8>>);
        impl Write for ChannelWriter {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(bytes.to_vec()).unwrap();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue = LogQueue::start(
            LogTarget::Stream(Box::new(ChannelWriter(sender))),
            LineFormat::Json,
            Clock::start(),
            QUEUE_BYTES_MAX,
        )
        .unwrap();
        queue.line(Level::INFO, b"last words\n".to_vec());
        queue.close();
        let all: Vec<u8> = receiver.iter().flatten().collect();
        assert_eq!(all, b"last words\n");
    }

    #[test]
    fn no_line_wraps_on_a_terminal() {
        let long =
            |forged: &str| format!("2026-11-23T18:13:02.123Z  INFO decided  name=\"{}{forged}\"\n", "x".repeat(39));
        for (width, begins) in [(Some(80), "    | "), (None, "2026")] {
            let got = Arc::new(Mutex::new(Vec::new()));
            struct Screen(Arc<Mutex<Vec<u8>>>);
            impl Write for Screen {
                fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                    self.0.lock().unwrap().write(bytes)
                }
                fn flush(&mut self) -> io::Result<()> {
                    Ok(())
                }
            }
            let width: fn() -> Option<usize> = if width.is_some() { || Some(80) } else { || None };
            let target = LogTarget::Terminal { stream: Box::new(Screen(Arc::clone(&got))), width };
            let queue =
                LogQueue::start(target, LineFormat::Human { colour: false }, Clock::start(), QUEUE_BYTES_MAX).unwrap();
            queue.line(Level::INFO, long("2026-11-23T18:13:02.123Z  INFO answered").into_bytes());
            assert!(queue.flush(Duration::from_secs(60)));
            let shown = String::from_utf8(got.lock().unwrap().clone()).unwrap();
            let lines: Vec<&str> = shown.lines().collect();
            assert!(lines.last().unwrap().starts_with(begins), "{shown}");
            assert_eq!(lines.iter().all(|line| line.len() <= 80), lines.len() > 1, "{shown}");
        }
    }

    #[test]
    fn journald_gets_a_datagram_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journald = UnixDatagram::bind(&path).unwrap();
        let target = LogTarget::journald(&path).unwrap();
        let queue = LogQueue::start(target, LineFormat::Journald, Clock::start(), QUEUE_BYTES_MAX).unwrap();
        queue.line(Level::INFO, b"PRIORITY=6\nMESSAGE=one\n".to_vec());
        queue.line(Level::INFO, b"PRIORITY=6\nMESSAGE=two\n".to_vec());
        let mut buffer = [0; 64];
        for word in ["one", "two"] {
            let length = journald.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], format!("PRIORITY=6\nMESSAGE={word}\n").as_bytes());
        }
    }
}
