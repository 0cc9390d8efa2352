//! The shape of `explain --json`, and the tree for people.

use jiff::tz::TimeZone;
use serde_json::json;

use super::*;
use crate::policy::conditions::*;
use crate::policy::rules::{LimitBy, Quota};
use crate::policy::testkit::*;

fn explained(policy: &Policy, request: &ContactRequest) -> Explanation {
    explain(policy, request, &sound(), &PolicyState::default(), noon(), None)
}

#[test]
fn the_json_is_as_documented() {
    let bots = vec![by_handle(&["acme/*-bot"]), window(&WORKDAYS, "08:00", "18:00")];
    let history = HistoryCondition {
        rejected_within: Some(hours(720)),
        requests_over: Some(Quota { count: 3, per: hours(24) }),
        ..HistoryCondition::default()
    };
    let policy = policy(vec![
        approve("acme-bots", bots).unless(SlugIs(vec!["intern-bot".into()])).unless(history).wait(minutes(10)),
        reject("sales", ContactsOver(5)).shadow(),
    ]);
    let explained = serde_json::to_value(explained(&policy, &request("r", "@Acme/a-bot"))).unwrap();
    let condition = |place: &str, key: &str, wanted: &str, saw: &str, holds: Option<bool>| json!({"in": place, "key": key, "wanted": wanted, "saw": saw, "holds": holds});
    assert_eq!(
        explained,
        json!({
            "verdict": "approve", "by": "acme-bots", "policy": "ab".repeat(32), "due": "2026-01-05T12:10:00Z",
            "reasons": [
                {"rule": "acme-bots", "then": "approve", "matched": true, "shadow": false, "conditions": [
                    condition("when", "handle", "acme/*-bot", "acme/a-bot", Some(true)),
                    condition("when", "window", "office", "Mon 2026-01-05 13:00 Europe/Paris", Some(true)),
                    condition("unless[0]", "slug", "intern-bot", "a-bot", Some(false)),
                    condition("unless[1]", "history.rejected_within", "30d", "`acme` was not rejected in that time",
                        Some(false)),
                    condition("unless[1]", "history.requests_over", "more than 3 in 1d", "0 others by `acme`",
                        Some(false)),
                ]},
                {"rule": "sales", "then": "reject", "matched": null, "shadow": true, "conditions": [
                    condition("when", "contacts_over", "more than 5", "not known", None),
                ]},
            ],
        })
    );
}

#[test]
fn what_stands_before_the_rules_is_said() {
    let guarded =
        policy(vec![approve("all", When::Everyone), approve("one", by_handle(&["johm"]))]).protecting(&["john"]);
    let first = |from| {
        let explained = explained(&guarded, &request("r", from));
        (explained.by.to_string(), explained.reasons[0].rule.clone(), explained.reasons[0].matched)
    };
    let guard = "guard:look-alike".to_owned();
    assert_eq!(first("j0hn"), (guard.clone(), guard.clone(), Some(true)));
    assert_eq!(first("johm"), ("all".to_owned(), guard, Some(false)), "named in the matching rule");
    let odd = explained(&guarded, &request("r", "@@\u{202e}x"));
    assert_eq!(
        (odd.by.to_string().as_str(), odd.reasons[0].rule.as_str()),
        ("guard:handle-not-plain", "guard:handle-not-plain")
    );
    assert_eq!(odd.reasons.last().unwrap().matched, None, "identity is unknown");
    let mut policy_state = PolicyState::default();
    policy_state.pause(a_pause());
    let paused = explain(&guarded, &request("r", "ann"), &sound(), &policy_state, noon(), None);
    assert_eq!((paused.by.to_string().as_str(), paused.reasons[0].rule.as_str()), ("paused", "paused"));
}

#[test]
fn a_full_limit_says_when_a_place_is_free() {
    let limited = policy(vec![approve("all", When::Everyone).limit(1, hours(1), LimitBy::Owner)]);
    let mut policy_state = PolicyState::default();
    carry_out(&limited, &mut policy_state, &request("other", "ann/a"), noon());
    let explained = explain(&limited, &request("r", "ann"), &sound(), &policy_state, noon(), None);
    let limit = explained.reasons.last().unwrap();
    assert_eq!((explained.by.to_string().as_str(), limit.rule.as_str()), ("limit:all", "limit:all"));
    assert_eq!(limit.conditions[0].wanted, "at most 1 in 1h by owner");
    assert_eq!(limit.conditions[0].saw, "1 taken for `ann`, the next place is free at 2026-01-05T13:00:00Z");
    let (zone, policy_state) = (TimeZone::get("Europe/Paris").unwrap(), &policy_state);
    let local = explain(&limited, &request("r", "ann"), &sound(), policy_state, noon(), Some(&zone));
    let saw = &local.reasons.last().unwrap().conditions[0].saw;
    assert_eq!(saw, "1 taken for `ann`, the next place is free at 2026-01-05 14:00:00", "as whoever reads it counts");
}

#[test]
fn people_read_the_end_of_a_rule_in_their_zone_and_a_day_as_one_in_utc() {
    let zone = TimeZone::get("Europe/Paris").unwrap();
    let until = |rule: Rule, zone: Option<&TimeZone>| {
        let explained =
            explain(&policy(vec![rule]), &request("r", "ann"), &sound(), &PolicyState::default(), noon(), zone);
        let end = explained.reasons[0].conditions.iter().find(|condition| condition.key == "until").unwrap();
        format!("{}; {}", end.wanted, end.saw)
    };
    let moment = || approve("ann", by_handle(&["ann"])).until(noon() + hours(1));
    assert_eq!(until(moment(), Some(&zone)), "2026-01-05 14:00:00; 2026-01-05 13:00:00");
    assert_eq!(until(moment(), None), "2026-01-05T13:00:00Z; 2026-01-05T12:00:00Z");
}

#[test]
fn the_tree_is_plain_without_colour_and_strangers_cannot_steer_it() {
    let policy = policy(vec![
        reject("words", MessageRegex(vec![pattern("x", false)])),
        approve("ann", by_handle(&["ann"])).until(noon() + hours(1)),
    ]);
    let explained = explained(&policy, &saying("ann", None, Some("\u{1b}[31mred\n\u{202e}")));
    assert_eq!(
        explained.render(false, &values::utc),
        "approve by ann\n\
         request by ann at 2026-01-05T12:00:00Z, policy abababababab\n\
         decided again at 2026-01-05T13:00:00Z\n\
         \n\
         ann (approve): matches\n  \
           ├─ true    when handle: wanted ann; saw ann\n  \
           └─ true    when until: wanted 2026-01-05T13:00:00Z; saw 2026-01-05T12:00:00Z\n\
         \n\
         words (reject): does not match\n  \
           └─ false   when message_regex: wanted x; saw \\u{1b}[31mred\\n\\u{202e}\n"
    );
    assert!(
        explained.render(true, &values::utc).contains("\u{1b}[")
            && !explained.render(true, &values::utc).contains("[31mred\n")
    );
}
