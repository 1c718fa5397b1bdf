//! The files of the store that a unified kernel image is made of.

use std::{
    fmt::Display,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;

use super::body::Piece;
use crate::{
    artifacts::{Identity, OpenArtifact},
    model::architecture::Architecture,
    uki::{
        digest::{Changed, Hasher, Midstate},
        layout::{Template, UkiError, check_kernel},
        pe::{HEAD_LENGTH, PeMachine},
        pieces::{self, SourceFile},
    },
};

/// The longest EFI stub. systemd's have 100 to 200 KiB.
const STUB_LIMIT: u64 = 4 << 20;

/// The number of bytes that are hashed at a time.
const HASHED_AT_ONCE: usize = 256 << 10;

/// A file of the store, with its path there.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) artifact: Arc<OpenArtifact>,
}

/// The files that an image is made of.
#[derive(Clone, Debug)]
pub(super) enum Sources {
    /// An EFI stub, a kernel and an initramfs.
    Parts { stub: Source, kernel: Source, initramfs: Source },
    /// A unified kernel image of the Image Factory, which is taken apart.
    Uki(Source),
}

/// The reason why no image can be made of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unmade {
    /// The reason, in words for a person.
    pub(super) reason: Arc<str>,
    /// It may pass without a change of the files.
    pub(super) may_pass: bool,
}

/// The part of an image that all machines share.
pub(super) struct Shared {
    pieces: Vec<SharedPiece>,
    /// The hash of it, which that of a machine's own part continues.
    pub(super) midstate: Midstate,
    /// Its length in bytes.
    pub(super) length: u64,
    /// The length of the signature that follows a machine's own part, in bytes.
    pub(super) certificate_length: u32,
    /// The files, while somebody is being sent them: connections share their descriptors.
    open: Mutex<Weak<Sources>>,
}

enum SharedPiece {
    Bytes(Bytes),
    File { file: SourceFile, range: Range<u64> },
}

impl Source {
    fn unmade(&self, reason: &dyn Display) -> Unmade {
        let reason = format!("{}: {reason}. Replace the file by a whole one; pxed need not be restarted", self.path);
        Unmade { reason: reason.into(), may_pass: false }
    }

    fn unread(&self, error: &io::Error) -> Unmade {
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("{}: it was cut off while it was read", self.path),
            _ => format!("{}: it cannot be read ({error}): check the disk", self.path),
        };
        Unmade { reason: reason.into(), may_pass: true }
    }

    /// Reads the first bytes, up to `limit`.
    fn read(&self, limit: u64) -> Result<Vec<u8>, Unmade> {
        let length = usize::try_from(self.artifact.length.min(limit)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        self.artifact.file.read_exact_at(&mut bytes, 0).map_err(|error| self.unread(&error))?;
        Ok(bytes)
    }
}

impl Sources {
    /// Returns every file.
    pub(super) fn all(&self) -> impl Iterator<Item = &Source> {
        let (first, rest) = match self {
            Self::Parts { stub, kernel, initramfs } => (stub, [Some(kernel), Some(initramfs)]),
            Self::Uki(uki) => (uki, [None, None]),
        };
        std::iter::once(first).chain(rest.into_iter().flatten())
    }

    /// Returns what tells these files from all others.
    pub(super) fn identities(&self) -> [Option<Identity>; 3] {
        let mut all = self.all().map(|source| source.artifact.identity());
        [all.next(), all.next(), all.next()]
    }

    fn get(&self, file: SourceFile) -> Option<&Source> {
        match (self, file) {
            (Self::Parts { kernel, .. }, SourceFile::Kernel) => Some(kernel),
            (Self::Parts { initramfs, .. }, SourceFile::Initramfs) => Some(initramfs),
            (Self::Uki(uki), SourceFile::Uki) => Some(uki),
            _ => None,
        }
    }

    /// Makes the shared part of images with a signature of this length. This reads all of the files, so it takes some time.
    ///
    /// # Errors
    ///
    /// The files are not what they should be, or cannot be read.
    pub(super) fn share(&self, architecture: Architecture, certificate_length: u32) -> Result<Shared, Unmade> {
        let mut template = self.template(match architecture {
            Architecture::Amd64 => PeMachine::AMD64,
            Architecture::Arm64 => PeMachine::ARM64,
        })?;
        if certificate_length > 0 {
            template = template.with_certificate(certificate_length).map_err(|error| self.too_long(&error))?;
        }
        let midstate = self.hash(&template)?;
        let pieces = template.pieces().iter().map(|piece| match piece {
            pieces::Piece::Bytes(bytes) => SharedPiece::Bytes(Bytes::from_owner(Arc::clone(bytes))),
            pieces::Piece::File { file, range } => SharedPiece::File { file: *file, range: range.clone() },
        });
        let (pieces, length) = (pieces.collect(), template.shared_length());
        Ok(Shared { pieces, midstate, length, certificate_length, open: Mutex::default() })
    }

    fn template(&self, machine: PeMachine) -> Result<Template, Unmade> {
        match self {
            Self::Parts { stub, kernel, initramfs } => {
                if stub.artifact.length > STUB_LIMIT {
                    return Err(stub.unmade(&format_args!("it has {} bytes, and is no EFI stub", stub.artifact.length)));
                }
                let head = kernel.read(HEAD_LENGTH as u64)?;
                check_kernel(&head, machine).map_err(|error| kernel.unmade(&error))?;
                let (kernel_length, initramfs_length) = (kernel.artifact.length, initramfs.artifact.length);
                Template::from_stub(&stub.read(STUB_LIMIT)?, kernel_length, initramfs_length, machine).map_err(
                    |error| match error {
                        UkiError::Empty(".initrd") => initramfs.unmade(&"it is empty"),
                        UkiError::TooLong(_) => self.too_long(&error),
                        error => stub.unmade(&error),
                    },
                )
            }
            Self::Uki(uki) => {
                let head = uki.read(HEAD_LENGTH as u64)?;
                Template::from_uki(&head, uki.artifact.length, machine).map_err(|error| uki.unmade(&error))
            }
        }
    }

    /// Returns that the image gets too long, because of its longest file.
    fn too_long(&self, error: &UkiError) -> Unmade {
        let longest = self.all().max_by_key(|source| source.artifact.length);
        let (path, length) = longest.map_or(("", 0), |source| (&*source.path, source.artifact.length));
        let reason = format!("{path}: it has {length} bytes, and {error}. Replace the file by a smaller one");
        Unmade { reason: reason.into(), may_pass: false }
    }

    fn hash(&self, template: &Template) -> Result<Midstate, Unmade> {
        let mut hasher = Hasher::new(template);
        let mut buffer = vec![0; HASHED_AT_ONCE];
        for piece in template.pieces() {
            match piece {
                pieces::Piece::Bytes(bytes) => hasher.update(bytes),
                pieces::Piece::File { file, range } => {
                    let Some(source) = self.get(*file) else { continue };
                    let mut offset = range.start;
                    while offset < range.end {
                        let count = usize::try_from(range.end - offset).unwrap_or(usize::MAX).min(HASHED_AT_ONCE);
                        let part = &mut buffer[..count];
                        source.artifact.file.read_exact_at(part, offset).map_err(|error| source.unread(&error))?;
                        hasher.update(part);
                        offset += count as u64;
                    }
                }
            }
        }
        if let Some(changed) = self.all().find(|source| !source.artifact.is_unchanged()) {
            let reason = format!("{}: it was overwritten in place: replace files by a rename (mv)", changed.path);
            return Err(Unmade { reason: reason.into(), may_pass: true });
        }
        let differs = |error: Changed| Unmade { reason: error.to_string().into(), may_pass: true };
        hasher.finish().map_err(differs)
    }
}

impl Shared {
    /// Returns the files for one more connection: those that others are being sent, if there are any. `sources` are the same files.
    pub(super) fn open(&self, sources: Sources) -> Arc<Sources> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.upgrade().unwrap_or_else(|| {
            let sources = Arc::new(sources);
            *open = Arc::downgrade(&sources);
            sources
        })
    }

    /// Returns the pieces of the shared part, with room for two more.
    pub(super) fn pieces(&self, sources: &Sources) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(self.pieces.len() + 2);
        pieces.extend(self.pieces.iter().filter_map(|piece| match piece {
            SharedPiece::Bytes(bytes) => Some(Piece::Bytes(bytes.clone())),
            SharedPiece::File { file, range } => {
                let artifact = Arc::clone(&sources.get(*file)?.artifact);
                Some(Piece::File { artifact, range: range.clone() })
            }
        }));
        pieces
    }
}
