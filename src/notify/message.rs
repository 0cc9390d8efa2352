//! One message, in the form in which it is recorded and sent to webhooks and commands. It is bounded, and contains no
//! more of strangers' text than the target may get.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::conditions::{self, ConditionChanges};
use crate::config::settings::{NotifyEvent, NotifyText};
use crate::ledger::deliveries::{WaitingDeciderReply, WaitingRequest, WaitingRequests};
use crate::model::StrangerText;
use crate::secret::Redact;

/// Most bytes of a message as JSON.
const BYTES_MAX: usize = 20_000;
/// Most conditions that one message names; the others are counted.
const CONDITIONS_MAX: usize = 20;
/// Most characters of each text of a stranger.
const HANDLE_CHARS_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 60;
const MESSAGE_CHARS_MAX: usize = 200;

/// The content of one message. Strangers' text is as received, but cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// When it was made.
    pub at: Timestamp,
    /// It was sent by `doorman notify test`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
    /// New requests.
    pub requests: Vec<RequestLine>,
    /// How many more requests are new.
    pub more_requests: u64,
    /// How many requests wait for a person altogether.
    pub waiting: u64,
    /// What is wrong, or no longer wrong.
    pub conditions: Vec<ConditionLine>,
    /// How many more such conditions there are.
    pub more_conditions: u64,
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestLine {
    /// `deferred` or `overdue`.
    pub event: String,
    /// The agent's id.
    pub agent: String,
    /// The agent's handle, if the platform has sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_handle: Option<String>,
    /// The request's id.
    pub request: String,
    /// The sender's handle; absent if it is not a valid handle, or if the target may not get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// The sender's name, with `text = "full"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The beginning of the message, with `text = "full"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What deferred the request.
    pub by: String,
    /// When doorman first saw it.
    pub since: Timestamp,
    /// The `[overdue.NAME]` by which it is overdue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue: Option<String>,
    /// What deciders said of it, until the message was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replies: Vec<DeciderReplyLine>,
    /// The link with which anybody who has it may answer, with `reply = "link"`. It is made for each delivery, and
    /// never recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
}

/// What a decider said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeciderReplyLine {
    /// Which.
    pub decider: String,
    /// `approve`, `reject` or `defer`.
    pub verdict: String,
    /// Why, with `text = "full"`: it may quote the stranger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something that is wrong, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionLine {
    /// The event, as in `events` of `[[notify]]`.
    pub event: String,
    /// The agent, file or target concerned.
    pub subject: String,
    /// Whether it is still so; `false`: it is over.
    pub holds: bool,
    /// Since when, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// For people.
    pub text: String,
}

impl Message {
    /// A message with what is new, for a target that may get this much of strangers' text.
    pub(super) fn new(
        at: Timestamp,
        waiting: &WaitingRequests,
        news: &ConditionChanges,
        text: NotifyText,
        redact: &Redact,
    ) -> Self {
        let begun = news.begun.iter().map(|condition| ConditionLine {
            event: condition.event.as_str().to_owned(),
            subject: condition.subject.clone(),
            holds: true,
            since: condition.since,
            text: redact.scrub(&condition.text).into_owned(),
        });
        let ended = news.ended.iter().filter_map(|key| {
            let (event, subject) = conditions::parts(key)?;
            let what = event.meaning();
            let text = format!("over: {} ({})", lower_first(what), StrangerText::new(subject).shown(MESSAGE_CHARS_MAX));
            Some(ConditionLine {
                event: event.as_str().to_owned(),
                subject: subject.to_owned(),
                holds: false,
                since: None,
                text,
            })
        });
        let mut conditions: Vec<ConditionLine> = begun.chain(ended).collect();
        let more_conditions = conditions.len().saturating_sub(CONDITIONS_MAX) as u64;
        conditions.truncate(CONDITIONS_MAX);
        let requests = waiting.new.iter().map(|request| request_line(request, text, redact)).collect();
        let (more_requests, waiting) = (waiting.more, waiting.all);
        let mut message = Self { at, test: false, requests, more_requests, waiting, conditions, more_conditions };
        while message.to_json().len() > BYTES_MAX && message.requests.pop().is_some() {
            message.more_requests += 1;
        }
        message
    }

    /// A test message.
    pub fn test(at: Timestamp) -> Self {
        let (requests, conditions) = (Vec::new(), Vec::new());
        Self { at, test: true, requests, more_requests: 0, waiting: 0, conditions, more_conditions: 0 }
    }

    /// The recorded form.
    pub fn to_json(&self) -> String {
        // Serialization of a struct with texts, numbers and times does not fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn request_line(request: &WaitingRequest, text: NotifyText, redact: &Redact) -> RequestLine {
    let cut = |text: Option<&StrangerText>, most| text.map(|text| redact.scrub(text.raw_prefix(most)).into_owned());
    let event = if request.overdue.is_some() { NotifyEvent::Overdue } else { NotifyEvent::Deferred };
    let (with_handle, with_all) = (text != NotifyText::None, text == NotifyText::Full);
    RequestLine {
        event: event.as_str().to_owned(),
        agent: request.agent.to_string(),
        agent_handle: cut(request.agent_handle.as_ref(), HANDLE_CHARS_MAX),
        request: request.request.as_str().to_owned(),
        handle: cut(request.handle.as_ref().filter(|_| with_handle), HANDLE_CHARS_MAX),
        name: cut(request.name.as_ref().filter(|_| with_all), NAME_CHARS_MAX),
        message: cut(request.message.as_ref().filter(|_| with_all), MESSAGE_CHARS_MAX),
        by: request.by.clone(),
        since: request.since,
        overdue: request.overdue.clone(),
        replies: request.replies.iter().map(|reply| reply_line(reply, with_all, redact)).collect(),
        reply: None,
    }
}

fn reply_line(reply: &WaitingDeciderReply, with_all: bool, redact: &Redact) -> DeciderReplyLine {
    let reason = reply.reason.as_ref().filter(|_| with_all);
    DeciderReplyLine {
        decider: reply.decider.clone(),
        verdict: reply.verdict.to_string(),
        reason: reason.map(|reason| redact.scrub(reason.raw_prefix(MESSAGE_CHARS_MAX)).into_owned()),
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
