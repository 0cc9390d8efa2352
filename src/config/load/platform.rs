//! `[platform]`: its addresses, and how the socket is opened.

use http::{HeaderName, HeaderValue};
use url::Url;

use super::Loading;
use super::layers::{Layer, Layered};
use crate::config::keys;
use crate::config::settings::{CredentialsMode, Platform, loopback};
use crate::diagnostics::Severity;

const DEFAULT_URL: &str = "https://app.band.ai";
/// Looks like a browser, since some CDNs refuse clients with a short `User-Agent` \[docs\].
const USER_AGENT: &str = concat!("Mozilla/5.0 (compatible; doorman/", env!("CARGO_PKG_VERSION"), ")");
/// Headers that each request sets itself.
const OWN_HEADERS: [&str; 11] = [
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-api-key",
];

impl Loading<'_> {
    pub(super) fn platform(&mut self) -> Option<Platform> {
        let url = self.scalar("platform.url", None, DEFAULT_URL);
        let sound = self.parsed("platform.url", &url, address(["https", "http"])).is_some();
        let base = if sound { origin(&url.value) } else { DEFAULT_URL.to_owned() };
        // The SDK's addresses count only if no platform is configured: otherwise REST would go to another platform,
        // with the key.
        let sdk = |name| matches!(url.layer, Layer::Default).then_some(name);
        let rest = self.scalar("platform.rest_url", sdk("BAND_REST_URL"), &format!("{base}/api/v1"));
        let socket = base.replacen("http", "ws", 1) + "/api/v1/socket/websocket";
        let socket = self.scalar("platform.socket_url", sdk("BAND_WS_URL"), &socket);
        // The SDK's variables name both addresses or neither. If only one is set, the other is derived from it:
        // otherwise the key would be sent to two platforms.
        let (rest, socket) = match (&rest.layer, &socket.layer) {
            (Layer::Variable(name), Layer::Default) if name == "BAND_REST_URL" && Url::parse(&rest.value).is_ok() => {
                let value = origin(&rest.value).replacen("http", "ws", 1) + "/api/v1/socket/websocket";
                self.follows("platform.socket_url", &value, "from `BAND_REST_URL`");
                let socket = Layered { value, layer: rest.layer.clone() };
                (rest, socket)
            }
            (Layer::Default, Layer::Variable(name)) if name == "BAND_WS_URL" && Url::parse(&socket.value).is_ok() => {
                let value = socket_origin(&socket.value).replacen("ws", "http", 1) + "/api/v1";
                self.follows("platform.rest_url", &value, "from `BAND_WS_URL`");
                let rest = Layered { value, layer: socket.layer.clone() };
                (rest, socket)
            }
            _ => (rest, socket),
        };
        let socket = match &socket.layer {
            Layer::Variable(name) if name == "BAND_WS_URL" => {
                let value = socket_origin(&socket.value) + "/api/v1/socket/websocket";
                Layered { value: if has_path(&socket.value) { socket.value } else { value }, layer: socket.layer }
            }
            _ => socket,
        };
        // A derived value must not be reported as a default.
        for (key, place) in [("platform.rest_url", &rest.layer), ("platform.socket_url", &socket.layer)] {
            if let (Layer::Default, Some(origin_row)) = (place, self.origins.iter_mut().find(|(name, ..)| name == key))
            {
                "from `platform.url`".clone_into(&mut origin_row.2);
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
        let user_agent = self.scalar("platform.user_agent", None, USER_AGENT);
        let user_agent = self.parsed("platform.user_agent", &user_agent, |text| {
            HeaderValue::from_str(text).map_err(|_| "expected a line of visible ASCII".to_owned())
        });
        let headers = self.scalar("platform.headers", None, "");
        if let Some(origin_row) = self.origins.iter_mut().find(|(name, ..)| name == "platform.headers") {
            // Their values may be secrets.
            if !headers.value.is_empty() {
                "***".clone_into(&mut origin_row.1);
            }
        }
        let headers = self.headers(&headers);
        let calls_per_second_max = self.number("platform.calls_per_second_max", 200);
        let (rest_url, socket_url) = (rest_url?, socket_url?);
        for (part, place) in [(&rest_url, &rest.layer), (&socket_url, &socket.layer)] {
            if matches!(part.scheme(), "http" | "ws") && !loopback(part) {
                // Both are usually derived from `url`.
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
        Some(Platform {
            rest: rest_url,
            socket: socket_url,
            ca_file,
            credentials,
            user_agent: user_agent?,
            headers: headers?,
            calls_per_second_max: calls_per_second_max?,
        })
    }

    /// Records that this value is derived from another one.
    fn follows(&mut self, key: &str, value: &str, origin: &str) {
        if let Some(origin_row) = self.origins.iter_mut().find(|(name, ..)| name == key) {
            (origin_row.1, origin_row.2) = (value.to_owned(), origin.to_owned());
        }
    }

    /// `Name: value`, one a line. Problems are reported without the value, which may be a secret.
    fn headers(&mut self, layered: &Layered) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let mut headers = Vec::new();
        for line in layered.value.lines().filter(|line| !line.trim().is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let header = match (name.trim().parse::<HeaderName>(), HeaderValue::from_str(value.trim())) {
                (Ok(name), _)
                    if OWN_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("sec-websocket-") =>
                {
                    Err(format!("`{name}` is doorman's own"))
                }
                (Ok(name), Ok(mut value)) if !value.is_empty() => {
                    value.set_sensitive(true);
                    Ok((name, value))
                }
                (Ok(_) | Err(_), Ok(_) | Err(_)) => Err("expected `Name: value`".to_owned()),
            };
            match header {
                Ok(header) => headers.push(header),
                Err(why) => {
                    let hidden = Layered { value: "***".to_owned(), layer: layered.layer.clone() };
                    if let Layer::File(span) = &layered.layer {
                        self.problems.hide(span.clone());
                    }
                    self.refuse("platform.headers", &hidden, &why, None);
                    return None;
                }
            }
        }
        Some(headers)
    }
}

/// Whether an address has a path.
fn has_path(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| !matches!(url.path(), "" | "/"))
}

/// The usual spelling: scheme and host in lower case, without the default port of the scheme.
fn usual_spelling(text: &str) -> String {
    Url::parse(text).map_or_else(|_| text.to_owned(), String::from)
}

/// A socket's address without its usual path.
fn socket_origin(text: &str) -> String {
    usual_spelling(text)
        .trim_end_matches('/')
        .trim_end_matches("/websocket")
        .trim_end_matches("/socket")
        .trim_end_matches("/api/v1")
        .to_owned()
}

/// An address without the parts that the loader adds itself.
fn origin(text: &str) -> String {
    usual_spelling(text).trim_end_matches('/').trim_end_matches("/api/v1").to_owned()
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
