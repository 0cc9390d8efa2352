//! How the platform is reached, for REST and the socket alike: names, addresses, proxies, TLS, and the brake.

mod dial;
mod proxy;
mod wire;

use std::sync::Arc;

use url::Url;

pub(super) use self::dial::DialFailure;
pub(crate) use self::dial::Route;
use self::dial::{Names, Suspects};
pub(crate) use self::proxy::ProxyProblem;
pub(crate) use self::wire::ByteStream;
use super::limiter::Limiters;
use super::tls::{Tls, TlsError};
use crate::config::settings::Platform;

/// What all ways to the platform share; clones share it too.
#[derive(Debug, Clone)]
pub struct Net {
    tls: Option<Arc<Tls>>,
    names: Names,
    suspects: Suspects,
    limiters: Limiters,
}

/// Why the platform cannot be reached at all.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The address.
    #[error("`{url}` cannot be used: {why}")]
    Address {
        /// Which.
        url: String,
        /// Why.
        why: String,
    },
    /// A proxy that the environment names.
    #[error(transparent)]
    Proxy(#[from] ProxyProblem),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Net {
    /// Reads certificates only if TLS is spoken. Blocks on the file system.
    pub fn new(platform: &Platform) -> Result<Self, NetError> {
        let mut needs_tls = platform.needs_tls();
        for url in [&platform.rest, &platform.socket] {
            needs_tls |= proxy::proxy_for(url, variable)?.is_some_and(|proxy| proxy.is_secure());
        }
        let tls = match needs_tls {
            true => Some(Arc::new(Tls::new(platform.ca_file.clone())?)),
            false => None,
        };
        let (names, suspects) = (Names::default(), Suspects::default());
        Ok(Self { tls, names, suspects, limiters: Limiters::new(platform.calls_per_second_max) })
    }

    /// The route to this address. `http` is whether plain HTTP is used there, rather than a WebSocket.
    pub fn route(&self, url: &Url, http: bool) -> Result<Route, NetError> {
        Route::new(self, url, http, variable)
    }

    /// At most this many connections, `me` calls and pages begin per second from now on.
    pub(crate) fn limit_calls(&self, calls_per_second_max: u32) {
        self.limiters.at_most(calls_per_second_max);
    }

    /// The brakes, by host.
    pub(crate) fn limiters(&self) -> &Limiters {
        &self.limiters
    }

    /// Reads the certificate authority's file again for the next connection, whether it looks changed or not.
    pub(crate) fn renew_tls(&self) {
        if let Some(tls) = &self.tls {
            tls.forget();
        }
    }
}

/// A variable of this process, as text. One that is not UTF-8 counts as set, but not as a valid address.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}
