//! The certificate authorities of this machine, if the environment names others than the usual ones. `SSL_CERT_FILE`
//! and `SSL_CERT_DIR` are OpenSSL's variables: a shell or an image may set them to a path that does not exist, and then
//! the platform's certificate would be reported as unknown.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::TlsError;
use crate::files;

const FILE: &str = "SSL_CERT_FILE";
const DIRECTORIES: &str = "SSL_CERT_DIR";
/// Most bytes of the file: some thousand certificates.
const FILE_BYTES_MAX: usize = 16 << 20;

/// A description of the variables that name certificate authorities here.
pub(super) fn named() -> Option<String> {
    named_by(|name| std::env::var_os(name))
}

fn named_by(env: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let set = |name: &&str| env(name).is_some_and(|value| !value.is_empty() || *name == FILE);
    let names: Vec<String> =
        [FILE, DIRECTORIES].iter().filter(|name| set(name)).map(|name| format!("`{name}`")).collect();
    (!names.is_empty()).then(|| names.join(" and "))
}

/// Looks at what the variables name. Blocks for some seconds at most.
///
/// # Errors
/// A variable names nothing usable.
pub(super) fn check_variables() -> Result<(), TlsError> {
    check_variables_of(|name| std::env::var_os(name))
}

fn check_variables_of(env: impl Fn(&str) -> Option<OsString>) -> Result<(), TlsError> {
    let fail = |variable: &'static str, why: String| TlsError::Variable { variable, why };
    let text = |name: &'static str| match env(name).map(OsString::into_string) {
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(fail(name, "it is not UTF-8".to_owned())),
        None => Ok(None),
    };
    let of_file = |why| fail(FILE, why);
    match text(FILE)?.as_deref() {
        None => {}
        Some("") => return Err(of_file("it is empty".to_owned())),
        Some(path) => holds_certificates(Path::new(path)).map_err(|why| of_file(format!("`{path}`: {why}")))?,
    }
    // Of several directories any may be missing, as in OpenSSL; of all, none.
    let given = text(DIRECTORIES)?.unwrap_or_default();
    let directories: Vec<&str> = given.split(':').filter(|path| !path.is_empty()).collect();
    let mut first = None;
    for path in &directories {
        match holds_files(Path::new(path)) {
            Ok(true) => return Ok(()),
            Ok(false) => drop(first.get_or_insert(format!("`{path}`: there is no file in it"))),
            Err(why) => drop(first.get_or_insert(format!("`{path}`: {why}"))),
        }
    }
    match first {
        Some(why) => Err(fail(DIRECTORIES, why)),
        None => Ok(()),
    }
}

/// Refuses a file without any certificate. Unusable certificates in a machine's file do not matter.
fn holds_certificates(path: &Path) -> Result<(), String> {
    let bytes = super::pem(path, FILE_BYTES_MAX)?;
    let found = CertificateDer::pem_slice_iter(&bytes).flatten();
    match found.into_iter().any(|one| RootCertStore::empty().add(one).is_ok()) {
        true => Ok(()),
        false => Err("it holds no PEM certificate that can be used".to_owned()),
    }
}

/// Whether a directory has a file in it.
fn holds_files(path: &Path) -> Result<bool, files::FileError> {
    let directory: PathBuf = path.to_owned();
    files::within(path, move || {
        for entry in std::fs::read_dir(&directory)? {
            if std::fs::metadata(entry?.path()).is_ok_and(|meta| meta.is_file()) {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn said(file: Option<OsString>, directories: Option<OsString>) -> Option<String> {
        let env = |name: &str| if name == FILE { file.clone() } else { directories.clone() };
        check_variables_of(env).err().map(|error| error.to_string())
    }

    #[test]
    fn a_variable_that_leads_nowhere_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).into_os_string();
        std::fs::create_dir(at("empty")).unwrap();
        std::fs::create_dir(at("full")).unwrap();
        let one = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap().cert.pem();
        std::fs::write(at("full/one.pem"), &one).unwrap();
        std::fs::write(at("text"), "band_secret_key").unwrap();
        nix::unistd::mkfifo(Path::new(&at("pipe")), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        for (file, why) in [
            (at("none"), "no such file"),
            (at("empty"), "it is a directory"),
            (at("text"), "it holds no PEM certificate"),
            (at("pipe"), "it is a pipe"),
            (OsString::new(), "it is empty"),
            (OsString::from_vec(vec![b'/', 0xff]), "not UTF-8"),
        ] {
            let said = said(Some(file.clone()), None).unwrap();
            assert!(said.contains("`SSL_CERT_FILE`") && said.contains(why), "{file:?}: {said}");
            assert!(!said.contains("secret") && !said.contains("platform.ca_file"), "{said}");
        }
        for (directories, why) in [
            (at("none"), "no such file"),
            (at("empty"), "there is no file in it"),
            (at("text"), "not a directory"),
            (OsString::from_vec(vec![b'/', 0xff]), "not UTF-8"),
        ] {
            let said = said(None, Some(directories.clone())).unwrap();
            assert!(said.contains("`SSL_CERT_DIR`") && said.contains(why), "{directories:?}: {said}");
        }
        assert_eq!(said(Some(at("full/one.pem")), None), None);
        let several = std::env::join_paths([at("none"), at("full")]).unwrap();
        assert_eq!(said(None, Some(several)), None);
        assert_eq!(said(None, Some(OsString::new())), None, "an empty list is none");
        assert_eq!(said(None, None), None);
    }

    #[test]
    fn what_is_set_is_shown() {
        let named = |file: Option<&str>, directories: Option<&str>| {
            named_by(|name| if name == FILE { file.map(Into::into) } else { directories.map(Into::into) })
        };
        assert_eq!(named(None, Some("")), None);
        assert_eq!(named(Some("x"), None).unwrap(), "`SSL_CERT_FILE`");
        assert_eq!(named(Some("x"), Some("y")).unwrap(), "`SSL_CERT_FILE` and `SSL_CERT_DIR`");
    }
}
