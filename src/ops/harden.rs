//! Restrictions that the process puts on itself, as early as it can: no core dumps, which would contain keys, and no
//! files that others may read. Further sandboxing is left to systemd (`systemd/doorman.service`).

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

/// Forbids core dumps, makes the process unreadable for other processes of its user, and lets only this user into files
/// that it creates. Call in `main`, before threads.
///
/// # Errors
/// The system refused. That deserves a warning, but is not a reason not to start.
pub fn process() -> Result<(), nix::Error> {
    umask(Mode::from_bits_truncate(0o077));
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    // If systemd's `LimitCORE=0` has done this already, the call is left out: the unit's system call filter would
    // refuse it.
    if getrlimit(Resource::RLIMIT_CORE)? != (0, 0) {
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    }
    Ok(())
}
