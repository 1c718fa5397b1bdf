//! Takes a file out of a `.tar.gz`. Everything here blocks.

use std::{
    io::{self, Read, Seek as _},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::{fault::Fault, partial::Partial};

/// The largest file. iPXE's have one or two megabytes.
const MEMBER_LIMIT: u64 = 32 << 20;
/// The most bytes of an archive, unpacked. It bounds the time for one that is made to have no end.
const ARCHIVE_LIMIT: u64 = 128 << 20;
/// The most bytes that are read at once.
const PIECE: usize = 64 << 10;

/// Takes a file out of a downloaded archive, into a partial file of its own in the directory. Nothing stays of it after a fault.
pub(super) fn unpack(archive: &Partial, directory: &Path, artifact: &str, member: &str) -> Result<Partial, Fault> {
    // Whoever has the lock of the archive is the only one to take the file out of it.
    let name = format!("{artifact}.unpacked");
    let mut unpacked = Partial::try_lock(directory, &name, false)?.ok_or_else(|| Fault::Disk {
        what: "locking",
        path: directory.join(&name),
        reason: "another process has it".to_owned(),
    })?;
    let copied = unpacked.restart().and_then(|()| {
        let mut file = archive.file();
        file.rewind().map_err(|error| Fault::disk("reading", archive.path(), &error))?;
        copy(file, member, &mut unpacked)
    });
    match copied {
        Ok(()) => Ok(unpacked),
        Err(fault) => {
            unpacked.discard();
            Err(fault)
        }
    }
}

fn copy(archive: impl Read, member: &str, to: &mut Partial) -> Result<(), Fault> {
    let fault = |reason: String| Fault::Archive { member: member.into(), reason };
    let damaged = |error: io::Error| fault(format!("it is no .tar.gz, or damaged: {error}"));
    let unpacked = Bounded { inner: MultiGzDecoder::new(archive), left: ARCHIVE_LIMIT };
    let mut archive = Archive::new(unpacked);
    let mut is_found = false;
    // Raw: otherwise the names of some members, however long, are read into memory.
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path_bytes();
        if name.strip_prefix(b"./").unwrap_or(&name) != member.as_bytes() {
            continue;
        }
        if entry.header().entry_type() != EntryType::Regular {
            return Err(fault("what has this name is no file".to_owned()));
        }
        if is_found {
            return Err(fault("two files have this name".to_owned()));
        }
        is_found = true;
        let size = entry.header().size().map_err(damaged)?;
        if size > MEMBER_LIMIT {
            return Err(fault(format!("it has {size} bytes, more than the {MEMBER_LIMIT} of any loader")));
        }
        to.reserve(size)?;
        let mut piece = vec![0; PIECE];
        loop {
            match entry.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => to.write(&piece[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(damaged(error)),
            }
        }
        if to.length() != size {
            return Err(fault(format!("the archive ends after {} of its {size} bytes", to.length())));
        }
    }
    if !is_found {
        return Err(fault("there is no such file in it".to_owned()));
    }
    // At its end there is a checksum of everything.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
    Ok(())
}

/// A reader that fails after some bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!(
                "it unpacks to more than {ARCHIVE_LIMIT} bytes, and no archive of iPXE is so large"
            ))
        })?;
        Ok(read)
    }
}
