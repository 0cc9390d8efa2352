//! The platform's ids: opaque, bounded, visible ASCII.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest id, of whatever kind, that is believed (bytes).
pub const ID_BYTES_MAX: usize = 128;

/// Why a text is no id.
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

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes any visible ASCII of 1 to 128 bytes: ids are the platform's and opaque to us.
            pub fn parse(text: &str) -> Result<Self, IdProblem> {
                check_id(text).map(|()| Self(text.into()))
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
    /// An agent's id: a UUID on the platform \[seed\], which the configuration insists on and the wire does not.
    AgentId
}
id! {
    /// A contact request's id, opaque.
    RequestId
}
id! {
    /// A contact record's id, opaque; another thing than the id of the request that made it.
    ContactId
}
