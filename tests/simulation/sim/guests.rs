//! Guests: how a starting daemon loads them from the ledger, and what happens to their contacts. Only contacts that the
//! daemon made may be removed, none before its end, and none may stay after it.

use std::time::Duration;

use doorman::ledger::entry::SavedGuest;
use doorman::model::{AgentState, ContactId, GuestDoubt, GuestStay, RemovalOutcome, RemovedBy, RequestId, Sender};
use doorman::platform::{CallError, CallFault};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::platform::PlatformContact;
use super::rules::{GUEST, STAYS};
use super::schedule::WorldEvent;
use super::world::SimWorld;

/// A clock that is off by at most this is trusted.
const OFF: SignedDuration = SignedDuration::from_mins(5);
/// The last guest of the evening comes then.
const LAST: Duration = Duration::from_secs(7_600);
/// The platform's clocks may differ by less than this.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub struct Guests(Vec<SavedGuest>);

impl Guests {
    pub fn let_in(&mut self, request: &RequestId, sender: Sender, stay: GuestStay) {
        self.0.retain(|guest| guest.request != *request || guest.contact.is_some());
        self.0.push(SavedGuest { request: request.clone(), sender, contact: None, stay, removing: false });
    }

    pub fn met(&mut self, request: &RequestId, contact: &ContactId, doubt: Option<GuestDoubt>) {
        let theirs = |guest: &&mut SavedGuest| {
            guest.request == *request && guest.contact.as_ref().is_none_or(|known| known == contact)
        };
        for guest in self.0.iter_mut().filter(theirs) {
            guest.contact = Some(contact.clone());
            guest.stay.doubt = guest.stay.doubt.or(doubt);
        }
    }

    pub fn end_moved(&mut self, request: &RequestId, ends_at: Option<Timestamp>) {
        match ends_at {
            None => self.0.retain(|guest| guest.request != *request),
            Some(end) => {
                for guest in self.0.iter_mut().filter(|guest| guest.request == *request) {
                    guest.stay.ends_at = end;
                }
            }
        }
    }

    pub fn left(&mut self, contact: &ContactId) {
        self.0.retain(|guest| guest.contact.as_ref() != Some(contact));
    }

    pub fn unseen(&mut self, request: &RequestId) {
        self.0.retain(|guest| guest.request != *request || guest.contact.is_some());
    }

    pub fn removing(&mut self, contact: &ContactId, by: &RemovedBy) {
        if *by == RemovedBy::Expired {
            self.set(contact, true);
        }
    }

    pub fn removal(&mut self, contact: &ContactId, outcome: RemovalOutcome) {
        self.set(contact, matches!(outcome, RemovalOutcome::Removed | RemovalOutcome::Unknown));
    }

    fn set(&mut self, contact: &ContactId, removing: bool) {
        for guest in self.0.iter_mut().filter(|guest| guest.contact.as_ref() == Some(contact)) {
            guest.removing = removing;
        }
    }

    /// The guests whose contacts are open.
    pub fn open(&self) -> Vec<SavedGuest> {
        let mut open = self.0.clone();
        open.sort_by_key(|guest| guest.stay.ends_at);
        open
    }
}

/// The events of an evening with guests.
pub fn programme(rng: &mut fastrand::Rng, rough: Duration) -> Vec<(Duration, WorldEvent)> {
    let mut list = Vec::new();
    for _ in 0..rng.usize(4..16) {
        list.push((rough.mul_f64(rng.f64()), WorldEvent::SentRequest { kind: GUEST }));
    }
    for _ in 0..rng.usize(..6) {
        let (nth, again) = (rng.usize(..16), rng.bool());
        list.push((rough.mul_f64(rng.f64()), WorldEvent::GuestParts { nth, again }));
    }
    // When all others were answered: one more guest, whose end comes while the agent is paused.
    list.push((LAST, WorldEvent::SentRequest { kind: GUEST }));
    list.push((LAST + Duration::from_secs(120), WorldEvent::Pause));
    list.push((LAST + Duration::from_secs(540), WorldEvent::GuestsGone));
    list.push((LAST + Duration::from_secs(550), WorldEvent::Resume));
    list
}

/// The request that made a contact of this id, whoever made it again.
fn request_of(contact: &str) -> &str {
    let id = contact.trim_start_matches("contact-");
    id.get(..8).unwrap_or(id)
}

impl SimWorld {
    /// Somebody removes a guest's contact, and perhaps makes another for the same guest.
    pub fn guest_parts(&mut self, nth: usize, again: bool) {
        let guests: Vec<usize> =
            (0..self.platform.contacts.len()).filter(|n| self.platform.contacts[*n].guest).collect();
        let Some(number) = guests.get(nth % guests.len().max(1)).copied() else { return };
        // A contact of the same handle within seconds of the answer cannot be distinguished from the one that the
        // answer made.
        let at_once = self.true_wall().duration_since(self.platform.contacts[number].inserted_at) < AT_ONCE;
        if again && at_once {
            return;
        }
        let fellow = self.platform.contacts.remove(number);
        self.truth_parts(&fellow);
        self.push("contact_removed", &json!({"id": fellow.id}));
        if !again {
            return self.saw("guest removed by somebody else");
        }
        self.saw("guest removed, and made again");
        let handle = fellow.handle.as_deref();
        let mut another =
            PlatformContact::new(format!("{}-again{}", fellow.id, self.frames.0), handle, self.true_wall());
        another.guest = true;
        let id = another.id.clone();
        self.truth_befriends(&another);
        self.platform.contacts.push(another);
        self.tell_contact(&id);
    }

    /// The daemon asks for a contact to be removed: one that it made, whose end has come, and that it does not know to be gone.
    pub fn check_removal(&self, contact: &ContactId) {
        if self.life.expired.contains(contact) {
            self.fail(&format!("{contact} is to be removed, and was"));
        }
        if self.skew.abs() > SignedDuration::from_mins(6) && self.life.state == Some(AgentState::Live) {
            self.fail(&format!("{contact} is to be removed by a clock that is not to be believed"));
        }
        let there = self.platform.contacts.iter().find(|fellow| fellow.id == contact.as_str());
        let Some(fellow) = there else { return };
        if !fellow.ours {
            self.fail(&format!("{contact} is to be removed, and somebody else made it"));
        }
        let stays = self.true_wall().duration_since(fellow.inserted_at) + OFF;
        if stays < STAYS {
            self.fail(&format!("{contact} is to be removed before its end"));
        }
    }

    /// The platform removes a contact.
    pub fn removes(&mut self, contact: &str) -> Result<(), CallError> {
        if let Some(error) = self.passing() {
            return Err(error);
        }
        let failed = |fault| CallError { fault, code: None, message: None, retry_after: None };
        let Some(number) = self.platform.contacts.iter().position(|fellow| fellow.id == contact) else {
            return Err(failed(CallFault::NotFound));
        };
        let fellow = self.platform.contacts.remove(number);
        self.saw(if self.record.paused() { "guest expired in a pause" } else { "guest expired" });
        self.truth_expires(&fellow);
        self.push("contact_removed", &json!({"id": contact}));
        let rate = self.rates.lost_reply;
        if self.chance(rate) {
            self.saw("reply lost");
            return Err(failed(CallFault::NoAnswer));
        }
        Ok(())
    }

    /// A pause holds no removal back: a removal lets nobody in.
    pub fn check_guests_gone(&mut self) {
        if self.jumped || self.gaps || !self.record.paused() {
            return;
        }
        for guest in self.record.guests.open() {
            let late =
                guest.stay.doubt.is_none() && guest.stay.ends_at + SignedDuration::from_secs(30) < self.now().wall;
            let there =
                |fellow: &PlatformContact| guest.contact.as_ref().is_some_and(|contact| fellow.id == contact.as_str());
            if late && self.platform.contacts.iter().any(there) {
                self.fail(&format!("a guest stays beyond the end while the agent is paused: {guest:?}"));
            }
        }
    }

    /// At the end no contact is left whose end has come, unless somebody else may have approved it.
    pub fn check_guests(&mut self) {
        for guest in self.record.guests.open() {
            if guest.stay.doubt.is_some() {
                self.saw("guest in doubt");
                continue;
            }
            let Some(contact) = guest.contact.as_ref().filter(|_| guest.stay.ends_at + OFF < self.now().wall) else {
                continue;
            };
            // If the ledger refused an entry, it may not know that the contact was removed.
            if !self.gaps || self.platform.contacts.iter().any(|fellow| fellow.id == contact.as_str()) {
                self.fail(&format!("a guest is there although the end has come: {guest:?}"));
            }
        }
        // Every contact that the daemon made must be in the ledger in some form.
        let known = self.record.guests.open();
        for fellow in self.platform.contacts.iter().filter(|fellow| fellow.ours && fellow.guest) {
            // One that another handle hides is nobody's guest for sure: it is reported as a contact that nothing explains.
            let sent = self.platform.sent_requests.get(request_of(&fellow.id));
            if fellow.handle.is_some() && sent.is_some_and(|sent| sent.handle != fellow.handle) {
                if !self.record.contacts.ever_had(&fellow.id) {
                    self.fail(&format!("{} was let in for a time, and is not even on record", fellow.id));
                }
                continue;
            }
            // Whose sender changed while the answer was on its way was let in as somebody else.
            let changed = sent.is_some_and(|sent| sent.versions.len() > 1);
            let on_record = known.iter().any(|guest| fellow.id == format!("contact-{}", guest.request));
            let by_person =
                RequestId::parse(fellow.id.trim_start_matches("contact-")).is_ok_and(|id| self.record.by_person(&id));
            if !on_record && !by_person && !changed && !self.gaps {
                self.fail(&format!("{} was let in for a time, and nobody knows of an end", fellow.id));
            }
        }
    }
}
