//! Links in messages by which somebody answers one request, once, without being logged in: whoever has the link may. So each is
//! good for one request and one answer, for a day, only for what the target may say, and is on record as the target's. Only
//! hashes are kept, in a file beside the ledger.

mod kept;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tracing::{info, warn};

use super::locked;
use super::logins::{base, random, read_kept, write_kept};
use super::sessions::written;
use crate::clock::{Clock, Mono};
use crate::config::Settings;
use crate::config::settings::NotifyText;
use crate::model::{AgentId, RequestId, Verdict};
use crate::ops::log::events;

use kept::Kept;
pub(super) use kept::{Offer, Problem};

/// The file's name, beside the ledger.
const FILE: &str = "page-replies.json";
/// Longest file that is read.
const FILE_BYTES_MAX: usize = 2 << 20;
/// Most links that nobody was given and that are tried in a minute, by all together.
const TRIES_MAX: u32 = 100;
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// All links. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Replies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: String,
    clock: Clock,
    file: PathBuf,
    targets: BTreeMap<String, Rights>,
    kept: Mutex<Kept>,
    writing: Mutex<()>,
    tries: Mutex<(Mono, u32)>,
}

/// What the links to one target are good for.
#[derive(Debug, Clone)]
pub(super) struct Rights {
    pub(super) may: Vec<Verdict>,
    /// How much whoever has such a link sees of what strangers wrote.
    pub(super) text: NotifyText,
}

impl Replies {
    /// Those that were given out before the last stop stay good. Blocks on the file system.
    pub fn open(settings: &Settings, ledger: &Path, clock: Clock) -> Self {
        let rights = settings.notify.iter().filter(|target| !target.reply.is_empty());
        let rights =
            rights.map(|target| (target.name.clone(), Rights { may: target.reply.clone(), text: target.text }));
        let (targets, file): (BTreeMap<_, _>, _) = (rights.collect(), ledger.with_file_name(FILE));
        let kept = if targets.is_empty() { Kept::default() } else { read_kept(&file, FILE_BYTES_MAX) };
        let (base, tries) = (base(&settings.page), Mutex::default());
        Self(Arc::new(Inner { base, clock, file, targets, kept: Mutex::new(kept), writing: Mutex::default(), tries }))
    }

    /// A link for each of these requests, where messages to this target have any.
    pub(crate) fn offer(&self, target: &str, requests: &[(AgentId, RequestId)]) -> Vec<String> {
        if !self.0.targets.contains_key(target) || requests.is_empty() {
            return Vec::new();
        }
        let now = self.0.clock.now().wall;
        let mut links = Vec::with_capacity(requests.len());
        let mut kept = locked(&self.0.kept);
        for (agent, request) in requests {
            let Ok(secret) = random() else { return Vec::new() };
            kept.put(Offer::new(&secret, target, agent, request, now));
            links.push(format!("{}/r/{}", self.0.base, written(&secret)));
        }
        drop(kept);
        self.keep();
        links
    }

    /// What a link is good for. Looking uses none up.
    pub(super) fn look(&self, link: &str) -> Result<(Offer, Rights), Problem> {
        let found = locked(&self.0.kept).find(link, self.0.clock.now().wall);
        if found == Err(Problem::Unknown) {
            self.tried()?;
        }
        let offer = found?;
        // What a target may say is what the configuration says now.
        let rights = self.0.targets.get(&offer.target).cloned().ok_or(Problem::Unknown)?;
        Ok((offer, rights))
    }

    /// Uses a link up for this answer. That is in the file before the answer leaves.
    pub(super) async fn take(&self, link: &str, verdict: Verdict) -> Result<(Offer, Rights), Problem> {
        let (_, rights) = self.look(link)?;
        if !rights.may.contains(&verdict) {
            return Err(Problem::NotAllowed);
        }
        let (inner, link) = (self.0.clone(), link.to_owned());
        let taken = tokio::task::spawn_blocking(move || {
            let offer = locked(&inner.kept).take(&link, verdict, inner.clock.now().wall)?;
            if let Err(error) = inner.write() {
                locked(&inner.kept).give_back(&offer);
                unwritten(&error);
                return Err(Problem::NotNow);
            }
            Ok(offer)
        });
        let offer = taken.await.unwrap_or(Err(Problem::NotNow))?;
        let (by, notify) = (format!("person:link.{}", offer.target), &offer.target);
        info!(event = events::REPLY_USED, by, notify, verdict = verdict.as_str(), "a link of a message was used");
        Ok((offer, rights))
    }

    /// Nothing was done with it, so that it is good again.
    pub(super) fn give_back(&self, offer: &Offer) {
        locked(&self.0.kept).give_back(offer);
        self.keep();
    }

    /// Nobody finds a link by trying; whoever tries is told to stop.
    fn tried(&self) -> Result<(), Problem> {
        let now = self.0.clock.now().mono;
        let mut tries = locked(&self.0.tries);
        if now.since(tries.0) >= MINUTE {
            *tries = (now, 0);
        }
        tries.1 += 1;
        if tries.1 > TRIES_MAX { Err(Problem::TooMany) } else { Ok(()) }
    }

    /// Writes the file, beside everything else. A link that is not in it is lost with a restart.
    fn keep(&self) {
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = inner.write() {
                unwritten(&error);
            }
        });
    }
}

impl Inner {
    /// One writes at a time, what is newest then. Nobody who looks at a link waits for the disk.
    fn write(&self) -> std::io::Result<()> {
        let _one = locked(&self.writing);
        let kept = locked(&self.kept).clone();
        write_kept(&self.file, &kept)
    }
}

fn unwritten(error: &std::io::Error) {
    warn!(event = events::INTERNAL, why = %error, "the links of messages cannot be written down");
}

/// Until when a link is good.
pub(super) fn ends(now: Timestamp) -> Timestamp {
    now.checked_add(kept::LASTS).unwrap_or(now)
}
