//! The segments of the history in their directory: their names, their order, and which of them have to go.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::own_file::{ASIDE_LIMIT, NONBLOCK};

/// The most segments: a pxed that is restarted again and again begins one each time.
const MAX_SEGMENTS: usize = 256;
/// The most bytes that are read of a segment. pxed makes them smaller.
const READ_LIMIT: u64 = 256 << 20;
const SUFFIX: &str = "log";
const ASIDE: &str = "bad";

/// A segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    length: u64,
    modified: SystemTime,
}

/// Returns the path of a segment.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:010}.{SUFFIX}"))
}

/// Returns the number of a file with this extension.
fn number(path: &Path, extension: &str) -> Option<u64> {
    (path.extension()? == OsStr::new(extension)).then(|| path.file_stem()?.to_str()?.parse().ok())?
}

/// Returns the segments, the oldest first. Nothing but files is looked at.
pub(super) fn list(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(number) = number(&path, SUFFIX) else { continue };
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_file() {
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            segments.push(Segment { number, path, length: metadata.len(), modified });
        }
    }
    segments.sort_unstable_by_key(|segment| segment.number);
    Ok(segments)
}

/// Returns those that have to go, so that `room` more bytes are within the limit. A segment of the future is kept: the clock was set back.
pub(super) fn surplus(segments: &[Segment], limit: u64, room: u64, age: Duration, now: SystemTime) -> Vec<&Segment> {
    let mut total = room;
    let mut kept = 0;
    let mut surplus = Vec::new();
    for segment in segments.iter().rev() {
        total = total.saturating_add(segment.length);
        let is_old = now.duration_since(segment.modified).is_ok_and(|since| since > age);
        if total > limit || is_old || kept == MAX_SEGMENTS {
            surplus.push(segment);
        } else {
            kept += 1;
        }
    }
    surplus
}

/// Reads a segment. It does not wait for the other end of a FIFO.
pub(super) fn content(segment: &Segment) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(NONBLOCK).open(&segment.path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(segment.length.min(READ_LIMIT)).unwrap_or_default());
    file.take(READ_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Cuts a segment.
pub(super) fn cut(segment: &Segment, length: usize) -> io::Result<()> {
    File::options().write(true).custom_flags(NONBLOCK).open(&segment.path)?.set_len(length as u64)
}

/// Renames a file that is no segment of this version, and deletes the oldest of those that were renamed before.
pub(super) fn set_aside(directory: &Path, segment: &Segment) -> io::Result<PathBuf> {
    let aside = segment.path.with_extension(ASIDE);
    fs::rename(&segment.path, &aside)?;
    let mut kept: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory)? {
        kept.extend(Some(entry?.path()).filter(|path| number(path, ASIDE).is_some()));
    }
    kept.sort_unstable();
    for oldest in kept.iter().take(kept.len().saturating_sub(ASIDE_LIMIT)) {
        fs::remove_file(oldest)?;
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surplus_is_the_oldest_beyond_size_and_age() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let segment = |number: u64, length, age: i64| Segment {
            number,
            path: PathBuf::new(),
            length,
            modified: if age < 0 { now + Duration::from_secs(9) } else { now - Duration::from_secs(age as u64) },
        };
        let day = Duration::from_secs(86_400);
        let numbers = |segments: &[Segment], limit, room| -> Vec<u64> {
            surplus(segments, limit, room, day, now).iter().map(|segment| segment.number).collect()
        };
        let all = [segment(1, 50, 100_000), segment(2, 50, 80_000), segment(3, 50, -1), segment(4, 50, 10)];
        assert_eq!(numbers(&all, 1_000, 0), [1], "older than a day");
        assert_eq!(numbers(&all, 120, 0), [2, 1]);
        assert_eq!(numbers(&all, 120, 60), [3, 2, 1]);
        assert_eq!(numbers(&all, 10, 0), [4, 3, 2, 1]);
        let many: Vec<_> = (0..MAX_SEGMENTS as u64 + 2).map(|number| segment(number, 1, 1)).collect();
        assert_eq!(numbers(&many, 1_000, 0), [1, 0]);
        assert_eq!(numbers(&[], 0, 1), [0; 0]);
    }

    #[test]
    fn nothing_but_files_with_numbers_are_segments() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["0000000010.log", "2.log", "x.log", "3.bad", "4"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::create_dir(directory.path().join("5.log")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", directory.path().join("6.log")).unwrap();
        let numbers: Vec<_> = list(directory.path()).unwrap().iter().map(|segment| segment.number).collect();
        assert_eq!(numbers, [2, 10]);
        assert!(list(&directory.path().join("none")).is_err());
    }
}
