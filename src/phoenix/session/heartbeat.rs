//! The heartbeat of one socket: when to send it, and whether it is answered. Replies are matched by ref; other messages
//! prove nothing, since a server may send on a connection that it no longer reads.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::clock::Mono;
use crate::config::settings::Timing;
use crate::phoenix::backoff::between;

/// Most heartbeats that wait for a reply.
const UNANSWERED_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Heartbeat {
    next: Mono,
    /// When the last reply came; at first, the time of the upgrade.
    last_answer: Mono,
    /// Refs of unanswered heartbeats, oldest first.
    unanswered: VecDeque<u64>,
}

impl Heartbeat {
    /// A socket that was opened now.
    pub(super) fn new(timing: &Timing, rng: &mut Rng, now: Mono) -> Self {
        Self { next: now + pause(timing, rng), last_answer: now, unanswered: VecDeque::new() }
    }

    /// When to send the next heartbeat.
    pub(super) fn next(&self) -> Mono {
        self.next
    }

    /// A heartbeat goes out with this ref. The next one is scheduled from now: missed ones are not sent later.
    pub(super) fn beat(&mut self, reference: u64, timing: &Timing, rng: &mut Rng, now: Mono) {
        if self.unanswered.len() == UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(reference);
        self.next = now + pause(timing, rng);
    }

    /// Whether this ref belongs to a heartbeat; if so, the connection is alive.
    pub(super) fn answered(&mut self, reference: u64, now: Mono) -> bool {
        let Some(at) = self.unanswered.iter().position(|&beat| beat == reference) else {
            return false;
        };
        self.unanswered.drain(..=at);
        self.last_answer = now;
        true
    }

    /// When the connection counts as dead, if no reply comes.
    pub(super) fn dead_at(&self, timing: &Timing) -> Mono {
        self.last_answer + timing.dead_after
    }
}

/// The interval, give or take a tenth.
fn pause(timing: &Timing, rng: &mut Rng) -> std::time::Duration {
    let tenth = timing.heartbeat / 10;
    between(timing.heartbeat.saturating_sub(tenth), timing.heartbeat.saturating_add(tenth), rng)
}
