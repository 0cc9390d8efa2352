//! The calls about chats and peers that an agent of the official SDK makes while it starts.

use http::Method;
use serde_json::{Value, json};

use super::{ApiCall, empty, pages};
use crate::sandbox::reply::{HttpReply, error, json_text, json_value, problem};
use crate::sandbox::store::{PageRows, PageWanted};

impl ApiCall<'_> {
    /// `agent/peers`, `agent/chats` and the paths below; `None` for paths that are not imitated.
    pub(super) fn chats(&self, path: &str) -> Option<HttpReply> {
        let parts: Vec<&str> = path.strip_prefix("agent/")?.split('/').collect();
        let get = self.parts.method == Method::GET;
        Some(match (&self.parts.method, parts.as_slice()) {
            (&Method::GET, ["peers"]) => self.paged(|page| {
                let inner = self.shared.lock();
                let online = |party| inner.hub.is_live(party, self.read.mono);
                inner.store.list_peers(self.agent, page, online)
            }),
            (&Method::GET, ["chats"]) => self.paged(|page| self.shared.lock().store.list_rooms(self.agent, page)),
            (&Method::POST, ["chats"]) => self.make_room(),
            (&Method::GET | &Method::POST, ["chats", id, below @ ..]) => {
                let Some(room) = self.shared.lock().store.room(self.agent, id) else {
                    return Some(error(404, "not_found", "no such chat", Some(self.number)));
                };
                match below {
                    [] if get => json_value(200, &json!({ "data": room })),
                    ["participants"] if get => {
                        json_value(200, &json!({ "data": self.shared.lock().store.participants(self.agent) }))
                    }
                    ["messages", "next"] if get => empty(204),
                    ["messages" | "context"] if get => {
                        let metadata = json!({ "has_more": false, "limit": 50, "next_cursor": null });
                        json_value(200, &json!({ "data": [], "metadata": metadata }))
                    }
                    ["messages"] => self.said(json!({ "success": true, "recipients": [] })),
                    ["events"] => {
                        let body: Value = serde_json::from_slice(self.body).unwrap_or_default();
                        let kind = body["event"]["message_type"].as_str().unwrap_or("thought");
                        self.said(json!({ "success": true, "message_type": kind }))
                    }
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    pub(super) fn paged(&self, list: impl FnOnce(PageWanted) -> PageRows) -> HttpReply {
        let page = match self.page() {
            Ok(page) => page,
            Err(refusal) => return *refusal,
        };
        let PageRows { rows, total } = list(page);
        let metadata = json!({
            "page": page.page, "page_size": page.size, "total_count": total, "total_pages": pages(total, page),
        });
        json_text(200, format!("{{\"data\":[{}],\"metadata\":{metadata}}}", rows.join(",")))
    }

    fn make_room(&self) -> HttpReply {
        let body = match self.json() {
            Ok(body) => body,
            Err(refusal) => return *refusal,
        };
        // The official client sends null if it has none.
        let task_id = body["chat"]["task_id"].as_str().map(|id| id.chars().take(128).collect());
        let (mut inner, mut pushed) = (self.shared.lock(), Vec::new());
        match inner.store.make_room(self.agent, task_id, self.shared.clock.now(), &mut pushed) {
            Ok(room) => {
                inner.tell(&mut pushed);
                json_value(201, &json!({ "data": room }))
            }
            Err(refusal) => problem(&refusal, self.number),
        }
    }

    /// The reply to a message in a room where nobody listens.
    fn said(&self, mut data: Value) -> HttpReply {
        data["id"] = uuid::Uuid::new_v4().to_string().into();
        json_value(201, &json!({ "data": data }))
    }
}
