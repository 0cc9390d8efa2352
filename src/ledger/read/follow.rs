//! What is new since the last poll, for `history -f`. Between polls it keeps only numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::recorded::EndMoved;
use super::{Engine, LedgerReader, RecordedRequest, rows};
use crate::ledger::LedgerError;
use crate::ledger::sql::{self, Connection, params};
use crate::model::{Outcome, Verdict};
use crate::policy::By;
use jiff::Timestamp;

/// Most open requests that are watched for their end; beyond that the oldest are dropped.
const WATCHED_MAX: usize = 10_000;

/// What was shown of a request; if this differs, there is something new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ShownRequest {
    verdict: Option<Verdict>,
    by: Option<By>,
    outcome: Option<Outcome>,
    settled: Option<String>,
    end_moved: Option<EndMoved>,
    removed_at: Option<Timestamp>,
}

/// Follows a ledger while daemons start and stop.
#[derive(Debug)]
pub struct Follow {
    reader: LedgerReader,
    /// Changes with each commit; at the last look.
    version: Option<i64>,
    /// What was looked at of each of [`TABLES`].
    looked: [SeenRows<i64>; 4],
    /// The same of contacts that were removed.
    removed: SeenRows<RemovalKey>,
    /// Requests that may still change, by row, with what was last shown of them.
    watched: BTreeMap<i64, ShownRequest>,
}

/// When a contact was removed, and its row: by time first, since the row was there before.
type RemovalKey = (i64, i64);

/// Where news is, by the row of its request.
const TABLES: [(&str, &str); 4] =
    [("request", "n"), ("decision", "request"), ("answer", "request"), ("guest_end", "request")];

/// Rows that were looked at: all up to a key, and some after it. If several write, or if the key is a time, a row may come to be
/// seen after one with a greater key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SeenRows<K> {
    all_to: K,
    after: BTreeSet<K>,
}

impl<K: Copy + Ord> SeenRows<K> {
    /// Whether it was not looked at before; it counts as looked at from now on.
    fn is_new(&mut self, key: K, most: usize) -> bool {
        let new = key > self.all_to && self.after.insert(key);
        while self.after.len() > most {
            self.all_to = self.after.pop_first().unwrap_or(self.all_to);
        }
        new
    }
}

/// How many numbers are remembered one by one if several write: more than are ever given out and not yet to be seen.
const UNORDERED_MAX: usize = 16_384;
/// How many removals are remembered one by one: what a clock that was set back may come after.
const REMOVED_MAX: usize = 4_096;

impl Follow {
    /// Starts after everything that exists now: a request that is open now is shown when it changes.
    ///
    /// # Errors
    /// As [`LedgerReader::open`].
    pub fn begin(reader: LedgerReader) -> Result<Self, LedgerError> {
        let mut follow = Self {
            reader,
            version: None,
            looked: Default::default(),
            removed: SeenRows::default(),
            watched: BTreeMap::new(),
        };
        follow.version = Some(follow.version_now()?);
        let unordered = i64::try_from(follow.unordered()).unwrap_or(i64::MAX);
        for (index, (table, _)) in TABLES.iter().enumerate() {
            let newest = follow.read(|connection| newest(connection, table))?;
            follow.looked[index].all_to = newest.saturating_sub(unordered).max(0);
        }
        follow.removed = follow.read(removed_before)?;
        // What is there already is no news.
        follow.read_new()?;
        let open = follow.read(|connection| {
            numbers(
                connection,
                "SELECT n FROM (SELECT n FROM request WHERE settled IS NULL ORDER BY n DESC LIMIT ?1) newest WHERE n > ?2",
                [i64::try_from(WATCHED_MAX).unwrap_or(i64::MAX), 0],
            )
        })?;
        for n in open {
            if let Some(request) = follow.read(|connection| rows::one(connection, n))? {
                follow.watched.insert(n, shown(&request));
            }
        }
        Ok(follow)
    }

    /// The requests of which there is something new to say, in the order of their arrival. Empty, and cheap, if
    /// nothing was written.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn poll(&mut self) -> Result<Vec<RecordedRequest>, LedgerError> {
        if self.reader.outdated() || self.reader.moved() {
            self.reader = LedgerReader::open(self.reader.at())?;
            self.version = None;
        }
        let version = self.version_now()?;
        if self.version.replace(version) == Some(version) {
            return Ok(Vec::new());
        }
        let newest = self.read(|connection| newest(connection, TABLES[0].0))?;
        if newest < self.looked[0].after.last().copied().unwrap_or(self.looked[0].all_to) {
            // This is another ledger, started from empty.
            self.looked = Default::default();
            self.removed = SeenRows::default();
            self.watched.clear();
        }
        for n in self.read_new()? {
            self.watched.entry(n).or_default();
        }
        let mut news = Vec::new();
        for n in self.watched.keys().copied().collect::<Vec<_>>() {
            let Some(request) = self.read(|connection| rows::one(connection, n))? else { continue };
            let state = shown(&request);
            let finished = request.settled.is_some();
            let speaks = finished
                || request.verdict == Some(Verdict::Defer)
                || request.answer.as_ref().is_some_and(|answer| answer.outcome.is_some());
            if speaks && self.watched.get(&n) != Some(&state) {
                self.watched.insert(n, state);
                news.push(request);
            }
            if finished {
                self.watched.remove(&n);
            }
        }
        while self.watched.len() > WATCHED_MAX {
            self.watched.pop_first();
        }
        Ok(news)
    }

    /// How many numbers may be given out and not yet to be seen.
    fn unordered(&self) -> usize {
        match &self.reader.engine {
            Engine::Sqlite(_) => 0,
            Engine::Postgres(_) => UNORDERED_MAX,
        }
    }

    /// Looks at the rows that are new in each table, and returns their requests.
    fn read_new(&mut self) -> Result<Vec<i64>, LedgerError> {
        let unordered = self.unordered();
        let mut touched = Vec::new();
        for (index, (table, request)) in TABLES.iter().enumerate() {
            let all_to = self.looked[index].all_to;
            let rows = self.read(|connection| {
                connection
                    .prepare_cached(&format!("SELECT n, {request} FROM {table} WHERE n > ?1 ORDER BY n"))?
                    .query_map([all_to], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<sql::Result<Vec<(i64, i64)>>>()
            })?;
            let looked = &mut self.looked[index];
            touched.extend(rows.into_iter().filter(|(n, _)| looked.is_new(*n, unordered)).map(|(_, request)| request));
        }
        let rows = self.read(|connection| removed_since(connection, self.removed.all_to))?;
        let news = rows.into_iter().filter(|(key, _)| self.removed.is_new(*key, REMOVED_MAX));
        touched.extend(news.filter_map(|(_, request)| request));
        Ok(touched)
    }

    fn version_now(&self) -> Result<i64, LedgerError> {
        match &self.reader.engine {
            Engine::Sqlite(file) => file.version(),
            Engine::Postgres(database) => database.version(),
        }
    }

    fn read<T>(&self, read: impl FnOnce(Connection<'_>) -> sql::Result<T>) -> Result<T, LedgerError> {
        read(self.reader.sql()).map_err(|error| self.reader.fault(&error))
    }
}

fn shown(request: &RecordedRequest) -> ShownRequest {
    ShownRequest {
        verdict: request.verdict,
        by: request.by.clone(),
        outcome: request.outcome,
        settled: request.settled.clone(),
        end_moved: request.end_moved.clone(),
        removed_at: request.contact_removed_at,
    }
}

/// The last removals that were there before.
fn removed_before(connection: Connection<'_>) -> sql::Result<SeenRows<RemovalKey>> {
    let mut looked: SeenRows<RemovalKey> = SeenRows::default();
    let most = i64::try_from(REMOVED_MAX).unwrap_or(i64::MAX);
    // An agent at a time, since the index begins with that.
    for agent in numbers(connection, "SELECT n FROM agent WHERE n >= ?1 AND n > ?2 ORDER BY n", [0, 0])? {
        let rows = connection
            .prepare_cached(
                "SELECT removed_at, n FROM contact WHERE agent = ?1 AND removed_at >= ?2 ORDER BY removed_at DESC LIMIT ?3",
            )?
            .query_map(params![agent, looked.all_to.0, most], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<sql::Result<Vec<RemovalKey>>>()?;
        for key in rows {
            looked.is_new(key, REMOVED_MAX);
        }
    }
    Ok(looked)
}

/// The contacts that were removed then or later, and the requests that they came of.
fn removed_since(connection: Connection<'_>, (at, _): RemovalKey) -> sql::Result<Vec<(RemovalKey, Option<i64>)>> {
    connection
        .prepare_cached(
            "SELECT c.removed_at, c.n, c.request FROM agent a CROSS JOIN contact c ON c.agent = a.n AND c.removed_at >= ?1
             ORDER BY c.removed_at, c.n",
        )?
        .query_map([at], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?
        .collect()
}

fn newest(connection: Connection<'_>, table: &str) -> sql::Result<i64> {
    connection.query_row(&format!("SELECT coalesce(max(n), 0) FROM {table}"), [], |row| row.get(0))
}

fn numbers(connection: Connection<'_>, sql: &str, range: [i64; 2]) -> sql::Result<Vec<i64>> {
    connection.prepare_cached(sql)?.query_map(params![range[0], range[1]], |row| row.get(0))?.collect()
}
