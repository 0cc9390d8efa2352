//! A platform with some agents, and doormen that share them: each with a state directory, a configuration and a name of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use doorman::sandbox::wire::RequestState;
use doorman::sandbox::{Control, NewRequest, Sandbox, SandboxOptions, SandboxStatus, World};
use tokio::process::Command;

use crate::Database;
use crate::faults::daemon::Daemon;
use crate::faults::site::TIME;

/// Friends are let in, foes are sent away, everybody else waits for a person.
pub const RULES: &str = "version = 1\n[policy]\nmode = \"enforce\"\nno_match = \"defer\"\n\
    [rules.friends]\nthen = \"approve\"\nwhen = { handle = \"friends/*\" }\n\
    [rules.foes]\nthen = \"reject\"\nwhen = { handle = \"foes/*\" }\n";
/// The other way round.
pub const OPPOSITE: &str = "version = 1\n[policy]\nmode = \"enforce\"\nno_match = \"defer\"\n\
    [rules.friends]\nthen = \"reject\"\nwhen = { handle = \"friends/*\" }\n\
    [rules.foes]\nthen = \"approve\"\nwhen = { handle = \"foes/*\" }\n";

pub struct Doormen {
    pub control: Control,
    pub agents: Vec<String>,
    dir: tempfile::TempDir,
    sandbox: Sandbox,
    ledger: String,
    /// For the files that are written from now on. Longer if nobody may be taken for dead on a slow machine.
    pub ttl: &'static str,
    asked: std::sync::atomic::AtomicU64,
}

fn key(agent: usize) -> String {
    format!("key-of-agent-number-{agent}")
}

/// An agent in a configuration.
fn described(n: usize, id: &str) -> String {
    format!("[[agents]]\nid = \"{id}\"\napi_key_file = \"{n}.key\"\nrules = \"rules.toml\"\n")
}

impl Doormen {
    pub async fn of(agents: usize, database: &Database) -> Self {
        Self::at([127, 0, 0, 1].into(), agents, database).await
    }

    /// The platform listens at this address.
    pub async fn at(address: std::net::IpAddr, agents: usize, database: &Database) -> Self {
        let ids: Vec<String> = (0..agents).map(|n| format!("a0000000-0000-4000-8000-{n:012}")).collect();
        let mut world = World::new().user("u", "ku", "doormen", "Doormen");
        for (n, id) in ids.iter().enumerate() {
            world = world.agent(id, &key(n), &format!("doormen/porter-{n}"), "Porter");
        }
        let sandbox = Sandbox::start((address, 0).into(), world, SandboxOptions::default()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (control, ledger) = (sandbox.control(), database.ledger.clone());
        Self { control, agents: ids, dir, sandbox, ledger, ttl: "3s", asked: 0.into() }
    }

    /// The platform's port.
    pub fn port(&self) -> u16 {
        self.sandbox.address().port()
    }

    /// Writes the files of a doorman.
    pub fn files(&self, name: &str, rules: &str, more: &str) -> PathBuf {
        self.files_to(name, &self.sandbox.address().to_string(), &self.ledger, rules, more)
    }

    /// The same, if the platform and the database are reached in another way.
    pub fn files_to(&self, name: &str, platform: &str, ledger: &str, rules: &str, more: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("rules.toml"), rules).unwrap();
        let mut text = format!("[platform]\nurl = \"http://{platform}\"\n");
        for (n, id) in self.agents.iter().enumerate() {
            std::fs::write(dir.join(format!("{n}.key")), key(n)).unwrap();
            text.push_str(&described(n, id));
        }
        let ttl = self.ttl;
        let _ = write!(
            text,
            "[answers]\nper_second = 0\n[ledger]\npath = \"ledger.db\"\n{ledger}\n[fleet]\nname = \"{name}\"\nttl = \"{ttl}\"\n\
             let_go_after = \"1s\"\n[control]\npath = \"doorman.sock\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n[timing]\n\
             list_live = \"400ms\"\nlist_away = \"200ms\"\nyield_retry = \"200ms\"\nghost_window = \"2s\"\nghost_retry = \"100ms\"\n\
             backoff_min = \"20ms\"\nbackoff_max = \"200ms\"\nproven_after = \"500ms\"\ndrain = \"2s\"\n{more}"
        );
        std::fs::write(dir.join("doorman.toml"), text).unwrap();
        dir
    }

    /// This doorman's configuration names this agent no more.
    pub fn forget(&self, name: &str, agent: &str) {
        let path = self.dir.path().join(name).join("doorman.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let n = self.agents.iter().position(|id| id == agent).unwrap();
        let without = text.replace(&described(n, agent), "");
        assert_ne!(without, text, "{agent} was not named");
        std::fs::write(path, without).unwrap();
    }

    /// A file beside the doormen's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a doorman of this name, with its files as they are, or as usual.
    pub fn start(&self, name: &str) -> Daemon {
        self.start_told(name, &[])
    }

    pub fn start_told(&self, name: &str, variables: &[(&str, &str)]) -> Daemon {
        let dir = self.dir.path().join(name);
        if !dir.join("doorman.toml").exists() {
            self.files(name, RULES, "");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
        command.arg("run").env_clear().envs(variables.iter().copied());
        Daemon::spawn(command, &dir)
    }

    /// Starts a doorman, whose files are there, after these words.
    pub fn start_after(&self, words: &[&str], name: &str) -> Daemon {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_doorman")).arg("run").env_clear();
        Daemon::spawn(command, &self.dir.path().join(name))
    }

    /// Another command, with the files of this doorman.
    pub async fn cli(&self, name: &str, arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.command(name, arguments);
        let output = tokio::time::timeout(TIME, command.output()).await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The same, not run yet.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorman"));
        command.args(arguments).env_clear().env("DOORMAN_CONFIG", self.dir.path().join(name).join("doorman.toml"));
        command
    }

    /// This many friends, as many foes, and one stranger ask each agent.
    pub fn ask(&self, each: u64) {
        let burst = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        for (n, agent) in self.agents.iter().enumerate() {
            for (who, each) in [("friends", each), ("foes", each), ("strangers", 1)] {
                let new = NewRequest::to(agent).from(&format!("{who}/{burst}-{{n}}"));
                self.control.request(&new.id(&format!("{burst}-{n}-{who}-{{n}}")).count(each)).unwrap();
            }
        }
    }

    pub async fn until(&self, what: &str, so: impl AsyncFn() -> bool) {
        let wait = async {
            while !so().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(TIME, wait).await.is_err() {
            panic!("never: {what}; {:?}", self.control.counts());
        }
    }

    /// Everybody who is not a stranger has an answer.
    pub fn all_decided(&self) -> bool {
        self.control
            .state()
            .requests
            .iter()
            .all(|request| is_stranger(request) || request.status != SandboxStatus::Pending)
    }

    pub async fn all_decided_soon(&self) {
        self.until("all decided", async || self.all_decided()).await;
    }

    /// How many answers the platform got.
    pub fn answered(&self) -> u64 {
        self.control.state().requests.iter().map(|request| request.answered).sum()
    }

    /// Who is not a stranger and has no answer yet.
    pub fn pending(&self) -> Vec<String> {
        let requests = self.control.state().requests.into_iter();
        requests
            .filter(|request| !is_stranger(request) && request.status == SandboxStatus::Pending)
            .map(|request| request.id)
            .collect()
    }

    /// Everybody has an answer, but those to whom another answer may be on its way than the one that today's rules would give: they
    /// wait for a person.
    pub async fn all_decided_or_bound(&self, database: &Database) {
        self.until("all decided or bound", async || {
            let bound = self.open_answers(database).await;
            self.pending().iter().all(|request| bound.contains(request))
        })
        .await;
    }

    /// The requests with an answer on record of which nobody knows what became.
    pub async fn open_answers(&self, database: &Database) -> Vec<String> {
        let sql = "SELECT r.id FROM doorman.answer w JOIN doorman.request r ON r.n = w.request
                   WHERE w.outcome IS NULL OR w.outcome = 'unknown'";
        let rows = Database::client(&database.url).await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Nobody got two verdicts, no stranger got any, and each answer is the one on record.
    pub async fn judge(&self, database: &Database) {
        let client = Database::client(&database.url).await;
        let rows = client
            .query("SELECT r.id, w.answer FROM doorman.answer w JOIN doorman.request r ON r.n = w.request", &[])
            .await
            .unwrap();
        let mut on_record: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in rows {
            on_record.entry(row.get(0)).or_default().push(row.get(1));
        }
        for request in self.control.state().requests {
            if is_stranger(&request) {
                assert_eq!((request.answered, request.status), (0, SandboxStatus::Pending), "{request:?}");
                continue;
            }
            let recorded = on_record.get(&request.id).cloned().unwrap_or_default();
            assert_eq!(recorded.len(), 1, "one answer on record: {recorded:?} {request:?}");
            let said = if recorded[0] == "approve" { SandboxStatus::Approved } else { SandboxStatus::Rejected };
            assert!(request.answers.iter().all(|answer| answer.status == said), "{recorded:?} {request:?}");
        }
    }

    /// By doorman: the agents whose lease it has, by the database.
    pub async fn holders(&self, database: &Database) -> BTreeMap<String, Vec<String>> {
        let client = Database::client(&database.url).await;
        let sql =
            "SELECT m.name, l.name FROM doorman.lease l JOIN doorman.member m ON m.id = l.holder AND m.state <> 'dead'
                   WHERE l.name <> 'notify' ORDER BY l.name";
        let mut holders: BTreeMap<String, Vec<String>> = BTreeMap::new();
        // A doorman that makes the tables just now has none yet.
        for row in client.query(sql, &[]).await.unwrap_or_default() {
            holders.entry(row.get(0)).or_default().push(row.get(1));
        }
        holders
    }

    /// How many agents each of these doormen has.
    pub async fn counts(&self, database: &Database, names: &[&str]) -> Vec<usize> {
        let holders = self.holders(database).await;
        names.iter().map(|name| holders.get(*name).map_or(0, Vec::len)).collect()
    }

    /// Waits until these doormen have so many.
    pub async fn have(&self, database: &Database, names: &[&str], counts: &[usize]) {
        let so = async || self.counts(database, names).await == counts;
        let wait = async {
            while !so().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(TIME, wait).await.is_err() {
            panic!("never {counts:?}: {:?}", self.holders(database).await);
        }
    }
}

/// Nobody decides about strangers.
pub fn is_stranger(request: &RequestState) -> bool {
    request.from_handle.as_deref().is_some_and(|handle| handle.starts_with("strangers/"))
}
