//! Links in messages with which a person answers one request, once, without being logged in: everybody who has the link
//! may use it. Therefore a link is valid for one request and one answer, for a day, and only for the answers that the
//! target may give; the ledger records the answer as the target's. Only hashes are stored, in a file beside the ledger.

mod links;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tracing::info;
use url::Url;

use super::locked;
use super::logins::random;
use super::sessions::written;
use super::state_file::StateFile;
use crate::clock::{Clock, Mono};
use crate::config::Settings;
use crate::config::settings::NotifyText;
use crate::model::{AgentId, RequestId, Verdict};
use crate::ops::log::events;

use links::ReplyLinks;
pub(super) use links::{LinkProblem, ReplyLink};

/// The file's name, beside the ledger.
const FILE: &str = "page-replies.json";
/// Longest file that is read.
const FILE_BYTES_MAX: usize = 2 << 20;
/// Most invalid links that are tried in a minute, by all clients together.
const TRIES_MAX: u32 = 100;
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// All links. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Replies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: String,
    clock: Clock,
    targets: BTreeMap<String, Rights>,
    kept: Arc<StateFile<ReplyLinks>>,
    tries: Mutex<(Mono, u32)>,
}

/// What the links to one target allow.
#[derive(Debug, Clone)]
pub(super) struct Rights {
    pub(super) may: Vec<Verdict>,
    /// How much of strangers' text a person with such a link may see.
    pub(super) text: NotifyText,
}

impl Replies {
    /// Those that were given out before the last stop stay good. Blocks on the file system.
    pub fn open(settings: &Settings, ledger: &Path, clock: Clock) -> Self {
        let rights = settings.notify.iter().filter(|target| !target.reply.is_empty());
        let rights =
            rights.map(|target| (target.name.clone(), Rights { may: target.reply.clone(), text: target.text }));
        let (targets, file): (BTreeMap<_, _>, _) = (rights.collect(), ledger.with_file_name(FILE));
        let kept =
            Arc::new(if targets.is_empty() { StateFile::empty(file) } else { StateFile::open(file, FILE_BYTES_MAX) });
        // A target has links only if the page has an address.
        let base = settings.page.url.as_ref().map(Url::as_str).unwrap_or_default().trim_end_matches('/').to_owned();
        Self(Arc::new(Inner { base, clock, targets, kept, tries: Mutex::default() }))
    }

    /// A link for each of these requests, if messages to this target have links. The links are stored in the file
    /// before they are sent. A link that cannot be stored is not given out, and the message is sent without it.
    pub(crate) async fn offer(&self, target: &str, requests: &[(AgentId, RequestId)]) -> Vec<String> {
        if !self.0.targets.contains_key(target) || requests.is_empty() {
            return Vec::new();
        }
        let now = self.0.clock.now().wall;
        let mut links = Vec::with_capacity(requests.len());
        let mut offers = Vec::with_capacity(requests.len());
        for (agent, request) in requests {
            let Ok(secret) = random() else { return Vec::new() };
            offers.push(ReplyLink::new(&secret, target, agent, request, now));
            links.push(format!("{}/r/{}", self.0.base, written(&secret)));
        }
        let put = self.0.kept.change(
            move |kept| {
                for offer in &offers {
                    kept.put(offer.clone());
                }
                offers
            },
            |kept, offers| kept.take_back(offers),
        );
        if put.await.is_ok() { links } else { Vec::new() }
    }

    /// What a link allows. Looking does not use it up.
    pub(super) fn find(&self, link: &str) -> Result<(ReplyLink, Rights), LinkProblem> {
        let found = self.0.kept.read(|kept| kept.find(link, self.0.clock.now().wall));
        if found == Err(LinkProblem::Unknown) {
            self.tried()?;
        }
        let offer = found?;
        // The current configuration says what a target may answer.
        let rights = self.0.targets.get(&offer.target).cloned().ok_or(LinkProblem::Unknown)?;
        Ok((offer, rights))
    }

    /// Uses a link up for this answer. That is in the file before the answer leaves.
    pub(super) async fn take(&self, link: &str, verdict: Verdict) -> Result<(ReplyLink, Rights), LinkProblem> {
        let (_, rights) = self.find(link)?;
        if !rights.may.contains(&verdict) {
            return Err(LinkProblem::NotAllowed);
        }
        let (link, now) = (link.to_owned(), self.0.clock.now().wall);
        let taken = self.0.kept.change(
            move |kept| kept.take(&link, verdict, now),
            |kept, taken| {
                if let Ok(offer) = taken {
                    kept.give_back(offer);
                }
            },
        );
        let offer = taken.await.map_err(|_| LinkProblem::NotNow)??;
        let (by, notify) = (format!("person:link.{}", offer.target), &offer.target);
        info!(event = events::REPLY_USED, by, notify, verdict = verdict.as_str(), "a link of a message was used");
        Ok((offer, rights))
    }

    /// Makes a link valid again, because nothing was done with it. If that cannot be stored, the link is valid until a
    /// restart.
    pub(super) async fn give_back(&self, offer: &ReplyLink) {
        let offer = offer.clone();
        // The shelf reports the error.
        let _ = self.0.kept.change(move |kept| kept.give_back(&offer), |_, ()| ()).await;
    }

    /// Counts an invalid link. Links cannot be guessed; after too many tries each further one is refused.
    fn tried(&self) -> Result<(), LinkProblem> {
        let now = self.0.clock.now().mono;
        let mut tries = locked(&self.0.tries);
        if now.since(tries.0) >= MINUTE {
            *tries = (now, 0);
        }
        tries.1 += 1;
        if tries.1 > TRIES_MAX { Err(LinkProblem::TooMany) } else { Ok(()) }
    }
}

/// Until when a link is good.
pub(super) fn ends(now: Timestamp) -> Timestamp {
    now.checked_add(links::LASTS).unwrap_or(now)
}
