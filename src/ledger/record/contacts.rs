//! Contacts: that they exist, which answer of ours made them, every owner that they ever had, and their removal; and
//! how people settle doubts about them.

use jiff::Timestamp;

use super::{EntryFault, EntryWriter};
use crate::ledger::columns::{Micros, cut, kept, owner_of};
use crate::ledger::sql::params;
use crate::model::{AgentId, Contact, ContactId, Person, RequestId};
use crate::policy::doubts::{Basis, DoubtSettlement, SeenIdentity};

impl EntryWriter<'_, '_> {
    pub(super) fn contact_added(
        &mut self,
        agent: &AgentId,
        contact: &Contact,
        request: Option<&RequestId>,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let agent = self.agent(agent)?;
        let request = self.find_if_given(agent, request)?;
        let (owner, handle) = (owner_of(&contact.sender), kept(contact.sender.original()));
        let (name, sent) = (kept(contact.name.as_ref()), contact.inserted_at.map(Micros));
        let (id, kind, added) = (contact.id.as_str(), contact.kind.as_str(), Micros(at));
        let new = self.statements.insert_new(
            "INSERT INTO contact (agent, id, owner, handle, name, kind, inserted_at, added_at, request)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (agent, id) DO NOTHING",
            params![agent, id, owner, handle, name, kind, sent, added, request],
        )?;
        if let Some(n) = new {
            return self.new_contact_owners(agent, n, owner, request, at);
        }
        self.sql(
            "INSERT INTO contact_removal (contact, agent, at, expired)
             SELECT n, agent, removed_at, expired FROM contact WHERE agent = ?1 AND id = ?2 AND removed_at IS NOT NULL
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![agent, contact.id.as_str()])?;
        // A contact that appears again after its removal is recorded as it is now.
        let n: i64 = self
            .sql(
            "UPDATE contact SET owner = coalesce(?3, owner), handle = coalesce(?4, handle), name = coalesce(?5, name), kind = ?6,
                 inserted_at = CASE WHEN removed_at IS NULL THEN coalesce(inserted_at, ?7) ELSE ?7 END,
                 added_at = CASE WHEN removed_at IS NULL THEN coalesce(added_at, ?8) ELSE ?8 END,
                 request = CASE WHEN removed_at IS NULL THEN coalesce(request, ?9) ELSE ?9 END, removed_at = NULL, expired = 0
             WHERE agent = ?1 AND id = ?2 RETURNING n",
        )?
        .query_row(params![agent, id, owner, handle, name, kind, sent, added, request], |row| row.get(0))?;
        self.sql(
            "INSERT INTO contact_owner (contact, owner, agent, at)
             SELECT n, owner, CAST(?2 AS bigint), CAST(?3 AS bigint) FROM contact WHERE n = ?1 AND owner IS NOT NULL
             UNION ALL SELECT c.n, r.owner, CAST(?2 AS bigint), CAST(?3 AS bigint)
                 FROM contact c JOIN request r ON r.n = c.request WHERE c.n = ?1 AND r.owner IS NOT NULL
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![n, agent, Micros(at)])?;
        Ok(())
    }

    /// The owners of a contact whose row is new: its own, and that of the request whose answer made it.
    fn new_contact_owners(
        &mut self,
        agent: i64,
        contact: i64,
        own: Option<&str>,
        request: Option<i64>,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        if let Some(own) = own {
            self.sql("INSERT INTO contact_owner (contact, owner, agent, at) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![contact, own, agent, Micros(at)])?;
        }
        if let Some(request) = request {
            // Read first, since it is nearly always the same: an INSERT of a SELECT keeps a journal of its own.
            let asked: Option<String> =
                self.sql("SELECT owner FROM request WHERE n = ?1")?.query_row([request], |row| row.get(0))?;
            if let Some(asked) = asked.filter(|asked| own != Some(asked)) {
                self.sql("INSERT INTO contact_owner (contact, owner, agent, at) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![contact, asked, agent, Micros(at)])?;
            }
        }
        Ok(())
    }

    pub(super) fn settlement(
        &mut self,
        agent: &AgentId,
        owner: &str,
        request: Option<&RequestId>,
        said: DoubtSettlement,
        person: &Person,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let agent = self.agent(agent)?;
        let request = self.find_if_given(agent, request)?;
        self.sql("INSERT INTO settlement (agent, owner, request, said, person, at, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![agent, owner, request, said.as_str(), cut(person.name()), Micros(at), person.note()])?;
        match said {
            DoubtSettlement::Same => self.vouched(agent, owner),
            DoubtSettlement::Removed
            | DoubtSettlement::NotRemoved
            | DoubtSettlement::Approved
            | DoubtSettlement::Rejected
            | DoubtSettlement::Cancelled
            | DoubtSettlement::Expired => Ok(()),
        }
    }

    /// Who has a name, as a payload showed.
    pub(super) fn identity(
        &mut self,
        agent: &AgentId,
        owner: &str,
        identity: &SeenIdentity,
        basis: &Basis,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let agent = self.agent(agent)?;
        self.sql(
            "INSERT INTO identity (agent, owner, name, id, doubted, basis, subject, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (agent, name, id) DO NOTHING",
        )?
        .execute(params![
            agent,
            owner,
            &*identity.name,
            identity.id.as_str(),
            identity.doubted,
            basis.as_str(),
            basis.subject(),
            Micros(at)
        ])?;
        Ok(())
    }

    /// The holders of this owner's names are no longer in doubt.
    pub(super) fn vouched(&mut self, agent: i64, owner: &str) -> Result<(), EntryFault> {
        self.sql("UPDATE identity SET doubted = 0 WHERE agent = ?1 AND owner = ?2 AND doubted = 1")?
            .execute(params![agent, owner])?;
        Ok(())
    }

    pub(super) fn contact_removed(
        &mut self,
        agent: &AgentId,
        contact: &ContactId,
        expired: bool,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let agent = self.agent(agent)?;
        self.sql(
            "INSERT INTO contact (agent, id, removed_at, expired) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (agent, id) DO UPDATE SET
                 expired = CASE WHEN contact.removed_at IS NULL THEN excluded.expired ELSE contact.expired END,
                 removed_at = coalesce(contact.removed_at, excluded.removed_at)",
        )?
        .execute(params![agent, contact.as_str(), Micros(at), expired])?;
        self.guest_left(agent, contact, expired, at)
    }
}
