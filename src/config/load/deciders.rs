//! `[deciders.NAME]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use url::{Host, Url};

use super::Loading;
use super::notify::SECRETS;
use crate::config::raw::RawDecider;
use crate::config::settings::{DeciderAddress, DeciderSettings, loopback_ip};
use crate::document::{WithSpan, duration, shown};

/// The defaults of `timeout`, `in_flight` and `per_hour`.
const TIMEOUT: Duration = Duration::from_secs(20);
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
const IN_FLIGHT: u32 = 4;
const PER_HOUR: u32 = 200;

impl Loading<'_> {
    /// Checks all of them; problems are reported.
    pub(super) fn deciders(&mut self) -> Vec<DeciderSettings> {
        let raw = std::mem::take(&mut self.raw.deciders);
        raw.iter().filter_map(|one| self.decider(one)).collect()
    }

    fn decider(&mut self, raw: &RawDecider) -> Option<DeciderSettings> {
        let name = &raw.name;
        if !super::agents::is_name(&name.value) {
            self.problems
                .error(&name.span, format!("`{}` cannot be a decider's name", shown(&name.value)))
                .label("a name has a-z, 0-9 and `-`, at most 64 of them");
            return None;
        }
        let address = match (raw.table.get("url"), raw.table.get("unix")) {
            (Some(url), None) => self.tcp(url),
            (None, Some(socket)) => {
                let path = raw.table.get("path").map_or("/decide", |path| path.value.as_str());
                let fits = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
                if let (false, Some(path)) = (fits, raw.table.get("path")) {
                    self.problems.error(&path.span, "`path` is not a path of a URL").label("expected `/…`");
                }
                fits.then(|| DeciderAddress::Unix { socket: self.resolve(&socket.value), path: path.to_owned() })
            }
            (Some(_), Some(second)) => {
                self.problems.error(&second.span, "a decider has either `url` or `unix`").label("both are here");
                None
            }
            (None, None) => {
                self.problems
                    .error(&name.span, format!("the decider `{}` has no place", name.value))
                    .label("neither `url` nor `unix`")
                    .help("write `url = \"http://127.0.0.1:9700/decide\"`, or `unix = \"/run/NAME.sock\"`");
                None
            }
        };
        if let (Some(path), Some(_)) = (raw.table.get("path"), raw.table.get("url")) {
            self.problems.error(&path.span, "`path` is for a decider with `unix`").help("write it into `url`");
        }
        let timeout = match raw.table.get("timeout").map(|at| (duration(&at.value), at)) {
            None => TIMEOUT,
            Some((Ok(length), at)) => match Duration::try_from(length) {
                Ok(length) if length <= TIMEOUT_MAX => length,
                _ => {
                    self.problems.error(&at.span, "`timeout` is too long").label("expected at most `5m`");
                    return None;
                }
            },
            Some((Err(_), _)) => return None,
        };
        let number = |key: &str, default: u32| raw.table.get(key).map_or(Some(default), |at| at.value.parse().ok());
        let (in_flight, per_hour) = (number("in_flight", IN_FLIGHT)?, number("per_hour", PER_HOUR)?);
        let secret = self.source(&raw.table, &SECRETS)?;
        Some(DeciderSettings { name: name.value.clone(), address: address?, timeout, in_flight, per_hour, secret })
    }

    /// `http://` on loopback only: strangers' text must not leave the machine, and no other machine may answer.
    fn tcp(&mut self, url: &WithSpan<String>) -> Option<DeciderAddress> {
        let parsed = Url::parse(&url.value).ok().filter(|url| url.scheme() == "http" && url.username().is_empty());
        let address = parsed.as_ref().and_then(|url| {
            let ip = match url.host()? {
                Host::Domain("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
                Host::Domain(_) => return None,
                Host::Ipv4(ip) => IpAddr::V4(ip),
                Host::Ipv6(ip) => IpAddr::V6(ip),
            };
            loopback_ip(ip).then(|| SocketAddr::new(ip, url.port_or_known_default().unwrap_or(80)))
        });
        let (Some(parsed), Some(address)) = (parsed, address) else {
            self.problems
                .error(&url.span, format!("`{}` is not the URL of a decider", shown(&url.value)))
                .label("expected `http://` and an address of this machine, such as `http://127.0.0.1:9700/decide`")
                .help("a decider elsewhere needs a program here that asks it: `contrib/deciders/` has one");
            return None;
        };
        let query = parsed.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(DeciderAddress::Tcp { address, path: format!("{}{query}", parsed.path()) })
    }
}
