//! A file that is being downloaded: `<artifacts>/.pxed/partial/<name>.part`, with its checkpoint in `<name>.json`. Everything here
//! blocks.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use ring::digest::{self, Context};
use rustix::{
    fs::{FallocateFlags, OFlags, fallocate, fstatvfs},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{checksums::to_hex, fault::Fault};
use crate::{
    artifacts::{Content, HEAD, implausible},
    named_file,
};

/// The bytes after which a checkpoint is written. What a crash leaves behind it is downloaded again.
const CHECKPOINT_EVERY: u64 = 1 << 20;

/// The file that a partial file belongs to, as the server described it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    /// The URL, without a password.
    pub(super) url: String,
    /// The strong `ETag`.
    pub(super) etag: Option<String>,
    /// `Last-Modified`.
    pub(super) modified: Option<String>,
    /// The length of the whole file.
    pub(super) total: Option<u64>,
}

impl Version {
    /// Returns the value of `If-Range` that asks for the rest of the same version, or `None` if the server gave no means to tell.
    pub(super) fn validator(&self) -> Option<&str> {
        self.etag.as_deref().or(self.modified.as_deref())
    }
}

/// The state of a partial file that another process can go on from. It is believed only if the bytes have the hash.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    version: Version,
    length: u64,
    sha256: String,
}

/// A partial file that this task has locked.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    checkpoint_path: PathBuf,
    sha256: Context,
    /// Only where a SHA-512 is published, since it costs more than all else.
    sha512: Option<Context>,
    length: u64,
    checkpointed: u64,
    version: Option<Version>,
}

/// The hashes of a complete file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashes {
    pub(super) sha256: digest::Digest,
    pub(super) sha512: Option<digest::Digest>,
}

/// Returns the name of an artifact's partial file, without its extension.
fn file_name(artifact: &str) -> String {
    artifact.replace('%', "%25").replace('/', "%2F")
}

/// Returns the artifact of a partial file or checkpoint.
fn artifact_of(file_name: &str) -> Option<String> {
    let stem = file_name.strip_suffix(".part").or_else(|| file_name.strip_suffix(".json"))?;
    Some(stem.replace("%2F", "/").replace("%25", "%"))
}

impl Partial {
    /// Opens or creates the partial file of an artifact and locks it. Returns `None` if somebody else is downloading it. The lock ends
    /// with the process that has it, however that ends.
    pub(super) fn try_lock(directory: &Path, artifact: &str, with_sha512: bool) -> Result<Option<Self>, Fault> {
        let path = directory.join(format!("{}.part", file_name(artifact)));
        let checkpoint_path = directory.join(format!("{}.json", file_name(artifact)));
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o644);
            options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
            let file = options.open(&path).map_err(|error| Fault::disk("opening", &path, &error))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(Fault::disk("locking", &path, &error)),
            }
            let inode = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
            let ours = file.metadata().map_err(|error| Fault::disk("reading", &path, &error))?;
            // Whoever had the lock may have finished the file and moved it away.
            if fs::symlink_metadata(&path).is_ok_and(|there| inode(&there) == inode(&ours)) {
                return Ok(Some(Self {
                    file,
                    path,
                    checkpoint_path,
                    sha256: Context::new(&digest::SHA256),
                    sha512: with_sha512.then(|| Context::new(&digest::SHA512)),
                    length: 0,
                    checkpointed: 0,
                    version: None,
                }));
            }
        }
    }

    /// Goes on from the last checkpoint if it is of this URL and the bytes are what it says. Otherwise starts with an empty file.
    pub(super) fn resume(&mut self, url: &str) -> Result<(), Fault> {
        let checkpoint = named_file::read(&self.checkpoint_path).ok();
        let checkpoint: Option<Checkpoint> = checkpoint.and_then(|(text, _)| serde_json::from_slice(&text).ok());
        let usable = checkpoint.filter(|it| it.length > 0 && it.version.url == url && it.version.validator().is_some());
        let Some(Checkpoint { version, length, sha256 }) = usable else { return self.restart() };
        if !self.hash_first(length)? || to_hex(self.sha256.clone().finish().as_ref()) != sha256 {
            return self.restart();
        }
        (self.length, self.checkpointed, self.version) = (length, length, Some(version));
        self.truncate(length)
    }

    /// Hashes the first bytes. Returns whether there are that many.
    fn hash_first(&mut self, length: u64) -> Result<bool, Fault> {
        let failed = |error: &io::Error| Fault::disk("reading", &self.path, error);
        self.file.rewind().map_err(|error| failed(&error))?;
        let mut buffer = vec![0; 256 << 10];
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = self.file.read(&mut buffer[..most]).map_err(|error| failed(&error))?;
            if read == 0 {
                return Ok(false);
            }
            self.sha256.update(&buffer[..read]);
            if let Some(sha512) = &mut self.sha512 {
                sha512.update(&buffer[..read]);
            }
            left -= read as u64;
        }
        Ok(true)
    }

    /// Drops all bytes.
    pub(super) fn restart(&mut self) -> Result<(), Fault> {
        self.sha256 = Context::new(&digest::SHA256);
        self.sha512 = self.sha512.take().map(|_| Context::new(&digest::SHA512));
        (self.length, self.checkpointed, self.version) = (0, 0, None);
        match fs::remove_file(&self.checkpoint_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Fault::disk("deleting", &self.checkpoint_path, &error));
            }
            _ => {}
        }
        self.truncate(0)
    }

    fn truncate(&mut self, length: u64) -> Result<(), Fault> {
        let done = self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length)));
        done.map(drop).map_err(|error| Fault::disk("truncating", &self.path, &error))
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    pub(super) const fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// Returns whether all bytes are there, by what the server said of the file's length.
    pub(super) fn is_complete(&self) -> bool {
        self.length > 0 && self.version.as_ref().is_some_and(|version| version.total == Some(self.length))
    }

    /// Notes what the following bytes are a part of, and reserves the room for all of them.
    pub(super) fn begin(&mut self, version: Version) -> Result<(), Fault> {
        if let Some(total) = version.total {
            self.reserve(total)?;
        }
        self.version = Some(version);
        Ok(())
    }

    /// Reserves the room for a file of this length.
    pub(super) fn reserve(&self, total: u64) -> Result<(), Fault> {
        let missing = total.saturating_sub(self.length);
        if missing == 0 {
            return Ok(());
        }
        let reserved = loop {
            // The length stays what is written, so that a reader of the file's size is not misled.
            match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, total) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        match reserved {
            Ok(()) => Ok(()),
            Err(error @ (Errno::NOSPC | Errno::DQUOT)) => {
                // Gives back what could be reserved.
                let _ = self.file.set_len(self.length);
                let available = self.available().unwrap_or(0);
                let missing = missing.saturating_sub(available);
                match Fault::disk("writing", &self.path, &error.into()) {
                    Fault::DiskFull { directory, .. } => Err(Fault::DiskFull { directory, missing: missing.max(1) }),
                    other => Err(other),
                }
            }
            // The filesystem cannot reserve.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => match self.available() {
                Some(available) if available < missing => Err(Fault::DiskFull {
                    directory: self.path.parent().unwrap_or(&self.path).to_owned(),
                    missing: missing - available,
                }),
                _ => Ok(()),
            },
            Err(error) => Err(Fault::disk("writing", &self.path, &error.into())),
        }
    }

    fn available(&self) -> Option<u64> {
        let filesystem = fstatvfs(&self.file).ok()?;
        Some(filesystem.f_bavail.saturating_mul(filesystem.f_frsize))
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.file.write_all(bytes).map_err(|error| self.write_fault(&error, bytes.len() as u64))?;
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
        self.length += bytes.len() as u64;
        if self.length - self.checkpointed >= CHECKPOINT_EVERY { self.checkpoint() } else { Ok(()) }
    }

    fn write_fault(&self, error: &io::Error, written: u64) -> Fault {
        let total = self.version.as_ref().and_then(|version| version.total);
        match Fault::disk("writing", &self.path, error) {
            Fault::DiskFull { directory, .. } => {
                let missing = total.map_or(written, |total| total.saturating_sub(self.length)).max(1);
                Fault::DiskFull { directory, missing }
            }
            other => other,
        }
    }

    /// Writes a checkpoint, if there is anything to go on from.
    pub(super) fn checkpoint(&mut self) -> Result<(), Fault> {
        let Some(version) = self.version.clone().filter(|version| version.validator().is_some()) else {
            return Ok(());
        };
        if self.length == self.checkpointed {
            return Ok(());
        }
        let sha256 = to_hex(self.sha256.clone().finish().as_ref());
        let checkpoint = Checkpoint { version, length: self.length, sha256 };
        let new = self.checkpoint_path.with_extension("new");
        let text = serde_json::to_vec(&checkpoint).map_err(io::Error::from);
        // Not synchronized: after a power failure the hash tells whether file and checkpoint belong together.
        let written =
            text.and_then(|text| fs::write(&new, text)).and_then(|()| fs::rename(&new, &self.checkpoint_path));
        written.map_err(|error| Fault::disk("writing", &self.checkpoint_path, &error))?;
        self.checkpointed = self.length;
        Ok(())
    }

    /// Returns the hashes of all bytes.
    pub(super) fn hashes(&self) -> Hashes {
        Hashes {
            sha256: self.sha256.clone().finish(),
            sha512: self.sha512.as_ref().map(|context| context.clone().finish()),
        }
    }

    /// Returns the reason why the bytes cannot be this content.
    pub(super) fn implausible(&self, content: Content) -> Result<Option<String>, Fault> {
        let mut head = vec![0; HEAD.min(usize::try_from(self.length).unwrap_or(HEAD))];
        self.file.read_exact_at(&mut head, 0).map_err(|error| Fault::disk("reading", &self.path, &error))?;
        Ok(implausible(content, &head, self.length))
    }

    /// Returns the file.
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all bytes to the disk. After this the file can be moved to its place.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.file.sync_all().map_err(|error| self.write_fault(&error, 0))
    }

    /// Deletes the checkpoint after the file was moved to its place.
    pub(super) fn moved(self) {
        let _ = fs::remove_file(&self.checkpoint_path);
    }

    /// Deletes the file and its checkpoint.
    pub(super) fn discard(self) {
        let _ = fs::remove_file(&self.checkpoint_path);
        let _ = fs::remove_file(&self.path);
    }
}

/// Deletes the partial files that nobody is downloading and that are older than `age`, except those that `is_wanted` says are
/// resumed.
pub(super) fn clean(directory: &Path, age: Duration, now: SystemTime, is_wanted: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|passed| passed >= age));
        let Some(name) = name.to_str().filter(|_| is_old) else { continue };
        match artifact_of(name) {
            Some(artifact) if is_wanted(&artifact) => {}
            Some(artifact) => {
                if let Ok(Some(partial)) = Partial::try_lock(directory, &artifact, false) {
                    partial.discard();
                }
            }
            None if name.ends_with(".new") => {
                let _ = fs::remove_file(entry.path());
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTIFACT: &str = "ab12/vmlinuz-v1.13.0-amd64";

    fn lock(directory: &Path) -> Partial {
        Partial::try_lock(directory, ARTIFACT, true).unwrap().expect("nobody else has it")
    }

    fn version() -> Version {
        Version { url: "https://m.example/k".into(), etag: Some("\"1\"".into()), modified: None, total: Some(10) }
    }

    fn sha256(content: &[u8]) -> String {
        to_hex(digest::digest(&digest::SHA256, content).as_ref())
    }

    #[test]
    fn download_goes_on_from_its_checkpoint_with_the_same_hashes() {
        let directory = tempfile::tempdir().unwrap();
        let mut partial = lock(directory.path());
        partial.resume("https://m.example/k").unwrap();
        partial.begin(version()).unwrap();
        partial.write(b"abcd").unwrap();
        partial.checkpoint().unwrap();
        partial.write(b"lost").unwrap();
        drop(partial);
        let mut partial = lock(directory.path());
        partial.resume("https://m.example/k").unwrap();
        assert_eq!((partial.length(), partial.version()), (4, Some(&version())));
        assert!(!partial.is_complete());
        partial.write(b"efghij").unwrap();
        assert!(partial.is_complete());
        let hashes = partial.hashes();
        assert_eq!(to_hex(hashes.sha256.as_ref()), sha256(b"abcdefghij"));
        assert_eq!(hashes.sha512.unwrap().as_ref(), digest::digest(&digest::SHA512, b"abcdefghij").as_ref());
        assert_eq!(fs::read(partial.path()).unwrap(), b"abcdefghij");
    }

    #[test]
    fn checkpoint_that_does_not_fit_starts_again() {
        type Damage = fn(&Path, &Path);
        let damages: [(&str, Damage); 6] = [
            ("a byte was changed", |part, _| fs::write(part, b"abXd").unwrap()),
            ("the file is shorter", |part, _| fs::write(part, b"abc").unwrap()),
            ("the file is gone", |part, _| fs::remove_file(part).unwrap()),
            ("the checkpoint is gone", |_, checkpoint| fs::remove_file(checkpoint).unwrap()),
            ("the checkpoint is cut off", |_, checkpoint| fs::write(checkpoint, b"{\"version\"").unwrap()),
            ("the checkpoint is of another URL", |_, checkpoint| {
                let text = fs::read_to_string(checkpoint).unwrap();
                fs::write(checkpoint, text.replace("m.example", "other.example")).unwrap();
            }),
        ];
        for (name, damage) in damages {
            let directory = tempfile::tempdir().unwrap();
            let mut partial = lock(directory.path());
            partial.begin(version()).unwrap();
            partial.write(b"abcd").unwrap();
            partial.checkpoint().unwrap();
            let (part, checkpoint) = (partial.path.clone(), partial.checkpoint_path.clone());
            drop(partial);
            damage(&part, &checkpoint);
            let mut partial = lock(directory.path());
            partial.resume("https://m.example/k").unwrap();
            assert_eq!((partial.length(), partial.version()), (0, None), "{name}");
            partial.write(b"xy").unwrap();
            assert_eq!(to_hex(partial.hashes().sha256.as_ref()), sha256(b"xy"), "{name}");
            assert_eq!(fs::read(&part).unwrap(), b"xy", "{name}");
        }
    }

    #[test]
    fn file_without_a_validator_is_not_resumed() {
        let directory = tempfile::tempdir().unwrap();
        let mut partial = lock(directory.path());
        partial.begin(Version { etag: None, ..version() }).unwrap();
        partial.write(b"abcd").unwrap();
        partial.checkpoint().unwrap();
        drop(partial);
        let mut partial = lock(directory.path());
        partial.resume("https://m.example/k").unwrap();
        assert_eq!(partial.length(), 0);
    }

    #[test]
    fn file_is_locked_by_one_task_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let partial = lock(directory.path());
        assert!(Partial::try_lock(directory.path(), ARTIFACT, false).unwrap().is_none());
        assert!(Partial::try_lock(directory.path(), "other", false).unwrap().is_some());
        drop(partial);
        assert!(Partial::try_lock(directory.path(), ARTIFACT, false).unwrap().is_some());
    }

    #[test]
    fn partial_files_that_nobody_wants_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let leave = |artifact: &str| {
            let mut partial = Partial::try_lock(directory.path(), artifact, false).unwrap().unwrap();
            partial.begin(version()).unwrap();
            partial.write(b"abcd").unwrap();
            partial.checkpoint().unwrap();
            partial
        };
        let _in_use = leave("in-use");
        drop(leave("wanted"));
        drop(leave("a%2/left"));
        fs::write(directory.path().join("not-ours"), "").unwrap();
        fs::write(directory.path().join("left.new"), "").unwrap();
        let names = || {
            let entries = fs::read_dir(directory.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names().len(), 8);
        let (age, now) = (Duration::from_secs(3600), SystemTime::now());
        clean(directory.path(), age, now, |artifact| artifact == "wanted");
        assert_eq!(names().len(), 8, "all are young");
        clean(directory.path(), age, now + 2 * age, |artifact| artifact == "wanted");
        assert_eq!(names(), ["in-use.json", "in-use.part", "not-ours", "wanted.json", "wanted.part"]);
    }

    #[test]
    fn symbolic_link_is_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        std::os::unix::fs::symlink(&secret, directory.path().join("k.part")).unwrap();
        let fault = Partial::try_lock(directory.path(), "k", false).err().unwrap();
        assert!(fault.to_string().contains("k.part"), "{fault}");
        assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
    }
}
