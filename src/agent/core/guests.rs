//! Guests: senders who were let in for a time, from the answer that let them in until their contact is removed.
//!
//! An end belongs to one contact: the one that the answer certainly made. If somebody else may have made the contact,
//! doorman does not remove it and notifies people. Only shadow and a clock that cannot be trusted delay an end.

mod ends;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Core;
use crate::agent::core::counters::Counter;
use crate::agent::core::notice::Notice;
use crate::clock::{Mono, Now};
use crate::ledger::Record;
use crate::ledger::entry::SavedGuest;
use crate::model::{Contact, ContactId, GuestDoubt, GuestStay, Handle, Outcome, RemovedBy, RequestId, StrangerText};
use crate::platform::CallError;
use crate::policy::By;

/// More guests are not let in: each is remembered until its end.
pub(super) const GUESTS_MAX: usize = 100_000;
/// The platform's clock and the one that dates contacts may differ by this.
const SKEW: SignedDuration = SignedDuration::from_secs(5);
/// The longest time that an answer is in flight.
const ANSWER_MAX: SignedDuration = SignedDuration::from_mins(2);
/// Between two removals, so that a thousand ends of one moment leave room for answers.
const PACE: Duration = Duration::from_millis(50);
/// A removal that the platform does not allow is tried again after this wait; so is one of unknown outcome, if no
/// reading of the contacts has shown the outcome by then.
pub(super) const LONG_WAIT: Duration = Duration::from_secs(3600);
/// After this many complete readings without this handle, the contact counts as never made.
const UNSEEN_MAX: u8 = 3;
/// At most this many remarks of one kind are shown.
const REMARKS_MAX: usize = 3;

/// A guest whose contact is not known yet.
#[derive(Debug)]
struct AwaitedGuest {
    handle: Handle,
    stay: GuestStay,
    /// Readings of the contacts up to this number prove nothing about this guest.
    calls: u64,
    /// How many later readings showed nobody with that handle.
    missed: u8,
}

/// A contact with an end.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) request: RequestId,
    handle: Option<Handle>,
    stay: GuestStay,
    /// When its removal is tried again.
    until: Option<Mono>,
    /// Its removal may have been carried out: a reading with a higher number shows that, before the next try.
    reading: Option<u64>,
    failures: u32,
    error: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Guests {
    awaited: BTreeMap<RequestId, AwaitedGuest>,
    by_contact: BTreeMap<ContactId, Guest>,
    /// Contacts that are removed at their end, ordered by that end.
    ends: BTreeSet<(Timestamp, ContactId)>,
    /// Contacts whose removal is tried again, ordered by the time of the next try.
    waits: BTreeSet<(Mono, ContactId)>,
    /// Contacts that doorman does not remove by itself, ordered by their end.
    doubtful: BTreeSet<(Timestamp, ContactId)>,
    /// The one that is being removed.
    expiring: Option<ContactId>,
    /// Failures in a row.
    failures: u32,
    not_before: Mono,
}

impl Guests {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.awaited.len() + self.by_contact.len()
    }

    /// Whether the end of this contact is being carried out, even if a person removes the contact at the same moment.
    pub(super) fn is_expiring(&self, contact: &ContactId) -> bool {
        self.expiring.as_ref() == Some(contact)
    }

    fn put(&mut self, contact: &ContactId, guest: Guest) {
        self.left(contact);
        let order = if guest.stay.doubt.is_some() { &mut self.doubtful } else { &mut self.ends };
        order.insert((guest.stay.ends_at, contact.clone()));
        self.by_contact.insert(contact.clone(), guest);
    }

    /// A contact was removed.
    pub(super) fn left(&mut self, contact: &ContactId) -> Option<Guest> {
        let guest = self.by_contact.remove(contact)?;
        let end = (guest.stay.ends_at, contact.clone());
        self.ends.remove(&end);
        self.doubtful.remove(&end);
        if let Some(until) = guest.until {
            self.waits.remove(&(until, contact.clone()));
        }
        Some(guest)
    }

    /// The approval for a time, if this request had one, made this contact. Returns why that is not certain, if it is
    /// not.
    fn met(&mut self, request: &RequestId, contact: &Contact) -> Option<Option<GuestDoubt>> {
        let AwaitedGuest { handle, mut stay, .. } = self.awaited.remove(request)?;
        stay.doubt = stay.doubt.or(made(&stay, contact));
        let (request, handle, doubt) = (request.clone(), Some(handle), stay.doubt);
        let guest = Guest { request, handle, stay, until: None, reading: None, failures: 0, error: None };
        self.put(&contact.id, guest);
        Some(doubt)
    }

    /// A reading shows a contact with an end: of which request that is, if another contact has its id by now.
    fn another(&mut self, contact: &Contact) -> Option<(RequestId, GuestDoubt)> {
        let guest = self.by_contact.get(&contact.id).filter(|guest| guest.stay.doubt.is_none())?;
        // A missing time is not evidence for another contact.
        contact.inserted_at?;
        let doubt = made(&guest.stay, contact)?;
        let mut guest = self.left(&contact.id)?;
        guest.stay.doubt = Some(doubt);
        let request = guest.request.clone();
        self.put(&contact.id, guest);
        Some((request, doubt))
    }

    /// The stay of an answer that is given once more, since its request was listed again: if nobody confirmed that
    /// answer, the contact may be the one that the answer before it made, and the end of that one stands. A person
    /// means a new end. If it was confirmed, its end is the one that counts.
    pub(super) fn beside(
        &self,
        stay: GuestStay,
        request: &RequestId,
        handle: Option<&Handle>,
        by: &By,
    ) -> Option<GuestStay> {
        let awaited = self.awaited.get(request).map(|one| (Some(&one.handle), one.stay.made_from));
        if stay.doubt.is_none() {
            // A contact that was made by the answer before, and whose handle nobody could read yet, is still looked for.
            let before = awaited.filter(|(of, _)| *of == handle).map(|(_, from)| from);
            let made_from = before.map_or(stay.made_from, |from| from.min(stay.made_from));
            return Some(GuestStay { made_from, ..stay });
        }
        let theirs = |guest: &&Guest| guest.request == *request;
        let there = || self.by_contact.values().find(theirs).map(|guest| (guest.handle.as_ref(), guest.stay.made_from));
        match awaited.or_else(there) {
            Some((of, from)) if of == handle => {
                by.person().map(|_| GuestStay { made_from: stay.made_from.min(from), ..stay })
            }
            _ => Some(stay),
        }
    }

    /// When the next is to be removed, or tried again.
    fn due(&self, now: Now) -> Option<Mono> {
        if self.expiring.is_some() {
            return None;
        }
        let end = self.ends.first().map(|(end, _)| now.mono_at(*end));
        let again = self.waits.first().map(|(until, _)| *until);
        end.into_iter().chain(again).min().map(|due| due.max(self.not_before))
    }

    /// Takes the next contact whose time has come. New ends go before retries, since retries may fail for hours.
    fn take(&mut self, now: Now) -> Option<ContactId> {
        let end = self.ends.first().filter(|(end, _)| *end <= now.wall).cloned();
        let again = self.waits.first().filter(|(until, _)| *until <= now.mono).cloned();
        let contact = match (end, again) {
            (Some(end), _) => {
                self.ends.remove(&end);
                end.1
            }
            (None, Some(again)) => {
                self.waits.remove(&again);
                again.1
            }
            (None, None) => return None,
        };
        if let Some(guest) = self.by_contact.get_mut(&contact) {
            (guest.until, guest.reading) = (None, None);
        }
        self.expiring = Some(contact.clone());
        Some(contact)
    }

    fn wait(&mut self, contact: &ContactId, until: Mono) {
        let Some(guest) = self.by_contact.get_mut(contact) else { return };
        if let Some(before) = guest.until.replace(until) {
            self.waits.remove(&(before, contact.clone()));
        }
        self.ends.remove(&(guest.stay.ends_at, contact.clone()));
        self.waits.insert((until, contact.clone()));
    }

    /// How many guests are still there after their end.
    fn late(&self, wall: Timestamp) -> u64 {
        let past = |order: &BTreeSet<(Timestamp, ContactId)>| order.iter().take_while(|(end, _)| *end <= wall).count();
        let awaited = self.awaited.values().filter(|one| one.stay.ends_at <= wall).count();
        let expiring = usize::from(self.expiring.as_ref().is_some_and(|one| self.by_contact.contains_key(one)));
        (past(&self.ends) + past(&self.doubtful) + self.waits.len() + awaited + expiring) as u64
    }
}

/// Why it is not certain that an answer made this contact, by the times of both.
fn made(stay: &GuestStay, contact: &Contact) -> Option<GuestDoubt> {
    match contact.inserted_at {
        None => Some(GuestDoubt::NoTime),
        Some(at) if at < stay.made_from || at > stay.made_until => Some(GuestDoubt::AnotherTime),
        // It is of an answer to the same request before this one (`Guests::beside`), or somebody else's.
        Some(at) if stay.made_until.duration_since(at) > ANSWER_MAX + SKEW => Some(GuestDoubt::Presumed),
        Some(_) => None,
    }
}

impl Core {
    /// Takes over the guests that the record knows at the start.
    pub(super) fn remember_guests(&mut self, guests: Vec<SavedGuest>, now: Now) {
        for SavedGuest { request, sender, contact, stay, removing } in guests {
            let handle = sender.handle().cloned();
            match (contact, handle) {
                (Some(contact), handle) => {
                    let guest = Guest { request, handle, stay, until: None, reading: None, failures: 0, error: None };
                    self.guests.put(&contact, guest);
                    if removing {
                        self.removals.remember(&contact);
                        self.removal_unknown(&contact, now);
                    }
                }
                (None, Some(handle)) => {
                    self.guests.awaited.insert(
                        request.clone(),
                        AwaitedGuest { handle: handle.clone(), stay, calls: self.contacts.calls(), missed: 0 },
                    );
                    self.approval_ended(&request, Some(&handle), true, now);
                }
                (None, None) => {}
            }
        }
    }

    /// When a contact that was made just now ends, and when that was, by the platform's clock; if nobody confirmed it, at any time
    /// since the request was `first_seen`.
    pub(super) fn stay(&self, lasts: SignedDuration, outcome: Outcome, first_seen: Timestamp, now: Now) -> GuestStay {
        let there = self.clock.there(now);
        let back = |at: Timestamp, by: SignedDuration| at.checked_sub(by).unwrap_or(Timestamp::MIN);
        let on = |at: Timestamp, by: SignedDuration| at.checked_add(by).unwrap_or(Timestamp::MAX);
        let wall = if self.clock.sound() { now.wall } else { there };
        let doubt = match outcome {
            Outcome::Confirmed(_) => None,
            Outcome::Presumed(_) | Outcome::SettledElsewhere | Outcome::Gone | Outcome::Refused | Outcome::Unknown => {
                Some(GuestDoubt::Presumed)
            }
        };
        let made = if doubt.is_some() { there.min(first_seen) } else { there };
        GuestStay { ends_at: on(wall, lasts), made_from: back(made, ANSWER_MAX), made_until: on(there, SKEW), doubt }
    }

    /// An approval for a time was carried out: its contact is looked for.
    pub(super) fn let_in_for_a_time(&mut self, request: &RequestId, handle: Option<&Handle>, stay: GuestStay) {
        let Some(handle) = handle.cloned() else { return };
        let awaited = AwaitedGuest { handle, stay, calls: self.contacts.calls(), missed: 0 };
        self.guests.awaited.insert(request.clone(), awaited);
    }

    /// A contact that this answer made is there. For an approval for a time, returns why that is not certain, if it is
    /// not.
    pub(super) fn guest_met(&mut self, request: Option<&RequestId>, contact: &Contact) -> Option<Option<GuestDoubt>> {
        let request = request?;
        let met = self.guests.met(request, contact)?;
        if let Some(doubt) = met {
            self.guest_in_doubt(request.clone(), contact, doubt);
        }
        Some(met)
    }

    fn guest_in_doubt(&mut self, request: RequestId, contact: &Contact, doubt: GuestDoubt) {
        self.count(Counter::GuestsInDoubt);
        self.tell(Notice::GuestInDoubt { contact: contact.clone(), request, doubt });
    }

    /// A reading shows this contact.
    pub(super) fn guest_shown(&mut self, contact: &Contact, now: Now) {
        let Some((request, doubt)) = self.guests.another(contact) else { return };
        self.record(Record::ContactAdded {
            agent: self.config.agent.clone(),
            contact: Box::new(contact.clone()),
            request: Some(request.clone()),
            guest: Some(Some(doubt)),
            at: now.wall,
        });
        self.guest_in_doubt(request, contact, doubt);
    }

    /// A reading of the contacts ended; `whole` means that it has no row that may be anybody. A contact that is still
    /// there although its removal may have been carried out is removed again. A guest whose contact is missing again
    /// and again never had one.
    pub(super) fn guests_read(&mut self, call: u64, whole: bool, now: Now) {
        let shown = |contact: &ContactId| self.policy_state.doubts().contacts().seen(contact) == Some(call);
        let asked = self.guests.waits.iter().map(|(_, contact)| contact);
        let reported = |contact: &&ContactId| {
            let guest = self.guests.by_contact.get(*contact);
            guest.and_then(|guest| guest.reading).is_some_and(|after| after < call)
        };
        let still: Vec<ContactId> = asked.filter(reported).filter(|contact| shown(contact)).cloned().collect();
        for contact in still {
            let failures = self.guests.by_contact.get(&contact).map_or(0, |guest| guest.failures);
            let until = now.mono + self.backoff(failures.saturating_sub(1));
            self.guests.wait(&contact, until);
        }
        if !whole {
            return;
        }
        let contacts = self.policy_state.doubts().contacts();
        let mut unseen = Vec::new();
        for (request, one) in self.guests.awaited.iter_mut().filter(|(_, one)| one.calls < call) {
            // A contact whose handle cannot be read may belong to this guest.
            if contacts.has_handle(&one.handle) || contacts.nameless_since(one.stay.made_from) {
                continue;
            }
            one.missed += 1;
            if one.missed >= UNSEEN_MAX {
                unseen.push(request.clone());
            }
        }
        for request in unseen {
            self.guests.awaited.remove(&request);
            self.record(Record::GuestUnseen { agent: self.config.agent.clone(), request, at: now.wall });
        }
    }

    /// When the next contact whose end has come is to be removed.
    pub(super) fn guests_due(&self, now: Now) -> Option<Mono> {
        if !self.may_decide() || self.in_shadow() || !self.clock.sound() {
            return None;
        }
        self.guests.due(now).map(|due| self.after_quiet(due, now))
    }

    /// The end of a contact has come.
    pub(super) fn end_guest(&mut self, now: Now) {
        if let Some(contact) = self.guests.take(now) {
            self.begin_removal((contact, false), RemovedBy::Expired, None, now);
        }
    }

    /// The removal of a guest's contact has an outcome.
    pub(super) fn guest_removal_over(&mut self, contact: &ContactId, now: Now) {
        if self.guests.expiring.take_if(|expiring| expiring == contact).is_some() {
            (self.guests.failures, self.guests.not_before) = (0, now.mono + PACE);
        }
    }

    /// The removal was not carried out: it is tried again.
    pub(super) fn guest_removal_failed(&mut self, contact: &ContactId, wait: Option<Duration>, why: &str, now: Now) {
        let until = self.guest_stays(contact, wait, why, now);
        self.guests.wait(contact, until);
    }

    /// The removal may have been carried out: a reading of the contacts shows that.
    pub(super) fn guest_removal_unknown(&mut self, contact: &ContactId, why: &str, now: Now) {
        self.guest_stays(contact, None, why, now);
        self.removal_unknown(contact, now);
    }

    fn removal_unknown(&mut self, contact: &ContactId, now: Now) {
        self.guests.wait(contact, now.mono + LONG_WAIT);
        let after = self.contacts.calls();
        if let Some(guest) = self.guests.by_contact.get_mut(contact) {
            guest.reading = Some(after);
        }
        self.contacts.read_next(now.mono);
    }

    /// Counts the failure, reports the first one, and returns when to try again.
    fn guest_stays(&mut self, contact: &ContactId, wait: Option<Duration>, why: &str, now: Now) -> Mono {
        self.guests.expiring.take_if(|expiring| expiring == contact);
        self.guests.failures = self.guests.failures.saturating_add(1);
        self.guests.not_before = now.mono + self.backoff(self.guests.failures - 1);
        self.count(Counter::GuestsNotRemoved);
        let Some(guest) = self.guests.by_contact.get_mut(contact) else { return now.mono + LONG_WAIT };
        guest.failures = guest.failures.saturating_add(1);
        let news = guest.error.as_deref() != Some(why);
        guest.error = Some(why.to_owned());
        let (failures, handle) = (guest.failures, guest.handle.clone());
        if news {
            self.tell(Notice::GuestNotRemoved {
                contact: contact.clone(),
                handle: handle.map(|handle| StrangerText::new(handle.as_str())),
                error: why.to_owned(),
                attempts: failures,
            });
        }
        let wait = wait.unwrap_or_else(|| self.backoff(failures - 1));
        now.mono + wait
    }

    /// How many guests there are, and how many of them are still there after their end.
    pub(super) fn guest_counts(&self) -> (u64, u64) {
        (self.guests.len() as u64, self.guests.late(self.wall))
    }

    /// Remarks for people about guests who are there longer than they should be.
    pub(super) fn guest_remarks(&self) -> Vec<String> {
        let guests = &self.guests;
        let name = |contact: &ContactId, guest: &Guest| match &guest.handle {
            Some(handle) => format!("@{handle}"),
            None => contact.to_string(),
        };
        // How long ago, since whoever reads it may be in another zone.
        let past = |end: Timestamp| match self.wall.duration_since(end).as_mins() {
            minutes @ ..120 => format!("{} min ago", minutes.max(0)),
            minutes => format!("{} h ago", minutes / 60),
        };
        let mut remarks = Vec::new();
        let failing = guests.by_contact.iter().filter(|(_, guest)| guest.failures > 0);
        let said = failing.clone().take(REMARKS_MAX).map(|(contact, guest)| {
            let (end, error) = (guest.stay.ends_at, guest.error.as_deref().unwrap_or("it was not removed"));
            format!(
                "the contact of {} should have been removed {}, and was not after {} tries: {error}; doorman keeps trying",
                name(contact, guest),
                past(end),
                guest.failures
            )
        });
        remarks.extend(said);
        remarks.extend(more(failing.count()));
        let doubtful = guests.doubtful.iter().take_while(|(end, _)| *end <= self.wall);
        let said = doubtful.clone().take(REMARKS_MAX).filter_map(|(end, contact)| {
            let guest = guests.by_contact.get(contact)?;
            let (name, why) = (name(contact, guest), guest.stay.doubt?.reason());
            Some(format!(
                "the contact of {name} was to end {}, and is not removed by itself: {why}; `doorman revoke {name}` removes it",
                past(*end)
            ))
        });
        remarks.extend(said);
        remarks.extend(more(doubtful.count()));
        let unmet = guests.awaited.values().filter(|one| one.stay.ends_at <= self.wall);
        let said = unmet.clone().take(REMARKS_MAX).map(|one| {
            format!(
                "the contact of @{} was to end {}, and was never seen: nothing is removed before it is",
                one.handle,
                past(one.stay.ends_at)
            )
        });
        remarks.extend(said);
        remarks.extend(more(unmet.count()));
        let due = guests.ends.first().is_some_and(|(end, _)| *end <= self.wall);
        if due && self.in_shadow() {
            remarks.push("contacts whose end has come stay: in shadow nothing is removed".to_owned());
        } else if due && !self.clock.sound() {
            remarks.push("contacts whose end has come stay until the clock can be believed".to_owned());
        }
        remarks
    }
}

fn more(count: usize) -> Option<String> {
    count.checked_sub(REMARKS_MAX).filter(|more| *more > 0).map(|more| format!("… and {more} more of them"))
}

/// The wait after this failure; `None`: the usual backoff.
pub(super) fn wait_after(error: &CallError) -> Option<Duration> {
    use crate::platform::CallFault;
    match error.fault {
        CallFault::Forbidden | CallFault::Malformed(_) | CallFault::Conflict => Some(LONG_WAIT),
        CallFault::KeyRefused
        | CallFault::NoKey
        | CallFault::NotFound
        | CallFault::Throttled
        | CallFault::Passing(_)
        | CallFault::Unreachable
        | CallFault::NoAnswer
        | CallFault::Unreadable(_)
        | CallFault::TooLarge
        | CallFault::InBetween(_) => error.retry_after,
    }
}
