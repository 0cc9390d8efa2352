//! The connection to the platform: REST calls, the socket, TLS, and the parsing of everything that comes back. Its
//! results are typed and bounded; nothing in here makes a decision.

pub mod bodies;
pub(crate) mod classify;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub(crate) mod limiter;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub mod net;
pub mod payload;
pub(crate) mod reply;
mod reply_date;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub mod rest;
pub(crate) mod retry_after;
pub(crate) mod row;
#[expect(clippy::disallowed_methods, reason = "a shell: it reads clocks and draws random numbers for the core")]
pub(crate) mod socket;
pub(crate) mod tls;

pub use payload::{ChannelEvent, Supersede};
pub use reply::{CallError, CallFault, Listed, Me, Page, Reply, Responded, Unreadable};

#[cfg(test)]
mod testing;
