//! What is true in the world, whatever the daemon knows: who was removed and rejected by whom and when, and whose
//! request is whose. From this and from the rules alone follows who may be approved. The limits are those of
//! `docs/policy.md`: changes that no daemon was shown, and events that were lost while the connection stood, count only
//! from the next join, start or reading.

mod checks;

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
}

fn tell(changes: &mut [Change], id: &str, at: Duration) {
    for change in changes.iter_mut().filter(|change| change.id == id) {
        change.told = change.told.or(Some(at));
    }
}
