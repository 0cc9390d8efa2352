//! Text that strangers wrote. It is bounded on input and escaped on output.

use std::fmt;

/// A stranger's text. `Display` and `Debug` escape it and cut it at `StrangerText::SHOWN_MAX` characters, so that it
/// cannot control a terminal, a log line or a page.
///
/// A text longer than `StrangerText::KEPT_MAX` is cut and marked as cut: nothing is known about the missing part.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StrangerText {
    kept: Box<str>,
    cut: bool,
}

impl StrangerText {
    /// Most bytes kept of one text. The platform promises at most 500 characters \[seed\], which it counts as people see
    /// them: one of those may have many bytes.
    pub(crate) const KEPT_MAX: usize = 32 << 10;
    /// Most characters shown of one text.
    pub(crate) const SHOWN_MAX: usize = 200;

    /// Takes a text in, cut at `StrangerText::KEPT_MAX` bytes on a character boundary.
    pub fn new(text: &str) -> Self {
        let kept = &text[..text.floor_char_boundary(Self::KEPT_MAX)];
        Self { kept: kept.into(), cut: kept.len() < text.len() }
    }

    /// The same text with at most this many bytes.
    #[must_use]
    pub fn shortened(self, bytes: usize) -> Self {
        let kept = &self.kept[..self.kept.floor_char_boundary(bytes)];
        let cut = self.cut || kept.len() < self.kept.len();
        Self { kept: kept.into(), cut }
    }

    /// Whether the end of the text is missing: what is not found in it may have been in the missing part.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The original text: for matching and for the ledger, never for a terminal or a log.
    pub fn raw(&self) -> &str {
        &self.kept
    }

    /// At most `count` characters of the text as it came, for a store with a bound of its own.
    pub(crate) fn raw_prefix(&self, count: usize) -> &str {
        match self.kept.char_indices().nth(count) {
            Some((at, _)) => &self.kept[..at],
            None => &self.kept,
        }
    }

    /// One line for a table: escaped, with runs of blanks as one blank, and cut to at most `max` columns of a terminal.
    pub(crate) fn in_columns(&self, max: usize) -> String {
        let mut out = String::with_capacity(self.kept.len().min(max * 2));
        let (mut wide, mut blank) = (0, true);
        for character in self.kept.trim_end_matches(' ').chars() {
            if std::mem::replace(&mut blank, character == ' ') && blank {
                continue;
            }
            let before = out.len();
            escape_into(character, &mut out);
            wide += columns(&out[before..]);
            if wide > max {
                out.truncate(before);
                while columns(&out) + 2 > max && out.pop().is_some() {}
                out.push('…');
                break;
            }
        }
        out
    }

    /// Escaped, and cut after `max` characters of the original.
    pub fn shown(&self, max: usize) -> String {
        let mut out = String::with_capacity(self.kept.len().min(max * 4));
        for (count, character) in self.kept.chars().enumerate() {
            if count == max {
                out.push('…');
                break;
            }
            escape_into(character, &mut out);
        }
        out
    }
}

/// Columns of a terminal that a text takes at most.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(|character| if character.is_ascii() { 1 } else { 2 }).sum()
}

/// Visible characters pass; what could move a cursor, hide, or reorder its neighbours is written as `\u{…}`.
fn escape_into(character: char, out: &mut String) {
    let harmless = match character {
        ' ' => true,
        '\\' => false,
        character if character.is_ascii() => character.is_ascii_graphic(),
        character => !hides(character),
    };
    if harmless {
        out.push(character);
    } else {
        out.extend(character.escape_default());
    }
}

/// Control, format, private-use, unassigned-looking and white characters beyond ASCII, and marks that pile up.
pub(crate) fn hides(character: char) -> bool {
    character.is_control()
        || character.is_whitespace()
        || unicode_normalization::char::is_combining_mark(character)
        || matches!(character,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
            | '\u{E000}'..='\u{F8FF}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}'
            | '\u{F0000}'..='\u{10FFFF}')
}

/// JSON with everything beyond printable ASCII as `\\uXXXX`: the same values, and nothing in it that a terminal obeys.
pub(crate) fn ascii_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && character != '\u{7f}' {
            out.push(character);
        } else {
            // Outside of strings, JSON is printable ASCII.
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

impl fmt::Display for StrangerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.shown(Self::SHOWN_MAX))
    }
}

impl fmt::Debug for StrangerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.shown(Self::SHOWN_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        let text = StrangerText::new("a\u{1b}[31mred\r\n\u{202e}evil\u{200b}\\ é 名");
        assert_eq!(text.to_string(), r"a\u{1b}[31mred\r\n\u{202e}evil\u{200b}\\ é 名");
        assert!(format!("{text:?}").starts_with("\"a\\u{1b}"));
    }

    #[test]
    fn in_a_table_blanks_are_one_and_escapes_count_as_they_are_shown() {
        let shown = |text: &str, max| StrangerText::new(text).in_columns(max);
        assert_eq!(shown("  a   b  c  ", 60), "a b c");
        assert_eq!(shown("\u{1b}\u{1b}\u{1b}x", 60), r"\u{1b}\u{1b}\u{1b}x");
        assert_eq!(shown("\u{1b}\u{1b}\u{1b}x", 12), "\\u{1b}\\u{1…");
        assert_eq!(shown("名名名", 6), "名名名");
        for text in ["\u{200b}", "名", "ab", "é ", "\\"] {
            for max in 2..40 {
                let shown = shown(&text.repeat(50), max);
                assert!(columns(&shown) <= max && shown.ends_with('…'), "{shown} in {max}");
            }
        }
    }

    #[test]
    fn json_keeps_its_values_and_steers_nothing() {
        let value = serde_json::json!({ "é\u{9b}": "\u{202e}\u{7f}名😀\u{1b}" });
        let json = ascii_json(&value.to_string());
        assert!(json.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }

    #[test]
    fn it_is_cut_when_shown_and_when_kept() {
        let text = StrangerText::new(&"é".repeat(20_000));
        assert_eq!(text.raw().len(), StrangerText::KEPT_MAX);
        assert!(text.is_cut() && !StrangerText::new(&"é".repeat(16 << 10)).is_cut());
        assert_eq!(text.to_string().chars().count(), StrangerText::SHOWN_MAX + 1);
        assert_eq!(text.raw_prefix(3), "ééé");
    }
}
