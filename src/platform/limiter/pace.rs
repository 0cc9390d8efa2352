//! The arithmetic of the limiter: how many calls a second a host gets, and when the next may go out. Pure: time and
//! randomness are arguments.
//!
//! Until a host refuses a call (429, or 503 with `Retry-After`), answers are not paced, and further pages of a reading
//! only in their sum over all agents: [`FURTHER_SECONDS`]. All other calls begin with [`RATE_MIN_START`] in the first
//! second and double each second up to a maximum. From the first refusal on all calls share one rate, which falls by a
//! factor at each refusal and rises by a step in each second without one.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;

/// Calls in the first second.
pub(crate) const RATE_MIN_START: f64 = 5.0;
/// The rate never falls below this, however often the host refuses: the waits grow instead.
const RATE_MIN: f64 = 0.5;
/// A refusal multiplies the rate by this.
const DECREASE: f64 = 0.6;
/// The least that a second without a refusal adds; a tenth of the rate if that is more.
const STEP_MIN: f64 = 0.4;
/// The first wait after a refusal without a wait of its own; it doubles with each refusal in a row.
const WAIT_MIN: Duration = Duration::from_millis(250);
/// The longest such wait.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A host that refused nothing for this long is taken for one without a limit again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// Beyond this rate, calls are spread over the second from the start: a host that takes fewer refuses one, and not all of them.
const SPREAD_ABOVE: f64 = RATE_MIN_START;
/// Further pages may go out at once, as many as this number of seconds of the maximum rate; as many as that rate come back each second.
const FURTHER_SECONDS: f64 = 5.0;
const SECOND: Duration = Duration::from_secs(1);

/// The kind of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// An answer to a request, or a call that a person waits for.
    Answer,
    /// A dial, `me`, or the first page of a list.
    Call,
    /// A page that follows a good page of the same reading, which has one such call at a time. If there were too many
    /// of them, or the host has refused a call, it is a [`Class::Call`].
    Further,
}

/// See the module. Moments are counted from an origin of the caller's.
#[derive(Debug)]
pub struct CallPace {
    rate: f64,
    rate_max: f64,
    /// Added each second without a refusal; `None` until the host has refused: then the rate doubles.
    step: Option<f64>,
    /// The current second, and how many calls went out in it.
    second: Duration,
    used: f64,
    /// How many further pages may go out at once, at this time.
    further: (f64, Duration),
    /// The next call may go then.
    next: Duration,
    /// Nothing goes before this.
    paused_until: Duration,
    /// When the last refusal came that was counted.
    refused_at: Option<Duration>,
    /// Refusals in a row, with no good call between.
    in_a_row: u32,
    /// When the calls of the last second went.
    recent: VecDeque<Duration>,
}

/// Most calls of the last second that are remembered.
const RECENT_MAX: usize = 1_000;

impl CallPace {
    /// Nothing is known of the host.
    pub fn new(calls_per_second_max: u32) -> Self {
        let rate_max = f64::from(calls_per_second_max.max(1));
        Self {
            rate: RATE_MIN_START.min(rate_max),
            rate_max,
            step: None,
            second: Duration::ZERO,
            used: 0.0,
            further: (rate_max * FURTHER_SECONDS, Duration::ZERO),
            next: Duration::ZERO,
            paused_until: Duration::ZERO,
            refused_at: None,
            in_a_row: 0,
            recent: VecDeque::new(),
        }
    }

    /// Allows at most this many calls per second from now on.
    pub(crate) fn at_most(&mut self, calls_per_second_max: u32) {
        self.rate_max = f64::from(calls_per_second_max.max(1));
        self.rate = self.rate.min(self.rate_max);
        self.further.0 = self.further.0.min(self.rate_max * FURTHER_SECONDS);
    }

    /// A call may go out now, or not before the returned time.
    pub fn take(&mut self, class: Class, now: Duration) -> Result<(), Duration> {
        self.grow(now);
        if self.paused_until > now {
            return Err(self.paused_until);
        }
        match (self.step, class) {
            (None, Class::Answer) => {}
            (None, Class::Call) if self.used >= self.rate.floor() => return Err(self.second + SECOND),
            (None, Class::Call) => {
                if self.rate > SPREAD_ABOVE {
                    self.spread(now)?;
                }
                self.used += 1.0;
            }
            (None, Class::Further) => self.take_further(now)?,
            (Some(_), Class::Answer | Class::Call | Class::Further) => self.spread(now)?,
        }
        while self.recent.front().is_some_and(|at| *at + SECOND <= now) || self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        Ok(())
    }

    fn take_further(&mut self, now: Duration) -> Result<(), Duration> {
        let (left, at) = self.further;
        let left = (left + now.saturating_sub(at).as_secs_f64() * self.rate_max).min(self.rate_max * FURTHER_SECONDS);
        self.further = (left, now.max(at));
        if left < 1.0 {
            return Err(now + Duration::from_secs_f64((1.0 - left) / self.rate_max));
        }
        self.further.0 = left - 1.0;
        Ok(())
    }

    /// Spreads calls evenly; a delay by a late timer is partly made up.
    fn spread(&mut self, now: Duration) -> Result<(), Duration> {
        if self.next > now {
            return Err(self.next);
        }
        let between = Duration::from_secs_f64(1.0 / self.rate);
        self.next = self.next.max(now.saturating_sub(between.min(Duration::from_millis(20)))) + between;
        Ok(())
    }

    /// The host took a call.
    pub(crate) fn went_well(&mut self) {
        self.in_a_row = 0;
    }

    /// The host refused a call that was sent at `sent`; `wait` is the wait that it asked for. Returns for how long no
    /// call goes out, if that is new: calls that were already in flight tell nothing new.
    pub fn refused(
        &mut self,
        sent: Duration,
        wait: Option<Duration>,
        now: Duration,
        rng: &mut Rng,
    ) -> Option<Duration> {
        self.grow(now);
        if self.refused_at.is_some_and(|at| sent <= at) && wait.is_none() {
            return None;
        }
        let going = match self.step {
            Some(_) => self.rate,
            // The number of calls that really went out was too high for the host.
            None => (self.recent.iter().filter(|at| **at + SECOND > now).count() as f64).max(1.0),
        };
        self.rate = (going * DECREASE).clamp(RATE_MIN.min(self.rate_max), self.rate_max);
        self.step = Some((self.rate / 10.0).max(STEP_MIN));
        self.refused_at = Some(now);
        self.second = now;
        let ceiling = WAIT_MIN.saturating_mul(1 << self.in_a_row.min(16)).min(WAIT_MAX);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let pause = wait.unwrap_or_default() + ceiling.mul_f64(0.5 + rng.f64() / 2.0);
        self.paused_until = self.paused_until.max(now + pause);
        self.next = self.next.max(self.paused_until);
        Some(pause)
    }

    /// Each second without a refusal gives more.
    fn grow(&mut self, now: Duration) {
        if self.step.is_some() && self.refused_at.is_some_and(|at| now >= at + FORGIVEN_AFTER) {
            (self.step, self.refused_at, self.second) = (None, None, now);
        }
        while now >= self.second + SECOND {
            // Long pauses are not counted out second by second.
            let seconds = now.saturating_sub(self.second).as_secs();
            let busy = self.recent.back().is_some_and(|at| *at + SECOND >= self.second);
            self.rate = match self.step {
                None => self.rate * 2.0,
                // A rate that is not used proves nothing.
                Some(step) if busy && self.paused_until <= now => self.rate + step,
                Some(_) => self.rate,
            }
            .min(self.rate_max);
            self.used = 0.0;
            let settled = self.rate >= self.rate_max || (self.step.is_some() && !busy);
            self.second += if settled { Duration::from_secs(seconds) } else { SECOND };
        }
    }

    /// The current rate, in calls a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Whether the host has refused a call lately.
    pub(crate) fn limited(&self) -> bool {
        self.step.is_some()
    }

    /// The end of the pause.
    pub(crate) fn paused_until(&self) -> Duration {
        self.paused_until
    }
}

#[cfg(test)]
mod tests;
