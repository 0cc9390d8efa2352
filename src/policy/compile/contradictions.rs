//! Conditions that can never hold together: a table that says so is a mistake, and a rule with it would never match.

use super::Compiling;
use crate::document::{At, shown};
use crate::policy::patterns::HandlePattern;
use crate::policy::raw::{RawCondition, RawTable, RawValue};
use crate::policy::regexes::beginnings;
use crate::policy::rules::{Condition, SenderKind, Table};

impl Compiling<'_> {
    /// Tells each contradiction of a table that is sound otherwise.
    pub(super) fn contradictions(&mut self, raw: &RawTable, table: &Table) {
        self.kinds(raw, table);
        self.owners(raw, table);
        self.messages(raw);
        self.never_handles(raw);
    }

    fn kinds(&mut self, raw: &RawTable, table: &Table) {
        let kind = table.conditions.iter().find_map(|condition| match condition {
            Condition::Kind(kind) => Some(*kind),
            _ => None,
        });
        let slug = raw.conditions.iter().find(|condition| condition.key == "slug");
        let handles = patterns(raw);
        if kind == Some(SenderKind::User)
            && let Some(slug) = slug
        {
            self.never(slug, "a user has no slug", "`kind = \"user\"` and `slug`");
        }
        let of_agents =
            |agents: bool| !handles.is_empty() && handles.iter().all(|(_, one)| one.is_of_agents() == agents);
        let Some(handle) = raw.conditions.iter().find(|condition| condition.key == "handle") else { return };
        if kind == Some(SenderKind::User) && of_agents(true) {
            self.never(handle, "only agents have such handles", "`kind = \"user\"` and this `handle`");
        } else if kind == Some(SenderKind::Agent) && of_agents(false) {
            self.never(handle, "only users have such handles", "`kind = \"agent\"` and this `handle`");
        } else if slug.is_some() && of_agents(false) {
            self.never(handle, "only users have such handles", "`slug` and this `handle`");
        }
    }

    fn owners(&mut self, raw: &RawTable, table: &Table) {
        let owners = table.conditions.iter().find_map(|condition| match condition {
            Condition::Owner(owners) => Some(owners),
            _ => None,
        });
        let handles = patterns(raw);
        let (Some(owners), false) = (owners, handles.is_empty()) else { return };
        let apart = handles
            .iter()
            .all(|(_, one)| one.owner().is_some_and(|owner| !owners.iter().any(|known| **known == *owner)));
        if let (true, Some(handle)) = (apart, raw.conditions.iter().find(|condition| condition.key == "handle")) {
            self.never(handle, "none of these is the `owner`'s", "this `owner` and this `handle`");
        }
    }

    fn messages(&mut self, raw: &RawTable) {
        let absent =
            raw.conditions.iter().any(|one| one.key == "message_absent" && matches!(one.value, RawValue::Bool(true)));
        let speaking = ["message_contains", "message_regex", "message_longer_than"];
        if let (true, Some(other)) = (absent, raw.conditions.iter().find(|one| speaking.contains(&one.key))) {
            self.never(
                other,
                "there is no message to look at",
                &format!("`message_absent = true` and `{}`", other.key),
            );
        }
    }

    /// Patterns for handles that no handle can fit, since handles are compared in lower case and without `@`.
    fn never_handles(&mut self, raw: &RawTable) {
        let texts = raw.conditions.iter().filter(|one| one.key == "handle_regex").filter_map(texts_of).flatten();
        for text in texts {
            let odd = |one: &std::sync::Arc<str>| {
                one.chars().find(|odd| !(odd.is_ascii_lowercase() || odd.is_ascii_digit() || "._-/".contains(*odd)))
            };
            let Some(odd) = beginnings(&text.value).and_then(|all| all.iter().find_map(odd)) else { continue };
            let diagnostic = self.problems.error(&text.span, format!("`{}` fits no handle", shown(&text.value)));
            diagnostic.label(format!("no handle has `{}` here", shown(&odd.to_string())));
            diagnostic.help("handles are compared in lower case, without the `@`");
        }
    }

    fn never(&mut self, condition: &RawCondition, label: &str, both: &str) {
        self.problems
            .error(&condition.span, format!("{both} never hold together"))
            .label(label)
            .help("keys in one table must all hold; write two rules where either is enough");
    }
}

fn texts_of(condition: &RawCondition) -> Option<&Vec<At<String>>> {
    match &condition.value {
        RawValue::Texts(texts) => Some(texts),
        _ => None,
    }
}

/// The patterns of `handle`, all of which are sound.
pub(super) fn patterns(raw: &RawTable) -> Vec<(&At<String>, HandlePattern)> {
    let texts = raw.conditions.iter().filter(|one| one.key == "handle").filter_map(texts_of).flatten();
    texts.filter_map(|text| HandlePattern::parse(&text.value).ok().map(|pattern| (text, pattern))).collect()
}
