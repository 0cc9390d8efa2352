//! Whoever can write a file that decides who is let in, or where a key is sent, decides it. So a file is refused that
//! everybody may write or replace, according to the mode of the file itself or of a directory on its path.
//!
//! Two cases are not counted: a directory with the sticky bit, in which only the owner of a file can replace it; and a
//! separate mount that is read-only (a Kubernetes volume, a systemd credential). The root file system is counted even
//! if it appears read-only, since `ProtectSystem=strict` makes it appear so to doorman only.

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
pub enum FileTrust {
    /// Nothing.
    Anybody,
    /// The file's own mode and owner.
    File,
    /// The same, and every directory on its path.
    Path,
}

/// A problem with one part of the path.
enum Flaw {
    Everybody,
    Group(u32),
    Owner(u32),
}

/// An error if everybody may write or replace the file. A warning if another group may, or an owner who is neither root
/// nor this process's user; only the first such finding is returned. `meta` is that of the open file.
///
/// # Errors
/// Why the file is refused.
pub fn judge(path: &Path, meta: &Metadata, trust: FileTrust) -> Result<Option<Advice>, Advice> {
    let shown = path.display();
    if trust == FileTrust::Anybody {
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
    if trust == FileTrust::Path {
        for directory in directories(path).passed {
            if let Some(advice) = judge_directory(&directory, path)? {
                warning.get_or_insert(advice);
            }
        }
    }
    Ok(warning)
}

/// The same for a directory in which doorman makes files itself, such as the ledger with the files beside it. Two cases
/// that are normal in containers only give a warning: a volume that everybody may write to (Kubernetes makes such
/// volumes), and the sticky bit on the directory itself, which does not keep others from adding files. Existing files
/// are not checked.
///
/// # Errors
/// Why the place is refused.
pub fn judge_place(path: &Path) -> Result<Option<Advice>, Advice> {
    let Directories { passed, last } = directories(path);
    let mut warning = None;
    let is_sticky = |meta: &Metadata| meta.mode() & STICKY != 0;
    if let Ok(meta) = symlink_metadata(&last)
        && is_sticky(&meta)
        && meta.mode() & EVERYBODY_WRITES != 0
    {
        warning = Some(Advice::new(
            format!(
                "everybody may write to the directory `{}`, and so put files beside `{}`",
                last.display(),
                path.display()
            ),
            "give it a directory of its own",
        ));
    }
    for directory in passed {
        match judge_directory(&directory, path) {
            Ok(None) => {}
            Ok(Some(advice)) => drop(warning.get_or_insert(advice)),
            Err(advice) if is_volume(&directory) => drop(warning.get_or_insert(advice)),
            Err(advice) => return Err(advice),
        }
    }
    Ok(warning)
}

/// Whether another file system is mounted at this directory.
fn is_volume(directory: &Path) -> bool {
    let device = |path: &Path| symlink_metadata(path).map(|meta| meta.dev()).ok();
    directory.parent().is_some_and(|parent| device(parent) != device(directory))
}

/// Checks a directory on the path to a file.
fn judge_directory(directory: &Path, path: &Path) -> Result<Option<Advice>, Advice> {
    let Ok(meta) = symlink_metadata(directory) else { return Ok(None) };
    let found = flaw(directory, &meta, true);
    let (directory, shown) = (directory.display(), path.display());
    Ok(Some(match found {
        None => return Ok(None),
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
    }))
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

/// Whether it is on a separate mount that is read-only.
fn read_only(path: &Path, meta: &Metadata) -> bool {
    let root = symlink_metadata("/").map(|root| root.dev());
    root.is_ok_and(|root| root != meta.dev())
        && statvfs(path).is_ok_and(|system| system.flags().contains(FsFlags::ST_RDONLY))
}

/// The directories on the path to a file.
struct Directories {
    /// Every directory on the path, including those of symbolic links; the root first.
    passed: Vec<PathBuf>,
    /// The directory that contains the file.
    last: PathBuf,
}

fn directories(path: &Path) -> Directories {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut ahead: VecDeque<OsString> = parts(&absolute);
    let mut at = PathBuf::from("/");
    let (mut passed, mut last) = (Vec::new(), at.clone());
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        if !passed.contains(&at) {
            passed.push(at.clone());
        }
        last.clone_from(&at);
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
    Directories { passed, last }
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
