//! The record holds no key, whatever the platform said: in a reason, in a refusal, or as a stranger's text.

use std::sync::Arc;

use crate::ledger::Record;
use crate::model::{ContactRequest, PausedBy, Person, Sender, SenderId, StrangerText};
use crate::secret::Redact;

/// Returns the entry without keys. Ids and handles were compared before; only their copy on record changes.
pub(super) fn without_keys(mut record: Record, redact: &Redact) -> Record {
    match &mut record {
        Record::Seen { request, .. } | Record::Changed { request, .. } => scrub_request(request, redact),
        Record::ContactAdded { contact, .. } => {
            scrub_sender(&mut contact.sender, redact);
            scrub_text(&mut contact.name, redact);
        }
        Record::Outcome { detail: Some(text), .. }
        | Record::Session { why: text, .. }
        | Record::Removal { detail: Some(text), .. } => {
            if let std::borrow::Cow::Owned(scrubbed) = redact.scrub(text) {
                *text = scrubbed;
            }
        }
        Record::Pause { by: PausedBy::Person(person), .. } => {
            if let std::borrow::Cow::Owned(scrubbed) = redact.scrub(person.name()) {
                *person = Person::noting(&scrubbed, person.note());
            }
        }
        Record::Identity { identity, .. } => {
            if let std::borrow::Cow::Owned(scrubbed) = redact.scrub(&identity.name) {
                identity.name = scrubbed.into();
            }
            let scrubbed = redact.scrub(identity.id.as_str()).into_owned();
            identity.id = SenderId::parse(&scrubbed).unwrap_or_else(|_| identity.id.clone());
        }
        Record::DeciderReplied { reply, .. } => scrub_text(&mut reply.reason, redact),
        Record::Outcome { detail: None, .. }
        | Record::Removal { detail: None, .. }
        | Record::GuestUnseen { .. }
        | Record::Pause { by: PausedBy::ApprovalsMax, .. }
        // The shell writes it, without keys.
        | Record::Named { .. }
        | Record::Decided { .. }
        | Record::Intent { .. }
        | Record::Withdrawn { .. }
        | Record::Settled { .. }
        | Record::ContactRemoved { .. }
        | Record::ContactsRead { .. }
        // A person's text has no keys: they are removed when it comes in.
        | Record::Settlement { .. }
        | Record::Vouched { .. }
        | Record::GuestEnd { .. }
        | Record::Removing { .. }
        | Record::Hold { .. }
        | Record::Notified { .. }
        // The tasks of the targets write them, without keys.
        | Record::Message { .. }
        | Record::Tried { .. }
        | Record::Policy { .. } => {}
    }
    record
}

fn scrub_request(request: &mut Arc<ContactRequest>, redact: &Redact) {
    let texts = [request.sender.original(), request.name.as_ref(), request.message.as_ref()];
    let holds = |text: &StrangerText| matches!(redact.scrub(text.raw()), std::borrow::Cow::Owned(_));
    if texts.into_iter().flatten().any(holds) {
        let request = Arc::make_mut(request);
        scrub_sender(&mut request.sender, redact);
        scrub_text(&mut request.name, redact);
        scrub_text(&mut request.message, redact);
    }
}

fn scrub_sender(sender: &mut Sender, redact: &Redact) {
    if let Some(std::borrow::Cow::Owned(scrubbed)) = sender.original().map(|text| redact.scrub(text.raw())) {
        *sender = Sender::parse(Some(&scrubbed));
    }
}

fn scrub_text(text: &mut Option<StrangerText>, redact: &Redact) {
    if let Some(known) = text {
        *known = redact.said(known.raw());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entry::Via;
    use crate::model::{AgentId, RequestId};

    #[test]
    fn no_text_of_a_request_brings_a_key_on_record() {
        let redact = Redact::default();
        redact.add("band_12345678");
        let text = |text: &str| Some(StrangerText::new(text));
        let request = ContactRequest {
            id: RequestId::parse("r").unwrap(),
            sender: Sender::parse(Some("ann/band_12345678")),
            name: text("it is band%5F12345678"),
            message: text("bare \\u0062and_12345678"),
            inserted_at: None,
            ids: None,
        };
        let (agent, at) = (AgentId::parse("a").unwrap(), jiff::Timestamp::UNIX_EPOCH);
        let seen = Record::Seen { agent, request: request.into(), via: Via::Event, at };
        let Record::Seen { request, .. } = without_keys(seen, &redact) else { panic!() };
        let raw = |text: &Option<StrangerText>| text.as_ref().unwrap().raw().to_owned();
        assert_eq!((raw(&request.name), raw(&request.message)), ("it is ***".to_owned(), "bare ***".to_owned()));
        assert_eq!(request.sender.original().unwrap().raw(), "ann/***");
    }
}
