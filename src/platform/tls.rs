//! TLS for both the socket and REST: rustls, one provider, the machine's roots, and one more CA by setting.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

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
    #[error("the machine's certificate authorities cannot be used: {0}")]
    Roots(String),
}

/// A client's TLS without ALPN. `ca_file` adds to the machine's roots. Blocks on the file system.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let extra = ca_file.map_or_else(|| Ok(Vec::new()), certificates)?;
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

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |why: String| TlsError::Ca { path: path.display().to_string(), why };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))?.collect();
    let found = found.map_err(|error| fail(error.to_string()))?;
    if found.is_empty() { Err(fail("it holds no PEM certificate".to_owned())) } else { Ok(found) }
}

/// The innermost cause of an error that speaks of certificates, in words that say what to do.
pub fn explain(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = current.downcast_ref::<rustls::Error>() {
            return Some(format!(
                "the platform's certificate is not trusted ({why:?}): is the url right? for a private CA set `platform.ca_file`"
            ));
        }
        // An io::Error hides what it wraps from `source`.
        let inner = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => current.source(),
        };
    }
    None
}
