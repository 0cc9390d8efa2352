//! The payloads of the channel's events, parsed once into types. Sources: `docs/platform.md`.

use crate::model::{Contact, ContactId, ContactRequest, RequestId, RequestStatus, StrangerText};

/// What the platform tells over the channels that doorman joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelEvent {
    /// `contact_request_received`.
    RequestReceived(ContactRequest),
    /// `contact_request_updated`.
    RequestUpdated {
        /// Which.
        id: RequestId,
        /// How it stands now; never pending in practice.
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
    /// The platform's word.
    pub reason: Option<StrangerText>,
    /// The platform's sentence.
    pub message: Option<StrangerText>,
    /// For support.
    pub correlation_id: Option<StrangerText>,
}
