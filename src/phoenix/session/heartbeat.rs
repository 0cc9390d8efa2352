//! The heartbeat of one socket: when to beat, and whether anybody answers. Beats are answered by ref; what else comes
//! in proves nothing, since a server pushes into a connection that it no longer reads.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::clock::Mono;
use crate::config::settings::Timing;
use crate::phoenix::backoff::between;

/// Most beats whose answers are still waited for.
const UNANSWERED_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Heartbeat {
    next: Mono,
    /// The last answer, or the upgrade.
    last_answer: Mono,
    /// Refs of beats without an answer, oldest first.
    unanswered: VecDeque<u64>,
}

impl Heartbeat {
    /// A socket that was opened now.
    pub(super) fn new(timing: &Timing, rng: &mut Rng, now: Mono) -> Self {
        Self { next: now + pause(timing, rng), last_answer: now, unanswered: VecDeque::new() }
    }

    /// When to beat.
    pub(super) fn next(&self) -> Mono {
        self.next
    }

    /// A beat goes out with this ref. The next is counted from now: what was missed is not made up for.
    pub(super) fn beat(&mut self, reference: u64, timing: &Timing, rng: &mut Rng, now: Mono) {
        if self.unanswered.len() == UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(reference);
        self.next = now + pause(timing, rng);
    }

    /// Whether this ref is a beat's; if so, the connection lives.
    pub(super) fn answered(&mut self, reference: u64, now: Mono) -> bool {
        let Some(at) = self.unanswered.iter().position(|&beat| beat == reference) else {
            return false;
        };
        self.unanswered.drain(..=at);
        self.last_answer = now;
        true
    }

    /// When nobody will have answered for too long.
    pub(super) fn dead_at(&self, timing: &Timing) -> Mono {
        self.last_answer + timing.dead_after
    }
}

/// The interval, give or take a tenth.
fn pause(timing: &Timing, rng: &mut Rng) -> std::time::Duration {
    let tenth = timing.heartbeat / 10;
    between(timing.heartbeat.saturating_sub(tenth), timing.heartbeat.saturating_add(tenth), rng)
}
