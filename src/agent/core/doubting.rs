//! What may have happened unseen, as people see it, and what they say of it.

use std::sync::Arc;

use jiff::Timestamp;

use super::Core;
use crate::clock::Now;
use crate::ledger::Record;
use crate::model::{RequestId, Target};
use crate::ops::control::wire::DoubtRow;
use crate::policy::Policy;
use crate::policy::doubts::{Doubt, Fact, Said};
use crate::policy::history::HistoryNeeds;

use super::OpOutcome;

/// Most doubts that are shown at once.
const SHOWN_MAX: usize = 1_000;

impl Core {
    fn history_needs(&self) -> HistoryNeeds {
        self.policy.as_deref().map(Policy::history_needs).unwrap_or_default()
    }

    /// All doubts that the rules in force ask about, by owner.
    pub fn doubts(&self) -> Vec<DoubtRow> {
        let needs = self.history_needs();
        let known = self.policy_state.doubts();
        let now = self.wall;
        let everybody = known.everybody().filter_map(|(fact, until)| self.too_many(fact, until, &needs));
        let each = known.list(&needs, now);
        everybody.chain(each.iter().map(|doubt| self.doubt_row(doubt, &needs))).take(SHOWN_MAX).collect()
    }

    fn too_many(&self, fact: Fact, until: Timestamp, needs: &HistoryNeeds) -> Option<DoubtRow> {
        let reach = match fact {
            Fact::Removed => needs.removed?,
            Fact::Rejected => needs.rejected?,
            Fact::Identity => return None,
        };
        let ends_at = until.checked_add(reach).ok();
        let agent = self.config.agent.clone();
        ends_at.filter(|end| *end > self.wall).map(|_| DoubtRow {
            agent,
            owner: "*".to_owned(),
            fact: fact.as_str().to_owned(),
            since: until,
            basis: "too-many".to_owned(),
            subject: String::new(),
            rests_on: "more doubts than are kept".to_owned(),
            ends_at,
        })
    }

    fn doubt_row(&self, doubt: &Doubt, needs: &HistoryNeeds) -> DoubtRow {
        DoubtRow {
            agent: self.config.agent.clone(),
            owner: doubt.owner.to_string(),
            fact: doubt.fact.as_str().to_owned(),
            since: doubt.since,
            basis: doubt.basis.as_str().to_owned(),
            subject: doubt.basis.subject().to_owned(),
            rests_on: doubt.basis.to_string(),
            ends_at: doubt.ends(needs),
        }
    }

    /// A person says what a doubt comes to: of an owner, by a handle, or of a request, by its id.
    pub(super) fn settle(&mut self, target: &Target, said: Said, person: &Arc<str>, now: Now) -> OpOutcome {
        let fact = said.fact();
        let needs = HistoryNeeds {
            removed: Some(jiff::SignedDuration::MAX),
            rejected: Some(jiff::SignedDuration::MAX),
            ..self.history_needs()
        };
        let all = self.policy_state.doubts().list(&needs, now.wall);
        let theirs = |doubt: &Doubt| match fact {
            Fact::Rejected => target.id().is_some_and(|id| doubt.basis.request() == Some(&id)),
            Fact::Removed | Fact::Identity => target.handle().is_some_and(|handle| *doubt.owner == *handle.owner()),
        };
        let meant: Vec<Doubt> = all.into_iter().filter(|doubt| doubt.fact == fact && theirs(doubt)).collect();
        let Some(first) = meant.first() else {
            return OpOutcome::error("gone", "no such doubt: `doorman doubts` lists what may have happened unseen");
        };
        let request: Option<RequestId> = first.basis.request().filter(|_| fact == Fact::Rejected).cloned();
        self.policy_state.settled_by_word(&first.owner.clone(), request.as_ref(), fact, said.happened(), now.wall);
        self.record(Record::Settlement {
            agent: self.config.agent.clone(),
            owner: first.owner.clone(),
            request,
            said,
            person: person.clone(),
            at: now.wall,
        });
        self.count("settlements");
        let needs = self.history_needs();
        OpOutcome::Settled(meant.iter().map(|doubt| self.doubt_row(doubt, &needs)).collect())
    }
}
