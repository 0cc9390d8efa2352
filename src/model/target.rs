//! What a person writes where a command takes `ID or HANDLE`. Every command reads it by this one rule.

use uuid::Uuid;

use super::{Handle, RequestId};

/// What a person means: a text that begins with `@` is a handle, and a UUID is an id. Anything else is a known id; if
/// there is none, the handle of somebody known or the beginning of a known id; if there is none, an unknown handle.
/// Strangers choose their handles: if a text is both a handle and the beginning of somebody else's id, it means
/// neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersonTarget {
    /// A handle, as it was written.
    Handle(String),
    /// An id: it is an error if the id is not known.
    Id(RequestId),
    /// Either, in the order above.
    Either(String),
}

impl PersonTarget {
    /// Fewest characters of an id that name it, as tables show them on a narrow terminal.
    pub(crate) const BEGINNING_MIN: usize = 8;

    /// Reads it. Never fails: what is neither a handle nor an id is a handle that nobody has.
    pub fn parse(text: &str) -> Self {
        if text.starts_with('@') {
            return PersonTarget::Handle(text.to_owned());
        }
        match RequestId::parse(text) {
            // Other spellings of a UUID are not how doorman shows ids.
            Ok(id) if text.len() == 36 && Uuid::try_parse(text).is_ok() => PersonTarget::Id(id),
            Ok(_) | Err(_) => PersonTarget::Either(text.to_owned()),
        }
    }

    /// The handle that it may be, if it is a plain one.
    pub fn handle(&self) -> Option<Handle> {
        match self {
            PersonTarget::Handle(text) | PersonTarget::Either(text) => Handle::parse(text).ok(),
            PersonTarget::Id(_) => None,
        }
    }

    /// The id that it may be.
    pub fn id(&self) -> Option<RequestId> {
        match self {
            PersonTarget::Handle(_) => None,
            PersonTarget::Id(id) => Some(id.clone()),
            PersonTarget::Either(text) => RequestId::parse(text).ok(),
        }
    }

    /// The beginning of an id that it may be.
    pub fn beginning(&self) -> Option<&str> {
        match self {
            PersonTarget::Either(text) if text.len() >= Self::BEGINNING_MIN => Some(text),
            PersonTarget::Handle(_) | PersonTarget::Id(_) | PersonTarget::Either(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_at_sign_makes_a_handle_and_a_uuid_is_an_id() {
        let uuid = "0192f3c4-9a1b-7000-8000-000000000001";
        assert_eq!(PersonTarget::parse("@carol"), PersonTarget::Handle("@carol".to_owned()));
        assert_eq!(PersonTarget::parse(&format!("@{uuid}")), PersonTarget::Handle(format!("@{uuid}")));
        assert_eq!(PersonTarget::parse(uuid), PersonTarget::Id(RequestId::parse(uuid).unwrap()));
        for text in ["carol", "acme/1-bot", "r-1", "0192f3c4", "0192f3c49a1b70008000000000000001", "ünïcode", ""] {
            assert_eq!(PersonTarget::parse(text), PersonTarget::Either(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_it_may_be() {
        let (handle, either) = (PersonTarget::parse("@Carol"), PersonTarget::parse("cafe1234"));
        assert_eq!(handle.handle().map(|handle| handle.to_string()).as_deref(), Some("carol"));
        assert_eq!((handle.id(), handle.beginning()), (None, None));
        assert!(either.handle().is_some() && either.id().is_some());
        assert_eq!((either.beginning(), PersonTarget::parse("carol").beginning()), (Some("cafe1234"), None));
        assert_eq!(PersonTarget::parse("0192f3c4-9a1b-7000-8000-000000000001").handle(), None);
    }
}
