//! Answers: the intent, its charges, and its outcome.

use jiff::{SignedDuration, Timestamp};

use super::numbers::LastAnswer;
use super::{EntryFault, EntryWriter};
use crate::inbox::GivenAnswer;
use crate::ledger::columns::{Micros, cut};
use crate::ledger::sql::{Optional as _, params};
use crate::model::{Answer, Outcome, Refusal, Verdict};
use crate::policy::{By, Charge};

/// An [`Record::Intent`](crate::ledger::Record::Intent) by row numbers.
#[derive(Clone, Copy)]
pub(super) struct IntentRow<'a> {
    pub(super) agent: i64,
    pub(super) request: i64,
    pub(super) answer: Answer,
    pub(super) by: &'a str,
    /// In microseconds.
    pub(super) lasts: Option<i64>,
    pub(super) note: Option<&'a str>,
    pub(super) policy: Option<i64>,
    pub(super) counts: bool,
    pub(super) at: Timestamp,
}

/// The newest answer to a request, compared with a new intent.
struct LastRow {
    n: i64,
    same_answer: bool,
    answer: String,
    by: String,
    lasts: Option<SignedDuration>,
    outcome: Option<String>,
    same_reason: bool,
}

impl EntryWriter<'_, '_> {
    /// An answer other than the intended one that was carried out according to the record.
    pub(super) fn carried_out(&mut self, intent: &IntentRow<'_>) -> Result<Option<GivenAnswer>, EntryFault> {
        if self.numbers.last_answer(intent.request) != LastAnswer::Unread {
            return Ok(None);
        }
        let Some(last) = self.last_answer(intent.request, intent)?.filter(|last| !last.same_answer) else {
            return Ok(None);
        };
        let outcome = last.outcome.as_deref().and_then(Outcome::parse);
        let carried_out = matches!(outcome, Some(Outcome::Confirmed(_) | Outcome::Presumed(_)));
        let said = By::parse(&last.by).zip(Verdict::parse(&last.answer).and_then(Verdict::answer));
        Ok(said.filter(|_| carried_out).map(|(by, answer)| GivenAnswer { answer, by, lasts: last.lasts }))
    }

    /// Writes the intent, and returns whether the request had an answer on record before.
    pub(super) fn intent(&mut self, intent: &IntentRow<'_>, attempt: u32) -> Result<bool, EntryFault> {
        let IntentRow { agent, request, answer, by, lasts, note, policy, counts, at } = *intent;
        // The resume since which an approval counts towards `approvals_max`; 0 before the first.
        let since = if counts && answer == Answer::Approve { Some(self.last_resume(agent)?) } else { None };
        let last = match self.numbers.last_answer(request) {
            LastAnswer::None => None,
            LastAnswer::Open { .. } | LastAnswer::Unread => self.last_answer(request, intent)?,
        };
        let last = last.as_ref().map(|row| (row.n, row.same_answer, row.outcome.as_deref(), row.same_reason));
        let earlier = last.is_some();
        match last {
            Some((_, false, None | Some("unknown"), _)) => {
                Err(EntryFault::Refused("another answer to this request is still open".to_owned()))
            }
            Some((n, true, None | Some("unknown"), _)) => {
                self.sql("UPDATE answer SET attempts = max(attempts + 1, ?2), last_at = ?3, lasts = ?4 WHERE n = ?1")?
                    .execute(params![n, attempt, Micros(at), lasts])?;
                Ok(earlier)
            }
            Some((n, true, Some("refused"), true)) => {
                self.sql(
                    "UPDATE answer SET attempts = max(attempts + 1, ?2), last_at = ?3, reserved_at = ?3, counts = ?4,
                         after_decision = (SELECT max(n) FROM decision), outcome = NULL, outcome_at = NULL, detail = NULL,
                         refused = NULL, lasts = ?5 WHERE n = ?1",
                )?
                .execute(params![n, attempt, Micros(at), since, lasts])?;
                self.numbers.keep_last_answer(request, LastAnswer::Open { n, answer });
                Ok(earlier)
            }
            _ => {
                let n = self.statements.insert(
                    "INSERT INTO answer (agent, request, answer, \"by\", policy, counts, at, attempts, reserved_at, last_at,
                             note, lasts, after_decision)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?7, ?7, ?9, ?10, (SELECT max(n) FROM decision))",
                    params![
                        agent,
                        request,
                        answer.as_str(),
                        by,
                        policy,
                        since,
                        Micros(at),
                        attempt,
                        note,
                        lasts
                    ],
                )?;
                self.numbers.keep_last_answer(request, LastAnswer::Open { n, answer });
                Ok(earlier)
            }
        }
    }

    /// The row of the agent's last resume; 0 before the first.
    fn last_resume(&mut self, agent: i64) -> Result<i64, EntryFault> {
        if let Some(n) = self.numbers.last_resume(agent) {
            return Ok(n);
        }
        let n = self
            .sql("SELECT coalesce(max(n), 0) FROM pause WHERE agent = ?1 AND paused = 0")?
            .query_row([agent], |row| row.get(0))?;
        self.numbers.keep_last_resume(agent, n);
        Ok(n)
    }

    fn last_answer(&mut self, request: i64, intent: &IntentRow<'_>) -> Result<Option<LastRow>, EntryFault> {
        let last = self
            .sql("SELECT n, answer, outcome, \"by\", policy, lasts FROM answer WHERE request = ?1 ORDER BY n DESC LIMIT 1")?
            .query_row([request], |row| {
                let (answer, by): (String, String) = (row.get(1)?, row.get(3)?);
                Ok(LastRow {
                    n: row.get(0)?,
                    same_answer: answer == intent.answer.as_str(),
                    outcome: row.get(2)?,
                    same_reason: by == intent.by && row.get::<_, Option<i64>>(4)? == intent.policy,
                    answer,
                    by,
                    lasts: row.get::<_, Option<i64>>(5)?.map(SignedDuration::from_micros),
                })
            })
            .optional()?;
        Ok(last)
    }

    /// Puts what the answer costs on record, without what an `earlier` try of it did.
    pub(super) fn charge(
        &mut self,
        agent: i64,
        request: i64,
        charges: &[Charge],
        earlier: bool,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        for charge in charges {
            let values = params![request, charge.rule.as_str(), &*charge.bucket, agent, Micros(at)];
            let sql = match earlier {
                false => {
                    "INSERT INTO charge (request, rule, bucket, agent, at) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING"
                }
                true => {
                    "INSERT INTO charge (request, rule, bucket, agent, at)
                     SELECT CAST(?1 AS bigint), CAST(?2 AS text), CAST(?3 AS text), CAST(?4 AS bigint), CAST(?5 AS bigint)
                     WHERE NOT EXISTS (SELECT 1 FROM charge WHERE agent = ?4 AND request = ?1 AND rule = ?2 AND bucket = ?3
                         AND at >= (SELECT min(min(reserved_at, last_at)) FROM answer WHERE request = ?1)
                         AND at <= (SELECT max(max(reserved_at, last_at)) FROM answer WHERE request = ?1))
                     ON CONFLICT DO NOTHING"
                }
            };
            self.sql(sql)?.execute(values)?;
        }
        Ok(())
    }

    /// The charges of a request are found by time: they were made between the first and the last try of its answers. If the clock
    /// jumped back and forth between more than two tries, one may lie outside: it stays, and counts once too often.
    pub(super) fn give_back(&mut self, agent: i64, request: i64) -> Result<(), EntryFault> {
        self.sql(
            "DELETE FROM charge WHERE agent = ?1 AND request = ?2
                 AND at >= (SELECT min(min(reserved_at, last_at)) FROM answer WHERE request = ?2)
                 AND at <= (SELECT max(max(reserved_at, last_at)) FROM answer WHERE request = ?2)",
        )?
        .execute(params![agent, request])?;
        Ok(())
    }

    /// Gives the open answer its outcome and returns the answer.
    pub(super) fn end_answer(
        &mut self,
        agent: i64,
        request: i64,
        outcome: &str,
        detail: Option<&str>,
        refusal: Option<Refusal>,
        at: Timestamp,
    ) -> Result<Option<Answer>, EntryFault> {
        let Some((n, answer)) = self.open_answer(agent, request)? else { return Ok(None) };
        self.sql("UPDATE answer SET outcome = ?2, outcome_at = ?3, detail = ?4, refused = ?5 WHERE n = ?1")?
            .execute(params![n, outcome, Micros(at), detail.map(cut), refusal.map(Refusal::as_str)])?;
        let open = outcome == Outcome::Unknown.as_str();
        self.numbers.keep_last_answer(request, if open { LastAnswer::Open { n, answer } } else { LastAnswer::Unread });
        Ok(Some(answer))
    }

    /// The answer to this request that has no outcome, or an unknown one. There is never more than one.
    fn open_answer(&mut self, agent: i64, request: i64) -> Result<Option<(i64, Answer)>, EntryFault> {
        match self.numbers.last_answer(request) {
            LastAnswer::None => return Ok(None),
            LastAnswer::Open { n, answer } => return Ok(Some((n, answer))),
            LastAnswer::Unread => {}
        }
        let row = self
            .sql(
                "SELECT n, answer FROM answer
                 WHERE agent = ?1 AND request = ?2 AND (outcome IS NULL OR outcome = 'unknown')",
            )?
            .query_row(params![agent, request], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
            .optional()?;
        Ok(row.map(|(n, word)| (n, if word == Answer::Approve.as_str() { Answer::Approve } else { Answer::Reject })))
    }

    pub(super) fn outcome(
        &mut self,
        agent: i64,
        request: i64,
        outcome: Outcome,
        detail: Option<&str>,
        refusal: Option<Refusal>,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        let answer = self.end_answer(agent, request, outcome.as_str(), detail, refusal, at)?;
        let answer = answer.ok_or_else(|| EntryFault::Refused("an outcome without an open answer".to_owned()))?;
        if !outcome.keeps_charge() {
            self.give_back(agent, request)?;
        }
        match outcome {
            Outcome::Confirmed(_) | Outcome::Presumed(_) => self.settled(request, answer.status().as_str(), false, at),
            Outcome::SettledElsewhere => self.settled(request, "elsewhere", true, at),
            Outcome::Gone => self.settled(request, "gone", true, at),
            Outcome::Refused | Outcome::Unknown => Ok(()),
        }
    }

    /// A status that the platform reports is final. `gone`, `elsewhere` and the presumed end of an answer of unknown
    /// outcome count only until then: a rejection that was presumed is known once the platform reports one. `elsewhere`:
    /// without an answer of ours, as far as is known.
    pub(super) fn settled(
        &mut self,
        request: i64,
        word: &str,
        elsewhere: bool,
        at: Timestamp,
    ) -> Result<(), EntryFault> {
        self.sql(
            "UPDATE request SET settled = ?2, settled_at = ?3, elsewhere = nullif(?4, 0)
             WHERE n = ?1 AND (settled IS NULL OR (?2 NOT IN ('gone', 'elsewhere')
                 AND (settled <> ?2 OR (?2 = 'rejected' AND elsewhere IS NULL)) AND (settled IN ('gone', 'elsewhere')
                 OR (SELECT outcome IN ('presumed-approved', 'presumed-rejected') FROM answer WHERE request = ?1
                     ORDER BY n DESC LIMIT 1))))",
        )?
        .execute(params![request, word, Micros(at), elsewhere])?;
        Ok(())
    }
}
