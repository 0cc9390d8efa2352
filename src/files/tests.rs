use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

const DAEMON: ReadOptions = ReadOptions { bytes_max: 100, pipes: false, trust: FileTrust::Path };

struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, mode: u32) -> PathBuf {
        fs::write(self.path(name), "text").unwrap();
        self.mode(name, mode);
        self.path(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn a_regular_file_is_read_up_to_its_bound() {
    let dir = TestDir::new();
    let path = dir.file("a", 0o600);
    assert_eq!(read(&path, DAEMON).unwrap().bytes, b"text");
    assert_eq!(read(&path, ReadOptions { bytes_max: 4, ..DAEMON }).unwrap().bytes, b"text");
    assert!(matches!(read(&path, ReadOptions { bytes_max: 3, ..DAEMON }), Err(FileError::TooLarge(_))));
    assert!(read(&dir.path("b"), DAEMON).unwrap_err().is_missing());
}

#[test]
fn what_is_not_a_regular_file_is_refused_at_once() {
    let dir = TestDir::new();
    mkfifo(&dir.path("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
    let _listener = UnixListener::bind(dir.path("socket")).unwrap();
    symlink(dir.path("pipe"), dir.path("link")).unwrap();
    fs::create_dir(dir.path("directory")).unwrap();
    for name in ["pipe", "socket", "link", "directory"] {
        assert!(matches!(read(&dir.path(name), DAEMON), Err(FileError::NotRegular(_))), "{name}");
        let mut append = OpenOptions::new();
        append.append(true);
        assert!(matches!(open(&dir.path(name), append, true), Err(FileError::NotRegular(_))), "{name}");
        assert!(regular_or_missing(&dir.path(name)).is_err(), "{name}");
    }
    assert!(matches!(read(Path::new("/dev/zero"), DAEMON), Err(FileError::NotRegular("a device"))));
    let mut append = OpenOptions::new();
    append.append(true);
    assert!(open(&dir.path("link"), append, false).is_err());
}

#[test]
fn a_command_reads_a_pipe_until_its_writers_have_gone() {
    let dir = TestDir::new();
    let path = dir.path("pipe");
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    let writer = {
        let path = path.clone();
        std::thread::spawn(move || fs::write(path, "from a pipe").unwrap())
    };
    let command = ReadOptions { pipes: true, ..DAEMON };
    assert_eq!(read(&path, command).unwrap().bytes, b"from a pipe");
    writer.join().unwrap();
}

#[test]
fn a_path_that_hangs_is_waited_for_once() {
    let path = Path::new("/hangs/for/ever");
    let (release, held) = std::sync::mpsc::channel::<()>();
    let hangs = within(path, move || {
        let _ = held.recv();
        Ok(())
    });
    assert!(matches!(hangs, Err(FileError::Hangs)));
    let second: Result<(), _> = within(path, || panic!("no second thread is sent to a path that hangs"));
    assert!(matches!(second, Err(FileError::Hangs)));
    release.send(()).unwrap();
    // The first thread takes its path out when it returns.
    while within(path, || Ok(())).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn what_everybody_may_write_or_replace_is_refused() {
    let dir = TestDir::new();
    fs::create_dir(dir.path("etc")).unwrap();
    let path = dir.file("etc/a", 0o602);
    let error = read(&path, DAEMON).unwrap_err();
    assert!(error.to_string().contains("may be written by everybody"), "{error}");
    dir.mode("etc/a", 0o600);
    assert!(read(&path, DAEMON).is_ok());
    dir.mode("etc", 0o777);
    let error = read(&path, DAEMON).unwrap_err();
    assert!(error.to_string().contains("and so replace"), "{error}");
    assert!(error.help().starts_with("run `chmod o-w "), "{}", error.help());
    assert!(read(&path, ReadOptions { trust: FileTrust::File, ..DAEMON }).is_ok());
    // In a directory with the sticky bit, others cannot.
    dir.mode("etc", 0o1777);
    assert!(read(&path, DAEMON).is_ok());
}

#[test]
fn a_place_of_our_own_is_nobody_elses() {
    let dir = TestDir::new();
    fs::create_dir_all(dir.path("var/doorman")).unwrap();
    let ledger = dir.path("var/doorman/ledger.db");
    assert_eq!(judge_place(&ledger), Ok(None));
    for (directory, mode, good) in [
        ("var", 0o777, false),
        // Nobody can replace a directory there.
        ("var", 0o1777, true),
        ("var/doorman", 0o1777, true),
        ("var/doorman", 0o777, false),
        ("var/doorman", 0o755, true),
    ] {
        dir.mode(directory, mode);
        let judged = judge_place(&ledger);
        assert_eq!(judged.is_ok(), good, "{directory} {mode:o}: {judged:?}");
        assert_eq!(judged.is_ok_and(|found| found.is_some()), (directory, mode) == ("var/doorman", 0o1777), "{mode:o}");
        dir.mode(directory, 0o755);
    }
    symlink(&ledger, dir.path("link.db")).unwrap();
    dir.mode("var/doorman", 0o777);
    assert!(judge_place(&dir.path("link.db")).is_err());
}

#[test]
fn a_link_is_followed_through_every_directory_on_the_way() {
    let dir = TestDir::new();
    for name in ["open", "closed"] {
        fs::create_dir(dir.path(name)).unwrap();
    }
    dir.file("closed/real", 0o600);
    symlink("../closed/real", dir.path("open/link")).unwrap();
    symlink(dir.path("open/link"), dir.path("closed/link")).unwrap();
    assert!(read(&dir.path("closed/link"), DAEMON).is_ok());
    dir.mode("open", 0o777);
    assert!(matches!(read(&dir.path("closed/link"), DAEMON), Err(FileError::Untrusted(_))));
    assert!(read(&dir.path("closed/real"), DAEMON).is_ok());
}

#[test]
fn a_volume_of_kubernetes_is_taken_as_it_is_made() {
    let dir = TestDir::new();
    fs::create_dir_all(dir.path("volume/..2026_01_05")).unwrap();
    dir.mode("volume", 0o1777);
    dir.file("volume/..2026_01_05/key", 0o644);
    symlink("..2026_01_05", dir.path("volume/..data")).unwrap();
    symlink("..data/key", dir.path("volume/key")).unwrap();
    let read = read(&dir.path("volume/key"), DAEMON).unwrap();
    assert_eq!((read.bytes.as_slice(), read.warning), (b"text".as_slice(), None));
}
