//! The manifest: what pxed knows of the files in the artifacts directory, as plain values and as JSON.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The version of the format.
const VERSION: u32 = 1;

/// A SHA-256 hash. Its text form is lowercase hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a SHA-256 hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 hash has 64 hexadecimal digits")]
pub struct NotSha256;

impl FromStr for Sha256 {
    type Err = NotSha256;

    fn from_str(text: &str) -> Result<Self, NotSha256> {
        let digit =
            |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(NotSha256);
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut hash = [0; 32];
        if !rest.is_empty() || pairs.len() != hash.len() {
            return Err(NotSha256);
        }
        for (byte, &[high, low]) in hash.iter_mut().zip(pairs) {
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The facts that tell a file from its successors without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its length in bytes.
    pub size: u64,
    /// Its inode number.
    pub inode: u64,
    /// The time of its last modification, in nanoseconds since 1970.
    pub modified_ns: i64,
}

impl Identity {
    /// Creates an identity from what `stat` says.
    #[must_use]
    pub fn new(size: u64, inode: u64, modified: SystemTime) -> Self {
        let modified_ns = match modified.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanoseconds| -nanoseconds),
        };
        Self { size, inode, modified_ns }
    }
}

/// The reason to trust a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// It is the checksum that the publisher of the file publishes.
    PublishedChecksum,
    /// It is the hash of what the upstream sent the first time. No checksum is published.
    FirstDownload,
    /// A person has accepted the file as it was.
    Accepted,
    /// A bundle named it.
    Bundle,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PublishedChecksum => "published checksum",
            Self::FirstDownload => "hash of the first download",
            Self::Accepted => "hash that was accepted by hand",
            Self::Bundle => "hash in the bundle",
        })
    }
}

/// The record of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The hash that the file has to have.
    pub sha256: Sha256,
    /// The reason to trust the hash.
    pub proof: Proof,
    /// The URL that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// The file that was found to have this hash; `None` if there is none now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Identity>,
    /// Set if a person put it there, also if it has its published checksum.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// Set if a person put a file there that has another hash than the published one. It is kept until the person decides about it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contradicts: bool,
    /// The last time when the spec needed it, in seconds since 1970.
    #[serde(default)]
    pub needed: u64,
}

impl Entry {
    /// Returns whether a file that does not have the recorded hash is a person's, so that no download may replace it.
    #[must_use]
    pub fn protects_other_files(&self) -> bool {
        self.contradicts || self.proof == Proof::Accepted
    }
}

/// The records of all files, by their paths relative to the artifacts directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The records.
    pub files: BTreeMap<Arc<str>, Entry>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    files: BTreeMap<Arc<str>, Entry>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it, in words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let Document { version, files } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!("its version is {version}, and this pxed knows version {VERSION}"));
        }
        match files.keys().find(|path| !is_plain(path)) {
            Some(path) => Err(format!("{path:?} is not a path below the artifacts directory")),
            None => Ok(Self { files }),
        }
    }

    /// Returns the records of a damaged text that are whole by themselves, wherever they stand.
    #[must_use]
    pub fn salvage(text: &[u8]) -> Self {
        // One with a backslash before it is within a string.
        let is_quote = |at: &usize| text[*at] == b'"' && (*at == 0 || text[*at - 1] != b'\\');
        let quotes = (0..text.len()).filter(is_quote);
        let entry = |at: usize| {
            let text = text.get(at..)?;
            let mut path = serde_json::Deserializer::from_slice(text).into_iter::<Arc<str>>();
            let name = path.next()?.ok().filter(|path| is_plain(path))?;
            let value = text.get(path.byte_offset()..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
            // An entry is an object; serde would take a sequence, too.
            let mut values = serde_json::Deserializer::from_slice(value).into_iter::<Entry>();
            value.starts_with(b"{").then(|| values.next())??.ok().map(|entry| (name, entry))
        };
        Self { files: quotes.filter_map(entry).collect() }
    }

    /// Returns the JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let document = Document { version: VERSION, files: self.files.clone() };
        // It has neither a map with keys that are not strings nor a writer that fails.
        serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
    }
}

/// Returns whether a path has the form in which the store looks names up: components, none of them `.`, `..` or empty, that single slashes
/// separate.
#[must_use]
pub(super) fn is_plain(path: &str) -> bool {
    !path.contains(['\0', '\\']) && path.split('/').all(|component| !matches!(component, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry() -> Entry {
        Entry {
            sha256: Sha256([0xab; 32]),
            proof: Proof::PublishedChecksum,
            source: Some("https://example.org/vmlinuz-amd64".into()),
            file: Some(Identity { size: 5, inode: 7, modified_ns: 1_700_000_000_123_456_789 }),
            by_hand: false,
            contradicts: false,
            needed: 1_700_000_000,
        }
    }

    #[test]
    fn manifest_survives_its_json() {
        let bare =
            Entry { source: None, file: None, proof: Proof::Accepted, by_hand: true, contradicts: true, ..entry() };
        let files = [("vmlinuz-v1.13.0-amd64".into(), entry()), ("ab12/own \"name\".efi".into(), bare)];
        let manifest = Manifest { files: files.into() };
        assert_eq!(Manifest::parse(manifest.to_json().as_bytes()), Ok(manifest));
    }

    #[test]
    fn damaged_manifest_is_refused_with_the_reason() {
        let manifest = Manifest { files: [("kernel".into(), entry())].into() };
        let json = manifest.to_json();
        for (damaged, reason) in [
            (String::new(), "EOF"),
            (json[..json.len() / 2].to_owned(), "EOF"),
            (json.replace("\"version\": 1", "\"version\": 2"), "version 1"),
            (json.replace("abab", "ab"), "64 hexadecimal digits"),
            (json.replace("abab", "agab"), "64 hexadecimal digits"),
            (json.replace("\"kernel\"", "\"../kernel\""), "../kernel"),
            (json.replace("\"kernel\"", "\"/kernel\""), "/kernel"),
            (json.replace("published-checksum", "hearsay"), "hearsay"),
            ("\0".repeat(100), "expected value"),
        ] {
            let found = Manifest::parse(damaged.as_bytes()).unwrap_err();
            assert!(found.contains(reason), "{found:?} lacks {reason:?}");
        }
    }

    #[test]
    fn records_outside_the_damage_are_kept_wherever_it_is() {
        let names = ["ab12/own \"name\".efi", "initramfs-v1.13.0-amd64.xz", "vmlinuz-v1.13.0-amd64"];
        let manifest = Manifest { files: names.map(|name| (name.into(), entry())).into() };
        let json = manifest.to_json().into_bytes();
        assert_eq!(Manifest::salvage(&json), manifest);
        let is_part =
            |salvaged: &Manifest| salvaged.files.iter().all(|(path, entry)| manifest.files.get(path) == Some(entry));
        let mut last = 0;
        for length in 0..json.len() {
            let salvaged = Manifest::salvage(&json[..length]);
            assert!(is_part(&salvaged) && salvaged.files.len() >= last, "{length}");
            last = salvaged.files.len();
        }
        assert_eq!(last, names.len());
        for at in 0..json.len() {
            let mut zeroed = json.clone();
            zeroed[at..(at + 8).min(json.len())].fill(0);
            // Damage within a name or at the edge of two entries costs both.
            assert!(Manifest::salvage(&zeroed).files.len() >= names.len() - 2, "{at}");
        }
        let outside = String::from_utf8(json).unwrap().replace("ab12/", "../");
        assert_eq!(Manifest::salvage(outside.as_bytes()).files.len(), names.len() - 1);
    }

    #[test]
    fn identity_keeps_every_nanosecond_and_times_before_1970() {
        let at = |offset: i64| {
            let by = Duration::from_nanos(offset.unsigned_abs());
            if offset < 0 { SystemTime::UNIX_EPOCH - by } else { SystemTime::UNIX_EPOCH + by }
        };
        for nanoseconds in [0, 1, -1, 1_700_000_000_123_456_789, -5_000_000_001] {
            assert_eq!(Identity::new(0, 0, at(nanoseconds)).modified_ns, nanoseconds);
        }
    }
}
