//! Regular expressions of a rules file: compiled within bounds, so that no file costs too much, and analysed for the
//! texts with which their matches begin.

use std::ops::Range;
use std::sync::Arc;

use regex::RegexBuilder;
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::rules::RegexPattern;
use crate::model::StrangerText;

/// Longest pattern (bytes).
const LENGTH_MAX: usize = 8 * 1024;
/// Most patterns of one file.
const COUNT_MAX: usize = 20_000;
/// Patterns up to this compiled size are not counted as large (bytes).
const SMALL: usize = 64 * 1024;
/// Largest size of one pattern, compiled (bytes).
const SIZE_MAX: usize = 1024 * 1024;
/// Most patterns that are larger than [`SMALL`].
const LARGE_MAX: usize = 256;

/// The text that costs are computed for (bytes): 500 characters, the most that the platform takes, of four bytes each.
const TEXT: u64 = 2_000;
/// Most steps that all patterns of a file may take for such a text. It depends on the file alone, not on the machine.
const STEPS_MAX: u64 = 250_000_000;

/// What a pattern is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The whole of a handle.
    WholeHandle,
    /// A search in a name or a message.
    Search,
}

/// Why a pattern is refused: the place in it, the text at the caret, and advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegexProblem {
    /// The range in the pattern (bytes).
    pub(crate) place: Option<Range<usize>>,
    pub(crate) label: String,
    pub(crate) help: Option<&'static str>,
}

impl RegexProblem {
    fn new(label: impl Into<String>, help: Option<&'static str>) -> Self {
        Self { place: None, label: label.into(), help }
    }
}

/// Compiles the patterns of one file.
#[derive(Debug, Default)]
pub(crate) struct Compiler {
    count: usize,
    large: usize,
    /// For a text of [`TEXT`].
    steps: u64,
}

impl Compiler {
    /// Compiles a pattern: first alone, so that nothing in it can escape from the anchors that are put around it.
    pub(crate) fn compile(&mut self, text: &str, purpose: Use, disclosing: bool) -> Result<RegexPattern, RegexProblem> {
        self.count += 1;
        if self.count > COUNT_MAX {
            return Err(RegexProblem::new(format!("more than {COUNT_MAX} regular expressions"), None));
        }
        if text.len() > LENGTH_MAX {
            return Err(RegexProblem::new(format!("longer than {LENGTH_MAX} bytes"), None));
        }
        let hir = parse(text)?;
        self.spend(size(&hir))?;
        match hir.properties().minimum_len() {
            None => return Err(RegexProblem::new("can never match", None)),
            Some(0) => {
                let help = match purpose {
                    Use::WholeHandle => None,
                    Use::Search => Some("it would match everything; an absent message is `message_absent = true`"),
                };
                return Err(RegexProblem::new("matches the empty text", help));
            }
            Some(_) => {}
        }
        let bare = self.build(text)?;
        let regex = match purpose {
            // A comment at the end of a `(?x)` pattern would swallow the bracket: a line of its own ends it.
            Use::WholeHandle => match self.build(&format!(r"\A(?:{text})\z")) {
                Ok(regex) => regex,
                Err(_) => self.build(&format!("\\A(?:{text}\n)\\z"))?,
            },
            Use::Search => bare,
        };
        Ok(RegexPattern::new(text, regex, disclosing))
    }

    /// Takes the cost of a pattern of this size, compiled, off the budget of the file.
    pub(crate) fn spend(&mut self, size: u64) -> Result<(), RegexProblem> {
        let steps = self.steps.saturating_add(size.saturating_mul(TEXT));
        if steps > STEPS_MAX {
            let label = format!("with this one, the patterns take more than {} million steps", STEPS_MAX / 1_000_000);
            return Err(RegexProblem::new(
                label,
                Some("shorten repetitions such as `{100}`, write `[a-z]` for `\\w`, or use a literal text"),
            ));
        }
        self.steps = steps;
        Ok(())
    }

    /// How many steps all patterns need for a text of [`TEXT`] bytes.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    fn build(&mut self, text: &str) -> Result<regex::Regex, RegexProblem> {
        let sized = |size| RegexBuilder::new(text).size_limit(size).dfa_size_limit(SIZE_MAX).build();
        let too_large = || RegexProblem::new("too large once compiled", Some("shorten its repetitions"));
        match sized(SMALL) {
            Ok(regex) => Ok(regex),
            Err(regex::Error::CompiledTooBig(_)) if self.large == LARGE_MAX => Err(RegexProblem::new(
                format!("more than {LARGE_MAX} large regular expressions"),
                Some("shorten its repetitions"),
            )),
            Err(regex::Error::CompiledTooBig(_)) => {
                self.large += 1;
                sized(SIZE_MAX).map_err(|_| too_large())
            }
            Err(error) => Err(RegexProblem::new(last_line(&error.to_string()), None)),
        }
    }
}

/// How many bytes of a text are searched by patterns that together need this many steps for [`TEXT`]: so longer texts
/// do not cost more than the budget either.
pub(crate) fn searched_max(steps: u64) -> usize {
    let most = (STEPS_MAX / (steps / TEXT).max(1)).max(TEXT);
    usize::try_from(most).unwrap_or(usize::MAX).min(StrangerText::KEPT_MAX)
}

/// The approximate number of states of a compiled pattern: computed from its syntax, so that it is the same on every
/// machine.
fn size(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(Class::Unicode(class)) => 1 + class.ranges().len() as u64 / 4,
        HirKind::Class(Class::Bytes(_)) => 1,
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.saturating_add(1)).max(1);
            size(&repetition.sub).saturating_add(1).saturating_mul(u64::from(times))
        }
        HirKind::Capture(capture) => size(&capture.sub).saturating_add(2),
        HirKind::Concat(all) => all.iter().map(size).fold(0, u64::saturating_add),
        HirKind::Alternation(all) => all.iter().map(size).fold(1, u64::saturating_add),
    }
}

/// Parses the syntax only, for the places of errors.
fn parse(text: &str) -> Result<Hir, RegexProblem> {
    regex_syntax::parse(text).map_err(|error| {
        let (span, label) = match &error {
            regex_syntax::Error::Parse(error) => (*error.span(), error.kind().to_string()),
            regex_syntax::Error::Translate(error) => (*error.span(), error.kind().to_string()),
            other => return RegexProblem::new(last_line(&other.to_string()), None),
        };
        let place = Some(span.start.offset..span.end.offset);
        let help = label.contains("look-around").then_some("write the exception as `unless`");
        RegexProblem { place, label, help }
    })
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// How the matches of a pattern begin: with one of these texts, none of them empty; `None` if a match may begin with
/// anything.
pub(crate) fn beginnings(text: &str) -> Option<Vec<Arc<str>>> {
    let hir = parse(text).ok()?;
    let mut extractor = Extractor::new();
    // A class of two characters is a choice, not a literal.
    extractor.limit_class(1).limit_repeat(8).limit_total(1_000);
    let seq = extractor.extract(&hir);
    let literals = seq.literals()?;
    let texts = literals.iter().map(|literal| std::str::from_utf8(literal.as_bytes()).ok().map(Arc::from));
    texts.collect::<Option<Vec<Arc<str>>>>().filter(|all| !all.is_empty() && all.iter().all(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str, purpose: Use) -> Result<RegexPattern, RegexProblem> {
        Compiler::default().compile(text, purpose, false)
    }

    #[test]
    fn a_handle_is_matched_as_a_whole() {
        let pattern = compile("acme/a|acme/b", Use::WholeHandle).unwrap();
        assert!(pattern.regex.is_match("acme/a") && pattern.regex.is_match("acme/b"));
        assert!(!pattern.regex.is_match("acme/ab") && !pattern.regex.is_match("xacme/b"));
        let found = compile("b+", Use::Search).unwrap();
        assert!(found.regex.is_match("abba"));
    }

    #[test]
    fn nothing_in_a_pattern_reaches_out_of_its_anchors() {
        for text in ["a)|(b", "(?x) a # comment", "a)(?:", r"a\"] {
            if let Ok(pattern) = compile(text, Use::WholeHandle) {
                assert!(!pattern.regex.is_match("ab") && !pattern.regex.is_match("b"), "{text}");
            }
        }
        assert!(compile("a)|(b", Use::WholeHandle).is_err());
        let commented = compile("(?x) acme/bot-[0-9]+  # ours", Use::WholeHandle).unwrap();
        assert!(commented.regex.is_match("acme/bot-7") && !commented.regex.is_match("acme/bot-7x"));
    }

    #[test]
    fn what_matches_nothing_in_particular_is_refused() {
        for text in ["", ".*", "a?", "(?i)", r"\b|x", "^", "[a&&b]"] {
            assert!(compile(text, Use::Search).is_err(), "{text}");
        }
        assert!(compile("a*", Use::WholeHandle).is_err());
    }

    #[test]
    fn a_mistake_is_shown_in_its_place() {
        let problem = compile("acme/(a|b", Use::WholeHandle).unwrap_err();
        assert_eq!(problem.place, Some(5..6));
        assert_eq!(problem.label, "unclosed group");
        assert_eq!(compile("a(?=b)", Use::Search).unwrap_err().help, Some("write the exception as `unless`"));
    }

    #[test]
    fn patterns_that_blow_up_are_refused() {
        for text in ["(a{1000}){1000}", r"\w{2000}", &"(".repeat(5_000), &"a".repeat(9_000)] {
            assert!(compile(text, Use::Search).is_err());
        }
        let mut compiler = Compiler::default();
        let mut cheap = 0;
        while compiler.compile(r"\w{15}x", Use::Search, false).is_ok() {
            cheap += 1;
        }
        assert!((20..LARGE_MAX).contains(&cheap), "{cheap}: the sum is bounded");
    }

    #[test]
    fn the_cost_of_a_file_is_that_of_its_patterns() {
        let sized = |text| size(&parse(text).unwrap());
        assert_eq!((sized("crypto"), sized("a|b"), sized("a{100}")), (6, 1, 200));
        assert!(sized(r"\w") > 100 && sized(r"\w{240}") > 40_000);
        let mut compiler = Compiler::default();
        let many = (0..10_000).all(|at| compiler.compile(&format!(r"(?i)\bword{at}\b"), Use::Search, true).is_ok());
        assert!(many, "ten thousand words");
        let mut compiler = Compiler::default();
        let huge = (0..40).filter(|_| compiler.compile(r"\w{180}x", Use::Search, true).is_ok()).count();
        assert!(huge < 20, "forty of the largest are not taken: {huge}");
        assert_eq!(searched_max(0), StrangerText::KEPT_MAX);
        assert_eq!(searched_max(STEPS_MAX), 2_000);
        assert!(searched_max(compiler.steps()) >= 2_000, "what the platform takes is looked at whole");
    }

    #[test]
    fn how_a_pattern_begins() {
        let begins = |text| beginnings(text).map(|all| all.iter().map(|one| one.to_string()).collect::<Vec<_>>());
        assert_eq!(begins("acme/.*").unwrap(), ["acme/"]);
        assert_eq!(begins("(acme|corp)/.*").unwrap(), ["acme/", "corp/"]);
        assert_eq!(begins(r"^acme\.eu/.*").unwrap(), ["acme.eu/"]);
        assert_eq!(begins("x*acme").unwrap(), ["x", "acme"]);
        for open in [".*", "[a-z]+/bot", "a|.*", "a?b*", "(acme)?", "(?i)acme", "[ab]c", r"\w+", "(|a)b*"] {
            assert_eq!(begins(open), None, "{open}");
        }
    }
}
