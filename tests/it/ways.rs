//! The ways to the platform that the environment prescribes, with the real daemon: SOCKS proxies, a proxy that is spoken to
//! over TLS, and a certificate authority that is replaced while the daemon runs.

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::process::{Doorman, KEY, Site};
use crate::tls::{Authority, a_friend_is_let_in, platform};

/// The protocol of a proxy.
#[derive(Clone)]
enum Speaks {
    /// SOCKS 5, with this user and password if given.
    Socks(Option<(&'static str, &'static str)>),
    /// CONNECT, over TLS.
    Https(TlsAcceptor),
}

/// A proxy that connects every client to one address, and records the addresses that were requested.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn to(target: SocketAddr, speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = proxy.asked.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (asked, speaks) = (asked.clone(), speaks.clone());
                tokio::spawn(async move {
                    match speaks {
                        Speaks::Socks(login) => socks(client, login, target, &asked).await,
                        Speaks::Https(acceptor) => connect(acceptor.accept(client).await?, target, &asked).await,
                    }
                });
            }
        });
        proxy
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn connect(
    client: impl AsyncRead + AsyncWrite + Unpin,
    target: SocketAddr,
    asked: &Mutex<Vec<String>>,
) -> Result<()> {
    let mut client = BufReader::new(client);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    asked.lock().unwrap().push(String::from_utf8(head).unwrap());
    let mut server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// RFC 1928 and RFC 1929.
async fn socks(
    mut client: TcpStream,
    login: Option<(&str, &str)>,
    target: SocketAddr,
    asked: &Mutex<Vec<String>>,
) -> Result<()> {
    let text = async |client: &mut TcpStream| {
        let mut bytes = vec![0; client.read_u8().await?.into()];
        client.read_exact(&mut bytes).await?;
        Ok::<_, Error>(String::from_utf8(bytes).unwrap())
    };
    assert_eq!(client.read_u8().await?, 5);
    let methods = text(&mut client).await?;
    let method = if login.is_some() { 2 } else { 0 };
    assert!(methods.as_bytes().contains(&method), "{methods:?}");
    client.write_all(&[5, method]).await?;
    if let Some((user, password)) = login {
        assert_eq!(client.read_u8().await?, 1);
        let told = (text(&mut client).await?, text(&mut client).await?);
        assert_eq!((told.0.as_str(), told.1.as_str()), (user, password));
        client.write_all(&[1, 0]).await?;
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let host = match request[3] {
        1 => client.read_u32().await.map(|bits| std::net::Ipv4Addr::from_bits(bits).to_string())?,
        3 => text(&mut client).await?,
        other => panic!("an address of kind {other}"),
    };
    let port = client.read_u16().await?;
    asked.lock().unwrap().push(format!("{host}:{port}"));
    let mut server = TcpStream::connect(target).await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// A daemon with these variables answers a request of a platform that only the proxy can reach, by this name or
/// address. Returns the addresses that were requested from the proxy.
async fn through(host: &str, speaks: impl FnOnce(&Authority) -> Speaks, variable: &str, url: &str) -> Vec<String> {
    let authority = Authority::new("the house's own");
    let sandbox = platform(authority.server(&["127.0.0.1", host], |_| ())).await;
    let proxy = Proxy::to(sandbox.address(), speaks(&authority)).await;
    let site = Site::new(&format!("url = \"https://{host}\"\nca_file = \"ca.pem\""));
    std::fs::write(site.path("ca.pem"), &authority.pem).unwrap();
    let url = url.replace("PROXY", &proxy.address.to_string());
    let mut doorman = site.run(&[], &[(variable, &url)]);
    a_friend_is_let_in(&sandbox, &mut doorman).await;
    let (_, said) = doorman.stop().await;
    assert!(!said.contains("sesame") && !said.contains(KEY), "{said}");
    let state = sandbox.control().overview();
    assert!(!state.connects.is_empty() && !state.lists.is_empty(), "the WebSocket and REST came through");
    proxy.asked()
}

#[tokio::test]
async fn a_socks_proxy_carries_rest_and_the_socket_and_looks_the_name_up() {
    let login = Some(("porter", "sesame"));
    for (speaks, url) in
        [(Speaks::Socks(None), "socks5h://PROXY"), (Speaks::Socks(login), "socks5h://porter:sesame@PROXY")]
    {
        let asked = through("platform.test", |_| speaks, "ALL_PROXY", url).await;
        assert!(asked.iter().all(|asked| asked == "platform.test:443"), "{asked:?}");
    }
}

#[tokio::test]
async fn a_socks_proxy_may_be_given_an_address() {
    let asked = through("192.0.2.7", |_| Speaks::Socks(None), "https_proxy", "socks5://PROXY").await;
    assert!(asked.iter().all(|asked| asked == "192.0.2.7:443"), "{asked:?}");
}

#[tokio::test]
async fn a_proxy_over_tls_carries_rest_and_the_socket_and_is_shown_nothing() {
    let speaks = |authority: &Authority| Speaks::Https(authority.server(&["127.0.0.1"], |_| ()).into());
    let asked = through("platform.test", speaks, "HTTPS_PROXY", "https://PROXY").await;
    for head in asked {
        assert!(head.starts_with("CONNECT platform.test:443 HTTP/1.1\r\n"), "{head}");
        assert!(!head.contains(KEY), "the proxy was shown the key");
    }
}

#[tokio::test]
async fn a_proxy_over_tls_that_nobody_trusts_gets_no_request() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let sandbox = platform(ours.server(&["platform.test"], |_| ())).await;
    let proxy = Proxy::to(sandbox.address(), Speaks::Https(theirs.server(&["127.0.0.1"], |_| ()).into())).await;
    let site = Site::new("url = \"https://platform.test\"\nca_file = \"ca.pem\"");
    std::fs::write(site.path("ca.pem"), &ours.pem).unwrap();
    let mut doorman = site.run(&[], &[("HTTPS_PROXY", &format!("https://{}", proxy.address))]);
    let why = |line: &serde_json::Value| {
        let why = line["why"].as_str().unwrap_or_default();
        why.contains("its authority is unknown here") && why.contains("`HTTPS_PROXY`")
    };
    doorman.says("whose certificate", |line| line["event"] == "state_changed" && why(line)).await;
    doorman.stop().await;
    assert_eq!(proxy.asked(), [""; 0]);
}

/// One address; the platform behind it can be changed.
struct Balancer {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
}

impl Balancer {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (target, to) = watch::channel(target);
        let balancer = Self { address: listener.local_addr().unwrap(), target };
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut to = to.clone();
                tokio::spawn(async move {
                    let target = *to.borrow_and_update();
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = to.changed() => {}
                    }
                });
            }
        });
        balancer
    }
}

/// Waits for several failed connects in a row, because the platform is not trusted.
async fn distrusts(doorman: &mut Doorman) {
    for _ in 0..4 {
        let unknown = |line: &serde_json::Value| {
            let why = line["why"].as_str().or(line["detail"].as_str()).unwrap_or_default();
            // If `SSL_CERT_FILE` is set outside the tests, the sentence ends differently.
            line["event"] == "reconnect" && why.contains("is not trusted, its authority is ")
        };
        doorman.says("it does not trust the new certificate", unknown).await;
    }
}

/// A different authority signs the platform's certificates from now on. The file is read again for the next connection
/// after it has been replaced, whatever its modification time.
/// another one, whatever its time says.
#[tokio::test]
async fn a_certificate_authority_that_is_replaced_is_used_by_the_next_connection() {
    let authorities = [1, 2, 3].map(|number| Authority::new(&format!("authority {number}")));
    let longest = authorities.iter().map(|authority| authority.pem.len()).max().unwrap();
    // All files have the same length, so that only the time distinguishes them.
    let [first, second, third] =
        authorities.each_ref().map(|authority| format!("{:<width$}", authority.pem, width = longest));
    let mut platforms = Vec::new();
    for authority in &authorities {
        platforms.push(platform(authority.server(&["127.0.0.1"], |_| ())).await);
    }
    let balancer = Balancer::to(platforms[0].address()).await;
    let site = Site::new(&format!("url = \"https://{}\"\nca_file = \"ca.pem\"", balancer.address));
    let write = |text: &str, at: SystemTime| {
        std::fs::write(site.path("ca.pem"), text).unwrap();
        std::fs::File::options().write(true).open(site.path("ca.pem")).unwrap().set_modified(at).unwrap();
    };
    let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    write(&first, long_ago);
    let mut doorman = site.run(&[], &[]);
    a_friend_is_let_in(&platforms[0], &mut doorman).await;

    balancer.target.send(platforms[1].address()).unwrap();
    distrusts(&mut doorman).await;
    let later = long_ago + std::time::Duration::from_secs(60);
    write(&second, later);
    a_friend_is_let_in(&platforms[1], &mut doorman).await;

    // Another text with the same length and time is still recognized as another file.
    balancer.target.send(platforms[2].address()).unwrap();
    write(&third, later);
    a_friend_is_let_in(&platforms[2], &mut doorman).await;
    doorman.stop().await;
}
