//! The state of the imitated platform: requests and contacts, and who gets which event when they change. Pure: time is
//! an argument, and events to push are returned as [`PushedEvent`]. It does not know sockets or HTTP.

mod contacts;
mod create;
mod lists;
mod rooms;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::wire::{AnswerAttempt, SandboxStatus};
use super::world::{Party, World};
use crate::clock::{Mono, Now};
use contacts::ContactRecord;
pub use lists::{PageRows, PageWanted};
use rooms::Room;

/// Most requests in one sandbox.
pub(crate) const REQUESTS_MAX: usize = 1_000_000;
/// Most requests that one call makes.
pub(crate) const COUNT_MAX: u64 = 100_000;
/// Most answers that are shown for one request; all are counted.
const ANSWERS_KEPT: usize = 16;
/// Which party, by position in the world.
pub type PartyIndex = usize;

/// An event for one party.
#[derive(Debug)]
pub struct PushedEvent {
    /// The recipient.
    pub to: PartyIndex,
    /// The event's name.
    pub event: &'static str,
    /// JSON.
    pub payload: Arc<str>,
    /// The request that it announces.
    pub request: Option<usize>,
}

/// Why something was not done; each is one HTTP status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// 404.
    NotFound(&'static str),
    /// 409.
    Conflict(&'static str, &'static str),
    /// 400, with the JSON pointer of the field.
    Malformed(&'static str, &'static str),
    /// 422.
    Invalid(String),
}

/// One request.
#[derive(Debug)]
pub(super) struct RequestRecord {
    pub(super) id: String,
    pub(super) to: PartyIndex,
    pub(super) from: Option<PartyIndex>,
    /// Absent, null, or a text: as on the wire.
    pub(super) from_handle: Option<Option<String>>,
    pub(super) from_name: Option<Option<String>>,
    pub(super) message: Option<Option<String>>,
    /// The id of the sender and, for an agent, of its owner; sent only if a tester gave them.
    pub(super) from_id: Option<String>,
    pub(super) owner_id: Option<String>,
    pub(super) status: SandboxStatus,
    pub(super) inserted_at: Timestamp,
    pub(super) created: Mono,
    pub(super) settled: Option<Mono>,
    pub(super) settled_by: Option<String>,
    pub(super) answers: Vec<AnswerAttempt>,
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) pushed: u64,
    pub(super) push_written: Option<Mono>,
}

#[derive(Serialize)]
struct ReceivedJson<'a> {
    id: &'a str,
    status: SandboxStatus,
    inserted_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_handle: &'a Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_name: &'a Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: &'a Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_id: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_id: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_avatar_url: Option<String>,
}

impl RequestRecord {
    /// The JSON for a push, or, with the sender's picture, for a listing.
    fn received_json(&self, from_avatar_url: Option<String>) -> String {
        let RequestRecord { id, inserted_at, from_handle, from_name, message, from_id, owner_id, .. } = self;
        let (status, inserted_at) = (SandboxStatus::Pending, *inserted_at);
        json(&ReceivedJson {
            id,
            status,
            inserted_at,
            from_handle,
            from_name,
            message,
            from_id,
            owner_id,
            from_avatar_url,
        })
    }
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

/// What an answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerAction {
    /// By the recipient.
    Approve,
    /// By the recipient.
    Reject,
    /// By the sender.
    Cancel,
}

impl AnswerAction {
    /// The word in `action` \[docs\].
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "approve" => Some(AnswerAction::Approve),
            "reject" => Some(AnswerAction::Reject),
            "cancel" => Some(AnswerAction::Cancel),
            _ => None,
        }
    }

    fn status(self) -> SandboxStatus {
        match self {
            AnswerAction::Approve => SandboxStatus::Approved,
            AnswerAction::Reject => SandboxStatus::Rejected,
            AnswerAction::Cancel => SandboxStatus::Cancelled,
        }
    }
}

/// Requests and contacts.
#[derive(Debug)]
pub struct Store {
    pub(super) parties: Vec<Party>,
    by_id: HashMap<String, PartyIndex>,
    by_handle: HashMap<String, PartyIndex>,
    by_key: HashMap<String, PartyIndex>,
    pub(super) requests: Vec<RequestRecord>,
    by_request: HashMap<String, usize>,
    /// Pending requests to each party, by time.
    received: Vec<BTreeSet<(Timestamp, usize)>>,
    /// Pending requests from each party, by time.
    sent: Vec<BTreeSet<(Timestamp, usize)>>,
    contacts: Vec<BTreeMap<u64, ContactRecord>>,
    contact_by_handle: HashMap<(PartyIndex, String), u64>,
    next_contact: u64,
    /// Of each party.
    rooms: Vec<Vec<Room>>,
    next_room: u64,
    /// Random, so that two sandboxes never give the same id to two requests.
    salt: u128,
}

impl Store {
    /// A store with only the world's parties. Ids are derived from `salt`.
    pub fn new(world: &World, salt: u128) -> Self {
        let parties = world.parties().to_vec();
        let index = |key: fn(&Party) -> &String| {
            parties.iter().enumerate().map(|(at, party)| (key(party).clone(), at)).collect::<HashMap<_, _>>()
        };
        let (by_id, by_handle, by_key) = (index(|p| &p.id), index(|p| &p.handle), index(|p| &p.key));
        let count = parties.len();
        Self {
            parties,
            by_id,
            by_handle,
            by_key,
            requests: Vec::new(),
            by_request: HashMap::new(),
            received: vec![BTreeSet::new(); count],
            sent: vec![BTreeSet::new(); count],
            contacts: std::iter::repeat_with(BTreeMap::new).take(count).collect(),
            contact_by_handle: HashMap::new(),
            next_contact: 0,
            rooms: std::iter::repeat_with(Vec::new).take(count).collect(),
            next_room: 0,
            salt: salt & !0xffff_ffff_ffff,
        }
    }

    /// The party to which the key belongs.
    pub(crate) fn by_key(&self, key: &str) -> Option<PartyIndex> {
        self.by_key.get(key).copied()
    }

    /// By id, or by handle with or without `@`.
    pub fn find(&self, who: &str) -> Option<PartyIndex> {
        self.by_id.get(who).or_else(|| self.by_handle.get(&plain(who))).copied()
    }

    /// By id only.
    pub(crate) fn by_id(&self, id: &str) -> Option<PartyIndex> {
        self.by_id.get(id).copied()
    }

    /// The user behind an agent, if the world has them.
    pub fn owner(&self, agent: PartyIndex) -> Option<PartyIndex> {
        let (owner, _) = self.parties[agent].handle.split_once('/')?;
        self.by_handle.get(owner).copied()
    }

    pub(super) fn uuid(&self, space: u128, number: u64) -> String {
        // Sets the version and variant bits of a random UUID, so that strict parsers accept it.
        let bits = (self.salt ^ (space << 48)) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        uuid::Uuid::from_u128(bits | u128::from(number & 0xffff_ffff_ffff)).to_string()
    }

    fn pending_between(&self, from: PartyIndex, to: PartyIndex) -> Option<usize> {
        self.sent[from].iter().map(|(_, index)| *index).find(|index| self.requests[*index].to == to)
    }

    /// The request that a handle means: to `by` from it, or, for a cancellation, from `by` to it.
    pub(crate) fn by_other_handle(&self, by: PartyIndex, action: AnswerAction, handle: &str) -> Option<usize> {
        let handle = plain(handle);
        if action == AnswerAction::Cancel {
            return self.pending_between(by, *self.by_handle.get(&handle)?);
        }
        let pending = self.received[by].iter().map(|(_, index)| *index);
        pending
            .into_iter()
            .find(|index| self.requests[*index].from_handle.iter().flatten().any(|from| plain(from) == handle))
    }

    /// The request with this id.
    pub fn request(&self, id: &str) -> Option<usize> {
        self.by_request.get(id).copied()
    }

    /// Answers a request, and records the attempt.
    pub fn respond(
        &mut self,
        by: PartyIndex,
        action: AnswerAction,
        index: usize,
        now: Now,
        pushed: &mut Vec<PushedEvent>,
    ) -> Result<SandboxStatus, StoreError> {
        let row = &self.requests[index];
        let party = if action == AnswerAction::Cancel { row.from } else { Some(row.to) };
        let result = match row.status {
            _ if party != Some(by) => Err(StoreError::NotFound("no such contact request")),
            SandboxStatus::Pending => Ok(action.status()),
            SandboxStatus::Approved | SandboxStatus::Rejected => {
                Err(StoreError::Conflict("already_responded", "this contact request was answered already"))
            }
            SandboxStatus::Cancelled | SandboxStatus::Expired => Err(StoreError::NotFound("no such contact request")),
        };
        let http = match &result {
            Ok(_) => 200,
            Err(StoreError::Conflict(..)) => 409,
            Err(_) => 404,
        };
        if let Ok(status) = result {
            let who = self.parties[by].id.clone();
            self.settle(index, status, &who, now, pushed);
        }
        let by = self.parties[by].id.clone();
        let row = &mut self.requests[index];
        row.answered += 1;
        row.refused += u64::from(http != 200);
        if row.answers.len() < ANSWERS_KEPT {
            row.answers.push(AnswerAttempt { by, status: action.status(), http, at_us: micros(now.mono) });
        }
        result
    }

    /// Ends a pending request. Both parties get an event, and an approval makes them contacts.
    pub fn settle(&mut self, index: usize, status: SandboxStatus, by: &str, now: Now, pushed: &mut Vec<PushedEvent>) {
        let row = &mut self.requests[index];
        row.status = status;
        row.settled = Some(now.mono);
        row.settled_by = Some(by.to_owned());
        let key = (row.inserted_at, index);
        let (to, from) = (row.to, row.from);
        let payload: Arc<str> = json(&serde_json::json!({ "id": row.id, "status": status })).into();
        self.received[to].remove(&key);
        if let Some(from) = from {
            self.sent[from].remove(&key);
        }
        for party in [Some(to), from].into_iter().flatten() {
            pushed.push(PushedEvent {
                to: party,
                event: "contact_request_updated",
                payload: payload.clone(),
                request: None,
            });
        }
        if status == SandboxStatus::Approved {
            self.make_contacts(index, now, pushed);
        }
    }

    /// The push of this request is being written now.
    pub fn pushed(&mut self, index: usize, at: Mono) {
        if let Some(row) = self.requests.get_mut(index) {
            row.pushed += 1;
            row.push_written.get_or_insert(at);
        }
    }

    /// It was not written after all.
    pub(crate) fn unpushed(&mut self, index: usize) {
        if let Some(row) = self.requests.get_mut(index) {
            row.pushed = row.pushed.saturating_sub(1);
            if row.pushed == 0 {
                row.push_written = None;
            }
        }
    }

    /// From the push of a request written to now, if it was pushed.
    pub(crate) fn since_push(&self, index: usize, now: Mono) -> Option<Duration> {
        self.requests.get(index)?.push_written.map(|at| now.since(at))
    }
}

/// The wall clock in the platform's precision, microseconds.
pub(super) fn wire_time(now: Now) -> Timestamp {
    Timestamp::from_microsecond(now.wall.as_microsecond()).unwrap_or(now.wall)
}

/// A handle for comparison: without `@`, in lower case.
pub(super) fn plain(handle: &str) -> String {
    handle.strip_prefix('@').unwrap_or(handle).to_ascii_lowercase()
}

/// Microseconds since the sandbox began.
pub(super) fn micros(at: Mono) -> u64 {
    u64::try_from(at.since_origin().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
