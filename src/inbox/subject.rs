//! The request that an answer was for: the id alone does not identify it, since a platform may give it to another
//! request.

use std::num::NonZeroI64;

use sha2::{Digest as _, Sha256};

use crate::model::ContactRequest;

/// The sender and the time of a request, as far as they are known, in a small form. An unknown part never differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Subject {
    /// A hash of the comparable handle, or of the text if it is not a plain handle; 0 if the platform named no sender.
    sender: u64,
    /// In microseconds since 1970, whose first counts as unknown.
    inserted_at: Option<NonZeroI64>,
}

impl Subject {
    /// The subject of this request.
    pub fn of(request: &ContactRequest) -> Self {
        let mut name = Sha256::new();
        match (request.sender.handle(), request.sender.original()) {
            (Some(handle), _) => name.update(handle.as_str()),
            (None, Some(text)) => {
                name.update([0]);
                name.update(text.raw());
            }
            (None, None) => return Self { sender: 0, inserted_at: micros(request) },
        }
        let sender = name.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)).max(1);
        Self { sender, inserted_at: micros(request) }
    }

    /// Whether `now` says another sender than this, or one if none was known.
    pub fn differs(self, now: Subject) -> bool {
        now.sender != 0 && now.sender != self.sender
    }

    /// Whether both may be the same request: nothing that is known of both differs.
    pub(crate) fn may_be(self, other: Subject) -> bool {
        let sender = self.sender == 0 || other.sender == 0 || self.sender == other.sender;
        let time = match (self.inserted_at, other.inserted_at) {
            (Some(one), Some(other)) => one == other,
            (None, _) | (_, None) => true,
        };
        sender && time
    }
}

fn micros(request: &ContactRequest) -> Option<NonZeroI64> {
    request.inserted_at.and_then(|at| NonZeroI64::new(at.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RequestId, Sender};

    fn subject(handle: Option<&str>, second: Option<i64>) -> Subject {
        Subject::of(&ContactRequest {
            id: RequestId::parse("r").unwrap(),
            sender: Sender::parse(handle),
            name: None,
            message: None,
            inserted_at: second.map(|second| jiff::Timestamp::from_second(second).unwrap()),
            ids: None,
        })
    }

    #[test]
    fn another_sender_or_time_is_another_request_and_what_is_not_known_is_no_difference() {
        let known = subject(Some("@Carol"), Some(1));
        for (other, same) in [
            (subject(Some("carol"), Some(1)), true),
            (subject(None, Some(1)), true),
            (subject(Some("carol"), None), true),
            (subject(Some("mallory"), Some(1)), false),
            (subject(Some("carol"), Some(2)), false),
            (subject(Some("carol//"), Some(1)), false),
            (subject(None, Some(2)), false),
        ] {
            assert_eq!((known.may_be(other), other.may_be(known)), (same, same), "{other:?}");
        }
    }
}
