//! Sockets that the service manager made and handed over: systemd's socket units, by name.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// The names that the socket units give (`FileDescriptorName=`): for everything, for reading, for metrics over TCP, and for
/// the page.
const CONTROL: &str = "control";
const READ: &str = "read";
const METRICS: &str = "metrics";
const PAGE: &str = "page";

/// The sockets that were passed. doorman makes the others itself, if it needs them.
#[derive(Debug, Default)]
pub struct Inherited {
    /// The socket for everything.
    pub control: Option<UnixListener>,
    /// The socket for reading.
    pub read: Option<UnixListener>,
    /// The ports that serve metrics and health, in place of `metrics.listen`.
    pub metrics: Vec<TcpListener>,
    /// The sockets that serve the page, in place of `page.socket` and `page.listen`.
    pub page: Vec<GivenPage>,
}

/// A socket for the page.
#[derive(Debug)]
pub enum GivenPage {
    /// A port.
    Port(TcpListener),
    /// A Unix socket.
    Socket(UnixListener),
}

impl Inherited {
    /// Takes over the sockets that this process was started with. Call it once, and before there are threads.
    ///
    /// # Errors
    /// For people: a socket that doorman cannot use, or that is of the wrong kind.
    pub fn take() -> Result<Self, String> {
        // Read the names first: taking the sockets over removes the variable.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut sockets = ListenFd::from_env();
        let names: Vec<&str> = names.split(':').collect();
        let mut taken = Self::default();
        for index in 0..sockets.len() {
            let name = names.get(index).copied().unwrap_or_default();
            let slot = match name {
                CONTROL => &mut taken.control,
                READ => &mut taken.read,
                METRICS => {
                    let port = sockets.take_tcp_listener(index);
                    taken.metrics.extend(port.map_err(|error| format!("the socket `{METRICS}`: {error}"))?);
                    continue;
                }
                PAGE => {
                    // What is of another kind is left in its place.
                    let found = match sockets.take_unix_listener(index) {
                        Ok(socket) => socket.map(GivenPage::Socket),
                        Err(_) => sockets
                            .take_tcp_listener(index)
                            .map_err(|error| format!("the socket `{PAGE}`: {error}"))?
                            .map(GivenPage::Port),
                    };
                    taken.page.extend(found);
                    continue;
                }
                // A single socket without one of our names is the control socket, as `systemd-socket-activate` passes
                // it.
                _ if sockets.len() == 1 => &mut taken.control,
                other => {
                    return Err(format!(
                        "a socket named `{other}` was handed over: name it `{CONTROL}`, `{READ}`, `{METRICS}` or `{PAGE}` with `FileDescriptorName=`"
                    ));
                }
            };
            let socket = sockets.take_unix_listener(index).map_err(|error| error.to_string())?;
            if slot.is_some() {
                return Err(format!("two sockets named `{name}` were handed over: one is enough"));
            }
            *slot = socket;
        }
        Ok(taken)
    }
}
