//! The ways to a target: each makes one delivery, bounded in time and size, and its errors contain no secret.

mod command;
mod http;
mod mail;
mod reaching;

use std::time::Duration;

use super::NotifyContext;
use super::message::Message;
use crate::config::settings::{NotifyTarget, NotifyWay, SecretKind};
use crate::secret::{self, Key, Redact};

pub(super) use reaching::reach;

/// The longest delivery, even if something hangs.
const TRY_MAX: Duration = Duration::from_secs(15);

/// A delivery that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undelivered {
    /// For people, without a secret.
    pub(super) why: String,
    /// The wait that the other end requested.
    pub(super) after: Option<Duration>,
    /// The other end said that it does not exist any more.
    pub(super) gone: bool,
}

impl Undelivered {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), after: None, gone: false }
    }
}

/// Delivers once. Takes at most about 15 s.
pub(super) async fn deliver(
    target: &NotifyTarget,
    id: &str,
    message: &Message,
    around: &NotifyContext,
) -> Result<(), Undelivered> {
    let tried = tokio::time::timeout(TRY_MAX, try_once(target, id, message, around)).await;
    tried
        .unwrap_or_else(|_| Err(Undelivered::new(format!("no answer within {} s", TRY_MAX.as_secs()))))
        .map_err(|undelivered| Undelivered { why: around.redact.scrub(&undelivered.why).into_owned(), ..undelivered })
}

async fn try_once(
    target: &NotifyTarget,
    id: &str,
    message: &Message,
    around: &NotifyContext,
) -> Result<(), Undelivered> {
    let secrets = read_secrets(target, &around.redact).await?;
    match &target.way {
        NotifyWay::Webhook { .. }
        | NotifyWay::Slack { .. }
        | NotifyWay::Discord { .. }
        | NotifyWay::Ntfy { .. }
        | NotifyWay::Matrix { .. } => http::deliver(target, &secrets, id, message, around).await,
        NotifyWay::Mail { server, from, to } => mail::deliver(target, server, from, to, &secrets, id, message).await,
        NotifyWay::Command { program, arguments } => command::deliver(target, program, arguments, id, message).await,
    }
}

/// The secrets of a delivery. They are read for each delivery, so that a change takes effect at once.
#[derive(Debug)]
struct Secrets {
    /// The address, if it is a secret.
    address: Option<Key>,
    /// The signing secrets, the token or the password.
    keys: Vec<Key>,
}

async fn read_secrets(target: &NotifyTarget, redact: &Redact) -> Result<Secrets, Undelivered> {
    let (address, secret) = (target.way.secret_address().cloned(), target.secret.clone());
    let kind = target.way.secret_kind();
    let lines_max = target.way.secret_lines_max();
    let read = tokio::task::spawn_blocking(move || {
        let address = address.as_ref().map(|source| secret::read(source, SecretKind::Address)).transpose()?;
        let keys = secret.as_ref().map(|source| secret::read_lines(source, kind, lines_max)).transpose()?;
        Ok::<_, secret::KeyReadError>(Secrets { address, keys: keys.unwrap_or_default() })
    });
    let secrets = match read.await {
        Ok(Ok(secrets)) => secrets,
        Ok(Err(error)) => return Err(Undelivered::new(error.to_string())),
        Err(_) => return Err(Undelivered::new("reading its secrets failed inside doorman")),
    };
    redact.add_all(secrets.address.iter().chain(&secrets.keys).map(Key::expose));
    Ok(secrets)
}
