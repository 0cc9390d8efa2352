//! Conditions: the keys of a `when` or `unless` table. **One place for each.** A condition is a struct in a file of
//! this folder. The file says its key, how it is compiled, evaluated, explained and compared, what it costs and which
//! facts it needs (`ConditionKind`). The condition also has one line in the list at the end of this file. All other
//! code works from that.
//!
//! The order of that list is the order of the keys on the reference page.

mod agents;
pub(crate) mod compared;
mod contact;
mod contacts;
mod handle;
mod handle_parts;
mod history;
mod message;
mod name;
mod needs;
mod time;

use std::any::Any;
use std::fmt;
use std::ops::Range;

pub use agents::ReceivingAgent;
pub(crate) use agents::ReceivingAgents;
pub(crate) use contact::IsContact;
pub(crate) use contacts::ContactsOver;
pub use handle::{HandleIn, HandleRegex, InList};
pub(crate) use handle_parts::KindCondition;
#[cfg(test)]
pub(crate) use handle_parts::SenderKind;
pub use handle_parts::{OwnerIs, SlugIs};
pub(crate) use history::{HISTORY, HistoryCondition, OverQuota};
pub(crate) use message::{MessageAbsent, MessageContainsFile, MessageLongerThan};
pub use message::{MessageContains, MessageRegex};
pub(crate) use name::NameContains;
pub use name::{NameIs, NameRegex};
pub(crate) use needs::Needs;
pub(crate) use time::{AgeOver, InWindow};

use super::compile::Compiling;
use super::evaluate::Evaluation;
use super::evaluate::inputs::Inputs;
use super::index::{Anchor, IndexBuilder};
use super::raw::RawCondition;
use crate::document::keys::DocumentKey;
use crate::document::{Problems, shown};
use crate::model::Handle;
use compared::SenderGroup;

/// One key of a `when` table with its values, compiled. The values of one key are ORed.
pub struct Condition(pub(super) Box<dyn ConditionKind>);

/// What a condition says about itself. Only the first five have no default: a new condition answers those, and the others
/// if the default (does nothing, promises nothing) is not true of it.
pub(crate) trait ConditionKind: Any + fmt::Debug + Send + Sync {
    /// Its row of the key table.
    fn key(&self) -> &'static DocumentKey;

    /// True, false or unknown, and when time alone changes that.
    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation;

    /// The values in the rules file, for `explain`.
    fn wanted(&self) -> String;

    /// The values of the request, for `explain`. Strangers' text is escaped.
    fn saw(&self, inputs: &Inputs<'_>) -> String;

    /// A text that is the same for conditions with the same meaning.
    fn canonical(&self) -> String;

    /// The lines of `explain`: one, except if a key has keys of its own.
    fn explain(&self, inputs: &Inputs<'_>) -> Vec<Explained> {
        let evaluation = self.evaluate(inputs);
        vec![Explained { key: self.key().name, wanted: self.wanted(), saw: self.saw(inputs), evaluation }]
    }

    /// How the index may find rules by it. Only conditions that are never unknown for a plain handle can be anchors.
    fn anchor(&self) -> Option<Anchor> {
        None
    }

    /// Adds the condition to the index; only called if [`ConditionKind::anchor`] returns an anchor.
    fn add_to<'a>(&'a self, _index: &mut IndexBuilder<'a>) {}

    /// Whether it can judge a contact, of whom only the handle counts (`doorman audit`).
    fn of_contact(&self) -> ContactBasis {
        ContactBasis::Unknown
    }

    /// Which remembered or listed facts it needs.
    fn needs<'a>(&'a self, _needs: &mut Needs<'a>) {}

    /// Whether it names this very handle, as a literal.
    fn names(&self, _handle: &Handle) -> bool {
        false
    }

    /// The senders that it names, for comparing conditions; `None` if it names none.
    fn groups(&self) -> Option<Box<dyn Iterator<Item = SenderGroup<'_>> + '_>> {
        None
    }

    /// Whether it holds for every sender of a group.
    fn holds_for_all(&self, _group: SenderGroup<'_>) -> bool {
        false
    }

    /// Whether it holds wherever the other condition does, by their own contents (not by the senders that they name).
    /// It may miss this, but never claims it wrongly.
    fn follows_from(&self, _narrow: &Condition, _budget: &mut u32) -> bool {
        false
    }

    /// Whether it says *who* an approve rule lets in: every one of its values must, since any of them is enough.
    fn says_who(&self, _written: &RawCondition) -> SenderScope {
        SenderScope::Silent
    }

    /// Reports what can never hold together with another condition of the same table.
    fn contradictions(&self, _written: &RawCondition, _table: &Written<'_>, _problems: &mut Problems) {}
}

/// How a condition judges somebody who is already a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContactBasis {
    /// By the handle alone.
    ByHandle,
    /// It is about the moment at which a request comes, which never counts against a contact.
    OfTheMoment,
    /// It needs a text, or something else that is not known of a contact.
    Unknown,
}

/// The type of a condition, and how it is made from the text of the file.
pub(crate) trait Compile: ConditionKind + Sized {
    /// Its row of the key table.
    const KEY: DocumentKey;

    /// Compiles it. `None` if something is wrong, which has been reported.
    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self>;
}

/// One line of `explain`.
pub(crate) struct Explained {
    pub(crate) key: &'static str,
    pub(crate) wanted: String,
    pub(crate) saw: String,
    pub(crate) evaluation: Evaluation,
}

/// Whether a condition says whom an approve rule lets in.
pub(crate) enum SenderScope {
    /// It says who is let in.
    Said,
    /// It is about something else.
    Silent,
    /// It almost says who is let in; the reason why that is not enough.
    Open(OpenScope),
}

/// A value that leaves open who is let in, and why.
pub(crate) struct OpenScope {
    pub(crate) span: Range<usize>,
    pub(crate) why: String,
}

/// A table as written and as compiled, condition by condition.
pub(crate) struct Written<'a> {
    pub(crate) raw: &'a [RawCondition],
    pub(crate) compiled: &'a [Condition],
}

impl<'a> Written<'a> {
    /// The condition of this type in the table, if there is one.
    pub(crate) fn get<T: ConditionKind>(&self) -> Option<(&'a RawCondition, &'a T)> {
        self.raw.iter().zip(self.compiled).find_map(|(raw, one)| one.downcast().map(|one| (raw, one)))
    }
}

/// Reports two conditions of one table that never hold together.
pub(crate) fn never_together(at: &RawCondition, label: &str, both: &str, problems: &mut Problems) {
    problems
        .error(&at.span, format!("{both} never hold together"))
        .label(label)
        .help("keys in one table must all hold; write two rules if either is enough");
}

impl Condition {
    /// Compiles a condition by its key; `None` if something is wrong, which has been reported.
    pub(crate) fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Condition> {
        let before = compiling.problems.errors();
        let compile = REGISTRY.iter().find(|(key, _)| *key == written.key).map(|(_, compile)| compile);
        let condition = compile.and_then(|compile| compile(written, compiling));
        let reported = compiling.problems.errors() > before;
        match condition {
            _ if reported => None,
            // A condition of another key would decide by something that the file does not contain.
            Some(condition) if condition.0.key().name == written.key => Some(condition),
            // A broken list or window has been reported at its own place.
            None if compiling.problems.errors() > 0 => None,
            _ => {
                compiling
                    .problems
                    .error(&written.span, format!("`{}` could not be compiled", shown(written.key)))
                    .label("a fault of doorman")
                    .help("please report this file");
                None
            }
        }
    }

    /// The condition as this type, if it is one.
    pub(crate) fn downcast<T: ConditionKind>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.0;
        any.downcast_ref()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

type CompileFn = fn(&RawCondition, &mut Compiling<'_>) -> Option<Condition>;

/// Registers the conditions: the rows of the key table, and who compiles which.
macro_rules! conditions {
    ($($kind:ty),* $(,)?) => {
        /// The rows of the key table, in the order of the reference page.
        pub(crate) static KEYS: &[DocumentKey] = &[$(<$kind as Compile>::KEY),*];

        static REGISTRY: &[(&str, CompileFn)] = &[$((
            <$kind as Compile>::KEY.name,
            |written, compiling| Some(<$kind as Compile>::compile(written, compiling)?.into()),
        )),*];

        $(impl From<$kind> for Condition {
            fn from(kind: $kind) -> Condition {
                Condition(Box::new(kind))
            }
        })*
    };
}

/// The row of the key table of a condition's type.
pub(crate) fn row(name: &str) -> &'static DocumentKey {
    // Every registered type has a row. For any other type the first row is returned, and compiling refuses it.
    KEYS.iter().find(|key| key.name == name).unwrap_or(&KEYS[0])
}

conditions![
    HandleIn,
    OwnerIs,
    SlugIs,
    KindCondition,
    HandleRegex,
    InList,
    NameIs,
    NameContains,
    NameRegex,
    MessageContains,
    MessageContainsFile,
    MessageRegex,
    MessageAbsent,
    MessageLongerThan,
    InWindow,
    AgeOver,
    IsContact,
    ContactsOver,
    HistoryCondition,
    ReceivingAgents,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_registered_once() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names, REGISTRY.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }
}
