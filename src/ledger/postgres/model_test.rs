//! The model of members and leases that the simulation plays with is held to the real thing: random operations are played against both.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::address::ConnectionPurpose;
use super::lease::{self, Fence, GiveOutcome, TakeOutcome};
use super::members::{self, Membership, drain, wish};
use super::session::DatabaseSession;
use super::{Address, prepare};
use crate::ledger::LedgerAddress;
use crate::ledger::members::{BeatOutcome, Member, MemberState, NewMember, WishOutcome};
use crate::ledger::sql::Connection;

#[path = "../../../tests/simulation/sim/fleet/leases.rs"]
mod model;

use model::{Leases, MemberRow};

const DOORMEN: usize = 3;
const NAMES: [&str; 3] = ["one", "two", "three"];
const OPERATIONS: usize = 400;
const TTL: Duration = Duration::from_secs(15);

/// Doormen on a real database, and the model of it.
struct RealAndModel {
    address: Arc<Address>,
    writer: DatabaseSession,
    members: Vec<Membership>,
    model: Leases,
    /// All ids that ever were.
    ids: Vec<String>,
    rng: fastrand::Rng,
    /// A transaction that has passed the fence and is still open, and what it counts up.
    open: Option<(DatabaseSession, usize, i64)>,
}

impl RealAndModel {
    fn new(address: &Address, seed: u64) -> Self {
        let address = Arc::new(address.clone());
        let writer = prepare(&address).unwrap();
        let mut both = Self {
            writer,
            members: Vec::new(),
            model: Leases::default(),
            ids: vec!["nobody-knows-it".to_owned()],
            rng: fastrand::Rng::with_seed(seed),
            open: None,
            address,
        };
        for doorman in 0..DOORMEN {
            both.joins(doorman, None);
        }
        for name in NAMES {
            let taken = both.model.take("nobody-knows-it", name, false);
            assert_eq!(taken, real_taken(lease::take(&both.writer, "nobody-knows-it", name).unwrap()));
        }
        both
    }

    fn joins(&mut self, doorman: usize, before: Option<String>) {
        let id = format!("{doorman}-{}", self.ids.len());
        self.ids.push(id.clone());
        let (name, instance) = (format!("host-{doorman}"), format!("instance-{doorman}"));
        let joining = NewMember {
            id: id.clone(),
            instance: instance.clone(),
            before: before.clone(),
            name: name.clone(),
            ttl: TTL,
            names: NAMES.map(str::to_owned).into(),
            ..NewMember::default()
        };
        members::join(&self.writer, &self.address, &joining).unwrap();
        let me = Arc::new(ArcSwap::from_pointee(id.clone()));
        let joined = Membership::new(Arc::clone(&self.address), me, joining, None);
        if doorman < self.members.len() {
            self.members[doorman] = joined;
        } else {
            self.members.push(joined);
        }
        let row = MemberRow {
            instance,
            name,
            beat: 0,
            state: MemberState::Up,
            ttl: TTL,
            agents_max: NewMember::default().agents_max,
            lease_set: String::new(),
            set_by: None,
        };
        self.model.join(&id, row, before.as_deref());
    }

    fn any_id(&mut self) -> String {
        // More often one that was there lately.
        let from = if self.rng.bool() { 0 } else { self.ids.len().saturating_sub(5) };
        self.ids[self.rng.usize(from..self.ids.len())].clone()
    }

    fn is_locked(&self, name: usize) -> bool {
        self.open.as_ref().is_some_and(|(_, locked, _)| *locked == name)
    }

    /// One operation on both; they say the same.
    fn plays(&mut self) -> &'static str {
        let doorman = self.rng.usize(..DOORMEN);
        let me = self.members[doorman].me().to_string();
        let name = self.rng.usize(..NAMES.len());
        match self.rng.u8(..22) {
            // It would wait for whoever stands still with the lease's row, and give up.
            20..=21 if self.is_locked(name) => "wish for a lease whose row is locked",
            20..=21 => {
                let to = self.rng.bool().then(|| format!("host-{}", self.rng.usize(..DOORMEN + 1)));
                let of = if self.rng.u8(..8) == 0 { "nobodys" } else { NAMES[name] };
                // A name that no doorman has in its configuration goes nowhere.
                let to = to.filter(|_| of != "nobodys");
                let real = wish(&self.address, of, to.as_deref(), "person:ann").unwrap();
                assert_eq!(real, self.model.wish(of, to.as_deref()));
                match real {
                    WishOutcome::Done => "wish",
                    WishOutcome::NoLease => "wish for nobody's lease",
                    WishOutcome::NoMember | WishOutcome::NotNamed => "wish for a doorman that takes nothing",
                }
            }
            0 => {
                let before = self.rng.bool().then_some(me);
                self.joins(doorman, before);
                "join"
            }
            1..=3 => {
                let beat = self.members[doorman].beat(0).unwrap();
                assert_eq!(beat, self.model.beat(&me));
                if matches!(beat, BeatOutcome::Dead { .. }) {
                    self.joins(doorman, None);
                }
                "beat"
            }
            4..=6 => {
                let victim = self.any_id();
                let beat = self.model.members.get(&victim).map_or(0, |row| row.beat) - i64::from(self.rng.u8(..4) == 0);
                let real = self.members[doorman].declare_dead(&victim, beat).unwrap();
                assert_eq!(real, self.model.declare_dead(&me, &victim, beat));
                if real { "declared dead" } else { "not declared dead" }
            }
            7 => {
                self.members[doorman].leave().unwrap();
                self.model.leave(&me);
                "leave"
            }
            8 => {
                let (name, on) = (format!("host-{doorman}"), self.rng.bool());
                let real = drain(&self.address, &name, on, "person:ann").unwrap();
                assert_eq!(real, self.model.drain(&name, on, "person:ann"));
                "drain"
            }
            9..=12 => {
                let me = if self.rng.bool() { me } else { self.any_id() };
                let taken = lease::take(&self.writer, &me, NAMES[name]).unwrap();
                let real = real_taken(taken);
                assert_eq!(real, self.model.take(&me, NAMES[name], self.is_locked(name)));
                match real {
                    model::Taken::Ours { .. } => "taken",
                    model::Taken::Theirs(_) if self.is_locked(name) => "locked",
                    model::Taken::Theirs(_) => "not taken",
                }
            }
            13 => {
                let name = self.open.as_ref().map_or(name, |(_, locked, _)| *locked);
                let holder = self.model.leases[NAMES[name]].holder.clone();
                let me = holder.clone().filter(|_| self.rng.bool()).unwrap_or(me);
                let real = lease::give(&self.writer, &me, NAMES[name]).unwrap();
                if self.is_locked(name) && holder.as_ref() == Some(&me) {
                    assert_eq!(real, GiveOutcome::Locked);
                    "give what is locked"
                } else {
                    assert_eq!(real == GiveOutcome::Given, self.model.give(&me, NAMES[name]));
                    "give"
                }
            }
            14..=17 if !self.is_locked(name) => self.fences(name, &me),
            18 if self.open.is_some() => {
                let (session, name, seq) = self.open.take().unwrap();
                if self.rng.bool() {
                    session.commit().unwrap();
                    self.model.count(NAMES[name], seq);
                } else {
                    session.rollback();
                }
                "ended"
            }
            _ => {
                let look = self.members[doorman].look().unwrap();
                let same = |member: Member| Member {
                    lease_set: String::new(),
                    joined_at: jiff::Timestamp::UNIX_EPOCH,
                    beat_age: Duration::ZERO,
                    ..member
                };
                assert_eq!(look.into_iter().map(same).collect::<Vec<_>>(), self.model.look());
                let (_, leases, epochs) = self.members[doorman].moves().unwrap();
                assert_eq!((leases, epochs), self.model.moves());
                let mut held = self.members[doorman].leases().unwrap();
                held.sort_by(|one, other| one.name.cmp(&other.name));
                assert_eq!(held, self.model.held());
                "look"
            }
        }
    }

    /// A batch's first statement, of one that has the lease, or had it, or never had.
    fn fences(&mut self, name: usize, me: &str) -> &'static str {
        let row = self.model.leases[NAMES[name]].clone();
        let me = row.holder.clone().filter(|_| self.rng.u8(..4) > 0).unwrap_or_else(|| me.to_owned());
        let epoch = row.epoch - i64::from(self.rng.u8(..6) == 0);
        let seq = row.seq + self.rng.i64(-1..3).min(1);
        let session = self.address.connect(ConnectionPurpose::Write).unwrap();
        session.begin("BEGIN").unwrap();
        let real = match lease::fence(&session, &me, NAMES[name], epoch, seq) {
            Ok(Fence::Open) => model::ModelFence::Open,
            Ok(Fence::Passed) => model::ModelFence::Passed,
            Ok(Fence::Lost(by)) => model::ModelFence::Lost(by),
            Err(_) => panic!("the fence cannot be asked"),
        };
        assert_eq!(real, self.model.fence(&me, NAMES[name], epoch, seq), "{row:?}: {me} {epoch} {seq}");
        match real {
            model::ModelFence::Open if self.open.is_none() && self.rng.bool() => {
                self.open = Some((session, name, seq));
                "open"
            }
            model::ModelFence::Open => {
                session.commit().unwrap();
                self.model.count(NAMES[name], seq);
                "open"
            }
            model::ModelFence::Passed => "passed",
            model::ModelFence::Lost(_) => "lost",
        }
    }

    /// The rows are the same.
    fn compare(&self, after: &str) {
        let connection = Connection::Postgres(&self.writer);
        let members: Vec<(String, i64, String, Option<String>)> = connection
            .prepare_cached("SELECT id, beat, state, set_by FROM member ORDER BY id")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let model = self.model.members.iter();
        let model: Vec<_> =
            model.map(|(id, row)| (id.clone(), row.beat, row.state.as_str().to_owned(), row.set_by.clone())).collect();
        assert_eq!(members, model, "after {after}");
        let leases: Vec<LeaseColumns> = connection
            .prepare_cached("SELECT name, holder, epoch, seq, wanted FROM lease ORDER BY name")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let model = self.model.leases.iter();
        let model: Vec<_> = model
            .map(|(name, row)| (name.clone(), row.holder.clone(), row.epoch, row.seq, row.wanted.clone()))
            .collect();
        assert_eq!(leases, model, "after {after}");
    }
}

/// Its name, holder, epoch and batch, and who is wanted as its holder.
type LeaseColumns = (String, Option<String>, i64, i64, Option<String>);

fn real_taken(taken: TakeOutcome) -> model::Taken {
    match taken {
        TakeOutcome::Ours { epoch, from } => model::Taken::Ours { epoch, from },
        TakeOutcome::Theirs(holder) => model::Taken::Theirs(holder),
    }
}

#[test]
fn the_simulations_model_of_leases_does_what_the_database_does() {
    let Some(LedgerAddress::Database(address)) = crate::ledger::tests::database() else { return };
    let mut both = RealAndModel::new(&address, 20);
    let mut played = std::collections::BTreeMap::new();
    for _ in 0..OPERATIONS {
        let operation = both.plays();
        both.compare(operation);
        *played.entry(operation).or_insert(0) += 1;
    }
    let all = [
        "beat",
        "declared dead",
        "drain",
        "ended",
        "give",
        "give what is locked",
        "join",
        "leave",
        "locked",
        "look",
        "lost",
        "not declared dead",
        "not taken",
        "open",
        "passed",
        "taken",
        "wish",
        "wish for a doorman that takes nothing",
        "wish for nobody's lease",
    ];
    for operation in all {
        assert!(played.contains_key(operation), "`{operation}` was never played: {played:?}");
    }
}
