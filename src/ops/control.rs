//! The control socket: HTTP over a Unix socket, private from birth. The server turns requests into [`wire::ControlOp`]s for the
//! supervisor; the client is what the CLI's commands use.

pub mod client;
pub(crate) mod inherited;
pub mod keeping;
pub mod peer;
pub mod server;
pub mod socket;
pub mod wire;
