//! Follows the symbolic links of a path by hand, where the kernel refuses to.
//!
//! `openat2` with RESOLVE_BENEATH refuses every absolute link and every link that leaves the directory on the way, even if it
//! leads back. Here such links are read one by one. What comes out is a path without links, relative to the directory. It is
//! only a proposal: whoever opens it lets the kernel confine it again, so a link that is changed meanwhile gains nothing.
//!
//! The directory is recognised by its device and inode, not by its path. So a link may name it in any way that leads to it:
//! through another symbolic link, or where it is mounted a second time.

use std::{
    ffi::OsStr,
    fmt,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::PathBuf,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat},
    io::Errno,
};

/// The limits of path resolution: nothing above the root, no absolute symbolic link, no magic link of /proc.
pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// The most links on a path, as in the kernel (MAXSYMLINKS).
const LINK_LIMIT: usize = 40;

/// Opens a link itself instead of its target, and any other file without access to its content.
const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A symbolic link below the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its path.
    pub path: PathBuf,
    /// The text of the link.
    pub target: PathBuf,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is a symbolic link to {}", self.path.display(), self.target.display())
    }
}

/// The result of following a path.
#[derive(Debug)]
pub(super) struct Walk {
    /// The last link below the directory that was followed, by its path relative to the directory.
    pub(super) link: Option<Link>,
    pub(super) end: End,
}

/// The place that a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A file or directory below the directory, by a path without links; `.` is the directory itself.
    Below(Vec<u8>),
    /// A place outside.
    Outside,
    /// None: the links lead in a circle, or there are too many of them.
    Circle,
    /// None: the kernel reports an error on the way, below the directory.
    Failed(Errno),
}

/// Follows a relative path from the directory `root`.
pub(super) fn follow(root: BorrowedFd<'_>, path: &[u8]) -> Walk {
    let mut walker = Walker { root, pending: Vec::new(), links: 0, link: None };
    walker.prepend(path);
    let end = walker.walk().unwrap_or_else(|end| end);
    Walk { link: walker.link, end }
}

/// A place on the way.
enum Place {
    /// Below the directory, by a path without links; empty for the directory itself.
    Below(Vec<u8>),
    Elsewhere(OwnedFd),
}

struct Walker<'a> {
    root: BorrowedFd<'a>,
    /// The components that are still to be followed, the next one last.
    pending: Vec<Vec<u8>>,
    links: usize,
    link: Option<Link>,
}

impl Walker<'_> {
    fn prepend(&mut self, path: &[u8]) {
        let components = path.split(|&byte| byte == b'/').filter(|component| !matches!(*component, b"" | b"."));
        self.pending.extend(components.rev().map(<[u8]>::to_vec));
    }

    fn walk(&mut self) -> Result<End, End> {
        let mut place = Place::Below(Vec::new());
        while let Some(component) = self.pending.pop() {
            place = match place {
                Place::Below(path) => self.step_below(path, &component)?,
                Place::Elsewhere(directory) => self.step_elsewhere(directory, &component)?,
            };
        }
        match place {
            Place::Below(path) if path.is_empty() => Ok(End::Below(b".".to_vec())),
            Place::Below(path) => Ok(End::Below(path)),
            Place::Elsewhere(_) => Err(End::Outside),
        }
    }

    fn step_below(&mut self, mut path: Vec<u8>, component: &[u8]) -> Result<Place, End> {
        if component == b".." {
            return if path.is_empty() {
                self.elsewhere(openat(self.root, "..", PLACE, Mode::empty()))
            } else {
                // The components of the path are no links, so its parent is what stands before the last slash.
                path.truncate(path.iter().rposition(|&byte| byte == b'/').unwrap_or_default());
                Ok(Place::Below(path))
            };
        }
        let parent = path.len();
        if parent > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(component);
        let resolve = BENEATH.union(ResolveFlags::NO_SYMLINKS);
        let found = openat2(self.root, path.as_slice(), PLACE, Mode::empty(), resolve).map_err(End::Failed)?;
        match file_type(&found).map_err(End::Failed)? {
            FileType::Symlink => {
                let target = self.read_link(&found)?;
                let as_path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
                self.link = Some(Link { path: as_path(&path), target: as_path(&target) });
                path.truncate(parent);
                self.turn(Place::Below(path), &target)
            }
            FileType::Directory => Ok(Place::Below(path)),
            _ if self.pending.is_empty() => Ok(Place::Below(path)),
            _ => Err(End::Failed(Errno::NOTDIR)),
        }
    }

    fn step_elsewhere(&mut self, directory: OwnedFd, component: &[u8]) -> Result<Place, End> {
        let found = openat(&directory, component, PLACE, Mode::empty()).map_err(outside)?;
        if file_type(&found) == Ok(FileType::Symlink) {
            let target = self.read_link(&found)?;
            return self.turn(Place::Elsewhere(directory), &target);
        }
        self.elsewhere(Ok(found))
    }

    fn read_link(&mut self, link: &OwnedFd) -> Result<Vec<u8>, End> {
        self.links += 1;
        if self.links > LINK_LIMIT {
            return Err(End::Circle);
        }
        let target = readlinkat(link, "", Vec::new()).map_err(End::Failed)?;
        Ok(target.into_bytes())
    }

    /// Continues with the target of a link in the directory `at`.
    fn turn(&mut self, at: Place, target: &[u8]) -> Result<Place, End> {
        self.prepend(target);
        if target.starts_with(b"/") { self.elsewhere(openat(CWD, "/", PLACE, Mode::empty())) } else { Ok(at) }
    }

    /// Returns a place outside, or the directory if it is the directory.
    fn elsewhere(&self, found: Result<OwnedFd, Errno>) -> Result<Place, End> {
        let found = found.map_err(outside)?;
        let (here, root) = (fstat(&found), fstat(self.root));
        match (here, root) {
            (Ok(here), Ok(root)) if (here.st_dev, here.st_ino) == (root.st_dev, root.st_ino) => {
                Ok(Place::Below(Vec::new()))
            }
            _ => Ok(Place::Elsewhere(found)),
        }
    }
}

/// Returns the end of a path that cannot be followed outside: it does not lead back, unless we lack descriptors or memory.
fn outside(error: Errno) -> End {
    match error {
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => End::Failed(error),
        _ => End::Outside,
    }
}

fn file_type(file: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode))
}

#[cfg(test)]
mod tests;
