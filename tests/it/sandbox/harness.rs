//! A sandbox with three parties, and clients that send raw messages.

use std::net::SocketAddr;
use std::time::Duration;

use doorman::sandbox::{Control, Sandbox, SandboxOptions, SandboxState, World};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Longer than anything here takes: a test that waits this long has failed.
pub const TIME: Duration = Duration::from_secs(60);
/// The contacts topic of [`A`].
pub const T: &str = "agent_contacts:a";

#[derive(Clone, Copy)]
pub struct Agent {
    pub id: &'static str,
    pub key: &'static str,
}

pub const A: Agent = Agent { id: "a", key: "ka" };
pub const B: Agent = Agent { id: "b", key: "kb" };

impl Agent {
    pub fn query(self) -> &'static str {
        "vsn=2.0.0"
    }
}

pub struct TestSandbox {
    pub sandbox: Sandbox,
    pub control: Control,
    pub address: SocketAddr,
}

impl TestSandbox {
    pub async fn start() -> Self {
        Self::with(SandboxOptions::default()).await
    }

    pub async fn with(options: SandboxOptions) -> Self {
        let world = World::new()
            .user("j", "kj", "john", "John")
            .agent("a", "ka", "john/a", "A")
            .agent("b", "kb", "maria/b", "B");
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, options).await.unwrap();
        let (control, address) = (sandbox.control(), sandbox.address());
        Self { sandbox, control, address }
    }

    pub async fn connect(&self, agent: Agent) -> Client {
        Client::connect(self.address, agent.query(), Some(agent.key)).await.unwrap()
    }

    pub async fn join(&self, agent: Agent) -> Client {
        let mut client = self.connect(agent).await;
        client.say(&format!(r#"["1","1","agent_contacts:{}","phx_join",{{}}]"#, agent.id)).await;
        assert!(client.hear().await.contains("\"ok\""));
        client
    }

    /// Waits until the sandbox's state satisfies `so`.
    pub async fn until(&self, so: impl Fn(&SandboxState) -> bool) {
        let wait = async {
            while !so(&self.control.overview()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(TIME, wait).await.unwrap();
    }

    pub async fn call(&self, method: &str, path: &str, agent: Agent, body: &str) -> SandboxReply {
        raw_http(self.address, method, &format!("/api/v1/agent/{path}"), Some(agent.key), body).await
    }

    /// The control's call; returns status and body.
    pub async fn tester(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let answer = raw_http(self.address, method, &format!("/_sandbox/{path}"), None, body).await;
        (answer.status, answer.json())
    }
}

pub struct Client(WebSocketStream<TcpStream>);

pub fn upgrade_request(query: &str, key: Option<&str>) -> Request {
    let mut request = Request::builder()
        .uri(format!("ws://sandbox/api/v1/socket/websocket?{query}"))
        .header("host", "sandbox")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    request.body(()).unwrap()
}

impl Client {
    /// Or the status and body of the refusal; 0 for no answer at all.
    pub async fn connect(address: SocketAddr, query: &str, key: Option<&str>) -> Result<Self, (u16, String)> {
        let tcp = TcpStream::connect(address).await.unwrap();
        let dial = tokio_tungstenite::client_async(upgrade_request(query, key), tcp);
        match timeout(TIME, dial).await.unwrap() {
            Ok((socket, response)) => {
                assert!(response.headers().contains_key("date"));
                Ok(Self(socket))
            }
            Err(Error::Http(response)) => {
                let length = response.headers().get("content-length").and_then(|text| text.to_str().ok()?.parse().ok());
                let body = response.body().clone().unwrap_or_default();
                assert!(body.len() <= length.unwrap_or(usize::MAX));
                Err((response.status().as_u16(), String::from_utf8(body).unwrap()))
            }
            Err(_) => Err((0, String::new())),
        }
    }

    /// Joins the contacts of `a` with refs 1/1.
    pub async fn join(&mut self) {
        self.say(&format!(r#"["1","1","{T}","phx_join",{{}}]"#)).await;
        assert_eq!(self.hear().await, format!(r#"["1","1","{T}","phx_reply",{{"response":{{}},"status":"ok"}}]"#));
    }

    pub async fn say(&mut self, text: &str) {
        timeout(TIME, self.0.send(Message::text(text))).await.unwrap().unwrap();
    }

    /// The next text frame, or how the connection ended.
    pub async fn next(&mut self) -> Result<String, Option<u16>> {
        loop {
            return match timeout(TIME, self.0.next()).await.unwrap() {
                Some(Ok(Message::Text(text))) => Ok(text.as_str().to_owned()),
                Some(Ok(Message::Binary(bytes))) => Ok(format!("binary {}", bytes.len())),
                Some(Ok(Message::Close(frame))) => Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Err(None),
            };
        }
    }

    pub async fn hear(&mut self) -> String {
        self.next().await.unwrap()
    }

    /// Reads until a frame satisfies `so`.
    pub async fn until(&mut self, so: impl Fn(&str) -> bool) {
        while !so(&self.hear().await) {}
    }

    /// Reads to the end; the code of the close frame, if one came.
    pub async fn end(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }

    /// A heartbeat and its reply, with nothing in between.
    pub async fn beat(&mut self) {
        self.say(r#"[null,"beat","phoenix","heartbeat",{}]"#).await;
        assert_eq!(self.hear().await, r#"[null,"beat","phoenix","phx_reply",{"response":{},"status":"ok"}]"#);
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.unwrap();
    }

    pub async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.0.send(Message::Close(Some(frame))).await.unwrap();
    }
}

pub struct SandboxReply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl SandboxReply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One call on a separate connection; status 0 if it was cut without a reply.
pub async fn raw_http(address: SocketAddr, method: &str, path: &str, key: Option<&str>, body: &str) -> SandboxReply {
    let key = key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: sandbox\r\n{key}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp.write_all(body.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let _ = timeout(TIME, tcp.read_to_end(&mut all)).await.unwrap();
    let Some(at) = all.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return SandboxReply { status: 0, head: String::new(), body: all };
    };
    let head = String::from_utf8(all[..at].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    SandboxReply { status, head, body: all[at + 4..].to_vec() }
}
