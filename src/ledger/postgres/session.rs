//! One connection to the database, asked by one thread at a time, which waits for each answer: as a file is asked.
//!
//! The socket is read and written on a thread of its own (`net`), so that a session may be used from anywhere, in a runtime or not.
//! An answer that does not come in time ends the connection, never only the query: what becomes of a query that
//! nobody waits for nobody knows.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, BytesMut};
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use tokio::runtime::Runtime;
use tokio_postgres::types::{FromSql, IsNull, Type, to_sql_checked};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dialect;
use crate::ledger::sql;

/// How long a connection may take, address by address.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Rows that one step of a long reading brings.
const FETCH: usize = 256;
/// Statements that a connection keeps.
const STATEMENTS_MAX: usize = 256;

/// What the database, or the way to it, said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseFailure {
    /// The database refused a statement.
    #[error("{message} (SQLSTATE {code})")]
    Said {
        /// SQLSTATE.
        code: String,
        /// Its words. They may quote what a stranger wrote.
        message: String,
    },
    /// The connection is gone, or could not be made.
    #[error("{0}")]
    Lost(String),
    /// No answer came in time, and the connection was given up.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
}

impl DatabaseFailure {
    /// The database's word for it, if it said one.
    pub fn code(&self) -> Option<&str> {
        match self {
            DatabaseFailure::Said { code, .. } => Some(code),
            DatabaseFailure::Lost(_) | DatabaseFailure::Silent(_) => None,
        }
    }

    /// Two transactions were in each other's way: the same again may go through.
    pub fn collided(&self) -> bool {
        matches!(self.code(), Some("40001" | "40P01"))
    }
}

impl From<tokio_postgres::Error> for DatabaseFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) => {
                DatabaseFailure::Said { code: said.code().code().to_owned(), message: said.message().to_owned() }
            }
            None => {
                let mut why = error.to_string();
                let mut source = std::error::Error::source(&error);
                while let Some(inner) = source {
                    why = format!("{why}: {inner}");
                    source = inner.source();
                }
                DatabaseFailure::Lost(why)
            }
        }
    }
}

/// The thread that carries the bytes of all connections. It ends with the process.
fn net() -> Result<&'static Runtime, DatabaseFailure> {
    static NET: OnceLock<Option<Runtime>> = OnceLock::new();
    let made = NET.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("ledger-net").enable_all().build().ok()
    });
    made.as_ref().ok_or_else(|| DatabaseFailure::Lost("no thread to speak to the database".to_owned()))
}

/// See the module. Dropping it closes the connection.
pub struct DatabaseSession {
    client: Client,
    carrier: tokio::task::JoinHandle<()>,
    /// How long an answer is waited for.
    call_max: Duration,
    statements: RefCell<HashMap<String, tokio_postgres::Statement>>,
    /// Nothing may be asked any more.
    broken: Cell<bool>,
    in_transaction: Cell<bool>,
    /// The last thing that went wrong was a transaction that met another one.
    collided: Cell<bool>,
    cursors: Cell<u64>,
}

impl std::fmt::Debug for DatabaseSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl Drop for DatabaseSession {
    fn drop(&mut self) {
        // A transaction that is open ends with the connection.
        self.carrier.abort();
    }
}

impl DatabaseSession {
    /// Connects. No answer is waited for longer than `call_max`.
    pub fn connect(config: &Config, tls: MakeRustlsConnect, call_max: Duration) -> Result<Self, DatabaseFailure> {
        let net = net()?;
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(1).max(1);
        let config = config.clone();
        let connecting = net.spawn(async move { config.connect(tls).await });
        let connect_max = CONNECT_MAX * 2 * hosts;
        let connected = wait(connecting, connect_max).ok_or(DatabaseFailure::Silent(connect_max))?;
        let (client, connection) = connected.map_err(|error| DatabaseFailure::Lost(error.to_string()))??;
        let carrier = net.spawn(async move {
            // What ended it is returned to whoever asks next.
            let _ = connection.await;
        });
        Ok(Self {
            client,
            carrier,
            call_max,
            statements: RefCell::default(),
            broken: Cell::new(false),
            in_transaction: Cell::new(false),
            collided: Cell::new(false),
            cursors: Cell::new(0),
        })
    }

    /// Whether it has to be made again.
    pub fn is_broken(&self) -> bool {
        self.broken.get() || self.client.is_closed()
    }

    /// Nothing more is asked on it.
    pub fn give_up(&self) {
        self.broken.set(true);
        self.carrier.abort();
    }

    /// Whether two transactions were in each other's way when something went wrong last.
    pub fn collided(&self) -> bool {
        self.collided.get()
    }

    fn answer<T>(&self, asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, DatabaseFailure> {
        if self.broken.get() {
            return Err(DatabaseFailure::Lost("the connection was given up".to_owned()));
        }
        let answered = match wait(asked, self.call_max) {
            Some(answered) => answered.map_err(DatabaseFailure::from),
            None => Err(DatabaseFailure::Silent(self.call_max)),
        };
        let gone = match &answered {
            Ok(_) => false,
            // A demoted primary says that it only reads: the connection leads to the wrong place.
            Err(DatabaseFailure::Said { code, .. }) => code == "25006",
            Err(DatabaseFailure::Lost(_) | DatabaseFailure::Silent(_)) => true,
        };
        if let Err(failure) = &answered {
            self.collided.set(failure.collided());
        }
        if gone {
            self.give_up();
        }
        answered
    }

    /// Statements without parameters, in this engine's own words.
    pub fn batch(&self, sql: &str) -> Result<(), DatabaseFailure> {
        self.answer(self.client.batch_execute(sql))
    }

    /// What a setting of this session is.
    pub fn shown(&self, sql: &str) -> Result<Option<String>, DatabaseFailure> {
        let rows = self.answer(self.client.simple_query(sql))?;
        let first = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        });
        Ok(first.flatten())
    }

    fn prepared(&self, sql: &str) -> Result<tokio_postgres::Statement, DatabaseFailure> {
        if let Some(known) = self.statements.borrow().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.answer(self.client.prepare(&dialect::of_postgres(sql)))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// All rows of a statement, in the words of every engine.
    pub fn rows(&self, sql: &str, params: &[&dyn ToSql]) -> sql::Result<Vec<tokio_postgres::Row>> {
        let statement = self.prepared(sql)?;
        let bound = bind(params)?;
        let bound: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = bound.iter().map(|one| one as _).collect();
        Ok(self.answer(self.client.query(&statement, &bound))?)
    }

    /// How many rows a statement changed.
    pub fn execute(&self, sql: &str, params: &[&dyn ToSql]) -> sql::Result<usize> {
        let statement = self.prepared(sql)?;
        let bound = bind(params)?;
        let bound: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = bound.iter().map(|one| one as _).collect();
        let changed = self.answer(self.client.execute(&statement, &bound))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    /// Adds a row and returns its number; none if the statement did nothing.
    pub fn insert(&self, sql: &str, params: &[&dyn ToSql]) -> sql::Result<Option<i64>> {
        let rows = self.rows(&format!("{sql} RETURNING n"), params)?;
        Ok(rows.first().and_then(|row| row.try_get(0).ok()))
    }

    /// Begins a transaction, if none is open; returns whether it did.
    pub fn begin(&self, how: &str) -> Result<bool, DatabaseFailure> {
        if self.in_transaction.get() {
            return Ok(false);
        }
        self.batch(how)?;
        self.in_transaction.set(true);
        Ok(true)
    }

    /// Ends it. A COMMIT of a transaction in which a statement failed succeeds, and undoes it: the statement before it fails then.
    pub fn commit(&self) -> Result<(), DatabaseFailure> {
        self.batch("SELECT 1; COMMIT")?;
        self.in_transaction.set(false);
        Ok(())
    }

    /// Undoes it. If that cannot be said, the connection is given up, which does the same.
    pub fn rollback(&self) {
        if self.in_transaction.replace(false) && !self.broken.get() && self.batch("ROLLBACK").is_err() {
            self.give_up();
        }
    }

    /// Begins a reading that may stop early.
    pub fn reading<'a>(&'a self, sql: &str, params: &[&dyn ToSql]) -> sql::Result<RowStream<'a>> {
        let own = self.begin("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
        self.cursors.set(self.cursors.get() + 1);
        let mut reading = RowStream {
            session: self,
            name: format!("reading_{}", self.cursors.get()),
            own,
            open: true,
            rows: VecDeque::new(),
            now: None,
            all: false,
        };
        // The query inside of a DECLARE does not find out its parameters' types by itself.
        let declared = self.prepared(sql).and_then(|statement| {
            let declare = format!("DECLARE {} NO SCROLL CURSOR FOR {}", reading.name, dialect::of_postgres(sql));
            self.answer(self.client.prepare_typed(&declare, statement.params()))
        });
        let declare = match declared {
            Ok(declare) => declare,
            Err(failure) => {
                reading.open = false;
                return Err(failure.into());
            }
        };
        let bound = bind(params)?;
        let bound: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = bound.iter().map(|one| one as _).collect();
        let declared = self.answer(self.client.execute(&declare, &bound));
        if let Err(failure) = declared {
            reading.open = false;
            return Err(failure.into());
        }
        Ok(reading)
    }
}

/// Rows that are still to be read.
pub struct RowStream<'a> {
    session: &'a DatabaseSession,
    name: String,
    /// Whether the transaction is its own.
    own: bool,
    open: bool,
    rows: VecDeque<tokio_postgres::Row>,
    now: Option<Rc<tokio_postgres::Row>>,
    /// Everything was fetched.
    all: bool,
}

impl RowStream<'_> {
    /// The next row.
    pub fn next(&mut self) -> sql::Result<Option<&tokio_postgres::Row>> {
        if self.rows.is_empty() && !self.all {
            let fetch = format!("FETCH {FETCH} FROM {}", self.name);
            let fetched = self.session.answer(self.session.client.query_typed(&fetch, &[]))?;
            self.all = fetched.len() < FETCH;
            self.rows = fetched.into();
        }
        self.now = self.rows.pop_front().map(Rc::new);
        Ok(self.now.as_deref())
    }
}

impl Drop for RowStream<'_> {
    fn drop(&mut self) {
        if self.own {
            self.session.rollback();
        } else if self.open && self.session.batch(&format!("CLOSE {}", self.name)).is_err() {
            // The transaction around it has failed, and says so by itself.
        }
    }
}

/// A column as every engine gives it.
pub fn column(row: &tokio_postgres::Row, number: usize) -> sql::Result<ValueRef<'_>> {
    match row.try_get::<_, ColumnValue<'_>>(number) {
        Ok(ColumnValue(value)) => Ok(value),
        Err(error) => Err(sql::Error::damaged(&error.to_string())),
    }
}

struct ColumnValue<'a>(ValueRef<'a>);

impl<'a> FromSql<'a> for ColumnValue<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let value = match *ty {
            Type::BOOL => ValueRef::Integer(i64::from(bool::from_sql(ty, raw)?)),
            Type::INT2 => ValueRef::Integer(i64::from(i16::from_sql(ty, raw)?)),
            Type::INT4 => ValueRef::Integer(i64::from(i32::from_sql(ty, raw)?)),
            Type::INT8 => ValueRef::Integer(i64::from_sql(ty, raw)?),
            Type::TEXT | Type::VARCHAR | Type::NAME | Type::JSON => ValueRef::Text(raw),
            Type::BYTEA => ValueRef::Blob(raw),
            _ => return Err(format!("a column of the type {ty}").into()),
        };
        Ok(Self(value))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(ValueRef::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A value on its way to the database, whatever type that wants.
#[derive(Debug)]
struct Parameter(Value);

fn bind(params: &[&dyn ToSql]) -> sql::Result<Vec<Parameter>> {
    let bound = params.iter().map(|param| {
        let value = match param.to_sql()? {
            ToSqlOutput::Owned(value) => value,
            ToSqlOutput::Borrowed(value) => {
                value.try_into().map_err(|error: rusqlite::types::FromSqlError| rusqlite::Error::from(error))?
            }
            _ => return Err(sql::Error::damaged("a value of a kind that no engine but SQLite has")),
        };
        Ok(Parameter(value))
    });
    bound.collect()
}

impl tokio_postgres::types::ToSql for Parameter {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (&self.0, ty) {
            (Value::Null, _) => return Ok(IsNull::Yes),
            (Value::Integer(number), &Type::BOOL) => out.put_u8(u8::from(*number != 0)),
            (Value::Integer(number), &Type::INT2) => out.put_i16(i16::try_from(*number)?),
            (Value::Integer(number), &Type::INT4) => out.put_i32(i32::try_from(*number)?),
            (Value::Integer(number), &Type::INT8) => out.put_i64(*number),
            (Value::Text(text), &(Type::TEXT | Type::VARCHAR | Type::NAME | Type::JSON | Type::UNKNOWN)) => {
                out.put_slice(text.as_bytes());
            }
            (Value::Blob(bytes), &Type::BYTEA) => out.put_slice(bytes),
            (value, ty) => return Err(format!("{} for a parameter of the type {ty}", value.data_type()).into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread; `None` if it takes longer.
#[expect(clippy::disallowed_methods, reason = "a shell: how long an answer may take is the machine's time")]
fn wait<F: Future>(future: F, at_most: Duration) -> Option<F::Output> {
    let begun = Instant::now();
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = at_most.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())?;
        std::thread::park_timeout(left);
    }
}
