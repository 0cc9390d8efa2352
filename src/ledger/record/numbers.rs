//! The numbers of rows that many entries refer to, so that most entries need no look-up. Only the writing thread
//! changes the file. Everything in here is forgotten after a rollback, which may have removed rows.

use std::collections::HashMap;

use crate::model::{AgentId, Answer, RequestId};
use crate::policy::PolicyHash;

/// Most policies whose numbers are kept.
const POLICIES_MAX: usize = 256;
/// Most requests whose numbers are kept: more than are ever in flight at once.
const REQUESTS_MAX: usize = 1024;

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

/// See the module.
#[derive(Debug, Default)]
pub struct Numbers {
    agents: HashMap<AgentId, i64>,
    policies: HashMap<PolicyHash, i64>,
    /// By agent: the row of its last resume; 0 if there was none.
    resumes: HashMap<i64, i64>,
    /// By agent and id.
    requests: HashMap<i64, HashMap<RequestId, i64>>,
    /// How many requests there are over all agents.
    requests_kept: usize,
    /// By the row of the request.
    last_answers: HashMap<i64, LastAnswer>,
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

    pub(super) fn request(&self, agent: i64, id: &RequestId) -> Option<i64> {
        self.requests.get(&agent)?.get(id).copied()
    }

    pub(super) fn keep_request(&mut self, agent: i64, id: &RequestId, n: i64, last_answer: LastAnswer) {
        if self.requests_kept >= REQUESTS_MAX {
            self.requests.clear();
            self.last_answers.clear();
            self.requests_kept = 0;
        }
        if self.requests.entry(agent).or_default().insert(id.clone(), n).is_none() {
            self.requests_kept += 1;
        }
        self.last_answers.insert(n, last_answer);
    }

    /// The newest answer to the request in this row.
    pub(super) fn last_answer(&self, request: i64) -> LastAnswer {
        self.last_answers.get(&request).copied().unwrap_or(LastAnswer::Unread)
    }

    /// Only for a request that is kept: what is not is read again.
    pub(super) fn keep_last_answer(&mut self, request: i64, last_answer: LastAnswer) {
        if let Some(kept) = self.last_answers.get_mut(&request) {
            *kept = last_answer;
        }
    }
}
