//! Contacts that doorman removes, for a person or because their end has come: first the intent goes on record, then the
//! call goes out, then its outcome goes on record. The contact to remove was chosen before, by its id.

use std::collections::BTreeMap;

use super::guests::wait_after;
use super::{Action, Core, OpOutcome};
use crate::clock::Now;
use crate::ledger::Record;
use crate::model::{AgentState, ContactId, RemovalOutcome, RemovedBy};
use crate::platform::{CallError, CallFault, Reply};

/// The stage of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RemovalStage {
    /// Its intent is being recorded.
    Recording,
    /// The call is on its way.
    Flight,
    /// It failed, and an earlier attempt may have been carried out.
    Waits,
}

#[derive(Debug)]
struct Removal {
    by: RemovedBy,
    /// The people who wait for its outcome.
    tokens: Vec<u64>,
    stage: RemovalStage,
    /// An earlier attempt may have been carried out.
    heard: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Removals {
    open: BTreeMap<ContactId, Removal>,
    /// The removals in the current batch.
    under_way: Vec<ContactId>,
}

impl Removals {
    /// Takes over the removal of a contact at its end that may have been carried out before the start.
    pub(super) fn remember(&mut self, contact: &ContactId) {
        let removal = Removal { by: RemovedBy::Expired, tokens: Vec::new(), stage: RemovalStage::Waits, heard: true };
        self.open.insert(contact.clone(), removal);
    }

    /// Whether a contact that is gone now was removed at its end: our call for that is in flight, or may have been
    /// carried out.
    fn expires(&self, contact: &ContactId) -> bool {
        self.open.get(contact).is_some_and(|removal| {
            removal.by == RemovedBy::Expired && (removal.heard || removal.stage == RemovalStage::Flight)
        })
    }

    /// Whether a removal of this contact is on its way, or may have been carried out.
    pub(super) fn is_open(&self, contact: &ContactId) -> bool {
        self.open.contains_key(contact)
    }

    /// How many removals are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.open.values().filter(|removal| removal.stage != RemovalStage::Waits).count()
    }

    /// These removals are in the batch that goes to the ledger.
    pub(super) fn under_way(&mut self, contacts: Vec<ContactId>) {
        self.under_way = contacts;
    }
}

impl Core {
    /// Records the intent, once; the call goes out when the intent is on record. `tried`: an earlier attempt that nobody here remembers
    /// may have been carried out.
    pub(super) fn begin_removal(
        &mut self,
        (contact, tried): (ContactId, bool),
        by: RemovedBy,
        token: Option<u64>,
        now: Now,
    ) {
        let removal = self.removals.open.entry(contact.clone()).or_insert_with(|| Removal {
            by,
            tokens: Vec::new(),
            stage: RemovalStage::Waits,
            heard: false,
        });
        removal.tokens.extend(token);
        removal.heard |= tried;
        if removal.stage != RemovalStage::Waits {
            return;
        }
        removal.stage = RemovalStage::Recording;
        let (agent, by) = (self.config.agent.clone(), removal.by.clone());
        self.record(Record::Removing { agent, contact, by, at: now.wall });
    }

    /// The intents of a batch are on record, or are not.
    pub(super) fn removals_recorded(&mut self, recorded: bool, now: Now) {
        for contact in std::mem::take(&mut self.removals.under_way) {
            if !recorded {
                self.removal_failed(&contact, "the ledger refused the entry", None, now);
                continue;
            }
            if self.session.state() == AgentState::Refused || !self.is_us() {
                self.removal_failed(&contact, "the agent's key is refused, or missing", None, now);
                continue;
            }
            let Some(removal) = self.removals.open.get_mut(&contact) else { continue };
            removal.stage = RemovalStage::Flight;
            let for_person = removal.by.person().is_some() || !removal.tokens.is_empty();
            self.act(Action::Remove { contact, for_person });
        }
    }

    /// The platform's reply.
    pub(super) fn removed(&mut self, contact: &ContactId, reply: Reply<()>, now: Now) {
        self.watch_date(reply.date, now);
        let Some(removal) = self.removals.open.get(contact).filter(|removal| removal.stage == RemovalStage::Flight)
        else {
            return;
        };
        // The channel already reported the removal.
        let gone = self.contacts.has_left(contact) && self.policy_state.doubts().contacts().seen(contact).is_none();
        let heard = removal.heard;
        let error = match reply.result {
            Ok(()) => {
                self.responder.well();
                self.key_works(now);
                return self.removal_over(contact, RemovalOutcome::Removed, None, now);
            }
            Err(error) => error,
        };
        match error.fault {
            CallFault::NotFound => {
                let outcome = if heard { RemovalOutcome::Removed } else { RemovalOutcome::Gone };
                self.removal_over(contact, outcome, Some(&error), now);
            }
            CallFault::NoAnswer
            | CallFault::Passing(_)
            | CallFault::Unreadable(_)
            | CallFault::TooLarge
            | CallFault::InBetween(_)
                if gone =>
            {
                self.removal_over(contact, RemovalOutcome::Removed, Some(&error), now);
            }
            CallFault::NoAnswer
            | CallFault::Passing(_)
            | CallFault::Unreadable(_)
            | CallFault::TooLarge
            | CallFault::InBetween(_) => self.removal_unheard(contact, &error, now),
            CallFault::Throttled => {
                self.throttle(&error, now);
                self.removal_failed(contact, &error.to_string(), Some(&error), now);
            }
            CallFault::KeyRefused | CallFault::NoKey => {
                self.removal_failed(contact, &error.to_string(), Some(&error), now);
                self.key_refused(&error, now);
            }
            CallFault::Forbidden | CallFault::Malformed(_) | CallFault::Conflict | CallFault::Unreachable => {
                self.removal_failed(contact, &error.to_string(), Some(&error), now);
            }
        }
    }

    /// The contact is gone, by this removal or before it.
    fn removal_over(&mut self, contact: &ContactId, outcome: RemovalOutcome, error: Option<&CallError>, now: Now) {
        let expired = outcome == RemovalOutcome::Removed && self.removals.expires(contact);
        self.record_removal(contact, outcome, error.map(ToString::to_string), now);
        self.contact_left(contact, expired, now);
        self.guest_removal_over(contact, now);
        let Some(removal) = self.removals.open.remove(contact) else { return };
        for token in removal.tokens {
            let gone = error.filter(|_| outcome == RemovalOutcome::Gone);
            let outcome = gone.map_or(OpOutcome::Done, |error| OpOutcome::error("gone", error.to_string()));
            self.act(Action::Reply { token, outcome });
        }
    }

    /// It may have been carried out.
    fn removal_unheard(&mut self, contact: &ContactId, error: &CallError, now: Now) {
        let why = format!("it may have been removed: {error}");
        self.record_removal(contact, RemovalOutcome::Unknown, Some(error.to_string()), now);
        let Some(removal) = self.removals.open.get_mut(contact) else { return };
        (removal.stage, removal.heard) = (RemovalStage::Waits, true);
        let tokens = std::mem::take(&mut removal.tokens);
        if removal.by.person().is_some() && !self.guests.is_expiring(contact) {
            self.removals.open.remove(contact);
            self.contacts.read_next(now.mono);
        } else {
            self.guest_removal_unknown(contact, &why, now);
        }
        self.tell_tokens(tokens, &why);
    }

    /// It was certainly not carried out.
    fn removal_failed(&mut self, contact: &ContactId, why: &str, error: Option<&CallError>, now: Now) {
        let Some(removal) = self.removals.open.get_mut(contact) else { return };
        let (tokens, heard) = (std::mem::take(&mut removal.tokens), removal.heard);
        removal.stage = RemovalStage::Waits;
        let expired = removal.by == RemovedBy::Expired || self.guests.is_expiring(contact);
        if !expired || !heard {
            self.removals.open.remove(contact);
        }
        let outcome = if heard { RemovalOutcome::Unknown } else { RemovalOutcome::Refused };
        self.record_removal(contact, outcome, Some(why.to_owned()), now);
        if expired {
            self.guest_removal_failed(contact, error.and_then(wait_after), why, now);
        }
        self.tell_tokens(tokens, why);
    }

    fn record_removal(&mut self, contact: &ContactId, outcome: RemovalOutcome, detail: Option<String>, now: Now) {
        let (agent, contact) = (self.config.agent.clone(), contact.clone());
        self.record(Record::Removal { agent, contact, outcome, detail, at: now.wall });
    }

    fn tell_tokens(&mut self, tokens: Vec<u64>, why: &str) {
        for token in tokens {
            self.act(Action::Reply { token, outcome: OpOutcome::failed(why) });
        }
    }

    /// A contact was removed, as the channel reported or a reading proves. Returns whether its end was the reason.
    pub(super) fn gone_by_end(&mut self, contact: &ContactId, now: Now) -> bool {
        let expired = self.removals.expires(contact);
        // For a call in flight, the reply will come.
        let waits = self.removals.open.get(contact).is_some_and(|removal| removal.stage == RemovalStage::Waits);
        if waits && expired {
            self.record_removal(contact, RemovalOutcome::Removed, None, now);
            self.removals.open.remove(contact);
        }
        expired
    }
}
