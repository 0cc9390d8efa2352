//! Who is on a database: a row for each life of a doorman's process. A doorman watches the others' rows, and never a clock of theirs.
//!
//! `fleet` decides by them who writes for which agent; here they are only written and read.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// With which values this process joins the others.
#[derive(Debug, Clone)]
pub struct NewMember {
    /// Of this life of this process: nobody had it before.
    pub id: String,
    /// Of this doorman's state directory, over all lives.
    pub instance: String,
    /// The last life in that directory, which has certainly ended.
    pub before: Option<String>,
    /// For people.
    pub name: String,
    /// How long it counts as alive after its last beat.
    pub ttl: Duration,
    /// Its share of the agents, compared with the others'.
    pub weight: u32,
    /// Most agents that it takes.
    pub agents_max: u32,
    /// The leases that it may hold.
    pub names: Arc<[String]>,
}

impl Default for NewMember {
    #[expect(clippy::disallowed_methods, reason = "a shell: nobody else may have the id")]
    fn default() -> Self {
        let id = uuid::Uuid::new_v4().to_string();
        Self {
            instance: id.clone(),
            id,
            before: None,
            name: host(),
            ttl: Duration::from_secs(15),
            weight: 100,
            agents_max: 20_000,
            names: Arc::default(),
        }
    }
}

/// The name of this machine.
pub fn host() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(64).collect();
    if host.is_empty() { "doorman".to_owned() } else { host }
}

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberState {
    /// It holds agents, and takes more.
    Up,
    /// A person wants it to give its agents to others.
    Draining,
    /// It was stopped. Its agents wait a moment for the next start.
    Left,
    /// It holds nothing any more, whatever it thinks.
    Dead,
}

impl MemberState {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            MemberState::Up => "up",
            MemberState::Draining => "draining",
            MemberState::Left => "left",
            MemberState::Dead => "dead",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        [MemberState::Up, MemberState::Draining, MemberState::Left, MemberState::Dead]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// A member that is not dead, as one looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Of this life.
    pub id: String,
    /// Of its state directory.
    pub instance: String,
    /// For people.
    pub name: String,
    /// doorman's version.
    pub version: String,
    /// Counts up.
    pub beat: i64,
    /// How it stands.
    pub state: MemberState,
    /// Its share, compared with the others'.
    pub weight: u32,
    /// Most agents that it takes.
    pub agents_max: u32,
    /// How long it counts as alive after a beat.
    pub ttl: Duration,
    /// Which lease set it has: its hash.
    pub lease_set: String,
    /// How many of its agents have the platform.
    pub reached: u64,
    /// It does not reach the platform, and takes no agents until it does.
    pub away: bool,
    /// When it came, by the database's clock.
    pub joined_at: Timestamp,
    /// How long ago it beat, by the database's clock.
    pub beat_age: Duration,
    /// How many leases it holds; read for people alone.
    pub held: u64,
}

/// A lease, and which member has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseHolder {
    /// What it is for.
    pub name: String,
    /// The member's id.
    pub holder: Option<String>,
    /// The name of the doorman that a person wants to have it.
    pub wanted: Option<String>,
}

/// Two that are equal mean the same roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RosterMark {
    /// How often the connection was made.
    pub connected: u64,
    /// How often the roster was changed.
    pub changes: i64,
}

/// What came of a person's wish that a doorman has an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WishOutcome {
    /// It is on record, and the doormen follow it.
    Done,
    /// No doorman had this agent yet.
    NoLease,
    /// No doorman of that name takes agents.
    NoMember,
    /// It may not have the agent: its configuration does not name it, or it has no key for it.
    NotNamed,
}

/// What came of a beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeatOutcome {
    /// The others know that this member lives.
    Done(MemberState),
    /// This member is dead to the others: it holds nothing, and joins again as another.
    Dead {
        /// Who said so.
        by: Option<String>,
    },
}

/// What was counted of the leases of this process, since its start.
#[derive(Debug, Default)]
pub struct LeaseCounts {
    /// How often one was taken.
    pub taken: std::sync::atomic::AtomicU64,
    /// How often a transaction was refused since another doorman had the lease.
    pub fenced: std::sync::atomic::AtomicU64,
}
