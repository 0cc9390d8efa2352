//! Keys. A [`Key`] can only be sent: it has no `Display`, its `Debug` shows no text, and it is wiped when dropped.

mod redact;
pub(crate) mod signing;

use std::env::VarError;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroize as _;

use crate::config::settings::{KeySource, SecretKind};
use crate::files::{self, Advice, FileError, FileTrust, ReadOptions};

pub use redact::Redact;

/// Longest valid key (bytes).
const KEY_BYTES_MAX: usize = 512;
/// A shorter text is not a valid key, and removing it from the log would also remove ordinary words (bytes).
pub(crate) const KEY_BYTES_MIN: usize = 8;
/// A shorter key gives a warning (bytes).
const KEY_BYTES_SHORT: usize = 16;

/// An agent's API key.
#[derive(Clone)]
pub struct Key(Arc<SecretString>);

/// Why a text is not a valid key. Never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// Fewer than 8 bytes.
    #[error("it has fewer than {KEY_BYTES_MIN} bytes")]
    TooShort,
    /// More than 512 bytes.
    #[error("it has more than {KEY_BYTES_MAX} bytes")]
    TooLong,
    /// Spaces, line breaks or other characters that no key has.
    #[error("it holds something other than visible ASCII, such as a space or a second line")]
    Characters,
}

/// Why a key could not be read. Names the source, never the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {} from {source_name}: {why}", kind.word())]
pub struct KeyReadError {
    /// What should be there.
    pub kind: SecretKind,
    /// The source, for people.
    pub source_name: String,
    /// What is wrong.
    pub why: String,
}

impl Key {
    /// Accepts visible ASCII of 8 to 512 bytes; ignores one trailing line break.
    pub fn parse(text: &str) -> Result<Self, KeyProblem> {
        let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        match text.len() {
            0 => return Err(KeyProblem::Empty),
            1..=KEY_BYTES_MAX => {}
            _ => return Err(KeyProblem::TooLong),
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyProblem::Characters);
        }
        if text.len() < KEY_BYTES_MIN {
            return Err(KeyProblem::TooShort);
        }
        Ok(Self(Arc::new(SecretString::from(text.to_owned()))))
    }

    /// The value of the `x-api-key` header, marked so that HTTP code does not print or index it.
    pub fn header(&self) -> HeaderValue {
        // Visible ASCII is always a valid header value; an empty value would only be refused.
        let mut value = HeaderValue::from_str(self.0.expose_secret()).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    /// The text, for a socket that accepts the key only in the query, and for removing the key from the log.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The source of the key, in words.
pub(crate) fn describe(source: &KeySource) -> String {
    match source {
        KeySource::File(path) => format!("the file `{}`", path.display()),
        KeySource::Env(name) => format!("the environment variable `{name}`"),
        KeySource::Credential(name) => format!("the systemd credential `{name}`"),
        KeySource::Missing => "nowhere".to_owned(),
    }
}

/// The result of reading a key.
#[derive(Debug)]
pub struct KeyReading {
    /// The key.
    pub key: Result<Key, KeyReadError>,
    /// What is wrong with how it is kept; it is used nevertheless. Each is a sentence that says what to do.
    pub warnings: Vec<String>,
}

/// Reads a key. Blocks on the file system, for at most `files::TIME`.
pub fn read(source: &KeySource, kind: SecretKind) -> Result<Key, KeyReadError> {
    inspect(source, kind).key
}

/// Reads a key, and says what is wrong with how it is kept. Blocks as [`read`] does.
pub fn inspect(source: &KeySource, kind: SecretKind) -> KeyReading {
    let mut warnings = Vec::new();
    let key = key(source, &mut warnings).map_err(|why| KeyReadError { kind, source_name: describe(source), why });
    if let Ok(key) = &key
        && key.expose().len() < KEY_BYTES_SHORT
    {
        let (kind, source) = (kind.word(), describe(source));
        warnings.push(format!("the {kind} from {source} has fewer than {KEY_BYTES_SHORT} bytes: is it complete?"));
    }
    KeyReading { key, warnings }
}

/// Reads one secret, or several on separate lines: while a secret is being changed, the old and the new one are both
/// valid. Blocks as [`read`] does.
pub(crate) fn read_lines(source: &KeySource, kind: SecretKind, most: usize) -> Result<Vec<Key>, KeyReadError> {
    let unusable = |why: String| KeyReadError { kind, source_name: describe(source), why };
    let mut text = content(source, &mut Vec::new()).map_err(unusable)?;
    let lines = text.lines().map(Key::parse).collect::<Result<Vec<Key>, KeyProblem>>();
    text.zeroize();
    match lines {
        Ok(keys) if keys.is_empty() => Err(unusable(KeyProblem::Empty.to_string())),
        Ok(keys) if keys.len() > most => Err(unusable(format!("it holds more than {most} lines"))),
        Ok(keys) => Ok(keys),
        Err(problem) => Err(unusable(problem.to_string())),
    }
}

fn key(source: &KeySource, warnings: &mut Vec<String>) -> Result<Key, String> {
    let mut text = content(source, warnings)?;
    let key = Key::parse(&text).map_err(|problem| problem.to_string());
    text.zeroize();
    key
}

fn content(source: &KeySource, warnings: &mut Vec<String>) -> Result<String, String> {
    Ok(match source {
        KeySource::File(path) => {
            let contents = read_file(path)?;
            // If a group may read it, that is a deliberate choice.
            if contents.meta.mode() & 0o007 != 0 {
                let source = describe(source);
                warnings.push(format!("everybody on this machine can read {source}: `chmod 600` it"));
            }
            if let Some(Advice { message, help }) = contents.warning {
                warnings.push(help.map_or_else(|| message.clone(), |help| format!("{message}: {help}")));
            }
            text(contents.bytes)?
        }
        KeySource::Env(name) => match std::env::var(name) {
            Ok(text) => text,
            Err(VarError::NotPresent) => return Err("it is not set".to_owned()),
            Err(VarError::NotUnicode(_)) => return Err("it is not UTF-8: set it to plain text".to_owned()),
        },
        // The mode of a systemd credential is systemd's responsibility.
        KeySource::Credential(name) => text(read_file(&credential(name)?)?.bytes)?,
        KeySource::Missing => {
            // Here it is not known whether the agent is from the file or from the environment.
            return Err("none is configured: set `api_key_file`, `api_key_env` or `api_key_credential` in its `[[agents]]`, or \
                        `DOORMAN_API_KEY_FILE` if the environment configures it"
                .to_owned());
        }
    })
}

/// Whether it is a credential of the unit, which a command in a person's shell does not see.
pub fn of_unit(source: &KeySource) -> bool {
    matches!(source, KeySource::Credential(_)) && std::env::var_os("CREDENTIALS_DIRECTORY").is_none()
}

/// The path of a systemd credential.
fn credential(name: &str) -> Result<PathBuf, String> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err("a credential's name is a plain file name".to_owned());
    }
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
        .ok_or_else(|| "`CREDENTIALS_DIRECTORY` is not set: use `LoadCredential=` in the unit".to_owned())?;
    Ok(Path::new(&directory).join(name))
}

fn read_file(path: &Path) -> Result<files::Contents, String> {
    let how = ReadOptions { bytes_max: KEY_BYTES_MAX + 2, pipes: false, trust: FileTrust::Path };
    files::read(path, how).map_err(|error| match &error {
        FileError::Untrusted(_) => format!("{error}: {}", error.help()),
        FileError::TooLarge(_) => KeyProblem::TooLong.to_string(),
        FileError::System(_) | FileError::NotRegular(_) | FileError::Hangs => error.to_string(),
    })
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        error.into_bytes().zeroize();
        KeyProblem::Characters.to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_and_loses_one_line_break() {
        assert_eq!(Key::parse("abcdefgh\n").unwrap().expose(), "abcdefgh");
        assert_eq!(Key::parse("abcdefgh\r\n").unwrap().expose(), "abcdefgh");
        assert_eq!(Key::parse("abcdefg").unwrap_err(), KeyProblem::TooShort);
        assert_eq!(Key::parse("").unwrap_err(), KeyProblem::Empty);
        assert_eq!(Key::parse("\n").unwrap_err(), KeyProblem::Empty);
        assert_eq!(Key::parse("a b").unwrap_err(), KeyProblem::Characters);
        assert_eq!(Key::parse("abc\n\n").unwrap_err(), KeyProblem::Characters);
        assert_eq!(Key::parse(&"k".repeat(513)).unwrap_err(), KeyProblem::TooLong);
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = Key::parse("band_secret_key").unwrap();
        assert_eq!(format!("{key:?}"), "***");
        assert_eq!(format!("{:?}", key.header()), "Sensitive");
    }

    #[test]
    fn a_key_that_cannot_be_read_names_its_source_and_not_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.key");
        std::fs::write(&path, "two\nsecret-lines\n").unwrap();
        let error = read(&KeySource::File(path.clone()), SecretKind::Key).unwrap_err().to_string();
        assert!(error.contains("agent.key") && !error.contains("secret-lines"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(read(&KeySource::File(path), SecretKind::Key).unwrap_err().to_string().contains("no such file"));
        assert!(read(&KeySource::Missing, SecretKind::Key).unwrap_err().to_string().contains("api_key_file"));
        let outside = read(&KeySource::Credential("../agent.key".to_owned()), SecretKind::Key).unwrap_err().to_string();
        assert!(outside.contains("plain file name"), "{outside}");
    }

    #[test]
    fn bytes_that_are_no_text_and_endless_files_are_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.key");
        for content in [b"\xff\xfekey".to_vec(), vec![b'k'; 1 << 20], b"key\0".to_vec()] {
            std::fs::write(&path, content).unwrap();
            assert!(read(&KeySource::File(path.clone()), SecretKind::Key).is_err());
        }
        assert!(read(&KeySource::File("/dev/zero".into()), SecretKind::Key).is_err());
        assert!(read(&KeySource::File(directory.path().to_owned()), SecretKind::Key).is_err());
    }

    #[test]
    fn a_file_that_everybody_can_read_is_warned_about() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.key");
        std::fs::write(&path, "a key of 16 bytes".replace(' ', "-")).unwrap();
        for (mode, open) in [(0o600, false), (0o640, false), (0o644, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = inspect(&KeySource::File(path.clone()), SecretKind::Key);
            assert_eq!((found.key.is_ok(), !found.warnings.is_empty()), (true, open), "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o602)).unwrap();
        let error = read(&KeySource::File(path), SecretKind::Key).unwrap_err().to_string();
        assert!(error.contains("may be written by everybody") && error.contains("chmod o-w"), "{error}");
    }

    #[test]
    fn a_short_key_is_warned_about_and_a_shorter_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.key");
        for (length, taken, warned) in
            [(1, false, false), (7, false, false), (8, true, true), (15, true, true), (16, true, false)]
        {
            // A line break at the end is none of its bytes.
            std::fs::write(&path, format!("{}\n", "k".repeat(length))).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let found = inspect(&KeySource::File(path.clone()), SecretKind::Key);
            assert_eq!((found.key.is_ok(), !found.warnings.is_empty()), (taken, warned), "{length}");
            if let Err(error) = found.key {
                assert!(error.to_string().contains("fewer than 8 bytes"), "{error}");
            }
        }
    }
}
