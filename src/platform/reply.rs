//! The replies of REST, classified by what the caller does next.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{
    AgentId, Contact, ContactId, ContactRequest, RequestId, RequestStatus, Sender, SenderId, StrangerText,
};

/// A finished call: its result, and the platform's own clock if it said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<T> {
    /// The result.
    pub result: Result<T, CallError>,
    /// The `Date` header, or `None`.
    pub date: Option<Timestamp>,
}

/// `GET /agent/me`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Me {
    /// Whose key it is.
    pub id: AgentId,
    /// Its handle.
    pub sender: Sender,
    /// Its name.
    pub name: Option<StrangerText>,
    /// The id of the user who owns the agent.
    pub owner: Option<SenderId>,
}

/// One page of a list: each of its rows is either readable, known only by its id, or without an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T: Listed> {
    /// The readable rows.
    pub items: Vec<T>,
    /// Rows with only a readable id. Each counts for that id: it is listed, so it has not ended.
    pub unreadable: Vec<Unreadable<T::Id>>,
    /// Positions, from 1, of rows without a readable id. While there is one, this page does not prove that a request is
    /// missing.
    pub nameless: Vec<u32>,
    /// How many there are in all, if the platform reports it.
    pub total: Option<u64>,
    /// How many pages there are, if the platform reports it; at least 1.
    pub pages: Option<u32>,
}

impl<T: Listed> Page<T> {
    /// How many rows it has, readable or not.
    pub fn rows(&self) -> usize {
        self.items.len() + self.unreadable.len() + self.nameless.len()
    }
}

/// The rows of a list.
pub trait Listed: Sized {
    /// What identifies a row.
    type Id: std::fmt::Debug + Clone + PartialEq + Eq;
}

impl Listed for ContactRequest {
    type Id = RequestId;
}

impl Listed for Contact {
    type Id = ContactId;
}

/// A row with only a readable id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable<I> {
    /// Its id.
    pub id: I,
    /// Its position on the page, from 1.
    pub position: u32,
    /// The problem, without the row's text.
    pub why: String,
}
/// `POST /agent/contacts/requests/respond`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Responded {
    /// The status of the request now.
    pub status: RequestStatus,
}

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub struct CallError {
    /// The class, by what the caller does next.
    pub fault: CallFault,
    /// The platform's code (`limit_reached`, …), if it gave one; at most 64 characters when shown.
    pub code: Option<StrangerText>,
    /// The platform's message, or the transport's.
    pub message: Option<StrangerText>,
    /// `Retry-After` or `error.retry_after`, not yet capped.
    pub retry_after: Option<Duration>,
}

impl CallError {
    /// There is no key to call with; `why` is the reason.
    pub(crate) fn no_key(why: &str) -> Self {
        Self { fault: CallFault::NoKey, code: None, message: Some(StrangerText::new(why)), retry_after: None }
    }

    /// Adds the address of the call.
    pub fn about(self, url: &url::Url) -> Self {
        let said = self.message.as_ref().map(ToString::to_string).unwrap_or_default();
        Self { message: Some(StrangerText::new(&format!("{said} (tried {url})"))), ..self }
    }

    fn words(&self) -> String {
        let message = self.message.as_ref().map(ToString::to_string).unwrap_or_default();
        // The reason for a missing key begins with these words, too.
        if self.fault == CallFault::NoKey && message.starts_with(&self.fault.to_string()) {
            return message;
        }
        let code = self.code.as_ref().map(|code| format!(" `{code}`")).unwrap_or_default();
        let before = if self.message.is_some() { ": " } else { "" };
        format!("{}{code}{before}{message}", self.fault)
    }
}

/// The beginning of the text of [`CallFault::Malformed`]; the record is searched for it.
pub(crate) const MALFORMED: &str = "malformed";

/// Classes of [`CallError`], by what the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CallFault {
    /// 400, 422: our message is wrong; sending it again would not help.
    #[error("{MALFORMED}, says the platform (http {0})")]
    Malformed(u16),
    /// 401.
    #[error("the key is refused (http 401)")]
    KeyRefused,
    /// There is no key, so no call was made. Treated like a refused key.
    #[error("no key")]
    NoKey,
    /// 403: not allowed, or a quota of the plan.
    #[error("not allowed (http 403)")]
    Forbidden,
    /// 404.
    #[error("no such thing (http 404)")]
    NotFound,
    /// 409.
    #[error("already so (http 409)")]
    Conflict,
    /// 429.
    #[error("too many calls (http 429)")]
    Throttled,
    /// 408, 5xx, and what else an HTTP server may say: try again. The platform did answer. For `respond`, a 5xx may
    /// still have been carried out: the outcome is unknown.
    #[error("the platform cannot just now (http {0})")]
    Passing(u16),
    /// It was never sent: no connection, no TLS, a name that does not resolve.
    #[error("the platform cannot be reached")]
    Unreachable,
    /// The call was sent, or may have been, and no complete reply came: time ran out, or the connection broke.
    #[error("no answer from the platform")]
    NoAnswer,
    /// A 2xx whose body does not have the expected form (or is too large).
    #[error("the platform's answer cannot be read (http {0})")]
    Unreadable(u16),
    /// A page of a list that is larger than is taken. The same rows in smaller pages may fit.
    #[error("the page is too large")]
    TooLarge,
    /// A system between us and the platform replied in its place: a CDN's bot check, a proxy, a login page. The message
    /// is its text. It says nothing about the key or about any request; whether the platform received the call is
    /// unknown.
    #[error("not the platform's answer, but that of something in between (http {0})")]
    InBetween(u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_key_is_not_the_platforms_word() {
        let message = |why| CallError::no_key(why).to_string();
        assert_eq!(message("no key from the file `agent.key`: gone"), "no key from the file `agent.key`: gone");
        assert_eq!(message("it could not be read"), "no key: it could not be read");
        let refused = CallError {
            fault: CallFault::KeyRefused,
            code: Some(StrangerText::new("unauthorized")),
            message: Some(StrangerText::new("bad key")),
            retry_after: None,
        };
        assert_eq!(refused.to_string(), "the key is refused (http 401) `unauthorized`: bad key");
    }
}
