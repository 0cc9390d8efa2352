//! A reader sees what was committed, while the daemon has the file open and afterwards.

use std::ops::ControlFlow;

use super::*;

#[tokio::test]
async fn what_is_read_is_what_was_written() {
    let world = TestLedger::new();
    let ledger = world.open();
    let odd = ContactRequest {
        id: id("odd"),
        sender: Sender::parse(Some("@@e\u{1b}[2J\u{FFFD}")),
        name: None,
        message: Some(StrangerText::new(&"é".repeat(600))),
        inserted_at: None,
        ids: None,
    };
    let mut rich = decision(Verdict::Approve, By::Rule(rule("friends")));
    rich.rule_results = vec![
        RuleResult { rule: rule("friends"), then: Verdict::Approve, truth: Truth::True, shadow: false, unknown: None },
        RuleResult {
            rule: rule("night"),
            then: Verdict::Reject,
            truth: Truth::Unknown,
            shadow: true,
            unknown: Some("window".into()),
        },
    ];
    rich.due = Some(at(60));
    rich.reconsider_at = Some(at(61));
    rich.charges = vec![charge("friends", "ann")];
    rich.mode = Mode::Shadow;
    let texts = vec![
        crate::policy::rules::SourceText { name: "rules.toml".to_owned(), text: "version = 1\n".into() },
        crate::policy::rules::SourceText { name: "friends.txt".to_owned(), text: "".into() },
    ];
    let entries = vec![
        Record::Policy { agent: agent(), hash: hash(), texts: texts.clone(), at: at(0) },
        Record::Seen { agent: agent(), request: odd.clone().into(), via: Via::Listing, at: at(0) },
        seen("r1", Some("@Ann/Bot"), 1),
        Record::Decided {
            agent: agent(),
            request: id("r1"),
            decision: Box::new(rich.clone()),
            circumstances: circumstances(),
            at: at(2),
        },
        intent("r1", Answer::Approve, rich.charges.clone(), 1, 3),
        Record::Outcome {
            agent: agent(),
            request: id("r1"),
            outcome: Outcome::Confirmed(Answer::Approve),
            detail: Some("fine".to_owned()),
            refusal: None,
            stay: None,
            at: at(4),
        },
        seen("r2", Some("bob"), 5),
        decided("r2", Verdict::Defer, "no-idea", 6),
        Record::Settled { agent: agent(), request: id("r2"), status: Some(RequestStatus::Cancelled), at: at(7) },
    ];
    ledger.commit(entries).await.unwrap();
    // While the daemon has it, and after.
    for round in 0..2 {
        let reader = world.reader();
        let all = reader.requests(&Filter::default()).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].request.sender, odd.sender);
        assert_eq!(all[0].request.message.as_ref().unwrap().raw().chars().count(), 500);
        assert_eq!((all[0].verdict, &all[0].answer, all[0].outcome), (None, &None, None));
        let r1 = reader.request(&id("r1")).unwrap().unwrap();
        assert_eq!(r1, all[1]);
        assert_eq!(r1.request, request("r1", Some("@Ann/Bot")));
        assert_eq!((r1.verdict, r1.by.clone()), (Some(Verdict::Approve), By::parse("friends")));
        assert_eq!((r1.decided_at, r1.outcome), (Some(at(3)), Some(Outcome::Confirmed(Answer::Approve))));
        assert_eq!(r1.answer.as_ref().unwrap().detail.as_deref(), Some("fine"));
        assert_eq!((all[2].settled.as_deref(), all[2].outcome), (Some("cancelled"), Some(Outcome::SettledElsewhere)));
        let decisions = reader.decisions_of(&id("r1")).unwrap();
        assert_eq!(
            decisions[0].facts,
            DecisionReasons {
                lasts: None,
                rule_results: rich.rule_results.clone(),
                due: rich.due,
                reconsider_at: rich.reconsider_at,
                charges: rich.charges.clone(),
                pauses: false,
                doubts: Vec::new(),
                notify: None,
                circumstances: Some(circumstances()),
            }
        );
        assert_eq!((decisions[0].mode, &decisions[0].policy), (Mode::Shadow, &hash()));
        assert_eq!(reader.policy_texts(&hash()).unwrap().as_ref(), Some(&texts));
        assert_eq!(reader.policy_texts(&PolicyHash::new("00")).unwrap(), None);
        assert_eq!(reader.policy_in_force(&agent()).unwrap(), Some(hash()));
        let matched = reader.rules_last_matched(Some(&agent()), at(0)).unwrap();
        assert_eq!(matched.into_iter().collect::<Vec<_>>(), [(rule("friends"), at(2))]);
        assert!(reader.rules_last_matched(None, at(7)).unwrap().is_empty());
        let find = |filter: Filter| -> Vec<String> {
            reader.requests(&filter).unwrap().into_iter().map(|row| row.request.id.to_string()).collect()
        };
        assert_eq!(find(Filter { handle: Some("ann/bot".to_owned()), ..Filter::default() }), ["r1"]);
        assert_eq!(find(Filter { handle: Some("ann/*".to_owned()), ..Filter::default() }), ["r1"]);
        assert_eq!(find(Filter { verdict: Some(Verdict::Defer), ..Filter::default() }), ["r2"]);
        assert_eq!(find(Filter { outcome: Some(OutcomeFilter::Pending), ..Filter::default() }), ["odd"]);
        assert_eq!(find(Filter { limit: Some(2), ..Filter::default() }), ["r1", "r2"]);
        assert_eq!(find(Filter { since: Some(at(1)), until: Some(at(5)), ..Filter::default() }), ["r1"]);
        assert_eq!(reader.totals().unwrap().requests, 3);
        if world.database.is_none() {
            reader.check().unwrap();
        }
        if round == 0 {
            ledger.clone().close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn while_a_page_of_output_waits_no_transaction_is_open() {
    let world = TestLedger::file();
    let ledger = world.open();
    for hundred in 0..12 {
        let batch = (0..100).map(|n| seen(&format!("r{}", hundred * 100 + n), Some("ann"), hundred * 100 + n));
        ledger.commit(batch.collect()).await.unwrap();
    }
    let reader = world.reader();
    let other = world.sql();
    let mut read = Vec::new();
    let limited = Filter { limit: Some(5), ..Filter::default() };
    let since = Filter { since: Some(at(100)), ..Filter::default() };
    for filter in [Filter::default(), limited, since] {
        let mut rows = 0;
        let waiting = |_| {
            // A person reads the page; meanwhile the daemon writes, and the log can start again.
            if rows % 400 == 0 {
                other.execute_batch("UPDATE request SET via = via WHERE n = 1").unwrap();
                let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
                let busy: i64 = other.query_row(sql, [], |row| row.get(0)).unwrap();
                assert_eq!(busy, 0, "a reader keeps the log");
            }
            rows += 1;
            ControlFlow::Continue(())
        };
        reader.for_each(&filter, waiting).unwrap();
        read.push(rows);
    }
    assert_eq!(read, [1_200, 5, 1_100]);
    assert_eq!(reader.requests(&Filter::default()).unwrap().len(), 1_200);
}

#[tokio::test]
async fn a_pause_and_its_end_decide_nothing_again() {
    let world = TestLedger::new();
    let ledger = world.open();
    let paused = |second| {
        let decision = Box::new(decision(Verdict::Defer, By::Paused));
        Record::Decided { agent: agent(), request: id("r1"), decision, circumstances: circumstances(), at: at(second) }
    };
    let shown = || {
        let recorded = world.reader().request(&id("r1")).unwrap().unwrap();
        (recorded.by.unwrap().to_string(), recorded.decided_at.unwrap())
    };
    ledger.commit(vec![seen("r1", Some("ann"), 0), paused(1)]).await.unwrap();
    assert_eq!(shown(), ("paused".to_owned(), at(1)), "nothing else was decided yet");
    ledger.commit(vec![decided("r1", Verdict::Defer, "unsure", 5)]).await.unwrap();
    assert_eq!(shown(), ("unsure".to_owned(), at(5)));
    ledger.commit(vec![paused(10)]).await.unwrap();
    assert_eq!(shown(), ("paused".to_owned(), at(5)));
    ledger.commit(vec![decided("r1", Verdict::Defer, "unsure", 11), paused(12)]).await.unwrap();
    ledger.commit(vec![decided("r1", Verdict::Defer, "unsure", 13)]).await.unwrap();
    assert_eq!(shown(), ("unsure".to_owned(), at(5)));
    ledger.commit(vec![decided("r1", Verdict::Defer, "other", 20)]).await.unwrap();
    assert_eq!(shown(), ("other".to_owned(), at(20)), "that was another decision");
    ledger.commit(vec![paused(21), decided("r1", Verdict::Defer, "unsure", 22)]).await.unwrap();
    assert_eq!(shown(), ("unsure".to_owned(), at(22)), "and so is the first once more");
}
