//! What happened beside the rules: contacts that no answer of doorman explains, and requests that somebody else approved
//! though the rules in force did not.

use super::Core;
use crate::agent::core::counters::Counter;
use crate::agent::core::notice::Notice;
use crate::clock::Now;
use crate::inbox::Entry;
use crate::ledger::Record;
use crate::model::{Contact, RequestStatus, Verdict};

/// Who else may have done it, and what to do about that.
const ITS_OWN_CLIENT: &str =
    "if nobody did that by hand, set the contact strategy of the agent's own client to `DISABLED`";

impl Core {
    /// A contact is new, and no answer of ours made it.
    pub(super) fn unexplained(&mut self, contact: &Contact) {
        self.count(Counter::ContactsUnexplained);
        // Whoever reads the warning finds the contact on record.
        self.outbox.catch_up();
        self.tell(Notice::ContactUnexplained { contact: contact.clone() });
    }

    /// All contacts of an agent that is new to the record were read: reports their number once, and no contact on its
    /// own.
    pub(super) fn baseline(&mut self, contacts: usize, now: Now) {
        if std::mem::take(&mut self.new_to_record) {
            self.record(Record::ContactsRead { agent: self.config.agent.clone(), at: now.wall });
            self.tell(Notice::ContactsBaseline { contacts });
        }
    }

    /// A request ended without an answer of ours: reports it if that contradicts the rules in force. In shadow no rules
    /// are in force.
    pub(super) fn against_policy(&mut self, entry: &Entry, status: Option<&RequestStatus>) {
        let Some(decision) = entry.decision().filter(|decision| decision.verdict != Verdict::Approve) else {
            return;
        };
        if status != Some(&RequestStatus::Approved) || self.in_shadow() {
            return;
        }
        let (verdict, by) = (decision.verdict, decision.by.clone());
        self.count(Counter::SettledAgainstPolicy);
        self.tell(Notice::SettledAgainstPolicy { request: entry.request().clone(), verdict, by });
    }

    /// What `status` says of both since the start.
    pub(super) fn beside_the_rules(&self) -> impl Iterator<Item = String> {
        let counted = |counter| Some(self.counters.of(counter)).filter(|count| *count > 0);
        let contacts = counted(Counter::ContactsUnexplained).map(|count| {
            format!(
                "{count} new contact(s) since the start that no answer of doorman explains: `doorman contacts --not-by-doorman`; {ITS_OWN_CLIENT}"
            )
        });
        let settled = counted(Counter::SettledAgainstPolicy).map(|count| {
            format!("{count} request(s) since the start approved by somebody else, against the rules in force; {ITS_OWN_CLIENT}")
        });
        contacts.into_iter().chain(settled)
    }
}
