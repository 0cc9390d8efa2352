//! The real daemon over real `wss://` and `https://`: which certificates it trusts, what it says about the others, and
//! connections through a proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use doorman::sandbox::{NewRequest, Sandbox, SandboxOptions, SandboxStatus, World};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{AGENT, Doorman, KEY, Site, quoted};

/// A certificate authority that no other program knows.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for these names, and its key.
    fn signs(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2124, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// TLS settings of a server with such a certificate.
    pub fn server(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let (certificate, key) = self.signs(names, change);
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        Arc::new(config)
    }
}

pub async fn platform(tls: Arc<ServerConfig>) -> Sandbox {
    let world = World::new().user("u", "ku", "hotel", "Hotel").agent(AGENT, KEY, "hotel/porter", "Porter");
    let options = SandboxOptions { tls: Some(tls), ..SandboxOptions::default() };
    Sandbox::start(([127, 0, 0, 1], 0).into(), world, options).await.unwrap()
}

/// A friend sends a request and is approved.
pub async fn a_friend_is_let_in(sandbox: &Sandbox, doorman: &mut Doorman) {
    doorman.is("live").await;
    let ids = sandbox.control().request(&NewRequest::to(AGENT).from("friends/ann")).unwrap();
    let answer = doorman.answers(&ids[0]).await;
    assert_eq!((answer["verdict"].as_str(), answer["outcome"].as_str()), (Some("approve"), Some("approved")));
    assert_eq!(sandbox.control().state().requests[0].status, SandboxStatus::Approved);
}

#[tokio::test]
async fn a_private_authority_is_trusted_by_setting_on_the_socket_and_in_rest() {
    let authority = Authority::new("the house's own");
    let sandbox = platform(authority.server(&["127.0.0.1"], |_| ())).await;
    assert!(sandbox.url().starts_with("https://"));
    let site = Site::new(&format!("url = \"{}\"\nca_file = \"ca.pem\"", sandbox.url()));
    std::fs::write(site.path("ca.pem"), &authority.pem).unwrap();
    let mut doorman = site.run(&[], &[]);
    a_friend_is_let_in(&sandbox, &mut doorman).await;
    let (code, said) = doorman.stop().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(KEY), "the key is in the log");
}

#[tokio::test]
async fn a_certificate_that_is_no_good_is_refused_with_what_to_do() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let here = ["127.0.0.1"];
    type Change = fn(&mut CertificateParams);
    let same: Change = |_| ();
    let old: Change = |params| params.not_after = date_time_ymd(2025, 1, 1);
    let early: Change = |params| params.not_before = date_time_ymd(2123, 1, 1);
    for (authority, names, change, why, hint) in [
        (&theirs, &here[..], same, "its authority is unknown here", "set `platform.ca_file` to its PEM file"),
        (&ours, &here[..], old, "it has expired", "is this machine's clock right?"),
        (&ours, &here[..], early, "it is not valid yet", "is this machine's clock right?"),
        (&ours, &["elsewhere.example"], same, "it is another host's", "is `platform.url` right?"),
    ] {
        let sandbox = platform(authority.server(names, change)).await;
        let site = Site::new(&format!("url = \"{}\"\nca_file = \"ca.pem\"", sandbox.url()));
        std::fs::write(site.path("ca.pem"), &ours.pem).unwrap();
        let mut doorman = site.run(&[], &[]);
        let told = format!("the platform's certificate is not trusted, {why}: ");
        let whole = |line: &serde_json::Value| {
            let text = line["why"].as_str().unwrap_or_default();
            text.contains(&told) && text.contains(hint)
        };
        doorman.says(why, |line| line["event"] == "state_changed" && whole(line)).await;
        doorman.says(why, |line| line["event"] == "identity_unknown" && whole(line)).await;
        let status = site.status().await;
        assert_eq!(status["state"], "away", "{status}");
        assert!(whole(&status), "{status}");
        let (_, said) = doorman.stop().await;
        let state = sandbox.control().state();
        assert!(state.connects.is_empty() && state.lists.is_empty(), "not a word is said to a stranger: {why}");
        assert!(!said.contains(KEY), "the key is in the log");
    }
}

#[tokio::test]
async fn the_authorities_of_a_foreign_variable_are_used_and_logged() {
    let authority = Authority::new("the house's own");
    let sandbox = platform(authority.server(&["127.0.0.1"], |_| ())).await;
    let site = Site::new(&format!("url = \"{}\"", sandbox.url()));
    std::fs::write(site.path("ca.pem"), &authority.pem).unwrap();
    let path = site.path("ca.pem").display().to_string();
    let mut doorman = site.run(&[], &[("SSL_CERT_FILE", &path)]);
    let started = doorman.says("started", |line| line["event"] == "started").await;
    assert_eq!(started["authorities"], "`SSL_CERT_FILE`", "{started}");
    a_friend_is_let_in(&sandbox, &mut doorman).await;
    doorman.stop().await;
    // If the CA file contains another authority, the message about the unknown certificate names the file.
    std::fs::write(site.path("ca.pem"), Authority::new("others").pem).unwrap();
    let mut doorman = site.run(&[], &[("SSL_CERT_FILE", &path)]);
    let named = |line: &serde_json::Value| {
        line["why"].as_str().is_some_and(|why| why.contains("its authority is not among those of `SSL_CERT_FILE`"))
    };
    doorman.says("the variable", |line| line["event"] == "state_changed" && named(line)).await;
    doorman.stop().await;
}

#[tokio::test]
async fn a_foreign_variable_that_leads_nowhere_is_named_and_never_waited_for() {
    let site = Site::new("url = \"https://127.0.0.1:9\"");
    nix::unistd::mkfifo(&site.path("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let (pipe, none) = (site.path("pipe").into_os_string(), site.path("none").into_os_string());
    let odd = std::os::unix::ffi::OsStringExt::from_vec(vec![b'/', 0xff]);
    for (variable, value, why) in [
        ("SSL_CERT_FILE", &pipe, "it is a pipe"),
        ("SSL_CERT_FILE", &none, "no such file"),
        ("SSL_CERT_DIR", &none, "no such file"),
        ("SSL_CERT_FILE", &odd, "not UTF-8"),
        ("SSL_CERT_DIR", &odd, "not UTF-8"),
    ] {
        for command in [&["run"][..], &["check"], &["doctor", "--no-connect"]] {
            let running = site.command(command).env(variable, value).output();
            let output = tokio::time::timeout(crate::process::TIME, running).await.unwrap().unwrap();
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(78), "{command:?} {variable}={value:?}: {said}");
            assert!(said.contains(variable) && said.contains(why), "{command:?} {variable}={value:?}: {said}");
            assert!(!said.contains("unknown here"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_ca_file_that_is_none_is_refused_at_start() {
    let site = Site::new("url = \"https://127.0.0.1:9\"\nca_file = \"ca.pem\"");
    std::fs::write(site.path("ca.pem"), "no certificate").unwrap();
    let (code, said) = site.run(&[], &[]).ended().await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("`platform.ca_file` = ") && said.contains("it holds no PEM certificate"), "{said}");
    assert!(said.contains(&quoted(&site.path("ca.pem")).replace('"', "")), "{said}");
}

/// A proxy that connects every client to one address, and records the addresses that were requested.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = proxy.asked.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(tunnel(client, target, asked.clone()));
            }
        });
        proxy
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn tunnel(client: TcpStream, target: SocketAddr, asked: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    asked.lock().unwrap().push(head);
    let mut server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

#[tokio::test]
async fn rest_goes_through_the_proxy_of_the_environment_and_shows_it_nothing() {
    let authority = Authority::new("the house's own");
    let sandbox = platform(authority.server(&["127.0.0.1", "platform.test"], |_| ())).await;
    let proxy = Proxy::to(sandbox.address()).await;
    // Only the proxy can resolve this name: every request that arrives went through the proxy.
    let site = Site::new(&format!(
        "rest_url = \"https://platform.test/api/v1\"\nsocket_url = \"wss://{}/api/v1/socket/websocket\"\nca_file = \"ca.pem\"",
        sandbox.address()
    ));
    std::fs::write(site.path("ca.pem"), &authority.pem).unwrap();
    let mut doorman = site.run(&[], &[("HTTPS_PROXY", &format!("http://{}", proxy.address))]);
    a_friend_is_let_in(&sandbox, &mut doorman).await;
    doorman.stop().await;
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    for head in asked {
        assert!(head.starts_with("CONNECT platform.test:443 HTTP/1.1\r\n"), "{head}");
        assert!(!head.contains(KEY), "the proxy was shown the key");
    }
}

#[tokio::test]
async fn this_machine_is_never_asked_through_a_proxy() {
    let authority = Authority::new("the house's own");
    let sandbox = platform(authority.server(&["127.0.0.1"], |_| ())).await;
    let proxy = Proxy::to(sandbox.address()).await;
    let site = Site::new(&format!("url = \"{}\"\nca_file = \"ca.pem\"", sandbox.url()));
    std::fs::write(site.path("ca.pem"), &authority.pem).unwrap();
    let address = format!("http://{}", proxy.address);
    let mut doorman = site.run(&[], &[("HTTPS_PROXY", &address), ("ALL_PROXY", &address)]);
    a_friend_is_let_in(&sandbox, &mut doorman).await;
    doorman.stop().await;
    assert_eq!(proxy.asked(), [""; 0]);
}

#[tokio::test]
async fn the_sandbox_speaks_tls_on_the_command_line_too() {
    let authority = Authority::new("the house's own");
    let (certificate, key) = authority.signs(&["127.0.0.1"], |_| ());
    let site = Site::new("");
    std::fs::write(site.path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(site.path("cert.key"), key.serialize_pem()).unwrap();
    std::fs::write(site.path("ca.pem"), &authority.pem).unwrap();
    let cert = site.path("cert.pem").display().to_string();
    let arguments = |key: &str| {
        let key = site.path(key).display().to_string();
        ["sandbox", "--listen", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key].map(str::to_owned)
    };
    let command = |key: &str| site.command(&arguments(key).each_ref().map(String::as_str));

    let refused = command("agent.key").output().await.unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(78) && said.contains("no private key, PEM, in it"), "{said}");
    assert!(!said.contains(KEY), "{said}");

    let mut sandbox = command("cert.key").spawn().unwrap();
    let mut first = String::new();
    BufReader::new(sandbox.stdout.as_mut().unwrap()).read_line(&mut first).await.unwrap();
    let url = first.trim_end().strip_prefix("listening on ").unwrap();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    // The shipped world has another key; to get this refusal, TLS must work.
    site.configure(&format!("url = \"{url}\"\nca_file = \"ca.pem\""));
    site.run(&[], &[]).is("refused").await;
}

#[tokio::test]
async fn a_proxy_that_is_dead_is_named_by_its_variable_at_start_and_if_it_fails() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let site = Site::new(
        "rest_url = \"http://platform.test/api/v1\"\nsocket_url = \"wss://platform.test/api/v1/socket/websocket\"",
    );
    let address = format!("http://{dead}");
    let variables = [("HTTP_PROXY", address.as_str()), ("ALL_PROXY", address.as_str())];
    let mut doorman = site.run(&[], &variables);
    let started = doorman.says("started", |line| line["event"] == "started").await;
    assert_eq!(started["rest_proxy"], format!("the proxy of `HTTP_PROXY` ({dead})"), "{started}");
    assert_eq!(started["socket_proxy"], format!("the proxy of `ALL_PROXY` ({dead})"), "{started}");
    let named = |line: &serde_json::Value| line["why"].as_str().is_some_and(|why| why.contains("`HTTP_PROXY`"));
    doorman.says("the proxy's variable", |line| line["event"] == "identity_unknown" && named(line)).await;
    doorman.stop().await;
    let output = site.command(&["doctor"]).envs(variables).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    for wanted in [
        "REST goes through the proxy of `HTTP_PROXY`",
        "the WebSocket goes through the proxy of `ALL_PROXY`",
        "does the proxy of `HTTP_PROXY`",
    ] {
        assert!(said.contains(wanted), "{said}");
    }
}
