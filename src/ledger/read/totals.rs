//! How much is on record: the number of rows of each kind, and the size of each table.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::rows::time;
use super::{TableSize, Totals};
use crate::ledger::sql::{self, Connection};

/// See [`Totals`].
pub fn totals(connection: Connection<'_>, schema: i64) -> sql::Result<Totals> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let mut answers = BTreeMap::new();
    let mut statement =
        connection.prepare_cached("SELECT coalesce(outcome, 'open'), count(*) FROM answer GROUP BY 1")?;
    for row in statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.unsigned_abs())))? {
        let (outcome, count) = row?;
        answers.insert(outcome, count);
    }
    let edge = |order: &str| -> sql::Result<Option<Timestamp>> {
        let sql = format!("SELECT (SELECT first_seen FROM request ORDER BY n {order} LIMIT 1)");
        connection.query_row(&sql, [], |row| time(row, 0))
    };
    Ok(Totals {
        schema,
        requests: count("SELECT count(*) FROM request")?,
        pending: count("SELECT count(*) FROM request WHERE settled IS NULL")?,
        blanked: count("SELECT count(*) FROM request WHERE blanked = 1")?,
        decisions: count("SELECT count(*) FROM decision")?,
        answers,
        policies: count("SELECT count(DISTINCT policy) FROM policy_part")?,
        first: edge("ASC")?,
        last: edge("DESC")?,
    })
}

/// See [`TableSize`].
pub fn tables(connection: Connection<'_>) -> sql::Result<Vec<TableSize>> {
    let mut sizes = connection.prepare_cached(
        "SELECT s.tbl_name, sum(d.pgsize) FROM dbstat d JOIN sqlite_schema s ON s.name = d.name
         WHERE d.aggregate = TRUE GROUP BY 1 ORDER BY 2 DESC, 1",
    )?;
    let sizes = sizes
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?
        .collect::<sql::Result<Vec<_>>>()?;
    let table = |(name, bytes): (String, u64)| {
        // The name comes from the schema itself, and is quoted as such.
        let sql = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows = connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
        Ok(TableSize { name, rows, bytes })
    };
    sizes.into_iter().map(table).collect()
}
