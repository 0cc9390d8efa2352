//! The brake in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn calls_begin_with_five_in_the_first_second_and_double_up_to_the_maximum() {
    let mut pace = CallPace::new(200);
    let mut went = [0; 12];
    for now in (0..12_000).map(ms) {
        while pace.take(Class::Call, now).is_ok() {
            went[now.as_secs() as usize] += 1;
        }
    }
    assert_eq!(went[..3], [5, 10, 20]);
    assert!(went[6..].iter().all(|count| (190..=205).contains(count)), "{went:?}");
}

#[test]
fn answers_are_not_paced_until_a_call_is_refused_and_then_they_share() {
    let (mut pace, mut rng) = (CallPace::new(200), Rng::with_seed(1));
    assert!((0..500).all(|_| pace.take(Class::Answer, ms(10)).is_ok()));
    let pause = pace.refused(ms(10), None, ms(20), &mut rng).unwrap();
    assert!((ms(125)..=ms(250)).contains(&pause), "{pause:?}");
    assert_eq!(pace.refused(ms(15), None, ms(25), &mut rng), None, "it was under way already");
    assert!(pace.take(Class::Answer, ms(100)).is_err());
    // Within a second, no more calls go out than the rate allows, answers and others together.
    let count = (400..1400).filter(|now| pace.take(Class::Answer, ms(*now)).is_ok()).count() as f64;
    assert!(count <= pace.rate() + 2.0, "{count} at {}", pace.rate());
    // After ten quiet minutes, everything is as at the start.
    assert!((0..500).all(|_| pace.take(Class::Answer, ms(700_000)).is_ok()));
}

#[test]
fn waits_grow_while_everything_is_refused_and_are_jittered_and_a_good_call_ends_that() {
    let (mut pace, mut rng) = (CallPace::new(200), Rng::with_seed(7));
    let (mut now, mut pauses) = (Duration::ZERO, Vec::new());
    for _ in 0..14 {
        while let Err(at) = pace.take(Class::Call, now) {
            now = at;
        }
        pauses.push(pace.refused(now, None, now + ms(1), &mut rng).unwrap());
        now += ms(2);
    }
    for (turn, pause) in pauses.iter().enumerate() {
        let ceiling = (WAIT_MIN * (1 << turn)).min(WAIT_MAX);
        assert!((ceiling / 2..=ceiling).contains(pause), "{turn}: {pause:?}");
    }
    assert!(now > Duration::from_secs(120), "hardly any call in {now:?}");
    pace.went_well();
    assert!(pace.refused(now, None, now + ms(1), &mut rng).unwrap() <= WAIT_MIN);
    // The wait that the host asks for is lengthened, never shortened.
    let wait = pace.refused(now + ms(2), Some(Duration::from_secs(30)), now + ms(3), &mut rng).unwrap();
    assert!(wait >= Duration::from_secs(30) && wait < Duration::from_secs(31), "{wait:?}");
}

#[test]
fn an_idle_host_is_not_taken_to_bear_more() {
    let (mut pace, mut rng) = (CallPace::new(200), Rng::with_seed(3));
    for now in 0..5 {
        assert!(pace.take(Class::Call, ms(now)).is_ok());
    }
    pace.refused(ms(5), None, ms(6), &mut rng).unwrap();
    let rate = pace.rate();
    assert!(pace.take(Class::Call, Duration::from_secs(300)).is_ok());
    assert!(pace.rate() <= rate + 1.0, "{rate} became {}", pace.rate());
}

/// When, in which order, which agent, its calls left, its tries of this one.
type Waiting = Reverse<(Duration, u32, usize, u32, u32)>;
/// When the reply comes, when the call was sent, which agent, its remaining calls, its tries of this call, whether it
/// was accepted.
type Replied = Reverse<(Duration, Duration, usize, u32, u32, bool)>;

/// Agents that each make `calls` calls, one after the other, to a host that accepts `limit` in any second and refuses
/// the others with a bare 429. A refused call is repeated after the caller's own backoff. Returns how long it took, and
/// which fraction of the calls was refused.
fn storm(agents: usize, calls: u32, limit: usize, latency: Duration, seed: u64) -> (Duration, f64) {
    let (mut pace, mut rng) = (CallPace::new(200), Rng::with_seed(seed));
    let mut window: VecDeque<Duration> = VecDeque::new();
    let (mut sent, mut refused) = (0_u32, 0_u32);
    let mut queue: BinaryHeap<Waiting> = BinaryHeap::new();
    let mut order = 0;
    for agent in 0..agents {
        queue.push(Reverse((Duration::ZERO, order, agent, calls, 0)));
        order += 1;
    }
    let mut replies: BinaryHeap<Replied> = BinaryHeap::new();
    let mut now = Duration::ZERO;
    loop {
        while let Some(Reverse((at, sent_at, agent, left, tries, taken))) = replies.peek().copied()
            && at <= now
        {
            replies.pop();
            order += 1;
            if taken {
                pace.went_well();
                if left > 1 {
                    queue.push(Reverse((at, order, agent, left - 1, 0)));
                }
            } else {
                pace.refused(sent_at, None, at, &mut rng);
                let wait = ms(500).saturating_mul(1 << tries.min(7)).mul_f64(rng.f64());
                queue.push(Reverse((at + wait, order, agent, left, tries + 1)));
            }
        }
        let head = queue.peek().copied().filter(|Reverse((at, ..))| *at <= now);
        let mut wake = queue.peek().map_or(Duration::MAX, |Reverse((at, ..))| *at);
        if let Some(Reverse((_, _, agent, left, tries))) = head {
            match pace.take(Class::Call, now) {
                Ok(()) => {
                    queue.pop();
                    while window.front().is_some_and(|at| *at + SECOND <= now) {
                        window.pop_front();
                    }
                    let taken = window.len() < limit;
                    if taken {
                        window.push_back(now);
                    }
                    (sent, refused) = (sent + 1, refused + u32::from(!taken));
                    replies.push(Reverse((now + latency, now, agent, left, tries, taken)));
                    continue;
                }
                Err(at) => wake = at,
            }
        }
        let reply = replies.peek().map_or(Duration::MAX, |Reverse((at, ..))| *at);
        let next = wake.min(reply);
        if next == Duration::MAX {
            return (now, f64::from(refused) / f64::from(sent));
        }
        now = next.max(now + Duration::from_nanos(1));
    }
}

#[test]
fn twenty_agents_behind_five_calls_a_second_settle_soon_and_are_seldom_refused() {
    for latency in [ms(2), ms(50), ms(200)] {
        let (mut worst_time, mut worst_refused) = (0.0_f64, 0.0_f64);
        for seed in 0..50 {
            let (took, refused) = storm(20, 4, 5, latency, seed);
            worst_time = worst_time.max(took.as_secs_f64() / 16.0);
            worst_refused = worst_refused.max(refused);
        }
        assert!(worst_time <= 1.5, "{latency:?}: {worst_time:.2} of the ideal time");
        assert!(worst_refused <= 0.15, "{latency:?}: {:.0} % refused", worst_refused * 100.0);
    }
}

#[test]
fn other_numbers_settle_too() {
    for (agents, limit) in [(20, 4), (50, 20), (200, 50), (1000, 100)] {
        let (took, refused) = storm(agents, 4, limit, ms(20), 1);
        let ideal = (agents * 4) as f64 / limit as f64;
        assert!(took.as_secs_f64() <= ideal * 1.8 + 10.0, "{agents} at {limit}: {took:?} of {ideal} s");
        assert!(refused <= 0.2, "{agents} at {limit}: {:.0} %", refused * 100.0);
    }
}

#[test]
fn a_lower_bound_counts_at_once_and_a_higher_one_is_grown_into() {
    let mut pace = CallPace::new(200);
    let at = |ms| Duration::from_millis(ms);
    let went = |pace: &mut CallPace, from: u64| {
        (from..from + 1_000).filter(|ms| pace.take(Class::Call, at(*ms)).is_ok()).count()
    };
    for second in 0..8 {
        went(&mut pace, second * 1_000);
    }
    assert!(went(&mut pace, 8_000) > 150);
    pace.at_most(20);
    assert!(went(&mut pace, 9_000) <= 21, "others take their part");
    pace.at_most(200);
    for second in 10..16 {
        went(&mut pace, second * 1_000);
    }
    assert!(went(&mut pace, 16_000) > 150);
}

#[test]
fn further_pages_go_at_once_for_five_seconds_of_the_maximum_and_then_at_its_rate() {
    let mut pace = CallPace::new(200);
    let went =
        |pace: &mut CallPace, at: u64| (0..5_000).take_while(|_| pace.take(Class::Further, ms(at)).is_ok()).count();
    assert_eq!(went(&mut pace, 10), 1_000, "whichever agents they are of");
    assert_eq!((1..=1_000).map(|at| went(&mut pace, 10 + at)).sum::<usize>(), 200);
    assert_eq!(went(&mut pace, 600_000), 1_000, "never more at once");
    // Dials and first pages go as if there were none.
    let calls = (0..1_000).filter(|at| pace.take(Class::Call, ms(600_000 + at)).is_ok()).count();
    assert!((190..=205).contains(&calls), "{calls}");
    pace.at_most(20);
    assert_eq!(went(&mut pace, 900_000), 100);
}

#[test]
fn further_pages_share_the_rate_of_all_calls_once_the_host_has_refused_one() {
    let (mut pace, mut rng) = (CallPace::new(200), Rng::with_seed(5));
    assert!((0..100).all(|_| pace.take(Class::Further, ms(10)).is_ok()));
    pace.refused(ms(10), None, ms(20), &mut rng).unwrap();
    assert!(pace.take(Class::Further, ms(30)).is_err(), "the host is left alone");
    let count = (400..1_400).filter(|now| pace.take(Class::Further, ms(*now)).is_ok()).count() as f64;
    assert!(count <= pace.rate() + 2.0, "{count} at {}", pace.rate());
}
