//! A file that a person named: a configuration, a key, certificates.
//!
//! Something else in its place is an error that says what it is. A FIFO would otherwise be waited for until somebody writes to it.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::{
    own_file::{NONBLOCK, other_kind},
    shut_out::{self, Wanted},
};

/// The most bytes that are read.
const LIMIT: u64 = 16 << 20;

/// Returns the content of a file, and what the kernel says about it.
///
/// # Errors
///
/// If it cannot be read, is not a regular file, or is larger than 16 MiB.
pub fn read(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    // Before it is opened, which may do harm to a device.
    check(path)?;
    let file = File::options().read(true).custom_flags(NONBLOCK).open(path);
    let file = file.map_err(|error| shut_out::explained(path, Wanted::Read, error))?;
    let metadata = file.metadata()?;
    is_file(&metadata)?;
    let mut content = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LIMIT {
        return Err(too_large());
    }
    Ok((content, metadata))
}

/// Returns the text of a file.
///
/// # Errors
///
/// As [`read`], and if it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?.0).map_err(|_| io::Error::other("it is not UTF-8"))
}

/// Makes sure that something is a file, for others who read it.
///
/// # Errors
///
/// If it is something else, larger than 16 MiB, or cannot be looked at.
pub fn check(path: &Path) -> io::Result<()> {
    is_file(&fs::metadata(path)?)
}

fn is_file(metadata: &Metadata) -> io::Result<()> {
    match metadata.is_file() {
        // Others read it as a whole.
        true if metadata.len() > LIMIT => Err(too_large()),
        true => Ok(()),
        false => Err(io::Error::other(other_kind(metadata.file_type()))),
    }
}

fn too_large() -> io::Error {
    io::Error::other(format!("it is larger than {} MiB", LIMIT >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own_file::tests::OTHER_KINDS;

    #[test]
    fn file_is_read_and_something_else_is_an_error_that_says_what_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "text").unwrap();
        assert_eq!(read_text(&path).unwrap(), "text");
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(read(&path).unwrap().0, b"\xff");
        assert_eq!(read_text(&path).unwrap_err().to_string(), "it is not UTF-8");
        File::create(&path).unwrap().set_len(LIMIT + 1).unwrap();
        for error in [read(&path).unwrap_err(), check(&path).unwrap_err()] {
            assert_eq!(error.to_string(), "it is larger than 16 MiB");
        }
        assert_eq!(read(&directory.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        for (make, kind) in OTHER_KINDS {
            let path = directory.path().join(kind);
            make(&path);
            assert_eq!(read(&path).unwrap_err().to_string(), format!("it is {kind}, and has to be a file"));
        }
    }
}
