//! The bytes of a connection, over any transport. It notices a peer that accepts bytes and never sends any: its address
//! is not the first choice for a while.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::Suspects;

/// A transport for bytes.
pub(in crate::platform) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection: TCP, TLS, or either through a proxy.
pub(crate) struct ByteStream {
    io: Box<dyn Transport>,
    /// Whether HTTP/2 was negotiated.
    h2: bool,
    /// Whether it leads to a proxy that gets the whole address of each request.
    forwards: bool,
    peer: SocketAddr,
    suspects: Suspects,
    wrote: bool,
    heard: bool,
    /// Bytes that were read already, and come first.
    ahead: Bytes,
}

impl ByteStream {
    /// A connection to this address.
    pub(super) fn new(io: Box<dyn Transport>, peer: SocketAddr, suspects: Suspects) -> Self {
        Self { io, h2: false, forwards: false, peer, suspects, wrote: false, heard: false, ahead: Bytes::new() }
    }

    /// The peer's address.
    #[cfg(test)]
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Sets what was negotiated.
    pub(super) fn agreed(mut self, h2: bool, forwards: bool) -> Self {
        (self.h2, self.forwards) = (h2, forwards);
        self
    }
}

impl ByteStream {
    /// These bytes were read from it, and are to be read again.
    pub(in crate::platform) fn read_again(mut self, ahead: Bytes) -> Self {
        self.ahead = ahead;
        self
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        // The peer accepted a connection and bytes, and never sent any: the next attempt starts with another address,
        // if there is one.
        if self.wrote && !self.heard {
            self.suspects.add(self.peer);
        }
    }
}

impl Connection for ByteStream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.forwards);
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let first = this.ahead.split_to(this.ahead.len().min(buf.remaining()));
            buf.put_slice(&first);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        this.heard |= buf.filled().len() > before;
        polled
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.wrote = true;
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.wrote = true;
        Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
