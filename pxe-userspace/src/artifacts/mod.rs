//! The files that machines boot from: their names, where they lie, what is missing.

use std::{fs::File, path::PathBuf, time::SystemTime};

/// A file of the store, opened for reading.
#[derive(Debug)]
pub struct OpenArtifact {
    /// The open file.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
    /// When it was last written.
    pub modified: SystemTime,
    /// Its inode number: with length and time it makes the ETag.
    pub inode: u64,
}

/// The artifacts directory, and the few files that stand in for what is not there.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// Why a path was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such file, or not a regular file.
    NotFound,
    /// The path is absolute, holds a NUL byte or `..`, or leaves the directory through a symbolic link.
    Outside,
    /// The file is there but cannot be read.
    Unreadable,
}

impl Store {
    /// The store over a directory.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Opens a regular file by its path relative to the root.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] says why not.
    pub fn open(&self, path: &[u8]) -> Result<OpenArtifact, Refusal> {
        let _ = (path, &self.root);
        Err(Refusal::NotFound)
    }
}
