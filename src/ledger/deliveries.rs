//! The outbox of `[[notify]]`: the mark of each target, the message on its way to it, and the requests that wait for a
//! person.
//!
//! Everything to notify about is on record anyway, as decisions and overdue notices. So a target needs no copies, only
//! a mark, which moves in the transaction that records its next message. A kill therefore loses nothing, and a burst of
//! requests writes no more than without targets.

use jiff::Timestamp;

use super::columns::{Micros, Parsed};
use super::sql::{self, Connection, Optional as _, params};
use crate::model::{AgentId, RequestId, StrangerText, Verdict};

/// Most new requests that one message names; the others are counted.
pub const NAMED_MAX: usize = 20;

/// Up to where a target was notified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryMark {
    /// The row of the newest decision.
    pub decision: i64,
    /// The newest overdue notice's row.
    pub overdue: i64,
    /// The conditions that were true in the last message to the target, by their keys.
    pub conditions: Vec<String>,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryEnd {
    /// The target accepted it.
    Delivered,
    /// The target did not accept it for a day.
    GaveUp,
    /// The target answered that it no longer exists.
    Stopped,
}

impl DeliveryEnd {
    /// The word in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryEnd::Delivered => "delivered",
            DeliveryEnd::GaveUp => "gave-up",
            DeliveryEnd::Stopped => "stopped",
        }
    }

    /// The reverse of [`DeliveryEnd::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [DeliveryEnd::Delivered, DeliveryEnd::GaveUp, DeliveryEnd::Stopped].into_iter().find(|end| end.as_str() == text)
    }
}

/// The record of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Up to where it was notified.
    pub mark: DeliveryMark,
    /// The message that is under way.
    pub open: Option<OpenMessage>,
    /// When a message was delivered last.
    pub delivered_at: Option<Timestamp>,
    /// How the last delivery ended, and why, if it did not arrive.
    pub failed: Option<(DeliveryEnd, Timestamp, String)>,
}

/// A message that is not delivered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenMessage {
    /// Its id: the same for each try.
    pub id: String,
    /// The text on record.
    pub body: String,
    /// When it was made.
    pub at: Timestamp,
    /// How many tries there were so far.
    pub attempts: u32,
    /// When the next try is due.
    pub next_at: Timestamp,
    /// Why the last try failed.
    pub why: Option<String>,
}

/// Which waiting requests a target wants to hear about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedRequests {
    /// Requests that are deferred for a person.
    pub deferred: bool,
    /// Requests that are overdue.
    pub overdue: bool,
}

/// The requests that wait for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitingRequests {
    /// Who is new since the mark, oldest first; at most [`NAMED_MAX`].
    pub new: Vec<WaitingRequest>,
    /// How many more are new.
    pub more: u64,
    /// How many wait in all.
    pub all: u64,
    /// The newest decision and notice that this reading saw.
    pub decision: i64,
    /// See `decision`.
    pub overdue: i64,
}

/// What a decider said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingDeciderReply {
    /// Which.
    pub decider: String,
    /// What it thinks.
    pub verdict: Verdict,
    /// Why, in its own words; as untrusted as a stranger's.
    pub reason: Option<StrangerText>,
}

/// One request that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRequest {
    /// The agent that received it.
    pub agent: AgentId,
    /// The handle of the agent, if the platform reported it.
    pub agent_handle: Option<StrangerText>,
    /// Which request.
    pub request: RequestId,
    /// As received.
    pub handle: Option<StrangerText>,
    /// As received.
    pub name: Option<StrangerText>,
    /// As received.
    pub message: Option<StrangerText>,
    /// What deferred it: the `by` of the decision.
    pub by: String,
    /// When it was first seen.
    pub since: Timestamp,
    /// The overdue entry, if that is the news.
    pub overdue: Option<String>,
    /// What deciders said of it last, the newest first.
    pub replies: Vec<WaitingDeciderReply>,
}

/// Reads what is on record of a target.
pub(super) fn load(connection: Connection<'_>, target: &str) -> sql::Result<Delivery> {
    let mark = connection
        .prepare_cached("SELECT decision, overdue, conditions FROM notify_mark WHERE target = ?1")?
        .query_row([target], |row| {
            let conditions: String = row.get(2)?;
            // Doorman itself wrote this; if it could not be read, the conditions would be sent once more.
            let conditions = serde_json::from_str(&conditions).unwrap_or_default();
            Ok(DeliveryMark { decision: row.get(0)?, overdue: row.get(1)?, conditions })
        })
        .optional()?
        .unwrap_or_default();
    let open = connection
        .prepare_cached(
            "SELECT id, body, at, attempts, next_at, why FROM delivery WHERE target = ?1 AND ended_at IS NULL",
        )?
        .query_row([target], |row| {
            let (Micros(at), Micros(next_at)) = (row.get(2)?, row.get(4)?);
            Ok(OpenMessage { id: row.get(0)?, body: row.get(1)?, at, attempts: row.get(3)?, next_at, why: row.get(5)? })
        })
        .optional()?;
    let last = connection
        .prepare_cached(
            "SELECT result, ended_at, coalesce(why, '') FROM delivery WHERE target = ?1 AND ended_at IS NOT NULL
             ORDER BY n DESC LIMIT 1",
        )?
        .query_row([target], |row| {
            let (result, Micros(at)): (String, _) = (row.get(0)?, row.get(1)?);
            Ok((DeliveryEnd::parse(&result), at, row.get(2)?))
        })
        .optional()?;
    let delivered_at = connection
        .prepare_cached(
            "SELECT ended_at FROM delivery WHERE target = ?1 AND result = 'delivered' ORDER BY n DESC LIMIT 1",
        )?
        .query_row([target], |row| row.get(0).map(|Micros(at)| at))
        .optional()?;
    let failed = match last {
        Some((Some(end @ (DeliveryEnd::GaveUp | DeliveryEnd::Stopped)), at, why)) => Some((end, at, why)),
        Some((Some(DeliveryEnd::Delivered) | None, ..)) | None => None,
    };
    Ok(Delivery { mark, open, delivered_at, failed })
}

/// Decisions that defer for a person, whether the newest or an earlier one. Not a pause, which ends for all requests at
/// once and has a notice of its own, and not a hold, which a person made.
const DEFERS: &str = r#"verdict = 'defer' AND mode = 'enforce' AND "by" <> 'paused' AND "by" NOT LIKE 'hold:%'"#;

/// Reads who waits, in one snapshot; `None` if these rows are still the newest.
pub(super) fn waiting(
    connection: Connection<'_>,
    agents: &[AgentId],
    since: &DeliveryMark,
    wanted: WantedRequests,
    looked: Option<(i64, i64)>,
) -> sql::Result<Option<WaitingRequests>> {
    let _moment = connection.moment()?;
    let newest = |table: &str| {
        connection.query_row(&format!("SELECT coalesce(max(n), 0) FROM {table}"), [], |row| row.get::<_, i64>(0))
    };
    let mut waiting =
        WaitingRequests { decision: newest("decision")?, overdue: newest("notice")?, ..WaitingRequests::default() };
    if looked == Some((waiting.decision, waiting.overdue)) {
        return Ok(None);
    }
    let chosen = (!agents.is_empty()).then(|| {
        serde_json::Value::from(agents.iter().map(|agent| agent.as_str().to_owned()).collect::<Vec<_>>()).to_string()
    });
    let mut find = connection.prepare_cached(&format!(
        r#"SELECT a.id, a.handle, r.id, r.handle, r.name, r.message, d."by", r.first_seen,
            (SELECT min(n) FROM decision WHERE request = r.n AND {DEFERS}),
            (SELECT max(n) FROM notice WHERE request = r.n),
            (SELECT overdue FROM notice WHERE request = r.n ORDER BY n DESC LIMIT 1), r.n
        FROM request r JOIN agent a ON a.n = r.agent
            JOIN decision d ON d.n = (SELECT max(n) FROM decision WHERE request = r.n)
        WHERE r.settled IS NULL AND d.verdict = 'defer' AND d.mode = 'enforce' AND d."by" <> 'paused'
            AND d."by" NOT LIKE 'hold:%' AND (CAST(?1 AS text) IS NULL OR a.id IN (SELECT value FROM json_each(?1)))
        ORDER BY r.n"#
    ))?;
    let mut rows = find.query(params![chosen])?;
    let mut numbers: Vec<i64> = Vec::new();
    while let Some(row) = rows.next()? {
        waiting.all += 1;
        let first: i64 = row.get(8)?;
        let noticed: Option<i64> = row.get(9)?;
        let overdue = wanted.overdue && noticed.is_some_and(|n| n > since.overdue);
        if !(overdue || wanted.deferred && first > since.decision) {
            continue;
        }
        if waiting.new.len() == NAMED_MAX {
            waiting.more += 1;
            continue;
        }
        let text =
            |column| Ok::<_, sql::Error>(row.get::<_, Option<String>>(column)?.map(|text| StrangerText::new(&text)));
        let (Parsed(agent), Parsed(request), Micros(first_seen)) = (row.get(0)?, row.get(2)?, row.get(7)?);
        waiting.new.push(WaitingRequest {
            agent,
            agent_handle: text(1)?,
            request,
            handle: text(3)?,
            name: text(4)?,
            message: text(5)?,
            by: row.get(6)?,
            since: first_seen,
            overdue: if overdue { row.get(10)? } else { None },
            replies: Vec::new(),
        });
        numbers.push(row.get(11)?);
    }
    drop(rows);
    for (request, n) in waiting.new.iter_mut().zip(numbers) {
        request.replies = connection
            .prepare_cached("SELECT decider, verdict, reason FROM told WHERE request = ?1 ORDER BY n DESC LIMIT 4")?
            .query_map([n], |row| {
                let Parsed(verdict) = row.get(1)?;
                let reason = row.get::<_, Option<String>>(2)?.map(|reason| StrangerText::new(&reason));
                Ok(WaitingDeciderReply { decider: row.get(0)?, verdict, reason })
            })?
            .collect::<sql::Result<_>>()?;
    }
    Ok(Some(waiting))
}
