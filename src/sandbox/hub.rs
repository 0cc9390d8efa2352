//! Who is connected: the one live connection of each agent, its joined channels, and the channels to its task. It never
//! touches a socket: it sends a [`ConnectionOrder`] or an event to the task.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::store::{PartyIndex, PushedEvent};
use super::wire::Live;
use crate::clock::Mono;

/// Most events that wait for one socket; one more, and the connection is closed with 1013.
pub(crate) const QUEUE_MAX: usize = 1 << 18;

/// The topics that an agent may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxTopic {
    /// `agent_contacts:ID`.
    Contacts,
    /// `agent_control:ID`.
    Control,
    /// `agent_rooms:ID`.
    Rooms,
}

impl SandboxTopic {
    /// All of them.
    pub const ALL: [SandboxTopic; 3] = [SandboxTopic::Contacts, SandboxTopic::Control, SandboxTopic::Rooms];

    /// The channel on which an event of this name is pushed.
    fn of(event: &str) -> Self {
        if event == "room_added" { SandboxTopic::Rooms } else { SandboxTopic::Contacts }
    }

    /// The topic's first part.
    pub fn prefix(self) -> &'static str {
        match self {
            SandboxTopic::Contacts => "agent_contacts",
            SandboxTopic::Control => "agent_control",
            SandboxTopic::Rooms => "agent_rooms",
        }
    }
}

/// An event on its way to a socket.
#[derive(Debug)]
pub struct OutgoingEvent {
    /// Its name.
    pub name: &'static str,
    /// JSON.
    pub payload: Arc<str>,
    /// The channel on which it is pushed.
    pub channel: SandboxTopic,
    /// The join that it belongs to, as JSON.
    pub join_ref: Arc<str>,
    /// The request that it announces.
    pub request: Option<usize>,
}

/// An order to a connection's task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionOrder {
    /// Close with this code; 0: end the TCP connection without a close frame.
    Close(u16, &'static str),
    /// Close with this code and reason.
    CloseFor(u16, String),
    /// Another connection has taken the agent's place.
    Supersede,
    /// The contacts channel crashes.
    CrashChannel,
}

#[derive(Debug)]
struct HubConnection {
    number: u64,
    queue: mpsc::Sender<OutgoingEvent>,
    orders: mpsc::UnboundedSender<ConnectionOrder>,
    /// The join_ref of each channel, as JSON, by position in [`SandboxTopic::ALL`].
    joined: [Option<Arc<str>>; 3],
}

#[derive(Debug)]
enum Slot {
    Open(HubConnection),
    Ghost(Mono),
}

/// The receiving ends of a new connection.
#[derive(Debug)]
pub struct ConnectionEnds {
    /// Distinct in a sandbox.
    pub number: u64,
    /// Events to push.
    pub queue: mpsc::Receiver<OutgoingEvent>,
    /// Other orders.
    pub orders: mpsc::UnboundedReceiver<ConnectionOrder>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Hub {
    places: HashMap<PartyIndex, Slot>,
    next: u64,
}

impl Hub {
    /// Whether a connection of this agent counts as live.
    pub(crate) fn is_live(&self, agent: PartyIndex, now: Mono) -> bool {
        match self.places.get(&agent) {
            Some(Slot::Open(_)) => true,
            Some(Slot::Ghost(until)) => *until > now,
            None => false,
        }
    }

    /// A new connection; an older one of the same agent is superseded.
    pub fn open(&mut self, agent: Option<PartyIndex>) -> ConnectionEnds {
        let number = self.next;
        self.next += 1;
        let (queue, queue_end) = mpsc::channel(QUEUE_MAX);
        let (orders, orders_end) = mpsc::unbounded_channel();
        if let Some(agent) = agent {
            let conn = HubConnection { number, queue, orders, joined: [const { None }; 3] };
            if let Some(Slot::Open(older)) = self.places.insert(agent, Slot::Open(conn)) {
                let _ = older.orders.send(ConnectionOrder::Supersede);
            }
        }
        ConnectionEnds { number, queue: queue_end, orders: orders_end }
    }

    /// Records that the connection has ended.
    pub fn closed(&mut self, agent: PartyIndex, number: u64) {
        if self.conn(agent, number).is_some() {
            self.places.remove(&agent);
        }
    }

    fn conn(&mut self, agent: PartyIndex, number: u64) -> Option<&mut HubConnection> {
        match self.places.get_mut(&agent) {
            Some(Slot::Open(conn)) if conn.number == number => Some(conn),
            _ => None,
        }
    }

    /// A channel is joined; returns the join_ref of an older join of it.
    pub fn join(
        &mut self,
        agent: PartyIndex,
        number: u64,
        channel: SandboxTopic,
        join_ref: Arc<str>,
    ) -> Option<Arc<str>> {
        self.conn(agent, number)?.joined[channel as usize].replace(join_ref)
    }

    /// A channel is left; returns the join_ref of its join.
    pub fn leave(&mut self, agent: PartyIndex, number: u64, channel: SandboxTopic) -> Option<Arc<str>> {
        self.conn(agent, number)?.joined[channel as usize].take()
    }

    /// Sends an order to an agent's connection; `false` if there is none.
    pub fn order(&self, agent: PartyIndex, order: ConnectionOrder) -> bool {
        match self.places.get(&agent) {
            Some(Slot::Open(conn)) => conn.orders.send(order).is_ok(),
            Some(Slot::Ghost(_)) | None => false,
        }
    }

    /// The contacts channel of an agent's connection crashes: from now on it gets no events.
    pub fn crash(&mut self, agent: PartyIndex) {
        if let Some(Slot::Open(conn)) = self.places.get_mut(&agent) {
            conn.joined[SandboxTopic::Contacts as usize] = None;
            let _ = conn.orders.send(ConnectionOrder::CrashChannel);
        }
    }

    /// The connection's TCP ends without a close frame, and the connection counts as live until `until`.
    pub(crate) fn make_ghost(&mut self, agent: PartyIndex, until: Mono) {
        if let Some(Slot::Open(conn)) = self.places.get(&agent) {
            let _ = conn.orders.send(ConnectionOrder::Close(0, "fault"));
            self.places.insert(agent, Slot::Ghost(until));
        }
    }

    /// Puts an event into the queue of its party, if that has joined the event's channel. Nothing is kept otherwise.
    pub fn tell(&mut self, pushed: PushedEvent) {
        let Some(Slot::Open(conn)) = self.places.get(&pushed.to) else { return };
        let channel = SandboxTopic::of(pushed.event);
        let Some(join_ref) = &conn.joined[channel as usize] else { return };
        let PushedEvent { event: name, payload, request, .. } = pushed;
        let event = OutgoingEvent { name, payload, channel, join_ref: join_ref.clone(), request };
        if let Err(mpsc::error::TrySendError::Full(_)) = conn.queue.try_send(event) {
            let _ = conn.orders.send(ConnectionOrder::Close(1013, "slow"));
        }
    }

    /// The connections that count as live, for the control's state.
    pub fn live(&self, now: Mono, id: impl Fn(PartyIndex) -> String) -> Vec<Live> {
        let mut live: Vec<Live> = self
            .places
            .iter()
            .filter_map(|(agent, place)| match place {
                Slot::Open(conn) => {
                    let joined =
                        SandboxTopic::ALL.into_iter().filter(|channel| conn.joined[*channel as usize].is_some());
                    let topics = joined.map(|channel| format!("{}:{}", channel.prefix(), id(*agent))).collect();
                    Some(Live { agent: id(*agent), ghost: false, topics })
                }
                Slot::Ghost(until) if *until > now => Some(Live { agent: id(*agent), ghost: true, topics: Vec::new() }),
                Slot::Ghost(_) => None,
            })
            .collect();
        live.sort_by(|a, b| a.agent.cmp(&b.agent));
        live
    }
}

/// How long a ghost counts as live, by default \[sdk, infer\].
pub(crate) const GHOST: Duration = Duration::from_secs(60);
