//! One connection: the addresses of a name, which are tried one after the other as long as none responds (RFC 8305),
//! TLS, and the way through a proxy.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{HeaderName, HeaderValue};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_rustls::TlsConnector;
use url::Url;

use super::Net;
use super::NetError;
use super::proxy::{Proxy, ProxyKind, proxy_for};
use super::wire::{ByteStream, Transport};
use crate::platform::tls;

/// A next address is tried when the one before has not answered for this long (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// The same if the response includes TLS.
const NEXT_ADDRESS_TLS: Duration = Duration::from_millis(500);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// The addresses of a name are reused for this long, so that a thousand agents that come back together make one query.
const NAME_GOOD: Duration = Duration::from_secs(5);
/// An address that failed after it had accepted a connection is the last choice for this long.
const SUSPECT_FOR: Duration = Duration::from_secs(300);
/// Most addresses that are remembered so.
const SUSPECTS_MAX: usize = 64;

/// What names were last resolved to.
pub(super) type Names = Arc<Mutex<HashMap<String, Resolved>>>;

/// What one name was last resolved to.
#[derive(Debug)]
pub(super) struct Resolved {
    since: Instant,
    addresses: Vec<SocketAddr>,
}

/// Addresses that accepted a connection and then failed: tried after all others for a while.
#[derive(Debug, Clone, Default)]
pub(super) struct Suspects(Arc<StdMutex<HashMap<SocketAddr, Instant>>>);

impl Suspects {
    pub(super) fn add(&self, address: SocketAddr) {
        let mut suspects = self.lock();
        suspects.retain(|_, since| since.elapsed() < SUSPECT_FOR);
        if suspects.len() < SUSPECTS_MAX {
            suspects.insert(address, Instant::now());
        }
    }

    /// Moves suspected addresses to the end; otherwise the order stays.
    fn last(&self, addresses: &mut [SocketAddr]) {
        let suspects = self.lock();
        addresses.sort_by_key(|address| suspects.get(address).is_some_and(|since| since.elapsed() < SUSPECT_FOR));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to one address.
#[derive(Clone)]
pub struct Route {
    host: String,
    port: u16,
    name: Option<ServerName<'static>>,
    pub(super) proxy: Option<Proxy>,
    /// HTTP/2 may be negotiated, and a proxy may get whole addresses.
    pub(super) http: bool,
    net: Net,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Why there is no connection, by phase; for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{phase}: {why}")]
pub(in crate::platform) struct DialFailure {
    pub(in crate::platform) phase: &'static str,
    pub(in crate::platform) why: String,
}

impl Route {
    pub(super) fn new(
        net: &Net,
        url: &Url,
        http: bool,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, NetError> {
        let fail = |why: &str| NetError::Address { url: url.to_string(), why: why.to_owned() };
        let host = url.host_str().ok_or_else(|| fail("it names no host"))?.trim_matches(['[', ']']).to_owned();
        let secure = matches!(url.scheme(), "https" | "wss");
        let port = url.port().unwrap_or(if secure { 443 } else { 80 });
        let name = match secure {
            true => Some(ServerName::try_from(host.clone()).map_err(|_| fail("TLS cannot check its host's name"))?),
            false => None,
        };
        let proxy = proxy_for(url, env)?;
        if (secure || proxy.as_ref().is_some_and(Proxy::is_secure)) && net.tls.is_none() {
            return Err(fail("TLS was not set up"));
        }
        Ok(Self { host, port, name, proxy, http, net: net.clone() })
    }

    /// A description of the proxy, if one is used.
    pub fn proxy(&self) -> Option<String> {
        self.proxy.as_ref().map(Proxy::describe)
    }

    /// The header that a proxy needs on each request that it forwards.
    pub(in crate::platform) fn forwarding_header(&self) -> Option<(HeaderName, HeaderValue)> {
        let proxy =
            self.proxy.as_ref().filter(|proxy| self.name.is_none() && matches!(proxy.kind, ProxyKind::Http { .. }))?;
        Some((http::header::PROXY_AUTHORIZATION, proxy.authorization()?))
    }

    /// The connection, up to where HTTP begins, within `limit`. Dropping the future gives up.
    pub(in crate::platform) async fn dial(&self, limit: Duration) -> Result<ByteStream, DialFailure> {
        let until = Instant::now() + limit;
        match &self.proxy {
            None => self.direct(until, limit).await,
            Some(proxy) => self.through(proxy, until, limit).await,
        }
    }

    async fn direct(&self, until: Instant, limit: Duration) -> Result<ByteStream, DialFailure> {
        let addresses = phase("resolve", until, limit, self.net.resolve(&self.host, self.port)).await?;
        let suspects = &self.net.suspects;
        let Some(name) = &self.name else {
            let (tcp, peer) = phase("connect", until, limit, race(addresses, NEXT_ADDRESS, tcp)).await?;
            return Ok(ByteStream::new(Box::new(tcp), peer, suspects.clone()));
        };
        let connector = self.net.connector(self.http).await;
        // A peer that accepts a connection and then is silent has not responded.
        let reached = StdMutex::new(false);
        let reached = &reached;
        let open = |address| {
            let (connector, name, suspects) = (connector.clone(), name.clone(), suspects.clone());
            async move {
                let (tcp, peer) = tcp(address).await?;
                *reached.lock().unwrap_or_else(PoisonError::into_inner) = true;
                let mut doubt = Handshake(Some((peer, suspects)));
                let stream = connector.connect(name, tcp).await?;
                doubt.0 = None;
                Ok((stream, peer))
            }
        };
        let opened = phase("connect", until, limit, race(addresses, NEXT_ADDRESS_TLS, open)).await;
        let reached = *reached.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, peer) = opened
            .map_err(|failure| DialFailure { phase: if reached { "tls" } else { failure.phase }, why: failure.why })?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(ByteStream::new(Box::new(stream), peer, suspects.clone()).agreed(h2, false))
    }

    /// The error names the variable that names the proxy, so that the reader knows where to look.
    async fn through(&self, proxy: &Proxy, until: Instant, limit: Duration) -> Result<ByteStream, DialFailure> {
        let failed = |failure: DialFailure| {
            let why = format!("{} (through {})", failure.why, proxy.describe());
            DialFailure { phase: failure.phase, why }
        };
        self.proxied(proxy, until, limit).await.map_err(failed)
    }

    async fn proxied(&self, proxy: &Proxy, until: Instant, limit: Duration) -> Result<ByteStream, DialFailure> {
        let addresses = phase("resolve", until, limit, self.net.resolve(&proxy.host, proxy.port)).await?;
        let (tcp, peer) = phase("connect", until, limit, race(addresses, NEXT_ADDRESS, tcp)).await?;
        let mut io: Box<dyn Transport> = Box::new(tcp);
        if proxy.is_secure() {
            let name = ServerName::try_from(proxy.host.clone())
                .map_err(|_| DialFailure { phase: "tls", why: "TLS cannot check the proxy's name".to_owned() })?;
            let connector = self.net.connector(false).await;
            io = Box::new(phase("tls", until, limit, connector.connect(name, io)).await?);
        }
        let forwards = self.http && self.name.is_none() && matches!(proxy.kind, ProxyKind::Http { .. });
        let mut h2 = false;
        if !forwards {
            let host = match proxy.looks_names_up() {
                true => self.host.clone(),
                false => {
                    let found = phase("resolve", until, limit, self.net.resolve(&self.host, self.port)).await?;
                    found.first().map_or_else(|| self.host.clone(), |address| address.ip().to_string())
                }
            };
            io = phase("proxy", until, limit, proxy.through(io, &host, self.port)).await?;
            if let Some(name) = &self.name {
                let connector = self.net.connector(self.http).await;
                let stream = phase("tls", until, limit, connector.connect(name.clone(), io)).await?;
                h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                io = Box::new(stream);
            }
        }
        Ok(ByteStream::new(io, peer, self.net.suspects.clone()).agreed(h2, forwards))
    }
}

/// An address whose TLS handshake has not finished; if dropped in this state, the address becomes suspect.
struct Handshake(Option<(SocketAddr, Suspects)>);

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Some((address, suspects)) = self.0.take() {
            suspects.add(address);
        }
    }
}

async fn tcp(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let tcp = TcpStream::connect(address).await?;
    // This only makes things faster.
    let _ = tcp.set_nodelay(true);
    Ok((tcp, address))
}

impl Net {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        // Held during the query, so that one query serves all; each waiting caller is bounded by its own limit.
        let mut names = self.names.lock().await;
        names.retain(|_, known| known.since.elapsed() < NAME_GOOD);
        let key = format!("{host}:{port}");
        let mut addresses = match names.get(&key) {
            Some(known) => known.addresses.clone(),
            None => {
                let addresses = interleave(lookup_host((host, port)).await?);
                names.insert(key, Resolved { since: Instant::now(), addresses: addresses.clone() });
                addresses
            }
        };
        drop(names);
        self.suspects.last(&mut addresses);
        Ok(addresses)
    }

    async fn connector(&self, http: bool) -> TlsConnector {
        let config = match &self.tls {
            Some(tls) if http => tls.http().await,
            Some(tls) => tls.plain().await,
            None => unreachable!("`Route::new` refuses an address that needs TLS if there is none"),
        };
        TlsConnector::from(config)
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

/// The address families in turn, otherwise in the order of the system: if one family does not work, the other is next.
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
    head_start: Duration,
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
            next_at = Instant::now() + head_start;
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

    #[tokio::test(start_paused = true)]
    async fn an_address_that_failed_later_is_the_last_choice_for_a_while() {
        let suspects = Suspects::default();
        let mut all = ["1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1"].map(address);
        let before = all;
        suspects.add(all[0]);
        suspects.last(&mut all);
        assert_eq!(all, [before[1], before[2], before[0]]);
        tokio::time::advance(SUSPECT_FOR).await;
        let mut all = before;
        suspects.last(&mut all);
        assert_eq!(all, before);
        for port in 0..1000 {
            suspects.add(SocketAddr::from(([10, 0, 0, 1], port)));
        }
        assert_eq!(suspects.lock().len(), SUSPECTS_MAX);
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
        assert_eq!(race(vec![dead, live], NEXT_ADDRESS, connect).await.unwrap(), live);
        assert_eq!(began.elapsed().as_millis(), 250);
    }

    /// With real sockets: an address that accepts and then is silent is given up for the next one; with TLS at once,
    /// without TLS at the next connection attempt.
    #[tokio::test]
    async fn a_silent_first_address_is_left_for_one_that_speaks() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_held, silent) = (&silent, silent.local_addr().unwrap());
        let certified = rcgen::generate_simple_self_signed(vec!["platform.test".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let server = rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let speaks = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let _held = acceptor.accept(tcp).await;
                    std::future::pending::<()>().await;
                });
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, certified.cert.pem()).unwrap();
        let limit = Duration::from_secs(30);
        for (url, secure) in [("https://platform.test:7", true), ("http://platform.test:7", false)] {
            let net = Net {
                tls: Some(Arc::new(crate::platform::tls::Tls::new(Some(ca_file.clone())).unwrap())),
                names: Names::default(),
                suspects: Suspects::default(),
                limiters: crate::platform::limiter::Limiters::new(200),
            };
            let known = Resolved { since: Instant::now() + NAME_GOOD * 10, addresses: vec![silent, speaks] };
            net.names.lock().await.insert("platform.test:7".to_owned(), known);
            let route = Route::new(&net, &url.parse().unwrap(), true, |_| None).unwrap();
            let mut wire = route.dial(limit).await.unwrap();
            if !secure {
                assert_eq!(wire.peer(), silent);
                tokio::io::AsyncWriteExt::write_all(&mut wire, b"GET").await.unwrap();
                drop(wire);
                wire = route.dial(limit).await.unwrap();
            }
            assert_eq!(wire.peer(), speaks, "{url}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_hands_over_at_once_and_the_last_one_is_reported() {
        let all = ["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"].map(address);
        let began = Instant::now();
        let refuse = |address: SocketAddr| async move { Err::<(), _>(io::Error::other(address.to_string())) };
        assert_eq!(race(all.to_vec(), NEXT_ADDRESS, refuse).await.unwrap_err().to_string(), "3.3.3.3:3");
        let last = |address: SocketAddr| async move {
            if address.port() == 3 { Ok(address) } else { Err(io::Error::other("refused")) }
        };
        assert_eq!(race(all.to_vec(), NEXT_ADDRESS, last).await.unwrap(), all[2]);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(race(Vec::new(), NEXT_ADDRESS, last).await.unwrap_err().to_string().contains("no address"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_may_still_win() {
        let all = ["1.1.1.1:1", "2.2.2.2:2"].map(address);
        let connect = |address: SocketAddr| async move {
            tokio::time::sleep(Duration::from_millis(if address.port() == 1 { 300 } else { 5000 })).await;
            Ok(address)
        };
        assert_eq!(race(all.to_vec(), NEXT_ADDRESS, connect).await.unwrap(), all[0]);
    }
}
