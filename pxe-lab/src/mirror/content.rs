//! The content of published files.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use ring::digest::{Context, SHA256, SHA512};

/// The content of a published file.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// A file on disk, which must not change.
    File(PathBuf),
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<&Path> for Content {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<PathBuf> for Content {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// A published file.
#[derive(Clone, Debug)]
pub(super) struct Published {
    source: Source,
    pub(super) length: u64,
    pub(super) sha256: String,
    pub(super) sha512: String,
}

#[derive(Clone, Debug)]
enum Source {
    Bytes(Arc<[u8]>),
    File(Arc<File>),
}

impl Content {
    /// Opens the content and hashes it.
    pub(super) fn published(self) -> anyhow::Result<Published> {
        let (mut sha256, mut sha512) = (Context::new(&SHA256), Context::new(&SHA512));
        let (source, length) = match self {
            Self::Bytes(bytes) => {
                sha256.update(&bytes);
                sha512.update(&bytes);
                let length = u64::try_from(bytes.len())?;
                (Source::Bytes(bytes), length)
            }
            Self::File(path) => {
                let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
                let (mut buffer, mut length) = (vec![0; 1 << 16], 0);
                while let count @ 1.. = (&file).read(&mut buffer)? {
                    sha256.update(&buffer[..count]);
                    sha512.update(&buffer[..count]);
                    length += u64::try_from(count)?;
                }
                (Source::File(Arc::new(file)), length)
            }
        };
        Ok(Published { source, length, sha256: hex(sha256), sha512: hex(sha512) })
    }
}

impl Published {
    /// Returns the ETag, with its quotes.
    pub(super) fn etag(&self) -> String {
        format!("\"{}\"", &self.sha256[..32])
    }

    /// Fills the buffer from this offset, and returns the number of bytes, 0 at the end.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        match &self.source {
            Source::Bytes(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Source::File(file) => file.read_at(buffer, offset),
        }
    }
}

fn hex(context: Context) -> String {
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
