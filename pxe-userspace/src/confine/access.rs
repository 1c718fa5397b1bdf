//! Checks that the user whom pxed has become can reach what the options name, and says what to type where it cannot.

use std::path::{Path, PathBuf};

use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
};

/// What pxed does with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It reads the file or the files of the directory.
    Read,
    /// It makes, replaces and deletes files of the directory.
    Write,
}

/// Returns what keeps this process from using a path, with the remedy, or `None` if nothing does. What is not there is no matter of access.
pub(super) fn obstacle(path: &Path, wanted: Use, user: &str) -> Option<String> {
    let is_denied =
        |path: &Path, access| matches!(accessat(CWD, path, access, AtFlags::EACCESS), Err(Errno::ACCESS | Errno::PERM));
    let closed = parents(path).into_iter().find(|parent| is_denied(parent, Access::EXEC_OK));
    if let Some(parent) = closed {
        let (path, parent) = (path.display(), parent.display());
        return Some(format!(
            "{path}: the user {user}, whom pxed runs as, may not pass through {parent}. Move the files, or let that user through: \
             setfacl -m u:{user}:x {parent}"
        ));
    }
    let is_directory = path.is_dir();
    // It is no matter of permissions, and whoever uses it says so. /dev/null must not be given away for it.
    if wanted == Use::Write && !is_directory && path.exists() {
        return None;
    }
    let needed = match (wanted, is_directory) {
        (Use::Read, false) => Access::READ_OK,
        (Use::Read, true) => Access::READ_OK | Access::EXEC_OK,
        (Use::Write, _) => Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
    };
    if !is_denied(path, needed) {
        return None;
    }
    let path = path.display();
    Some(match wanted {
        Use::Read => {
            let rights = if is_directory { "rx" } else { "r" };
            format!(
                "{path}: the user {user}, whom pxed runs as, may not read it. Type: setfacl -m u:{user}:{rights} {path}"
            )
        }
        Use::Write => {
            format!("{path}: the user {user}, whom pxed runs as, may not write there. Type: chown -R {user} {path}")
        }
    })
}

/// Returns the directories that lead to a path, from the root on.
fn parents(path: &Path) -> Vec<PathBuf> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut parents: Vec<_> = absolute.ancestors().skip(1).map(Path::to_owned).collect();
    parents.reverse();
    parents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_lead_from_the_root() {
        assert_eq!(parents(Path::new("/a/b/c")), ["/", "/a", "/a/b"].map(PathBuf::from));
        assert!(parents(Path::new("relative")).len() > 1);
    }

    #[test]
    fn nothing_keeps_from_what_is_readable_or_not_there() {
        let directory = tempfile::tempdir().unwrap();
        for (path, wanted) in [("", Use::Write), ("", Use::Read), ("not-there", Use::Read)] {
            assert_eq!(obstacle(&directory.path().join(path), wanted, "pxed"), None);
        }
        // In place of a directory.
        assert_eq!(obstacle(Path::new("/dev/null"), Use::Write, "pxed"), None);
    }
}
