//! A model of the database: members and leases, the record of each agent, and the versions of the rules that were pushed. What a
//! transaction writes is there for others once it has committed; until then it keeps the row of its agent's lease locked.

use std::collections::BTreeMap;
use std::time::Duration;

use doorman::ledger::pushed::outdated;
use doorman::ledger::{LedgerError, Record};

use super::super::record::LedgerModel;
use super::leases::{Leases, ModelFence};

/// The name under which the rules are pushed.
pub const RULES: &str = "main";

/// A transaction that has begun, and whose fence is open.
#[derive(Debug)]
pub struct ModelTransaction {
    /// Of which doorman.
    pub doorman: usize,
    /// The member that began it.
    pub me: String,
    pub agent: String,
    pub seq: i64,
    pub began: Duration,
    /// Its rules are not the head any more: only what happened is written.
    outdated: Option<LedgerError>,
}

/// How a transaction began.
#[derive(Debug)]
pub enum TransactionStart {
    /// Its number.
    Open(u64),
    Passed,
    Lost(String),
    /// Another one keeps the lease's row locked.
    Locked,
}

/// See the module.
#[derive(Debug, Default)]
pub struct ModelDatabase {
    pub rows: Leases,
    pub records: BTreeMap<String, LedgerModel>,
    /// When each version was pushed; the first is number 1.
    pub pushed: Vec<Duration>,
    /// Whether nobody reaches it.
    pub away: bool,
    /// By number; and the last one's.
    pub open: BTreeMap<u64, ModelTransaction>,
    pub begun: u64,
}

impl ModelDatabase {
    /// The newest version of the rules.
    pub fn head(&self) -> u64 {
        self.pushed.len() as u64
    }

    pub fn is_locked(&self, agent: &str) -> bool {
        self.open.values().any(|open| open.agent == agent)
    }

    /// Begins a transaction for batch number `seq` of an epoch: the fence comes first, then the look at the head.
    pub fn begin(
        &mut self,
        transaction: (usize, &str, &str, i64, i64),
        batch: &[Record],
        at: Duration,
    ) -> TransactionStart {
        let (doorman, me, agent, epoch, seq) = transaction;
        if self.is_locked(agent) {
            return TransactionStart::Locked;
        }
        match self.rows.fence(me, agent, epoch, seq) {
            ModelFence::Open => {}
            ModelFence::Passed => return TransactionStart::Passed,
            ModelFence::Lost(holder) => return TransactionStart::Lost(holder),
        }
        let head = self.head();
        let found: Result<_, std::convert::Infallible> = outdated(batch, |_| Ok(head));
        let outdated = found.unwrap();
        self.begun += 1;
        let (me, agent) = (me.to_owned(), agent.to_owned());
        self.open.insert(self.begun, ModelTransaction { doorman, me, agent, seq, began: at, outdated });
        TransactionStart::Open(self.begun)
    }

    /// Ends a transaction well, if it is still open. The inner result is what its batch comes to.
    pub fn commit(&mut self, number: u64, batch: &[Record]) -> Option<(ModelTransaction, Result<(), LedgerError>)> {
        let transaction = self.open.remove(&number)?;
        self.rows.count(&transaction.agent, transaction.seq);
        let record = self.records.entry(transaction.agent.clone()).or_default();
        let refused = transaction.outdated.clone().or_else(|| {
            let (request, said, _) = record.carried_out(batch)?;
            Some(LedgerError::Answered { request, said })
        });
        let result = match refused {
            Some(error) => Err(error),
            None => record.commit(batch).map_err(|why| LedgerError::Refused { why }),
        };
        if result.is_err() {
            record.commit_but(batch, None);
        }
        Some((transaction, result))
    }

    /// These transactions end, and nothing of them is there.
    pub fn abort(&mut self, which: impl Fn(&ModelTransaction) -> bool) {
        self.open.retain(|_, open| !which(open));
    }
}
