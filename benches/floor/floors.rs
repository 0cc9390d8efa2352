//! The floors: minimal programs that answer all requests, built on the crates that doorman uses. Each runs as a
//! separate process.
//!
//! Floor A reads the frame and sends the approval. Floor B also commits an intent before each call and an outcome after
//! it. Floor C is B with the rows and indexes of doorman's own ledger, and keeps in memory what doorman must keep of
//! pending requests. None of them has rules, retries, bounds or error handling.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::common::{AGENT, KEY};
use crate::records::{Entry, Kind, Records};

/// Most answers in flight, as in doorman's settings.
pub const IN_FLIGHT: usize = 64;
/// The platform closes a connection on which the client sends nothing for 45 s.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(25);

/// One request, as floor C keeps it.
#[derive(Debug, Clone, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: String,
    /// The sender's handle.
    pub from_handle: Option<String>,
    /// The sender's name.
    pub from_name: Option<String>,
    /// The sender's message.
    pub message: Option<String>,
    /// When the platform received it.
    pub inserted_at: Option<String>,
}

/// The part of a frame that the floors read: its refs, topic and event, and every field of its payload that they know.
#[derive(Deserialize)]
struct Frame<'a>(
    #[expect(dead_code, reason = "the place of the join_ref")] Option<&'a str>,
    Option<&'a str>,
    #[expect(dead_code, reason = "the place of the topic")] &'a str,
    &'a str,
    Payload,
);

/// A request, a contact, or the reply to a join.
#[derive(Deserialize)]
pub struct Payload {
    id: Option<String>,
    from_handle: Option<String>,
    from_name: Option<String>,
    message: Option<String>,
    /// When the platform made it.
    pub inserted_at: Option<String>,
    /// A contact's handle.
    pub handle: Option<String>,
    /// A contact's name.
    pub name: Option<String>,
}

impl Payload {
    /// A contact's id.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Page {
    data: Lists,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Lists {
    received: Vec<Request>,
}

#[derive(Deserialize)]
struct Metadata {
    received: Totals,
}

#[derive(Deserialize)]
struct Totals {
    total_pages: u32,
}

struct Floor {
    http: reqwest::Client,
    url: String,
    waiting: VecDeque<String>,
    /// What floor C keeps; floors A and B keep nothing but the id.
    kept: HashMap<String, Request>,
    keeps: bool,
    flying: usize,
    records: Option<Records>,
}

/// Runs one floor until its socket ends.
pub async fn run(kind: Kind, url: &str, dir: &Path) {
    let (told, mut committed) = mpsc::unbounded_channel();
    let records = Records::start(kind, &dir.join("floor.db"), told);
    let mut floor = Floor {
        http: reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap(),
        url: format!("{url}/api/v1/agent/contacts/requests"),
        waiting: VecDeque::new(),
        kept: HashMap::new(),
        keeps: kind == Kind::C,
        flying: 0,
        records,
    };
    let address = url.strip_prefix("http://").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let path = format!("ws://{address}/api/v1/socket/websocket?vsn=2.0.0&agent_id={AGENT}&on_conflict=reject");
    let mut request = path.into_client_request().unwrap();
    request.headers_mut().insert("x-api-key", KEY.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let join = format!("[\"1\",\"1\",\"agent_contacts:{AGENT}\",\"phx_join\",{{}}]");
    socket.send(Message::text(join)).await.unwrap();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    if floor.frame(&text) {
                        floor.list().await;
                        println!("live");
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            Some(id) = committed.recv() => calls.push(floor.call(id)),
            Some(id) = calls.next(), if !calls.is_empty() => floor.answered(id),
            _ = heartbeat.tick() => {
                socket.send(Message::text("[null,\"h\",\"phoenix\",\"heartbeat\",{}]")).await.unwrap();
            }
        }
        while floor.flying < IN_FLIGHT
            && let Some(id) = floor.waiting.pop_front()
        {
            floor.flying += 1;
            match &floor.records {
                None => calls.push(floor.call(id)),
                Some(records) => records.push(Entry::Intent(id.clone(), floor.kept.get(&id).cloned())),
            }
        }
    }
}

impl Floor {
    /// Takes a frame; whether it was the reply to the join.
    fn frame(&mut self, text: &str) -> bool {
        let Frame(_, reference, _, event, payload) = serde_json::from_str(text).unwrap();
        match event {
            "contact_request_received" => {
                let Payload { id, from_handle, from_name, message, inserted_at, .. } = payload;
                self.came(Request { id: id.unwrap(), from_handle, from_name, message, inserted_at });
            }
            "contact_added" if self.keeps => {
                if let Some(records) = &self.records {
                    records.push(Entry::Contact(payload));
                }
            }
            "phx_reply" => return reference == Some("1"),
            _ => {}
        }
        false
    }

    fn came(&mut self, request: Request) {
        self.waiting.push_back(request.id.clone());
        if self.keeps {
            self.kept.insert(request.id.clone(), request);
        }
    }

    /// Lists all pending requests, page by page.
    async fn list(&mut self) {
        let mut page = 1;
        loop {
            let call = self.http.get(&self.url).query(&[("page", page), ("page_size", 100)]).header("x-api-key", KEY);
            let body = call.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
            let read: Page = serde_json::from_slice(&body).unwrap();
            for request in read.data.received {
                self.came(request);
            }
            if page >= read.metadata.received.total_pages {
                return;
            }
            page += 1;
        }
    }

    fn call(&self, id: String) -> impl Future<Output = String> + use<> {
        let body = json!({ "action": "approve", "request_id": id });
        let call = self.http.post(format!("{}/respond", self.url)).header("x-api-key", KEY).json(&body);
        async move {
            let reply = call.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
            let _: serde_json::Value = serde_json::from_slice(&reply).unwrap();
            id
        }
    }

    fn answered(&mut self, id: String) {
        self.flying -= 1;
        self.kept.remove(&id);
        if let Some(records) = &self.records {
            records.push(Entry::Outcome(id));
        }
    }
}
