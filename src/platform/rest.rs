//! REST calls. Each is bounded in time and size, follows no redirect, and comes back classified; none of them panics or
//! decides, and none is sent twice (but for what HTTP/2 or a closed kept connection proves was never taken up).

mod transport;

use std::time::Duration;

use http::{HeaderMap, header};
use jiff::Timestamp;
use serde_json::json;
use url::{Host, Url};

use self::transport::Cut;
use super::bodies::{self, BodyProblem};
use super::reply::{CallError, CallFault, Me, Page, Reply, Responded};
use super::{classify, retry_after, tls};
use crate::config::settings::Platform;
use crate::model::{AgentId, Answer, Contact, ContactId, ContactRequest, RequestId, StrangerText};
use crate::ops::log::redact::Redact;
use crate::secret::Key;
use crate::transcript::Recorder;

/// Most bytes of a page, after decompression.
pub const PAGE_BYTES_MAX: usize = 8 << 20;
/// Most bytes of any other body, after decompression.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Idle connections kept: as many answers as are usually on their way at once.
const IDLE_MAX: usize = 64;
/// Most bytes of an answer's headers over HTTP/2.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// While calls wait on a shared HTTP/2 connection it is asked this often whether it lives, and given up after as long
/// again: without this, one dead connection would swallow every call until the operating system notices.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("the REST client cannot be made: {0}")]
pub struct RestError(String);

/// The client that all agents share: one pool of connections.
#[derive(Debug, Clone)]
pub struct Rest {
    client: reqwest::Client,
    base: Url,
    redact: Redact,
    recorder: Option<Recorder>,
}

/// One agent's way to the platform; cheap to clone.
#[derive(Debug, Clone)]
pub struct AgentRest {
    rest: Rest,
    agent: AgentId,
    key: Key,
}

impl Rest {
    /// `tls` is needed for `https`; `timeout` bounds each call from its start to the last byte of its answer. Proxies come
    /// from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`); this machine is never asked through one.
    pub fn new(platform: &Platform, tls: Option<&rustls::ClientConfig>, timeout: Duration) -> Result<Self, RestError> {
        let secure = platform.rest.scheme() == "https";
        let mut tls = match tls {
            Some(tls) => tls.clone(),
            None if secure => return Err(RestError("TLS was not set up for an `https` address".to_owned())),
            None => tls::none().map_err(|error| RestError(error.to_string()))?,
        };
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(timeout)
            // Earlier than the whole, so that a connection that never was is told from an answer that never came.
            .connect_timeout(timeout.mul_f64(2.0 / 3.0))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("doorman/", env!("CARGO_PKG_VERSION")))
            .pool_max_idle_per_host(IDLE_MAX)
            .http2_max_header_list_size(HEAD_BYTES_MAX)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .http2_keep_alive_timeout(ALIVE_EVERY)
            .tcp_nodelay(true);
        if loopback(&platform.rest) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| RestError(tls::innermost(&error)))?;
        Ok(Self { client, base: platform.rest.clone(), redact: Redact::default(), recorder: None })
    }

    /// Tells `redact` every key that is used, so that the log never shows one; and the recorder every call.
    pub fn watched(self, redact: Redact, recorder: Option<Recorder>) -> Self {
        Self { redact, recorder, ..self }
    }

    /// Where a transcript is written, if one is.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// This agent's way, with this key.
    pub fn agent(&self, agent: AgentId, key: Key) -> AgentRest {
        self.redact.add(key.expose());
        AgentRest { rest: self.clone(), agent, key }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let whole = format!("{}/{path}", url.path().trim_end_matches('/'));
        url.set_path(&whole);
        url
    }
}

/// Whether this is this very machine, as the sandbox is.
fn loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl AgentRest {
    /// Whose way it is.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// `GET /agent/me`: whose key this is.
    pub async fn me(&self) -> Reply<Me> {
        self.call(self.get("agent/me"), BODY_BYTES_MAX, bodies::me).await
    }

    /// One page of the pending requests to this agent; pages count from 1, `page_size` is 1 to 100.
    pub async fn requests(&self, page: u32, page_size: u32) -> Reply<Page<ContactRequest>> {
        let request = self.get("agent/contacts/requests").query(&[("page", page), ("page_size", page_size)]);
        self.call(request, PAGE_BYTES_MAX, bodies::requests).await
    }

    /// One page of this agent's contacts; pages count from 1, `page_size` is 1 to 100.
    pub async fn contacts(&self, page: u32, page_size: u32) -> Reply<Page<Contact>> {
        let request = self.get("agent/contacts").query(&[("page", page), ("page_size", page_size)]);
        self.call(request, PAGE_BYTES_MAX, bodies::contacts).await
    }

    /// Answers a request. Cancelling this future after it was polled leaves the outcome unknown, as do
    /// [`CallFault::NoAnswer`], [`CallFault::Unreadable`] and a 5xx.
    pub async fn respond(&self, request: &RequestId, answer: Answer) -> Reply<Responded> {
        let body = json!({ "action": answer.as_str(), "request_id": request.as_str() });
        self.call(self.post("agent/contacts/requests/respond").json(&body), BODY_BYTES_MAX, bodies::responded).await
    }

    /// Removes a contact, in both directions. Any 2xx will do, whatever it says.
    pub async fn remove_contact(&self, contact: &ContactId) -> Reply<()> {
        let body = json!({ "contact_id": contact.as_str() });
        self.call(self.post("agent/contacts/remove").json(&body), BODY_BYTES_MAX, |_| Ok(())).await
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.rest.client.get(self.rest.url(path))
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.rest.client.post(self.rest.url(path))
    }

    async fn call<T>(
        &self,
        request: reqwest::RequestBuilder,
        most: usize,
        read: impl FnOnce(&[u8]) -> Result<T, BodyProblem>,
    ) -> Reply<T> {
        let (recorded, sent) = match request.header("x-api-key", self.key.header()).build() {
            Ok(request) => (self.recorded(&request), self.rest.client.execute(request).await),
            Err(error) => (None, Err(error)),
        };
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                let error = transport::no_answer(&error);
                if let Some((recorder, call)) = recorded {
                    recorder.unanswered(&self.agent, call, &error.to_string());
                }
                return Reply { result: Err(error), date: None };
            }
        };
        let status = response.status();
        let date = header_text(response.headers(), header::DATE).and_then(retry_after::date);
        let wait = header_text(response.headers(), header::RETRY_AFTER).map(str::to_owned);
        let body = transport::bounded(response, most).await;
        if let Some((recorder, call)) = recorded {
            let body = body.as_deref().unwrap_or_default();
            recorder.answered(&self.agent, call, status.as_u16(), wait.as_deref(), body);
        }
        let result = match (status.is_success(), body) {
            // A login page answers everything with 200.
            (true, Ok(body)) if classify::is_foreign_page(&body) => {
                let page = classify::excerpt(&self.rest.redact.scrub_bytes(&body));
                Err(CallError {
                    fault: CallFault::InBetween(status.as_u16()),
                    code: None,
                    message: Some(page),
                    retry_after: None,
                })
            }
            (true, Ok(body)) => read(&body).map_err(|problem| {
                let message = Some(StrangerText::new(&problem.to_string()));
                CallError { fault: CallFault::Unreadable(status.as_u16()), code: None, message, retry_after: None }
            }),
            (true, Err(Cut::TooLarge(_))) if most == PAGE_BYTES_MAX => Err(CallError {
                fault: CallFault::TooLarge,
                code: None,
                message: Some(StrangerText::new(&format!("it has more than {PAGE_BYTES_MAX} bytes"))),
                retry_after: None,
            }),
            (true, Err(cut)) => Err(cut.fault(status)),
            // A refusal is one even where its body breaks off or has no end; but 401 and 403 need the platform's words.
            (false, body) => {
                let now = date.unwrap_or_else(Timestamp::now);
                // It is shown to people, and a careless platform repeats the key in it.
                let body = body.ok().map(|body| self.rest.redact.scrub_bytes(&body).into_owned());
                Err(classify::refusal(status, wait.as_deref(), body.as_deref(), now))
            }
        };
        Reply { result, date }
    }

    /// Puts a call on record, if one is kept.
    fn recorded(&self, request: &reqwest::Request) -> Option<(&Recorder, u64)> {
        let recorder = self.rest.recorder.as_ref()?;
        let url = request.url();
        let path = url.path().strip_prefix(self.rest.base.path()).unwrap_or(url.path()).trim_start_matches('/');
        let body = request.body().and_then(reqwest::Body::as_bytes);
        Some((recorder, recorder.call(&self.agent, request.method().as_str(), path, url.query(), body)))
    }
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests;
