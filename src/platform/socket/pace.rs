//! The pace at which a process dials. Agents that lose their sockets together do not come back together: each waits for
//! its turn, besides its own backoff.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Between one dial and the next of all agents: two hundred a second.
pub const BETWEEN: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the next turn is free.
    free: Mutex<Instant>,
}

impl Pace {
    /// The first turn is now.
    pub(super) fn new() -> Self {
        Self { free: Mutex::new(Instant::now()) }
    }

    /// Waits for a turn. A turn that is not waited for to its end is lost, not handed on.
    pub(super) async fn turn(&self) {
        let at = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*free).max(Instant::now());
            *free = at + BETWEEN;
            at
        };
        sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_come_together_go_one_by_one_and_who_comes_alone_does_not_wait() {
        let (pace, began) = (Pace::new(), Instant::now());
        futures_util::future::join_all((0..200).map(|_| pace.turn())).await;
        assert_eq!(began.elapsed(), BETWEEN * 199);
        tokio::time::sleep(BETWEEN).await;
        let began = Instant::now();
        pace.turn().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
