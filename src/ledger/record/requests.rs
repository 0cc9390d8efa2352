//! Requests: when one was first seen, its changes, and how to treat one whose id is already on record.

use jiff::Timestamp;

use super::numbers::LastAnswer;
use super::{EntryFault, EntryWriter};
use crate::ledger::columns::{Micros, kept, owner_of};
use crate::ledger::sql::params;
use crate::model::{AgentId, ContactRequest, Sender};

/// Changes that are kept of one request: the first ones and the newest.
const CHANGES_MAX: usize = 64;

/// The row that has an id.
struct RequestRow {
    n: i64,
    handle: Option<String>,
    sent: Option<Timestamp>,
    blanked: bool,
    settled: Option<String>,
}

impl RequestRow {
    /// Whether its sender is another than this request's, as far as both are known.
    fn has_other_sender(&self, request: &ContactRequest) -> bool {
        let (Some(known), Some(now)) = (self.handle.as_deref(), kept(request.sender.original())) else { return false };
        let plain = request.sender.handle();
        known != now && (plain.is_none() || Sender::parse(Some(known)).handle() != plain)
    }

    /// Whether it was sent at another time.
    fn has_other_time(&self, request: &ContactRequest) -> bool {
        let times = self.sent.zip(request.inserted_at);
        times.is_some_and(|(known, now)| known.as_microsecond() != now.as_microsecond())
    }
}

impl EntryWriter<'_, '_> {
    /// A request was seen. If its id is on record for a request with another sender or another time that ended, this is
    /// another request; if that request is pending, it changed. If only a listing or somebody else's answer ended it,
    /// it is pending again.
    pub(super) fn seen(
        &mut self,
        agent: &AgentId,
        request: &ContactRequest,
        via: &str,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let agent = self.agent(agent)?;
        if self.insert(agent, request, via, at)? {
            return Ok(());
        }
        let known = self
            .sql(
                "SELECT n, handle, inserted_at, blanked, settled FROM request
                 WHERE agent = ?1 AND id = ?2 AND id_reused = 0",
            )?
            .query_row(params![agent, request.id.as_str()], |row| {
                Ok(RequestRow {
                    n: row.get(0)?,
                    handle: row.get(1)?,
                    sent: row.get::<_, Option<Micros>>(2)?.map(|Micros(at)| at),
                    blanked: row.get(3)?,
                    settled: row.get(4)?,
                })
            })?;
        let other_sender = known.has_other_sender(request);
        match known.settled.as_deref() {
            Some(_) if other_sender || known.has_other_time(request) => {
                self.sql("UPDATE request SET id_reused = n WHERE n = ?1")?.execute([known.n])?;
                self.insert(agent, request, via, at)?;
            }
            Some("gone" | "elsewhere") => {
                self.sql("UPDATE request SET settled = NULL, settled_at = NULL, elsewhere = NULL WHERE n = ?1")?
                    .execute([known.n])?;
            }
            Some(_) => {}
            None => {
                let fills = known.handle.is_none() && !known.blanked && request.sender != Sender::Absent;
                if other_sender || fills {
                    self.change(known.n, request, at)?;
                }
            }
        }
        Ok(())
    }

    /// A row for this request, unless its id has one.
    fn insert(&mut self, agent: i64, request: &ContactRequest, via: &str, at: Timestamp) -> Result<bool, EntryFault> {
        // Not an upsert, which does not distinguish a new row from an existing one.
        let new = self.statements.insert_new(
            "INSERT INTO request (agent, id, owner, handle, name, message, inserted_at, first_seen, via)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (agent, id, id_reused) DO NOTHING",
            params![
                agent,
                request.id.as_str(),
                owner_of(&request.sender),
                kept(request.sender.original()),
                kept(request.name.as_ref()),
                kept(request.message.as_ref()),
                request.inserted_at.map(Micros),
                Micros(at),
                via,
            ],
        )?;
        if let Some(n) = new {
            self.numbers.keep_request(agent, &request.id, n, LastAnswer::None);
        }
        Ok(new.is_some())
    }

    pub(super) fn changed(
        &mut self,
        agent: &AgentId,
        request: &ContactRequest,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let (_, n) = self.known(agent, &request.id)?;
        self.change(n, request, at)
    }

    fn change(&mut self, n: i64, request: &ContactRequest, at: Timestamp) -> Result<(), EntryFault> {
        self.sql(
            "INSERT INTO request_change (request, at, handle, name, message)
             SELECT n, ?2, handle, name, message FROM request WHERE n = ?1",
        )?
        .execute(params![n, Micros(at)])?;
        // A sender who changes a name again and again must not fill the disk: the first changes stay, and the newest.
        let connection = self.statements.connection();
        let mut forget = connection.prepare_cached(&format!(
            "DELETE FROM request_change WHERE n = (SELECT n FROM request_change WHERE request = ?1 ORDER BY n DESC LIMIT 1 OFFSET 1)
                 AND (SELECT count(*) FROM request_change WHERE request = ?1) > {CHANGES_MAX}"
        ))?;
        forget.execute([n])?;
        self.sql(
            "UPDATE request SET owner = ?2, handle = ?3, name = ?4, message = ?5, inserted_at = coalesce(?6, inserted_at)
             WHERE n = ?1",
        )?
        .execute(params![
            n,
            owner_of(&request.sender),
            kept(request.sender.original()),
            kept(request.name.as_ref()),
            kept(request.message.as_ref()),
            request.inserted_at.map(Micros),
        ])?;
        Ok(())
    }
}
