//! What a session does at a time of its own choice, in one table: [`PhoenixSession::due`] returns when, and [`PhoenixSession::fire`]
//! does it. Each timer fires once, however late.

use std::time::Duration;

use super::socket::{ChannelKind, SocketRefs};
use super::{NoteLevel, NoteName, PhoenixSession, Relist, SessionOutput, SocketPhase};
use crate::clock::Mono;
use crate::variants::with_all;

/// The deadline if there is nothing to wait for: far, but a live session always has one.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);

with_all! {
    /// In the order in which they fire at one moment. What ends a socket comes after what opens one, so that even a wait
    /// of nothing lasts until the next input.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum SessionTimer {
        /// A listing that was requested.
        Relist,
        /// Connect again.
        Connect,
        /// Give up a connection attempt.
        DialTimeout,
        /// Ask whether the platform accepts the key that it refused before.
        Probe,
        /// Heartbeats got no reply for too long.
        Dead,
        /// Send a heartbeat.
        Heartbeat,
        /// The join of the contacts timed out, or is to be requested again.
        JoinContacts,
        /// The same for `agent_control`.
        JoinControl,
    }
}

impl PhoenixSession {
    /// When to call with [`super::SessionInput::Tick`]; `None` only after `Stop`.
    pub fn deadline(&self) -> Option<Mono> {
        if matches!(self.phase, SocketPhase::Stopped) {
            return None;
        }
        let idle = self.seen + IDLE;
        Some(SessionTimer::ALL.iter().filter_map(|timer| self.due(*timer)).fold(idle, Mono::min))
    }

    pub(super) fn fire_timers(&mut self, now: Mono) {
        for timer in SessionTimer::ALL {
            if self.due(*timer).is_some_and(|due| due <= now) {
                self.fire(*timer, now);
            }
        }
    }

    fn due(&self, timer: SessionTimer) -> Option<Mono> {
        let timing = &self.config.timing;
        match (timer, &self.phase) {
            (SessionTimer::Relist, _) => self.relist.due,
            (SessionTimer::Connect, SocketPhase::Waiting { until }) => Some(*until),
            (SessionTimer::DialTimeout, SocketPhase::Dialling { give_up }) => Some(*give_up),
            (SessionTimer::Probe, SocketPhase::Refused { probe_at, .. }) => Some(*probe_at),
            (SessionTimer::Dead, SocketPhase::Open(socket)) => Some(socket.heartbeat.dead_at(timing)),
            (SessionTimer::Heartbeat, SocketPhase::Open(socket)) => Some(socket.heartbeat.next()),
            (SessionTimer::JoinContacts, SocketPhase::Open(socket)) => socket.contacts.due(timing),
            (SessionTimer::JoinControl, SocketPhase::Open(socket)) => socket.control.due(timing),
            (
                SessionTimer::Connect
                | SessionTimer::DialTimeout
                | SessionTimer::Probe
                | SessionTimer::Dead
                | SessionTimer::Heartbeat
                | SessionTimer::JoinContacts
                | SessionTimer::JoinControl,
                SocketPhase::Idle
                | SocketPhase::Polling
                | SocketPhase::Waiting { .. }
                | SocketPhase::Dialling { .. }
                | SocketPhase::Open(_)
                | SocketPhase::Refused { .. }
                | SocketPhase::Stopped,
            ) => None,
        }
    }

    fn fire(&mut self, timer: SessionTimer, now: Mono) {
        match timer {
            SessionTimer::Relist => self.relist(now),
            SessionTimer::Connect => self.connect(now),
            SessionTimer::DialTimeout => self.dial_timed_out(now),
            SessionTimer::Probe => self.probe(now),
            SessionTimer::Dead => {
                let why = format!("no heartbeat was answered for {} s", self.config.timing.dead_after.as_secs_f64());
                self.note(NoteLevel::Warn, NoteName::ConnectionDead, why.clone());
                self.give_up_socket(why, now);
            }
            SessionTimer::Heartbeat => {
                if let SocketPhase::Open(socket) = &mut self.phase {
                    self.outputs.push_back(SessionOutput::Send(socket.beat(&self.config.timing, &mut self.rng, now)));
                }
            }
            SessionTimer::JoinContacts => self.join_due(ChannelKind::Contacts, now),
            SessionTimer::JoinControl => self.join_due(ChannelKind::Control, now),
        }
    }

    fn relist(&mut self, now: Mono) {
        self.relist = Relist { last: Some(now), due: None };
        if self.joined() {
            self.outputs.push_back(SessionOutput::Relist("an event could not be read"));
        }
    }

    fn join_due(&mut self, which: ChannelKind, now: Mono) {
        let SocketPhase::Open(socket) = &mut self.phase else { return };
        if !socket.channel(which).is_requested() {
            let join = SocketRefs::join(socket, which, now);
            self.outputs.push_back(SessionOutput::Send(join));
            return;
        }
        let in_a_row = socket.channel(which).late(&self.config.timing, &mut self.rng, now);
        let detail = format!("the join of {} was not answered", which.name());
        let level = if which == ChannelKind::Contacts { NoteLevel::Warn } else { NoteLevel::Debug };
        self.note(level, NoteName::JoinTimeout, detail.clone());
        self.joins_failed(which, in_a_row, detail, now);
    }
}
