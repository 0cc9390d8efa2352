//! A command of the real binary on a terminal of its own: what it asks, what is typed, what it draws.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};

use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::process::TIME;

/// The terminal and the command; it is killed when this is dropped.
pub struct Terminal {
    master: File,
    child: Child,
    heard: Receiver<Vec<u8>>,
    /// Everything that it wrote.
    pub said: String,
    /// How much of that [`Terminal::until`] has found.
    found: usize,
}

impl Terminal {
    /// Runs the binary with these arguments and variables.
    pub fn start(directory: &Path, arguments: &[&str], variables: &[(&str, &Path)]) -> Self {
        let pair = nix::pty::openpty(None, None).unwrap();
        let end = |fd: &OwnedFd| fd.try_clone().unwrap();
        // `setsid` makes it the controlling terminal, from which keys are read.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(env!("CARGO_BIN_EXE_doorman"))
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .env("HOME", directory)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TERM", "xterm")
            .envs(variables.iter().copied())
            .stdin(end(&pair.slave))
            .stdout(end(&pair.slave))
            .stderr(pair.slave)
            .spawn()
            .unwrap();
        let (tell, heard) = channel();
        let mut reader = File::from(end(&pair.master));
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            // The terminal ends with an error when nobody has its other end any more.
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                if tell.send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { master: File::from(pair.master), child, heard, said: String::new(), found: 0 }
    }

    /// Waits until it has written this, after what was found before.
    pub fn until(&mut self, text: &str) {
        loop {
            if let Some(at) = self.said[self.found..].find(text) {
                self.found += at + text.len();
                return;
            }
            match self.heard.recv_timeout(TIME) {
                Ok(bytes) => self.said.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("it never said: {text}\n{}", self.said),
            }
        }
    }

    /// Waits until what is typed is not shown.
    pub fn until_hidden(&self) {
        let begun = std::time::Instant::now();
        while tcgetattr(&self.master).unwrap().local_flags.contains(LocalFlags::ECHO) {
            assert!(begun.elapsed() < TIME, "it shows what is typed\n{}", self.said);
            std::thread::yield_now();
        }
    }

    /// Types a line.
    pub fn types(&mut self, line: &str) {
        self.master.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Ends what is typed, as Ctrl-D at the beginning of a line does.
    pub fn hangs_up(&mut self) {
        self.master.write_all(b"\x04").unwrap();
    }

    /// Waits for its end; returns the exit code.
    pub fn ends(&mut self) -> Option<i32> {
        while let Ok(bytes) = self.heard.recv_timeout(TIME) {
            self.said.push_str(&String::from_utf8_lossy(&bytes));
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
