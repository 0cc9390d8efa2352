//! One connection of the Phoenix socket: joins, heartbeats, pushes, and how it ends. Frames and codes are those of a
//! real Phoenix server \[phx\].

mod frames;
mod rooms;
mod writing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use super::fault::{Fault, FaultAction, FaultPlace};
use super::hub::{ConnectionEnds, ConnectionOrder, OutgoingEvent, SandboxTopic};
use super::shared::{SandboxShared, note};
use super::store::PartyIndex;
use super::wire::{ConnectionEnd, SeenJoin};
use frames::{Incoming, NULL, event_frame, reply_frame};
use writing::HELD_MS;

/// Most bytes of a frame from a client.
const FRAME_MAX: usize = 1 << 20;
/// Most events that are written before the socket is looked at again.
const BATCH: usize = 256;
/// How long to read on after a close frame, so that the client receives the frame and not a reset.
const LINGER: Duration = Duration::from_millis(250);

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct AcceptedSocket {
    pub(super) agent: Option<PartyIndex>,
    pub(super) ends: ConnectionEnds,
    pub(super) old_vsn: bool,
    /// What an upgrade fault does right after the upgrade.
    pub(super) fault: Option<Fault>,
}

/// Records the end of the connection, and removes it from the hub.
pub(super) fn ended(shared: &SandboxShared, agent: Option<PartyIndex>, number: u64, (code, why): (Option<u16>, &str)) {
    let mut inner = shared.lock();
    if let Some(agent) = agent {
        inner.hub.closed(agent, number);
    }
    let agent = agent.map(|agent| inner.store.parties[agent].id.clone());
    let entry = ConnectionEnd { at_us: shared.us(), agent, code, why: why.into() };
    note(&mut inner.journal.ends, entry);
}

/// Serves a connection until it ends, and sets `noted` when the end is recorded.
pub(super) async fn run<I>(
    io: I,
    guest: AcceptedSocket,
    shared: &SandboxShared,
    stop: &CancellationToken,
    noted: &mut bool,
) where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(8 << 10)
        .max_message_size(Some(FRAME_MAX))
        .max_frame_size(Some(FRAME_MAX));
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let id = guest.agent.map(|agent| shared.lock().store.parties[agent].id.clone()).unwrap_or_default();
    let AcceptedSocket { agent, ends: ConnectionEnds { number, mut queue, orders }, old_vsn, fault } = guest;
    let joined = Default::default();
    let mut link =
        Link { socket, shared, agent, number, id, orders, stop, joined, rooms: HashMap::new(), late: Vec::new() };
    let first = match &fault {
        _ if old_vsn => Some(ConnectionOrder::Close(1011, "protocol")),
        Some(fault) if matches!(fault.what, FaultAction::Close | FaultAction::Supersede | FaultAction::Ghost) => {
            link.strike_self(fault)
        }
        _ => None,
    };
    let why = match first {
        Some(order) => order,
        None => match link.serve(&mut queue).await {
            Ok(never) => match never {},
            Err(why) => why,
        },
    };
    link.end(why, noted).await;
}

/// The connection's side of the loop never ends successfully.
enum Never {}

struct Link<'a, I> {
    socket: WebSocketStream<I>,
    shared: &'a SandboxShared,
    agent: Option<PartyIndex>,
    number: u64,
    id: String,
    orders: mpsc::UnboundedReceiver<ConnectionOrder>,
    stop: &'a CancellationToken,
    /// The join_ref of each channel as JSON, by position in [`SandboxTopic::ALL`].
    joined: [Option<Arc<str>>; 3],
    /// The join_ref of each topic of a room as JSON, by topic.
    rooms: HashMap<String, String>,
    /// Frames that a fault delays, with the latest time to send them; those with `true` are sent after the next frame.
    late: Vec<(Instant, bool, Message)>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Link<'_, I> {
    async fn serve(&mut self, queue: &mut mpsc::Receiver<OutgoingEvent>) -> Result<Never, ConnectionOrder> {
        let idle = self.shared.options.idle;
        let mut last = Instant::now();
        let mut batch = Vec::with_capacity(BATCH);
        let mut orders_open = true;
        let mut queue_open = true;
        loop {
            let late = self.late.iter().map(|(due, ..)| *due).min();
            let wake = late.map_or(last + idle, |due| due.min(last + idle));
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(ConnectionOrder::Close(1012, "stopped")),
                order = self.orders.recv(), if orders_open => match order {
                    None => orders_open = false,
                    Some(ConnectionOrder::CrashChannel) => self.crash(SandboxTopic::Contacts).await?,
                    Some(order) => return Err(order),
                },
                message = self.socket.next() => {
                    last = Instant::now();
                    if let Some(text) = self.incoming(message).await? {
                        self.frame(&text).await?;
                    }
                }
                count = queue.recv_many(&mut batch, BATCH), if queue_open => {
                    queue_open = count > 0;
                    self.push(&mut batch).await?;
                }
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    if now >= last + idle {
                        return Err(ConnectionOrder::Close(1002, "idle"));
                    }
                    self.release(|due, _| due <= now).await?;
                }
            }
        }
    }

    /// The text of a frame from the client, if it is one.
    async fn incoming(&mut self, message: Option<Result<Message, Error>>) -> Result<Option<String>, ConnectionOrder> {
        match message {
            Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                // The library has queued the pong; this sends it.
                self.flush().await?;
                Ok(None)
            }
            Some(Ok(Message::Binary(_))) => Err(ConnectionOrder::Close(1011, "protocol")),
            Some(Ok(Message::Close(_))) => {
                let _ = timeout(LINGER, self.socket.flush()).await;
                Err(ConnectionOrder::Close(0, "client"))
            }
            Some(Err(Error::Capacity(_))) => Err(ConnectionOrder::Close(1009, "protocol")),
            Some(Err(Error::Utf8(_))) => Err(ConnectionOrder::Close(1007, "protocol")),
            Some(Err(Error::Protocol(
                tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            ))) => Err(ConnectionOrder::Close(0, "gone")),
            Some(Err(Error::Protocol(_))) => Err(ConnectionOrder::Close(1002, "protocol")),
            Some(Err(_)) | None => Err(ConnectionOrder::Close(0, "gone")),
        }
    }

    /// One frame of the client.
    async fn frame(&mut self, text: &str) -> Result<(), ConnectionOrder> {
        let Some(frame) = Incoming::parse(text) else { return Err(ConnectionOrder::Close(1011, "protocol")) };
        if frame.topic == "phoenix" && frame.event == "heartbeat" {
            let fault = self.shared.strike(FaultPlace::Heartbeat, self.agent, "");
            let failed = fault.as_ref().is_some_and(|fault| fault.what == FaultAction::Status);
            let body = if failed { Err("unavailable") } else { Ok(()) };
            return self.deliver(fault, reply_frame(NULL, &frame.r#ref, "phoenix", body), "phoenix").await;
        }
        if self.is_room(&frame.topic) {
            return self.room_frame(&frame).await;
        }
        let channel = self.channel(&frame.topic);
        match (frame.event.as_str(), channel) {
            ("phx_join", channel) => self.join(&frame, channel).await,
            ("phx_leave", channel) => {
                let joined = channel.and_then(|channel| Some((channel, self.joined[channel as usize].clone()?)));
                let Some((channel, join_ref)) = joined else {
                    // A leave without a join is confirmed at once.
                    let reply = reply_frame(&frame.join_ref, &frame.r#ref, &frame.topic, Ok(()));
                    self.write(Message::text(reply)).await?;
                    return self.flush().await;
                };
                if *join_ref != *frame.join_ref {
                    // This leaves an older join, whose end was sent already.
                    return Ok(());
                }
                self.joined[channel as usize] = None;
                if let Some(agent) = self.agent {
                    self.shared.lock().hub.leave(agent, self.number, channel);
                }
                self.write(Message::text(reply_frame(&join_ref, &frame.r#ref, &frame.topic, Ok(())))).await?;
                self.write(Message::text(event_frame(&join_ref, &join_ref, &frame.topic, "phx_close", "{}"))).await?;
                self.flush().await
            }
            (_, Some(channel)) if self.joined[channel as usize].is_some() => {
                // The channel does not know this event and crashes, like any Phoenix channel.
                self.crash(channel).await
            }
            _ => {
                let reply = reply_frame(NULL, &frame.r#ref, &frame.topic, Err("unmatched topic"));
                self.write(Message::text(reply)).await?;
                self.flush().await
            }
        }
    }

    /// The channel of a topic that is this agent's.
    fn channel(&self, topic: &str) -> Option<SandboxTopic> {
        let (prefix, id) = topic.split_once(':')?;
        let channel = self.named(prefix)?;
        (self.agent.is_some() && id == self.id).then_some(channel)
    }

    /// The channel of this name, if the deployment has it.
    fn named(&self, prefix: &str) -> Option<SandboxTopic> {
        let here = |channel: &SandboxTopic| !(self.shared.options.older && *channel == SandboxTopic::Control);
        SandboxTopic::ALL.into_iter().filter(here).find(|channel| channel.prefix() == prefix)
    }

    async fn join(&mut self, frame: &Incoming, channel: Option<SandboxTopic>) -> Result<(), ConnectionOrder> {
        let fault = self.shared.strike(FaultPlace::Join, self.agent, "");
        let known = frame.topic.split(':').next().is_some_and(|prefix| self.named(prefix).is_some());
        let said =
            fault.as_ref().filter(|fault| fault.what == FaultAction::Status).and_then(|fault| fault.reason.clone());
        let refusal = match (&fault, channel) {
            (_, None) if known => Some("unauthorized"),
            (_, None) => Some("unmatched topic"),
            (Some(Fault { what: FaultAction::Status, .. }), _) if said.is_some() => said.as_deref(),
            (Some(Fault { what: FaultAction::Status, code: Some(401 | 403), .. }), _) => Some("unauthorized"),
            (Some(Fault { what: FaultAction::Status | FaultAction::CrashChannel, .. }), _) => Some("join crashed"),
            _ => None,
        };
        let swallowed = fault.as_ref().is_some_and(|fault| fault.what == FaultAction::Drop);
        let mut older = None;
        if let (Some(channel), Some(agent), None, false) = (channel, self.agent, refusal, swallowed) {
            let join_ref: Arc<str> = frame.join_ref.as_str().into();
            self.shared.lock().hub.join(agent, self.number, channel, join_ref.clone());
            older = self.joined[channel as usize].replace(join_ref);
        }
        self.note_join(&frame.topic, if swallowed { "dropped" } else { refusal.unwrap_or("ok") });
        let join_ref = if refusal == Some("unmatched topic") { NULL } else { &frame.join_ref };
        let reply = match (&fault, refusal) {
            (Some(Fault { what: FaultAction::ApplyThenFail, code: None, .. }), None) => None,
            (Some(Fault { what: FaultAction::ApplyThenFail, .. }), None) => Some(Err("join crashed")),
            (_, Some(reason)) => Some(Err(reason)),
            (_, None) => Some(Ok(())),
        };
        if let Some(body) = reply {
            let crashed = |fault: &Fault| fault.what == FaultAction::CrashChannel;
            let fault = fault.filter(|fault| !crashed(fault));
            self.deliver(fault, reply_frame(join_ref, &frame.r#ref, &frame.topic, body), &frame.topic).await?;
        }
        if let Some(older) = older {
            self.write(Message::text(event_frame(&older, &older, &frame.topic, "phx_close", "{}"))).await?;
            self.flush().await?;
        }
        Ok(())
    }

    fn note_join(&self, topic: &str, reply: &str) {
        let mut inner = self.shared.lock();
        let agent = self.agent.map(|_| self.id.clone());
        let topic = topic.chars().take(200).collect();
        let entry = SeenJoin { at_us: self.shared.us(), agent, topic, reply: reply.into() };
        note(&mut inner.journal.joins, entry);
    }

    /// Writes the events of the batch, as fast as the socket accepts them.
    async fn push(&mut self, batch: &mut Vec<OutgoingEvent>) -> Result<(), ConnectionOrder> {
        let arrivals: Vec<usize> = batch.iter().filter_map(|event| event.request).collect();
        if !arrivals.is_empty() {
            let (mut inner, now) = (self.shared.lock(), self.shared.clock.now().mono);
            for request in arrivals {
                inner.store.pushed(request, now);
            }
        }
        let mut events = batch.drain(..);
        while let Some(event) = events.next() {
            if let Err(order) = self.push_one(&event).await {
                events.for_each(|event| self.unpushed(&event));
                return Err(order);
            }
        }
        drop(events);
        self.flush().await
    }

    async fn push_one(&mut self, event: &OutgoingEvent) -> Result<(), ConnectionOrder> {
        let topic = &format!("{}:{}", event.channel.prefix(), self.id);
        if Some(&event.join_ref) != self.joined[event.channel as usize].as_ref() {
            // Events for a join that has ended are lost.
            self.unpushed(event);
            return Ok(());
        }
        let join_ref = if self.shared.options.push_join_ref { &event.join_ref } else { NULL };
        let frame = event_frame(join_ref, NULL, topic, event.name, &event.payload);
        let Some(fault) = self.shared.strike(FaultPlace::Push, self.agent, event.name) else {
            return self.write(Message::text(frame)).await;
        };
        if matches!(
            fault.what,
            FaultAction::Drop
                | FaultAction::Malformed
                | FaultAction::CrashChannel
                | FaultAction::Close
                | FaultAction::Supersede
                | FaultAction::Ghost
        ) {
            self.unpushed(event);
        }
        match fault.what {
            FaultAction::Delay => {
                self.hold(fault.wait(HELD_MS), false, Message::text(frame));
                Ok(())
            }
            FaultAction::CrashChannel => self.crash(SandboxTopic::Contacts).await,
            _ => self.deliver(Some(fault), frame, topic).await,
        }
    }

    /// Takes back that an event was counted as written.
    fn unpushed(&self, event: &OutgoingEvent) {
        if let Some(request) = event.request {
            self.shared.lock().store.unpushed(request);
        }
    }

    async fn crash(&mut self, channel: SandboxTopic) -> Result<(), ConnectionOrder> {
        let Some(join_ref) = self.joined[channel as usize].take() else { return Ok(()) };
        if let Some(agent) = self.agent {
            self.shared.lock().hub.leave(agent, self.number, channel);
        }
        let topic = format!("{}:{}", channel.prefix(), self.id);
        let frame = event_frame(&join_ref, &join_ref, &topic, "phx_error", "{\"reason\":\"channel_crash\"}");
        self.write(Message::text(frame)).await?;
        self.flush().await
    }

    /// Sends the last frames, and closes.
    async fn end(mut self, order: ConnectionOrder, noted: &mut bool) {
        let mut reason = String::new();
        let (code, why) = match order {
            ConnectionOrder::Close(code, why) => (code, why),
            ConnectionOrder::CloseFor(code, said) => {
                reason = said;
                (code, "fault")
            }
            ConnectionOrder::Supersede => {
                if let Some(join_ref) = self.joined[SandboxTopic::Control as usize].clone() {
                    let topic = format!("{}:{}", SandboxTopic::Control.prefix(), self.id);
                    let join_ref = if self.shared.options.push_join_ref { &*join_ref } else { NULL };
                    let payload = format!(
                        "{{\"reason\":\"superseded\",\"message\":\"another connection took this agent's place\",\
                         \"retryable\":false,\"correlation_id\":\"sandbox-{}\"}}",
                        self.number
                    );
                    let _ = self.feed(Message::text(event_frame(join_ref, NULL, &topic, "supersede", &payload))).await;
                }
                (1000, "superseded")
            }
            ConnectionOrder::CrashChannel => (0, "fault"),
        };
        ended(self.shared, self.agent, self.number, ((code != 0).then_some(code), why));
        *noted = true;
        if code != 0 {
            let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
            let _ = timeout(LINGER, self.socket.close(Some(frame))).await;
            let io = self.socket.get_mut();
            let _ = timeout(LINGER, io.shutdown()).await;
            let mut rest = [0_u8; 1024];
            let drain = async { while io.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
            let _ = timeout(LINGER, drain).await;
        }
    }
}
