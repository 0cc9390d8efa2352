//! Commands of people for agents that another doorman of the same database holds: rows, since doormen do not speak to each other.
//!
//! The doorman that is asked adds a row with a deadline. The holder of the agent's lease takes it, with the lease's row locked, and
//! ends it with its reply. A holder that dies in between has taken it in an older epoch, so that the next one takes it again. After
//! the deadline nobody takes it. All times are the database's: no clocks are compared.

use std::time::Duration;

/// Most commands that are open at the same time, in the whole database.
pub(crate) const OPEN_MAX: i64 = 1_000;
/// A row that nobody came back for is deleted after this long.
pub(crate) const KEPT: Duration = Duration::from_secs(3_600);
/// Longest reply (characters).
pub(crate) const REPLY_MAX: usize = 262_144;

/// What a doorman asks whoever holds an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommand {
    /// Nobody had it before: twice is once.
    pub id: String,
    /// The agent.
    pub lease: String,
    /// What, as JSON.
    pub op: String,
    /// Who wants it, as the record names them.
    pub person: String,
    /// What they noted.
    pub note: Option<String>,
    /// The name of the doorman that was asked.
    pub made_by: String,
    /// How long it may be taken.
    pub lasts: Duration,
}

/// Whether a command was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandAdded {
    /// It is there.
    Added,
    /// `OPEN_MAX` are open.
    Full,
}

/// What became of a command so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandProgress {
    /// Nobody has taken it.
    Open,
    /// This doorman has taken it, and did not reply yet.
    Taken(String),
    /// The reply, as JSON.
    Ended(String),
    /// There is no such row.
    Gone,
}

/// A command for an agent that this doorman holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCommand {
    /// See [`NewCommand::id`].
    pub id: String,
    /// The agent.
    pub lease: String,
    /// What, as JSON.
    pub op: String,
    /// Who wants it.
    pub person: String,
    /// What they noted.
    pub note: Option<String>,
    /// The doorman that was asked.
    pub made_by: String,
    /// Somebody took it before, and did not reply.
    pub was_taken: bool,
}
