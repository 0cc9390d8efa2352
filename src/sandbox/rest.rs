//! The platform's REST calls (`docs/platform.md`): the caller, the reply, and its format. The store has the rules.

mod chats;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, header};
use serde_json::{Value, json};

use super::fault::{Fault, FaultAction, FaultPlace};
use super::malformed;
use super::reply::{
    CloseWithoutReply, HttpReply, error, fault_status, invalid, json_text, json_value, malformed, problem,
};
use super::server::{header as header_text, query};
use super::shared::{STALL, SandboxShared, note};
use super::store::{AnswerAction, PageWanted, PartyIndex, micros};
use super::wire::{SandboxStatus, SeenListing};
use super::world::PartyKind;
use crate::clock::Now;

/// Longest message of a contact request, in characters \[seed\].
const MESSAGE_MAX: usize = 500;
const PAGE_SIZE_MAX: u64 = 100;
const PAGE_SIZE_DEFAULT: u64 = 50;

/// An answer that ends a call early; boxed, since it is large and rare.
type EarlyReply = Box<HttpReply>;

/// One call of an agent.
struct ApiCall<'a> {
    shared: &'a Arc<SandboxShared>,
    agent: PartyIndex,
    /// The answer's `request_id`.
    number: u64,
    parts: &'a Parts,
    body: &'a Bytes,
    /// When the call had been read completely.
    read: Now,
}

/// Answers `path` (below `/api/v1/`).
pub(super) async fn handle(
    path: &str,
    parts: &Parts,
    body: &Bytes,
    shared: &Arc<SandboxShared>,
) -> Result<HttpReply, CloseWithoutReply> {
    let read = shared.clock.now();
    let number = shared.next();
    let key = header_text(parts, "x-api-key").unwrap_or_default();
    let (agent, kind) = {
        let inner = shared.lock();
        let Some(party) = inner.store.by_key(key) else {
            return Ok(error(401, "unauthorized", "missing or invalid API key", Some(number)));
        };
        (party, inner.store.parties[party].kind)
    };
    if shared.throttled(Some(agent)) {
        return Ok(empty(429));
    }
    let allowed = match kind {
        PartyKind::Agent => "agent",
        PartyKind::User => "me",
    };
    let area = path.split('/').next().unwrap_or_default();
    if area != allowed && matches!(area, "agent" | "me") {
        return Ok(error(403, "forbidden", "this key is not allowed here", Some(number)));
    }
    let call = ApiCall { shared, agent, number, parts, body, read };
    match (&parts.method, path) {
        (&Method::GET, "agent/me") => call.me().await,
        (&Method::GET, "agent/contacts") => Ok(call.contacts()),
        (&Method::GET, "agent/contacts/requests") => call.requests().await,
        (&Method::POST, "agent/contacts/requests/respond") => call.respond().await,
        (&Method::POST, "agent/contacts/add") => Ok(call.add().unwrap_or_else(|refusal| *refusal)),
        (&Method::POST, "agent/contacts/remove") => Ok(call.remove().unwrap_or_else(|refusal| *refusal)),
        (
            _,
            "agent/me"
            | "agent/contacts"
            | "agent/contacts/requests"
            | "agent/contacts/requests/respond"
            | "agent/contacts/add"
            | "agent/contacts/remove",
        ) => Ok(error(405, "method_not_allowed", "not with this method", Some(number))),
        _ => Ok(call.chats(path).unwrap_or_else(|| error(404, "not_found", "no such call", Some(number)))),
    }
}

impl ApiCall<'_> {
    async fn me(&self) -> Result<HttpReply, CloseWithoutReply> {
        let fault = self.shared.strike(FaultPlace::Me, Some(self.agent), "");
        match self.before(fault.as_ref()).await {
            Some(instead) => instead,
            None => Ok(self.identity()),
        }
    }

    fn identity(&self) -> HttpReply {
        let inner = self.shared.lock();
        let party = &inner.store.parties[self.agent];
        let owner = inner.store.owner(self.agent).map(|owner| inner.store.parties[owner].id.clone());
        let since = "2026-01-01T00:00:00Z";
        json_value(
            200,
            &json!({ "data": {
                "id": party.id, "handle": party.handle, "name": party.name, "description": party.description,
                "owner_uuid": owner.unwrap_or_else(|| "00000000-0000-4000-8000-000000000000".into()),
                "inserted_at": since, "updated_at": since,
                "feature_flags": { "ff_file_transfer": false, "ff_room_tasks": false },
                "listed_in_directory": false, "tags": [], "avatar_url": null,
            } }),
        )
    }

    fn page(&self) -> Result<PageWanted, EarlyReply> {
        let number = |name, default, max| match query(self.parts, name).as_deref() {
            None | Some("") => Ok::<u64, EarlyReply>(default),
            Some(text) => match text.parse::<u64>() {
                Ok(number) if (1..=max).contains(&number) => Ok(number),
                _ => Err(invalid(name, &format!("must be a number from 1 to {max}"), self.number).into()),
            },
        };
        Ok(PageWanted {
            page: number("page", 1, 1_000_000_000)?,
            size: number("page_size", PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)?,
        })
    }

    fn contacts(&self) -> HttpReply {
        self.paged(|page| {
            let inner = self.shared.lock();
            let online = |party| inner.hub.is_live(party, self.read.mono);
            inner.store.list_contacts(self.agent, page, online)
        })
    }

    async fn requests(&self) -> Result<HttpReply, CloseWithoutReply> {
        let fault = self.shared.strike(FaultPlace::List, Some(self.agent), "");
        if let Some(instead) = self.before(fault.as_ref()).await {
            return instead;
        }
        let (page, sent_status) = match self.page().and_then(|page| Ok((page, self.sent_status()?))) {
            Ok(asked) => asked,
            Err(refusal) => return Ok(*refusal),
        };
        let now = self.shared.clock.now();
        let stale = fault.as_ref().filter(|fault| fault.what == FaultAction::StaleList).map(|fault| {
            let age = fault.wait(10_000);
            crate::clock::Mono::from_origin(now.mono.since_origin().saturating_sub(age))
        });
        let (mut received, sent) = {
            let mut inner = self.shared.lock();
            let received = inner.store.list_received(self.agent, page, stale);
            let sent = inner.store.list_sent(self.agent, page, sent_status);
            let listing = SeenListing {
                at_us: micros(now.mono),
                agent: inner.store.parties[self.agent].id.clone(),
                page: page.page,
                page_size: page.size,
                total: received.total as u64,
            };
            note(&mut inner.journal.lists, listing);
            (received, sent)
        };
        if let Some(fault) = fault.as_ref().filter(|fault| fault.what == FaultAction::BadRow)
            && let Some(row) = received.rows.first_mut()
        {
            *row = malformed::row(row, fault.code.unwrap_or(0));
        }
        match fault.map(|fault| fault.what) {
            Some(FaultAction::Duplicate) => {
                received.rows = received.rows.iter().flat_map(|row| [row.clone(), row.clone()]).collect()
            }
            Some(FaultAction::Reorder) => received.rows.reverse(),
            _ => {}
        }
        let metadata = json!({
            "page": page.page, "page_size": page.size,
            "received": { "total": received.total, "total_pages": pages(received.total, page) },
            "sent": { "total": sent.total, "total_pages": pages(sent.total, page) },
        });
        let (received, sent) = (received.rows.join(","), sent.rows.join(","));
        let body = format!("{{\"data\":{{\"received\":[{received}],\"sent\":[{sent}]}},\"metadata\":{metadata}}}");
        Ok(json_text(200, body))
    }

    /// `sent_status` \[sdk\]: pending if it is left out, `None` for all.
    fn sent_status(&self) -> Result<Option<SandboxStatus>, EarlyReply> {
        match query(self.parts, "sent_status").as_deref() {
            None | Some("") => Ok(Some(SandboxStatus::Pending)),
            Some("all") => Ok(None),
            Some(word) => match SandboxStatus::parse(word) {
                Some(status) => Ok(Some(status)),
                None => Err(invalid("sent_status", "is not a valid status", self.number).into()),
            },
        }
    }

    fn json(&self) -> Result<Value, EarlyReply> {
        match serde_json::from_slice(self.body) {
            Ok(body @ Value::Object(_)) => Ok(body),
            _ => Err(error(400, "bad_request", "the body must be a JSON object", Some(self.number)).into()),
        }
    }

    /// An optional text field. It may be left out, but it must not be null.
    fn text<'b>(&self, body: &'b Value, field: &str) -> Result<Option<&'b str>, EarlyReply> {
        let problem = match body.get(field) {
            None => return Ok(None),
            Some(Value::String(text)) => return Ok(Some(text)),
            Some(Value::Null) => "null value where string expected",
            Some(_) => "must be a string",
        };
        Err(malformed(&format!("/{field}"), problem, self.number).into())
    }

    async fn respond(&self) -> Result<HttpReply, CloseWithoutReply> {
        let fault = self.shared.strike(FaultPlace::Respond, Some(self.agent), "");
        if let Some(instead) = self.before(fault.as_ref()).await {
            return instead;
        }
        let reply = self.answer().unwrap_or_else(|refusal| *refusal);
        match fault {
            Some(fault) if fault.what == FaultAction::ApplyThenFail => match fault.code {
                Some(_) => Ok(fault_status(&fault, Some(self.number))),
                None => Err(CloseWithoutReply),
            },
            Some(fault) if fault.what == FaultAction::Duplicate => Ok(self.answer().unwrap_or_else(|refusal| *refusal)),
            _ => Ok(reply),
        }
    }

    fn answer(&self) -> Result<HttpReply, EarlyReply> {
        let body = self.json()?;
        let Some(action) = self.text(&body, "action")?.and_then(AnswerAction::parse) else {
            return Err(malformed("/action", "must be approve, reject or cancel", self.number).into());
        };
        let (id, handle) = (self.text(&body, "request_id")?, self.text(&body, "handle")?);
        let mut inner = self.shared.lock();
        let index = match (id, handle) {
            (Some(id), _) => inner.store.request(id),
            (None, Some(handle)) => inner.store.by_other_handle(self.agent, action, handle),
            (None, None) => {
                return Err(malformed("/request_id", "request_id or handle is required", self.number).into());
            }
        };
        let Some(index) = index else {
            return Err(error(404, "not_found", "no such contact request", Some(self.number)).into());
        };
        let mut pushed = Vec::new();
        let result = inner.store.respond(self.agent, action, index, self.shared.clock.now(), &mut pushed);
        let status = result.map_err(|refusal| EarlyReply::from(problem(&refusal, self.number)))?;
        inner.answered(index, self.read);
        inner.tell(&mut pushed);
        let id = &inner.store.requests[index].id;
        Ok(json_value(200, &json!({ "data": { "id": id, "status": status } })))
    }

    fn add(&self) -> Result<HttpReply, EarlyReply> {
        let body = self.json()?;
        let Some(handle) = self.text(&body, "handle")? else {
            return Err(malformed("/handle", "is required", self.number).into());
        };
        let message = self.text(&body, "message")?.filter(|text| !text.is_empty()).map(str::to_owned);
        if message.as_ref().is_some_and(|text| text.chars().count() > MESSAGE_MAX) {
            return Err(invalid("/message", &format!("has at most {MESSAGE_MAX} characters"), self.number).into());
        }
        let (mut inner, mut pushed) = (self.shared.lock(), Vec::new());
        let added = inner.store.add(self.agent, handle, message, self.shared.clock.now(), &mut pushed);
        let (id, status) = added.map_err(|refusal| EarlyReply::from(problem(&refusal, self.number)))?;
        inner.tell(&mut pushed);
        Ok(json_value(201, &json!({ "data": { "id": id, "status": status } })))
    }

    fn remove(&self) -> Result<HttpReply, EarlyReply> {
        let body = self.json()?;
        let (handle, id) = (self.text(&body, "handle")?, self.text(&body, "contact_id")?);
        if handle.is_none() && id.is_none() {
            return Err(malformed("/handle", "handle or contact_id is required", self.number).into());
        }
        let (mut inner, mut pushed) = (self.shared.lock(), Vec::new());
        let removed = inner.store.remove_contact(self.agent, handle, id, &mut pushed);
        removed.map_err(|refusal| EarlyReply::from(problem(&refusal, self.number)))?;
        inner.tell(&mut pushed);
        Ok(json_value(200, &json!({ "data": { "status": "removed" } })))
    }

    /// What a fault does before the call is carried out, or instead of it.
    async fn before(&self, fault: Option<&Fault>) -> Option<Result<HttpReply, CloseWithoutReply>> {
        let fault = fault?;
        match fault.what {
            FaultAction::Drop => Some(Err(CloseWithoutReply)),
            FaultAction::Stall => {
                tokio::time::sleep(fault.ms.map_or(STALL, std::time::Duration::from_millis)).await;
                Some(Err(CloseWithoutReply))
            }
            FaultAction::Status => Some(Ok(fault_status(fault, Some(self.number)))),
            FaultAction::Malformed => Some(Ok(malformed::body(fault.code, self.number))),
            FaultAction::EdgePage => Some(Ok(malformed::edge_page(fault.code.unwrap_or(403)))),
            FaultAction::Delay => {
                SandboxShared::pause(fault, 1000).await;
                None
            }
            FaultAction::Close | FaultAction::Supersede | FaultAction::Ghost | FaultAction::CrashChannel => {
                self.shared.strike_socket(fault, self.agent);
                None
            }
            FaultAction::Duplicate
            | FaultAction::Reorder
            | FaultAction::ApplyThenFail
            | FaultAction::StaleList
            | FaultAction::BadRow
            | FaultAction::Throttle => None,
        }
    }
}

fn pages(total: usize, page: PageWanted) -> u64 {
    (total as u64).div_ceil(page.size)
}

/// A refused upgrade, or any other answer without a body.
pub(super) fn empty(status: u16) -> HttpReply {
    let mut reply = super::reply::raw(status, "", Bytes::new());
    reply.headers_mut().insert(header::CONTENT_LENGTH, header::HeaderValue::from(0));
    reply
}
