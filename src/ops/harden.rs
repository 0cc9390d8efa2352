//! What the process denies itself, as early as it can: core dumps, which would hold keys, and files that others may
//! read. Sandboxing beyond that is systemd's (`systemd/doorman.service`).

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

/// Forbids core dumps, makes the process unreadable for other processes of its user, and lets only this user into files
/// that it creates. Call in `main`, before threads.
///
/// # Errors
/// The system refused; worth a warning, not a reason to stay down.
pub fn process() -> Result<(), nix::Error> {
    umask(Mode::from_bits_truncate(0o077));
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    // systemd's `LimitCORE=0` has done it already where its system call filter would refuse it.
    if getrlimit(Resource::RLIMIT_CORE)? != (0, 0) {
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    }
    Ok(())
}
