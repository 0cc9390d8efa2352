//! Who may log in, and who has: links that are valid once, and the cookies that come of them. Of each only a hash is kept.
//! Time and randomness are arguments; the shell keeps it in a file, so that a restart logs nobody out.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// How long a link is good.
pub const LINK_LASTS: SignedDuration = SignedDuration::from_mins(10);
/// How long somebody stays logged in.
pub const SESSION_LASTS: SignedDuration = SignedDuration::from_hours(12);
/// Most links and most sessions; the oldest are forgotten.
pub const SESSIONS_MAX: usize = 100;

/// A secret that is handed out: 32 random bytes, written as 64 hexadecimal digits.
pub type Secret = [u8; 32];

/// A person who has just logged in by a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// The person's name.
    pub name: String,
    link: StoredLogin,
    session: String,
}

/// A link or session: a name, a hash and an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredLogin {
    /// SHA-256 of the secret, in hexadecimal digits.
    hash: String,
    name: String,
    ends: Timestamp,
}

/// All links and sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    links: Vec<StoredLogin>,
    sessions: Vec<StoredLogin>,
}

impl Sessions {
    /// A link for this person.
    pub fn invite(&mut self, name: &str, secret: &Secret, now: Timestamp) {
        put(&mut self.links, name, secret, now, LINK_LASTS);
    }

    /// Whose link this is, if it is still good. It stays good: only [`Sessions::enter`] uses it up.
    pub fn invited(&self, text: &str, now: Timestamp) -> Option<&str> {
        find(&self.links, text, now).map(|index| self.links[index].name.as_str())
    }

    /// Removes a link that was not given out.
    pub fn uninvite(&mut self, text: &str) {
        let hash = hash(text);
        self.links.retain(|link| link.hash != hash);
    }

    /// Uses up a link: its owner is then logged in with this secret.
    pub fn enter(&mut self, text: &str, secret: &Secret, now: Timestamp) -> Option<LoggedIn> {
        let index = find(&self.links, text, now)?;
        let link = self.links.remove(index);
        put(&mut self.sessions, &link.name, secret, now, SESSION_LASTS);
        Some(LoggedIn { name: link.name.clone(), link, session: hash(&written(secret)) })
    }

    /// Undoes the use of a link.
    pub fn undo(&mut self, entered: &LoggedIn) {
        self.sessions.retain(|session| session.hash != entered.session);
        self.links.push(entered.link.clone());
    }

    /// The person who is logged in with this secret.
    pub fn who(&self, text: &str, now: Timestamp) -> Option<&str> {
        find(&self.sessions, text, now).map(|index| self.sessions[index].name.as_str())
    }

    /// Logs one person out everywhere, or everybody. Returns how many sessions and links ended.
    pub fn leave(&mut self, name: Option<&str>) -> usize {
        let before = self.links.len() + self.sessions.len();
        let stays = |kept: &StoredLogin| name.is_some_and(|name| kept.name != name);
        self.links.retain(stays);
        self.sessions.retain(stays);
        before - self.links.len() - self.sessions.len()
    }
}

/// A secret in its written form.
pub fn written(secret: &Secret) -> String {
    hex(secret)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a secret in its written form.
pub(super) fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn put(kept: &mut Vec<StoredLogin>, name: &str, secret: &Secret, now: Timestamp, lasts: SignedDuration) {
    kept.retain(|one| now < one.ends);
    if kept.len() >= SESSIONS_MAX {
        kept.remove(0);
    }
    let ends = now.checked_add(lasts).unwrap_or(now);
    kept.push(StoredLogin { hash: hash(&hex(secret)), name: name.to_owned(), ends });
}

/// Compares with every entry, so that the time does not depend on which one matches.
fn find(kept: &[StoredLogin], text: &str, now: Timestamp) -> Option<usize> {
    let wanted = hash(text);
    let mut found = None;
    for (index, one) in kept.iter().enumerate() {
        if bool::from(one.hash.as_bytes().ct_eq(wanted.as_bytes())) && now < one.ends {
            found = Some(index);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_link_is_good_once_and_for_ten_minutes() {
        let mut sessions = Sessions::default();
        sessions.invite("ann", &[1; 32], at(0));
        let link = written(&[1; 32]);
        assert_eq!(sessions.invited(&link, at(599)), Some("ann"));
        assert_eq!(sessions.invited(&link, at(600)), None);
        assert_eq!(sessions.enter(&link, &[2; 32], at(600)), None);
        assert_eq!(sessions.enter(&link, &[2; 32], at(10)).unwrap().name, "ann");
        assert_eq!(sessions.enter(&link, &[3; 32], at(11)), None, "used up");
        assert_eq!(sessions.who(&link, at(11)), None, "a link is no session");
        assert_eq!(sessions.who(&written(&[2; 32]), at(10 + 12 * 3600 - 1)), Some("ann"));
        assert_eq!(sessions.who(&written(&[2; 32]), at(10 + 12 * 3600)), None);
    }

    #[test]
    fn a_link_that_could_not_be_used_is_good_again_and_logs_nobody_in() {
        let mut sessions = Sessions::default();
        sessions.invite("ann", &[1; 32], at(0));
        let (link, before) = (written(&[1; 32]), sessions.clone());
        let entered = sessions.enter(&link, &[2; 32], at(10)).unwrap();
        sessions.undo(&entered);
        assert_eq!(sessions.who(&written(&[2; 32]), at(11)), None);
        assert_eq!(sessions, before);
        sessions.uninvite(&link);
        assert_eq!(sessions.invited(&link, at(1)), None);
    }

    #[test]
    fn a_person_is_logged_out_everywhere_and_nobody_else_is() {
        let mut sessions = Sessions::default();
        for (name, secret) in [("ann", 1), ("bob", 2)] {
            sessions.invite(name, &[secret; 32], at(0));
            sessions.enter(&written(&[secret; 32]), &[secret + 10; 32], at(0));
            sessions.invite(name, &[secret + 20; 32], at(0));
        }
        assert_eq!(sessions.leave(Some("ann")), 2);
        assert_eq!(sessions.who(&written(&[11; 32]), at(1)), None);
        assert_eq!(sessions.who(&written(&[12; 32]), at(1)), Some("bob"));
        assert_eq!(sessions.leave(None), 2);
    }

    #[test]
    fn there_are_so_many_at_most_and_nothing_kept_is_a_secret() {
        let mut sessions = Sessions::default();
        for secret in 0..=u8::try_from(SESSIONS_MAX).unwrap() {
            sessions.invite("ann", &[secret; 32], at(0));
        }
        assert_eq!(sessions.invited(&written(&[0; 32]), at(1)), None, "the oldest is forgotten");
        assert!(sessions.invited(&written(&[1; 32]), at(1)).is_some());
        for secret in 0..=u8::try_from(SESSIONS_MAX).unwrap() {
            let name = "n".repeat(64);
            sessions.invite(&name, &[secret; 32], at(1));
            sessions.enter(&written(&[secret; 32]), &[secret + 101; 32], at(1)).unwrap();
            sessions.invite(&name, &[secret; 32], at(1));
        }
        let kept = serde_json::to_string(&sessions).unwrap();
        assert!(!kept.contains(&written(&[1; 32])), "{kept}");
        assert!(kept.len() <= super::super::logins::FILE_BYTES_MAX, "the fullest file is read again: {}", kept.len());
    }
}
