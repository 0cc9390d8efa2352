//! What the bench runs: a sandbox in this process, a database of its own, the doormen's files, and what everything uses according to
//! the kernel and the server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use doorman::sandbox::{Control, Sandbox, SandboxOptions, World};
use tokio::process::{Child, Command};
use tokio_postgres::{Client, NoTls};

/// See the module.
pub struct FleetPlace {
    pub control: Control,
    pub agents: Vec<String>,
    dir: tempfile::TempDir,
    _sandbox: Sandbox,
    platform: String,
    url: String,
    sql: Client,
    server: String,
    database: String,
    ttl: u64,
}

/// What was used so far.
pub struct Load {
    /// CPU time of the doormen.
    pub doormen: Duration,
    /// Their memory.
    pub rss_mib: f64,
    /// CPU time of the server's processes that serve this database.
    pub server: Duration,
    /// Transactions in this database, but those of this bench.
    pub transactions: i64,
    /// The doormen's connections.
    pub connections: i64,
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What the server is.
pub async fn version(server: &str) -> String {
    let asked = client(server).await;
    let row = asked.query_one("SELECT current_setting('server_version'), current_setting('fsync')", &[]).await.unwrap();
    format!("PostgreSQL {}, fsync {}", row.get::<_, String>(0), row.get::<_, String>(1))
}

impl FleetPlace {
    pub async fn make(server: &str, database: &str, agents: usize, ttl: u64) -> Self {
        let sql = client(server).await;
        sql.batch_execute(&format!("DROP DATABASE IF EXISTS {database}")).await.unwrap();
        sql.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
        let agents: Vec<String> = (0..agents).map(|n| format!("a0000000-0000-4000-8000-{n:012}")).collect();
        let mut world = World::new();
        let dir = tempfile::tempdir().unwrap();
        for (n, id) in agents.iter().enumerate() {
            let key = format!("key-of-agent-{n}");
            std::fs::write(dir.path().join(format!("{n}.key")), &key).unwrap();
            world = world.agent(id, &key, &format!("owner{n}/porter"), "Porter");
        }
        let rules = "version = 1\n[rules.friends]\nthen = \"approve\"\nwhen = { handle = \"friends/*\" }\n";
        std::fs::write(dir.path().join("rules.toml"), rules).unwrap();
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into(), world, SandboxOptions::default()).await.unwrap();
        let url = server.replace("/postgres?", &format!("/{database}?"));
        Self {
            control: sandbox.control(),
            agents,
            dir,
            platform: sandbox.url(),
            _sandbox: sandbox,
            sql: client(&url).await,
            url,
            server: server.to_owned(),
            database: database.to_owned(),
            ttl,
        }
    }

    pub fn name(&self, number: usize) -> String {
        format!("host-{number}")
    }

    /// Starts the real binary: this doorman, with all agents in its configuration.
    pub fn start(&mut self, number: usize) -> Child {
        let dir = self.dir.path().join(self.name(number));
        std::fs::create_dir_all(&dir).unwrap();
        let mut text = format!(
            "[platform]\nurl = \"{}\"\n[ledger]\npath = \"ledger.db\"\nurl = \"{}\"\n[fleet]\nname = \"{}\"\nttl = \"{}s\"\n\
             [control]\npath = \"doorman.sock\"\n[log]\nlevel = \"warn\"\n[answers]\nper_second = 0\n",
            self.platform,
            self.url,
            self.name(number),
            self.ttl
        );
        for (n, id) in self.agents.iter().enumerate() {
            let _ =
                write!(text, "[[agents]]\nid = \"{id}\"\napi_key_file = \"../{n}.key\"\nrules = \"../rules.toml\"\n");
        }
        std::fs::write(dir.join("doorman.toml"), text).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        Command::new(env!("CARGO_BIN_EXE_doorman"))
            .env_clear()
            .env("DOORMAN_CONFIG", dir.join("doorman.toml"))
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// By doorman: the agents whose lease it has, by the database.
    pub async fn holders(&self) -> BTreeMap<String, Vec<String>> {
        let sql =
            "SELECT m.name, l.name FROM doorman.lease l JOIN doorman.member m ON m.id = l.holder AND m.state <> 'dead'
             WHERE l.name <> 'notify'";
        let mut holders: BTreeMap<String, Vec<String>> = BTreeMap::new();
        // A doorman that makes the tables just now has none yet.
        for row in self.sql.query(sql, &[]).await.unwrap_or_default() {
            holders.entry(row.get(0)).or_default().push(row.get(1));
        }
        holders
    }

    async fn number(&self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// How many doormen are there.
    pub async fn members(&self) -> usize {
        usize::try_from(self.number("SELECT count(*) FROM doorman.member WHERE state = 'up'").await).unwrap()
    }

    /// How many batches of agents were committed, since their leases were taken.
    pub async fn batches(&self) -> i64 {
        self.number("SELECT coalesce(sum(seq), 0)::bigint FROM doorman.lease").await
    }

    pub async fn load(&self, doormen: &[Child]) -> Load {
        let (mut cpu, mut rss) = (Duration::ZERO, 0.0);
        for doorman in doormen {
            let pid = doorman.id().unwrap();
            cpu += cpu_of(pid).unwrap();
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            rss += line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0;
        }
        let ours = "application_name LIKE 'doorman%' AND datname = current_database()";
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE ({ours}) OR backend_type <> 'client backend'");
        let pids = self.sql.query(&sql, &[]).await.unwrap();
        let pids = pids.iter().map(|row| row.get::<_, i32>(0).unsigned_abs());
        let server = pids.filter_map(cpu_of).sum();
        // What a backend has done is counted once it is idle for a second; the sum is right over a longer time.
        let done = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
        Load {
            doormen: cpu,
            rss_mib: rss,
            server,
            transactions: self.number(done).await,
            connections: self.number(&format!("SELECT count(*) FROM pg_stat_activity WHERE {ours}")).await,
        }
    }

    /// Nothing of it is left.
    pub async fn remove(self) {
        drop(self.sql);
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        client(&self.server).await.batch_execute(&drop).await.unwrap();
    }
}

/// CPU time of a process of this machine so far; `None`: it is gone.
fn cpu_of(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    // Fields 14 and 15, in hundredths of a second.
    let ticks = after[11].parse::<u64>().ok()? + after[12].parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}
