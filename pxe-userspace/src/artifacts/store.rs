//! The artifacts directory: opens files below it, and never one outside.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, IoSliceMut, Write as _},
    ops::Range,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::OnceLock,
    time::SystemTime,
};

use rustix::{
    fs::{CWD, MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create, openat2},
    io::{Errno, ReadWriteFlags, preadv2},
};

use super::{
    gate::Gate,
    links::{self, BENEATH, End, Link},
    manifest::Identity,
    manifest_file::OWN_DIRECTORY,
    refusal::Refusal,
};
use crate::model::{architecture::Architecture, artifact_names, images::Stubs, loader::BOOT_FROM_DISK};

/// A file of the store, opened for reading.
#[derive(Debug)]
pub struct OpenArtifact {
    /// The open file.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
    /// The time of its last modification.
    pub modified: SystemTime,
    /// Its inode number. With length and time, it makes up the ETag.
    pub inode: u64,
    /// The path of the host's file, if it is a stand-in.
    pub stand_in: Option<&'static str>,
}

/// The artifacts directory, with files of the host as stand-ins for missing loaders.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Opened only once, so that every name resolves below the same directory even if its path changes.
    directory: OnceLock<OwnedFd>,
    /// Returns the host's stand-ins for a loader of this name, best first.
    stand_ins: fn(&[u8]) -> &'static [&'static str],
    gate: Gate,
}

/// The reason why the artifacts directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory does not exist, is not a directory, or cannot be read.
    #[error("artifacts directory {}: {source}; create it, or name another one with --artifacts", root.display())]
    Root {
        /// The directory.
        root: PathBuf,
        /// The error that the kernel returned.
        source: io::Error,
    },
    /// The kernel cannot confine paths to the directory.
    #[error(
        "this kernel cannot confine paths to {} (openat2 with RESOLVE_BENEATH: {source}); Linux 5.6 or newer is needed, \
         and a container's seccomp filter must allow openat2",
        root.display()
    )]
    Confinement {
        /// The directory.
        root: PathBuf,
        /// The error that the kernel returned.
        source: io::Error,
    },
}

/// The number of bytes that [`OpenArtifact::read_ahead`] reads.
pub const READ_AHEAD: u64 = 1 << 20;

/// The distance in bytes between probes of the page cache. Files enter and leave it in large pieces, and each probe is a
/// system call; at this distance the probes cost about a hundredth of sending the bytes.
const PROBE_STEP: usize = 512 << 10;

/// The longest path that Linux resolves (PATH_MAX, with its NUL).
const PATH_LIMIT: usize = 4096;

/// The most attempts at a lookup that a rename disturbs. Renames are rare, and the caller must not wait long.
const RENAME_RETRIES: usize = 16;

/// The most attempts at a path whose links are changed while they are followed.
const LINK_RETRIES: usize = 4;

impl Store {
    /// Creates a store over a directory. If the directory does not exist yet, each open looks for it again; [`Store::check`]
    /// reports whether it exists now.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        let store =
            Self { root, directory: OnceLock::new(), stand_ins: artifact_names::stand_ins, gate: Gate::default() };
        // `check` and each open report why the directory cannot be opened.
        let _ = store.directory();
        store
    }

    /// Creates a store whose content does not depend on the packages installed on the host.
    #[must_use]
    pub(crate) fn without_stand_ins(root: PathBuf) -> Self {
        Self { stand_ins: |_| &[], ..Self::new(root) }
    }

    /// Creates a store with these files of the host as stand-ins for any missing file.
    #[cfg(test)]
    pub(crate) fn with_stand_ins(root: PathBuf, stand_ins: fn(&[u8]) -> &'static [&'static str]) -> Self {
        Self { stand_ins, ..Self::new(root) }
    }

    /// Returns the directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Checks that files can be opened below the directory. To be called once at start.
    ///
    /// # Errors
    ///
    /// If the directory cannot be opened, or the kernel has no `openat2` (before Linux 5.6).
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
    /// Loaders spell paths in different ways, so leading slashes (GRUB) and empty and `.` components are dropped, and a
    /// backslash (Windows' boot manager) separates like a slash. An absolute path thus names a file below the root, never
    /// one of the host. A well-known loader that is missing is taken from where Debian's package `ipxe` installs it.
    /// [`BOOT_FROM_DISK`] never exists. Symbolic links, relative and absolute, are followed if they lead to a file below the
    /// root. What is below [`OWN_DIRECTORY`] does not exist for a client. A file that is not as it was recorded is refused, and its
    /// verification is asked for.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] if the file cannot be opened.
    pub fn open(&self, path: &[u8]) -> Result<OpenArtifact, Refusal> {
        let name = relative(path)?;
        if name == BOOT_FROM_DISK.as_bytes() {
            return Err(Refusal::NotFound);
        }
        match self.open_below(&name, Some(&self.gate)) {
            Err(missing @ Refusal::NotFound) => {
                let stand_ins = (self.stand_ins)(&name).iter().map(|file| open_stand_in(file));
                let is_settled = |opened: &Result<_, _>| matches!(opened, Ok(_) | Err(Refusal::Exhausted));
                stand_ins.into_iter().find(is_settled).unwrap_or(Err(missing))
            }
            opened => opened,
        }
    }

    /// Returns the architectures whose EFI stub is there, or its stand-in on the host.
    #[must_use]
    pub fn stubs(&self) -> Stubs {
        let has = |architecture| {
            let stub = self.open(artifact_names::stub_name(architecture).as_bytes());
            stub.is_ok_and(|stub| stub.length > 0)
        };
        Stubs { amd64: has(Architecture::Amd64), arm64: has(Architecture::Arm64) }
    }

    /// Returns the reason of a refusal for a person who looks after the directory: it names the symbolic link that caused it.
    #[must_use]
    pub fn reason(&self, path: &[u8], refusal: Refusal) -> Cow<'static, str> {
        match self.last_link(path) {
            Some(link) => format!("{}: {link}", refusal.reason()).into(),
            None => refusal.reason().into(),
        }
    }

    /// Returns the last symbolic link below the root on this path.
    pub(super) fn last_link(&self, path: &[u8]) -> Option<Link> {
        let Link { path, target } = links::follow(self.directory().ok()?.as_fd(), &relative(path).ok()?).link?;
        Some(Link { path: self.root.join(path), target })
    }

    /// Opens a file below the root whether it is as it was recorded or not: to verify it.
    pub(super) fn open_unverified(&self, path: &str) -> Result<OpenArtifact, Refusal> {
        self.open_below(&relative(path.as_bytes())?, None)
    }

    /// Returns the gate in front of the recorded files.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    fn open_below(&self, name: &[u8], gate: Option<&Gate>) -> Result<OpenArtifact, Refusal> {
        let directory = self.directory().map_err(|error| match refusal(error) {
            Refusal::Exhausted => Refusal::Exhausted,
            _ => Refusal::Unreadable,
        })?;
        let mut path = Cow::Borrowed(name);
        for _ in 0..LINK_RETRIES {
            if is_own(&path) {
                return Err(Refusal::NotFound);
            }
            match open_beneath(directory, &path) {
                // A symbolic link. It is followed by hand, since a file is recorded by the path that has none, and the kernel follows no
                // absolute link below the directory.
                Err(Errno::LOOP) => {}
                // A link that was followed may lead elsewhere by now.
                Err(Errno::NOENT) if path != name => {}
                opened => {
                    let artifact = OpenArtifact::new(opened.map_err(refusal)?.into())?;
                    if let Some(gate) = gate {
                        gate.check(name, artifact.identity())?;
                        // A link may have taken the place of a recorded file, and may lead to one.
                        if path != name {
                            gate.check(&path, artifact.identity())?;
                        }
                    }
                    return Ok(artifact);
                }
            }
            match links::follow(directory.as_fd(), name).end {
                // Whatever this is, the kernel confines it.
                End::Below(followed) if path != followed => path = Cow::Owned(followed),
                End::Below(_) => return Err(Refusal::NotFound),
                End::Outside => return Err(Refusal::Outside),
                End::Circle => return Err(Refusal::Circle),
                End::Failed(error) => return Err(refusal(error)),
            }
        }
        Err(Refusal::Outside)
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

/// Returns whether a path, relative to the root, is that of [`OWN_DIRECTORY`] or below it. Some filesystems ignore case.
fn is_own(path: &[u8]) -> bool {
    let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
    first.eq_ignore_ascii_case(OWN_DIRECTORY.as_bytes())
}

/// Opens a file below a directory, by a path without symbolic links.
fn open_beneath(directory: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    // EAGAIN: a rename raced with the kernel following a `..` in a symbolic link.
    let opened = (0..RENAME_RETRIES)
        .map(|_| openat2(directory, path, READ, Mode::empty(), WITHOUT_LINKS))
        .find(|opened| !matches!(opened, Err(Errno::AGAIN)));
    opened.unwrap_or(Err(Errno::AGAIN))
}

/// Opens a stand-in.
fn open_stand_in(file: &'static str) -> Result<OpenArtifact, Refusal> {
    Ok(OpenArtifact { stand_in: Some(file), ..open_host(file)? })
}

/// Opens a file of the host by a path that no client chooses, so that symbolic links may lead anywhere.
pub(super) fn open_host(file: impl AsRef<Path>) -> Result<OpenArtifact, Refusal> {
    let file = rustix::fs::openat(CWD, file.as_ref(), READ, Mode::empty()).map_err(refusal)?;
    OpenArtifact::new(file.into())
}

/// The limits of path resolution for a path that has no symbolic links.
const WITHOUT_LINKS: ResolveFlags = BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// The flags for opening a file. Without O_NONBLOCK, a FIFO would block the caller until somebody writes to it.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

impl OpenArtifact {
    fn new(file: File) -> Result<Self, Refusal> {
        let metadata = file.metadata().map_err(|_| Refusal::Unreadable)?;
        if !metadata.is_file() {
            return Err(Refusal::NotFound);
        }
        let modified = metadata.modified().map_err(|_| Refusal::Unreadable)?;
        Ok(Self { length: metadata.len(), modified, inode: metadata.ino(), file, stand_in: None })
    }

    /// Returns what tells the file from its successors.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(self.length, self.inode, self.modified)
    }

    /// Returns a text as a file in memory, for a server that sends files.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] if the kernel has no descriptor or memory for it.
    pub fn from_text(text: &str) -> Result<Self, Refusal> {
        let memory = memfd_create(c"pxed", MemfdFlags::CLOEXEC).map_err(refusal)?;
        let mut file = File::from(memory);
        file.write_all(text.as_bytes()).map_err(|_| Refusal::Exhausted)?;
        Self::new(file)
    }

    /// Returns `true` if nobody has written to the file since it was opened. A file that was replaced counts as unchanged,
    /// since we hold the old one.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let now = self.file.metadata().ok();
        now.is_some_and(|now| now.len() == self.length && now.modified().ok() == Some(self.modified))
    }

    /// Returns `true` if these bytes can be read without waiting for the disk, judging by one byte in each [`PROBE_STEP`]. A
    /// filesystem that cannot tell counts as fast.
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

    /// Reads the file up to the length that it had when it was opened, waiting for the disk.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.length).map_err(io::Error::other)?];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Reads [`READ_AHEAD`] bytes from `offset` on into the page cache, waiting for the disk.
    pub fn read_ahead(&self, offset: u64) {
        const PIECE: usize = 64 << 10;
        let mut scratch = vec![0; PIECE];
        for piece in (0..READ_AHEAD).step_by(PIECE) {
            // The next reader sees the error.
            if !matches!(self.file.read_at(&mut scratch, offset.saturating_add(piece)), Ok(1..)) {
                return;
            }
        }
    }
}

/// Normalizes a path to resolve below the root: components joined by single slashes.
fn relative(path: &[u8]) -> Result<Vec<u8>, Refusal> {
    if path.contains(&0) {
        return Err(Refusal::Outside);
    }
    let mut name = Vec::with_capacity(path.len());
    for component in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        match component {
            b"" | b"." => {}
            // Refused even if it would lead back inside: no loader has a reason to request it.
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
        // ENXIO: a socket, or a FIFO or device without a peer.
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::NAMETOOLONG
        | Errno::ISDIR
        | Errno::NXIO
        | Errno::NODEV
        | Errno::INVAL => Refusal::NotFound,
        Errno::XDEV => Refusal::Outside,
        Errno::LOOP => Refusal::Circle,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => Refusal::Exhausted,
        _ => Refusal::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, os::unix::fs::symlink};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn used_up_descriptors_say_nothing_about_the_file() {
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert_eq!(refusal(error), Refusal::Exhausted, "{error}");
        }
    }

    /// Creates a directory `root` with a few files, and a secret beside it.
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
    fn paths_to_anything_but_a_file_below_the_root_are_refused() {
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
            (b"circle", Refusal::Circle),
        ];
        for (path, refusal) in cases {
            assert_eq!(store.open(path).map(|_| ()), Err(*refusal), "{}", path.escape_ascii());
        }
    }

    #[test]
    fn name_that_sends_firmware_to_its_disk_never_exists() {
        let (directory, store) = store();
        fs::write(directory.path().join("root").join(BOOT_FROM_DISK), "a loader, by mistake").unwrap();
        for path in ["boot-from-disk", "/boot-from-disk", ".\\boot-from-disk"] {
            assert_eq!(store.open(path.as_bytes()).map(|_| ()), Err(Refusal::NotFound), "{path}");
        }
    }

    #[test]
    fn directory_that_appears_later_is_found() {
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
    fn loader_that_is_missing_is_taken_from_the_host() {
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
        fn resolved_name_never_leaves_the_root(path in prop::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), Just(b'\\'), Just(0), any::<u8>()], 0..64)) {
            if let Ok(name) = relative(&path) {
                prop_assert!(!name.contains(&0) && !name.contains(&b'\\'));
                prop_assert!(name.split(|&byte| byte == b'/').all(|part| !matches!(part, b"" | b"." | b"..")));
            }
        }
    }
}
