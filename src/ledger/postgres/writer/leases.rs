//! The leases of one writer: taken when they are first needed, counted up by each batch, and given.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PostgresWriter, TransactionFailure, connected};
use crate::ledger::postgres::DatabaseFailure;
use crate::ledger::postgres::lease::{GiveOutcome, Lease, TakeOutcome, give, take};
use crate::ledger::record::Numbers;
use crate::ops::log::events;

/// A lease that was taken: under which life, and its epoch.
pub type TakenLease = (Arc<String>, i64);

/// A lease that a batch counts up: its name, under which life, its epoch, and the number of the batch.
pub(super) type LeaseUse = (String, Arc<String>, i64, i64);

impl PostgresWriter {
    pub(super) fn counted(&mut self, used: &[LeaseUse]) {
        for (name, me, epoch, seq) in used {
            self.leases.insert(name.clone(), Lease::Held { me: Arc::clone(me), epoch: *epoch, seq: *seq });
        }
    }

    /// The lease of a name: under which life it was taken, its epoch, and how many batches are on record in it. What nobody asked for
    /// before is taken; what was lost or given is not.
    pub(super) fn lease_for(&mut self, name: &str) -> Result<(Arc<String>, i64, i64), TransactionFailure> {
        self.to_give.remove(name);
        match self.leases.get(name) {
            Some(Lease::Held { me, epoch, seq }) => Ok((Arc::clone(me), *epoch, *seq)),
            Some(Lease::Gone { holder }) => Err(TransactionFailure::Fenced(holder.clone())),
            None => self.take_now(name),
        }
    }

    /// Has the lease under the present life.
    pub(super) fn take(&mut self, name: &str) -> Result<TakenLease, TransactionFailure> {
        self.to_give.remove(name);
        match self.leases.get(name) {
            Some(Lease::Held { me, epoch, .. }) if **me == **self.me.load() => Ok((Arc::clone(me), *epoch)),
            _ => self.take_now(name).map(|(me, epoch, _)| (me, epoch)),
        }
    }

    pub(super) fn take_now(&mut self, name: &str) -> Result<(Arc<String>, i64, i64), TransactionFailure> {
        let me = self.me.load_full();
        let session = connected(&mut self.session, &self.address, &mut self.numbers)?;
        let taken = take(session, &me, name);
        if taken.is_err() {
            session.rollback();
        }
        match taken? {
            TakeOutcome::Ours { epoch, from } => {
                // Others wrote for it until now.
                self.numbers = Numbers::default();
                self.leases.insert(name.to_owned(), Lease::Held { me: Arc::clone(&me), epoch, seq: 0 });
                self.options.leases.taken.fetch_add(1, Ordering::Relaxed);
                tracing::info!(
                    event = events::LEASE_TAKEN,
                    lease = name,
                    epoch,
                    from,
                    "this doorman writes for it from now on"
                );
                Ok((me, epoch, 0))
            }
            TakeOutcome::Theirs(holder) => {
                self.leases.insert(name.to_owned(), Lease::Gone { holder: holder.clone() });
                Err(TransactionFailure::Fenced(holder))
            }
        }
    }

    /// Gives a lease up. What is committed for it later is fenced. If it cannot be given now, it is given once it can
    /// be, unless it is taken or written for before.
    pub(super) fn give(&mut self, name: String) -> Result<GiveOutcome, DatabaseFailure> {
        let given = self.give_now(&name);
        match given {
            Ok(GiveOutcome::Given | GiveOutcome::NotOurs) => self.to_give.remove(&name),
            Ok(GiveOutcome::Locked) | Err(_) => self.to_give.insert(name),
        };
        given
    }

    /// Tries again what could not be given, until the database does not answer.
    pub(super) fn give_late(&mut self) -> Result<(), DatabaseFailure> {
        for name in self.to_give.clone() {
            self.give(name)?;
        }
        Ok(())
    }

    fn give_now(&mut self, name: &str) -> Result<GiveOutcome, DatabaseFailure> {
        let me = match self.leases.get(name) {
            Some(Lease::Held { me, .. }) => Arc::clone(me),
            Some(Lease::Gone { .. }) | None => self.me.load_full(),
        };
        let session = connected(&mut self.session, &self.address, &mut self.numbers)?;
        let given = give(session, &me, name)?;
        if given == GiveOutcome::Given {
            tracing::info!(event = events::LEASE_GIVEN, lease = name, "this doorman gave it to the others");
        }
        if given != GiveOutcome::Locked {
            self.leases.insert(name.to_owned(), Lease::Gone { holder: "nobody".to_owned() });
        }
        Ok(given)
    }
}
