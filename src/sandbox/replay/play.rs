//! One connection during a replay.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_util::task::TaskTracker;

use super::script::{PlatformStep, RecordedConnection, RecordedStep};
use super::{ReplayShared, agent_of};
use crate::sandbox::reply::{CloseWithoutReply, HttpReply, error, json_value, raw};
use crate::sandbox::server::header as header_text;

/// Most bytes of a frame from the client.
const FRAME_MAX: usize = 1 << 20;
/// Most bytes of a frame that is malformed.
const GARBLED_MAX: u64 = 4 << 20;
/// How long the events after an answer wait for a client that sends no answer.
const ANSWERS_WAIT: Duration = Duration::from_secs(5);
/// Most frames of the client that are stored because no step has waited for them yet.
const HEARD_MAX: usize = 1024;

/// Answers an upgrade like the next recorded one.
pub(super) async fn upgrade(
    mut request: Request<hyper::body::Incoming>,
    stage: &Arc<ReplayShared>,
    tasks: &TaskTracker,
) -> Result<HttpReply, CloseWithoutReply> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let Some(accept) = header_text(&parts, "sec-websocket-key").map(|key| derive_accept_key(key.as_bytes())) else {
        return Ok(raw(400, "text/plain", "not a WebSocket upgrade"));
    };
    let number = {
        let mut scene = stage.scene();
        scene.actual = agent_of(&parts).or_else(|| scene.actual.take());
        scene.next += 1;
        scene.next
    };
    stage.known.cancel();
    let Some(conn) = stage.script.conns.get(number - 1) else {
        stage.tell(format!("connection {number} is not in the transcript; 503"));
        return Ok(error(503, "replay_over", "the transcript is over", None));
    };
    let status = conn.answer.status;
    stage.tell(format!(
        "connection {number} of {}: {}",
        stage.script.conns.len(),
        status.map_or_else(|| "no answer".to_owned(), |status| status.to_string())
    ));
    match status {
        None => return Err(CloseWithoutReply),
        Some(101) => {}
        Some(status) => return Ok(refusal(status, conn)),
    }
    let (task_stage, conn) = (stage.clone(), conn.clone());
    tasks.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let played = ConnectionPlayer::new(upgraded, &task_stage, conn.beats.clone()).await.play(&conn, number);
        task_stage.stop.run_until_cancelled(played).await;
    });
    let mut reply = raw(101, "", bytes::Bytes::new());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(reply)
}

fn refusal(status: u16, conn: &RecordedConnection) -> HttpReply {
    let wait = conn.answer.retry_after;
    let mut reply = match &conn.answer.code {
        None => raw(status, "", bytes::Bytes::new()),
        Some(code) => json_value(
            status,
            &json!({ "error": { "code": code, "message": "as recorded", "request_id": null, "retry_after": wait } }),
        ),
    };
    if let Some(seconds) = wait {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// The connection is over.
struct ConnectionOver;

struct ConnectionPlayer<'a> {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    stage: &'a ReplayShared,
    /// Frames of the client that no step has waited for yet.
    heard: VecDeque<[Value; 5]>,
    /// The client's refs by the recorded ones, as JSON.
    refs: HashMap<String, Value>,
    /// For each recorded heartbeat, whether it was answered.
    beats: VecDeque<bool>,
}

impl<'a> ConnectionPlayer<'a> {
    async fn new(upgraded: Upgraded, stage: &'a ReplayShared, beats: Vec<bool>) -> Self {
        let config = WebSocketConfig::default().max_message_size(Some(FRAME_MAX)).max_frame_size(Some(FRAME_MAX));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        Self { socket, stage, heard: VecDeque::new(), refs: HashMap::new(), beats: beats.into() }
    }

    async fn play(mut self, conn: &RecordedConnection, number: usize) {
        // A client that leaves at the end of a transcript was ordered to: everything was played before.
        let leaves = |what: &PlatformStep| matches!(what, PlatformStep::Await { event, .. } if event == "phx_leave");
        let last = conn.steps.iter().position(|step| leaves(&step.what)).unwrap_or(conn.steps.len());
        let (before, leaving) = conn.steps.split_at(last);
        match self.steps(before).await {
            Ok(()) => self.stage.tell(format!("connection {number}: all was said")),
            Err(ConnectionOver) => {
                return self.stage.tell(format!("connection {number}: the client left before all was said"));
            }
        }
        if number == self.stage.script.conns.len() {
            self.stage.tell("the transcript is over".to_owned());
        }
        if self.steps(leaving).await.is_err() {
            return;
        }
        // What arrives now has no recorded reply: only heartbeats are answered.
        if !matches!(conn.steps.last().map(|step| &step.what), Some(PlatformStep::End(_))) {
            while self.listen(None).await.is_ok() {
                self.heard.clear();
            }
        }
    }

    async fn steps(&mut self, steps: &[RecordedStep]) -> Result<(), ConnectionOver> {
        for step in steps {
            if let PlatformStep::Await { join_ref, reference, topic, event } = &step.what {
                let topic = self.stage.recast(topic.clone());
                let [theirs, own, ..] = self.until(&topic, event).await?;
                self.refs.insert(join_ref.to_string(), theirs);
                self.refs.insert(reference.to_string(), own);
                continue;
            }
            self.answered(step.after).await?;
            if !self.stage.fast {
                let until = Instant::now() + step.pause;
                while Instant::now() < until {
                    self.listen(Some(until)).await?;
                }
            }
            self.say(&step.what).await?;
        }
        Ok(())
    }

    /// Waits until the client has answered as many requests as the recorded client had, or until it takes too long.
    async fn answered(&mut self, count: usize) -> Result<(), ConnectionOver> {
        let mut answers = self.stage.answers.subscribe();
        let until = Instant::now() + ANSWERS_WAIT;
        while *answers.borrow_and_update() < count && Instant::now() < until {
            tokio::select! {
                _ = answers.changed() => {}
                heard = self.listen(Some(until)) => heard?,
            }
        }
        Ok(())
    }

    /// Waits for the client to send this.
    async fn until(&mut self, topic: &str, event: &str) -> Result<[Value; 5], ConnectionOver> {
        loop {
            let found = self.heard.iter().position(|frame| frame[2] == topic && frame[3] == event);
            if let Some(frame) = found.and_then(|index| self.heard.remove(index)) {
                return Ok(frame);
            }
            self.listen(None).await?;
        }
    }

    async fn say(&mut self, what: &PlatformStep) -> Result<(), ConnectionOver> {
        let message = match what {
            PlatformStep::Await { .. } => return Ok(()),
            PlatformStep::Frame(frame) => {
                let mut frame = frame.clone();
                for reference in frame.iter_mut().take(2).filter(|reference| !reference.is_null()) {
                    if let Some(theirs) = self.refs.get(&reference.to_string()) {
                        *reference = theirs.clone();
                    }
                }
                Message::text(self.stage.recast(Value::Array(frame).to_string()))
            }
            PlatformStep::Text(text) => Message::text(self.stage.recast(text.clone())),
            PlatformStep::Garbled(bytes) => Message::text("x".repeat(length(*bytes))),
            PlatformStep::Binary(bytes) => Message::binary(vec![0_u8; length(*bytes)]),
            PlatformStep::End(code) => return self.end(*code).await,
        };
        self.socket.send(message).await.map_err(|_| ConnectionOver)
    }

    async fn end(&mut self, code: Option<u16>) -> Result<(), ConnectionOver> {
        let Some(code) = code.map(CloseCode::from).filter(|code| code.is_allowed()) else { return Ok(()) };
        let _ = self.socket.close(Some(CloseFrame { code, reason: "".into() })).await;
        // Waits until the client has read the close frame.
        let until = Instant::now() + Duration::from_secs(2);
        while self.listen(Some(until)).await.is_ok() && Instant::now() < until {}
        Ok(())
    }

    /// Reads the client's next frame, if one arrives in time. Answers a heartbeat if the recorded one was answered.
    async fn listen(&mut self, until: Option<Instant>) -> Result<(), ConnectionOver> {
        let message = match until {
            None => self.socket.next().await,
            Some(until) => match timeout_at(until, self.socket.next()).await {
                Ok(message) => message,
                Err(_) => return Ok(()),
            },
        };
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(ConnectionOver),
            Some(Ok(_)) => return Ok(()),
        };
        let Ok(frame) = serde_json::from_str::<[Value; 5]>(&text) else { return Err(ConnectionOver) };
        if frame[3] == "heartbeat" {
            if self.beats.pop_front().unwrap_or(true) {
                let reply = json!([frame[0], frame[1], frame[2], "phx_reply", { "status": "ok", "response": {} }]);
                self.socket.send(Message::text(reply.to_string())).await.map_err(|_| ConnectionOver)?;
            }
        } else if self.heard.len() < HEARD_MAX {
            self.heard.push_back(frame);
        }
        Ok(())
    }
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes.min(GARBLED_MAX)).unwrap_or(0)
}
