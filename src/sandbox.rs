//! An imitation of the platform, for the demo, tests and benches: its Phoenix socket, its REST calls, and a control API
//! to make requests and faults happen. It aims to be faithful: shapes, errors, terminal states, one connection an
//! agent. It is not a platform: it keeps everything in memory, and its keys protect nothing. `docs/sandbox.md`
//! describes it.
//!
//! Beside it, [`replay`] plays the platform's side of a transcript.
//!
//! `world` (who exists) → `store` (requests and contacts, pure) → `shared` (one lock over store, connections, faults,
//! journal) → `server` (HTTP) → `rest`, `upgrade` and `socket` (the platform's side), `control` (the tester's side).

mod control;
pub(crate) mod fault;
mod hub;
mod malformed;
pub mod replay;
mod reply;
mod rest;
mod server;
mod shared;
mod socket;
mod store;
mod tester;
mod upgrade;
pub mod wire;
pub(crate) mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use control::Control;
pub use fault::{Fault, FaultAction, FaultPlace};
pub use wire::{NewRequest, RequestState, SandboxState, SandboxStatus};
pub use world::World;

/// How long [`Sandbox::stop`] waits for connections to end before it cuts them.
const GRACE: Duration = Duration::from_secs(2);

/// The options of a sandbox besides its world.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Speak TLS (`https`, `wss`) with this.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// A socket from which nothing came for this long is closed with 1002. Phoenix's default is 60 s \[phx\].
    pub idle: Duration,
    /// Whether pushes carry the join's `join_ref` (as Band probably does) or null (as the docs say).
    pub push_join_ref: bool,
    /// Be an older deployment: `on_conflict` is ignored, so that the last connection always wins, and there is no
    /// `agent_control` to say so \[sdk, infer\].
    pub older: bool,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self { tls: None, idle: Duration::from_secs(60), push_join_ref: true, older: false }
    }
}

/// The two ways in which a sandbox ends.
#[derive(Debug, Clone, Default)]
struct SandboxEnding {
    stop: CancellationToken,
    kill: CancellationToken,
}

/// A running sandbox. Dropping it kills it.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    control: Control,
    ending: SandboxEnding,
    tasks: TaskTracker,
}

impl Sandbox {
    /// Starts on this address (port 0: a free one) with nothing but the world's parties. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// The address cannot be bound, or, as `InvalidInput`, the world is not valid.
    pub async fn start(address: SocketAddr, world: World, options: SandboxOptions) -> io::Result<Sandbox> {
        world.check().map_err(|problem| io::Error::new(io::ErrorKind::InvalidInput, problem))?;
        Self::resume(address, Control::new(shared::SandboxShared::new(&world, options))).await
    }

    /// Starts with the whole state of a sandbox that ended, like a platform that was restarted.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn resume(address: SocketAddr, control: Control) -> io::Result<Sandbox> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (ending, tasks) = (SandboxEnding::default(), TaskTracker::new());
        tasks.spawn(server::run(listener, control.shared().clone(), ending.clone(), tasks.clone()));
        Ok(Sandbox { address, control, ending, tasks })
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, or `https://…` with TLS.
    pub fn url(&self) -> String {
        let scheme = if self.control.shared().options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The tester's side, in process.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Ends like a platform that is restarted: sends close 1012 on every socket, and finishes calls that have begun
    /// (for at most two seconds). If this future is cancelled, the sandbox is killed.
    pub async fn stop(self) {
        self.ending.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(GRACE, self.tasks.wait()).await;
        self.ending.kill.cancel();
        self.tasks.wait().await;
    }

    /// Ends as a platform that is killed: every TCP connection is gone, without a close frame or an answer.
    pub async fn kill(self) {
        self.ending.kill.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.ending.kill.cancel();
    }
}
