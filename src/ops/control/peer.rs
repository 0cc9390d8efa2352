//! Who is at the other end of the control socket. The system says which account it is. For a shared account (root, or
//! the daemon's own) the person is the login behind it. A name that only the other end states is marked as claimed.

use std::fs;

use nix::unistd::{Uid, User, geteuid};

use super::wire::Claim;
use crate::model::Person;

/// Login uids that say nothing: not set, and one that this user namespace does not know.
const NO_LOGIN: [u32; 2] = [u32::MAX, 65_534];

/// The account and the process at the other end, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub uid: u32,
    pub pid: Option<i32>,
}

impl Peer {
    /// Root, or the daemon's own user: accounts that people share.
    pub(crate) fn is_ours(self) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw()
    }

    /// The person for the record. Reads files, so it blocks.
    pub fn person(self, claim: &Claim) -> Person {
        let login = self.pid.filter(|_| self.is_ours()).and_then(|pid| login_of(&format!("/proc/{pid}")));
        let name = named(self, login, claim, &account);
        Person::noting(&name, claim.note.as_deref())
    }
}

/// The person who runs this process, for what it records itself. Reads files.
pub(crate) fn own_person(claim: &Claim) -> Person {
    Peer { uid: geteuid().as_raw(), pid: i32::try_from(std::process::id()).ok() }.person(claim)
}

/// The name for the record, from the known `login` and the claim.
fn named(peer: Peer, login: Option<u32>, claim: &Claim, account: &dyn Fn(u32) -> String) -> String {
    let own = account(peer.uid);
    let known = login.filter(|login| *login != peer.uid).map(account);
    // `sudo` sets a variable for root's processes that says for whom they act. Root is trusted with it, since root
    // could be anybody.
    let claimed =
        claim.login.as_ref().filter(|login| peer.is_ours() && **login != own && Person::may_be_claimed(login));
    let (name, by) = match (known, claimed) {
        (Some(known), _) => (format!("{known} (as {own})"), format!("{known} as {own}")),
        (None, Some(claimed)) if peer.uid == 0 => (format!("{claimed} (as {own})"), format!("{claimed} as {own}")),
        (None, Some(claimed)) => (format!("{claimed} (claimed by {own})"), own),
        (None, None) => (own.clone(), own),
    };
    match claim.name.as_ref().filter(|name| Person::may_be_claimed(name)) {
        Some(claimed) => format!("{claimed} (claimed by {by})"),
        None => name,
    }
}

/// The user whose login session this process belongs to; `directory` is the process's directory below `/proc`.
fn login_of(directory: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("{directory}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|uid| !NO_LOGIN.contains(uid))
}

/// A user's name; `uid:N` for one without a plain name. May read files.
pub fn account(uid: u32) -> String {
    let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    let plain = |name: &String| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@$".contains(&byte))
    };
    name.filter(plain).unwrap_or_else(|| format!("uid:{uid}"))
}

/// The login behind this process, for [`Claim::login`]: of the session, else as `sudo` says. Reads files.
pub(crate) fn own_login() -> Option<String> {
    let session = login_of("/proc/self").filter(|login| *login != geteuid().as_raw()).map(account);
    let sudo = || std::env::var("SUDO_USER").ok().filter(|name| Person::may_be_claimed(name));
    session.or_else(sudo).filter(|login| *login != account(geteuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(uid: u32, login: Option<u32>, claim: &Claim) -> String {
        let account = |uid: u32| match uid {
            0 => "root".to_owned(),
            1000 => "ann".to_owned(),
            uid => format!("u{uid}"),
        };
        named(Peer { uid, pid: None }, login, claim, &account)
    }

    fn claim(login: Option<&str>, name: Option<&str>) -> Claim {
        Claim { login: login.map(Into::into), name: name.map(Into::into), note: None }
    }

    #[test]
    fn behind_root_is_the_person_who_logged_in() {
        assert_eq!(by(0, None, &claim(None, None)), "root");
        assert_eq!(by(0, Some(0), &claim(None, None)), "root");
        assert_eq!(by(0, Some(1000), &claim(None, None)), "ann (as root)");
        assert_eq!(by(0, None, &claim(Some("ann"), None)), "ann (as root)", "by sudo's word");
        assert_eq!(by(0, Some(1000), &claim(Some("eve"), None)), "ann (as root)", "the kernel knows better");
        assert_eq!(by(0, None, &claim(Some("root"), None)), "root");
    }

    #[test]
    fn another_account_is_what_the_kernel_says_whatever_it_claims() {
        assert_eq!(by(64_321, None, &claim(Some("ann"), None)), "u64321");
        assert_eq!(by(64_321, None, &claim(None, Some("ann"))), "ann (claimed by u64321)");
    }

    #[test]
    fn what_is_claimed_is_marked() {
        assert_eq!(by(0, Some(1000), &claim(None, Some("eve"))), "eve (claimed by ann as root)");
        assert_eq!(by(0, None, &claim(None, Some("bot:1"))), "bot:1 (claimed by root)");
        for forged in ["eve (as root)", "", "a\nb"] {
            assert_eq!(by(0, None, &claim(Some(forged), Some(forged))), "root", "{forged}");
        }
    }

    #[test]
    fn an_account_has_a_plain_name() {
        assert_eq!(account(0), "root");
        assert_eq!(account(3_999_999_999), "uid:3999999999");
    }

    #[test]
    fn a_login_that_is_not_set_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_str().unwrap();
        for (text, login) in [("4294967295", None), ("65534", None), ("1000", Some(1000)), ("0", Some(0)), ("x", None)]
        {
            fs::write(dir.path().join("loginuid"), text).unwrap();
            assert_eq!(login_of(at), login, "{text}");
        }
        assert_eq!(login_of("/nowhere"), None);
    }
}
