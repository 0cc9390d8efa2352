//! What belongs to one open socket and ends with it: its refs, its two channels, its heartbeat.

use fastrand::Rng;

use super::channel::Channel;
use super::heartbeat::Heartbeat;
use crate::clock::Mono;
use crate::config::settings::Timing;
use crate::model::AgentId;
use crate::phoenix::frame::{self, HEARTBEAT_TOPIC, Push};

/// See the module.
#[derive(Debug)]
pub(super) struct SocketRefs {
    /// The last ref that was used; a ref is never used twice.
    last_ref: u64,
    /// `agent_contacts`: the contact requests and contacts.
    pub(super) contacts: Channel,
    /// `agent_control`: reports a client that takes the connection; older platforms do not have it.
    pub(super) control: Channel,
    /// Whether the server still answers.
    pub(super) heartbeat: Heartbeat,
    /// When it was opened.
    pub(super) opened_at: Mono,
    /// When the contacts were first joined.
    pub(super) joined_at: Option<Mono>,
    /// Whether a malformed frame was already complained of.
    pub(super) complained: bool,
}

/// Which of a socket's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelKind {
    /// `agent_contacts`.
    Contacts,
    /// `agent_control`.
    Control,
}

impl ChannelKind {
    /// Both.
    pub(super) const ALL: [ChannelKind; 2] = [ChannelKind::Contacts, ChannelKind::Control];

    /// The topic without the agent's id.
    pub(super) fn name(self) -> &'static str {
        match self {
            ChannelKind::Contacts => "agent_contacts",
            ChannelKind::Control => "agent_control",
        }
    }
}

impl SocketRefs {
    /// A socket that was opened now, and the joins to be sent: the contacts first.
    pub(super) fn open(agent: &AgentId, timing: &Timing, rng: &mut Rng, now: Mono) -> (Self, [String; 2]) {
        let channel = |which: ChannelKind, reference| {
            let topic = format!("{}:{agent}", which.name());
            let join = frame::encode(Push::Join, Some(reference), reference, &topic);
            (Channel::new(topic, reference, timing, now), join)
        };
        let (contacts, first) = channel(ChannelKind::Contacts, 1);
        let (control, second) = channel(ChannelKind::Control, 2);
        let heartbeat = Heartbeat::new(timing, rng, now);
        let socket =
            Self { last_ref: 2, contacts, control, heartbeat, opened_at: now, joined_at: None, complained: false };
        (socket, [first, second])
    }

    /// One of the channels.
    pub(super) fn channel(&mut self, which: ChannelKind) -> &mut Channel {
        match which {
            ChannelKind::Contacts => &mut self.contacts,
            ChannelKind::Control => &mut self.control,
        }
    }

    /// Which channel has this topic.
    pub(super) fn by_topic(&self, topic: &str) -> Option<ChannelKind> {
        if topic == self.contacts.topic {
            Some(ChannelKind::Contacts)
        } else if topic == self.control.topic {
            Some(ChannelKind::Control)
        } else {
            None
        }
    }

    /// A join with a fresh ref.
    pub(super) fn join(&mut self, which: ChannelKind, now: Mono) -> String {
        let reference = self.fresh_ref();
        let channel = self.channel(which);
        channel.ask(reference, now);
        frame::encode(Push::Join, Some(reference), reference, &channel.topic)
    }

    /// A heartbeat.
    pub(super) fn beat(&mut self, timing: &Timing, rng: &mut Rng, now: Mono) -> String {
        let reference = self.fresh_ref();
        self.heartbeat.beat(reference, timing, rng, now);
        frame::encode(Push::Heartbeat, None, reference, HEARTBEAT_TOPIC)
    }

    /// A leave for each channel that is joined, or may soon be.
    pub(super) fn leave(&mut self) -> impl Iterator<Item = String> {
        ChannelKind::ALL.into_iter().filter_map(|which| {
            let join_ref = self.channel(which).reference()?;
            let reference = self.fresh_ref();
            Some(frame::encode(Push::Leave, Some(join_ref), reference, &self.channel(which).topic))
        })
    }

    fn fresh_ref(&mut self) -> u64 {
        self.last_ref += 1;
        self.last_ref
    }
}
