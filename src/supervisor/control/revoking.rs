//! Removes contacts for a person: of this doorman's agents, and of those that another doorman holds.

use std::collections::HashSet;

use tracing::warn;

use super::super::SupervisorShared;
use super::forwarding::unreadable;
use crate::agent::shell::AgentCommand;
use crate::agent::{OpOutcome, PersonCommand};
use crate::ledger::{LedgerAddress, LedgerError, LedgerReader};
use crate::model::{AgentId, ContactId, Person, StrangerText};
use crate::ops::control::wire::{ChosenContact, ControlOp, OpError, OpReply, Revoked};
use crate::ops::log::events;

/// Contacts in one command to another doorman.
const CONTACTS_AT_ONCE: usize = 10;

/// The contacts that an earlier holder may have removed, according to the record.
type Earlier = HashSet<(AgentId, ContactId)>;

impl SupervisorShared {
    /// Removes the contacts one after the other. A contact that is gone already counts as a failure, with the
    /// platform's message.
    pub(super) async fn revoke(&self, contacts: Vec<ChosenContact>, person: &Person) -> Result<OpReply, OpError> {
        self.revoke_rest(contacts, &Earlier::new(), person).await
    }

    /// The same if an earlier holder took the command and may have carried it out. The platform is asked again in any case, since the
    /// record may mean an earlier removal of a contact that was made again; if such a contact is gone by now, it was removed.
    ///
    /// # Errors
    /// The record cannot be read: nothing was done now.
    pub(super) async fn revoke_again(
        &self,
        contacts: Vec<ChosenContact>,
        person: &Person,
    ) -> Result<Result<OpReply, OpError>, String> {
        let (at, by) = (LedgerAddress::from(&self.settings.ledger), person.clone());
        let of: Vec<_> = contacts.iter().map(|chosen| (chosen.agent.clone(), chosen.contact.clone())).collect();
        let read = move || -> Result<Earlier, LedgerError> {
            let reader = LedgerReader::open(&at)?;
            let mut earlier = Earlier::new();
            for (agent, contact) in of {
                if reader.may_have_removed(&agent, &contact, &by)? {
                    earlier.insert((agent, contact));
                }
            }
            Ok(earlier)
        };
        let earlier = tokio::task::spawn_blocking(read).await.map_err(|panicked| panicked.to_string())?;
        let earlier = earlier.map_err(|problem| problem.to_string())?;
        Ok(self.revoke_rest(contacts, &earlier, person).await)
    }

    async fn revoke_rest(
        &self,
        contacts: Vec<ChosenContact>,
        earlier: &Earlier,
        person: &Person,
    ) -> Result<OpReply, OpError> {
        let mut revoked = Revoked::default();
        let elsewhere =
            |chosen: &ChosenContact| self.members.of(&chosen.agent).is_some_and(|member| self.is_elsewhere(&member));
        let (there, here): (Vec<_>, Vec<_>) = contacts.into_iter().partition(elsewhere);
        self.revoke_there(there, person, &mut revoked).await;
        for ChosenContact { agent, contact, handle } in here {
            let shown = handle.map_or_else(|| contact.to_string(), |handle| StrangerText::new(&handle).to_string());
            let tried = earlier.contains(&(agent.clone(), contact.clone()));
            let Some(member) = self.members.of(&agent) else {
                revoked.failed.push(format!("{shown}: no agent `{agent}` is configured"));
                continue;
            };
            let asked = match member.handle.load_full() {
                Some(task) => {
                    let (op, person) = (PersonCommand::Remove { contact: contact.clone(), tried }, person.clone());
                    task.ask(|reply| AgentCommand::Op { op, person, reply }).await
                }
                None => None,
            };
            match asked {
                Some(OpOutcome::Failed(failure)) => revoked.failed.push(format!("{shown}: {}", failure.message)),
                Some(OpOutcome::Done | OpOutcome::Answered(_) | OpOutcome::Settled(_)) => {
                    warn!(event = events::REVOKED, agent = %agent, contact = contact.as_str(), handle = shown, by = format!("person:{person}"), "a contact was removed by hand");
                    revoked.removed.push(shown);
                }
                None => revoked.failed.push(format!("{shown}: the agent's task is being restarted, ask again")),
            }
        }
        Ok(OpReply::Revoked(revoked))
    }

    /// Removes contacts of agents that are elsewhere.
    async fn revoke_there(&self, contacts: Vec<ChosenContact>, person: &Person, revoked: &mut Revoked) {
        let mut by_agent: Vec<(AgentId, Vec<ChosenContact>)> = Vec::new();
        for contact in contacts {
            match by_agent.iter_mut().find(|(agent, some)| *agent == contact.agent && some.len() < CONTACTS_AT_ONCE) {
                Some((_, some)) => some.push(contact),
                None => by_agent.push((contact.agent.clone(), vec![contact])),
            }
        }
        for (agent, contacts) in by_agent {
            let shown = |one: &ChosenContact| {
                one.handle.as_ref().map_or_else(|| one.contact.to_string(), |text| StrangerText::new(text).to_string())
            };
            let names: Vec<String> = contacts.iter().map(shown).collect();
            match self.ask_holder(&agent, ControlOp::Revoke { contacts }, person).await {
                Ok(OpReply::Revoked(more)) => {
                    revoked.removed.extend(more.removed);
                    revoked.failed.extend(more.failed);
                }
                Ok(_) => revoked.failed.extend(names.iter().map(|name| format!("{name}: {}", unreadable().message))),
                Err(problem) => {
                    revoked.failed.extend(names.iter().map(|name| format!("{name}: {}", problem.message)));
                }
            }
        }
    }
}
