//! Loads an inventory from paths. A document whose text did not change is not parsed again.

use std::{
    collections::HashMap,
    hash::BuildHasher as _,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::SystemTime,
};

use super::{
    candidate::Resolved,
    documents::Content,
    files::{self, Stat},
    finding::{Finding, SpecErrors},
    placed::Placed,
    read, resolve,
    split::{self, Piece},
};
use crate::model::inventory::{AddressHashBuilder, Inventory};

/// A cluster spec without errors.
#[derive(Debug)]
pub struct Loaded {
    /// Its machines.
    pub inventory: Arc<Inventory>,
    /// Likely mistakes that do not prevent serving.
    pub warnings: Vec<Finding>,
}

/// Loads cluster specs. If it is kept between loads, a reload only costs what has changed.
#[derive(Debug, Default)]
pub struct Loader {
    /// The documents by hash and length of their text.
    parsed: HashMap<Fingerprint, Arc<Content>>,
    /// The files as they were last read. One that looks the same is not read again.
    files: HashMap<Arc<Path>, KnownFile>,
    /// The last good inventory. Unchanged machines are kept, so that a reload only takes memory for what has changed.
    inventory: Arc<Inventory>,
}

/// The known state of a file.
#[derive(Debug)]
struct KnownFile {
    stat: Stat,
    /// The number of lines before each document, and the document.
    documents: Vec<(u32, Fingerprint)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Fingerprint {
    hash: u64,
    length: usize,
}

/// A document of a file, to be parsed unless its content is known.
struct Document<'t> {
    file: Arc<Path>,
    lines_before: u32,
    fingerprint: Fingerprint,
    /// `None` if the file was not read, because its documents are known.
    text: Option<&'t str>,
    content: OnceLock<Arc<Content>>,
}

/// A file of the spec: its text, or its known state.
enum Source {
    Text(Option<Stat>, String),
    Known(KnownFile),
}

impl Loader {
    /// Makes a loader without known files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the files and directories.
    ///
    /// # Errors
    ///
    /// All mistakes in them, in the order of files and lines.
    pub fn load(&mut self, paths: &[PathBuf]) -> Result<Loaded, SpecErrors> {
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        let mut sources: Vec<(Arc<Path>, Source)> = Vec::new();
        for path in files::collect(paths, &mut errors, &mut warnings) {
            let path: Arc<Path> = Arc::from(path);
            match self.source(&path) {
                Ok(source) => sources.push((path, source)),
                Err(finding) => errors.push(finding),
            }
        }
        let placed = self.documents(&sources);
        drop(sources);
        let Resolved { machines, errors: found, warnings: noted } = resolve::resolve(&placed, &self.inventory);
        errors.extend(found);
        warnings.extend(noted);
        if machines.is_empty() && errors.is_empty() {
            let path = paths.first().map_or(Path::new("."), |path| path);
            let any_cluster = placed.iter().any(|document| document.content.has_cluster());
            if any_cluster {
                let message = "no machine to boot: none has a pxeClientSpec in a cluster with a pxeServerSpec";
                warnings.push(Finding::about_file(path, message.to_owned()));
            } else {
                // This may also be a file that is being written, or a volume that is not mounted. A reload must not remove all
                // machines then.
                errors.push(Finding::about_file(path, "has no TalosCluster: is it the right path?".to_owned()));
            }
        }
        if errors.is_empty() {
            self.inventory = Arc::new(Inventory::new(machines));
            Ok(Loaded { inventory: Arc::clone(&self.inventory), warnings })
        } else {
            Err(SpecErrors { errors, warnings })
        }
    }

    /// Returns the known state of a file if it still looks the same, else its text.
    fn source(&mut self, path: &Arc<Path>) -> Result<Source, Finding> {
        // Before it is read: what is written meanwhile looks different next time.
        let stat = Stat::of(path).ok().filter(|stat| stat.is_settled(SystemTime::now()));
        match self.files.remove(path) {
            Some(known) if Some(&known.stat) == stat.as_ref() && self.has_parsed(&known) => Ok(Source::Known(known)),
            _ => files::read(path).map(|text| Source::Text(stat, text)),
        }
    }

    fn has_parsed(&self, file: &KnownFile) -> bool {
        file.documents.iter().all(|(_, fingerprint)| self.parsed.contains_key(fingerprint))
    }

    fn documents(&mut self, sources: &[(Arc<Path>, Source)]) -> Vec<Placed> {
        let mut documents = Vec::new();
        let mut files = HashMap::with_capacity(sources.len());
        for (file, source) in sources {
            let begin = documents.len();
            let mut add = |lines_before, fingerprint, text| {
                let known = self.parsed.get(&fingerprint);
                let content = known.map_or_else(OnceLock::new, |known| OnceLock::from(Arc::clone(known)));
                documents.push(Document { file: Arc::clone(file), lines_before, fingerprint, text, content });
            };
            let stat = match source {
                Source::Known(known) => {
                    known
                        .documents
                        .iter()
                        .for_each(|&(lines_before, fingerprint)| add(lines_before, fingerprint, None));
                    Some(known.stat.clone())
                }
                Source::Text(stat, text) => {
                    for Piece { lines_before, text } in split::split(text) {
                        let hash = AddressHashBuilder::default().hash_one(text);
                        add(lines_before, Fingerprint { hash, length: text.len() }, Some(text));
                    }
                    stat.clone()
                }
            };
            if let Some(stat) = stat {
                let documents = documents[begin..].iter().map(|document| (document.lines_before, document.fingerprint));
                files.insert(Arc::clone(file), KnownFile { stat, documents: documents.collect() });
            }
        }
        parse(&documents);
        self.files = files;
        self.parsed.clear();
        let placed = documents.into_iter().map(|Document { file, lines_before, fingerprint, text: _, content }| {
            let content = content.into_inner().unwrap_or_default();
            self.parsed.insert(fingerprint, Arc::clone(&content));
            Placed { file, lines_before, content }
        });
        placed.collect()
    }
}

/// Parses the documents that are not known, on as many threads as there are processors.
fn parse(documents: &[Document<'_>]) {
    /// The least text for which another thread saves more than it costs.
    const BYTES_A_THREAD: usize = 1 << 20;
    let unknown: Vec<_> = documents.iter().filter(|document| document.content.get().is_none()).collect();
    let bytes: usize = unknown.iter().map(|document| document.fingerprint.length).sum();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(document) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
            document.content.get_or_init(|| Arc::new(read::read(document.text.unwrap_or_default())));
        }
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(bytes / BYTES_A_THREAD + 1);
    thread::scope(|scope| {
        for _ in 1..threads {
            // If no thread can be started, the others do the work.
            let _ = thread::Builder::new().name("spec".to_owned()).spawn_scoped(scope, work);
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    /// Returns a cluster whose machine has this address.
    fn cluster(name: &str, address: &str) -> String {
        let number = address.rsplit('.').next().unwrap();
        format!(
            "apiVersion: talos.alperen.cloud/v1alpha1\nkind: TalosCluster\nmetadata: {{name: {name}}}\nspec:\n  \
             pxeServerSpec: {{address: 10.0.0.1, interface: eth1}}\n  controlPlane:\n    version: v1.13.0\n    mode: metal\n    \
             metalSpec:\n      machines:\n        - address: {address}\n          pxeClientSpec: {{macAddress: \
             52:54:00:00:00:{number}, cpuArchitecture: amd64}}\n"
        )
    }

    /// A file that did not change is not read again, one that changed is, and an unchanged machine stays the same object.
    #[test]
    fn reload_reads_what_changed_and_keeps_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let [a, b] = ["a.yaml", "b.yaml"].map(|name| directory.path().join(name));
        fs::write(&a, cluster("a", "10.0.0.11")).unwrap();
        fs::write(&b, cluster("b", "10.0.0.12")).unwrap();
        let paths = [a.clone(), b.clone()];
        let mut loader = Loader::new();
        // The files are read each time until they have settled.
        let begin = Instant::now();
        let first = loop {
            let loaded = loader.load(&paths).unwrap().inventory;
            if loader.files.len() == 2 {
                break loaded;
            }
            assert!(begin.elapsed().as_secs() < 20, "the files do not settle");
        };

        let text = cluster("b", "10.0.0.13");
        fs::write(&b, &text).unwrap();
        let second = loader.load(&paths).unwrap().inventory;
        assert_eq!(loader.files.keys().map(|file| &**file).collect::<Vec<_>>(), [a.as_path()], "b was just written");
        assert!(Arc::ptr_eq(&first.machines()[0], &second.machines()[0]));
        assert_eq!(second.machines()[1].address.to_string(), "10.0.0.13");

        // A file that is gone is forgotten.
        fs::remove_file(&a).unwrap();
        let third = loader.load(&[b]).unwrap().inventory;
        assert_eq!(third.machines().len(), 1);
        assert!(loader.files.len() <= 1 && loader.parsed.len() == 1);
    }
}
