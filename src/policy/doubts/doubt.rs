//! A doubt: the owner, what is unknown, the reason, and what a person may say about it.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{ContactId, Handle, RequestId};
use crate::policy::evaluate::inputs::after;
use crate::policy::history::HistoryNeeds;

/// A fact about an owner that may be in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// Whether a contact of theirs was removed: `removed_within`.
    Removed,
    /// Whether a request of theirs was rejected: `rejected_within`.
    Rejected,
    /// Whether they are who they were: `approved_before`, and rights by name.
    Identity,
    /// Whether a request of theirs was approved: `approved_before`.
    Approved,
}

impl Fact {
    /// All of them.
    pub const ALL: [Fact; 4] = [Fact::Removed, Fact::Rejected, Fact::Identity, Fact::Approved];

    /// The word in `--json` and in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Fact::Removed => "removed",
            Fact::Rejected => "rejected",
            Fact::Identity => "identity",
            Fact::Approved => "approved",
        }
    }

    /// The reverse of [`Fact::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Fact::ALL.into_iter().find(|fact| fact.as_str() == text)
    }
}

/// What a person says of a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DoubtSettlement {
    /// A contact of theirs was removed.
    Removed,
    /// None was, up to now.
    NotRemoved,
    /// The request was approved.
    Approved,
    /// It was rejected.
    Rejected,
    /// Its sender took it back.
    Cancelled,
    /// It expired.
    Expired,
    /// The name still belongs to the same user.
    Same,
}

impl DoubtSettlement {
    /// All of them.
    pub const ALL: [DoubtSettlement; 7] = [
        DoubtSettlement::Removed,
        DoubtSettlement::NotRemoved,
        DoubtSettlement::Approved,
        DoubtSettlement::Rejected,
        DoubtSettlement::Cancelled,
        DoubtSettlement::Expired,
        DoubtSettlement::Same,
    ];

    /// The word on the command line and in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            DoubtSettlement::Removed => "removed",
            DoubtSettlement::NotRemoved => "not-removed",
            DoubtSettlement::Approved => "approved",
            DoubtSettlement::Rejected => "rejected",
            DoubtSettlement::Cancelled => "cancelled",
            DoubtSettlement::Expired => "expired",
            DoubtSettlement::Same => "same",
        }
    }

    /// The reverse of [`DoubtSettlement::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        DoubtSettlement::ALL.into_iter().find(|said| said.as_str() == text)
    }

    /// The fact that it settles.
    pub fn fact(self) -> Fact {
        match self {
            DoubtSettlement::Removed | DoubtSettlement::NotRemoved => Fact::Removed,
            DoubtSettlement::Approved
            | DoubtSettlement::Rejected
            | DoubtSettlement::Cancelled
            | DoubtSettlement::Expired => Fact::Rejected,
            DoubtSettlement::Same => Fact::Identity,
        }
    }

    /// Whether it says that the fact is so.
    pub fn happened(self) -> bool {
        match self {
            DoubtSettlement::Removed | DoubtSettlement::Rejected => true,
            DoubtSettlement::NotRemoved
            | DoubtSettlement::Approved
            | DoubtSettlement::Cancelled
            | DoubtSettlement::Expired
            | DoubtSettlement::Same => false,
        }
    }
}

/// The reason of a doubt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// This contact is open on record, and was not seen since.
    Contact(ContactId),
    /// This contact never had a readable handle, and was removed.
    NamelessContact(ContactId),
    /// This request was pending, and nothing has shown it since.
    Unlisted(RequestId),
    /// This request vanished: it is not known how it ended.
    Vanished(RequestId),
    /// Somebody else answered this request, and it is not known how.
    SettledElsewhere(RequestId),
    /// An answer of unknown outcome presumably let this sender in, and no contact has appeared.
    Presumed(RequestId),
    /// An answer of unknown outcome presumably rejected this request, and nobody said how it ended.
    PresumedRejected(RequestId),
    /// This request's sender has the owner's name, and another id.
    OtherSender(RequestId),
    /// This contact has the owner's name, and another id.
    OtherContact(ContactId),
}

impl Basis {
    /// The word in `--json`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Basis::Contact(_) => "contact-not-seen",
            Basis::NamelessContact(_) => "nameless-contact-removed",
            Basis::Unlisted(_) => "request-not-listed",
            Basis::Vanished(_) => "request-vanished",
            Basis::SettledElsewhere(_) => "settled-elsewhere",
            Basis::Presumed(_) => "presumed-approved",
            Basis::PresumedRejected(_) => "presumed-rejected",
            Basis::OtherSender(_) => "other-sender",
            Basis::OtherContact(_) => "other-contact",
        }
    }

    /// The reverse of [`Basis::as_str`] and [`Basis::subject`].
    pub fn parse(word: &str, subject: &str) -> Option<Self> {
        let contact = || ContactId::parse(subject).ok();
        let request = || RequestId::parse(subject).ok();
        match word {
            "contact-not-seen" => contact().map(Basis::Contact),
            "nameless-contact-removed" => contact().map(Basis::NamelessContact),
            "request-not-listed" => request().map(Basis::Unlisted),
            "request-vanished" => request().map(Basis::Vanished),
            "settled-elsewhere" => request().map(Basis::SettledElsewhere),
            "presumed-approved" => request().map(Basis::Presumed),
            "presumed-rejected" => request().map(Basis::PresumedRejected),
            "other-sender" => request().map(Basis::OtherSender),
            "other-contact" => contact().map(Basis::OtherContact),
            _ => None,
        }
    }

    /// The request or contact that is the reason.
    pub fn subject(&self) -> &str {
        match self {
            Basis::Contact(id) | Basis::NamelessContact(id) | Basis::OtherContact(id) => id.as_str(),
            Basis::Unlisted(id)
            | Basis::Vanished(id)
            | Basis::SettledElsewhere(id)
            | Basis::Presumed(id)
            | Basis::PresumedRejected(id)
            | Basis::OtherSender(id) => id.as_str(),
        }
    }

    /// The request that is the reason, if it is a request.
    pub fn request(&self) -> Option<&RequestId> {
        match self {
            Basis::Contact(_) | Basis::NamelessContact(_) | Basis::OtherContact(_) => None,
            Basis::Unlisted(id)
            | Basis::Vanished(id)
            | Basis::SettledElsewhere(id)
            | Basis::Presumed(id)
            | Basis::PresumedRejected(id)
            | Basis::OtherSender(id) => Some(id),
        }
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Basis::Contact(id) => write!(f, "contact {id} was not seen since"),
            Basis::NamelessContact(id) => write!(f, "contact {id}, which never had a handle, was removed"),
            Basis::Unlisted(id) => write!(f, "request {id} was pending, and was not listed since"),
            Basis::Vanished(id) => write!(f, "request {id} is not listed any more, and nobody said how it ended"),
            Basis::SettledElsewhere(id) => write!(f, "request {id} was answered elsewhere"),
            Basis::Presumed(id) => {
                write!(
                    f,
                    "request {id} was presumably approved by an answer of unknown fate, and no contact came of it"
                )
            }
            Basis::PresumedRejected(id) => {
                write!(
                    f,
                    "request {id} was presumably rejected by an answer of unknown fate, and nobody said how it ended"
                )
            }
            Basis::OtherSender(id) => write!(f, "request {id} came with another id for that name"),
            Basis::OtherContact(id) => write!(f, "contact {id} has another id for that name"),
        }
    }
}

/// Something that may have happened unseen to somebody who is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The owner that it concerns.
    pub owner: Arc<str>,
    /// The sender of the request that is its reason.
    pub sender: Option<Handle>,
    /// What is unknown about them.
    pub fact: Fact,
    /// Since when.
    pub since: Timestamp,
    /// The last moment at which it may have happened; `None`: it may happen still.
    pub until: Option<Timestamp>,
    /// What it rests on.
    pub basis: Basis,
}

impl Doubt {
    /// When it ends by itself under a policy with these needs; `None`: when it is seen, or a person says.
    pub fn ends(&self, needs: &HistoryNeeds) -> Option<Timestamp> {
        let reach = match self.fact {
            Fact::Removed => needs.removed_reach(),
            Fact::Rejected => needs.rejected_reach(),
            Fact::Identity | Fact::Approved => None,
        };
        Some(after(self.until?, reach?)).filter(|end| *end < Timestamp::MAX)
    }

    /// Whether it matters now to a question of a policy with these needs.
    pub(super) fn matters(&self, needs: &HistoryNeeds, now: Timestamp) -> bool {
        let reach = match self.fact {
            Fact::Removed => needs.removed_reach(),
            Fact::Rejected => needs.rejected_reach(),
            Fact::Identity => return true,
            Fact::Approved => return needs.approved,
        };
        reach.is_some_and(|reach| self.until.is_none_or(|until| after(until, reach) > now))
    }

    /// Whether this doubt covers everything that `short` makes unknown.
    pub(super) fn outlasts(&self, short: &Doubt) -> bool {
        self.fact == short.fact
            && self.until.unwrap_or(Timestamp::MAX) >= short.until.unwrap_or(Timestamp::MAX)
            && short.until.is_some()
    }
}

/// How long a question stays without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownUntil {
    /// Until then, if nothing else happens.
    Until(Timestamp),
    /// Until something is seen, or a person says.
    Open,
}

impl UnknownUntil {
    pub(super) fn longer(self, other: UnknownUntil) -> UnknownUntil {
        match (self, other) {
            (UnknownUntil::Until(one), UnknownUntil::Until(other)) => UnknownUntil::Until(one.max(other)),
            (UnknownUntil::Open, _) | (_, UnknownUntil::Open) => UnknownUntil::Open,
        }
    }
}
