//! Removes files that nothing refers to, when a download needs their room.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    manifest::{Entry, Manifest, Proof},
    records::Records,
};

/// A file that may be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    path: Arc<str>,
    size: u64,
    /// The last time when the spec needed it, in seconds since 1970.
    needed: u64,
}

/// A file that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its path, relative to the artifacts directory.
    pub path: Arc<str>,
    /// Its length in bytes.
    pub size: u64,
}

/// Returns `true` if pxed has downloaded the file itself and could download it again.
fn is_download(entry: &Entry) -> bool {
    !entry.by_hand && entry.source.is_some() && matches!(entry.proof, Proof::PublishedChecksum | Proof::FirstDownload)
}

/// Returns the files that pxed has downloaded itself and could download again, without those that are needed.
fn candidates(manifest: &Manifest, is_needed: impl Fn(&str) -> bool) -> Vec<Candidate> {
    let files = manifest.files.iter().filter(|(path, entry)| is_download(entry) && !is_needed(path));
    let candidate = |(path, entry): (&Arc<str>, &Entry)| {
        Some(Candidate { path: Arc::clone(path), size: entry.file?.size, needed: entry.needed })
    };
    files.filter_map(candidate).collect()
}

/// Returns the candidates to remove for this many bytes, the one first that was needed longest ago. If all of them do not suffice, returns
/// none: nothing would be won.
fn choose(mut candidates: Vec<Candidate>, bytes: u64) -> Vec<Candidate> {
    candidates.sort_by(|one, other| (one.needed, &one.path).cmp(&(other.needed, &other.path)));
    let mut room = 0_u64;
    let mut is_still_short = |candidate: &Candidate| {
        let is_short = room < bytes;
        room = room.saturating_add(candidate.size);
        is_short
    };
    let chosen: Vec<_> = candidates.into_iter().take_while(|candidate| is_still_short(candidate)).collect();
    let sum = chosen.iter().fold(0_u64, |sum, candidate| sum.saturating_add(candidate.size));
    if sum < bytes { Vec::new() } else { chosen }
}

impl Records {
    /// Returns the files that pxed has downloaded itself, and that nobody has changed since.
    #[must_use]
    pub fn downloads(&self) -> Vec<Arc<str>> {
        let files = self.manifest().files;
        let downloads = files.into_iter().filter(|(path, entry)| is_download(entry) && self.is_as_recorded(path));
        downloads.map(|(path, _)| path).collect()
    }

    /// Removes files that nothing needs, until this many bytes more are free, and logs each. A file is only removed if pxed has downloaded it
    /// itself, [`Records::needed`] was told of others, and nobody has it open. If that does not free enough, none is removed.
    ///
    /// The record of a removed file stays, so that another one of the same name is noticed when it is downloaded again.
    pub fn make_room(&self, bytes: u64, now: SystemTime) -> Vec<Removed> {
        let Some(needed) = self.kept() else { return Vec::new() };
        let root = self.store().root();
        let mut candidates = candidates(&self.manifest(), |path| needed.contains(path));
        candidates.retain(|candidate| self.is_as_recorded(&candidate.path));
        if candidates.is_empty() {
            return Vec::new();
        }
        let names = candidates.iter().filter_map(|candidate| Path::new(&*candidate.path).file_name());
        let open = open_files(&names.map(OsStr::to_owned).collect());
        candidates.retain(|candidate| {
            let there = fs::symlink_metadata(root.join(&*candidate.path));
            there.is_ok_and(|there| there.is_file() && !open.contains(&(there.dev(), there.ino())))
        });
        let mut removed = Vec::new();
        for Candidate { path, size, needed } in choose(candidates, bytes) {
            let full = root.join(&*path);
            if let Err(error) = fs::remove_file(&full) {
                tracing::warn!("{}: cannot be removed to make room: {error}", full.display());
                continue;
            }
            // Only a directory that has become empty.
            let _ = full.parent().filter(|parent| *parent != root).map(fs::remove_dir);
            let days = (seconds(now).saturating_sub(needed)) / (24 * 3600);
            tracing::info!(
                "{}: removed to make room for a download: no machine of the spec needs it, for the last {days} days; {size} bytes",
                full.display()
            );
            removed.push(Removed { path, size });
        }
        let gone: Vec<&str> = removed.iter().map(|removed| &*removed.path).collect();
        if let Err(error) = self.removed(&gone) {
            tracing::debug!("{error}");
        }
        removed
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Returns device and inode of every file of these names that some process of this host has open, as far as this process may see them: its own
/// always.
fn open_files(names: &HashSet<OsString>) -> HashSet<(u64, u64)> {
    let entries = |directory: PathBuf| -> Vec<PathBuf> {
        let read = |entries: fs::ReadDir| entries.filter_map(|entry: io::Result<_>| Some(entry.ok()?.path())).collect();
        fs::read_dir(directory).map(read).unwrap_or_default()
    };
    let is_process = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let processes: BTreeSet<_> = entries("/proc".into()).into_iter().filter(is_process).collect();
    let files = processes.into_iter().flat_map(|process| entries(process.join("fd")));
    // Other files may be on a server that does not answer.
    let is_named = |file: &PathBuf| {
        fs::read_link(file).is_ok_and(|path| path.file_name().is_some_and(|name| names.contains(name)))
    };
    // stat(2) of such a link is that of the open file.
    let identity = |file: PathBuf| fs::metadata(file).ok().map(|file| (file.dev(), file.ino()));
    files.filter(is_named).filter_map(identity).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::{Download, Sha256, Store};

    fn candidate(path: &str, size: u64, needed: u64) -> Candidate {
        Candidate { path: path.into(), size, needed }
    }

    #[test]
    fn file_that_was_needed_longest_ago_goes_first_and_no_more_than_necessary() {
        let all = || vec![candidate("c", 10, 30), candidate("b", 10, 10), candidate("a", 10, 20)];
        let chosen =
            |bytes| choose(all(), bytes).iter().map(|candidate| candidate.path.to_string()).collect::<Vec<_>>();
        assert_eq!(chosen(0), [""; 0]);
        assert_eq!(chosen(1), ["b"]);
        assert_eq!(chosen(10), ["b"]);
        assert_eq!(chosen(11), ["b", "a"]);
        assert_eq!(chosen(30), ["b", "a", "c"]);
        assert_eq!(chosen(31), [""; 0], "it would be in vain");
        assert_eq!(chosen(u64::MAX), [""; 0]);
    }

    struct Lab {
        directory: tempfile::TempDir,
        records: Records,
    }

    impl Lab {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (records, _) = Records::open(Arc::new(Store::without_stand_ins(directory.path().to_owned())));
            Self { records, directory }
        }

        fn install(&self, name: &str, proof: Proof) {
            let from = self.directory.path().join("partial");
            fs::write(&from, [0; 1000]).unwrap();
            let sha256 = Sha256::of(&fs::File::open(&from).unwrap()).unwrap().0;
            let download = Download { sha256, proof, source: Some("https://example.org".into()) };
            self.records.install(&from, name, download, SystemTime::UNIX_EPOCH).unwrap();
        }

        fn needed(&self, paths: &[&str]) {
            self.records.needed(paths, SystemTime::UNIX_EPOCH).unwrap();
        }

        fn removed(&self, bytes: u64) -> Vec<String> {
            let removed = self.records.make_room(bytes, SystemTime::UNIX_EPOCH);
            removed.into_iter().map(|removed| removed.path.to_string()).collect()
        }
    }

    const FETCHED: Proof = Proof::PublishedChecksum;

    #[test]
    fn only_downloads_that_nothing_needs_and_nobody_reads_are_removed() {
        let lab = Lab::new();
        let path = |name: &str| lab.directory.path().join(name);
        for (name, proof) in [("needed", FETCHED), ("served", FETCHED), ("changed", FETCHED), ("bundle", Proof::Bundle)]
        {
            lab.install(name, proof);
        }
        lab.install("ab12/old", Proof::FirstDownload);
        for name in ["by-hand", "compared", "accepted"] {
            fs::write(path(name), [0; 1000]).unwrap();
        }
        let sha256 = lab.records.entry("needed").unwrap().sha256;
        let now = SystemTime::UNIX_EPOCH;
        lab.records.compare("compared", sha256, "https://example.org".into(), now).unwrap();
        lab.records.accept(Path::new("accepted"), now).unwrap();
        fs::write(path("changed"), [1; 1000]).unwrap();
        let served = lab.records.store().open(b"served").unwrap();

        let downloads: Vec<_> = lab.records.downloads();
        assert_eq!(downloads, ["ab12/old", "needed", "served"].map(Arc::from));
        assert_eq!(lab.removed(1), [""; 0], "nobody has said what is needed");
        lab.needed(&["needed"]);
        assert_eq!(lab.removed(1001), [""; 0], "that much cannot be freed");
        assert_eq!(lab.removed(1), ["ab12/old"]);
        assert!(!path("ab12").exists() && path("needed").exists());
        let entry = lab.records.entry("ab12/old").unwrap();
        assert_eq!((entry.file, entry.sha256), (None, sha256), "its hash is remembered");
        drop(served);
        assert_eq!(lab.removed(1), ["served"]);
        assert_eq!(lab.removed(1), [""; 0]);
        for name in ["needed", "changed", "bundle", "by-hand", "compared", "accepted"] {
            assert!(path(name).exists(), "{name}");
        }
    }

    #[test]
    fn files_of_the_spec_before_stay_until_those_of_the_new_one_are_there() {
        let lab = Lab::new();
        lab.install("v1", FETCHED);
        lab.needed(&["v1"]);
        lab.needed(&["v2"]);
        lab.needed(&["v3"]);
        assert_eq!(lab.removed(1), [""; 0]);
        lab.install("v2", FETCHED);
        assert_eq!(lab.removed(1), [""; 0]);
        lab.install("v3", FETCHED);
        assert_eq!(lab.removed(2000), ["v1", "v2"]);
    }

    #[test]
    fn open_file_of_another_process_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "x").unwrap();
        let there = fs::metadata(&path).unwrap();
        let is_open = || open_files(&HashSet::from(["file".into()])).contains(&(there.dev(), there.ino()));
        assert!(!is_open());
        let file = fs::File::open(&path).unwrap();
        let mut reader = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
        assert!(is_open());
        reader.kill().unwrap();
        reader.wait().unwrap();
        assert!(!is_open());
    }
}
