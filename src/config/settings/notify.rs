//! `[[notify]]`: who is notified when somebody waits, in which way, and how much of strangers' text is included.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::{KeySource, SecretKind};
use crate::model::{AgentId, Verdict};

/// One of `[[notify]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyTarget {
    /// Its name in commands, in the log and in the record.
    pub name: String,
    /// How it is reached.
    pub way: NotifyWay,
    /// The signing secret, the access token or the password, if there is one.
    pub secret: Option<KeySource>,
    /// An additional CA, PEM.
    pub ca_file: Option<PathBuf>,
    /// The events that it is notified of.
    pub events: Vec<NotifyEvent>,
    /// Only events of these agents; empty: of all agents.
    pub agents: Vec<AgentId>,
    /// The answers that the links in its messages allow; empty: no links.
    pub reply: Vec<Verdict>,
    /// How much of strangers' text it gets.
    pub text: NotifyText,
    /// The least time between two messages.
    pub every: Duration,
    /// Most messages in an hour; at least 1.
    pub max_per_hour: u32,
}

/// The way to a target. An address that lets everybody write to it is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifyWay {
    /// Standard Webhooks.
    Webhook {
        /// Where its address is.
        url: KeySource,
    },
    /// A Slack incoming webhook.
    Slack {
        /// Where its address is.
        url: KeySource,
    },
    /// A Discord webhook.
    Discord {
        /// Where its address is.
        url: KeySource,
    },
    /// A topic of an ntfy server.
    Ntfy {
        /// Where the topic's address is.
        url: KeySource,
    },
    /// A room of a Matrix homeserver; the secret is the access token.
    Matrix {
        /// The homeserver.
        server: Url,
        /// The room's id.
        room: String,
    },
    /// Mail over SMTP; the secret is the password.
    Mail {
        /// `smtp://` or `smtps://`, with the user if there is one.
        server: Url,
        /// The sender.
        from: String,
        /// The receivers; at least one.
        to: Vec<String>,
    },
    /// A program that gets the message on its standard input.
    Command {
        /// An absolute path.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

impl NotifyTarget {
    /// Its secrets: where each is stored, and what it is.
    pub fn secrets(&self) -> impl Iterator<Item = (&KeySource, SecretKind)> {
        let address = self.way.secret_address().map(|source| (source, SecretKind::Address));
        let secret = self.secret.as_ref().map(|source| (source, self.way.secret_kind()));
        address.into_iter().chain(secret)
    }
}

impl NotifyWay {
    /// The value of `kind`.
    pub fn word(&self) -> &'static str {
        match self {
            NotifyWay::Webhook { .. } => "webhook",
            NotifyWay::Slack { .. } => "slack",
            NotifyWay::Discord { .. } => "discord",
            NotifyWay::Ntfy { .. } => "ntfy",
            NotifyWay::Matrix { .. } => "matrix",
            NotifyWay::Mail { .. } => "mail",
            NotifyWay::Command { .. } => "command",
        }
    }

    /// What its secret is.
    pub fn secret_kind(&self) -> SecretKind {
        match self {
            NotifyWay::Webhook { .. }
            | NotifyWay::Slack { .. }
            | NotifyWay::Discord { .. }
            | NotifyWay::Command { .. } => SecretKind::Secret,
            NotifyWay::Ntfy { .. } | NotifyWay::Matrix { .. } => SecretKind::Token,
            NotifyWay::Mail { .. } => SecretKind::Password,
        }
    }

    /// How many lines its secret may have: while the secret of a webhook is being changed, messages are signed with both.
    pub fn secret_lines_max(&self) -> usize {
        if matches!(self, NotifyWay::Webhook { .. }) { 2 } else { 1 }
    }

    /// Where its address is stored, if the address is a secret.
    pub fn secret_address(&self) -> Option<&KeySource> {
        match self {
            NotifyWay::Webhook { url }
            | NotifyWay::Slack { url }
            | NotifyWay::Discord { url }
            | NotifyWay::Ntfy { url } => Some(url),
            NotifyWay::Matrix { .. } | NotifyWay::Mail { .. } | NotifyWay::Command { .. } => None,
        }
    }
}

/// How much of strangers' text a target gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NotifyText {
    /// Nothing: only how many wait, and for which agent.
    None,
    /// Handles.
    #[default]
    Handle,
    /// Handles, names and the beginning of messages.
    Full,
}

macro_rules! notify_events {
    ($($variant:ident = $word:literal, $meaning:literal;)*) => {
        /// The events that a target can be notified of.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum NotifyEvent {
            $(#[doc = $meaning] $variant,)*
        }

        impl NotifyEvent {
            /// All, in the order of the documentation.
            pub const ALL: &[NotifyEvent] = &[$(NotifyEvent::$variant),*];
            /// Their words, in the same order.
            pub const WORDS: &[&str] = &[$($word),*];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(NotifyEvent::$variant => $word,)*
                }
            }

            /// What it means, one sentence without its full stop.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(NotifyEvent::$variant => $meaning,)*
                }
            }
        }
    };
}

notify_events! {
    Deferred = "deferred", "A request waits for a person";
    Overdue = "overdue", "A request has waited for longer than the rules allow";
    Paused = "paused", "An agent is paused, so nothing is answered for it";
    WithoutRules = "without_rules", "An agent's rules were refused, so nothing is decided for it";
    Refused = "refused", "The platform does not accept an agent's key";
    Away = "away", "An agent has had no connection for ten minutes";
    RulesRefused = "rules_refused", "A rules file was refused; what was in force stays";
    ConfigRefused = "config_refused", "A reload refused the configuration; the next start would fail";
    LedgerBlocked = "ledger_blocked", "The ledger cannot be written, so nothing is answered";
    DeciderFailed = "decider_failed", "A decider gives no reply, so what it is asked about stays pending";
    NotifyFailed = "notify_failed", "Another target got nothing for a day, or does not exist any more";
}

impl NotifyEvent {
    /// The reverse of [`NotifyEvent::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.as_str() == word)
    }
}
