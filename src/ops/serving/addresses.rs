//! Where the page is served, or why it is not served there. `page login` needs this: it must not send a person with a
//! secret to a port that another process holds.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use url::Url;

use super::locked;

/// The address at which a browser reaches, through `ssh -L`, a page that has only a socket.
const FORWARDED: &str = "http://localhost:8480";

/// The state of the page at each of its places. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct PageState(Arc<Mutex<Vec<PageAddress>>>);

#[derive(Debug, Clone)]
struct PageAddress {
    name: String,
    kind: AddressKind,
    state: ServingState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AddressKind {
    Port,
    Socket,
}

#[derive(Debug, Clone)]
enum ServingState {
    Served(Option<SocketAddr>),
    Refused(String),
    NotYet,
}

/// One place, reported by the task that serves it.
#[derive(Debug, Clone)]
pub(super) struct ServingReporter {
    page: PageState,
    place: usize,
}

impl PageState {
    pub(super) fn port(&self, name: &str) -> ServingReporter {
        self.add(name, AddressKind::Port)
    }

    pub(super) fn socket(&self, name: &str) -> ServingReporter {
        self.add(name, AddressKind::Socket)
    }

    fn add(&self, name: &str, kind: AddressKind) -> ServingReporter {
        let mut places = locked(&self.0);
        places.push(PageAddress { name: name.to_owned(), kind, state: ServingState::NotYet });
        ServingReporter { page: self.clone(), place: places.len() - 1 }
    }

    /// Each place where the page is not served, and why.
    pub fn problems(&self) -> Vec<(String, String)> {
        let places = locked(&self.0);
        let refused = places.iter().filter_map(|place| match &place.state {
            ServingState::Refused(why) => Some((place.name.clone(), why.clone())),
            ServingState::Served(_) | ServingState::NotYet => None,
        });
        refused.collect()
    }

    /// The address of the page for browsers, without a slash at the end.
    ///
    /// # Errors
    /// The page is not served at that address.
    pub(super) fn base(&self, url: Option<&Url>) -> Result<String, String> {
        let places = locked(&self.0).clone();
        // Without a configured address, a browser on this machine uses the port, if there is one.
        let ports = url.is_none() && places.iter().any(|place| place.kind == AddressKind::Port);
        let mut asked = places.iter().filter(|place| !ports || place.kind == AddressKind::Port);
        let served = asked.clone().find_map(|place| match &place.state {
            ServingState::Served(at) => Some(*at),
            ServingState::Refused(_) | ServingState::NotYet => None,
        });
        match (served, url) {
            (Some(_), Some(url)) => Ok(url.as_str().trim_end_matches('/').to_owned()),
            (Some(at), None) => Ok(at.map_or_else(|| FORWARDED.to_owned(), address)),
            (None, _) => Err(asked
                .find_map(|place| match &place.state {
                    ServingState::Refused(why) => Some(format!("the page is not served at {}: {why}", place.name)),
                    ServingState::Served(_) | ServingState::NotYet => None,
                })
                .unwrap_or_else(|| "the page is not served yet: try again".to_owned())),
        }
    }
}

/// The page accepts the host name `localhost`, but not the numeric addresses of this machine's other interfaces.
fn address(at: SocketAddr) -> String {
    let own = match at.ip() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified(),
    };
    if own { format!("http://localhost:{}", at.port()) } else { format!("http://{at}") }
}

impl ServingReporter {
    /// Records that the page is served there; if it is a port, at this one.
    pub(super) fn served(&self, at: Option<SocketAddr>) {
        self.report(ServingState::Served(at));
    }

    /// Records that it is not served there, for this reason.
    pub(super) fn refused(&self, why: &str) {
        self.report(ServingState::Refused(why.to_owned()));
    }

    fn report(&self, state: ServingState) {
        if let Some(place) = locked(&self.page.0).get_mut(self.place) {
            place.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_where_the_page_is_and_to_nobody_elses_port() {
        let page = PageState::default();
        let url = Url::parse("https://doorman.example.org/").unwrap();
        assert!(page.base(None).unwrap_err().contains("not served yet"));
        let (port, socket) = (page.port("127.0.0.1:8480"), page.socket("/run/doorman/page.sock"));
        socket.served(None);
        assert!(page.base(None).unwrap_err().contains("not served yet"), "nobody has said who holds the port");
        port.refused("address in use");
        let why = page.base(None).unwrap_err();
        assert_eq!(why, "the page is not served at 127.0.0.1:8480: address in use");
        assert_eq!(page.problems(), [("127.0.0.1:8480".to_owned(), "address in use".to_owned())]);
        assert_eq!(page.base(Some(&url)).unwrap(), "https://doorman.example.org", "a proxy may use the socket");
        port.served(Some("127.0.0.1:9999".parse().unwrap()));
        assert_eq!(page.base(None).unwrap(), "http://localhost:9999");
        assert!(page.problems().is_empty());

        let page = PageState::default();
        let socket = page.socket("page.sock");
        socket.served(None);
        assert_eq!(page.base(None).unwrap(), FORWARDED);
        socket.refused("somebody else answers there");
        assert!(page.base(None).is_err() && page.base(Some(&url)).is_err());
    }
}
