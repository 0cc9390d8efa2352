//! The schema's steps, and the settings of the file.

use rusqlite::StatementStatus;

use super::*;
use crate::ledger::record::{EntryWriter, Numbers};
use crate::ledger::sql::Statements;

/// What a daemon with schema 1 wrote in a few seconds: answers of rules and of a person, a full limit, a pause, a hold,
/// a contact that was removed, a list that changed.
const WRITTEN_BY_SCHEMA_1: &str = include_str!("schema-1.sql");

/// Its agent.
const OLD_AGENT: &str = "0d9c8e3a-2222-4a0e-9d57-6f1f2b7c0001";

fn old_ledger(world: &TestLedger) {
    std::fs::create_dir_all(world.path().parent().unwrap()).unwrap();
    let connection = world.sql();
    connection.execute_batch(include_str!("../sqlite/schema/1.sql")).unwrap();
    connection.execute_batch(WRITTEN_BY_SCHEMA_1).unwrap();
    connection.pragma_update(None, "application_id", 0x646f_6f72).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    // A stranger's text with a character that other engines cannot store.
    connection.execute("UPDATE request SET message = ?1 WHERE n = 9", ["y\0\0z"]).unwrap();
}

#[tokio::test]
async fn a_ledger_of_schema_1_is_brought_up_to_date_with_all_that_it_holds() {
    let world = TestLedger::file();
    old_ledger(&world);
    let old = LedgerReader::open(&world.path()).unwrap_err().to_string();
    assert!(old.contains("start the daemon once"), "{old}");
    let ledger = world.open();
    let old_agent = AgentId::parse(OLD_AGENT).unwrap();
    let now: Timestamp = "2026-11-29T02:00:00Z".parse().unwrap();
    let memory = ledger.load_agent(&old_agent, now, REACH).await.unwrap();
    assert_eq!(memory.pending.len(), 4, "acme/3-bot, the odd handle, dave and eve are pending");
    assert_eq!(memory.policy_state.holds.len(), 1);
    assert_eq!(memory.policy_state.charges.len(), 2);
    assert_eq!(memory.recent_answers.len(), 5);
    assert!(memory.policy_state.paused.is_none() && memory.open_answers.is_empty());
    ledger.close().await.unwrap();
    let reader = world.reader();
    assert_eq!(reader.totals().unwrap().schema, crate::ledger::sqlite::schema::known());
    let requests = reader.requests(&Filter::default()).unwrap();
    let carol =
        requests.iter().find(|one| one.request.sender.handle().is_some_and(|handle| handle.as_str() == "carol"));
    assert_eq!(carol.unwrap().by, Some(By::Person("root".into())));
    assert_eq!(requests[8].request.message.as_ref().unwrap().raw(), "y\u{FFFD}\u{FFFD}z");
    let outcomes: Vec<_> =
        requests.iter().filter_map(|one| one.answer.as_ref()?.outcome).map(Outcome::as_str).collect();
    assert_eq!(
        outcomes,
        ["approved", "approved", "rejected", "approved", "approved"],
        "what schema 1 called `applied`"
    );
    reader.check().unwrap();
    // Every row is there, and every reference between rows is right.
    let sql = world.sql();
    let count =
        |table: &str| -> i64 { sql.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap() };
    assert_eq!((count("request"), count("answer"), count("contact_owner") > 0), (9, 5, true));
    assert_eq!(count("pragma_foreign_key_check"), 0);
    let on: bool = file::open_for_writing(&world.path(), Duration::ZERO)
        .unwrap()
        .pragma_query_value(None, "foreign_keys", |row| row.get(0))
        .unwrap();
    assert!(on, "and stays so");
    let texts = reader.policy_texts(reader.policy_in_force(&old_agent).unwrap().as_ref().unwrap()).unwrap().unwrap();
    assert_eq!(&*texts[1].text, "bob\nzoe/*\neve2\n");
}

#[test]
fn the_writer_compiles_no_statement_again_and_reads_nothing_that_it_wrote() {
    let world = TestLedger::file();
    std::fs::create_dir_all(world.path().parent().unwrap()).unwrap();
    let connection = file::open_for_writing(&world.path(), Duration::ZERO).unwrap();
    let mut numbers = Numbers::default();
    for n in 0..50 {
        // As in one transaction.
        let mut statements = Statements::of((&connection).into());
        let mut recorder = EntryWriter { statements: &mut statements, numbers: &mut numbers };
        let name = format!("r{n}");
        recorder.record(&seen(&name, Some("ann"), n)).unwrap();
        recorder.record(&intent(&name, Answer::Approve, vec![], 1, n)).unwrap();
        recorder.record(&outcome(&name, Outcome::Confirmed(Answer::Approve), n)).unwrap();
    }
    let sql = "UPDATE answer SET outcome = ?2, outcome_at = ?3, detail = ?4, refused = ?5 WHERE n = ?1";
    let statement = connection.prepare_cached(sql).unwrap();
    assert_eq!(statement.get_status(StatementStatus::Run), 50, "not the statement that the writer runs");
    assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    // The writer does not read again what it wrote itself.
    for (sql, times) in [
        ("SELECT coalesce(max(n), 0) FROM pause WHERE agent = ?1 AND paused = 0", 1),
        ("SELECT n, answer, outcome, \"by\", policy, lasts FROM answer WHERE request = ?1 ORDER BY n DESC LIMIT 1", 0),
        ("SELECT n FROM request WHERE agent = ?1 AND id = ?2 AND id_reused = 0", 0),
    ] {
        let statement = connection.prepare_cached(sql).unwrap();
        assert_eq!(statement.get_status(StatementStatus::Run), times, "{sql}");
    }
}

#[tokio::test]
async fn a_row_names_only_what_is_there_and_no_parent_is_looked_up_twice() {
    // A new ledger, and one that schema 1 began.
    for old in [false, true] {
        let world = TestLedger::file();
        if old {
            old_ledger(&world);
        }
        world.open().close().await.unwrap();
        let connection = world.sql();
        let parents = |table: &str| -> Vec<String> {
            let sql = format!("SELECT DISTINCT \"table\" FROM pragma_foreign_key_list('{table}') ORDER BY 1");
            let mut find = connection.prepare(&sql).unwrap();
            let parents = find.query_map([], |row| row.get(0)).unwrap();
            parents.collect::<Result<_, _>>().unwrap()
        };
        assert_eq!(parents("answer"), ["policy", "request"], "an older ledger: {old}");
        assert_eq!(parents("decision"), ["policy", "request"], "an older ledger: {old}");
        assert_eq!(parents("contact"), ["agent", "request"], "an older ledger: {old}");
        assert!(parents("charge").is_empty() && parents("contact_owner").is_empty(), "an older ledger: {old}");
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        let orphan = connection.execute("INSERT INTO hold (agent, request, person, at) VALUES (999, 999, 'x', 0)", []);
        assert!(orphan.unwrap_err().to_string().contains("FOREIGN KEY"), "an older ledger: {old}");
    }
}

#[tokio::test]
async fn what_starts_an_agent_has_an_index_of_its_own() {
    let world = TestLedger::file();
    let ledger = world.open();
    ledger.commit(vec![seen("r1", Some("ann"), 0)]).await.unwrap();
    let plan = |sql: &str| -> String {
        let connection = world.sql();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = statement.query_map([1], |row| row.get::<_, String>(3)).unwrap();
        lines.collect::<Result<Vec<_>, _>>().unwrap().join("\n")
    };
    let answers =
        plan("SELECT answer FROM answer w WHERE w.agent = ?1 AND w.outcome = 'x' ORDER BY w.n DESC LIMIT 4096");
    assert!(answers.contains("answer_agent") && !answers.contains("TEMP B-TREE"), "{answers}");
    let contacts = plan(
        "SELECT c.id, o.owner FROM contact c LEFT JOIN contact_owner o ON o.contact = c.n WHERE c.agent = ?1 AND c.removed_at IS NULL
         ORDER BY coalesce(c.inserted_at, c.added_at), c.n",
    );
    assert!(contacts.contains("contact_since") && !contacts.contains("TEMP B-TREE"), "{contacts}");
    let charges = plan("SELECT rule, bucket, at, request FROM charge WHERE agent = ?1 AND at >= 5 ORDER BY at");
    assert!(charges.contains("USING PRIMARY KEY") && !charges.contains("TEMP B-TREE"), "{charges}");
    let states = plan("SELECT at FROM session WHERE agent = ?1 ORDER BY n DESC LIMIT 1");
    assert!(states.contains("session_agent") && !states.contains("TEMP B-TREE"), "{states}");
}

#[tokio::test]
async fn a_read_waits_for_no_write_and_a_write_for_no_read() {
    let world = TestLedger::file();
    let ledger = world.open();
    ledger.commit(vec![seen("r1", Some("ann"), 0)]).await.unwrap();
    // A read without a time limit that began and has not ended.
    let (begun, is_begun) = tokio::sync::oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let slow = tokio::spawn({
        let ledger = ledger.clone();
        async move {
            let read = move |_: sql::Connection<'_>| {
                let _ = begun.send(());
                let _ = ended.recv();
                Ok(())
            };
            ledger.read(read).await
        }
    });
    is_begun.await.unwrap();
    ledger.commit(vec![seen("r2", Some("ann"), 1)]).await.unwrap();
    // Another process writes and the writer waits: reading continues, and sees what was committed.
    let other = world.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(load(&ledger, 2).await.pending.len(), 2);
    other.execute_batch("ROLLBACK").unwrap();
    end.send(()).unwrap();
    slow.await.unwrap().unwrap();
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn the_newest_row_is_the_agents_own() {
    let world = TestLedger::new();
    let ledger = world.open();
    let other = AgentId::parse("0c5b0a2e-7a55-4e6f-9d1f-000000000002").unwrap();
    let state = |agent: &AgentId, second| Record::Session {
        agent: agent.clone(),
        state: AgentState::Live,
        why: String::new(),
        at: at(second),
    };
    ledger.commit(vec![state(&agent(), 5), state(&other, 900)]).await.unwrap();
    assert_eq!(load(&ledger, 10).await.newest, Some(at(5)), "another agent's clock may be another");
    ledger.commit(vec![seen("r1", None, 6)]).await.unwrap();
    assert_eq!(load(&ledger, 10).await.newest, Some(at(6)));
    ledger.commit(vec![decided("r1", Verdict::Approve, "friends", 7)]).await.unwrap();
    assert_eq!(load(&ledger, 10).await.newest, Some(at(7)));
    ledger
        .commit(vec![
            intent("r1", Answer::Approve, vec![], 1, 8),
            outcome("r1", Outcome::Confirmed(Answer::Approve), 9),
        ])
        .await
        .unwrap();
    assert_eq!(load(&ledger, 10).await.newest, Some(at(9)));
    // One wrong moment of the clock does not stay the newest.
    ledger.commit(vec![state(&agent(), 100_000), state(&agent(), 11)]).await.unwrap();
    assert_eq!(load(&ledger, 12).await.newest, Some(at(11)));
}

#[tokio::test]
async fn a_null_character_of_a_stranger_is_kept_as_what_every_engine_holds() {
    let world = TestLedger::file();
    let ledger = world.open();
    let mut nul = request("r1", Some("a\0b"));
    (nul.name, nul.message) = (Some(StrangerText::new("\0")), Some(StrangerText::new("x\0crypto")));
    ledger
        .commit(vec![Record::Seen { agent: agent(), request: nul.into(), via: Via::Event, at: at(0) }])
        .await
        .unwrap();
    let read = world.reader().requests(&Filter::default()).unwrap();
    assert_eq!(read[0].request.message.as_ref().unwrap().raw(), "x\u{FFFD}crypto");
    let nuls: i64 = world
        .sql()
        .query_row(
            "SELECT count(*) FROM request WHERE instr(handle || name || message, char(0)) OR length(message) < 8",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(nuls, 0);
}

/// Opens a temporary table for words, as SQLite says of the program of a statement.
fn temporary_tables(connection: &rusqlite::Connection, sql: &str) -> Vec<String> {
    let mut program = connection.prepare(&format!("EXPLAIN {sql}")).unwrap();
    let places = program.parameter_count();
    let nothing = rusqlite::params_from_iter(vec![None::<i64>; places]);
    let steps = program.query_map(nothing, |row| row.get::<_, String>(1)).unwrap();
    steps.map(Result::unwrap).filter(|step| step == "OpenEphemeral" || step == "OpenAutoindex").collect()
}

#[test]
fn no_row_of_a_request_is_compared_with_words_in_a_temporary_table() {
    let world = TestLedger::file();
    old_ledger(&world);
    let connection = file::open_for_writing(&world.path(), Duration::ZERO).unwrap();
    // Every table, the indexes with their conditions too, in a ledger that was brought up to date.
    let mut find = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let tables: Vec<String> = find.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(tables.len() > 20);
    for table in tables.iter().filter(|table| !table.starts_with("sqlite_")) {
        let mut find = connection.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
        let columns: Vec<String> = find.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let values = vec!["?"; columns.len()].join(", ");
        assert_eq!(
            temporary_tables(&connection, &format!("INSERT INTO {table} VALUES ({values})")),
            [""; 0],
            "{table}"
        );
        for column in columns {
            let update = format!("UPDATE {table} SET \"{column}\" = ? WHERE rowid = ?");
            if connection.prepare(&update).is_ok() {
                assert_eq!(temporary_tables(&connection, &update), [""; 0], "{update}");
            }
        }
    }
}

#[test]
fn a_word_that_no_table_knows_is_refused_as_before() {
    let world = TestLedger::file();
    old_ledger(&world);
    drop(file::open_for_writing(&world.path(), Duration::ZERO).unwrap());
    let sql = world.sql();
    for change in [
        "UPDATE decision SET verdict = 'maybe'",
        "UPDATE answer SET outcome = 'applied'",
        "UPDATE contact SET kind = 'robot'",
        "INSERT INTO settlement (agent, owner, said, person, at) VALUES (1, 'ann', 'nothing', 'root', 0)",
        "INSERT INTO told (request, decider, rule, question, verdict, took_ms, at)
         VALUES (1, 'a', 'b', printf('%064d', 0), 'perhaps', 0, 0)",
        "INSERT INTO guest (agent, request, ends_at, made_from, made_until, over) VALUES (1, 1, 0, 0, 0, 'soon')",
        "INSERT INTO removal (agent, contact, \"by\", at, attempts, last_at, outcome) VALUES (1, 'c', 'root', 0, 1, 0, 'no')",
        "INSERT INTO delivery (id, target, at, next_at, ended_at, result) VALUES ('a', 'b', 0, 0, 0, 'lost')",
    ] {
        let refused = sql.execute(change, []).unwrap_err().to_string();
        assert!(refused.contains("CHECK constraint failed"), "{change}: {refused}");
    }
    // What is not known is no word, and is taken.
    sql.execute("UPDATE answer SET outcome = NULL WHERE n = 1", []).unwrap();
}
