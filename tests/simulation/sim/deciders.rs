//! Evenings on which a decider is asked about strangers for whom no other rule decides: what the decider says, how it
//! fails, and what its verdict may do. These evenings have their own seeds and their own random numbers, so that the
//! other evenings do not change.

use std::time::Duration;

use doorman::agent::Input;
use doorman::model::{Answer, ContactRequest, RequestId, Verdict};
use doorman::policy::Question;
use doorman::policy::ask::{AskFailure, AskFault, DeciderReply};
use jiff::{SignedDuration, Timestamp};

use super::events::{CoreInput, SimEvent};
use super::rules::{THIRD, allowed};
use super::world::SimWorld;

/// The first of these evenings.
pub const FROM: u64 = 1 << 32;
/// The kind of strangers about whom the decider is asked.
pub const ASKED: usize = 4;
/// Most approvals an hour by the decider's verdict, under the third policy.
pub const ASKED_MAX: usize = 2;
/// Most concurrent questions of one agent.
const OUT_MAX: usize = 32;
/// After this many failures a question need not be asked again.
const TRIES: usize = 5;

/// The additional rules of each policy; a rule whose decider may approve names the senders.
pub const RULES: [&str; 3] = [
    "[rules.unsure]\nthen = \"defer\"\nwhen = { owner = STRANGERS }\nask = \"screen\"\nmay = [\"reject\"]\n",
    "[rules.unsure]\nthen = \"defer\"\nwhen = { owner = STRANGERS }\nask = \"screen\"\n",
    "[rules.unsure]\nthen = \"defer\"\nwhen = { owner = STRANGERS }\nask = \"screen\"\nmay = [\"reject\", \"approve\"]\n\
     limit = { count = 2, per = \"1h\", by = \"rule\" }\n",
];

#[derive(Debug)]
pub struct Decider {
    rng: fastrand::Rng,
    /// For each question: the life of the daemon, and the request.
    out: Vec<(u64, RequestId)>,
    said: Vec<ReceivedVerdict>,
    /// About whom it could not answer, under which rules.
    in_vain: Vec<(RequestId, usize)>,
}

/// A decider's verdict that reached the daemon.
#[derive(Debug)]
struct ReceivedVerdict {
    life: u64,
    id: RequestId,
    key: String,
    handle: Option<String>,
    /// The policy under which it was asked for.
    policy: usize,
    verdict: Verdict,
}

/// The decider of this evening, if it has one.
pub fn decider(seed: u64) -> Option<Decider> {
    let rng = fastrand::Rng::with_seed(seed ^ 0xA5C);
    (seed >= FROM).then(|| Decider { rng, out: Vec::new(), said: Vec::new(), in_vain: Vec::new() })
}

fn may(policy: usize, answer: Answer) -> bool {
    match answer {
        Answer::Reject => policy == 0 || policy == THIRD,
        Answer::Approve => policy == THIRD,
    }
}

impl SimWorld {
    /// Whether this policy may ever give this answer to this kind of stranger, by a rule or by the decider's verdict.
    pub fn may_say(&self, policy: usize, kind: usize, answer: Answer) -> bool {
        allowed(policy, kind, answer) || self.decider.is_some() && kind == ASKED && may(policy, answer)
    }

    /// A question is sent; in the rough part it may fail.
    pub fn asks(&mut self, request: &ContactRequest, question: Question) {
        let id = request.id.clone();
        if self.decider.is_none() {
            self.fail("no rule of this evening asks a decider");
        }
        self.check_question(&id, &question);
        let (life, calm) = (self.life.number, self.calm_since.is_some());
        let Some(decider) = &mut self.decider else { return };
        decider.out.push((life, id.clone()));
        let rng = &mut decider.rng;
        let failed = |fault| Err(AskFailure { fault, again: None });
        let result = match rng.u8(0..10) {
            0 if !calm => failed(AskFault::Unreachable),
            1 if !calm => failed(AskFault::Slow),
            2 if !calm => failed(AskFault::Status(503)),
            3 if !calm => failed(AskFault::Unreadable),
            4 if !calm => Err(AskFailure { fault: AskFault::Spent, again: Some(Duration::from_secs(rng.u64(1..300))) }),
            5 | 6 => Ok(Verdict::Reject),
            7 | 8 => Ok(Verdict::Approve),
            _ => Ok(Verdict::Defer),
        };
        let took = Duration::from_millis(if rng.bool() { rng.u64(1..500) } else { rng.u64(500..20_000) });
        let handle = request.sender.original().map(|text| text.raw().to_owned());
        let told = CoreInput::DeciderReplied { request: id, question, result, took, handle, policy: self.in_force };
        self.schedule(self.at + took, SimEvent::Core(told));
    }

    /// A question may only be about strangers whom only this rule defers, with few questions at once, and never about
    /// what was told already.
    fn check_question(&self, id: &RequestId, question: &Question) {
        let Some(decider) = &self.decider else { return };
        let versions = self.senders(id.as_str(), self.now().wall);
        if !versions.is_empty() && versions.iter().all(|version| version.kind != ASKED) {
            self.fail(&format!("a decider is asked about {id}, of whom another rule speaks"));
        }
        if decider.out.iter().filter(|(life, _)| *life == self.life.number).count() >= OUT_MAX {
            self.fail("too many questions are out at once");
        }
        let here = self.life.number;
        if decider.out.iter().any(|(life, out)| *life == here && out == id) {
            self.fail(&format!("a decider is asked about {id} while it is asked about it"));
        }
        let again = decider.said.iter().any(|said| said.life == here && said.id == *id && said.key == *question.key);
        let sent = self.platform.sent_requests.get(id.as_str());
        let returned = sent.is_none_or(|sent| sent.returned || sent.status != "pending");
        if again && !returned && !self.renewed.contains(id) && !self.record.ended(id.as_str()) {
            self.fail(&format!("a decider is asked about {id} again, though it said what it thinks"));
        }
    }

    /// The result of a question reaches the daemon.
    pub fn hears_word(&mut self, told: CoreInput) {
        let CoreInput::DeciderReplied { request, question, result, took, handle, policy } = told else { return };
        let life = self.life.number;
        // If a stale page called the request gone, the daemon no longer knows it, and drops the verdict.
        let known = self.core.pending().iter().any(|row| row.request.id == request);
        let Some(decider) = &mut self.decider else { return };
        decider.out.retain(|(of, id)| *of != life || *id != request);
        match &result {
            Ok(verdict) if known => {
                let (id, key) = (request.clone(), question.key.to_string());
                decider.said.push(ReceivedVerdict { life, id, key, handle, policy, verdict: *verdict });
                self.saw("a decider said something");
            }
            Ok(_) => {}
            Err(failure) => {
                if failure.again.is_none() {
                    decider.in_vain.push((request.clone(), policy));
                }
                self.saw("a decider failed");
            }
        }
        let result = result.map(|verdict| DeciderReply { verdict, reason: None });
        self.input(Input::DeciderReplied { request, question, result, took });
    }

    /// Checks an answer by a decider's verdict: the verdict was given for this sender, and the time is known.
    pub fn check_word(&mut self, id: &RequestId, answer: Answer, policy: usize, at: Timestamp) {
        let versions = self.senders(id.as_str(), at);
        let known = versions.iter().all(|version| version.handle.is_some());
        let of_them = |said: &&ReceivedVerdict| {
            let named = versions.iter().any(|version| version.handle == said.handle);
            said.id == *id && said.policy == policy && said.verdict == answer.verdict() && (named || !known)
        };
        let Some(decider) = &self.decider else { self.fail("a word of nobody") };
        if !decider.said.iter().any(|said| of_them(&said)) {
            self.fail(&format!("{answer} to {id} by a word that nobody said of this sender under these rules"));
        }
        if !may(policy, answer) {
            self.fail(&format!("{answer} to {id} by a word that may not do that"));
        }
        let unsound = self.skew.abs() > SignedDuration::from_mins(6);
        if unsound && self.life.state == Some(doorman::model::AgentState::Live) {
            self.fail(&format!("{answer} to {id} by a word, by a clock that is not to be believed"));
        }
        self.saw(match answer {
            Answer::Approve => "a decider let somebody in",
            Answer::Reject => "a decider sent somebody away",
        });
    }

    /// According to the ledger, the decider's verdicts approved no more than the rule's limit.
    pub fn check_asked_limit(&self) {
        let times = &self.record.counted("unsure")[0];
        for window in times.windows(ASKED_MAX + 1).filter(|_| self.decider.is_some() && !self.jumped) {
            if window[ASKED_MAX].duration_since(window[0]) < SignedDuration::from_hours(1) {
                self.fail(&format!("{} let in within an hour by a decider's reply", window.len()));
            }
        }
    }

    /// At the end: whether the decider's verdict on this request must have been carried out.
    pub fn word_ends(&self, id: &str, excused: bool) -> bool {
        let (Some(decider), Some(sent)) = (&self.decider, self.platform.sent_requests.get(id)) else { return false };
        if sent.kind != ASKED {
            return false;
        }
        // What was said to other rules was said to another question.
        let force = self.in_force;
        let theirs =
            |said: &&ReceivedVerdict| said.id.as_str() == id && said.handle == sent.handle && said.policy == force;
        let of_them = || decider.said.iter().filter(theirs);
        let vain = decider.in_vain.iter().filter(|(one, policy)| one.as_str() == id && *policy == force).count();
        if of_them().next().is_none() && vain < TRIES && !excused && !self.renewed.iter().any(|one| one.as_str() == id)
        {
            self.fail(&format!("{id} waits, and the decider was never asked about it"));
        }
        let reject = of_them().next().is_some() && of_them().all(|said| said.verdict == Verdict::Reject);
        reject && may(self.in_force, Answer::Reject)
    }
}
