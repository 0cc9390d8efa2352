//! Whether the daemon is alive, and whether it is ready, with reasons. Both are judged from the board and the watchdog.
//! Neither the platform nor the ledger nor an agent is asked, so that their faults do not restart the daemon.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::board::{Board, DaemonPhase, FleetBoard};
use super::watchdog::LateLoop;
use crate::clock::Mono;
use crate::model::AgentState;

/// A ledger that is blocked for a shorter time does not make the daemon unready.
const LEDGER_BLOCKED_MAX: Duration = Duration::from_secs(10);

/// What `/healthz`, `/readyz` and `doorman health --json` say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether all checks pass.
    pub ok: bool,
    /// Each check, in a fixed order.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `loops`; or `phase`, `agents`, `ledger`, and `trusted` if several doormen share the ledger.
    pub name: String,
    /// Whether the check passes.
    pub ok: bool,
    /// Why it fails; absent if it passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when it fails, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Check {
    fn new(name: &str, problem: Option<(String, Option<Timestamp>)>) -> Self {
        let (ok, name) = (problem.is_none(), name.to_owned());
        let (why, since) = problem.map_or((None, None), |(why, since)| (Some(why), since));
        Self { name, ok, why, since }
    }
}

impl Health {
    fn of(checks: Vec<Check>) -> Self {
        Self { ok: checks.iter().all(|check| check.ok), checks }
    }
}

/// `/healthz`: every loop of the daemon turns.
pub fn alive(late: &[LateLoop]) -> Health {
    let loops: Vec<String> =
        late.iter().map(|late| format!("`{}` is {} s late", late.name, late.by.as_secs())).collect();
    Health::of(vec![Check::new("loops", (!loops.is_empty()).then(|| (loops.join(", "), None)))])
}

/// `/readyz`: it has started, is not stopping, can serve at least one agent, and can write the ledger.
pub fn ready(board: &Board, now: Mono) -> Health {
    let phase = match board.phase {
        DaemonPhase::Starting => Some(("the daemon is starting".to_owned(), None)),
        DaemonPhase::Draining => Some(("the daemon is stopping".to_owned(), None)),
        DaemonPhase::Running => None,
    };
    let mut checks =
        vec![Check::new("phase", phase), Check::new("agents", agents(board)), Check::new("ledger", ledger(board, now))];
    checks.extend(board.fleet.as_ref().map(|fleet| Check::new("trusted", untrusted(fleet))));
    Health::of(checks)
}

/// If one agent of many is refused, that is an alert, but no reason to take all others out of service.
fn agents(board: &Board) -> Option<(String, Option<Timestamp>)> {
    let total = board.agents.len();
    let starting = board.in_state(AgentState::Starting);
    if total > 0 && starting == total {
        return Some(("every agent is still starting".to_owned(), None));
    }
    let out =
        |state: &crate::ops::control::wire::AgentStatus| state.state == AgentState::Refused || state.without_rules;
    if total == 0 || !board.agents.iter().all(|agent| out(&agent.status)) {
        return None;
    }
    let refused = board.in_state(AgentState::Refused);
    let without_rules = board.agents.iter().filter(|agent| agent.status.without_rules).count();
    let since = board.agents.iter().map(|agent| agent.status.since).max();
    let why = format!(
        "no agent can be served: of {total}, the platform refuses the key of {refused} and {without_rules} have no rules; \
         `doorman status` says why"
    );
    Some((why, since))
}

fn untrusted(fleet: &FleetBoard) -> Option<(String, Option<Timestamp>)> {
    let why = "the database does not confirm that this doorman lives, so that others may take its agents";
    (!fleet.trusted).then(|| (why.to_owned(), Some(fleet.since)))
}

fn ledger(board: &Board, now: Mono) -> Option<(String, Option<Timestamp>)> {
    let blocked = board.ledger_blocked.as_ref()?;
    let long = now.since(blocked.since_mono) > LEDGER_BLOCKED_MAX;
    long.then(|| (format!("the ledger cannot be written: {}", blocked.why), Some(blocked.since)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::board::{AgentBoard, Blocked};
    use super::*;
    use crate::model::AgentId;
    use crate::ops::control::wire::AgentStatus;

    fn agent(state: AgentState, without_rules: bool) -> Arc<AgentBoard> {
        let since = "2026-11-23T00:00:00Z".parse().unwrap();
        let status =
            AgentStatus { state, without_rules, ..AgentStatus::starting(AgentId::parse("a-1").unwrap(), since) };
        Arc::new(AgentBoard { status, oldest_deferred: None, deciders_failing: Vec::new(), pending: Vec::new() })
    }

    fn board(agents: &[(AgentState, bool)]) -> Board {
        let agents = agents.iter().map(|&(state, without_rules)| agent(state, without_rules)).collect();
        Board { phase: DaemonPhase::Running, agents, ..Board::default() }
    }

    fn problems(health: &Health) -> Vec<&str> {
        health.checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect()
    }

    #[test]
    fn a_late_loop_is_named_and_nothing_else_is_a_matter_of_life() {
        assert!(alive(&[]).ok);
        let late = alive(&[LateLoop { name: "supervisor".to_owned(), by: Duration::from_secs(7) }]);
        assert_eq!(late.checks[0].why.as_deref(), Some("`supervisor` is 7 s late"));
        assert!(!late.ok);
    }

    #[test]
    fn one_refused_agent_of_two_leaves_the_daemon_ready_and_all_refused_do_not() {
        let now = Mono::ZERO;
        assert!(ready(&board(&[(AgentState::Refused, false), (AgentState::Away, false)]), now).ok);
        assert!(ready(&board(&[(AgentState::Live, true), (AgentState::Yielded, false)]), now).ok);
        let none = ready(&board(&[(AgentState::Refused, false), (AgentState::Live, true)]), now);
        assert_eq!(problems(&none), ["agents"]);
        assert!(none.checks[1].since.is_some());
    }

    #[test]
    fn starting_and_stopping_are_not_ready() {
        assert_eq!(problems(&ready(&Board::default(), Mono::ZERO)), ["phase"]);
        let stopping = Board { phase: DaemonPhase::Draining, ..board(&[(AgentState::Live, false)]) };
        assert_eq!(problems(&ready(&stopping, Mono::ZERO)), ["phase"]);
        assert_eq!(problems(&ready(&board(&[(AgentState::Starting, false)]), Mono::ZERO)), ["agents"]);
    }

    #[test]
    fn a_doorman_that_others_may_take_for_dead_is_not_ready() {
        let fleet = FleetBoard {
            name: "a".to_owned(),
            trusted: true,
            since: Timestamp::UNIX_EPOCH,
            held: 0,
            members: 2,
            taken: 0,
            fenced: 0,
            beat_seconds: 0.0,
        };
        let of = |fleet| Board { fleet: Some(Arc::new(fleet)), ..board(&[(AgentState::Elsewhere, false)]) };
        assert!(ready(&of(fleet.clone()), Mono::ZERO).ok, "all agents are with others: it waits");
        assert_eq!(problems(&ready(&of(FleetBoard { trusted: false, ..fleet }), Mono::ZERO)), ["trusted"]);
    }

    #[test]
    fn a_ledger_that_is_blocked_counts_after_ten_seconds() {
        let since_mono = Mono::ZERO + Duration::from_secs(100);
        let blocked = Blocked { why: "disk full".to_owned(), since: Timestamp::UNIX_EPOCH, since_mono };
        let board = Board { ledger_blocked: Some(blocked), ..board(&[(AgentState::Live, false)]) };
        assert!(ready(&board, since_mono + Duration::from_secs(10)).ok);
        let late = ready(&board, since_mono + Duration::from_secs(11));
        assert_eq!(problems(&late), ["ledger"]);
        assert_eq!(late.checks[2].why.as_deref(), Some("the ledger cannot be written: disk full"));
    }
}
