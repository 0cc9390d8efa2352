//! The numbers of rows that many entries refer to, so that most entries need no look-up. Only the writing thread
//! changes the file. Everything in here is forgotten after a rollback, which may have removed rows.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use hashbrown::HashMap;

use crate::clock::Mono;
use crate::model::{AgentId, Answer, RequestId};
use crate::policy::PolicyHash;

/// Most policies whose numbers are kept.
const POLICIES_MAX: usize = 256;
/// At most twice this many requests are kept: as many as fit into a map of 32,768 slots.
const REQUESTS_MAX: usize = 28 * 1024;
/// Requests are forgotten after once to twice this time: each is answered within moments, or much later.
const AGE: Duration = Duration::from_secs(10);

/// The newest answer to a request, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastAnswer {
    /// Not read yet.
    Unread,
    /// There is none: the request is new.
    None,
    /// It is open, without an outcome or with an unknown one.
    Open {
        /// Its row.
        n: i64,
        /// What was said.
        answer: Answer,
    },
}

/// A request: a hash of the row of its agent and of its id. 128 bits with two secret keys: no two requests of a record have the same,
/// and nobody can look for two that do.
type RequestHash = (u64, u64);

/// See the module.
#[derive(Debug, Default)]
pub struct Numbers {
    agents: HashMap<AgentId, i64>,
    policies: HashMap<PolicyHash, i64>,
    /// By agent: the row of its last resume; 0 if there was none.
    resumes: HashMap<i64, i64>,
    keys: (RandomState, RandomState),
    /// The newest ones, and those before them: a flood is kept while it is answered, and then forgotten.
    requests: [HashMap<RequestHash, i64>; 2],
    /// By the row of the request, in the same generations.
    last_answers: [HashMap<i64, LastAnswer>; 2],
    /// When the older generation was last forgotten because of its age.
    aged_at: Option<Mono>,
}

impl Numbers {
    pub(super) fn agent(&self, agent: &AgentId) -> Option<i64> {
        self.agents.get(agent).copied()
    }

    pub(super) fn keep_agent(&mut self, agent: &AgentId, n: i64) {
        self.agents.insert(agent.clone(), n);
    }

    pub(super) fn policy(&self, hash: &PolicyHash) -> Option<i64> {
        self.policies.get(hash).copied()
    }

    pub(super) fn keep_policy(&mut self, hash: &PolicyHash, n: i64) {
        if self.policies.len() >= POLICIES_MAX {
            self.policies.clear();
        }
        self.policies.insert(hash.clone(), n);
    }

    /// The row of the agent's last resume, as far as it is known.
    pub(super) fn last_resume(&self, agent: i64) -> Option<i64> {
        self.resumes.get(&agent).copied()
    }

    pub(super) fn keep_last_resume(&mut self, agent: i64, n: i64) {
        self.resumes.insert(agent, n);
    }

    /// Forgets requests that were not written for a while; to be called now and then.
    pub fn forget_old(&mut self, now: Mono) {
        match self.aged_at {
            Some(at) if now < at + AGE => {}
            Some(_) | None => {
                self.aged_at = Some(now);
                self.age();
            }
        }
    }

    /// Forgets all requests, with their memory: nothing was written for a while, so that all that were asked have their answers.
    pub fn forget_requests(&mut self) {
        (self.requests, self.last_answers) = Default::default();
    }

    fn age(&mut self) {
        self.requests.swap(0, 1);
        self.last_answers.swap(0, 1);
        (self.requests[0], self.last_answers[0]) = Default::default();
    }

    fn hash(&self, agent: i64, id: &RequestId) -> RequestHash {
        (self.keys.0.hash_one((agent, id)), self.keys.1.hash_one((agent, id)))
    }

    pub(super) fn request(&self, agent: i64, id: &RequestId) -> Option<i64> {
        let hash = self.hash(agent, id);
        self.requests.iter().find_map(|requests| requests.get(&hash)).copied()
    }

    pub(super) fn keep_request(&mut self, agent: i64, id: &RequestId, n: i64, last_answer: LastAnswer) {
        if self.requests[0].len() >= REQUESTS_MAX {
            self.age();
        }
        let hash = self.hash(agent, id);
        self.requests[0].insert(hash, n);
        self.last_answers[0].insert(n, last_answer);
    }

    /// The newest answer to the request in this row.
    pub(super) fn last_answer(&self, request: i64) -> LastAnswer {
        let kept = self.last_answers.iter().find_map(|answers| answers.get(&request)).copied();
        kept.unwrap_or(LastAnswer::Unread)
    }

    /// Only for a request that is kept: what is not is read again.
    pub(super) fn keep_last_answer(&mut self, request: i64, last_answer: LastAnswer) {
        if let Some(kept) = self.last_answers.iter_mut().find_map(|answers| answers.get_mut(&request)) {
            *kept = last_answer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn id(number: usize) -> RequestId {
        RequestId::parse(&format!("request-{number}")).unwrap()
    }

    #[test]
    fn a_flood_is_kept_and_then_forgotten() {
        let mut numbers = Numbers::default();
        (0..5 * REQUESTS_MAX).for_each(|n| numbers.keep_request(1, &id(n), n.try_into().unwrap(), LastAnswer::None));
        let kept = |numbers: &Numbers| (0..5 * REQUESTS_MAX).filter(|n| numbers.request(1, &id(*n)).is_some()).count();
        assert_eq!(
            numbers.request(1, &id(4 * REQUESTS_MAX)),
            Some((4 * REQUESTS_MAX).try_into().unwrap()),
            "the newest"
        );
        assert_eq!(numbers.request(2, &id(4 * REQUESTS_MAX)), None, "another agent's");
        assert!(kept(&numbers) <= 2 * REQUESTS_MAX);
        let now = Clock::start().now().mono;
        numbers.forget_old(now);
        numbers.forget_old(now);
        assert!(kept(&numbers) > 0, "time has not passed");
        numbers.forget_old(now + AGE);
        assert_eq!(kept(&numbers), 0);
        assert!(numbers.last_answers.iter().all(HashMap::is_empty));
        numbers.keep_agent(&AgentId::parse("a-1").unwrap(), 1);
        (0..REQUESTS_MAX + 9).for_each(|n| numbers.keep_request(1, &id(n), n.try_into().unwrap(), LastAnswer::None));
        assert!(numbers.requests.iter().all(|kept| kept.capacity() > 0), "both generations are in use");
        numbers.forget_requests();
        assert!(numbers.requests.iter().all(|kept| kept.capacity() == 0), "and their memory is given back");
        assert!(numbers.last_answers.iter().all(|kept| kept.capacity() == 0));
        assert!(numbers.agent(&AgentId::parse("a-1").unwrap()).is_some(), "agents are few");
    }

    #[test]
    fn what_was_kept_last_holds() {
        let mut numbers = Numbers::default();
        numbers.keep_request(1, &id(7), 70, LastAnswer::None);
        numbers.keep_last_answer(70, LastAnswer::Open { n: 3, answer: Answer::Approve });
        let now = Clock::start().now().mono;
        numbers.forget_old(now);
        numbers.keep_last_answer(70, LastAnswer::Unread);
        assert_eq!((numbers.request(1, &id(7)), numbers.last_answer(70)), (Some(70), LastAnswer::Unread));
        // The id is another request's by now, which has another row.
        numbers.keep_request(1, &id(7), 71, LastAnswer::None);
        assert_eq!((numbers.request(1, &id(7)), numbers.last_answer(71)), (Some(71), LastAnswer::None));
        numbers.keep_last_answer(72, LastAnswer::None);
        assert_eq!(numbers.last_answer(72), LastAnswer::Unread, "only of a request that is kept");
    }
}
