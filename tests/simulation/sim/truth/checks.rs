//! What must hold by what is true: whom a rule may answer, and what may go on record.

use super::*;

impl SimWorld {
    /// A person's answer is meant for the sender that the request had.
    pub fn check_order(&self, id: &RequestId, answer: Answer, at: Timestamp) {
        let (Some(orders), versions) = (self.truth.orders.get(id.as_str()), self.senders(id.as_str(), at)) else {
            return;
        };
        let known = &self.platform.sent_requests[id.as_str()].versions;
        let fits = |&(verdict, first, last): &(Verdict, usize, usize)| {
            let meant = &known[first..=last];
            let open = meant.iter().any(|one| one.handle.is_none()) || versions.iter().any(|one| one.handle.is_none());
            verdict == answer.verdict()
                && (open || versions.iter().any(|now| meant.iter().any(|one| one.handle == now.handle)))
        };
        if !orders.iter().any(fits) && !self.unnamed_on_record(id) {
            self.fail(&format!("{answer} to {id} by a person who meant another sender"));
        }
    }

    /// An answer by a rule is recorded: `policy` gave it, or it is a repetition.
    pub fn check_subject(&mut self, id: &RequestId, answer: Answer, policy: Option<usize>, at: Timestamp) {
        let versions = self.senders(id.as_str(), at);
        let handle = (versions.len() == 1).then(|| versions[0].handle.clone()).flatten();
        if policy.is_none()
            && let (Some(before), Some(now)) =
                (self.truth.answered.get(id).and_then(|one| one.handle.as_ref()), &handle)
            && before != now
            && !self.unnamed_on_record(id)
        {
            self.fail(&format!("{answer} to {id} once more, which was for {before} and would be for {now}"));
        }
        let policy = policy.or_else(|| self.truth.answered.get(id)?.policy);
        self.truth.answered.insert(id.clone(), Answered { handle, policy });
    }

    /// An answer by a rule is sent: according to what was shown, it must reach a sender whom the rule meant.
    pub fn check_leaves(&self, id: &RequestId, answer: Answer) {
        let versions = self.senders(id.as_str(), self.now().wall);
        let open = versions.iter().any(|version| version.handle.is_none());
        let Some(policy) = self.truth.answered.get(id).and_then(|one| one.policy).filter(|_| !open) else { return };
        if !versions.is_empty() && !versions.iter().any(|version| self.may_say(policy, version.kind, answer)) {
            self.fail(&format!("{answer} to {id} leaves, and it has another sender by now"));
        }
    }

    /// A request is recorded as gone: that must be true, unless a stale page said so.
    pub fn check_gone(&self, id: &RequestId) {
        let Some(sent) = self.platform.sent_requests.get(id.as_str()) else { return };
        if sent.status == "pending" && !sent.returned && self.platform.stale_at == Duration::ZERO {
            self.fail(&format!("{id} goes on record as gone, and every page lists it"));
        }
    }

    /// A contact is recorded as removed: that must be true, now or at some earlier time.
    pub fn check_removed(&self, contact: &ContactId) {
        let there = self.platform.contacts.iter().any(|fellow| fellow.id == contact.as_str());
        if there && !self.truth.went.contains(contact.as_str()) {
            self.fail(&format!("{contact} goes on record as removed, and it is there"));
        }
    }

    /// A rule approves somebody: nothing that is true and that the daemon could know forbids it.
    pub fn check_truth(&self, policy: usize, id: &RequestId, kind: usize, at: Timestamp) {
        let Some(owner) = self.platform.sent_requests[id.as_str()].handle.as_deref().map(owner_of) else { return };
        if self.jumped || self.unsure(&owner) {
            return;
        }
        let now = self.since_origin(at);
        let lately = |change: &&Change, within: Option<jiff::SignedDuration>| {
            let within = within.and_then(|within| Duration::try_from(within).ok());
            within.is_some_and(|within| change.at <= now && now < change.at + within) && change.owners.contains(&owner)
        };
        let welcome = |change: &Change| self.truth.welcomed.get(&owner).is_some_and(|at| *at > change.at);
        if kind == KNOWN {
            let parted = self.truth.parted.iter().filter(|change| !change.expired && lately(change, PARTED[policy]));
            let within = PARTED[policy].and_then(|within| Duration::try_from(within).ok()).unwrap_or_default();
            for (of, shown) in &self.truth.said {
                if *of == owner && now < shown.1 + within && self.lasting(Some(shown)) {
                    self.fail(&format!("{id} is let in, and a person said that a contact of {owner} was removed"));
                }
            }
            for change in parted.filter(|change| self.on_record(change, &owner) || self.may_be_of(change, &owner)) {
                let told = change.told.is_some_and(|told| told <= now);
                let looked = !change.joined && now > change.at + LOOKED;
                let vouched = self.truth.vouched.get(&owner).is_some_and(|at| *at > change.at);
                let certain = told && self.on_record(change, &owner);
                if certain
                    || ((told || self.after_a_start_or_join(change, now) || looked) && !welcome(change) && !vouched)
                {
                    self.fail(&format!("{id} is let in, and {owner}'s contact {} was removed: {change:?}", change.id));
                }
            }
        }
        if matches!(kind, AGAIN | RUDE) {
            let rejected = self.truth.rejected.iter().filter(|change| lately(change, SHUT_OUT[policy]));
            for change in rejected {
                let told = change.told.is_some_and(|told| told <= now);
                let listed = self.truth.passed.iter().any(|(began, through)| *began > change.at && *through <= now);
                let friends = self.truth.befriended.contains_key(&owner);
                let misled = self.platform.stale_at > Duration::ZERO || friends || welcome(change);
                let answered = self.platform.sent_requests[&change.id].bound.is_some();
                let known = self.lasting(self.truth.requests.get(&change.id));
                let doubted = (listed || self.after_a_start_or_join(change, now)) && !misled;
                if known && !answered && (told || doubted) {
                    self.fail(&format!(
                        "{id} is let in, and {owner}'s {} was rejected elsewhere: {change:?}",
                        change.id
                    ));
                }
            }
        }
    }

    /// A rule answers because somebody is or is not a contact: that must be true, or must have been when the daemon
    /// could last know.
    pub fn check_contact(&self, policy: usize, id: &RequestId, answer: Answer, at: Timestamp) {
        let Some(handle) = self.platform.sent_requests[id.as_str()].handle.clone() else { return };
        let (owner, now) = (owner_of(&handle), self.since_origin(at));
        if self.jumped || self.unsure(&owner) {
            return;
        }
        // Changes that the daemon must have learned by now. For a while it trusts its last reading, whatever it missed
        // since.
        let known = |change: &Change| {
            let told = change.told.is_some_and(|told| told <= now);
            let again = self.after_a_start_or_join(change, now);
            let looked = (!change.joined || again) && now > change.at + BELIEVED;
            let doubted = again && (answer == Answer::Approve || change.life != Some(self.life.number));
            change.at <= now && (told || looked || doubted)
        };
        let of = |fellow: &PlatformContact| fellow.owners.contains(&owner);
        if answer == Answer::Approve {
            let gone = |change: &&Change| change.owners.contains(&owner) && !known(change);
            let there = self.platform.contacts.iter().any(of) || self.truth.parted.iter().any(|change| gone(&change));
            if !there {
                self.fail(&format!("{id} is let in as a contact's, and {owner} has none"));
            }
            let is = |fellow: &PlatformContact| fellow.handle.as_deref().is_some_and(|shown| same(shown, &handle));
            let changed =
                self.truth.made.iter().chain(&self.truth.parted).any(|change| change.at <= now && !known(change));
            if policy == SELF && !changed && !self.platform.contacts.iter().any(is) {
                self.fail(&format!("{id} is let in as a contact, and {handle} is none"));
            }
        } else {
            let shown =
                |fellow: &&PlatformContact| fellow.handle.as_deref().is_some_and(|shown| owner_of(shown) == owner);
            for fellow in self.platform.contacts.iter().filter(shown) {
                let last = self.truth.made.iter().rfind(|change| change.id == fellow.id);
                if last.is_some_and(known) && !self.platform.garbled.contains_key(&fellow.id) {
                    self.fail(&format!("{id} is rejected as a stranger, and {owner} has {fellow:?}"));
                }
            }
        }
    }

    /// Whether by this contact the rules in force approve the request.
    pub fn is_contact(&self, id: &str) -> bool {
        let Some(handle) = self.platform.sent_requests[id].handle.as_deref() else { return false };
        self.platform
            .contacts
            .iter()
            .filter_map(|fellow| fellow.handle.as_deref())
            .any(|shown| if self.in_force == SELF { same(shown, handle) } else { owner_of(shown) == owner_of(handle) })
    }

    /// A quota rejects: the approvals must have used it up.
    pub fn check_spent(&self, id: &RequestId, at: Timestamp) {
        let per = Duration::try_from(QUOTA_PER).unwrap() + LOOKED;
        let now = self.since_origin(at);
        let spent = self.truth.spent.iter().filter(|at| now < **at + per).count();
        if !self.jumped && spent < QUOTA_MAX {
            self.fail(&format!("{id} is rejected for what {spent} others took"));
        }
    }

    /// Whether the daemon started, or joined again, after it happened.
    fn after_a_start_or_join(&self, change: &Change, now: Duration) -> bool {
        let joined = self.truth.joins.iter().any(|at| *at > change.at && *at <= now);
        change.life != Some(self.life.number) || joined
    }

    /// Whether a contact was shown as one of this owner's, so that it is on record.
    fn on_record(&self, change: &Change, owner: &str) -> bool {
        self.lasting(change.shown.get(owner))
    }

    /// Whether it was never shown as anybody's, and may be that of this owner, who was let in before and was never recognised.
    fn may_be_of(&self, change: &Change, owner: &str) -> bool {
        let nameless = change.shown.len() == 1 && self.lasting(change.shown.get(""));
        let on_record = nameless && self.record.contacts.ever_had(&change.id);
        on_record && !self.truth.met.contains(owner) && self.let_in_before(owner, change.at)
    }

    /// Whether the daemon still knows what was shown then.
    fn lasting(&self, shown: Option<&Shown>) -> bool {
        let Some((life, at)) = shown else { return false };
        *life == self.life.number || self.truth.ends.get(life).is_some_and(|end| *at + RECORDED < *end)
    }
}

/// Whether both are one handle.
fn same(one: &str, other: &str) -> bool {
    one.trim_start_matches('@').eq_ignore_ascii_case(other.trim_start_matches('@'))
}
