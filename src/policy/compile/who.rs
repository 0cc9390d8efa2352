//! Whether an approve rule says *who* it approves. What strangers say of themselves never does.

use std::ops::Range;

use super::contradictions::patterns;
use crate::document::shown;
use crate::policy::raw::{RawTable, RawValue};
use crate::policy::regexes::beginnings;
use crate::policy::rules::{Condition, PatternSet, Table};

/// What a rule comes nearest to saying who with, and why that is not enough.
pub(super) struct LeftOpen {
    pub(super) span: Range<usize>,
    pub(super) why: String,
}

/// Finds a condition that says who: every one of its values must, since any of them is enough to match.
pub(super) fn says_who(raw: &RawTable, table: &Table) -> Result<(), Option<LeftOpen>> {
    let mut nearest = None;
    for (written, condition) in raw.conditions.iter().zip(&table.conditions) {
        let open = match condition {
            Condition::Owner(_) => None,
            Condition::Handle(_) => {
                patterns(raw).into_iter().find(|(_, pattern)| pattern.owner().is_none()).map(|(text, _)| LeftOpen {
                    span: text.span.clone(),
                    why: format!("`{}` leaves open whose", shown(&text.value)),
                })
            }
            Condition::List(lists) => lists.iter().find_map(|list| {
                let entry = open_entry(&list.patterns)?;
                Some(LeftOpen {
                    span: written.span.clone(),
                    why: format!("`{entry}` in `{}` leaves open whose", list.name),
                })
            }),
            Condition::HandleRegex(_) => {
                let RawValue::Texts(texts) = &written.value else { continue };
                texts
                    .iter()
                    .find(|text| beginnings(&text.value).is_none())
                    .map(|text| LeftOpen { span: text.span.clone(), why: "it may begin with anything".to_owned() })
            }
            Condition::History(history) if history.approved_before == Some(true) => None,
            _ => continue,
        };
        match open {
            None => return Ok(()),
            Some(open) => nearest = nearest.or(Some(open)),
        }
    }
    Err(nearest)
}

fn open_entry(patterns: &PatternSet) -> Option<String> {
    let slug = patterns.slugs.iter().min().map(|slug| format!("*/{slug}"));
    let glob = || patterns.globs.iter().find(|glob| glob.literal_owner.is_none()).map(|glob| glob.text.to_string());
    slug.or_else(glob)
}
