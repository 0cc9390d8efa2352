//! The steps of the schema. A ledger's `user_version` is how many it has taken.

use regex::{Captures, Regex};
use rusqlite::{Connection, params};

use crate::ledger::{sql, texts};

/// One step, in one transaction: SQL, and code for what SQL alone cannot do.
struct MigrationStep {
    sql: &'static str,
    code: fn(&Connection) -> sql::Result<()>,
}

const STEPS: &[MigrationStep] = &[
    MigrationStep { sql: include_str!("schema/1.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/2.sql"), code: schema_2 },
    MigrationStep { sql: include_str!("schema/3.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/4.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/5.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/6.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/7.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/8.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/9.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/10.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/11.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/12.sql"), code: compare_words_one_by_one },
    MigrationStep { sql: include_str!("schema/13.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/14.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/15.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/16.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/17.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/18.sql"), code: |_| Ok(()) },
    MigrationStep { sql: include_str!("schema/19.sql"), code: check_each_parent_once },
];

/// The newest schema that this doorman knows.
pub fn known() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Applies the missing steps, each in one transaction with its number.
pub fn migrate(connection: &mut Connection, found: i64) -> sql::Result<()> {
    // A table to which others refer can only be made again while foreign keys are not checked: SQLite's own procedure.
    connection.pragma_update(None, "foreign_keys", false)?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    for (number, step) in (1_i64..).zip(STEPS).skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step.sql)?;
        (step.code)(&transaction)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(connection.pragma_update(None, "foreign_keys", true)?)
}

fn schema_2(connection: &Connection) -> sql::Result<()> {
    map_null_characters(connection)?;
    cut_texts_up(connection)
}

/// The texts of policies are kept in pieces.
fn cut_texts_up(connection: &Connection) -> sql::Result<()> {
    {
        let mut find = connection.prepare("SELECT n, body FROM text")?;
        let mut update = connection.prepare("UPDATE text SET bytes = ?2 WHERE n = ?1")?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            let (n, body): (i64, String) = (row.get(0)?, row.get(1)?);
            update.execute(params![n, i64::try_from(body.len()).unwrap_or(i64::MAX)])?;
            texts::fill(connection.into(), n, &body)?;
        }
    }
    connection.flush_prepared_statement_cache();
    Ok(connection.execute_batch("ALTER TABLE text DROP COLUMN body")?)
}

/// U+0000 in strangers' texts is kept as U+FFFD. SQLite's `replace` cannot look for it.
fn map_null_characters(connection: &Connection) -> rusqlite::Result<()> {
    for (table, column) in
        [("request", "handle"), ("request", "name"), ("request", "message"), ("contact", "handle"), ("contact", "name")]
    {
        let mut find =
            connection.prepare(&format!("SELECT n, {column} FROM {table} WHERE instr({column}, char(0)) > 0"))?;
        let mut update = connection.prepare(&format!("UPDATE {table} SET {column} = ?2 WHERE n = ?1"))?;
        let found = find.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        for (n, text) in found.collect::<rusqlite::Result<Vec<_>>>()? {
            update.execute(params![n, text.replace('\0', "\u{FFFD}")])?;
        }
    }
    Ok(())
}

/// A CHECK names its words one by one.
fn compare_words_one_by_one(connection: &Connection) -> sql::Result<()> {
    reword_tables(connection, |_, sql| one_by_one(sql))
}

/// A request and a contact have an agent, and what names them need not check it again. A charge is written with its answer, and an
/// owner with its contact. Each check looks a row up.
fn check_each_parent_once(connection: &Connection) -> sql::Result<()> {
    reword_tables(connection, |table, sql| match table {
        "answer" => sql.replace(" REFERENCES agent (n)", ""),
        "charge" => sql.replace(" REFERENCES agent (n)", "").replace(" REFERENCES request (n)", ""),
        "contact_owner" => sql.replace(" REFERENCES agent (n)", "").replace(" REFERENCES contact (n)", ""),
        _ => sql.to_owned(),
    })
}

/// Writes the tables' definitions anew. Where that changes nothing in any row, it is enough to change the text of the schema, as SQLite
/// describes it (<https://www.sqlite.org/lang_altertable.html>, section 7): making the tables again would take minutes of a large
/// record.
fn reword_tables(connection: &Connection, reword: impl Fn(&str, &str) -> String) -> sql::Result<()> {
    let mut find =
        connection.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL")?;
    let tables = find.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let tables = tables.collect::<rusqlite::Result<Vec<_>>>()?;
    connection.pragma_update(None, "writable_schema", true)?;
    for (name, sql) in &tables {
        connection.execute(
            "UPDATE sqlite_schema SET sql = ?2 WHERE type = 'table' AND name = ?1",
            [name, &reword(name, sql)],
        )?;
    }
    let version: i64 = connection.pragma_query_value(None, "schema_version", |row| row.get(0))?;
    connection.pragma_update(None, "schema_version", version + 1)?;
    // Off again, and read again.
    Ok(connection.pragma_update(None, "writable_schema", "RESET")?)
}

/// `CHECK (x IN ('a', 'b', 'c'))` as `CHECK (x = 'a' OR x = 'b' OR x = 'c')`. SQLite does so by itself with two.
fn one_by_one(sql: &str) -> String {
    let Ok(check) = Regex::new(r"CHECK \((\w+) IN \(((?:\s*'[a-z-]+',?){3,})\)\)") else { return sql.to_owned() };
    let compared = |found: &Captures<'_>| {
        let words = found[2].split(',').map(|word| format!("{} = {}", &found[1], word.trim()));
        format!("CHECK ({})", words.collect::<Vec<_>>().join(" OR "))
    };
    check.replace_all(sql, compared).into_owned()
}
