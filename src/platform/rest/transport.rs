//! What can go wrong below HTTP, and the reading of bodies that may have no end.

use http::StatusCode;

use crate::model::StrangerText;
use crate::platform::reply::{CallError, CallFault};
use crate::platform::tls;

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It is larger than this many bytes.
    TooLarge(usize),
    /// The connection ended, time ran out, or it cannot be decompressed.
    Broken,
}

impl Cut {
    /// What it means under a 2xx.
    pub(super) fn fault(self, status: StatusCode) -> CallError {
        let (fault, message) = match self {
            Cut::TooLarge(most) => {
                (CallFault::Unreadable(status.as_u16()), format!("its body is larger than {most} bytes"))
            }
            Cut::Broken => (CallFault::NoAnswer, "the answer broke off".to_owned()),
        };
        CallError { fault, code: None, message: Some(StrangerText::new(&message)), retry_after: None }
    }
}

/// The body, counted as it comes out of decompression, so that nothing small can become large.
pub(super) async fn bounded(mut response: reqwest::Response, most: usize) -> Result<Vec<u8>, Cut> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Cut::Broken)? {
        if chunk.len() > most - body.len() {
            return Err(Cut::TooLarge(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error before any answer came. Only where no connection was made is it certain that nothing was sent; every other
/// one is taken for sent.
pub(super) fn no_answer(error: &reqwest::Error) -> CallError {
    let unsent = error.is_connect() || error.is_builder();
    let message = match tls::explain(error) {
        Some(message) => message,
        None if error.is_timeout() && unsent => "no connection in time".to_owned(),
        None if error.is_timeout() => "time ran out".to_owned(),
        // Not reqwest's own words: they hold the address.
        None => tls::innermost(error),
    };
    let fault = if unsent { CallFault::Unreachable } else { CallFault::NoAnswer };
    CallError { fault, code: None, message: Some(StrangerText::new(&message)), retry_after: None }
}
