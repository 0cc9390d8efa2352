//! What a seed determines: how often faults happen, and what strangers, operators and other clients do.

use std::time::Duration;

use doorman::model::Verdict;

use super::unseen_changes::{UnseenChange, kinds};

/// The probability of each fault, each time it is possible. All zero: nothing goes wrong.
#[derive(Debug, Clone, Default)]
pub struct FaultRates {
    /// A REST call never reaches the platform.
    pub unreachable: f64,
    /// A call is carried out, and its reply is lost.
    pub lost_reply: f64,
    /// A reply arrives after much else has happened.
    pub late_reply: f64,
    /// A call is not carried out, and the daemon cannot know that.
    pub lost_call: f64,
    /// 500 before it is carried out.
    pub failed: f64,
    /// 500 after it was carried out.
    pub failed_after: f64,
    /// 429 with a `Retry-After`.
    pub throttled: f64,
    /// 403.
    pub forbidden: f64,
    /// 422.
    pub malformed: f64,
    /// A page from a replica that lags.
    pub stale: f64,
    /// A frame to the daemon is lost, doubled, late, or broken on the way.
    pub frame_lost: f64,
    pub frame_doubled: f64,
    pub frame_late: f64,
    pub frame_broken: f64,
    /// An upgrade is refused or times out.
    pub upgrade: f64,
    /// A join gets no reply, or is refused.
    pub join: f64,
    /// The connection ends when the daemon opens it or sends something, in any state.
    pub cut: f64,
    /// The daemon is killed after something it did.
    pub crash: f64,
    /// The ledger refuses a batch.
    pub ledger: f64,
    /// The record cannot be read again now, or only slowly.
    pub unread: f64,
    pub read_late: f64,
}

impl FaultRates {
    pub fn of(rng: &mut fastrand::Rng) -> Self {
        let mut rate = |often: f64| if rng.bool() { rng.f64() * often } else { 0.0 };
        Self {
            unreachable: rate(0.2),
            lost_reply: rate(0.3),
            late_reply: rate(0.2),
            lost_call: rate(0.2),
            failed: rate(0.2),
            failed_after: rate(0.2),
            throttled: rate(0.1),
            forbidden: rate(0.05),
            malformed: rate(0.05),
            stale: rate(0.3),
            frame_lost: rate(0.3),
            frame_doubled: rate(0.3),
            frame_late: rate(0.3),
            frame_broken: rate(0.1),
            upgrade: rate(0.4),
            join: rate(0.3),
            cut: rate(0.1),
            crash: rate(0.01),
            ledger: rate(0.02),
            unread: rate(0.3),
            read_late: rate(0.5),
        }
    }
}

/// An event of the schedule.
#[derive(Debug, Clone)]
pub enum WorldEvent {
    /// A stranger sends a request.
    SentRequest {
        kind: usize,
    },
    /// By now this request must have its answer: it came in calm times, from somebody whom a rule decides.
    Answered {
        id: String,
    },
    /// Its sender takes a pending request back, it expires, or a person answers it on the platform.
    End {
        nth: usize,
        status: &'static str,
    },
    /// A change that the daemon does not see.
    Behind(UnseenChange),
    /// Somebody removes a guest's contact, and with `again` also makes another one for the guest.
    GuestParts {
        nth: usize,
        again: bool,
    },
    /// By now those whose end has come are gone, though the agent is paused.
    GuestsGone,
    /// A person answers a pending request through doorman.
    Person {
        nth: usize,
        verdict: Verdict,
    },
    /// The connection ends, with this code or without one; the platform may still count it as live (a ghost).
    Drop {
        code: Option<u16>,
        ghost: bool,
    },
    /// The server sends nothing more on the socket, but does not close it.
    HalfOpen,
    /// By now the daemon must have given up this socket, unless it has been heard of since.
    Noticed {
        life: u64,
        conn: u64,
    },
    /// For a while every connection ends soon after its join.
    Flap,
    FlapEnds,
    /// The channel crashes.
    ChannelCrash,
    /// The daemon is killed; it is told to stop; it has had its time to; it starts.
    Kill,
    Stop,
    DrainEnds {
        life: u64,
    },
    Start,
    /// The rules file that was invalid at the start is corrected.
    CorrectRules,
    /// The rules change, sometimes more than once at nearly the same time.
    Reload,
    /// The agent is paused, and later resumed.
    Pause,
    Resume,
    /// Another client takes the connection. A stubborn one takes it back whenever it loses it. Later it leaves.
    Rival {
        stubborn: bool,
    },
    RivalAgain,
    RivalGoes,
    /// The wall clock jumps by this many seconds; later it is correct again.
    ClockJump {
        seconds: i64,
    },
    ClockRight,
    /// The list is photographed for stale pages.
    Photograph,
    /// The key is refused for a while.
    KeyBad,
    KeyGood,
    /// For a while the file contains another agent's key; with `told`, a reload announces it.
    KeyForeign {
        told: bool,
    },
    KeyOurs {
        told: bool,
    },
}

/// The events of one seed. The rough part has the given length; requests in the calm part must be answered.
pub fn programme(
    rng: &mut fastrand::Rng,
    rough: Duration,
    calm: Duration,
    behind: bool,
) -> Vec<(Duration, WorldEvent)> {
    let mut list = Vec::new();
    let at = |rng: &mut fastrand::Rng| rough.mul_f64(rng.f64());
    for _ in 0..rng.usize(12..64) {
        let when = at(rng);
        // Strangers send single requests, or bursts.
        for _ in 0..if rng.u8(..) < 40 { rng.usize(2..12) } else { 1 } {
            list.push((when, WorldEvent::SentRequest { kind: rng.usize(..kinds(behind)) }));
        }
    }
    for _ in 0..rng.usize(..10) {
        let status = rng.choice(["cancelled", "expired", "approved", "rejected"]).unwrap_or("cancelled");
        list.push((at(rng), WorldEvent::End { nth: rng.usize(..20), status }));
    }
    for _ in 0..rng.usize(..6) {
        let verdict = rng.choice([Verdict::Approve, Verdict::Reject, Verdict::Defer]).unwrap_or(Verdict::Defer);
        list.push((at(rng), WorldEvent::Person { nth: rng.usize(..20), verdict }));
    }
    for _ in 0..rng.usize(..6) {
        let code =
            rng.choice([None, Some(1000), Some(1001), Some(1006), Some(1011), Some(1012), Some(1013)]).unwrap_or(None);
        list.push((at(rng), WorldEvent::Drop { code, ghost: rng.bool() }));
    }
    for (happening, most) in [
        (WorldEvent::HalfOpen, 2),
        (WorldEvent::ChannelCrash, 3),
        (WorldEvent::Kill, 3),
        (WorldEvent::Stop, 2),
        (WorldEvent::Reload, 6),
        (WorldEvent::Photograph, 6),
    ] {
        for _ in 0..rng.usize(..=most) {
            list.push((at(rng), happening.clone()));
        }
    }
    let seconds = rng.choice([-86_400, -3_600, -400, 400, 3_600, 86_400]).unwrap_or(400);
    let stubborn = rng.bool();
    for (begin, end) in [
        (WorldEvent::Pause, WorldEvent::Resume),
        (WorldEvent::Rival { stubborn }, WorldEvent::RivalGoes),
        (WorldEvent::Flap, WorldEvent::FlapEnds),
        (WorldEvent::KeyBad, WorldEvent::KeyGood),
        (WorldEvent::KeyForeign { told: rng.bool() }, WorldEvent::KeyOurs { told: rng.bool() }),
        (WorldEvent::ClockJump { seconds }, WorldEvent::ClockRight),
    ] {
        if rng.u8(..) < 80 {
            let from = at(rng);
            list.push((from, begin));
            list.push((from + Duration::from_secs(rng.u64(1..300)), end));
        }
    }
    for _ in 0..4 {
        let when = calm + Duration::from_secs(rng.u64(1_000..6_000));
        list.push((when, WorldEvent::SentRequest { kind: rng.usize(..kinds(behind)) }));
    }
    list.sort_by_key(|(at, _)| *at);
    list
}
