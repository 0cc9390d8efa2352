//! `GET /metrics`: the status in Prometheus' text format. Nothing that strangers write is in it.

use std::fmt::Write as _;

use super::wire::Status;
use crate::model::AgentState;

const STATES: [AgentState; 6] = [
    AgentState::Starting,
    AgentState::Live,
    AgentState::Away,
    AgentState::Yielded,
    AgentState::Polling,
    AgentState::Refused,
];

/// The whole exposition. `tasks` are those of the runtime.
pub fn render(status: &Status, tasks: usize) -> String {
    let mut page = Page(String::with_capacity(1024 + status.agents.len() * 1024));
    page.family("doorman_build_info", "gauge", "doorman's version.");
    page.sample("doorman_build_info", &[("version", &status.version)], 1.0);
    page.family("doorman_ledger_ok", "gauge", "Whether the ledger can be written.");
    page.sample("doorman_ledger_ok", &[], truth(status.ledger == "ok"));
    page.family("doorman_tasks", "gauge", "Tasks of the runtime, those that wait included.");
    page.sample("doorman_tasks", &[], tasks as f64);

    page.family("doorman_agent_state", "gauge", "1 for the state the agent is in.");
    for agent in &status.agents {
        for state in STATES {
            let labels = [("agent", agent.id.as_str()), ("state", state.as_str())];
            page.sample("doorman_agent_state", &labels, truth(state == agent.state));
        }
    }
    type Read = fn(&super::wire::AgentStatus) -> Option<f64>;
    let gauges: [(&str, &str, Read); 7] = [
        ("doorman_agent_paused", "Whether nothing is answered until resume.", |agent| Some(truth(agent.paused))),
        ("doorman_agent_without_rules", "Whether the agent has no policy.", |agent| Some(truth(agent.without_rules))),
        ("doorman_agent_state_since_seconds", "When the agent came into its state (Unix time).", |agent| {
            Some(agent.since.as_second() as f64)
        }),
        ("doorman_agent_pending", "Requests known and pending.", |agent| Some(agent.pending as f64)),
        ("doorman_agent_deferred", "Pending requests that wait for a person.", |agent| Some(agent.deferred as f64)),
        ("doorman_agent_in_flight", "Answers on their way.", |agent| Some(agent.in_flight as f64)),
        ("doorman_agent_last_listing_seconds", "End of the last whole listing (Unix time).", |agent| {
            agent.last_listing.map(|at| at.as_second() as f64)
        }),
    ];
    for (name, help, read) in gauges {
        page.family(name, "gauge", help);
        for agent in &status.agents {
            if let Some(value) = read(agent) {
                page.sample(name, &[("agent", agent.id.as_str())], value);
            }
        }
    }

    page.family("doorman_config_refused", "gauge", "Whether the last reload found the configuration wrong.");
    page.sample("doorman_config_refused", &[], truth(status.configuration.problem.is_some()));
    page.family(
        "doorman_policy_in_force",
        "gauge",
        "1 for the policy of a rules file; 0 where its agents are without rules.",
    );
    for policy in &status.policies {
        let hash = policy.hash.as_deref().unwrap_or_default();
        let labels = [("path", policy.path.as_str()), ("policy", hash)];
        page.sample("doorman_policy_in_force", &labels, truth(policy.hash.is_some()));
    }
    page.family("doorman_policy_refused", "gauge", "Whether what is in the rules file now was refused.");
    for policy in &status.policies {
        page.sample("doorman_policy_refused", &[("path", &policy.path)], truth(policy.problem.is_some()));
    }
    page.family("doorman_events_total", "counter", "What happened since the start, by name.");
    for (name, count) in &status.counters {
        page.sample("doorman_events_total", &[("event", name)], *count as f64);
    }
    page.0
}

fn truth(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{AgentStatus, PolicyStatus};
    use super::*;

    #[test]
    fn the_exposition() {
        let status = Status {
            version: "1.2.3".to_owned(),
            agents: vec![AgentStatus {
                id: crate::model::AgentId::parse("a-1").unwrap(),
                handle: None,
                state: AgentState::Live,
                paused: false,
                without_rules: true,
                since: "2026-11-23T00:00:00Z".parse().unwrap(),
                why: String::new(),
                pending: 3,
                deferred: 2,
                in_flight: 1,
                doubts: 0,
                last_listing: None,
                remarks: Vec::new(),
            }],
            policies: vec![PolicyStatus {
                path: "a \"b\"\\\n".to_owned(),
                hash: None,
                mode: None,
                since: None,
                problem: Some("x".to_owned()),
            }],
            configuration: Default::default(),
            ledger: "ok".to_owned(),
            counters: [("decisions".to_owned(), 7)].into(),
        };
        let page = render(&status, 12);
        for line in [
            "doorman_build_info{version=\"1.2.3\"} 1",
            "doorman_ledger_ok 1",
            "doorman_tasks 12",
            "doorman_agent_state{agent=\"a-1\",state=\"live\"} 1",
            "doorman_agent_state{agent=\"a-1\",state=\"away\"} 0",
            "doorman_agent_without_rules{agent=\"a-1\"} 1",
            "doorman_agent_state_since_seconds{agent=\"a-1\"} 1795392000",
            "doorman_agent_pending{agent=\"a-1\"} 3",
            "doorman_config_refused 0",
            "doorman_policy_in_force{path=\"a \\\"b\\\"\\\\\\n\",policy=\"\"} 0",
            "doorman_policy_refused{path=\"a \\\"b\\\"\\\\\\n\"} 1",
            "doorman_events_total{event=\"decisions\"} 7",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n\n{page}");
        }
        assert!(!page.contains("last_listing_seconds{"), "what is not known is not given");
    }
}
