//! Guests: approvals for a time, the contacts that they made, and contacts that doorman removes.

use jiff::Timestamp;

use super::{EntryFault, EntryWriter};
use crate::ledger::columns::{Micros, cut};
use crate::ledger::sql::params;
use crate::model::{AgentId, ContactId, GuestDoubt, GuestStay, Person, RemovalOutcome, RemovedBy, RequestId};

impl EntryWriter<'_, '_> {
    /// An approval for a time was carried out. An earlier one of the same request, whose contact was never seen, made none.
    pub(super) fn guest(
        &mut self,
        agent: i64,
        request: i64,
        stay: &GuestStay,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        self.sql(
            "UPDATE guest SET over = 'again', over_at = ?2 WHERE request = ?1 AND contact IS NULL AND over IS NULL",
        )?
        .execute(params![request, Micros(at)])?;
        self.sql(
            "INSERT INTO guest (agent, request, ends_at, made_from, made_until, doubt) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            agent,
            request,
            Micros(stay.ends_at),
            Micros(stay.made_from),
            Micros(stay.made_until),
            stay.doubt.map(GuestDoubt::as_str),
        ])?;
        Ok(())
    }

    /// The contact of such an approval exists.
    pub(super) fn guest_met(
        &mut self,
        agent: &AgentId,
        request: &RequestId,
        contact: &ContactId,
        doubt: Option<GuestDoubt>,
    ) -> Result<(), EntryFault> {
        let agent = self.agent(agent)?;
        let Some(request) = self.find(agent, request)? else { return Ok(()) };
        self.sql(
            "UPDATE guest SET contact = ?2, doubt = coalesce(doubt, ?3)
             WHERE request = ?1 AND over IS NULL AND (contact IS NULL OR contact = ?2)",
        )?
        .execute(params![request, contact.as_str(), doubt.map(GuestDoubt::as_str)])?;
        Ok(())
    }

    pub(super) fn guest_unseen(
        &mut self,
        agent: &AgentId,
        request: &RequestId,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let agent = self.agent(agent)?;
        let Some(request) = self.find(agent, request)? else { return Ok(()) };
        self.sql(
            "UPDATE guest SET over = 'unseen', over_at = ?2 WHERE request = ?1 AND contact IS NULL AND over IS NULL",
        )?
        .execute(params![request, Micros(at)])?;
        Ok(())
    }

    /// A person moved the end of a guest's contact, or removed the end: the guest stays.
    pub(super) fn guest_end(
        &mut self,
        request: i64,
        ends_at: Option<Timestamp>,
        person: &Person,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let ends_at = ends_at.map(Micros);
        self.sql("INSERT INTO guest_end (request, ends_at, person, at, note) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![request, ends_at, cut(person.name()), Micros(at), person.note()])?;
        self.sql(
            "UPDATE guest SET ends_at = coalesce(?2, ends_at), over = CASE WHEN ?2 IS NULL THEN 'again' END,
                 over_at = CASE WHEN ?2 IS NULL THEN CAST(?3 AS bigint) END
             WHERE request = ?1 AND over IS NULL",
        )?
        .execute(params![request, ends_at, Micros(at)])?;
        Ok(())
    }

    /// A contact was removed: its end is no longer waited for.
    pub(super) fn guest_left(
        &mut self,
        agent: i64,
        contact: &ContactId,
        expired: bool,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        self.sql(
            "UPDATE guest SET over = CASE WHEN ?3 THEN 'expired' ELSE 'removed' END, over_at = ?4
             WHERE agent = ?1 AND contact = ?2 AND over IS NULL",
        )?
        .execute(params![agent, contact.as_str(), expired, Micros(at)])?;
        Ok(())
    }

    /// The intent to remove a contact. A failed removal is tried again in the same row.
    pub(super) fn removing(
        &mut self,
        agent: &AgentId,
        contact: &ContactId,
        by: &RemovedBy,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let agent = self.agent(agent)?;
        let (by, note) = (by.to_string(), by.person().and_then(Person::note));
        let again = self
            .sql(
                "UPDATE removal SET attempts = attempts + 1, last_at = ?4, outcome = NULL, outcome_at = NULL, note = ?5
                 WHERE n = (SELECT max(n) FROM removal WHERE agent = ?1 AND contact = ?2 AND \"by\" = ?3
                     AND (outcome IS NULL OR outcome IN ('refused', 'unknown')))",
            )?
            .execute(params![agent, contact.as_str(), cut(&by), Micros(at), note])?;
        if again == 0 {
            self.sql(
                "INSERT INTO removal (agent, contact, request, \"by\", at, note, attempts, last_at)
                 VALUES (?1, ?2, (SELECT request FROM contact WHERE agent = ?1 AND id = ?2), ?3, ?4, ?5, 1, ?4)",
            )?
            .execute(params![agent, contact.as_str(), cut(&by), Micros(at), note])?;
        }
        Ok(())
    }

    /// The outcome of the removal.
    pub(super) fn removal(
        &mut self,
        agent: &AgentId,
        contact: &ContactId,
        outcome: RemovalOutcome,
        detail: Option<&str>,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let agent = self.agent(agent)?;
        self.sql(
            "UPDATE removal SET outcome = ?3, outcome_at = ?4, detail = ?5
             WHERE n = (SELECT max(n) FROM removal WHERE agent = ?1 AND contact = ?2
                 AND (outcome IS NULL OR outcome IN ('refused', 'unknown')))",
        )?
        .execute(params![agent, contact.as_str(), outcome.as_str(), Micros(at), detail.map(cut)])?;
        Ok(())
    }
}
