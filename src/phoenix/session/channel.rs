//! One topic on one socket: whether it is joined, under which ref, and when to join again. A join is identified only by
//! its ref, so that messages about an earlier join never affect a later one.

use fastrand::Rng;

use crate::clock::Mono;
use crate::config::settings::Timing;
use crate::phoenix::backoff::Backoff;
use crate::phoenix::frame::Ref;

/// See the module.
#[derive(Debug)]
pub(super) struct Channel {
    /// The topic.
    pub(super) topic: String,
    join: JoinState,
    /// Its tries are the joins that failed in a row; back to none after a join that lasted.
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy)]
enum JoinState {
    /// The join was requested; no reply yet.
    Requested { reference: u64, at: Mono },
    /// Joined.
    Joined { reference: u64, at: Mono },
    /// The join was requested, and no reply came in time. A slow server may still reply: the late reply counts until
    /// the join is requested again, since the next join ends the previous one.
    Late { reference: u64, again: Mono },
    /// To be requested again at this time.
    Again { at: Mono },
    /// Not on this socket.
    Never,
}

impl Channel {
    /// A topic whose first join goes out with this ref.
    pub(super) fn new(topic: String, reference: u64, timing: &Timing, now: Mono) -> Self {
        let backoff = Backoff::new(timing.backoff_min, timing.backoff_max);
        Self { topic, join: JoinState::Requested { reference, at: now }, backoff }
    }

    /// A join goes out with this ref; each join has a new one.
    pub(super) fn ask(&mut self, reference: u64, now: Mono) {
        self.join = JoinState::Requested { reference, at: now };
    }

    /// The ref of the requested or current join.
    pub(super) fn reference(&self) -> Option<u64> {
        match self.join {
            JoinState::Requested { reference, .. }
            | JoinState::Late { reference, .. }
            | JoinState::Joined { reference, .. } => Some(reference),
            JoinState::Again { .. } | JoinState::Never => None,
        }
    }

    /// Whether this is the expected reply.
    pub(super) fn awaits(&self, answer: u64) -> bool {
        matches!(self.join, JoinState::Requested { reference, .. } | JoinState::Late { reference, .. } if reference == answer)
    }

    /// Whether a frame with this `join_ref` belongs to the current join. Servers may leave it out \[phx\].
    pub(super) fn speaks_of_this(&self, join_ref: Option<Ref>) -> bool {
        match join_ref {
            None => true,
            Some(join_ref) => self.reference().is_some_and(|ours| join_ref.is(ours)),
        }
    }

    /// Whether it is joined.
    pub(super) fn is_joined(&self) -> bool {
        matches!(self.join, JoinState::Joined { .. })
    }

    /// The requested join succeeded.
    pub(super) fn accept(&mut self, now: Mono) {
        if let JoinState::Requested { reference, .. } | JoinState::Late { reference, .. } = self.join {
            self.join = JoinState::Joined { reference, at: now };
        }
    }

    /// The join failed, or ended: it is asked for again after a wait. Says how many failed in a row.
    pub(super) fn fail(&mut self, timing: &Timing, rng: &mut Rng, now: Mono) -> u32 {
        if let JoinState::Joined { at, .. } = self.join
            && now.since(at) >= timing.proven_after
        {
            self.backoff.reset();
        }
        self.join = JoinState::Again { at: now + self.backoff.wait(rng) };
        self.backoff.tries()
    }

    /// The join got no reply in time: it is requested again after the same time. Returns how many failed in a row.
    pub(super) fn late(&mut self, timing: &Timing, rng: &mut Rng, now: Mono) -> u32 {
        let wait = self.backoff.wait(rng).max(timing.join_timeout);
        if let JoinState::Requested { reference, .. } = self.join {
            self.join = JoinState::Late { reference, again: now + wait };
        }
        self.backoff.tries()
    }

    /// The topic is not to be had on this socket.
    pub(super) fn give_up(&mut self) {
        self.join = JoinState::Never;
    }

    /// Whether the join was requested, and has neither a reply nor timed out.
    pub(super) fn is_requested(&self) -> bool {
        matches!(self.join, JoinState::Requested { .. })
    }

    /// When the join times out, or is requested again.
    pub(super) fn due(&self, timing: &Timing) -> Option<Mono> {
        match self.join {
            JoinState::Requested { at, .. } => Some(at + timing.join_timeout),
            JoinState::Again { at } | JoinState::Late { again: at, .. } => Some(at),
            JoinState::Joined { .. } | JoinState::Never => None,
        }
    }
}
