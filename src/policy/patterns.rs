//! The one grammar of handle patterns: `john`, `john/*`, `acme/*-bot`, `*/support`. In `handle`, in list entries, in
//! list files. `*` never crosses `/`, and nothing else is special.

use std::sync::Arc;

use globset::GlobBuilder;

use super::rules::{HandleGlob, PatternSet};
use crate::document::shown;
use crate::model::{Handle, HandleProblem, HandleRef};

/// A handle pattern, by the way in which it is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum HandlePattern {
    /// `john`, `acme/bot`.
    Literal(Handle),
    /// `john/*`.
    AgentsOf(Arc<str>),
    /// `*/support`.
    Slug(Arc<str>),
    /// Any other with a `*`.
    Glob {
        /// Lower case, without the `@`.
        text: Arc<str>,
        /// The owner part, if it has no `*`.
        owner: Option<Arc<str>>,
    },
}

/// Why a text is not a handle pattern: the text at the caret, and advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatternProblem {
    pub(crate) label: String,
    pub(crate) help: Option<&'static str>,
}

impl PatternProblem {
    fn new(label: impl Into<String>, help: Option<&'static str>) -> Self {
        Self { label: label.into(), help }
    }
}

const REGEX_HELP: &str = "a pattern knows only `*`; regular expressions are written `handle_regex = '…'`";

impl HandlePattern {
    /// Parses a pattern. One leading `@` is removed, and case does not matter.
    pub(crate) fn parse(text: &str) -> Result<Self, PatternProblem> {
        let bare = text.strip_prefix('@').unwrap_or(text);
        if !bare.contains('*') {
            return Handle::parse(text).map(Self::Literal).map_err(|problem| explain(text, problem));
        }
        if bare.starts_with('@') {
            return Err(explain(text, HandleProblem::TwoAts));
        }
        if !bare.is_ascii() {
            return Err(explain(text, HandleProblem::NotAscii));
        }
        let lower = bare.to_ascii_lowercase();
        let (owner, slug) = match lower.split_once('/') {
            None => (lower.as_str(), None),
            Some((owner, slug)) => (owner, Some(slug)),
        };
        for part in [Some(owner), slug].into_iter().flatten() {
            check_part(part, &lower)?;
        }
        match (owner, slug) {
            ("*", None) => Err(PatternProblem::new(
                "matches every user",
                Some("users are `kind = \"user\"`, everybody is `when = \"everyone\"`"),
            )),
            ("*", Some("*")) => Err(PatternProblem::new(
                "matches every agent",
                Some("agents are `kind = \"agent\"`, everybody is `when = \"everyone\"`"),
            )),
            (owner, Some("*")) if Handle::is_part(owner) => Ok(Self::AgentsOf(owner.into())),
            ("*", Some(slug)) if Handle::is_part(slug) => Ok(Self::Slug(slug.into())),
            (owner, _) => {
                let literal = (slug.is_some() && !owner.contains('*')).then(|| owner.into());
                Ok(Self::Glob { text: lower.as_str().into(), owner: literal })
            }
        }
    }

    /// Parses one without a `*`, and keeps it in `room`: as [`HandlePattern::parse`] does, for a million lines of a list.
    pub(crate) fn literal<'a>(text: &str, room: &'a mut String) -> Result<HandleRef<'a>, PatternProblem> {
        HandleRef::parse(text, room).map_err(|problem| explain(text, problem))
    }

    /// The owner of these handles, if the pattern names one.
    pub(crate) fn owner(&self) -> Option<&str> {
        match self {
            HandlePattern::Literal(handle) => Some(handle.owner()),
            HandlePattern::AgentsOf(owner) => Some(owner),
            HandlePattern::Slug(_) => None,
            HandlePattern::Glob { owner, .. } => owner.as_deref(),
        }
    }

    /// Whether only agents fit it, or only users.
    pub(crate) fn is_of_agents(&self) -> bool {
        match self {
            HandlePattern::Literal(handle) => handle.slug().is_some(),
            HandlePattern::AgentsOf(_) | HandlePattern::Slug(_) => true,
            HandlePattern::Glob { text, .. } => text.contains('/'),
        }
    }
}

/// One part of a pattern with a `*` somewhere.
fn check_part(part: &str, whole: &str) -> Result<(), PatternProblem> {
    if let Some(odd) = whole.chars().find(|odd| !(odd.is_ascii_alphanumeric() || "._-*/".contains(*odd))) {
        return Err(odd_character(odd));
    }
    if part.is_empty() || part.contains('/') {
        return Err(PatternProblem::new("a pattern is `owner` or `owner/slug`, with `*` inside a part", None));
    }
    if part.contains("**") {
        return Err(PatternProblem::new(
            "`**` is not a pattern",
            Some("`*` never crosses `/`: write one `*`, or `owner/*`"),
        ));
    }
    if part.len() > 64 {
        return Err(PatternProblem::new("each part has at most 63 characters", None));
    }
    if part.starts_with(['.', '_', '-']) {
        return Err(PatternProblem::new("each part of a handle begins with a letter or digit", None));
    }
    Ok(())
}

fn odd_character(odd: char) -> PatternProblem {
    let help = r"[](){}|^$+?\".contains(odd).then_some(REGEX_HELP);
    PatternProblem::new(format!("`{}` cannot be in a handle", shown(&odd.to_string())), help)
}

fn explain(text: &str, problem: HandleProblem) -> PatternProblem {
    let bare = text.strip_prefix('@').unwrap_or(text);
    let odd = bare.chars().find(|odd| odd.is_ascii() && !(odd.is_ascii_alphanumeric() || "._-/".contains(*odd)));
    match (problem, odd) {
        (HandleProblem::Shape, Some(odd)) => odd_character(odd),
        (HandleProblem::NotAscii, _) => PatternProblem::new(
            "a handle is plain ASCII",
            Some("a request whose handle is not plain ASCII is never matched: it is deferred"),
        ),
        (problem, _) => PatternProblem::new(problem.to_string(), None),
    }
}

impl PatternSet {
    /// Adds a pattern; `false` if it was there already. A valid pattern always makes a glob; otherwise the error has
    /// the text of the glob library.
    pub(crate) fn insert(&mut self, pattern: &HandlePattern) -> Result<bool, String> {
        match pattern {
            HandlePattern::Literal(handle) => self.literals.insert(handle.view()),
            HandlePattern::AgentsOf(owner) => Ok(self.agents_of.insert(owner.clone())),
            HandlePattern::Slug(slug) => Ok(self.slugs.insert(slug.clone())),
            HandlePattern::Glob { text, owner } => {
                if !self.glob_texts.insert(text.clone()) {
                    return Ok(false);
                }
                let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(false).build();
                let matcher = glob.map_err(|error| error.to_string())?.compile_matcher();
                self.globs.push(HandleGlob { text: text.clone(), literal_owner: owner.clone(), matcher });
                Ok(true)
            }
        }
    }

    /// Whether one of the patterns fits the handle.
    pub fn contains(&self, handle: &Handle) -> bool {
        self.fits(handle.view())
    }

    /// The same.
    pub(crate) fn fits(&self, handle: HandleRef<'_>) -> bool {
        self.literals.contains(handle)
            || handle.slug().is_some_and(|slug| {
                (!self.agents_of.is_empty() && self.agents_of.contains(handle.owner()))
                    || (!self.slugs.is_empty() && self.slugs.contains(slug))
            })
            || self.globs.iter().any(|glob| glob.fits(handle))
    }

    /// Whether one of the patterns that fit the handle names its owner as a literal.
    pub(crate) fn names(&self, handle: &Handle) -> bool {
        let handle = handle.view();
        self.literals.contains(handle)
            || (handle.slug().is_some() && self.agents_of.contains(handle.owner()))
            || self.globs.iter().any(|glob| glob.literal_owner.is_some() && glob.fits(handle))
    }

    /// How many of these patterns are not in the other set.
    pub(crate) fn missing_from(&self, other: &PatternSet) -> usize {
        self.literals.missing_from(&other.literals)
            + self.agents_of.difference(&other.agents_of).count()
            + self.slugs.difference(&other.slugs).count()
            + self.glob_texts.difference(&other.glob_texts).count()
    }

    /// The patterns as texts, in order.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut all: Vec<String> = self.literals.iter().map(|handle| handle.as_str().to_owned()).collect();
        all.extend(self.agents_of.iter().map(|owner| format!("{owner}/*")));
        all.extend(self.slugs.iter().map(|slug| format!("*/{slug}")));
        all.extend(self.globs.iter().map(|glob| glob.text.to_string()));
        all.sort_unstable();
        all
    }
}

impl HandleGlob {
    fn fits(&self, handle: HandleRef<'_>) -> bool {
        self.literal_owner.as_ref().is_none_or(|owner| **owner == *handle.owner())
            && self.matcher.is_match(handle.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(patterns: &[&str]) -> PatternSet {
        let mut set = PatternSet::default();
        for pattern in patterns {
            assert_eq!(set.insert(&HandlePattern::parse(pattern).unwrap()), Ok(true), "{pattern}");
        }
        set
    }

    #[test]
    fn each_pattern_fits_what_it_says_and_nothing_else() {
        for (pattern, fits, misses) in [
            ("john", &["john", "@John"][..], &["john/a", "johnny", "j"][..]),
            ("@John/*", &["john/a", "john/weather-agent"], &["john", "johnny/a", "a/john"]),
            ("acme/bot", &["acme/bot"], &["acme", "acme/bots", "acme/bo"]),
            ("acme/*-bot", &["acme/a-bot", "acme/a.b-bot"], &["acme/bot", "acme", "acm/a-bot", "acme/a-bot2"]),
            ("*/support", &["john/support", "a/support"], &["support", "john/support2"]),
            ("acme*", &["acme", "acme2"], &["acme/bot", "acme2/bot"]),
            ("acme*/bot", &["acme/bot", "acme.eu/bot"], &["acme", "acme/bot2"]),
            ("a.me/*-b", &["a.me/x-b"], &["acme/x-b"]),
        ] {
            let set = set(&[pattern]);
            for text in fits {
                assert!(set.contains(&Handle::parse(text).unwrap()), "{pattern} fits {text}");
            }
            for text in misses {
                assert!(!set.contains(&Handle::parse(text).unwrap()), "{pattern} misses {text}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "@",
            "@@john",
            "@@john/*",
            "*",
            "*/*",
            "@*",
            "**",
            "a/**",
            "a/b/c",
            "a/*/c",
            "/x",
            "x/",
            "*/",
            "/*",
            "jöhn",
            "jö*",
            "[ab]/x",
            "a/[b]*",
            "a{b}",
            "a|b",
            "^a",
            "a$",
            "a+",
            "a?",
            "(a)",
            r"a\.b",
            r"a\*",
            "john smith",
            "-a",
            "-a*",
            "a/.b*",
        ] {
            assert!(HandlePattern::parse(text).is_err(), "{text}");
        }
        let help = |text| HandlePattern::parse(text).unwrap_err().help;
        assert_eq!(help("acme/(a|b)"), Some(REGEX_HELP));
        assert_eq!(help("acme/.+*"), Some(REGEX_HELP));
    }

    #[test]
    fn whose_a_pattern_is_stands_in_its_owner_part() {
        let owner = |text| HandlePattern::parse(text).unwrap().owner().map(str::to_owned);
        assert_eq!(owner("john").as_deref(), Some("john"));
        assert_eq!(owner("john/*").as_deref(), Some("john"));
        assert_eq!(owner("acme/*-bot").as_deref(), Some("acme"));
        for nobodys in ["*/support", "acme*", "acme*/bot", "*me/a*"] {
            assert_eq!(owner(nobodys), None, "{nobodys}");
        }
    }

    #[test]
    fn the_same_pattern_twice_is_noticed() {
        let mut set = set(&["john", "john/*", "*/a", "a*"]);
        for again in ["@JOHN", "John/*", "*/A", "A*"] {
            assert_eq!(set.insert(&HandlePattern::parse(again).unwrap()), Ok(false), "{again}");
        }
    }
}
