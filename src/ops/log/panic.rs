//! Panics become a normal log line: escaped, cut and without keys, instead of raw text on stderr.

use std::panic::PanicHookInfo;

use super::events;

/// The hook that [`super::init`] installs.
pub fn hook(info: &PanicHookInfo<'_>) {
    let why = info.payload_as_str().unwrap_or("no reason was given");
    let at = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(event = events::PANIC, why, at, thread, "a fault of doorman's own; please report it");
}
