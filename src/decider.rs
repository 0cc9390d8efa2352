//! Deciders: programs on this machine that are asked about doubtful requests, over HTTP on loopback or a Unix socket.
//!
//! This module sends a question and returns what the decider replied. Time, size, number and cost of the questions are
//! bounded for all agents together. If anything goes wrong, the decider has not replied, and the request stays pending.
//! The policy says what a decider's verdict may do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::settings::{DeciderAddress, DeciderSettings, SecretKind};
use crate::model::{AgentId, ContactRequest, RequestId, StrangerText, Verdict};
use crate::policy::ask::{AskFailure, AskFault, DeciderReply, MESSAGE_CHARS_MAX, NAME_CHARS_MAX};
use crate::policy::{Circumstances, Question};
use crate::secret::{self, Key, Redact, signing};

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// Most bytes of the headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 200;
/// While a secret is being changed, both secrets sign.
const SECRETS_MAX: usize = 2;
/// How long the check, which asks no question, waits for a connection.
const REACH_MAX: Duration = Duration::from_secs(5);
/// The period of `per_hour`.
const HOUR: Duration = Duration::from_secs(3_600);

/// All deciders of the configuration. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Deciders(Arc<All>);

#[derive(Debug)]
struct All {
    deciders: BTreeMap<String, Decider>,
    clock: Clock,
    redact: Redact,
}

#[derive(Debug)]
struct Decider {
    settings: DeciderSettings,
    slots: Semaphore,
    /// The times of the questions in the last hour.
    asked_at: Mutex<VecDeque<Instant>>,
}

/// The body of the program's answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeciderResponse {
    id: String,
    verdict: String,
    #[serde(default)]
    reason: String,
}

impl Deciders {
    /// The deciders of these settings.
    pub fn new(settings: &[DeciderSettings], clock: Clock, redact: Redact) -> Self {
        let decider = |settings: &DeciderSettings| {
            let slots = Semaphore::new(usize::try_from(settings.in_flight).unwrap_or(1));
            let decider = Decider { settings: settings.clone(), slots, asked_at: Mutex::default() };
            (settings.name.clone(), decider)
        };
        Self(Arc::new(All { deciders: settings.iter().map(decider).collect(), clock, redact }))
    }

    /// Asks. The error says why the decider has not replied. Also returns how long the decider took, without the time that
    /// the question waited before.
    pub async fn ask(
        &self,
        question: &Question,
        request: &RequestId,
        body: Vec<u8>,
    ) -> (Result<DeciderReply, AskFailure>, Duration) {
        let slot = match self.0.deciders.get(question.decider.as_str()) {
            // The semaphore is never closed.
            Some(decider) => decider.slots.acquire().await.ok(),
            None => None,
        };
        let began = self.0.clock.now().mono;
        let result = self.ask_now(question, request, body).await;
        drop(slot);
        (result, self.0.clock.now().mono.since(began))
    }

    async fn ask_now(
        &self,
        question: &Question,
        request: &RequestId,
        body: Vec<u8>,
    ) -> Result<DeciderReply, AskFailure> {
        let Some(decider) = self.0.deciders.get(question.decider.as_str()) else {
            return Err(AskFailure { fault: AskFault::NotConfigured, again: Some(HOUR) });
        };
        decider.spend()?;
        let failed = |fault| AskFailure { fault, again: None };
        let signed = self.sign(decider, question, request, &body).await.map_err(failed)?;
        match tokio::time::timeout(decider.settings.timeout, decider.exchange(body, &signed)).await {
            Ok(said) => read(&said.map_err(failed)?, request).map_err(failed),
            Err(_) => Err(failed(AskFault::Slow)),
        }
    }

    /// The headers of Standard Webhooks, if the decider has a secret. The secret is read for each question, so that a
    /// change takes effect at once.
    async fn sign(
        &self,
        decider: &Decider,
        question: &Question,
        request: &RequestId,
        body: &[u8],
    ) -> Result<Vec<(&'static str, String)>, AskFault> {
        let Some(source) = decider.settings.secret.clone() else { return Ok(Vec::new()) };
        let read =
            tokio::task::spawn_blocking(move || secret::read_lines(&source, SecretKind::Secret, SECRETS_MAX)).await;
        let keys = read.ok().and_then(Result::ok).ok_or(AskFault::NoSecret)?;
        self.0.redact.add_all(keys.iter().map(Key::expose));
        // The id is the same for each attempt of one question.
        let id = Sha256::new().chain_update(request.as_str()).chain_update(question.key.as_bytes()).finalize();
        let id = id.iter().take(16).fold("ask_".to_owned(), |id, byte| format!("{id}{byte:02x}"));
        let at = self.0.clock.now().wall.as_second();
        let signatures = signing::signatures(&keys, &id, at, body).map_err(|_| AskFault::NoSecret)?;
        Ok(vec![("webhook-id", id), ("webhook-timestamp", at.to_string()), ("webhook-signature", signatures)])
    }
}

/// Checks whether a decider can be reached and its secret can be read, without asking it a question.
///
/// # Errors
/// The reason, for people and without a secret.
pub async fn reach(settings: &DeciderSettings) -> Result<(), String> {
    if let Some(source) = settings.secret.clone() {
        let read =
            tokio::task::spawn_blocking(move || secret::read_lines(&source, SecretKind::Secret, SECRETS_MAX)).await;
        let keys = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        signing::signatures(&keys, "", 0, b"").map_err(|unusable| unusable.to_string())?;
    }
    let connected = async {
        match &settings.address {
            DeciderAddress::Tcp { address, .. } => TcpStream::connect(address).await.map(drop),
            DeciderAddress::Unix { socket, .. } => UnixStream::connect(socket).await.map(drop),
        }
    };
    match tokio::time::timeout(REACH_MAX, connected).await {
        Ok(connected) => connected.map_err(|error| format!("nobody takes a connection there: {error}")),
        Err(_) => Err(format!("nobody takes a connection there within {} s", REACH_MAX.as_secs())),
    }
}

impl Decider {
    /// Counts the question against `per_hour`.
    fn spend(&self) -> Result<(), AskFailure> {
        let now = Instant::now();
        let mut asked_at = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        while asked_at.front().is_some_and(|at| now.duration_since(*at) >= HOUR) {
            asked_at.pop_front();
        }
        match asked_at.front() {
            Some(first) if asked_at.len() >= usize::try_from(self.settings.per_hour).unwrap_or(usize::MAX) => {
                Err(AskFailure { fault: AskFault::Spent, again: Some(HOUR.saturating_sub(now.duration_since(*first))) })
            }
            Some(_) | None => {
                asked_at.push_back(now);
                Ok(())
            }
        }
    }

    /// Nobody was there to be asked: that takes no place.
    fn give_back(&self) -> AskFault {
        self.asked_at.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
        AskFault::Unreachable
    }

    async fn exchange(&self, body: Vec<u8>, signed: &[(&'static str, String)]) -> Result<Vec<u8>, AskFault> {
        match &self.settings.address {
            DeciderAddress::Tcp { address, path } => {
                let stream = TcpStream::connect(address).await.map_err(|_| self.give_back())?;
                exchange(stream, (&address.to_string(), path), signed, body).await
            }
            DeciderAddress::Unix { socket, path } => {
                let stream = UnixStream::connect(socket).await.map_err(|_| self.give_back())?;
                exchange(stream, ("localhost", path), signed, body).await
            }
        }
    }
}

/// One question, one answer, on a connection of its own.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    (host, path): (&str, &str),
    signed: &[(&'static str, String)],
    body: Vec<u8>,
) -> Result<Vec<u8>, AskFault> {
    let mut http = hyper::client::conn::http1::Builder::new();
    let (mut send, connection) =
        http.max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await.map_err(|_| AskFault::Unreachable)?;
    let request = signed.iter().fold(http::Request::post(path), |request, (name, value)| request.header(*name, value));
    let request = request
        .header(http::header::HOST, host)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, "application/json")
        .header(http::header::USER_AGENT, concat!("doorman/", env!("CARGO_PKG_VERSION")))
        .header(http::header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| AskFault::Unreachable)?;
    let answer = async {
        let response = send.send_request(request).await.map_err(|_| AskFault::Unreachable)?;
        let status = response.status();
        if status != http::StatusCode::OK {
            return Err(AskFault::Status(status.as_u16()));
        }
        let mut incoming = response.into_body();
        let mut read = Vec::new();
        while let Some(frame) = incoming.frame().await {
            let Ok(data) = frame.map_err(|_| AskFault::Unreadable)?.into_data() else { continue };
            if data.len() > ANSWER_BYTES_MAX - read.len() {
                return Err(AskFault::TooLarge);
            }
            read.extend_from_slice(&data);
        }
        Ok(read)
    };
    let connection = async move {
        let _ = connection.await;
        // Data that arrived before the connection ended is still buffered for `answer`, so this branch never completes.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer,
        () = connection => Err(AskFault::Unreachable),
    }
}

/// Reads the verdict in an answer, which must be about this request and contain nothing else.
fn read(answer: &[u8], request: &RequestId) -> Result<DeciderReply, AskFault> {
    let said: DeciderResponse = serde_json::from_slice(answer).map_err(|_| AskFault::Unreadable)?;
    if said.id != request.as_str() {
        return Err(AskFault::WrongId);
    }
    let verdict = Verdict::parse(&said.verdict).ok_or(AskFault::Unreadable)?;
    let reason: String = said.reason.chars().take(REASON_CHARS_MAX).collect();
    let reason = (!reason.is_empty()).then(|| StrangerText::new(&reason));
    Ok(DeciderReply { verdict, reason })
}

/// The body that is sent to a decider. Strangers' text is in separate fields, as data; `said` removes keys from it.
pub fn body(
    agent: &AgentId,
    request: &ContactRequest,
    question: &Question,
    circumstances: &Circumstances,
    said: impl Fn(&str) -> StrangerText,
) -> Vec<u8> {
    let text = |text: Option<&StrangerText>, most: usize| {
        text.map(|text| said(text.raw()).raw().chars().take(most).collect::<String>())
    };
    json!({
        "version": 1,
        "id": request.id.as_str(),
        "agent": agent.as_str(),
        "decider": question.decider.as_str(),
        "request": {
            "handle": text(request.sender.original(), NAME_CHARS_MAX),
            "name": text(request.name.as_ref(), NAME_CHARS_MAX),
            "message": text(request.message.as_ref(), MESSAGE_CHARS_MAX),
        },
        "rules": { "verdict": "defer", "by": question.rule.as_str() },
        "facts": {
            "first_seen": circumstances.first_seen.to_string(),
            "contacts": circumstances.contacts,
            "owner_is_contact": circumstances.owner_is_contact,
            "sender_is_contact": circumstances.sender_is_contact,
        },
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests;
