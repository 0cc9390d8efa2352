//! Named points at which a debug build stops itself with SIGSTOP, so that tests hold it where only a machine that is suspended would:
//! `DOORMAN_STOP_AT=POINT` or `POINT:N`, the Nth time that it comes there. A release build has no such points.

/// Where a process may stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopPoint {
    /// It is decided what goes on record, and no transaction has begun.
    Batch,
    /// The intent is on record, and nothing was looked at yet.
    Intent,
    /// Everything was looked at, and the call goes out next.
    Call,
    /// In a transaction, before its commit.
    Commit,
    /// The platform has replied, and that is not on record.
    Outcome,
}

/// Stops here, if a test wants it. The first call reads what it wants.
#[cfg(debug_assertions)]
pub fn here(point: StopPoint) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    static WANTED: OnceLock<Option<(StopPoint, AtomicI64)>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("DOORMAN_STOP_AT").ok()?;
        let (word, times) = text.split_once(':').unwrap_or((&text, "1"));
        let point = match word {
            "batch" => StopPoint::Batch,
            "intent" => StopPoint::Intent,
            "call" => StopPoint::Call,
            "commit" => StopPoint::Commit,
            "outcome" => StopPoint::Outcome,
            _ => return None,
        };
        Some((point, AtomicI64::new(times.parse().ok()?)))
    });
    if let Some((wanted, left)) = wanted
        && *wanted == point
        && left.fetch_sub(1, Ordering::SeqCst) == 1
        && let Err(error) = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP)
    {
        tracing::debug!(%error, "it does not stop");
    }
}

/// Nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub fn here(_: StopPoint) {}
