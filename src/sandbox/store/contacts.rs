//! Contacts: one record for each side of a relation, each with an id of its own.

use jiff::Timestamp;
use serde_json::json;

use super::{PageRows, PageWanted, PartyIndex, PushedEvent, Store, StoreError, plain};
use crate::clock::Now;
use crate::sandbox::wire::ContactState;
use crate::sandbox::world::PartyKind;

/// One side of a relation.
#[derive(Debug)]
pub(super) struct ContactRecord {
    id: String,
    /// The other side, if it is of this world.
    other: Option<PartyIndex>,
    handle: Option<String>,
    /// The handle that is listed instead, if a tester changed it.
    listed: Option<Option<String>>,
    name: Option<String>,
    kind: PartyKind,
    inserted_at: Timestamp,
    /// The sender's id from the request that made it, if a tester gave one.
    sender_id: Option<String>,
    owner_id: Option<String>,
}

impl ContactRecord {
    fn add_ids(&self, row: &mut serde_json::Value) {
        for (key, id) in [("sender_id", &self.sender_id), ("owner_id", &self.owner_id)] {
            if let Some(id) = id {
                row[key] = id.as_str().into();
            }
        }
    }
}

impl Store {
    /// Whether `other` is on the list of `party`.
    pub(super) fn is_contact(&self, party: PartyIndex, other: PartyIndex) -> bool {
        self.contact_by_handle.contains_key(&(party, self.parties[other].handle.clone()))
    }

    /// Makes both sides of an approved request contacts, unless they are contacts already.
    pub(super) fn make_contacts(&mut self, request: usize, now: Now, pushed: &mut Vec<PushedEvent>) {
        let row = &self.requests[request];
        let (to, from) = (row.to, row.from);
        let ids = (row.from_id.clone(), row.owner_id.clone());
        match from {
            Some(from) => {
                for (side, other) in [(to, from), (from, to)] {
                    let party = &self.parties[other];
                    let (handle, name, kind) = (Some(party.handle.clone()), Some(party.name.clone()), party.kind);
                    let ids = if side == to { ids.clone() } else { (None, None) };
                    self.add_contact(side, Some(other), handle, name, kind, ids, now, pushed);
                }
            }
            None => {
                let handle = row.from_handle.clone().flatten();
                let name = row.from_name.clone().flatten();
                let kind = match handle.as_deref().is_some_and(|handle| handle.contains('/')) {
                    true => PartyKind::Agent,
                    false => PartyKind::User,
                };
                self.add_contact(to, None, handle, name, kind, ids, now, pushed);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one record, used in two places above")]
    fn add_contact(
        &mut self,
        side: PartyIndex,
        other: Option<PartyIndex>,
        handle: Option<String>,
        name: Option<String>,
        kind: PartyKind,
        (sender_id, owner_id): (Option<String>, Option<String>),
        now: Now,
        pushed: &mut Vec<PushedEvent>,
    ) {
        let key = handle.as_deref().map(|handle| (side, plain(handle)));
        if key.as_ref().is_some_and(|key| self.contact_by_handle.contains_key(key)) {
            return;
        }
        let number = self.next_contact;
        self.next_contact += 1;
        let row = ContactRecord {
            id: self.uuid(2, number),
            other,
            handle,
            listed: None,
            name,
            kind,
            inserted_at: super::wire_time(now),
            sender_id,
            owner_id,
        };
        let mut payload = json!({
            "id": row.id, "handle": row.handle, "name": row.name, "type": kind.as_str(), "inserted_at": row.inserted_at,
        });
        row.add_ids(&mut payload);
        if let Some(description) = other.and_then(|other| self.parties[other].description.as_deref()) {
            payload["description"] = description.into();
        }
        pushed.push(PushedEvent {
            to: side,
            event: "contact_added",
            payload: super::json(&payload).into(),
            request: None,
        });
        self.contacts[side].insert(number, row);
        if let Some(key) = key {
            self.contact_by_handle.insert(key, number);
        }
    }

    /// Contacts of `party`, oldest first. `online` says who has a connection; for a party outside this world that is
    /// null, and so is the handle of a party without one.
    pub(crate) fn list_contacts(
        &self,
        party: PartyIndex,
        page: PageWanted,
        online: impl Fn(PartyIndex) -> bool,
    ) -> PageRows {
        let all = &self.contacts[party];
        let show = |row: &ContactRecord| {
            let mut shown = json!({
                "id": row.id, "handle": row.listed.as_ref().unwrap_or(&row.handle), "name": row.name,
                "type": row.kind.as_str(), "inserted_at": row.inserted_at, "online": row.other.map(&online),
            });
            row.add_ids(&mut shown);
            super::json(&shown)
        };
        PageRows { rows: all.values().skip(page.skip()).take(page.take()).map(show).collect(), total: all.len() }
    }

    /// Lists a contact with another handle, or with none.
    pub fn rename_contact(&mut self, party: PartyIndex, handle: &str, to: Option<String>) -> Result<(), StoreError> {
        let number = self.contact_by_handle.get(&(party, plain(handle)));
        let row = number.and_then(|number| self.contacts[party].get_mut(number));
        row.ok_or(StoreError::NotFound("no such contact"))?.listed = Some(to);
        Ok(())
    }

    /// Ends a relation, by the other side's handle or the record's id; both sides get an event.
    pub fn remove_contact(
        &mut self,
        party: PartyIndex,
        handle: Option<&str>,
        id: Option<&str>,
        pushed: &mut Vec<PushedEvent>,
    ) -> Result<(), StoreError> {
        let number = match (handle, id) {
            (Some(handle), _) => self.contact_by_handle.get(&(party, plain(handle))).copied(),
            (None, Some(id)) => self.contacts[party].iter().find(|(_, row)| row.id == id).map(|(number, _)| *number),
            (None, None) => return Err(StoreError::Invalid("`handle` or `contact_id` is required".into())),
        };
        let row = number
            .and_then(|number| self.take_contact(party, number, pushed))
            .ok_or(StoreError::NotFound("no such contact"))?;
        if let Some(other) = row.other {
            let key = (other, self.parties[party].handle.clone());
            if let Some(number) = self.contact_by_handle.get(&key).copied() {
                self.take_contact(other, number, pushed);
            }
        }
        Ok(())
    }

    fn take_contact(&mut self, party: PartyIndex, number: u64, pushed: &mut Vec<PushedEvent>) -> Option<ContactRecord> {
        let row = self.contacts[party].remove(&number)?;
        if let Some(handle) = &row.handle {
            self.contact_by_handle.remove(&(party, plain(handle)));
        }
        let payload = super::json(&json!({ "id": row.id })).into();
        pushed.push(PushedEvent { to: party, event: "contact_removed", payload, request: None });
        Some(row)
    }

    /// All contacts, for the control's state.
    pub(crate) fn contact_states(&self) -> Vec<ContactState> {
        let of = |(party, rows): (usize, &std::collections::BTreeMap<u64, ContactRecord>)| {
            let owner = self.parties[party].id.clone();
            let rows: Vec<ContactState> = rows
                .values()
                .map(|row| ContactState {
                    of: owner.clone(),
                    id: row.id.clone(),
                    handle: row.handle.clone(),
                    name: row.name.clone(),
                })
                .collect();
            rows
        };
        self.contacts.iter().enumerate().flat_map(of).collect()
    }
}
