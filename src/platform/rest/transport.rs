//! Errors below HTTP, and the reading of bodies that may have no end.

use std::future::Future;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::TokioIo;
use tower_service::Service;

use crate::model::StrangerText;
use crate::platform::net::{ByteStream, DialFailure, Route};
use crate::platform::reply::{CallError, CallFault};
use crate::platform::tls;

/// Makes the pool's connections. The pool clones it for each call.
#[derive(Debug, Clone)]
pub(super) struct Connector(Arc<(Route, Duration)>);

impl Connector {
    /// `limit` bounds the making of a connection.
    pub(super) fn new(route: Route, limit: Duration) -> Self {
        Self(Arc::new((route, limit)))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<ByteStream>;
    type Error = DialFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialFailure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let parts = Arc::clone(&self.0);
        Box::pin(async move {
            let (route, limit) = &*parts;
            route.dial(*limit).await.map(TokioIo::new)
        })
    }
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyCut {
    /// It has more than this many bytes.
    TooLarge(usize),
    /// The connection ended, time ran out, or it cannot be decompressed.
    Broken,
}

impl BodyCut {
    /// What it means under a 2xx.
    pub(super) fn fault(self, status: StatusCode) -> CallError {
        let (fault, message) = match self {
            BodyCut::TooLarge(most) => {
                (CallFault::Unreadable(status.as_u16()), format!("its body is larger than {most} bytes"))
            }
            BodyCut::Broken => (CallFault::NoAnswer, "the answer broke off".to_owned()),
        };
        CallError { fault, code: None, message: Some(StrangerText::new(&message)), retry_after: None }
    }
}

/// The decompressed body, counted after decompression, so that a small body cannot become large.
pub(super) async fn bounded(response: Response<Incoming>, most: usize) -> Result<Vec<u8>, BodyCut> {
    let gzip = response.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(|_| BodyCut::Broken)?.into_data() else { continue };
        if data.len() > most - body.len() {
            return Err(BodyCut::TooLarge(most));
        }
        body.extend_from_slice(&data);
    }
    if gzip { unpacked(&body, most) } else { Ok(body) }
}

fn unpacked(packed: &[u8], most: usize) -> Result<Vec<u8>, BodyCut> {
    let mut body = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(packed).take(most as u64 + 1).read_to_end(&mut body);
    // The decompressed part counts, even if the rest cannot be decompressed.
    if body.len() > most {
        return Err(BodyCut::TooLarge(most));
    }
    read.map(|_| body).map_err(|_| BodyCut::Broken)
}

/// An error before any reply. Only if no connection was made is it certain that nothing was sent; after any other error
/// the call counts as sent.
pub(super) fn no_answer(error: &legacy::Error) -> CallError {
    let message = tls::explain(error).unwrap_or_else(|| tls::innermost(error));
    if error.is_connect() { unsent(&message) } else { fault(CallFault::NoAnswer, &message) }
}

/// The call was sent, and no reply came in time.
pub(super) fn time_ran_out() -> CallError {
    fault(CallFault::NoAnswer, "time ran out")
}

/// Nothing was sent.
pub(super) fn unsent(why: &str) -> CallError {
    fault(CallFault::Unreachable, why)
}

/// Nothing was sent, since the host takes no calls for a while.
pub(super) fn paused(left: Duration) -> CallError {
    let why = format!("not sent: the host takes no calls for {:.0} s more", left.as_secs_f64());
    CallError { retry_after: Some(left), ..fault(CallFault::Throttled, &why) }
}

/// Nothing was sent, since the host was just found to be out of reach.
pub(super) fn unreached(left: Duration) -> CallError {
    CallError { retry_after: Some(left), ..unsent("not sent: the host was just out of reach") }
}

/// Nothing was sent, since others may act for this agent by now.
pub(super) fn not_ours() -> CallError {
    unsent("not sent: another doorman may answer for this agent by now")
}

fn fault(fault: CallFault, why: &str) -> CallError {
    CallError { fault, code: None, message: Some(StrangerText::new(why)), retry_after: None }
}
