//! Logging in by a link, for daemon and page: [`Sessions`] with a clock, random numbers, and a file beside the ledger.

use std::path::Path;
use std::sync::Arc;

use tracing::info;
use url::Url;

use super::base::base;
use super::sessions::{LINK_LASTS, LoggedIn, Secret, Sessions, written};
use super::state_file::StateFile;
use crate::clock::Clock;
use crate::config::settings::{PageIdentity, PageSettings};
use crate::model::Person;
use crate::ops::control::wire::PageLink;
use crate::ops::log::events;
use crate::ops::serving::addresses::ServiceAddresses;

/// The file's name, beside the ledger.
const FILE: &str = "page-sessions.json";
/// Longest file that is read.
pub(super) const FILE_BYTES_MAX: usize = 64 * 1024;

/// Who may log in, and who has. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logins(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wanted: bool,
    url: Option<Url>,
    addresses: ServiceAddresses,
    clock: Clock,
    sessions: Arc<StateFile<Sessions>>,
}

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginFailure {
    /// The link was used already, is too old, or never existed.
    UsedUp,
    /// The use of the link cannot be stored.
    NotNow,
}

impl Logins {
    /// Who was logged in at the last stop still is. Blocks on the file system.
    pub fn open(settings: &PageSettings, ledger: &Path, clock: Clock) -> Self {
        let wanted = settings.identity == PageIdentity::Token;
        let file = ledger.with_file_name(FILE);
        let sessions = Arc::new(if wanted { StateFile::open(file, FILE_BYTES_MAX) } else { StateFile::empty(file) });
        let (url, addresses) = (settings.url.clone(), ServiceAddresses::default());
        Self(Arc::new(Inner { wanted, url, addresses, clock, sessions }))
    }

    /// The addresses of the page to which the links lead.
    pub fn addresses(&self) -> &ServiceAddresses {
        &self.0.addresses
    }

    /// A link that logs this person in. There is a link only if the page is served at its address.
    ///
    /// # Errors
    /// For people.
    pub async fn invite(&self, name: &str, by: &Person) -> Result<PageLink, String> {
        if !self.0.wanted {
            return Err("nobody logs in here: that is for `identity = \"token\"` in `[page]`".to_owned());
        }
        if !Person::may_be_claimed(name) {
            return Err(format!(
                "a name has letters, digits, spaces and `-_.@$+:/`, at most {} of them",
                Person::CLAIM_MAX
            ));
        }
        let base = base(&self.0.addresses, self.0.url.as_ref())?;
        let (secret, now) = (random()?, self.0.clock.now().wall);
        let ends = now.checked_add(LINK_LASTS).map_err(|error| error.to_string())?;
        let (invited, not_invited) = (name.to_owned(), written(&secret));
        self.0
            .sessions
            .change(
                move |sessions| sessions.invite(&invited, &secret, now),
                move |sessions, ()| sessions.uninvite(&not_invited),
            )
            .await
            .map_err(|why| format!("the link cannot be written down, so there is none: {why}"))?;
        log_login(by.name(), &format!("a link for {name}"));
        Ok(PageLink { name: name.to_owned(), url: format!("{base}/login/{}", written(&secret)), ends })
    }

    /// Logs one person out, or everybody. Returns how many sessions and unused links ended.
    ///
    /// # Errors
    /// The file cannot be written: they are logged out now, but logged in again after a restart.
    pub async fn leave(&self, name: Option<&str>, by: &Person) -> Result<u64, String> {
        let who = name.map(str::to_owned);
        let left = self.0.sessions.change(move |sessions| sessions.leave(who.as_deref()), |_, _| ()).await;
        log_login(by.name(), &format!("{} logged out", name.unwrap_or("everybody")));
        left.map(|ended| ended as u64).map_err(|why| {
            format!("logged out for now, but that cannot be written down, so a restart would undo it: {why}")
        })
    }

    /// Whose link this is.
    pub(super) fn invited(&self, link: &str) -> Option<String> {
        self.0.sessions.read(|sessions| sessions.invited(link, self.0.clock.now().wall).map(str::to_owned))
    }

    /// Uses up the link and returns the secret for the cookie. The use is stored in the file before the person is
    /// logged in.
    pub(super) async fn enter(&self, link: &str) -> Result<String, LoginFailure> {
        let secret = random().map_err(|_| LoginFailure::NotNow)?;
        let (link, now) = (link.to_owned(), self.0.clock.now().wall);
        let entered = self.0.sessions.change(
            move |sessions| sessions.enter(&link, &secret, now),
            |sessions, entered| {
                if let Some(entered) = entered {
                    sessions.undo(entered);
                }
            },
        );
        let LoggedIn { name, .. } = entered.await.map_err(|_| LoginFailure::NotNow)?.ok_or(LoginFailure::UsedUp)?;
        log_login(&name, "logged in");
        Ok(written(&secret))
    }

    /// The person who is logged in with this cookie.
    pub(super) fn who(&self, cookie: &str) -> Option<String> {
        self.0.sessions.read(|sessions| sessions.who(cookie, self.0.clock.now().wall).map(str::to_owned))
    }
}

fn log_login(by: &str, why: &str) {
    info!(event = events::PAGE_LOGIN, by, why, "the page's logins changed");
}

pub(super) fn random() -> Result<Secret, String> {
    let mut secret = Secret::default();
    getrandom::fill(&mut secret).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(secret)
}
