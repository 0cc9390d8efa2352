//! The page as browsers and other clients see it: a real daemon, a real HTTP client, and requests that must be refused.

mod acting;
mod logins;
mod reading;
mod replies;

use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::faults::daemon::Daemon;
use crate::faults::site::{AGENT, Site, TIME};

/// A reply of the page.
#[derive(Debug)]
struct PageReply {
    code: u16,
    headers: http::HeaderMap,
    body: String,
}

/// How to reach the page.
#[derive(Debug, Clone)]
enum PageRoute {
    Port(String),
    Socket(PathBuf),
}

/// A request that is being built.
struct PageRequest<'a> {
    way: &'a PageRoute,
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, String)>,
    body: String,
}

impl PageRoute {
    fn host(&self) -> String {
        match self {
            PageRoute::Port(address) => address.replace("127.0.0.1", "localhost"),
            PageRoute::Socket(_) => "localhost:8080".to_owned(),
        }
    }

    fn asking<'a>(&'a self, method: &'a str, path: &'a str) -> PageRequest<'a> {
        PageRequest { way: self, method, path, headers: Vec::new(), body: String::new() }
    }

    async fn get(&self, path: &str) -> PageReply {
        self.asking("GET", path).send().await
    }

    /// Sends a form as a browser does that shows our own page.
    fn form<'a>(&'a self, path: &'a str, fields: &[(&str, &str)]) -> PageRequest<'a> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut asking = self.asking("POST", path);
        asking.headers.push(("origin", format!("http://{}", self.host())));
        asking.headers.push(("sec-fetch-site", "same-origin".to_owned()));
        asking.headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
        PageRequest { body, ..asking }
    }
}

impl<'a> PageRequest<'a> {
    /// Replaces the header of this name.
    fn with(mut self, name: &'a str, value: &str) -> Self {
        self.headers.retain(|(one, _)| *one != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn also(mut self, name: &'a str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(one, _)| *one != name);
        self
    }

    async fn send(self) -> PageReply {
        let mut request = http::Request::builder().method(self.method).uri(self.path);
        if !self.headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", self.way.host());
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(http_body_util::Full::new(bytes::Bytes::from(self.body))).unwrap();
        let exchange = async {
            match self.way {
                PageRoute::Port(address) => {
                    one(TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap()), request).await
                }
                PageRoute::Socket(path) => {
                    one(TokioIo::new(tokio::net::UnixStream::connect(path).await.unwrap()), request).await
                }
            }
        };
        tokio::time::timeout(TIME, exchange).await.unwrap()
    }
}

async fn one<S>(stream: S, request: http::Request<http_body_util::Full<bytes::Bytes>>) -> PageReply
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    use http_body_util::BodyExt as _;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    PageReply { code: head.status.as_u16(), headers: head.headers, body }
}

/// A daemon with a page, and how to reach the page.
async fn page(site: &Site, variables: &[(&str, &str)]) -> (Daemon, PageRoute) {
    let socket = variables.iter().find(|(name, _)| *name == "DOORMAN_PAGE_SOCKET");
    let mut all = vec![("DOORMAN_PAGE_LISTEN", "127.0.0.1:0")];
    all.retain(|_| socket.is_none());
    all.extend(variables);
    let daemon = site.daemon_with_env(&[], &all);
    daemon.said("page_listening", 1).await.unwrap();
    let lines = daemon.lines();
    let said = lines.iter().find(|line| line["event"] == "page_listening").unwrap();
    let at = said["address"].as_str().unwrap().to_owned();
    daemon.stands("live").await.unwrap();
    (daemon, if socket.is_some() { PageRoute::Socket(PathBuf::from(at)) } else { PageRoute::Port(at) })
}

/// One request from this handle, with this message.
fn ask(site: &Site, id: &str, handle: &str, name: &str, message: &str) {
    let new = doorman::sandbox::NewRequest { push: Some(true), ..doorman::sandbox::NewRequest::to(AGENT) };
    let message = Some(Some(message.to_owned()));
    let new = doorman::sandbox::NewRequest { message, ..new.from(handle).id(id).named(name) };
    site.control.request(&new).unwrap();
}

/// Waits until a page satisfies `so`.
async fn until(way: &PageRoute, path: &str, what: &str, so: impl Fn(&str) -> bool) -> String {
    let wait = async {
        loop {
            let answer = way.get(path).await;
            if so(&answer.body) {
                return answer.body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIME, wait).await.unwrap_or_else(|_| panic!("never on {path}: {what}"))
}

/// A field of the first form on a page.
fn field(page: &str, name: &str) -> String {
    let at = page.find(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no field {name}: {page}"));
    page[at..].split('"').nth(3).unwrap().to_owned()
}

/// What the ledger says of a request.
async fn recorded(site: &Site, id: &str) -> Value {
    let (_, out, _) = site.cli(&["history", "--json"]).await;
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.into_iter().find(|line| line["request"] == id).unwrap_or_else(|| panic!("{id} is not on record: {out}"))
}
