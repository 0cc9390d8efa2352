//! Writes a transcript. Callers pass a line and never wait: a separate thread writes. If the queue is full, lines are
//! dropped and counted. If the file has reached its limit or cannot be written, only the recording ends.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::pseudonymize::Pseudonyms;
use super::{Direction, RestLine, TranscriptLine, Upgrade, VERSION};
use crate::clock::{Clock, Mono};
use crate::files;
use crate::model::AgentId;
use crate::model::{ConnectFailure, ConnectPlan};
use crate::ops::log::events;
use crate::secret::Redact;

/// Default limit of the file's size.
pub(crate) const RECORD_BYTES_MAX: u64 = 256 << 20;
/// Lines, and bytes of lines, that wait to be written.
const LINES_WAITING: usize = 16_384;
const BYTES_WAITING: usize = 32 << 20;
/// How often to check whether the file is still at its path.
const LOOK_RHYTHM: Duration = Duration::from_secs(2);
/// Longest text that is not JSON and is still included, if text was requested.
const RAW_BYTES_MAX: usize = 64 << 10;

/// Clones write to the same file. See the module.
#[derive(Debug, Clone)]
pub struct TranscriptRecorder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    began: Mono,
    /// `None`: strangers' text was requested unchanged.
    pseudonyms: Option<Pseudonyms>,
    redact: Redact,
    lines: SyncSender<RecorderOrder>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
    calls: AtomicU64,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum RecorderOrder {
    Line(String),
    End,
}

impl TranscriptRecorder {
    /// Appends to this file, or makes it; only its owner can read it. `text`: strangers' text is kept unchanged. The
    /// recording ends at `most` bytes. Keys known to `redact`, now or later, are never written.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, is not a regular file, is a symbolic link, or is somebody else's.
    pub fn open(path: &Path, text: bool, most: u64, redact: Redact, clock: Clock) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let file = files::open(path, options, false)?;
        let about = file.metadata()?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        let (lines, orders) = sync_channel(LINES_WAITING);
        let (waiting, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let writer = RecorderThread {
            file: BufWriter::new(file),
            identity: (about.dev(), about.ino()),
            looked: Instant::now(),
            path: path.to_owned(),
            size: about.size(),
            most,
            waiting: waiting.clone(),
            dropped: dropped.clone(),
        };
        let thread = std::thread::Builder::new().name("transcript".to_owned()).spawn(move || writer.run(&orders))?;
        let pseudonyms = (!text).then(Pseudonyms::new);
        let now = clock.now();
        let note = format!(
            "doorman {}, {}; {}",
            env!("CARGO_PKG_VERSION"),
            now.wall,
            if text { "strangers' text is as it came" } else { "strangers' text is replaced" }
        );
        let recorder = Self(Arc::new(Inner {
            clock,
            began: now.mono,
            pseudonyms,
            redact,
            lines,
            waiting,
            dropped,
            calls: AtomicU64::new(0),
            thread: std::sync::Mutex::new(Some(thread)),
        }));
        recorder.write(&TranscriptLine { transcript: Some(VERSION), note: Some(note), ..TranscriptLine::default() });
        Ok(recorder)
    }

    /// Writes the waiting lines, and ends; later lines are lost. Blocks until they are written, at most `at_most`,
    /// since a file system may hang. Returns whether all of them were written.
    pub fn finish(&self, at_most: Duration) -> bool {
        let Some(thread) = self.0.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() else {
            return true;
        };
        let (done, ended) = sync_channel(1);
        let lines = self.0.lines.clone();
        let waiting = std::thread::Builder::new().name("transcript-end".to_owned()).spawn(move || {
            // If the writer has ended by itself, nothing receives the order.
            let _ = lines.send(RecorderOrder::End);
            let _ = thread.join();
            let _ = done.send(());
        });
        waiting.is_ok() && ended.recv_timeout(at_most).is_ok()
    }

    /// The client requests a socket.
    pub fn upgrade(&self, agent: &AgentId, conn: u64, plan: ConnectPlan) {
        let upgrade = Upgrade {
            vsn: Some("2.0.0".to_owned()),
            on_conflict: Some(if plan.take { "supersede" } else { "reject" }.to_owned()),
            key: Some(if plan.key_in_query { "query" } else { "header" }.to_owned()),
            ..Upgrade::default()
        };
        self.socket(agent, conn, Direction::Out, |line| line.upgrade = Some(upgrade));
    }

    /// The socket is open.
    pub fn opened(&self, agent: &AgentId, conn: u64) {
        let upgrade = Upgrade { status: Some(101), ..Upgrade::default() };
        self.socket(agent, conn, Direction::In, |line| line.upgrade = Some(upgrade));
    }

    /// The socket was refused.
    pub fn refused(&self, agent: &AgentId, conn: u64, refusal: &ConnectFailure) {
        let upgrade = Upgrade {
            status: refusal.status,
            code: refusal.code.clone(),
            retry_after: refusal.retry_after.map(|wait| wait.as_secs()),
            error: refusal.status.is_none().then(|| refusal.why.clone()),
            ..Upgrade::default()
        };
        self.socket(agent, conn, Direction::In, |line| line.upgrade = Some(upgrade));
    }

    /// A text frame.
    pub fn frame(&self, agent: &AgentId, conn: u64, dir: Direction, text: &str) {
        let (frame, garbled) = match serde_json::from_str::<Value>(text) {
            // A JSON string would be read back as the frame's exact text.
            Ok(frame) if !frame.is_string() => match &self.0.pseudonyms {
                Some(pseudonyms) => (Some(pseudonyms.frame(frame)), None),
                None => (Some(frame), None),
            },
            _ if self.0.pseudonyms.is_none() && text.len() <= RAW_BYTES_MAX => (Some(text.into()), None),
            _ => (None, Some(text.len() as u64)),
        };
        self.socket(agent, conn, dir, |line| (line.frame, line.garbled) = (frame, garbled));
    }

    /// A binary frame of this length.
    pub fn binary(&self, agent: &AgentId, conn: u64, bytes: usize) {
        self.socket(agent, conn, Direction::In, |line| line.binary = Some(bytes as u64));
    }

    /// The socket ended: the platform closed it, or (out) doorman did.
    pub fn closed(&self, agent: &AgentId, conn: u64, dir: Direction, code: Option<u16>) {
        self.socket(agent, conn, dir, |line| line.close = Some(code));
    }

    /// A REST call is sent; returns the number under which its reply is recorded.
    pub fn call(&self, agent: &AgentId, method: &str, path: &str, query: Option<&str>, body: Option<&[u8]>) -> u64 {
        let call = self.0.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let (body, garbled) = body.map_or((None, None), |body| self.body(body));
        let (method, path) = (Some(method.to_owned()), Some(path.to_owned()));
        let query = query.map(str::to_owned);
        let rest = RestLine { call, method, path, query, body, garbled, ..RestLine::default() };
        self.line(agent, Direction::Out, |line| line.rest = Some(rest));
        call
    }

    /// A REST call got a reply; the body is the part that was read.
    pub fn answered(&self, agent: &AgentId, call: u64, status: u16, retry_after: Option<&str>, body: &[u8]) {
        let (body, garbled) = self.body(body);
        let retry_after = retry_after.map(|text| text.chars().take(64).collect());
        let rest = RestLine { call, status: Some(status), retry_after, body, garbled, ..RestLine::default() };
        self.line(agent, Direction::In, |line| line.rest = Some(rest));
    }

    /// A REST call got no reply.
    pub fn unanswered(&self, agent: &AgentId, call: u64, why: &str) {
        let rest = RestLine { call, error: Some(why.to_owned()), ..RestLine::default() };
        self.line(agent, Direction::In, |line| line.rest = Some(rest));
    }

    /// The recorded form of a body, or its length.
    fn body(&self, bytes: &[u8]) -> (Option<Value>, Option<u64>) {
        match (serde_json::from_slice::<Value>(bytes), &self.0.pseudonyms) {
            (Ok(body), Some(pseudonyms)) => (Some(pseudonyms.body(body)), None),
            (Ok(body), None) => (Some(body), None),
            (Err(_), _) => (None, Some(bytes.len() as u64)),
        }
    }

    fn socket(&self, agent: &AgentId, conn: u64, dir: Direction, fill: impl FnOnce(&mut TranscriptLine)) {
        self.line(agent, dir, |line| {
            line.conn = Some(conn);
            fill(line);
        });
    }

    fn line(&self, agent: &AgentId, dir: Direction, fill: impl FnOnce(&mut TranscriptLine)) {
        let at = u64::try_from(self.0.clock.now().mono.since(self.0.began).as_millis()).unwrap_or(u64::MAX);
        let mut line = TranscriptLine {
            at: Some(at),
            agent: Some(agent.as_str().to_owned()),
            dir: Some(dir),
            ..TranscriptLine::default()
        };
        fill(&mut line);
        self.write(&line);
    }

    fn write(&self, line: &TranscriptLine) {
        let Ok(text) = serde_json::to_string(line) else { return };
        let text = self.0.redact.scrub(&text).into_owned();
        let bytes = text.len();
        let full = self.0.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > BYTES_WAITING;
        if full || self.0.lines.try_send(RecorderOrder::Line(text)).is_err() {
            self.0.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct RecorderThread {
    file: BufWriter<File>,
    /// Device and inode of the open file.
    identity: (u64, u64),
    looked: Instant,
    path: PathBuf,
    size: u64,
    most: u64,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl RecorderThread {
    fn run(mut self, orders: &Receiver<RecorderOrder>) {
        if let Err(error) = self.lines(orders) {
            tracing::warn!(
                event = events::RECORD_ENDED,
                path = %self.path.display(),
                why = %error,
                "the transcript is written no further"
            );
        }
    }

    /// Writes lines until the end, or until the file has reached its limit.
    fn lines(&mut self, orders: &Receiver<RecorderOrder>) -> io::Result<()> {
        loop {
            let order = match orders.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Disconnected) => return self.file.flush(),
                Err(TryRecvError::Empty) => {
                    self.file.flush()?;
                    match orders.recv() {
                        Ok(order) => order,
                        Err(_) => return self.file.flush(),
                    }
                }
            };
            let RecorderOrder::Line(text) = order else { return self.file.flush() };
            self.waiting.fetch_sub(text.len(), Ordering::Relaxed);
            self.check_file()?;
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                self.line(&note(format!("{dropped} lines are missing here: the disk was too slow")))?;
            }
            self.line(&text)?;
        }
    }

    /// Stops if the file was deleted or replaced, since nobody could read what is written then.
    fn check_file(&mut self) -> io::Result<()> {
        if self.looked.elapsed() < LOOK_RHYTHM {
            return Ok(());
        }
        self.looked = Instant::now();
        let found = std::fs::metadata(&self.path).map_err(|error| io::Error::other(format!("it is gone ({error})")))?;
        match (found.dev(), found.ino()) == self.identity {
            true => Ok(()),
            false => Err(io::Error::other("another file is in its place")),
        }
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        self.size += text.len() as u64 + 1;
        if self.size > self.most {
            writeln!(self.file, "{}", note("the file has grown to its bound: nothing more is recorded".to_owned()))?;
            self.file.flush()?;
            return Err(io::Error::other(format!("it has grown to its bound of {} bytes", self.most)));
        }
        writeln!(self.file, "{text}")
    }
}

fn note(note: String) -> String {
    serde_json::to_string(&TranscriptLine { note: Some(note), ..TranscriptLine::default() }).unwrap_or_default()
}

#[cfg(test)]
mod tests;
