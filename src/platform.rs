//! The edge to the platform: REST calls, the socket, TLS, and the parsing of everything that comes back. What leaves
//! here is typed and bounded; nothing in here decides anything.

pub mod payload;
pub mod reply;

pub use payload::{ChannelEvent, Supersede};
pub use reply::{CallError, CallFault, Me, Page, Reply, Responded};
