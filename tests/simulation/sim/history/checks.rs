//! What must hold by the past: who may be let in, and what keeps a request waiting.

use super::*;

impl SimWorld {
    /// Checks that an agent that pauses because of too many approvals really approved that many.
    pub fn check_paused(&self, at: Timestamp) {
        let count = self.past.spent.values().filter(|since| after(**since, APPROVALS_PER) > at).count();
        if !self.jumped && !self.gaps && count < APPROVALS_MAX {
            self.fail(&format!("paused after {count} approvals, and approvals_max is {APPROVALS_MAX}"));
        }
    }

    /// An approval by a rule: nothing that is known of the past forbids it.
    pub fn check_past(&self, policy: usize, id: &RequestId, kind: usize, now: Timestamp) {
        let owner = self.owner(id).unwrap_or_default();
        let past = &self.past;
        let sure = !past.unsure.contains(&owner);
        if matches!(kind, AGAIN | RUDE) && sure && past.shut_out(policy, &owner, now) {
            self.fail(&format!("{id} is let in, though {owner} was rejected at {}", past.rejected[&owner]));
        }
        // A request that a clock running ahead has dated may have been dated again by a correct clock.
        let often = past.asked_lately(&owner, id, now).filter(|at| *at <= now).count();
        let removed = past.met[2].get(&owner).into_iter().flatten();
        let removed = removed.filter_map(|(_, at)| Some((*at, after(*at, PARTED[policy]?))));
        if let Some((at, _)) =
            removed.clone().find(|(at, end)| *at <= now && *end > now).filter(|_| sure && kind == KNOWN)
        {
            self.fail(&format!("{id} is let in, though {owner} lost a contact at {at}"));
        }
        if kind == OFTEN && policy == THIRD && sure && often > OFTEN_MAX {
            self.fail(&format!("{id} is let in, though {owner} asked {often} times before"));
        }
        if let Some(count) = past.too_often(policy, kind, &owner, now).filter(|_| sure) {
            let what = ["was rejected", "was let in", "lost a contact"][counted(kind).unwrap()];
            self.fail(&format!("{id} is let in, though {owner} {what} {count} times before"));
        }
        if let Some(count) = past.each_too_often(policy, id, &owner, now, false).filter(|_| sure && kind == EACH) {
            self.fail(&format!("{id} is let in, though its handle was let in {count} times before"));
        }
        // What is only presumed counts once a contact of theirs was shown.
        let shown = past.perhaps.contains(&owner) && self.truth_met(&owner);
        if kind == BACK && policy == THIRD && !past.welcome.contains_key(&owner) && !shown {
            self.fail(&format!("{id} is let in for what it was before, and {owner} never was"));
        }
        let counted = |at: Timestamp, counts: bool| counts && after(at, APPROVALS_PER) > now;
        let others = past.let_in.iter().filter(|(other, (at, counts))| *other != id && counted(*at, *counts)).count();
        if policy == THIRD && others >= APPROVALS_MAX {
            self.fail(&format!("{id} is let in after {others} others, and approvals_max is {APPROVALS_MAX}"));
        }
    }

    /// Whether something in the past prevents an answer to this request, for now.
    pub fn in_the_way(&self, id: &str, now: Timestamp) -> bool {
        let (Ok(request), Some(sent)) = (RequestId::parse(id), self.platform.sent_requests.get(id)) else {
            return false;
        };
        let Some(owner) = self.owner(&request) else { return false };
        let past = &self.past;
        match sent.kind {
            AGAIN | RUDE => {
                past.unsure.contains(&owner)
                    || past.shut_out(self.in_force, &owner, now)
                    || past.in_doubt(SHUT_OUT[self.in_force], &owner, now)
            }
            OFTEN if self.in_force == THIRD => {
                past.unsure.contains(&owner) || past.asked_lately(&owner, &request, now).count() > OFTEN_MAX
            }
            // A request that waits already is decided again at the next listing after another one was approved.
            BACK if self.in_force == THIRD => {
                let waits = |heard: Duration| heard >= sent.at && self.at - heard < LISTED_AGAIN;
                past.unsure.contains(&owner) || past.welcome.get(&owner).is_none_or(|heard| waits(*heard))
            }
            EACH => {
                let often = past.each_too_often(self.in_force, &request, &owner, now, true);
                past.unsure.contains(&owner) || often.is_some()
            }
            TWICE | MANY | FICKLE => {
                past.unsure.contains(&owner) || past.held_back(self.in_force, sent.kind, &owner, now)
            }
            _ => false,
        }
    }
}
