//! The steps of the schema on PostgreSQL. They have the numbers of SQLite's: the first makes what SQLite's first twelve come to.

use super::session::{DatabaseFailure, DatabaseSession};

/// Each step, with its number.
const STEPS: &[(i64, &str)] = &[
    (12, include_str!("schema/12.sql")),
    (13, include_str!("schema/13.sql")),
    (14, include_str!("schema/14.sql")),
    (15, include_str!("schema/15.sql")),
    (16, include_str!("schema/16.sql")),
    (17, include_str!("schema/17.sql")),
    (18, include_str!("schema/18.sql")),
    (19, include_str!("schema/19.sql")),
];

/// The newest schema that this doorman knows.
pub fn known() -> i64 {
    STEPS.last().map_or(0, |(number, _)| *number)
}

/// The database's number; `None` if doorman has nothing there.
pub fn found(session: &DatabaseSession) -> Result<Option<i64>, DatabaseFailure> {
    if session.shown("SELECT to_regclass('doorman.meta')")?.is_none() {
        return Ok(None);
    }
    let number = session.shown("SELECT schema FROM doorman.meta")?;
    Ok(number.and_then(|number| number.parse().ok()))
}

/// Whether a doorman that knows this schema may write the record, or read it.
pub fn oldest(session: &DatabaseSession, what: &str) -> Result<i64, DatabaseFailure> {
    let number = session.shown(&format!("SELECT {what} FROM doorman.meta"))?;
    Ok(number.and_then(|number| number.parse().ok()).unwrap_or(i64::MAX))
}

/// How often it is tried while another doorman is at it: each try waits for `lock_timeout`, 2 s.
const TRIES: usize = 15;

/// Takes the steps that are missing, all or none. Whoever comes second waits, and finds them taken.
pub fn migrate(session: &DatabaseSession) -> Result<(), DatabaseFailure> {
    for _ in 1..TRIES {
        match migrate_once(session) {
            // Another doorman made it at the same moment, or is still making it.
            Err(failure)
                if matches!(failure.code(), Some("42P06" | "42P07" | "23505" | "40001" | "40P01" | "55P03")) => {}
            other => return other,
        }
    }
    migrate_once(session)
}

fn migrate_once(session: &DatabaseSession) -> Result<(), DatabaseFailure> {
    let before = found(session)?.unwrap_or(0);
    if before >= known() {
        return Ok(());
    }
    session.begin("BEGIN")?;
    let done = (|| {
        if before > 0 {
            session.batch("SELECT * FROM doorman.meta FOR UPDATE")?;
        }
        // Another may have been faster.
        let before = found(session)?.unwrap_or(0);
        for (number, step) in STEPS.iter().filter(|(number, _)| *number > before) {
            session.batch(step)?;
            session.batch(&format!(
                "INSERT INTO doorman.meta (schema, min_reader, min_writer, id) VALUES ({number}, {number}, {number}, gen_random_uuid())
                 ON CONFLICT (one) DO UPDATE SET schema = {number}, min_reader = {number}, min_writer = {number}"
            ))?;
        }
        session.commit()
    })();
    if done.is_err() {
        session.rollback();
    }
    done
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_step_of_one_engine_has_its_twin_in_the_other() {
        assert_eq!(super::known(), crate::ledger::sqlite::schema::known());
    }
}
