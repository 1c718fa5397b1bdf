use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::symlink,
    time::Duration,
};

use super::*;
use crate::artifacts::Verifier;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

struct Lab {
    directory: tempfile::TempDir,
    records: Arc<Records>,
}

/// A directory with the file `kernel`, which is recorded, and `by-hand`, which is not.
fn lab() -> Lab {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("by-hand"), "by hand").unwrap();
    let lab = Lab { records: open(directory.path()), directory };
    lab.install("kernel", "a kernel").unwrap();
    lab
}

fn open(directory: &Path) -> Arc<Records> {
    let (records, trouble) = Records::open(Arc::new(Store::without_stand_ins(directory.to_owned())));
    assert_eq!(trouble, None);
    Arc::new(records)
}

fn sha256(content: &str) -> Sha256 {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    Sha256::of(&file).unwrap().0
}

impl Lab {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn install(&self, name: &str, content: &str) -> Result<(), ManifestError> {
        let partial = self.path("partial");
        fs::write(&partial, content).unwrap();
        let source = Some("https://example.org/kernel".into());
        let download = Download { sha256: sha256(content), proof: Proof::PublishedChecksum, source };
        self.records.install(&partial, name, download, NOW)
    }

    fn served(&self, name: &str) -> Result<String, Refusal> {
        served(&self.records, name)
    }
}

fn served(records: &Records, name: &str) -> Result<String, Refusal> {
    let mut text = String::new();
    records.store().open(name.as_bytes())?.file.read_to_string(&mut text).unwrap();
    Ok(text)
}

/// Replaces a file by a rename, as mv, rsync and editors do.
fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn file_that_was_changed_is_not_served_before_it_was_read() {
    type Change = fn(&Path);
    let changes: [(&str, Change, bool); 6] = [
        ("replaced by another", |path| replace(path, "b kernel"), false),
        ("replaced by a longer one", |path| replace(path, "a kernel and more"), false),
        ("written to in place", |path| fs::write(path, "b kernel").unwrap(), false),
        ("emptied", |path| fs::write(path, "").unwrap(), false),
        ("replaced by a copy", |path| replace(path, "a kernel"), true),
        (
            "touched",
            |path| File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9)).unwrap(),
            true,
        ),
    ];
    for (name, change, is_same) in changes {
        let lab = lab();
        assert_eq!(lab.served("kernel").as_deref(), Ok("a kernel"));
        change(&lab.path("kernel"));
        assert_eq!(lab.served("kernel"), Err(Refusal::Unverified), "{name}");
        let verdict = lab.records.verify("kernel");
        // Another process, or this one after a restart, comes to the same end.
        let other = open(lab.directory.path());
        if is_same {
            assert_eq!(verdict, Verdict::Verified, "{name}");
            assert_eq!(lab.served("kernel").as_deref(), Ok("a kernel"), "{name}");
            assert_eq!(served(&other, "kernel").as_deref(), Ok("a kernel"), "{name}");
        } else {
            assert!(matches!(verdict, Verdict::Altered { .. }), "{name}: {verdict:?}");
            assert_eq!(lab.served("kernel"), Err(Refusal::Altered), "{name}");
            assert_eq!(served(&other, "kernel"), Err(Refusal::Unverified), "{name}");
            assert_eq!(other.verify("kernel"), verdict, "{name}");
            assert_eq!(served(&other, "kernel"), Err(Refusal::Altered), "{name}");
            // The right file comes back.
            replace(&lab.path("kernel"), "a kernel");
            assert_eq!(lab.served("kernel"), Err(Refusal::Unverified), "{name}");
            assert_eq!(lab.records.verify("kernel"), Verdict::Verified, "{name}");
            assert_eq!(lab.served("kernel").as_deref(), Ok("a kernel"), "{name}");
        }
        assert_eq!(lab.served("by-hand").as_deref(), Ok("by hand"));
    }
}

#[test]
fn content_that_changed_although_stat_says_nothing_is_found_by_reading() {
    let lab = lab();
    let file = File::options().write(true).open(lab.path("kernel")).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"b", 0).unwrap();
    file.set_modified(modified).unwrap();
    assert_eq!(lab.served("kernel").as_deref(), Ok("b kernel"));
    assert!(matches!(lab.records.verify("kernel"), Verdict::Altered { .. }));
    assert_eq!(lab.served("kernel"), Err(Refusal::Altered));
    assert_eq!(served(&open(lab.directory.path()), "kernel"), Err(Refusal::Unverified), "not after a restart, either");
}

#[test]
fn complaint_names_both_ways_out() {
    let lab = lab();
    replace(&lab.path("kernel"), "b kernel");
    let path = lab.path("kernel");
    let complaint = lab.records.verify("kernel").complaint(&path).unwrap();
    for expected in [
        format!("its SHA-256 is {}, and the published checksum says {}", sha256("b kernel"), sha256("a kernel")),
        "Delete it".to_owned(),
        format!("pxed fetch --accept {}", path.display()),
    ] {
        assert!(complaint.contains(&expected), "{complaint:?} lacks {expected:?}");
    }
    assert_eq!(lab.records.accept(&path, NOW).unwrap(), Accepted::File(sha256("b kernel")));
    assert_eq!(lab.served("kernel").as_deref(), Ok("b kernel"));
    assert_eq!(lab.records.verify("kernel"), Verdict::Verified);
    fs::remove_file(&path).unwrap();
    assert_eq!(lab.served("kernel"), Err(Refusal::NotFound));
    assert_eq!(lab.records.verify("kernel"), Verdict::Absent);
}

#[test]
fn only_what_is_there_and_below_the_directory_is_accepted() {
    let lab = lab();
    let accept = |path: &str| lab.records.accept(Path::new(path), NOW);
    let (root, kernel) = (lab.directory.path().display().to_string(), sha256("a kernel"));
    for path in ["kernel", "./kernel", &format!("{root}/kernel"), &format!("{root}//./kernel")] {
        assert_eq!(accept(path).unwrap(), Accepted::File(kernel), "{path}");
    }
    for (path, reason) in [
        ("/etc/hostname", "not a path below"),
        ("../secret", "not a path below"),
        ("", "not a path below"),
        (".pxed/manifest.json", "not a path below"),
        (".PXED/manifest.json", "not a path below"),
        (&root, "not a path below"),
        ("nothing", "there is no such file"),
        (".", "not a path below"),
    ] {
        let error = accept(path).unwrap_err().to_string();
        assert!(error.contains(reason), "{path}: {error}");
    }
    fs::remove_file(lab.path("kernel")).unwrap();
    assert_eq!(accept("kernel").unwrap(), Accepted::Forgotten);
    assert!(accept("kernel").unwrap_err().to_string().contains("no such file"));
    assert_eq!(lab.records.entry("kernel"), None);
}

#[test]
fn file_by_hand_is_compared_with_its_published_checksum() {
    let lab = lab();
    let compare = |name: &str, content: &str| {
        lab.records.compare(name, sha256(content), "https://example.org/by-hand".into(), NOW).unwrap()
    };
    assert_eq!(compare("by-hand", "by hand"), Verdict::Verified);
    assert_eq!(lab.served("by-hand").as_deref(), Ok("by hand"));
    assert_eq!(lab.records.entry("by-hand").unwrap().proof, Proof::PublishedChecksum);

    fs::write(lab.path("other"), "an own build").unwrap();
    assert!(matches!(compare("other", "the release"), Verdict::Altered { .. }));
    assert_eq!(lab.served("other"), Err(Refusal::Altered));
    lab.records.accept(Path::new("other"), NOW).unwrap();
    assert_eq!(compare("other", "the release"), Verdict::Verified, "a person has accepted it");
    assert_eq!(lab.served("other").as_deref(), Ok("an own build"));

    assert_eq!(compare("absent", "the release"), Verdict::Absent);
    assert_eq!(lab.records.entry("absent"), None);
}

/// Compares `own`, which a person built, with the checksum of the release.
fn contradicted() -> Lab {
    let lab = lab();
    fs::write(lab.path("own"), "an own build").unwrap();
    assert!(matches!(compare_own(&lab.records), Verdict::Altered { .. }));
    lab
}

fn compare_own(records: &Records) -> Verdict {
    records.compare("own", sha256("the release"), "https://example.org/own".into(), NOW).unwrap()
}

#[test]
fn file_that_contradicts_its_checksum_stays_a_persons_however_often_it_is_read() {
    let lab = contradicted();
    for round in 0..3 {
        // Each time a process of its own, which knows what the manifest says.
        let records = open(lab.directory.path());
        assert!(records.is_a_persons("own"), "{round}");
        assert!(matches!(records.verify("own"), Verdict::Altered { .. }), "{round}");
        assert!(records.is_a_persons("own"), "{round}");
        assert!(matches!(compare_own(&records), Verdict::Altered { .. }), "{round}");
        assert!(records.is_a_persons("own"), "{round}");
        replace(&lab.path("own"), &format!("own build {round}"));
    }
    fs::remove_file(lab.path("own")).unwrap();
    assert!(!lab.records.is_a_persons("own"), "there is nothing to keep");
    lab.install("own", "the release").unwrap();
    replace(&lab.path("own"), "damaged");
    assert!(!lab.records.is_a_persons("own"), "a download that was damaged");
}

#[test]
fn right_file_in_the_place_of_one_that_contradicts_ends_the_contradiction() {
    let lab = contradicted();
    replace(&lab.path("own"), "the release");
    let records = open(lab.directory.path());
    assert_eq!(records.verify("own"), Verdict::Verified);
    assert_eq!(served(&records, "own").as_deref(), Ok("the release"));
    assert!(!records.entry("own").unwrap().contradicts);
    let lab = contradicted();
    replace(&lab.path("own"), "the release");
    assert_eq!(compare_own(&lab.records), Verdict::Verified);
    assert!(!lab.records.entry("own").unwrap().contradicts);
}

#[test]
fn accepted_file_that_was_changed_is_a_persons() {
    let lab = contradicted();
    lab.records.accept(Path::new("own"), NOW).unwrap();
    assert!(!lab.records.entry("own").unwrap().contradicts);
    replace(&lab.path("own"), "the next own build");
    let records = open(lab.directory.path());
    assert!(matches!(records.verify("own"), Verdict::Altered { .. }));
    assert!(records.is_a_persons("own"));
    fs::remove_file(lab.path("own")).unwrap();
    assert!(!records.is_a_persons("own"));
    // Nothing is recorded of these.
    assert!(records.is_a_persons("by-hand"));
    fs::write(lab.path("by-hand"), "").unwrap();
    assert!(!records.is_a_persons("by-hand"), "an empty file is nothing to keep");
    assert!(!records.is_a_persons("kernel") && !records.is_a_persons("absent"));
}

#[test]
fn running_transfer_ends_with_the_old_bytes() {
    let lab = lab();
    let mut running = lab.records.store().open(b"kernel").unwrap();
    lab.install("kernel", "another kernel").unwrap();
    assert_eq!(lab.served("kernel").as_deref(), Ok("another kernel"), "served without being read again");
    let mut text = String::new();
    running.file.read_to_string(&mut text).unwrap();
    assert!(running.is_unchanged() && text == "a kernel", "{text}");
    assert!(!lab.path("partial").exists());
    lab.install("new/directory/kernel", "deep").unwrap();
    assert_eq!(lab.served("new/directory/kernel").as_deref(), Ok("deep"));
}

#[test]
fn failed_installation_leaves_the_old_file_and_its_record() {
    let lab = lab();
    let before = lab.records.manifest();
    fs::create_dir(lab.path("directory")).unwrap();
    fs::write(lab.path("directory/file"), "").unwrap();
    for name in ["directory", "kernel/below-a-file"] {
        let error = lab.install(name, "a kernel").unwrap_err().to_string();
        assert!(error.contains(&lab.path(name).display().to_string()), "{error}");
    }
    assert_eq!(lab.records.manifest(), before);
    assert_eq!(lab.served("kernel").as_deref(), Ok("a kernel"));
}

#[test]
fn links_lead_around_no_record() {
    let lab = lab();
    fs::create_dir(lab.path("sub")).unwrap();
    symlink("../kernel", lab.path("sub/relative")).unwrap();
    symlink(lab.path("kernel"), lab.path("absolute")).unwrap();
    symlink(".", lab.path("here")).unwrap();
    let names = ["kernel", "sub/relative", "absolute", "here/kernel", "//here/./here/kernel"];
    for name in names {
        assert_eq!(lab.served(name).as_deref(), Ok("a kernel"), "{name}");
    }
    replace(&lab.path("kernel"), "b kernel");
    for name in names {
        assert_eq!(lab.served(name), Err(Refusal::Unverified), "{name}");
    }
    let _ = lab.records.verify("kernel");
    for name in names {
        assert_eq!(lab.served(name), Err(Refusal::Altered), "{name}");
    }
    // A link in the place of the file makes it another one, whatever it leads to.
    fs::remove_file(lab.path("kernel")).unwrap();
    symlink("by-hand", lab.path("kernel")).unwrap();
    assert_eq!(lab.served("kernel"), Err(Refusal::Unverified));
    assert!(matches!(lab.records.verify("kernel"), Verdict::Altered { .. }));
    assert_eq!(lab.served("by-hand").as_deref(), Ok("by hand"));
}

#[test]
fn own_directory_is_never_served() {
    let lab = lab();
    fs::create_dir_all(lab.path(".pxed/partial")).unwrap();
    fs::write(lab.path(".pxed/partial/kernel"), "half a kernel").unwrap();
    fs::create_dir(lab.path("sub")).unwrap();
    symlink(".pxed/manifest.json", lab.path("file-link")).unwrap();
    symlink(lab.path(".pxed"), lab.path("directory-link")).unwrap();
    symlink("../.pxed", lab.path("sub/up")).unwrap();
    symlink("..", lab.path("sub/root")).unwrap();
    for name in [
        ".pxed/manifest.json",
        "/.pxed/manifest.json",
        "//.pxed//manifest.json",
        "./.pxed/./manifest.json",
        "\\.pxed\\manifest.json",
        ".\\.pxed/lock",
        ".PXED/manifest.json",
        ".Pxed/lock",
        ".pxed/partial/kernel",
        ".pxed",
        "file-link",
        "directory-link/manifest.json",
        "sub/up/manifest.json",
        "sub/root/.pxed/manifest.json",
        "sub/root/directory-link/partial/kernel",
    ] {
        assert_eq!(lab.served(name), Err(Refusal::NotFound), "{name}");
    }
    fs::write(lab.path(".pxed.efi"), "another name").unwrap();
    assert_eq!(lab.served(".pxed.efi").as_deref(), Ok("another name"));
}

#[test]
fn records_of_another_process_are_noticed() {
    let lab = lab();
    let other = open(lab.directory.path());
    assert_eq!(lab.records.refresh(), None);
    lab.install("initramfs", "an initramfs").unwrap();
    replace(&lab.path("initramfs"), "something else");
    assert_eq!(served(&other, "initramfs").as_deref(), Ok("something else"), "it counts as put there by hand so far");
    assert_eq!(other.refresh(), None);
    assert_eq!(served(&other, "initramfs"), Err(Refusal::Unverified));
    assert!(matches!(other.verify("initramfs"), Verdict::Altered { .. }));
    lab.records.accept(Path::new("initramfs"), NOW).unwrap();
    assert_eq!(other.refresh(), None);
    assert_eq!(served(&other, "initramfs").as_deref(), Ok("something else"));
    // Neither has lost what the other wrote.
    assert_eq!(other.manifest(), lab.records.manifest());
    assert_eq!(other.manifest().files.len(), 2);
}

#[test]
fn verification_does_not_undo_what_another_process_has_accepted_meanwhile() {
    let lab = lab();
    let other = open(lab.directory.path());
    replace(&lab.path("kernel"), "b kernel");
    let before = other.entry("kernel").unwrap();
    let (found, identity) = other.read("kernel").unwrap();
    lab.records.accept(Path::new("kernel"), NOW).unwrap();
    let altered = Entry { file: None, ..before.clone() };
    other.conclude("kernel", (found, identity), Some(&before), &altered).unwrap();
    assert_eq!(served(&other, "kernel").as_deref(), Ok("b kernel"));
    assert_eq!(other.entry("kernel").unwrap().proof, Proof::Accepted);
}

#[test]
fn damaged_manifest_is_told_once_and_set_aside() {
    let lab = lab();
    let manifest = lab.path(".pxed/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    let trouble = lab.records.refresh().unwrap();
    let aside = fs::read_dir(lab.path(".pxed")).unwrap().map(|entry| entry.unwrap().path());
    let aside = aside.into_iter().find(|path| path.display().to_string().contains("bad-")).unwrap();
    for expected in
        [manifest.display().to_string(), aside.display().to_string(), "is damaged".into(), "pxed fetch".into()]
    {
        assert!(trouble.contains(&expected), "{trouble:?} lacks {expected:?}");
    }
    assert_eq!(lab.records.refresh(), None);
    replace(&lab.path("kernel"), "b kernel");
    assert_eq!(lab.served("kernel").as_deref(), Ok("b kernel"), "as if a person had put it there");
    lab.install("kernel", "c kernel").unwrap();
    assert_eq!(open(lab.directory.path()).manifest().files.len(), 1);

    fs::write(&manifest, "{").unwrap();
    let (records, trouble) = Records::open(Arc::clone(lab.records.store()));
    assert!(trouble.unwrap().contains("is damaged") && records.manifest() == Manifest::default());
}

#[test]
fn directory_that_cannot_be_written_to_serves_what_was_verified() {
    let lab = lab();
    fs::remove_dir_all(lab.path(".pxed")).unwrap();
    fs::write(lab.path(".pxed"), "no directory").unwrap();
    replace(&lab.path("kernel"), "a kernel");
    assert_eq!(lab.served("kernel"), Err(Refusal::Unverified));
    assert_eq!(lab.records.verify("kernel"), Verdict::Verified);
    assert_eq!(lab.served("kernel").as_deref(), Ok("a kernel"));
    replace(&lab.path("kernel"), "b kernel");
    let error = lab.records.verify("kernel");
    assert!(matches!(&error, Verdict::Failed(reason) if reason.contains(".pxed")), "{error:?}");
    assert_eq!(lab.served("kernel"), Err(Refusal::Altered));
}

#[test]
fn need_is_recorded_once_an_hour() {
    let lab = lab();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let needed = || lab.records.entry("kernel").unwrap().needed;
    for (now, expected) in [(3599, 0), (3600, 3600), (7199, 3600), (90_000, 90_000)] {
        lab.records.needed(&["kernel", "unrecorded"], at(now)).unwrap();
        assert_eq!(needed(), expected);
    }
    assert_eq!(open(lab.directory.path()).entry("kernel").unwrap().needed, 90_000);
    assert_eq!(lab.records.entry("unrecorded"), None);
}

/// Waits until a file is served, or refused for this reason.
fn wait_for(records: &Records, name: &str, wanted: &Result<String, Refusal>) {
    let mut changes = records.subscribe();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let wait = async {
            while served(records, name) != *wanted {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    });
}

#[test]
fn request_wakes_the_verification() {
    let lab = lab();
    let _verifier = Verifier::start(Arc::clone(&lab.records)).unwrap();
    replace(&lab.path("kernel"), "a kernel");
    wait_for(&lab.records, "kernel", &Ok("a kernel".into()));
    replace(&lab.path("kernel"), "b kernel");
    wait_for(&lab.records, "kernel", &Err(Refusal::Altered));
    replace(&lab.path("kernel"), "a kernel");
    wait_for(&lab.records, "kernel", &Ok("a kernel".into()));
}

#[test]
fn verification_begins_with_what_was_changed_before_the_start() {
    let lab = lab();
    replace(&lab.path("kernel"), "a kernel");
    let records = open(lab.directory.path());
    let mut changes = records.subscribe();
    let _verifier = Verifier::start(Arc::clone(&records)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let changed = async { tokio::time::timeout(Duration::from_secs(20), changes.changed()).await.unwrap() };
    runtime.block_on(changed).unwrap();
    assert_eq!(served(&records, "kernel").as_deref(), Ok("a kernel"), "nobody had asked for it");
}
