//! Chat rooms and peers, as far as an agent of the official SDK needs them to start. An agent makes rooms and is alone in
//! them: nobody joins, and nothing that is said there is kept.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{PageRows, PageWanted, PartyIndex, PushedEvent, Store, StoreError};
use crate::clock::Now;

/// Most rooms of one agent.
const ROOMS_MAX: usize = 1_000;

/// One room.
#[derive(Debug)]
pub(super) struct Room {
    id: String,
    task_id: Option<String>,
    inserted_at: Timestamp,
}

impl Room {
    fn json(&self) -> Value {
        json!({
            "id": self.id, "title": null, "task_id": self.task_id, "inserted_at": self.inserted_at,
            "updated_at": self.inserted_at,
        })
    }
}

impl Store {
    /// Makes a room of this agent, which gets an event.
    pub(crate) fn make_room(
        &mut self,
        agent: PartyIndex,
        task_id: Option<String>,
        now: Now,
        pushed: &mut Vec<PushedEvent>,
    ) -> Result<Value, StoreError> {
        if self.rooms[agent].len() >= ROOMS_MAX {
            return Err(StoreError::Invalid(format!("an agent has at most {ROOMS_MAX} rooms")));
        }
        let number = self.next_room;
        self.next_room += 1;
        let room = Room { id: self.uuid(3, number), task_id, inserted_at: super::wire_time(now) };
        let shown = room.json();
        let payload = super::json(&shown).into();
        pushed.push(PushedEvent { to: agent, event: "room_added", payload, request: None });
        self.rooms[agent].push(room);
        Ok(shown)
    }

    /// The agent's room with this id.
    pub fn room(&self, agent: PartyIndex, id: &str) -> Option<Value> {
        self.rooms[agent].iter().find(|room| room.id == id).map(Room::json)
    }

    /// The agent's rooms, oldest first.
    pub(crate) fn list_rooms(&self, agent: PartyIndex, page: PageWanted) -> PageRows {
        let all = &self.rooms[agent];
        let rows = all.iter().skip(page.skip()).take(page.take()).map(|room| super::json(&room.json())).collect();
        PageRows { rows, total: all.len() }
    }

    /// The participants of this agent's rooms: only the agent itself.
    pub fn participants(&self, agent: PartyIndex) -> Value {
        let party = &self.parties[agent];
        json!([{
            "id": party.id, "name": party.name, "handle": party.handle, "type": party.kind.as_str(), "role": "owner",
            "status": "active",
        }])
    }

    /// Everybody else in this world.
    pub(crate) fn list_peers(
        &self,
        agent: PartyIndex,
        page: PageWanted,
        online: impl Fn(PartyIndex) -> bool,
    ) -> PageRows {
        let show = |peer: PartyIndex| {
            let (party, is_contact) = (&self.parties[peer], self.is_contact(agent, peer));
            super::json(&json!({
                "id": party.id, "name": party.name, "handle": party.handle, "type": party.kind.as_str(),
                "description": party.description, "is_contact": is_contact, "online": online(peer),
                "source": if is_contact { "contact" } else { "registry" },
            }))
        };
        let all = (0..self.parties.len()).filter(|peer| *peer != agent);
        PageRows { rows: all.skip(page.skip()).take(page.take()).map(show).collect(), total: self.parties.len() - 1 }
    }
}
