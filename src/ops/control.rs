//! The control socket: HTTP over a Unix socket that is private from the moment it exists. The server turns requests
//! into [`wire::ControlOp`]s for the supervisor; the commands of the CLI use the client.

pub mod client;
pub(crate) mod inherited;
pub(crate) mod keeping;
pub mod peer;
pub mod server;
pub mod socket;
pub mod wire;
