//! Logging in by a link, for daemon and page: [`Sessions`] with a clock, random numbers, and a file beside the ledger.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{info, warn};
use url::Url;

use super::locked;
use super::sessions::{LINK_LASTS, Secret, Sessions, written};
use crate::clock::Clock;
use crate::config::settings::{PageIdentity, PageSettings};
use crate::files::{self, Reading, Trust};
use crate::model::Person;
use crate::ops::control::wire::PageLink;
use crate::ops::log::events;

/// The file's name, beside the ledger.
const FILE: &str = "page-sessions.json";
/// Longest file that is read.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// Who may log in, and who has. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logins(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wanted: bool,
    base: String,
    clock: Clock,
    file: PathBuf,
    sessions: Mutex<Sessions>,
    writing: Mutex<()>,
}

impl Logins {
    /// Who was logged in at the last stop still is. Blocks on the file system.
    pub fn open(settings: &PageSettings, ledger: &Path, clock: Clock) -> Self {
        let wanted = settings.identity == PageIdentity::Token;
        let file = ledger.with_file_name(FILE);
        // Without it everybody logs in again.
        let sessions = if wanted { read_kept(&file, FILE_BYTES_MAX) } else { Sessions::default() };
        let base = base(settings);
        Self(Arc::new(Inner { wanted, base, clock, file, sessions: Mutex::new(sessions), writing: Mutex::default() }))
    }

    /// A link that logs this person in.
    ///
    /// # Errors
    /// For people.
    pub fn invite(&self, name: &str, by: &Person) -> Result<PageLink, String> {
        if !self.0.wanted {
            return Err("nobody logs in here: that is for `identity = \"token\"` in `[page]`".to_owned());
        }
        if !Person::may_be_claimed(name) {
            return Err(format!(
                "a name has letters, digits, spaces and `-_.@$+:/`, at most {} of them",
                Person::CLAIM_MAX
            ));
        }
        let (secret, now) = (random()?, self.0.clock.now().wall);
        let ends = now.checked_add(LINK_LASTS).map_err(|error| error.to_string())?;
        locked(&self.0.sessions).invite(name, &secret, now);
        self.keep();
        told(by.name(), &format!("a link for {name}"));
        Ok(PageLink { name: name.to_owned(), url: format!("{}/login/{}", self.0.base, written(&secret)), ends })
    }

    /// Logs somebody out, or everybody: how many sessions and unused links that ended.
    pub fn leave(&self, name: Option<&str>, by: &Person) -> u64 {
        let ended = locked(&self.0.sessions).leave(name);
        self.keep();
        told(by.name(), &format!("{} logged out", name.unwrap_or("everybody")));
        ended as u64
    }

    /// Whose link this is.
    pub(super) fn invited(&self, link: &str) -> Option<String> {
        locked(&self.0.sessions).invited(link, self.0.clock.now().wall).map(str::to_owned)
    }

    /// Uses the link up: whose it is, and the secret of the cookie.
    pub(super) fn enter(&self, link: &str) -> Option<(String, String)> {
        let secret = random().ok()?;
        let name = locked(&self.0.sessions).enter(link, &secret, self.0.clock.now().wall)?;
        self.keep();
        told(&name, "logged in");
        Some((name, written(&secret)))
    }

    /// Who is logged in by this cookie.
    pub(super) fn who(&self, cookie: &str) -> Option<String> {
        locked(&self.0.sessions).who(cookie, self.0.clock.now().wall).map(str::to_owned)
    }

    /// Writes the file, beside everything else. Without it a restart logs everybody out.
    fn keep(&self) {
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || {
            // One writes at a time, what is newest then. Nobody who asks who is logged in waits for the disk.
            let _one = locked(&inner.writing);
            let sessions = locked(&inner.sessions).clone();
            if let Err(error) = write_kept(&inner.file, &sessions) {
                warn!(event = events::INTERNAL, why = %error, "who is logged in to the page cannot be written down");
            }
        });
    }
}

fn told(by: &str, why: &str) {
    info!(event = events::PAGE_LOGIN, by, why, "the page's logins changed");
}

pub(super) fn random() -> Result<Secret, String> {
    let mut secret = Secret::default();
    getrandom::fill(&mut secret).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(secret)
}

/// What was kept; nothing, where it cannot be read. Blocks on the file system.
pub(super) fn read_kept<T: Default + DeserializeOwned>(file: &Path, bytes_max: usize) -> T {
    let how = Reading { bytes_max, pipes: false, trust: Trust::Path };
    let read = || serde_json::from_slice(&files::read(file, how).ok()?.bytes).ok();
    read().unwrap_or_default()
}

/// Keeps it, readable by nobody else. Blocks on the file system.
pub(super) fn write_kept(file: &Path, kept: &impl Serialize) -> std::io::Result<()> {
    let new = file.with_extension("new");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(&serde_json::to_vec(kept)?)?;
    out.sync_all()?;
    fs::rename(&new, file)
}

/// Where browsers find the page, without a slash at the end.
pub(super) fn base(settings: &PageSettings) -> String {
    let named = settings.url.as_ref().map(Url::as_str).map(|url| url.trim_end_matches('/').to_owned());
    let port = settings.listen.map(|at| format!("http://localhost:{}", at.port()));
    named.or(port).unwrap_or_else(|| "http://localhost:8480".to_owned())
}
