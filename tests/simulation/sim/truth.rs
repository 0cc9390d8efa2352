//! What is true in the world, whatever the daemon knows: who was removed and rejected by whom and when, and whose
//! request is whose. From this and from the rules alone follows who may be approved. The limits are those of
//! `docs/policy.md`: changes that no daemon was shown, and events that were lost while the connection stood, count only
//! from the next join, start or reading.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use doorman::inbox::Fetch;
use doorman::model::{AgentState, Answer, ContactId, ContactRequest, RequestId, Verdict};
use doorman::platform::Page;
use doorman::policy::doubts::DoubtSettlement;
use jiff::Timestamp;
use serde_json::Value;

use super::platform::{PlatformContact, Version, owner_of};
use super::rules::{AGAIN, KNOWN, PARTED, QUOTA, QUOTA_MAX, QUOTA_PER, RUDE, SELF, SHUT_OUT};
use super::world::SimWorld;

/// Without a channel, a reading of the contacts that began this long ago is believed (60 s, and one a page), and a dead
/// connection is noticed within a minute.
const LOOKED: Duration = Duration::from_secs(140);
/// Without a channel, the known contacts are trusted for this long after the reading began.
const BELIEVED: Duration = Duration::from_secs(930);
/// What was shown this long before a daemon died is on record, if the ledger took it.
const RECORDED: Duration = Duration::from_secs(10);

/// When something was shown to the daemon, and in which life.
type Shown = (u64, Duration);

/// A change of which a daemon was or was not informed.
#[derive(Debug)]
struct Change {
    /// The id of the contact or request.
    id: String,
    owners: BTreeSet<String>,
    at: Duration,
    /// The daemon that ran then.
    life: Option<u64>,
    told: Option<Duration>,
    joined: bool,
    /// The owners under which it had been shown, if it is a contact.
    shown: BTreeMap<String, Shown>,
    /// A guest's contact went at its end, as was agreed.
    expired: bool,
}

/// The sender of a request, as the daemon must know it.
#[derive(Debug)]
struct Learned {
    version: usize,
    before: usize,
    since: Duration,
    heard: Timestamp,
}

#[derive(Debug, Default)]
struct Pass {
    began: Duration,
    shown: Vec<(String, Version)>,
}

/// An answer by a rule: to whom, as far as that was certain, and under which policy.
#[derive(Debug)]
struct Answered {
    handle: Option<String>,
    policy: Option<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct GroundTruth {
    parted: Vec<Change>,
    /// Contacts that were ever removed, even if they were made again.
    went: BTreeSet<String>,
    rejected: Vec<Change>,
    /// When somebody else last made a contact of each owner, and when a person last approved one through doorman.
    befriended: BTreeMap<String, Duration>,
    welcomed: BTreeMap<String, Duration>,
    /// When a person last said that no contact of theirs was removed.
    vouched: BTreeMap<String, Duration>,
    contacts: BTreeMap<String, BTreeMap<String, Shown>>,
    requests: BTreeMap<String, Shown>,
    joins: Vec<Duration>,
    ends: BTreeMap<u64, Duration>,
    passes: BTreeMap<u64, Pass>,
    reading: Option<u64>,
    /// For each listing pass that is complete: when it began, and when it ended.
    passed: Vec<(Duration, Duration)>,
    learned: BTreeMap<String, Learned>,
    answered: BTreeMap<RequestId, Answered>,
    orders: BTreeMap<String, Vec<(Verdict, usize, usize)>>,
    /// Owners of whom a contact was ever shown by its handle.
    met: BTreeSet<String>,
    /// When contacts came to be, or were shown under another handle: whose they were from then on.
    made: Vec<Change>,
    /// Owners of whom a person said that a contact was removed.
    said: Vec<(String, Shown)>,
    /// When strangers with a quota were approved.
    spent: Vec<Duration>,
}

impl SimWorld {
    pub fn truth_parts(&mut self, fellow: &PlatformContact) {
        let mut change = self.change(fellow.id.clone(), fellow.owners.clone());
        change.shown = self.truth.contacts.remove(&fellow.id).unwrap_or_default();
        self.truth.parted.push(change);
        self.truth.went.insert(fellow.id.clone());
    }

    /// The daemon removed a guest's contact at its end.
    pub fn truth_expires(&mut self, fellow: &PlatformContact) {
        self.truth_parts(fellow);
        if let Some(change) = self.truth.parted.last_mut() {
            change.expired = true;
        }
    }

    pub fn truth_befriends(&mut self, fellow: &PlatformContact) {
        self.life.expired.retain(|id| id.as_str() != fellow.id);
        self.truth.contacts.remove(&fellow.id);
        // A contact that was made again under its id was never gone for a daemon that did not see the removal.
        self.truth.parted.retain(|change| change.id != fellow.id || change.told.is_some());
        for owner in &fellow.owners {
            self.truth.befriended.insert(owner.clone(), self.at);
        }
        self.truth_makes(fellow);
    }

    /// From now on a contact with this handle exists.
    pub fn truth_makes(&mut self, fellow: &PlatformContact) {
        let change = self.change(fellow.id.clone(), fellow.handle.as_deref().map(owner_of).into_iter().collect());
        self.truth.made.push(change);
    }

    pub fn truth_ends(&mut self, id: &str, status: &str) {
        if status == "rejected" {
            // If another sender was never shown, the daemon cannot know whose it was.
            let owners = match self.senders(id, self.now().wall) {
                [Version { handle: Some(handle), .. }] => BTreeSet::from([owner_of(handle)]),
                _ => BTreeSet::new(),
            };
            let change = self.change(id.to_owned(), owners);
            self.truth.rejected.push(change);
        }
    }

    /// An approval was carried out.
    pub fn truth_welcomes(&mut self, id: &RequestId) {
        self.truth.parted.retain(|change| change.id != format!("contact-{id}") || change.told.is_some());
        self.life.expired.retain(|contact| contact.as_str() != format!("contact-{id}"));
        let made = self.platform.contacts.iter().find(|fellow| fellow.id == format!("contact-{id}")).cloned();
        made.iter().for_each(|fellow| self.truth_makes(fellow));
        let sent = self.platform.sent_requests.get(id.as_str());
        if sent.is_some_and(|sent| sent.versions.iter().any(|version| version.kind == QUOTA)) {
            self.truth.spent.push(self.at);
        }
        let handle = sent.and_then(|sent| sent.handle.as_deref());
        if let Some(owner) = handle.map(owner_of).filter(|_| self.record.by_person(id)) {
            self.truth.welcomed.insert(owner, self.at);
        }
    }

    fn change(&self, id: String, owners: BTreeSet<String>) -> Change {
        let life = (!self.life.down).then_some(self.life.number);
        // If the crash event of the channel was lost, the daemon still believes that it has joined.
        let joined = self.platform.joined() || (life.is_some() && self.core.state() == AgentState::Live);
        Change { id, owners, at: self.at, life, told: None, joined, shown: BTreeMap::new(), expired: false }
    }

    /// A life of the daemon ended.
    pub fn truth_dies(&mut self) {
        self.truth.ends.insert(self.life.number, self.at);
        (self.truth.learned, self.truth.passes) = (BTreeMap::new(), BTreeMap::new());
        // What the daemon was told just before may not be recorded: then nobody was told.
        for change in &mut self.truth.parted {
            change.told =
                change.told.filter(|told| change.life != Some(self.life.number) || *told + RECORDED < self.at);
        }
    }

    /// Whether a contact of this owner was ever shown by its handle.
    pub fn truth_met(&self, owner: &str) -> bool {
        self.truth.met.contains(owner)
    }

    /// The daemon was told that its join succeeded.
    pub fn truth_joined(&mut self) {
        self.truth.joins.push(self.at);
    }

    /// A readable frame reached the daemon on its present connection.
    pub fn truth_hears(&mut self, event: &str, payload: &Value) {
        let id = payload["id"].as_str().unwrap_or_default().to_owned();
        let shown = (self.life.number, self.at);
        match event {
            "contact_request_received" => {
                self.truth.requests.entry(id.clone()).or_insert(shown);
                let handle = payload["from_handle"].as_str().map(str::to_owned);
                self.learns(&id, |version| version.handle == handle, self.at);
            }
            "contact_added" => {
                let owner = payload["handle"].as_str().map(owner_of).unwrap_or_default();
                tell(&mut self.truth.made, &id, self.at);
                self.truth.met.insert(owner.clone());
                self.truth.contacts.entry(id).or_default().insert(owner, shown);
            }
            "contact_removed" => tell(&mut self.truth.parted, &id, self.at),
            // A request that was never shown may be one that the agent sent.
            "contact_request_updated" if self.truth.requests.contains_key(&id) => {
                tell(&mut self.truth.rejected, &id, self.at);
            }
            "contact_request_updated" => self.truth.rejected.retain(|change| change.id != id),
            _ => {}
        }
    }

    pub fn truth_asks(&mut self, fetch: Fetch) {
        self.truth.passes.entry(fetch.pass).or_insert_with(|| Pass { began: self.at, shown: Vec::new() });
    }

    pub fn truth_lists(&mut self, fetch: Fetch, page: &Page<ContactRequest>) {
        self.truth.reading = Some(fetch.pass);
        let Some(pass) = self.truth.passes.get_mut(&fetch.pass) else { return };
        for request in &page.items {
            let handle = request.sender.original().map(|text| text.raw().to_owned());
            pass.shown.push((request.id.as_str().to_owned(), Version { handle, kind: 0 }));
        }
    }

    pub fn truth_reads(&mut self, page: &Page<doorman::model::Contact>) {
        let shown = (self.life.number, self.at);
        let rows = page.items.iter().map(|one| (one.id.as_str(), one.sender.handle().map(|handle| handle.owner())));
        let unreadable = page.unreadable.iter().map(|row| (row.id.as_str(), None));
        for (id, owner) in rows.chain(unreadable) {
            self.truth.met.extend(owner.map(str::to_owned));
            let owners = self.truth.contacts.entry(id.to_owned()).or_default();
            owners.insert(owner.unwrap_or_default().to_owned(), shown);
        }
    }

    /// A listing pass is complete: from now on the daemon knows what it showed.
    pub fn truth_listed(&mut self) {
        let Some(pass) = self.truth.reading.take().and_then(|number| self.truth.passes.remove(&number)) else { return };
        self.truth.passed.push((pass.began, self.at));
        for (id, shown) in pass.shown {
            self.truth.requests.entry(id.clone()).or_insert((self.life.number, self.at));
            self.learns(&id, |version| version.handle == shown.handle, pass.began);
        }
    }

    fn learns(&mut self, id: &str, is: impl Fn(&Version) -> bool, since: Duration) {
        let heard = self.now().wall;
        let Some(version) = self.platform.sent_requests.get(id).and_then(|sent| sent.versions.iter().rposition(is))
        else {
            return;
        };
        match self.truth.learned.get_mut(id) {
            Some(known) if since > known.since && version != known.version => {
                *known = Learned { version, before: known.version, since, heard };
            }
            Some(known) => known.since = since.max(known.since),
            None => {
                let learned = Learned { version, before: version, since, heard };
                self.truth.learned.insert(id.to_owned(), learned);
            }
        }
    }

    /// The senders that a request may have, according to what the daemon was shown until then.
    pub fn senders(&self, id: &str, at: Timestamp) -> &[Version] {
        let Some(sent) = self.platform.sent_requests.get(id) else { return &[] };
        let first = match self.truth.learned.get(id) {
            Some(learned) if at >= learned.heard && !self.jumped => learned.version,
            Some(learned) => learned.before,
            None => 0,
        };
        &sent.versions[first.min(sent.versions.len() - 1)..]
    }

    /// A person answers a request.
    pub fn truth_ordered(&mut self, id: &str, verdict: Verdict) {
        let first = self.truth.learned.get(id).map_or(0, |learned| learned.version);
        let last = self.platform.sent_requests[id].versions.len() - 1;
        self.truth.orders.entry(id.to_owned()).or_default().push((verdict, first, last));
    }

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

    /// A person said that something did not happen; that counts, whether it is true or not.
    pub fn truth_settled(&mut self, owner: &str, request: Option<&RequestId>, said: DoubtSettlement) {
        match said {
            DoubtSettlement::NotRemoved => drop(self.truth.vouched.insert(owner.to_owned(), self.at)),
            DoubtSettlement::Approved | DoubtSettlement::Cancelled | DoubtSettlement::Expired => {
                self.truth.rejected.retain(|change| request.is_none_or(|request| change.id != request.as_str()));
            }
            DoubtSettlement::Removed | DoubtSettlement::Rejected | DoubtSettlement::Same => {}
        }
    }

    /// A person said this of an owner, and doorman accepted it.
    pub fn truth_said(&mut self, owner: String) {
        self.truth.said.push((owner, (self.life.number, self.at)));
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
                if certain || ((told || self.anew_since(change, now) || looked) && !welcome(change) && !vouched) {
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
                let doubted = (listed || self.anew_since(change, now)) && !misled;
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
            let again = self.anew_since(change, now);
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

    /// Whether it happened before the daemon started, or before it was last joined.
    fn anew_since(&self, change: &Change, now: Duration) -> bool {
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

fn tell(changes: &mut [Change], id: &str, at: Duration) {
    for change in changes.iter_mut().filter(|change| change.id == id) {
        change.told = change.told.or(Some(at));
    }
}
