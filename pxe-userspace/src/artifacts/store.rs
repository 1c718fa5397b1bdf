//! The artifacts directory: the one door to files, which lets nothing out from beside it.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    ops::Range,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::OnceLock,
    time::SystemTime,
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
    io::{Errno, ReadWriteFlags, preadv2},
};

use crate::model::{artifact_names, loader::BOOT_FROM_DISK};

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
    /// Opened once, so that every name resolves below the very same directory whatever happens to its path.
    directory: OnceLock<OwnedFd>,
    /// The files of the host that stand in for a loader of this name, best first.
    stand_ins: fn(&[u8]) -> &'static [&'static str],
}

/// Why a path was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No such file, or not a regular file.
    NotFound,
    /// The path holds a NUL byte or `..`, or leaves the directory through a symbolic link.
    Outside,
    /// The file is there but cannot be read.
    Unreadable,
}

/// The artifacts directory cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is not there, not a directory, or not ours to read.
    #[error("artifacts directory {}: {source}; create it, or name another one with --artifacts", root.display())]
    Root {
        /// The directory.
        root: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Paths cannot be confined to it.
    #[error(
        "this kernel cannot confine paths to {} (openat2 with RESOLVE_BENEATH: {source}); Linux 5.6 or newer is needed, \
         and a container's seccomp filter must allow openat2",
        root.display()
    )]
    Confinement {
        /// The directory.
        root: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What [`OpenArtifact::read_ahead`] brings, in bytes.
pub const READ_AHEAD: u64 = 1 << 20;

/// How closely the page cache is looked at, in bytes. Files come and go there in large pieces, and each look is a system call:
/// so it costs about a hundredth of sending what was looked at.
const PROBE_STEP: usize = 512 << 10;

/// The longest path that Linux resolves (PATH_MAX, with its NUL).
const PATH_LIMIT: usize = 4096;

/// How often a lookup is tried that renames disturb: they are rare, and the caller must not wait for long.
const RENAME_RETRIES: usize = 16;

impl Store {
    /// The store over a directory. A directory that is not there yet is looked for again at each open;
    /// [`Store::check`] says whether it is there now.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        let store = Self { root, directory: OnceLock::new(), stand_ins: artifact_names::stand_ins };
        // What keeps it from opening is told by `check`, and at each open.
        let _ = store.directory();
        store
    }

    /// A store whose content does not depend on what is installed on the host.
    #[cfg(test)]
    pub(crate) fn without_stand_ins(root: PathBuf) -> Self {
        Self { stand_ins: |_| &[], ..Self::new(root) }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether files can be opened below the directory at all: to be called once at start-up.
    ///
    /// # Errors
    ///
    /// The directory cannot be opened, or the kernel does not know `openat2` (Linux before 5.6).
    pub fn check(&self) -> Result<(), StoreError> {
        let root = || self.root.clone();
        let directory = self.directory().map_err(|source| StoreError::Root { root: root(), source: source.into() })?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        openat2(directory, ".", flags, Mode::empty(), BENEATH)
            .map_err(|source| StoreError::Confinement { root: root(), source: source.into() })?;
        Ok(())
    }

    /// Opens a regular file by its path relative to the root.
    ///
    /// Loaders spell paths in their own ways, so leading slashes (GRUB) and empty and `.` components are
    /// left out, and a backslash (Windows' boot manager) separates like a slash. An absolute path thus
    /// names a file below the root, never one of the host. A well-known loader that is not there is taken from where
    /// Debian's package `ipxe` puts it. [`BOOT_FROM_DISK`] is never there.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] says why not.
    pub fn open(&self, path: &[u8]) -> Result<OpenArtifact, Refusal> {
        let name = relative(path)?;
        if name == BOOT_FROM_DISK.as_bytes() {
            return Err(Refusal::NotFound);
        }
        match self.open_below(&name) {
            Err(refusal @ Refusal::NotFound) => {
                (self.stand_ins)(&name).iter().find_map(|file| open_host(file).ok()).ok_or(refusal)
            }
            opened => opened,
        }
    }

    fn open_below(&self, name: &[u8]) -> Result<OpenArtifact, Refusal> {
        let directory = self.directory().map_err(|_| Refusal::Unreadable)?;
        // EAGAIN: somebody renamed something while the kernel followed a `..` of a symbolic link.
        let opened = (0..RENAME_RETRIES)
            .map(|_| openat2(directory, name, READ, Mode::empty(), BENEATH))
            .find(|opened| !matches!(opened, Err(Errno::AGAIN)));
        let file = opened.unwrap_or(Err(Errno::AGAIN)).map_err(refusal)?;
        OpenArtifact::new(file.into())
    }

    fn directory(&self) -> Result<&OwnedFd, Errno> {
        if let Some(directory) = self.directory.get() {
            return Ok(directory);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, &self.root, flags, Mode::empty())?;
        Ok(self.directory.get_or_init(|| opened))
    }
}

/// Opens a stand-in: a path of our own, so symbolic links may lead anywhere.
fn open_host(file: &str) -> Result<OpenArtifact, Refusal> {
    let file = rustix::fs::openat(CWD, file, READ, Mode::empty()).map_err(refusal)?;
    OpenArtifact::new(file.into())
}

/// Without O_NONBLOCK a FIFO would stall the caller until somebody writes to it.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// Nothing above the root, no absolute symbolic link, no link of /proc.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

impl OpenArtifact {
    fn new(file: File) -> Result<Self, Refusal> {
        let metadata = file.metadata().map_err(|_| Refusal::Unreadable)?;
        if !metadata.is_file() {
            return Err(Refusal::NotFound);
        }
        let modified = metadata.modified().map_err(|_| Refusal::Unreadable)?;
        Ok(Self { length: metadata.len(), modified, inode: metadata.ino(), file })
    }

    /// Whether nobody has written to the file since it was opened. A file that was replaced is unchanged: we hold the old one.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let now = self.file.metadata().ok();
        now.is_some_and(|now| now.len() == self.length && now.modified().ok() == Some(self.modified))
    }

    /// Whether these bytes can be read without waiting for the disk, as far as one byte in each [`PROBE_STEP`] tells.
    /// A filesystem that cannot tell counts as quick.
    #[must_use]
    pub fn is_cached(&self, bytes: Range<u64>) -> bool {
        let probe = |offset| {
            let mut scratch = [0];
            let read = preadv2(&self.file, &mut [IoSliceMut::new(&mut scratch)], offset, ReadWriteFlags::NOWAIT);
            read != Err(Errno::AGAIN)
        };
        let last = bytes.end.saturating_sub(1);
        bytes.step_by(PROBE_STEP).chain([last]).all(probe)
    }

    /// Brings [`READ_AHEAD`] bytes from `offset` (in bytes) on into the page cache, waiting for the disk.
    pub fn read_ahead(&self, offset: u64) {
        const PIECE: usize = 64 << 10;
        let mut scratch = vec![0; PIECE];
        for piece in (0..READ_AHEAD).step_by(PIECE) {
            // Whoever reads next sees the error.
            if !matches!(self.file.read_at(&mut scratch, offset.saturating_add(piece)), Ok(1..)) {
                return;
            }
        }
    }
}

/// The path as one to resolve below the root: components joined by single slashes.
fn relative(path: &[u8]) -> Result<Vec<u8>, Refusal> {
    if path.contains(&0) {
        return Err(Refusal::Outside);
    }
    let mut name = Vec::with_capacity(path.len());
    for component in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        match component {
            b"" | b"." => {}
            // Refused even where it would lead back inside: no loader has reason to ask so.
            b".." => return Err(Refusal::Outside),
            component => {
                if !name.is_empty() {
                    name.push(b'/');
                }
                name.extend_from_slice(component);
            }
        }
    }
    if name.is_empty() || name.len() >= PATH_LIMIT { Err(Refusal::NotFound) } else { Ok(name) }
}

fn refusal(error: Errno) -> Refusal {
    match error {
        // ENXIO: a socket, or a FIFO or device without its other side.
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::NAMETOOLONG
        | Errno::ISDIR
        | Errno::NXIO
        | Errno::NODEV
        | Errno::INVAL => Refusal::NotFound,
        // EXDEV: leaves the root. ELOOP: a circle, or a magic link.
        Errno::XDEV | Errno::LOOP => Refusal::Outside,
        _ => Refusal::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, os::unix::fs::symlink};

    use proptest::prelude::*;

    use super::*;

    /// A directory `root` with a few files, and a secret beside it.
    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(directory.path().join("secret"), "secret").unwrap();
        fs::write(root.join("kernel"), "a kernel").unwrap();
        fs::write(root.join("sub/initramfs"), "an initramfs").unwrap();
        symlink("sub/initramfs", root.join("inside")).unwrap();
        symlink("../kernel", root.join("sub/up-but-inside")).unwrap();
        symlink("../secret", root.join("outside")).unwrap();
        symlink(directory.path().join("secret"), root.join("absolute")).unwrap();
        symlink("/proc/self/exe", root.join("magic")).unwrap();
        symlink("circle", root.join("circle")).unwrap();
        let store = Store::new(root);
        store.check().unwrap();
        (directory, store)
    }

    #[test]
    fn names_below_the_root_are_opened_in_every_spelling() {
        let (_directory, store) = store();
        for (path, content) in [
            ("kernel", "a kernel"),
            ("/kernel", "a kernel"),
            ("//./kernel", "a kernel"),
            ("\\kernel", "a kernel"),
            ("sub/initramfs", "an initramfs"),
            ("\\sub\\initramfs", "an initramfs"),
            ("/sub//initramfs", "an initramfs"),
            ("inside", "an initramfs"),
            ("sub/up-but-inside", "a kernel"),
        ] {
            let mut artifact = store.open(path.as_bytes()).unwrap_or_else(|refusal| panic!("{path}: {refusal:?}"));
            let mut text = String::new();
            artifact.file.read_to_string(&mut text).unwrap();
            assert_eq!(text, content, "{path}");
            assert_eq!(artifact.length, content.len() as u64, "{path}");
        }
    }

    #[test]
    fn what_is_not_a_file_below_the_root_is_refused() {
        let (directory, store) = store();
        let fifo = directory.path().join("root/fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let socket = directory.path().join("root/socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let secret = directory.path().join("secret");
        let too_long = [b'a'; 5000];
        let cases: &[(&[u8], Refusal)] = &[
            (b"", Refusal::NotFound),
            (b"/", Refusal::NotFound),
            (b"sub", Refusal::NotFound),
            (b"nothing", Refusal::NotFound),
            (b"kernel/more", Refusal::NotFound),
            (b"fifo", Refusal::NotFound),
            (b"socket", Refusal::NotFound),
            (&too_long, Refusal::NotFound),
            (b"//etc/passwd", Refusal::NotFound),
            (secret.as_os_str().as_encoded_bytes(), Refusal::NotFound),
            (b"..", Refusal::Outside),
            (b"../secret", Refusal::Outside),
            (b"sub/../kernel", Refusal::Outside),
            (b"..\\secret", Refusal::Outside),
            (b"kernel\0.efi", Refusal::Outside),
            (b"outside", Refusal::Outside),
            (b"absolute", Refusal::Outside),
            (b"magic", Refusal::Outside),
            (b"circle", Refusal::Outside),
        ];
        for (path, refusal) in cases {
            assert_eq!(store.open(path).map(|_| ()), Err(*refusal), "{}", path.escape_ascii());
        }
    }

    #[test]
    fn what_sends_firmware_to_its_disk_is_never_there() {
        let (directory, store) = store();
        fs::write(directory.path().join("root").join(BOOT_FROM_DISK), "a loader, by mistake").unwrap();
        for path in ["boot-from-disk", "/boot-from-disk", ".\\boot-from-disk"] {
            assert_eq!(store.open(path.as_bytes()).map(|_| ()), Err(Refusal::NotFound), "{path}");
        }
    }

    #[test]
    fn a_directory_that_appears_later_is_found() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("later");
        let store = Store::new(root.clone());
        let message = store.check().unwrap_err().to_string();
        assert!(message.contains("later") && message.contains("--artifacts"), "{message}");
        assert_eq!(store.open(b"kernel").map(|_| ()), Err(Refusal::Unreadable));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("kernel"), "a kernel").unwrap();
        store.check().unwrap();
        assert_eq!(store.open(b"kernel").unwrap().length, 8);
    }

    #[test]
    fn a_loader_that_is_not_there_is_taken_from_the_host() {
        let (directory, mut store) = store();
        const STAND_INS: &[&str] = &["/nowhere/ipxe.efi", "/proc/self/exe"];
        store.stand_ins = |name| if name == b"ipxe.efi" { STAND_INS } else { &[] };
        let host = fs::metadata("/proc/self/exe").unwrap().len();
        assert_eq!(store.open(b"/ipxe.efi").map(|artifact| artifact.length), Ok(host));
        assert_eq!(store.open(b"sub/ipxe.efi").map(|_| ()), Err(Refusal::NotFound));
        fs::write(directory.path().join("root/ipxe.efi"), "ours").unwrap();
        assert_eq!(store.open(b"ipxe.efi").map(|artifact| artifact.length), Ok(4));
    }

    proptest! {
        #[test]
        fn a_resolved_name_never_climbs(path in prop::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), Just(b'\\'), Just(0), any::<u8>()], 0..64)) {
            if let Ok(name) = relative(&path) {
                prop_assert!(!name.contains(&0) && !name.contains(&b'\\'));
                prop_assert!(name.split(|&byte| byte == b'/').all(|part| !matches!(part, b"" | b"." | b"..")));
            }
        }
    }
}
