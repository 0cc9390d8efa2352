//! TCP and TLS to the platform: every address in turn, each phase bounded by the caller.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;

use crate::config::settings::Platform;

/// Where sockets are opened, and how.
#[derive(Clone)]
pub struct Dialer {
    pub(super) url: Url,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// What is wrong with the socket's address.
#[derive(Debug, thiserror::Error)]
#[error("`platform.socket_url` = `{url}` cannot be used: {why}")]
pub struct DialError {
    url: String,
    why: String,
}

impl Dialer {
    /// `tls` is needed for `wss`.
    pub fn new(platform: &Platform, tls: Option<Arc<rustls::ClientConfig>>) -> Result<Self, DialError> {
        let url = platform.socket.clone();
        let fail = |why: &str| DialError { url: url.to_string(), why: why.to_owned() };
        let host = url.host_str().ok_or_else(|| fail("it names no host"))?.trim_matches(['[', ']']).to_owned();
        let port = url.port().unwrap_or(if url.scheme() == "wss" { 443 } else { 80 });
        let tls = match (url.scheme(), tls) {
            ("ws", _) => None,
            ("wss", Some(config)) => {
                let name =
                    ServerName::try_from(host.clone()).map_err(|_| fail("its host is no name that TLS knows"))?;
                Some((TlsConnector::from(config), name))
            }
            ("wss", None) => return Err(fail("TLS was not set up")),
            _ => return Err(fail("it must begin with `wss://` or `ws://`")),
        };
        Ok(Self { url, host, port, tls })
    }

    /// The connection, up to where HTTP begins.
    pub(super) async fn dial(&self) -> Result<Wire, (&'static str, io::Error)> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| ("connect", error))?;
        tcp.set_nodelay(true).map_err(|error| ("connect", error))?;
        match &self.tls {
            None => Ok(Wire::Plain(tcp)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), tcp).await.map_err(|error| ("tls", error))?;
                Ok(Wire::Tls(Box::new(stream)))
            }
        }
    }
}

/// A connection, with or without TLS.
#[derive(Debug)]
pub enum Wire {
    /// Loopback, and whoever insists.
    Plain(TcpStream),
    /// Everybody else.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Wire::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
