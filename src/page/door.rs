//! Access control: the one check before every page. It checks by which host name the page was requested, whether a form
//! comes from the page itself, and who the person is. A person who is refused sees the reason; each reason is logged
//! once.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use subtle::ConstantTimeEq as _;
use tracing::{debug, warn};
use url::{Origin, Url};

use super::{RunningPage, locked, views};
use crate::config::settings::PageIdentity;
use crate::model::Person;
use crate::ops::control::wire::Claim;
use crate::ops::log::events;
use crate::ops::serving::Caller;

/// Host names of this machine itself, at any port: `ssh -L` uses a port of its own.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// The header with which a proxy proves who it is.
const PROXY_SECRET: HeaderName = HeaderName::from_static("x-doorman-proxy");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Everything that a browser may do with the page.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; \
                      base-uri 'none'";

/// The person who looks at the page.
#[derive(Debug, Clone, Default)]
pub(super) struct Visitor {
    /// The person's name; `None`: may only look.
    pub(super) name: Option<String>,
    /// Logged in by a link, so that they can log out.
    pub(super) by_link: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) status: StatusCode,
    /// One of a few fixed texts, so that each is logged once.
    pub(super) why: &'static str,
}

fn denied(status: StatusCode, why: &'static str) -> Denied {
    Denied { status, why }
}

/// Checks the request, and sets the headers of every reply.
pub(super) async fn guard(
    State(page): State<Arc<RunningPage>>,
    Extension(caller): Extension<Caller>,
    mut request: Request,
    next: Next,
) -> Response {
    let response = match checked(&page, caller, request.method(), request.uri(), request.headers()).await {
        Ok(visitor) => {
            request.extensions_mut().insert(visitor);
            next.run(request).await
        }
        Err(denied) => turned_away(&page, denied),
    };
    finished(&page, response).await
}

/// Logs the refusal, and shows the reason.
pub(super) fn turned_away(page: &RunningPage, denied: Denied) -> Response {
    let Denied { status, why } = denied;
    let first = {
        let mut refusals = locked(&page.refusals);
        let times = refusals.entry(why).or_default();
        *times += 1;
        *times == 1
    };
    if first {
        warn!(event = events::PAGE_DENIED, why, "somebody was turned away at the page");
    } else {
        debug!(event = events::PAGE_DENIED, why, "somebody was turned away at the page");
    }
    match status {
        StatusCode::UNAUTHORIZED => views::outside(status, "Log in", why),
        StatusCode::GONE => views::outside(status, "Not good any more", why),
        StatusCode::MISDIRECTED_REQUEST => views::outside(status, "Another address", why),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => views::outside(status, "Not now", why),
        StatusCode::FORBIDDEN => views::plain(status, "Not allowed", why),
        _ => views::plain(status, "Not taken", why),
    }
}

async fn checked(
    page: &RunningPage,
    caller: Caller,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Visitor, Denied> {
    if ![Method::GET, Method::HEAD, Method::POST].contains(method) {
        return Err(denied(
            StatusCode::METHOD_NOT_ALLOWED,
            "the page is read with GET and its forms are sent with POST",
        ));
    }
    let host = host(headers, uri)?;
    let own = page.settings.url.as_ref();
    if !knows(host, own) {
        let why = "the page does not answer to this name: `url` in `[page]` says by which name browsers find it";
        return Err(denied(StatusCode::MISDIRECTED_REQUEST, why));
    }
    if method == Method::POST {
        from_ourselves(headers, host, own)?;
    }
    let path = uri.path();
    if path.starts_with("/assets/") || path.starts_with("/login/") {
        return Ok(Visitor::default());
    }
    let found = visitor(page, caller, headers).await;
    if path.starts_with("/r/") {
        // A person with a link from a message need not be known by name. A request that does not come through the proxy
        // is refused all the same.
        return match (found, page.settings.identity, caller) {
            (Err(denied), PageIdentity::Proxy, Caller::Port) if believed(page, headers).is_err() => Err(denied),
            (found, _, _) => Ok(found.unwrap_or_default()),
        };
    }
    found
}

/// The host name by which the page was requested; there must be exactly one.
fn host<'a>(headers: &'a HeaderMap, uri: &Uri) -> Result<&'a str, Denied> {
    let mut named = headers.get_all(header::HOST).iter();
    let bad = denied(StatusCode::BAD_REQUEST, "a request names the host once, in its `Host` header");
    let (Some(host), None, None) = (named.next(), named.next(), uri.host()) else { return Err(bad) };
    host.to_str().map_err(|_| bad)
}

fn knows(host: &str, own: Option<&Url>) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    OWN_NAMES.iter().any(|own| name.eq_ignore_ascii_case(own)) || own.is_some_and(|own| names(host, own))
}

/// Whether this is the name in `url`.
fn names(host: &str, own: &Url) -> bool {
    Url::parse(&format!("{}://{host}", own.scheme())).is_ok_and(|url| same(&url, own))
}

fn same(one: &Url, other: &Url) -> bool {
    matches!(one.origin(), Origin::Tuple(..)) && one.origin() == other.origin()
}

/// Whether a form comes from the page itself. Browsers state the origin; a request without an origin is refused.
fn from_ourselves(headers: &HeaderMap, host: &str, own: Option<&Url>) -> Result<(), Denied> {
    let elsewhere = denied(StatusCode::FORBIDDEN, "this form was not sent from the page itself, so nothing was done");
    let only = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        (values.next(), values.next().is_some())
    };
    let (origin, origins) = only(header::ORIGIN);
    let (site, sites) = only(FETCH_SITE);
    if origins || sites || (origin.is_none() && site.is_none()) {
        return Err(elsewhere);
    }
    if site.is_some_and(|site| site != "same-origin") {
        return Err(elsewhere);
    }
    if let Some(origin) = origin {
        let origin = origin.to_str().ok().and_then(|text| Url::parse(text).ok()).ok_or(elsewhere)?;
        let here = Url::parse(&format!("http://{host}")).map_err(|_| elsewhere)?;
        // Behind a proxy the browser uses `https`, although this connection does not.
        let behind = own.filter(|own| names(host, own));
        if !(same(&origin, &here) || behind.is_some_and(|own| same(&origin, own))) {
            return Err(elsewhere);
        }
    }
    let of_form = |kind: &HeaderValue| {
        let kind = kind.to_str().unwrap_or_default();
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
    };
    match headers.get(header::CONTENT_TYPE) {
        Some(kind) if of_form(kind) => Ok(()),
        _ => Err(denied(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a form is sent as `application/x-www-form-urlencoded`")),
    }
}

/// Who it is, by the one way that the settings name.
async fn visitor(page: &RunningPage, caller: Caller, headers: &HeaderMap) -> Result<Visitor, Denied> {
    match page.settings.identity {
        PageIdentity::Peer => match caller {
            Caller::Port => Ok(Visitor::default()),
            Caller::Socket(peer) => {
                // This reads files.
                let person = tokio::task::spawn_blocking(move || peer.person(&Claim::default())).await;
                Ok(Visitor { name: person.ok().map(|person| person.name().to_owned()), by_link: false })
            }
        },
        PageIdentity::Proxy => {
            if matches!(caller, Caller::Port) {
                believed(page, headers)?;
            }
            let mut named = headers.get_all(&page.settings.proxy_user).iter();
            let name = match (named.next(), named.next()) {
                (Some(name), None) => name.to_str().ok().filter(|name| Person::may_be_claimed(name)),
                _ => None,
            };
            match name {
                Some(name) => Ok(Visitor { name: Some(name.to_owned()), by_link: false }),
                None => Err(denied(StatusCode::FORBIDDEN, "the proxy in front of the page does not say who you are")),
            }
        }
        PageIdentity::Token => match cookie(headers, cookie_name(page)).and_then(|secret| page.logins.who(secret)) {
            Some(name) => Ok(Visitor { name: Some(name), by_link: true }),
            None => {
                let why = "you are not logged in: ask for a link, which `doorman page login NAME` makes";
                Err(denied(StatusCode::UNAUTHORIZED, why))
            }
        },
    }
}

/// A header counts only if the proxy sends its secret.
fn believed(page: &RunningPage, headers: &HeaderMap) -> Result<(), Denied> {
    let forged = denied(StatusCode::FORBIDDEN, "this did not come through the proxy, so it is not believed");
    let mut said = headers.get_all(PROXY_SECRET).iter();
    let (Some(said), None, Some(secret)) = (said.next(), said.next(), &page.proxy_secret) else { return Err(forged) };
    if bool::from(said.as_bytes().ct_eq(secret.expose().as_bytes())) { Ok(()) } else { Err(forged) }
}

/// The cookie's name. If browsers use https, only this host can set a cookie of this name.
pub(super) fn cookie_name(page: &RunningPage) -> &'static str {
    let https = page.settings.url.as_ref().is_some_and(|url| url.scheme() == "https");
    if https { "__Host-doorman" } else { "doorman-page" }
}

/// The one value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name);
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

/// Removes keys from every reply, and sets the same headers on each.
async fn finished(page: &Arc<RunningPage>, response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let of_page = page.clone();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let scrubbed = tokio::task::spawn_blocking(move || match String::from_utf8(bytes.to_vec()) {
        Ok(text) => of_page.redact.scrub(&text).into_owned().into_bytes(),
        Err(error) => error.into_bytes(),
    });
    let Ok(bytes) = scrubbed.await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    head.headers.remove(header::CONTENT_LENGTH);
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Without an origin a form could not be distinguished from a form of another site.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        head.headers.insert(name, HeaderValue::from_static(value));
    }
    head.headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    Response::from_parts(head, Body::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_are_answered_to() {
        let own = Url::parse("https://doorman.example.org").unwrap();
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8480",
            "[::1]:8480",
            "doorman.example.org",
            "Doorman.Example.org:443",
        ] {
            assert!(knows(host, Some(&own)), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "doorman.example.org:8443",
            "localhost:80@evil",
            "doorman.example.org.",
            "127.0.0.2",
            "a@doorman.example.org:x",
        ] {
            assert!(!knows(host, Some(&own)), "{host}");
        }
        assert!(!knows("doorman.example.org", None));
    }

    #[test]
    fn a_form_from_elsewhere_is_not_taken() {
        let own = Url::parse("https://doorman.example.org").unwrap();
        let check = |host: &str, pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            from_ourselves(&headers, host, Some(&own)).is_ok()
        };
        for (host, pairs) in [
            ("localhost:8080", &[("origin", "http://localhost:8080")][..]),
            ("localhost:8080", &[("sec-fetch-site", "same-origin")]),
            ("doorman.example.org", &[("origin", "https://doorman.example.org"), ("sec-fetch-site", "same-origin")]),
        ] {
            assert!(check(host, pairs), "{pairs:?}");
        }
        for pairs in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "http://localhost:9090")],
            &[("origin", "http://evil.example")],
            &[("origin", "https://doorman.example.org")],
            &[("origin", "http://localhost:8080"), ("origin", "http://evil.example")],
            &[("origin", "http://localhost:8080"), ("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://localhost:8080"), ("content-type", "text/plain")],
        ] {
            let mut pairs = pairs.to_vec();
            if pairs.iter().any(|(name, _)| *name == "content-type") {
                pairs.rotate_right(1);
                let mut headers = HeaderMap::new();
                for (name, value) in &pairs {
                    headers.append(*name, HeaderValue::from_static(value));
                }
                assert!(from_ourselves(&headers, "localhost:8080", Some(&own)).is_err());
            } else {
                assert!(!check("localhost:8080", &pairs), "{pairs:?}");
            }
        }
    }
}
