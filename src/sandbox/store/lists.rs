//! Pages of requests: their contents and order.

use jiff::Timestamp;

use super::{PartyIndex, RequestRecord, Store, json};
use crate::clock::Mono;
use crate::sandbox::wire::SandboxStatus;
use crate::sandbox::world::PartyKind;

/// Which page of a list, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageWanted {
    /// From 1.
    pub page: u64,
    /// 1 to 100.
    pub size: u64,
}

impl PageWanted {
    pub(super) fn skip(self) -> usize {
        usize::try_from((self.page - 1).saturating_mul(self.size)).unwrap_or(usize::MAX)
    }

    pub(super) fn take(self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }
}

/// The rows of a page, as JSON, and the total number.
#[derive(Debug, Default)]
pub struct PageRows {
    /// JSON, one a row.
    pub rows: Vec<String>,
    /// In all.
    pub total: usize,
}

impl Store {
    /// Pending requests to `party`, newest first; with `as_of`, as they were at that moment.
    pub(crate) fn list_received(&self, party: PartyIndex, page: PageWanted, as_of: Option<Mono>) -> PageRows {
        let show = |index: &usize| {
            let row = &self.requests[*index];
            // Only agents have a picture.
            let agent = row.from.filter(|party| self.parties[*party].kind == PartyKind::Agent);
            row.received_json(agent.map(|party| format!("https://sandbox.invalid/avatars/{}", self.parties[party].id)))
        };
        if let Some(then) = as_of {
            let mut was: Vec<(Timestamp, usize)> = self
                .requests
                .iter()
                .enumerate()
                .filter(|(_, row)| row.to == party && row.created <= then && row.settled.is_none_or(|at| at > then))
                .map(|(index, row)| (row.inserted_at, index))
                .collect();
            was.sort_unstable_by(|a, b| b.cmp(a));
            let rows = was.iter().skip(page.skip()).take(page.take()).map(|(_, index)| show(index)).collect();
            return PageRows { rows, total: was.len() };
        }
        let all = &self.received[party];
        let rows = all.iter().rev().skip(page.skip()).take(page.take()).map(|(_, index)| show(index)).collect();
        PageRows { rows, total: all.len() }
    }

    /// Requests from `party` of this status (`None`: of every), newest first.
    pub(crate) fn list_sent(&self, party: PartyIndex, page: PageWanted, status: Option<SandboxStatus>) -> PageRows {
        let show = |index: usize| {
            let row = &self.requests[index];
            let to = &self.parties[row.to];
            json(&serde_json::json!({
                "id": row.id, "to_handle": to.handle, "to_name": to.name, "message": row.message,
                "status": row.status, "inserted_at": row.inserted_at,
            }))
        };
        if status == Some(SandboxStatus::Pending) {
            let all = &self.sent[party];
            let rows = all.iter().rev().skip(page.skip()).take(page.take()).map(|(_, index)| show(*index)).collect();
            return PageRows { rows, total: all.len() };
        }
        let fits = |row: &RequestRecord| row.from == Some(party) && status.is_none_or(|status| row.status == status);
        let all: Vec<usize> = (0..self.requests.len()).rev().filter(|index| fits(&self.requests[*index])).collect();
        let rows = all.iter().skip(page.skip()).take(page.take()).map(|index| show(*index)).collect();
        PageRows { rows, total: all.len() }
    }
}
