//! What doorman reports to systemd over `$NOTIFY_SOCKET`: `sd_notify(3)`. Without that socket nothing here has an
//! effect.
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

/// Reports to systemd, or to nobody. Clones share the socket. Never blocks: if the socket is full, the message is lost,
/// and that is logged.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
}

impl Notifier {
    /// From `$NOTIFY_SOCKET`; does nothing if that is not set.
    ///
    /// # Errors
    /// The variable names a socket that cannot be used.
    pub(crate) fn from_env() -> io::Result<Self> {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Self::to(&name),
            _ => Ok(Self::default()),
        }
    }

    /// To this socket: an absolute path, or an abstract name with `@` in front.
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

    /// Whether there is a socket to report to.
    pub fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// Reports that everything is running.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// Reports that a reload begins; [`Notifier::ready`] ends it, whatever its result. systemd wants the time in the
    /// same datagram.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => failed(&error),
        }
    }

    /// Reports that the drain begins.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// One line for `systemctl status`; escaped and cut.
    pub fn status(&self, text: &str) {
        let line: String = clean("status", text, &Redact::default()).chars().take(STATUS_CHARS_MAX).collect();
        self.send(&[NotifyState::Status(&line)]);
    }

    /// Reports that all is well. Only [`super::watchdog`] may call this.
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

/// How often systemd expects the report that all is well (`WatchdogSec=`); `None` if it does not, or if it means
/// another process.
pub(crate) fn watchdog_limit() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}
