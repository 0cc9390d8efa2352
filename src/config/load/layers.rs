//! One scalar: where it comes from, and its value in its type. Flags override `DOORMAN_SECTION_KEY`, which overrides
//! the file, which overrides the official SDK's variables, which override the defaults.

use std::ops::Range;
use std::time::Duration;

use super::Loading;
use super::env::variable;
use crate::config::raw;
use crate::diagnostics::Severity;
use crate::document::keys::KeyType;
use crate::document::{duration, nearest, shown};

/// A value, and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Layered {
    pub(super) value: String,
    pub(super) layer: Layer,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub(super) enum Layer {
    /// A flag.
    Flag,
    /// An environment variable, by name.
    Variable(String),
    /// The file, at this position.
    File(Range<usize>),
    /// The default.
    Default,
}

impl Layer {
    /// In words, for `doorman config`.
    pub(super) fn origin(&self) -> String {
        match self {
            Layer::Flag => "a flag".to_owned(),
            Layer::Variable(name) => format!("`{name}`"),
            Layer::File(_) => "the file".to_owned(),
            Layer::Default => "the default".to_owned(),
        }
    }
}

impl Loading<'_> {
    /// The value of `section.key`. `sdk` is the official SDK's variable for it.
    pub(super) fn scalar(&mut self, key: &str, sdk: Option<&str>, default: &str) -> Layered {
        let name = variable(key);
        let (value, layer) = if let Some(value) = self.overrides.get(key) {
            (value.clone(), Layer::Flag)
        } else if let Some(value) = self.env.text(&name) {
            (value.to_owned(), Layer::Variable(name))
        } else if let Some(at) = self.raw.scalars.get(key) {
            (at.value.clone(), Layer::File(at.span.clone()))
        } else if let Some((sdk, value)) = sdk.and_then(|sdk| Some((sdk, self.env.text(sdk)?))) {
            (value.to_owned(), Layer::Variable(sdk.to_owned()))
        } else {
            (default.to_owned(), Layer::Default)
        };
        self.origins.push((key.to_owned(), value.clone(), layer.origin()));
        if let Layer::File(span) = &layer {
            self.written.insert(key.to_owned(), span.clone());
        }
        Layered { value, layer }
    }

    /// Reports an invalid value at its position; `expected` is the text at the caret.
    pub(super) fn refuse(&mut self, key: &str, layered: &Layered, expected: &str, help: Option<String>) {
        let value = shown(&without_secrets(&layered.value));
        if let (Layer::File(span), true) = (&layered.layer, value != shown(&layered.value)) {
            self.problems.hide(span.clone());
        }
        let name = key.rsplit('.').next().unwrap_or(key);
        let problem = match &layered.layer {
            Layer::File(span) => {
                self.problems.error(span, format!("`{value}` is not a valid `{name}`")).label(expected)
            }
            Layer::Variable(variable) => {
                self.problems.plain(Severity::Error, format!("`{variable}` = `{value}`: {expected}"))
            }
            Layer::Flag | Layer::Default => {
                self.problems.plain(Severity::Error, format!("`{key}` = `{value}`: {expected}"))
            }
        };
        if let Some(help) = help {
            problem.help(help);
        }
    }

    /// Warns about a value at its position.
    pub(super) fn warn(&mut self, key: &str, layered: &Layered, message: &str, help: &str) {
        let problem = match &layered.layer {
            Layer::File(span) => self.problems.warning(span, message.to_owned()),
            Layer::Variable(variable) => self.problems.plain(Severity::Warning, format!("`{variable}`: {message}")),
            Layer::Flag | Layer::Default => self.problems.plain(Severity::Warning, format!("`{key}`: {message}")),
        };
        problem.help(help);
    }

    /// A value, read by a parser whose error says what it expected.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        layered: &Layered,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(&layered.value).map_err(|why| self.refuse(key, layered, &why, None)).ok()
    }

    /// An integer within the key's bounds.
    pub(super) fn number(&mut self, key: &str, default: u32) -> Option<u32> {
        let layered = self.scalar(key, None, &default.to_string());
        let takes = raw::takes(key);
        self.parsed(key, &layered, |text| {
            let number = text.parse::<u32>().ok().filter(|number| match takes {
                Some(KeyType::Count(least, most)) => (least..=most).contains(&u64::from(*number)),
                _ => true,
            });
            number.ok_or_else(|| format!("expected {}", takes.map_or("a number".to_owned(), KeyType::in_words)))
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> Option<bool> {
        let layered = self.scalar(key, None, &default.to_string());
        self.parsed(key, &layered, |text| text.parse().map_err(|_| "expected `true` or `false`".to_owned()))
    }

    /// A positive length of time.
    pub(super) fn length(&mut self, key: &str, default: &str) -> Option<Duration> {
        let layered = self.scalar(key, None, default);
        self.length_of(key, &layered)
    }

    /// The same for a value that has been looked up already.
    pub(super) fn length_of(&mut self, key: &str, layered: &Layered) -> Option<Duration> {
        self.parsed(key, layered, |text| {
            let length = duration(text)?;
            if length.is_zero() {
                return Err("expected more than zero".to_owned());
            }
            Duration::try_from(length).map_err(|error| error.to_string())
        })
    }

    /// The index of the value among these words.
    pub(super) fn word(
        &mut self,
        key: &str,
        layered: &Layered,
        words: &'static [&'static str],
    ) -> Option<&'static str> {
        let word = words.iter().find(|word| **word == layered.value).copied();
        if word.is_none() {
            let near = nearest(&layered.value.to_lowercase(), words.iter().copied());
            let help = near.map(|near| format!("did you mean `{near}`?"));
            self.refuse(key, layered, &format!("expected {}", KeyType::Word(words).in_words()), help);
        }
        word
    }
}

/// An address without what could be a password or a key: everything after the scheme is removed, since in an invalid
/// address it is not certain which part is the host name.
fn without_secrets(value: &str) -> String {
    match value.split_once("://") {
        Some((scheme, rest)) if rest.contains(['@', '?', '#']) => format!("{scheme}://***"),
        _ => value.to_owned(),
    }
}
