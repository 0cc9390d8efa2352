//! The daemon that the bench runs: its files, its certificate, and its resource use according to the kernel.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;

use crate::common;

/// The id of the agent with this index.
pub fn id(agent: usize) -> String {
    format!("a0000000-0000-4000-8000-{agent:012}")
}

/// A certificate of a CA of our own, and the CA as PEM.
pub fn certificate() -> (Arc<rustls::ServerConfig>, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (server.into(), pem)
}

/// The daemon's files; the key of the first agent is wrong if `refused`.
pub fn configure(dir: &Path, url: &str, agents: usize, refused: bool) {
    std::fs::create_dir_all(dir).unwrap();
    let rules = "version = 1\n[rules.friends]\nthen = \"approve\"\nwhen = { handle = \"friends/*\" }\n";
    std::fs::write(dir.join("rules.toml"), rules).unwrap();
    let mut text = format!("[platform]\nurl = \"{url}\"\n");
    if url.starts_with("https") {
        text.push_str("ca_file = \"../ca.pem\"\n");
    }
    text.push_str("[ledger]\npath = \"ledger.db\"\n[control]\npath = \"doorman.sock\"\n[log]\nlevel = \"warn\"\n");
    for agent in 0..agents {
        let key = if refused && agent == 0 { "wrong-key".to_owned() } else { format!("key-of-agent-{agent}") };
        std::fs::write(dir.join(format!("{agent}.key")), key).unwrap();
        let _ = write!(
            text,
            "[[agents]]\nid = \"{}\"\napi_key_file = \"{agent}.key\"\nrules = \"rules.toml\"\n",
            id(agent)
        );
    }
    std::fs::write(dir.join("doorman.toml"), text).unwrap();
}

/// Starts the real binary with these files.
pub fn start(dir: &Path) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    common::doorman(dir).arg("run").stderr(log).spawn().unwrap()
}

/// A process's resource use according to the kernel.
pub struct Usage {
    /// Resident memory.
    pub rss_kib: f64,
    /// CPU time of all its threads so far.
    pub cpu: Duration,
    /// Open files and sockets.
    pub descriptors: usize,
    /// Threads of the kernel.
    pub threads: u64,
}

/// The present resource use of this process.
pub fn usage(child: &Child) -> Usage {
    let pid = child.id().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // Fields 14 and 15, in hundredths of a second.
    let ticks: u64 = after[11].parse::<u64>().unwrap() + after[12].parse::<u64>().unwrap();
    Usage {
        rss_kib: field("VmRSS:") as f64,
        cpu: Duration::from_millis(ticks * 10),
        descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        threads: field("Threads:"),
    }
}
