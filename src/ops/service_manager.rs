//! What systemd is told, over `$NOTIFY_SOCKET`: `sd_notify(3)`. Without that socket everything here does nothing.
//!
//! The variables stay in the environment, since taking them out is not safe once threads run and doorman starts no
//! other programs.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use super::log::events;
use super::log::fields::clean;
use crate::secret::Redact;

/// Longest status that is sent.
const STATUS_CHARS_MAX: usize = 200;

/// Tells systemd, or nobody. Clones share the socket. Never blocks: a full socket loses the message, and the log says so.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
}

impl Notifier {
    /// From `$NOTIFY_SOCKET`; silent where that is not set.
    ///
    /// # Errors
    /// The variable names a socket that cannot be used.
    pub fn from_env() -> io::Result<Self> {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Self::to(&name),
            _ => Ok(Self::default()),
        }
    }

    /// To this socket: an absolute path, or `@` and an abstract name.
    ///
    /// # Errors
    /// It cannot be connected to.
    pub fn to(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some(Arc::new(socket)) })
    }

    /// Whether anybody listens.
    pub fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// Everything is up.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// A reload begins; [`Notifier::ready`] ends it, whatever came of it. systemd wants the time in the same datagram.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => failed(&error),
        }
    }

    /// The drain begins.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// One line for `systemctl status`; escaped and cut.
    pub fn status(&self, text: &str) {
        let line: String = clean("status", text, &Redact::default()).chars().take(STATUS_CHARS_MAX).collect();
        self.send(&[NotifyState::Status(&line)]);
    }

    /// All is well. Only [`super::watchdog`] may say so.
    pub(super) fn watchdog(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let mut message = String::new();
        for state in states {
            let _ = writeln!(message, "{state}");
        }
        if let Err(error) = socket.send(message.as_bytes()) {
            failed(&error);
        }
    }
}

fn failed(error: &io::Error) {
    tracing::warn!(event = events::NOTIFY_FAILED, why = %error, "a message to systemd could not be sent");
}

/// How often systemd wants to hear that all is well (`WatchdogSec=`), where it does and means this process.
pub fn watchdog_limit() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}
