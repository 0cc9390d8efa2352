//! REST calls. Each is bounded in time and size, follows no redirect, and comes back classified; none of them panics,
//! retries or decides.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::warn;
use url::Url;

use super::payload;
use super::reply::{CallError, CallFault, Me, Page, Reply, Responded};
use super::{classify, retry_after, tls};
use crate::config::settings::Platform;
use crate::model::{
    AgentId, Answer, Contact, ContactId, ContactRequest, RequestId, RequestStatus, Sender, StrangerText,
};
use crate::ops::log::events;
use crate::secret::Key;

/// Most bytes of a page, after decompression.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Most bytes of any other body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Idle connections kept: as many answers as are usually on their way at once.
const IDLE_MAX: usize = 64;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("the REST client cannot be made: {0}")]
pub struct RestError(String);

/// The client that all agents share: one pool of connections.
#[derive(Debug, Clone)]
pub struct Rest {
    client: reqwest::Client,
    base: Url,
}

/// One agent's way to the platform.
#[derive(Debug, Clone)]
pub struct AgentRest {
    rest: Rest,
    agent: AgentId,
    key: Key,
}

impl Rest {
    /// `tls` is needed for `https`; `timeout` bounds each call from its start to the last byte of its answer. Proxies
    /// come from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
    pub fn new(platform: &Platform, tls: Option<&rustls::ClientConfig>, timeout: Duration) -> Result<Self, RestError> {
        let mut builder = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("doorman/", env!("CARGO_PKG_VERSION")))
            .pool_max_idle_per_host(IDLE_MAX)
            .tcp_nodelay(true)
            .referer(false);
        if let Some(tls) = tls {
            let mut tls = tls.clone();
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            builder = builder.tls_backend_preconfigured(tls);
        } else {
            builder = builder.tls_backend_preconfigured(no_tls());
        }
        let client = builder.build().map_err(|error| RestError(error.to_string()))?;
        Ok(Self { client, base: platform.rest.clone() })
    }

    /// This agent's way, with this key.
    pub fn agent(&self, agent: AgentId, key: Key) -> AgentRest {
        AgentRest { rest: self.clone(), agent, key }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let whole = format!("{}/{path}", url.path().trim_end_matches('/'));
        url.set_path(&whole);
        url
    }
}

/// TLS that trusts nobody, where no `https` is spoken: reading the machine's roots would cost megabytes for nothing.
fn no_tls() -> rustls::ClientConfig {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|_| unreachable!("the provider supports TLS 1.3"))
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

impl AgentRest {
    /// Whose way it is.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// `GET /agent/me`: whose key this is.
    pub async fn me(&self) -> Reply<Me> {
        let request = self.rest.client.get(self.rest.url("agent/me"));
        self.call(request, BODY_BYTES_MAX, |body| {
            let data = body.get("data")?;
            let text = |name: &str| data.get(name).and_then(Value::as_str);
            let name = text("name").filter(|name| !name.is_empty()).map(StrangerText::new);
            Some(Me { id: AgentId::parse(text("id")?).ok()?, sender: Sender::parse(text("handle")), name })
        })
        .await
    }

    /// One page of the pending requests to this agent; pages count from 1, `page_size` is 1 to 100.
    pub async fn requests(&self, page: u32, page_size: u32) -> Reply<Page<ContactRequest>> {
        let query = [("page", page), ("page_size", page_size)];
        let request = self.rest.client.get(self.rest.url("agent/contacts/requests")).query(&query);
        self.call(request, PAGE_BYTES_MAX, |body| {
            let rows = body.get("data")?.get("received")?.as_array()?;
            let received = body.get("metadata").and_then(|metadata| metadata.get("received"));
            let number = |name: &str| received.and_then(|received| received.get(name)).and_then(Value::as_u64);
            Some(page_of(rows, "contact request", payload::contact_request, number("total"), number("total_pages")))
        })
        .await
    }

    /// One page of this agent's contacts.
    pub async fn contacts(&self, page: u32, page_size: u32) -> Reply<Page<Contact>> {
        let query = [("page", page), ("page_size", page_size)];
        let request = self.rest.client.get(self.rest.url("agent/contacts")).query(&query);
        self.call(request, PAGE_BYTES_MAX, |body| {
            let rows = body.get("data")?.as_array()?;
            let number =
                |name: &str| body.get("metadata").and_then(|metadata| metadata.get(name)).and_then(Value::as_u64);
            Some(page_of(rows, "contact", payload::contact, number("total_count"), number("total_pages")))
        })
        .await
    }

    /// Answers a request. Cancelling this future after it was polled leaves the outcome unknown.
    pub async fn respond(&self, request: &RequestId, answer: Answer) -> Reply<Responded> {
        let body = json!({ "action": answer.as_str(), "request_id": request.as_str() });
        let request = self.rest.client.post(self.rest.url("agent/contacts/requests/respond")).json(&body);
        self.call(request, BODY_BYTES_MAX, |body| {
            let status = body.get("data")?.get("status")?.as_str()?;
            Some(Responded { status: RequestStatus::parse(status) })
        })
        .await
    }

    /// Removes a contact, in both directions.
    pub async fn remove_contact(&self, contact: &ContactId) -> Reply<()> {
        let body = json!({ "contact_id": contact.as_str() });
        let request = self.rest.client.post(self.rest.url("agent/contacts/remove")).json(&body);
        self.call(request, BODY_BYTES_MAX, |_| Some(())).await
    }

    async fn call<T>(
        &self,
        request: reqwest::RequestBuilder,
        most: usize,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Reply<T> {
        let response = match request.header("x-api-key", self.key.header()).send().await {
            Ok(response) => response,
            Err(error) => return Reply { result: Err(not_sent_or_lost(&error)), date: None },
        };
        let status = response.status();
        let date = header_text(response.headers(), header::DATE).and_then(retry_after::date);
        let headers = response.headers().clone();
        let body = match bounded(response, most).await {
            Ok(body) => body,
            // The head has come: a refusal is a refusal even if its body breaks off.
            Err(_) if !status.is_success() => Vec::new(),
            Err(why) => return Reply { result: Err(cut(status, why)), date },
        };
        let result = if status.is_success() {
            serde_json::from_slice::<Value>(&body).ok().as_ref().and_then(read).ok_or_else(|| garbage(status))
        } else {
            let now = date.unwrap_or_else(Timestamp::now);
            Err(classify::refusal(status, header_text(&headers, header::RETRY_AFTER), &body, now))
        };
        Reply { result, date }
    }
}

fn page_of<T>(
    rows: &[Value],
    what: &'static str,
    read: impl Fn(&Value) -> Result<T, payload::PayloadProblem>,
    total: Option<u64>,
    pages: Option<u64>,
) -> Page<T> {
    let mut items = Vec::with_capacity(rows.len().min(crate::inbox::PAGE_SIZE as usize));
    let mut unreadable = 0;
    for row in rows {
        match read(row) {
            Ok(item) => items.push(item),
            Err(problem) => {
                unreadable += 1;
                warn!(event = events::PAYLOAD_MALFORMED, what, why = %problem, "a row of a listing cannot be read: it stays pending");
            }
        }
    }
    let pages = pages.map(|pages| u32::try_from(pages.max(1)).unwrap_or(u32::MAX));
    Page { items, unreadable, total, pages }
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn garbage(status: StatusCode) -> CallError {
    CallError { fault: CallFault::Garbage(status.as_u16()), code: None, message: None, retry_after: None }
}

fn cut(status: StatusCode, why: Cut) -> CallError {
    let (fault, message) = match why {
        Cut::TooLarge(most) => (CallFault::Garbage(status.as_u16()), format!("its body is larger than {most} bytes")),
        Cut::Broken => (CallFault::NoAnswer, "the answer broke off".to_owned()),
    };
    CallError { fault, code: None, message: Some(StrangerText::new(&message)), retry_after: None }
}

enum Cut {
    TooLarge(usize),
    Broken,
}

/// The body, decompressed and counted as it comes.
async fn bounded(mut response: reqwest::Response, most: usize) -> Result<Vec<u8>, Cut> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Cut::Broken)? {
        if body.len() + chunk.len() > most {
            return Err(Cut::TooLarge(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error before any answer came. Only where no connection was made is it certain that nothing was sent.
fn not_sent_or_lost(error: &reqwest::Error) -> CallError {
    let fault = if error.is_connect() || error.is_builder() { CallFault::Unreachable } else { CallFault::NoAnswer };
    let message = tls::explain(error)
        .unwrap_or_else(|| if error.is_timeout() { "time ran out".to_owned() } else { innermost(error) });
    CallError { fault, code: None, message: Some(StrangerText::new(&message)), retry_after: None }
}

/// The last cause of an error: what the operating system said, without the urls on the way.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
