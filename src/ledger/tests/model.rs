//! What an agent remembers after any entries in any order, compared with a model of a few maps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::policy::state::ChargeEnd;

/// One event, for one of three requests.
#[derive(Debug, Clone)]
enum ModelStep {
    Seen(usize),
    Intent(usize, Answer, bool),
    Outcome(usize, Outcome),
    Withdrawn(usize),
    Settled(usize, Option<RequestStatus>),
    Hold(usize, Option<&'static str>),
    Pause(bool),
    Notified(usize),
    Restart,
}

fn op() -> impl Strategy<Value = ModelStep> {
    let request = 0..3_usize;
    let answer = prop_oneof![3 => Just(Answer::Approve), 1 => Just(Answer::Reject)];
    let outcome = prop_oneof![
        1 => answer.clone().prop_map(Outcome::Confirmed),
        1 => answer.clone().prop_map(Outcome::Presumed),
        1 => Just(Outcome::SettledElsewhere),
        1 => Just(Outcome::Gone),
        3 => Just(Outcome::Refused),
        3 => Just(Outcome::Unknown),
    ];
    let status = prop_oneof![Just(None), Just(Some(RequestStatus::Cancelled))];
    let person = prop_oneof![Just(None), Just(Some("ann")), Just(Some("eve"))];
    prop_oneof![
        4 => request.clone().prop_map(ModelStep::Seen),
        6 => (request.clone(), answer, any::<bool>()).prop_map(|(n, answer, counts)| ModelStep::Intent(n, answer, counts)),
        6 => (request.clone(), outcome).prop_map(|(n, outcome)| ModelStep::Outcome(n, outcome)),
        1 => request.clone().prop_map(ModelStep::Withdrawn),
        1 => (request.clone(), status).prop_map(|(n, status)| ModelStep::Settled(n, status)),
        2 => (request.clone(), person).prop_map(|(n, person)| ModelStep::Hold(n, person)),
        2 => any::<bool>().prop_map(ModelStep::Pause),
        1 => request.prop_map(ModelStep::Notified),
        1 => Just(ModelStep::Restart),
    ]
}

#[derive(Debug, Default, Clone)]
struct ModelRequest {
    first_seen: i64,
    /// `Some(true)`: the platform reported it; `Some(false)`: we presume that it is gone.
    settled: Option<ModelEnd>,
    last: Option<Last>,
    charged_at: Option<i64>,
    hold: Option<&'static str>,
    notified: bool,
}

impl ModelRequest {
    /// A request that is gone only by a listing may be listed again, and is held then.
    fn hold_that_counts(&self) -> Option<&'static str> {
        self.hold.filter(|_| matches!(self.settled, None | Some(ModelEnd::Gone)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ModelEnd {
    Gone,
    Elsewhere,
    Word,
}

#[derive(Debug, Clone)]
struct Last {
    answer: Answer,
    attempts: u32,
    at: i64,
    /// When it was reserved and after how many resumes, if it counts towards `approvals_max`.
    counts: Option<(i64, u32)>,
    outcome: Option<Outcome>,
    withdrawn: bool,
}

impl Last {
    fn open(&self) -> bool {
        !self.withdrawn && matches!(self.outcome, None | Some(Outcome::Unknown))
    }
}

#[derive(Debug, Default)]
struct Model {
    requests: BTreeMap<usize, ModelRequest>,
    paused: bool,
    resumes: u32,
    /// Approvals that were applied and then followed by another answer's row.
    approved: Vec<(usize, i64, u32)>,
}

impl Model {
    /// Applies one event; `false` if the ledger must refuse it.
    fn play(&mut self, op: &ModelStep, now: i64) -> bool {
        let resumes = self.resumes;
        match op {
            ModelStep::Seen(n) => {
                let known =
                    self.requests.entry(*n).or_insert(ModelRequest { first_seen: now, ..ModelRequest::default() });
                if matches!(known.settled, Some(ModelEnd::Gone | ModelEnd::Elsewhere)) {
                    known.settled = None;
                }
                true
            }
            ModelStep::Intent(n, answer, counts) => {
                let Some(known) = self.requests.get_mut(n) else { return false };
                let counted = (*counts && *answer == Answer::Approve).then_some((now, resumes));
                match &mut known.last {
                    Some(last) if last.open() && last.answer != *answer => return false,
                    Some(Last {
                        answer: said, outcome: Some(Outcome::Confirmed(_) | Outcome::Presumed(_)), ..
                    }) if said != answer => return false,
                    Some(last) if last.open() => last.attempts += 1,
                    Some(last) if last.outcome == Some(Outcome::Refused) && last.answer == *answer => {
                        last.attempts += 1;
                        last.counts = counted;
                        last.outcome = None;
                    }
                    last => {
                        if let Some(Last {
                            outcome: Some(Outcome::Confirmed(_) | Outcome::Presumed(_)), counts, ..
                        }) = last
                            && let Some((at, era)) = counts
                        {
                            self.approved.push((*n, *at, *era));
                        }
                        *last = Some(Last {
                            answer: *answer,
                            attempts: 1,
                            at: now,
                            counts: counted,
                            outcome: None,
                            withdrawn: false,
                        });
                    }
                }
                known.charged_at.get_or_insert(now);
                true
            }
            ModelStep::Outcome(n, outcome) => {
                let Some(known) = self.requests.get_mut(n) else { return false };
                let Some(last) = known.last.as_mut().filter(|last| last.open()) else { return false };
                if matches!(outcome, Outcome::Confirmed(answer) | Outcome::Presumed(answer) if *answer != last.answer) {
                    return false;
                }
                last.outcome = Some(*outcome);
                if !outcome.keeps_charge() {
                    known.charged_at = None;
                }
                match outcome {
                    Outcome::Confirmed(_) | Outcome::Presumed(_) => known.settled = Some(ModelEnd::Word),
                    Outcome::SettledElsewhere => {
                        known.settled.get_or_insert(ModelEnd::Elsewhere);
                    }
                    Outcome::Gone => {
                        known.settled.get_or_insert(ModelEnd::Gone);
                    }
                    Outcome::Refused | Outcome::Unknown => {}
                }
                true
            }
            ModelStep::Withdrawn(n) => {
                let Some(known) = self.requests.get_mut(n) else { return false };
                if let Some(last) = known.last.as_mut().filter(|last| last.open()) {
                    last.withdrawn = true;
                    known.charged_at = None;
                }
                true
            }
            ModelStep::Settled(n, status) => {
                if let Some(known) = self.requests.get_mut(n) {
                    match status {
                        Some(_) => known.settled = Some(ModelEnd::Word),
                        None => {
                            known.settled.get_or_insert(ModelEnd::Gone);
                        }
                    }
                }
                true
            }
            ModelStep::Hold(n, person) => {
                let Some(known) = self.requests.get_mut(n) else { return false };
                known.hold = *person;
                true
            }
            ModelStep::Pause(on) => {
                self.paused = *on;
                self.resumes += u32::from(!on);
                true
            }
            ModelStep::Notified(n) => {
                let Some(known) = self.requests.get_mut(n) else { return false };
                known.notified = true;
                true
            }
            ModelStep::Restart => true,
        }
    }

    fn open(&self) -> impl Iterator<Item = (&usize, &ModelRequest)> {
        self.requests.iter().filter(|(_, known)| known.settled.is_none())
    }
}

fn entry(op: &ModelStep, now: i64) -> Option<Record> {
    let name = |n: &usize| format!("r{n}");
    Some(match op {
        ModelStep::Seen(n) => seen(&name(n), Some("ann"), now),
        ModelStep::Intent(n, answer, counts) => match intent(&name(n), *answer, vec![charge("friends", "ann")], 1, now)
        {
            Record::Intent { agent, request, answer, by, policy, charges, attempt, lasts, at, .. } => Record::Intent {
                agent,
                request,
                answer,
                by,
                lasts,
                policy,
                head: None,
                charges,
                counts: *counts,
                attempt,
                at,
            },
            other => other,
        },
        ModelStep::Outcome(n, word) => outcome(&name(n), *word, now),
        ModelStep::Withdrawn(n) => Record::Withdrawn { agent: agent(), request: id(&name(n)), at: at(now) },
        ModelStep::Settled(n, status) => {
            Record::Settled { agent: agent(), request: id(&name(n)), status: status.clone(), at: at(now) }
        }
        ModelStep::Hold(n, person) => {
            Record::Hold { agent: agent(), request: id(&name(n)), person: person.map(Into::into), at: at(now) }
        }
        ModelStep::Pause(on) => {
            Record::Pause { agent: agent(), on: *on, by: PausedBy::Person("ann".into()), note: None, at: at(now) }
        }
        ModelStep::Notified(n) => {
            Record::Notified { agent: agent(), request: id(&name(n)), overdue: rule("remind"), at: at(now) }
        }
        ModelStep::Restart => return None,
    })
}

fn sorted<T: Ord>(mut rows: Vec<T>) -> Vec<T> {
    rows.sort();
    rows
}

/// Compares, without regard to the order of rows.
fn compare(memory: &SavedAgent, model: &Model) -> Result<(), TestCaseError> {
    let name = |n: &usize| id(&format!("r{n}"));
    let brief = |answers: &[OpenAnswer]| {
        let rows = answers.iter().map(|open| (open.request.clone(), open.answer.as_str(), open.attempts, open.at));
        sorted(rows.collect())
    };
    let lasts = |known: &ModelRequest, of: &dyn Fn(&Last) -> bool| known.last.clone().filter(|last| of(last));
    let expected = |rows: Vec<(&usize, Last)>| {
        sorted(rows.into_iter().map(|(n, last)| (name(n), last.answer.as_str(), last.attempts, at(last.at))).collect())
    };
    let open: Vec<_> = model.requests.iter().filter_map(|(n, known)| Some((n, lasts(known, &Last::open)?))).collect();
    prop_assert_eq!(brief(&memory.open_answers), expected(open));
    let refused = |last: &Last| !last.withdrawn && last.outcome == Some(Outcome::Refused);
    let refused: Vec<_> = model.open().filter_map(|(n, known)| Some((n, lasts(known, &refused)?))).collect();
    prop_assert_eq!(brief(&memory.refused_answers), expected(refused));
    prop_assert_eq!(
        sorted(memory.pending.iter().map(|one| (one.id.clone(), one.first_seen)).collect()),
        model.open().map(|(n, known)| (name(n), at(known.first_seen))).collect::<Vec<_>>()
    );
    let policy_state = &memory.policy_state;
    prop_assert_eq!(
        sorted(policy_state.charges.iter().map(|row| (row.request.clone(), row.at)).collect()),
        model.requests.iter().filter_map(|(n, known)| Some((Some(name(n)), at(known.charged_at?)))).collect::<Vec<_>>()
    );
    prop_assert_eq!(
        sorted(policy_state.holds.clone()),
        model
            .requests
            .iter()
            .filter_map(|(n, known)| Some((name(n), known.hold_that_counts()?.into())))
            .collect::<Vec<_>>()
    );
    prop_assert_eq!(
        sorted(policy_state.notified.clone()),
        model.open().filter(|(_, known)| known.notified).map(|(n, _)| (name(n), rule("remind"))).collect::<Vec<_>>()
    );
    prop_assert_eq!(policy_state.paused.is_some(), model.paused);
    let keeps = |last: &Last| !last.withdrawn && last.outcome.is_none_or(Outcome::keeps_charge);
    let now = model.requests.iter().filter_map(|(n, known)| {
        let (at, era) = known.last.as_ref().filter(|last| keeps(last))?.counts?;
        Some((*n, at, era))
    });
    let counted = now.chain(model.approved.iter().copied()).filter(|(_, _, era)| *era == model.resumes);
    prop_assert_eq!(
        sorted(policy_state.approvals.iter().map(|row| (row.request.clone(), row.at)).collect()),
        sorted(counted.map(|(n, second, _)| (name(&n), at(second))).collect())
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn memory_is_what_was_written(ops in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = TestLedger::new();
            let mut ledger = world.open();
            let mut model = Model::default();
            for (now, op) in (0_i64..).zip(&ops) {
                let taken = model.play(op, now);
                match entry(op, now) {
                    Some(entry) => {
                        let result = ledger.commit(vec![entry]).await;
                        prop_assert_eq!(result.is_ok(), taken, "{:?} at {}: {:?}", op, now, result);
                    }
                    None => {
                        ledger.close().await.unwrap();
                        ledger = world.open();
                    }
                }
            }
            let merged = load(&ledger, 1000).await;
            compare(&merged, &model)?;
            // A start reads the same charges; those of answers that are certain come without their requests.
            let start = RestoreReach { merged: false, ..REACH };
            let start = ledger.load_agent(&agent(), at(1000), start).await.unwrap();
            let brief = |memory: SavedAgent| {
                let rows = memory.policy_state.charges.into_iter();
                let rows = rows.map(|row| (row.at, row.charge.bucket, row.request.filter(|_| row.end != ChargeEnd::Confirmed)));
                sorted(rows.collect())
            };
            prop_assert_eq!(brief(start), brief(merged));
            Ok::<(), TestCaseError>(())
        })?;
    }
}
