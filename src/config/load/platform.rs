//! `[platform]`: addresses, and what the socket is told.

use url::Url;

use super::Loading;
use super::layers::Layer;
use crate::config::keys;
use crate::config::settings::{CredentialsMode, Platform};
use crate::diagnostics::Severity;

const DEFAULT_URL: &str = "https://app.band.ai";

impl Loading<'_> {
    pub(super) fn platform(&mut self) -> Option<Platform> {
        let url = self.scalar("platform.url", None, DEFAULT_URL);
        let sound = self.parsed("platform.url", &url, address(["https", "http"])).is_some();
        let base = if sound { origin(&url.value) } else { DEFAULT_URL.to_owned() };
        // The SDK's addresses count where nobody named a platform: else REST would go to another one, with the key.
        let sdk = |name| matches!(url.layer, Layer::Default).then_some(name);
        let rest = self.scalar("platform.rest_url", sdk("BAND_REST_URL"), &format!("{base}/api/v1"));
        let socket = base.replacen("http", "ws", 1) + "/api/v1/socket/websocket";
        let socket = self.scalar("platform.socket_url", sdk("BAND_WS_URL"), &socket);
        // What follows from another value is nobody's default.
        for (key, place) in [("platform.rest_url", &rest.layer), ("platform.socket_url", &socket.layer)] {
            if let (Layer::Default, Some(told)) = (place, self.origins.iter_mut().find(|(told, ..)| told == key)) {
                "from `platform.url`".clone_into(&mut told.2);
            }
        }
        let rest_url = self.parsed("platform.rest_url", &rest, |text| {
            address(["https", "http"])(text)?;
            address(["https", "http"])(&format!("{}/api/v1", origin(text)))
        });
        let socket_url = self.parsed("platform.socket_url", &socket, address(["wss", "ws"]));
        let credentials = self.scalar("platform.credentials", None, "auto");
        let credentials = self.word("platform.credentials", &credentials, keys::CREDENTIALS);
        let ca_file = self.scalar("platform.ca_file", None, "");
        let ca_file = (!ca_file.value.is_empty()).then(|| self.resolve(&ca_file.value));
        let (rest_url, socket_url) = (rest_url?, socket_url?);
        for (part, place) in [(&rest_url, &rest.layer), (&socket_url, &socket.layer)] {
            if matches!(part.scheme(), "http" | "ws") && !loopback(part) {
                // Both usually follow from `url`.
                let place = if matches!(place, Layer::Default) { &url.layer } else { place };
                let message = "the platform is spoken to without TLS: the key can be read on the way";
                let problem = match place {
                    Layer::File(span) => self.problems.warning(span, message),
                    _ => self.problems.plain(Severity::Warning, message),
                };
                problem.help("use `https://` and `wss://`");
            }
        }
        let credentials = match credentials? {
            "header" => CredentialsMode::Header,
            "query" => CredentialsMode::Query,
            _ => CredentialsMode::Auto,
        };
        Some(Platform { rest: rest_url, socket: socket_url, ca_file, credentials })
    }
}

/// Without what the loader adds itself.
fn origin(text: &str) -> String {
    text.trim_end_matches('/').trim_end_matches("/api/v1").to_owned()
}

fn loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

fn address(schemes: [&'static str; 2]) -> impl Fn(&str) -> Result<Url, String> {
    move |text| {
        let wanted = || format!("expected an address that begins with `{}://`", schemes[0]);
        let url = Url::parse(text).map_err(|_| wanted())?;
        if !schemes.contains(&url.scheme()) || url.host_str().is_none() {
            return Err(wanted());
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err("expected an address without a user, a password, a query or a fragment".to_owned());
        }
        Ok(url)
    }
}
