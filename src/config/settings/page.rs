//! `[page]`: where the page is served, and how it knows who a person is.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::HeaderName;
use url::Url;

/// `[page]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSettings {
    /// The Unix socket, if there is one.
    pub socket: Option<PathBuf>,
    /// The port, if there is one.
    pub listen: Option<SocketAddr>,
    /// Whether known people may answer requests.
    pub act: bool,
    /// How the page knows who a person is.
    pub identity: PageIdentity,
    /// The header in which a proxy names the person.
    pub proxy_user: HeaderName,
    /// The systemd credential with the proxy's secret.
    pub proxy_secret: Option<String>,
    /// The address of the page for browsers; without a path.
    pub url: Option<Url>,
}

/// `page.identity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PageIdentity {
    /// By the account at the other end of the Unix socket; over TCP the person is unknown.
    #[default]
    Peer,
    /// By the name that the proxy in front of the page sends.
    Proxy,
    /// By a login with a link of `doorman page login`.
    Token,
}

impl Default for PageSettings {
    fn default() -> Self {
        Self {
            socket: None,
            listen: None,
            act: false,
            identity: PageIdentity::Peer,
            proxy_user: HeaderName::from_static("remote-user"),
            proxy_secret: None,
            url: None,
        }
    }
}
