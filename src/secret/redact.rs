//! Replaces keys in every text before it is shown or stored. This is the second line of defence; the first is that no
//! code passes a key to the log.
//!
//! Text from the platform goes through [`Redact::said`], after it was decoded and before it is cut. A key is found
//! unchanged, escaped up to three times (as in JSON, Rust, URLs or HTML), and in base64 and hexadecimal.

mod decode;

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::{AhoCorasick, MatchKind};
use arc_swap::ArcSwapOption;

use self::decode::Decoded;
use super::Key;
use crate::model::StrangerText;

/// Shorter keys are not replaced: that would also replace ordinary words.
pub(crate) const KEY_BYTES_MIN: usize = 8;
/// A longer text is not a key.
const KEY_BYTES_MAX: usize = 4096;
/// Most keys that are remembered; then the oldest is forgotten. Enough for every agent of a large daemon with one
/// rotated key each.
const KEYS_MAX: usize = 131_072;

/// The keys to be scrubbed. Clones share them.
#[derive(Clone, Default)]
pub struct Redact {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    keys: Mutex<KnownKeys>,
    search: ArcSwapOption<AhoCorasick>,
}

/// Each once, in the order in which they came.
#[derive(Default)]
struct KnownKeys {
    known: HashSet<Arc<str>>,
    order: VecDeque<Arc<str>>,
}

impl KnownKeys {
    /// Whether it is new.
    fn add(&mut self, key: &str) -> bool {
        if self.known.contains(key) {
            return false;
        }
        let key: Arc<str> = key.into();
        self.known.insert(key.clone());
        self.order.push_back(key);
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl std::fmt::Debug for Redact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redact(***)")
    }
}

impl Redact {
    /// Scrubs this key. It takes some KiB: one for each agent, made where it is needed, and not kept.
    pub(crate) fn of(key: &Key) -> Self {
        let redact = Self::default();
        redact.add(key.expose());
        redact
    }

    /// Remembers a key. A key known already, or shorter than `KEY_BYTES_MIN`, changes nothing.
    pub fn add(&self, key: &str) {
        self.add_all([key]);
    }

    /// Remembers several keys at the cost of one.
    pub(crate) fn add_all<'a>(&self, keys: impl IntoIterator<Item = &'a str>) {
        let mut known = self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for key in keys {
            any |= (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) && known.add(key);
        }
        if !any {
            return;
        }
        let all = known.order.iter().map(|key| key.as_bytes());
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(all);
        self.inner.search.store(search.ok().map(Arc::new));
    }

    /// Text from the platform, to be shown or stored: first without keys in any form, then cut.
    pub fn said(&self, text: &str) -> StrangerText {
        StrangerText::new(&self.scrub(text))
    }

    /// The text with `***` for every key, as it is or escaped, and for every piece of base64 or hexadecimal that holds one.
    pub(crate) fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let guard = self.inner.search.load();
        let Some(search) = guard.as_deref() else { return Cow::Borrowed(text) };
        // No way to write a key is shorter than the key.
        if text.len() < search.min_pattern_len() {
            return Cow::Borrowed(text);
        }
        let mut found = Vec::new();
        let holds = |bytes: &[u8]| search.find(bytes).is_some();
        if Decoded::is_needed(text) {
            Decoded::of(text).each(|decoded| {
                found.extend(search.find_iter(&decoded.bytes).map(|one| decoded.place(one.range())));
                let runs = decode::runs(&decoded.bytes, search.min_pattern_len(), holds);
                found.extend(runs.map(|run| decoded.place(run)));
            });
        } else {
            // This is the case for most log lines: there are no escapes, so nothing is copied.
            found.extend(search.find_iter(text).map(|one| one.range()));
            found.extend(decode::runs(text.as_bytes(), search.min_pattern_len(), holds));
        }
        if found.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(masked(text, found)) }
    }
}

impl Redact {
    /// The same for JSON, or any other text with quoted strings, string by string: each string is short, but the whole
    /// may have many MiB.
    pub(crate) fn scrub_quoted<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.inner.search.load().is_none() {
            return Cow::Borrowed(text);
        }
        let (mut scrubbed, mut kept) = (String::new(), 0);
        let mut start = 0;
        for end in quotes(text).chain([text.len()]) {
            if let Cow::Owned(piece) = self.scrub(&text[start..end]) {
                scrubbed.push_str(&text[kept..start]);
                scrubbed.push_str(&piece);
                kept = end;
            }
            start = end;
        }
        if kept == 0 {
            return Cow::Borrowed(text);
        }
        scrubbed.push_str(&text[kept..]);
        Cow::Owned(scrubbed)
    }
}

/// The positions of the quotes that are not escaped.
fn quotes(text: &str) -> impl Iterator<Item = usize> + '_ {
    let mut escaped = false;
    text.bytes().enumerate().filter_map(move |(at, byte)| {
        let quote = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        quote.then_some(at)
    })
}

/// The text with `***` at these positions.
fn masked(text: &str, mut places: Vec<Range<usize>>) -> String {
    places.sort_by_key(|place| place.start);
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for place in places {
        if place.start >= done {
            out.push_str(&text[done..text.floor_char_boundary(place.start)]);
            out.push_str("***");
        }
        done = done.max(text.ceil_char_boundary(place.end));
    }
    out.push_str(&text[done..]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_a_key_is_scrubbed() {
        let redact = Redact::default();
        let text = "wss://x/?api_key=band%2Fsk%20%221 and band/sk \"1 and \"band/sk \\\"1\"";
        assert!(matches!(redact.scrub(text), Cow::Borrowed(_)), "no keys, no work");
        redact.add("band/sk \"1");
        assert_eq!(redact.scrub(text), "wss://x/?api_key=*** and *** and \"***\"");
    }

    #[test]
    fn json_is_scrubbed_string_by_string() {
        let redact = Redact::default();
        assert!(matches!(redact.scrub_quoted("{}"), Cow::Borrowed(_)));
        redact.add("band/sk \"1");
        let json = r#"{"a":"x band\/sk \"1 y","b":["no","band/sk","\\","c \u0062and\/sk \"1"]}"#;
        assert_eq!(redact.scrub_quoted(json), r#"{"a":"x *** y","b":["no","band/sk","\\","c ***"]}"#);
        let clean = r#"{"a":"band/sk","b":" \"1"}"#;
        assert!(matches!(redact.scrub_quoted(clean), Cow::Borrowed(_)), "two texts are not one");
    }

    #[test]
    fn what_is_too_short_to_be_a_key_eats_no_words() {
        let redact = Redact::default();
        redact.add("live");
        assert_eq!(redact.scrub("the agent is live"), "the agent is live");
    }

    #[test]
    fn a_key_that_begins_another_does_not_leave_its_end() {
        let redact = Redact::default();
        redact.add_all(["band_12345678", "band_12345678_and_more"]);
        assert_eq!(redact.scrub("key band_12345678_and_more"), "key ***");
    }

    #[test]
    fn it_never_shows_itself() {
        let redact = Redact::default();
        redact.add("band_12345678");
        assert!(!format!("{redact:?}").contains("1234"));
    }

    #[test]
    fn what_the_platform_said_is_scrubbed_before_it_is_cut() {
        let redact = Redact::default();
        redact.add("band_12345678");
        let long = format!("{} band_12345678", "x".repeat(StrangerText::KEPT_MAX - 8));
        assert!(!redact.said(&long).raw().contains("band"));
        assert_eq!(
            redact.said("no \\u0062and\\u005f12345678, \u{62}and%5F12345678 or YmFuZF8xMjM0NTY3OA==").raw(),
            "no ***, *** or ***=="
        );
    }

    /// Each character unchanged or escaped, as `how` says.
    fn escaped(text: &str, how: &[u8]) -> String {
        let escape = |(place, character): (usize, char)| match how[place % how.len()] % 8 {
            0 => format!("\\u{:04x}", character as u32),
            1 => format!("\\u{:04X}", character as u32),
            2 => format!("\\u{{{:x}}}", character as u32),
            3 if matches!(character, '/' | '"' | '\\') => format!("\\{character}"),
            // Characters that would be read as an escape are always escaped.
            _ if matches!(character, '"' | '\\') => format!("\\{character}"),
            _ => character.to_string(),
        };
        text.chars().enumerate().map(escape).collect()
    }

    fn percent(text: &str, how: &[u8]) -> String {
        let escape = |(place, byte): (usize, u8)| match how[place % how.len()] % 3 {
            0 => format!("%{byte:02X}"),
            1 => format!("%{byte:02x}"),
            _ if byte == b'%' => "%25".to_owned(),
            _ => char::from(byte).to_string(),
        };
        text.bytes().enumerate().map(escape).collect()
    }

    /// The key in one of the ways in which a careless platform may repeat it.
    fn written(key: &str, way: u8, how: &[u8], before: &str) -> String {
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
        let basic = format!("{before}{key}");
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        match way % 14 {
            0 => key.to_owned(),
            1 => escaped(key, how),
            2 => escaped(&escaped(key, how), &[7]),
            3 => percent(key, how),
            4 => percent(&percent(key, how), &[2]),
            5 => percent(&escaped(key, how), how),
            6 => STANDARD.encode(&basic),
            7 => STANDARD_NO_PAD.encode(&basic),
            8 => URL_SAFE.encode(&basic),
            9 => escaped(&URL_SAFE_NO_PAD.encode(&basic), how),
            10 => hex(&basic).to_uppercase(),
            11 => format!("0x{}", hex(&basic)),
            12 => format!("key_{}-or", hex(&basic)),
            _ => key.chars().map(|character| format!("&#{};", character as u32)).collect(),
        }
    }

    proptest! {
        #[test]
        fn however_it_is_written_it_is_not_shown(
            key in "[!-~]{8,40}",
            way in 0_u8..14,
            how in prop::collection::vec(any::<u8>(), 1..9),
            before in "[a-z:]{0,5}",
            around in "[ -~é]{0,20}",
        ) {
            let redact = Redact::default();
            redact.add_all(["another-key-of-the-same-daemon", &key]);
            let written = written(&key, way, &how, &before);
            let text = format!("{around} {written} {around}");
            let said = redact.said(&text);
            prop_assert!(!said.raw().contains(&written), "{} shows {} as {}", said.raw(), key, written);
            prop_assert!(!said.raw().contains(&key));
            prop_assert!(said.raw().contains("***"));
            // Text that is not a key stays unchanged.
            prop_assume!(!around.contains(&key));
            let none = Redact::default();
            none.add("another-key-of-the-same-daemon");
            let same = none.said(&text);
            prop_assert_eq!(same.raw(), &text);
        }
    }
}
