//! From paths to an inventory; a document whose text did not change is not parsed again.

use std::{
    collections::HashMap,
    hash::BuildHasher as _,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use pxe_common::MacAddr;

use super::{
    Loaded, SpecErrors,
    documents::Content,
    files,
    finding::Finding,
    read,
    resolve::{self, Placed, Resolved},
    split::{self, Piece},
};
use crate::inventory::{AddressHashBuilder, Inventory, Machine};

/// Loads specs. Kept between loads, it makes a reload cost what changed.
#[derive(Debug, Default)]
pub struct Loader {
    /// By the hash and the length of a document's text.
    parsed: HashMap<Fingerprint, Arc<Content>>,
    /// The machines of the last good load: those that did not change are kept, so that a reload takes no more memory
    /// than what changed.
    machines: HashMap<MacAddr, Arc<Machine>, AddressHashBuilder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Fingerprint {
    hash: u64,
    length: usize,
}

/// A document of a file, to be parsed unless its content is known.
struct Document<'t> {
    file: &'t Arc<Path>,
    piece: Piece<'t>,
    fingerprint: Fingerprint,
    content: OnceLock<Arc<Content>>,
}

impl Loader {
    /// A loader that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the files and directories.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them, in the order of files and lines.
    pub fn load(&mut self, paths: &[PathBuf]) -> Result<Loaded, SpecErrors> {
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        let mut texts: Vec<(Arc<Path>, String)> = Vec::new();
        for path in files::collect(paths, &mut errors, &mut warnings) {
            let path: Arc<Path> = Arc::from(path);
            match files::read(&path) {
                Ok(text) => texts.push((path, text)),
                Err(finding) => errors.push(finding),
            }
        }
        let placed = self.documents(&texts);
        drop(texts);
        let Resolved { machines, errors: found, warnings: noted } = resolve::resolve(&placed);
        errors.extend(found);
        warnings.extend(noted);
        if machines.is_empty() && errors.is_empty() {
            let path = paths.first().map_or(Path::new("."), |path| path);
            let any_cluster = placed.iter().any(|document| document.content.has_cluster());
            if any_cluster {
                let message = "no machine to boot: none has a pxeClientSpec in a cluster with a pxeServerSpec";
                warnings.push(Finding::about_file(path, message.to_owned()));
            } else {
                // Also what is left of a file that is being written, or of a volume that is not mounted: at a reload,
                // it must not take every machine away.
                errors.push(Finding::about_file(path, "has no TalosCluster: is it the right path?".to_owned()));
            }
        }
        if errors.is_empty() {
            Ok(Loaded { inventory: Inventory::new(self.keep(machines)), warnings })
        } else {
            Err(SpecErrors { errors, warnings })
        }
    }

    fn keep(&mut self, machines: Vec<Machine>) -> Vec<Arc<Machine>> {
        let kept: Vec<_> = machines
            .into_iter()
            .map(|machine| match self.machines.get(&machine.mac) {
                Some(known) if **known == machine => Arc::clone(known),
                _ => Arc::new(machine),
            })
            .collect();
        self.machines = kept.iter().map(|machine| (machine.mac, Arc::clone(machine))).collect();
        kept
    }

    fn documents(&mut self, texts: &[(Arc<Path>, String)]) -> Vec<Placed> {
        let mut documents = Vec::new();
        for (file, text) in texts {
            for piece in split::split(text) {
                let fingerprint =
                    Fingerprint { hash: AddressHashBuilder.hash_one(piece.text), length: piece.text.len() };
                let content =
                    self.parsed.get(&fingerprint).map_or_else(OnceLock::new, |known| OnceLock::from(Arc::clone(known)));
                documents.push(Document { file, piece, fingerprint, content });
            }
        }
        parse(&documents);
        self.parsed.clear();
        let placed = documents.into_iter().map(|Document { file, piece, fingerprint, content }| {
            let content = content.into_inner().unwrap_or_default();
            self.parsed.insert(fingerprint, Arc::clone(&content));
            Placed { file: Arc::clone(file), lines_before: piece.lines_before, content }
        });
        placed.collect()
    }
}

/// Parses what is not known, on as many threads as there are processors.
fn parse(documents: &[Document<'_>]) {
    /// Below this much text another thread costs more than it saves.
    const BYTES_A_THREAD: usize = 1 << 20;
    let unknown: Vec<_> = documents.iter().filter(|document| document.content.get().is_none()).collect();
    let bytes: usize = unknown.iter().map(|document| document.piece.text.len()).sum();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(document) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
            document.content.get_or_init(|| Arc::new(read::read(document.piece.text)));
        }
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(bytes / BYTES_A_THREAD + 1);
    thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that cannot be had is done without.
            let _ = thread::Builder::new().name("spec".to_owned()).spawn_scoped(scope, work);
        }
        work();
    });
}
