//! Text made comparable: NFKC, then case.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;

/// Folds width and case.
pub fn fold(text: &str) -> String {
    let normal: Cow<'_, str> = if text.is_ascii() { text.into() } else { text.nfkc().collect::<String>().into() };
    normal.to_lowercase()
}
