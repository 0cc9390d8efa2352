//! TLS for both the socket and REST: rustls, one provider, the machine's roots, and one more CA by setting.
//!
//! Reading the machine's roots costs memory: where nothing is spoken to over TLS, nobody should call [`client_config`].

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use crate::files::{self, FileError, Reading, Trust};

/// Largest file of certificate authorities.
const CA_BYTES_MAX: usize = 8 << 20;

/// What is wrong with the TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The extra CA cannot be read, or holds no certificate.
    #[error("`platform.ca_file` = `{path}` cannot be used: {why}")]
    Ca {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// The machine's roots cannot be used.
    #[error(
        "the machine's certificate authorities cannot be used ({0}): install `ca-certificates`, or set `platform.ca_file`"
    )]
    Roots(String),
}

/// A client's TLS without ALPN. `ca_file` adds to the machine's roots. Blocks on the file system.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let extra = match ca_file {
        Some(path) => certificates(path)?,
        None => Vec::new(),
    };
    let verifier =
        Verifier::new_with_extra_roots(extra, provider.clone()).map_err(|error| TlsError::Roots(error.to_string()))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Roots(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// TLS that trusts nobody and costs nothing, for a client that has to be given some and speaks none.
pub(super) fn none() -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Roots(error.to_string()))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// The certificates of a PEM file, each of them usable as a root.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |why: String| TlsError::Ca { path: path.display().to_string(), why };
    let how = Reading { bytes_max: CA_BYTES_MAX, pipes: false, trust: Trust::Path };
    let text = files::read(path, how).map_err(|error| match &error {
        FileError::Untrusted(_) => fail(format!("{error}: {}", error.help())),
        FileError::System(_) | FileError::NotRegular(_) | FileError::TooLarge(_) | FileError::Hangs => {
            fail(error.to_string())
        }
    })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text.bytes).collect();
    // What went wrong quotes the file, which may be a key put there by mistake.
    let found = found.map_err(|_| fail("it is not a PEM file".to_owned()))?;
    if found.is_empty() {
        return Err(fail("it holds no PEM certificate".to_owned()));
    }
    // Tried here, since the verifier would not say which file a bad one came from.
    let mut tried = RootCertStore::empty();
    for certificate in &found {
        tried.add(certificate.clone()).map_err(|_| fail("one of its certificates cannot be read".to_owned()))?;
    }
    Ok(found)
}

/// What to tell people where an error's cause is a certificate; `None` where it is something else. Repeats nothing of the
/// certificate.
pub fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = current.downcast_ref::<rustls::Error>() {
            return Some(distrust(why));
        }
        cause = deeper(current);
    }
    None
}

/// The innermost cause: what the operating system or the peer said, without what was asked of whom on the way.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = deeper(cause) {
        cause = next;
    }
    cause.to_string()
}

/// The next cause; an `io::Error` hides what it wraps from `source`.
fn deeper<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

fn distrust(why: &CertificateError) -> String {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext, Revoked,
        UnknownIssuer,
    };
    let (why, next) = match why {
        UnknownIssuer => {
            ("its authority is unknown here", "if it is a private one, set `platform.ca_file` to its PEM file")
        }
        Expired | ExpiredContext { .. } => ("it has expired", "is this machine's clock right?"),
        NotValidYet | NotValidYetContext { .. } => ("it is not valid yet", "is this machine's clock right?"),
        NotValidForName | NotValidForNameContext { .. } => ("it is another host's", "is `platform.url` right?"),
        Revoked => ("it was revoked", "ask whoever runs the platform"),
        _ => {
            ("it breaks the rules for certificates", "for a private authority, set `platform.ca_file` to its PEM file")
        }
    };
    format!("the platform's certificate is not trusted, {why}: {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_cannot_be_used_says_so_and_repeats_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let broken = "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n";
        for (path, wanted) in [
            (directory.path().join("missing.pem"), "no such file"),
            (directory.path().to_owned(), "directory"),
            (file("empty.pem", ""), "no PEM certificate"),
            (file("text.pem", "band_secret_key\n"), "no PEM certificate"),
            (file("broken.pem", broken), "cannot be read"),
            (file("cut.pem", "-----BEGIN CERTIFICATE-----\nband_secret_key"), "no PEM"),
        ] {
            let error = client_config(Some(&path)).unwrap_err().to_string();
            assert!(error.contains("`platform.ca_file`") && error.contains(wanted), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_certificate_is_found_in_whatever_wraps_it() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = std::io::Error::other(std::io::Error::new(std::io::ErrorKind::InvalidData, inner));
        assert!(explain(&wrapped).unwrap().contains("`platform.ca_file`"));
        assert!(explain(&std::io::Error::other("something else")).is_none());
        assert_eq!(innermost(&std::io::Error::other("something else")), "something else");
    }

    #[test]
    fn what_a_certificate_says_is_not_repeated() {
        let name = rustls::pki_types::ServerName::try_from("evil.example").unwrap();
        let presented = vec!["evil\u{1b}[31m".to_owned()];
        let error =
            rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected: name, presented });
        assert!(!explain(&error).unwrap().contains("evil"));
    }
}
