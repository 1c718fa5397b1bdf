//! Bundles: made on one host, unpacked on another, and damaged on the way.

use std::{fs, io::Read, path::Path, sync::Arc, time::SystemTime};

use pxe_userspace::{
    artifacts::{Content, Download, Proof, Records, Store},
    fetch::{
        bundle::{self, BundleError, BundleList},
        unbundle::{self, Unbundled},
    },
};

use crate::lab::{kernel, sha256};

/// An artifacts directory.
struct Host {
    directory: tempfile::TempDir,
    records: Records,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::open(Arc::new(Store::new(directory.path().to_owned()))).0;
        Self { directory, records }
    }

    /// Puts a file there, verified by its published checksum.
    fn with(self, path: &str, content: &[u8]) -> Self {
        let new = self.directory.path().join("new");
        fs::write(&new, content).unwrap();
        let sha256 = sha256(content).parse().unwrap();
        let source = Some(format!("https://m.example/{path}").into());
        let download = Download { sha256, proof: Proof::PublishedChecksum, source };
        self.records.install(&new, path, download, SystemTime::now()).unwrap();
        self
    }

    fn content(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.directory.path().join(path)).ok()
    }

    fn bundle(&self, paths: &[&str]) -> Result<Vec<u8>, BundleError> {
        let paths: Vec<Arc<str>> = paths.iter().map(|path| Arc::from(*path)).collect();
        let recorded = |path: &str| self.records.entry(path).map(|entry| (entry.sha256, entry.proof, entry.source));
        let list = BundleList::of(self.records.store(), paths.iter(), recorded)?;
        bundle::write(&list, self.records.store(), Vec::new(), |_| {})
    }

    fn unbundle(&self, bundle: &[u8]) -> Result<Unbundled, BundleError> {
        unbundle::read(bundle, &self.records, |_| Some(Content::Loader), |_, _, _| {})
    }

    /// Returns the names in the directory of partial files.
    fn left(&self) -> usize {
        fs::read_dir(self.directory.path().join(".pxed/partial")).map_or(0, Iterator::count)
    }
}

const KERNEL: &str = "vmlinuz-v1.13.0-amd64";
const CUSTOM: &str =
    "abababababababababababababababababababababababababababababababab/secureboot-uki-v1.13.0-alpha.1-arm64.efi";

fn connected() -> Host {
    let host = Host::new().with(KERNEL, &kernel(700_000, 1)).with(CUSTOM, &kernel(300_000, 2));
    fs::write(host.directory.path().join("shimx64.efi"), kernel(10_000, 3)).unwrap();
    host
}

fn all() -> [&'static str; 3] {
    [KERNEL, CUSTOM, "shimx64.efi"]
}

#[test]
fn other_host_has_the_same_files_verified() {
    let (from, to) = (connected(), Host::new());
    let bundle = from.bundle(&all()).unwrap();
    let done = to.unbundle(&bundle).unwrap();
    assert_eq!(done.taken.len(), 3);
    for path in all() {
        assert_eq!(to.content(path), from.content(path), "{path}");
        assert!(to.records.is_as_recorded(path), "{path}");
        let entry = to.records.entry(path).unwrap();
        assert_eq!(entry.proof, Proof::Bundle);
        let source = from.records.entry(path).and_then(|entry| entry.source);
        assert_eq!(entry.source, source, "{path}");
    }
    // A second time, nothing is to be done.
    let inode =
        |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(to.directory.path().join(path)).unwrap());
    let before = inode(KERNEL);
    let done = to.unbundle(&bundle).unwrap();
    assert_eq!((done.taken.len(), done.there.len(), inode(KERNEL)), (0, 3, before));
    assert_eq!(to.left(), 0);
}

#[test]
fn same_files_give_the_same_bundle_in_any_order() {
    let bundle = connected().bundle(&all()).unwrap();
    let [a, b, c] = all();
    assert!(connected().bundle(&[c, b, a, b]).unwrap() == bundle);
    assert!(!bundle.windows(8).any(|bytes| bytes == b"/tmp/.tm"), "nothing of the host is in it");
}

#[test]
fn files_that_nobody_asked_for_are_left() {
    let to = Host::new();
    let bundle = connected().bundle(&all()).unwrap();
    let done =
        unbundle::read(&bundle[..], &to.records, |path| (path == KERNEL).then_some(Content::Loader), |_, _, _| {})
            .unwrap();
    assert_eq!((done.taken.len(), done.left.len()), (1, 2));
    assert!(to.content(KERNEL).is_some() && to.content("shimx64.efi").is_none());
}

#[test]
fn file_that_was_altered_is_not_bundled() {
    let host = connected();
    fs::write(host.directory.path().join(KERNEL), kernel(700_000, 9)).unwrap();
    let message = host.bundle(&[KERNEL]).unwrap_err().to_string();
    assert!(message.starts_with(KERNEL), "{message}");
    let message = host.bundle(&["nothing"]).unwrap_err().to_string();
    assert!(message.starts_with("nothing cannot be bundled"), "{message}");
}

#[test]
fn bundle_that_is_cut_off_anywhere_is_an_error_and_leaves_no_part() {
    let bundle = connected().bundle(&all()).unwrap();
    let step = bundle.len() / 40;
    for length in (0..bundle.len()).step_by(step).chain([bundle.len() - 1]) {
        let to = Host::new();
        let message = to.unbundle(&bundle[..length]).unwrap_err().to_string();
        assert!(message.contains("cut off") || message.contains("not a bundle"), "{length}: {message}");
        assert_eq!(to.left(), 0, "{length}");
        for path in all() {
            let content = to.content(path);
            assert!(content.is_none() || content == connected().content(path), "{length}: {path}");
        }
    }
}

#[test]
fn bundle_with_a_changed_byte_is_an_error_or_the_same() {
    let bundle = connected().bundle(&all()).unwrap();
    for at in (0..bundle.len()).step_by(bundle.len() / 60) {
        let mut damaged = bundle.clone();
        damaged[at] ^= 0x10;
        let to = Host::new();
        let _ = to.unbundle(&damaged).map_err(|error| error.to_string());
        for path in all() {
            let content = to.content(path);
            assert!(content.is_none() || content == connected().content(path), "byte {at}: {path} is another one");
        }
    }
}

/// A member of an archive that somebody else made.
struct Member<'m>(&'m str, tar::EntryType, &'m [u8]);

fn pack(members: &[Member<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for Member(name, kind, content) in members {
        let mut header = tar::Header::new_ustar();
        // The crate refuses such names itself.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        if *kind == tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn list(files: &[(&str, usize, &str)]) -> Vec<u8> {
    let files: Vec<_> = files
        .iter()
        .map(|(path, size, sha256)| serde_json::json!({ "path": path, "size": size, "sha256": sha256 }))
        .collect();
    serde_json::to_vec(&serde_json::json!({ "version": 1, "files": files })).unwrap()
}

#[test]
fn archive_that_is_no_bundle_is_refused_with_the_reason() {
    use tar::EntryType::{Directory, GNULongName, Link, Regular, Symlink, XHeader};
    let (content, hash) = (&b"content"[..], sha256(b"content"));
    let good = list(&[("kernel", 7, &hash)]);
    let head = || Member("pxed-bundle.json", Regular, &good);
    let lists = |path: &str, size: usize| pack(&[Member("pxed-bundle.json", Regular, &list(&[(path, size, &hash)]))]);
    for (bundle, reason) in [
        (Vec::new(), "not a bundle"),
        (b"not zstd at all".to_vec(), "not a bundle"),
        (zstd::encode_all(&b"not tar"[..], 1).unwrap(), "not a bundle"),
        (pack(&[]), "not a bundle"),
        (pack(&[Member("kernel", Regular, content)]), "begins with \"kernel\""),
        (pack(&[Member("pxed-bundle.json", Symlink, b"")]), "begins with"),
        (pack(&[Member("pxed-bundle.json", Regular, b"{}")]), "not a bundle"),
        (pack(&[Member("pxed-bundle.json", Regular, b"{\"version\":2,\"files\":[]}")]), "version is 2"),
        (lists("../kernel", 7), "not below the artifacts directory"),
        (lists("/etc/kernel", 7), "not below the artifacts directory"),
        (lists(".pxed/manifest.json", 7), "not below the artifacts directory"),
        (lists("kernel", 0), "0 bytes"),
        (lists("kernel", 1 << 40), "bytes"),
        (pack(&[Member("pxed-bundle.json", Regular, &list(&[("a", 7, &hash), ("a", 7, &hash)]))]), "two files"),
        (pack(&[head()]), "kernel and 0 more files of its list are not in it"),
        (pack(&[head(), Member("other", Regular, content)]), "that its list lacks"),
        (pack(&[head(), Member("../kernel", Regular, content)]), "that its list lacks"),
        (pack(&[head(), Member("kernel", Regular, b"conten")]), "has 6 bytes, and 7 in its list"),
        (pack(&[head(), Member("kernel", Regular, b"Content")]), "has the SHA-256"),
        (pack(&[head(), Member("kernel", Symlink, b"")]), "not a file"),
        (pack(&[head(), Member("kernel", Link, b"")]), "not a file"),
        (pack(&[head(), Member("kernel", Directory, b"")]), "not a file"),
        (pack(&[head(), Member("kernel", GNULongName, content)]), "not a file"),
        (pack(&[head(), Member("kernel", XHeader, content)]), "not a file"),
        (
            pack(&[head(), Member("kernel", Regular, content), Member("kernel", Regular, content)]),
            "that its list lacks",
        ),
    ] {
        let to = Host::new();
        let message = to.unbundle(&bundle).unwrap_err().to_string();
        assert!(message.contains(reason), "{message:?} lacks {reason:?}");
        assert_eq!(to.left(), 0, "{message}");
        assert!(!to.directory.path().join("../kernel").exists());
    }
    let to = Host::new();
    to.unbundle(&pack(&[head(), Member("kernel", Regular, content)])).unwrap();
    assert_eq!(to.content("kernel"), Some(content.to_vec()));
}

#[test]
fn bundle_that_never_ends_is_given_up() {
    let good = list(&[("kernel", 7, &sha256(b"content"))]);
    let zeros = vec![0; 64 << 20];
    let members = [
        Member("pxed-bundle.json", tar::EntryType::Regular, &good),
        Member("kernel", tar::EntryType::Regular, b"content"),
    ];
    let archive = zstd::decode_all(&pack(&members)[..]).unwrap();
    let bomb = zstd::encode_all((&archive[..]).chain(&zeros[..]), 1).unwrap();
    let message = Host::new().unbundle(&bomb).unwrap_err().to_string();
    assert!(message.contains("more after its last file"), "{message}");
}

#[test]
fn other_content_than_recorded_is_not_taken() {
    let to = Host::new().with(KERNEL, &kernel(700_000, 7));
    let bundle = connected().bundle(&[KERNEL]).unwrap();
    let message = to.unbundle(&bundle).unwrap_err().to_string();
    assert!(message.contains("cannot be taken") && message.contains("--accept"), "{message}");
    assert_eq!(to.content(KERNEL), Some(kernel(700_000, 7)));
    assert_eq!(to.left(), 0);
}

#[test]
fn file_that_cannot_be_what_its_name_says_is_not_taken() {
    let to = Host::new();
    let bundle = connected().bundle(&[KERNEL]).unwrap();
    let initramfs = |_: &str| Some(Content::Initramfs);
    let message = unbundle::read(&bundle[..], &to.records, initramfs, |_, _, _| {}).unwrap_err().to_string();
    assert!(message.contains("it is not an initramfs"), "{message}");
    assert_eq!((to.content(KERNEL), to.left()), (None, 0));
}

#[test]
fn link_in_the_artifacts_directory_leads_nothing_outside() {
    let to = Host::new();
    let outside = tempfile::tempdir().unwrap();
    let schematic = Path::new(CUSTOM).parent().unwrap();
    std::os::unix::fs::symlink(outside.path(), to.directory.path().join(schematic)).unwrap();
    let message = to.unbundle(&connected().bundle(&[CUSTOM]).unwrap()).unwrap_err().to_string();
    assert!(message.contains("leads out of the artifacts directory"), "{message}");
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
}
