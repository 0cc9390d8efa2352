//! TCP and TLS to the platform: names resolved once for many agents, all addresses tried without waiting for a dead one.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_rustls::TlsConnector;
use url::Url;

use super::pace::Pace;
use super::wire::Wire;
use crate::config::settings::Platform;
use crate::platform::tls;

/// A next address is tried when the one before has not answered for this long (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// A name's addresses are good for this long: a thousand agents that come back together ask once.
const NAME_GOOD: Duration = Duration::from_secs(5);

/// Where sockets are opened, and how. Clones share what they know of names, and one pace.
#[derive(Clone)]
pub struct Dialer {
    pub(super) url: Url,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    known: Arc<Mutex<Option<Known>>>,
    pub(super) pace: Arc<Pace>,
}

/// What the name was last resolved to.
struct Known {
    since: Instant,
    addresses: Vec<SocketAddr>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// What is wrong with the socket's address.
#[derive(Debug, thiserror::Error)]
#[error("`platform.socket_url` = `{url}` cannot be used: {why}")]
pub struct DialError {
    url: String,
    why: String,
}

/// Why there is no connection, by phase; for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{phase}: {why}")]
pub(super) struct DialFailure {
    pub(super) phase: &'static str,
    pub(super) why: String,
}

impl Dialer {
    /// `tls` is needed for `wss`.
    pub fn new(platform: &Platform, tls: Option<Arc<rustls::ClientConfig>>) -> Result<Self, DialError> {
        let url = platform.socket.clone();
        let fail = |why: &str| DialError { url: url.to_string(), why: why.to_owned() };
        let host = url.host_str().ok_or_else(|| fail("it names no host"))?.trim_matches(['[', ']']).to_owned();
        let port = url.port().unwrap_or(if url.scheme() == "wss" { 443 } else { 80 });
        let tls = match (url.scheme(), tls) {
            ("ws", _) => None,
            ("wss", Some(config)) => {
                let name =
                    ServerName::try_from(host.clone()).map_err(|_| fail("its host is no name that TLS knows"))?;
                Some((TlsConnector::from(config), name))
            }
            ("wss", None) => return Err(fail("TLS was not set up")),
            _ => return Err(fail("it must begin with `wss://` or `ws://`")),
        };
        Ok(Self { url, host, port, tls, known: Arc::new(Mutex::new(None)), pace: Arc::new(Pace::new()) })
    }

    /// The connection, up to where HTTP begins, within `limit`. Dropping the future gives up.
    pub(super) async fn dial(&self, limit: Duration) -> Result<Wire, DialFailure> {
        let until = Instant::now() + limit;
        let addresses = phase("resolve", until, limit, self.resolve()).await?;
        let tcp = phase("connect", until, limit, race(addresses, TcpStream::connect)).await?;
        // It only makes things quicker.
        let _ = tcp.set_nodelay(true);
        match &self.tls {
            None => Ok(Wire::Plain(tcp)),
            Some((connector, name)) => {
                let stream = phase("tls", until, limit, connector.connect(name.clone(), tcp)).await?;
                Ok(Wire::Tls(Box::new(stream)))
            }
        }
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        // Held while asking, so that one asks for all; who waits is bounded by its own limit.
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.since.elapsed() < NAME_GOOD) {
            return Ok(known.addresses.clone());
        }
        let found = lookup_host((self.host.as_str(), self.port)).await?;
        let addresses = interleave(found);
        *known = Some(Known { since: Instant::now(), addresses: addresses.clone() });
        Ok(addresses)
    }
}

/// Runs one phase until the common limit.
async fn phase<T>(
    phase: &'static str,
    until: Instant,
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, DialFailure> {
    let why = match timeout_at(until, work).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => tls::explain(&error).unwrap_or_else(|| tls::innermost(&error)),
        Err(_) => format!("no answer within {limit:?}"),
    };
    Err(DialFailure { phase, why })
}

/// The families in turn, in the order the system gave them: where one family leads nowhere, the other is next.
fn interleave(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let found: Vec<_> = found.collect();
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (leading, other): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut mixed = Vec::with_capacity(ADDRESSES_MAX);
    let (mut leading, mut other) = (leading.into_iter(), other.into_iter());
    loop {
        let pair = [leading.next(), other.next()];
        if pair == [None, None] || mixed.len() >= ADDRESSES_MAX {
            mixed.truncate(ADDRESSES_MAX);
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

/// The first address that answers. Each gets a head start over the next; one that fails hands over at once.
async fn race<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut left = addresses.into_iter();
    let mut tries = FuturesUnordered::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut next_at = Instant::now();
    loop {
        if tries.is_empty() || Instant::now() >= next_at {
            match left.next() {
                Some(address) => tries.push(connect(address)),
                None if tries.is_empty() => return Err(failed),
                None => {}
            }
            next_at = Instant::now() + NEXT_ADDRESS;
        }
        tokio::select! {
            Some(tried) = tries.next() => match tried {
                Ok(done) => return Ok(done),
                Err(error) => {
                    failed = error;
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if left.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns_and_their_number_is_bounded() {
        let found = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].map(address);
        let wanted = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(address);
        assert_eq!(interleave(found.into_iter()), wanted);
        let many = (0..100).map(|last| SocketAddr::from(([10, 0, 0, last], 1)));
        assert_eq!(interleave(many).len(), ADDRESSES_MAX);
        assert_eq!(interleave(std::iter::empty()), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_address_does_not_keep_the_next_waiting() {
        let [dead, live] = ["[::1]:1", "1.1.1.1:1"].map(address);
        let began = Instant::now();
        let connect = |address| async move { if address == dead { std::future::pending().await } else { Ok(address) } };
        assert_eq!(race(vec![dead, live], connect).await.unwrap(), live);
        assert_eq!(began.elapsed().as_millis(), 250);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_hands_over_at_once_and_the_last_one_is_told() {
        let all = ["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"].map(address);
        let began = Instant::now();
        let refuse = |address: SocketAddr| async move { Err::<(), _>(io::Error::other(address.to_string())) };
        assert_eq!(race(all.to_vec(), refuse).await.unwrap_err().to_string(), "3.3.3.3:3");
        let last = |address: SocketAddr| async move {
            if address.port() == 3 { Ok(address) } else { Err(io::Error::other("refused")) }
        };
        assert_eq!(race(all.to_vec(), last).await.unwrap(), all[2]);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(race(Vec::new(), last).await.unwrap_err().to_string().contains("no address"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_may_still_win() {
        let all = ["1.1.1.1:1", "2.2.2.2:2"].map(address);
        let connect = |address: SocketAddr| async move {
            tokio::time::sleep(Duration::from_millis(if address.port() == 1 { 300 } else { 5000 })).await;
            Ok(address)
        };
        assert_eq!(race(all.to_vec(), connect).await.unwrap(), all[0]);
    }
}
