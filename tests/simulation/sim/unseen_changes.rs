//! Changes that the daemon does not see: contacts that appear and disappear, ends without an event, handles that
//! change, rows that cannot be read, ids that return. Every second evening has them; on the other evenings answers must
//! arrive within tight bounds.

use std::time::Duration;

use doorman::agent::Input;
use doorman::agent::core::{OpenDoubt, PersonCommand};
use doorman::model::PersonTarget;
use doorman::policy::doubts::{DoubtSettlement, Fact};
use serde_json::json;

use super::platform::{PlatformContact, Version};
use super::rules::{AGAIN, FICKLE, KINDS, KNOWN, MATE, RUDE, TWICE, UNNAMED, stranger};
use super::schedule::WorldEvent;
use super::world::SimWorld;

/// A change of which the daemon learns late, or never.
#[derive(Debug, Clone)]
pub enum UnseenChange {
    /// A contact is removed.
    Parts {
        nth: usize,
    },
    /// The same for this contact; and senders whose requests depend on it send requests.
    Leaves {
        id: String,
    },
    /// One that was removed is made again, under its id or another.
    Comes {
        nth: usize,
        same: bool,
    },
    /// Somebody else makes a contact of an owner who also asks.
    Befriends {
        number: usize,
        kind: usize,
    },
    /// A contact's handle is hidden, shown again, or replaced by another one.
    Renames {
        nth: usize,
        to: HandleChange,
    },
    /// A request ends without an event.
    EndsUntold {
        nth: usize,
        status: &'static str,
    },
    /// A pending request now has another sender.
    Alters {
        nth: usize,
        kind: usize,
    },
    /// A row of a list cannot be read, and with `id` not even its id. Later it can be read again.
    Garbles {
        nth: usize,
        contact: bool,
        id: bool,
    },
    Readable,
    /// A person settles a doubt.
    Settles {
        nth: usize,
        happened: bool,
    },
    /// A request that ended is pending again; or its id now belongs to another request.
    Returns {
        nth: usize,
        another: Option<usize>,
    },
}

/// The handle that a contact is given.
#[derive(Debug, Clone, Copy)]
pub enum HandleChange {
    Hidden,
    Shown,
    Anothers,
}

/// The additional events of such an evening, and the requests that depend on them.
pub fn programme(rng: &mut fastrand::Rng, rough: Duration) -> Vec<(Duration, WorldEvent)> {
    let mut list = Vec::new();
    let at = |rng: &mut fastrand::Rng| rough.mul_f64(rng.f64());
    for _ in 0..rng.usize(5..30) {
        let kind = rng.choice([KNOWN, KNOWN, KNOWN, FICKLE, MATE, AGAIN, UNNAMED]).unwrap_or(KNOWN);
        list.push((at(rng), WorldEvent::SentRequest { kind }));
    }
    for _ in 0..rng.usize(2..16) {
        let (when, nth) = (at(rng), rng.usize(..40));
        let name = rng
            .choice([HandleChange::Hidden, HandleChange::Shown, HandleChange::Shown, HandleChange::Anothers])
            .unwrap_or(HandleChange::Shown);
        let kind = rng.usize(..KINDS);
        let status = rng.choice(["cancelled", "expired", "approved", "rejected", "rejected"]).unwrap_or("rejected");
        let behind = match rng.u8(..10) {
            0 | 1 => UnseenChange::Parts { nth },
            2 => UnseenChange::Comes { nth, same: rng.bool() },
            3 => UnseenChange::Befriends { number: nth, kind: rng.choice([KNOWN, AGAIN, MATE, MATE]).unwrap_or(MATE) },
            4 => UnseenChange::Renames { nth, to: name },
            5 => UnseenChange::EndsUntold { nth, status },
            6 => UnseenChange::Alters { nth, kind },
            7 => UnseenChange::Garbles { nth, contact: rng.bool(), id: rng.bool() },
            8 => UnseenChange::Settles { nth, happened: rng.bool() },
            _ => UnseenChange::Returns { nth, another: rng.bool().then_some(kind) },
        };
        if matches!(behind, UnseenChange::Garbles { .. }) {
            list.push((when + Duration::from_secs(rng.u64(1..200)), WorldEvent::Behind(UnseenChange::Readable)));
        }
        list.push((when, WorldEvent::Behind(behind)));
    }
    list
}

impl SimWorld {
    /// While no daemon runs, or none has joined, a change may happen; later somebody of the same owner sends a request.
    pub fn unwatched(&mut self, wait: Duration) {
        let Some(rng) = &mut self.behind else { return };
        if self.calm_since.is_some() || rng.u8(..) < 80 {
            return;
        }
        let nth = rng.usize(..40);
        let behind = match rng.u8(..4) {
            0 | 1 => UnseenChange::Parts { nth },
            2 => UnseenChange::EndsUntold { nth, status: "rejected" },
            _ => UnseenChange::Alters { nth, kind: rng.usize(..KINDS) },
        };
        let (during, after) = (wait.mul_f64(rng.f64()), wait + Duration::from_millis(rng.u64(1..20_000)));
        let kinds: Vec<usize> =
            (0..rng.usize(1..6)).map(|_| rng.choice([KNOWN, KNOWN, AGAIN, MATE]).unwrap_or(KNOWN)).collect();
        for kind in kinds {
            self.happens_in(after, WorldEvent::SentRequest { kind });
        }
        self.happens_in(during, WorldEvent::Behind(behind));
    }

    /// A request was approved: the platform may hide the handle of the new contact.
    pub fn unnamed(&mut self, id: &str) {
        let Some(rng) = &mut self.behind else { return };
        if rng.u8(..) < 60 {
            if let Some(fellow) = self.platform.contacts.iter_mut().find(|fellow| fellow.id == format!("contact-{id}"))
            {
                fellow.handle = None;
            }
            self.saw("contact without a handle");
        }
    }

    pub fn behind(&mut self, behind: UnseenChange) {
        if self.calm_since.is_some() && !matches!(behind, UnseenChange::Readable) {
            return;
        }
        if self.life.down {
            self.saw("something changed while nobody ran");
        }
        match behind {
            UnseenChange::Parts { nth } => self.parts(nth),
            UnseenChange::Leaves { id } => {
                let Some(number) = self.platform.contacts.iter().position(|fellow| fellow.id == id) else { return };
                self.part(number);
                for seconds in 2..8 {
                    self.happens_in(Duration::from_secs(seconds), WorldEvent::SentRequest { kind: KNOWN });
                }
            }
            UnseenChange::Comes { nth, same } => {
                let Some(mut fellow) = pick(&self.platform.parted, nth).cloned() else { return };
                fellow.ours = false;
                if !same {
                    fellow.id = format!("{}-again", fellow.id);
                }
                fellow.inserted_at = self.true_wall();
                self.befriend(fellow);
            }
            UnseenChange::Befriends { number, kind } => {
                let (handle, _) = stranger(kind, number);
                let fellow = PlatformContact::new(format!("contact-x{number}"), handle.as_deref(), self.true_wall());
                self.befriend(fellow);
            }
            UnseenChange::Renames { nth, to } => {
                let another = stranger(KNOWN, nth).0;
                let known = |fellow: &PlatformContact| fellow.owners.iter().any(|owner| owner.starts_with("known"));
                let number = self.platform.contacts.iter().position(known).filter(|_| nth % 2 == 0);
                let count = self.platform.contacts.len().max(1);
                let number = number.unwrap_or(nth % count);
                let Some(fellow) = self.platform.contacts.get_mut(number) else { return };
                fellow.handle = match to {
                    HandleChange::Hidden => None,
                    HandleChange::Shown => fellow.owners.first().map(|owner| format!("{owner}/shown")),
                    HandleChange::Anothers => another,
                };
                fellow.owners.extend(fellow.handle.as_deref().map(super::platform::owner_of));
                let fellow = fellow.clone();
                self.truth_makes(&fellow);
                if let (HandleChange::Anothers, Some(rng)) = (to, &mut self.behind) {
                    let wait = Duration::from_secs(rng.u64(20..400));
                    self.happens_in(wait, WorldEvent::Behind(UnseenChange::Leaves { id: fellow.id }));
                }
                self.saw("contact renamed");
            }
            UnseenChange::EndsUntold { nth, status } => {
                let again = |kind: usize| matches!(kind, AGAIN | RUDE | TWICE);
                let pending = self.platform.sent_requests.iter().filter(|(_, sent)| sent.status == "pending");
                let pending: Vec<(String, bool)> = pending.map(|(id, one)| (id.clone(), again(one.kind))).collect();
                let some = pending.iter().filter(|(_, again)| *again).chain(pending.iter().filter(|(_, again)| !again));
                if let Some((id, _)) = some.cycle().nth(nth % pending.len().max(1)).filter(|_| !pending.is_empty()) {
                    self.ends(&id.clone(), status, false);
                    self.saw("ended, and no event told");
                }
            }
            UnseenChange::Alters { nth, kind } => {
                let Some(id) = self.nth_pending(nth) else { return };
                let Some(sent) = self.platform.sent_requests.get_mut(&id) else { return };
                let (handle, message) = stranger(kind, sent.number);
                (sent.handle, sent.message, sent.kind) = (handle.clone(), message, kind);
                sent.versions.push(Version { handle, kind });
                self.saw("sender changed");
            }
            UnseenChange::Garbles { nth, contact, id } => {
                let contacts = self.platform.contacts.iter().map(|fellow| fellow.id.clone());
                let requests = self.platform.sent_requests.iter().filter(|(_, sent)| sent.status == "pending");
                let rows: Vec<String> =
                    if contact { contacts.collect() } else { requests.map(|row| row.0.clone()).collect() };
                if let Some(row) = pick(&rows, nth) {
                    self.platform.garbled.insert(row.clone(), id);
                    self.saw(if id { "row without a readable id" } else { "row that cannot be read" });
                }
            }
            UnseenChange::Readable => {
                self.platform.garbled.clear();
                self.platform.readable_at = self.at;
            }
            UnseenChange::Settles { nth, happened } => self.settles(nth, happened),
            UnseenChange::Returns { nth, another } => {
                let now = self.true_wall();
                let ended = self
                    .platform
                    .sent_requests
                    .iter()
                    .filter(|(id, sent)| sent.status != "pending" && self.record.ended(id));
                let ended: Vec<String> = ended.map(|(id, _)| id.clone()).collect();
                let Some(id) = pick(&ended, nth) else { return };
                let Some(sent) = self.platform.sent_requests.get_mut(id) else { return };
                (sent.status, sent.returned) = ("pending", true);
                if let Some(kind) = another {
                    let (handle, message) = stranger(kind, sent.number + 1);
                    (sent.handle, sent.message, sent.kind) = (handle.clone(), message, kind);
                    sent.inserted_at = now;
                    sent.versions.push(Version { handle, kind });
                }
                self.saw("pending again");
            }
        }
    }

    /// A person ends a doubt, if there is one, and the agent runs.
    fn settles(&mut self, nth: usize, happened: bool) {
        if self.life.down || self.life.stopping {
            return;
        }
        let doubts = self.core.doubts();
        let Some(OpenDoubt { owner: Some(owner), fact, basis, .. }) = pick(&doubts, nth) else { return };
        let request = basis.as_ref().and_then(|basis| basis.request().cloned());
        let (target, said) = match (fact, request) {
            (Fact::Removed, _) => {
                let said = if happened { DoubtSettlement::Removed } else { DoubtSettlement::NotRemoved };
                (PersonTarget::Handle(format!("@{owner}")), said)
            }
            (Fact::Rejected, Some(request)) => (
                PersonTarget::Id(request),
                if happened { DoubtSettlement::Rejected } else { DoubtSettlement::Cancelled },
            ),
            (Fact::Approved, Some(request)) => (
                PersonTarget::Id(request),
                if happened { DoubtSettlement::Approved } else { DoubtSettlement::Cancelled },
            ),
            (Fact::Rejected | Fact::Identity | Fact::Approved, _) => return,
        };
        self.settling = (said == DoubtSettlement::Removed).then(|| owner.to_string());
        self.saw("a person ended a doubt");
        self.input(Input::Op { token: 4, op: PersonCommand::Settle { target, said }, person: "alice".into() });
    }

    /// A contact is removed; a joined daemon gets an event.
    fn parts(&mut self, nth: usize) {
        let counts = |owner: &String| ["known", "fickle", "mate"].iter().any(|name| owner.starts_with(name));
        let known = |fellow: &PlatformContact| fellow.owners.iter().any(counts);
        let mut order: Vec<usize> = (0..self.platform.contacts.len()).collect();
        order.sort_by_key(|number| !known(&self.platform.contacts[*number]));
        let count = self.platform.contacts.iter().filter(|fellow| known(fellow)).count().max(1);
        if let Some(number) = order.get(nth % count).copied() {
            self.part(number);
        }
    }

    fn part(&mut self, number: usize) {
        let fellow = self.platform.contacts.remove(number);
        self.saw("contact removed");
        self.truth_parts(&fellow);
        self.push("contact_removed", &json!({"id": fellow.id}));
        self.platform.parted.push(fellow);
        self.platform.parted.dedup();
    }

    fn befriend(&mut self, fellow: PlatformContact) {
        if self.platform.contacts.iter().any(|one| one.id == fellow.id) {
            return;
        }
        self.saw("contact made by somebody else");
        let id = fellow.id.clone();
        self.truth_befriends(&fellow);
        self.platform.contacts.push(fellow);
        self.tell_contact(&id);
    }
}

fn pick<T>(list: &[T], nth: usize) -> Option<&T> {
    list.get(nth % list.len().max(1))
}

/// The kinds of strangers on an evening.
pub fn kinds(behind: bool) -> usize {
    if behind { KINDS } else { KNOWN }
}
