//! The rules that are pushed, version by version: every second one says the opposite to some.

use std::sync::Arc;
use std::time::Duration;

use doorman::model::Answer;
use doorman::policy::Policy;
use doorman::policy::rules::Head;

use super::database::RULES;

/// Versions that an evening may have.
pub const VERSIONS: u64 = 12;
/// Most approvals of acme for one agent in this time. A takeover is shorter.
pub const ACME_MAX: usize = 3;
pub const ACME_PER: Duration = Duration::from_secs(240);

/// The kinds of strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Friend,
    Foe,
    /// Approved by every second version, rejected by the others.
    Flip,
    /// Approved up to a limit.
    Acme,
    /// Nobody's rule.
    Stranger,
}

pub const KINDS: [Kind; 7] = [Kind::Friend, Kind::Foe, Kind::Flip, Kind::Flip, Kind::Flip, Kind::Acme, Kind::Stranger];

impl Kind {
    pub fn handle(self, number: usize) -> String {
        let owner = match self {
            Kind::Friend => "friend",
            Kind::Foe => "foe",
            Kind::Flip => "flip",
            Kind::Acme => "acme",
            Kind::Stranger => "stranger",
        };
        format!("{owner}/n{number}")
    }

    /// What a version says at once, or in the end; `None`: it waits for a person.
    pub fn answer(self, version: u64) -> Option<Answer> {
        match self {
            Kind::Friend | Kind::Acme => Some(Answer::Approve),
            Kind::Foe => Some(Answer::Reject),
            Kind::Flip if version % 2 == 1 => Some(Answer::Approve),
            Kind::Flip => Some(Answer::Reject),
            Kind::Stranger => None,
        }
    }
}

/// All versions, by number; the first is number 1.
pub fn policies() -> Vec<Arc<Policy>> {
    let directory = tempfile::tempdir().unwrap();
    let load = |version: u64| {
        let flip = Kind::Flip.answer(version).unwrap().as_str();
        let text = format!(
            "version = 1\n[rules.friend]\nthen = \"approve\"\nwhen = {{ handle = [\"friend/*\"] }}\n\
             [rules.foe]\nthen = \"reject\"\nwhen = {{ handle = [\"foe/*\"] }}\n\
             [rules.flip]\nthen = \"{flip}\"\nwhen = {{ handle = [\"flip/*\"] }}\n\
             [rules.acme]\nthen = \"approve\"\nwhen = {{ handle = [\"acme/*\"] }}\n\
             limit = {{ count = {ACME_MAX}, per = \"{}s\", by = \"rule\" }}\n",
            ACME_PER.as_secs()
        );
        let path = directory.path().join(format!("{version}.toml"));
        std::fs::write(&path, text).unwrap();
        let loaded = doorman::policy::load(&path, None, &doorman::policy::Shrunk::Refuse);
        let mut policy = loaded.policy.unwrap_or_else(|| panic!("{}", loaded.report.render(false)));
        Arc::get_mut(&mut policy).unwrap().head = Some(Arc::new(Head { name: RULES.into(), version }));
        policy
    };
    (1..=VERSIONS).map(load).collect()
}
