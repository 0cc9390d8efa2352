use std::collections::BTreeMap;

use super::table::{MetricRow, ROWS};
use super::*;
use crate::model::{AgentId, AgentState};
use crate::ops::board::{self, AgentBoard, Board, DaemonPhase, FleetBoard};
use crate::ops::control::wire::{AgentStatus, NotifyStatus, PolicyStatus};
use crate::policy::RuleName;
use crate::policy::ask::{AskFailure, AskFault};

fn status(id: &str) -> AgentStatus {
    AgentStatus {
        state: AgentState::Live,
        without_rules: true,
        pending: 3,
        deferred: 2,
        in_flight: 1,
        doubts: 4,
        guests: 0,
        guests_late: 0,
        last_listing: Some("2026-11-23T00:00:01Z".parse().unwrap()),
        ..AgentStatus::starting(AgentId::parse(id).unwrap(), "2026-11-23T00:00:00Z".parse().unwrap())
    }
}

fn board(agents: usize) -> Board {
    let agents = (0..agents).map(|n| {
        let deciders_failing = vec![(RuleName::parse("screen").unwrap(), AskFault::Slow)];
        let oldest_deferred = Some("2026-11-23T00:00:00Z".parse().unwrap());
        Arc::new(AgentBoard {
            status: AgentStatus { clock_unsound: n == 0, ..status(&format!("a-{n}")) },
            oldest_deferred,
            deciders_failing,
            pending: Vec::new(),
        })
    });
    Board {
        phase: DaemonPhase::Running,
        agents: agents.collect(),
        policies: vec![PolicyStatus {
            path: "a \"b\"\\\n".to_owned(),
            version: None,
            hash: None,
            mode: None,
            since: None,
            problem: Some("x".to_owned()),
        }],
        fleet: Some(Arc::new(FleetBoard {
            name: "a".to_owned(),
            trusted: true,
            since: "2026-11-23T00:00:00Z".parse().unwrap(),
            held: 3,
            members: 2,
            taken: 4,
            fenced: 1,
            beat_seconds: 0.002,
        })),
        notify: vec![NotifyStatus::new("ops", "webhook")],
        counters: BTreeMap::from([("requests_seen", 7)]),
        ..Board::default()
    }
}

fn metrics(board: Board, per_agent: PerAgent) -> Metrics {
    let (sender, reader) = board::channel();
    sender.send_replace(Arc::new(board));
    let metrics = Metrics::new(reader, Clock::start(), per_agent);
    metrics.decided("approve", "rule");
    metrics.rule_matched(&"rules.toml".into(), "friends");
    metrics.answered("approved", Some(Duration::from_millis(3)));
    metrics.rest_called("respond", Some(200));
    metrics.rest_called("respond", None);
    metrics.reconnecting("closed");
    metrics.notified("ops", "delivered");
    let failed = Err(AskFailure { fault: AskFault::Slow, again: None });
    metrics.decider_asked("screen", &failed, Duration::from_secs(1));
    metrics.committed(Duration::from_micros(300));
    metrics
}

/// The names of all families on a page, by their `# TYPE` lines.
fn families(page: &str) -> Vec<String> {
    let mut names: Vec<String> =
        page.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned())).collect();
    names.sort();
    names
}

#[test]
fn a_page_has_every_metric_of_the_table_and_no_other() {
    let page = metrics(board(1), PerAgent::Auto).page(ScrapeFormat::Text, 12).unwrap();
    let mut table: Vec<String> = ROWS.iter().map(MetricRow::family).collect();
    table.sort();
    assert_eq!(families(&page), table);
}

#[test]
fn a_page_says_what_is_on_the_board_and_what_was_counted() {
    let page = metrics(board(1), PerAgent::Auto).page(ScrapeFormat::Text, 12).unwrap();
    for line in [
        "doorman_ledger_ok 1",
        "doorman_tasks 12",
        "doorman_agents{state=\"live\"} 1",
        "doorman_agents{state=\"away\"} 0",
        "doorman_agent_state{agent=\"a-0\",state=\"live\"} 1",
        "doorman_agent_state_since_seconds{agent=\"a-0\"} 1795392000",
        "doorman_agent_pending{agent=\"a-0\"} 3",
        "doorman_agents_clock_unsound 1",
        "doorman_pending 3",
        "doorman_doubts 4",
        "doorman_config_last_reload_successful 1",
        "doorman_policy_in_force{path=\"a \\\"b\\\"\\\\\\n\",policy=\"\"} 0",
        "doorman_policy_refused{path=\"a \\\"b\\\"\\\\\\n\"} 1",
        "doorman_events_total{event=\"requests_seen\"} 7",
        "doorman_decisions_total{verdict=\"approve\",by_kind=\"rule\"} 1",
        "doorman_rule_matches_total{rules=\"rules.toml\",rule=\"friends\"} 1",
        "doorman_answers_total{outcome=\"approved\"} 1",
        "doorman_answer_seconds_bucket{le=\"0.005\"} 1",
        "doorman_answer_seconds_bucket{le=\"0.002\"} 0",
        "doorman_rest_requests_total{call=\"respond\",status=\"none\"} 1",
        "doorman_reconnects_total{cause=\"closed\"} 1",
        "doorman_ledger_commit_seconds_count 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n\n{page}");
    }
    assert!(page.contains("# HELP doorman_ledger_ok Whether the ledger can be written.\n"), "{page}");
}

#[test]
fn open_metrics_ends_with_its_end() {
    let page = metrics(board(1), PerAgent::Auto).page(ScrapeFormat::OpenMetrics, 12).unwrap();
    assert!(page.ends_with("# EOF\n"));
    assert!(page.contains("# TYPE doorman_decisions counter\n"));
    assert_eq!(
        ScrapeFormat::accepted("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"),
        ScrapeFormat::OpenMetrics
    );
    assert_eq!(ScrapeFormat::accepted("*/*"), ScrapeFormat::Text);
}

#[test]
fn many_agents_are_only_summed_up() {
    let many = metrics(board(PerAgent::AUTO_MAX + 1), PerAgent::Auto).page(ScrapeFormat::Text, 1).unwrap();
    assert!(!many.contains("doorman_agent_state{"));
    assert!(many.contains("doorman_agents{state=\"live\"} 501\n"));
    let always = metrics(board(PerAgent::AUTO_MAX + 1), PerAgent::Always).page(ScrapeFormat::Text, 1).unwrap();
    assert!(always.contains("agent=\"a-500\""));
    let never = metrics(board(1), PerAgent::Never).page(ScrapeFormat::Text, 1).unwrap();
    assert!(!never.contains("agent=\""));
}

#[test]
fn rules_without_end_are_counted_together() {
    let metrics = metrics(board(1), PerAgent::Auto);
    let rules: Arc<str> = "rules.toml".into();
    for n in 0..3 * RULES_MAX {
        metrics.rule_matched(&rules, &format!("r{n}"));
    }
    metrics.rule_matched(&rules, "friends");
    let page = metrics.page(ScrapeFormat::Text, 1).unwrap();
    let series = page.lines().filter(|line| line.starts_with("doorman_rule_matches_total{")).count();
    assert_eq!(series, RULES_MAX + 1);
    assert!(page.contains("rule=\"friends\"} 2\n"), "a rule that is counted already goes on");
    assert!(page.contains("{rules=\"other\",rule=\"other\"} 2001\n"), "{page}");
}
