//! A person moves the end of a guest's contact, or lifts it, so that the guest stays.

use super::{Core, Guests};
use crate::agent::core::OpOutcome;
use crate::agent::core::counters::Counter;
use crate::agent::core::notice::Notice;
use crate::agent::core::people::NO_CLOCK;
use crate::clock::Now;
use crate::ledger::Record;
use crate::model::{ContactId, Handle, Person, PersonTarget, RequestId, StrangerText};
use jiff::{SignedDuration, Timestamp};

impl Guests {
    /// The requests of the guests of this handle.
    fn meant(&self, target: &PersonTarget) -> Vec<RequestId> {
        let awaited = self.awaited.iter().map(|(request, one)| (request, Some(&one.handle)));
        let there = self.by_contact.values().map(|guest| (&guest.request, guest.handle.as_ref()));
        let Some(handle) = target.handle() else { return Vec::new() };
        let meant = awaited.chain(there).filter(|(_, of): &(_, Option<&Handle>)| *of == Some(&handle));
        meant.map(|(request, _)| request.clone()).collect()
    }

    fn contact_of(&self, request: &RequestId) -> Option<ContactId> {
        self.by_contact.iter().find(|(_, guest)| guest.request == *request).map(|(contact, _)| contact.clone())
    }

    /// Moves the end of a guest's contact, or removes it.
    fn move_end(&mut self, request: &RequestId, contact: Option<&ContactId>, ends_at: Option<Timestamp>) {
        match (contact, ends_at) {
            (Some(contact), Some(end)) => {
                let Some(mut guest) = self.left(contact) else { return };
                (guest.stay.ends_at, guest.until, guest.reading) = (end, None, None);
                (guest.failures, guest.error) = (0, None);
                self.put(contact, guest);
            }
            (Some(contact), None) => drop(self.left(contact)),
            (None, Some(end)) => {
                if let Some(awaited) = self.awaited.get_mut(request) {
                    awaited.stay.ends_at = end;
                }
            }
            (None, None) => drop(self.awaited.remove(request)),
        }
    }
}

impl Core {
    /// The approved requests of the guests that a person means here.
    pub fn find_guests(&self, target: &PersonTarget) -> Vec<RequestId> {
        self.guests.meant(target)
    }

    /// A person approves a guest again: for this long from now, or (`None`) for good.
    pub(in crate::agent::core) fn person_moves_end(
        &mut self,
        request: &RequestId,
        lasts: Option<SignedDuration>,
        person: &Person,
        now: Now,
    ) -> OpOutcome {
        if !self.ledger_ok {
            return OpOutcome::blocked();
        }
        if lasts.is_some() && !self.clock.sound() {
            return OpOutcome::error("clock", NO_CLOCK);
        }
        let contact = self.guests.contact_of(request);
        let (handle, doubt) = match (&contact, self.guests.awaited.get(request)) {
            (Some(contact), _) => {
                if self.guests.is_expiring(contact) || self.removals.is_open(contact) {
                    return OpOutcome::busy(
                        "the end has come, and the contact is being removed: `doorman contacts` shows what comes of it",
                    );
                }
                let guest = self.guests.by_contact.get(contact);
                (guest.and_then(|guest| guest.handle.clone()), guest.and_then(|guest| guest.stay.doubt))
            }
            (None, Some(awaited)) => (Some(awaited.handle.clone()), awaited.stay.doubt),
            (None, None) => return OpOutcome::gone(),
        };
        if let (Some(doubt), true) = (doubt, lasts.is_some()) {
            let why = format!(
                "the contact is not removed by itself, so its end cannot be moved: {}; approve without `--for`, or `doorman revoke`",
                doubt.reason()
            );
            return OpOutcome::error("in-doubt", why);
        }
        let ends_at = lasts.map(|lasts| now.wall.checked_add(lasts).unwrap_or(Timestamp::MAX));
        self.guests.move_end(request, contact.as_ref(), ends_at);
        let (agent, person) = (self.config.agent.clone(), person.clone());
        self.record(Record::GuestEnd {
            agent,
            request: request.clone(),
            ends_at,
            person: person.clone(),
            at: now.wall,
        });
        self.count(Counter::PersonAnswers);
        let handle = handle.map(|handle| StrangerText::new(handle.as_str()));
        self.tell(Notice::GuestEnd { request: request.clone(), handle: handle.clone(), ends_at, person });
        OpOutcome::Answered(self.moved(request, handle, ends_at))
    }
}
