//! Reads the ledger for the page, separately from the daemon's own reads and at most two at a time. Slow results are
//! cached for a while.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;

use super::{RunningPage, locked, views};
use crate::clock::Mono;
use crate::ledger::LedgerReader;
use crate::ledger::read::{ByHour, Matches, OpenRequest, WantedOpen};
use crate::model::{AgentId, AgentState, PersonTarget, RequestId, Verdict};
use crate::ops::control::wire::{PendingRow, PolicyStatus};
use crate::policy::{self, PolicyHash};

/// A request that would wait longer for its turn is refused; the person should try again.
const TURN_MAX: Duration = Duration::from_secs(5);
/// How long cached counts are valid.
const KEPT: Duration = Duration::from_secs(30);
/// Most requests of agents that other doormen hold.
const ROWS_ELSEWHERE_MAX: usize = 1_000;
/// Hours of the chart.
pub(super) const HOURS: i64 = 24;

/// Cached counts, and when they were made.
#[derive(Debug, Default)]
pub(super) struct Cache {
    by_hour: Option<(Mono, Arc<ByHour>)>,
    rules: Option<(Mono, Vec<PolicyStatus>, Arc<RulesInForce>)>,
}

/// The rules in force, and how often each matched.
#[derive(Debug, Default)]
pub(super) struct RulesInForce {
    pub(super) files: Vec<RulesFileView>,
    pub(super) matches: Matches,
}

/// One rules file.
#[derive(Debug)]
pub(super) struct RulesFileView {
    pub(super) status: PolicyStatus,
    /// Rules that never matched come first; empty if no rules are in force.
    pub(super) rules: Vec<RuleRow>,
    /// Why the rules cannot be shown.
    pub(super) why: Option<String>,
}

/// One rule.
#[derive(Debug)]
pub(super) struct RuleRow {
    pub(super) name: String,
    pub(super) then: Verdict,
    pub(super) shadow: bool,
    pub(super) matched: u64,
    pub(super) last: Option<jiff::Timestamp>,
}

impl RunningPage {
    /// Reads the ledger on a separate thread.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&RunningPage, &LedgerReader) -> Result<T, String> + Send + 'static,
    ) -> Result<T, Response> {
        let turn = tokio::time::timeout(TURN_MAX, self.readings.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            let why = "the record is being read for others just now: try again";
            return Err(views::plain(StatusCode::SERVICE_UNAVAILABLE, "Busy", why));
        };
        let page = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let reader = LedgerReader::open(&page.ledger).map_err(|error| error.to_string())?;
            read(&page, &reader)
        });
        let failed = |why: &str| {
            views::plain(StatusCode::SERVICE_UNAVAILABLE, "Not now", &format!("the record cannot be read: {why}"))
        };
        match done.await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(why)) => Err(failed(&why)),
            Err(error) => Err(failed(&error.to_string())),
        }
    }

    /// The open requests of agents that other doormen hold, as far as the record knows, and how many more there are; those with this
    /// id, or all.
    pub(super) async fn elsewhere(
        self: &Arc<Self>,
        id: Option<&RequestId>,
    ) -> Result<(Vec<PendingRow>, u64), Response> {
        let board = self.board.borrow().clone();
        let others = board.agents.iter().filter(|agent| agent.status.state == AgentState::Elsewhere);
        let agents: Vec<AgentId> = others.map(|agent| agent.status.id.clone()).collect();
        if agents.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let wanted = WantedOpen { agents, target: id.cloned().map(PersonTarget::Id), most: ROWS_ELSEWHERE_MAX };
        let found =
            self.read(move |_, reader| reader.open_requests(&wanted).map_err(|error| error.to_string())).await?;
        let row = |one: OpenRequest| {
            let holder = board.agents.iter().find(|agent| agent.status.id == one.agent);
            let by = holder.and_then(|agent| agent.status.held_by.as_deref());
            one.into_row(by)
        };
        Ok((found.requests.into_iter().map(row).collect(), found.more))
    }

    /// The decisions of the last day.
    pub(super) async fn by_hour(self: &Arc<Self>) -> Result<Arc<ByHour>, Response> {
        let now = self.clock.now();
        if let Some((at, found)) = &locked(&self.cache).by_hour
            && now.mono.since(*at) < KEPT
        {
            return Ok(found.clone());
        }
        let hour = now.wall.as_second().div_euclid(3_600);
        let since = jiff::Timestamp::from_second((hour - HOURS + 1) * 3_600).unwrap_or(now.wall);
        let found =
            self.read(move |_, reader| reader.decisions_by_hour(since).map_err(|error| error.to_string())).await?;
        let found = Arc::new(found);
        locked(&self.cache).by_hour = Some((now.mono, found.clone()));
        Ok(found)
    }

    /// The rules in force with their matches.
    pub(super) async fn rules(self: &Arc<Self>) -> Result<Arc<RulesInForce>, Response> {
        let (now, policies) = (self.clock.now().mono, self.board.borrow().policies.clone());
        if let Some((at, of, found)) = &locked(&self.cache).rules
            && now.since(*at) < KEPT
            && *of == policies
        {
            return Ok(found.clone());
        }
        let of = policies.clone();
        let found = self
            .read(move |page, reader| {
                let matches = reader.rule_matches().map_err(|error| error.to_string())?;
                let files = of.into_iter().map(|status| file(page, reader, &matches, status)).collect();
                Ok(RulesInForce { files, matches })
            })
            .await?;
        let found = Arc::new(found);
        locked(&self.cache).rules = Some((now, policies, found.clone()));
        Ok(found)
    }
}

fn file(page: &RunningPage, reader: &LedgerReader, matches: &Matches, status: PolicyStatus) -> RulesFileView {
    let Some(hash) = status.hash.as_deref().map(PolicyHash::new) else {
        return RulesFileView { status, rules: Vec::new(), why: None };
    };
    let texts = match reader.policy_texts(&hash) {
        Ok(Some(texts)) => texts,
        Ok(None) => {
            let why = Some("no agent has used these rules yet, so their text is not on record".to_owned());
            return RulesFileView { status, rules: Vec::new(), why };
        }
        Err(error) => return RulesFileView { status, rules: Vec::new(), why: Some(error.to_string()) },
    };
    let Some(policy) = policy::load_texts(status.path.as_ref(), &texts).policy else {
        return RulesFileView { status, rules: Vec::new(), why: Some("this doorman cannot read them".to_owned()) };
    };
    let of_agents = page.board.borrow().rules.clone();
    let agents: Vec<_> = of_agents.iter().filter(|(_, path)| path.display().to_string() == status.path).collect();
    let mut rules: Vec<RuleRow> = policy
        .rules
        .iter()
        .map(|rule| {
            let of_agents =
                agents.iter().filter_map(|(agent, _)| matches.rules.get(&(agent.clone(), rule.name.clone())));
            let (matched, last) =
                of_agents.fold((0, None), |(count, last), (more, at)| (count + more, last.max(Some(*at))));
            RuleRow { name: rule.name.as_str().to_owned(), then: rule.then, shadow: rule.shadow, matched, last }
        })
        .collect();
    rules.sort_by(|one, other| (one.matched > 0, &one.name).cmp(&(other.matched > 0, &other.name)));
    RulesFileView { status, rules, why: None }
}
