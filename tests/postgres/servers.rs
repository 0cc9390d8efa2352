//! Servers of a test's own: made, copied to a standby, stopped and promoted.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr as _;
use std::time::Duration;

use tokio::process::Command;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Config, NoTls};

use crate::Database;
use crate::faults::site::TIME;

/// What every one of them has. No `fsync`: nothing here depends on the machine's disk.
const SETTINGS: &str = "fsync = off\nmax_connections = 60\nshared_buffers = 32MB\nwal_level = replica\nhot_standby = on\n\
     wal_keep_size = 64MB\nwal_retrieve_retry_interval = 200ms\n";

/// Where they are, and by which programs.
#[derive(Clone)]
pub struct Place {
    programs: PathBuf,
    dir: PathBuf,
}

impl Place {
    /// `None` if `tests/postgres/run` did not say.
    pub fn found() -> Option<Self> {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Some(Self { programs: path("DOORMAN_TEST_POSTGRES_BIN")?, dir: path("DOORMAN_TEST_POSTGRES_PLACE")? })
    }

    /// The place of one test, which calls its servers as it likes.
    pub fn of(&self, test: &str) -> Self {
        Self { programs: self.programs.clone(), dir: self.dir.join(test) }
    }

    /// Runs one of the server's programs, as the user who may.
    fn program(&self, name: &str, arguments: &[&str]) -> std::process::Command {
        let path = self.programs.join(name);
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = std::process::Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            std::process::Command::new(path)
        };
        // Not this directory, if that user may not be.
        command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    async fn run(&self, name: &str, arguments: &[&str]) {
        let running = Command::from(self.program(name, arguments)).status();
        let status = tokio::time::timeout(TIME * 2, running).await.unwrap().unwrap();
        assert!(status.success(), "{name} {arguments:?}: {status}");
    }
}

/// See the module. It is stopped when it is dropped.
pub struct Server {
    name: String,
    place: Place,
    /// Where its socket is.
    dir: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.place.program("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]).status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Server {
    /// One with an empty database `doorman`.
    pub async fn start(place: &Place, name: &str) -> Self {
        Self::start_with(place, name, |_| String::new()).await
    }

    /// The same, with settings that may name files of its own.
    pub async fn start_with(place: &Place, name: &str, settings: impl FnOnce(&Self) -> String) -> Self {
        let made = Self::at(place, name);
        let arguments = ["-U", "doorman", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
        place.run("initdb", &[&["-D", &made.data()][..], &arguments].concat()).await;
        made.set(&format!("{SETTINGS}{}", settings(&made)));
        made.resume().await;
        made.sql("postgres").await.batch_execute("CREATE DATABASE doorman").await.unwrap();
        made
    }

    /// A copy that follows this one.
    pub async fn standby(&self, name: &str) -> Self {
        let made = Self::at(&self.place, name);
        let from = self.dir.display().to_string();
        let arguments = ["-h", &from, "-U", "doorman", "-D", &made.data(), "-R", "-X", "stream", "-c", "fast"];
        self.place.run("pg_basebackup", &[&arguments[..], &["--no-sync"]].concat()).await;
        made.set("");
        made.resume().await;
        made
    }

    fn at(place: &Place, name: &str) -> Self {
        let dir = place.dir.join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        if nix::unistd::geteuid().is_root() {
            let user = nix::unistd::User::from_name("postgres").unwrap().unwrap();
            nix::unistd::chown(&dir, Some(user.uid), Some(user.gid)).unwrap();
        }
        Self { name: name.to_owned(), place: place.clone(), dir }
    }

    /// What it is called, as a standby too.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn data(&self) -> String {
        self.dir.join("data").display().to_string()
    }

    /// A file of the server's own, which its user may read.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let like = nix::sys::stat::stat(&self.dir).unwrap();
        let (user, group) = (like.st_uid.into(), like.st_gid.into());
        nix::unistd::chown(&path, Some(user), Some(group)).unwrap();
        path
    }

    /// Who may come over the network is in this file.
    pub fn let_in(&self, line: &str) {
        let path = Path::new(&self.data()).join("pg_hba.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{line}\n{text}")).unwrap();
    }

    /// Settings that replace earlier ones, from its next start on.
    fn set(&self, settings: &str) {
        let path = Path::new(&self.data()).join("postgresql.conf");
        let mut text = std::fs::read_to_string(&path).unwrap();
        let (name, dir) = (&self.name, self.dir.display());
        text.push_str(&format!("cluster_name = '{name}'\nunix_socket_directories = '{dir}'\nlisten_addresses = ''\n"));
        text.push_str(settings);
        std::fs::write(path, text).unwrap();
    }

    /// Starts it, or starts it again.
    pub async fn resume(&self) {
        let log = self.dir.join("log").display().to_string();
        self.place.run("pg_ctl", &["-D", &self.data(), "-l", &log, "-t", "120", "-w", "start"]).await;
    }

    /// Stops it: `immediate` is as a power cut, `fast` is in order.
    pub async fn stop(&self, how: &str) {
        self.place.run("pg_ctl", &["-D", &self.data(), "-m", how, "-w", "stop"]).await;
    }

    /// The standby is the primary from now on.
    pub async fn promote(&self) {
        self.place.run("pg_ctl", &["-D", &self.data(), "-w", "promote"]).await;
    }

    /// A connection to this very server.
    pub async fn sql(&self, database: &str) -> Client {
        let url = format!("postgresql:///{database}?host={}&user=doorman", self.dir.display());
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Settings that hold at once.
    pub async fn alter(&self, settings: &[(&str, &str)]) {
        let sql = self.sql("postgres").await;
        for (name, value) in settings {
            sql.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).await.unwrap();
        }
        sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    }

    /// Waits until this query on this server says so.
    pub async fn until(&self, what: &str, sql: &str) {
        let client = self.sql("doorman").await;
        let wait = async {
            while !client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(TIME, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Each commit waits for this standby from now on.
    pub async fn waits_for(&self, standby: &Self) {
        self.alter(&[("synchronous_standby_names", standby.name())]).await;
        self.is_followed("sync").await;
    }

    /// A standby, synchronous (`sync`) or not (`async`), has everything that this one has.
    pub async fn is_followed(&self, how: &str) {
        let sql = format!(
            "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = '{how}' AND flush_lsn >= pg_current_wal_flush_lsn()"
        );
        self.until("followed", &sql).await;
    }
}

/// The database `doorman` of whichever of these can be written.
pub fn database_of(servers: &[&Server]) -> Database {
    let hosts: Vec<String> =
        servers.iter().map(|server| server.dir.display().to_string().replace('/', "%2F")).collect();
    let url = format!("postgresql://doorman@{}/doorman", hosts.join(","));
    Database { server: url.replace("/doorman", "/postgres"), ledger: format!("url = \"{url}\""), url }
}

/// To the one that can be written, if there is one now.
pub async fn writable(url: &str) -> Option<Client> {
    let mut config = Config::from_str(url).unwrap();
    config.target_session_attrs(TargetSessionAttrs::ReadWrite).connect_timeout(Duration::from_secs(5));
    let (client, connection) = config.connect(NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}
