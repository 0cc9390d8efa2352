//! What floors B and C put on record: one thread that writes, many entries in one transaction.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};

use doorman::ledger::{Ledger, LedgerOptions};
use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, params};
use tokio::sync::mpsc::UnboundedSender;

use crate::floors::{Payload, Request};

/// Most entries of one transaction, as in doorman.
const GROUP_MAX: usize = 4096;
/// Two rows for each request: an intent, and an outcome.
const SCHEMA_B: &str = "CREATE TABLE intent (n INTEGER PRIMARY KEY, id TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
                        CREATE TABLE outcome (intent INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;";
/// Which floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is recorded.
    A,
    /// An intent and an outcome.
    B,
    /// The rows and indexes of doorman's ledger.
    C,
}

/// One entry to record.
pub enum Entry {
    /// An answer is about to be sent; its id is sent back when this is committed.
    Intent(String, Option<Request>),
    /// The platform accepted it.
    Outcome(String),
    /// The answer made a contact.
    Contact(Payload),
}

/// The sending end of the thread's channel.
pub struct Records(Sender<Entry>);

impl Records {
    /// Starts the thread; `None` for floor A. `told` receives the id of each intent that is committed.
    pub fn start(kind: Kind, path: &Path, told: UnboundedSender<String>) -> Option<Self> {
        // The backlog uses the database that the bursts have left.
        let new = !path.exists();
        match kind {
            Kind::A => return None,
            Kind::B => {}
            Kind::C if new => make_ledger(path),
            Kind::C => {}
        }
        let connection = Connection::open(path).unwrap();
        connection.set_prepared_statement_cache_capacity(64);
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;")
            .unwrap();
        connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).unwrap();
        if new && kind == Kind::B {
            connection.execute_batch(SCHEMA_B).unwrap();
        }
        let (push, entries) = mpsc::channel();
        let mut writer = Writer {
            connection,
            numbers: HashMap::new(),
            let_in: HashMap::new(),
            agent: 0,
            policy: 0,
            contacts: 0,
            kind,
        };
        if kind == Kind::C {
            writer.prepare();
        }
        std::thread::spawn(move || writer.run(&entries, &told));
        Some(Self(push))
    }

    /// Sends an entry to the thread.
    pub fn push(&self, entry: Entry) {
        self.0.send(entry).unwrap();
    }
}

struct Writer {
    connection: Connection,
    /// Of each open intent: the numbers of its request (C) and of its answer.
    numbers: HashMap<String, (i64, i64)>,
    /// For each approved handle whose contact has not appeared yet: the row number of its request (C).
    let_in: HashMap<String, i64>,
    agent: i64,
    policy: i64,
    /// How many contacts were written (C).
    contacts: u64,
    kind: Kind,
}

impl Writer {
    fn prepare(&mut self) {
        let number = |sql| self.connection.query_row(sql, [], |row| row.get(0)).unwrap();
        self.agent = number("INSERT INTO agent (id) VALUES ('floor') ON CONFLICT DO UPDATE SET id = id RETURNING n");
        self.policy =
            number("INSERT INTO policy (hash) VALUES ('floor') ON CONFLICT DO UPDATE SET hash = hash RETURNING n");
    }

    fn run(mut self, entries: &Receiver<Entry>, told: &UnboundedSender<String>) {
        let mut intents = Vec::new();
        while let Ok(first) = entries.recv() {
            self.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            for entry in std::iter::once(first).chain(entries.try_iter()).take(GROUP_MAX) {
                match (entry, self.kind) {
                    (Entry::Intent(id, request), kind) => {
                        if kind == Kind::C {
                            self.intent_c(&request.unwrap())
                        } else {
                            self.intent_b(&id)
                        }
                        intents.push(id);
                    }
                    (Entry::Outcome(id), Kind::C) => self.outcome_c(&id),
                    (Entry::Outcome(id), _) => self.outcome_b(&id),
                    (Entry::Contact(contact), _) => self.contact_c(&contact),
                }
            }
            self.connection.execute_batch("COMMIT").unwrap();
            for id in intents.drain(..) {
                let _ = told.send(id);
            }
        }
    }

    fn sql(&self, sql: &str) -> CachedStatement<'_> {
        self.connection.prepare_cached(sql).unwrap()
    }

    fn intent_b(&mut self, id: &str) {
        let n = self.sql("INSERT INTO intent (id, at) VALUES (?1, ?2)").insert(params![id, now()]).unwrap();
        self.numbers.insert(id.to_owned(), (0, n));
    }

    fn outcome_b(&mut self, id: &str) {
        let (_, n) = self.numbers.remove(id).unwrap();
        self.sql("INSERT INTO outcome (intent, at) VALUES (?1, ?2)").execute(params![n, now()]).unwrap();
    }

    /// The rows that doorman writes for a request that a rule with a limit approves, before the call.
    fn intent_c(&mut self, request: &Request) {
        let at = now();
        let handle = request.from_handle.as_deref().unwrap();
        let owner = handle.split('/').next().unwrap();
        let inserted: Timestamp = request.inserted_at.as_deref().unwrap().parse().unwrap();
        let row = self
            .sql(
                "INSERT INTO request (agent, id, owner, handle, name, message, inserted_at, first_seen, via)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'event')",
            )
            .insert(params![
                self.agent,
                request.id,
                owner,
                handle,
                request.from_name,
                request.message,
                inserted.as_microsecond(),
                at
            ])
            .unwrap();
        let facts = format!(r#"{{"voices":[{{}}],"charges":[[""]],"known":{{"contacts":{}}}}}"#, self.contacts);
        let decision = self
            .sql(
                "INSERT INTO decision (request, at, verdict, \"by\", policy, mode, facts)
                 VALUES (?1, ?2, 'approve', 'friends', ?3, 'enforce', ?4)",
            )
            .insert(params![row, at, self.policy, facts])
            .unwrap();
        let answer = self
            .sql(
                "INSERT INTO answer (agent, request, answer, \"by\", policy, counts, at, attempts, reserved_at, last_at,
                     after_decision)
                 VALUES (?1, ?2, 'approve', 'friends', ?3, 0, ?4, 1, ?4, ?4, ?5)",
            )
            .insert(params![self.agent, row, self.policy, at, decision])
            .unwrap();
        self.sql("INSERT INTO charge (request, rule, bucket, agent, at) VALUES (?1, 'friends', '', ?2, ?3)")
            .execute(params![row, self.agent, at])
            .unwrap();
        self.numbers.insert(request.id.clone(), (row, answer));
        self.let_in.insert(handle.to_owned(), row);
    }

    fn outcome_c(&mut self, id: &str) {
        let (request, answer) = self.numbers.remove(id).unwrap();
        let at = now();
        self.sql(
            "UPDATE answer SET outcome = iif(answer = 'approve', 'approved', 'rejected'), outcome_at = ?2 WHERE n = ?1",
        )
        .execute(params![answer, at])
        .unwrap();
        self.sql("UPDATE request SET settled = 'approved', settled_at = ?2 WHERE n = ?1")
            .execute(params![request, at])
            .unwrap();
    }

    fn contact_c(&mut self, contact: &Payload) {
        let handle = contact.handle.as_deref().unwrap();
        self.contacts += 1;
        let request = self.let_in.remove(handle);
        let inserted: Timestamp = contact.inserted_at.as_deref().unwrap().parse().unwrap();
        let (owner, at) = (handle.split('/').next().unwrap(), now());
        let n = self
            .sql(
                "INSERT INTO contact (agent, id, owner, handle, name, kind, inserted_at, added_at, request)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'agent', ?6, ?7, ?8)",
            )
            .insert(params![
                self.agent,
                contact.id(),
                owner,
                handle,
                contact.name,
                inserted.as_microsecond(),
                at,
                request
            ])
            .unwrap();
        self.sql("INSERT INTO contact_owner (contact, owner, agent, at) VALUES (?1, ?2, ?3, ?4)")
            .execute(params![n, owner, self.agent, at])
            .unwrap();
    }
}

/// Makes the file with doorman's present schema.
fn make_ledger(path: &Path) {
    let path = path.to_owned();
    // On a separate thread, since the caller runs on a runtime.
    let made = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Ledger::open(&path, LedgerOptions::default()).unwrap().close().await }).unwrap();
    });
    made.join().unwrap();
}

fn now() -> i64 {
    Timestamp::now().as_microsecond()
}
