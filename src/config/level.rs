//! `log.level`: which lines are logged.

use tracing_subscriber::filter::EnvFilter;

use crate::document::{nearest, shown};

/// The log levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Why a text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{level}` is not a log level: {why}; write `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `doorman::phoenix=debug,info`"
)]
pub struct LevelProblem {
    /// As configured.
    pub level: String,
    /// What is wrong with it.
    pub why: String,
    /// The level that was probably meant.
    pub near: Option<&'static str>,
}

/// The filter that `log.level` means. A bare level applies to doorman itself; libraries then log only warnings and
/// errors, since at `debug` they log every byte.
///
/// # Errors
/// See `LevelProblem`.
pub fn filter(level: &str) -> Result<EnvFilter, LevelProblem> {
    let word = level.trim().to_ascii_lowercase();
    let directives = match word.as_str() {
        "error" | "off" => word,
        "warn" | "info" | "debug" | "trace" => format!("warn,doorman={word}"),
        _ => level.trim().to_owned(),
    };
    let refuse = |why: &str, near| LevelProblem { level: level.to_owned(), why: why.to_owned(), near };
    if directives.is_empty() {
        return Err(refuse("it is empty", None));
    }
    // A misspelt level would be read as the name of a module, which does not exist, and the daemon would log nothing.
    for word in directives.split(',').map(str::trim).filter(|part| !part.contains(['=', '['])) {
        let module = word == "doorman" || word.starts_with("doorman::");
        if !module && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) {
            let near = nearest(&word.to_ascii_lowercase(), LEVELS);
            return Err(refuse(&format!("`{}` is neither a level nor a module of doorman's", shown(word)), near));
        }
    }
    EnvFilter::builder().parse(&directives).map_err(|error| refuse(&error.to_string(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        assert_eq!(filter("info").unwrap().to_string(), "doorman=info,warn");
        assert_eq!(filter(" Debug").unwrap().to_string(), "doorman=debug,warn");
        assert_eq!(filter("doorman::phoenix=trace,info").unwrap().to_string(), "doorman::phoenix=trace,info");
        for good in ["off", "WARN", "doorman", "doorman::phoenix", "hyper=info, Debug", "[agent]=debug"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "loud=shout", "doorman=[", "info,,=,", "inof", "loud", "3", "warn,inof", "hyper", "doormann"] {
            let error = filter(bad).unwrap_err().to_string();
            assert!(error.contains("not a log level") && error.contains("`debug`"), "{error}");
        }
    }
}
