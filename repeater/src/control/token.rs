//! The API's only credential: a random token in a file that only its owner reads.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq as _;

/// Shortest token taken from a file, in characters: guessing must stay hopeless.
const MIN_LENGTH: usize = 32;
/// Longest token, in characters.
const MAX_LENGTH: u64 = 1024;

/// The token. Never shown, not even by `Debug`.
#[derive(Clone)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The token's file is unusable.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file system's word.
    #[error(
        "{path}: {doing}: {source}; check the owner and permissions, or name another with api.token_file"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// What is in the file is no token.
    #[error(
        "{path}: is no token (32 to 1024 printable ASCII characters on one line); remove the file to have a new one made"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
    },
    /// The system has no randomness.
    #[error("no random bytes for the API token: {0}")]
    Random(getrandom::Error),
}

impl Token {
    /// Reads the token at `path`, making it (32 random bytes in hex, mode 0600) where there is none. A file of ours
    /// that others may read is closed to them; a file of theirs is left as it is.
    ///
    /// # Errors
    /// The file cannot be read or made, or holds no token.
    pub fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        let fail = |doing| {
            move |source| TokenError::Io {
                path: path.to_path_buf(),
                doing,
                source,
            }
        };
        match File::open(path) {
            Ok(file) => {
                let mode = file
                    .metadata()
                    .map_err(fail("reading"))?
                    .permissions()
                    .mode();
                if mode & 0o077 != 0 && file.set_permissions(Permissions::from_mode(0o600)).is_err()
                {
                    tracing::warn!(path = %path.display(), "other users can read the API token");
                }
                let mut text = String::new();
                file.take(MAX_LENGTH + 2)
                    .read_to_string(&mut text)
                    .map_err(fail("reading"))?;
                Self::parse(&text).ok_or_else(|| TokenError::Unusable {
                    path: path.to_path_buf(),
                })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(e) => Err(fail("opening")(e)),
        }
    }

    fn create(path: &Path) -> Result<Self, TokenError> {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret).map_err(TokenError::Random)?;
        let token = Self(HEXLOWER.encode(&secret));
        let fail = |doing| {
            move |source| TokenError::Io {
                path: path.to_path_buf(),
                doing,
                source,
            }
        };
        // Under another name first, so that nobody ever reads half a token.
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        match std::fs::remove_file(&draft) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail("replacing")(e)),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(fail("making"))?;
        writeln!(file, "{}", token.0).map_err(fail("writing"))?;
        file.sync_all().map_err(fail("writing"))?;
        std::fs::rename(&draft, path).map_err(fail("renaming"))?;
        Ok(token)
    }

    /// The token in a file's text: one line of printable ASCII.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let token = text.trim_end_matches(['\r', '\n']);
        let long_enough = token.len() >= MIN_LENGTH && token.len() as u64 <= MAX_LENGTH;
        (long_enough && token.chars().all(|c| c.is_ascii_graphic())).then(|| Self(token.to_owned()))
    }

    /// Whether `given` is the token, in a time that tells only its length.
    #[must_use]
    pub fn matches(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_with_mode_0600_and_never_shown() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("api.token");
        let token = Token::load_or_create(&path).expect("made");
        assert_eq!(
            std::fs::metadata(&path)
                .expect("there")
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!(text.trim_end().len(), 64);
        assert!(
            Token::load_or_create(&path)
                .expect("read")
                .matches(text.trim_end().as_bytes())
        );
        assert!(
            token.matches(text.trim_end().as_bytes())
                && !token.matches(b"")
                && !token.matches(text.as_bytes())
        );
        assert!(!format!("{token:?}").contains(text.trim_end()));
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("chmod");
        Token::load_or_create(&path).expect("read");
        assert_eq!(
            std::fs::metadata(&path)
                .expect("there")
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
    }

    #[test]
    fn a_weak_or_foreign_file_is_no_token() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("t");
        for text in [
            "",
            "secret",
            &"x".repeat(31),
            &format!("{}\n{}", "x".repeat(40), "y"),
            &"é".repeat(40),
            &"x".repeat(5000),
        ] {
            std::fs::write(&path, text).expect("write");
            assert!(
                matches!(
                    Token::load_or_create(&path),
                    Err(TokenError::Unusable { .. })
                ),
                "{text:?}"
            );
        }
    }
}
