//! The rows of `crate::ledger::members`, written and read on a connection of their own: a beat waits for nothing.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::address::{Address, ConnectionPurpose};
use super::session::DatabaseSession;
use super::{NOW, preflight, prepare, roster, schema};
use crate::ledger::members::{BeatOutcome, LeaseHolder, Member, MemberState, NewMember, RosterMark, WishOutcome};
use crate::ledger::sql::{self, Connection, Optional as _, SqlRow, params};
use crate::ledger::{LedgerError, columns};

/// As whom `doorman ledger copy` holds what it has copied away.
const COPY: &str = "ledger copy";
/// A dead member that holds nothing is forgotten after this long.
const FORGOTTEN_AFTER_DAYS: i64 = 7;

/// This process among the others. See the module.
pub struct Membership {
    address: Arc<Address>,
    session: Option<DatabaseSession>,
    /// How often it was made.
    connected: u64,
    /// As whom the writers take leases.
    me: Arc<ArcSwap<String>>,
    joining: NewMember,
    /// Why the server may lose what it confirmed, as far as that was said.
    loses: Option<String>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Membership {
    pub(super) fn new(
        address: Arc<Address>,
        me: Arc<ArcSwap<String>>,
        joining: NewMember,
        loses: Option<String>,
    ) -> Self {
        Self { address, session: None, connected: 0, me, joining, loses }
    }

    /// The id of this life.
    pub fn me(&self) -> Arc<String> {
        self.me.load_full()
    }

    /// I live. `reached`: how many agents have the platform.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn beat(&mut self, reached: u64) -> Result<BeatOutcome, LedgerError> {
        let me = self.me();
        self.ask(|connection| {
            let sql = format!(
                "UPDATE member SET beat = beat + 1, beat_at = {NOW}, reached = ?2 WHERE id = ?1 AND state <> 'dead' RETURNING state"
            );
            let state: Option<String> = connection
                .query_row(&sql, params![me.as_str(), i64::try_from(reached).unwrap_or(i64::MAX)], |row| row.get(0))
                .optional()?;
            if let Some(state) = state.as_deref().and_then(MemberState::parse) {
                return Ok(BeatOutcome::Done(state));
            }
            let by: Option<Option<String>> = connection
                .query_row("SELECT set_by FROM member WHERE id = ?1", params![me.as_str()], |row| row.get(0))
                .optional()?;
            Ok(BeatOutcome::Dead { by: by.flatten() })
        })
    }

    /// All members that are not dead.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn look(&mut self) -> Result<Vec<Member>, LedgerError> {
        self.ask(|connection| {
            let sql = format!("SELECT {COLUMNS}, 0 FROM member m WHERE m.state <> 'dead' ORDER BY m.id");
            connection.prepare_cached(&sql)?.query_map([], member)?.collect()
        })
    }

    /// Changes with each lease that is taken or given, with each wish for one, and with the connection: after a fail-over that lost some of these, others may
    /// add up to the same.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn moves(&mut self) -> Result<(u64, i64, i64), LedgerError> {
        let (leases, epochs) = self.ask(|connection| {
            let sql = "SELECT count(*), CAST(coalesce(sum(epoch + wishes), 0) AS bigint) FROM lease";
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        })?;
        Ok((self.connected, leases, epochs))
    }

    /// Changes with the roster, and with the connection: after a fail-over that lost some changes, others may come to the same number.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn roster_mark(&mut self) -> Result<RosterMark, LedgerError> {
        let changes =
            self.ask(|connection| connection.query_row("SELECT roster_changes FROM meta", [], |row| row.get(0)))?;
        Ok(RosterMark { connected: self.connected, changes })
    }

    /// Whether this member takes agents, as far as the platform is concerned.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn set_away(&mut self, away: bool) -> Result<(), LedgerError> {
        let me = self.me();
        self.ask(|connection| {
            let sql = "UPDATE member SET away = ?2 WHERE id = ?1";
            connection.prepare_cached(sql)?.execute(params![me.as_str(), i64::from(away)])?;
            Ok(())
        })
    }

    /// All leases.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn leases(&mut self) -> Result<Vec<LeaseHolder>, LedgerError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached("SELECT name, holder, wanted FROM lease")?;
            let rows = statement
                .query_map([], |row| Ok(LeaseHolder { name: row.get(0)?, holder: row.get(1)?, wanted: row.get(2)? }))?;
            rows.collect()
        })
    }

    /// The leases of the lease set with this hash.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn lease_set(&mut self, hash: &str) -> Result<Vec<String>, LedgerError> {
        self.ask(|connection| {
            let names: String =
                connection.query_row("SELECT names FROM lease_set WHERE hash = ?1", params![hash], |row| row.get(0))?;
            serde_json::from_str(&names).map_err(|error| sql::Error::damaged(&error.to_string()))
        })
    }

    /// The member is dead, if its beat is still the one that was watched, and if this member itself lives.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn declare_dead(&mut self, victim: &str, seen: i64) -> Result<bool, LedgerError> {
        let (me, name) = (self.me(), self.joining.name.clone());
        self.ask(|connection| {
            let sql = format!(
                "UPDATE member SET state = 'dead', set_by = ?4, set_at = {NOW} WHERE id = ?1 AND beat = ?2 AND state <> 'dead'
                   AND EXISTS (SELECT 1 FROM member w WHERE w.id = ?3 AND w.state IN ('up', 'draining'))"
            );
            let changed = connection.prepare_cached(&sql)?.execute(params![victim, seen, me.as_str(), name])?;
            Ok(changed > 0)
        })
    }

    /// The others think that this member is dead: it comes again, as another.
    ///
    /// # Errors
    /// The database cannot be asked; then it is nobody still.
    pub fn join_again(&mut self, id: String) -> Result<(), LedgerError> {
        let joining = NewMember { id, before: None, ..self.joining.clone() };
        let address = Arc::clone(&self.address);
        self.with_session(|session| join(session, &address, &joining))?;
        self.me.store(Arc::new(joining.id.clone()));
        self.joining = joining;
        Ok(())
    }

    /// These are the leases that this member may hold, from now on and in each life that follows.
    ///
    /// # Errors
    /// The database cannot be asked: to be said again.
    pub fn take_names(&mut self, names: &Arc<[String]>) -> Result<(), LedgerError> {
        self.joining.names = Arc::clone(names);
        let me = self.me();
        let (hash, names) = lease_set_of(names);
        self.ask(|connection| {
            let transaction = connection.begin()?;
            connection.prepare_cached(NEW_LEASE_SET)?.execute(params![hash, names])?;
            let sql = "UPDATE member SET lease_set = ?2 WHERE id = ?1";
            connection.prepare_cached(sql)?.execute(params![me.as_str(), hash])?;
            // They may be long, and change often. Of one that somebody else begins to use at this moment one of the two fails, and
            // tries again.
            let sql =
                "DELETE FROM lease_set WHERE NOT EXISTS (SELECT 1 FROM member m WHERE m.lease_set = lease_set.hash)";
            connection.prepare_cached(sql)?.execute([])?;
            transaction.commit()
        })
    }

    /// This process ends. Its leases stay in its name: the next start takes them at once, and the others after a moment.
    ///
    /// # Errors
    /// The database cannot be asked: then the others notice by its beat.
    pub fn leave(&mut self) -> Result<(), LedgerError> {
        let me = self.me();
        self.ask(|connection| {
            let sql = format!(
                "UPDATE member SET state = 'left', set_at = {NOW}, reached = 0 WHERE id = ?1 AND state IN ('up', 'draining')"
            );
            connection.prepare_cached(&sql)?.execute(params![me.as_str()])?;
            Ok(())
        })
    }

    fn ask<T>(&mut self, ask: impl FnOnce(Connection<'_>) -> sql::Result<T>) -> Result<T, LedgerError> {
        let address = Arc::clone(&self.address);
        self.with_session(|session| {
            ask(Connection::Postgres(session)).map_err(|error| columns::read_error(address.shown(), &error))
        })
    }

    fn with_session<T>(
        &mut self,
        ask: impl FnOnce(&DatabaseSession) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        if self.session.as_ref().is_none_or(DatabaseSession::is_broken) {
            self.session = None;
        }
        let session = match &self.session {
            Some(session) => session,
            None => {
                let session = self.address.connect(ConnectionPurpose::Write)?;
                preflight::look_again(&session, &self.address, &mut self.loses)?;
                self.connected += 1;
                self.session.insert(session)
            }
        };
        let asked = ask(session);
        if asked.is_err() {
            session.rollback();
        }
        asked
    }
}

/// One that is there is locked: nobody deletes it before this member has it.
const NEW_LEASE_SET: &str =
    "INSERT INTO lease_set (hash, names) VALUES (?1, ?2) ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash";

const COLUMNS: &str =
    "m.id, m.instance, m.name, m.version, m.beat, m.state, m.weight, m.agents_max, m.ttl_ms, m.lease_set, m.reached,
    m.joined_at, CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) - m.beat_at, m.away";

fn member(row: &SqlRow<'_>) -> sql::Result<Member> {
    let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let large = |number: i64| u64::try_from(number).unwrap_or(0);
    let state: String = row.get(5)?;
    Ok(Member {
        id: row.get(0)?,
        instance: row.get(1)?,
        name: row.get(2)?,
        version: row.get(3)?,
        beat: row.get(4)?,
        state: MemberState::parse(&state).ok_or_else(|| sql::Error::damaged("a state that no doorman writes"))?,
        weight: small(row.get(6)?),
        agents_max: small(row.get(7)?),
        ttl: Duration::from_millis(large(row.get(8)?)),
        lease_set: row.get(9)?,
        reached: large(row.get(10)?),
        joined_at: Timestamp::from_microsecond(row.get(11)?)
            .map_err(|error| sql::Error::damaged(&error.to_string()))?,
        beat_age: Duration::from_micros(large(row.get(12)?)),
        away: row.get::<_, i64>(13)? != 0,
        held: large(row.get(14)?),
    })
}

/// The hash of a list of leases, and the list as it is kept.
fn lease_set_of(names: &[String]) -> (String, String) {
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let text = serde_json::to_string(&sorted).unwrap_or_else(|_| "[]".to_owned());
    let hash = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    (hash, text)
}

/// Puts this process among the others. Its own last life, which has certainly ended, is dead from now on.
pub(super) fn join(session: &DatabaseSession, address: &Address, joining: &NewMember) -> Result<(), LedgerError> {
    let connection = Connection::Postgres(session);
    let joined = (|| -> sql::Result<()> {
        session.begin("BEGIN")?;
        let (hash, names) = lease_set_of(&joining.names);
        connection.prepare_cached(NEW_LEASE_SET)?.execute(params![hash, names])?;
        let sql = format!(
            "INSERT INTO member (id, instance, name, version, state, weight, agents_max, ttl_ms, lease_set, joined_at, beat_at)
             VALUES (?1, ?2, ?3, ?4, 'up', ?5, ?6, ?7, ?8, {NOW}, {NOW})"
        );
        let ttl = i64::try_from(joining.ttl.as_millis()).unwrap_or(i64::MAX);
        connection.prepare_cached(&sql)?.execute(params![
            joining.id,
            joining.instance,
            joining.name,
            env!("CARGO_PKG_VERSION"),
            joining.weight,
            joining.agents_max,
            ttl,
            hash
        ])?;
        if let Some(before) = &joining.before {
            let sql = format!(
                "UPDATE member SET state = 'dead', set_by = ?2, set_at = {NOW} WHERE id = ?1 AND state <> 'dead'"
            );
            connection.prepare_cached(&sql)?.execute(params![before, joining.name])?;
        }
        let sql = format!(
            "DELETE FROM member WHERE state = 'dead' AND set_at < {NOW} - {FORGOTTEN_AFTER_DAYS} * 86400000000
               AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.holder = member.id)"
        );
        connection.prepare_cached(&sql)?.execute([])?;
        Ok(session.commit()?)
    })();
    if joined.is_err() {
        session.rollback();
    }
    joined.map_err(|error| columns::read_error(address.shown(), &error))
}

/// All leases are those of a member that is nobody and never dies: whoever still runs writes nothing more, and takes nothing.
pub fn take_all(session: &DatabaseSession) -> sql::Result<()> {
    let connection = Connection::Postgres(session);
    let (hash, names) = lease_set_of(&[]);
    let done = (|| {
        session.begin("BEGIN")?;
        connection.prepare_cached(NEW_LEASE_SET)?.execute(params![hash, names])?;
        let sql = format!(
            "INSERT INTO member (id, instance, name, version, state, weight, agents_max, ttl_ms, lease_set, joined_at, beat_at)
             VALUES (?1, ?1, ?1, '', 'up', 1, 0, 9223372036854, ?2, {NOW}, {NOW}) ON CONFLICT (id) DO UPDATE SET state = 'up'"
        );
        connection.prepare_cached(&sql)?.execute(params![COPY, hash])?;
        let sql = "UPDATE lease SET holder = ?1, epoch = epoch + 1, seq = 0";
        connection.prepare_cached(sql)?.execute(params![COPY])?;
        Ok(session.commit()?)
    })();
    if done.is_err() {
        session.rollback();
    }
    done
}

/// What people are shown of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetList {
    /// The members that are not dead, with how many leases each holds.
    pub members: Vec<Member>,
    /// The leases that nobody alive holds.
    pub free: Vec<String>,
    /// Where people want agents.
    pub wishes: Vec<AgentWish>,
    /// How many agents are on the roster.
    pub rostered: u64,
    /// Those of them that no living doorman may hold, since none has their key.
    pub without_key: Vec<String>,
}

/// An agent that a person wants with one doorman.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentWish {
    /// The agent's lease.
    pub agent: String,
    /// The doorman's name.
    pub to: String,
    /// `person:NAME`.
    pub by: String,
}

/// See [`FleetList`].
pub fn list(address: &Address) -> Result<FleetList, LedgerError> {
    let session = address.connect(ConnectionPurpose::Read)?;
    let failed = |error: &sql::Error| columns::read_error(address.shown(), error);
    let found = schema::found(&session).map_err(|failure| failed(&failure.into()))?.unwrap_or(0);
    if found < 13 {
        return Err(LedgerError::Unusable {
            path: address.shown().to_owned(),
            why: "no doorman that shares agents has run on it".to_owned(),
        });
    }
    // An older database, before its first doorman of this version.
    let columns =
        if found < 17 { COLUMNS.replace("m.away", "0").replace("m.lease_set", "m.roster") } else { COLUMNS.to_owned() };
    let connection = Connection::Postgres(&session);
    let read = || -> sql::Result<_> {
        let sql = format!(
            "SELECT {columns}, (SELECT count(*) FROM lease l WHERE l.holder = m.id AND l.name <> 'notify')
             FROM member m WHERE m.state <> 'dead' ORDER BY m.name, m.joined_at"
        );
        let members = connection.prepare_cached(&sql)?.query_map([], member)?.collect::<sql::Result<Vec<_>>>()?;
        let free = connection
            .prepare_cached(
                "SELECT l.name FROM lease l LEFT JOIN member m ON m.id = l.holder AND m.state <> 'dead' WHERE m.id IS NULL ORDER BY l.name",
            )?
            .query_map([], |row| row.get(0))?
            .collect::<sql::Result<Vec<String>>>()?;
        let mut wishes = Vec::new();
        if found >= 16 {
            wishes = connection
                .prepare_cached(
                    "SELECT name, wanted, coalesce(wanted_by, '') FROM lease WHERE wanted IS NOT NULL ORDER BY name",
                )?
                .query_map([], |row| Ok(AgentWish { agent: row.get(0)?, to: row.get(1)?, by: row.get(2)? }))?
                .collect::<sql::Result<Vec<_>>>()?;
        }
        let (rostered, without_key) = roster::without_key(connection, found)?;
        Ok(FleetList { members, free, wishes, rostered, without_key })
    };
    read().map_err(|error| failed(&error))
}

/// A person wants the doorman of this name to have an agent; or wishes nothing any more.
pub fn wish(address: &Address, lease: &str, to: Option<&str>, person: &str) -> Result<WishOutcome, LedgerError> {
    let session = prepare(address)?;
    let connection = Connection::Postgres(&session);
    let wished = || -> sql::Result<WishOutcome> {
        if let Some(to) = to {
            let sql = "SELECT s.names FROM member m JOIN lease_set s ON s.hash = m.lease_set WHERE m.name = ?1 AND m.state = 'up'";
            let sets = connection
                .prepare_cached(sql)?
                .query_map([to], |row| row.get::<_, String>(0))?
                .collect::<sql::Result<Vec<_>>>()?;
            if sets.is_empty() {
                return Ok(WishOutcome::NoMember);
            }
            let names = |text: &String| serde_json::from_str::<Vec<String>>(text).unwrap_or_default();
            if !sets.iter().any(|text| names(text).iter().any(|name| name == lease)) {
                return Ok(WishOutcome::NotNamed);
            }
        }
        let sql = "UPDATE lease SET wanted = ?2, wanted_by = ?3, wishes = wishes + 1 WHERE name = ?1";
        let by = to.map(|_| person);
        let changed = connection.prepare_cached(sql)?.execute(params![lease, to, by])?;
        Ok(if changed > 0 { WishOutcome::Done } else { WishOutcome::NoLease })
    };
    wished().map_err(|error| columns::read_error(address.shown(), &error))
}

/// The name of the living doorman that has this lease, if any has.
pub fn holder(address: &Address, lease: &str) -> Result<Option<String>, LedgerError> {
    let session = address.connect(ConnectionPurpose::Read)?;
    let found = holder_of(Connection::Postgres(&session), lease);
    found.map_err(|error| columns::read_error(address.shown(), &error))
}

/// The same, on this connection.
pub(super) fn holder_of(connection: Connection<'_>, lease: &str) -> sql::Result<Option<String>> {
    let sql = "SELECT m.name FROM lease l JOIN member m ON m.id = l.holder AND m.state <> 'dead' WHERE l.name = ?1";
    connection.query_row(sql, [lease], |row| row.get(0)).optional()
}

/// A person wants these members, by name, to give their agents to others, or to take some again. How many there were.
pub fn drain(address: &Address, name: &str, drain: bool, person: &str) -> Result<usize, LedgerError> {
    let session = prepare(address)?;
    let (from, to) =
        if drain { (MemberState::Up, MemberState::Draining) } else { (MemberState::Draining, MemberState::Up) };
    let sql = format!(
        "UPDATE member SET state = ?3, set_by = ?4, set_at = {NOW} WHERE state = ?2 AND (name = ?1 OR id = ?1)"
    );
    Connection::Postgres(&session)
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.execute(params![name, from.as_str(), to.as_str(), person]))
        .map_err(|error| columns::read_error(address.shown(), &error))
}
