//! Archives whose bytes depend on their entries alone: not on the order in which they were added, on the clock, or on who builds.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// The name of the record that holds a file's capabilities, as GNU tar and container tools write it.
const CAPABILITIES: &str = "SCHILY.xattr.security.capability";

/// The entries of an archive, by path.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    entries: BTreeMap<String, Entry>,
    /// The modification time of all entries, in seconds since 1970.
    time: u64,
}

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    content: Content,
    mode: u32,
    owner: u64,
    capabilities: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Content {
    Directory,
    File(Vec<u8>),
}

impl Entry {
    /// Returns a directory of root that everybody may read.
    pub(super) fn directory() -> Self {
        Self { content: Content::Directory, mode: 0o755, owner: 0, capabilities: None }
    }

    /// Returns a file of root that everybody may read.
    pub(super) fn file(content: impl Into<Vec<u8>>) -> Self {
        Self { content: Content::File(content.into()), mode: 0o644, owner: 0, capabilities: None }
    }

    /// Returns a file of root that everybody may run.
    pub(super) fn program(content: impl Into<Vec<u8>>) -> Self {
        Self { mode: 0o755, ..Self::file(content) }
    }

    /// Gives the entry to this user and the group of the same number.
    pub(super) fn owned_by(self, owner: u64) -> Self {
        Self { owner, ..self }
    }

    /// Gives the file these capabilities, in the form of the extended attribute `security.capability`.
    pub(super) fn with_capabilities(self, attribute: Vec<u8>) -> Self {
        Self { capabilities: Some(attribute), ..self }
    }
}

impl Archive {
    /// Returns an empty archive whose entries will have this modification time.
    pub(super) fn new(time: u64) -> Self {
        Self { entries: BTreeMap::new(), time }
    }

    /// Adds an entry, with the directories above it.
    pub(super) fn add(&mut self, path: &str, entry: Entry) {
        for (slash, _) in path.match_indices('/') {
            self.entries.entry(path[..slash].to_owned()).or_insert_with(Entry::directory);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Writes the archive as tar.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written, or if a path is too long for tar.
    pub(super) fn write_tar(&self, out: impl Write) -> io::Result<()> {
        let mut builder = Builder::new(out);
        for (path, entry) in &self.entries {
            if let Some(capabilities) = &entry.capabilities {
                builder.append_pax_extensions([(CAPABILITIES, &**capabilities)])?;
            }
            let mut header = Header::new_ustar();
            header.set_mode(entry.mode);
            header.set_uid(entry.owner);
            header.set_gid(entry.owner);
            header.set_mtime(self.time);
            match &entry.content {
                Content::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    header.set_size(0);
                    builder.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Content::File(content) => {
                    header.set_entry_type(EntryType::Regular);
                    header.set_size(content.len() as u64);
                    builder.append_data(&mut header, path, &**content)?;
                }
            }
        }
        builder.finish()
    }

    /// Returns the archive as tar.
    ///
    /// # Errors
    ///
    /// Fails if a path is too long for tar.
    pub(super) fn tar(&self) -> io::Result<Vec<u8>> {
        let mut tar = Vec::new();
        self.write_tar(&mut tar)?;
        Ok(tar)
    }
}

/// Returns the bytes in the format of gzip, without a name and a time.
///
/// # Errors
///
/// Fails only if memory cannot be written.
pub(super) fn gzip(bytes: &[u8], effort: Compression) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), effort);
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn order_of_additions_does_not_matter() {
        let build = |paths: [&str; 3]| {
            let mut archive = Archive::new(7);
            for path in paths {
                archive.add(path, Entry::file(path));
            }
            gzip(&archive.tar().unwrap(), Compression::fast()).unwrap()
        };
        assert_eq!(build(["a/b/c", "a/b.d", "e"]), build(["e", "a/b.d", "a/b/c"]));
    }

    #[test]
    fn entry_keeps_mode_owner_time_and_capabilities() {
        let mut archive = Archive::new(1_700_000_000);
        archive.add("usr/bin/pxed", Entry::program("elf").with_capabilities(vec![1, 0, 2]));
        archive.add("var/lib/pxed", Entry::directory().owned_by(65_532));
        let tar = archive.tar().unwrap();
        let mut seen = Vec::new();
        for entry in tar::Archive::new(&*tar).entries().unwrap() {
            let mut entry = entry.unwrap();
            let capabilities = entry.pax_extensions().unwrap().map(|records| {
                records
                    .map(|record| record.unwrap())
                    .map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec()))
                    .collect::<Vec<_>>()
            });
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 1_700_000_000);
            let (mode, owner) = (header.mode().unwrap(), (header.uid().unwrap(), header.gid().unwrap()));
            let path = entry.path().unwrap().display().to_string();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            seen.push((path, mode, owner, content, capabilities));
        }
        let directory = |path: &str, owner| (path.to_owned(), 0o755, (owner, owner), String::new(), None);
        let capabilities = Some(vec![(CAPABILITIES.to_owned(), vec![1, 0, 2])]);
        assert_eq!(
            seen,
            [
                directory("usr/", 0),
                directory("usr/bin/", 0),
                ("usr/bin/pxed".to_owned(), 0o755, (0, 0), "elf".to_owned(), capabilities),
                directory("var/", 0),
                directory("var/lib/", 0),
                directory("var/lib/pxed/", 65_532),
            ]
        );
    }
}
