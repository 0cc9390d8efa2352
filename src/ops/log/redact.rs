//! Keys that must never be shown: whatever a line says, these are replaced before it is written. The second fence; the
//! first is that no code hands a key to the log.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::{AhoCorasick, MatchKind};
use arc_swap::ArcSwapOption;

/// Shorter texts are not scrubbed: they would eat ordinary words.
pub const KEY_BYTES_MIN: usize = 8;
/// Longer texts are no keys.
const KEY_BYTES_MAX: usize = 4096;
/// Most keys remembered; the oldest goes. Enough for every agent of a large daemon with a rotated key each.
const KEYS_MAX: usize = 8192;

/// The keys to be scrubbed. Clones share them.
#[derive(Clone, Default)]
pub struct Redact {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    keys: Mutex<Vec<String>>,
    search: ArcSwapOption<AhoCorasick>,
}

impl std::fmt::Debug for Redact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redact(***)")
    }
}

impl Redact {
    /// Remembers a key; each form in which it could appear (as it is, percent-encoded, as a Rust or JSON string). A key
    /// known already, or shorter than [`KEY_BYTES_MIN`], changes nothing.
    pub fn add(&self, key: &str) {
        self.add_all([key]);
    }

    /// Remembers several keys at the cost of one.
    pub fn add_all<'a>(&self, keys: impl IntoIterator<Item = &'a str>) {
        let mut known = self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        for key in keys {
            if (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) && !known.iter().any(|one| one == key) {
                known.push(key.to_owned());
            }
        }
        if known.len() == before {
            return;
        }
        let surplus = known.len().saturating_sub(KEYS_MAX);
        known.drain(..surplus);
        let patterns: Vec<String> = known.iter().flat_map(|key| forms(key)).collect();
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns);
        self.inner.search.store(search.ok().map(Arc::new));
    }

    /// The text with `***` for every key.
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let guard = self.inner.search.load();
        match guard.as_deref() {
            Some(search) if search.is_match(text) => {
                let mut out = String::with_capacity(text.len());
                search.replace_all_with(text, &mut out, |_, _, out| {
                    out.push_str("***");
                    true
                });
                Cow::Owned(out)
            }
            _ => Cow::Borrowed(text),
        }
    }

    /// The bytes with `***` for every key.
    pub fn scrub_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let guard = self.inner.search.load();
        match guard.as_deref() {
            Some(search) if search.find(bytes).is_some() => {
                let mut out = Vec::with_capacity(bytes.len());
                search.replace_all_with_bytes(bytes, &mut out, |_, _, out| {
                    out.extend_from_slice(b"***");
                    true
                });
                Cow::Owned(out)
            }
            _ => Cow::Borrowed(bytes),
        }
    }
}

/// The ways in which a key could be written.
fn forms(key: &str) -> Vec<String> {
    let debug = format!("{key:?}");
    let encoded: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
    let mut forms = vec![key.to_owned(), debug[1..debug.len() - 1].to_owned(), encoded.replace('+', "%20"), encoded];
    forms.sort();
    forms.dedup();
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_key_is_scrubbed() {
        let redact = Redact::default();
        let text = "wss://x/?api_key=band%2Fsk%20%221 and band/sk \"1 and \"band/sk \\\"1\"";
        assert!(matches!(redact.scrub(text), Cow::Borrowed(_)), "no keys, no work");
        redact.add("band/sk \"1");
        assert_eq!(redact.scrub(text), "wss://x/?api_key=*** and *** and \"***\"");
        assert_eq!(redact.scrub_bytes(text.as_bytes()), redact.scrub(text).as_bytes());
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
}
