//! The session's messages for the log, each under a name of the log's contract.

/// A message for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its level.
    pub level: NoteLevel,
    /// What it is about.
    pub name: NoteName,
    /// For people.
    pub detail: String,
}

/// The level of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteLevel {
    /// For people who study the session.
    Debug,
    /// Somebody may have to look.
    Warn,
}

macro_rules! notes {
    ($($note:ident = $name:literal;)*) => {
        /// What a note is about. Each is an event of the log, where its meaning is explained.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum NoteName { $(#[doc = concat!("`", $name, "`")] $note),* }

        impl NoteName {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$note),*];

            /// The name of the event in the log.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$note => $name),*
                }
            }
        }
    };
}

notes! {
    FrameMalformed = "frame_malformed";
    FrameTooLong = "frame_too_long";
    FrameBinary = "frame_binary";
    ReplyUnmatched = "reply_unmatched";
    ReplyMalformed = "reply_malformed";
    PayloadMalformed = "payload_malformed";
    EventUnknown = "event_unknown";
    TopicUnknown = "topic_unknown";
    JoinRefused = "join_refused";
    JoinTimeout = "join_timeout";
    JoinStale = "join_stale";
    ChannelCrashed = "channel_crashed";
    ChannelClosed = "channel_closed";
    ConnectionDead = "connection_dead";
    ConnectionFight = "connection_fight";
    ConnectionPattern = "connection_pattern";
    Reconnect = "reconnect";
    CredentialsFallback = "credentials_fallback";
    BlockedInBetween = "blocked_in_between";
    PolicyViolation = "policy_violation";
}
