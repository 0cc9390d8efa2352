//! `contact`: whether the sender, or anybody of the sender's owner, is a contact of the agent now. Unknown as long as
//! the list of contacts does not show it.

use super::{Compile, Condition, ConditionKind, ContactBasis, Needs, SenderScope, row};
use crate::document::keys::{DocumentKey, KeyType, key};
use crate::policy::compile::Compiling;
use crate::policy::evaluate::Evaluation;
use crate::policy::evaluate::inputs::Inputs;
use crate::policy::explain::values;
use crate::policy::raw::RawCondition;

/// `contact = "owner"` or `"self"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsContact {
    /// Anybody of the sender's owner: the owner or any of their agents, including the sender.
    OfOwner,
    /// This very handle.
    Sender,
}

impl IsContact {
    /// The words of `contact`.
    pub const WORDS: &'static [&'static str] = &["owner", "self"];

    /// One of [`IsContact::WORDS`].
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "owner" => Some(Self::OfOwner),
            "self" => Some(Self::Sender),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::OfOwner => "owner",
            Self::Sender => "self",
        }
    }

    fn known(self, inputs: &Inputs<'_>) -> Option<bool> {
        match self {
            Self::OfOwner => inputs.circumstances.owner_is_contact,
            Self::Sender => inputs.circumstances.sender_is_contact,
        }
    }
}

impl Compile for IsContact {
    const KEY: DocumentKey = key(
        "contact",
        KeyType::Word(Self::WORDS),
        "",
        "`\"owner\"`: somebody of the sender's owner is a contact of the agent now; `\"self\"`: the sender is.",
    );

    fn compile(written: &RawCondition, _compiling: &mut Compiling<'_>) -> Option<Self> {
        Self::parse(written.word()?)
    }
}

impl ConditionKind for IsContact {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn of_contact(&self) -> ContactBasis {
        ContactBasis::OfTheMoment
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        self.known(inputs).map_or(Evaluation::UNKNOWN, Evaluation::fact)
    }

    fn wanted(&self) -> String {
        self.as_str().to_owned()
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        let Some(handle) = inputs.handle else { return values::handle(inputs) };
        let other = values::other_holder(inputs).filter(|_| self.known(inputs).is_none());
        if let Some(doubt) = other {
            return format!("`{handle}`, {doubt}");
        }
        match (self.known(inputs), self) {
            (None, _) => "not known: the list of contacts was not read lately, or may have changed since".to_owned(),
            (Some(true), Self::OfOwner) => format!("`{}` has a contact", handle.owner()),
            (Some(false), Self::OfOwner) => format!("nobody of `{}` is a contact", handle.owner()),
            (Some(true), Self::Sender) => format!("`{handle}` is a contact"),
            (Some(false), Self::Sender) => format!("`{handle}` is not a contact"),
        }
    }

    fn canonical(&self) -> String {
        format!("{self:?}")
    }

    fn needs<'a>(&'a self, needs: &mut Needs<'a>) {
        needs.contacts = true;
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        let follows = |one: &IsContact| *one == *self || *self == Self::OfOwner;
        narrow.downcast::<IsContact>().is_some_and(follows)
    }

    fn says_who(&self, _written: &RawCondition) -> SenderScope {
        SenderScope::Said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testkit::{noon, request, sound};
    use crate::policy::{Circumstances, PolicyState, Truth};

    #[test]
    fn the_owner_and_the_sender_are_two_questions_and_neither_is_guessed() {
        let (request, state) = (request("r", "acme/bot"), PolicyState::default());
        let truth = |of: IsContact, owner, sender| {
            let circumstances = Circumstances { owner_is_contact: owner, sender_is_contact: sender, ..sound() };
            of.evaluate(&Inputs::new(&request, &circumstances, &state, noon())).truth
        };
        assert_eq!(truth(IsContact::OfOwner, Some(true), Some(false)), Truth::True);
        assert_eq!(truth(IsContact::Sender, Some(true), Some(false)), Truth::False, "another agent of that owner is");
        assert_eq!(truth(IsContact::Sender, Some(true), None), Truth::Unknown);
        assert_eq!(truth(IsContact::OfOwner, None, None), Truth::Unknown, "the contacts were never read");
    }
}
