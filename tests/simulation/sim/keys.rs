//! The key file: whose key it contains, and what the daemon does with the key of another agent.

use std::time::Duration;

use doorman::agent::core::{Action, Input};
use doorman::model::{AgentId, Sender};
use doorman::platform::{Me, Reply};

use super::events::{Call, CoreInput, SimEvent};
use super::schedule::WorldEvent;
use super::world::{AGENT, SimWorld};

/// Whose key is in the file while it is not ours.
const NEIGHBOUR: &str = "22222222-0000-4000-8000-000000000002";

impl SimWorld {
    /// Somebody writes another key into the file; the daemon is told at once, or finds out when it reads the file next.
    pub fn key_changes(&mut self, foreign: bool, told: bool) {
        if foreign {
            self.saw("another agent's key");
        }
        self.key_foreign = foreign;
        if self.life.down || self.life.stopping {
            return;
        }
        if told {
            let changed = self.life.key_foreign != foreign;
            self.life.key_foreign = foreign;
            // Replies to questions about the old key no longer matter.
            self.life.questions += u64::from(changed);
            self.life.contacts_call.take_if(|_| changed);
            self.input(Input::KeyRenewed { changed });
        }
    }

    /// In the calm the right key is back, and the daemon is told, as soon as it runs.
    pub fn key_is_right(&mut self) {
        if self.life.down || self.life.stopping {
            self.key_foreign = false;
            return self.happens_in(Duration::from_secs(1), WorldEvent::KeyOurs { told: true });
        }
        self.key_changes(false, true);
    }

    /// Asks the platform who owns the key that is in the file now.
    pub fn asks_me(&mut self) {
        self.life.questions += 1;
        self.after(SimEvent::Server(Call::Me { question: self.life.questions, foreign: self.key_foreign }));
    }

    pub fn says_me(&mut self, question: u64, foreign: bool, life: u64) {
        let id = AgentId::parse(if foreign { NEIGHBOUR } else { AGENT }).unwrap();
        let me = Me { id, sender: Sender::parse(Some("john/agent")), name: None, owner: None };
        let result = self.passing().map_or(Ok(me), Err);
        let reply = Reply { result, date: Some(self.true_wall()) };
        self.back(life, CoreInput::Me { question, foreign, reply });
    }

    pub fn hears_me(&mut self, question: u64, foreign: bool, reply: Reply<Me>) {
        if question == self.life.questions {
            let changed = self.life.key_foreign != foreign;
            self.life.key_foreign = foreign;
            self.life.contacts_call.take_if(|_| changed);
            self.input(Input::Me { reply, changed });
        }
    }

    /// With another agent's key the daemon must neither read nor send anything.
    pub fn check_key(&self, action: &Action) {
        let used = matches!(
            action,
            Action::Page(_) | Action::Contacts { .. } | Action::Respond { .. } | Action::Remove { .. }
        );
        if used && self.life.key_foreign {
            self.fail(&format!("another agent's door is opened: {action:?}"));
        }
    }
}
