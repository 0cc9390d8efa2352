//! Which proxy the environment names for which address, and the way through it.
//!
//! The variables are those of curl: `HTTPS_PROXY` for `https` and `wss`, `HTTP_PROXY` for `http` and `ws`, `ALL_PROXY`
//! for all of them if the other is not set, and `NO_PROXY`. Each also exists in lower case, which wins. Connections to
//! this machine never use a proxy.

use std::future::{Ready, ready};
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tower_service::Service;
use url::Url;

use super::wire::Transport;
use crate::config::settings::loopback;

/// The protocol of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyKind {
    /// `http://`, or over TLS `https://`.
    Http {
        /// Over TLS.
        secure: bool,
    },
    /// `socks5://` and `socks5h://`.
    Socks5 {
        /// The proxy looks names up, not we.
        names: bool,
    },
    /// `socks4://` and `socks4a://`.
    Socks4 {
        /// The proxy looks names up, not we.
        names: bool,
    },
}

/// A proxy, and which variable names it.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) variable: String,
    pub(super) kind: ProxyKind,
    pub(super) host: String,
    pub(super) port: u16,
    auth: Option<(String, String)>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("variable", &self.variable).field("host", &self.host).finish_non_exhaustive()
    }
}

/// Why a proxy cannot be used. Names the variable and holds none of its text, which may have a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the proxy in `{variable}` cannot be used: {why}")]
pub struct ProxyProblem {
    variable: String,
    why: String,
}

/// The proxy for this address, if there is one. `env` gives a variable's text.
pub(super) fn proxy_for(url: &Url, env: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>, ProxyProblem> {
    if loopback(url) {
        return Ok(None);
    }
    let secure = matches!(url.scheme(), "https" | "wss");
    let names: [&str; 4] = match secure {
        true => ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        // In a CGI's environment `HTTP_PROXY` is a header of the request.
        false if env("REQUEST_METHOD").is_some() => ["http_proxy", "all_proxy", "ALL_PROXY", "ALL_PROXY"],
        false => ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let set = |name: &str| env(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let Some((variable, text)) = names.into_iter().find_map(|name| Some((name, set(name)?))) else { return Ok(None) };
    let without = ["no_proxy", "NO_PROXY"].into_iter().find_map(set).unwrap_or_default();
    let without = usual_spelling(&without, url.port_or_known_default());
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host);
    let asked = format!("http://{host}").parse::<Uri>();
    if asked.is_ok_and(|asked| Matcher::builder().all("http://proxy").no(without).build().intercept(&asked).is_none()) {
        return Ok(None);
    }
    parse(variable, &text).map(Some)
}

/// `NO_PROXY` in the form that the matcher reads. Programs differ in what it may contain: a name with a dot at its end,
/// an address in brackets, `*.name` for `.name`, and a port, which must then be the requested one.
fn usual_spelling(without: &str, asked: Option<u16>) -> String {
    let entry = |entry: &str| {
        let entry = entry.trim();
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.parse().ok()?)),
            Some(_) | None => (entry, None),
        };
        let host = host.trim_matches(['[', ']']);
        let host = if host.len() > 1 { host.trim_start_matches('*') } else { host };
        let host = host.strip_suffix('.').unwrap_or(host);
        (port.is_none() || port == asked).then(|| host.to_owned())
    };
    without.split(',').filter_map(entry).collect::<Vec<_>>().join(",")
}

fn parse(variable: &str, text: &str) -> Result<Proxy, ProxyProblem> {
    let fail = |why: &str| ProxyProblem { variable: variable.to_owned(), why: why.to_owned() };
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&whole).map_err(|_| fail("it is not an address: write `scheme://host:port`"))?;
    let (kind, port) = match url.scheme() {
        "http" => (ProxyKind::Http { secure: false }, 80),
        "https" => (ProxyKind::Http { secure: true }, 443),
        "socks5" => (ProxyKind::Socks5 { names: false }, 1080),
        "socks5h" => (ProxyKind::Socks5 { names: true }, 1080),
        "socks4" => (ProxyKind::Socks4 { names: false }, 1080),
        "socks4a" => (ProxyKind::Socks4 { names: true }, 1080),
        _ => {
            return Err(fail(
                "its scheme is not known: use `http`, `https`, `socks5`, `socks5h`, `socks4` or `socks4a`",
            ));
        }
    };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| fail("it names no host"))?;
    let plain = |text: &str| percent_decoded(text).ok_or_else(|| fail("its user or password is not text"));
    let auth = match (url.username(), url.password()) {
        ("", None) => None,
        (user, password) => Some((plain(user)?, plain(password.unwrap_or_default())?)),
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    Ok(Proxy { variable: variable.to_owned(), kind, host, port: url.port().unwrap_or(port), auth })
}

/// Decodes `%41` to `A`.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

impl Proxy {
    /// Whether the connection to it uses TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.kind == (ProxyKind::Http { secure: true })
    }

    /// A description: the variable and the address.
    pub(super) fn describe(&self) -> String {
        format!("the proxy of `{}` ({}:{})", self.variable, self.host, self.port)
    }

    /// Whether the proxy resolves names itself.
    pub(super) fn looks_names_up(&self) -> bool {
        match self.kind {
            ProxyKind::Http { .. } => true,
            ProxyKind::Socks5 { names } | ProxyKind::Socks4 { names } => names,
        }
    }

    /// The `Proxy-Authorization` for it.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        use base64::Engine as _;
        let (user, password) = self.auth.as_ref()?;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let mut value = HeaderValue::from_str(&format!("Basic {text}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Opens a tunnel to this host, over an open connection to the proxy.
    pub(super) async fn through(
        &self,
        io: Box<dyn Transport>,
        host: &str,
        port: u16,
    ) -> io::Result<Box<dyn Transport>> {
        let bracketed =
            if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) { format!("[{host}]") } else { host.to_owned() };
        let uri = |text: String| text.parse::<Uri>().map_err(|_| io::Error::other("its address cannot be used"));
        let to = uri(format!("http://{bracketed}:{port}"))?;
        let proxy = uri(format!("http://{}:{}", self.host_in_uri(), self.port))?;
        let ready = AlreadyOpen(Some(TokioIo::new(io)));
        let opened = match self.kind {
            ProxyKind::Http { .. } => {
                let mut tunnel = Tunnel::new(proxy, ready);
                if let Some(auth) = self.authorization() {
                    tunnel = tunnel.with_auth(auth);
                }
                tunnel.call(to).await.map_err(|error| error.to_string())
            }
            ProxyKind::Socks5 { .. } => {
                let mut socks = SocksV5::new(proxy, ready);
                if let Some((user, password)) = &self.auth {
                    socks = socks.with_auth(user.clone(), password.clone());
                }
                socks.call(to).await.map_err(|error| error.to_string())
            }
            ProxyKind::Socks4 { .. } => SocksV4::new(proxy, ready).call(to).await.map_err(|error| error.to_string()),
        };
        opened.map(TokioIo::into_inner).map_err(io::Error::other)
    }

    fn host_in_uri(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

/// A connector that returns an existing connection.
struct AlreadyOpen(Option<TokioIo<Box<dyn Transport>>>);

impl Service<Uri> for AlreadyOpen {
    type Response = TokioIo<Box<dyn Transport>>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::Error::other("the connection was used")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str, env: &[(&str, &str)]) -> Result<Option<Proxy>, ProxyProblem> {
        let env: std::collections::HashMap<_, _> = env.iter().copied().collect();
        proxy_for(&url.parse().unwrap(), |name| env.get(name).map(|text| (*text).to_owned()))
    }

    fn variable(url: &str, env: &[(&str, &str)]) -> Option<String> {
        of(url, env).unwrap().map(|proxy| proxy.variable)
    }

    #[test]
    fn each_address_has_the_proxy_of_its_kind() {
        let env = [("HTTPS_PROXY", "http://a:1"), ("HTTP_PROXY", "b:2"), ("ALL_PROXY", "socks5h://c")];
        for (url, wanted) in [
            ("https://band.example/api/v1", "HTTPS_PROXY"),
            ("wss://band.example/socket", "HTTPS_PROXY"),
            ("http://band.example/", "HTTP_PROXY"),
            ("ws://band.example/", "HTTP_PROXY"),
        ] {
            assert_eq!(variable(url, &env).as_deref(), Some(wanted), "{url}");
            assert_eq!(variable(url, &env[2..]).as_deref(), Some("ALL_PROXY"), "{url}");
        }
        let both = [("HTTPS_PROXY", "a"), ("https_proxy", "b")];
        assert_eq!(variable("https://band.example", &both).as_deref(), Some("https_proxy"));
        let cgi = [("HTTP_PROXY", "a"), ("REQUEST_METHOD", "GET")];
        assert_eq!(variable("http://band.example", &cgi), None);
        assert_eq!(variable("https://band.example", &[("HTTPS_PROXY", " ")]), None);
    }

    #[test]
    fn no_proxy_and_this_machine_are_asked_directly() {
        for (url, without, direct) in [
            ("https://app.band.example", "band.example", true),
            ("https://app.band.example", ".band.example", true),
            ("https://band.example", "other.example, band.example", true),
            ("https://band.example", "*", true),
            ("https://10.1.2.3", "10.0.0.0/8", true),
            ("https://band.example", "and.example", false),
            ("https://band.example.", "band.example", true),
            ("https://app.band.example", "BAND.example.", true),
            ("https://app.band.example", "*.band.example", true),
            ("https://band.example", "band.example:443", true),
            ("https://band.example", "x:1,band.example:8443", false),
            ("https://[2001:db8::1]/", "[2001:DB8:0::1]", true),
            ("https://[2001:db8::1]:8443/", "[2001:db8::1]:8443", true),
            ("https://[2001:db8::1]/", "2001:db8::1", true),
            ("https://[2001:db8::1]/", "2001:db8::/32", true),
            ("https://[2001:db8::1]/", "2001:db8::2", false),
            ("http://localhost./", "", true),
            ("http://[::ffff:127.0.0.1]/", "", true),
            ("http://0.0.0.0:4400/", "", true),
            ("http://127.0.0.1:4400", "", true),
            ("http://127.8.8.8/", "", true),
            ("http://[::1]/", "", true),
            ("http://LOCALHOST/", "", true),
            ("ws://band.localhost/", "", true),
            ("https://localhost.evil.example/", "", false),
            ("http://10.0.0.1/", "", false),
        ] {
            let env = [("ALL_PROXY", "http://proxy:3128"), ("NO_PROXY", without)];
            assert_eq!(variable(url, &env).is_none(), direct, "{url} without {without}");
        }
    }

    #[test]
    fn only_a_scheme_that_is_not_known_is_refused_and_no_password_is_repeated() {
        for (text, kind, port) in [
            ("proxy:3128", ProxyKind::Http { secure: false }, 3128),
            ("http://proxy", ProxyKind::Http { secure: false }, 80),
            ("https://proxy", ProxyKind::Http { secure: true }, 443),
            ("socks5://proxy", ProxyKind::Socks5 { names: false }, 1080),
            ("socks5h://[::1]:9", ProxyKind::Socks5 { names: true }, 9),
            ("socks4a://proxy", ProxyKind::Socks4 { names: true }, 1080),
        ] {
            let proxy = of("https://band.example", &[("ALL_PROXY", text)]).unwrap().unwrap();
            assert_eq!((proxy.kind, proxy.port), (kind, port), "{text}");
        }
        for text in ["ftp://me:secret@proxy", "http://", "http://me:%zzsecret@proxy", "socks5://a b secret"] {
            let problem = of("https://band.example", &[("ALL_PROXY", text)]).unwrap_err().to_string();
            assert!(problem.contains("`ALL_PROXY`") && !problem.contains("secret"), "{problem}");
        }
        let proxy = of("https://band.example", &[("HTTPS_PROXY", "http://me:s%40cret@proxy")]).unwrap().unwrap();
        assert_eq!(proxy.authorization().unwrap().to_str().unwrap(), "Basic bWU6c0BjcmV0");
        assert!(!format!("{proxy:?}").contains("cret"));
    }
}
