//! Writes frames: unchanged, or as a fault requires.

use std::time::Duration;

use futures_util::SinkExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::Link;
use crate::sandbox::fault::{Fault, FaultAction};
use crate::sandbox::hub::{ConnectionOrder, SandboxTopic};
use crate::sandbox::malformed;
use crate::sandbox::shared::STALL;

/// A frame that is held back is sent after this long, unless the fault says otherwise.
pub(super) const HELD_MS: u64 = 1000;
const LATE_MAX: usize = 10_000;

impl<I: AsyncRead + AsyncWrite + Unpin> Link<'_, I> {
    /// Writes a frame, changed by the fault.
    pub(super) async fn deliver(
        &mut self,
        fault: Option<Fault>,
        frame: String,
        topic: &str,
    ) -> Result<(), ConnectionOrder> {
        if let Some(fault) = fault {
            let right = Message::text(frame.as_str());
            match fault.what {
                FaultAction::Drop => return Ok(()),
                FaultAction::Close | FaultAction::Supersede | FaultAction::Ghost => {
                    if let Some(order) = self.strike_self(&fault) {
                        return Err(order);
                    }
                }
                FaultAction::Malformed => {
                    let message = malformed::frame(fault.code, self.shared.next(), topic, &frame);
                    self.write(message).await?;
                    return self.flush().await;
                }
                // A slow channel blocks the whole socket, heartbeats included.
                FaultAction::Delay => self.stall(fault.wait(1000)).await?,
                FaultAction::Stall => self.stall(fault.ms.map_or(STALL, Duration::from_millis)).await?,
                FaultAction::Duplicate => self.write(right).await?,
                FaultAction::Reorder => {
                    self.hold(fault.wait(HELD_MS), true, right);
                    return Ok(());
                }
                FaultAction::CrashChannel => {
                    self.write(right).await?;
                    return self.crash(SandboxTopic::Contacts).await;
                }
                FaultAction::Status | FaultAction::ApplyThenFail | FaultAction::StaleList => {}
                FaultAction::EdgePage | FaultAction::BadRow | FaultAction::Throttle => {}
            }
        }
        self.write(Message::text(frame)).await?;
        self.flush().await
    }

    /// Nothing is written or read until the pause is over or the connection must end. Earlier writes are flushed.
    pub(super) async fn stall(&mut self, pause: Duration) -> Result<(), ConnectionOrder> {
        self.flush().await?;
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.stop.cancelled() => Err(ConnectionOrder::Close(1012, "stopped")),
            Some(order) = self.orders.recv() => Err(order),
        }
    }

    /// What a fault does to this connection itself.
    pub(super) fn strike_self(&self, fault: &Fault) -> Option<ConnectionOrder> {
        match fault.what {
            FaultAction::Close => Some(crate::sandbox::shared::close(fault)),
            FaultAction::Supersede => Some(ConnectionOrder::Supersede),
            FaultAction::Ghost => {
                if let Some(agent) = self.agent {
                    self.shared.strike_socket(fault, agent);
                }
                Some(ConnectionOrder::Close(0, "fault"))
            }
            _ => None,
        }
    }

    pub(super) fn hold(&mut self, wait: Duration, until_next: bool, message: Message) {
        if self.late.len() < LATE_MAX {
            self.late.push((Instant::now() + wait, until_next, message));
        }
    }

    /// Writes a frame, then the held frames that were waiting for one.
    pub(super) async fn write(&mut self, message: Message) -> Result<(), ConnectionOrder> {
        self.feed(message).await?;
        if self.late.is_empty() { Ok(()) } else { self.release(|_, until_next| until_next).await }
    }

    pub(super) async fn release(&mut self, which: impl Fn(Instant, bool) -> bool) -> Result<(), ConnectionOrder> {
        let (out, kept) = std::mem::take(&mut self.late).into_iter().partition(|(due, next, _)| which(*due, *next));
        self.late = kept;
        let out: Vec<(Instant, bool, Message)> = out;
        for (_, _, message) in out {
            self.feed(message).await?;
        }
        self.flush().await
    }

    pub(super) async fn feed(&mut self, message: Message) -> Result<(), ConnectionOrder> {
        match timeout(self.shared.options.idle, self.socket.feed(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(ConnectionOrder::Close(0, "gone")),
        }
    }

    pub(super) async fn flush(&mut self) -> Result<(), ConnectionOrder> {
        match timeout(self.shared.options.idle, self.socket.flush()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(ConnectionOrder::Close(0, "gone")),
        }
    }
}
