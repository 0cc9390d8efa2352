//! What a seed means: how rough the world is, and what the strangers and operators do in it.

use std::time::Duration;

/// How likely things go wrong, each in one of so many.
#[derive(Debug, Clone)]
pub struct Rates {
    /// A REST call never reaches the platform.
    pub unreachable: f64,
    /// A call is carried out, and its reply is lost.
    pub lost_reply: f64,
    /// A call is not carried out, and nobody can tell.
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
    /// A pushed frame is lost, doubled, or late.
    pub push_lost: f64,
    pub push_doubled: f64,
    pub push_late: f64,
    /// An upgrade is refused or times out.
    pub upgrade: f64,
    /// A join goes unanswered, or is refused.
    pub join: f64,
}

impl Rates {
    pub fn calm() -> Self {
        Self {
            unreachable: 0.0,
            lost_reply: 0.0,
            lost_call: 0.0,
            failed: 0.0,
            failed_after: 0.0,
            throttled: 0.0,
            forbidden: 0.0,
            malformed: 0.0,
            stale: 0.0,
            push_lost: 0.0,
            push_doubled: 0.0,
            push_late: 0.0,
            upgrade: 0.0,
            join: 0.0,
        }
    }

    pub fn of(rng: &mut fastrand::Rng) -> Self {
        let mut rate = |often: f64| if rng.bool() { rng.f64() * often } else { 0.0 };
        Self {
            unreachable: rate(0.2),
            lost_reply: rate(0.3),
            lost_call: rate(0.2),
            failed: rate(0.2),
            failed_after: rate(0.2),
            throttled: rate(0.1),
            forbidden: rate(0.05),
            malformed: rate(0.05),
            stale: rate(0.3),
            push_lost: rate(0.3),
            push_doubled: rate(0.3),
            push_late: rate(0.3),
            upgrade: rate(0.4),
            join: rate(0.3),
        }
    }
}

/// Something that somebody does.
#[derive(Debug, Clone)]
pub enum Happening {
    /// A stranger knocks.
    Knock {
        kind: usize,
    },
    /// Its sender takes a pending request back, it expires, or a person answers it on the platform.
    End {
        nth: usize,
        status: &'static str,
    },
    /// A person answers a pending request through doorman.
    Person {
        nth: usize,
        verdict: doorman::model::Verdict,
    },
    /// The connection ends, with this code or none; a ghost may stay behind.
    Drop {
        code: Option<u16>,
        ghost: bool,
    },
    /// The server says nothing more on the socket, nor closes it.
    HalfOpen,
    /// The channel crashes.
    Crash,
    /// The daemon is killed and started again.
    Kill,
    /// The rules change.
    Reload,
    /// Paused, and later resumed.
    Pause,
    Resume,
    /// Another client takes the connection; later it goes.
    Rival,
    RivalGoes,
    /// The wall clock jumps by so many seconds; later it is right again.
    ClockJump {
        seconds: i64,
    },
    ClockRight,
    /// The list is photographed for stale pages.
    Photograph,
    /// The key is refused for a while.
    KeyBad,
    KeyGood,
}

/// The evening's programme of one seed.
pub fn programme(rng: &mut fastrand::Rng, length: Duration) -> Vec<(Duration, Happening)> {
    use doorman::model::Verdict;
    let mut list = Vec::new();
    let at = |rng: &mut fastrand::Rng| length.mul_f64(rng.f64());
    for _ in 0..rng.usize(10..50) {
        let when = at(rng);
        // Strangers come alone, or in bursts.
        for _ in 0..if rng.u8(..) < 40 { rng.usize(2..12) } else { 1 } {
            list.push((when, Happening::Knock { kind: rng.usize(..8) }));
        }
    }
    for _ in 0..rng.usize(..10) {
        let status = rng.choice(["cancelled", "expired", "approved", "rejected"]).unwrap_or("cancelled");
        list.push((at(rng), Happening::End { nth: rng.usize(..20), status }));
    }
    for _ in 0..rng.usize(..6) {
        let verdict = rng.choice([Verdict::Approve, Verdict::Reject, Verdict::Defer]).unwrap_or(Verdict::Defer);
        list.push((at(rng), Happening::Person { nth: rng.usize(..20), verdict }));
    }
    for _ in 0..rng.usize(..6) {
        let code =
            rng.choice([None, Some(1000), Some(1001), Some(1006), Some(1011), Some(1012), Some(1013)]).unwrap_or(None);
        list.push((at(rng), Happening::Drop { code, ghost: rng.bool() }));
    }
    for (happening, most) in [
        (Happening::HalfOpen, 2),
        (Happening::Crash, 3),
        (Happening::Kill, 4),
        (Happening::Reload, 4),
        (Happening::Photograph, 6),
    ] {
        for _ in 0..rng.usize(..=most) {
            list.push((at(rng), happening.clone()));
        }
    }
    for (begin, end) in [
        (Happening::Pause, Happening::Resume),
        (Happening::Rival, Happening::RivalGoes),
        (Happening::KeyBad, Happening::KeyGood),
    ] {
        if rng.u8(..) < 80 {
            let from = at(rng);
            list.push((from, begin));
            list.push((from + Duration::from_secs(rng.u64(1..200)), end));
        }
    }
    if rng.u8(..) < 60 {
        let from = at(rng);
        let seconds = rng.choice([-86_400, -3_600, -400, 400, 3_600, 86_400]).unwrap_or(400);
        list.push((from, Happening::ClockJump { seconds }));
        list.push((from + Duration::from_secs(rng.u64(1..300)), Happening::ClockRight));
    }
    list.sort_by_key(|(at, _)| *at);
    list
}
