//! Asks a person on the terminal before a command changes many things, or does something that cannot be undone.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::CliError;

/// Whether to go on. Without a terminal only `--yes` counts as a yes.
///
/// # Errors
/// Exit code 2 if there is no terminal and no `--yes`, and if the terminal cannot be read.
pub(super) fn confirmed(question: &str, yes: bool) -> Result<bool, CliError> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::new(
            2,
            "nobody can be asked here, and nothing was done: `--yes` says yes to all that is shown",
        ));
    }
    let failed = |error: std::io::Error| CliError::new(2, format!("the answer cannot be read: {error}"));
    let mut err = anstream::stderr();
    write!(err, "{question} [y/N] ").and_then(|()| err.flush()).map_err(failed)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
