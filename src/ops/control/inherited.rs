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

/// What was handed over; those that were not are made by doorman itself, if at all.
#[derive(Debug, Default)]
pub struct Inherited {
    /// The socket for everything.
    pub control: Option<UnixListener>,
    /// The socket for reading.
    pub read: Option<UnixListener>,
    /// The ports that serve metrics and health, in place of `metrics.listen`.
    pub metrics: Vec<TcpListener>,
    /// Where the page is served, in place of `page.socket` and `page.listen`.
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
    /// Takes over what this process was started with. Once, and before it has threads.
    ///
    /// # Errors
    /// For people: a socket that doorman has no use for, or that is of another kind.
    pub fn take() -> Result<Self, String> {
        // Read first: taking them over forgets the names.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut sockets = ListenFd::from_env();
        let names: Vec<&str> = names.split(':').collect();
        let mut taken = Self::default();
        for place in 0..sockets.len() {
            let name = names.get(place).copied().unwrap_or_default();
            let slot = match name {
                CONTROL => &mut taken.control,
                READ => &mut taken.read,
                METRICS => {
                    let port = sockets.take_tcp_listener(place);
                    taken.metrics.extend(port.map_err(|error| format!("the socket `{METRICS}`: {error}"))?);
                    continue;
                }
                PAGE => {
                    // What is of another kind is left in its place.
                    let found = match sockets.take_unix_listener(place) {
                        Ok(socket) => socket.map(GivenPage::Socket),
                        Err(_) => sockets
                            .take_tcp_listener(place)
                            .map_err(|error| format!("the socket `{PAGE}`: {error}"))?
                            .map(GivenPage::Port),
                    };
                    taken.page.extend(found);
                    continue;
                }
                // A single one without a name of ours is the control socket, as `systemd-socket-activate` hands it over.
                _ if sockets.len() == 1 => &mut taken.control,
                other => {
                    return Err(format!(
                        "a socket named `{other}` was handed over: name it `{CONTROL}`, `{READ}`, `{METRICS}` or `{PAGE}` with `FileDescriptorName=`"
                    ));
                }
            };
            let socket = sockets.take_unix_listener(place).map_err(|error| error.to_string())?;
            if slot.is_some() {
                return Err(format!("two sockets named `{name}` were handed over: one is enough"));
            }
            *slot = socket;
        }
        Ok(taken)
    }
}
