//! How a socket comes and goes: dialling, what follows a refusal or an end, and how long to wait before the next try.

use std::time::Duration;

use super::conflict::Ruling;
use super::socket::SocketRefs;
use super::{ConnectionMode, DIAL_PHASES_MAX, NoteLevel, NoteName, PhoenixSession, SessionOutput, SocketPhase};
use crate::clock::Mono;
use crate::config::settings::Timing;
use crate::model::{AgentState, ConnectFailure, ConnectPlan, Ended, RefusedBy};
use crate::phoenix::backoff::between;

/// The platform restarts \[sdk\].
const CLOSE_RESTART: u16 = 1012;
/// The platform is overloaded \[sdk\].
const CLOSE_OVERLOADED: u16 = 1013;
/// A policy violation: the official clients stop for good \[sdk\].
const CLOSE_POLICY: u16 = 1008;
/// A frame was too large for the platform.
const CLOSE_TOO_LARGE: u16 = 1009;

/// The minimum wait beyond plain backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Floor {
    /// Nothing.
    None,
    /// A restart: 1 to 5 s; shorter only if [`Timing::backoff_min`] is.
    Restart,
    /// Overload: 30 to 60 s; shorter only if [`Timing::backoff_max`] is.
    Overloaded,
    /// The platform does not want this connection: the longest wait of plain backoff.
    Slowest,
    /// The wait that the platform asked for.
    RetryAfter(Duration),
}

impl PhoenixSession {
    pub(super) fn connect(&mut self, now: Mono) {
        let take = self.config.connection == ConnectionMode::Take;
        self.outputs.push_back(SessionOutput::Connect(ConnectPlan { take, key_in_query: self.key.ask() }));
        self.unreached = false;
        self.phase = SocketPhase::Dialling { give_up: now + self.config.timing.join_timeout * DIAL_PHASES_MAX };
    }

    pub(super) fn opened(&mut self, now: Mono) {
        match self.phase {
            SocketPhase::Dialling { .. } => {
                self.key.upgraded();
                self.between = None;
                let (socket, joins) = SocketRefs::open(&self.config.agent, &self.config.timing, &mut self.rng, now);
                self.outputs.extend(joins.map(SessionOutput::Send));
                self.phase = SocketPhase::Open(Box::new(socket));
            }
            SocketPhase::Open(_) => {}
            // This socket was not requested, or is no longer wanted.
            SocketPhase::Idle
            | SocketPhase::Polling
            | SocketPhase::Waiting { .. }
            | SocketPhase::Refused { .. }
            | SocketPhase::Stopped => {
                self.outputs.push_back(SessionOutput::Close);
            }
        }
    }

    pub(super) fn not_opened(&mut self, refusal: ConnectFailure, now: Mono) {
        if !matches!(self.phase, SocketPhase::Dialling { .. }) {
            return;
        }
        let floor = match (refusal.retry_after, refusal.status) {
            (Some(wait), _) => Floor::RetryAfter(wait),
            // The limiter, which all agents of the process share, handles a bare 429.
            (None, _) => Floor::None,
        };
        let mut ruling = Ruling::Passing;
        if refusal.asked {
            self.conflict.dropped(now);
        }
        // An answer of a system in between says nothing about the key, and nothing about who has the connection.
        let own = !matches!(refusal.by, RefusedBy::Between(_));
        match (refusal.status, own) {
            (Some(409), true) => {
                self.key.taken();
                ruling = self.conflict.upgrade_refused(&self.config.timing, now);
            }
            (status, _) => {
                let as_key = status == Some(403) && refusal.by == RefusedBy::Empty;
                if self.key.upgrade_failed(as_key) {
                    let detail = "the socket refuses the key in the query as well: back to the header";
                    self.note(NoteLevel::Warn, NoteName::CredentialsFallback, detail.to_owned());
                }
                if own && matches!(status, Some(401 | 403)) {
                    self.identify(now);
                }
            }
        }
        if !own {
            let again = self.between.as_ref() == Some(&refusal.why);
            let level = if again { NoteLevel::Debug } else { NoteLevel::Warn };
            self.note(level, NoteName::BlockedInBetween, refusal.why.clone());
            self.between = Some(refusal.why.clone());
        }
        self.unreached = refusal.status.is_none();
        self.wait(ruling, floor, refusal.why, now);
    }

    pub(super) fn closed(&mut self, ended: &Ended, now: Mono) {
        let (opened_at, joined_at) = match &self.phase {
            SocketPhase::Open(socket) => (Some(socket.opened_at), socket.joined_at),
            SocketPhase::Dialling { .. } => (None, None),
            SocketPhase::Idle
            | SocketPhase::Polling
            | SocketPhase::Waiting { .. }
            | SocketPhase::Refused { .. }
            | SocketPhase::Stopped => return,
        };
        self.leave_live(now);
        self.conflict.outlived(joined_at, &self.config.timing, now);
        let too_large = ended.too_large || ended.code == Some(CLOSE_TOO_LARGE);
        if let Some(pattern) = opened_at.and_then(|at| self.endings.ended(at, too_large, now)) {
            self.note(NoteLevel::Warn, NoteName::ConnectionPattern, pattern);
        }
        let (ruling, floor, why) = match ended.code {
            None if ended.too_large => {
                self.conflict.dropped(now);
                (Ruling::Passing, Floor::None, "a frame was too large: the connection was closed with 1009".to_owned())
            }
            None => {
                self.conflict.dropped(now);
                (Ruling::Passing, Floor::None, "the connection broke".to_owned())
            }
            Some(code) => {
                let ruling = match code {
                    1000 | 1001 => self.conflict.ended(joined_at, &self.config.timing, now),
                    _ => Ruling::Passing,
                };
                let floor = match code {
                    CLOSE_RESTART => Floor::Restart,
                    CLOSE_OVERLOADED => Floor::Overloaded,
                    CLOSE_POLICY => Floor::Slowest,
                    _ => Floor::None,
                };
                let said = if ended.reason.is_empty() { String::new() } else { format!(": `{}`", ended.reason) };
                let why = format!("the platform closed the connection with {code}{said}");
                if code == CLOSE_POLICY {
                    let detail = format!(
                        "{why}; this is a policy violation, at which the official clients stop for good: doorman tries \
                         again slowly, and answers from listings meanwhile"
                    );
                    self.note(NoteLevel::Warn, NoteName::PolicyViolation, detail);
                }
                (ruling, floor, why)
            }
        };
        self.wait(ruling, floor, why, now);
    }

    pub(super) fn superseded(&mut self, now: Mono) {
        self.leave_live(now);
        self.outputs.push_back(SessionOutput::Close);
        let ruling = self.conflict.superseded(now);
        self.wait(ruling, Floor::None, "another connection took this agent's place".to_owned(), now);
    }

    pub(super) fn dial_timed_out(&mut self, now: Mono) {
        self.give_up_socket("connecting took too long".to_owned(), now);
    }

    /// Gives the socket up and tries for a new one.
    pub(super) fn give_up_socket(&mut self, why: String, now: Mono) {
        self.drop_socket(now);
        self.wait(Ruling::Passing, Floor::None, why, now);
    }

    /// Closes the socket, if there is one. The platform may be in no condition to notice, and count it as live.
    pub(super) fn drop_socket(&mut self, now: Mono) {
        self.leave_live(now);
        if let SocketPhase::Open(socket) = &self.phase {
            self.conflict.outlived(socket.joined_at, &self.config.timing, now);
        }
        match self.phase {
            SocketPhase::Open(_) | SocketPhase::Dialling { .. } => {
                self.conflict.dropped(now);
                self.outputs.push_back(SessionOutput::Close);
            }
            SocketPhase::Idle
            | SocketPhase::Polling
            | SocketPhase::Waiting { .. }
            | SocketPhase::Refused { .. }
            | SocketPhase::Stopped => {}
        }
    }

    /// There is no socket: sets the state and the time of the next try.
    fn wait(&mut self, ruling: Ruling, floor: Floor, why: String, now: Mono) {
        let timing = &self.config.timing;
        let least = match floor {
            Floor::RetryAfter(wait) => wait.min(timing.retry_after_max),
            Floor::None | Floor::Restart | Floor::Overloaded | Floor::Slowest => Duration::ZERO,
        };
        let (state, why, wait) = match ruling {
            Ruling::Passing => {
                let jitter = self.backoff.wait(&mut self.rng);
                let wait = match floor_range(floor, timing) {
                    Some((from, to)) => jitter.max(between(from, to, &mut self.rng)),
                    // The wait is jittered even if the platform asked for it: many agents may have got the same value.
                    None => least.saturating_add(jitter),
                };
                (AgentState::Away, why, wait)
            }
            Ruling::Ghost => {
                let to = timing.ghost_retry.saturating_add(timing.ghost_retry / 3);
                let why = "the platform may still count our last connection as live".to_owned();
                (AgentState::Away, why, between(timing.ghost_retry, to, &mut self.rng).max(least))
            }
            Ruling::Yield => {
                let why = "another connection has this agent".to_owned();
                (AgentState::Yielded, why, timing.yield_retry.max(least))
            }
            Ruling::YieldFor(times) => {
                let why = "another connection has this agent, by the way ours ends".to_owned();
                (AgentState::Yielded, why, timing.yield_retry.saturating_mul(times).max(least))
            }
            Ruling::Fight => {
                let why = "two clients fight for this agent's connection".to_owned();
                (AgentState::Yielded, why, timing.yield_retry.saturating_mul(2).max(least))
            }
        };
        if ruling == Ruling::Fight {
            let detail = "the connection was lost three times within ten minutes to somebody else: yielding for a while; \
                          stop the other client, or set `connection` to `yield`";
            self.note(NoteLevel::Warn, NoteName::ConnectionFight, detail.to_owned());
        }
        self.phase = SocketPhase::Waiting { until: now + wait };
        let detail = format!("trying again in {:.1} s: {why}", wait.as_secs_f64());
        self.note(NoteLevel::Debug, NoteName::Reconnect, detail);
        self.enter(state, why);
    }
}

/// The platform's own figures, scaled down with the backoff's if tests want short times.
fn floor_range(floor: Floor, timing: &Timing) -> Option<(Duration, Duration)> {
    let seconds = Duration::from_secs;
    match floor {
        Floor::None | Floor::RetryAfter(_) => None,
        Floor::Restart => {
            let base = timing.backoff_min;
            Some((seconds(1).min(base.saturating_mul(2)), seconds(5).min(base.saturating_mul(10))))
        }
        Floor::Overloaded => {
            let top = timing.backoff_max;
            Some((seconds(30).min(top / 2), seconds(60).min(top)))
        }
        Floor::Slowest => Some((timing.backoff_max - timing.backoff_max / 10, timing.backoff_max)),
    }
}
