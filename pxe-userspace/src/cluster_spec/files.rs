//! The files of a spec: listing, looking, reading.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::finding::Finding;
use crate::{
    descriptors,
    shut_out::{self, Wanted},
};

/// The most bytes of a file, more than a spec of a million machines has. A larger file is a mistake.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The error of a file that is written all the time.
pub(crate) const KEEPS_CHANGING: &str = "keeps changing: it is read when it has rested";

/// The files of a spec.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The files, each once, in the order of the paths.
    pub(crate) files: Vec<PathBuf>,
    /// The paths that cannot be read or listed.
    pub(crate) errors: Vec<Finding>,
    /// The directories without files.
    pub(crate) empty: Vec<PathBuf>,
}

/// Lists the files of the paths. A directory's files are sorted by name: `*.yaml`, `*.yml` and `*.json`, without hidden files and
/// subdirectories.
pub(crate) fn collect(paths: &[PathBuf]) -> Listing {
    let mut seen = HashSet::new();
    let Listing { mut files, mut errors, mut empty } = Listing::default();
    for path in paths {
        let found = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => match list(path, is_spec) {
                Ok(found) => {
                    if found.is_empty() {
                        empty.push(path.clone());
                    }
                    found
                }
                Err(error) => {
                    let error = shut_out::explained(path, Wanted::Read, error);
                    errors.push(Finding::about_file(path, format!("cannot be listed: {error}")));
                    continue;
                }
            },
            Ok(_) => vec![path.clone()],
            Err(error) => {
                errors.push(Finding::about_file(path, format!("cannot be read: {error}")));
                continue;
            }
        };
        files
            .extend(found.into_iter().filter(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone()))));
    }
    Listing { files, errors, empty }
}

fn is_spec(file: &Path) -> bool {
    let extension = file.extension().and_then(OsStr::to_str);
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Longer than any step of a file system's clock. Two writes within a step can leave the same time.
pub(crate) const CLOCK_STEP: Duration = Duration::from_millis(100);

/// The longest time by which the clock of a file server may be ahead of ours.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(60);

/// The outside of a file, which tells it from other files and from its state before it was last written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    path: PathBuf,
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stat {
    /// Looks at a file, or at what a link leads to.
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let (device, inode, length) = (metadata.dev(), metadata.ino(), metadata.len());
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Ok(Self { path: path.to_owned(), device, inode, length, changed })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns `true` if the file was not written to just now, so that any later change makes it look different.
    pub(crate) fn is_settled(&self, now: SystemTime) -> bool {
        self.is_older(CLOCK_STEP, now)
    }

    /// Returns `true` if the file was not written to for this long. One that was written to in the future is as old as any: the clock has
    /// been set back, and the file must not be left alone until it has caught up.
    pub(crate) fn is_older(&self, than: Duration, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        let changed = Duration::new(seconds, nanos);
        match now.checked_sub(changed) {
            Some(age) => age > than,
            None => changed.saturating_sub(now) > CLOCK_DIFFERENCE,
        }
    }
}

/// Returns the files of the paths as [`collect`] does, and what keeps others from being listed.
pub(crate) fn of_spec(paths: &[PathBuf]) -> Vec<Result<PathBuf, String>> {
    let Listing { files, errors, empty: _ } = collect(paths);
    let errors = errors.iter().map(|error| Err(error.to_string()));
    files.into_iter().map(Ok).chain(errors).collect()
}

/// Returns every file in the directories, without those that do not exist, and what keeps others from being listed.
pub(crate) fn all(directories: &[PathBuf]) -> Vec<Result<PathBuf, String>> {
    let mut files = Vec::new();
    for directory in directories {
        match list(directory, |_| true) {
            Ok(more) => files.extend(more.into_iter().map(Ok)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => files.push(Err(format!("{}: {error}", directory.display()))),
        }
    }
    files
}

/// Returns the wanted files of a directory, sorted by name, without hidden ones and subdirectories. A link that leads nowhere and a
/// pipe are among them, so that reading them says what is wrong.
pub(crate) fn list(path: &Path, is_wanted: impl Fn(&Path) -> bool) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in descriptors::patiently(|| fs::read_dir(path))? {
        let name = entry?.file_name();
        let file = path.join(&name);
        let hidden = name.as_encoded_bytes().starts_with(b".");
        // `is_dir` follows links, which the files of a Kubernetes ConfigMap volume are.
        if !hidden && is_wanted(&file) && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Returns the text of a file, without a byte order mark.
///
/// # Errors
///
/// It is not a regular file, too large, unreadable, or not UTF-8 (with the place).
pub(crate) fn read(path: &Arc<Path>) -> Result<String, Finding> {
    let failed = |error: std::io::Error| {
        let error = shut_out::explained(path, Wanted::Read, error);
        Finding::about_file(path, format!("cannot be read: {error}"))
    };
    // Checked before opening, because opening a pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Finding::about_file(
            path,
            "is not a regular file: write the spec to one, which is read again when it changes".to_owned(),
        ));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(MAX_FILE_BYTES)).unwrap_or(0));
    descriptors::patiently(|| File::open(path))
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Finding::about_file(
            path,
            format!("is larger than {} MiB: is it the right file?", MAX_FILE_BYTES >> 20),
        ));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..valid).unwrap_or_default();
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        Finding {
            file: Arc::clone(path),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            field: String::new(),
            message: "is not UTF-8 from here on: save the file as UTF-8".to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_the_future_is_old_if_the_clock_was_set_back() {
        let changed = 1_000_000;
        let stat = Stat { path: PathBuf::new(), device: 0, inode: 0, length: 0, changed: (changed, 0) };
        let quiet = Duration::from_secs(2);
        let is_older_at = |offset: i64| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs((changed + offset).unsigned_abs());
            stat.is_older(quiet, now)
        };
        for (offset, is_older) in [(10, true), (3, true), (2, false), (0, false), (-5, false), (-3600, true)] {
            assert_eq!(is_older_at(offset), is_older, "{offset}");
        }
    }
}
