//! What is new since the last look, for `history -f`. Between looks it holds only numbers.

use std::collections::BTreeMap;

use super::{Engine, LedgerReader, RecordedRequest, rows};
use crate::ledger::LedgerError;
use crate::ledger::sql::{self, Connection, params};
use crate::model::{Outcome, Verdict};
use crate::policy::By;

/// Most open requests that are watched for their end; of more, the oldest are let go.
const WATCHED_MAX: usize = 10_000;

/// What is shown of a request, by which "something new" is told.
type Shown = (Option<Verdict>, Option<By>, Option<Outcome>, Option<String>);

/// Follows a ledger through daemons that come and go.
#[derive(Debug)]
pub struct Follow {
    reader: LedgerReader,
    /// SQLite's count of others' commits, at the last look.
    version: Option<i64>,
    mark: Mark,
    /// Requests that may still change, by row, with what was last shown of them.
    watched: BTreeMap<i64, Shown>,
}

/// The last rows that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    request: i64,
    decision: i64,
    answer: i64,
}

impl Follow {
    /// Begins after what is there now: what is open now is said when it changes.
    ///
    /// # Errors
    /// As [`LedgerReader::open`].
    pub fn begin(reader: LedgerReader) -> Result<Self, LedgerError> {
        let mut follow =
            Self { reader, version: None, mark: Mark { request: 0, decision: 0, answer: 0 }, watched: BTreeMap::new() };
        follow.version = Some(follow.version_now()?);
        follow.mark = follow.read(mark)?;
        let open = follow.read(|connection| {
            numbers(
                connection,
                "SELECT n FROM (SELECT n FROM request WHERE settled IS NULL ORDER BY n DESC LIMIT ?1) WHERE n > ?2",
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

    /// The requests of which there is something new to say, in the order of their arrival. Empty, and cheap, where
    /// nothing was written.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn poll(&mut self) -> Result<Vec<RecordedRequest>, LedgerError> {
        if self.reader.outdated() || self.reader.moved() {
            self.reader = LedgerReader::open(self.reader.path())?;
            self.version = None;
        }
        let version = self.version_now()?;
        if self.version.replace(version) == Some(version) {
            return Ok(Vec::new());
        }
        let now = self.read(mark)?;
        if now.request < self.mark.request {
            // Another ledger, begun again.
            self.mark = Mark { request: 0, decision: 0, answer: 0 };
            self.watched.clear();
        }
        let before = self.mark;
        let touched = self.read(|connection| {
            let mut touched =
                numbers(connection, "SELECT n FROM request WHERE n > ?1 AND n <= ?2", [before.request, now.request])?;
            touched.extend(numbers(
                connection,
                "SELECT DISTINCT request FROM decision WHERE n > ?1 AND n <= ?2",
                [before.decision, now.decision],
            )?);
            touched.extend(numbers(
                connection,
                "SELECT DISTINCT request FROM answer WHERE n > ?1 AND n <= ?2",
                [before.answer, now.answer],
            )?);
            Ok(touched)
        })?;
        self.mark = now;
        for n in touched {
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

    fn version_now(&self) -> Result<i64, LedgerError> {
        match &self.reader.engine {
            Engine::Sqlite(file) => file.version(),
        }
    }

    fn read<T>(&self, read: impl FnOnce(Connection<'_>) -> sql::Result<T>) -> Result<T, LedgerError> {
        read(self.reader.sql()).map_err(|error| self.reader.fault(&error))
    }
}

fn shown(request: &RecordedRequest) -> Shown {
    (request.verdict, request.by.clone(), request.outcome, request.settled.clone())
}

fn mark(connection: Connection<'_>) -> sql::Result<Mark> {
    connection.query_row(
        "SELECT coalesce((SELECT max(n) FROM request), 0), coalesce((SELECT max(n) FROM decision), 0),
             coalesce((SELECT max(n) FROM answer), 0)",
        [],
        |row| Ok(Mark { request: row.get(0)?, decision: row.get(1)?, answer: row.get(2)? }),
    )
}

fn numbers(connection: Connection<'_>, sql: &str, range: [i64; 2]) -> sql::Result<Vec<i64>> {
    connection.prepare_cached(sql)?.query_map(params![range[0], range[1]], |row| row.get(0))?.collect()
}
