//! Contacts with an end: whose is removed, when, and by which call; and whose is not.

mod people;

use super::*;
use crate::ledger::entry::SavedGuest;
use crate::model::{Contact, ContactId, ContactKind, GuestDoubt, GuestStay, RemovalOutcome};
use crate::platform::Responded;
use crate::policy::testkit::{approve, by_handle, hours, policy};
use jiff::SignedDuration;

const TWO_HOURS: Duration = Duration::from_secs(7_200);

fn contact(id: &str, made: Duration) -> Contact {
    let id = ContactId::parse(id).unwrap();
    let (sender, inserted_at) = (Sender::parse(Some("carol")), Some(now(made).wall));
    Contact { id, sender, name: None, kind: ContactKind::User, inserted_at, ids: None }
}

fn error<T>(fault: CallFault) -> Reply<T> {
    Reply { result: Err(CallError { fault, code: None, message: None, retry_after: None }), date: None }
}

impl CoreHarness {
    /// The next reading of the contacts comes, and shows these.
    fn contacts_are(&mut self, shown: &[Contact]) {
        self.at = self.at.max(self.core.contacts.due().unwrap().since_origin());
        self.input(Input::Tick);
        self.contacts_shown(shown);
    }

    fn contacts_shown(&mut self, shown: &[Contact]) {
        let asked =
            self.actions.iter().position(|action| matches!(action, Action::Contacts { .. })).expect("a reading");
        let Action::Contacts { call, .. } = self.actions.remove(asked) else { unreachable!() };
        let (items, total) = (shown.to_vec(), Some(shown.len() as u64));
        let result = Ok(Page { items, unreadable: vec![], nameless: vec![], total, pages: Some(1) });
        self.input(Input::Contacts { call, reply: Reply { result, date: None } });
    }

    /// Carol asks and a person approves for two hours; the platform gives this reply.
    fn carol_is_approved(&mut self, reply: Reply<Responded>) {
        self.contacts_are(&[]);
        self.lists_after(MINUTES, &[ContactRequest { sender: Sender::parse(Some("carol")), ..request("r1") }]);
        let lasts = Some(SignedDuration::from_hours(2));
        let request = RequestId::parse("r1").unwrap();
        let op = PersonCommand::Answer { verdict: Verdict::Approve, request: request.clone(), lasts };
        self.input(Input::Op { token: 1, op, person: "ann".into() });
        assert_eq!(self.answers_sent(), 1);
        self.input(Input::Responded { request, attempt: 1, reply, written: now(self.at).mono });
    }

    /// The platform replies to the answer to carol's request.
    fn answered(&mut self, reply: Reply<Responded>) {
        let (request, written) = (RequestId::parse("r1").unwrap(), now(self.at).mono);
        self.input(Input::Responded { request, attempt: 1, reply, written });
    }

    /// A guest whose contact is there.
    fn guest() -> Self {
        let mut harness = CoreHarness::new(SavedAgent::default());
        harness.carol_is_approved(approved());
        let made = harness.at;
        harness.contacts_are(&[contact("c1", made)]);
        harness
    }

    /// The contacts that were to be removed since the last call of this function.
    fn removals(&mut self) -> Vec<String> {
        let removal = |action: &Action| match action {
            Action::Remove { contact, .. } => Some(contact.to_string()),
            _ => None,
        };
        let asked = self.actions.iter().filter_map(removal).collect();
        self.actions.retain(|action| removal(action).is_none());
        asked
    }

    fn removed(&mut self, id: &str, reply: Reply<()>) {
        self.input(Input::Removed { contact: ContactId::parse(id).unwrap(), reply });
    }

    /// For each removed contact on record, whether it was removed at its end.
    fn gone(&self) -> Vec<bool> {
        let gone = self.recorded.iter().filter_map(|entry| match entry {
            Record::ContactRemoved { expired, .. } => Some(*expired),
            _ => None,
        });
        gone.collect()
    }

    fn outcomes(&self) -> Vec<RemovalOutcome> {
        let outcomes = self.recorded.iter().filter_map(|entry| match entry {
            Record::Removal { outcome, .. } => Some(*outcome),
            _ => None,
        });
        outcomes.collect()
    }

    fn intended(&self) -> usize {
        self.recorded.iter().filter(|entry| matches!(entry, Record::Removing { .. })).count()
    }
}

fn approved() -> Reply<Responded> {
    Reply { result: Ok(Responded { status: Answer::Approve.status() }), date: None }
}

fn done() -> Reply<()> {
    Reply { result: Ok(()), date: None }
}

#[test]
fn a_contact_is_removed_when_its_end_has_come_and_not_before() {
    let mut harness = CoreHarness::guest();
    let made = harness.at;
    harness.wait(TWO_HOURS - 2 * MINUTES);
    assert_eq!(harness.removals(), [""; 0]);
    let due = harness.core.deadline(harness.now()).unwrap().since_origin();
    assert!(due <= made + TWO_HOURS, "it wakes in time");
    harness.wait(3 * MINUTES);
    assert_eq!(harness.removals(), ["c1"]);
    harness.removed("c1", done());
    assert_eq!(
        (harness.gone(), harness.outcomes(), harness.intended()),
        (vec![true], vec![RemovalOutcome::Removed], 1)
    );
    assert!(harness.notices.iter().any(|notice| matches!(notice, Notice::GuestExpired { request: Some(_), .. })));
    harness.wait(TWO_HOURS);
    assert_eq!(harness.removals(), [""; 0], "once");
    assert_eq!(harness.core.guest_counts(), (0, 0));
}

#[test]
fn the_call_goes_out_when_its_intent_is_on_record() {
    let mut harness = CoreHarness::guest();
    harness.stalled = true;
    harness.wait(2 * TWO_HOURS);
    assert_eq!((harness.removals(), harness.intended()), (vec![], 1), "it is with the ledger");
    harness.stalled = false;
    harness.input(Input::Recorded(Ok(())));
    assert_eq!((harness.removals(), harness.intended()), (vec!["c1".to_owned()], 1));
    let mut harness = CoreHarness::guest();
    harness.at += 2 * TWO_HOURS;
    harness.tell_refusing(Input::Tick, true);
    assert_eq!((harness.removals(), harness.gone()), (vec![], vec![]), "the ledger refuses");
    harness.wait(2 * MINUTES);
    assert_eq!(harness.removals(), ["c1"], "and is asked again");
}

#[test]
fn whoever_else_may_have_made_a_contact_keeps_it() {
    // Times of the contact: long before the answer, after it, and missing.
    let (early, late) = (Duration::ZERO, 30 * MINUTES);
    let without = Contact { inserted_at: None, ..contact("c1", early) };
    for (made, doubt) in [
        (contact("c1", early), GuestDoubt::AnotherTime),
        (contact("c1", late), GuestDoubt::AnotherTime),
        (without, GuestDoubt::NoTime),
    ] {
        let mut harness = CoreHarness::new(SavedAgent::default());
        harness.at = 10 * MINUTES;
        harness.carol_is_approved(approved());
        harness.contacts_are(&[made]);
        let reported = harness.notices.iter().find_map(|notice| match notice {
            Notice::GuestInDoubt { doubt, .. } => Some(*doubt),
            _ => None,
        });
        assert_eq!(reported, Some(doubt));
        harness.wait(2 * TWO_HOURS);
        assert_eq!((harness.removals(), harness.core.guest_counts()), (vec![], (1, 1)), "{doubt:?}");
        assert!(
            harness.core.guest_remarks()[0].contains("not removed by itself"),
            "{:?}",
            harness.core.guest_remarks()
        );
    }
    // The approval was not confirmed.
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.carol_is_approved(error(CallFault::NoAnswer));
    harness.listed_after(2 * MINUTES, &[]);
    let made = harness.at - 2 * MINUTES;
    harness.contacts_are(&[contact("c1", made)]);
    harness.wait(2 * TWO_HOURS);
    assert_eq!((harness.removals(), harness.core.guest_counts()), (vec![], (1, 1)), "presumed");
}

#[test]
fn a_contact_that_somebody_else_made_again_is_another() {
    let mut harness = CoreHarness::guest();
    harness.at += TWO_HOURS / 2;
    harness.input(Input::Tick);
    let now = harness.at;
    harness.contacts_shown(&[contact("c2", now)]);
    assert_eq!((harness.gone(), harness.core.guest_counts()), (vec![false], (0, 0)), "somebody removed it");
    harness.wait(2 * TWO_HOURS);
    assert_eq!(harness.removals(), [""; 0]);
    // Another contact has its id by now.
    let mut harness = CoreHarness::guest();
    harness.at += TWO_HOURS / 2;
    harness.input(Input::Tick);
    let now = harness.at;
    harness.contacts_shown(&[contact("c1", now)]);
    harness.wait(2 * TWO_HOURS);
    assert_eq!((harness.removals(), harness.core.guest_counts()), (vec![], (1, 1)));
}

#[test]
fn whoever_shows_no_handle_may_be_the_guest() {
    let unseen =
        |harness: &CoreHarness| harness.recorded.iter().any(|entry| matches!(entry, Record::GuestUnseen { .. }));
    let read = |shown: &dyn Fn(Duration) -> Vec<Contact>| {
        let mut harness = CoreHarness::new(SavedAgent::default());
        harness.at = 10 * MINUTES;
        harness.carol_is_approved(approved());
        let made = harness.at;
        for _ in 0..5 {
            harness.contacts_are(&shown(made));
        }
        (unseen(&harness), harness.core.guest_counts().0)
    };
    let nameless = |made| Contact { sender: Sender::Absent, ..contact("c1", made) };
    assert_eq!(read(&|made| vec![nameless(made)]), (false, 1), "its end is not forgotten");
    assert_eq!(read(&|_| vec![nameless(Duration::ZERO)]), (true, 0), "that one was here before");
    assert_eq!(read(&|_| vec![]), (true, 0));
}

#[test]
fn only_shadow_and_a_clock_that_cannot_be_believed_hold_an_end_back() {
    let mut harness = CoreHarness::guest();
    harness.input(Input::Op { token: 9, op: PersonCommand::Pause, person: "ann".into() });
    harness.wait(2 * TWO_HOURS);
    assert_eq!(harness.removals(), ["c1"], "a pause does not");

    let mut harness = CoreHarness::guest();
    harness.core.config.shadow = true;
    harness.wait(2 * TWO_HOURS);
    assert_eq!(harness.removals(), [""; 0], "shadow does");
    assert!(harness.core.guest_remarks()[0].contains("shadow"));
    harness.core.config.shadow = false;
    harness.wait(MINUTES);
    assert_eq!(harness.removals(), ["c1"]);

    let mut harness = CoreHarness::guest();
    let there = harness.now().wall;
    harness.contacts_are(&[]);
    let mut harness = CoreHarness { recorded: vec![], ..CoreHarness::guest() };
    harness.core.watch_date(Some(there), harness.now());
    harness.ahead = SignedDuration::from_hours(24);
    harness.wait(MINUTES);
    assert_eq!(harness.removals(), [""; 0], "a wrong clock does");
    assert!(harness.core.guest_remarks()[0].contains("clock"), "{:?}", harness.core.guest_remarks());
}

#[test]
fn what_fails_is_tried_again_and_said() {
    for (fault, wait) in [(CallFault::Forbidden, 60 * MINUTES), (CallFault::Unreachable, 2 * MINUTES)] {
        let mut harness = CoreHarness::guest();
        harness.wait(2 * TWO_HOURS);
        assert_eq!(harness.removals(), ["c1"]);
        harness.removed("c1", error(fault));
        assert_eq!(harness.outcomes(), [RemovalOutcome::Refused]);
        let remarks = harness.core.guest_remarks();
        assert!(remarks[0].contains("@carol") && remarks[0].contains("1 tries"), "{remarks:?}");
        let reported = |harness: &CoreHarness| {
            harness.notices.iter().filter(|one| matches!(one, Notice::GuestNotRemoved { .. })).count()
        };
        assert_eq!(reported(&harness), 1);
        harness.wait(wait);
        assert_eq!(harness.removals(), ["c1"], "{fault:?}");
        harness.removed("c1", error(fault));
        assert_eq!(reported(&harness), 1, "the same is not said again");
        harness.wait(wait);
        assert_eq!(harness.removals(), ["c1"]);
        harness.removed("c1", done());
        assert_eq!((harness.gone(), harness.core.guest_remarks()), (vec![true], vec![]));
    }
}

#[test]
fn an_unknown_outcome_is_shown_by_the_next_reading() {
    let unknown = || {
        let mut harness = CoreHarness::guest();
        let made = harness.at;
        harness.wait(2 * TWO_HOURS);
        assert_eq!(harness.removals(), ["c1"]);
        // A reading that began before proves nothing.
        harness.contacts_shown(&[contact("c1", made - Duration::from_secs(2))]);
        harness.removed("c1", error(CallFault::NoAnswer));
        harness.wait(Duration::from_secs(20));
        assert_eq!(harness.removals(), [""; 0], "nothing is sent before somebody has looked");
        (harness, made)
    };
    let (mut harness, made) = unknown();
    harness.contacts_are(&[contact("c1", made - Duration::from_secs(2))]);
    harness.wait(MINUTES);
    assert_eq!(harness.removals(), ["c1"], "it is there still");
    harness.removed("c1", error(CallFault::NotFound));
    assert_eq!(harness.gone(), [true], "the first had been carried out, then");

    let (mut harness, _) = unknown();
    harness.contacts_are(&[]);
    assert_eq!((harness.gone(), harness.core.guest_counts()), (vec![true], (0, 0)), "it was carried out");
    harness.wait(2 * TWO_HOURS);
    assert_eq!(harness.removals(), [""; 0]);
}

#[test]
fn whoever_is_gone_already_was_removed_by_somebody_else() {
    let mut harness = CoreHarness::guest();
    harness.wait(2 * TWO_HOURS);
    harness.removed("c1", error(CallFault::NotFound));
    assert_eq!((harness.gone(), harness.outcomes()), (vec![false], vec![RemovalOutcome::Gone]));
    assert_eq!(harness.core.guest_counts(), (0, 0));
}

#[test]
fn an_end_on_record_is_kept_after_a_restart() {
    let saved = |contact: Option<&str>, doubt, removing| {
        let at = |minutes: i64| now(Duration::ZERO).wall + SignedDuration::from_mins(minutes);
        let stay = GuestStay { ends_at: at(10), made_from: at(-9), made_until: at(-7), doubt };
        let contact = contact.map(|id| ContactId::parse(id).unwrap());
        let (request, sender) = (RequestId::parse("r1").unwrap(), Sender::parse(Some("carol")));
        let open = |id: &ContactId| crate::policy::doubts::OpenContact {
            id: id.clone(),
            handle: sender.handle().cloned(),
            owners: vec!["carol".into()],
            since: at(-8),
            elsewhere: false,
        };
        let contacts = contact.iter().map(open).collect();
        let guests = vec![SavedGuest { request, sender, contact, stay, removing }];
        CoreHarness::new(SavedAgent { guests, contacts, ..SavedAgent::default() })
    };
    let mut harness = saved(Some("c1"), None, false);
    harness.wait(9 * MINUTES);
    assert_eq!(harness.removals(), [""; 0]);
    harness.wait(2 * MINUTES);
    assert_eq!(harness.removals(), ["c1"]);

    let mut harness = saved(Some("c1"), Some(GuestDoubt::Presumed), false);
    harness.wait(11 * MINUTES);
    assert_eq!(harness.removals(), [""; 0]);

    // The daemon before it may have removed it.
    let mut harness = saved(Some("c1"), None, true);
    harness.wait(11 * MINUTES);
    assert_eq!(harness.removals(), [""; 0]);
    harness.contacts_shown(&[]);
    assert_eq!(harness.core.guest_counts(), (0, 0));

    // The guest's contact was not seen yet: this contact was made at another time.
    let mut harness = saved(None, None, false);
    harness.contacts_are(&[contact("c9", 5 * MINUTES)]);
    harness.wait(11 * MINUTES);
    assert_eq!((harness.removals(), harness.core.guest_counts()), (vec![], (1, 1)));
}

#[test]
fn whoever_is_a_contact_already_is_given_no_end() {
    let mut harness = CoreHarness::new(SavedAgent::default());
    harness.contacts_are(&[contact("c0", Duration::ZERO)]);
    harness.lists_after(MINUTES, &[ContactRequest { sender: Sender::parse(Some("carol")), ..request("r1") }]);
    let lasts = Some(SignedDuration::from_hours(2));
    let op = PersonCommand::Answer { verdict: Verdict::Approve, request: RequestId::parse("r1").unwrap(), lasts };
    harness.input(Input::Op { token: 1, op, person: "ann".into() });
    assert_eq!(harness.answers_sent(), 0);
    let refused = harness.actions.iter().any(|action| {
        matches!(action, Action::Reply { outcome: OpOutcome::Failed(failure), .. } if failure.code == "is-contact")
    });
    assert!(refused, "{:?}", harness.actions);
}

/// A rule lets carol in for two hours, and she has asked.
fn carol_may_stay() -> (CoreHarness, ContactRequest) {
    let mut harness = CoreHarness::new(SavedAgent::default());
    let rule = approve("guests", by_handle(&["carol"])).lasts(hours(2));
    harness.input(Input::Policy(Some(std::sync::Arc::new(policy(vec![rule])))));
    harness.contacts_are(&[]);
    let asks = ContactRequest { sender: Sender::parse(Some("carol")), ..request("r1") };
    harness.lists_after(MINUTES, std::slice::from_ref(&asks));
    (harness, asks)
}

#[test]
fn the_end_of_a_guest_stands_if_the_same_answer_is_given_once_more_and_not_confirmed() {
    for shown in [false, true] {
        let (mut harness, asks) = carol_may_stay();
        harness.answered(approved());
        let made = harness.at;
        let contact = contact("c1", made);
        let hidden = Contact { sender: Sender::Absent, ..contact.clone() };
        harness.contacts_are(&[if shown { contact.clone() } else { hidden.clone() }]);
        // The platform lists the request again, and says that it is approved.
        harness.lists_after(MINUTES, &[]);
        for _ in 0..2 {
            harness.lists_after(10 * MINUTES, std::slice::from_ref(&asks));
        }
        assert_eq!(harness.answers_sent(), 2);
        harness.answered(error(CallFault::Conflict));
        assert_eq!(harness.core.guest_counts().0, 1, "{shown}: one guest");
        for _ in 0..5 {
            harness.contacts_are(&[if shown { contact.clone() } else { hidden.clone() }]);
        }
        assert_eq!(harness.core.guest_counts(), (1, 1), "{shown}: nobody forgot the end, which has come");
        let removed = if shown { vec!["c1".to_owned()] } else { vec![] };
        assert_eq!(harness.removals(), removed, "{shown}: whose handle is not shown is reported");
    }
}

#[test]
fn an_end_is_not_forgotten_if_the_answer_before_made_the_contact_and_the_next_one_is_confirmed() {
    let (mut harness, asks) = carol_may_stay();
    let made = harness.at;
    harness.answered(error(CallFault::NoAnswer));
    let contact = contact("c1", made);
    let hidden = Contact { sender: Sender::Absent, ..contact.clone() };
    harness.listed_after(2 * MINUTES, &[]);
    harness.contacts_are(std::slice::from_ref(&hidden));
    // The platform lists the request again, and confirms the same answer.
    for _ in 0..2 {
        harness.lists_after(10 * MINUTES, std::slice::from_ref(&asks));
    }
    assert_eq!(harness.answers_sent(), 2);
    harness.answered(approved());
    for _ in 0..5 {
        harness.contacts_are(std::slice::from_ref(&hidden));
    }
    assert_eq!(harness.core.guest_counts().0, 1, "the contact without a handle may be carol's");
    // Somebody else may have made it between the two answers: it is reported, not removed.
    harness.contacts_are(&[contact]);
    harness.wait(2 * TWO_HOURS);
    assert_eq!((harness.removals(), harness.core.guest_counts()), (vec![], (1, 1)));
}
