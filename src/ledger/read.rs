//! Reads a ledger while the daemon writes to it, after a crash, or from a read-only medium. Never changes a row, takes
//! no lock for which a daemon waits, and creates no file beside the ledger if that can be avoided.

mod at_moment;
mod contacts;
mod counted;
mod follow;
mod open;
mod policies;
mod recorded;
mod rows;
mod settled;
mod totals;

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::columns::{self, Micros, Parsed};
use super::roster::{self, Roster};
use super::sql::{self, Connection, Optional as _, TextColumn as _, params};
use super::{LedgerAddress, LedgerError, RestoreReach, postgres, reasons, sqlite};
use crate::model::{AgentId, RequestId, StrangerText};
use crate::policy::DeciderVerdict;
use crate::policy::state::{PauseRecord, SavedState};

pub(crate) use at_moment::RowMoment;
pub(crate) use contacts::{RecordedContact, WantedContacts};
pub(crate) use counted::{ByHour, Matches};
pub use follow::Follow;
pub(crate) use open::{OpenRequest, OpenRequests, WantedOpen};
pub(super) use open::{agents_of_guest, open_requests};
pub(crate) use recorded::{
    AnswerRecord, EndMoved, OutcomeFilter, RecordedDecision, RecordedRequest, RemovedRecord, TableSize, TimeOf,
};
pub use recorded::{Filter, Totals};
pub(crate) use settled::SettlementRecord;

/// Contacts that are read in one moment of the record, and held at once.
const CONTACTS_PAGE: usize = 512;

/// See the module.
#[derive(Debug)]
pub struct LedgerReader {
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    Sqlite(sqlite::SqliteReading),
    Postgres(Box<postgres::PostgresReading>),
}

impl LedgerReader {
    /// Opens an existing ledger.
    ///
    /// Without a write-ahead log beside it nobody has it open, so it is read without locks or helper files.
    ///
    /// # Errors
    /// [`LedgerError::Unusable`] if there is none or it cannot be read, [`LedgerError::Corrupt`],
    /// [`LedgerError::Newer`].
    pub fn open(at: impl Into<LedgerAddress>) -> Result<Self, LedgerError> {
        let engine = match at.into() {
            LedgerAddress::File(path) => Engine::Sqlite(sqlite::SqliteReading::open(&path)?),
            LedgerAddress::Database(address) => Engine::Postgres(Box::new(postgres::PostgresReading::open(&address)?)),
        };
        Ok(Self { engine })
    }

    pub(super) fn sql(&self) -> Connection<'_> {
        match &self.engine {
            Engine::Sqlite(file) => file.sql(),
            Engine::Postgres(database) => database.sql(),
        }
    }

    /// Its real path.
    pub(crate) fn at(&self) -> LedgerAddress {
        match &self.engine {
            Engine::Sqlite(file) => file.path().into(),
            Engine::Postgres(database) => LedgerAddress::Database(Box::new(database.address().clone())),
        }
    }

    /// The roster; of a file there is none.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn roster(&self) -> Result<Roster, LedgerError> {
        roster::read(self.sql()).map_err(|error| self.fault(&error))
    }

    /// Whether this reader returns old data, and a new reader sees the new data.
    pub fn outdated(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(file) => file.outdated(),
            Engine::Postgres(database) => database.is_broken(),
        }
    }

    /// Whether the file that it reads is gone.
    fn moved(&self) -> bool {
        match &self.engine {
            Engine::Sqlite(file) => file.moved(),
            Engine::Postgres(_) => false,
        }
    }

    /// The requests that a filter lets through, oldest first.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] or [`LedgerError::Unusable`], as all of these.
    pub fn requests(&self, filter: &Filter) -> Result<Vec<RecordedRequest>, LedgerError> {
        let mut requests = Vec::new();
        let take = |request| {
            requests.push(request);
            ControlFlow::Continue(())
        };
        rows::for_each(self.sql(), filter, rows::Consistency::One, take).map_err(|error| self.fault(&error))?;
        Ok(requests)
    }

    /// Calls `take` with each request that a filter lets through, oldest first, without holding more than a page of
    /// them (with [`Filter::limit`]: more than that many). `take` may wait: no transaction is open meanwhile, and
    /// changes between two pages are visible.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn for_each(
        &self,
        filter: &Filter,
        take: impl FnMut(RecordedRequest) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        rows::for_each(self.sql(), filter, rows::Consistency::EachPage, take).map_err(|error| self.fault(&error))
    }

    /// The request with this id; if several agents have one, the newest.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn request(&self, id: &RequestId) -> Result<Option<RecordedRequest>, LedgerError> {
        let numbers = self.numbers_of(id)?;
        match numbers.last() {
            Some(n) => rows::one(self.sql(), *n).map_err(|error| self.fault(&error)),
            None => Ok(None),
        }
    }

    /// The requests of these agents that are open, as far as the record knows.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub(crate) fn open_requests(&self, wanted: &WantedOpen) -> Result<OpenRequests, LedgerError> {
        open_requests(self.sql(), wanted).map_err(|error| self.fault(&error))
    }

    /// All decisions on requests with this id, oldest first.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub(crate) fn decisions_of(&self, id: &RequestId) -> Result<Vec<RecordedDecision>, LedgerError> {
        let mut decisions = Vec::new();
        for n in self.numbers_of(id)? {
            decisions.extend(rows::decisions(self.sql(), n).map_err(|error| self.fault(&error))?);
        }
        Ok(decisions)
    }

    /// What an agent remembered at a moment, as far as it matters for one owner and one request.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub(crate) fn state_at(
        &self,
        agent: &AgentId,
        request: Option<&RecordedRequest>,
        owner: Option<&str>,
        reach: RestoreReach,
        moment: RowMoment,
    ) -> Result<SavedState, LedgerError> {
        at_moment::state_at(self.sql(), agent, request, owner, reach, moment).map_err(|error| self.fault(&error))
    }

    /// The verdicts of deciders about a request, with their times, in order.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub(crate) fn replies_to(
        &self,
        request: &RecordedRequest,
    ) -> Result<Vec<(Timestamp, DeciderVerdict)>, LedgerError> {
        at_moment::replies_to(self.sql(), request.row).map_err(|error| self.fault(&error))
    }

    /// The newest pause of an agent before that moment, whether or not it was resumed since.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub(crate) fn pause_before(&self, agent: &AgentId, moment: RowMoment) -> Result<Option<PauseRecord>, LedgerError> {
        at_moment::pause_before(self.sql(), agent, moment).map_err(|error| self.fault(&error))
    }

    /// The newest requests of a handle, newest first, at most `most`; of this agent, or of all.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub(crate) fn requests_of(
        &self,
        handle: &str,
        agent: Option<&AgentId>,
        most: usize,
    ) -> Result<Vec<RecordedRequest>, LedgerError> {
        let read = || -> sql::Result<Vec<RecordedRequest>> {
            let found = at_moment::of_handle(self.sql(), agent, &rows::WhoseRequests::parse(handle), most)?;
            let mut requests = Vec::with_capacity(found.len());
            for n in found {
                requests.extend(rows::one(self.sql(), n)?);
            }
            Ok(requests)
        };
        read().map_err(|error| self.fault(&error))
    }

    /// How many contacts an agent has, as far as the record knows; `None` if its contacts were never read.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub(crate) fn contact_count(&self, agent: &AgentId) -> Result<Option<u64>, LedgerError> {
        let sql = "SELECT (SELECT count(*) FROM contact WHERE agent = a.n AND removed_at IS NULL),
                       (SELECT d.facts FROM request r JOIN decision d ON d.request = r.n
                       WHERE r.agent = a.n ORDER BY r.first_seen DESC, d.n DESC LIMIT 1)
                   FROM agent a WHERE a.id = ?1";
        let read = |row: &sql::SqlRow<'_>| -> sql::Result<Option<u64>> {
            let count = row.get::<_, i64>(0)?.unsigned_abs();
            let known = row.get_ref(1)?.text_or_null()?.and_then(reasons::known_contacts).is_some();
            Ok((known || count > 0).then_some(count))
        };
        let counted = self.sql().query_row(sql, [agent.as_str()], read).optional();
        counted.map(Option::flatten).map_err(|error| self.fault(&error))
    }

    /// When which handles of this owner, or of all, were contacts of an agent, as far as the record knows; `None` if its
    /// contacts were never read.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub(crate) fn contact_spans(
        &self,
        agent: &AgentId,
        owner: Option<&str>,
    ) -> Result<Option<contacts::ContactSpans>, LedgerError> {
        if self.contact_count(agent)?.is_none() {
            return Ok(None);
        }
        contacts::spans(self.sql(), agent, owner).map(Some).map_err(|error| self.fault(&error))
    }

    /// The ids of requests that begin with this text, at most two.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn beginning(&self, beginning: &str) -> Result<Vec<RequestId>, LedgerError> {
        // An id is visible ASCII, so no character of it sorts after DEL. The query goes by agent, since the index
        // begins with that.
        let sql = "SELECT DISTINCT r.id FROM agent a CROSS JOIN request r
                   ON r.agent = a.n AND r.id >= ?1 AND r.id < ?2 LIMIT 2";
        let read = || -> sql::Result<Vec<RequestId>> {
            let mut statement = self.sql().prepare_cached(sql)?;
            statement.query_map(params![beginning, after(beginning)], |row| row.get(0).map(|Parsed(id)| id))?.collect()
        };
        read().map_err(|error| self.fault(&error))
    }

    /// The agents that the record mentions, in the order of their first entry.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn agents(&self) -> Result<Vec<AgentId>, LedgerError> {
        let read = || -> sql::Result<Vec<AgentId>> {
            let mut statement = self.sql().prepare_cached("SELECT id FROM agent ORDER BY n")?;
            statement.query_map([], |row| row.get(0).map(|Parsed(id)| id))?.collect()
        };
        read().map_err(|error| self.fault(&error))
    }

    /// The last handle of each agent, as the platform reported it.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub(crate) fn agent_handles(&self) -> Result<Vec<(AgentId, Option<String>)>, LedgerError> {
        let read = || -> sql::Result<Vec<(AgentId, Option<String>)>> {
            let mut statement = self.sql().prepare_cached("SELECT id, handle FROM agent ORDER BY n")?;
            statement.query_map([], |row| Ok((row.get(0).map(|Parsed(id)| id)?, row.get(1)?)))?.collect()
        };
        read().map_err(|error| self.fault(&error))
    }

    /// The contacts that are there now, of this agent or of all, oldest first.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn contacts(&self, agent: Option<&AgentId>) -> Result<Vec<RecordedContact>, LedgerError> {
        let mut contacts = Vec::new();
        self.each_contact(&WantedContacts { agent, ..WantedContacts::default() }, |contact| {
            contacts.push(contact);
            ControlFlow::Continue(())
        })?;
        Ok(contacts)
    }

    /// Calls `take` with each existing contact that is wanted, oldest first. No transaction is open while `take` works
    /// or waits; the selection is made at the beginning.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub(crate) fn each_contact(
        &self,
        wanted: &WantedContacts<'_>,
        mut take: impl FnMut(RecordedContact) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut numbers = contacts::numbers(self.sql(), wanted).map_err(|error| self.fault(&error))?;
        if let Some(newest) = wanted.newest {
            let mut found = Vec::new();
            while found.len() < newest && !numbers.is_empty() {
                let page = numbers.split_off(numbers.len().saturating_sub(CONTACTS_PAGE));
                let rows = contacts::page(self.sql(), &page, wanted).map_err(|error| self.fault(&error))?;
                found.extend(rows.into_iter().rev());
            }
            found.truncate(newest);
            // Whether or not all of them were taken.
            let _ = found.into_iter().rev().try_for_each(take);
            return Ok(());
        }
        for page in numbers.chunks(CONTACTS_PAGE) {
            let rows = contacts::page(self.sql(), page, wanted).map_err(|error| self.fault(&error))?;
            if rows.into_iter().try_for_each(&mut take).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Contacts that exist, that no answer of doorman's explains, and that were added since then, oldest first: handle
    /// and time. Contacts that existed when the agent's contacts were read for the first time are left out: they
    /// existed before doorman.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub(crate) fn contacts_unexplained(
        &self,
        agent: Option<&AgentId>,
        since: Option<Timestamp>,
    ) -> Result<Vec<(Option<StrangerText>, Timestamp)>, LedgerError> {
        let sql =
            "SELECT c.handle, c.added_at FROM agent a CROSS JOIN contact c INDEXED BY contact_strange ON c.agent = a.n
                   WHERE c.request IS NULL AND c.removed_at IS NULL AND c.added_at >= ?1 AND (CAST(?2 AS text) IS NULL OR a.id = ?2)
                       AND c.added_at > a.contacts_read_at
                   ORDER BY c.n";
        let read = || -> sql::Result<Vec<(Option<StrangerText>, Timestamp)>> {
            let mut statement = self.sql().prepare_cached(sql)?;
            let since = Micros(since.unwrap_or(Timestamp::MIN));
            let rows = statement.query_map(params![since, agent.map(AgentId::as_str)], |row| {
                let Micros(at) = row.get(1)?;
                Ok((row.get::<_, Option<String>>(0)?.map(|text| StrangerText::new(&text)), at))
            })?;
            rows.collect()
        };
        read().map_err(|error| self.fault(&error))
    }

    /// The number of rows of each kind.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn totals(&self) -> Result<Totals, LedgerError> {
        let schema = match &self.engine {
            Engine::Sqlite(file) => file.schema()?,
            Engine::Postgres(database) => database.schema()?,
        };
        totals::totals(self.sql(), schema).map_err(|error| self.fault(&error))
    }

    /// The rows and the size of each table, the largest first. Reads every page: some seconds for a gigabyte.
    ///
    /// # Errors
    /// As [`LedgerReader::requests`].
    pub fn tables(&self) -> Result<Vec<TableSize>, LedgerError> {
        match &self.engine {
            Engine::Sqlite(_) => totals::tables(self.sql()).map_err(|error| self.fault(&error)),
            Engine::Postgres(database) => database.tables(),
        }
    }

    /// Reads every page and compares every index with its table. Takes seconds a gigabyte.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), LedgerError> {
        match &self.engine {
            Engine::Sqlite(file) => file.check(),
            Engine::Postgres(database) => Err(database.unchecked()),
        }
    }

    fn numbers_of(&self, id: &RequestId) -> Result<Vec<i64>, LedgerError> {
        // By agent, since that is how the index begins.
        let read = || -> sql::Result<Vec<i64>> {
            self.sql()
                .prepare_cached(
                    "SELECT r.n FROM agent a CROSS JOIN request r ON r.agent = a.n AND r.id = ?1 ORDER BY r.n",
                )?
                .query_map(params![id.as_str()], |row| row.get(0))?
                .collect()
        };
        read().map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &sql::Error) -> LedgerError {
        columns::read_error(&self.at().to_string(), error)
    }
}

/// What comes after everything that begins so: what is looked for is visible ASCII, of which nothing comes after DEL.
fn after(beginning: &str) -> String {
    format!("{beginning}\u{7f}")
}
