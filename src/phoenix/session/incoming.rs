//! Handles what the server sends on an open socket. Replies are matched by ref, the ends of channels and their events
//! by `join_ref`: on the wire, the last messages of an old join come after the first of the new join \[phx\].

use serde_json::value::RawValue;

use super::socket::ChannelKind;
use super::{AgentState, NoteLevel, NoteName, PhoenixSession, SessionOutput, SocketPhase};
use crate::clock::Mono;
use crate::phoenix::frame::{self, Frame, FrameProblem, PushReply, Ref};
use crate::platform::payload;

/// After this many failed joins of the contacts in a row, a new socket is tried.
const JOINS_FAILED_MAX: u32 = 5;
/// The only refusal of the control channel that may be temporary \[phx\]. After any other refusal the channel does not
/// exist or is not for us, and is not joined again on this socket.
const REASON_CRASHED: &str = "join crashed";
/// Most characters shown of a name that came over the wire.
const NAME_SHOWN_MAX: usize = 64;

impl PhoenixSession {
    pub(super) fn text(&mut self, text: &str, now: Mono) {
        let SocketPhase::Open(socket) = &mut self.phase else {
            return;
        };
        match frame::parse(text) {
            Ok(frame) => match frame.event.as_ref() {
                "phx_reply" => self.reply(&frame, now),
                "phx_error" => self.channel_ended(&frame, NoteName::ChannelCrashed, now),
                "phx_close" => self.channel_ended(&frame, NoteName::ChannelClosed, now),
                _ => self.event(&frame, now),
            },
            Err(problem) => {
                // One complaint a socket: a flood of malformed frames must not become a flood of warnings.
                let first = !std::mem::replace(&mut socket.complained, true);
                let level = if first { NoteLevel::Warn } else { NoteLevel::Debug };
                let what = match problem {
                    FrameProblem::TooLong(_) => NoteName::FrameTooLong,
                    FrameProblem::NotJson(_) | FrameProblem::NotAFrame(_) => NoteName::FrameMalformed,
                };
                self.note(level, what, format!("{problem}: it was ignored"));
                self.ask_listing(now);
            }
        }
    }

    fn reply(&mut self, frame: &Frame<'_>, now: Mono) {
        let SocketPhase::Open(socket) = &mut self.phase else {
            return;
        };
        let answered = match frame.reference {
            Some(Ref::Number(reference)) => {
                if socket.heartbeat.answered(reference, now) {
                    return;
                }
                ChannelKind::ALL.into_iter().find(|&which| socket.channel(which).awaits(reference))
            }
            Some(Ref::Foreign) | None => None,
        };
        // Replies to leaves and to joins that were given up, and other replies that nothing waits for.
        let Some(which) = answered else {
            return self.debug(NoteName::ReplyUnmatched, "a reply that nobody waits for was ignored".to_owned());
        };
        match frame::reply(frame.payload) {
            Some(PushReply::Ok) => self.join_accepted(which, now),
            Some(PushReply::Refused(reason)) => self.join_refused(which, reason.as_deref(), now),
            None => {
                let detail = format!("the reply to the join of {} has no status: it was ignored", which.name());
                self.note(NoteLevel::Warn, NoteName::ReplyMalformed, detail);
            }
        }
    }

    fn join_accepted(&mut self, which: ChannelKind, now: Mono) {
        let SocketPhase::Open(socket) = &mut self.phase else {
            return;
        };
        socket.channel(which).accept(now);
        match which {
            ChannelKind::Contacts => {
                socket.joined_at.get_or_insert(now);
                self.conflict.found_free(now);
                self.relist.due = None;
                self.outputs.push_back(SessionOutput::List("joined"));
            }
            // This channel announces the client that takes the connection.
            ChannelKind::Control => self.conflict.knows(),
        }
    }

    fn join_refused(&mut self, which: ChannelKind, reason: Option<&str>, now: Mono) {
        let shown = reason.map_or_else(|| "no reason".to_owned(), |reason| format!("`{}`", self.shown(reason)));
        let detail = format!("the join of {} was refused: {shown}", which.name());
        match which {
            ChannelKind::Contacts => {
                self.note(NoteLevel::Warn, NoteName::JoinRefused, detail.clone());
                if reason == Some("unauthorized") {
                    self.identify(now);
                }
                self.join_failed(which, detail, now);
            }
            ChannelKind::Control if reason == Some(REASON_CRASHED) => {
                self.debug(NoteName::JoinRefused, detail.clone());
                self.join_failed(which, detail, now);
            }
            ChannelKind::Control => {
                self.debug(NoteName::JoinRefused, format!("{detail}: doing without it"));
                if let SocketPhase::Open(socket) = &mut self.phase {
                    socket.control.give_up();
                }
            }
        }
    }

    fn channel_ended(&mut self, frame: &Frame<'_>, name: NoteName, now: Mono) {
        let SocketPhase::Open(socket) = &mut self.phase else {
            return;
        };
        let which = socket.by_topic(&frame.topic);
        // Without a `join_ref` the message can only belong to the current join: an unnecessary join is harmless, a
        // missing join is not.
        let current = which.filter(|&which| {
            let channel = socket.channel(which);
            channel.reference().is_some() && channel.speaks_of_this(frame.join_ref)
        });
        let Some(which) = current else {
            return self.debug(
                NoteName::JoinStale,
                format!("`{}` of no join that stands was ignored", self.shown(&frame.event)),
            );
        };
        let did = if name == NoteName::ChannelCrashed { "crashed" } else { "was closed" };
        let detail = format!("{} {did} on the platform", which.name());
        let level = if which == ChannelKind::Contacts { NoteLevel::Warn } else { NoteLevel::Debug };
        self.note(level, name, detail.clone());
        self.join_failed(which, detail, now);
    }

    /// A join failed or ended: again on this socket, or, for the contacts, in the end on a new one.
    fn join_failed(&mut self, which: ChannelKind, why: String, now: Mono) {
        let SocketPhase::Open(socket) = &mut self.phase else {
            return;
        };
        let in_a_row = socket.channel(which).fail(&self.config.timing, &mut self.rng, now);
        self.joins_failed(which, in_a_row, why, now);
    }

    pub(super) fn joins_failed(&mut self, which: ChannelKind, in_a_row: u32, why: String, now: Mono) {
        match which {
            ChannelKind::Control => {}
            ChannelKind::Contacts if in_a_row >= JOINS_FAILED_MAX => self.give_up_socket(why, now),
            ChannelKind::Contacts => {
                if self.state == AgentState::Live {
                    self.leave_live(now);
                    self.enter(AgentState::Away, why);
                }
            }
        }
    }

    fn event(&mut self, frame: &Frame<'_>, now: Mono) {
        let SocketPhase::Open(socket) = &mut self.phase else {
            return;
        };
        let Some(which) = socket.by_topic(&frame.topic) else {
            let detail =
                format!("`{}` on the topic `{}` was ignored", self.shown(&frame.event), self.shown(&frame.topic));
            return self.debug(NoteName::TopicUnknown, detail);
        };
        if !socket.channel(which).speaks_of_this(frame.join_ref) {
            return self
                .debug(NoteName::JoinStale, format!("`{}` of an earlier join was ignored", self.shown(&frame.event)));
        }
        match which {
            ChannelKind::Contacts => self.contacts_event(&frame.event, frame.payload, now),
            ChannelKind::Control => self.control_event(&frame.event, frame.payload, now),
        }
    }

    fn contacts_event(&mut self, event: &str, payload: &RawValue, now: Mono) {
        match payload::channel_event(event, payload) {
            Some(Ok(event)) => self.outputs.push_back(SessionOutput::Event(event)),
            Some(Err(problem)) => {
                let detail = format!("the payload of `{event}` was dropped: {problem}");
                self.note(NoteLevel::Warn, NoteName::PayloadMalformed, detail);
                self.ask_listing(now);
                if matches!(event, "contact_added" | "contact_removed") {
                    self.outputs.push_back(SessionOutput::ContactEventUnread);
                }
            }
            None => self.debug(NoteName::EventUnknown, format!("the event `{}` was ignored", self.shown(event))),
        }
    }

    fn control_event(&mut self, event: &str, payload: &RawValue, now: Mono) {
        if event == "supersede" {
            self.outputs.push_back(SessionOutput::Superseded(payload::supersede(payload, &self.config.redact)));
            self.superseded(now);
        } else {
            // `agent.control` steers the agent's own runs, which are none of ours \[sdk\].
            self.debug(
                NoteName::EventUnknown,
                format!("the event `{}` of agent_control was ignored", self.shown(event)),
            );
        }
    }

    /// A name from the wire, escaped and cut.
    fn shown(&self, name: &str) -> String {
        self.config.redact.said(name).shown(NAME_SHOWN_MAX)
    }

    fn debug(&mut self, name: NoteName, detail: String) {
        self.note(NoteLevel::Debug, name, detail);
    }
}
