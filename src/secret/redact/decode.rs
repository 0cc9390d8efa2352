//! A text after its escapes are undone, and the position of each of its bytes in the original text.

use std::ops::Range;

/// Escapes are undone this many times.
const DEPTH_MAX: usize = 3;

/// See the module. Works on bytes, since a key is visible ASCII.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) bytes: Vec<u8>,
    /// For each byte, its position in the original text.
    places: Vec<Range<usize>>,
}

/// Undoes one escape: the length of the escape at the beginning, and the byte that it means.
type Undo = fn(&[u8]) -> Option<(usize, u8)>;

impl Decoded {
    pub(super) fn of(text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let places = (0..bytes.len()).map(|at| at..at + 1).collect();
        Self { bytes, places }
    }

    /// The position of this piece in the original text.
    pub(super) fn place(&self, piece: Range<usize>) -> Range<usize> {
        let first = self.places.get(piece.start).map_or(0, |place| place.start);
        let last = piece.end.checked_sub(1).and_then(|last| self.places.get(last));
        first..last.map_or(first, |place| place.end)
    }

    /// Calls `look` with the text, and with every result of undoing escapes, in any order, up to three times.
    pub(super) fn each(self, mut look: impl FnMut(&Decoded)) {
        self.look(&mut look, DEPTH_MAX);
    }

    fn look(&self, look: &mut impl FnMut(&Decoded), depth: usize) {
        look(self);
        if depth == 0 {
            return;
        }
        for (mark, undo) in [(b'\\', backslash as Undo), (b'%', percent), (b'&', entity)] {
            if let Some(undone) = self.undone(mark, undo) {
                undone.look(look, depth - 1);
            }
        }
    }

    /// Whether a text may have escapes at all.
    pub(super) fn is_needed(text: &str) -> bool {
        text.bytes().any(|byte| matches!(byte, b'\\' | b'%' | b'&'))
    }

    /// Without the escapes that begin with this mark; `None` if there are none.
    fn undone(&self, mark: u8, undo: Undo) -> Option<Self> {
        if !self.bytes.contains(&mark) {
            return None;
        }
        let (mut bytes, mut places) = (Vec::with_capacity(self.bytes.len()), Vec::with_capacity(self.bytes.len()));
        let mut at = 0;
        while let Some(byte) = self.bytes.get(at) {
            let (length, byte) = (*byte == mark).then(|| undo(&self.bytes[at..])).flatten().unwrap_or((1, *byte));
            bytes.push(byte);
            places.push(self.place(at..at + length));
            at += length;
        }
        (bytes.len() < self.bytes.len()).then_some(Self { bytes, places })
    }
}

/// The visible ASCII character with the code that these digits give.
fn visible(digits: &[u8], radix: u32) -> Option<u8> {
    let number = u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()?;
    u8::try_from(number).ok().filter(u8::is_ascii)
}

/// `\u0062`, `\u{62}`, `\x62`, `\/`, `\"`.
fn backslash(text: &[u8]) -> Option<(usize, u8)> {
    match text.get(1)? {
        b'u' if text.get(2) == Some(&b'{') => {
            let length = text.iter().take(10).position(|byte| *byte == b'}')?;
            Some((length + 1, visible(&text[3..length], 16)?))
        }
        b'u' => Some((6, visible(text.get(2..6)?, 16)?)),
        b'x' => Some((4, visible(text.get(2..4)?, 16)?)),
        byte @ (b'/' | b'"' | b'\\' | b'\'') => Some((2, *byte)),
        _ => None,
    }
}

/// `%62`.
fn percent(text: &[u8]) -> Option<(usize, u8)> {
    Some((3, visible(text.get(1..3)?, 16)?))
}

/// `&#98;`, `&#x62;`, and the named ones.
fn entity(text: &[u8]) -> Option<(usize, u8)> {
    let length = text.iter().take(10).position(|byte| *byte == b';')?;
    let byte = match &text[1..length] {
        b"amp" => b'&',
        b"lt" => b'<',
        b"gt" => b'>',
        b"quot" => b'"',
        b"apos" => b'\'',
        [b'#', b'x' | b'X', digits @ ..] => visible(digits, 16)?,
        [b'#', digits @ ..] => visible(digits, 10)?,
        _ => return None,
    };
    Some((length + 1, byte))
}

/// The runs of base64 or hexadecimal whose decoded bytes satisfy `holds`, with at least `least` bytes.
pub(super) fn runs(text: &[u8], least: usize, holds: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = Range<usize>> {
    let run_min = least.saturating_mul(4).div_ceil(3);
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < text.len() {
            let length = text[at..].iter().take_while(|byte| sextet(**byte).is_some()).count();
            let run = at..at + length;
            at = run.end + 1;
            if length >= run_min && is_in_run(&text[run.clone()], &holds) {
                return Some(run);
            }
        }
        None
    })
}

/// Whether this run contains it, at any offset.
fn is_in_run(run: &[u8], holds: &impl Fn(&[u8]) -> bool) -> bool {
    let base64 = (0..4).any(|skipped| holds(&joined(&run[skipped.min(run.len())..], 6, sextet)));
    // Other characters may precede the hexadecimal digits (`0x`, `key_`).
    let mut digits = run.split(|byte| nibble(*byte).is_none());
    base64 || digits.any(|digits| (0..2).any(|skipped| holds(&joined(digits.get(skipped..).unwrap_or(&[]), 4, nibble))))
}

/// The decoded bytes of these digits, up to the first character that is not a digit.
fn joined(digits: &[u8], bits: u32, value: fn(u8) -> Option<u8>) -> Vec<u8> {
    let (mut bytes, mut held, mut count) = (Vec::with_capacity(digits.len()), 0_u32, 0);
    for digit in digits.iter().map_while(|digit| value(*digit)) {
        (held, count) = (held << bits | u32::from(digit), count + bits);
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(held >> count & 0xff).unwrap_or_default());
        }
    }
    bytes
}

/// A digit of base64, in both alphabets.
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

fn nibble(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
