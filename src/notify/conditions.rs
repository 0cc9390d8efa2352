//! What is wrong, according to the board; and which of it is new for a target. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::{Mono, Now};
use crate::config::settings::{NotifyEvent, NotifyTarget};
use crate::model::{AgentState, StrangerText};
use crate::ops::board::Board;
use crate::ops::control::wire::AgentStatus;

/// A change that lasts for a shorter time is not reported: otherwise a reload or a short outage would cause two
/// messages.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// An agent without a connection for longer than this is reported.
const AWAY_MAX: SignedDuration = SignedDuration::from_mins(10);
/// Most characters of a reason.
const WHY_CHARS_MAX: usize = 200;

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AlertState {
    pub(super) event: NotifyEvent,
    /// The agent, file or target concerned.
    pub(super) subject: String,
    /// Since when, if that is known.
    pub(super) since: Option<Timestamp>,
    /// For people, escaped.
    pub(super) text: String,
}

impl AlertState {
    /// The key that distinguishes it from others, and identifies it in later messages.
    pub(super) fn key(&self) -> String {
        format!("{}:{}", self.event.as_str(), self.subject)
    }
}

/// The event and the subject of a key.
pub(super) fn parts(key: &str) -> Option<(NotifyEvent, &str)> {
    let (event, subject) = key.split_once(':')?;
    Some((NotifyEvent::parse(event)?, subject))
}

/// All that is wrong and concerns this target, by key. `failed` are other targets that do not deliver, each with why.
pub(super) fn hold_now(
    board: &Board,
    target: &NotifyTarget,
    failed: &[(String, String)],
    now: Now,
) -> BTreeMap<String, AlertState> {
    let mut found = Vec::new();
    for agent in &board.agents {
        let status = &agent.status;
        if target.agents.is_empty() || target.agents.contains(&status.id) {
            found.extend(of_agent(status, now.wall));
            found.extend(agent.deciders_failing.iter().map(|(decider, why)| {
                let subject = decider.to_string();
                let text = format!(
                    "the decider {subject} gives no reply ({}): what it is asked about stays pending",
                    why.as_str()
                );
                AlertState { event: NotifyEvent::DeciderFailed, subject, since: None, text }
            }));
        }
    }
    for policy in &board.policies {
        if let Some(problem) = &policy.problem {
            let text = format!("the rules file {} was refused: {}", shown(&policy.path), first_line(problem));
            found.push(AlertState {
                event: NotifyEvent::RulesRefused,
                subject: policy.path.clone(),
                since: None,
                text,
            });
        }
    }
    if let Some(problem) = &board.configuration.problem {
        let path = &board.configuration.path;
        let text = format!("a reload refused the configuration {}: {}", shown(path), first_line(problem));
        found.push(AlertState { event: NotifyEvent::ConfigRefused, subject: path.clone(), since: None, text });
    }
    if let Some(blocked) = &board.ledger_blocked {
        let text = format!("the ledger cannot be written, so nothing is answered: {}", shown(&blocked.why));
        let since = Some(blocked.since);
        found.push(AlertState { event: NotifyEvent::LedgerBlocked, subject: "ledger".to_owned(), since, text });
    }
    for (name, why) in failed {
        let text = format!("messages to the target {name} do not arrive: {}", shown(why));
        found.push(AlertState { event: NotifyEvent::NotifyFailed, subject: name.clone(), since: None, text });
    }
    found.retain(|condition| target.events.contains(&condition.event));
    found.into_iter().map(|condition| (condition.key(), condition)).collect()
}

fn of_agent(status: &AgentStatus, now: Timestamp) -> Vec<AlertState> {
    let name = name_of(status);
    let mut found = Vec::new();
    let mut say = |event, since, text| {
        found.push(AlertState { event, subject: status.id.to_string(), since, text });
    };
    if status.state == AgentState::Refused {
        let text = format!("the platform does not accept the key of {name}: {}", shown(&status.why));
        say(NotifyEvent::Refused, Some(status.since), text);
    }
    let apart = matches!(status.state, AgentState::Away | AgentState::Starting);
    if apart && now.duration_since(status.since) >= AWAY_MAX {
        let text = format!("{name} has no connection to the platform: {}", shown(&status.why));
        say(NotifyEvent::Away, Some(status.since), text);
    }
    if status.without_rules {
        say(NotifyEvent::WithoutRules, None, format!("{name} is without rules: everything stays pending"));
    }
    if status.paused {
        let (since, by) = match &status.pause {
            Some(pause) => (Some(pause.at), format!(" by {}", shown(pause.by.who()))),
            None => (None, String::new()),
        };
        say(NotifyEvent::Paused, since, format!("{name} is paused{by}: nothing is answered until `doorman resume`"));
    }
    found
}

fn name_of(status: &AgentStatus) -> String {
    match &status.handle {
        // The handle was escaped when the status was made.
        Some(handle) => format!("agent @{handle}"),
        None => format!("agent {}", status.id),
    }
}

fn shown(text: &str) -> String {
    StrangerText::new(text).shown(WHY_CHARS_MAX)
}

fn first_line(text: &str) -> String {
    shown(text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim())
}

/// What is new for a target.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ConditionChanges {
    pub(super) begun: Vec<AlertState>,
    /// The keys of conditions that ended.
    pub(super) ended: Vec<String>,
}

impl ConditionChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.ended.is_empty()
    }
}

/// Stores since when each condition has been in its present state.
#[derive(Debug, Default)]
pub(super) struct ConditionDebounce {
    differs_since: BTreeMap<String, Mono>,
}

impl ConditionDebounce {
    /// The differences from what the target knows that have lasted long enough.
    pub(super) fn news(
        &mut self,
        holding: &BTreeMap<String, AlertState>,
        known: &[String],
        now: Mono,
    ) -> ConditionChanges {
        let begun = holding.keys().filter(|key| !known.contains(key));
        let ended = known.iter().filter(|key| !holding.contains_key(*key));
        let differing: BTreeMap<String, Mono> =
            begun.chain(ended).map(|key| (key.clone(), self.differs_since.get(key).copied().unwrap_or(now))).collect();
        self.differs_since = differing;
        let mut news = ConditionChanges::default();
        for (key, since) in &self.differs_since {
            if now.since(*since) < SETTLED_AFTER {
                continue;
            }
            match holding.get(key) {
                Some(condition) => news.begun.push(condition.clone()),
                None => news.ended.push(key.clone()),
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::settings::{NotifyText, NotifyWay};
    use crate::model::AgentId;
    use crate::ops::board::{AgentBoard, Blocked};

    fn agent(id: u8) -> AgentId {
        AgentId::parse(&format!("a0000000-0000-4000-8000-00000000000{id}")).unwrap()
    }

    fn status(id: u8, state: AgentState) -> AgentStatus {
        AgentStatus {
            handle: Some("hotel/porter".to_owned()),
            state,
            why: "because\u{1b}[2J".to_owned(),
            ..AgentStatus::starting(agent(id), Timestamp::UNIX_EPOCH)
        }
    }

    fn board(agents: impl IntoIterator<Item = AgentStatus>) -> Board {
        let of = |status| {
            Arc::new(AgentBoard { status, oldest_deferred: None, deciders_failing: Vec::new(), pending: Vec::new() })
        };
        Board { agents: agents.into_iter().map(of).collect(), ..Board::default() }
    }

    fn target(events: &[NotifyEvent], agents: &[AgentId]) -> NotifyTarget {
        NotifyTarget {
            name: "ops".to_owned(),
            way: NotifyWay::Command { program: "/bin/true".into(), arguments: Vec::new() },
            secret: None,
            ca_file: None,
            events: events.to_vec(),
            agents: agents.to_vec(),
            reply: Vec::new(),
            text: NotifyText::Handle,
            every: Duration::from_secs(1),
            max_per_hour: 30,
        }
    }

    fn at(seconds: u64) -> Now {
        let wall = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::try_from(seconds).unwrap());
        Now { mono: Mono::from_origin(Duration::from_secs(seconds)), wall }
    }

    fn keys(board: &Board, target: &NotifyTarget, seconds: u64) -> Vec<String> {
        hold_now(board, target, &[], at(seconds)).into_keys().collect()
    }

    #[test]
    fn what_is_wrong_is_found_for_the_agents_and_events_that_a_target_has() {
        let all = target(NotifyEvent::ALL, &[]);
        let mut paused = status(2, AgentState::Live);
        (paused.paused, paused.without_rules) = (true, true);
        let mut board = board([status(1, AgentState::Refused), paused, status(3, AgentState::Live)]);
        let (one, two) = (agent(1), agent(2));
        assert_eq!(
            keys(&board, &all, 5),
            [format!("paused:{two}"), format!("refused:{one}"), format!("without_rules:{two}")]
        );
        assert_eq!(keys(&board, &target(NotifyEvent::ALL, &[agent(1)]), 5), [format!("refused:{one}")]);
        assert_eq!(keys(&board, &target(&[NotifyEvent::Paused], &[]), 5), [format!("paused:{two}")]);
        board.ledger_blocked =
            Some(Blocked { why: "disk full".to_owned(), since: Timestamp::UNIX_EPOCH, since_mono: Mono::ZERO });
        assert!(keys(&board, &all, 5).contains(&"ledger_blocked:ledger".to_owned()));
        let found = hold_now(&board, &all, &[("old".to_owned(), "gone".to_owned())], at(5));
        assert!(found.contains_key("notify_failed:old"));
        assert!(found.values().all(|condition| !condition.text.contains('\u{1b}')), "{found:?}");
    }

    #[test]
    fn an_agent_is_away_after_ten_minutes() {
        let board = board([status(1, AgentState::Away), status(2, AgentState::Yielded)]);
        let all = target(NotifyEvent::ALL, &[]);
        assert_eq!(keys(&board, &all, 599), Vec::<String>::new());
        assert_eq!(keys(&board, &all, 600), [format!("away:{}", agent(1))]);
    }

    #[test]
    fn what_flaps_is_not_reported_and_what_lasts_is_reported_once_with_its_end() {
        let board = board([status(1, AgentState::Refused)]);
        let holding = hold_now(&board, &target(NotifyEvent::ALL, &[]), &[], at(0));
        let (mut settling, none) = (ConditionDebounce::default(), BTreeMap::new());
        let mut news = |holding: &BTreeMap<String, AlertState>, known: &[String], second| {
            let news = settling.news(holding, known, at(second).mono);
            (news.begun.len(), news.ended.len())
        };
        assert_eq!(news(&holding, &[], 0), (0, 0));
        assert_eq!(news(&holding, &[], 9), (0, 0));
        assert_eq!(news(&none, &[], 9), (0, 0));
        assert_eq!(news(&holding, &[], 10), (0, 0), "it was away in between");
        assert_eq!(news(&holding, &[], 20), (1, 0));
        let known: Vec<String> = holding.keys().cloned().collect();
        assert_eq!(news(&holding, &known, 21), (0, 0), "it knows");
        assert_eq!(news(&none, &known, 22), (0, 0));
        assert_eq!(news(&none, &known, 32), (0, 1));
    }
}
