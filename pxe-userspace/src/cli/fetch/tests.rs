use std::fs;

use clap::Parser as _;
use serde::Serialize;
use serde_json::{Value, to_value};

use super::{output::ToText as _, *};
use crate::{
    artifacts::{Download, FetchCommand, Proof, Sha256},
    cluster_spec::Finding,
    model::{architecture::Architecture, image_source::Upstreams, inventory::Inventory, testing::machine},
};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const FETCH: &str = "pxed fetch --cluster a.yaml";

fn command() -> FetchCommand {
    FetchCommand { line: FETCH.to_owned(), ..FetchCommand::default() }
}

/// The content of a kernel for ARM64, as far as anybody looks.
fn kernel() -> Vec<u8> {
    [&[0; 56][..], b"ARM\x64", &[0; 60]].concat()
}

struct Lab {
    directory: tempfile::TempDir,
    records: Records,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { records: open(directory.path(), false).unwrap(), directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn install(&self, name: &str, content: &[u8]) {
        let from = self.path("partial");
        fs::write(&from, content).unwrap();
        let (sha256, _) = Sha256::of(&fs::File::open(&from).unwrap()).unwrap();
        let download = Download { sha256, proof: Proof::PublishedChecksum, source: Some("https://example.org".into()) };
        self.records.install(&from, name, download, NOW).unwrap();
    }

    /// The files of two versions: all of the first are verified, of the second the kernel is by hand and the initramfs is missing.
    fn filled() -> Self {
        let lab = Self::new();
        lab.install("vmlinuz-v1.13.0-arm64", &kernel());
        lab.install("initramfs-v1.13.0-arm64.xz", b"\xfd7zXZ\0");
        lab.install("ipxe-efi-arm64.efi", b"a loader");
        fs::write(lab.path("vmlinuz-v1.14.0-arm64"), kernel()).unwrap();
        lab
    }

    fn spec() -> Spec {
        let machine = |number, version| machine(number, Architecture::Arm64, version, None);
        let inventory = Inventory::new(vec![machine(1, "v1.13.0"), machine(2, "v1.14.0"), machine(3, "v1.14.0")]);
        Spec { plan: artifacts::plan(&inventory, Default::default()), errors: Vec::new() }
    }

    fn plan(&self) -> Report {
        Report::of(&self.records, Self::spec(), &command(), &Upstreams::default())
    }

    fn verify(&self) -> inspect::Report {
        inspect::Report::of(&self.records, Self::spec(), self.directory.path())
    }
}

/// Returns a member of each file in a report, by path.
fn members(report: &impl Serialize, name: &str) -> Vec<(String, String)> {
    let report = to_value(report).unwrap();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let files = report["files"].as_array().unwrap();
    files.iter().map(|file| (text(&file["path"]), text(&file[name]))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(path, value)| (path.to_owned(), value.to_owned())).collect()
}

#[test]
fn plan_tells_the_state_of_each_file_and_where_it_comes_from() {
    let lab = Lab::filled();
    let report = lab.plan();
    assert!(!report.is_complete);
    let expected = [
        ("initramfs-v1.13.0-arm64.xz", "present"),
        ("initramfs-v1.14.0-arm64.xz", "missing"),
        ("ipxe-efi-arm64.efi", "present"),
        ("vmlinuz-v1.13.0-arm64", "present"),
        ("vmlinuz-v1.14.0-arm64", "by-hand"),
    ];
    assert_eq!(members(&report, "state"), pairs(&expected));
    let text = report.to_text();
    let root = lab.directory.path().display();
    let releases = "https://github.com/siderolabs/talos/releases/download";
    for expected in [
        "present  vmlinuz-v1.13.0-arm64\n".to_owned(),
        format!(
            "missing  initramfs-v1.14.0-arm64.xz\n         from {releases}/v1.14.0/initramfs-arm64.xz, verified by its published checksum\n"
        ),
        format!("         curl -fL --create-dirs -o {root}/initramfs-v1.14.0-arm64.xz"),
        "         needed by 02:00:00:00:00:02 and 1 more\n".to_owned(),
        "by hand  vmlinuz-v1.14.0-arm64\n".to_owned(),
        "5 files: 3 present, 1 by hand, 1 missing\n".to_owned(),
        format!("To fetch what is missing: {FETCH}\n"),
    ] {
        assert!(text.contains(&expected), "{expected:?}\n--- not in ---\n{text}");
    }
    assert_eq!(text.matches(FETCH).count(), 1, "{text}");
    lab.install("initramfs-v1.14.0-arm64.xz", b"\xfd7zXZ\0");
    assert!(lab.plan().is_complete);
    let finding =
        Finding { file: Path::new("a.yaml").into(), line: 1, column: 1, field: String::new(), message: "x".into() };
    let with_errors = Spec { errors: vec![finding], ..Lab::spec() };
    assert!(!Report::of(&lab.records, with_errors, &command(), &Upstreams::default()).is_complete);
}

#[test]
fn plan_tells_what_is_stale_and_what_cannot_be_right() {
    let lab = Lab::filled();
    lab.install("initramfs-v1.14.0-arm64.xz", b"\xfd7zXZ\0");
    fs::write(lab.path("vmlinuz-v1.13.0-arm64"), b"another kernel").unwrap();
    fs::write(lab.path("vmlinuz-v1.14.0-arm64"), b"<!DOCTYPE html>").unwrap();
    let report = lab.plan();
    assert!(!report.is_complete);
    let text = report.to_text();
    assert!(text.contains("stale    vmlinuz-v1.13.0-arm64\n         changed since it was verified"), "{text}");
    assert!(text.contains("by hand  vmlinuz-v1.14.0-arm64\n         it is a web page"), "{text}");
    let _ = lab.records.verify("vmlinuz-v1.13.0-arm64");
    let text = lab.plan().to_text();
    assert!(text.contains("is not served: its SHA-256 is") && text.contains("pxed fetch --accept"), "{text}");
    fs::write(lab.path("ipxe-efi-arm64.efi"), "").unwrap();
    assert!(members(&lab.plan(), "state").contains(&("ipxe-efi-arm64.efi".into(), "stale".into())));
}

#[test]
fn verification_reads_everything_and_fails_on_what_is_wrong() {
    let lab = Lab::filled();
    lab.install("initramfs-v1.14.0-arm64.xz", b"\xfd7zXZ\0");
    lab.install("of-another-spec", b"x");
    lab.install("deleted-and-not-needed", b"x");
    fs::remove_file(lab.path("deleted-and-not-needed")).unwrap();
    let report = lab.verify();
    assert!(report.is_right, "{}", report.to_text());
    let expected = [
        ("initramfs-v1.13.0-arm64.xz", "verified"),
        ("initramfs-v1.14.0-arm64.xz", "verified"),
        ("ipxe-efi-arm64.efi", "verified"),
        ("of-another-spec", "verified"),
        ("vmlinuz-v1.13.0-arm64", "verified"),
        ("vmlinuz-v1.14.0-arm64", "by-hand"),
    ];
    assert_eq!(members(&report, "result"), pairs(&expected));

    fs::write(lab.path("vmlinuz-v1.14.0-arm64"), "text").unwrap();
    let text = lab.verify().to_text();
    assert!(text.contains("warning: it is not a Linux kernel") && text.contains("nothing is wrong"), "{text}");

    fs::write(lab.path("of-another-spec"), "y").unwrap();
    let report = lab.verify();
    assert!(!report.is_right && report.to_text().contains("altered  of-another-spec"), "{}", report.to_text());
    let alone = inspect::Report::of(&lab.records, Spec::default(), lab.directory.path());
    assert!(!alone.is_right, "without a spec, too");

    lab.install("of-another-spec", b"x");
    fs::remove_file(lab.path("ipxe-efi-arm64.efi")).unwrap();
    let report = lab.verify();
    assert!(!report.is_right);
    let text = report.to_text();
    assert!(
        text.contains("missing  ipxe-efi-arm64.efi\n         missing (needed by 02:00:00:00:00:01 and 2 more)"),
        "{text}"
    );
}

#[test]
fn accepted_file_is_right_from_then_on() {
    let lab = Lab::filled();
    lab.install("initramfs-v1.14.0-arm64.xz", b"\xfd7zXZ\0");
    fs::write(lab.path("ipxe-efi-arm64.efi"), "an own build").unwrap();
    assert!(!lab.verify().is_right);
    let accept = |paths: &[&str]| {
        let paths: Vec<_> = paths.iter().map(PathBuf::from).collect();
        accept::Report::of(&lab.records, &paths, NOW)
    };
    let report = accept(&["ipxe-efi-arm64.efi", "nothing"]);
    assert!(!report.is_right());
    assert!(report.to_text().contains("not accepted") && report.to_text().contains("no such file"));
    assert!(accept(&["ipxe-efi-arm64.efi"]).is_right());
    assert!(lab.verify().is_right && lab.plan().is_complete);
    assert!(lab.plan().to_text().contains(", accepted by hand"));
}

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

#[test]
fn one_action_is_chosen() {
    let parse = |words: &[&str]| Line::try_parse_from([&["pxed", "--artifacts", "/a"], words].concat());
    assert!(parse(&["--plan", "--cluster", "a", "b"]).is_ok());
    assert_eq!(parse(&["--accept", "a", "b"]).unwrap().args.accept.len(), 2);
    for words in
        [&["--plan", "--verify"][..], &["--verify", "--accept", "a"], &["--accept"], &["--output", "yaml", "--plan"]]
    {
        assert!(parse(words).is_err(), "{words:?}");
    }
}

#[test]
fn plan_without_a_spec_is_an_error_that_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let args =
        Line::try_parse_from(["pxed", "--plan", "--artifacts", directory.path().to_str().unwrap()]).unwrap().args;
    let args = Args { cluster: Vec::new(), config: None, ..args };
    let error = run(args).unwrap_err().to_string();
    assert!(error.contains("--cluster"), "{error}");
    let args = Line::try_parse_from(["pxed", "--verify", "--artifacts", "/nowhere/at-all"]).unwrap().args;
    let error = run(Args { config: None, ..args }).unwrap_err().to_string();
    assert!(error.contains("/nowhere/at-all") && error.contains("--artifacts"), "{error}");
}

#[test]
fn directory_is_created_if_it_is_going_to_be_filled() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("srv/artifacts");
    assert!(open(&root, false).is_err_and(|error| error.to_string().contains("create it")) && !root.exists());
    assert!(open(&root, true).is_ok() && root.is_dir());
    // Whoever needs it reports why it could not be.
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(open(&file.join("artifacts"), true).is_err());
}
