//! TLS for both the socket and REST: rustls, one provider, the machine's roots, and one more CA by setting.
//!
//! Reading the machine's roots needs memory: if no connection uses TLS, do not call `client_config`.

mod machine;

use std::error::Error;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tracing::warn;

use crate::files::{self, FileError, FileTrust, ReadOptions};
use crate::ops::log::events;

/// An error in the TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The extra CA cannot be read, or contains no certificate.
    #[error("`platform.ca_file` = `{path}` cannot be used: {why}")]
    Ca {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// The environment names other roots than the machine's, and they cannot be used.
    #[error(
        "the environment variable `{variable}`, which names the certificate authorities of this machine, cannot be used: {why}: correct it, or unset it"
    )]
    Variable {
        /// Which.
        variable: &'static str,
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
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let extra = match ca_file {
        Some(path) => certificates(path).map_err(|why| TlsError::Ca { path: path.display().to_string(), why })?,
        None => Vec::new(),
    };
    machine::check_variables()?;
    let of_verifier = provider.clone();
    let verifier = files::within(Path::new("the machine's certificate authorities"), move || {
        Verifier::new_with_extra_roots(extra, of_verifier).map_err(|error| std::io::Error::other(error).into())
    })
    .map_err(|error| TlsError::Roots(error.to_string()))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Roots(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// TLS for a client that trusts no certificate, for plain HTTP: it needs no certificates of the machine, which may have
/// none.
pub fn for_plain_http() -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Roots(error.to_string()))?;
    Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// The TLS of this process: made once, and made again when the certificate authority's file has changed.
#[derive(Debug)]
pub struct Tls {
    ca_file: Option<PathBuf>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    /// The file as it was read; `None` to read it again.
    stamp: Option<CertificateStamp>,
    /// Without ALPN, for the socket.
    plain: Arc<ClientConfig>,
    /// For HTTP/2 and HTTP/1.1.
    http: Arc<ClientConfig>,
}

/// A description of where the certificate authorities of this machine come from; `None` if that is the usual place.
pub fn authorities() -> Option<String> {
    machine::named()
}

/// Detects that a file was replaced: another file with the same time and length has a different stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CertificateStamp {
    identity: (u64, u64),
    /// Contents, and name or mode.
    changed: [(i64, i64); 2],
    length: u64,
}

impl CertificateStamp {
    fn of(path: &Path) -> Option<Self> {
        let file = path.to_owned();
        let metadata = files::within(path, move || Ok(std::fs::metadata(file)?)).ok()?;
        Some(Self {
            identity: (metadata.dev(), metadata.ino()),
            changed: [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())],
            length: metadata.len(),
        })
    }
}

impl Tls {
    /// Reads the machine's roots and the file. Blocks on the file system.
    pub fn new(ca_file: Option<PathBuf>) -> Result<Self, TlsError> {
        let stamp = ca_file.as_deref().and_then(CertificateStamp::of);
        let (plain, http) = pair(client_config(ca_file.as_deref())?);
        Ok(Self { ca_file, current: Mutex::new(Current { stamp, plain, http }) })
    }

    /// For the next connection of the socket.
    pub async fn plain(self: &Arc<Self>) -> Arc<ClientConfig> {
        self.fresh().await;
        self.lock().plain.clone()
    }

    /// The settings for the next connection of REST.
    pub async fn http(self: &Arc<Self>) -> Arc<ClientConfig> {
        self.fresh().await;
        self.lock().http.clone()
    }

    /// The file is read again for the next connection.
    pub(crate) fn forget(&self) {
        self.lock().stamp = None;
    }

    /// Reads the file again if it has changed. If it cannot be used, an error is logged, and the previous settings
    /// stay.
    async fn fresh(self: &Arc<Self>) {
        if self.ca_file.is_none() {
            return;
        }
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read_again());
        // A file that does not respond blocks nobody: the known certificates stay.
        let _ = tokio::time::timeout(READ_MAX, read).await;
    }

    fn read_again(&self) {
        let Some(path) = &self.ca_file else { return };
        let stamp = CertificateStamp::of(path);
        if stamp.is_some() && stamp == self.lock().stamp {
            return;
        }
        match client_config(Some(path)) {
            Ok(config) => {
                let (plain, http) = pair(config);
                *self.lock() = Current { stamp, plain, http };
            }
            Err(error) => {
                let mut current = self.lock();
                // Reported once for each state of the file.
                if current.stamp != stamp || stamp.is_none() {
                    warn!(event = events::INTERNAL, why = %error, "the certificates read before stay in use");
                }
                current.stamp = stamp;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most bytes of the certificate authority's file: some hundred certificates.
const CA_BYTES_MAX: usize = 1 << 20;
/// How long to wait for a file.
const READ_MAX: Duration = Duration::from_secs(5);

/// The same twice: without and with ALPN.
fn pair(config: Arc<ClientConfig>) -> (Arc<ClientConfig>, Arc<ClientConfig>) {
    let mut http = ClientConfig::clone(&config);
    http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (config, Arc::new(http))
}

/// The bytes of a file that decides which certificates doorman trusts.
fn pem(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let read = files::read(path, ReadOptions { bytes_max, pipes: false, trust: FileTrust::Path });
    read.map(|contents| contents.bytes).map_err(|error| match &error {
        FileError::Untrusted(_) => format!("{error}: {}", error.help()),
        FileError::System(_) | FileError::NotRegular(_) | FileError::TooLarge(_) | FileError::Hangs => {
            error.to_string()
        }
    })
}

/// The certificates of a PEM file, each of them usable as a root.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = pem(path, CA_BYTES_MAX)?;
    // The parser's errors quote the file, which may be a key put there by mistake.
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|_| "it is not a PEM file".to_owned())?;
    if found.is_empty() {
        return Err("it holds no PEM certificate".to_owned());
    }
    // Checked here, since the verifier would not say which file a bad certificate came from.
    let mut tried = RootCertStore::empty();
    for certificate in &found {
        tried.add(certificate.clone()).map_err(|_| "one of its certificates cannot be read".to_owned())?;
    }
    Ok(found)
}

/// Advice for people if an error's cause is a certificate; `None` for any other cause. Contains nothing of the
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

/// The innermost cause: the error of the operating system or the peer, without the outer context.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = deeper(cause) {
        cause = next;
    }
    cause.to_string()
}

/// The next cause; an `io::Error` hides its inner error from `source`.
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
    if let (UnknownIssuer, Some(variables)) = (why, authorities()) {
        return format!(
            "the platform's certificate is not trusted, its authority is not among those of {variables}: is that what they are \
             set for? if it is a private one, set `platform.ca_file` to its PEM file"
        );
    }
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
            (file("cut.pem", "-----BEGIN CERTIFICATE-----\nband_secret_key"), "not a PEM"),
        ] {
            let error = client_config(Some(&path)).unwrap_err().to_string();
            assert!(error.contains("`platform.ca_file`") && error.contains(wanted), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_is_used_by_the_next_connection() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let authority = |name: &str| {
            let mut params = rcgen::CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
        };
        std::fs::write(&path, authority("one")).unwrap();
        let tls = Arc::new(Tls::new(Some(path.clone())).unwrap());
        let first = tls.plain().await;
        assert!(Arc::ptr_eq(&first, &tls.plain().await));
        std::fs::write(&path, authority("another, with a longer name")).unwrap();
        let second = tls.plain().await;
        assert!(!Arc::ptr_eq(&first, &second));
        // One that is broken for a moment takes nothing away.
        std::fs::write(&path, "-----BEGIN").unwrap();
        assert!(Arc::ptr_eq(&second, &tls.plain().await));
        std::fs::remove_file(&path).unwrap();
        assert!(Arc::ptr_eq(&second, &tls.plain().await));
        std::fs::write(&path, authority("third")).unwrap();
        let third = tls.plain().await;
        assert!(!Arc::ptr_eq(&second, &third));
        // A reload reads the file even if it looks unchanged.
        tls.forget();
        assert!(!Arc::ptr_eq(&third, &tls.plain().await));
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
