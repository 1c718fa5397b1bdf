//! The token that lets its bearer use the admin API over TCP.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use axum::http::HeaderValue;
use ring::digest::{SHA256, digest};

/// The fewest characters of a token: nobody guesses that many random ones.
const SHORTEST: usize = 16;
/// The most bytes of its file.
const LONGEST_FILE: u64 = 4096;

/// A token, as the hash by which another one is compared with it.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// The reason why a file has no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("--admin-token {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// It is a directory, a FIFO or a device.
    #[error("--admin-token {}: this is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Others may read or change it.
    #[error(
        "--admin-token {}: its mode {:04o} lets others read or change it: run chmod 0640 on it, or 0600",
        path.display(),
        mode
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The content is no token.
    #[error(
        "--admin-token {}: a token is one line of {SHORTEST} characters or more, of ASCII and without spaces: make one with \
         openssl rand -hex 32",
        .0.display()
    )]
    NotAToken(PathBuf),
}

/// Returns the text of a token file.
///
/// # Errors
///
/// If it cannot be read, others may read or change it, or it holds no token.
pub fn read(path: &Path) -> Result<String, TokenError> {
    let unreadable = |error| TokenError::Unreadable { path: path.to_owned(), error };
    // Opening a FIFO must not wait for somebody who writes into it.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    check(path, &file)?;
    let mut text = String::new();
    match file.take(LONGEST_FILE).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(TokenError::NotAToken(path.to_owned())),
        Err(error) => return Err(unreadable(error)),
    }
    let token = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::NotAToken(path.to_owned()));
    }
    Ok(token.to_owned())
}

fn check(path: &Path, file: &File) -> Result<(), TokenError> {
    let metadata = file.metadata().map_err(|error| TokenError::Unreadable { path: path.to_owned(), error })?;
    if !metadata.is_file() {
        return Err(TokenError::NotAFile(path.to_owned()));
    }
    let mode = metadata.mode() & 0o7777;
    // A group may read it, as that of a service or of a volume in Kubernetes does.
    if mode & 0o027 != 0 {
        return Err(TokenError::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

impl Token {
    /// Returns the token of this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(hash(text.as_bytes()))
    }

    /// Returns whether this is the text of the token. The time that it takes says nothing about the token.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        let differences = self.0.iter().zip(hash(text)).fold(0, |sum, (own, other)| sum | (own ^ other));
        std::hint::black_box(differences) == 0
    }

    /// Returns whether an `Authorization` header bears the token.
    pub(super) fn is_borne_by(&self, authorization: &HeaderValue) -> bool {
        let Some((scheme, text)) = authorization.as_bytes().split_at_checked("Bearer ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && self.is(text.trim_ascii())
    }
}

fn hash(text: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    hash
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn token_is_one_line() {
        for text in ["0123456789abcdef", "0123456789abcdef\n", "0123456789abcdef\r\n"] {
            let (_directory, path) = file(text.as_bytes(), 0o600);
            assert_eq!(read(&path).unwrap(), "0123456789abcdef");
        }
        for text in [
            &b""[..],
            b"\n",
            b"short",
            b"0123456789abcde",
            b"0123456789 abcdef",
            b"0123456789abcdef\n0123456789abcdef\n",
            b"0123456789abcdef\xff",
            "0123456789abcdefé".as_bytes(),
        ] {
            let (_directory, path) = file(text, 0o600);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("openssl rand -hex 32") && error.contains("/token"), "{text:?}: {error}");
        }
    }

    #[test]
    fn file_that_others_may_read_or_change_is_refused() {
        for mode in [0o600, 0o400, 0o640, 0o440] {
            let (_directory, path) = file(b"0123456789abcdef", mode);
            assert!(read(&path).is_ok(), "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o660, 0o602, 0o620, 0o777] {
            let (_directory, path) = file(b"0123456789abcdef", mode);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 0640"), "{error}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [directory.path(), &fifo] {
            assert!(matches!(read(path), Err(TokenError::NotAFile(_))), "{}", path.display());
        }
        let missing = read(&directory.path().join("missing")).unwrap_err().to_string();
        assert!(missing.contains("/missing: No such file"), "{missing}");
    }

    #[test]
    fn token_is_borne_by_its_header_alone() {
        let token = Token::new("0123456789abcdef");
        for (header, expected) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer 0123456789abcdef ", true),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer ", false),
            ("Bearer", false),
            ("", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
        ] {
            assert_eq!(token.is_borne_by(&HeaderValue::from_static(header)), expected, "{header}");
        }
    }
}
