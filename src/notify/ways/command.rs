//! Runs a program of the operator: it gets the message as JSON on its standard input, and must exit with 0 within ten
//! seconds.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::Undelivered;
use crate::config::settings::NotifyTarget;
use crate::files::{self, FileError};
use crate::model::StrangerText;
use crate::notify::message::Message;

/// The time limit of the program.
const RUN_MAX: Duration = Duration::from_secs(10);
/// Most bytes of its output that are read; more is an error of its own.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;
const SHOWN_CHARS_MAX: usize = 200;
/// How long to read the rest of its output after it ended.
const SAID_MAX: Duration = Duration::from_millis(200);

pub(super) async fn deliver(
    target: &NotifyTarget,
    program: &Path,
    arguments: &[String],
    id: &str,
    message: &Message,
) -> Result<(), Undelivered> {
    trusted(program).await?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("DOORMAN_TARGET", &target.name)
        .env("DOORMAN_MESSAGE_ID", id)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A process group, so that its children do not outlive it.
        .process_group(0)
        .kill_on_drop(true);
    let unusable = |error: &std::io::Error| Undelivered::new(format!("`{}` cannot be run: {error}", program.display()));
    let mut child = command.spawn().map_err(|error| unusable(&error))?;
    let group = ProcessGroup::of(&child);
    let ended = tokio::time::timeout(RUN_MAX, talk(&mut child, message.to_json())).await;
    drop(group);
    match ended {
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((status, said))) => {
            let said = StrangerText::new(said.trim()).shown(SHOWN_CHARS_MAX);
            let said = if said.is_empty() { "it said nothing on standard error".to_owned() } else { said };
            Err(Undelivered::new(format!("the program ended with {status}: {said}")))
        }
        Ok(Err(error)) => Err(unusable(&error)),
        Err(_) => Err(Undelivered::new(format!("the program did not end within {} s", RUN_MAX.as_secs()))),
    }
}

/// Whoever may write the program decides what runs as doorman, so its file is checked.
pub(super) async fn trusted(program: &Path) -> Result<(), Undelivered> {
    let path = program.to_owned();
    let judged = tokio::task::spawn_blocking(move || {
        files::program(&path).map_err(|error| match &error {
            FileError::Untrusted(_) => format!("{error}: {}", error.help()),
            FileError::System(_) | FileError::NotRegular(_) | FileError::TooLarge(_) | FileError::Hangs => {
                error.to_string()
            }
        })
    });
    match judged.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(Undelivered::new(format!("`{}`: {why}", program.display()))),
        Err(_) => Err(Undelivered::new("looking at the program failed inside doorman")),
    }
}

/// Sends the message to the program and waits until it ends; returns its standard error.
async fn talk(child: &mut Child, message: String) -> std::io::Result<(std::process::ExitStatus, String)> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let mut said = Vec::new();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read the message may still succeed.
            let _ = stdin.write_all(message.as_bytes()).await;
        }
    };
    let read = async {
        if let Some(stderr) = stderr {
            let _ = stderr.take(OUTPUT_BYTES_MAX).read_to_end(&mut said).await;
        }
    };
    let status = {
        let mut both = std::pin::pin!(async { tokio::join!(write, read) });
        tokio::select! {
            biased;
            _ = &mut both => child.wait().await?,
            // A process that it started may still hold its standard error open; this does not wait for that.
            status = child.wait() => {
                let _ = tokio::time::timeout(SAID_MAX, both).await;
                status?
            }
        }
    };
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// The program's process group, which is killed when this is dropped.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended already, which is fine.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}
