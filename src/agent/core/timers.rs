//! What an agent does at a time of its own choice, in one table: [`Core::due`] returns when, and [`Core::fire`] does
//! it.

use super::Core;
use super::listing::FAR;
use crate::clock::{Mono, Now};
use crate::phoenix;
use crate::variants::with_all;

with_all! {
    /// In the order in which they fire at one moment: deciding and removing come after everything that finds out more,
    /// and the ledger gets the result.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum CoreTimer {
        /// The session's own timers: reconnects, heartbeats, joins, probes of a refused key.
        Session,
        /// Ask whose the key is.
        Identify,
        /// Read the record for a policy that asks further back.
        Restore,
        /// Requests whose wait, retry or delay is over become ready.
        Waits,
        /// List the pending requests.
        Listing,
        /// Read the contacts.
        Contacts,
        /// Decide the requests again that wait for a question to a decider.
        Ask,
        /// Decide what is ready.
        Decide,
        /// Remove the contact whose end has come.
        Guests,
        /// Hand over to the ledger what nothing waits for.
        Flush,
    }
}

impl Core {
    /// When to come back with [`super::Input::Tick`] at the latest; `None` once it is done.
    pub fn deadline(&self, now: Now) -> Option<Mono> {
        if self.done {
            return None;
        }
        Some(CoreTimer::ALL.iter().filter_map(|timer| self.due(*timer, now)).min().unwrap_or(now.mono + FAR))
    }

    /// Fires what is due.
    pub(super) fn fire_timers(&mut self, now: Now) {
        for timer in CoreTimer::ALL {
            if self.due(*timer, now).is_some_and(|due| due <= now.mono) {
                self.fire(*timer, now);
            }
        }
    }

    /// When this is to be done next; `None` if something else has to happen first.
    fn due(&self, timer: CoreTimer, now: Now) -> Option<Mono> {
        if self.stopping && timer != CoreTimer::Session {
            return None;
        }
        match timer {
            CoreTimer::Session => self.session.deadline(),
            CoreTimer::Identify => self.identity_due(now),
            CoreTimer::Restore => self.restore_due(),
            CoreTimer::Waits => self.inbox.deadline(now, self.clock.sound()),
            CoreTimer::Listing => {
                self.inbox.listing.due().filter(|_| self.may_list()).map(|due| self.after_quiet(due, now))
            }
            CoreTimer::Contacts => {
                self.contacts_due(now).filter(|_| self.may_list()).map(|due| self.after_quiet(due, now))
            }
            CoreTimer::Ask => self.ask_due(now),
            CoreTimer::Decide => self.decide_due(now),
            CoreTimer::Guests => self.guests_due(now),
            CoreTimer::Flush => self.outbox.due().filter(|_| !self.recording),
        }
    }

    fn fire(&mut self, timer: CoreTimer, now: Now) {
        match timer {
            CoreTimer::Session => {
                self.session_input(phoenix::SessionInput::Tick, now);
                self.watch_contacts(now);
            }
            CoreTimer::Identify => self.ask_me(now),
            CoreTimer::Restore => self.begin_restore(),
            CoreTimer::Waits => self.inbox.wake(now, self.clock.sound()),
            CoreTimer::Listing => self.begin_listing(now),
            CoreTimer::Contacts => self.read_contacts(now),
            CoreTimer::Ask => self.ask_waiting(now),
            CoreTimer::Decide => self.decide_ready(now),
            CoreTimer::Guests => self.end_guest(now),
            CoreTimer::Flush => self.flush(now),
        }
    }
}
