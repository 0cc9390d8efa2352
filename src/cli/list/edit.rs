//! Changes the text of a list file, and replaces the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::output::shown;
use crate::files::{self, FileTrust, ReadOptions};
use crate::model::PersonTarget;
use crate::policy::{TEXT_MAX, audit};

/// The result of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Edit {
    /// The whole file.
    pub(super) text: String,
    /// Entries that were added or removed.
    pub(super) changed: Vec<String>,
    /// Entries that needed no change.
    pub(super) unchanged: Vec<String>,
    /// Whether the change removes entries.
    pub(super) removes: bool,
}

/// The entries, as they are written.
pub(super) fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').filter_map(entry)
}

/// The entry of one line, without its comment.
fn entry(line: &str) -> Option<&str> {
    let bare = line.split('#').next().unwrap_or_default().trim_start_matches('\u{feff}').trim();
    (!bare.is_empty()).then_some(bare)
}

/// The form in which entries are compared and written.
pub(super) fn canonical(text: &str) -> String {
    text.strip_prefix('@').unwrap_or(text).to_ascii_lowercase()
}

fn checked(handle: &str) -> Result<String, String> {
    // As in every command: what begins with `@` is a handle, and a UUID is an id.
    if matches!(PersonTarget::parse(handle), PersonTarget::Id(_)) {
        return Err(format!(
            "`{}` is an id, and a list holds handles: `doorman approve ID --remember LIST` puts its sender on one",
            shown(handle)
        ));
    }
    audit::pattern(handle).map_err(|why| format!("`{}` cannot stand on a list: {why}", shown(handle)))?;
    Ok(canonical(handle))
}

/// Adds these to the list, below the existing entries.
pub(super) fn add(text: &str, handles: &[&str]) -> Result<Edit, String> {
    let mut edit = Edit { text: text.to_owned(), changed: Vec::new(), unchanged: Vec::new(), removes: false };
    for handle in handles {
        let wanted = checked(handle)?;
        if entries(&edit.text).any(|entry| canonical(entry) == wanted) {
            edit.unchanged.push(wanted);
            continue;
        }
        if !edit.text.is_empty() && !edit.text.ends_with('\n') {
            edit.text.push('\n');
        }
        edit.text.push_str(&wanted);
        edit.text.push('\n');
        edit.changed.push(wanted);
    }
    Ok(edit)
}

/// Removes these, with the comments on their lines.
pub(super) fn remove(text: &str, handles: &[&str]) -> Result<Edit, String> {
    let mut edit = Edit { text: text.to_owned(), changed: Vec::new(), unchanged: Vec::new(), removes: true };
    for handle in handles {
        let wanted = checked(handle)?;
        let is_it = |line: &&str| entry(line).is_some_and(|entry| canonical(entry) == wanted);
        if edit.text.split('\n').any(|line| is_it(&line)) {
            let kept: Vec<&str> = edit.text.split('\n').filter(|line| !is_it(line)).collect();
            edit.text = kept.join("\n");
            edit.changed.push(wanted);
        } else {
            edit.unchanged.push(wanted);
        }
    }
    Ok(edit)
}

/// A file that is locked against other doorman processes that would edit it.
pub(super) struct Locked {
    file: File,
    path: PathBuf,
}

/// The text of rules, or of a list. Blocks for some seconds at most.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let how = ReadOptions { bytes_max: TEXT_MAX, pipes: false, trust: FileTrust::Anybody };
    let contents = files::read(path, how).map_err(|error| error.to_string())?;
    String::from_utf8(contents.bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// Waits some seconds at most for the lock on the existing file; follows a link.
pub(super) fn lock(path: &Path) -> std::io::Result<Locked> {
    let until = Instant::now() + files::TIME;
    loop {
        let named = path.to_owned();
        let path = files::within(path, move || Ok(std::fs::canonicalize(named)?))?;
        let mut options = OpenOptions::new();
        options.read(true);
        let file = files::open(&path, options, true)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            Err(TryLockError::WouldBlock) => return Err(std::io::Error::other("somebody else is changing it")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The process that held the lock before may have replaced the file.
        let (locked, there) = (file.metadata()?, std::fs::metadata(&path)?);
        if (locked.dev(), locked.ino()) == (there.dev(), there.ino()) {
            return Ok(Locked { file, path });
        }
    }
}

/// Replaces the file by this text in one step; keeps its owner and mode.
pub(super) fn replace(locked: &Locked, text: &str) -> std::io::Result<()> {
    let old = locked.file.metadata()?;
    let directory = locked.path.parent().unwrap_or(Path::new("/"));
    let new = directory.join(format!(".doorman-list-{}-{:08x}", std::process::id(), fastrand::u32(..)));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(old.permissions())?;
        file.sync_all()?;
        std::fs::rename(&new, &locked.path)?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Friends.\nann  # since 2024\n\nacme/*\n# end";

    #[test]
    fn comments_and_order_stay() {
        let added = add(TEXT, &["@Carol", "ANN", "bob/*"]).unwrap();
        assert_eq!(added.text, "# Friends.\nann  # since 2024\n\nacme/*\n# end\ncarol\nbob/*\n");
        assert_eq!((added.changed, added.unchanged), (vec!["carol".into(), "bob/*".into()], vec!["ann".into()]));
        let removed = remove(TEXT, &["@ann", "zoe"]).unwrap();
        assert_eq!(removed.text, "# Friends.\n\nacme/*\n# end");
        assert_eq!((removed.changed, removed.unchanged), (vec!["ann".into()], vec!["zoe".into()]));
    }

    #[test]
    fn a_comment_is_not_an_entry_and_no_entry_can_smuggle_a_line() {
        assert_eq!(entries("# ann\n bob # ann\r\n").collect::<Vec<_>>(), ["bob"]);
        for handle in ["two words", "a\nb", "a#b", "", "@", "*", "ünïcode", "0192f3c4-9a1b-7000-8000-000000000001"] {
            assert!(add(TEXT, &[handle]).is_err(), "{handle:?}");
        }
        assert!(add(TEXT, &["@0192f3c4-9a1b-7000-8000-000000000001"]).is_ok(), "with @ it is a handle");
    }

    #[test]
    fn nobody_waits_for_ever_for_somebody_else_who_edits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.txt");
        std::fs::write(&path, TEXT).unwrap();
        let locked = lock(&path).unwrap();
        let error = lock(&path).map(drop).unwrap_err();
        assert!(error.to_string().contains("somebody else is changing it"), "{error}");
        drop(locked);
        assert!(lock(&path).is_ok());
    }

    #[test]
    fn the_file_keeps_its_mode_and_a_link_stays_a_link() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.txt"), dir.path().join("link.txt"));
        std::fs::write(&real, TEXT).unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.txt", &link).unwrap();
        replace(&lock(&link).unwrap(), "zoe\n").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "zoe\n");
        assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    }
}
