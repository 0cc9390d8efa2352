//! All counters of an agent, by name. A counter that is not in this table cannot be raised.
//!
//! The counts belong to the agent, not to its task: a task that failed and starts again continues them, so that no sum
//! ever falls.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use crate::phoenix::session::NoteName;

macro_rules! counters {
    ($($counter:ident = $name:literal $meaning:literal;)*) => {
        /// Something that an agent counts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Counter {
            $(#[doc = $meaning] $counter,)*
            /// A note of the session, under its name in the log.
            Session(NoteName),
        }

        impl Counter {
            /// The name, as the metrics and `doorman status --json` have it.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Counter::$counter => $name,)*
                    Counter::Session(note) => note.as_str(),
                }
            }
        }

        /// Name and meaning of every counter but those of the session.
        const ROWS: &[(&str, &str)] = &[$(($name, $meaning)),*];
    };
}

counters! {
    RequestsSeen = "requests_seen" "A request was new";
    RequestsChanged = "requests_changed" "The platform listed a request with another sender, name or message than before";
    DecidedApprove = "decided_approve" "The rules decided to approve";
    DecidedReject = "decided_reject" "The rules decided to reject";
    DecidedDefer = "decided_defer" "The rules deferred";
    AnswersConfirmed = "answers_confirmed" "The platform confirmed an answer";
    AnswersPresumed = "answers_presumed" "An answer was not confirmed, but its request is no longer pending";
    AnswersSettledElsewhere = "answers_settled_elsewhere" "Somebody else answered before doorman's answer arrived";
    AnswersUnknown = "answers_unknown" "An answer was sent, and its fate was not known";
    AnswersRetried = "answers_retried" "The platform did not take an answer; it was sent again later";
    AnswersRefused = "answers_refused" "The platform refused an answer";
    AnswersEndedOtherwise = "answers_ended_otherwise" "An answer ended in another way";
    RulesOutdated = "rules_outdated" "An answer was decided again: newer rules had been pushed before its intent was on record";
    AnsweredBefore = "answered_before" "The platform listed a settled request again";
    PersonAnswers = "person_answers" "A person approved or rejected a request, or put it on hold";
    SettledElsewhere = "settled_elsewhere" "A request ended without an answer of doorman, and the platform said how";
    Gone = "gone" "A request ended without an answer of doorman, and nobody said how";
    SettledAgainstPolicy = "settled_against_policy" "Somebody else approved a request that the rules did not approve";
    UpdatesReceived = "updates_received" "The channel said that a request is settled";
    OverdueNotices = "overdue_notices" "A request was pending for longer than an overdue table allows";
    DecidersAsked = "deciders_asked" "A decider was asked about a request";
    DecidersFailed = "deciders_failed" "A decider gave no reply; the request stays pending";
    Pauses = "pauses" "A person, or `approvals_max`, paused the agent";
    ContactsAdded = "contacts_added" "A contact is new";
    ContactsRemoved = "contacts_removed" "A contact is gone";
    ContactsUnexplained = "contacts_unexplained" "A new contact that no answer of doorman explains";
    NamesInDoubt = "names_in_doubt" "A payload had another id for a name than before";
    GuestsExpired = "guests_expired" "The end of a contact had come, and doorman removed it";
    GuestsNotRemoved = "guests_not_removed" "The end of a contact had come, and the removal failed";
    GuestsInDoubt = "guests_in_doubt" "A contact with an end may be one that somebody else made";
    GuestsFull = "guests_full" "There are as many guests as doorman remembers: an approval with an end waits";
    DoubtsSettled = "doubts_settled" "A person settled doubts";
    Listings = "listings" "A listing was complete";
    ListingsFailed = "listings_failed" "A listing failed";
    Connects = "connects" "The socket was opened";
    Superseded = "superseded" "Another connection took the agent's place";
    Throttled = "throttled" "The platform refused a call because there were too many";
    BlockedInBetween = "blocked_in_between" "A server between doorman and the platform answered in its place";
    KeyRefused = "key_refused" "The platform refused the key, or there was none";
    IdentityUnknown = "identity_unknown" "It could not be verified whose key it is";
    ClockChanges = "clock_changes" "The clock became trusted, or was no longer trusted";
    InboxFull = "inbox_full" "An event was dropped because the inbox was full; a listing brings its request";
    RecordsLeftOut = "records_left_out" "The ledger could not be written, and an entry that decides nothing was left out";
    LedgerRefused = "ledger_refused" "The ledger refused an entry";
}

/// The table of counters in `docs/metrics.md`. The session's notes are explained by their events in the log.
pub fn markdown() -> String {
    let mut table = "| `event` | Meaning |\n| --- | --- |\n".to_owned();
    for (name, meaning) in ROWS {
        let _ = writeln!(table, "| `{name}` | {meaning}. |");
    }
    let of_log =
        NoteName::ALL.iter().map(|note| note.as_str()).filter(|note| ROWS.iter().all(|(name, _)| name != note));
    for name in of_log {
        let _ = writeln!(table, "| `{name}` | The event of this name in the [log](logs.md). |");
    }
    table
}

/// Counts by name. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<Counter, u64>>>);

impl Counters {
    /// Adds one.
    pub(super) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    fn add(&self, counter: Counter, count: u64) {
        // A count is complete at any moment, even after a panic.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(counter).or_default() += count;
    }

    /// Adds these counts to `others`, and counts there from now on.
    pub(super) fn hand_to(&mut self, others: Counters) {
        for (counter, count) in std::mem::replace(self, others).by_counter() {
            self.add(counter, count);
        }
    }

    pub(super) fn of(&self, counter: Counter) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&counter).copied().unwrap_or_default()
    }

    /// Adds all of them as they are now to these sums, by name.
    pub(crate) fn add_to(&self, sums: &mut BTreeMap<&'static str, u64>) {
        // The session and the core may count the same, seen at different places.
        for (counter, count) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *sums.entry(counter.name()).or_default() += count;
        }
    }

    fn by_counter(&self) -> BTreeMap<Counter, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of them as they are now, by name.
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        let mut named = BTreeMap::new();
        self.add_to(&mut named);
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_once_and_what_a_task_counted_is_kept() {
        let names: std::collections::BTreeSet<_> = ROWS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), ROWS.len());
        let (mut task, agent) = (Counters::default(), Counters::default());
        task.count(Counter::Gone);
        agent.count(Counter::Gone);
        task.hand_to(agent.clone());
        task.count(Counter::Session(NoteName::Reconnect));
        assert_eq!(agent.all(), BTreeMap::from([("gone", 2), ("reconnect", 1)]));
    }
}
