//! What is true, whatever a doorman knows; and what must hold by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use doorman::ledger::{LedgerError, Record};
use doorman::model::{AgentState, Answer, RequestId};
use doorman::policy::By;

use super::database::ModelTransaction;
use super::evening::Evening;
use super::process::TTL;
use super::rules::{ACME_MAX, ACME_PER, Kind};

/// What the clocks of two doormen may differ by.
const CLOCKS_APART: Duration = Duration::from_secs(20);
/// A member that can beat again does so within this.
const BEATS_WITHIN: Duration = Duration::from_secs(8);

/// An answer on record.
#[derive(Debug)]
struct Intended {
    answer: Answer,
    attempt: u32,
    doorman: usize,
    /// When the answer was first on record, unless it was withdrawn since.
    since: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub struct FleetGroundTruth {
    /// By member: of which doorman it is, and when it last beat.
    beats: BTreeMap<String, (usize, Duration)>,
    /// By agent: the member that took it last, unless it gave it since.
    holders: BTreeMap<usize, String>,
    /// Batches that were written.
    written: BTreeSet<u64>,
    intents: BTreeMap<(usize, RequestId), Vec<Intended>>,
    /// The answer that arrived at the platform.
    arrived: BTreeMap<(usize, RequestId), Answer>,
}

impl Evening {
    pub fn truth_beats(&mut self, member: &str, doorman: usize) {
        self.truth.beats.insert(member.to_owned(), (doorman, self.at));
    }

    /// Nobody is declared dead who beat a moment ago, nor because nobody could beat.
    pub fn truth_declared_dead(&mut self, member: &str) {
        let (doorman, beat) = self.truth.beats[member];
        // A member that left waits a shorter time.
        let silent = self.at - beat;
        if silent < Duration::from_secs(9) {
            self.fail(&format!("{member} is declared dead, and beat {silent:?} ago"));
        }
        let process = &self.doormen[doorman];
        let lives = process.me == member && !process.leaving;
        if lives && process.is_well() && self.at - process.well_since > BEATS_WITHIN {
            self.fail(&format!("{member} is declared dead, and nothing was wrong with it"));
        }
        if lives && silent < TTL {
            self.fail(&format!("{member} is declared dead after {silent:?}"));
        }
    }

    pub fn truth_taken(&mut self, agent: usize, by: Option<&str>) {
        match by {
            Some(me) => drop(self.truth.holders.insert(agent, me.to_owned())),
            None => drop(self.truth.holders.remove(&agent)),
        }
    }

    /// What is on record is that of the holder, once, and by the rules that were the head.
    pub fn truth_committed(
        &mut self,
        doorman: usize,
        agent: usize,
        number: u64,
        open: &ModelTransaction,
        batch: &[Record],
        committed: &Result<(), LedgerError>,
    ) {
        let me = &open.me;
        if self.truth.holders.get(&agent) != Some(me) {
            let holder = self.truth.holders.get(&agent);
            self.fail(&format!("{me} writes for agent {agent}, which {holder:?} has"));
        }
        if !self.truth.written.insert(number) {
            self.fail(&format!("batch {number} of agent {agent} is written twice"));
        }
        if let Err(LedgerError::Refused { why }) = committed {
            self.fail(&format!("the record of agent {agent} contradicts itself: {why}"));
        }
        let at = self.at;
        for entry in batch {
            match entry {
                Record::Intent { request, answer, by, attempt, head, .. } if committed.is_ok() => {
                    if let (By::Rule(rule), Some(head)) = (by, head) {
                        let newer = self.database.pushed.iter().skip(usize::try_from(head.version).unwrap());
                        if newer.clone().any(|pushed| *pushed < open.began) {
                            let said = format!("{answer} to {request} by `{rule}` of version {}", head.version);
                            self.fail(&format!("{said}, which was not the head when its transaction began"));
                        }
                    }
                    let intents = self.truth.intents.entry((agent, request.clone())).or_default();
                    let since = intents.iter().find(|known| known.answer == *answer).map_or(at, |known| known.since);
                    intents.push(Intended { answer: *answer, attempt: *attempt, doorman, since });
                }
                // It certainly never left.
                Record::Withdrawn { request, .. } => drop(self.truth.intents.remove(&(agent, request.clone()))),
                _ => {}
            }
        }
    }

    /// An answer is sent only if its intent is on record, of this very attempt, by this very doorman.
    pub fn truth_answers(&mut self, doorman: usize, agent: usize, id: &RequestId, answer: Answer, attempt: u32) {
        let intents = self.truth.intents.get(&(agent, id.clone()));
        let ours = |intended: &Intended| {
            intended.answer == answer && intended.attempt == attempt && intended.doorman == doorman
        };
        if !intents.is_some_and(|intents| intents.iter().any(ours)) {
            self.fail(&format!("{answer} to {id} of agent {agent} is sent before its intent is on record"));
        }
    }

    /// After the last look at the time nobody else has the agent.
    pub fn truth_leaves(&mut self, doorman: usize, agent: usize, id: &RequestId, answer: Answer) {
        let me = &self.doormen[doorman].me;
        if let Some(holder) = self.truth.holders.get(&agent).filter(|holder| *holder != me) {
            self.fail(&format!("{answer} to {id} leaves {me}, though {holder} has agent {agent}"));
        }
    }

    /// An answer arrives, perhaps late: it is on record, and no other answer to this request arrived before.
    pub fn truth_arrives(&mut self, agent: usize, id: &RequestId, answer: Answer) {
        let key = (agent, id.clone());
        let intended = self.truth.intents.get(&key).into_iter().flatten().any(|known| known.answer == answer);
        if !intended {
            self.fail(&format!("{answer} to {id} of agent {agent} arrives, and is not on record"));
        }
        let before = *self.truth.arrived.entry(key).or_insert(answer);
        if before != answer {
            self.fail(&format!("{id} of agent {agent} is answered {before}, and then {answer}"));
        }
    }

    /// Who pends must be answered by the rules of the head; every agent has one doorman, and is live there; and no limit was
    /// exceeded.
    pub fn check_end(&mut self) {
        let head = self.database.head();
        for agent in 0..self.agents.len() {
            let running: Vec<(usize, AgentState)> = self
                .doormen
                .iter()
                .enumerate()
                .filter_map(|(number, doorman)| Some((number, doorman.runs[agent].task.as_ref()?.core.state())))
                .collect();
            let [(doorman, AgentState::Live)] = running[..] else {
                self.fail(&format!("the end, and agent {agent} runs at {running:?}"));
            };
            let holder = self.database.rows.leases[&self.agents[agent]].holder.clone();
            if holder.as_ref() != Some(&self.doormen[doorman].me) {
                self.fail(&format!("the end, and agent {agent} runs at {doorman}, though {holder:?} has it"));
            }
            for (id, sent) in &self.doors[agent].platform.sent_requests {
                let kind = self.doors[agent].kinds[sent.number];
                // What may have been answered otherwise waits for a person.
                let before = self.truth.intents.get(&(agent, RequestId::parse(id).unwrap()));
                let otherwise = before.into_iter().flatten().any(|known| Some(known.answer) != kind.answer(head));
                if sent.status == "pending" && kind.answer(head).is_some() && !otherwise {
                    self.fail(&format!("the end, and {id} of agent {agent} ({kind:?}) is still pending"));
                }
                if sent.status != "pending" && kind == Kind::Stranger {
                    self.fail(&format!("{id} of agent {agent} is nobody's rule, and was answered"));
                }
            }
            self.check_limit(agent);
        }
        self.check_shares();
    }

    /// No doorman has more agents than it takes; each agent is where a person wants it, if it can be; and none moves for ever.
    fn check_shares(&self) {
        let rows = &self.database.rows;
        if self.settled.is_some_and(|settled| settled != rows.moves()) {
            self.fail(&format!("agents still move: {:?}, and {:?} a while ago", rows.moves(), self.settled));
        }
        for process in &self.doormen {
            let most = usize::try_from(process.agents_max).unwrap();
            let held = rows.leases.values().filter(|lease| lease.holder.as_ref() == Some(&process.me)).count();
            if held > most {
                self.fail(&format!("the end, and {} has {held} agents: it takes {most}", process.me));
            }
            // One that has as many as it takes gets no more, whoever wants it.
            let elsewhere = rows.leases.values().filter(|lease| {
                lease.wanted.as_ref() == Some(&process.name) && lease.holder.as_ref() != Some(&process.me)
            });
            let elsewhere = elsewhere.count();
            if held < most && elsewhere > 0 {
                self.fail(&format!(
                    "the end, and {elsewhere} agents that a person wants at {} are elsewhere",
                    process.me
                ));
            }
        }
    }

    fn check_limit(&self, agent: usize) {
        let sent = &self.doors[agent].platform.sent_requests;
        let acme = sent.iter().filter(|(_, sent)| self.doors[agent].kinds[sent.number] == Kind::Acme);
        let taken = acme.filter(|(_, sent)| sent.taken == Some(Answer::Approve));
        let mut since: Vec<Duration> = taken
            .map(|(id, _)| {
                let intents = &self.truth.intents[&(agent, RequestId::parse(id).unwrap())];
                intents.iter().filter(|known| known.answer == Answer::Approve).map(|known| known.since).min().unwrap()
            })
            .collect();
        since.sort();
        for window in since.windows(ACME_MAX + 1) {
            let within = window[ACME_MAX] - window[0];
            if within + CLOCKS_APART < ACME_PER {
                self.fail(&format!(
                    "{} of acme's within {within:?} for agent {agent}: the limit is {ACME_MAX} in {ACME_PER:?}",
                    window.len()
                ));
            }
        }
    }
}
