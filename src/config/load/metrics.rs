//! `[metrics]`.

use std::net::SocketAddr;

use super::Loading;
use crate::config::keys;
use crate::config::settings::{MetricsSettings, PerAgent, loopback_ip};

impl Loading<'_> {
    /// Checks the table. An address that other machines can reach gives a warning, since the page names agents and
    /// rules.
    pub(super) fn metrics(&mut self) -> Option<MetricsSettings> {
        let allow_remote = self.flag("metrics.allow_remote", false);
        let per_agent = self.scalar("metrics.per_agent", None, "auto");
        let per_agent = self.word("metrics.per_agent", &per_agent, keys::PER_AGENT);
        let listen = self.scalar("metrics.listen", None, "");
        let address = match listen.value.as_str() {
            "" => None,
            text => match text.parse::<SocketAddr>() {
                Ok(address) => Some(address),
                Err(_) => {
                    let near = text.replace("localhost", "127.0.0.1");
                    let near = near.parse::<SocketAddr>().ok().map(|address| format!("did you mean `{address}`?"));
                    let expected = "expected an IP address and a port, such as `127.0.0.1:9464` or `[::1]:9464`";
                    self.refuse("metrics.listen", &listen, expected, near);
                    return None;
                }
            },
        };
        let remote = address.is_some_and(|address| !loopback_ip(address.ip()));
        if remote && allow_remote == Some(false) {
            let message = "`metrics.listen` is an address that other machines may reach, and whoever does reads the ids of agents \
                           and the names of rules";
            let help = "listen on `127.0.0.1`, or write `allow_remote = true` if a firewall stands in front";
            self.warn("metrics.listen", &listen, message, help);
        }
        Some(MetricsSettings { listen: address, per_agent: per_agent_of(per_agent?) })
    }
}

fn per_agent_of(word: &str) -> PerAgent {
    match word {
        "always" => PerAgent::Always,
        "never" => PerAgent::Never,
        _ => PerAgent::Auto,
    }
}
