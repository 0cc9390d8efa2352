//! The calls that an agent's task makes: each runs beside it and comes back as a [`CallDone`].

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Agent, CurrentSocket};
use crate::agent::core::Input;
use crate::clock::Mono;
use crate::config::settings::{AgentSettings, SecretKind};
use crate::decider;
use crate::inbox::{Fetch, PAGE_SIZE};
use crate::ledger::{LedgerError, Record, RestoreReach};
use crate::model::{Answer, Contact, ContactId, ContactRequest, RequestId};
use crate::model::{ConnectFailure, ConnectPlan, Ended, RefusedBy};
use crate::ops::log::events;
use crate::ops::stop_at::{self, StopPoint};
use crate::platform::rest::{AgentRest, PagePlace, Rest};
use crate::platform::socket::{self, Socket, SocketCommand};
use crate::platform::{CallError, Me, Page, Reply, Responded};
use crate::policy::ask::{AskFailure, DeciderReply};
use crate::policy::state::SavedState;
use crate::policy::{Circumstances, Question};
use crate::secret::{self, Key};
use crate::transcript::Direction;

/// Frames that wait between the socket and the agent's task; a full channel slows the socket down.
const FRAMES_WAITING: usize = 1024;
/// Frames that wait to be sent: joins, leaves and heartbeats only.
const SENDS_WAITING: usize = 16;

/// The result of a call.
#[derive(Debug)]
pub enum CallDone {
    /// The socket of this number is open, or is not.
    Connected(u64, Result<Box<Socket>, ConnectFailure>),
    /// The socket's task has ended; its last event said so.
    SocketEnded,
    /// The reply to `me`: the number of the question, the key that was used, and the reply.
    Me(u64, Box<Result<(Key, AgentRest), String>>, Reply<Me>),
    /// The key, read again for a reload.
    KeyRead(Box<ReadKey>),
    /// A page of requests.
    Page(Fetch, Reply<Page<ContactRequest>>),
    /// A page of contacts.
    Contacts(u64, Reply<Page<Contact>>),
    /// The reply to an answer.
    Responded {
        /// To which request.
        request: RequestId,
        /// Which attempt.
        attempt: u32,
        /// What came.
        reply: Reply<Responded>,
        /// When it was written.
        written: Mono,
    },
    /// The verdict of a decider, or why there is none.
    DeciderReplied {
        /// About which request.
        request: RequestId,
        /// What was asked.
        question: Question,
        /// What came.
        result: Result<DeciderReply, AskFailure>,
        /// How long it took.
        took: std::time::Duration,
    },
    /// A batch is on record, or is not.
    Recorded(Result<(), LedgerError>),
    /// The ledger's memory, read again for a policy that needs more of it.
    Restored(u64, Result<Box<SavedState>, LedgerError>),
    /// Something went on record; nothing waits for it.
    Noted,
    /// The reply to the removal of a contact.
    Removed(ContactId, Reply<()>),
}

/// The key and the client that uses it, or an error message for people.
pub(super) type ReadKey = Result<(Key, AgentRest), String>;

/// Reads the key where blocking is allowed: whatever its file does, only this agent waits for it.
pub(super) async fn read_key(settings: &Arc<AgentSettings>, rest: &Rest) -> ReadKey {
    let (settings, rest) = (settings.clone(), rest.clone());
    let read = tokio::task::spawn_blocking(move || read_key_here(&settings, &rest)).await;
    read.unwrap_or_else(|_| Err("it could not be read".to_owned()))
}

/// Reads the key and makes the client that uses it, or returns an error message for people.
fn read_key_here(settings: &AgentSettings, rest: &Rest) -> ReadKey {
    let key = secret::read(&settings.key, SecretKind::Key).map_err(|error| error.to_string())?;
    let client = rest.agent(settings.id.clone(), key.clone());
    Ok((key, client))
}

/// All pages of this reading before this one were good, unless a smaller page is read since one was too large.
fn page_place(page: u32, size: u32) -> PagePlace {
    if page > 1 && size == PAGE_SIZE { PagePlace::Follows } else { PagePlace::Begins }
}

fn no_key<T>(why: &str) -> Reply<T> {
    Reply { result: Err(CallError::no_key(why)), date: None }
}

impl Agent {
    /// Makes a call; its result comes back to [`Agent::done`].
    pub(super) fn call(&self, call: impl Future<Output = CallDone> + Send + 'static) {
        self.calls.push(Box::pin(call));
    }

    /// Takes the result of a call; the core goes on at the end of the turn.
    pub(super) fn done(&mut self, done: CallDone) {
        let now = self.now();
        match done {
            CallDone::Connected(conn, Ok(socket)) => self.connected(conn, *socket),
            CallDone::Connected(conn, Err(refusal)) => {
                self.record(|recorder, agent| recorder.refused(agent, conn, &refusal));
                if self.conn.as_ref().is_some_and(|current| current.number == conn) {
                    self.conn = None;
                }
                self.core.take(Input::NotOpened { conn, refusal }, now);
            }
            CallDone::SocketEnded | CallDone::Noted => {}
            CallDone::Removed(contact, reply) => self.core.take(Input::Removed { contact, reply }, now),
            CallDone::Me(question, key, reply) if question == self.questions => {
                let changed = self.take_key(*key);
                self.name_on_record(&reply, now.wall);
                self.core.take(Input::Me { reply, changed }, now);
            }
            CallDone::Me(..) => {}
            CallDone::KeyRead(key) => {
                let changed = self.take_key(*key);
                // Questions about the old key do not matter any more.
                self.questions += u64::from(changed);
                self.core.take(Input::KeyRenewed { changed }, now);
            }
            CallDone::Page(fetch, reply) => self.core.take(Input::Page(fetch, reply), now),
            CallDone::Contacts(call, reply) => self.core.take(Input::Contacts { call, reply }, now),
            CallDone::Responded { request, attempt, reply, written } => {
                self.core.take(Input::Responded { request, attempt, reply, written }, now);
            }
            CallDone::Restored(number, result) => {
                if let Err(error) = &result {
                    tracing::error!(event = events::LEDGER_UNREADABLE, why = %error, "the ledger could not be read for the new rules: conditions on the past are unknown until it can");
                }
                self.core.take(Input::Restored { number, saved: result.ok() }, now);
            }
            CallDone::DeciderReplied { request, question, result, took } => {
                self.core.take(Input::DeciderReplied { request, question, result, took }, now);
            }
            // Another doorman has the agent: nothing that this one still thinks of it matters.
            CallDone::Recorded(Err(error @ LedgerError::Fenced { .. })) => self.fenced = Some(error),
            CallDone::Recorded(result) => self.core.take(Input::Recorded(result), now),
        }
    }

    /// Records the handle of the agent, for commands that run without a daemon. Nothing waits for it.
    fn name_on_record(&mut self, reply: &Reply<Me>, at: jiff::Timestamp) {
        let Ok(me) = &reply.result else { return };
        let ours = me.id.as_str().eq_ignore_ascii_case(self.settings.id.as_str());
        let Some(handle) = me.sender.original().filter(|_| ours) else { return };
        // A platform may repeat the key wherever it likes.
        let handle = self.around.rest.redact().said(handle.raw());
        let (ledger, agent) = (self.around.ledger.clone(), self.settings.id.clone());
        self.call(async move {
            // If this fails, only those commands do not know the handle.
            let _ = ledger.commit(vec![Record::Named { agent, handle, at }]).await;
            CallDone::Noted
        });
    }

    pub(super) fn connect(&mut self, number: u64, plan: ConnectPlan) {
        let (dialer, agent) = (self.around.dialer.clone(), self.settings.id.clone());
        let timeout = self.around.timing.join_timeout;
        let key = self.key.as_ref().map(|(key, _)| key.clone()).map_err(Clone::clone);
        self.record(|recorder, agent| recorder.upgrade(agent, number, plan));
        let task = self.tasks.spawn(async move {
            let opened = match key {
                Ok(key) => socket::open(&dialer, &agent, &key, plan, timeout).await,
                Err(why) => Err(ConnectFailure {
                    status: None,
                    code: None,
                    by: RefusedBy::Unknown,
                    retry_after: None,
                    asked: false,
                    why,
                }),
            };
            CallDone::Connected(number, opened.map(Box::new))
        });
        let (sends, commands) = mpsc::channel(SENDS_WAITING);
        let (frames, events) = mpsc::channel(FRAMES_WAITING);
        self.conn =
            Some(CurrentSocket { number, commands: sends, events, ends: Some((frames, commands)), task, free: false });
    }

    fn connected(&mut self, number: u64, socket: Socket) {
        let now = self.now();
        self.record(|recorder, agent| recorder.opened(agent, number));
        if let Some(conn) = self.conn.as_mut().filter(|conn| conn.number == number)
            && let Some((frames, commands)) = conn.ends.take()
        {
            conn.task = self.tasks.spawn(async move {
                socket.run(frames, commands).await;
                CallDone::SocketEnded
            });
        }
        self.core.take(Input::Opened { conn: number }, now);
    }

    pub(super) fn send(&mut self, number: u64, text: String) {
        let Some(conn) = self.conn.as_ref().filter(|conn| conn.number == number) else { return };
        self.record(|recorder, agent| recorder.frame(agent, number, Direction::Out, &text));
        if conn.commands.try_send(SocketCommand::Send(text)).is_err() {
            // Sixteen frames are waiting and none is taken: the connection is probably dead, and its events will show
            // it.
            self.conn = None;
            let now = self.now();
            self.core.handle(Input::Closed { conn: number, ended: Ended::default() }, now);
        }
    }

    pub(super) fn close(&mut self, number: u64) {
        let Some(conn) = self.conn.take_if(|conn| conn.number == number) else { return };
        self.record(|recorder, agent| recorder.closed(agent, number, Direction::Out, Some(1000)));
        if conn.ends.is_none() && conn.commands.try_send(SocketCommand::Close).is_ok() {
            // The socket's task closes the connection by itself, within a time limit of its own.
            conn.let_go();
        }
    }

    pub(super) fn ask_me(&mut self) {
        let (settings, rest) = (self.settings.clone(), self.around.rest.clone());
        self.questions += 1;
        let question = self.questions;
        self.call(async move {
            let key = read_key(&settings, &rest).await;
            let reply = match &key {
                Ok((_, client)) => client.me().await,
                Err(why) => no_key(why),
            };
            CallDone::Me(question, Box::new(key), reply)
        });
    }

    pub(super) fn ask_page(&mut self, fetch: Fetch) {
        let client = self.client();
        self.call(async move {
            let reply = match client {
                Ok(client) => client.requests(fetch.page, fetch.size, page_place(fetch.page, fetch.size)).await,
                Err(why) => no_key(&why),
            };
            CallDone::Page(fetch, reply)
        });
    }

    pub(super) fn ask_contacts(&mut self, call: u64, page: u32, size: u32) {
        let client = self.client();
        self.call(async move {
            let reply = match client {
                Ok(client) => client.contacts(page, size, page_place(page, size)).await,
                Err(why) => no_key(&why),
            };
            CallDone::Contacts(call, reply)
        });
    }

    pub(super) fn respond(&mut self, request: RequestId, answer: Answer, attempt: u32) {
        let (client, clock) = (self.client(), self.around.clock.clone());
        self.call(async move {
            stop_at::here(StopPoint::Intent);
            let written = clock.now().mono;
            let reply = match client {
                Ok(client) => client.respond(&request, answer).await,
                Err(why) => no_key(&why),
            };
            stop_at::here(StopPoint::Outcome);
            CallDone::Responded { request, attempt, reply, written }
        });
    }

    /// Asks a decider; the agent's task does not wait.
    pub(super) fn ask(&mut self, request: &ContactRequest, question: Question, circumstances: &Circumstances) {
        let (deciders, metrics) = (self.around.deciders.clone(), self.around.metrics.clone());
        let redact = self.around.rest.redact().clone();
        let body = decider::body(&self.settings.id, request, &question, circumstances, |text| redact.said(text));
        let request = request.id.clone();
        self.call(async move {
            let (result, took) = deciders.ask(&question, &request, body).await;
            metrics.decider_asked(question.decider.as_str(), &result, took);
            // It may repeat whatever it was sent.
            let result =
                result.map(|word| DeciderReply { reason: word.reason.map(|reason| redact.said(reason.raw())), ..word });
            CallDone::DeciderReplied { request, question, result, took }
        });
    }

    pub(super) fn remove_contact(&mut self, contact: ContactId, for_person: bool) {
        let client = self.client();
        self.call(async move {
            let reply = match client {
                Ok(client) => client.remove_contact(&contact, for_person).await,
                Err(why) => no_key(&why),
            };
            stop_at::here(StopPoint::Outcome);
            CallDone::Removed(contact, reply)
        });
    }

    /// Reads the key again.
    pub(super) fn renew_key(&mut self) {
        let (settings, rest) = (self.settings.clone(), self.around.rest.clone());
        self.call(async move { CallDone::KeyRead(Box::new(read_key(&settings, &rest).await)) });
    }

    /// Uses this key from now on; returns whether it differs from the previous one. A missing key is always different.
    fn take_key(&mut self, key: Result<(Key, AgentRest), String>) -> bool {
        let before = std::mem::replace(&mut self.key, key);
        match (&before, &self.key) {
            (Ok((before, _)), Ok((now, _))) => before.expose() != now.expose(),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => true,
        }
    }

    /// Reads the record again.
    pub(super) fn restore(&mut self, number: u64, reach: RestoreReach) {
        let (ledger, agent, now) = (self.around.ledger.clone(), self.settings.id.clone(), self.now().wall);
        self.call(async move {
            let saved = ledger.load_agent(&agent, now, reach).await;
            CallDone::Restored(number, saved.map(|saved| Box::new(saved.policy_state)))
        });
    }

    fn client(&self) -> Result<AgentRest, String> {
        self.key.as_ref().map(|(_, client)| client.clone()).map_err(Clone::clone)
    }
}
