//! Random policies, requests and books, as values that can be cloned, changed and shrunk before they become real.

use std::sync::Arc;

use jiff::civil::Weekday;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::model::{ContactRequest, Outcome, Sender, StrangerText, Verdict};
use crate::policy::conditions::*;
use crate::policy::lookalike::Protect;
use crate::policy::rules::{Folded, LimitBy, Overdue, OverdueThen, Quota, RegexPattern, Rule, Table, When};
use crate::policy::state::{EndedAnswer, HistoryKind, OwnerHistoryRow, SavedState};
use crate::policy::testkit::*;
use crate::policy::{Ask, By, Circumstances, ClockHealth, DeciderVerdict, Mode, Policy, PolicyState, ReceivingAgent};

const HANDLES: [&str; 9] =
    ["john", "johm", "acme", "ann", "john/bot", "acme/a-bot", "acme/support", "ann/support", "j0hn/bot"];
const PATTERNS: [&str; 8] = ["john", "johm", "john/*", "acme/*-bot", "*/support", "a*/*", "ann", "acme/support"];
const OWNERS: [&str; 5] = ["john", "johm", "acme", "ann", "nobody"];
const NAMES: [&str; 5] = ["John", "Ann", "ＪＯＨＮ", "Mary Ann", "A\u{200B}nn"];
const MESSAGES: [&str; 6] = ["hello", "buy SEO now", "Invite 42", "seo", "s\u{200B}eо", "ѕeо 4"];

#[derive(Debug, Clone)]
pub(super) enum Spec {
    Handle(Vec<usize>),
    Owner(Vec<usize>),
    Slug(usize),
    Kind(bool),
    HandleRegex(usize),
    List(Vec<usize>),
    Name(usize),
    NameContains(usize),
    NameRegex(usize),
    Contains(usize),
    ContainsFile(usize),
    MessageRegex(usize),
    Absent(bool),
    Longer(usize),
    Window(usize),
    Age(i64),
    Contacts,
    IsContact(bool),
    Agents(usize),
    Approved(bool),
    Rejected(i64),
    Removed(i64),
    Requests(u32, i64),
    /// Which kind, the count, the window, by handle.
    Over(u8, u32, i64, bool),
}

fn disclosing(pattern: RegexPattern) -> RegexPattern {
    RegexPattern { disclosing: true, ..pattern }
}

impl Spec {
    fn real(&self) -> Condition {
        let of = |from: &[&'static str], which: &[usize]| which.iter().map(|at| from[*at]).collect::<Vec<_>>();
        let regex = |at: usize, whole| {
            vec![disclosing(pattern(["jo.*", "[a-z]+/bot", "(?i)ann|seo", "4", "еo|SEO"][at], whole))]
        };
        let history = |change: &dyn Fn(&mut HistoryCondition)| {
            let mut history = HistoryCondition::default();
            change(&mut history);
            Condition::from(history)
        };
        match self {
            Spec::Handle(which) => by_handle(&of(&PATTERNS, which)),
            Spec::Owner(which) => by_owner(&of(&OWNERS, which)),
            Spec::Slug(at) => SlugIs(vec![["bot", "support"][*at].into()]).into(),
            Spec::Kind(agent) => KindCondition(if *agent { SenderKind::Agent } else { SenderKind::User }).into(),
            Spec::HandleRegex(at) => HandleRegex(regex(*at, true)).into(),
            Spec::List(which) => by_list("l", &of(&PATTERNS, which)),
            Spec::Name(at) => NameIs(vec![Folded::new(NAMES[*at], true)]).into(),
            Spec::NameContains(at) => NameContains(vec![Folded::new(["ann", "jo", "x"][*at], true)]).into(),
            Spec::NameRegex(at) => NameRegex(regex(*at, false)).into(),
            Spec::Contains(at) => {
                MessageContains(vec![Folded::new(["SEO", "hell", "42", "zzz", "sео"][*at], true)]).into()
            }
            Spec::ContainsFile(at) => {
                let texts = [&["zzz", "SEO"][..], &["invite"], &["hell", "сео"]][*at];
                let texts = texts.iter().map(|text| Folded::new(text, true)).collect();
                MessageContainsFile { file: ["a.txt", "b.txt", "c.txt"][*at].into(), texts }.into()
            }
            Spec::MessageRegex(at) => MessageRegex(regex(*at, false)).into(),
            Spec::Absent(absent) => MessageAbsent(*absent).into(),
            Spec::Longer(count) => MessageLongerThan(*count).into(),
            Spec::Window(0) => window(&WORKDAYS, "08:00", "18:00"),
            Spec::Window(1) => window(&[Weekday::Monday], "22:00", "06:00"),
            Spec::Window(2) => window_on(&WORKDAYS, "08:00", "18:00", &["2026-01-05"], &[]),
            Spec::Window(3) => window_on(&WORKDAYS, "22:00", "06:00", &[], &["2026-01-05", "2026-01-07"]),
            Spec::Window(_) => window(&[Weekday::Sunday, Weekday::Monday], "00:00", "13:30"),
            Spec::Age(age) => AgeOver(hours(*age)).into(),
            Spec::Contacts => unknown(),
            Spec::IsContact(owner) => if *owner { IsContact::OfOwner } else { IsContact::Sender }.into(),
            Spec::Agents(at) => ReceivingAgents(vec![["porter", "desk"][*at].into()]).into(),
            Spec::Approved(before) => history(&|history| history.approved_before = Some(*before)),
            Spec::Rejected(within) => history(&|history| history.rejected_within = Some(hours(*within))),
            Spec::Removed(within) => history(&|history| history.removed_within = Some(hours(*within))),
            Spec::Over(kind, count, per, by_handle) => history(&|history| {
                let quota = Quota { count: *count, per: hours(*per) };
                let over = Some(OverQuota { quota, by_handle: *by_handle });
                match kind {
                    0 => history.approved_over = over,
                    1 => history.rejected_over = over,
                    _ => history.removed_over = over,
                }
            }),
            Spec::Requests(count, per) => {
                history(&|history| history.requests_over = Some(Quota { count: *count, per: hours(*per) }))
            }
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct RuleSpec {
    pub(super) name: &'static str,
    pub(super) then: Verdict,
    /// Empty: everyone.
    pub(super) when: Vec<Spec>,
    pub(super) unless: Vec<Vec<Spec>>,
    pub(super) limit: Option<(u32, i64, u8)>,
    pub(super) wait: Option<i64>,
    pub(super) lasts: Option<i64>,
    pub(super) until: Option<i64>,
    pub(super) shadow: bool,
    /// May reject, may approve: a defer rule that asks.
    pub(super) ask: Option<(bool, bool)>,
}

fn table(specs: &[Spec]) -> Table {
    Table { conditions: specs.iter().map(Spec::real).collect() }
}

impl RuleSpec {
    fn real(&self) -> Rule {
        let when = if self.when.is_empty() { When::Everyone } else { When::Table(table(&self.when)) };
        let mut rule = rule(self.name, self.then, when);
        rule.unless = self.unless.iter().map(|unless| table(unless)).collect();
        rule.until = self.until.map(|later| noon() + hours(later));
        rule.shadow = self.shadow;
        if let (Verdict::Defer, Some((reject, approve))) = (self.then, self.ask) {
            rule.ask = Some(Ask { decider: name("screen"), reject, approve, of: "".into() });
            if approve {
                rule = rule.limit(1, hours(3), LimitBy::Owner);
                rule.lasts = self.lasts.map(hours);
            }
        }
        if self.then == Verdict::Approve {
            rule.wait = self.wait.map(hours);
            rule.lasts = self.lasts.map(hours);
            if let Some((count, per, by)) = self.limit {
                let of = [LimitBy::Owner, LimitBy::Handle, LimitBy::Rule][usize::from(by % 3)];
                rule = rule.limit(count, hours(per), of);
                if let (Some(limit), true) = (&mut rule.limit, by >= 3) {
                    limit.then = Verdict::Reject;
                }
            }
        }
        rule
    }
}

#[derive(Debug, Clone)]
pub(super) struct PolicySpec {
    pub(super) rules: Vec<RuleSpec>,
    pub(super) no_match: Verdict,
    pub(super) protect: bool,
    pub(super) approvals_max: Option<u32>,
    pub(super) overdue: Vec<(i64, bool, Vec<Vec<Spec>>)>,
    pub(super) shadow: bool,
}

impl PolicySpec {
    /// In the order of the specification; everything else as the loader does it.
    pub(super) fn unsorted(&self) -> Policy {
        let mut policy = policy(Vec::new());
        policy.rules = self.rules.iter().map(RuleSpec::real).collect();
        policy.no_match = self.no_match;
        policy.mode = if self.shadow { Mode::Shadow } else { Mode::Enforce };
        policy.protect = if self.protect { Protect::from(&["john"][..]) } else { Protect::default() };
        policy.approvals_max = self.approvals_max.map(|count| Quota { count, per: hours(3) });
        policy.overdue = self.overdue.iter().zip(["o0", "o1", "o2"]).map(|(one, name)| overdue_of(name, one)).collect();
        policy.index = crate::policy::index::Index::build(&policy.rules, &policy.protect);
        policy
    }

    pub(super) fn real(&self) -> Policy {
        self.unsorted().indexed()
    }

    /// Every condition of every rule and `overdue`.
    pub(super) fn conditions(&mut self) -> Vec<&mut Spec> {
        let rules = self.rules.iter_mut().flat_map(|rule| rule.when.iter_mut().chain(rule.unless.iter_mut().flatten()));
        rules.chain(self.overdue.iter_mut().flat_map(|(_, _, unless)| unless.iter_mut().flatten())).collect()
    }
}

fn overdue_of(named: &str, (after, reject, unless): &(i64, bool, Vec<Vec<Spec>>)) -> Overdue {
    let then = if *reject { OverdueThen::Reject } else { OverdueThen::Notify };
    let mut overdue = overdue(named, hours(*after), then);
    overdue.unless = unless.iter().map(|unless| table(unless)).collect();
    overdue.max_per_hour = 2;
    overdue
}

#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) request: ContactRequest,
    pub(super) circumstances: Circumstances,
    pub(super) now: Timestamp,
    /// Earlier charges, approvals (also of guests), rejections and requests: which handle, which kind, how many minutes ago.
    past: Vec<(usize, u8, i64)>,
    complete: bool,
    paused: bool,
    held: bool,
    /// The agent that received the request, if known.
    receiving: Option<ReceivingAgent>,
    /// What the decider said.
    pub(super) reply: Option<Verdict>,
}

impl Scene {
    /// A policy state in which the past happened under this policy.
    pub(super) fn policy_state(&self, policy: &Policy) -> PolicyState {
        let memory = SavedState {
            history_complete: self.complete,
            history: self.past.iter().filter(|past| past.1 == 4).map(|past| self.removal(past)).collect(),
            ..SavedState::default()
        };
        let mut policy_state = PolicyState::restore(memory);
        for (count, (from, what, ago)) in self.past.iter().enumerate() {
            let from = handle(HANDLES[*from]);
            let (request, at) = (id(&format!("past{count}")), self.now - minutes(*ago));
            policy_state.seen(&request, Some(&from), at);
            let (verdict, by) = match what {
                0 | 1 | 6 => (Verdict::Approve, By::Rule(name("a"))),
                2 => (Verdict::Reject, By::Rule(name("a"))),
                3 => (Verdict::Reject, By::Overdue(name("o0"))),
                _ => continue,
            };
            let charges: Vec<_> = policy.rules.iter().filter_map(|rule| rule.charge(&from)).collect();
            policy_state.reserve(&request, Some(&from), verdict, &by, &charges, at);
            let outcome = Outcome::Confirmed(verdict.answer().unwrap());
            let ended = EndedAnswer { verdict, outcome, guest: *what == 6, by_person: false, sent: at, first_seen: at };
            policy_state.settle_as(&request, Some(&from), ended, at);
        }
        if let Some(verdict) = self.reply {
            let reply = DeciderVerdict { decider: name("screen"), key: None, verdict, reason: None };
            policy_state.add_reply(&self.request.id, reply);
        }
        if let Some(receiving) = &self.receiving {
            policy_state.set_receiving_agent(receiving.clone());
        }
        if self.paused {
            policy_state.pause(a_pause());
        }
        if self.held {
            policy_state.hold(&self.request.id, Some("eve"));
        }
        policy_state
    }

    fn removal(&self, (from, _, ago): &(usize, u8, i64)) -> OwnerHistoryRow {
        let owner: Arc<str> = handle(HANDLES[*from]).owner().into();
        OwnerHistoryRow { owner, handle: None, request: None, kind: HistoryKind::Removed, at: self.now - minutes(*ago) }
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let some = |most: usize| prop::collection::vec(0..most, 1..3);
    prop_oneof![
        4 => some(PATTERNS.len()).prop_map(Spec::Handle),
        4 => some(OWNERS.len()).prop_map(Spec::Owner),
        2 => some(PATTERNS.len()).prop_map(Spec::List),
        1 => (0..2_usize).prop_map(Spec::Slug),
        2 => any::<bool>().prop_map(Spec::Kind),
        1 => (0..4_usize).prop_map(Spec::HandleRegex),
        1 => (0..NAMES.len()).prop_map(Spec::Name),
        1 => (0..3_usize).prop_map(Spec::NameContains),
        1 => (0..5_usize).prop_map(Spec::NameRegex),
        1 => (0..5_usize).prop_map(Spec::Contains),
        1 => (0..3_usize).prop_map(Spec::ContainsFile),
        1 => (0..5_usize).prop_map(Spec::MessageRegex),
        1 => any::<bool>().prop_map(Spec::Absent),
        1 => (0..12_usize).prop_map(Spec::Longer),
        2 => (0..5_usize).prop_map(Spec::Window),
        1 => (0..30_i64).prop_map(Spec::Age),
        1 => Just(Spec::Contacts),
        1 => any::<bool>().prop_map(Spec::IsContact),
        1 => (0..2_usize).prop_map(Spec::Agents),
        1 => any::<bool>().prop_map(Spec::Approved),
        1 => (1..9_i64).prop_map(Spec::Rejected),
        1 => (1..9_i64).prop_map(Spec::Removed),
        1 => (1..4_u32, 1..9_i64).prop_map(|(count, per)| Spec::Requests(count, per)),
        2 => (0..3_u8, 1..4_u32, 1..9_i64, any::<bool>()).prop_map(|(kind, count, per, by)| Spec::Over(kind, count, per, by)),
    ]
}

fn tables() -> impl Strategy<Value = Vec<Vec<Spec>>> {
    prop::collection::vec(prop::collection::vec(spec(), 1..3), 0..3)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![5 => Just(Verdict::Approve), 1 => Just(Verdict::Reject), 1 => Just(Verdict::Defer)]
}

pub(super) fn rule_spec(name: &'static str) -> impl Strategy<Value = RuleSpec> {
    let limit = prop::option::weighted(0.3, (1..4_u32, 1..9_i64, 0..6_u8));
    let wait = prop::option::weighted(0.2, 1..30_i64);
    let lasts = prop::option::weighted(0.2, 1..30_i64);
    let until = prop::option::weighted(0.2, -5..40_i64);
    let ask = prop::option::weighted(0.7, (any::<bool>(), any::<bool>()));
    let unless = prop_oneof![2 => Just(Vec::new()), 1 => tables()];
    (
        verdict(),
        prop::collection::vec(spec(), 0..3),
        unless,
        limit,
        (wait, lasts),
        until,
        (prop::bool::weighted(0.15), ask),
    )
        .prop_map(move |(then, when, unless, limit, (wait, lasts), until, (shadow, ask))| {
            let (limit, wait) = if then == Verdict::Approve { (limit, wait) } else { (None, None) };
            RuleSpec { name, then, when, unless, limit, wait, lasts, until, shadow, ask }
        })
}

pub(super) fn policy_spec() -> impl Strategy<Value = PolicySpec> {
    let rules = (rule_spec("b"), rule_spec("c"), rule_spec("d"), rule_spec("e"), 0..5_usize)
        .prop_map(|(b, c, d, e, count)| [b, c, d, e].into_iter().take(count).collect::<Vec<_>>());
    let no_match = prop_oneof![Just(Verdict::Defer), Just(Verdict::Reject)];
    let overdue = prop::collection::vec((1..30_i64, any::<bool>(), tables()), 0..3);
    let max = prop::option::weighted(0.2, 1..4_u32);
    (rules, no_match, any::<bool>(), max, overdue, prop::bool::weighted(0.1)).prop_map(
        |(rules, no_match, protect, approvals_max, overdue, shadow)| PolicySpec {
            rules,
            no_match,
            protect,
            approvals_max,
            overdue,
            shadow,
        },
    )
}

pub(super) fn scene() -> impl Strategy<Value = Scene> {
    let from = prop_oneof![
        12 => (0..HANDLES.len()).prop_map(|at| Sender::parse(Some(HANDLES[at]))),
        1 => Just(Sender::Absent),
        1 => Just(Sender::parse(Some("@@john"))),
    ];
    let name = prop::option::of((0..NAMES.len()).prop_map(|at| StrangerText::new(NAMES[at])));
    let message = prop::option::of((0..MESSAGES.len()).prop_map(|at| StrangerText::new(MESSAGES[at])));
    let age = prop::option::weighted(0.9, -1..40_i64);
    let past = prop::collection::vec((0..HANDLES.len(), 0..7_u8, 0..600_i64), 0..12);
    let clock = prop_oneof![9 => Just(ClockHealth::Sound), 1 => Just(ClockHealth::Unsound)];
    let contact =
        prop::option::of((any::<bool>(), any::<bool>()).prop_map(|(owner, sender)| (owner || sender, sender)));
    let receiving = prop_oneof![
        1 => Just(None),
        1 => Just(Some(ReceivingAgent::unnamed("a-1"))),
        4 => (0..3_usize).prop_map(|at| Some(ReceivingAgent::new("a-1", [Some("porter"), Some("desk"), None][at]))),
    ];
    let reply = prop::option::weighted(0.6, verdict());
    let flags = (prop::bool::weighted(0.8), prop::bool::weighted(0.03), prop::bool::weighted(0.03));
    (from, name, message, age, past, (clock, contact, receiving, reply), flags, 0..40_i64, 0..48_i64).prop_map(
        |(
            sender,
            name,
            message,
            age,
            past,
            (clock, contact, receiving, reply),
            (complete, paused, held),
            seen_ago,
            later,
        )| {
            let now = noon() + SignedDuration::from_mins(30 * later);
            let inserted_at = age.map(|age| now - hours(age));
            let first_seen = now - hours(seen_ago);
            Scene {
                request: ContactRequest { id: id("r"), sender, name, message, inserted_at, ids: None },
                circumstances: Circumstances {
                    owner_is_contact: contact.map(|(owner, _)| owner),
                    sender_is_contact: contact.map(|(_, sender)| sender),
                    ..Circumstances::new(first_seen, clock)
                },
                now,
                past,
                complete,
                paused,
                held,
                receiving,
                reply,
            }
        },
    )
}
