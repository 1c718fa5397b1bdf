//! Bundles: the files of a plan as one `.tar.zst`, for sites without a way to the upstreams. Its first member lists the others with their
//! hashes.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    sync::Arc,
};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use super::{answer::FILE_LIMIT, place};
use crate::artifacts::{Proof, Sha256, Store};

/// The name of the list in a bundle.
pub(super) const LIST_NAME: &str = "pxed-bundle.json";
/// The longest list.
pub(super) const LIST_LIMIT: u64 = 4 << 20;
/// The version of the format.
const VERSION: u32 = 1;
/// Kernels and images are packed already, so that more work would save nothing.
const LEVEL: i32 = 1;
/// The most bytes that are read at once.
const PIECE: usize = 256 << 10;

/// The list of a bundle's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleList {
    version: u32,
    /// The files, in the order in which they follow.
    pub files: Vec<BundledFile>,
}

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledFile {
    /// Its path, relative to the artifacts directory.
    pub path: Arc<str>,
    /// Its length in bytes.
    pub size: u64,
    /// Its hash.
    pub sha256: Sha256,
    /// The way in which the host that made the bundle has verified it. `None` if it was put there by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// The URL that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
}

/// The reason why a bundle cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be put into it.
    #[error("{path} cannot be bundled: {reason}")]
    File {
        /// The path, relative to the artifacts directory.
        path: Arc<str>,
        /// The reason.
        reason: String,
    },
    /// It cannot be written.
    #[error("it cannot be written: {0}")]
    Write(#[source] io::Error),
    /// It is damaged or cut off.
    #[error("it is damaged or cut off: {0}; copy it again, and compare its size with the original's")]
    Damaged(String),
    /// It is not a bundle of ours.
    #[error("it is not a bundle of pxed: {0}; pxed fetch --bundle FILE makes one")]
    NotABundle(String),
    /// It has a member that no bundle has.
    #[error("it has {0}, which pxed does not unpack: it was not made by pxed fetch --bundle")]
    Member(String),
    /// A file in it is not what its list says. Nothing of the file was kept.
    #[error("{path} in it {reason}")]
    Content {
        /// The path, relative to the artifacts directory.
        path: Arc<str>,
        /// The fault.
        reason: String,
    },
    /// A file cannot be written to its place.
    #[error("{path}: {reason}")]
    Place {
        /// The path, relative to the artifacts directory.
        path: Arc<str>,
        /// The fault.
        reason: String,
    },
}

impl BundleList {
    /// Reads a list.
    ///
    /// # Errors
    ///
    /// If it is not one, or names a file that could not be unpacked.
    pub fn parse(text: &[u8]) -> Result<Self, BundleError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let not_a_bundle = |error: serde_json::Error| BundleError::NotABundle(error.to_string());
        let Versioned { version } = serde_json::from_slice(text).map_err(not_a_bundle)?;
        if version != VERSION {
            return Err(BundleError::NotABundle(format!(
                "its version is {version}, and this pxed knows version {VERSION}"
            )));
        }
        let list: Self = serde_json::from_slice(text).map_err(not_a_bundle)?;
        let mut paths = BTreeSet::new();
        for BundledFile { path, size, .. } in &list.files {
            if place::check(path).is_err() {
                return Err(BundleError::Member(format!("a file {path:?} that is not below the artifacts directory")));
            }
            if *size == 0 || *size > FILE_LIMIT {
                return Err(BundleError::Member(format!("a file {path:?} of {size} bytes")));
            }
            if !paths.insert(path) {
                return Err(BundleError::Member(format!("two files {path:?}")));
            }
        }
        Ok(list)
    }

    fn to_json(&self) -> Result<Vec<u8>, BundleError> {
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::from).map_err(BundleError::Write)?;
        Ok([&json[..], b"\n"].concat())
    }

    /// Lists files of the store. `recorded` returns the hash of a file that was verified, the way in which it was, and its source. The
    /// others are read to hash them.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn of<'p>(
        store: &Store,
        paths: impl Iterator<Item = &'p Arc<str>>,
        recorded: impl Fn(&str) -> Option<(Sha256, Proof, Option<Arc<str>>)>,
    ) -> Result<Self, BundleError> {
        let paths: BTreeSet<&Arc<str>> = paths.collect();
        let files = paths.into_iter().map(|path| {
            let failed = |reason: String| BundleError::File { path: Arc::clone(path), reason };
            let artifact = store.open(path.as_bytes()).map_err(|refusal| failed(refusal.reason().to_owned()))?;
            let (sha256, proof, source) = match recorded(path) {
                Some((sha256, proof, source)) => (sha256, Some(proof), source),
                None => {
                    let (sha256, _) = Sha256::of(&artifact.file).map_err(|error| failed(error.to_string()))?;
                    (sha256, None, None)
                }
            };
            Ok(BundledFile { path: Arc::clone(path), size: artifact.length, sha256, proof, source })
        });
        Ok(Self { version: VERSION, files: files.collect::<Result<_, _>>()? })
    }
}

/// Writes a bundle. The same files give the same bytes. `progress` is told of the bytes of the files so far.
///
/// # Errors
///
/// If a file cannot be read or changes meanwhile, or the bundle cannot be written.
pub fn write<W: Write>(
    list: &BundleList,
    store: &Store,
    out: W,
    mut progress: impl FnMut(u64),
) -> Result<W, BundleError> {
    let mut packer = zstd::Encoder::new(out, LEVEL).map_err(BundleError::Write)?;
    packer.include_checksum(true).map_err(BundleError::Write)?;
    let mut archive = tar::Builder::new(packer);
    let text = list.to_json()?;
    archive.append(&header(LIST_NAME, text.len() as u64)?, &text[..]).map_err(BundleError::Write)?;
    let mut done = 0;
    for BundledFile { path, size, sha256, .. } in &list.files {
        let failed = |reason: String| BundleError::File { path: Arc::clone(path), reason };
        let artifact = store.open(path.as_bytes()).map_err(|refusal| failed(refusal.reason().to_owned()))?;
        let mut content = Hashed { inner: artifact.file, context: Context::new(&SHA256), length: 0 };
        let head = header(path, *size).map_err(|_| failed("its path is too long".to_owned()))?;
        let told = Told {
            inner: (&mut content).take(*size),
            tell: |bytes| {
                done += bytes;
                progress(done);
            },
        };
        archive.append(&head, told).map_err(BundleError::Write)?;
        let (length, found) = (content.length, content.finish());
        if length != *size || found != *sha256 {
            return Err(failed("it is not as it was verified, or changed while it was read".to_owned()));
        }
    }
    archive.into_inner().and_then(zstd::Encoder::finish).map_err(BundleError::Write)
}

/// Returns a header without a time, an owner or anything else that would differ from host to host.
fn header(path: &str, size: u64) -> Result<Header, BundleError> {
    let mut header = Header::new_ustar();
    header.set_path(path).map_err(BundleError::Write)?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

/// A reader that hashes what it reads.
struct Hashed<R> {
    inner: R,
    context: Context,
    length: u64,
}

impl<R> Hashed<R> {
    fn finish(self) -> Sha256 {
        let mut hash = Sha256([0; 32]);
        hash.0.copy_from_slice(self.context.finish().as_ref());
        hash
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(PIECE);
        let read = self.inner.read(&mut buffer[..most])?;
        self.context.update(&buffer[..read]);
        self.length += read as u64;
        Ok(read)
    }
}

/// A reader that tells how much is read.
struct Told<R, F> {
    inner: R,
    tell: F,
}

impl<R: Read, F: FnMut(u64)> Read for Told<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        (self.tell)(read as u64);
        Ok(read)
    }
}
