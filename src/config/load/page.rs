//! `[page]`.

use std::net::SocketAddr;
use std::path::Path;

use http::HeaderName;
use url::Url;

use super::Loading;
use crate::config::keys;
use crate::config::settings::{PageIdentity, PageSettings, SOCKET_PATH_BYTES_MAX, loopback, loopback_ip};

/// Headers that have another meaning, so that they can never name a person.
const NO_NAMES: [&str; 7] =
    ["host", "origin", "cookie", "x-doorman-proxy", "content-type", "content-length", "user-agent"];

impl Loading<'_> {
    /// Checks the table. Warns if nobody could act, or nobody could see the page.
    pub(super) fn page(&mut self, control: &Path) -> Option<PageSettings> {
        let socket = self.scalar("page.socket", None, "");
        let path = Some(self.resolve(&socket.value)).filter(|_| !socket.value.is_empty());
        if path.as_ref().is_some_and(|path| path.as_os_str().len() > SOCKET_PATH_BYTES_MAX) {
            let expected = format!("expected at most {SOCKET_PATH_BYTES_MAX} bytes, with its directory");
            self.refuse("page.socket", &socket, &expected, None);
        } else if path.as_deref() == Some(control) {
            self.refuse("page.socket", &socket, "expected another path than `control.path`", None);
        }
        let listen = self.scalar("page.listen", None, "");
        let address = match listen.value.as_str() {
            "" => None,
            _ => Some(self.parsed("page.listen", &listen, |text| {
                let expected =
                    || "expected an IP address and a port, such as `127.0.0.1:8480` or `[::1]:8480`".to_owned();
                text.parse::<SocketAddr>().map_err(|_| expected())
            })?),
        };
        let act = self.flag("page.act", false);
        let identity = self.scalar("page.identity", None, "peer");
        let word = self.word("page.identity", &identity, keys::PAGE_IDENTITIES);
        let proxy_user = self.scalar("page.proxy_user", None, "Remote-User");
        let proxy_user = self.parsed("page.proxy_user", &proxy_user, |text| {
            let name = HeaderName::from_bytes(text.as_bytes()).ok();
            name.filter(|name| !NO_NAMES.contains(&name.as_str()))
                .ok_or_else(|| "expected the name of a header, such as `Remote-User`".to_owned())
        });
        let proxy_secret = self.given("page.proxy_secret_credential");
        let url = self.scalar("page.url", None, "");
        let url = match url.value.as_str() {
            "" => None,
            _ => Some(self.parsed("page.url", &url, address_of_page)?),
        };
        let identity_is = match word? {
            "proxy" => PageIdentity::Proxy,
            "token" => PageIdentity::Token,
            _ => PageIdentity::Peer,
        };
        if identity_is == PageIdentity::Proxy && address.is_some() && proxy_secret.is_none() {
            let expected =
                "needs a secret that only the proxy knows, since anybody who reaches the port can send a header";
            let help = "name it with `proxy_secret_credential`, or give the proxy `socket` in place of `listen`";
            self.refuse("page.identity", &identity, expected, Some(help.to_owned()));
        }
        if act == Some(true) && identity_is == PageIdentity::Peer && address.is_some() && path.is_none() {
            let message = "over a port nobody is known by `identity = \"peer\"`, so nobody can act there";
            self.warn("page.listen", &listen, message, "use `socket`, or `identity = \"token\"` or `\"proxy\"`");
        }
        let remote = address.is_some_and(|address| !loopback_ip(address.ip()));
        if remote && identity_is == PageIdentity::Peer {
            let message = "`page.listen` is an address that other machines may reach, and whoever does reads who asked and what they wrote";
            self.warn(
                "page.listen",
                &listen,
                message,
                "listen on `127.0.0.1`, or use `identity = \"token\"` or `\"proxy\"`",
            );
        } else if remote && url.as_ref().is_none_or(loopback) {
            let message = "the page answers only to the names that it knows, and other machines have none for it";
            self.warn("page.listen", &listen, message, "name the address that browsers use with `url`");
        }
        Some(PageSettings {
            socket: path,
            listen: address,
            act: act?,
            identity: identity_is,
            proxy_user: proxy_user?,
            proxy_secret,
            url,
        })
    }
}

fn address_of_page(text: &str) -> Result<Url, String> {
    let expected = || "expected an address without a path, such as `https://doorman.example.org`".to_owned();
    let url = Url::parse(text).map_err(|_| expected())?;
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    let sound = matches!(url.scheme(), "https" | "http") && url.host_str().is_some() && url.password().is_none();
    if plain && sound { Ok(url) } else { Err(expected()) }
}
