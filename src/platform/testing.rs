//! A server of raw bytes, for tests with replies that no correct server sends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::config::settings::{CredentialsMode, Platform};

/// What happens after the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The connection ends.
    Close,
    /// Nothing, until the client leaves.
    Stall,
}

/// A listening server that sends the same reply to every client.
#[derive(Debug, Clone)]
pub(crate) struct CannedServer {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl CannedServer {
    /// Answers each request with these pieces, each in a packet of its own.
    pub(crate) async fn serve(pieces: Vec<Vec<u8>>, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let raw = Self { address: listener.local_addr().unwrap(), heard: Arc::default() };
        let heard = raw.heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, pieces.clone(), then, heard.clone()));
            }
        });
        raw
    }

    /// Answers with one status, these header lines, and this body; then closes.
    pub(crate) async fn reply(status: &str, headers: &str, body: &[u8]) -> Self {
        Self::serve(vec![head(status, headers, body.len()), body.to_vec()], Then::Close).await
    }

    /// The complete requests that it received.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    pub(crate) fn platform(&self) -> Platform {
        platform(self.address)
    }
}

pub(crate) fn platform(address: SocketAddr) -> Platform {
    let url = |text: String| text.parse::<Url>().unwrap();
    Platform {
        rest: url(format!("http://{address}/api/v1")),
        socket: url(format!("ws://{address}/api/v1/socket/websocket")),
        ca_file: None,
        credentials: CredentialsMode::Auto,
        user_agent: http::HeaderValue::from_static("Mozilla/5.0 (compatible; doorman/test)"),
        headers: vec![(http::HeaderName::from_static("x-more"), http::HeaderValue::from_static("more"))],
        calls_per_second_max: 200,
    }
}

/// The head of an answer.
pub(crate) fn head(status: &str, headers: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n").into_bytes()
}

async fn answer(mut stream: TcpStream, pieces: Vec<Vec<u8>>, then: Then, heard: Arc<Mutex<Vec<String>>>) {
    stream.set_nodelay(true).unwrap();
    let Some(request) = request(&mut stream).await else { return };
    heard.lock().unwrap().push(request);
    for piece in pieces {
        // The client may have stopped reading.
        if stream.write_all(&piece).await.is_err() {
            return;
        }
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    if then == Then::Stall {
        let _ = stream.read(&mut [0; 64]).await;
    } else {
        // Not a reset: the bytes that were sent must arrive.
        let _ = stream.shutdown().await;
        let _ = stream.read(&mut [0; 64]).await;
    }
}

/// Reads one request with its body.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => text.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
        }
    }
}
