//! The writers of a doorman, one for each agent: each puts batches on record in order, takes and gives the agent's lease, and tries
//! again what the database did not confirm. As `ledger::postgres::writer`, whose fence and leases these are.

use std::collections::VecDeque;
use std::time::Duration;

use doorman::ledger::{LedgerError, Record};

use super::super::events::CoreInput;
use super::database::TransactionStart;
use super::evening::{Evening, FleetEvent, Step, Unsure};
use super::leases::Taken;

/// A transaction that is idle for longer is ended by the server.
const IDLE: Duration = Duration::from_secs(5);
/// Before a blocked writer tries again.
const RETRY: Duration = Duration::from_secs(1);

/// A lease, as this process knows it.
#[derive(Debug, Clone)]
pub enum ModelLease {
    Held { me: String, epoch: i64, seq: i64 },
    Gone { holder: String },
}

#[derive(Debug)]
pub enum Job {
    Commit {
        /// Its number among all batches.
        number: u64,
        /// Who waits for it.
        task: u64,
        batch: Vec<Record>,
        /// What to tell, if it is found to be on record.
        unsure: Unsure,
    },
    Take {
        task: u64,
    },
    Give,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Writer {
    pub lease: Option<ModelLease>,
    waiting: VecDeque<Job>,
    /// A transaction is under way, for the first job that waits.
    writing: bool,
    /// Nothing before this.
    retry_at: Option<Duration>,
}

impl Writer {
    /// Whether a batch is what it does next.
    pub fn has_batch(&self) -> bool {
        !self.writing && matches!(self.waiting.front(), Some(Job::Commit { .. }))
    }
}

impl Evening {
    pub fn hands_in(&mut self, doorman: usize, agent: usize, job: Job) {
        self.doormen[doorman].writers[agent].waiting.push_back(job);
        let wait = self.soon(3_000);
        self.steps_in(doorman, wait, Step::Write(agent));
    }

    /// Does what waits first.
    pub fn write(&mut self, doorman: usize, agent: usize) {
        let writer = &mut self.doormen[doorman].writers[agent];
        if writer.writing || writer.retry_at.is_some_and(|at| self.at < at) {
            return;
        }
        writer.retry_at = None;
        let Some(job) = writer.waiting.pop_front() else { return self.looks_while_idle(doorman, agent) };
        if let Some(wait) = self.database_fails(doorman) {
            match job {
                // Whoever starts an agent tries again by itself.
                Job::Take { task } => self.failed_to_load(doorman, agent, task),
                Job::Give => {}
                job @ Job::Commit { .. } => self.doormen[doorman].writers[agent].waiting.push_front(job),
            }
            return self.blocked(doorman, agent, wait);
        }
        match job {
            Job::Take { task } => {
                let taken = self.has(doorman, agent);
                self.unblocked(doorman, agent);
                match taken {
                    Ok(()) => self.loads(doorman, agent, task),
                    Err(_holder) => self.failed_to_load(doorman, agent, task),
                }
            }
            Job::Give => {
                self.gives(doorman, agent);
                self.unblocked(doorman, agent);
            }
            Job::Commit { number, task, batch, unsure } => self.begins(doorman, agent, (number, task, batch, unsure)),
        }
        self.goes_on(doorman, agent);
    }

    /// A writer that could not write looks again, even if nothing waits any more.
    fn looks_while_idle(&mut self, doorman: usize, agent: usize) {
        if !self.doormen[doorman].blocked.contains(&agent) {
            return;
        }
        match self.database_fails(doorman) {
            Some(wait) => self.blocked(doorman, agent, wait),
            None => self.unblocked(doorman, agent),
        }
    }

    fn goes_on(&mut self, doorman: usize, agent: usize) {
        let writer = &self.doormen[doorman].writers[agent];
        if !writer.writing && writer.retry_at.is_none() && !writer.waiting.is_empty() {
            let wait = self.soon(500);
            self.steps_in(doorman, wait, Step::Write(agent));
        }
    }

    /// Has the lease under the present life.
    fn has(&mut self, doorman: usize, agent: usize) -> Result<(), String> {
        let process = &self.doormen[doorman];
        match &process.writers[agent].lease {
            Some(ModelLease::Held { me, .. }) if *me == process.me => Ok(()),
            _ => self.takes(doorman, agent).map(drop),
        }
    }

    fn takes(&mut self, doorman: usize, agent: usize) -> Result<(String, i64, i64), String> {
        let (me, name) = (self.doormen[doorman].me.clone(), self.agents[agent].clone());
        let locked = self.database.is_locked(&name);
        match self.database.rows.take(&me, &name, locked) {
            Taken::Ours { epoch, from } => {
                if from.is_some_and(|from| from != self.doormen[doorman].name) {
                    self.saw("an agent taken from a dead doorman");
                }
                self.truth_taken(agent, Some(&me));
                self.doormen[doorman].writers[agent].lease = Some(ModelLease::Held { me: me.clone(), epoch, seq: 0 });
                Ok((me, epoch, 0))
            }
            Taken::Theirs(holder) => {
                self.doormen[doorman].writers[agent].lease = Some(ModelLease::Gone { holder: holder.clone() });
                Err(holder)
            }
        }
    }

    fn gives(&mut self, doorman: usize, agent: usize) {
        let process = &self.doormen[doorman];
        let me = match &process.writers[agent].lease {
            Some(ModelLease::Held { me, .. }) => me.clone(),
            Some(ModelLease::Gone { .. }) | None => process.me.clone(),
        };
        if self.database.rows.give(&me, &self.agents[agent]) {
            self.saw("an agent given to others");
            self.truth_taken(agent, None);
        }
        self.doormen[doorman].writers[agent].lease = Some(ModelLease::Gone { holder: "nobody".to_owned() });
    }

    fn begins(&mut self, doorman: usize, agent: usize, job: (u64, u64, Vec<Record>, Unsure)) {
        let (number, task, batch, mut unsure) = job;
        let held = match self.doormen[doorman].writers[agent].lease.clone() {
            Some(ModelLease::Held { me, epoch, seq }) => Ok((me, epoch, seq)),
            Some(ModelLease::Gone { holder }) => Err(holder),
            None => self.takes(doorman, agent),
        };
        let (me, epoch, seq) = match held {
            Ok(held) => held,
            Err(holder) => return self.fenced(doorman, agent, task, holder),
        };
        let name = self.agents[agent].clone();
        let begun = self.database.begin((doorman, &me, &name, epoch, seq + 1), &batch, self.at);
        match begun {
            TransactionStart::Open(transaction) => {
                let job = Job::Commit { number, task, batch, unsure };
                let writer = &mut self.doormen[doorman].writers[agent];
                writer.waiting.push_front(job);
                writer.writing = true;
                let wait = self.soon(5_000);
                self.steps_in(doorman, wait, Step::Commit(agent, transaction));
                self.push(self.at + IDLE, FleetEvent::Idle(transaction));
            }
            TransactionStart::Passed => {
                self.saw("a batch found to be on record");
                self.doormen[doorman].writers[agent].lease = Some(ModelLease::Held { me, epoch, seq: seq + 1 });
                let Some(result) = unsure.take() else { self.fail("a lease was counted up by nobody") };
                self.unblocked(doorman, agent);
                self.recorded(doorman, agent, task, result);
            }
            TransactionStart::Lost(holder) => {
                self.saw("a batch fenced");
                self.doormen[doorman].writers[agent].lease = Some(ModelLease::Gone { holder: holder.clone() });
                self.fenced(doorman, agent, task, holder);
            }
            TransactionStart::Locked => {
                let job = Job::Commit { number, task, batch, unsure };
                self.doormen[doorman].writers[agent].waiting.push_front(job);
                self.blocked(doorman, agent, Duration::from_secs(2));
            }
        }
    }

    fn fenced(&mut self, doorman: usize, agent: usize, task: u64, holder: String) {
        self.unblocked(doorman, agent);
        self.recorded(doorman, agent, task, Err(LedgerError::Fenced { holder }));
    }

    /// The COMMIT of the first job that waits.
    pub fn commits(&mut self, doorman: usize, agent: usize, transaction: u64) {
        let writer = &mut self.doormen[doorman].writers[agent];
        writer.writing = false;
        let Some(Job::Commit { number, task, batch, .. }) = writer.waiting.pop_front() else {
            self.fail("a transaction without a batch");
        };
        let failed = self.database_fails(doorman);
        let done = match failed {
            None => self.database.commit(transaction, &batch),
            Some(_) => {
                if !self.doormen[doorman].no_database {
                    self.database.abort(|open| open.doorman == doorman && open.agent == self.agents[agent]);
                }
                None
            }
        };
        let (mut result, mut heard) = (Ok(()), false);
        if let Some((open, committed)) = done {
            self.truth_committed(doorman, agent, number, &open, &batch, &committed);
            let rate = self.rates.unsaid;
            heard = !self.chance(rate);
            if !heard {
                self.saw("a commit that nobody confirmed");
            }
            let writer = &mut self.doormen[doorman].writers[agent];
            if heard && let Some(ModelLease::Held { me, epoch, .. }) = &writer.lease {
                writer.lease = Some(ModelLease::Held { me: me.clone(), epoch: *epoch, seq: open.seq });
            }
            result = committed;
        }
        if !heard {
            // From here on it may be on record, whatever was heard of it.
            let job = Job::Commit { number, task, batch, unsure: Some(result) };
            self.doormen[doorman].writers[agent].waiting.push_front(job);
            return self.blocked(doorman, agent, failed.unwrap_or_default());
        }
        self.unblocked(doorman, agent);
        self.recorded(doorman, agent, task, result);
        self.goes_on(doorman, agent);
    }

    /// A task hears of its batch, if it is still there.
    fn recorded(&mut self, doorman: usize, agent: usize, task: u64, result: Result<(), LedgerError>) {
        if matches!(result, Err(LedgerError::Outdated { .. })) {
            self.saw("an answer by rules that are not the head");
            self.asks_for_heads(doorman, false);
        }
        let wait = self.soon(500);
        self.steps_in(doorman, wait, Step::Input(agent, task, CoreInput::Recorded(result)));
    }

    fn blocked(&mut self, doorman: usize, agent: usize, after: Duration) {
        let at = self.at + after + RETRY;
        self.doormen[doorman].writers[agent].retry_at = Some(at);
        self.steps_in(doorman, after + RETRY, Step::Write(agent));
        let process = &mut self.doormen[doorman];
        let before = process.blocked.len();
        process.blocked.insert(agent);
        if before == 0 {
            self.healths(doorman);
        }
    }

    fn unblocked(&mut self, doorman: usize, agent: usize) {
        let process = &mut self.doormen[doorman];
        process.writers[agent].retry_at = None;
        if process.blocked.remove(&agent) && process.blocked.is_empty() {
            self.healths(doorman);
        }
    }
}
