//! The address by which a browser reaches the page, for the links that people are given.

use std::net::{IpAddr, SocketAddr};

use url::Url;

use crate::ops::serving::addresses::{AddressKind, ServiceAddresses, ServingState};

/// The address at which a browser reaches, through `ssh -L`, a page that has only a socket.
const FORWARDED: &str = "http://localhost:8480";

/// The address of the page for browsers, without a slash at the end.
///
/// # Errors
/// The page is not served at that address.
pub(super) fn base(addresses: &ServiceAddresses, url: Option<&Url>) -> Result<String, String> {
    let all = addresses.all();
    // Without a configured address, a browser on this machine uses the port, if there is one.
    let ports = url.is_none() && all.iter().any(|address| address.kind == AddressKind::Port);
    let mut asked = all.iter().filter(|address| !ports || address.kind == AddressKind::Port);
    let served = asked.clone().find_map(|address| match &address.state {
        ServingState::Served(at) => Some(*at),
        ServingState::Refused(_) | ServingState::NotYet => None,
    });
    match (served, url) {
        (Some(_), Some(url)) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        (Some(at), None) => Ok(at.map_or_else(|| FORWARDED.to_owned(), of_port)),
        (None, _) => Err(asked
            .find_map(|address| match &address.state {
                ServingState::Refused(why) => Some(format!("the page is not served at {}: {why}", address.name)),
                ServingState::Served(_) | ServingState::NotYet => None,
            })
            .unwrap_or_else(|| "the page is not served yet: try again".to_owned())),
    }
}

/// The page accepts the host name `localhost`, but not the numeric addresses of this machine's other interfaces.
fn of_port(at: SocketAddr) -> String {
    let own = match at.ip() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified(),
    };
    if own { format!("http://localhost:{}", at.port()) } else { format!("http://{at}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_where_the_page_is_and_to_nobody_elses_port() {
        let page = ServiceAddresses::default();
        let url = Url::parse("https://doorman.example.org/").unwrap();
        assert!(base(&page, None).unwrap_err().contains("not served yet"));
        let port = page.add("127.0.0.1:8480", AddressKind::Port);
        let socket = page.add("/run/doorman/page.sock", AddressKind::Socket);
        socket.served(None);
        assert!(base(&page, None).unwrap_err().contains("not served yet"), "nobody has said who holds the port");
        port.refused("address in use");
        let why = base(&page, None).unwrap_err();
        assert_eq!(why, "the page is not served at 127.0.0.1:8480: address in use");
        assert_eq!(page.problems(), [("127.0.0.1:8480".to_owned(), "address in use".to_owned())]);
        assert_eq!(base(&page, Some(&url)).unwrap(), "https://doorman.example.org", "a proxy may use the socket");
        port.served(Some("127.0.0.1:9999".parse().unwrap()));
        assert_eq!(base(&page, None).unwrap(), "http://localhost:9999");
        assert!(page.problems().is_empty());

        let page = ServiceAddresses::default();
        let socket = page.add("page.sock", AddressKind::Socket);
        socket.served(None);
        assert_eq!(base(&page, None).unwrap(), FORWARDED);
        socket.refused("somebody else answers there");
        assert!(base(&page, None).is_err() && base(&page, Some(&url)).is_err());
    }
}
