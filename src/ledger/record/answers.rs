//! Answers: the intent, what it costs, and what became of it.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use super::{Fault, Recorder};
use crate::ledger::columns::{Micros, cut};
use crate::model::{Answer, Outcome};
use crate::policy::Charge;

/// An [`Record::Intent`](crate::ledger::Record::Intent) by row numbers.
#[derive(Clone, Copy)]
pub(super) struct Intent<'a> {
    pub(super) agent: i64,
    pub(super) request: i64,
    pub(super) answer: Answer,
    pub(super) by: &'a str,
    pub(super) policy: Option<i64>,
    pub(super) counts: bool,
    pub(super) at: Timestamp,
}

impl Recorder<'_> {
    pub(super) fn intent(&mut self, intent: &Intent<'_>, attempt: u32) -> Result<(), Fault> {
        let Intent { agent, request, answer, by, policy, counts, at } = *intent;
        // The resume since which an approval counts towards `approvals_max`; 0 before the first.
        let since: Option<i64> = if counts && answer == Answer::Approve {
            Some(
                self.sql("SELECT coalesce(max(n), 0) FROM pause WHERE agent = ?1 AND paused = 0")?
                    .query_row([agent], |row| row.get(0))?,
            )
        } else {
            None
        };
        let last = self
            .sql("SELECT n, answer, outcome, \"by\", policy FROM answer WHERE request = ?1 ORDER BY n DESC LIMIT 1")?
            .query_row([request], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, String>(1)? == answer.as_str(),
                    row.get::<_, Option<String>>(2)?,
                    row.get::<_, String>(3)? == by && row.get::<_, Option<i64>>(4)? == policy,
                ))
            })
            .optional()?;
        let last = last.as_ref().map(|(n, same, outcome, reason)| (*n, *same, outcome.as_deref(), *reason));
        match last {
            Some((_, false, None | Some("unknown"), _)) => {
                Err(Fault::Refused("another answer to this request is still open".to_owned()))
            }
            Some((n, true, None | Some("unknown"), _)) => {
                self.sql("UPDATE answer SET attempts = max(attempts + 1, ?2), last_at = ?3 WHERE n = ?1")?
                    .execute(params![n, attempt, Micros(at)])?;
                Ok(())
            }
            Some((n, true, Some("refused"), true)) => {
                self.sql(
                    "UPDATE answer SET attempts = max(attempts + 1, ?2), last_at = ?3, reserved_at = ?3, counts = ?4,
                         outcome = NULL, outcome_at = NULL, detail = NULL WHERE n = ?1",
                )?
                .execute(params![n, attempt, Micros(at), since])?;
                Ok(())
            }
            _ => {
                self.sql(
                    "INSERT INTO answer (agent, request, answer, \"by\", policy, counts, at, attempts, reserved_at, last_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?7, ?7)",
                )?
                .execute(params![agent, request, answer.as_str(), by, policy, since, Micros(at), attempt])?;
                Ok(())
            }
        }
    }

    pub(super) fn charge(&mut self, agent: i64, request: i64, charges: &[Charge], at: Timestamp) -> Result<(), Fault> {
        for charge in charges {
            self.sql(
                "INSERT INTO charge (request, rule, bucket, agent, at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (request, rule, bucket) DO NOTHING",
            )?
            .execute(params![request, charge.rule.as_str(), &*charge.bucket, agent, Micros(at)])?;
        }
        Ok(())
    }

    pub(super) fn give_back(&mut self, request: i64) -> Result<(), Fault> {
        self.sql("DELETE FROM charge WHERE request = ?1")?.execute([request])?;
        Ok(())
    }

    /// Gives the open answer its outcome and returns what it was.
    pub(super) fn end_answer(
        &mut self,
        agent: i64,
        request: i64,
        outcome: &str,
        detail: Option<&str>,
        at: Timestamp,
    ) -> Result<Option<String>, Fault> {
        let answer = self
            .sql(
                "UPDATE answer SET outcome = ?3, outcome_at = ?4, detail = ?5
                 WHERE agent = ?1 AND request = ?2 AND (outcome IS NULL OR outcome = 'unknown') RETURNING answer",
            )?
            .query_row(params![agent, request, outcome, Micros(at), detail.map(cut)], |row| row.get(0))
            .optional()?;
        Ok(answer)
    }

    pub(super) fn outcome(
        &mut self,
        agent: i64,
        request: i64,
        outcome: Outcome,
        detail: Option<&str>,
        at: Timestamp,
    ) -> Result<(), Fault> {
        let answer = self.end_answer(agent, request, outcome.as_str(), detail, at)?;
        let answer = answer.ok_or_else(|| Fault::Refused("an outcome without an open answer".to_owned()))?;
        if !outcome.keeps_charge() {
            self.give_back(request)?;
        }
        match outcome {
            Outcome::Applied | Outcome::PresumedApplied => {
                let word = if answer == Answer::Approve.as_str() { "approved" } else { "rejected" };
                self.settled(request, word, at)
            }
            Outcome::SettledElsewhere => self.settled(request, "elsewhere", at),
            Outcome::Gone => self.settled(request, "gone", at),
            Outcome::Refused | Outcome::Unknown => Ok(()),
        }
    }

    /// A word of the platform's is final; `gone` and `elsewhere` are what we think until it says one.
    pub(super) fn settled(&mut self, request: i64, word: &str, at: Timestamp) -> Result<(), Fault> {
        self.sql(
            "UPDATE request SET settled = ?2, settled_at = ?3
             WHERE n = ?1 AND (settled IS NULL OR (settled IN ('gone', 'elsewhere') AND ?2 NOT IN ('gone', 'elsewhere')))",
        )?
        .execute(params![request, word, Micros(at)])?;
        Ok(())
    }
}
