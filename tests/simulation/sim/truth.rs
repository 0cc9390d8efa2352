//! What is true in the world, whatever the daemon knows: who was removed and rejected by whom and when, and whose request is
//! whose. By it, and by the rules alone, is said who may be let in. The limits are those of `docs/policy.md`: what was never
//! shown to any daemon, and what the way lost while the connection stood, until the next join, start or reading.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use doorman::inbox::Fetch;
use doorman::model::{AgentState, Answer, ContactId, ContactRequest, RequestId, Verdict};
use doorman::platform::Page;
use jiff::Timestamp;
use serde_json::Value;

use super::platform::{Fellow, Version, owner_of};
use super::rules::{AGAIN, KNOWN, PARTED, RUDE, SHUT_OUT, allowed};
use super::world::World;

/// Without a channel, a reading of the contacts that began this long ago is believed (60 s, and one a page), and a dead
/// connection is noticed within a minute.
const LOOKED: Duration = Duration::from_secs(140);
/// What was shown this long before a daemon died is on record, if the ledger took it.
const RECORDED: Duration = Duration::from_secs(10);

/// Something was shown to the daemon: in which life, and when.
type Shown = (u64, Duration);

/// A change that a daemon was told of, or was not.
#[derive(Debug)]
struct Change {
    /// The contact, or the request.
    id: String,
    owners: BTreeSet<String>,
    at: Duration,
    /// The daemon that ran then.
    life: Option<u64>,
    told: Option<Duration>,
    joined: bool,
    /// As whose it had been shown, if it is a contact.
    shown: BTreeMap<String, Shown>,
}

/// Whose request it is, as the daemon must know.
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
pub struct Truth {
    parted: Vec<Change>,
    /// Contacts that were ever removed, though they may be there again.
    went: BTreeSet<String>,
    rejected: Vec<Change>,
    /// When each owner was last made a contact by somebody else, and let in by a person through doorman.
    befriended: BTreeMap<String, Duration>,
    welcomed: BTreeMap<String, Duration>,
    contacts: BTreeMap<String, BTreeMap<String, Shown>>,
    requests: BTreeMap<String, Shown>,
    joins: Vec<Duration>,
    ends: BTreeMap<u64, Duration>,
    passes: BTreeMap<u64, Pass>,
    reading: Option<u64>,
    /// When the last pass began that is through, and when that was.
    passed: Vec<(Duration, Duration)>,
    learned: BTreeMap<String, Learned>,
    answered: BTreeMap<RequestId, Answered>,
    orders: BTreeMap<String, Vec<(Verdict, usize, usize)>>,
}

impl World {
    pub fn truth_parts(&mut self, fellow: &Fellow) {
        let mut change = self.change(fellow.id.clone(), fellow.owners.clone());
        change.shown = self.truth.contacts.remove(&fellow.id).unwrap_or_default();
        self.truth.parted.push(change);
        self.truth.went.insert(fellow.id.clone());
    }

    pub fn truth_befriends(&mut self, fellow: &Fellow) {
        self.truth.contacts.remove(&fellow.id);
        // One that is there again under its id was, for whoever did not watch, never gone.
        self.truth.parted.retain(|change| change.id != fellow.id || change.told.is_some());
        for owner in &fellow.owners {
            self.truth.befriended.insert(owner.clone(), self.at);
        }
    }

    pub fn truth_ends(&mut self, id: &str, status: &str) {
        if status == "rejected" {
            // Where another sender was never shown, nobody can know whose it was.
            let owners = match self.senders(id, self.now().wall) {
                [Version { handle: Some(handle), .. }] => BTreeSet::from([owner_of(handle)]),
                _ => BTreeSet::new(),
            };
            let change = self.change(id.to_owned(), owners);
            self.truth.rejected.push(change);
        }
    }

    /// A person's approval was carried out.
    pub fn truth_welcomes(&mut self, id: &RequestId) {
        let handle = self.platform.knocks.get(id.as_str()).and_then(|knock| knock.handle.as_deref());
        if let Some(owner) = handle.map(owner_of).filter(|_| self.record.by_person(id)) {
            self.truth.welcomed.insert(owner, self.at);
        }
    }

    fn change(&self, id: String, owners: BTreeSet<String>) -> Change {
        let life = (!self.life.down).then_some(self.life.number);
        // Where the crash of the channel got lost on the way, the daemon takes itself for joined.
        let joined = self.platform.joined() || (life.is_some() && self.core.state() == AgentState::Live);
        Change { id, owners, at: self.at, life, told: None, joined, shown: BTreeMap::new() }
    }

    /// A life ended.
    pub fn truth_dies(&mut self) {
        self.truth.ends.insert(self.life.number, self.at);
        (self.truth.learned, self.truth.passes) = (BTreeMap::new(), BTreeMap::new());
    }

    /// The daemon was told that its join stands.
    pub fn truth_joined(&mut self) {
        self.truth.joins.push(self.at);
    }

    /// A frame that could be read reached the daemon, on the connection that it has.
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
                self.truth.contacts.entry(id).or_default().insert(owner, shown);
            }
            "contact_removed" => tell(&mut self.truth.parted, &id, self.at),
            "contact_request_updated" => tell(&mut self.truth.rejected, &id, self.at),
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
            let owners = self.truth.contacts.entry(id.to_owned()).or_default();
            owners.insert(owner.unwrap_or_default().to_owned(), shown);
        }
    }

    /// A pass over the list is through: from now on what it showed is known.
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
        let Some(version) = self.platform.knocks.get(id).and_then(|knock| knock.versions.iter().rposition(is)) else {
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

    /// The senders that a request may have for all that the daemon was shown up to then.
    pub fn senders(&self, id: &str, at: Timestamp) -> &[Version] {
        let Some(knock) = self.platform.knocks.get(id) else { return &[] };
        let first = match self.truth.learned.get(id) {
            Some(learned) if at >= learned.heard && !self.jumped => learned.version,
            Some(learned) => learned.before,
            None => 0,
        };
        &knock.versions[first.min(knock.versions.len() - 1)..]
    }

    /// A person says this of a request.
    pub fn truth_ordered(&mut self, id: &str, verdict: Verdict) {
        let first = self.truth.learned.get(id).map_or(0, |learned| learned.version);
        let last = self.platform.knocks[id].versions.len() - 1;
        self.truth.orders.entry(id.to_owned()).or_default().push((verdict, first, last));
    }

    /// A person's word is for the sender that the request had.
    pub fn check_order(&self, id: &RequestId, answer: Answer, at: Timestamp) {
        let (Some(orders), versions) = (self.truth.orders.get(id.as_str()), self.senders(id.as_str(), at)) else {
            return;
        };
        let known = &self.platform.knocks[id.as_str()].versions;
        let fits = |&(verdict, first, last): &(Verdict, usize, usize)| {
            let meant = &known[first..=last];
            let open = meant.iter().any(|one| one.handle.is_none()) || versions.iter().any(|one| one.handle.is_none());
            verdict == answer.verdict()
                && (open || versions.iter().any(|now| meant.iter().any(|one| one.handle == now.handle)))
        };
        if !orders.iter().any(fits) {
            self.fail(&format!("{answer} to {id} by a person who meant another sender"));
        }
    }

    /// An answer by a rule goes on record: `policy` gave it, or it is the same once more.
    pub fn check_subject(&mut self, id: &RequestId, answer: Answer, policy: Option<usize>, at: Timestamp) {
        let versions = self.senders(id.as_str(), at);
        let handle = (versions.len() == 1).then(|| versions[0].handle.clone()).flatten();
        if policy.is_none()
            && let (Some(before), Some(now)) =
                (self.truth.answered.get(id).and_then(|one| one.handle.as_ref()), &handle)
            && before != now
        {
            self.fail(&format!("{answer} to {id} once more, which was for {before} and would be for {now}"));
        }
        let policy = policy.or_else(|| self.truth.answered.get(id)?.policy);
        self.truth.answered.insert(id.clone(), Answered { handle, policy });
    }

    /// An answer by a rule leaves: whoever it reaches is one whom the rule meant, for all that was shown.
    pub fn check_leaves(&self, id: &RequestId, answer: Answer) {
        let versions = self.senders(id.as_str(), self.now().wall);
        let open = versions.iter().any(|version| version.handle.is_none());
        let Some(policy) = self.truth.answered.get(id).and_then(|one| one.policy).filter(|_| !open) else { return };
        if !versions.is_empty() && !versions.iter().any(|version| allowed(policy, version.kind, answer)) {
            self.fail(&format!("{answer} to {id} leaves, and it has another sender by now"));
        }
    }

    /// A request goes on record as gone: it is, unless a stale page said so.
    pub fn check_gone(&self, id: &RequestId) {
        let Some(knock) = self.platform.knocks.get(id.as_str()) else { return };
        if knock.status == "pending" && !knock.returned && self.platform.stale_at == Duration::ZERO {
            self.fail(&format!("{id} goes on record as gone, and every page lists it"));
        }
    }

    /// A contact goes on record as removed: it is, or was at some time.
    pub fn check_removed(&self, contact: &ContactId) {
        let there = self.platform.contacts.iter().any(|fellow| fellow.id == contact.as_str());
        if there && !self.truth.went.contains(contact.as_str()) {
            self.fail(&format!("{contact} goes on record as removed, and it is there"));
        }
    }

    /// A rule lets somebody in: nothing that is true, and could be known, forbids it.
    pub fn check_truth(&self, policy: usize, id: &RequestId, kind: usize, at: Timestamp) {
        let Some(owner) = self.platform.knocks[id.as_str()].handle.as_deref().map(owner_of) else { return };
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
            let parted = self.truth.parted.iter().filter(|change| lately(change, PARTED[policy]));
            for change in parted.filter(|change| self.on_record(change, &owner)) {
                let told = change.told.is_some_and(|told| told <= now);
                let looked = !change.joined && now > change.at + LOOKED;
                if told || ((self.anew_since(change, now) || looked) && !welcome(change)) {
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
                let answered = self.platform.knocks[&change.id].bound.is_some();
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

    /// Whether it happened before the daemon started, or before it was last joined.
    fn anew_since(&self, change: &Change, now: Duration) -> bool {
        let joined = self.truth.joins.iter().any(|at| *at > change.at && *at <= now);
        change.life != Some(self.life.number) || joined
    }

    /// Whether a contact was shown as one of this owner's, and came to be on record: one that is, waits for the end of the answer
    /// that may have made it.
    fn on_record(&self, change: &Change, owner: &str) -> bool {
        self.record.contacts.ever_had(&change.id) && self.lasting(change.shown.get(owner))
    }

    /// Whether what was shown then is known still.
    fn lasting(&self, shown: Option<&Shown>) -> bool {
        let Some((life, at)) = shown else { return false };
        *life == self.life.number || self.truth.ends.get(life).is_some_and(|end| *at + RECORDED < *end)
    }
}

fn tell(changes: &mut [Change], id: &str, at: Duration) {
    for change in changes.iter_mut().filter(|change| change.id == id) {
        change.told = change.told.or(Some(at));
    }
}
