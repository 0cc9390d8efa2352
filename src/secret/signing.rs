//! Signatures according to Standard Webhooks, version 1: for messages to webhooks, and for questions to deciders.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Key;

/// A signing secret (bytes, decoded).
const SIGNING_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Why a secret cannot sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signing secret is not `whsec_` and the base64 of {least} to {most} bytes", least = SIGNING_BYTES.start(), most = SIGNING_BYTES.end())]
pub(crate) struct Unusable;

/// The header `webhook-signature`: for each key `v1,` and the base64 of an HMAC-SHA-256 over id, time and body.
pub(crate) fn signatures(keys: &[Key], id: &str, at: i64, body: &[u8]) -> Result<String, Unusable> {
    let all: Result<Vec<String>, Unusable> = keys.iter().map(|key| signature(key, id, at, body)).collect();
    Ok(all?.join(" "))
}

fn signature(key: &Key, id: &str, at: i64, body: &[u8]) -> Result<String, Unusable> {
    let encoded = key.expose().strip_prefix("whsec_").ok_or(Unusable)?;
    let secret = STANDARD.decode(encoded).ok().filter(|secret| SIGNING_BYTES.contains(&secret.len()));
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.ok_or(Unusable)?).map_err(|_| Unusable)?;
    mac.update(format!("{id}.{at}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_secret_has_its_form() {
        for refused in ["not-a-signing-secret", "whsec_c2hvcnQ=", "whsec_%%%%%%%%"] {
            let why = signatures(&[Key::parse(refused).unwrap()], "id", 0, b"").unwrap_err().to_string();
            assert!(why.contains("whsec_") && !why.contains(&refused[6..]), "{why}");
        }
    }
}
