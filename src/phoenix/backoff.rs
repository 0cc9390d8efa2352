//! How long to wait before the next try: exponential with full jitter. Pure; the owner of a backoff decides when to
//! reset it.

use std::time::Duration;

use fastrand::Rng;

/// Counts tries in a row. A wait is anywhere between nothing and a ceiling, which begins at `min`, doubles with each
/// try and ends at `max`.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    tries: u32,
}

impl Backoff {
    /// A backoff without any tries.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, tries: 0 }
    }

    /// The longest that the next wait can be.
    pub(crate) fn ceiling(&self) -> Duration {
        self.min.saturating_mul(1 << self.tries.min(30)).min(self.max)
    }

    /// The wait before the next try, which counts as one.
    pub fn wait(&mut self, rng: &mut Rng) -> Duration {
        let ceiling = u64::try_from(self.ceiling().as_nanos()).unwrap_or(u64::MAX);
        self.tries = self.tries.saturating_add(1);
        Duration::from_nanos(rng.u64(0..=ceiling))
    }

    /// How many tries in a row.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Resets the number of tries after a success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// A random duration between the two; `from` if `to` is shorter.
pub fn between(from: Duration, to: Duration, rng: &mut Rng) -> Duration {
    let span = u64::try_from(to.saturating_sub(from).as_nanos()).unwrap_or(u64::MAX);
    from + Duration::from_nanos(rng.u64(0..=span))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(60);

    #[test]
    fn the_ceiling_doubles_up_to_its_end_and_stays_there() {
        let mut backoff = Backoff::new(MIN, MAX);
        let mut rng = Rng::with_seed(1);
        let ceilings = (0..100).map(|_| {
            let ceiling = backoff.ceiling();
            assert!(backoff.wait(&mut rng) <= ceiling);
            ceiling.as_millis()
        });
        let ceilings: Vec<_> = ceilings.collect();
        assert_eq!(ceilings[..9], [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(ceilings[99], 60_000);
        backoff.reset();
        assert_eq!((backoff.ceiling(), backoff.tries()), (MIN, 0));
    }

    #[test]
    fn the_jitter_is_full() {
        let mut rng = Rng::with_seed(7);
        let waits: Vec<_> = (0..1000).map(|_| Backoff::new(MAX, MAX).wait(&mut rng)).collect();
        for tenth in 0..10 {
            let count = waits.iter().filter(|wait| wait.as_secs() / 6 == tenth).count();
            assert!((50..200).contains(&count), "{count} of 1000 waits in tenth {tenth}");
        }
    }

    #[test]
    fn odd_figures_are_no_panic() {
        let mut rng = Rng::with_seed(3);
        assert_eq!(Backoff::new(Duration::ZERO, MAX).wait(&mut rng), Duration::ZERO);
        assert!(Backoff::new(MAX, MIN).wait(&mut rng) <= MIN);
        let mut endless = Backoff::new(Duration::MAX, Duration::MAX);
        let _ = (0..5).map(|_| endless.wait(&mut rng)).last();
        assert_eq!(between(MAX, MIN, &mut rng), MAX);
    }
}
