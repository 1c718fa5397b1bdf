//! A file of pxed's own, replaced as a whole.
//!
//! A new file is written and synced, renamed, and the directory is synced. After a crash or SIGKILL at any instant the file holds one
//! complete version. A file that is damaged all the same, by a disk or a person, is set aside and kept for that person.

use std::{
    fs::{self, File, FileType},
    io::{self, BufWriter, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::de::DeserializeOwned;

/// The number of damaged files that are kept.
pub const ASIDE_LIMIT: usize = 5;

/// The flag that keeps open(2) from waiting for the other end of a FIFO.
pub const NONBLOCK: i32 = nix::fcntl::OFlag::O_NONBLOCK.bits();

/// A file in a directory of pxed's own.
#[derive(Clone, Debug)]
pub struct OwnFile {
    directory: PathBuf,
    name: &'static str,
    /// The most bytes that are read.
    limit: u64,
    /// The permissions of a new file.
    mode: u32,
}

/// The content of a file.
#[derive(Debug)]
pub enum Found {
    /// There is no file.
    Nothing,
    /// The bytes, and the open file that they were read from.
    Bytes(Vec<u8>, File),
    /// Something else, or more bytes than the limit. The sentence begins with "it".
    Damaged(String),
}

impl OwnFile {
    /// Returns the file of this name in `directory`, which need not exist. At most `limit` bytes of it are read.
    #[must_use]
    pub fn new(directory: &Path, name: &'static str, limit: u64) -> Self {
        Self { directory: directory.to_owned(), name, limit, mode: 0o600 }
    }

    /// Returns the file with these permissions in place of 0600.
    #[must_use]
    pub fn with_mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join(self.name)
    }

    /// Returns the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads the file. It does not wait for the other end of a FIFO, and reads no device.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or read.
    pub fn read(&self) -> io::Result<Found> {
        let path = self.path();
        // Before it is opened: to open a socket is an error, and to open a device may do harm.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(metadata) => return Ok(Found::Damaged(other_kind(metadata.file_type()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A symbolic link that leads nowhere is in the way of a new file as well, but a rename replaces it.
                return Ok(Found::Nothing);
            }
            Err(error) => return Err(error),
        }
        let file = match File::options().read(true).custom_flags(NONBLOCK).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            opened => opened?,
        };
        let file_type = file.metadata()?.file_type();
        if !file_type.is_file() {
            return Ok(Found::Damaged(other_kind(file_type)));
        }
        let mut bytes = Vec::new();
        (&file).take(self.limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > self.limit {
            return Ok(Found::Damaged(format!("it is larger than {} MiB", self.limit >> 20)));
        }
        Ok(Found::Bytes(bytes, file))
    }

    /// Replaces the file by what `write` writes, and waits for the disk. A directory that somebody deleted is made again.
    ///
    /// # Errors
    ///
    /// If the disk refuses it, or if `write` fails. The file is as it was then.
    pub fn replace(&self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let temporary = self.directory.join(format!("{}.new", self.name));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Whatever else has this name by now is not followed, opened or waited for.
        let new = File::options().write(true).create_new(true).mode(self.mode).open(&temporary)?;
        let mut file = BufWriter::new(new);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, self.path())?;
        File::open(&self.directory)?.sync_all()
    }

    /// Renames a damaged file to `NAME.bad-NUMBER` and deletes the oldest of those that were renamed before. The number is the time in
    /// seconds, or a larger one. Returns the new path, or `None` if somebody has moved the file already.
    ///
    /// # Errors
    ///
    /// If the disk refuses it.
    pub fn set_aside(&self, now: SystemTime) -> io::Result<Option<PathBuf>> {
        let prefix = format!("{}.bad-", self.name);
        let mut taken: Vec<u64> = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            taken.extend(name.to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u64>().ok()));
        }
        taken.sort_unstable();
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        // The oldest has the smallest number, also where the clock was set back.
        let number = taken.last().map_or(seconds, |last| seconds.max(last.saturating_add(1)));
        let named = |number: u64| self.directory.join(format!("{prefix}{number}"));
        match fs::rename(self.path(), named(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            renamed => renamed?,
        }
        let surplus = (taken.len() + 1).saturating_sub(ASIDE_LIMIT);
        for &oldest in taken.iter().take(surplus) {
            match fs::remove_file(named(oldest)) {
                // Not of pxed's making, so not for pxed to empty.
                Err(error) if error.kind() != io::ErrorKind::IsADirectory => return Err(error),
                _ => {}
            }
        }
        Ok(Some(named(number)))
    }
}

/// Returns the end of a sentence that tells where a damaged file is, after [`OwnFile::set_aside`].
#[must_use]
pub fn kept(aside: &io::Result<Option<PathBuf>>) -> String {
    match aside {
        Ok(Some(aside)) => format!("it is kept as {}", aside.display()),
        Ok(None) => "it is gone by now".to_owned(),
        Err(error) => format!("it stays there, because it cannot be moved aside: {error}"),
    }
}

/// Returns the objects of a damaged JSON text that are whole by themselves, wherever they stand.
pub fn whole_objects<T: DeserializeOwned>(text: &[u8]) -> impl Iterator<Item = T> {
    let begins = text.iter().enumerate().filter(|(_, byte)| **byte == b'{').map(|(at, _)| at);
    begins.filter_map(|at| serde_json::Deserializer::from_slice(text.get(at..)?).into_iter::<T>().next()?.ok())
}

/// Returns a sentence, beginning with "it", about something that is not a file.
pub(crate) fn other_kind(file_type: FileType) -> String {
    let kind = if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    format!("it is {kind}, and has to be a file")
}

#[cfg(test)]
pub(crate) mod tests;
