//! One limiter for each host, which all agents of a process share. Every call waits here for its turn.
//!
//! Turns are given in the order of asking, answers before everything else. The arithmetic is in [`pace`]. While a host is
//! out of reach, the answers of all agents share one wait, too.

pub(crate) mod pace;
mod reachability;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use self::pace::CallPace;
pub use self::pace::Class;
use self::reachability::Reachability;
use crate::clock;
use crate::ops::log::events;

/// A longer pause is not waited for: the call comes back unsent, as the host would refuse it.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// If a host refuses again after this time without a refusal, that is a new log line.
const EPISODE: Duration = Duration::from_secs(60);

/// A shorter suspend does not count.
const SUSPEND_MIN: Duration = Duration::from_secs(1);

/// The limiters of a process, one a host. Clones share them.
#[derive(Debug, Clone)]
pub struct Limiters {
    calls_per_second_max: Arc<AtomicU32>,
    by_host: Arc<Mutex<HashMap<String, Arc<Limiter>>>>,
}

impl Limiters {
    /// None yet.
    pub fn new(calls_per_second_max: u32) -> Self {
        Self { calls_per_second_max: Arc::new(AtomicU32::new(calls_per_second_max)), by_host: Arc::default() }
    }

    /// Sends at most this many calls per second to each host from now on.
    pub fn at_most(&self, calls_per_second_max: u32) {
        if self.calls_per_second_max.swap(calls_per_second_max, Ordering::Relaxed) == calls_per_second_max {
            return;
        }
        for limiter in self.by_host.lock().unwrap_or_else(PoisonError::into_inner).values() {
            limiter.lock().pace.at_most(calls_per_second_max);
        }
    }

    /// The limiter of this host, for all ports: a server that limits clients is in front of all of them. A name with a
    /// dot at its end is the same host.
    pub fn of(&self, url: &url::Url) -> Arc<Limiter> {
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let mut by_host = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        let calls_per_second_max = self.calls_per_second_max.load(Ordering::Relaxed);
        by_host.entry(host.clone()).or_insert_with(|| Arc::new(Limiter::new(host, calls_per_second_max))).clone()
    }
}

/// The limiter of one host.
#[derive(Debug)]
pub struct Limiter {
    host: String,
    origin: Instant,
    /// For how long the machine had been suspended then.
    suspended: Duration,
    state: Mutex<LimiterState>,
    /// The number of callers that wait for an answer's turn, or have one.
    answers: AtomicUsize,
    /// The first of those who wait holds this: one timer for all of them, in the order in which they came.
    answer_queue: tokio::sync::Mutex<()>,
    call_queue: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct LimiterState {
    pace: CallPace,
    reach: Reachability,
    rng: Rng,
    /// When the host last refused a call.
    refused_at: Option<Instant>,
}

/// Why a call cannot go now, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTurn {
    /// The host asked for a longer pause than the caller waits for.
    Paused(Duration),
    /// The host is out of reach; said to a [`Class::Answer`] only.
    Unreached(Duration),
}

/// A call that may go out now. Report its result with [`CallPermit::ended`].
#[derive(Debug)]
pub struct CallPermit {
    limiter: Arc<Limiter>,
    began: Duration,
}

impl Limiter {
    fn new(host: String, calls_per_second_max: u32) -> Self {
        let state = LimiterState {
            pace: CallPace::new(calls_per_second_max),
            reach: Reachability::default(),
            rng: Rng::new(),
            refused_at: None,
        };
        Self {
            host,
            origin: Instant::now(),
            suspended: clock::suspended(),
            state: Mutex::new(state),
            answers: AtomicUsize::new(0),
            answer_queue: tokio::sync::Mutex::new(()),
            call_queue: tokio::sync::Mutex::new(()),
        }
    }

    /// Waits for a turn. Dropping the future gives up the place in the queue, and no other caller loses a turn.
    pub async fn turn(self: &Arc<Self>, class: Class) -> Result<CallPermit, NoTurn> {
        if class == Class::Answer {
            self.lock().reach.take(self.now()).map_err(NoTurn::Unreached)?;
        }
        let _counted = (class == Class::Answer).then(|| WaitingCaller::new(&self.answers));
        // What is not paced does not wait.
        if class != Class::Call && !self.lock().pace.limited() {
            match self.try_turn(class) {
                Ok(turn) => return Ok(turn),
                Err(at) if class == Class::Answer => return Err(NoTurn::Paused(self.left(at))),
                // There were too many of them: this one waits in line.
                Err(_) => {}
            }
        }
        let (class, queue) = match class {
            Class::Answer => (class, &self.answer_queue),
            Class::Call | Class::Further => (Class::Call, &self.call_queue),
        };
        let _first = queue.lock().await;
        loop {
            let at = match class {
                Class::Call if self.answers.load(Ordering::Relaxed) > 0 && self.lock().pace.limited() => {
                    self.now() + Duration::from_millis(20)
                }
                Class::Answer | Class::Call | Class::Further => match self.try_turn(class) {
                    Ok(turn) => return Ok(turn),
                    Err(at) => at,
                },
            };
            let pause = self.lock().pace.paused_until().saturating_sub(self.now());
            if pause > WAIT_MAX {
                return Err(NoTurn::Paused(pause));
            }
            sleep_until(Instant::now() + self.left(at)).await;
        }
    }

    fn try_turn(self: &Arc<Self>, class: Class) -> Result<CallPermit, Duration> {
        let began = self.now();
        self.lock().pace.take(class, began)?;
        Ok(CallPermit { limiter: self.clone(), began })
    }

    /// The host's pause runs on while this machine is suspended.
    fn now(&self) -> Duration {
        let suspended = clock::suspended().saturating_sub(self.suspended);
        // Two clocks that are read one after the other differ a little.
        self.origin.elapsed() + if suspended < SUSPEND_MIN { Duration::ZERO } else { suspended }
    }

    fn left(&self, at: Duration) -> Duration {
        at.saturating_sub(self.now())
    }

    fn lock(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, began: Duration, status: u16, wait: Option<Duration>) {
        let now = self.now();
        let mut state = self.lock();
        let LimiterState { pace, rng, refused_at, reach: _ } = &mut *state;
        let Some(pause) = pace.refused(began, wait, now, rng) else { return };
        let first = refused_at.is_none_or(|at| at.elapsed() > EPISODE);
        *refused_at = Some(Instant::now());
        let (rate, host) = (pace.rate(), self.host.as_str());
        drop(state);
        let in_ms = (pause.as_secs_f64() * 1e6).round() / 1e3;
        let status = u64::from(status);
        let why = format!(
            "`{host}` takes no more calls: {rate:.1} calls a second for all agents from now on, rising while it takes them"
        );
        if first {
            warn!(event = events::THROTTLED, status, in_ms, why, "{why}");
        } else {
            debug!(event = events::THROTTLED, status, in_ms, why, "{why}");
        }
    }
}

impl CallPermit {
    /// The host was not reached.
    pub(crate) fn unreached(self) {
        let now = self.limiter.now();
        let mut state = self.limiter.lock();
        let LimiterState { reach, rng, .. } = &mut *state;
        reach.failed(self.began, now, rng);
    }

    /// The result of the call: the status, and the wait that the host asked for. `None` if there was no reply.
    pub fn ended(self, status: Option<u16>, retry_after: Option<Duration>) {
        if status.is_some() {
            self.limiter.lock().reach.reached();
        }
        match (status, retry_after) {
            (Some(status @ 429), wait) | (Some(status @ 503), wait @ Some(_)) => {
                self.limiter.refused(self.began, status, wait);
            }
            (Some(_), _) => self.limiter.lock().pace.went_well(),
            (None, _) => {}
        }
    }
}

/// Counts the waiting callers, and subtracts those that leave.
struct WaitingCaller<'a>(&'a AtomicUsize);

impl<'a> WaitingCaller<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for WaitingCaller<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> Arc<Limiter> {
        Limiters::new(200).of(&"https://band.example/api/v1".parse().unwrap())
    }

    #[test]
    fn a_host_has_one_limiter_whatever_the_port_and_the_scheme() {
        let limiters = Limiters::new(200);
        let of = |url: &str| limiters.of(&url.parse().unwrap());
        assert!(Arc::ptr_eq(&of("https://band.example/api/v1"), &of("wss://BAND.example:444/socket")));
        assert!(Arc::ptr_eq(&of("https://band.example/api/v1"), &of("http://band.example./")));
        assert!(Arc::ptr_eq(&of("http://127.0.0.1/"), &of("ws://0x7f.1:4400/")));
        assert!(Arc::ptr_eq(&of("http://[2001:db8::1]/"), &of("ws://[2001:DB8:0:0::1]:81/")));
        assert!(!Arc::ptr_eq(&of("https://band.example/"), &of("https://other.example/")));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_the_queue_costs_nobody_a_turn() {
        let limiter = limiter();
        for _ in 0..5 {
            limiter.turn(Class::Call).await.unwrap().ended(Some(200), None);
        }
        let began = Instant::now();
        let left = tokio::time::timeout(Duration::from_millis(100), limiter.turn(Class::Call)).await;
        assert!(left.is_err());
        for _ in 0..10 {
            limiter.turn(Class::Call).await.unwrap().ended(Some(200), None);
        }
        assert_eq!(began.elapsed().as_secs(), 1, "all ten of the second second");
    }

    #[tokio::test(start_paused = true)]
    async fn further_pages_pass_those_who_begin_until_there_were_too_many_or_a_call_was_refused() {
        let limiter = limiter();
        let mut waiting = Vec::new();
        for _ in 0..20 {
            let limiter = limiter.clone();
            waiting.push(tokio::spawn(async move { limiter.turn(Class::Call).await.unwrap().ended(Some(200), None) }));
        }
        tokio::task::yield_now().await;
        let began = Instant::now();
        for _ in 0..1_000 {
            limiter.turn(Class::Further).await.unwrap().ended(Some(200), None);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        // The next one waits in line, behind those who came before.
        limiter.turn(Class::Further).await.unwrap().ended(Some(200), None);
        assert_eq!(began.elapsed().as_secs(), 2, "5, 10 and 20 a second");
        for call in waiting {
            call.await.unwrap();
        }
        limiter.turn(Class::Call).await.unwrap().ended(Some(429), None);
        let refused = Instant::now();
        limiter.turn(Class::Further).await.unwrap().ended(Some(200), None);
        assert!(refused.elapsed() >= Duration::from_millis(125), "{:?}", refused.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_out_of_reach_holds_answers_and_no_other_call() {
        let limiter = limiter();
        limiter.turn(Class::Answer).await.unwrap().unreached();
        assert!(matches!(limiter.turn(Class::Answer).await, Err(NoTurn::Unreached(_))));
        // A listing finds out that it is back.
        limiter.turn(Class::Call).await.unwrap().ended(Some(500), None);
        assert!(limiter.turn(Class::Answer).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn answers_go_first_once_the_host_has_refused_a_call() {
        let limiter = limiter();
        limiter.turn(Class::Call).await.unwrap().ended(Some(429), None);
        let order = Arc::new(Mutex::new(Vec::new()));
        let go = |class, name: &'static str| {
            let (limiter, order) = (limiter.clone(), order.clone());
            async move {
                limiter.turn(class).await.unwrap().ended(Some(200), None);
                order.lock().unwrap().push(name);
            }
        };
        tokio::join!(
            go(Class::Call, "page"),
            go(Class::Call, "dial"),
            go(Class::Answer, "first"),
            go(Class::Answer, "second")
        );
        let order = order.lock().unwrap().clone();
        assert_eq!(order, ["first", "second", "page", "dial"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_pause_comes_back_at_once_and_unsent() {
        let limiter = limiter();
        limiter.turn(Class::Call).await.unwrap().ended(Some(503), Some(Duration::from_secs(120)));
        for class in [Class::Answer, Class::Call] {
            let NoTurn::Paused(left) = limiter.turn(class).await.unwrap_err() else { panic!("{class:?}") };
            assert!(left > Duration::from_secs(119), "{left:?}");
        }
        // A 503 without a wait is a failure, not a limit.
        let other = self::limiter();
        other.turn(Class::Call).await.unwrap().ended(Some(503), None);
        assert!(!other.lock().pace.limited());
    }
}
