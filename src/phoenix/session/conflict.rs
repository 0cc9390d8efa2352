//! Which client may have the one connection of an agent. It remembers how connections were lost and decides what a loss
//! means: a plain failure, our own ghost, or another client to which we yield.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Mono;
use crate::config::settings::{ConnectionMode, Timing};

/// Losses within this time are counted together.
const SPAN: Duration = Duration::from_secs(10 * 60);
/// This many losses within [`SPAN`] are no accident.
const LOSSES_MAX: usize = 3;
/// The gaps of one day that are remembered: one more than is usual.
const GAPS_MAX: usize = 3;
/// Gaps within this time are counted together.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the wait is doubled if each of our attempts disconnects the other client.
const DOUBLINGS_MAX: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Conflict {
    mode: ConnectionMode,
    /// When a connection of ours ended and the platform may not have noticed.
    dropped_at: Option<Mono>,
    /// The last losses that another client may have caused; at most [`LOSSES_MAX`].
    losses: VecDeque<Mono>,
    /// The pattern was seen, and no connection has outlived it since: the next short connection confirms it. The number
    /// counts how often our attempts disconnected the other client since.
    suspicious: Option<u32>,
    /// The platform supports `on_conflict`: then only its own message shows that another client took the connection.
    knows: bool,
    /// When the place was lost to another and found free again, within the last day; at most [`GAPS_MAX`].
    gaps: VecDeque<Mono>,
    /// Whether another client has the connection now.
    yielded: bool,
}

/// What a loss means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Nothing: try again with backoff.
    Passing,
    /// The platform may still count a connection of ours as live.
    Ghost,
    /// Somebody else has the connection.
    Yield,
    /// The same, on a platform where our tries throw them off: this many times the usual wait.
    YieldFor(u32),
    /// Another client insists on the connection as much as we do.
    Fight,
}

impl Conflict {
    /// Nothing lost yet.
    pub(super) fn new(mode: ConnectionMode) -> Self {
        Self {
            mode,
            dropped_at: None,
            losses: VecDeque::new(),
            suspicious: None,
            knows: false,
            gaps: VecDeque::new(),
            yielded: false,
        }
    }

    /// The platform showed that it knows who has the connection: it answered `connection_conflict`, pushed `supersede`, or
    /// has the channel that does.
    pub(super) fn knows(&mut self) {
        self.knows = true;
    }

    /// We have a connection: it was free. If another client had it before, this is a gap of that client.
    pub(super) fn found_free(&mut self, now: Mono) {
        if !std::mem::take(&mut self.yielded) {
            return;
        }
        if self.gaps.len() == GAPS_MAX {
            self.gaps.pop_front();
        }
        self.gaps.push_back(now);
    }

    /// Whether the agent's own client seems to connect and disconnect repeatedly; says what to do about it.
    pub(super) fn remark(&self, now: Mono) -> Option<String> {
        let often = self.gaps.len() == GAPS_MAX && self.gaps.front().is_some_and(|at| now.since(*at) < DAY);
        (often && self.mode != ConnectionMode::Poll).then(|| {
            "more than twice in a day the connection was lost to another client and then found free: the agent's own \
             client seems to pause, and one that connects with `on_conflict=reject` cannot come back while doorman is \
             live; `connection = \"poll\"` leaves the connection to it"
                .to_owned()
        })
    }

    /// A connection of ours ended in a way that the platform may not have noticed.
    pub(super) fn dropped(&mut self, now: Mono) {
        self.dropped_at = Some(now);
    }

    /// The upgrade was refused with 409.
    pub(super) fn upgrade_refused(&mut self, timing: &Timing, now: Mono) -> Ruling {
        self.knows = true;
        match self.mode {
            ConnectionMode::Take => self.lost(now),
            ConnectionMode::Yield | ConnectionMode::Poll => {
                if self.dropped_at.is_some_and(|at| now.since(at) < timing.ghost_window) {
                    Ruling::Ghost
                } else {
                    self.yielded = true;
                    Ruling::Yield
                }
            }
        }
    }

    /// The platform reported that another client took the connection.
    pub(super) fn superseded(&mut self, now: Mono) -> Ruling {
        self.knows = true;
        match self.mode {
            ConnectionMode::Take => self.lost(now),
            ConnectionMode::Yield | ConnectionMode::Poll => {
                self.yielded = true;
                Ruling::Yield
            }
        }
    }

    /// The platform closed an open connection with 1000 or 1001. An older platform does this to the client that loses
    /// the connection. A connection that is closed before it is proven may have been taken by another client. A
    /// platform that supports `on_conflict` reports that separately, so there such a close only means a restart.
    pub(super) fn ended(&mut self, joined_at: Option<Mono>, timing: &Timing, now: Mono) -> Ruling {
        let Some(joined_at) = joined_at else {
            return Ruling::Passing;
        };
        if self.knows || now.since(joined_at) >= timing.proven_after {
            return Ruling::Passing;
        }
        match self.mode {
            ConnectionMode::Take => self.lost(now),
            ConnectionMode::Yield | ConnectionMode::Poll => {
                let pattern = self.lost(now) == Ruling::Fight;
                let cost = match self.suspicious {
                    Some(cost) => (cost + 1).min(DOUBLINGS_MAX),
                    None if pattern => 0,
                    None => return Ruling::Passing,
                };
                self.suspicious = Some(cost);
                Ruling::YieldFor(1 << cost)
            }
        }
    }

    /// A connection is gone, for whatever reason; one that was proven clears the suspicion.
    pub(super) fn outlived(&mut self, joined_at: Option<Mono>, timing: &Timing, now: Mono) {
        if joined_at.is_some_and(|at| now.since(at) >= timing.proven_after) {
            self.suspicious = None;
        }
    }

    fn lost(&mut self, now: Mono) -> Ruling {
        while self.losses.front().is_some_and(|&at| now.since(at) > SPAN) {
            self.losses.pop_front();
        }
        self.losses.push_back(now);
        if self.losses.len() < LOSSES_MAX {
            return Ruling::Passing;
        }
        self.losses.clear();
        Ruling::Fight
    }
}
