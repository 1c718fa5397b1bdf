//! The reason why the kernel refuses a path that its permissions allow: pxed has confined itself to the files and directories that were there
//! when it started, and another one has come to stand in such a place since.

use std::{io, path::Path};

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// The access that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To read a file or to list a directory.
    Read,
    /// To make, replace or delete a file of a directory.
    Write,
}

/// Returns the error, with the reason and the remedy where neither permissions nor the disk explain it.
#[must_use]
pub fn explained(path: &Path, wanted: Wanted, error: io::Error) -> io::Error {
    let access = match wanted {
        Wanted::Read => Access::READ_OK,
        Wanted::Write => Access::WRITE_OK | Access::EXEC_OK,
    };
    // access(2) knows permissions alone, and Landlock is asked when something is opened.
    let is_shut_out =
        error.kind() == io::ErrorKind::PermissionDenied && accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    if !is_shut_out {
        return error;
    }
    let reason = format!(
        "{error}, although its permissions allow it: it was put there after pxed had confined itself to what was there when it started. Restart \
         pxed"
    );
    io::Error::new(error.kind(), reason)
}
