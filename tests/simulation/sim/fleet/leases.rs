//! A model of the rows by which doormen share a database: members and leases. Each function does what the SQL of its name does in
//! `src/ledger/postgres` (`lease.rs`, `members.rs`); a test there plays the same operations against both.

use std::collections::BTreeMap;
use std::time::Duration;

use doorman::ledger::members::{BeatOutcome, LeaseHolder, Member, MemberState, WishOutcome};
use jiff::Timestamp;

/// A row of `member`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    pub instance: String,
    pub name: String,
    pub beat: i64,
    pub state: MemberState,
    pub ttl: Duration,
    /// Most agents that it takes.
    pub agents_max: u32,
    /// Which lease set it has: its hash.
    pub lease_set: String,
    /// Who set the state last, if it was not the member itself.
    pub set_by: Option<String>,
}

/// A row of `lease`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseRow {
    pub holder: Option<String>,
    pub epoch: i64,
    pub seq: i64,
    /// The name of the doorman that a person wants to have it, and how often people wished.
    pub wanted: Option<String>,
    pub wishes: i64,
}

/// What the lease's row says to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelFence {
    Open,
    /// This very batch is on record.
    Passed,
    /// The name of whoever has it.
    Lost(String),
}

/// What came of taking a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// In this epoch; and the name of whose doorman it was, if it was anybody's.
    Ours { epoch: i64, from: Option<String> },
    /// The name of whoever has it.
    Theirs(String),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Leases {
    pub members: BTreeMap<String, MemberRow>,
    pub leases: BTreeMap<String, LeaseRow>,
}

impl Leases {
    /// `before` is the last life in the same state directory, which has certainly ended.
    pub fn join(&mut self, id: &str, row: MemberRow, before: Option<&str>) {
        let name = row.name.clone();
        self.members.insert(id.to_owned(), row);
        if let Some(before) = before.and_then(|before| self.living(before)) {
            (before.state, before.set_by) = (MemberState::Dead, Some(name));
        }
    }

    fn living(&mut self, id: &str) -> Option<&mut MemberRow> {
        self.members.get_mut(id).filter(|member| member.state != MemberState::Dead)
    }

    fn is_in(&self, id: &str, states: &[MemberState]) -> bool {
        self.members.get(id).is_some_and(|member| states.contains(&member.state))
    }

    pub fn beat(&mut self, me: &str) -> BeatOutcome {
        match self.living(me) {
            Some(member) => {
                member.beat += 1;
                BeatOutcome::Done(member.state)
            }
            None => BeatOutcome::Dead { by: self.members.get(me).and_then(|member| member.set_by.clone()) },
        }
    }

    /// The members that are not dead, by id.
    pub fn look(&self) -> Vec<Member> {
        let living = self.members.iter().filter(|(_, row)| row.state != MemberState::Dead);
        let member = |(id, row): (&String, &MemberRow)| Member {
            id: id.clone(),
            instance: row.instance.clone(),
            name: row.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            beat: row.beat,
            state: row.state,
            weight: 100,
            agents_max: row.agents_max,
            ttl: row.ttl,
            lease_set: row.lease_set.clone(),
            reached: 0,
            away: false,
            joined_at: Timestamp::UNIX_EPOCH,
            beat_age: Duration::ZERO,
            held: 0,
        };
        living.map(member).collect()
    }

    /// Changes with each lease that is taken or given, and with each wish for one.
    pub fn moves(&self) -> (i64, i64) {
        let moved = |lease: &LeaseRow| lease.epoch + lease.wishes;
        (self.leases.len().try_into().unwrap(), self.leases.values().map(moved).sum())
    }

    pub fn held(&self) -> Vec<LeaseHolder> {
        let held = |(name, row): (&String, &LeaseRow)| LeaseHolder {
            name: name.clone(),
            holder: row.holder.clone(),
            wanted: row.wanted.clone(),
        };
        self.leases.iter().map(held).collect()
    }

    /// The victim is dead, if its beat is still the one that was watched, and if this member itself lives.
    pub fn declare_dead(&mut self, me: &str, victim: &str, seen: i64) -> bool {
        if !self.is_in(me, &[MemberState::Up, MemberState::Draining]) {
            return false;
        }
        let name = self.members[me].name.clone();
        let Some(victim) = self.living(victim).filter(|victim| victim.beat == seen) else { return false };
        (victim.state, victim.set_by) = (MemberState::Dead, Some(name));
        true
    }

    /// This process ends. Its leases stay in its name.
    pub fn leave(&mut self, me: &str) {
        if self.is_in(me, &[MemberState::Up, MemberState::Draining])
            && let Some(member) = self.living(me)
        {
            member.state = MemberState::Left;
        }
    }

    /// A person wants these members, by name or id, to give their agents to others, or to take some again. How many there were.
    pub fn drain(&mut self, name: &str, drain: bool, person: &str) -> usize {
        let (from, to) =
            if drain { (MemberState::Up, MemberState::Draining) } else { (MemberState::Draining, MemberState::Up) };
        let wanted = |(id, row): &(&String, &mut MemberRow)| row.state == from && (row.name == name || *id == name);
        let mut changed = 0;
        for (_, row) in self.members.iter_mut().filter(wanted) {
            (row.state, row.set_by) = (to, Some(person.to_owned()));
            changed += 1;
        }
        changed
    }

    /// A person wants the doorman of this name to have an agent, which all name here; or wishes nothing any more.
    pub fn wish(&mut self, name: &str, to: Option<&str>) -> WishOutcome {
        let is_up = |to: &str| self.members.values().any(|row| row.name == to && row.state == MemberState::Up);
        if to.is_some_and(|to| !is_up(to)) {
            return WishOutcome::NoMember;
        }
        let Some(lease) = self.leases.get_mut(name) else { return WishOutcome::NoLease };
        lease.wanted = to.map(str::to_owned);
        lease.wishes += 1;
        WishOutcome::Done
    }

    /// For people: the name of the holder's doorman.
    fn shown(&self, holder: &str) -> String {
        self.members.get(holder).map_or(holder, |member| &member.name).to_owned()
    }

    /// Takes a lease that nobody has, or somebody who is dead. `locked`: a transaction keeps its row locked.
    pub fn take(&mut self, me: &str, name: &str, locked: bool) -> Taken {
        let holder = self.leases.entry(name.to_owned()).or_default().holder.clone();
        let free = holder.as_deref().is_none_or(|holder| {
            holder == me || self.members.get(holder).is_none_or(|member| member.state == MemberState::Dead)
        });
        if free && !locked && self.is_in(me, &[MemberState::Up]) {
            let from = holder.map(|holder| self.shown(&holder));
            let lease = self.leases.get_mut(name).unwrap();
            lease.holder = Some(me.to_owned());
            lease.epoch += 1;
            lease.seq = 0;
            return Taken::Ours { epoch: lease.epoch, from };
        }
        Taken::Theirs(holder.map_or_else(|| "nobody".to_owned(), |holder| self.shown(&holder)))
    }

    /// Whoever comes next takes it from nobody.
    pub fn give(&mut self, me: &str, name: &str) -> bool {
        let Some(lease) = self.leases.get_mut(name).filter(|lease| lease.holder.as_deref() == Some(me)) else {
            return false;
        };
        lease.holder = None;
        lease.epoch += 1;
        lease.seq = 0;
        true
    }

    /// The first statement of a transaction: it counts batch number `seq` of this epoch. [`Leases::count`] is what it changes, which is
    /// there for others once the transaction has committed.
    pub fn fence(&self, me: &str, name: &str, epoch: i64, seq: i64) -> ModelFence {
        let lease = &self.leases[name];
        let ours = lease.holder.as_deref() == Some(me) && lease.epoch == epoch;
        if ours && lease.seq == seq - 1 {
            return ModelFence::Open;
        }
        if ours && lease.seq == seq {
            return ModelFence::Passed;
        }
        ModelFence::Lost(lease.holder.as_deref().map_or_else(|| "nobody".to_owned(), |holder| self.shown(holder)))
    }

    /// See [`Leases::fence`].
    pub fn count(&mut self, name: &str, seq: i64) {
        self.leases.get_mut(name).unwrap().seq = seq;
    }
}
