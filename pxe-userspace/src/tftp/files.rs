//! Shares one open file among all transfers of it, so that a storm takes as many descriptors as there are files.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Weak},
    time::SystemTime,
};

use crate::artifacts::{OpenArtifact, Refusal};

/// The open files of one worker.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    open: Known<Identity>,
    /// Those that were made of a text.
    texts: Known<Box<str>>,
}

/// Open files by what tells them apart. Those that no transfer uses any more are forgotten from time to time.
#[derive(Debug)]
struct Known<K> {
    files: HashMap<K, Weak<OpenArtifact>>,
    /// The number of files at which the next look is due.
    forget_at: usize,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self { files: HashMap::new(), forget_at: FORGET_AT }
    }
}

impl<K: Eq + Hash> Known<K> {
    fn get<Q: Eq + Hash + ?Sized>(&self, name: &Q) -> Option<Arc<OpenArtifact>>
    where
        K: Borrow<Q>,
    {
        self.files.get(name).and_then(Weak::upgrade)
    }

    fn keep(&mut self, name: K, file: OpenArtifact) -> Arc<OpenArtifact> {
        if self.files.len() >= self.forget_at {
            self.files.retain(|_, file| file.strong_count() > 0);
            // With many in use, not each further one costs a look.
            self.forget_at = FORGET_AT.max(2 * self.files.len());
        }
        let file = Arc::new(file);
        self.files.insert(name, Arc::downgrade(&file));
        file
    }
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

/// Files that no transfer uses any more are forgotten once this many are known, or twice as many as were in use at the last look.
const FORGET_AT: usize = 64;

impl OpenFiles {
    /// Returns the file that other transfers have open already, if it is the same, else this one. Each request opens its path, so
    /// that a replaced file is served in its new form at once.
    pub(super) fn share(&mut self, file: OpenArtifact) -> Arc<OpenArtifact> {
        let identity = Identity::of(&file);
        self.open.get(&identity).unwrap_or_else(|| self.open.keep(identity, file))
    }

    /// Returns the file with this text. Transfers of one machine's configuration share it: anybody can ask for it in the machine's name by the thousand.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] if the kernel has no descriptor or memory for it.
    pub(super) fn with_text(&mut self, text: &str) -> Result<Arc<OpenArtifact>, Refusal> {
        match self.texts.get(text) {
            Some(shared) => Ok(shared),
            None => Ok(self.texts.keep(text.into(), OpenArtifact::from_text(text)?)),
        }
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
    fn text_takes_one_descriptor_however_many_ask_for_it() {
        let mut files = OpenFiles::default();
        let shared: Vec<_> = (0..1000).map(|_| files.with_text("default talos").unwrap()).collect();
        assert!(shared.iter().all(|file| Arc::ptr_eq(file, &shared[0])));
        assert!(!Arc::ptr_eq(&files.with_text("default rescue").unwrap(), &shared[0]));
        drop(shared);
        for number in 0..1000 {
            drop(files.with_text(&number.to_string()).unwrap());
            assert!(files.texts.files.len() <= FORGET_AT);
        }
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
            assert!(files.open.files.len() <= FORGET_AT);
        }
    }
}
