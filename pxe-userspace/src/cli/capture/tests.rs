use std::fs;

use super::*;
use crate::capture::pcapng;

/// A stream that ends with an error, in reads of one byte.
struct Broken(Vec<u8>, usize);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self(bytes, at) = self;
        let Some(&byte) = bytes.get(*at) else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        buffer[0] = byte;
        *at += 1;
        Ok(1)
    }
}

#[test]
fn file_is_for_its_owner_and_whole_wherever_the_stream_breaks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.pcapng");
    // Another capture, which everybody may read.
    fs::write(&path, vec![1; 5000]).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let mut stream = Vec::new();
    pcapng::section_header(&mut stream, "pxed", "", "");
    let first = stream.len();
    pcapng::interface_description(&mut stream, "eth0", "");
    for end in 0..stream.len() {
        let sink = Mutex::new(Sink::open(&path).unwrap());
        let error = copy(&mut Broken(stream[..end].to_vec(), 0), &sink).unwrap_err();
        assert!(error.to_string().contains("was it stopped?"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), &stream[..if end < first { 0 } else { first }]);
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    let sink = Mutex::new(Sink::open(&path).unwrap());
    copy(&mut &stream[..], &sink).unwrap();
    assert_eq!(fs::read(&path).unwrap(), stream);
    assert!(copy(&mut &b"<html><body>502"[..], &sink).unwrap_err().to_string().contains("not a capture"));
    assert!(Sink::open(Path::new("/proc/nowhere/a")).is_err());
}
