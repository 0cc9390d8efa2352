//! One interface for queries: code that is written once for every engine uses it. Each engine has its own connection;
//! the statements are the same.
//!
//! Values are converted by rusqlite's `ToSql` and `FromSql`, which the model's types implement already (`columns.rs`).

use std::collections::VecDeque;

pub use rusqlite::types::FromSql;
use rusqlite::types::ValueRef;
pub use rusqlite::{ToSql, params};

use super::postgres::session::{self, DatabaseFailure, DatabaseSession};

/// An error of an engine for a statement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite's word, or that a value is none that doorman writes.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL's word.
    #[error(transparent)]
    Postgres(#[from] DatabaseFailure),
}

impl Error {
    /// A value that doorman never writes.
    pub fn damaged(why: &str) -> Self {
        Error::Sqlite(rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Null, why.into()))
    }
}

/// The result of a query.
pub type Result<T> = std::result::Result<T, Error>;

/// A connection for queries. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub enum Connection<'a> {
    /// To a file.
    Sqlite(&'a rusqlite::Connection),
    /// To a database server.
    Postgres(&'a DatabaseSession),
}

impl<'a> From<&'a rusqlite::Connection> for Connection<'a> {
    fn from(connection: &'a rusqlite::Connection) -> Self {
        Connection::Sqlite(connection)
    }
}

impl<'a> Connection<'a> {
    /// A cached statement.
    pub fn prepare_cached(self, sql: &str) -> Result<Statement<'a>> {
        match self {
            Connection::Sqlite(connection) => Ok(Statement::Sqlite(connection.prepare_cached(sql)?)),
            Connection::Postgres(session) => Ok(Statement::Postgres(session, sql.to_owned())),
        }
    }

    /// The first row; see [`Optional`] for none.
    pub fn query_row<T>(
        self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&SqlRow<'_>) -> Result<T>,
    ) -> Result<T> {
        self.prepare_cached(sql)?.query_row(params, read)
    }

    /// Adds a row and returns its number.
    pub fn insert(self, sql: &str, params: impl Params) -> Result<i64> {
        match self {
            Connection::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                Ok(params.with(|params| statement.insert(params))?)
            }
            Connection::Postgres(session) => {
                let new = params.with(|params| session.insert(sql, params))?;
                new.ok_or_else(|| rusqlite::Error::StatementChangedRows(0).into())
            }
        }
    }

    /// Inserts a row, unless that conflicts with an existing one, and returns its number.
    pub fn insert_new(self, sql: &str, params: impl Params) -> Result<Option<i64>> {
        match self {
            Connection::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let new = params.with(|params| statement.execute(params))?;
                Ok((new > 0).then(|| connection.last_insert_rowid()))
            }
            Connection::Postgres(session) => params.with(|params| session.insert(sql, params)),
        }
    }

    /// Statements without parameters and rows.
    pub fn batch(self, sql: &str) -> Result<()> {
        match self {
            Connection::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Connection::Postgres(session) => Ok(session.batch(sql)?),
        }
    }

    /// One moment of the record, for as long as this is kept.
    pub fn moment(self) -> Result<Snapshot<'a>> {
        match self {
            Connection::Sqlite(connection) => Ok(Snapshot::Sqlite { _open: connection.unchecked_transaction()? }),
            Connection::Postgres(session) => {
                let own = session.begin("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
                Ok(Snapshot::Postgres(own.then_some(OpenTransaction(session))))
            }
        }
    }

    /// A transaction for writing; it is rolled back unless it is committed.
    pub fn begin(self) -> Result<Transaction<'a>> {
        match self {
            Connection::Sqlite(connection) => {
                let immediate = rusqlite::TransactionBehavior::Immediate;
                Ok(Transaction::Sqlite(rusqlite::Transaction::new_unchecked(connection, immediate)?))
            }
            Connection::Postgres(session) => {
                session.begin("BEGIN")?;
                Ok(Transaction::Postgres(OpenTransaction(session)))
            }
        }
    }
}

/// See [`Connection::moment`].
#[derive(Debug)]
#[must_use]
pub enum Snapshot<'a> {
    /// Of a file.
    Sqlite {
        /// Ends the snapshot when it is dropped.
        _open: rusqlite::Transaction<'a>,
    },
    /// Of a database server; none if a transaction is open already.
    Postgres(Option<OpenTransaction<'a>>),
}

/// A transaction that is undone when this goes.
#[derive(Debug)]
pub struct OpenTransaction<'a>(&'a DatabaseSession);

impl Drop for OpenTransaction<'_> {
    fn drop(&mut self) {
        self.0.rollback();
    }
}

/// See [`Connection::begin`].
#[derive(Debug)]
#[must_use]
pub enum Transaction<'a> {
    /// Of a file.
    Sqlite(rusqlite::Transaction<'a>),
    /// Of a database server.
    Postgres(OpenTransaction<'a>),
}

impl Transaction<'_> {
    /// Commits what was written.
    pub fn commit(self) -> Result<()> {
        match self {
            Transaction::Sqlite(transaction) => Ok(transaction.commit()?),
            Transaction::Postgres(open) => open.0.commit().map_err(Error::from),
        }
    }
}

/// A prepared statement.
pub enum Statement<'a> {
    /// SQLite's.
    Sqlite(rusqlite::CachedStatement<'a>),
    /// PostgreSQL's, which the connection keeps.
    Postgres(&'a DatabaseSession, String),
}

impl Statement<'_> {
    /// How many rows it changed.
    pub fn execute(&mut self, params: impl Params) -> Result<usize> {
        match self {
            Statement::Sqlite(statement) => Ok(params.with(|params| statement.execute(params))?),
            Statement::Postgres(session, sql) => params.with(|params| session.execute(sql, params)),
        }
    }

    /// Whether it finds a row.
    pub fn exists(&mut self, params: impl Params) -> Result<bool> {
        match self {
            Statement::Sqlite(statement) => Ok(params.with(|params| statement.exists(params))?),
            Statement::Postgres(session, sql) => Ok(!params.with(|params| session.rows(sql, params))?.is_empty()),
        }
    }

    /// The first row; see [`Optional`] for none.
    pub fn query_row<T>(&mut self, params: impl Params, read: impl FnOnce(&SqlRow<'_>) -> Result<T>) -> Result<T> {
        match self.few(params)?.next()? {
            Some(row) => read(&row),
            None => Err(rusqlite::Error::QueryReturnedNoRows.into()),
        }
    }

    /// Its rows, one after the other; a caller that stops early has not read the rest.
    pub fn query(&mut self, params: impl Params) -> Result<SqlRows<'_>> {
        match self {
            Statement::Sqlite(statement) => Ok(SqlRows::Sqlite(params.with(|params| statement.query(params))?)),
            Statement::Postgres(session, sql) => Ok(SqlRows::Step(params.with(|params| session.reading(sql, params))?)),
        }
    }

    /// Its rows, all of which are wanted.
    fn few(&mut self, params: impl Params) -> Result<SqlRows<'_>> {
        match self {
            Statement::Sqlite(_) => self.query(params),
            Statement::Postgres(session, sql) => {
                Ok(SqlRows::All { rows: params.with(|params| session.rows(sql, params))?.into(), now: None })
            }
        }
    }

    /// Its rows as values.
    pub fn query_map<T, F: FnMut(&SqlRow<'_>) -> Result<T>>(
        &mut self,
        params: impl Params,
        read: F,
    ) -> Result<Mapped<'_, F>> {
        Ok(Mapped { rows: self.few(params)?, read })
    }
}

/// The statements of one transaction, each prepared, or taken out of the connection's cache, once.
pub struct Statements<'a> {
    connection: Connection<'a>,
    used: Vec<(&'static str, Statement<'a>)>,
}

impl<'a> Statements<'a> {
    /// For this connection.
    pub fn of(connection: Connection<'a>) -> Self {
        Self { connection, used: Vec::new() }
    }

    /// The connection itself.
    pub fn connection(&self) -> Connection<'a> {
        self.connection
    }

    /// A statement. Found by the place of its text, which is never read for that.
    pub fn get(&mut self, sql: &'static str) -> Result<&mut Statement<'a>> {
        let place = self.used.iter().position(|(known, _)| std::ptr::eq(*known, sql));
        let place = match place {
            Some(place) => place,
            None => {
                self.used.push((sql, self.connection.prepare_cached(sql)?));
                self.used.len() - 1
            }
        };
        Ok(&mut self.used[place].1)
    }

    /// Adds a row and returns its number.
    pub fn insert(&mut self, sql: &'static str, params: impl Params) -> Result<i64> {
        match self.get(sql)? {
            Statement::Sqlite(statement) => Ok(params.with(|params| statement.insert(params))?),
            Statement::Postgres(..) => self.connection.insert(sql, params),
        }
    }

    /// Inserts a row, unless that conflicts with an existing one, and returns its number.
    pub fn insert_new(&mut self, sql: &'static str, params: impl Params) -> Result<Option<i64>> {
        match self.connection {
            Connection::Sqlite(connection) => {
                let new = self.get(sql)?.execute(params)?;
                Ok((new > 0).then(|| connection.last_insert_rowid()))
            }
            Connection::Postgres(session) => params.with(|params| session.insert(sql, params)),
        }
    }
}

/// Rows that are still to be read.
pub enum SqlRows<'a> {
    /// SQLite's.
    Sqlite(rusqlite::Rows<'a>),
    /// PostgreSQL's, a few at a time.
    Step(session::RowStream<'a>),
    /// PostgreSQL's, all here.
    All {
        /// Those to come.
        rows: VecDeque<tokio_postgres::Row>,
        /// The last that was given out.
        now: Option<tokio_postgres::Row>,
    },
}

impl SqlRows<'_> {
    /// The next one.
    // Not an iterator: a row lives until the next.
    pub fn next(&mut self) -> Result<Option<SqlRow<'_>>> {
        match self {
            SqlRows::Sqlite(rows) => Ok(rows.next()?.map(SqlRow::Sqlite)),
            SqlRows::Step(reading) => Ok(reading.next()?.map(SqlRow::Postgres)),
            SqlRows::All { rows, now } => {
                *now = rows.pop_front();
                Ok(now.as_ref().map(SqlRow::Postgres))
            }
        }
    }
}

/// See [`Statement::query_map`].
pub struct Mapped<'a, F> {
    rows: SqlRows<'a>,
    read: F,
}

impl<T, F: FnMut(&SqlRow<'_>) -> Result<T>> Iterator for Mapped<'_, F> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.rows.next() {
            Ok(row) => row.map(|row| (self.read)(&row)),
            Err(error) => Some(Err(error)),
        }
    }
}

/// One row.
#[derive(Debug)]
pub enum SqlRow<'a> {
    /// SQLite's.
    Sqlite(&'a rusqlite::Row<'a>),
    /// PostgreSQL's.
    Postgres(&'a tokio_postgres::Row),
}

impl SqlRow<'_> {
    /// A column as a value.
    pub fn get<I: Column, T: FromSql>(&self, column: I) -> Result<T> {
        match self {
            SqlRow::Sqlite(row) => Ok(row.get(column.number())?),
            SqlRow::Postgres(_) => {
                T::column_result(self.get_ref(column)?).map_err(|error| Error::damaged(&error.to_string()))
            }
        }
    }

    /// A column as it is stored.
    pub fn get_ref<I: Column>(&self, column: I) -> Result<ValueRef<'_>> {
        match self {
            SqlRow::Sqlite(row) => Ok(row.get_ref(column.number())?),
            SqlRow::Postgres(row) => session::column(row, column.number()),
        }
    }
}

/// The place of a column, from 0.
pub trait Column {
    /// As a number.
    fn number(self) -> usize;
}

impl Column for usize {
    fn number(self) -> usize {
        self
    }
}

/// A column's text.
pub trait TextColumn<'a> {
    /// The text.
    fn text(self) -> Result<&'a str>;
    /// The text; none if the column is null.
    fn text_or_null(self) -> Result<Option<&'a str>>;
}

impl<'a> TextColumn<'a> for ValueRef<'a> {
    fn text(self) -> Result<&'a str> {
        self.as_str().map_err(|error| rusqlite::Error::from(error).into())
    }

    fn text_or_null(self) -> Result<Option<&'a str>> {
        self.as_str_or_null().map_err(|error| rusqlite::Error::from(error).into())
    }
}

/// A missing row is not an error.
pub trait Optional<T> {
    /// `None` if there was no row.
    fn optional(self) -> Result<Option<T>>;
}

impl<T> Optional<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(Error::Sqlite(rusqlite::Error::QueryReturnedNoRows)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What is bound to `?1`, `?2`, …
pub trait Params {
    /// Hands them over as a list.
    fn with<T>(&self, take: impl FnOnce(&[&dyn ToSql]) -> T) -> T;
}

impl Params for &[&dyn ToSql] {
    fn with<T>(&self, take: impl FnOnce(&[&dyn ToSql]) -> T) -> T {
        take(self)
    }
}

impl Params for [&dyn ToSql; 0] {
    fn with<T>(&self, take: impl FnOnce(&[&dyn ToSql]) -> T) -> T {
        take(&[])
    }
}

impl<A: ToSql> Params for [A; 1] {
    fn with<T>(&self, take: impl FnOnce(&[&dyn ToSql]) -> T) -> T {
        take(&[&self[0]])
    }
}
