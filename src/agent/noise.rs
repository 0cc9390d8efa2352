//! Bounds what the platform can make an agent log in a second: for each event that it causes without an answer of ours,
//! a number of lines at once and a number a second are let through. Further lines are counted, and reported in one
//! line.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Notice;
use crate::clock::Mono;
use crate::ops::log::events;
use crate::phoenix::session::NoteLevel;

/// Lines of one event at once.
pub const LINES_AT_ONCE: u32 = 100;
/// And a second, on average.
const LINES_PER_SECOND: u32 = 10;
/// The number of suppressed lines is reported after this time.
const REPORTED_EVERY: Duration = Duration::from_secs(10);

/// How many lines of each event went out lately, for one agent.
#[derive(Debug, Default)]
pub struct Noise {
    // Bounded: an event's name is one of a fixed set.
    events: BTreeMap<&'static str, EventNoise>,
    /// When suppressed lines are reported next.
    due: Option<Mono>,
}

#[derive(Debug)]
struct EventNoise {
    lines: u32,
    /// The time from which the remaining lines are counted.
    since: Mono,
    kept_back: u64,
}

impl Noise {
    /// Whether this notice's line may go out.
    pub fn admits(&mut self, notice: &Notice, now: Mono) -> bool {
        let Some(name) = caused_by_platform(notice) else { return true };
        let event = self.events.entry(name).or_insert(EventNoise { lines: LINES_AT_ONCE, since: now, kept_back: 0 });
        let between = Duration::from_secs(1) / LINES_PER_SECOND;
        let more = u32::try_from(now.since(event.since).as_nanos() / between.as_nanos()).unwrap_or(u32::MAX);
        if event.lines.saturating_add(more) >= LINES_AT_ONCE {
            (event.lines, event.since) = (LINES_AT_ONCE, now);
        } else {
            event.lines += more;
            event.since = event.since + between * more;
        }
        if event.lines > 0 {
            event.lines -= 1;
            return true;
        }
        event.kept_back += 1;
        self.due.get_or_insert(now + REPORTED_EVERY);
        false
    }

    /// The events whose lines were suppressed, and how many lines, when it is time to report them.
    pub fn kept_back(&mut self, now: Mono) -> Vec<(&'static str, u64)> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = None;
        let taken = |(name, event): (&&'static str, &mut EventNoise)| (*name, std::mem::take(&mut event.kept_back));
        self.events.iter_mut().map(taken).filter(|(_, lines)| *lines > 0).collect()
    }
}

/// The event of a line above debug that one frame of the platform is enough for.
fn caused_by_platform(notice: &Notice) -> Option<&'static str> {
    match notice {
        Notice::Session(note) if note.level != NoteLevel::Debug => Some(note.name.as_str()),
        Notice::Superseded(_) => Some(events::SUPERSEDED),
        Notice::Returned { .. } => Some(events::REQUEST_SEEN),
        Notice::Changed { .. } => Some(events::REQUEST_CHANGED),
        Notice::ContactUnexplained { .. } => Some(events::CONTACT_UNEXPLAINED),
        Notice::OtherHolder { .. } => Some(events::NAME_IN_DOUBT),
        Notice::ContactRemoved { .. } => Some(events::CONTACT_REMOVED),
        Notice::GuestInDoubt { .. } => Some(events::GUEST_IN_DOUBT),
        Notice::Session(_)
        | Notice::State { .. }
        | Notice::Listed { .. }
        | Notice::IdentityUnknown { .. }
        | Notice::InBetween { .. }
        | Notice::ListFailed { .. }
        | Notice::Seen { .. }
        | Notice::Decided { .. }
        | Notice::Answering { .. }
        | Notice::Answered { .. }
        | Notice::Retry { .. }
        | Notice::Refused { .. }
        | Notice::Person { .. }
        | Notice::Overdue { .. }
        | Notice::DeciderReplied { .. }
        | Notice::DeciderFailed { .. }
        | Notice::DeciderRecovered { .. }
        | Notice::Settled { .. }
        | Notice::ContactAdded { .. }
        | Notice::InDoubt { .. }
        | Notice::GuestEnd { .. }
        | Notice::GuestExpired { .. }
        | Notice::GuestNotRemoved { .. }
        | Notice::ContactsBaseline { .. }
        | Notice::SettledAgainstPolicy { .. }
        | Notice::Paused { .. }
        | Notice::Resumed { .. }
        | Notice::Throttled { .. }
        | Notice::KeyRefused { .. }
        | Notice::Identified { .. }
        | Notice::LedgerRefused { .. }
        | Notice::Clock { .. }
        | Notice::Policy { .. }
        | Notice::InboxFull => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContactId, PausedBy};
    use crate::phoenix::session::{Note, NoteName};

    fn malformed() -> Notice {
        Notice::Session(Note { level: NoteLevel::Warn, name: NoteName::PayloadMalformed, detail: "x".to_owned() })
    }

    fn removed() -> Notice {
        Notice::ContactRemoved { contact: ContactId::parse("c-1").unwrap(), handle: None }
    }

    fn at(ms: u64) -> Mono {
        Mono::from_origin(Duration::from_millis(ms))
    }

    #[test]
    fn a_flood_becomes_some_lines_and_a_count_and_each_event_has_its_own_share() {
        let mut noise = Noise::default();
        let out = (0..100_000).filter(|n| noise.admits(&malformed(), at(n / 10))).count();
        // In ten seconds: the lines at once, and ten a second.
        assert!((190..=200).contains(&out), "{out}");
        assert!(noise.admits(&removed(), at(10_000)), "another event is not kept back");
        let said = noise.kept_back(at(11_000));
        assert_eq!(said, [("payload_malformed", 100_000 - out as u64)]);
        assert!(noise.kept_back(at(60_000)).is_empty(), "said once");
        assert!(noise.admits(&malformed(), at(60_000)));
    }

    #[test]
    fn what_an_answer_of_ours_came_to_is_never_kept_back() {
        let mut noise = Noise::default();
        assert!((0..10_000).all(|_| noise.admits(&Notice::Resumed { by: PausedBy::ApprovalsMax }, at(0))));
    }
}
