//! The platform's ids: opaque, bounded, visible ASCII.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest id, of whatever kind, that is believed (bytes).
pub(crate) const ID_BYTES_MAX: usize = 128;

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdProblem {
    /// Nothing there.
    #[error("an id must not be empty")]
    Empty,
    /// More than [`ID_BYTES_MAX`] bytes.
    #[error("an id has at most {ID_BYTES_MAX} bytes")]
    TooLong,
    /// Something other than visible ASCII.
    #[error("an id is visible ASCII without spaces")]
    Characters,
}

fn check_id(text: &str) -> Result<(), IdProblem> {
    if text.is_empty() {
        return Err(IdProblem::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdProblem::TooLong);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(IdProblem::Characters);
    }
    Ok(())
}

/// A UUID in lower case, with hyphens; anything else as it is.
fn canonical(text: &str) -> Arc<str> {
    uuid::Uuid::parse_str(text).map_or_else(|_| text.into(), |id| id.hyphenated().to_string().into())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kept:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes any visible ASCII of 1 to 128 bytes: ids are the platform's.
            pub fn parse(text: &str) -> Result<Self, IdProblem> {
                check_id(text).map(|()| Self($kept(text)))
            }

            /// The id as the platform writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// An agent's id: a UUID on the platform \[seed\]. The configuration requires a UUID, the wire does not. A UUID is
    /// kept as the platform writes it, however a person wrote it, so that one agent has one id.
    AgentId, canonical
}
id! {
    /// A contact request's id, opaque.
    RequestId, Arc::from
}
id! {
    /// A contact record's id, opaque; another thing than the id of the request that made it.
    ContactId, Arc::from
}

id! {
    /// The id of a user or an agent behind a handle, if a payload has one: the platform may give the handle to another.
    SenderId, canonical
}

/// The ids behind a handle, as far as a payload has them; today's payloads have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderIds {
    /// Of the user or agent that has the handle.
    pub sender: Option<SenderId>,
    /// The id of the user who owns the agent.
    pub owner: Option<SenderId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_one_id_however_it_is_written() {
        let id = "5f0c1a52-0000-4c0e-8f5e-6d1b3a0c9e21";
        for written in
            [id, "5F0C1A52-0000-4C0E-8F5E-6D1B3A0C9E21", "5f0c1a5200004c0e8f5e6d1b3a0c9e21", &format!("{{{id}}}")]
        {
            assert_eq!(AgentId::parse(written).unwrap().as_str(), id);
        }
        assert_eq!(AgentId::parse("Agent-1").unwrap().as_str(), "Agent-1");
        assert_eq!(RequestId::parse("5F0C1A52-0000-4C0E-8F5E-6D1B3A0C9E21").unwrap().as_str().len(), 36, "opaque");
        assert!(RequestId::parse("ABCD").unwrap().as_str() == "ABCD");
    }
}
