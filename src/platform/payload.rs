//! The payloads of the channels' events, and the rows of REST lists with the same shape, parsed once into types.
//! Sources: `docs/platform.md`. Unknown fields are ignored; a violation of the contract is a [`PayloadProblem`], which
//! names every broken field and contains no text of others. It makes no decisions.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use super::row::{Field, RowFields};
use crate::model::{
    Contact, ContactId, ContactKind, ContactRequest, RequestId, RequestStatus, Sender, SenderId, SenderIds,
    StrangerText,
};
use crate::secret::Redact;

/// Longest text that is tried as a time (bytes).
const TIME_BYTES_MAX: usize = 64;
/// Where a payload may name the holder of the handle; the first that exists counts. Today's payloads have none of them
/// \[infer\].
const SENDER_ID: &[&str] = &["from_id", "sender_id", "from.id", "sender.id"];
/// The same for the user who owns the agent.
const OWNER_ID: &[&str] = &["from_owner_id", "owner_id", "owner_uuid", "owner.id"];

/// What the platform sends over the channels that doorman joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelEvent {
    /// `contact_request_received`.
    RequestReceived(ContactRequest),
    /// `contact_request_updated`.
    RequestUpdated {
        /// Which.
        id: RequestId,
        /// Its new status; never pending in practice.
        status: RequestStatus,
    },
    /// `contact_added`.
    ContactAdded(Contact),
    /// `contact_removed`: by contact id only.
    ContactRemoved {
        /// Which.
        id: ContactId,
    },
}

/// `supersede` on the control channel: another connection took this agent's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supersede {
    /// The platform's reason.
    pub reason: Option<StrangerText>,
    /// The platform's sentence.
    pub message: Option<StrangerText>,
    /// For support.
    pub correlation_id: Option<StrangerText>,
}

/// Why a payload does not have the expected form: every broken field, in the order of the contract. Contains none of
/// its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadProblem {
    broken: Vec<(&'static str, FieldProblem)>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FieldProblem {
    /// The field is required, and must not be null.
    #[error("is missing")]
    Missing,
    /// The payload itself.
    #[error("is not an object")]
    NotAnObject,
    /// A number, a list, …
    #[error("is not text")]
    NotText,
    /// An empty text where text is required.
    #[error("is empty")]
    Empty,
    /// A text with half of a surrogate pair, or another escape that is not a character.
    #[error("holds a character that does not exist")]
    NoCharacter,
    /// Not a valid id.
    #[error("is not a valid id")]
    NotAnId,
    /// A request that should be pending and is not.
    #[error("is not `pending`")]
    NotPending,
}

impl PayloadProblem {
    /// The broken fields, in the order of the contract; never empty.
    pub fn broken(&self) -> &[(&'static str, FieldProblem)] {
        &self.broken
    }
}

impl fmt::Display for PayloadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, (field, problem)) in self.broken.iter().enumerate() {
            let comma = if count == 0 { "" } else { ", " };
            write!(f, "{comma}`{field}` {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PayloadProblem {}

/// Reads an event of the contacts channel; `None` for a name that this version does not know.
pub fn channel_event(event: &str, payload: &RawValue) -> Option<Result<ChannelEvent, PayloadProblem>> {
    match event {
        "contact_request_received" => Some(contact_request(payload).map(ChannelEvent::RequestReceived)),
        "contact_request_updated" => Some(fields(payload).and_then(|row| request_updated(&row))),
        "contact_added" => Some(contact(payload).map(ChannelEvent::ContactAdded)),
        "contact_removed" => Some(fields(payload).and_then(|row| contact_removed(&row))),
        _ => None,
    }
}

/// Reads a pending request: the payload of `contact_request_received` \[seed\].
pub fn contact_request(payload: &RawValue) -> Result<ContactRequest, PayloadProblem> {
    contact_request_row(&fields(payload)?)
}

/// Reads a contact: the payload of `contact_added` \[seed\].
pub fn contact(payload: &RawValue) -> Result<Contact, PayloadProblem> {
    contact_row(&fields(payload)?)
}

/// Only the fields that are asked for are parsed: a payload of many values needs no more memory than its own length.
fn fields(payload: &RawValue) -> Result<RowFields<'_>, PayloadProblem> {
    RowFields::of(payload).ok_or_else(|| PayloadProblem { broken: vec![("payload", FieldProblem::NotAnObject)] })
}

/// Reads a pending request: a row under `received` in the list of requests \[docs\], or a payload of the same form.
pub(super) fn contact_request_row(row: &RowFields<'_>) -> Result<ContactRequest, PayloadProblem> {
    let mut fields = FieldReader::of(row);
    let id = fields.id("id", RequestId::parse);
    if fields.word("status").is_some_and(|status| status != "pending") {
        fields.broken("status", FieldProblem::NotPending);
    }
    let inserted_at = fields.time("inserted_at");
    let sender = fields.sender("from_handle");
    let name = fields.stranger_text("from_name");
    let message = fields.stranger_text("message");
    let ids = fields.ids();
    fields.finish(id, |id| ContactRequest { id, sender, name, message, inserted_at, ids })
}

/// Reads a contact: a row of the list of contacts \[docs\], or a payload of the same form.
pub(super) fn contact_row(row: &RowFields<'_>) -> Result<Contact, PayloadProblem> {
    let mut fields = FieldReader::of(row);
    let id = fields.id("id", ContactId::parse);
    let kind = match fields.word("type").as_deref() {
        Some("User") => ContactKind::User,
        Some("Agent") => ContactKind::Agent,
        Some(_) | None => ContactKind::Other,
    };
    let inserted_at = fields.time("inserted_at");
    let sender = fields.sender("handle");
    let name = fields.stranger_text("name");
    let ids = fields.ids();
    fields.finish(id, |id| Contact { id, sender, name, kind, inserted_at, ids })
}

/// Reads `supersede` \[sdk\]. It means the same whatever its fields are, so none of them is required.
pub fn supersede(payload: &RawValue, redact: &Redact) -> Supersede {
    let row = RowFields::of(payload);
    let text = |key| match row.as_ref()?.field(key) {
        Field::Text(text) => (!text.is_empty()).then(|| redact.said(&text)),
        Field::Absent | Field::NotText | Field::NoCharacter => None,
    };
    Supersede { reason: text("reason"), message: text("message"), correlation_id: text("correlation_id") }
}

fn request_updated(row: &RowFields<'_>) -> Result<ChannelEvent, PayloadProblem> {
    let mut fields = FieldReader::of(row);
    let id = fields.id("id", RequestId::parse);
    let status = RequestStatus::parse(&fields.word("status").unwrap_or_default());
    fields.finish(id, |id| ChannelEvent::RequestUpdated { id, status })
}

fn contact_removed(row: &RowFields<'_>) -> Result<ChannelEvent, PayloadProblem> {
    let mut fields = FieldReader::of(row);
    let id = fields.id("id", ContactId::parse);
    fields.finish(id, |id| ChannelEvent::ContactRemoved { id })
}

/// An optional id: a text or a whole number, under a key or under a key of an inner object (`owner.id`). Any other value counts
/// as absent.
fn sender_id(row: &RowFields<'_>, path: &str) -> Option<SenderId> {
    let id = match path.split_once('.') {
        None => row.word(path)?,
        Some((key, inner)) => Cow::Owned(row.object(key)?.word(inner)?.into_owned()),
    };
    SenderId::parse(&id).ok()
}

/// Reads fields from an object and collects their problems, so that all are reported at once.
struct FieldReader<'a> {
    row: &'a RowFields<'a>,
    broken: Vec<(&'static str, FieldProblem)>,
}

impl<'a> FieldReader<'a> {
    fn of(row: &'a RowFields<'a>) -> Self {
        Self { row, broken: Vec::new() }
    }

    fn broken(&mut self, key: &'static str, problem: FieldProblem) {
        self.broken.push((key, problem));
    }

    /// A text; absent, null and empty are `None`.
    fn optional(&mut self, key: &'static str) -> Option<Cow<'a, str>> {
        match self.row.field(key) {
            Field::Absent => {}
            Field::Text(text) if text.is_empty() => {}
            Field::Text(text) => return Some(text),
            Field::NotText => self.broken(key, FieldProblem::NotText),
            Field::NoCharacter => self.broken(key, FieldProblem::NoCharacter),
        }
        None
    }

    /// A required text.
    fn word(&mut self, key: &'static str) -> Option<Cow<'a, str>> {
        match self.row.field(key) {
            Field::Absent => self.broken(key, FieldProblem::Missing),
            Field::Text(text) if text.is_empty() => self.broken(key, FieldProblem::Empty),
            Field::Text(text) => return Some(text),
            Field::NotText => self.broken(key, FieldProblem::NotText),
            Field::NoCharacter => self.broken(key, FieldProblem::NoCharacter),
        }
        None
    }

    fn id<I, E>(&mut self, key: &'static str, parse: fn(&str) -> Result<I, E>) -> Option<I> {
        let id = parse(&self.word(key)?);
        if id.is_err() {
            self.broken(key, FieldProblem::NotAnId);
        }
        id.ok()
    }

    /// A time that has to be there; one that cannot be read is `None`, which rules about time take as unknown.
    fn time(&mut self, key: &'static str) -> Option<Timestamp> {
        self.word(key).and_then(|text| parse_time(&text))
    }

    /// A handle of any shape: one that is not a plain handle is kept as it is, and a guard prevents its approval.
    fn sender(&mut self, key: &'static str) -> Sender {
        Sender::parse(self.optional(key).as_deref())
    }

    /// A text of any length: beyond the bound it is cut, and marked as cut.
    fn stranger_text(&mut self, key: &'static str) -> Option<StrangerText> {
        self.optional(key).map(|text| StrangerText::new(&text))
    }

    /// The ids behind the handle, if the payload has them. An unreadable id is no error.
    fn ids(&self) -> Option<Box<SenderIds>> {
        let first = |paths: &[&str]| paths.iter().find_map(|path| sender_id(self.row, path));
        let (sender, owner) = (first(SENDER_ID), first(OWNER_ID));
        (sender.is_some() || owner.is_some()).then(|| Box::new(SenderIds { sender, owner }))
    }

    fn finish<I, T>(self, id: Option<I>, make: impl FnOnce(I) -> T) -> Result<T, PayloadProblem> {
        match id {
            Some(id) if self.broken.is_empty() => Ok(make(id)),
            Some(_) | None => Err(PayloadProblem { broken: self.broken }),
        }
    }
}

/// RFC 3339. Elixir writes naive times, which are UTC there, without an offset: taken as UTC \[infer\].
fn parse_time(text: &str) -> Option<Timestamp> {
    if text.len() > TIME_BYTES_MAX {
        return None;
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let naive = text.parse::<DateTime>().ok()?;
    TimeZone::UTC.to_timestamp(naive).ok()
}

#[cfg(test)]
mod tests;
