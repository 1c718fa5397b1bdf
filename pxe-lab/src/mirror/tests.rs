use std::{io::Read as _, net::TcpStream, thread};

use super::*;

const SOON: Duration = Duration::from_secs(10);
const KERNEL: &str = "/talos/v1.13.0/vmlinuz-amd64";

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

/// Returns the status, and the content as far as it came.
fn get(url: &str, range: Option<&str>) -> (u16, Vec<u8>) {
    let mut request = agent().get(url);
    if let Some(range) = range {
        request = request.header("Range", range);
    }
    let mut response = request.call().unwrap();
    let mut content = Vec::new();
    let _ = response.body_mut().as_reader().read_to_end(&mut content);
    (response.status().as_u16(), content)
}

fn mirror() -> Mirror {
    let mirror = Mirror::start().unwrap();
    mirror.release("v1.13.0", "vmlinuz-amd64", "0123456789").unwrap();
    mirror
}

#[test]
fn release_is_published_with_its_checksums_and_redirected_to_storage() {
    let mirror = mirror();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "initramfs").unwrap();
    mirror.release("v1.13.0", "initramfs-amd64.xz", file.path()).unwrap();
    let url = mirror.url(KERNEL);
    assert_eq!(get(&url, None), (200, b"0123456789".to_vec()));
    assert_eq!(get(&url, Some("bytes=7-")), (206, b"789".to_vec()));
    assert_eq!(get(&url, Some("bytes=10-")).0, 416);
    assert_eq!(get(&mirror.url("/talos/v1.13.0/vmlinuz-arm64"), None).0, 404);
    // The sums are those of sha256sum(1).
    let sums = String::from_utf8(get(&mirror.url("/talos/v1.13.0/sha256sum.txt"), None).1).unwrap();
    let lines: Vec<_> = sums.lines().collect();
    assert_eq!(
        lines,
        [
            "9752c38a9065f7646ffaac3621d1fa2f7dbe726c7e12e511eac7fdb14d4e2a24  initramfs-amd64.xz",
            "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882  vmlinuz-amd64"
        ]
    );
    let gets = mirror.gets(KERNEL);
    assert_eq!(gets.iter().map(|request| request.status).collect::<Vec<_>>(), [200, 206, 416]);
    let redirected =
        mirror.requests().iter().filter(|request| request.path == KERNEL && request.is_redirected()).count();
    assert_eq!(redirected, 3);
    mirror.remove(KERNEL);
    assert_eq!(get(&url, None).0, 404);
}

#[test]
fn fault_hits_the_requests_that_it_is_meant_for() {
    let mirror = mirror();
    let url = mirror.url(KERNEL);
    mirror.fail_times(KERNEL, Fault::Status(503), 2);
    assert_eq!([503, 503, 200], [(); 3].map(|()| get(&url, None).0));
    mirror.fail(KERNEL, Fault::Truncate { after: 4 });
    assert_eq!(get(&url, None), (200, b"0123".to_vec()));
    mirror.fail(KERNEL, Fault::Length(20));
    assert_eq!(get(&url, None), (200, b"0123456789".to_vec()));
    mirror.fail(KERNEL, Fault::Altered { at: 1 });
    assert_eq!(get(&url, None), (200, b"0023456789".to_vec()));
    mirror.fail(KERNEL, Fault::NoRange);
    assert_eq!(get(&url, Some("bytes=4-")), (200, b"0123456789".to_vec()));
    mirror.fail(KERNEL, Fault::WrongRange);
    assert_eq!(get(&url, Some("bytes=4-")), (206, b"345678".to_vec()));
    mirror.fail(KERNEL, Fault::Chunked);
    assert_eq!(get(&url, None), (200, b"0123456789".to_vec()));
    mirror.fail(KERNEL, Fault::Html);
    assert!(get(&url, None).1.starts_with(b"<!DOCTYPE html>"));
    mirror.fail(KERNEL, Fault::Slow { bytes_per_second: 100 });
    assert_eq!(get(&url, None), (200, b"0123456789".to_vec()));
    for broken in [Fault::RedirectLoop, Fault::Close, Fault::Garbage] {
        mirror.fail(KERNEL, broken.clone());
        assert!(agent().get(&url).call().is_err(), "{broken:?}");
    }
    mirror.heal(KERNEL);
    assert_eq!(get(&url, None).0, 200);
}

#[test]
fn stalled_answer_goes_on_when_the_fault_is_taken_away() {
    let mirror = mirror();
    mirror.fail(KERNEL, Fault::Stall { after: 4 });
    let url = mirror.url(KERNEL);
    let client = thread::spawn(move || get(&url, None));
    let stalled = |requests: &[Request]| requests.iter().find(|request| request.stalled).map(|request| request.sent);
    assert_eq!(mirror.wait_for("a stall", SOON, stalled).unwrap(), 4);
    mirror.heal(KERNEL);
    assert_eq!(client.join().unwrap(), (200, b"0123456789".to_vec()));
    assert_eq!(mirror.most_at_once(), 1);
}

#[test]
fn slow_answer_is_quick_when_the_fault_is_taken_away() {
    let mirror = Mirror::start().unwrap();
    mirror.put(KERNEL, vec![0; 1 << 20]).unwrap();
    // Two days.
    mirror.fail(KERNEL, Fault::Slow { bytes_per_second: 6 });
    let url = mirror.url(KERNEL);
    let client = thread::spawn(move || get(&url, None).1.len());
    mirror.wait_for("a byte", SOON, |requests| requests.iter().find(|request| request.sent > 0).map(|_| ())).unwrap();
    mirror.heal(KERNEL);
    assert_eq!(client.join().unwrap(), 1 << 20);
}

#[test]
fn mirror_breaks_its_connections_off_when_it_is_dropped() {
    let mirror = mirror();
    mirror.fail(KERNEL, Fault::Silent);
    let url = mirror.url(KERNEL);
    let mut idle = TcpStream::connect(mirror.address()).unwrap();
    let client = thread::spawn(move || agent().get(&url).call().is_err());
    let is_silent = |requests: &[Request]| requests.iter().any(|request| request.stalled).then_some(());
    mirror.wait_for("a stall", SOON, is_silent).unwrap();
    let address = mirror.address();
    drop(mirror);
    assert!(client.join().unwrap());
    assert!(matches!(idle.read(&mut [0]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn certificate_is_of_the_authority() {
    let mirror = Mirror::start_tls(Certificate::Good).unwrap();
    mirror.put("/ipxe/ipxe.efi", "iPXE").unwrap();
    let get = |mirror: &Mirror, authority: Option<&Path>| {
        let mut command = std::process::Command::new("curl");
        command.args(["--silent", "--show-error", "--fail"]).arg(mirror.url("/ipxe/ipxe.efi"));
        if let Some(file) = authority {
            command.arg("--cacert").arg(file);
        }
        command.output().unwrap().stdout
    };
    if crate::requires::tools(&["curl"]).is_err() {
        return;
    }
    assert_eq!(get(&mirror, mirror.authority()), b"iPXE");
    assert_eq!(get(&mirror, None), b"");
    for bad in [Certificate::Expired, Certificate::OfAnotherHost] {
        let mirror = Mirror::start_tls(bad).unwrap();
        mirror.put("/ipxe/ipxe.efi", "iPXE").unwrap();
        assert_eq!(get(&mirror, mirror.authority()), b"", "{bad:?}");
    }
    assert!(mirror.options().contains(&"--ca-certificates".to_owned()));
}
