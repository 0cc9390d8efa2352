//! Strangers' text made comparable, in two forms.
//!
//! The *plain* form is NFKC; literals are compared with its case folded, regular expressions search it with and without
//! its case. The *disclosed* form is also without invisible characters and without marks that disguise letters, and
//! look-alikes of the pattern's own letters are replaced by those letters: `cry<U+200B>pto` and `сrурtо` (with Cyrillic
//! letters) disclose `crypto`. Patterns are never rewritten. Which forms a condition looks at is `Forms`' business.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_security::confusable_detection::skeleton;

use super::Truth;
use super::rules::{Folded, RegexPattern};
use crate::model::StrangerText;

/// No form is longer than this many times the bytes of its text.
const FORM_GROWTH_MAX: usize = 40;

/// Folds width (NFKC) and case.
pub fn fold(text: &str) -> String {
    width(text).to_lowercase()
}

fn width(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { text.into() } else { text.nfkc().collect::<String>().into() }
}

/// The letters of a pattern beyond ASCII, with those in ASCII: what look-alikes are replaced by. Patterns that are all
/// ASCII share one set, which is all letters of ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letters {
    /// Kept as they are; in order.
    own: Vec<char>,
    /// By the skeleton of a letter, that letter.
    look: HashMap<Box<str>, char>,
}

static ASCII: LazyLock<Letters> = LazyLock::new(|| Letters::new(('a'..='z').chain('A'..='Z').collect()));

impl Letters {
    /// Those of a pattern; `None` if the shared set serves.
    pub(crate) fn of(pattern: &str) -> Option<Box<Letters>> {
        let mut own: Vec<char> = width(pattern).chars().filter(|one| one.is_alphanumeric()).collect();
        if own.iter().all(char::is_ascii) {
            return None;
        }
        let cases: Vec<char> = own.iter().flat_map(|one| one.to_lowercase().chain(one.to_uppercase())).collect();
        own.extend(cases);
        own.sort_unstable();
        own.dedup();
        Some(Box::new(Letters::new(own)))
    }

    fn new(mut own: Vec<char>) -> Self {
        let mut look = HashMap::new();
        for letter in &own {
            look.entry(look_of(*letter)).or_insert(*letter);
        }
        // `I` has the skeleton of `l`, which is meant far more often.
        if own.contains(&'l') {
            look.insert(look_of('l'), 'l');
        }
        // Letters are looked up by binary search. The sort comes last, since the first letter with a skeleton is the
        // one that is used.
        own.sort_unstable();
        Self { own, look }
    }

    fn of_look(&self, one: char) -> Option<char> {
        self.look.get(&look_of(small_capital(one))).copied()
    }

    /// The letter of these that a character shows, or the character.
    fn disclose(&self, one: char) -> char {
        if self.own.binary_search(&one).is_ok() || one.is_whitespace() {
            return one;
        }
        if one.is_ascii() && !matches!(one, '0' | '1' | '|' | 'a'..='z' | 'A'..='Z') {
            return one;
        }
        let base = || std::iter::once(one).nfd().next().filter(|base| *base != one);
        self.of_look(one)
            .or_else(|| base().filter(|base| self.own.binary_search(base).is_ok()))
            .or_else(|| base().and_then(|base| self.of_look(base)))
            .unwrap_or(one)
    }
}

/// The letter of ASCII that a small capital of Latin shows, or the character. Unicode does not call most of these
/// confusable.
pub(super) fn small_capital(one: char) -> char {
    match one {
        '\u{1D00}' => 'a',
        '\u{0299}' => 'b',
        '\u{1D04}' => 'c',
        '\u{1D05}' => 'd',
        '\u{1D07}' => 'e',
        '\u{A730}' => 'f',
        '\u{0262}' => 'g',
        '\u{029C}' => 'h',
        '\u{026A}' => 'i',
        '\u{1D0A}' => 'j',
        '\u{1D0B}' => 'k',
        '\u{029F}' => 'l',
        '\u{1D0D}' => 'm',
        '\u{0274}' => 'n',
        '\u{1D0F}' => 'o',
        '\u{1D18}' => 'p',
        '\u{A7AF}' => 'q',
        '\u{0280}' => 'r',
        '\u{A731}' => 's',
        '\u{1D1B}' => 't',
        '\u{1D1C}' => 'u',
        '\u{1D20}' => 'v',
        '\u{1D21}' => 'w',
        '\u{028F}' => 'y',
        '\u{1D22}' => 'z',
        _ => one,
    }
}

fn look_of(one: char) -> Box<str> {
    skeleton(one.encode_utf8(&mut [0; 4])).collect::<String>().into()
}

/// The disclosed form of a text in NFKC.
fn disclose(plain: &str, letters: &Letters) -> String {
    let mut out = String::with_capacity(plain.len());
    let all: Vec<char> = plain.chars().collect();
    let mut base: Option<char> = None;
    for (at, &one) in all.iter().enumerate() {
        if !one.is_ascii() && is_combining_mark(one) && !ignorable(one) {
            // On letters of scripts that are written without marks, or with few, a mark is a disguise.
            if letters.own.binary_search(&one).is_ok() || base.is_some_and(|base| !takes_few_marks(base)) {
                out.push(one);
            }
            continue;
        }
        if ignorable(one) {
            let needed = matches!(one, '\u{200C}' | '\u{200D}') && joins(base, all.get(at + 1).copied());
            if needed {
                out.push(one);
            }
            continue;
        }
        base = Some(one);
        out.push(letters.disclose(one));
    }
    out
}

/// Invisible characters: `Default_Ignorable_Code_Point`, and control characters that are not white space.
pub(crate) fn ignorable(one: char) -> bool {
    (one.is_control() && !one.is_whitespace())
        || matches!(one,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}'
            | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

fn takes_few_marks(base: char) -> bool {
    // Latin, Greek, Cyrillic, Armenian; digits, signs and punctuation.
    matches!(base, '\0'..='\u{058F}' | '\u{1D00}'..='\u{1FFF}' | '\u{2000}'..='\u{2DFF}' | '\u{A640}'..='\u{A69F}'
        | '\u{A720}'..='\u{A7FF}' | '\u{AB30}'..='\u{AB6F}')
}

/// Whether a joiner or a non-joiner between these two is one that their script is written with, or part of an emoji.
fn joins(before: Option<char>, after: Option<char>) -> bool {
    #[derive(PartialEq)]
    enum JoiningScript {
        Arabic,
        Brahmic,
        Mongolian,
        Emoji,
    }
    let kind = |one: char| match one {
        '\u{0600}'..='\u{07FF}' | '\u{08A0}'..='\u{08FF}' | '\u{FB50}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFC}' => {
            Some(JoiningScript::Arabic)
        }
        '\u{0900}'..='\u{0DFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' => Some(JoiningScript::Brahmic),
        '\u{1800}'..='\u{18AF}' => Some(JoiningScript::Mongolian),
        '\u{2600}'..='\u{27BF}' | '\u{1F000}'..='\u{1FAFF}' => Some(JoiningScript::Emoji),
        _ => None,
    };
    match (before.and_then(kind), after.map(kind)) {
        (Some(before), Some(after)) => after == Some(before),
        // At the end of a word.
        (Some(before), None) => before != JoiningScript::Emoji,
        (None, _) => false,
    }
}

/// One text of a stranger and its forms, each made at most once.
#[derive(Debug)]
pub(crate) struct TextForms<'a> {
    text: &'a StrangerText,
    plain: OnceCell<Cow<'a, str>>,
    folded: OnceCell<String>,
    disclosed: OnceCell<String>,
    disclosed_folded: OnceCell<String>,
    /// Regular expressions search this many bytes of a form.
    search_max: usize,
}

impl<'a> TextForms<'a> {
    pub(crate) fn new(text: &'a StrangerText) -> Self {
        let (plain, folded) = (OnceCell::new(), OnceCell::new());
        let (disclosed, disclosed_folded) = (OnceCell::new(), OnceCell::new());
        Self { text, plain, folded, disclosed, disclosed_folded, search_max: StrangerText::KEPT_MAX }
    }

    /// Regular expressions search at most this many bytes of each form; what is not found there is unknown.
    pub(crate) fn search_at_most(&mut self, bytes: usize) {
        self.search_max = bytes;
    }

    /// Whether regular expressions see all of every form.
    pub(crate) fn is_searched_whole(&self) -> bool {
        self.text.raw().len() * FORM_GROWTH_MAX <= self.search_max
            || self.searched(true).iter().all(|form| form.len() <= self.search_max)
    }

    /// The original text.
    pub(crate) fn original(&self) -> &'a StrangerText {
        self.text
    }

    /// NFKC, without case folding.
    pub(crate) fn plain(&self) -> &str {
        self.plain.get_or_init(|| width(self.text.raw()))
    }

    /// NFKC, case folded.
    pub(crate) fn folded(&self) -> &str {
        self.folded.get_or_init(|| self.plain().to_lowercase())
    }

    /// Disclosed with the letters of ASCII.
    pub(crate) fn disclosed(&self) -> &str {
        self.disclosed.get_or_init(|| disclose(self.plain(), &ASCII))
    }

    /// The same, case folded.
    pub(crate) fn disclosed_folded(&self) -> &str {
        self.disclosed_folded.get_or_init(|| self.disclosed().to_lowercase())
    }

    /// Every form that a regular expression may be found in, each once; the disclosed ones only if `disclosing`.
    pub(crate) fn searched(&self, disclosing: bool) -> Vec<&str> {
        let mut forms = vec![self.plain(), self.folded()];
        if disclosing {
            forms.extend([self.disclosed(), self.disclosed_folded()]);
        }
        distinct(forms)
    }

    /// Whether one of these literals is in the text.
    pub(crate) fn contains(&self, literals: &[Folded]) -> Truth {
        self.known(literals.iter().any(|one| {
            self.folded().contains(&*one.folded)
                || (one.disclosing && self.in_disclosed_folded(one, |text| text.contains(&*one.folded)))
        }))
    }

    /// Whether the whole text is one of these literals.
    pub(crate) fn is(&self, literals: &[Folded]) -> Truth {
        if self.text.is_cut() {
            return Truth::Unknown;
        }
        let is = |one: &Folded| {
            self.folded() == &*one.folded
                || (one.disclosing && self.in_disclosed_folded(one, |text| text == &*one.folded))
        };
        literals.iter().any(is).into()
    }

    fn in_disclosed_folded(&self, one: &Folded, holds: impl Fn(&str) -> bool) -> bool {
        match &one.letters {
            None => holds(self.disclosed_folded()),
            Some(letters) => holds(&disclose(self.plain(), letters).to_lowercase()),
        }
    }

    /// Whether one of these expressions is found in the text.
    pub(crate) fn matches(&self, patterns: &[RegexPattern]) -> Truth {
        let mut sought = Truth::False;
        for one in patterns {
            let mut found = Truth::False;
            for form in self.searched(one.disclosing && one.letters.is_none()) {
                found = found.or(self.found(one, form));
            }
            if let Some(letters) = one.letters.as_ref().filter(|_| one.disclosing && found != Truth::True) {
                let disclosed = disclose(self.plain(), letters);
                found = found.or(self.found(one, &disclosed)).or(self.found(one, &disclosed.to_lowercase()));
            }
            if found == Truth::True {
                return Truth::True;
            }
            sought = sought.or(found);
        }
        sought.or(self.known(false))
    }

    /// Whether an expression is found in the searched part of a form. A match at the end of that part may depend on the
    /// rest.
    fn found(&self, pattern: &RegexPattern, form: &str) -> Truth {
        if form.len() <= self.search_max {
            return pattern.regex.is_match(form).into();
        }
        let searched = &form[..form.floor_char_boundary(self.search_max)];
        match pattern.regex.shortest_match(searched) {
            Some(end) if end < searched.len() => Truth::True,
            Some(_) | None => Truth::Unknown,
        }
    }

    /// Whether the text has more characters than this, counted in the original.
    pub(crate) fn longer_than(&self, count: usize) -> Truth {
        self.known(self.text.raw().chars().nth(count).is_some())
    }

    /// If a text was cut, what is not found may be in the missing part.
    fn known(&self, found: bool) -> Truth {
        match found {
            true => Truth::True,
            false if self.text.is_cut() => Truth::Unknown,
            false => Truth::False,
        }
    }

    /// The text, and the forms in which it is compared, if they differ in more than case. Escaped.
    pub(crate) fn shown(&self, disclosing: bool) -> String {
        let mut shown = self.text.to_string();
        let mut others = vec![self.plain()];
        if disclosing {
            others.push(self.disclosed());
        }
        let others: Vec<String> = distinct(others)
            .into_iter()
            .filter(|form| *form != self.text.raw())
            .map(|form| format!("`{}`", StrangerText::new(form)))
            .collect();
        if !others.is_empty() {
            shown.push_str(&format!(" (compared as {})", others.join(" and ")));
        }
        if self.text.is_cut() {
            shown.push_str(" (too long: the rest was cut off)");
        }
        if !self.is_searched_whole() {
            shown.push_str(" (regular expressions search its beginning only)");
        }
        shown
    }
}

fn distinct(forms: Vec<&str>) -> Vec<&str> {
    let mut kept: Vec<&str> = Vec::with_capacity(forms.len());
    for form in forms {
        if !kept.contains(&form) {
            kept.push(form);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disclosed(text: &str, pattern: &str) -> String {
        let letters = Letters::of(pattern);
        disclose(&width(text), letters.as_deref().unwrap_or(&ASCII)).to_lowercase()
    }

    #[test]
    fn invisible_characters_marks_and_look_alikes_disguise_nothing() {
        for text in [
            "cry\u{200B}pto",
            "cry\u{00AD}pto",
            "cry\u{200D}pto",
            "cry\u{2060}pto",
            "cry\u{FE0F}pto",
            "cry\u{180E}pto",
            "cry\u{E0001}pto",
            "cry\u{202E}pto",
            "ｃｒｙｐｔｏ",
            "сrурtо",
            "CRYPTО",
            "c\u{336}r\u{336}y\u{336}p\u{336}t\u{336}o\u{336}",
            "çrÿptö",
            "𝖈𝖗𝖞𝖕𝖙𝖔",
            "crypt0",
            "ⓒⓡⓨⓟⓣⓞ",
            "cryрt\u{301}o",
            "cr\u{0}ypto",
            "ᴄʀʏᴘᴛᴏ",
        ] {
            assert_eq!(disclosed(text, "crypto"), "crypto", "{text:?}");
        }
        assert_eq!(disclosed("кpиптo", "крипто"), "крипто", "into the letters of the pattern");
        assert_eq!(disclosed("крипто", "крипто"), "крипто");
    }

    #[test]
    fn letters_of_ascii_are_found_without_their_look() {
        assert!(ASCII.own.is_sorted(), "they are searched by halves");
        for one in ('a'..='z').chain('A'..='Z') {
            assert_eq!(ASCII.disclose(one), one);
            assert!(ASCII.own.binary_search(&one).is_ok());
        }
        assert_eq!(["0", "1", "|"].map(|one| disclosed(one, "crypto")), ["o", "l", "l"]);
    }

    #[test]
    fn a_joiner_that_a_script_needs_is_no_disguise() {
        for text in ["می\u{200C}خواهم", "क्\u{200D}ष", "👩\u{200D}💻"] {
            let joiners = |text: &str| text.matches(['\u{200C}', '\u{200D}']).count();
            assert_eq!(joiners(&disclosed(text, "x")), joiners(text), "{text:?}");
        }
        assert_eq!(disclosed("s\u{200C}eo", "seo"), "seo");
        assert_eq!(disclosed("שָׁלוֹם", "x").chars().count(), "שָׁלוֹם".nfkc().count(), "marks of Hebrew stay");
    }

    #[test]
    fn a_cut_text_is_known_only_if_it_matches() {
        let text = StrangerText::new(&format!("seo {}", "x".repeat(StrangerText::KEPT_MAX)));
        let forms = TextForms::new(&text);
        let found = |word| forms.contains(&[Folded::new(word, true)]);
        assert_eq!((found("seo"), found("crypto")), (Truth::True, Truth::Unknown));
        assert_eq!(forms.is(&[Folded::new("seo", true)]), Truth::Unknown);
        assert_eq!((forms.longer_than(10), forms.longer_than(1 << 20)), (Truth::True, Truth::Unknown));
    }

    #[test]
    fn length_is_that_of_the_original() {
        let text = StrangerText::new("e\u{301}\u{200B}");
        assert_eq!(TextForms::new(&text).longer_than(2), Truth::True);
        assert_eq!(TextForms::new(&text).longer_than(3), Truth::False);
    }

    #[test]
    fn what_lies_beyond_the_searched_part_is_unknown() {
        let pattern = |text: &str| [RegexPattern::new(text, regex::Regex::new(text).unwrap(), true)];
        let of = |text: &str, sought: &str| {
            let text = StrangerText::new(text);
            let mut forms = TextForms::new(&text);
            forms.search_at_most(2_000);
            forms.matches(&pattern(sought))
        };
        let filler = "x".repeat(3_000);
        assert_eq!(of(&format!("crypto {filler}"), "crypto"), Truth::True);
        assert_eq!(of(&format!("{filler} crypto"), "crypto"), Truth::Unknown);
        // The text continues after the searched part.
        assert_eq!(of(&filler, r"x\z"), Truth::Unknown);
        assert_eq!(of(&filler[..2_000], r"y"), Truth::False);
    }
}
