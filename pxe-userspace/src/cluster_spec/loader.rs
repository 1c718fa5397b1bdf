//! Loads an inventory from paths. A document whose text did not change is not parsed again.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash as _, Hasher},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use super::{
    apply_settings::TalosConfigs,
    candidate::Resolved,
    documents::Content,
    faults::Faults,
    files::{self, Listing, Stat},
    finding::{Finding, Notes, SpecErrors},
    last_good::{self, Unreadable},
    placed::{Placed, Version},
    read, resolve,
    split::{self, Piece},
};
use crate::model::{
    api_object::ApiObject,
    finding::SpecFaults,
    inventory::{AddressHashBuilder, Inventory},
};

/// A cluster spec, without the objects that have errors.
#[derive(Debug)]
pub struct Loaded {
    /// Its machines.
    pub inventory: Arc<Inventory>,
    /// Its errors, and what they leave out.
    pub faults: SpecFaults,
    /// Likely mistakes that do not prevent serving.
    pub warnings: Vec<Finding>,
    /// Its documents, for [`Loader::put_in_force`].
    documents: Vec<Placed>,
    fingerprint: u64,
}

impl Loaded {
    /// Returns the spec if it has no errors.
    ///
    /// # Errors
    ///
    /// All errors, in the order of files and lines.
    pub fn strictly(self) -> Result<Self, SpecErrors> {
        if self.faults.faults.is_empty() {
            return Ok(self);
        }
        let errors = self.faults.faults.into_iter().map(|fault| fault.finding).collect();
        Err(SpecErrors { errors, warnings: self.warnings })
    }
}

/// The reach of an error of a cluster spec.
const MACHINE: &str = "machine";

/// The content of the files.
struct Read {
    documents: Vec<Placed>,
    unreadable: Vec<Unreadable>,
    faults: Faults,
    warnings: Vec<Finding>,
    fingerprint: u64,
}

/// Loads cluster specs. If it is kept between loads, a reload only costs what has changed.
#[derive(Debug, Default)]
pub struct Loader {
    /// The documents by hash and length of their text.
    parsed: HashMap<Fingerprint, Arc<Content>>,
    /// The files as they were last read. One that looks the same is not read again.
    files: HashMap<Arc<Path>, KnownFile>,
    /// The spec in force.
    in_force: InForce,
    configs: TalosConfigs,
}

/// The spec in force.
#[derive(Debug, Default)]
struct InForce {
    /// Unchanged machines are kept, so that a reload only takes memory for what has changed.
    inventory: Arc<Inventory>,
    /// The documents of each resource, in their last good version.
    documents: Vec<Placed>,
    /// The content of the files.
    fingerprint: Option<u64>,
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
    syntax: Syntax,
    content: OnceLock<Arc<Content>>,
}

/// The syntax of a document.
#[derive(Clone, Copy, Debug)]
enum Syntax {
    /// The YAML of a file, of which JSON is a part.
    Yaml,
    /// The JSON of an object of the API.
    Json,
}

/// The source of a spec.
#[derive(Clone, Copy)]
enum From<'p> {
    /// These files and directories.
    Files(&'p [PathBuf]),
    /// The objects of the API.
    Objects,
}

/// The place of findings about the objects of the API as a whole.
const API: &str = "the API of Kubernetes";

/// A file of the spec: its text, or its known state.
enum Source {
    Text(Option<Stat>, String),
    Known(KnownFile),
}

impl InForce {
    /// Returns `true` if anything in force is from this file or directory.
    fn has(&self, path: &Path) -> bool {
        self.documents.iter().any(|document| document.file.starts_with(path))
    }
}

impl Source {
    fn is_empty(&self) -> bool {
        match self {
            Self::Text(_, text) => text.is_empty(),
            Self::Known(known) => known.stat.is_empty(),
        }
    }
}

impl Loader {
    /// Makes a loader without known files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the place of the machine configurations that the spec names. Without it, they are not checked.
    #[must_use]
    pub fn with_talos_configs(self, configs: TalosConfigs) -> Self {
        Self { configs, ..self }
    }

    /// Reads the files and directories. What has errors is left out, or stays in the version that is in force.
    pub fn load(&mut self, paths: &[PathBuf]) -> Loaded {
        let read = self.read(paths, Duration::ZERO);
        self.resolve(From::Files(paths), read)
    }

    /// Reads the objects of the API, in the order in which they were made. Like [`Self::load_changed`], it returns `None` if they have the
    /// content that is in force.
    pub fn load_objects(&mut self, objects: &[ApiObject]) -> Option<Loaded> {
        let mut sorted: Vec<&ApiObject> = objects.iter().collect();
        // The first of several with one address keeps it, and a mistaken copy is usually made later.
        sorted.sort_unstable_by(|a, b| (&a.created, &a.key).cmp(&(&b.created, &b.key)));
        let documents = sorted.iter().map(|object| {
            let hash = AddressHashBuilder::default().hash_one(&*object.text);
            let (file, lines_before) = (object.key.place(), 0);
            let fingerprint = Fingerprint { hash, length: object.text.len() };
            let known = self.parsed.get(&fingerprint);
            let content = known.map_or_else(OnceLock::new, |known| OnceLock::from(Arc::clone(known)));
            Document { file, lines_before, fingerprint, text: Some(&object.text), syntax: Syntax::Json, content }
        });
        let documents: Vec<_> = documents.collect();
        let mut hasher = AddressHashBuilder::default().build_hasher();
        let documents = self.parse(documents, &mut hasher);
        let read = note(documents, Vec::new(), Faults::default(), Vec::new(), hasher.finish());
        (Some(read.fingerprint) != self.in_force.fingerprint).then(|| self.resolve(From::Objects, read))
    }

    /// Reads the files and directories. Returns `None` if they have the content that is in force. Files that changed within `restless_for`
    /// are not read.
    pub fn load_changed(&mut self, paths: &[PathBuf], restless_for: Duration) -> Option<Loaded> {
        let read = self.read(paths, restless_for);
        (Some(read.fingerprint) != self.in_force.fingerprint).then(|| self.resolve(From::Files(paths), read))
    }

    /// Remembers what is in force from now on. Later loads fall back to it where they find errors.
    pub fn put_in_force(&mut self, loaded: Loaded) {
        let Loaded { inventory, documents, fingerprint, .. } = loaded;
        self.in_force = InForce { inventory, documents, fingerprint: Some(fingerprint) };
    }

    fn read(&mut self, paths: &[PathBuf], restless_for: Duration) -> Read {
        let Listing { files, errors, empty } = files::collect(paths);
        let mut faults = Faults::default();
        let mut unreadable = Vec::new();
        let mut fail = |finding: Finding| {
            let path = Arc::clone(&finding.file);
            unreadable.push(Unreadable { path, fault: faults.add(finding) });
        };
        errors.into_iter().for_each(&mut fail);
        let mut warnings = Vec::new();
        for directory in empty {
            if self.in_force.has(&directory) {
                let message = "is a directory without *.yaml, *.yml and *.json files now, perhaps because a volume is not \
                               mounted: its machines stay as they were until pxed is restarted";
                fail(Finding::about_file(&directory, message.to_owned()));
            } else {
                let message = "is a directory without *.yaml, *.yml and *.json files";
                warnings.push(Finding::about_file(&directory, message.to_owned()));
            }
        }
        let mut sources: Vec<(Arc<Path>, Source)> = Vec::new();
        for path in files {
            let path: Arc<Path> = Arc::from(path);
            match self.source(&path, restless_for) {
                Ok(source) if source.is_empty() && self.in_force.has(&path) => {
                    let message = "is empty: its machines stay as they were; delete it to take them out";
                    fail(Finding::about_file(&path, message.to_owned()));
                }
                Ok(source) => {
                    if source.is_empty() {
                        warnings.push(Finding::about_file(&path, "is empty".to_owned()));
                    }
                    sources.push((path, source));
                }
                Err(finding) => fail(finding),
            }
        }
        let mut hasher = AddressHashBuilder::default().build_hasher();
        unreadable.iter().for_each(|Unreadable { path, .. }| path.hash(&mut hasher));
        faults.errors().iter().for_each(|error| error.message.hash(&mut hasher));
        let documents = self.documents(&sources, &mut hasher);
        note(documents, unreadable, faults, warnings, hasher.finish())
    }

    fn resolve(&self, from: From<'_>, read: Read) -> Loaded {
        let Read { documents, unreadable, faults, mut warnings, fingerprint } = read;
        let InForce { inventory, documents: in_force, fingerprint: _ } = &self.in_force;
        let documents = last_good::complete(documents, &unreadable, in_force);
        let resolved = resolve::resolve(&documents, in_force, faults, inventory, &self.configs);
        let Resolved { machines, mut faults, warnings: noted, has_cluster } = resolved;
        warnings.extend(noted);
        let path = match from {
            From::Files(paths) => paths.first().map_or(Path::new("."), |path| path),
            From::Objects => Path::new(API),
        };
        let mut is_awaited = false;
        // The API tells of each deletion, so that an object that is gone is meant to be gone.
        if !has_cluster && matches!(from, From::Files(_)) && !inventory.machines().is_empty() {
            // Somebody may be replacing the files. A spec without any cluster is not meant to take all machines away.
            let message = "has no TalosCluster any more: everything stays as it was until there is one";
            let fault = faults.add(Finding::about_file(path, message.to_owned()));
            inventory.machines().iter().for_each(|machine| faults.affect(fault, Some(machine.mac), true));
            let (inventory, documents) = (Arc::clone(inventory), in_force.clone());
            return Loaded { inventory, faults: faults.finish(MACHINE), warnings, documents, fingerprint };
        }
        if machines.is_empty() && faults.is_empty() {
            if let (false, From::Objects) = (has_cluster, from) {
                warnings.push(Finding::about_file(path, "has no TalosCluster: create one".to_owned()));
            } else if has_cluster {
                let message = "no machine to boot: none has a pxeClientSpec in a cluster with a pxeServerSpec";
                warnings.push(Finding::about_file(path, message.to_owned()));
            } else if let From::Files(paths) = from {
                is_awaited = paths.iter().all(|path| path.is_dir());
                faults.add(Finding::about_file(path, "has no TalosCluster: is it the right path?".to_owned()));
            }
        }
        warnings.sort();
        let faults = SpecFaults { is_awaited, ..faults.finish(MACHINE) };
        Loaded { inventory: Arc::new(Inventory::new(machines)), faults, warnings, documents, fingerprint }
    }

    /// Returns the known state of a file if it still looks the same, else its text.
    fn source(&mut self, path: &Arc<Path>, restless_for: Duration) -> Result<Source, Finding> {
        // Before it is read: what is written meanwhile looks different next time.
        let (stat, now) = (Stat::of(path).ok(), SystemTime::now());
        if !restless_for.is_zero() && stat.as_ref().is_some_and(|stat| !stat.is_older(restless_for, now)) {
            return Err(Finding::about_file(path, files::KEEPS_CHANGING.to_owned()));
        }
        let stat = stat.filter(|stat| stat.is_settled(now));
        match self.files.remove(path) {
            Some(known) if Some(&known.stat) == stat.as_ref() && self.has_parsed(&known) => Ok(Source::Known(known)),
            _ => files::read(path).map(|text| Source::Text(stat, text)),
        }
    }

    fn has_parsed(&self, file: &KnownFile) -> bool {
        file.documents.iter().all(|(_, fingerprint)| self.parsed.contains_key(fingerprint))
    }

    /// Returns the documents of the files, with errors that have no number yet.
    fn documents(&mut self, sources: &[(Arc<Path>, Source)], hasher: &mut impl Hasher) -> Vec<Placed> {
        let mut documents = Vec::new();
        let mut files = HashMap::with_capacity(sources.len());
        for (file, source) in sources {
            let begin = documents.len();
            let mut add = |lines_before, fingerprint, text| {
                let known = self.parsed.get(&fingerprint);
                let content = known.map_or_else(OnceLock::new, |known| OnceLock::from(Arc::clone(known)));
                let (file, syntax) = (Arc::clone(file), Syntax::Yaml);
                documents.push(Document { file, lines_before, fingerprint, text, syntax, content });
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
        let placed = self.parse(documents, hasher);
        self.files = files;
        placed
    }

    /// Parses the documents that are not known, and forgets those that are gone.
    fn parse(&mut self, documents: Vec<Document<'_>>, hasher: &mut impl Hasher) -> Vec<Placed> {
        for Document { file, lines_before, fingerprint, .. } in &documents {
            (file, lines_before, fingerprint).hash(hasher);
        }
        parse(&documents);
        self.parsed.clear();
        let placed =
            documents.into_iter().map(|Document { file, lines_before, fingerprint, text: _, syntax: _, content }| {
                let content = content.into_inner().unwrap_or_default();
                self.parsed.insert(fingerprint, Arc::clone(&content));
                let version = Version::Current { errors_from: Faults::default().next() };
                Placed { file, lines_before, content, version, selected: None }
            });
        placed.collect()
    }
}

/// Gives the errors of the documents their numbers.
fn note(
    mut documents: Vec<Placed>,
    unreadable: Vec<Unreadable>,
    mut faults: Faults,
    mut warnings: Vec<Finding>,
    fingerprint: u64,
) -> Read {
    for document in &mut documents {
        document.version = Version::Current { errors_from: faults.next() };
        let Notes { errors, warnings: noted, .. } = &document.content.notes;
        errors.iter().for_each(|note| _ = faults.add(document.noted(note)));
        warnings.extend(noted.iter().map(|note| document.noted(note)));
    }
    Read { documents, unreadable, faults, warnings, fingerprint }
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
            let text = document.text.unwrap_or_default();
            document.content.get_or_init(|| {
                Arc::new(match document.syntax {
                    Syntax::Yaml => read::read(text),
                    Syntax::Json => read::read_object(text),
                })
            });
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
        let load = |loader: &mut Loader, paths: &[PathBuf]| {
            let loaded = loader.load(paths).strictly().unwrap();
            let inventory = Arc::clone(&loaded.inventory);
            loader.put_in_force(loaded);
            inventory
        };
        let first = loop {
            let loaded = load(&mut loader, &paths);
            if loader.files.len() == 2 {
                break loaded;
            }
            assert!(begin.elapsed().as_secs() < 20, "the files do not settle");
        };

        let text = cluster("b", "10.0.0.13");
        fs::write(&b, &text).unwrap();
        let second = load(&mut loader, &paths);
        assert_eq!(loader.files.keys().map(|file| &**file).collect::<Vec<_>>(), [a.as_path()], "b was just written");
        assert!(Arc::ptr_eq(&first.machines()[0], &second.machines()[0]));
        assert_eq!(second.machines()[1].address.to_string(), "10.0.0.13");

        // A file that is gone is forgotten.
        fs::remove_file(&a).unwrap();
        let third = load(&mut loader, &[b]);
        assert_eq!(third.machines().len(), 1);
        assert!(loader.files.len() <= 1 && loader.parsed.len() == 1);
    }
}
