//! The fuzz targets on their corpus: what libFuzzer found worth keeping stays sound, without libFuzzer.
//!
//! The corpus begins with what real firmware and real specs say. `PXED_BLESS=1` writes these seeds again.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../fuzz/src/targets.rs"]
#[allow(unreachable_pub, reason = "they are public in the crate that they are shared with")]
mod targets;

mod common;

#[path = "../src/uki/testing/pe_file.rs"]
mod pe_file;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use common::{captures, client_packets, frames};
use pxe_common::{
    bootp::{MAGIC_COOKIE, field},
    testing::cases,
};

/// A fuzz target.
type Target = fn(&[u8]);

/// The targets by the names that `cargo xtask fuzz` knows them by.
const TARGETS: [(&str, Target); 12] = [
    ("admin_api", targets::admin_api),
    ("bundle_list", targets::bundle_list),
    ("checksum_list", targets::checksum_list),
    ("cluster_spec", targets::cluster_spec),
    ("dhcp_respond", targets::dhcp_respond),
    ("frame_classify", targets::frame_classify),
    ("http_head_range", targets::http_head_range),
    ("kubernetes_answer", targets::kubernetes_answer),
    ("matchbox_json", targets::matchbox_json),
    ("tftp_transfer", targets::tftp_transfer),
    ("uki_image", targets::uki_image),
    ("uki_key", targets::uki_key),
];

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn example(path: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path)).unwrap()
}

/// Returns a byte of length and the bytes.
fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    [&[length], bytes].concat()
}

/// The payload of UDP or TCP over IPv4 in Ethernet, and its destination port.
fn payload(frame: &[u8], protocol: u8) -> Option<(u16, &[u8])> {
    let header = 14 + usize::from(*frame.get(14)? & 0xf) * 4;
    let end = 14 + usize::from(u16::from_be_bytes([*frame.get(16)?, *frame.get(17)?]));
    if frame[12..14] != [8, 0] || frame[23] != protocol {
        return None;
    }
    let ports = frame.get(header..header + 4)?;
    let length = if protocol == 17 { 8 } else { usize::from(*frame.get(header + 12)? >> 4) * 4 };
    Some((u16::from_be_bytes([ports[2], ports[3]]), frame.get(header + length..end)?))
}

/// A DHCP message of the machine that a relay forwarded.
fn relayed(options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; field::OPTIONS];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[field::GIADDR].copy_from_slice(&[10, 99, 0, 7]);
    bytes[field::CHADDR][..6].copy_from_slice(&[0x52, 0x54, 0, 0x99, 0, 1]);
    bytes[field::COOKIE].copy_from_slice(&MAGIC_COOKIE);
    for (code, value) in options {
        bytes.push(*code);
        bytes.extend(counted(value));
    }
    bytes.push(255);
    bytes
}

/// The seeds of each target, by file name.
fn seeds() -> BTreeMap<(&'static str, String), Vec<u8>> {
    let mut seeds = BTreeMap::new();
    for (number, case) in cases().into_iter().enumerate() {
        seeds.insert(("frame_classify", format!("case-{number:02}")), [&[0], &case.frame[..]].concat());
    }
    for (name, choice, options) in [
        ("relay-source-port", 64, &[(53, &[1][..]), (82, &[19, 0])][..]),
        ("relay-source-port-with-a-value", 64, &[(53, &[1]), (82, &[19, 2, 4, 43])]),
        ("relay-cisco", 0, &[(53, &[1]), (82, &[150, 4, 10, 99, 0, 0, 151, 1, 255, 152, 4, 10, 99, 0, 7])]),
        ("relay-cisco-cut-off", 0, &[(53, &[1]), (82, &[152, 4, 10, 99, 0, 7, 150, 4, 10])]),
        ("relay-long", 0, &[(53, &[1]), (60, b"PXEClient"), (61, &[1; 200]), (82, &[3; 255]), (82, &[3; 200])]),
        ("relay-proxy", 1, &[(53, &[1]), (60, b"PXEClient"), (93, &[0, 7]), (82, &[1, 1, 1])]),
        ("relay-inform", 0, &[(53, &[8]), (82, &[1, 1, 1])]),
        ("architectures-odd", 0, &[(53, &[1]), (60, b"PXEClient:Arch:00007"), (93, &[0, 0, 0, 7, 0])]),
        ("class-hex", 0, &[(53, &[1]), (60, b"PXEClient:Arch:0000b:UNDI:003000"), (93, &[0, 11])]),
        ("class-garbage", 0, &[(53, &[1]), (60, b"PXEClient:Arch:\xff\xfe\0:")]),
        ("class-u-boot", 0, &[(53, &[1]), (57, &[2, 64]), (60, b"U-Boot"), (93, &[255, 255])]),
    ] {
        seeds.insert(("dhcp_respond", name.to_owned()), [&[choice], &relayed(options)[..]].concat());
    }
    for capture in captures() {
        let name = capture.file_stem().unwrap().to_str().unwrap().to_owned();
        for packet in client_packets(&capture) {
            let seed = [&[0], &packet.payload[..]].concat();
            seeds.insert(("dhcp_respond", format!("{name}-{:04}", packet.number)), seed);
        }
        for (number, frame) in frames(&capture).iter().enumerate() {
            if let Some((67 | 4011, _)) = payload(frame, 17) {
                let seed = [&[3], &frame[..]].concat();
                seeds.insert(("frame_classify", format!("{name}-{number:04}")), seed);
            }
            if let Some((69, request)) = payload(frame, 17) {
                // The request, a file of 7,000 bytes, an acknowledgement of the options, one of the first block, an alarm.
                let events = [&[4, 0, 4, 0, 0, 4, 0, 4, 0, 1, 255][..]].concat();
                let seed = [&counted(request)[..], &[0x03, 0xe8], &events].concat();
                seeds.insert(("tftp_transfer", format!("{name}-{number:04}")), seed);
            }
            if let Some((_, head)) = payload(frame, 6)
                && [&b"GET "[..], b"HEAD "].iter().any(|method| head.starts_with(method))
            {
                seeds.insert(("http_head_range", format!("{name}-{number:04}")), [&[1, 0, 0], head].concat());
            }
        }
    }
    // 7,000 bytes in windows of four. Of each window, two blocks wait for the disk, which is read; the timer; the request again.
    for mode in ["octet", "netascii"] {
        let request = format!("\0\x01ipxe.efi\0{mode}\0windowsize\x004\0");
        let events = [252, 2, 4, 0, 4, 0, 0, 253, 252, 2, 4, 0, 4, 0, 4, 4, 0, 4, 0, 8, 253, 255, 254, 4, 0, 4, 0, 6];
        let seed = [&counted(request.as_bytes())[..], &[0x03, 0xe8], &events].concat();
        seeds.insert(("tftp_transfer", format!("slow-disk-{mode}")), seed);
    }
    for (name, headers) in [
        ("range", "Range: bytes=100-199\r\n"),
        ("suffix", "Range: bytes=-1\r\nIf-Range: \"7-10000-0\"\r\n"),
        ("conditional", "If-None-Match: W/\"7\", \"8\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        ("body", "Content-Length: 5\r\nExpect: 100-continue\r\n"),
    ] {
        let head = format!("GET /assets/vmlinuz?mac=52-54-00-12-34-56 HTTP/1.1\r\nHost: 10.0.0.1\r\n{headers}\r\n");
        seeds.insert(("http_head_range", name.to_owned()), [&[1, 0, 0], head.as_bytes()].concat());
    }
    for name in ["lab", "raspberry", "two-sites"] {
        seeds.insert(("cluster_spec", name.to_owned()), example(&format!("{name}.yaml")));
    }
    let folder = |name: &str| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/matchbox").join(name);
        let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    for group in folder("groups") {
        for profile in folder("profiles") {
            let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
            let seed = [&fs::read(&group).unwrap()[..], &[0], &fs::read(&profile).unwrap()].concat();
            seeds.insert(("matchbox_json", format!("{}-{}", stem(&group), stem(&profile))), seed);
        }
    }
    for (name, request) in [
        ("machines", "GET /api/v1/machines?stage=never-seen&cluster=lab&limit=2&events=1"),
        ("machine", "GET /api/v1/machines/52:54:00:12:34:56"),
        (
            "hold",
            "POST /api/v1/machines/52-54-00-12-34-56/hold\nhost: 127.0.0.1:8001\nauthorization: Bearer 0123456789abcdef",
        ),
        ("release", "POST /api/v1/machines/52-54-00-12-34-56/release\nauthorization: Bearer 0123456789abcdef"),
        (
            "foreign",
            "POST /api/v1/machines/52-54-00-12-34-56/hold\nhost: 127.0.0.1:8001\norigin: http://127.0.0.1:8001",
        ),
        ("stages", "GET /api/v1/stages"),
        ("events", "GET /api/v1/events?mac=52:54:00:12:34:56"),
        ("metrics", "GET /metrics\naccept: text/plain"),
        ("dashboard", "GET /"),
    ] {
        seeds.insert(("admin_api", name.to_owned()), request.as_bytes().to_vec());
    }
    seeds.extend(fetch_seeds().map(|(target, name, seed)| ((target, name.to_owned()), seed)));
    seeds.extend(kubernetes_seeds().map(|(name, seed)| (("kubernetes_answer", name.to_owned()), seed)));
    seeds.extend(uki_seeds().map(|(target, name, seed)| ((target, name.to_owned()), seed)));
    seeds
}

/// Lists of checksums in every form that is understood, and the list of a bundle.
fn fetch_seeds() -> impl Iterator<Item = (&'static str, &'static str, Vec<u8>)> {
    let (short, long, other) = ("ab".repeat(32), "cd".repeat(64), "ef".repeat(32));
    let lists = [
        ("sha256sum", 0, format!("{short}  vmlinuz-amd64\n{other} *_out/initramfs-amd64.xz\r\n")),
        ("sha512sum", 1, format!("\u{feff}# a comment\n\n{long}  vmlinuz-amd64\n")),
        ("tagged", 0, format!("SHA256 (vmlinuz-amd64) = {short}\n")),
        ("contradiction", 0, format!("{short}  vmlinuz-amd64\n{other}  vmlinuz-amd64\n")),
        ("web-page", 0, "<!DOCTYPE html><title>Sign in</title>".to_owned()),
    ];
    let lists = lists.map(|(name, choice, list)| ("checksum_list", name, [&[choice], list.as_bytes()].concat()));
    let file = |path: &str, rest: &str| format!(r#"{{"path": "{path}", "size": 5, "sha256": "{short}"{rest}}}"#);
    let bundle = |files: &[String]| format!(r#"{{"version": 1, "files": [{}]}}"#, files.join(", ")).into_bytes();
    let source = r#", "proof": "published-checksum", "source": "https://example.org/vmlinuz-amd64""#;
    let bundles = [
        ("empty", bundle(&[])),
        ("two-files", bundle(&[file("vmlinuz-v1.13.0-amd64", source), file("ab12/own.efi", "")])),
        ("twice", bundle(&[file("kernel", ""), file("kernel", "")])),
        ("outside", bundle(&[file("../kernel", "")])),
        ("own-directory", bundle(&[file(".pxed/manifest.json", "")])),
    ];
    lists.into_iter().chain(bundles.map(|(name, list)| ("bundle_list", name, list)))
}

/// Lists, events and refusals of an API server, and what one says that lies.
fn kubernetes_seeds() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    // The kind of TalosMachine, with the status 200 and others.
    const MACHINE: u8 = 3;
    let machine = |name: &str, rest: &str| {
        format!(
            r#"{{"metadata":{{"name":{name},"namespace":"default","uid":"d3b0","resourceVersion":"7","generation":2{rest}}},"spec":{{"endpoint":"10.0.0.11","x":1e308}}}}"#
        )
    };
    let list = |kind: &str, version: &str, items: &[String]| {
        format!(
            r#"{{"kind":"{kind}","metadata":{{"resourceVersion":"{version}","continue":"a/b"}},"items":[{}]}}"#,
            items.join(",")
        )
    };
    let event = |kind: &str, object: &str| format!(r#"{{"type":"{kind}","object":{object}}}"#);
    let annotated = r#","annotations":{"pxed.dev/boot-policy":"hold","odd":7,"kubectl.kubernetes.io/last-applied-configuration":"{}"}"#;
    let conditions = r#"{"metadata":{"name":"a","namespace":"b","deletionTimestamp":"x","creationTimestamp":"y"},"status":{"conditions":[{"type":"A"},7,{"type":5},{"type":"B","observedGeneration":1e99}]}}"#;
    let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
    let deep = format!(r#"{{"metadata":{{"name":"a","namespace":"b","labels":{deep}}},"spec":{deep}}}"#);
    let status = r#"{"kind":"Status","message":"too old resource version: 1\n\u001b[31m","code":410}"#;
    let seeds = [
        ("list", MACHINE, list("TalosMachineList", "7", &[machine("\"a\"", ""), machine("\"b\"", annotated)])),
        ("list-of-another-kind", MACHINE, list("TalosClusterList", "7", &[])),
        ("list-without-version", MACHINE, list("TalosMachineList", "", &[machine("\"a\"", "")])),
        ("list-of-anything", MACHINE, list("TalosMachineList", "7", &["null".into(), "[]".into(), "{}".into()])),
        ("list-of-null", 0, r#"{"kind":"TalosClusterList","metadata":{"resourceVersion":"1"},"items":null}"#.into()),
        ("added", MACHINE, event("ADDED", &machine("\"a\"", annotated))),
        ("name-with-a-path", MACHINE, event("ADDED", &machine("\"../../etc\"", ""))),
        ("name-with-an-escape", MACHINE, event("ADDED", &machine("\"a\\u001b[31m\"", ""))),
        ("name-that-is-none", MACHINE, event("MODIFIED", &machine("7", ""))),
        ("conditions", MACHINE, event("MODIFIED", conditions)),
        ("deep", MACHINE, event("ADDED", &deep)),
        ("deleted", MACHINE, event("DELETED", &machine("\"a\"", ""))),
        ("bookmark", 1, event("BOOKMARK", r#"{"metadata":{"resourceVersion":"9"}}"#)),
        ("error", 2, event("ERROR", status)),
        ("unknown-event", 2, event("GREETING\\n", "{}")),
        ("refusal", 8 | MACHINE, status.to_owned()),
        ("web-page", 24 | MACHINE, "<html>\r\n<title>502 Bad Gateway</title>".to_owned()),
    ];
    seeds.into_iter().map(|(name, choice, answer)| (name, [&[choice], answer.as_bytes()].concat()))
}

/// Small stubs and images, and a key with its certificate.
fn uki_seeds() -> impl Iterator<Item = (&'static str, &'static str, Vec<u8>)> {
    let stub = pe_file::stub();
    let mut with_symbols = stub.clone();
    (with_symbols.section_alignment, with_symbols.symbols) = (0x200, vec![1; 18 * 3]);
    let arm64 = pe_file::PeFile { machine: 0xaa64, first_address: 0x5000, ..stub.clone() };
    let uki = pe_file::talos_uki(&[1; 100], &[2; 600]);
    let images = [
        ("stub", 0, &stub),
        ("stub-symbols", 0, &with_symbols),
        ("stub-arm64", 1, &arm64),
        ("stub-long-kernel", 2, &stub),
        ("factory", 4, &uki),
        ("factory-long", 6, &uki),
    ];
    let images = images.map(|(name, choice, file)| ("uki_image", name, [&[choice], &file.write()[..]].concat()));
    let file =
        |name: &str| fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/uki/testdata").join(name)).unwrap();
    let keys = [("rsa", "db.key", "db.crt"), ("rsa-pkcs1", "pkcs1.key", "expired.crt"), ("ec", "ec.key", "ca.crt")];
    let keys =
        keys.map(|(name, key, certificate)| ("uki_key", name, [&file(key)[..], &[0], &file(certificate)].concat()));
    images.into_iter().chain(keys)
}

#[test]
fn corpus_holds_what_real_clients_and_specs_say() {
    for ((target, name), seed) in seeds() {
        let path = corpus(target).join(&name);
        if std::env::var_os("PXED_BLESS").is_some() {
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(&path, &seed).unwrap();
        }
        let written = fs::read(&path).unwrap_or_default();
        assert!(written == seed, "{} is out of date: run this test with PXED_BLESS=1", path.display());
    }
}

#[test]
fn corpus_is_sound_to_every_target() {
    for (name, target) in TARGETS {
        let mut inputs: Vec<_> = fs::read_dir(corpus(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            // The last line that a failure prints before its own.
            println!("{}", input.display());
            target(&fs::read(&input).unwrap());
        }
    }
}
