//! A token in each form, which proves that our own page made the form, for the person who saw it, and not long ago.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;

/// How long a page that is left open can be used.
const FORM_LASTS: SignedDuration = SignedDuration::from_hours(12);
/// How far the clock may be set back in the meantime.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// Makes such tokens and checks them. The key lives as long as the process.
#[derive(Clone)]
pub struct FormTokens(Hmac<Sha256>);

impl std::fmt::Debug for FormTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why a form is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormProblem {
    /// It is our own, but older than [`FORM_LASTS`].
    Old,
    /// This process did not make it, or made it for somebody else.
    NotOurs,
}

impl FormTokens {
    /// With this key.
    pub fn new(key: &[u8; 64]) -> Self {
        Self(Hmac::new(&(*key).into()))
    }

    /// A token for this person and this moment.
    pub fn token(&self, person: &str, now: Timestamp) -> String {
        let at = now.as_second();
        let seal: String =
            self.sealed(person, at).finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{at}.{seal}")
    }

    /// Whether it is ours, for this person, and new enough.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, token: &str, person: &str, now: Timestamp) -> Result<(), FormProblem> {
        let (at, seal) = token.split_once('.').ok_or(FormProblem::NotOurs)?;
        let at: i64 = at.parse().map_err(|_| FormProblem::NotOurs)?;
        let seal = unhex(seal).ok_or(FormProblem::NotOurs)?;
        self.sealed(person, at).verify_slice(&seal).map_err(|_| FormProblem::NotOurs)?;
        let age = Timestamp::from_second(at).map(|at| now.duration_since(at)).map_err(|_| FormProblem::NotOurs)?;
        if age < FORM_LASTS && age > -CLOCK_SLACK { Ok(()) } else { Err(FormProblem::Old) }
    }

    fn sealed(&self, person: &str, at: i64) -> Hmac<Sha256> {
        let mut seal = self.0.clone();
        seal.update(&at.to_be_bytes());
        seal.update(person.as_bytes());
        seal
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..32).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_for_one_person_and_for_half_a_day() {
        let (forms, others) = (FormTokens::new(&[7; 64]), FormTokens::new(&[8; 64]));
        let at = |hours: i64| Timestamp::from_second(3_600 * (1_000 + hours)).unwrap();
        let token = forms.token("ann", at(0));
        assert_eq!(forms.check(&token, "ann", at(11)), Ok(()));
        assert_eq!(forms.check(&token, "ann", at(12)), Err(FormProblem::Old));
        assert_eq!(forms.check(&token, "ann", at(24)), Err(FormProblem::Old));
        assert_eq!(forms.check(&token, "ann", at(-1)), Err(FormProblem::Old));
        assert_eq!(forms.check(&token, "bob", at(1)), Err(FormProblem::NotOurs));
        assert_eq!(others.check(&token, "ann", at(1)), Err(FormProblem::NotOurs));
        let (_, seal) = token.split_once('.').unwrap();
        let later = format!("{}.{seal}", at(20).as_second());
        for forged in ["", ".", "1.", "x.y", seal, later.as_str(), &format!("{token}0"), "1.é"] {
            assert_eq!(forms.check(forged, "ann", at(1)), Err(FormProblem::NotOurs), "{forged}");
        }
    }
}
