//! A model of the platform for the simulation: requests, one connection an agent, paged lists, answers. It knows what is
//! true; what the daemon hears of it is the schedule's business.

use std::collections::BTreeMap;
use std::time::Duration;

use doorman::model::{Answer, ContactRequest, RequestId, Sender, StrangerText};
use doorman::platform::{CallError, CallFault, Page, Responded};
use jiff::Timestamp;
use serde_json::{Value, json};

/// How a request stands, and what was said to it.
#[derive(Debug, Clone)]
pub struct Knock {
    pub number: usize,
    pub handle: Option<String>,
    pub message: Option<String>,
    pub inserted_at: Timestamp,
    pub status: &'static str,
    /// The answer of the daemon's that the platform took.
    pub taken: Option<Answer>,
    /// The answer that may have been taken, as far as the daemon can know: only the same may follow.
    pub bound: Option<Answer>,
    /// Attempts of which the daemon cannot know that they were not carried out.
    pub uncertain: u32,
    pub kind: usize,
    /// When it came.
    pub at: Duration,
}

#[derive(Debug, Default)]
pub struct Platform {
    pub knocks: BTreeMap<String, Knock>,
    /// The live connection: the life and number of the daemon's socket, or a rival's.
    pub holder: Option<Holder>,
    /// An older connection still counts as live until then.
    pub ghost_until: Option<Duration>,
    pub contacts: Vec<(String, Option<String>)>,
    /// Another client that wants the connection, and whether it takes it back when it is thrown off.
    pub rival: Option<bool>,
    /// An earlier list, for pages from a replica that lags.
    pub stale: Option<Vec<String>>,
    /// An older platform: `on_conflict` means nothing to it, and the newest connection wins.
    pub old: bool,
    pub oldest_first: bool,
    /// When a request last ceased to be pending, which shifts the pages after it, and when a stale page was last given.
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

impl Knock {
    pub fn request(&self, id: &str) -> ContactRequest {
        ContactRequest {
            id: RequestId::parse(id).unwrap(),
            sender: Sender::parse(self.handle.as_deref()),
            name: None,
            message: self.message.as_deref().map(StrangerText::new),
            inserted_at: Some(self.inserted_at),
        }
    }

    pub fn payload(&self, id: &str) -> Value {
        json!({
            "id": id, "status": "pending", "inserted_at": self.inserted_at.to_string(),
            "from_handle": self.handle, "message": self.message,
        })
    }
}

impl Platform {
    fn pending(&self) -> Vec<String> {
        let mut ids: Vec<(usize, String)> = self
            .knocks
            .iter()
            .filter(|(_, knock)| knock.status == "pending")
            .map(|(id, knock)| (knock.number, id.clone()))
            .collect();
        ids.sort();
        // Newest first, a new request shifts what was already read; oldest first, an answered one what was not.
        if !self.oldest_first {
            ids.reverse();
        }
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether the daemon is told of requests.
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
        let items = ids.iter().skip(from).take(size).map(|id| self.knocks[id].request(id)).collect();
        Page {
            items,
            unreadable: vec![],
            nameless: vec![],
            total: Some(ids.len() as u64),
            pages: Some(ids.len().div_ceil(size).max(1) as u32),
        }
    }

    /// Takes an answer, as the platform does: all ends are final.
    pub fn respond(&mut self, id: &str, answer: Answer) -> Result<Responded, CallError> {
        let Some(knock) = self.knocks.get_mut(id) else { return failed(CallFault::NotFound) };
        if knock.status != "pending" {
            let fault = if knock.status == "cancelled" { CallFault::NotFound } else { CallFault::Conflict };
            return failed(fault);
        }
        knock.status = match answer {
            Answer::Approve => "approved",
            Answer::Reject => "rejected",
        };
        knock.taken = Some(answer);
        if answer == Answer::Approve {
            self.contacts.push((format!("contact-{id}"), knock.handle.clone()));
        }
        Ok(Responded { status: doorman::model::RequestStatus::parse(self.knocks[id].status) })
    }

    /// Ends a request from outside: `cancelled`, `expired`, or a person's `approved` or `rejected`.
    pub fn end(&mut self, id: &str, status: &'static str) -> bool {
        match self.knocks.get_mut(id) {
            Some(knock) if knock.status == "pending" => {
                knock.status = status;
                true
            }
            _ => false,
        }
    }

    /// A frame from the daemon's socket; the frames that answer it.
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
