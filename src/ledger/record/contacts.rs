//! Contacts: that they are there, by which answer of ours, and that they are gone.

use jiff::Timestamp;
use rusqlite::params;

use super::{Fault, Recorder};
use crate::ledger::columns::{Micros, kept, owner_of};
use crate::model::{AgentId, Contact, ContactId, RequestId};

impl Recorder<'_> {
    pub(super) fn contact_added(
        &mut self,
        agent: &AgentId,
        contact: &Contact,
        request: Option<&RequestId>,
        at: Timestamp,
    ) -> Result<(), Fault> {
        let agent = self.agent(agent)?;
        let request = match request {
            Some(request) => self.find(agent, request)?,
            None => None,
        };
        self.sql(
            "INSERT INTO contact (agent, id, owner, handle, name, kind, inserted_at, added_at, request)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (agent, id) DO UPDATE SET owner = coalesce(excluded.owner, owner),
                 handle = coalesce(excluded.handle, handle), name = coalesce(excluded.name, name), kind = excluded.kind,
                 inserted_at = coalesce(inserted_at, excluded.inserted_at), added_at = coalesce(added_at, excluded.added_at),
                 request = coalesce(request, excluded.request), removed_at = NULL",
        )?
        .execute(params![
            agent,
            contact.id.as_str(),
            owner_of(&contact.sender),
            kept(contact.sender.original()),
            kept(contact.name.as_ref()),
            contact.kind.as_str(),
            contact.inserted_at.map(Micros),
            Micros(at),
            request,
        ])?;
        Ok(())
    }

    pub(super) fn contact_removed(&mut self, agent: &AgentId, contact: &ContactId, at: Timestamp) -> Result<(), Fault> {
        let agent = self.agent(agent)?;
        self.sql(
            "INSERT INTO contact (agent, id, removed_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (agent, id) DO UPDATE SET removed_at = coalesce(removed_at, excluded.removed_at)",
        )?
        .execute(params![agent, contact.as_str(), Micros(at)])?;
        Ok(())
    }
}
