//! Whether a host can be reached at all. If not, one answer tries it and the answers of all agents wait for the result,
//! longer each time. Pure: time and randomness are arguments.

use std::time::Duration;

use fastrand::Rng;

/// The first wait; it doubles with each failure in a row.
const WAIT_MIN: Duration = Duration::from_millis(250);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The other answers wait at most this long for the one that tries.
const TRY_MAX: Duration = Duration::from_secs(5);

/// See the module. Moments are counted from an origin of the caller's.
#[derive(Debug, Default)]
pub(super) struct Reachability {
    /// Failures in a row; those that were on their way together are one.
    failures: u32,
    /// When the last of them was noticed.
    failed_at: Duration,
    /// No answer goes before this.
    until: Duration,
}

impl Reachability {
    /// An answer may go now, or not for this long.
    pub(super) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        if self.failures == 0 {
            return Ok(());
        }
        if self.until > now {
            return Err(self.until - now);
        }
        // This answer tries the host; the others wait for the result.
        self.until = now + TRY_MAX;
        Ok(())
    }

    /// A call that was sent at `sent` did not reach the host.
    pub(super) fn failed(&mut self, sent: Duration, now: Duration, rng: &mut Rng) {
        if self.failures > 0 && sent <= self.failed_at {
            return;
        }
        let ceiling = WAIT_MIN.saturating_mul(1 << self.failures.min(16)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        self.failed_at = now;
        self.until = now + ceiling.mul_f64(0.5 + rng.f64() / 2.0);
    }

    /// The host replied, with any status.
    pub(super) fn reached(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn those_that_fail_together_make_one_wait_and_one_tries_after_it() {
        let (mut reach, mut rng) = (Reachability::default(), Rng::with_seed(1));
        for _ in 0..8 {
            assert_eq!(reach.take(ms(0)), Ok(()));
        }
        for _ in 0..8 {
            reach.failed(ms(0), ms(1), &mut rng);
        }
        let left = reach.take(ms(1)).unwrap_err();
        assert!((ms(125)..=ms(250)).contains(&left), "{left:?}");
        let then = ms(1) + left;
        assert_eq!(reach.take(then), Ok(()));
        assert!(reach.take(then).is_err(), "one tries, the others wait");
        reach.reached();
        assert_eq!(reach.take(then), Ok(()));
        assert_eq!(reach.take(then), Ok(()));
    }

    #[test]
    fn an_hour_without_the_host_costs_few_tries() {
        let (mut reach, mut rng) = (Reachability::default(), Rng::with_seed(2));
        let (mut now, mut tries, mut longest) = (ms(0), 0, ms(0));
        while now < Duration::from_secs(3600) {
            match reach.take(now) {
                Ok(()) => {
                    tries += 1;
                    reach.failed(now, now + ms(1), &mut rng);
                    now += ms(1);
                }
                Err(left) => {
                    longest = longest.max(left);
                    now += left;
                }
            }
        }
        assert!(tries < 260, "{tries}");
        assert!(longest <= WAIT_MAX && longest > WAIT_MAX / 2, "{longest:?}");
    }

    #[test]
    fn one_that_tries_and_is_never_heard_of_again_keeps_nobody_for_long() {
        let (mut reach, mut rng) = (Reachability::default(), Rng::with_seed(3));
        reach.failed(ms(0), ms(1), &mut rng);
        assert_eq!(reach.take(ms(300)), Ok(()));
        assert_eq!(reach.take(ms(301)), Err(TRY_MAX - ms(1)));
        assert_eq!(reach.take(ms(300) + TRY_MAX), Ok(()));
    }
}
