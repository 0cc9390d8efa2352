//! How a socket comes and goes: dialling, what follows a refusal or an end, and how long to wait before the next try.

use std::time::Duration;

use super::contest::Ruling;
use super::socket::Socket;
use super::{AgentState, ConnectPlan, ConnectionMode, DIAL_PHASES_MAX, NoteLevel, Output, Phase, Refusal, Session};
use crate::clock::Mono;
use crate::config::settings::Timing;
use crate::phoenix::backoff::between;

/// The platform restarts \[sdk\].
const CLOSE_RESTART: u16 = 1012;
/// The platform is overloaded \[sdk\].
const CLOSE_OVERLOADED: u16 = 1013;

/// What raises the wait above plain backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Floor {
    /// Nothing.
    None,
    /// A restart: 1 to 5 s; shorter only where [`Timing::backoff_min`] is.
    Restart,
    /// Overload: 30 to 60 s; shorter only where [`Timing::backoff_max`] is.
    Overloaded,
    /// The platform said how long.
    Told(Duration),
}

impl Session {
    pub(super) fn connect(&mut self, now: Mono) {
        let take = self.config.connection == ConnectionMode::Take;
        self.outputs.push_back(Output::Connect(ConnectPlan { take, key_in_query: self.key.in_query() }));
        self.phase = Phase::Dialling { give_up: now + self.config.timing.join_timeout * DIAL_PHASES_MAX };
    }

    pub(super) fn opened(&mut self, now: Mono) {
        match self.phase {
            Phase::Dialling { .. } => {
                self.key.upgraded();
                let (socket, joins) = Socket::open(&self.config.agent, &self.config.timing, &mut self.rng, now);
                self.outputs.extend(joins.map(Output::Send));
                self.phase = Phase::Open(Box::new(socket));
            }
            Phase::Open(_) => {}
            // Nobody asked for this socket, or nobody does any more.
            Phase::Idle | Phase::Polling | Phase::Waiting { .. } | Phase::Refused { .. } | Phase::Stopped => {
                self.outputs.push_back(Output::Close);
            }
        }
    }

    pub(super) fn not_opened(&mut self, refusal: Refusal, now: Mono) {
        if !matches!(self.phase, Phase::Dialling { .. }) {
            return;
        }
        let floor = match (refusal.retry_after, refusal.status) {
            (Some(told), _) => Floor::Told(told),
            (None, Some(429)) => Floor::Overloaded,
            (None, _) => Floor::None,
        };
        let mut ruling = Ruling::Passing;
        if refusal.asked {
            self.contest.dropped(now);
        }
        match refusal.status {
            Some(409) => ruling = self.contest.conflict(&self.config.timing, now),
            Some(401 | 403) => {
                self.key.upgrade_refused();
                self.identify(now);
            }
            _ => {}
        }
        self.wait(ruling, floor, refusal.why, now);
    }

    pub(super) fn closed(&mut self, code: Option<u16>, now: Mono) {
        let joined_at = match &self.phase {
            Phase::Open(socket) => socket.joined_at,
            Phase::Dialling { .. } => None,
            Phase::Idle | Phase::Polling | Phase::Waiting { .. } | Phase::Refused { .. } | Phase::Stopped => return,
        };
        self.leave_live(now);
        self.contest.outlived(joined_at, &self.config.timing, now);
        let (ruling, floor, why) = match code {
            None => {
                self.contest.dropped(now);
                (Ruling::Passing, Floor::None, "the connection broke".to_owned())
            }
            Some(code) => {
                let ruling = match code {
                    1000 | 1001 => self.contest.ended(joined_at, &self.config.timing, now),
                    _ => Ruling::Passing,
                };
                let floor = match code {
                    CLOSE_RESTART => Floor::Restart,
                    CLOSE_OVERLOADED => Floor::Overloaded,
                    _ => Floor::None,
                };
                (ruling, floor, format!("the platform closed the connection with {code}"))
            }
        };
        self.wait(ruling, floor, why, now);
    }

    pub(super) fn superseded(&mut self, now: Mono) {
        self.leave_live(now);
        self.outputs.push_back(Output::Close);
        let ruling = self.contest.superseded(now);
        self.wait(ruling, Floor::None, "another connection took this agent's place".to_owned(), now);
    }

    pub(super) fn dial_timed_out(&mut self, now: Mono) {
        self.give_up_socket("dialling came to no end".to_owned(), now);
    }

    /// Gives the socket up and tries for a new one.
    pub(super) fn give_up_socket(&mut self, why: String, now: Mono) {
        self.drop_socket(now);
        self.wait(Ruling::Passing, Floor::None, why, now);
    }

    /// Closes the socket, if there is one. The platform may be in no condition to notice, and count it as live.
    pub(super) fn drop_socket(&mut self, now: Mono) {
        self.leave_live(now);
        if let Phase::Open(socket) = &self.phase {
            self.contest.outlived(socket.joined_at, &self.config.timing, now);
        }
        match self.phase {
            Phase::Open(_) | Phase::Dialling { .. } => {
                self.contest.dropped(now);
                self.outputs.push_back(Output::Close);
            }
            Phase::Idle | Phase::Polling | Phase::Waiting { .. } | Phase::Refused { .. } | Phase::Stopped => {}
        }
    }

    /// There is no socket: says what that means for the state, and when there will be another try.
    fn wait(&mut self, ruling: Ruling, floor: Floor, why: String, now: Mono) {
        let timing = &self.config.timing;
        let told = match floor {
            Floor::Told(told) => told.min(timing.retry_after_max),
            Floor::None | Floor::Restart | Floor::Overloaded => Duration::ZERO,
        };
        let (state, why, wait) = match ruling {
            Ruling::Passing => {
                let jitter = self.backoff.wait(&mut self.rng);
                let wait = match floor_range(floor, timing) {
                    Some((from, to)) => jitter.max(between(from, to, &mut self.rng)),
                    // Told or not, it is jittered: many agents may have been told the same.
                    None => told.saturating_add(jitter),
                };
                (AgentState::Away, why, wait)
            }
            Ruling::Ghost => {
                let to = timing.ghost_retry.saturating_add(timing.ghost_retry / 3);
                let why = "the platform may still count our last connection as live".to_owned();
                (AgentState::Away, why, between(timing.ghost_retry, to, &mut self.rng).max(told))
            }
            Ruling::Yield => {
                let why = "another connection has this agent".to_owned();
                (AgentState::Yielded, why, timing.yield_retry.max(told))
            }
            Ruling::YieldFor(times) => {
                let why = "another connection has this agent, by the way ours ends".to_owned();
                (AgentState::Yielded, why, timing.yield_retry.saturating_mul(times).max(told))
            }
            Ruling::Fight => {
                let why = "two clients fight for this agent's connection".to_owned();
                (AgentState::Yielded, why, timing.yield_retry.saturating_mul(2).max(told))
            }
        };
        if ruling == Ruling::Fight {
            let detail = "the connection was lost three times within ten minutes to somebody else: yielding for a while; \
                          stop the other client, or set `connection` to `yield`";
            self.note(NoteLevel::Warn, "connection_fight", detail.to_owned());
        }
        self.phase = Phase::Waiting { until: now + wait };
        let detail = format!("trying again in {:.1} s: {why}", wait.as_secs_f64());
        self.note(NoteLevel::Debug, "reconnect", detail);
        self.enter(state, why);
    }
}

/// The platform's own figures, scaled down with the backoff's where tests want short times.
fn floor_range(floor: Floor, timing: &Timing) -> Option<(Duration, Duration)> {
    let seconds = Duration::from_secs;
    match floor {
        Floor::None | Floor::Told(_) => None,
        Floor::Restart => {
            let base = timing.backoff_min;
            Some((seconds(1).min(base.saturating_mul(2)), seconds(5).min(base.saturating_mul(10))))
        }
        Floor::Overloaded => {
            let top = timing.backoff_max;
            Some((seconds(30).min(top / 2), seconds(60).min(top)))
        }
    }
}
