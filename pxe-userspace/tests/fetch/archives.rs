//! iPXE's signed builds, which are files in an archive, and its shim, which is none.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write as _},
    process::{Command, Output},
};

use flate2::{Compression, write::GzEncoder};
use pxe_userspace::{
    artifacts::{Content, Proof},
    fetch::{Job, Progress},
    model::{architecture::Architecture, ipxe_shim::IpxeShim},
};
use tar::EntryType;

use crate::{
    lab::{Lab, SHA256SUM, kernel, sha256},
    server::{Behaviour, Server},
};

/// The paths at the server.
pub const ARCHIVE: &str = "/releases/ipxe/releases/latest/download/ipxeboot.tar.gz";
const SHIM: &str = "/releases/shim/releases/latest/download/ipxe-shimx64.efi";

pub const MEMBER: &str = "ipxeboot/x86_64-sb/ipxe.efi";

/// Returns an archive as `tar czf` makes it, of these members.
pub fn archive(members: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        if *kind == EntryType::Symlink {
            header.set_link_name("shimx64.efi").unwrap();
        }
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// Returns the archive of a release, laid out as iPXE's is.
fn release() -> Vec<u8> {
    use EntryType::{Directory, Regular, Symlink};
    let [x64, x64_snp, arm64] = [1, 2, 3].map(|seed| kernel(300_000, seed));
    archive(&[
        ("ipxeboot/", Directory, b""),
        ("ipxeboot/x86_64/ipxe.efi", Regular, b"not signed"),
        ("ipxeboot/x86_64-sb/ipxe-shim.efi", Symlink, b""),
        (MEMBER, Regular, &x64),
        ("ipxeboot/x86_64-sb/snponly.efi", Regular, &x64_snp),
        ("ipxeboot/arm64-sb/ipxe.efi", Regular, &arm64),
    ])
}

/// Returns the job for the program that a shim starts.
pub fn second_stage(shim: &str) -> Job {
    let shim = IpxeShim::of(shim, Architecture::Amd64).unwrap();
    Job { path: shim.second_stage.as_str().into(), source: shim.second_stage_source(), content: Content::Loader }
}

#[tokio::test]
async fn second_stage_is_taken_out_of_the_archive() {
    let server = Server::start();
    server.redirect(ARCHIVE, "/storage/object?X-Signature=secret");
    server.put("/storage/object", &release());
    let lab = Lab::new(&server);
    for (shim, seed) in [("x64/ipxe-shimx64.efi", 1), ("snponly-shimx64.efi", 2), ("arm/ipxe-shimaa64.efi", 3)] {
        let (job, content) = (second_stage(shim), kernel(300_000, seed));
        let fetched = lab.fetch(&job).await.unwrap();
        assert_eq!((fetched.length, fetched.sha256.to_string()), (300_000, sha256(&content)), "{shim}");
        assert_eq!((fetched.proof, &*fetched.url), (Proof::FirstDownload, &*server.url(ARCHIVE)), "{shim}");
        assert_eq!(lab.content(&job), Some(content), "{shim}");
        assert!(lab.records().is_as_recorded(&job.path), "{shim}");
    }
    assert_eq!(lab.left(), [""; 0]);
}

#[tokio::test]
async fn archive_may_name_its_files_with_a_dot_and_have_several_gzip_members() {
    let server = Server::start();
    let content = kernel(100_000, 1);
    let whole = archive(&[(&format!("./{MEMBER}"), EntryType::Regular, &content)]);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&whole[..]).read_to_end(&mut plain).unwrap();
    let packed = |bytes: &[u8]| {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    };
    server.put(ARCHIVE, &[packed(&plain[..1000]), packed(&plain[1000..])].concat());
    let (lab, job) = (Lab::new(&server), second_stage("ipxe-shimx64.efi"));
    lab.fetch(&job).await.unwrap();
    assert_eq!(lab.content(&job), Some(content));
}

#[tokio::test]
async fn archive_is_resumed_and_then_deleted() {
    let server = Server::start();
    // Hashes do not pack.
    let noise: Vec<u8> = (0..100_000_u32).flat_map(|index| sha256(&index.to_le_bytes()).into_bytes()).collect();
    let archive = archive(&[("noise", EntryType::Regular, &noise), (MEMBER, EntryType::Regular, &kernel(5_000, 1))]);
    assert!(archive.len() > 3_000_000, "{}", archive.len());
    server.put(ARCHIVE, &archive);
    server.once(ARCHIVE, [Behaviour::CutAfter(2_000_000)]);
    let (lab, job) = (Lab::new(&server), second_stage("ipxe-shimx64.efi"));
    lab.fetch(&job).await.unwrap();
    assert_eq!(lab.content(&job), Some(kernel(5_000, 1)));
    let ranges: Vec<_> = server.requests(ARCHIVE).iter().map(|it| it.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=2000000-".to_owned())]);
    assert_eq!(lab.left(), [""; 0]);
    let last = lab.steps.lock().unwrap().last().cloned();
    assert!(matches!(last, Some(Progress::Receiving { done, total: Some(total) }) if done == total));
}

#[tokio::test]
async fn archive_that_has_no_such_file_or_is_none_is_told_and_not_kept() {
    use EntryType::{Directory, Regular, Symlink};
    let content = kernel(300_000, 1);
    let whole = archive(&[(MEMBER, Regular, &content)]);
    let mut altered = whole.clone();
    // The checksum at the end.
    let at = altered.len() - 6;
    altered[at] ^= 1;
    let mut huge = tar::Header::new_gnu();
    huge.set_path(MEMBER).unwrap();
    huge.set_size(1 << 40);
    huge.set_cksum();
    let mut lies = GzEncoder::new(Vec::new(), Compression::fast());
    lies.write_all(huge.as_bytes()).unwrap();
    let mut cut_member = tar::Header::new_gnu();
    cut_member.set_path(MEMBER).unwrap();
    cut_member.set_size(5_000);
    cut_member.set_cksum();
    let mut ends = GzEncoder::new(Vec::new(), Compression::fast());
    ends.write_all(cut_member.as_bytes()).unwrap();
    ends.write_all(&[7; 1_000]).unwrap();
    for (archive, reason) in [
        (archive(&[("ipxeboot/x86_64/ipxe.efi", Regular, &content)]), "there is no such file in it"),
        (archive(&[]), "there is no such file in it"),
        (archive(&[(MEMBER, Symlink, b"")]), "is no file"),
        (archive(&[(MEMBER, Directory, b"")]), "is no file"),
        (archive(&[(MEMBER, Regular, &content), (MEMBER, Regular, &content)]), "two files have this name"),
        (archive(&[(MEMBER, Regular, b"")]), "it is empty"),
        (archive(&[(MEMBER, Regular, b"<html>")]), "web page"),
        (content.clone(), "no .tar.gz, or damaged"),
        (whole[..whole.len() / 2].to_vec(), "no .tar.gz, or damaged"),
        (altered, "no .tar.gz, or damaged"),
        (lies.finish().unwrap(), "1099511627776 bytes, more than"),
        (ends.finish().unwrap(), "1000 of its 5000 bytes"),
    ] {
        let server = Server::start();
        server.put(ARCHIVE, &archive);
        let (lab, job) = (Lab::new(&server), second_stage("ipxe-shimx64.efi"));
        let message = lab.failure(&job).await;
        assert!(message.contains(reason) && message.contains(&server.url(ARCHIVE)), "{message:?} lacks {reason:?}");
        if !["it is empty", "web page"].contains(&reason) {
            assert!(message.contains(MEMBER) && message.contains("--ipxe-releases-url"), "{message}");
        }
        assert_eq!((lab.pauses(), lab.left()), (0, Vec::new()), "another attempt would bring the same: {message}");
    }
}

#[tokio::test]
async fn archive_without_an_end_is_given_up() {
    let server = Server::start();
    let zeros = vec![0; 1 << 20];
    let fill = |packer: &mut GzEncoder<Vec<u8>>| (0..140).for_each(|_| packer.write_all(&zeros).unwrap());
    let mut before = tar::Header::new_gnu();
    before.set_path("ipxeboot/large").unwrap();
    before.set_size(1 << 40);
    before.set_cksum();
    // A long name is read into memory by who looks for it.
    let mut name = tar::Header::new_gnu();
    name.set_path("././@LongLink").unwrap();
    name.set_entry_type(EntryType::GNULongName);
    name.set_size(1 << 40);
    name.set_cksum();
    let mut bombs: Vec<_> = [before, name]
        .into_iter()
        .map(|header| {
            let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
            bomb.write_all(header.as_bytes()).unwrap();
            fill(&mut bomb);
            bomb.finish().unwrap()
        })
        .collect();
    // After what is looked for.
    let mut after = GzEncoder::new(Vec::new(), Compression::fast());
    fill(&mut after);
    bombs.push([archive(&[(MEMBER, EntryType::Regular, &kernel(5_000, 1))]), after.finish().unwrap()].concat());
    for bomb in bombs {
        assert!(bomb.len() < 2_000_000);
        server.put(ARCHIVE, &bomb);
        let lab = Lab::new(&server);
        let message = lab.failure(&second_stage("ipxe-shimx64.efi")).await;
        assert!(message.contains("unpacks to more than"), "{message}");
        assert_eq!((lab.pauses(), lab.left()), (0, Vec::new()));
    }
}

#[tokio::test]
async fn new_release_is_refused_while_the_recorded_file_stays() {
    let server = Server::start();
    server.put(ARCHIVE, &archive(&[(MEMBER, EntryType::Regular, &kernel(5_000, 1))]));
    let (lab, job) = (Lab::new(&server), second_stage("ipxe-shimx64.efi"));
    lab.fetch(&job).await.unwrap();
    // Another archive with the same file is welcome.
    let same = archive(&[("more", EntryType::Regular, b"more"), (MEMBER, EntryType::Regular, &kernel(5_000, 1))]);
    server.put(ARCHIVE, &same);
    lab.fetch(&job).await.unwrap();
    server.put(ARCHIVE, &archive(&[(MEMBER, EntryType::Regular, &kernel(5_000, 2))]));
    let message = lab.fetch(&job).await.unwrap_err().to_string();
    assert!(message.contains("now has other bytes") && message.contains(&sha256(&kernel(5_000, 2))), "{message}");
    assert_eq!((lab.content(&job), lab.left()), (Some(kernel(5_000, 1)), Vec::new()));
}

/// A spec of one machine with the shim as its loader.
const SPEC: &str = "\
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata: {name: lab, annotations: {pxed.dev/loader: x64/snponly-shimx64.efi}}
spec:
  pxeServerSpec: {address: 10.99.0.1, interface: br0}
  controlPlane:
    version: v1.13.0
    mode: metal
    kubeVersion: v1.35.0
    endpoint: https://10.99.0.168:6443
    metalSpec:
      machineSpec:
        installDisk: /dev/sda
        meta: {subnet: 24, gateway: 10.99.0.254, dnsServers: [10.99.0.254]}
      machines:
        - address: 10.99.0.168
          pxeClientSpec: {macAddress: '52:54:00:99:00:01', cpuArchitecture: amd64}
";

#[test]
fn spec_and_an_empty_directory_are_enough_and_a_bundle_carries_both_programs() {
    let server = Server::start();
    let (linux, initramfs, shim) = (kernel(300_000, 1), b"\xfd7zXZ\0\0\0", kernel(90_000, 9));
    let lines = [("vmlinuz-amd64", sha256(&linux)), ("initramfs-amd64.xz", sha256(initramfs))]
        .map(|(n, h)| format!("{h}  {n}\n"));
    server.put(SHA256SUM, lines.concat().as_bytes());
    server.put("/talos/v1.13.0/vmlinuz-amd64", &linux);
    server.put("/talos/v1.13.0/initramfs-amd64.xz", initramfs);
    server.put("/ipxe/undionly.kpxe", b"a loader for a BIOS");
    server.put(SHIM, &shim);
    server.put(ARCHIVE, &release());
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("lab.yaml"), SPEC).unwrap();
    for name in ["here", "there"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let pxed = |artifacts: &str, words: &[&str]| {
        let url = |name: &str| server.url(&format!("/{name}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_pxed"));
        command.current_dir(directory.path()).env_clear().env("PXED_IPXE_RELEASES_URL", url("releases"));
        command.args(["fetch", "lab.yaml", "--artifacts", artifacts]).args(words);
        command.args(["--talos-url", &url("talos"), "--ipxe-url", &url("ipxe")]);
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
    };
    let content = |path: &str| fs::read(directory.path().join(path)).ok();
    let (_, text) = pxed("here", &["--plan"]);
    for part in [
        "missing  x64/snponly-shimx64.efi".to_owned(),
        format!("from {}, verified by HTTPS", server.url(SHIM)),
        "missing  x64/snponly.efi".to_owned(),
        format!("from {} (ipxeboot/x86_64-sb/snponly.efi), verified by HTTPS", server.url(ARCHIVE)),
    ] {
        assert!(text.contains(&part), "{part}\n--- not in ---\n{text}");
    }
    let (code, text) = pxed("here", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(content("here/x64/snponly-shimx64.efi").as_ref(), Some(&shim));
    assert_eq!(content("here/x64/snponly.efi"), Some(kernel(300_000, 2)));
    let (code, text) = pxed("here", &["--plan"]);
    assert_eq!((code, text.contains("missing")), (Some(0), false), "{text}");
    let before = server.request_count();
    let (code, text) = pxed("here", &["--offline", "--bundle", "lab.tar.zst"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = pxed("there", &["--offline", "--from", "lab.tar.zst"]);
    assert_eq!((code, server.request_count()), (Some(0), before), "{text}");
    let paths = ["x64/snponly-shimx64.efi", "x64/snponly.efi"];
    let here: BTreeSet<_> = paths.map(|path| content(&format!("here/{path}"))).into();
    assert_eq!(paths.map(|path| content(&format!("there/{path}"))).into_iter().collect::<BTreeSet<_>>(), here);
    // A directory for both architectures.
    let both = SPEC.replace("x64/snponly-shimx64.efi", "'{uefi-x64: ipxe-shimx64.efi, uefi-arm64: ipxe-shimaa64.efi}'")
        + "        - address: 10.99.0.169
          pxeClientSpec: {macAddress: '52:54:00:99:00:02', cpuArchitecture: arm64}\n";
    fs::write(directory.path().join("lab.yaml"), both).unwrap();
    let (_, text) = pxed("here", &["--plan"]);
    assert!(text.contains("warning: ") && text.contains("a directory for each architecture"), "{text}");
}
