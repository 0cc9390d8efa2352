//! What may have happened unseen, how it is shown to people, and how they settle it.

use std::sync::Arc;

use jiff::Timestamp;

use super::Core;
use super::notice::Notice;
use crate::agent::core::counters::Counter;
use crate::clock::Now;
use crate::ledger::Record;
use crate::model::{
    AgentId, Contact, ContactRequest, Person, PersonTarget, RequestId, RequestStatus, Sender, SenderId, SenderIds,
    StrangerText,
};
use crate::platform::Page;
use crate::policy::Policy;
use crate::policy::doubts::{Basis, Doubt, DoubtSettlement, Fact, SHOWN_MAX};
use crate::policy::history::HistoryNeeds;

use super::OpOutcome;

/// Something that may have happened unseen, as the rules in force ask about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDoubt {
    /// The agent that it concerns.
    pub agent: AgentId,
    /// The owner that it concerns; `None`: everybody.
    pub owner: Option<Arc<str>>,
    /// What is unknown.
    pub fact: Fact,
    /// Since when it is unknown.
    pub since: Timestamp,
    /// The reason for the doubt; `None`: there are more doubts than we keep.
    pub basis: Option<Basis>,
    /// When the doubt ends by itself, if it does.
    pub ends_at: Option<Timestamp>,
}

impl Core {
    /// A page shows these requests: they are pending.
    pub(super) fn shown(&mut self, page: &Page<ContactRequest>, now: Now) {
        page.items.iter().for_each(|request| self.sender_shown(request, now));
        page.items.iter().for_each(|request| self.remembered_listed(&request.id));
        page.unreadable.iter().for_each(|row| self.remembered_listed(&row.id));
        let doubts = self.policy_state.doubts_mut();
        if doubts.any_unlisted() {
            page.items.iter().for_each(|request| doubts.listed(&request.id));
            page.unreadable.iter().for_each(|row| doubts.listed(&row.id));
        }
    }

    /// A payload may show who has the sender's handle now.
    pub(super) fn sender_shown(&mut self, request: &ContactRequest, now: Now) {
        if let Some(ids) = &request.ids {
            self.holder_shown(&request.sender, ids, Basis::OtherSender(request.id.clone()), now);
        }
    }

    /// The same of a contact.
    pub(super) fn contact_shown(&mut self, contact: &Contact, now: Now) {
        if let Some(ids) = &contact.ids {
            self.holder_shown(&contact.sender, ids, Basis::OtherContact(contact.id.clone()), now);
        }
    }

    fn holder_shown(&mut self, sender: &Sender, ids: &SenderIds, basis: Basis, now: Now) {
        let Some(handle) = sender.handle() else { return };
        // Our own id, or the id of our owner, only shows whose list it is.
        let ours = |id: &SenderId| {
            id.as_str().eq_ignore_ascii_case(self.config.agent.as_str()) || self.own_owner.as_ref() == Some(id)
        };
        let theirs = |id: &Option<SenderId>| id.clone().filter(|id| !ours(id));
        let ids = SenderIds { sender: theirs(&ids.sender), owner: theirs(&ids.owner) };
        let owner: Arc<str> = handle.owner().into();
        let new = self.policy_state.doubts_mut().identity_seen(handle, &ids, basis.clone(), now.wall);
        // A payload may tell of the sender and of the owner: that is one doubt.
        if new.iter().any(|identity| identity.doubted) {
            self.count(Counter::NamesInDoubt);
            self.tell(Notice::OtherHolder { owner: StrangerText::new(&owner), basis: basis.clone() });
        }
        for identity in new {
            let (agent, owner, basis) = (self.config.agent.clone(), owner.clone(), basis.clone());
            self.record(Record::Identity { agent, owner, identity, basis, at: now.wall });
        }
    }

    /// A person let somebody of this owner in: nothing about that owner is in doubt any more.
    pub(super) fn vouched(&mut self, owner: &str, now: Now) {
        if self.policy_state.doubts().other_holder(owner) {
            let (agent, owner) = (self.config.agent.clone(), owner.into());
            self.record(Record::Vouched { agent, owner, at: now.wall });
        }
        self.policy_state.doubts_mut().settled(owner, None, now.wall);
    }

    /// A reading should have shown these requests, and did not: they may have ended.
    pub(super) fn not_shown(&mut self, missing: &[RequestId]) {
        for id in missing {
            let Some(handle) = self.inbox.entry(id).and_then(|entry| entry.request().sender.handle()) else { continue };
            self.policy_state.doubts_mut().unlisted(handle.owner(), id, self.last_listing.unwrap_or(self.wall));
        }
    }

    /// The channel was joined: each pending request may have ended while the channel was not joined.
    pub(super) fn requests_unwatched(&mut self, since: Timestamp) {
        for entry in self.inbox.entries() {
            if let Some(handle) = entry.request().sender.handle() {
                self.policy_state.doubts_mut().unlisted(handle.owner(), entry.id(), since);
            }
        }
    }

    /// A request ended, and it is not known how.
    pub(super) fn ended_unseen(&mut self, request: &ContactRequest, first_seen: Timestamp, basis: Basis) {
        let Some(handle) = request.sender.handle() else { return };
        let since = request.inserted_at.unwrap_or(first_seen);
        self.policy_state.doubts_mut().ended_unseen(handle, basis, since, self.wall);
    }

    /// The platform reports how a request ended, after this was in doubt.
    pub(super) fn end_shown(&mut self, id: &RequestId, status: &RequestStatus, now: Now) {
        let presumed = self.policy_state.presumed_ended(id, *status == RequestStatus::Approved, now.wall);
        let owner = self.policy_state.doubts().owner_by_request(id);
        if let Some(owner) = &owner {
            let rejected = *status == RequestStatus::Rejected;
            self.policy_state.settled_by_word(owner, Some(id), Fact::Rejected, rejected, now.wall);
        }
        if owner.is_none() && !presumed {
            return;
        }
        let (agent, request, status) = (self.config.agent.clone(), id.clone(), Some(status.clone()));
        self.record(Record::Settled { agent, request, status, at: now.wall });
    }

    /// Reports once, when all requests of the first listing are decided, how many requests wait because of a doubt.
    pub(super) fn tell_doubts(&mut self) {
        if self.doubts_reported
            || self.last_listing.is_none()
            || self.policy.is_none()
            || self.inbox.next_ready().is_some()
        {
            return;
        }
        self.doubts_reported = true;
        let waits = |entry: &&crate::inbox::Entry| entry.decision().is_some_and(|decision| !decision.doubts.is_empty());
        let (requests, doubts) = (self.inbox.entries().filter(waits).count(), self.doubts().len());
        if doubts > 0 {
            self.tell(Notice::InDoubt { requests, doubts });
        }
    }

    fn history_needs(&self) -> HistoryNeeds {
        self.policy.as_deref().map(Policy::history_needs).unwrap_or_default()
    }

    /// All doubts that the rules in force ask about, by owner.
    pub fn doubts(&self) -> Vec<OpenDoubt> {
        let needs = self.history_needs();
        let known = self.policy_state.doubts();
        let now = self.wall;
        let everybody = known.everybody().filter_map(|(fact, until)| self.too_many(fact, until, &needs));
        let each = known.list(&needs, now);
        everybody.chain(each.iter().map(|doubt| self.doubt_row(doubt, &needs))).take(SHOWN_MAX).collect()
    }

    fn too_many(&self, fact: Fact, until: Timestamp, needs: &HistoryNeeds) -> Option<OpenDoubt> {
        let reach = match fact {
            Fact::Removed => needs.removed_reach()?,
            Fact::Rejected => needs.rejected_reach()?,
            // No such doubt is let go: there are as many as names in doubt.
            Fact::Identity => return None,
            // It looks back for ever.
            Fact::Approved => needs.approved.then_some(jiff::SignedDuration::MAX)?,
        };
        let ends_at = until.checked_add(reach).ok();
        let agent = self.config.agent.clone();
        let running = fact == Fact::Approved || ends_at.is_some_and(|end| end > self.wall);
        running.then_some(OpenDoubt { agent, owner: None, fact, since: until, basis: None, ends_at })
    }

    fn doubt_row(&self, doubt: &Doubt, needs: &HistoryNeeds) -> OpenDoubt {
        OpenDoubt {
            agent: self.config.agent.clone(),
            owner: Some(doubt.owner.clone()),
            fact: doubt.fact,
            since: doubt.since,
            basis: Some(doubt.basis.clone()),
            ends_at: doubt.ends(needs),
        }
    }

    /// A person settles a doubt: about an owner, by a handle, or about a request, by its id.
    pub(super) fn settle(
        &mut self,
        target: &PersonTarget,
        said: DoubtSettlement,
        person: &Person,
        now: Now,
    ) -> OpOutcome {
        let fact = said.fact();
        let needs = HistoryNeeds {
            removed: Some(jiff::SignedDuration::MAX),
            rejected: Some(jiff::SignedDuration::MAX),
            approved: true,
            ..self.history_needs()
        };
        let all = self.policy_state.doubts().list(&needs, now.wall);
        let theirs = |doubt: &Doubt| match fact {
            Fact::Rejected => target.id().is_some_and(|id| doubt.basis.request() == Some(&id)),
            Fact::Removed | Fact::Identity | Fact::Approved => {
                target.handle().is_some_and(|handle| *doubt.owner == *handle.owner())
            }
        };
        // What a person says of a request also says whether it was approved.
        let of = |doubt: &Doubt| doubt.fact == fact || (fact == Fact::Rejected && doubt.fact == Fact::Approved);
        let meant: Vec<Doubt> = all.into_iter().filter(|doubt| of(doubt) && theirs(doubt)).collect();
        if meant.iter().any(|doubt| matches!(doubt.basis, Basis::Unlisted(_))) {
            return OpOutcome::busy("the pending requests were not read since: ask again when they were");
        }
        let Some(first) = meant.first() else {
            return OpOutcome::error("gone", "no such doubt: `doorman doubts` lists what may have happened unseen");
        };
        let request: Option<RequestId> = first.basis.request().filter(|_| fact == Fact::Rejected).cloned();
        if let Some(request) = &request {
            self.policy_state.presumed_ended(request, said == DoubtSettlement::Approved, now.wall);
        }
        self.policy_state.settled_by_word(&first.owner.clone(), request.as_ref(), fact, said.happened(), now.wall);
        self.record(Record::Settlement {
            agent: self.config.agent.clone(),
            owner: first.owner.clone(),
            request,
            said,
            person: person.clone(),
            at: now.wall,
        });
        self.restore_again();
        self.count(Counter::DoubtsSettled);
        let needs = self.history_needs();
        OpOutcome::Settled(meant.iter().map(|doubt| self.doubt_row(doubt, &needs)).collect())
    }
}
