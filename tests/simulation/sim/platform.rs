//! A model of the platform for the simulation: requests, one connection an agent, paged lists, answers. It knows the
//! truth; the schedule decides what the daemon learns of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use doorman::model::{Answer, Contact, ContactId, ContactKind, ContactRequest, RequestId, Sender, StrangerText};
use doorman::platform::{CallError, CallFault, Page, Responded, Unreadable};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The state of a request, and the answers to it.
#[derive(Debug, Clone)]
pub struct SentRequest {
    pub number: usize,
    pub handle: Option<String>,
    pub message: Option<String>,
    pub inserted_at: Timestamp,
    pub status: &'static str,
    /// The answer of the daemon's that the platform took.
    pub taken: Option<Answer>,
    /// The answer that may have been taken, as far as the daemon can know: only the same may follow.
    pub bound: Option<Answer>,
    /// Attempts that may have been carried out, as far as the daemon can know.
    pub uncertain: u32,
    pub kind: usize,
    /// When it came.
    pub at: Duration,
    /// Its senders, one after the other; the platform shows the last one.
    pub versions: Vec<Version>,
    /// Whether it had ended and is pending again.
    pub returned: bool,
}

/// A sender of a request, and what kind of stranger that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub handle: Option<String>,
    pub kind: usize,
}

/// A contact of the agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformContact {
    pub id: String,
    /// The handle that the platform shows now.
    pub handle: Option<String>,
    /// All owners that it ever had, whatever was shown.
    pub owners: BTreeSet<String>,
    pub inserted_at: Timestamp,
    /// An answer of the daemon's made it, and nobody else since.
    pub ours: bool,
    /// It is that of a guest.
    pub guest: bool,
}

/// The user to whom a handle belongs, in the platform's spelling.
pub fn owner_of(handle: &str) -> String {
    handle.trim_start_matches('@').split('/').next().unwrap_or_default().to_lowercase()
}

impl PlatformContact {
    pub fn new(id: String, handle: Option<&str>, inserted_at: Timestamp) -> Self {
        let owners = handle.map(owner_of).into_iter().collect();
        Self { id, handle: handle.map(str::to_owned), owners, inserted_at, ours: false, guest: false }
    }

    pub fn payload(&self) -> Value {
        json!({
            "id": self.id, "type": "User", "inserted_at": self.inserted_at.to_string(), "handle": self.handle,
            "name": null,
        })
    }
}

#[derive(Debug, Default)]
pub struct PlatformModel {
    pub sent_requests: BTreeMap<String, SentRequest>,
    /// The live connection: the daemon's, with its life and socket number, or a rival's.
    pub holder: Option<Holder>,
    /// An older connection still counts as live until then.
    pub ghost_until: Option<Duration>,
    pub contacts: Vec<PlatformContact>,
    /// Contacts that were removed and may be made again.
    pub parted: Vec<PlatformContact>,
    /// Rows of the lists that cannot be read; `true`: not even their ids can be read.
    pub garbled: BTreeMap<String, bool>,
    /// Since when all rows can be read.
    pub readable_at: Duration,
    /// Another client that wants the connection, and whether it takes it back when it is thrown off.
    pub rival: Option<bool>,
    /// An earlier list, for pages from a replica that lags.
    pub stale: Option<Vec<String>>,
    /// An older platform: it ignores `on_conflict`, and the newest connection wins.
    pub old: bool,
    pub oldest_first: bool,
    /// When a request last stopped being pending, which shifts the following pages, and when a stale page was last
    /// sent.
    pub removed_at: Duration,
    pub stale_at: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    Daemon(Socket),
    Rival,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    pub life: u64,
    pub conn: u64,
    pub join: Option<String>,
    pub control: Option<String>,
}

fn failed<T>(fault: CallFault) -> Result<T, CallError> {
    Err(CallError { fault, code: None, message: None, retry_after: None })
}

impl SentRequest {
    pub fn request(&self, id: &str) -> ContactRequest {
        ContactRequest {
            id: RequestId::parse(id).unwrap(),
            sender: Sender::parse(self.handle.as_deref()),
            name: super::rules::name(self.kind).map(StrangerText::new),
            message: self.message.as_deref().map(StrangerText::new),
            inserted_at: Some(self.inserted_at),
            ids: None,
        }
    }

    pub fn payload(&self, id: &str) -> Value {
        json!({
            "id": id, "status": "pending", "inserted_at": self.inserted_at.to_string(),
            "from_handle": self.handle, "from_name": super::rules::name(self.kind), "message": self.message,
        })
    }
}

impl PlatformModel {
    fn pending(&self) -> Vec<String> {
        let mut ids: Vec<(usize, String)> = self
            .sent_requests
            .iter()
            .filter(|(_, sent)| sent.status == "pending")
            .map(|(id, sent)| (sent.number, id.clone()))
            .collect();
        ids.sort();
        // With the newest first, a new request shifts pages that were read already; with the oldest first, an answered
        // request shifts pages that were not read yet.
        if !self.oldest_first {
            ids.reverse();
        }
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether the daemon gets events of requests.
    pub fn joined(&self) -> bool {
        matches!(&self.holder, Some(Holder::Daemon(socket)) if socket.join.is_some())
    }

    /// Takes a copy of the list for later stale pages.
    pub fn photograph(&mut self) {
        self.stale = Some(self.pending());
    }

    /// One page, with a size of the simulation's own, so that a few requests make many pages.
    pub fn page(&self, page: u32, size: usize, stale: bool) -> Page<ContactRequest> {
        let ids = match (&self.stale, stale) {
            (Some(stale), true) => stale.clone(),
            _ => self.pending(),
        };
        let from = (page as usize - 1) * size;
        let shown: Vec<&String> = ids.iter().skip(from).take(size).collect();
        let readable = shown.iter().filter(|id| !self.garbled.contains_key(**id));
        let items = readable.map(|id| self.sent_requests[*id].request(id)).collect();
        let (unreadable, nameless) = self.garbled(shown.iter().map(|id| id.as_str()), RequestId::parse);
        Page {
            items,
            unreadable,
            nameless,
            total: Some(ids.len() as u64),
            pages: Some(ids.len().div_ceil(size).max(1) as u32),
        }
    }

    /// One page of the contacts.
    pub fn contacts_page(&self, page: u32, size: usize) -> Page<Contact> {
        let shown = self.contacts.iter().skip((page as usize - 1) * size).take(size);
        let items = shown.clone().filter(|fellow| !self.garbled.contains_key(&fellow.id)).map(contact).collect();
        let (unreadable, nameless) = self.garbled(shown.map(|fellow| fellow.id.as_str()), ContactId::parse);
        let (total, pages) = (self.contacts.len() as u64, self.contacts.len().div_ceil(size).max(1) as u32);
        Page { items, unreadable, nameless, total: Some(total), pages: Some(pages) }
    }

    /// The rows of a page that cannot be read: by id, or by position if the id cannot be read either.
    fn garbled<'a, I, E: std::fmt::Debug>(
        &self,
        ids: impl Iterator<Item = &'a str>,
        parse: impl Fn(&str) -> Result<I, E>,
    ) -> (Vec<Unreadable<I>>, Vec<u32>) {
        let (mut unreadable, mut nameless) = (Vec::new(), Vec::new());
        for (id, position) in ids.zip(1..) {
            match self.garbled.get(id) {
                None => {}
                Some(true) => nameless.push(position),
                Some(false) => {
                    let why = "`from_handle` is no text".to_owned();
                    unreadable.push(Unreadable { id: parse(id).unwrap(), position, why });
                }
            }
        }
        (unreadable, nameless)
    }

    /// Accepts an answer like the platform: every end is final.
    pub fn respond(&mut self, id: &str, answer: Answer, now: Timestamp) -> Result<Responded, CallError> {
        let Some(sent) = self.sent_requests.get_mut(id) else { return failed(CallFault::NotFound) };
        if sent.status != "pending" {
            let fault = if sent.status == "cancelled" { CallFault::NotFound } else { CallFault::Conflict };
            return failed(fault);
        }
        sent.status = match answer {
            Answer::Approve => "approved",
            Answer::Reject => "rejected",
        };
        sent.taken = Some(answer);
        if answer == Answer::Approve && !self.contacts.iter().any(|one| one.id == format!("contact-{id}")) {
            let mut fellow = PlatformContact::new(format!("contact-{id}"), sent.handle.as_deref(), now);
            (fellow.ours, fellow.guest) = (true, sent.kind == super::rules::GUEST);
            self.contacts.push(fellow);
        }
        Ok(Responded { status: doorman::model::RequestStatus::parse(self.sent_requests[id].status) })
    }

    /// Ends a request from outside: `cancelled`, `expired`, or a person's `approved` or `rejected`.
    pub fn end(&mut self, id: &str, status: &'static str) -> bool {
        match self.sent_requests.get_mut(id) {
            Some(sent) if sent.status == "pending" => {
                sent.status = status;
                true
            }
            _ => false,
        }
    }

    /// Processes a frame from the daemon's socket; returns the reply frames.
    pub fn frame(&mut self, socket: &mut Socket, text: &str, agent: &str) -> Vec<String> {
        let Ok(Value::Array(parts)) = serde_json::from_str::<Value>(text) else { return Vec::new() };
        let [join_ref, reference, topic, event, _] = parts.as_slice() else { return Vec::new() };
        let (topic, event) = (topic.as_str().unwrap_or_default(), event.as_str().unwrap_or_default());
        let reply = |join: &Value, status: &str, response: Value| {
            json!([join, reference, topic, "phx_reply", {"status": status, "response": response}]).to_string()
        };
        match event {
            "heartbeat" => vec![reply(&Value::Null, "ok", json!({}))],
            "phx_join" if topic == format!("agent_contacts:{agent}") => {
                let old = socket.join.replace(join_ref.as_str().unwrap_or_default().to_owned());
                let mut frames = vec![reply(join_ref, "ok", json!({}))];
                if let Some(old) = old {
                    frames.push(json!([old, old, topic, "phx_close", {}]).to_string());
                }
                frames
            }
            "phx_join" if topic == format!("agent_control:{agent}") && !self.old => {
                socket.control = Some(join_ref.as_str().unwrap_or_default().to_owned());
                vec![reply(join_ref, "ok", json!({}))]
            }
            "phx_join" => vec![reply(&Value::Null, "error", json!({"reason": "unmatched topic"}))],
            "phx_leave" => {
                socket.join = None;
                vec![reply(join_ref, "ok", json!({})), json!([join_ref, join_ref, topic, "phx_close", {}]).to_string()]
            }
            _ => Vec::new(),
        }
    }
}

fn contact(fellow: &PlatformContact) -> Contact {
    Contact {
        id: ContactId::parse(&fellow.id).unwrap(),
        sender: Sender::parse(fellow.handle.as_deref()),
        name: None,
        kind: ContactKind::User,
        inserted_at: Some(fellow.inserted_at),
        ids: None,
    }
}
