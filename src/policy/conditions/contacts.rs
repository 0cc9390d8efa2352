//! `contacts_over`: how many contacts the agent has. Unknown while the list of contacts was not read.

use super::{Compile, Condition, ConditionKind, ContactBasis, Needs, row};
use crate::document::keys::{DocumentKey, KeyType, key};
use crate::policy::compile::Compiling;
use crate::policy::evaluate::Evaluation;
use crate::policy::evaluate::inputs::Inputs;
use crate::policy::keys::COUNT_MAX;
use crate::policy::raw::RawCondition;

/// `contacts_over = N`.
#[derive(Debug)]
pub(crate) struct ContactsOver(pub u64);

impl Compile for ContactsOver {
    const KEY: DocumentKey =
        key("contacts_over", KeyType::Count(0, COUNT_MAX), "", "The agent has more contacts than this.");

    fn compile(written: &RawCondition, _compiling: &mut Compiling<'_>) -> Option<Self> {
        written.count().map(Self)
    }
}

impl ConditionKind for ContactsOver {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn of_contact(&self) -> ContactBasis {
        ContactBasis::OfTheMoment
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        inputs.circumstances.contacts.map_or(Evaluation::UNKNOWN, |contacts| Evaluation::fact(contacts > self.0))
    }

    fn wanted(&self) -> String {
        format!("more than {}", self.0)
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        inputs.circumstances.contacts.map_or_else(|| "not known".to_owned(), |count| count.to_string())
    }

    fn canonical(&self) -> String {
        format!("{self:?}")
    }

    fn needs<'a>(&'a self, needs: &mut Needs<'a>) {
        needs.contact_counts.push(self.0);
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow.downcast::<ContactsOver>().is_some_and(|one| one.0 >= self.0)
    }
}
