//! `owner`, `slug`, `kind`: parts of the handle, and its shape.

use std::sync::Arc;

use super::compared::{SenderGroup, sorted};
use super::handle::{HandleIn, by_handle, by_name};
use super::{Compile, Condition, ConditionKind, ContactBasis, SenderScope, Written, never_together, row};
use crate::document::Problems;
use crate::document::keys::{DocumentKey, KeyType, key};
use crate::model::Handle;
use crate::policy::compile::Compiling;
use crate::policy::evaluate::Evaluation;
use crate::policy::evaluate::inputs::Inputs;
use crate::policy::explain::values;
use crate::policy::index::{Anchor, IndexBuilder};
use crate::policy::raw::RawCondition;

/// `owner = […]`: literals, lower case.
#[derive(Debug)]
pub struct OwnerIs(pub Vec<Arc<str>>);

/// `slug = […]`: literals, lower case.
#[derive(Debug)]
pub struct SlugIs(pub Vec<Arc<str>>);

/// `kind = "user"` or `"agent"`.
#[derive(Debug)]
pub(crate) struct KindCondition(pub SenderKind);

/// User or agent, by the shape of the handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SenderKind {
    /// `owner`.
    User,
    /// `owner/slug`.
    Agent,
}

impl SenderKind {
    const WORDS: &'static [&'static str] = &["user", "agent"];

    fn parse(word: &str) -> Option<Self> {
        match word {
            "user" => Some(Self::User),
            "agent" => Some(Self::Agent),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
        }
    }
}

impl Compile for OwnerIs {
    const KEY: DocumentKey = key("owner", KeyType::Texts, "", "The user, and all their agents.");

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        compiling.parts("owner", written.texts()?).map(Self)
    }
}

impl ConditionKind for OwnerIs {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn of_contact(&self) -> ContactBasis {
        ContactBasis::ByHandle
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        by_name(inputs, |handle| self.0.iter().any(|owner| **owner == *handle.owner()))
    }

    fn wanted(&self) -> String {
        values::some(self.0.iter().map(|text| text.to_string()))
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        let owner = |handle: &Handle| match values::other_holder(inputs) {
            Some(doubt) => format!("{}, {doubt}", handle.owner()),
            None => handle.owner().to_owned(),
        };
        inputs.handle.map_or_else(|| values::handle(inputs), owner)
    }

    fn canonical(&self) -> String {
        sorted("owner", self.0.iter().map(|text| &**text))
    }

    fn anchor(&self) -> Option<Anchor> {
        Some(Anchor::Hashed)
    }

    fn add_to<'a>(&'a self, index: &mut IndexBuilder<'a>) {
        index.owners(self.0.iter().map(|owner| &**owner));
    }

    fn names(&self, handle: &Handle) -> bool {
        self.0.iter().any(|owner| **owner == *handle.owner())
    }

    fn groups(&self) -> Option<Box<dyn Iterator<Item = SenderGroup<'_>> + '_>> {
        Some(Box::new(self.0.iter().map(|owner| SenderGroup::Owner(owner))))
    }

    fn holds_for_all(&self, group: SenderGroup<'_>) -> bool {
        group.owner().is_some_and(|owner| self.0.iter().any(|one| **one == *owner))
    }

    fn says_who(&self, _written: &RawCondition) -> SenderScope {
        SenderScope::Said
    }

    fn contradictions(&self, _written: &RawCondition, table: &Written<'_>, problems: &mut Problems) {
        let Some((handle, patterns)) = table.get::<HandleIn>() else { return };
        let apart = patterns
            .written(handle)
            .all(|one| one.owner().is_some_and(|owner| !self.0.iter().any(|known| **known == *owner)));
        if apart {
            never_together(handle, "none of these is the `owner`'s", "this `owner` and this `handle`", problems);
        }
    }
}

impl Compile for SlugIs {
    const KEY: DocumentKey = key("slug", KeyType::Texts, "", "The name of an agent, of any owner.");

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        compiling.parts("slug", written.texts()?).map(Self)
    }
}

impl ConditionKind for SlugIs {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn of_contact(&self) -> ContactBasis {
        ContactBasis::ByHandle
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        by_handle(inputs, |handle| handle.slug().is_some_and(|slug| self.0.iter().any(|one| **one == *slug)))
    }

    fn wanted(&self) -> String {
        values::some(self.0.iter().map(|text| text.to_string()))
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        let slug = |handle: &Handle| handle.slug().unwrap_or("none: a user").to_owned();
        inputs.handle.map_or_else(|| values::handle(inputs), slug)
    }

    fn canonical(&self) -> String {
        sorted("slug", self.0.iter().map(|text| &**text))
    }

    fn anchor(&self) -> Option<Anchor> {
        Some(Anchor::Hashed)
    }

    fn add_to<'a>(&'a self, index: &mut IndexBuilder<'a>) {
        index.slugs(self.0.iter().map(|slug| &**slug));
    }

    fn groups(&self) -> Option<Box<dyn Iterator<Item = SenderGroup<'_>> + '_>> {
        Some(Box::new(self.0.iter().map(|slug| SenderGroup::Slug(slug))))
    }

    fn holds_for_all(&self, group: SenderGroup<'_>) -> bool {
        let slug = match group {
            SenderGroup::Handle(handle) => handle.slug(),
            SenderGroup::Slug(slug) => Some(slug),
            SenderGroup::AgentsOf(_) | SenderGroup::Owner(_) | SenderGroup::Glob(_) => None,
        };
        slug.is_some_and(|slug| self.0.iter().any(|one| **one == *slug))
    }

    fn contradictions(&self, written: &RawCondition, table: &Written<'_>, problems: &mut Problems) {
        let user = table.get::<KindCondition>().is_some_and(|(_, kind)| kind.0 == SenderKind::User);
        if user {
            never_together(written, "a user has no slug", "`kind = \"user\"` and `slug`", problems);
        }
        if let Some((handle, patterns)) = table.get::<HandleIn>()
            && !user
            && table.get::<KindCondition>().is_none()
            && patterns.only_of_agents(handle) == Some(false)
        {
            never_together(handle, "only users have such handles", "`slug` and this `handle`", problems);
        }
    }
}

impl Compile for KindCondition {
    const KEY: DocumentKey = key(
        "kind",
        KeyType::Word(SenderKind::WORDS),
        "",
        "A user (`owner`) or an agent (`owner/slug`), by the shape of the handle.",
    );

    fn compile(written: &RawCondition, _compiling: &mut Compiling<'_>) -> Option<Self> {
        SenderKind::parse(written.word()?).map(Self)
    }
}

impl ConditionKind for KindCondition {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn of_contact(&self) -> ContactBasis {
        ContactBasis::ByHandle
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        by_handle(inputs, |handle| handle.slug().is_some() == (self.0 == SenderKind::Agent))
    }

    fn wanted(&self) -> String {
        self.0.as_str().to_owned()
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        let kind = |handle: &Handle| if handle.slug().is_some() { "agent" } else { "user" }.to_owned();
        inputs.handle.map_or_else(|| values::handle(inputs), kind)
    }

    fn canonical(&self) -> String {
        format!("{self:?}")
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow.downcast::<KindCondition>().is_some_and(|one| one.0 == self.0)
    }

    fn holds_for_all(&self, group: SenderGroup<'_>) -> bool {
        group.only_agents().is_some_and(|agents| (self.0 == SenderKind::Agent) == agents)
    }

    fn contradictions(&self, _written: &RawCondition, table: &Written<'_>, problems: &mut Problems) {
        let Some((handle, patterns)) = table.get::<HandleIn>() else { return };
        match (self.0, patterns.only_of_agents(handle)) {
            (SenderKind::User, Some(true)) => {
                never_together(handle, "only agents have such handles", "`kind = \"user\"` and this `handle`", problems)
            }
            (SenderKind::Agent, Some(false)) => {
                never_together(handle, "only users have such handles", "`kind = \"agent\"` and this `handle`", problems)
            }
            _ => {}
        }
    }
}
