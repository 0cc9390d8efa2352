//! What a session does at a time of its own choice, in one table: [`PhoenixSession::due`] returns when, and [`PhoenixSession::fire`]
//! does it. Each timer fires once, however late.

use std::time::Duration;

use super::socket::{ChannelKind, SocketRefs};
use super::{NoteLevel, NoteName, PhoenixSession, Relist, SessionOutput, SocketPhase};
use crate::clock::Mono;
use crate::variants::with_all;

/// The deadline where there is nothing to wait for: far, but a live session always has one.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);

with_all! {
    /// In the order in which they fire at one moment. What ends a socket comes after what opens one, so that even a wait
    /// of nothing lasts until the next input.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Timer {
        /// A listing that was requested.
        Relist,
        /// Connect again.
        Connect,
        /// Give up a connection attempt.
        DialTimeout,
        /// Ask whether a refused key is good by now.
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
    /// When to call with [`super::Input::Tick`]; `None` only after `Stop`.
    pub fn deadline(&self) -> Option<Mono> {
        if matches!(self.phase, SocketPhase::Stopped) {
            return None;
        }
        let idle = self.seen + IDLE;
        Some(Timer::ALL.iter().filter_map(|timer| self.due(*timer)).fold(idle, Mono::min))
    }

    pub(super) fn fire_timers(&mut self, now: Mono) {
        for timer in Timer::ALL {
            if self.due(*timer).is_some_and(|due| due <= now) {
                self.fire(*timer, now);
            }
        }
    }

    fn due(&self, timer: Timer) -> Option<Mono> {
        let timing = &self.config.timing;
        match (timer, &self.phase) {
            (Timer::Relist, _) => self.relist.due,
            (Timer::Connect, SocketPhase::Waiting { until }) => Some(*until),
            (Timer::DialTimeout, SocketPhase::Dialling { give_up }) => Some(*give_up),
            (Timer::Probe, SocketPhase::Refused { probe_at, .. }) => Some(*probe_at),
            (Timer::Dead, SocketPhase::Open(socket)) => Some(socket.heartbeat.dead_at(timing)),
            (Timer::Heartbeat, SocketPhase::Open(socket)) => Some(socket.heartbeat.next()),
            (Timer::JoinContacts, SocketPhase::Open(socket)) => socket.contacts.due(timing),
            (Timer::JoinControl, SocketPhase::Open(socket)) => socket.control.due(timing),
            (
                Timer::Connect
                | Timer::DialTimeout
                | Timer::Probe
                | Timer::Dead
                | Timer::Heartbeat
                | Timer::JoinContacts
                | Timer::JoinControl,
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

    fn fire(&mut self, timer: Timer, now: Mono) {
        match timer {
            Timer::Relist => self.relist(now),
            Timer::Connect => self.connect(now),
            Timer::DialTimeout => self.dial_timed_out(now),
            Timer::Probe => self.probe(now),
            Timer::Dead => {
                let why = format!("no heartbeat was answered for {} s", self.config.timing.dead_after.as_secs_f64());
                self.note(NoteLevel::Warn, NoteName::ConnectionDead, why.clone());
                self.give_up_socket(why, now);
            }
            Timer::Heartbeat => {
                if let SocketPhase::Open(socket) = &mut self.phase {
                    self.outputs.push_back(SessionOutput::Send(socket.beat(&self.config.timing, &mut self.rng, now)));
                }
            }
            Timer::JoinContacts => self.join_due(ChannelKind::Contacts, now),
            Timer::JoinControl => self.join_due(ChannelKind::Control, now),
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
