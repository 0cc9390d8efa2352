//! Whoever may write what decides who gets in, or where a key goes, decides it. So a file is refused that everybody may write
//! or replace, by the mode of the file itself or of a directory on the way to it.
//!
//! Not counted: a directory with the sticky bit, in which nobody but its owner replaces a file; and a mount of its own that is
//! read-only (a Kubernetes volume, a systemd credential). The root file system counts even where it looks read-only, since
//! `ProtectSystem=strict` makes it look so to doorman alone.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{Metadata, symlink_metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{getegid, geteuid};

use super::Advice;

/// Most symbolic links on the way to one file, as in the kernel.
const LINKS_MAX: usize = 40;
const STICKY: u32 = 0o1000;
const EVERYBODY_WRITES: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;

/// What is asked of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Nothing.
    Anybody,
    /// The file's own mode and owner.
    File,
    /// The same, and every directory on the way to it.
    Path,
}

/// What is wrong with one thing on the way.
enum Flaw {
    Everybody,
    Group(u32),
    Owner(u32),
}

/// Whether everybody may write or replace the file: an error. Whether another group or an owner who is neither root nor this
/// process's user may: a warning, the first that is found. `meta` is that of the open file.
///
/// # Errors
/// Why the file is refused.
pub fn judge(path: &Path, meta: &Metadata, trust: Trust) -> Result<Option<Advice>, Advice> {
    let shown = path.display();
    if trust == Trust::Anybody {
        return Ok(None);
    }
    let mut warning = match flaw(path, meta, false) {
        None => None,
        Some(Flaw::Everybody) => {
            return Err(Advice::new(
                format!("`{shown}` may be written by everybody"),
                format!("run `chmod o-w {shown}`"),
            ));
        }
        Some(Flaw::Group(group)) => Some(Advice::new(
            format!("`{shown}` may be written by the group {group}"),
            format!("run `chmod g-w {shown}`, unless that group may decide who gets in"),
        )),
        Some(Flaw::Owner(owner)) => Some(Advice::new(
            format!("`{shown}` belongs to the user {owner}, who can change it"),
            format!("run `chown root {shown}`, unless that user may decide who gets in"),
        )),
    };
    if trust == Trust::Path {
        for directory in directories(path) {
            let Ok(meta) = symlink_metadata(&directory) else { continue };
            let found = flaw(&directory, &meta, true);
            let directory = directory.display();
            let advice = match found {
                None => continue,
                Some(Flaw::Everybody) => {
                    return Err(Advice::new(
                        format!("everybody may write to the directory `{directory}`, and so replace `{shown}`"),
                        format!("run `chmod o-w {directory}`"),
                    ));
                }
                Some(Flaw::Group(group)) => Advice::new(
                    format!("the group {group} may write to the directory `{directory}`, and so replace `{shown}`"),
                    format!("run `chmod g-w {directory}`, unless that group may decide who gets in"),
                ),
                Some(Flaw::Owner(owner)) => Advice::new(
                    format!("the directory `{directory}` belongs to the user {owner}, who can replace `{shown}`"),
                    format!("run `chown root {directory}`, unless that user may decide who gets in"),
                ),
            };
            warning.get_or_insert(advice);
        }
    }
    Ok(warning)
}

fn flaw(path: &Path, meta: &Metadata, directory: bool) -> Option<Flaw> {
    let mode = meta.mode();
    let shared = !(directory && mode & STICKY != 0);
    let everybody = shared && mode & EVERYBODY_WRITES != 0;
    let group = shared && mode & GROUP_WRITES != 0 && ![0, getegid().as_raw()].contains(&meta.gid());
    let owner = ![0, geteuid().as_raw()].contains(&meta.uid());
    if !(everybody || group || owner) || read_only(path, meta) {
        return None;
    }
    match () {
        () if everybody => Some(Flaw::Everybody),
        () if group => Some(Flaw::Group(meta.gid())),
        () => Some(Flaw::Owner(meta.uid())),
    }
}

/// Whether it is on a mount of its own that nobody writes to.
fn read_only(path: &Path, meta: &Metadata) -> bool {
    let root = symlink_metadata("/").map(|root| root.dev());
    root.is_ok_and(|root| root != meta.dev())
        && statvfs(path).is_ok_and(|system| system.flags().contains(FsFlags::ST_RDONLY))
}

/// Every directory that is passed on the way to the file, those of symbolic links included; the root first.
fn directories(path: &Path) -> Vec<PathBuf> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut ahead: VecDeque<OsString> = parts(&absolute);
    let mut at = PathBuf::from("/");
    let mut passed = Vec::new();
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        if !passed.contains(&at) {
            passed.push(at.clone());
        }
        let next = at.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for part in parts(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
            }
            _ => at = next,
        }
    }
    passed
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}
