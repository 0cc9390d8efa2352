//! Approvals of unknown fate: how they become known, one way or the other.

use jiff::Timestamp;

use super::{HistoryKind, PolicyState};
use crate::model::{Contact, ContactRequest, Handle, RequestId};

impl PolicyState {
    /// An answer of unknown fate presumably approved this request, which was sent then.
    pub(super) fn presumed(&mut self, sender: &Handle, request: &RequestId, sent: Timestamp, at: Timestamp) {
        if self.history.doubts.contacts.has_handle(sender) {
            self.approval_shown(sender, request, at);
        } else if !self.history.knows_approved(sender.owner()) {
            self.history.doubts.presumed(sender, request, sent);
        }
    }

    fn approval_shown(&mut self, sender: &Handle, request: &RequestId, at: Timestamp) {
        self.history.add_of(sender.owner(), Some(sender), HistoryKind::Approved, Some(request), at);
        self.history.doubts.approved(sender.owner());
    }

    /// A contact is there that was made by our request, or by somebody else: an approval of its sender that was only
    /// presumed was carried out.
    pub(crate) fn contact_made(&mut self, contact: &Contact, request: Option<&RequestId>, at: Timestamp) {
        self.history.doubts.contact_made(contact, request);
        if let Some(sender) = contact.sender.handle()
            && let Some(request) = self.history.doubts.presumed_shown(sender)
        {
            self.approval_shown(sender, &request, at);
        }
    }

    /// The contacts were read completely: what was presumed and is missing again and again was not approved. Returns
    /// whether further readings show more.
    pub(crate) fn contacts_read(&mut self, reading: u64) -> bool {
        let (ended, more) = self.history.doubts.presumed_read(reading);
        for (request, sender) in ended {
            self.history.not_approved(sender.owner(), &request);
        }
        more
    }

    /// It is known whether this request was approved. Returns whether that was only presumed.
    pub(crate) fn presumed_ended(&mut self, request: &RequestId, approved: bool, at: Timestamp) -> bool {
        let ended = self.history.doubts.presumed_ended(request, |_, _| true);
        for sender in &ended {
            match approved {
                true => self.approval_shown(sender, request, at),
                false => self.history.not_approved(sender.owner(), request),
            }
        }
        !ended.is_empty()
    }

    /// This request is here again: it has not ended. Another sender or time is another request with its id.
    pub(crate) fn still_pending(&mut self, request: &ContactRequest) {
        self.history.doubts.still_pending(request);
        let sent = request.inserted_at.map(|at| at.as_microsecond());
        let same = |sender: &Handle, since: Timestamp| {
            request.sender.handle() == Some(sender) && sent.is_none_or(|sent| since.as_microsecond() == sent)
        };
        // The page may be stale: among the approvals that are counted it may still be one.
        self.history.doubts.presumed_ended(&request.id, same);
    }
}
