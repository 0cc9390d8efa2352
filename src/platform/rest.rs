//! REST calls. Each is bounded in time and size, follows no redirect, and returns a classified result. None of them
//! panics or makes a decision, and none is sent twice (except if HTTP/2 or a closed kept connection proves that the
//! server did not process it).

mod transport;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::transport::{BodyCut, Connector};
use super::bodies::{self, BodyProblem};
use super::classify;
use super::limiter::{Class, Limiter, NoTurn};
use super::net::{Net, NetError};
use super::reply::{CallError, CallFault, Me, Page, Reply, Responded};
use super::reply_date::ReplyDates;
use crate::config::settings::Platform;
use crate::model::{AgentId, Answer, Contact, ContactId, ContactRequest, RequestId, StrangerText};
use crate::ops::stop_at::{self, StopPoint};
use crate::secret::Key;
use crate::secret::Redact;
use crate::transcript::TranscriptRecorder;

/// Most bytes of a page, after decompression.
pub(crate) const PAGE_BYTES_MAX: usize = 8 << 20;
/// Most bytes of any other body, after decompression.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Idle connections kept: as many answers as are usually on their way at once.
const IDLE_MAX: usize = 64;
/// Most bytes of an answer's headers over HTTP/2.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// While calls wait on a shared HTTP/2 connection, a ping checks it this often, and it is given up if no reply comes
/// within the same time: without this, one dead connection would block every call until the operating system notices.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Idle connections live this long: common servers and balancers close theirs after 60 s, and a call that goes out at
/// that very moment would be lost.
const IDLE_LIFE: Duration = Duration::from_secs(50);
/// The value of an ordinary browser; a CDN refuses clients without this header.
pub(super) const ACCEPT_LANGUAGE: &str = "en-US,en;q=0.9";
/// Where answers go.
const RESPOND: &str = "agent/contacts/requests/respond";

/// The client that all agents share: one pool of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rest(Arc<RestParts>);

#[derive(Debug, Clone)]
struct RestParts {
    client: Client<Connector, Full<Bytes>>,
    base: Url,
    /// Where answers go: parsed once.
    answers: Option<Uri>,
    timeout: Duration,
    limiter: Arc<Limiter>,
    proxy: Option<String>,
    /// The headers of every request.
    headers: HeaderMap,
    redact: Redact,
    recorder: Option<TranscriptRecorder>,
    count: CallCount,
    hearing: CallHearing,
    leave: CallCheck,
    dates: Arc<ReplyDates>,
}

/// Learns of each call that ended whether the platform itself answered it; not of one that does not say.
#[derive(Clone)]
pub struct CallHearing(Arc<dyn Fn(bool) + Send + Sync>);

impl CallHearing {
    /// Calls this function.
    pub fn new(hear: impl Fn(bool) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    fn hear<T>(&self, result: &Result<T, CallError>) {
        let answered = match result.as_ref().map_err(|error| error.fault) {
            Ok(_)
            | Err(
                CallFault::KeyRefused
                | CallFault::NoKey
                | CallFault::Forbidden
                | CallFault::NotFound
                | CallFault::Conflict
                | CallFault::Malformed(_)
                | CallFault::Throttled,
            ) => true,
            Err(CallFault::NoAnswer | CallFault::Unreachable | CallFault::InBetween(_)) => false,
            // A failing server, or one whose reply is no sign of anything.
            Err(CallFault::Passing(_) | CallFault::Unreadable(_) | CallFault::TooLarge) => return,
        };
        (self.0)(answered);
    }
}

impl Default for CallHearing {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl std::fmt::Debug for CallHearing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallHearing")
    }
}

/// Is asked right before each call that changes something whether it may go out.
#[derive(Clone)]
pub struct CallCheck(Arc<dyn Fn() -> bool + Send + Sync>);

impl CallCheck {
    /// Asks this function.
    pub fn new(may: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(may))
    }
}

impl Default for CallCheck {
    fn default() -> Self {
        Self::new(|| true)
    }
}

impl std::fmt::Debug for CallCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leave")
    }
}

/// Is called for every call that ended, with its name and its HTTP status, if there was one.
#[derive(Clone)]
pub struct CallCount(Arc<dyn Fn(&'static str, Option<u16>) + Send + Sync>);

impl CallCount {
    /// Calls this function.
    pub fn new(count: impl Fn(&'static str, Option<u16>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(count))
    }
}

impl Default for CallCount {
    fn default() -> Self {
        Self::new(|_, _| {})
    }
}

impl std::fmt::Debug for CallCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallCount")
    }
}

/// One agent's way to the platform; cheap to clone.
#[derive(Debug, Clone)]
pub struct AgentRest {
    rest: Rest,
    agent: AgentId,
    key: Key,
}

impl Rest {
    /// `timeout` bounds each call from its turn to the last byte of its answer.
    pub fn new(platform: &Platform, net: &Net, timeout: Duration) -> Result<Self, NetError> {
        let route = net.route(&platform.rest, true)?;
        let proxy = route.proxy();
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, platform.user_agent.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static(ACCEPT_LANGUAGE));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        headers.extend(route.forwarding_header());
        headers.extend(platform.headers.iter().cloned());
        // Shorter than the whole, so that a missing connection can be distinguished from a missing reply.
        let connector = Connector::new(route, timeout.mul_f64(2.0 / 3.0));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIFE)
            .pool_max_idle_per_host(IDLE_MAX)
            .http2_max_header_list_size(HEAD_BYTES_MAX)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .http2_keep_alive_timeout(ALIVE_EVERY)
            .build(connector);
        Ok(Self(Arc::new(RestParts {
            client,
            base: platform.rest.clone(),
            answers: below(&platform.rest, RESPOND).as_str().parse().ok(),
            timeout,
            limiter: net.limiters().of(&platform.rest),
            proxy,
            headers,
            redact: Redact::default(),
            recorder: None,
            count: CallCount::default(),
            hearing: CallHearing::default(),
            leave: CallCheck::default(),
            dates: Arc::default(),
        })))
    }

    fn with(self, change: impl FnOnce(&mut RestParts)) -> Self {
        let mut parts = Arc::unwrap_or_clone(self.0);
        change(&mut parts);
        Self(Arc::new(parts))
    }

    /// Adds every key that is used to `redact`, so that the log never shows one, and passes every call to the recorder.
    pub fn watched(self, redact: Redact, recorder: Option<TranscriptRecorder>) -> Self {
        self.with(|parts| (parts.redact, parts.recorder) = (redact, recorder))
    }

    /// Calls `count` for every call that ends.
    #[must_use]
    pub fn counted(self, count: CallCount) -> Self {
        self.with(|parts| parts.count = count)
    }

    /// Tells `hearing` of every call whether the platform answered it.
    #[must_use]
    pub fn heard(self, hearing: CallHearing) -> Self {
        self.with(|parts| parts.hearing = hearing)
    }

    /// Asks `leave` right before each call that changes something.
    #[must_use]
    pub fn allowed(self, leave: CallCheck) -> Self {
        self.with(|parts| parts.leave = leave)
    }

    /// The keys that were used.
    pub fn redact(&self) -> &Redact {
        &self.0.redact
    }

    /// The recorder of a transcript, if one is written.
    pub fn recorder(&self) -> Option<&TranscriptRecorder> {
        self.0.recorder.as_ref()
    }

    /// The base address.
    pub fn base(&self) -> &Url {
        &self.0.base
    }

    /// A description of the proxy, if one is used.
    pub fn proxy(&self) -> Option<&str> {
        self.0.proxy.as_deref()
    }

    /// This agent's way, with this key.
    pub fn agent(&self, agent: AgentId, key: Key) -> AgentRest {
        self.0.redact.add(key.expose());
        AgentRest { rest: self.clone(), agent, key }
    }
}

/// Where a page stands in a reading of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagePlace {
    /// It is the first, or one before it was not good: it waits like any call.
    Begins,
    /// All pages before it were good.
    Follows,
}

impl PagePlace {
    fn class(self) -> Class {
        match self {
            PagePlace::Begins => Class::Call,
            PagePlace::Follows => Class::Further,
        }
    }
}

impl AgentRest {
    /// `GET /agent/me`: whose key this is.
    pub async fn me(&self) -> Reply<Me> {
        self.call(Class::Call, RestCall::get("agent/me"), BODY_BYTES_MAX, bodies::me).await
    }

    /// One page of the pending requests to this agent; pages count from 1, `page_size` is 1 to 100.
    pub async fn requests(&self, page: u32, page_size: u32, place: PagePlace) -> Reply<Page<ContactRequest>> {
        let asked = RestCall::page("agent/contacts/requests", page, page_size);
        self.call(place.class(), asked, PAGE_BYTES_MAX, bodies::requests).await
    }

    /// One page of this agent's contacts; pages count from 1, `page_size` is 1 to 100.
    pub async fn contacts(&self, page: u32, page_size: u32, place: PagePlace) -> Reply<Page<Contact>> {
        let asked = RestCall::page("agent/contacts", page, page_size);
        self.call(place.class(), asked, PAGE_BYTES_MAX, bodies::contacts).await
    }

    /// Answers a request. Cancelling this future after it was polled leaves the outcome unknown, as do
    /// [`CallFault::NoAnswer`], [`CallFault::Unreadable`], [`CallFault::InBetween`] and a 5xx.
    pub async fn respond(&self, request: &RequestId, answer: Answer) -> Reply<Responded> {
        let asked = RestCall::post(RESPOND, &AnswerBody { action: answer.as_str(), request_id: request.as_str() });
        self.call(Class::Answer, asked, BODY_BYTES_MAX, bodies::responded).await
    }

    /// Removes a contact, in both directions. Any 2xx of the platform counts as success, whatever its body.
    pub async fn remove_contact(&self, contact: &ContactId, for_person: bool) -> Reply<()> {
        // If no person waits for it, answers go first.
        let class = if for_person { Class::Answer } else { Class::Call };
        let asked = RestCall::post("agent/contacts/remove", &RemovalBody { contact_id: contact.as_str() });
        self.call(class, asked, BODY_BYTES_MAX, |_| Ok(())).await
    }

    async fn call<T>(
        &self,
        class: Class,
        asked: RestCall,
        most: usize,
        read: impl FnOnce(&[u8]) -> Result<T, BodyProblem>,
    ) -> Reply<T> {
        let turn = match self.rest.0.limiter.turn(class).await {
            Ok(turn) => turn,
            Err(NoTurn::Paused(left)) => return Reply { result: Err(transport::paused(left)), date: None },
            Err(NoTurn::Unreached(left)) => return Reply { result: Err(transport::unreached(left)), date: None },
        };
        if asked.body.is_some() {
            if !(self.rest.0.leave.0)() {
                turn.ended(None, None);
                return Reply { result: Err(transport::not_ours()), date: None };
            }
            stop_at::here(StopPoint::Call);
        }
        let recorded = self.recorded(&asked);
        let until = Instant::now() + self.rest.0.timeout;
        let sent = match self.request(&asked) {
            Ok(request) => match timeout_at(until, self.rest.0.client.request(request)).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err(transport::no_answer(&error)),
                Err(_) => Err(transport::time_ran_out()),
            },
            Err(error) => Err(error),
        };
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                match error.fault {
                    CallFault::Unreachable => turn.unreached(),
                    _ => turn.ended(None, None),
                }
                (self.rest.0.count.0)(asked.path, None);
                let error = error.about(&self.url(asked.path));
                if let Some((recorder, call)) = recorded {
                    recorder.unanswered(&self.agent, call, &error.to_string());
                }
                let result = Err(error);
                self.rest.0.hearing.hear(&result);
                return Reply { result, date: None };
            }
        };
        let status = response.status();
        (self.rest.0.count.0)(asked.path, Some(status.as_u16()));
        let date = self.rest.0.dates.of(response.headers());
        let wait = header_text(response.headers(), header::RETRY_AFTER).map(str::to_owned);
        let body = timeout_at(until, transport::bounded(response, most)).await.unwrap_or(Err(BodyCut::Broken));
        if let Some((recorder, call)) = recorded {
            let body = body.as_deref().unwrap_or_default();
            recorder.answered(&self.agent, call, status.as_u16(), wait.as_deref(), body);
        }
        let result = match (status.is_success(), body) {
            // A login page replies to every call with 200.
            (true, Ok(body)) if classify::is_foreign_page(&body) => {
                let page = classify::excerpt(&body, &self.rest.0.redact);
                let fault = CallFault::InBetween(status.as_u16());
                Err(CallError { fault, code: None, message: Some(page), retry_after: None })
            }
            (true, Ok(body)) => read(&body).map_err(|problem| {
                let message = Some(StrangerText::new(&problem.to_string()));
                CallError { fault: CallFault::Unreadable(status.as_u16()), code: None, message, retry_after: None }
            }),
            (true, Err(BodyCut::TooLarge(_))) if most == PAGE_BYTES_MAX => {
                let message = Some(StrangerText::new(&format!("it has more than {PAGE_BYTES_MAX} bytes")));
                Err(CallError { fault: CallFault::TooLarge, code: None, message, retry_after: None })
            }
            (true, Err(cut)) => Err(cut.fault(status)),
            // A refusal counts even if its body is incomplete or endless; but 401 and 403 need a body in the platform's
            // format.
            (false, body) => {
                let now = date.unwrap_or_else(Timestamp::now);
                let body = body.ok();
                Err(classify::refusal(status, wait.as_deref(), body.as_deref(), now, &self.rest.0.redact))
            }
        };
        self.rest.0.hearing.hear(&result);
        turn.ended(Some(status.as_u16()), result.as_ref().err().and_then(|error| error.retry_after));
        Reply { result, date }
    }

    fn url(&self, path: &str) -> Url {
        below(&self.rest.0.base, path)
    }

    fn uri(&self, asked: &RestCall) -> Result<Uri, http::Error> {
        if let (RESPOND, None, Some(known)) = (asked.path, &asked.query, &self.rest.0.answers) {
            return Ok(known.clone());
        }
        let mut url = self.url(asked.path);
        url.set_query(asked.query.as_deref());
        Ok(url.as_str().parse()?)
    }

    fn request(&self, asked: &RestCall) -> Result<Request<Full<Bytes>>, CallError> {
        let unusable = || transport::unsent("the address cannot be used");
        let body = asked.body.clone().unwrap_or_default();
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = self.uri(asked).map_err(|_| unusable())?;
        *request.headers_mut() = self.rest.0.headers.clone();
        let headers = request.headers_mut();
        headers.insert("x-api-key", self.key.header());
        if asked.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.method_mut() = Method::POST;
        }
        Ok(request)
    }

    /// Records a call in the transcript, if there is one.
    fn recorded(&self, asked: &RestCall) -> Option<(&TranscriptRecorder, u64)> {
        let recorder = self.rest.0.recorder.as_ref()?;
        let method = if asked.body.is_some() { "POST" } else { "GET" };
        let number = recorder.call(&self.agent, method, asked.path, asked.query.as_deref(), asked.body.as_deref());
        Some((recorder, number))
    }
}

/// The address of this path.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let whole = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&whole);
    url
}

/// The call: a POST if there is a body.
struct RestCall {
    path: &'static str,
    query: Option<String>,
    body: Option<Bytes>,
}

impl RestCall {
    fn get(path: &'static str) -> Self {
        Self { path, query: None, body: None }
    }

    fn page(path: &'static str, page: u32, page_size: u32) -> Self {
        Self { query: Some(format!("page={page}&page_size={page_size}")), ..Self::get(path) }
    }

    fn post(path: &'static str, body: &impl Serialize) -> Self {
        // Texts alone always become JSON.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { body: Some(body.into()), ..Self::get(path) }
    }
}

/// `POST /agent/contacts/requests/respond` \[docs\].
#[derive(Serialize)]
struct AnswerBody<'a> {
    action: &'static str,
    request_id: &'a str,
}

/// `POST /agent/contacts/remove` \[docs\].
#[derive(Serialize)]
struct RemovalBody<'a> {
    contact_id: &'a str,
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests;
