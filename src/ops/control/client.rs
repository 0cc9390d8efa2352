//! The CLI's side of the control socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::wire::{Claim, ControlOp, ControlRequest, OpError, OpReply};
use crate::config::settings::CONTROL_READ_NAME;
use crate::ops::health::Health;

/// Most bytes of a reply that are read: 10,000 pending requests of 500 characters each, and room.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longer than the server waits for the daemon.
const REPLY_MAX: Duration = Duration::from_secs(150);
/// Longest wait for what the daemon knows without doing anything: an agent that does not answer for 20 s is started again.
const KNOWN_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a reply about health, for which the daemon waits for nothing.
const HEALTH_MAX: Duration = Duration::from_secs(5);

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or nobody answers on it.
    #[error(
        "no doorman is running here (looked at {places}): start it with `doorman run` or `systemctl start doorman`, or say where it is with `--socket PATH`"
    )]
    Absent {
        /// The paths that were tried, in backticks.
        places: String,
    },
    /// The socket exists, but this user may not use it.
    #[error(
        "you may not use the control socket `{0}`: be root (`sudo doorman …`), the daemon's own user, or a member of its group (`control.group`)"
    )]
    Forbidden(PathBuf),
    /// The daemon sent no reply, or one that cannot be read.
    #[error("the control socket `{path}` failed: {why}")]
    Broken {
        /// The socket's path.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The daemon refused.
    #[error(transparent)]
    Refused(#[from] OpError),
}

/// The result of a call whose effect was not waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// Done, and this is the answer.
    Reply(Box<OpReply>),
    /// The daemon has the call, and will log its result.
    Accepted,
}

/// A daemon's socket on which something answered. Each call uses a connection of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    path: PathBuf,
    who: Claim,
}

impl Client {
    /// The first of these paths on which a daemon answers.
    ///
    /// # Errors
    /// [`ClientError::Absent`]; [`ClientError::Forbidden`] if a socket exists that this user may not use.
    pub async fn find(places: &[PathBuf]) -> Result<Self, ClientError> {
        let mut forbidden = None;
        for path in places {
            match UnixStream::connect(path).await {
                Ok(_) => return Ok(Self { path: path.clone(), who: Claim::default() }),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    forbidden.get_or_insert_with(|| path.clone());
                }
                Err(_) => {}
            }
        }
        if let Some(path) = forbidden {
            return Err(ClientError::Forbidden(path));
        }
        // The error message leaves out the socket for reading: it is in the same directory as the other one.
        let named = places.iter().filter(|path| !path.ends_with(CONTROL_READ_NAME));
        let places: Vec<String> = named.map(|path| format!("`{}`", path.display())).collect();
        Err(ClientError::Absent { places: places.join(", ") })
    }

    /// The same client, which also sends this claim about the person who asks.
    #[must_use]
    pub fn saying(self, who: Claim) -> Self {
        Self { who, ..self }
    }

    /// Asks, and waits for the answer, at most 150 s; 30 s for the status and what is pending.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call(&self, op: &ControlOp) -> Result<OpReply, ClientError> {
        match self.give(op, true).await? {
            Submitted::Reply(reply) => Ok(*reply),
            Submitted::Accepted => Err(self.broken("it did not wait for the answer")),
        }
    }

    /// Asks. With `wait`, waits for the reply; otherwise only until the daemon has the call.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn give(&self, op: &ControlOp, wait: bool) -> Result<Submitted, ClientError> {
        let known = matches!(op, ControlOp::Status | ControlOp::Pending { .. });
        match tokio::time::timeout(if known { KNOWN_MAX } else { REPLY_MAX }, self.exchange(op, wait)).await {
            Ok(result) => result,
            Err(_) if known => Err(self.broken(format!(
                "no answer within {} s: `doorman health` says whether the daemon is alive",
                KNOWN_MAX.as_secs()
            ))),
            Err(_) => Err(self.broken("no answer in time; it may still be done")),
        }
    }

    /// Whether the daemon is alive, or with `ready` whether it is ready. The daemon answers from its board, without
    /// waiting.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn health(&self, ready: bool) -> Result<Health, ClientError> {
        let request = Request::get(if ready { "/readyz" } else { "/healthz" });
        let request = request.header(header::HOST, "doorman").body(Full::default());
        let exchange = self.send(request.map_err(|error| self.broken(error))?);
        let (status, body) = match tokio::time::timeout(HEALTH_MAX, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.broken(format!("no answer within {} s", HEALTH_MAX.as_secs()))),
        };
        serde_json::from_slice(&body).map_err(|_| self.said_no(status, &body))
    }

    async fn exchange(&self, op: &ControlOp, wait: bool) -> Result<Submitted, ClientError> {
        let asked = ControlRequest { op: op.clone(), who: self.who.clone() };
        let body = serde_json::to_vec(&asked).map_err(|error| self.broken(error))?;
        let request = Request::post(if wait { "/v1/op" } else { "/v1/op?wait=false" })
            .header(header::HOST, "doorman")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.broken(error))?;
        let (status, body) = self.send(request).await?;
        if status == StatusCode::ACCEPTED {
            return Ok(Submitted::Accepted);
        }
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map(Box::new)
                .map(Submitted::Reply)
                .map_err(|error| self.broken(error));
        }
        Err(self.said_no(status, &body))
    }

    /// One request on a connection of its own.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(self.path.clone()),
            _ => ClientError::Absent { places: format!("`{}`", self.path.display()) },
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), REPLY_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|error| self.broken(error))?.to_bytes()))
        };
        // Both halves in one future: the connection ends with the call, and no task outlives it.
        tokio::pin!(exchange, connection);
        tokio::select! {
            result = &mut exchange => result,
            _ = &mut connection => exchange.await,
        }
    }

    fn said_no(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<OpError>(body) {
            Ok(error) if error.code == "forbidden" => ClientError::Forbidden(self.path.clone()),
            Ok(error) => error.into(),
            Err(_) => self.broken(format!("http {}", status.as_u16())),
        }
    }

    fn broken(&self, why: impl ToString) -> ClientError {
        ClientError::Broken { path: self.path.clone(), why: why.to_string() }
    }
}
