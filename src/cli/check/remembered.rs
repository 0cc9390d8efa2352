//! What the ledger remembers of the rules of a file, for the warnings of `check`: since when each has been in force, and
//! when it matched last. Reads only.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::ledger::{Filter, LedgerError, LedgerReader};
use crate::model::AgentId;
use crate::policy::{self, Policy, PolicyHash, RuleHistory, RuleName};

/// How far back this looks for a match of a rule.
const BACK: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Most changes of policy that are examined for one agent; older ones are ignored.
const CHANGES_MAX: usize = 100;

/// The rules of the policies on record, each read once.
#[derive(Debug, Default)]
struct RecordedPolicies(HashMap<PolicyHash, Option<Arc<Policy>>>);

impl RecordedPolicies {
    fn get(&mut self, reader: &LedgerReader, hash: &PolicyHash) -> Result<Option<Arc<Policy>>, LedgerError> {
        if let Some(known) = self.0.get(hash) {
            return Ok(known.clone());
        }
        let texts = reader.policy_texts(hash)?;
        let policy = texts.and_then(|texts| policy::load_texts(Path::new("rules.toml"), &texts).policy);
        self.0.insert(hash.clone(), policy.clone());
        Ok(policy)
    }
}

/// What is known of each rule in force for these agents. If no request arrived in 30 days, the lack of a match means
/// nothing: the rule's history is then unknown.
pub(super) fn rules(
    reader: &LedgerReader,
    agents: &[AgentId],
    now: Timestamp,
) -> Result<BTreeMap<RuleName, RuleHistory>, LedgerError> {
    let since = now.checked_sub(BACK).unwrap_or(Timestamp::MIN);
    let mut facts: BTreeMap<RuleName, RuleHistory> = BTreeMap::new();
    let mut policies = RecordedPolicies::default();
    for agent in agents {
        let asked = Filter { agent: Some(agent.clone()), since: Some(since), limit: Some(1), ..Filter::default() };
        if reader.requests(&asked)?.is_empty() {
            continue;
        }
        let uses = reader.policies_of(agent)?;
        let mut begun: BTreeMap<RuleName, RuleHistory> = BTreeMap::new();
        // From the newest back: a rule is in force without a break for as long as each older policy has it, too.
        for (age, (hash, at)) in uses.iter().rev().take(CHANGES_MAX).enumerate() {
            let Some(policy) = policies.get(reader, hash)? else { break };
            let newer = (age > 0).then(|| uses[uses.len() - age].1);
            let mut unbroken = false;
            for rule in policy.rules.iter() {
                let facts = match begun.get_mut(&rule.name) {
                    Some(facts) if facts.since == newer => facts,
                    None if newer.is_none() => begun.entry(rule.name.clone()).or_default(),
                    _ => continue,
                };
                unbroken = true;
                if rule.shadow && facts.shadow_since == newer {
                    facts.shadow_since = Some(*at);
                }
                facts.since = Some(*at);
            }
            if !unbroken || *at < since {
                break;
            }
        }
        for (name, one) in begun {
            let facts = facts.entry(name).or_insert(one);
            facts.since = facts.since.min(one.since);
            facts.shadow_since = match (facts.shadow_since, one.shadow_since) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
    for agent in agents {
        for (rule, at) in reader.rules_last_matched(Some(agent), since)? {
            if let Some(facts) = facts.get_mut(&rule) {
                facts.matched = facts.matched.max(Some(at));
            }
        }
    }
    Ok(facts)
}
