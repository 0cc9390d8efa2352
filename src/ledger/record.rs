//! Records one entry, inside a transaction of the writer. Rows are added; in existing rows only outcomes, the blanking
//! of a text and the removal of a contact change.

mod answers;
mod contacts;
mod deliveries;
mod guests;
mod numbers;
mod requests;

use super::columns::{Micros, cut};
use super::sql::{self, Optional as _, Statement, Statements, params};
use super::{LedgerError, Record, reasons, texts};
use crate::inbox::GivenAnswer;
use crate::model::{AgentId, Person, RequestId};
use crate::policy::{Mode, PolicyHash};
use jiff::Timestamp;

use answers::IntentRow;
use numbers::LastAnswer;
pub use numbers::Numbers;

/// Why an entry is not on record.
#[derive(Debug)]
pub enum EntryFault {
    /// The error is in the entry: another try would fail, too.
    Refused(String),
    /// According to the record, another answer was carried out, and only a person may give this one.
    Answered {
        /// Which request.
        request: RequestId,
        /// The answer that was carried out.
        said: GivenAnswer,
    },
    /// The error is in the file: a later try may work.
    Blocked(String),
}

impl EntryFault {
    /// For the log.
    pub fn why(self) -> String {
        match self {
            EntryFault::Blocked(why) | EntryFault::Refused(why) => why,
            EntryFault::Answered { request, .. } => format!("request {request} was answered"),
        }
    }

    /// For whoever handed the entry over.
    pub fn into_error(self) -> LedgerError {
        match self {
            EntryFault::Answered { request, said } => LedgerError::Answered { request, said },
            EntryFault::Refused(why) | EntryFault::Blocked(why) => LedgerError::Refused { why },
        }
    }
}

impl From<sql::Error> for EntryFault {
    fn from(error: sql::Error) -> Self {
        match error {
            sql::Error::Sqlite(error) => error.into(),
            // Classes 22 and 23: what the schema does not take.
            sql::Error::Postgres(failure)
                if failure.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23")) =>
            {
                EntryFault::Refused(failure.to_string())
            }
            sql::Error::Postgres(failure) => EntryFault::Blocked(failure.to_string()),
        }
    }
}

impl From<rusqlite::Error> for EntryFault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
        match (&error, error.sqlite_error_code()) {
            (_, Some(ConstraintViolation | TooBig | TypeMismatch)) => EntryFault::Refused(error.to_string()),
            (rusqlite::Error::ToSqlConversionFailure(_), _) => EntryFault::Refused(error.to_string()),
            _ => EntryFault::Blocked(error.to_string()),
        }
    }
}

/// Writes entries in one transaction: its statements, and the known row numbers.
pub struct EntryWriter<'a, 'c> {
    /// Within a transaction.
    pub statements: &'a mut Statements<'c>,
    /// Kept from one transaction to the next.
    pub numbers: &'a mut Numbers,
}

impl<'c> EntryWriter<'_, 'c> {
    /// Writes one entry.
    pub fn record(&mut self, entry: &Record) -> Result<(), EntryFault> {
        match entry {
            Record::Named { agent, handle, at: _ } => {
                let agent = self.agent(agent)?;
                let handle = handle.raw().replace('\0', "\u{FFFD}");
                self.sql("UPDATE agent SET handle = ?2 WHERE n = ?1 AND handle IS DISTINCT FROM ?2")?
                    .execute(params![agent, cut(&handle)])?;
                Ok(())
            }
            Record::Seen { agent, request, via, at } => self.seen(agent, request, via.as_str(), *at),
            Record::Changed { agent, request, at } => self.changed(agent, request, *at),
            Record::Decided { agent, request, decision, circumstances, at } => {
                let (_, request) = self.known(agent, request)?;
                let policy = self.policy(&decision.policy)?;
                let by = decision.by.to_string();
                let columns = reasons::DecisionColumns { at: *at, verdict: decision.verdict, by: &by };
                let mode = match decision.mode {
                    Mode::Enforce => "enforce",
                    Mode::Shadow => "shadow",
                };
                self.sql(
                    "INSERT INTO decision (request, at, verdict, \"by\", policy, mode, facts)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    request,
                    Micros(*at),
                    decision.verdict.as_str(),
                    by,
                    policy,
                    mode,
                    reasons::to_json(decision, circumstances, columns),
                ])?;
                Ok(())
            }
            Record::Intent {
                agent, request, answer, by: by_whom, lasts, policy, charges, counts, attempt, at, ..
            } => {
                let id = request;
                let (agent, request) = self.known(agent, request)?;
                let policy = policy.as_ref().map(|policy| self.policy(policy)).transpose()?;
                let by = &by_whom.to_string();
                let note = by_whom.person().and_then(Person::note);
                let lasts = lasts.map(|lasts| i64::try_from(lasts.as_micros()).unwrap_or(i64::MAX));
                let intent =
                    IntentRow { agent, request, answer: *answer, by, lasts, note, policy, counts: *counts, at: *at };
                let by_person = by_whom.person().is_some();
                if let Some(said) = self.carried_out(&intent).map(|said| said.filter(|_| !by_person))? {
                    return Err(EntryFault::Answered { request: id.clone(), said });
                }
                let earlier = self.intent(&intent, (*attempt).max(1))?;
                self.charge(agent, request, charges, earlier, *at)
            }
            Record::Outcome { agent, request, outcome, detail, refusal, stay, at } => {
                let (agent, request) = self.known(agent, request)?;
                self.outcome(agent, request, *outcome, detail.as_deref(), *refusal, *at)?;
                match stay {
                    Some(stay) => self.guest(agent, request, stay, *at),
                    None => Ok(()),
                }
            }
            Record::Withdrawn { agent, request, at } => {
                let (agent, request) = self.known(agent, request)?;
                match self.end_answer(agent, request, "withdrawn", None, None, *at)? {
                    Some(_) => self.give_back(agent, request),
                    None => Ok(()),
                }
            }
            Record::Settled { agent, request, status, at } => {
                let agent = self.agent(agent)?;
                match self.find(agent, request)? {
                    Some(request) => {
                        self.settled(request, status.as_ref().map_or("gone", |status| status.as_str()), true, *at)
                    }
                    None => Ok(()),
                }
            }
            Record::ContactAdded { agent, contact, request, guest, at } => {
                self.contact_added(agent, contact, request.as_ref(), *at)?;
                match (guest, request) {
                    (Some(doubt), Some(request)) => self.guest_met(agent, request, &contact.id, *doubt),
                    (Some(_) | None, _) => Ok(()),
                }
            }
            Record::ContactRemoved { agent, contact, expired, at } => {
                self.contact_removed(agent, contact, *expired, *at)
            }
            Record::GuestEnd { agent, request, ends_at, person, at } => {
                let (_, request) = self.known(agent, request)?;
                self.guest_end(request, *ends_at, person, *at)
            }
            Record::GuestUnseen { agent, request, at } => self.guest_unseen(agent, request, *at),
            Record::Removing { agent, contact, by, at } => self.removing(agent, contact, by, *at),
            Record::Removal { agent, contact, outcome, detail, at } => {
                self.removal(agent, contact, *outcome, detail.as_deref(), *at)
            }
            Record::Identity { agent, owner, identity, basis, at } => self.identity(agent, owner, identity, basis, *at),
            Record::Vouched { agent, owner, at: _ } => {
                let agent = self.agent(agent)?;
                self.vouched(agent, owner)
            }
            Record::ContactsRead { agent, at } => {
                let agent = self.agent(agent)?;
                self.sql("UPDATE agent SET contacts_read_at = ?2 WHERE n = ?1 AND contacts_read_at IS NULL")?
                    .execute(params![agent, Micros(*at)])?;
                Ok(())
            }
            Record::Settlement { agent, owner, request, said, person, at } => {
                self.settlement(agent, owner, request.as_ref(), *said, person, *at)
            }
            Record::Session { agent, state, why, at } => {
                let agent = self.agent(agent)?;
                self.sql("INSERT INTO session (agent, state, why, at) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
                    agent,
                    state.as_str(),
                    cut(why),
                    Micros(*at)
                ])?;
                Ok(())
            }
            Record::Pause { agent, on, by, note, at } => {
                let agent = self.agent(agent)?;
                let n = self.statements.insert(
                    "INSERT INTO pause (agent, paused, \"by\", at, note, after_decision)
                         VALUES (?1, ?2, ?3, ?4, ?5, (SELECT max(n) FROM decision))",
                    params![agent, on, cut(&by.to_string()), Micros(*at), note],
                )?;
                if !on {
                    self.numbers.keep_last_resume(agent, n);
                }
                Ok(())
            }
            Record::Hold { agent, request, person, at } => {
                let (agent, request) = self.known(agent, request)?;
                self.hold(agent, request, person.as_ref(), *at)
            }
            Record::Notified { agent, request, overdue, at } => {
                let (_, request) = self.known(agent, request)?;
                self.sql("INSERT INTO notice (request, overdue, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
                    .execute(params![request, overdue.as_str(), Micros(*at)])?;
                Ok(())
            }
            Record::Message { target, id, body, mark, at } => self.message(target, id, body, mark, *at),
            Record::Tried { id, attempts, end, next_at, why, at } => {
                self.tried(id, *attempts, *end, *next_at, why.as_deref(), *at)
            }
            Record::DeciderReplied { agent, request, rule, reply, took, at } => {
                let (_, request) = self.known(agent, request)?;
                let reason = reply.reason.as_ref().map(|reason| reason.raw().replace('\0', "\u{FFFD}"));
                self.sql(
                    "INSERT INTO told (request, decider, rule, question, verdict, reason, took_ms, at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    request,
                    reply.decider.as_str(),
                    rule.as_str(),
                    reply.key.as_deref(),
                    reply.verdict.as_str(),
                    reason.as_deref().map(cut),
                    i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
                    Micros(*at)
                ])?;
                Ok(())
            }
            Record::Policy { agent, hash, texts, at } => {
                let agent = self.agent(agent)?;
                let policy = texts::policy(self.statements.connection(), hash)?;
                texts::of_row(self.statements.connection(), policy, texts)?;
                let used = self.statements.insert(
                    "INSERT INTO policy_use (agent, policy, at) VALUES (?1, ?2, ?3)",
                    params![agent, policy, Micros(*at)],
                )?;
                texts::let_go(self.statements.connection(), agent, used)?;
                Ok(())
            }
        }
    }

    fn sql(&mut self, sql: &'static str) -> Result<&mut Statement<'c>, EntryFault> {
        Ok(self.statements.get(sql)?)
    }

    fn agent(&mut self, agent: &AgentId) -> Result<i64, EntryFault> {
        if let Some(n) = self.numbers.agent(agent) {
            return Ok(n);
        }
        self.sql("INSERT INTO agent (id) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([agent.as_str()])?;
        let n = self.sql("SELECT n FROM agent WHERE id = ?1")?.query_row([agent.as_str()], |row| row.get(0))?;
        self.numbers.keep_agent(agent, n);
        Ok(n)
    }

    /// The row of a policy that a decision or an answer names.
    fn policy(&mut self, hash: &PolicyHash) -> Result<i64, EntryFault> {
        if let Some(n) = self.numbers.policy(hash) {
            return Ok(n);
        }
        let n = texts::policy(self.statements.connection(), hash)?;
        self.sql("UPDATE policy SET needed = 1 WHERE n = ?1 AND needed = 0")?.execute([n])?;
        self.numbers.keep_policy(hash, n);
        Ok(n)
    }

    fn find(&mut self, agent: i64, request: &RequestId) -> Result<Option<i64>, EntryFault> {
        if let Some(n) = self.numbers.request(agent, request) {
            return Ok(Some(n));
        }
        let n = self
            .sql("SELECT n FROM request WHERE agent = ?1 AND id = ?2 AND id_reused = 0")?
            .query_row(params![agent, request.as_str()], |row| row.get(0))
            .optional()?;
        if let Some(n) = n {
            self.numbers.keep_request(agent, request, n, LastAnswer::Unread);
        }
        Ok(n)
    }

    /// The row of a request, if one is given and on record.
    fn find_if_given(&mut self, agent: i64, request: Option<&RequestId>) -> Result<Option<i64>, EntryFault> {
        request.map_or(Ok(None), |request| self.find(agent, request))
    }

    fn known(&mut self, agent: &AgentId, request: &RequestId) -> Result<(i64, i64), EntryFault> {
        let agent_n = self.agent(agent)?;
        match self.find(agent_n, request)? {
            Some(n) => Ok((agent_n, n)),
            None => Err(EntryFault::Refused(format!("request `{request}` of agent `{agent}` was never seen"))),
        }
    }

    fn hold(&mut self, agent: i64, request: i64, person: Option<&Person>, at: Timestamp) -> Result<(), EntryFault> {
        self.sql(
            "UPDATE hold SET ended_at = ?3, ended_after = (SELECT max(n) FROM decision)
             WHERE agent = ?1 AND request = ?2 AND ended_at IS NULL AND person IS DISTINCT FROM ?4",
        )?
        .execute(params![agent, request, Micros(at), person.map(Person::name)])?;
        if let Some(person) = person {
            self.sql(
                "INSERT INTO hold (agent, request, person, at, note, after_decision)
                 VALUES (?1, ?2, ?3, ?4, ?5, (SELECT max(n) FROM decision))
                 ON CONFLICT (agent, request) WHERE ended_at IS NULL DO NOTHING",
            )?
            .execute(params![agent, request, person.name(), Micros(at), person.note()])?;
        }
        Ok(())
    }
}
