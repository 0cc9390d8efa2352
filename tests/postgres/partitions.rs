//! A doorman behind two links of its own, one to the database and one to the platform, which are cut: in a network namespace, which
//! needs root. The database is reached by TCP then, with TLS.

use std::process::Command;
use std::time::Duration;

use crate::doormen::{Doormen, RULES};
use crate::servers::{Place, Server, database_of};
use crate::watch::Watch;

/// Soon noticed on the side of the platform.
const TIMING: &str = "heartbeat = \"300ms\"\ndead_after = \"2s\"\njoin_timeout = \"3s\"\n";

/// A namespace and its two links. Everything is removed when it is dropped.
struct Net {
    name: String,
    /// The third octet of all addresses, which are of the range for benchmarks (RFC 2544).
    octet: u32,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

impl Net {
    fn make() -> Result<Self, String> {
        let net = Self { name: format!("dm{}", std::process::id()), octet: std::process::id() % 256 };
        let (name, octet) = (&net.name, net.octet);
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set dev lo up"))?;
        for (link, here, there) in [("d", 1, 2), ("p", 5, 6)] {
            ip(&format!("link add {name}{link} type veth peer name {link} netns {name}"))?;
            ip(&format!("addr add 198.18.{octet}.{here}/30 dev {name}{link}"))?;
            ip(&format!("link set dev {name}{link} up"))?;
            ip(&format!("-n {name} addr add 198.18.{octet}.{there}/30 dev {link}"))?;
            ip(&format!("-n {name} link set dev {link} up"))?;
        }
        Ok(net)
    }

    fn database(&self) -> String {
        format!("198.18.{}.1", self.octet)
    }

    fn platform(&self) -> String {
        format!("198.18.{}.5", self.octet)
    }

    /// The link `d` to the database, or `p` to the platform, is `up` or `down`: nothing says so to whoever waits for bytes.
    fn link(&self, link: &str, how: &str) {
        ip(&format!("link set dev {}{link} {how}", self.name)).unwrap();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for link in ["d", "p"] {
            let _ = ip(&format!("link del {}{link}", self.name));
        }
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// One is cut off from the database, from the platform, and from both, while everybody asks; each time it comes back.
pub async fn cut(place: &Place) {
    let net = match Net::make() {
        Ok(net) => net,
        Err(why) => return println!("partitions: this machine makes no network namespaces ({why}): not tried"),
    };
    let signed = rcgen::generate_simple_self_signed([net.database()]).unwrap();
    let server = Server::start_with(place, "linked", |server| {
        server.let_in("hostssl all all 198.18.0.0/15 trust");
        let certificate = server.file("server.crt", &signed.cert.pem());
        let key = server.file("server.key", &signed.signing_key.serialize_pem());
        format!(
            "listen_addresses = '{}'\nssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
            net.database(),
            certificate.display(),
            key.display()
        )
    })
    .await;
    let database = database_of(&[&server]);
    let doormen = Doormen::at([0, 0, 0, 0].into(), 3, &database).await;
    let (port, ca) = (doormen.port(), doormen.path("ca.pem"));
    std::fs::write(&ca, signed.cert.pem()).unwrap();
    let ledger = format!("url = \"postgresql://doorman@{}/doorman\"\nca_file = \"{}\"", net.database(), ca.display());
    doormen.files_to("a", &format!("{}:{port}", net.platform()), &ledger, RULES, TIMING);
    doormen.files_to("b", &format!("127.0.0.1:{port}"), &database.ledger, RULES, TIMING);
    let inside = ["ip", "netns", "exec", &net.name];
    let a = doormen.start_after(&inside, "a");
    doormen.have(&database, &["a"], &[3]).await;
    let watch = Watch::over(&doormen, &database);
    doormen.ask(3);
    doormen.all_decided_soon().await;

    // The platform is gone for one that has all agents: they stay its own, and are answered when it is back.
    net.link("p", "down");
    let b = doormen.start("b");
    doormen.ask(3);
    let away = |lines: &[serde_json::Value]| {
        let away: std::collections::HashSet<String> =
            lines.iter().filter(|line| line["state"] == "away").map(|line| line["agent"].to_string()).collect();
        away.len() == 3
    };
    a.until("all are away", away).await.unwrap();
    net.link("p", "up");
    doormen.all_decided_soon().await;
    doormen.judge(&database).await;

    // The database is gone, and then both: the other takes them all, and answers everybody.
    let mut b = Some(b);
    for (time, links) in [(1, &["d"][..]), (2, &["d", "p"])] {
        if time > 1 {
            // It has all of them again.
            if let Some(b) = b.take() {
                b.kill().await;
            }
            doormen.have(&database, &["a"], &[3]).await;
            b = Some(doormen.start("b"));
            server.until("both live", "SELECT count(*) = 2 FROM doorman.member WHERE state = 'up'").await;
        }
        doormen.ask(10);
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..60_000))).await;
        for link in links {
            net.link(link, "down");
        }
        doormen.ask(3);
        doormen.have(&database, &["b"], &[3]).await;
        doormen.all_decided_soon().await;
        for link in links {
            net.link(link, "up");
        }
        a.said("member_lost", time).await.unwrap();
        doormen.ask(3);
        doormen.all_decided_soon().await;
        doormen.judge(&database).await;
    }
    watch.held("partitions").await;
    a.stop().await.unwrap();
    if let Some(b) = b {
        b.stop().await.unwrap();
    }
    doormen.judge(&database).await;
}
