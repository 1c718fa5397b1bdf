//! Shares one open file among all transfers of it, so that a storm takes as many descriptors as there are files.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::SystemTime,
};

use crate::artifacts::OpenArtifact;

/// The open files of one worker.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    open: HashMap<Identity, Weak<OpenArtifact>>,
}

/// Tells a file from others, and from its state before it was last written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) inode: u64,
    pub(super) length: u64,
    pub(super) modified: SystemTime,
}

impl Identity {
    /// Returns the identity that a file had when it was opened.
    pub(super) fn of(file: &OpenArtifact) -> Self {
        Self { inode: file.inode, length: file.length, modified: file.modified }
    }
}

/// Files that no transfer uses any more are forgotten once this many are known.
const FORGET_AT: usize = 64;

impl OpenFiles {
    /// Returns the file that other transfers have open already, if it is the same, else this one. Each request opens its path, so
    /// that a replaced file is served in its new form at once.
    pub(super) fn share(&mut self, file: OpenArtifact) -> Arc<OpenArtifact> {
        let identity = Identity::of(&file);
        if let Some(shared) = self.open.get(&identity).and_then(Weak::upgrade) {
            return shared;
        }
        if self.open.len() >= FORGET_AT {
            self.open.retain(|_, file| file.strong_count() > 0);
        }
        let file = Arc::new(file);
        self.open.insert(identity, Arc::downgrade(&file));
        file
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::artifacts::Store;

    #[test]
    fn same_file_is_open_once_and_a_new_one_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().to_owned());
        fs::write(directory.path().join("kernel"), "one").unwrap();
        let mut files = OpenFiles::default();
        let first = files.share(store.open(b"kernel").unwrap());
        let second = files.share(store.open(b"/kernel").unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        fs::write(directory.path().join("new"), "three").unwrap();
        fs::rename(directory.path().join("new"), directory.path().join("kernel")).unwrap();
        let third = files.share(store.open(b"kernel").unwrap());
        assert!(!Arc::ptr_eq(&first, &third));
        assert_eq!((first.length, third.length), (3, 5));
    }

    #[test]
    fn unused_files_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().to_owned());
        let mut files = OpenFiles::default();
        for number in 0..1000 {
            let name = format!("file-{number}");
            fs::write(directory.path().join(&name), &name).unwrap();
            drop(files.share(store.open(name.as_bytes()).unwrap()));
            assert!(files.open.len() <= FORGET_AT);
        }
    }
}
