//! `agents`: which agent received the request, for rules that several agents share. Unknown if it is not known which
//! agent that is.

use std::sync::Arc;

use super::{Compile, Condition, ConditionKind, ContactBasis, Needs, row};
use crate::document::keys::{DocumentKey, KeyType, key};
use crate::document::shown;
use crate::policy::Truth;
use crate::policy::compile::Compiling;
use crate::policy::evaluate::Evaluation;
use crate::policy::evaluate::inputs::Inputs;
use crate::policy::explain::values;
use crate::policy::raw::RawCondition;
use crate::policy::rules::RuleName;

/// `agents = […]`.
#[derive(Debug)]
pub(crate) struct ReceivingAgents(pub Vec<Arc<str>>);

/// The agent that received the request, with the names that rules may use for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReceivingAgent {
    /// Its id, and its `name` in `doorman.toml`.
    pub called: Vec<Arc<str>>,
    /// Whether `called` is complete: any other name then means another agent.
    pub complete: bool,
}

impl ReceivingAgent {
    /// By its id and its name, as the configuration has them.
    pub fn new(id: &str, name: Option<&str>) -> Self {
        Self { called: std::iter::once(id).chain(name).map(Into::into).collect(), complete: true }
    }

    /// From its id; its name is not known.
    pub fn unnamed(id: &str) -> Self {
        Self { called: vec![id.into()], complete: false }
    }
}

impl Compile for ReceivingAgents {
    const KEY: DocumentKey = key(
        "agents",
        KeyType::Texts,
        "",
        "The agent that receives the request is one of these: a `name` in `doorman.toml` or on the roster, or an id. It does not say who is let in.",
    );

    fn compile(written: &RawCondition, compiling: &mut Compiling<'_>) -> Option<Self> {
        let texts = written.texts()?;
        let mut agents: Vec<Arc<str>> = Vec::with_capacity(texts.len());
        for text in texts {
            if RuleName::parse(&text.value).is_some() {
                agents.push(text.value.as_str().into());
            } else {
                compiling
                    .problems
                    .error(&text.span, format!("`{}` is not an agent's name", shown(&text.value)))
                    .label("expected a-z, 0-9 and `-`, at most 64 of them")
                    .help("`name` in `[[agents]]` of doorman.toml gives an agent its name");
            }
        }
        compiling.twice(texts);
        (agents.len() == texts.len()).then_some(Self(agents))
    }
}

impl ConditionKind for ReceivingAgents {
    fn key(&self) -> &'static DocumentKey {
        row(Self::KEY.name)
    }

    fn of_contact(&self) -> ContactBasis {
        ContactBasis::ByHandle
    }

    fn evaluate(&self, inputs: &Inputs<'_>) -> Evaluation {
        let Some(receiving) = inputs.policy_state.receiving_agent() else { return Evaluation::UNKNOWN };
        let named = self.0.iter().any(|one| receiving.called.contains(one));
        Evaluation::of(match (named, receiving.complete) {
            (true, _) => Truth::True,
            (false, true) => Truth::False,
            (false, false) => Truth::Unknown,
        })
    }

    fn wanted(&self) -> String {
        values::some(self.0.iter().map(ToString::to_string))
    }

    fn saw(&self, inputs: &Inputs<'_>) -> String {
        match inputs.policy_state.receiving_agent() {
            None => "not known which agent receives the request".to_owned(),
            Some(receiving) => {
                let called = values::some(receiving.called.iter().rev().map(ToString::to_string));
                if receiving.complete { called } else { format!("{called}, whose name is not known") }
            }
        }
    }

    fn canonical(&self) -> String {
        let mut agents: Vec<&str> = self.0.iter().map(|one| &**one).collect();
        agents.sort_unstable();
        format!("agents {}", agents.join(" "))
    }

    fn needs<'a>(&'a self, needs: &mut Needs<'a>) {
        needs.agents.extend(self.0.iter().map(|one| &**one));
    }

    fn follows_from(&self, narrow: &Condition, _budget: &mut u32) -> bool {
        narrow.downcast::<ReceivingAgents>().is_some_and(|one| one.0.iter().all(|agent| self.0.contains(agent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict;
    use crate::policy::PolicyState;
    use crate::policy::testkit::*;

    const RULES: &str = "version = 1\n[rules.staff]\nthen = \"approve\"\nwhen = { owner = \"ann\", agents = [\"porter\", \"desk\"] }\n\
                         [rules.closed]\nthen = \"reject\"\nwhen = { owner = \"bob\", agents = \"desk\" }\n";

    fn decided(from: &str, receiving: Option<ReceivingAgent>) -> (Verdict, String) {
        let loaded = crate::policy::load_texts(
            std::path::Path::new("rules.toml"),
            &[crate::policy::rules::SourceText { name: "rules.toml".into(), text: RULES.into() }],
        );
        let mut state = PolicyState::default();
        if let Some(receiving) = receiving {
            state.set_receiving_agent(receiving);
        }
        let decision = loaded.policy.unwrap().decide(&request("r", from), &sound(), &state, noon());
        (decision.verdict, decision.by.to_string())
    }

    #[test]
    fn a_rule_is_for_the_agents_that_it_names() {
        let of = |verdict, by: &str| (verdict, by.to_owned());
        for receiving in [
            ReceivingAgent::new("a-1", Some("porter")),
            ReceivingAgent::new("desk", None),
            ReceivingAgent::new("a-1", Some("desk")),
        ] {
            assert_eq!(decided("ann", Some(receiving)), of(Verdict::Approve, "staff"));
        }
        assert_eq!(decided("ann", Some(ReceivingAgent::new("a-1", Some("scout")))), of(Verdict::Defer, "no_match"));
        assert_eq!(decided("bob", Some(ReceivingAgent::new("a-1", Some("porter")))), of(Verdict::Defer, "no_match"));
        assert_eq!(decided("bob", Some(ReceivingAgent::new("a-1", Some("desk")))), of(Verdict::Reject, "closed"));
    }

    #[test]
    fn where_nobody_said_which_agent_it_is_nothing_is_decided() {
        for receiving in [None, Some(ReceivingAgent::unnamed("a-1"))] {
            assert_eq!(decided("ann", receiving.clone()), (Verdict::Defer, "staff".to_owned()));
            assert_eq!(decided("bob", receiving), (Verdict::Defer, "closed".to_owned()));
        }
        assert_eq!(decided("bob", Some(ReceivingAgent::unnamed("desk"))), (Verdict::Reject, "closed".to_owned()));
    }

    #[test]
    fn an_agent_does_not_say_who_is_let_in() {
        let text = RULES.replace("owner = \"ann\", ", "");
        let texts = [crate::policy::rules::SourceText { name: "rules.toml".into(), text: text.into() }];
        let said = crate::policy::load_texts(std::path::Path::new("rules.toml"), &texts).report.render(false);
        assert!(said.contains("does not say who"), "{said}");
    }
}
