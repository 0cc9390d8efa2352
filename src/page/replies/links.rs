//! The links that are out, by their hashes. Pure: time and secrets are arguments.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::model::{AgentId, RequestId, Verdict};
use crate::page::sessions::{Secret, hash, written};

/// How long a link is good.
pub(super) const LASTS: SignedDuration = SignedDuration::from_hours(24);
/// Most links that are remembered; the oldest are forgotten.
const LINKS_MAX: usize = 2_000;

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::page) struct ReplyLink {
    hash: String,
    /// The target to which it was sent.
    pub(in crate::page) target: String,
    pub(in crate::page) agent: AgentId,
    pub(in crate::page) request: String,
    ends: Timestamp,
    used: Option<(Verdict, Timestamp)>,
}

/// Why a link is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::page) enum LinkProblem {
    /// It was never given out, or it is forgotten.
    Unknown,
    /// Too many invalid links were tried.
    TooMany,
    /// It is older than a day.
    Old,
    /// It was used for this answer, at that time.
    Used(Verdict, Timestamp),
    /// It does not allow that answer.
    NotAllowed,
    /// Its use could not be stored.
    NotNow,
}

impl ReplyLink {
    pub(super) fn new(secret: &Secret, target: &str, agent: &AgentId, request: &RequestId, now: Timestamp) -> Self {
        let (target, agent, request) = (target.to_owned(), agent.clone(), request.as_str().to_owned());
        Self { hash: hash(&written(secret)), target, agent, request, ends: super::ends(now), used: None }
    }
}

/// All of them, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct ReplyLinks(Vec<ReplyLink>);

impl ReplyLinks {
    pub(super) fn put(&mut self, offer: ReplyLink) {
        if self.0.len() >= LINKS_MAX {
            self.0.remove(0);
        }
        self.0.push(offer);
    }

    /// The entry of this link, if it is still valid.
    pub(super) fn find(&self, link: &str, now: Timestamp) -> Result<ReplyLink, LinkProblem> {
        let offer = &self.0[self.position(link).ok_or(LinkProblem::Unknown)?];
        match offer.used {
            Some((verdict, at)) => Err(LinkProblem::Used(verdict, at)),
            None if now >= offer.ends => Err(LinkProblem::Old),
            None => Ok(offer.clone()),
        }
    }

    /// Uses up the link.
    pub(super) fn take(&mut self, link: &str, verdict: Verdict, now: Timestamp) -> Result<ReplyLink, LinkProblem> {
        let offer = self.find(link, now)?;
        if let Some(position) = self.position(link) {
            self.0[position].used = Some((verdict, now));
        }
        Ok(offer)
    }

    /// Removes links that were not given out.
    pub(super) fn take_back(&mut self, offers: &[ReplyLink]) {
        self.0.retain(|one| !offers.iter().any(|offer| offer.hash == one.hash));
    }

    /// Makes the link valid again.
    pub(super) fn give_back(&mut self, offer: &ReplyLink) {
        if let Some(one) = self.0.iter_mut().find(|one| one.hash == offer.hash) {
            one.used = None;
        }
    }

    /// Compares with every entry, so that the time does not depend on which one matches.
    fn position(&self, link: &str) -> Option<usize> {
        let wanted = hash(link);
        let mut found = None;
        for (position, one) in self.0.iter().enumerate() {
            if bool::from(one.hash.as_bytes().ct_eq(wanted.as_bytes())) {
                found = Some(position);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(3_600 * (1_000 + hours)).unwrap()
    }

    fn offer(secret: &Secret) -> ReplyLink {
        ReplyLink::new(secret, "ops", &AgentId::parse("a").unwrap(), &RequestId::parse("r-1").unwrap(), at(0))
    }

    #[test]
    fn a_link_is_good_once_and_for_a_day() {
        let mut kept = ReplyLinks::default();
        kept.put(offer(&[1; 32]));
        let link = written(&[1; 32]);
        assert_eq!(kept.find(&link, at(23)).unwrap().request, "r-1");
        assert_eq!(kept.find(&link, at(24)), Err(LinkProblem::Old));
        assert_eq!(kept.find(&written(&[2; 32]), at(0)), Err(LinkProblem::Unknown));
        let taken = kept.take(&link, Verdict::Reject, at(1)).unwrap();
        assert_eq!(kept.take(&link, Verdict::Defer, at(2)), Err(LinkProblem::Used(Verdict::Reject, at(1))));
        assert_eq!(kept.find(&link, at(2)), Err(LinkProblem::Used(Verdict::Reject, at(1))));
        kept.give_back(&taken);
        assert!(kept.find(&link, at(2)).is_ok());
    }

    #[test]
    fn there_are_so_many_at_most_and_nothing_kept_is_a_link() {
        let mut kept = ReplyLinks::default();
        let secret = |n: usize| {
            let mut secret = [0; 32];
            secret[..8].copy_from_slice(&n.to_be_bytes());
            secret
        };
        for n in 0..=LINKS_MAX {
            kept.put(offer(&secret(n)));
        }
        assert_eq!(kept.find(&written(&secret(0)), at(1)), Err(LinkProblem::Unknown), "the oldest is forgotten");
        assert!(kept.find(&written(&secret(1)), at(1)).is_ok());
        assert!(!serde_json::to_string(&kept).unwrap().contains(&written(&secret(1))));
    }
}
