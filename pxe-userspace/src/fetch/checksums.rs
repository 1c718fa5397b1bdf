//! Lists of checksums as `sha256sum` and `sha512sum` write them.

use std::{collections::BTreeMap, fmt};

use ring::digest;

/// The longest list that is read. That of a Talos release has some ten kilobytes.
pub const LIST_LIMIT: usize = 1 << 20;

/// A kind of checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Returns the length of a checksum in bytes.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Sha256 => digest::SHA256_OUTPUT_LEN,
            Self::Sha512 => digest::SHA512_OUTPUT_LEN,
        }
    }

    /// Returns the implementation.
    #[must_use]
    pub fn implementation(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// The checksums of a list, by file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    files: BTreeMap<Box<str>, Entry>,
    /// The first line that could not be understood, by its number.
    skipped: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    checksum: Box<[u8]>,
    line: usize,
    /// A later line that says something else.
    contradicted_by: Option<usize>,
}

/// The reason why a list gives no checksum of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// No line is a checksum.
    #[error("it is not a list of {0} checksums (it begins with {1:?})")]
    NoList(Algorithm, String),
    /// The list is longer than [`LIST_LIMIT`].
    #[error("it is longer than {LIST_LIMIT} bytes")]
    TooLong,
    /// The list does not have the file.
    #[error("it does not list {name}{}", skipped_text(*skipped))]
    NotListed {
        /// The file.
        name: String,
        /// A line that could not be understood.
        skipped: Option<usize>,
    },
    /// Two lines have the file, with different checksums.
    #[error("its lines {} and {} give {name} different checksums", lines.0, lines.1)]
    Contradiction {
        /// The file.
        name: String,
        /// The numbers of the lines.
        lines: (usize, usize),
    },
}

fn skipped_text(line: Option<usize>) -> String {
    line.map(|line| format!(" (its line {line} cannot be understood)")).unwrap_or_default()
}

impl Checksums {
    /// Parses a list. Understood are lines of `sha256sum` in text and binary mode (`<hex>  <name>`, `<hex> *<name>`) and with `--tag`
    /// (`SHA256 (<name>) = <hex>`), with LF or CRLF, empty lines and comments (`#`). Other lines are skipped, since they may only hide the files
    /// that they name.
    ///
    /// # Errors
    ///
    /// If no line is a checksum, or the list is too long.
    pub fn parse(list: &[u8], algorithm: Algorithm) -> Result<Self, ChecksumError> {
        if list.len() > LIST_LIMIT {
            return Err(ChecksumError::TooLong);
        }
        let text = String::from_utf8_lossy(list);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut files = BTreeMap::<Box<str>, Entry>::new();
        let mut skipped = None;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_end_matches(['\r', '\n']);
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let Some((name, checksum)) = parse_line(line, algorithm) else {
                skipped = skipped.or(Some(number));
                continue;
            };
            match files.get_mut(name) {
                Some(entry) if *entry.checksum != *checksum => {
                    entry.contradicted_by.get_or_insert(number);
                }
                Some(_) => {}
                None => {
                    let entry = Entry { checksum: checksum.into(), line: number, contradicted_by: None };
                    files.insert(name.into(), entry);
                }
            }
        }
        if files.is_empty() {
            let start = text.trim_start().chars().take(40).collect();
            return Err(ChecksumError::NoList(algorithm, start));
        }
        Ok(Self { files, skipped })
    }

    /// Returns the checksum of a file.
    ///
    /// # Errors
    ///
    /// If the list does not have the file, or contradicts itself about it.
    pub fn of(&self, name: &str) -> Result<&[u8], ChecksumError> {
        let entry = self
            .files
            .get(name)
            .ok_or_else(|| ChecksumError::NotListed { name: name.to_owned(), skipped: self.skipped })?;
        match entry.contradicted_by {
            Some(other) => Err(ChecksumError::Contradiction { name: name.to_owned(), lines: (entry.line, other) }),
            None => Ok(&entry.checksum),
        }
    }
}

/// Returns the file and the checksum of a line. The directories of the file are dropped: lists are made in a build directory, and the files
/// published without it.
fn parse_line(line: &str, algorithm: Algorithm) -> Option<(&str, Vec<u8>)> {
    let (name, hex) = tagged(line, algorithm).or_else(|| plain(line, algorithm))?;
    let name = name.rsplit('/').next().unwrap_or(name);
    let checksum = from_hex(hex).filter(|checksum| checksum.len() == algorithm.length())?;
    (!name.is_empty()).then_some((name, checksum))
}

fn plain(line: &str, algorithm: Algorithm) -> Option<(&str, &str)> {
    let (hex, rest) = line.trim_start().split_at_checked(2 * algorithm.length())?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start_matches([' ', '\t']);
    Some((rest.strip_prefix('*').unwrap_or(rest).trim_end(), hex))
}

fn tagged(line: &str, algorithm: Algorithm) -> Option<(&str, &str)> {
    let tag = match algorithm {
        Algorithm::Sha256 => "SHA256 (",
        Algorithm::Sha512 => "SHA512 (",
    };
    let (name, hex) = line.trim().strip_prefix(tag)?.rsplit_once(") = ")?;
    Some((name, hex))
}

/// Returns the bytes that a text gives in hexadecimal digits.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// Returns bytes in hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(content: &str) -> String {
        to_hex(digest::digest(&digest::SHA256, content.as_bytes()).as_ref())
    }

    fn of(list: &str, name: &str) -> Result<String, ChecksumError> {
        Checksums::parse(list.as_bytes(), Algorithm::Sha256)?.of(name).map(to_hex)
    }

    #[test]
    fn lines_of_every_mode_are_understood() {
        let (a, b) = (sum("a"), sum("b"));
        for list in [
            format!("{b}  other\n{a}  vmlinuz-amd64\n"),
            format!("{b} *other\n{a} *vmlinuz-amd64\n"),
            format!("{b}  other\r\n{a}  vmlinuz-amd64\r\n"),
            format!("{b}  other\r\n\r\n{a}  vmlinuz-amd64"),
            format!("# of a release\n\n  # more\n{a}  vmlinuz-amd64\n{b}  other\n"),
            format!("SHA256 (other) = {b}\nSHA256 (vmlinuz-amd64) = {a}\n"),
            format!("{}  vmlinuz-amd64\n", a.to_uppercase()),
            format!("{a}  ./vmlinuz-amd64\n"),
            format!("{a} *_out/vmlinuz-amd64\n"),
            format!("\u{feff}{a}\tvmlinuz-amd64\n"),
            format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{a}  vmlinuz-amd64\n"),
            // The same twice is no contradiction.
            format!("{a}  vmlinuz-amd64\n{a} *vmlinuz-amd64\n"),
            // Contradictions about other files are theirs.
            format!("{a}  vmlinuz-amd64\n{a}  other\n{b}  other\n"),
        ] {
            assert_eq!(of(&list, "vmlinuz-amd64").as_ref(), Ok(&a), "{list}");
        }
    }

    #[test]
    fn file_that_is_not_listed_is_an_error() {
        let a = sum("a");
        for (list, skipped) in [
            (format!("{a}  vmlinuz-arm64\n"), None),
            (format!("{a}  vmlinuz-amd64.sig\n{a}  my-vmlinuz-amd64\n"), None),
            // A checksum that is cut off, too long, or no checksum does not count.
            (format!("{a}  other\n{}  vmlinuz-amd64\n", &a[1..]), Some(2)),
            (format!("{a}  other\n{a}00  vmlinuz-amd64\n"), Some(2)),
            (format!("{a}  other\n\n{}  vmlinuz-amd64\n", "xy".repeat(32)), Some(3)),
            (format!("{a}  other\n{a}vmlinuz-amd64\n"), Some(2)),
            (format!("{a}  other\nSHA512 (vmlinuz-amd64) = {a}\n"), Some(2)),
        ] {
            let error = of(&list, "vmlinuz-amd64").unwrap_err();
            assert_eq!(error, ChecksumError::NotListed { name: "vmlinuz-amd64".into(), skipped }, "{list}");
            assert!(error.to_string().contains("vmlinuz-amd64"));
        }
    }

    #[test]
    fn contradiction_is_an_error_that_names_both_lines() {
        let list = format!("# list\n{}  vmlinuz-amd64\n{0}  other\n{} *vmlinuz-amd64\n", sum("a"), sum("b"));
        let error = of(&list, "vmlinuz-amd64").unwrap_err();
        assert_eq!(error, ChecksumError::Contradiction { name: "vmlinuz-amd64".into(), lines: (2, 4) });
        // The later line does not win, nor does a third one that agrees with the first.
        let list = format!("{list}{}  vmlinuz-amd64\n", sum("a"));
        assert!(of(&list, "vmlinuz-amd64").is_err());
    }

    #[test]
    fn text_that_is_no_list_says_how_it_begins() {
        for text in ["<!DOCTYPE html>\n<html>", "", "\n\n# nothing\n", "Not Found"] {
            let error = of(text, "vmlinuz-amd64").unwrap_err();
            assert!(matches!(error, ChecksumError::NoList(Algorithm::Sha256, _)), "{error}");
        }
        assert!(of("<!DOCTYPE html>", "a").unwrap_err().to_string().contains("<!DOCTYPE html>"));
        let long = format!("{}  a\n", sum("a")).repeat(LIST_LIMIT / 68 + 1);
        assert_eq!(of(&long, "a"), Err(ChecksumError::TooLong));
    }

    #[test]
    fn list_of_the_other_algorithm_is_no_list() {
        let long = to_hex(digest::digest(&digest::SHA512, b"a").as_ref());
        let list = format!("{long}  vmlinuz-amd64\n");
        let parsed = Checksums::parse(list.as_bytes(), Algorithm::Sha512).unwrap();
        assert_eq!(to_hex(parsed.of("vmlinuz-amd64").unwrap()), long);
        assert!(matches!(of(&list, "vmlinuz-amd64"), Err(ChecksumError::NoList(..))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(list in prop::collection::vec(any::<u8>(), 0..512)) {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                if let Ok(checksums) = Checksums::parse(&list, algorithm) {
                    for name in checksums.files.keys() {
                        if let Ok(checksum) = checksums.of(name) {
                            prop_assert_eq!(checksum.len(), algorithm.length());
                        }
                    }
                }
            }
        }

        #[test]
        fn hexadecimal_digits_give_the_bytes_back(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            prop_assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        }
    }
}
