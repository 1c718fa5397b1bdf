//! The parts of unified kernel images that machines share, and the key that signs the images.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwapOption;
use tokio::{sync::watch, task::spawn_blocking};

use super::uki_sources::{Shared, Source, Sources, Unmade};
use crate::{
    artifacts::{Identity, OpenArtifact, Store},
    model::{
        architecture::Architecture,
        artifact_names::stub_name,
        boot_method::BootMethod,
        images::{BootFiles, Images},
        inventory::{Inventory, Machine},
    },
    uki::key::{KeyError, SignError, SigningKey},
};

/// The most shared parts that are kept: one for each version, architecture and schematic. Each has the size of an EFI stub.
const KEPT_LIMIT: usize = 64;

/// The most signatures that are kept. Each has some kilobytes.
const SIGNATURES_LIMIT: usize = 256;

/// The key that signs images, with its certificate.
#[derive(Debug)]
pub struct Signer {
    pub(super) key: SigningKey,
    /// The last signatures, by the hashes of their images.
    signatures: Mutex<HashMap<[u8; 32], Arc<[u8]>>>,
    /// A hash of the files that it was read from: another key or certificate makes other images.
    pub(super) fingerprint: [u8; 32],
}

impl Signer {
    /// Reads a private key and its certificate in PEM.
    ///
    /// # Errors
    ///
    /// The files do not have a key and its certificate that can sign images.
    pub fn from_pem(key: &[u8], certificate: &[u8]) -> Result<Self, KeyError> {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for file in [key, certificate] {
            context.update(&(file.len() as u64).to_le_bytes());
            context.update(file);
        }
        let fingerprint = context.finish().as_ref().try_into().unwrap_or_default();
        Ok(Self { key: SigningKey::from_pem(key, certificate)?, signatures: Mutex::default(), fingerprint })
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Returns the signature of the image with this hash. It is made once: a machine may ask for the end of its image again and again, and a
    /// signature takes a processor far longer than the rest of an answer.
    pub(super) fn sign(&self, image_hash: &[u8; 32]) -> Result<Arc<[u8]>, SignError> {
        if let Some(signature) = self.signatures().get(image_hash) {
            return Ok(Arc::clone(signature));
        }
        let signature: Arc<[u8]> = self.key.sign(image_hash)?.into();
        let mut signatures = self.signatures();
        if signatures.len() >= SIGNATURES_LIMIT {
            signatures.clear();
        }
        signatures.insert(*image_hash, Arc::clone(&signature));
        Ok(signature)
    }

    fn signatures(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<[u8]>>> {
        self.signatures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shared parts of images, made once for each set of files, and the key.
#[derive(Default)]
pub struct UkiImages {
    kept: Arc<Mutex<Vec<Kept>>>,
    signer: ArcSwapOption<Signer>,
}

/// The inputs of a shared part.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    files: [Option<Identity>; 3],
    architecture: Architecture,
    certificate_length: u32,
}

impl Key {
    fn new(sources: &Sources, architecture: Architecture, signer: Option<&Signer>) -> Self {
        let certificate_length = signer.map_or(0, |signer| signer.key.certificate_length());
        Self { files: sources.identities(), architecture, certificate_length }
    }
}

/// A shared part, or one that is being made.
struct Kept {
    key: Key,
    made: watch::Receiver<Option<Made>>,
}

type Made = Result<Arc<Shared>, Unmade>;

impl fmt::Debug for UkiImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UkiImages").field("signer", &self.signer).finish_non_exhaustive()
    }
}

impl UkiImages {
    /// Signs all images from now on, or none.
    pub fn set_signer(&self, signer: Option<Signer>) {
        self.signer.store(signer.map(Arc::new));
    }

    /// Returns whether images are signed.
    #[must_use]
    pub fn is_signing(&self) -> bool {
        self.signer.load().is_some()
    }

    pub(super) fn signer(&self) -> Option<Arc<Signer>> {
        self.signer.load_full()
    }

    /// Makes the shared parts of all images that the inventory's machines boot, so that nobody waits for them. Files that are not there are
    /// left out, and those of which no image could be made are not tried again. It reads files, so it must not be called where others would
    /// wait.
    pub fn prepare(&self, inventory: &Inventory, images: &Images, store: &Store) {
        let mut seen: Vec<(&str, Option<&str>, Architecture)> = Vec::new();
        for machine in inventory.machines() {
            let machine = images.as_bootable(machine);
            let kind = (&*machine.version, machine.schematic.as_deref(), machine.architecture);
            if machine.boot != BootMethod::Uki || seen.contains(&kind) {
                continue;
            }
            seen.push(kind);
            let files = BootFiles::of(machine, images.stubs());
            if let Ok(Some(sources)) = sources(machine, files, |path| store.open(path.as_bytes())) {
                let key = Key::new(&sources, machine.architecture, self.signer().as_deref());
                if let (_, Some(maker)) = self.find_or_begin(key, false) {
                    maker.make(&sources);
                }
            }
        }
    }

    /// Returns the shared part of images of these files. If it is not there, it is made by one thread, however many ask for it.
    pub(super) async fn shared(&self, sources: &Sources, architecture: Architecture, signer: Option<&Signer>) -> Made {
        let (mut made, maker) = self.find_or_begin(Key::new(sources, architecture, signer), true);
        if let Some(maker) = maker {
            let sources = sources.clone();
            // Nobody waits for the task itself: it goes on if this client goes away.
            drop(spawn_blocking(move || maker.make(&sources)));
        }
        let found = made.wait_for(Option::is_some).await;
        let found = found.ok().and_then(|found| found.clone());
        found.unwrap_or_else(|| Err(Unmade { reason: "pxed is stopping".into(), may_pass: true }))
    }

    /// Returns a shared part, or the promise of one. With a [`Maker`], the caller has to make it. If it failed for a reason that may pass, or
    /// its maker was lost, it is made again if the caller wants to `retry`.
    fn find_or_begin(&self, key: Key, retry: bool) -> (watch::Receiver<Option<Made>>, Option<Maker>) {
        let mut kept = lock(&self.kept);
        if let Some(at) = kept.iter().position(|one| one.key == key) {
            let one = kept.remove(at);
            let made = one.made.clone();
            let is_void = match &*made.borrow() {
                Some(made) => made.as_ref().is_err_and(|unmade| unmade.may_pass),
                None => made.has_changed().is_err(),
            };
            if !(is_void && retry) {
                // The last is the one that was used last.
                kept.push(one);
                return (made, None);
            }
        }
        if kept.len() >= KEPT_LIMIT {
            kept.remove(0);
        }
        let (sender, made) = watch::channel(None);
        kept.push(Kept { key, made: made.clone() });
        (made, Some(Maker { key, sender }))
    }

    /// Returns the number of shared parts.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        lock(&self.kept).len()
    }
}

fn lock(kept: &Mutex<Vec<Kept>>) -> MutexGuard<'_, Vec<Kept>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The duty to make a shared part, for which others may be waiting.
struct Maker {
    key: Key,
    sender: watch::Sender<Option<Made>>,
}

impl Maker {
    fn make(self, sources: &Sources) {
        let made = sources.share(self.key.architecture, self.key.certificate_length).map(Arc::new);
        if let Err(Unmade { reason, .. }) = &made {
            tracing::error!("no unified kernel image can be made: {reason}");
        }
        self.sender.send_replace(Some(made));
    }
}

/// Opens the files that a machine's image is made of. Returns `Ok(None)` if its image is not made, but a file. An error names the file.
pub(super) fn sources<E>(
    machine: &Machine,
    files: BootFiles,
    mut open: impl FnMut(&str) -> Result<OpenArtifact, E>,
) -> Result<Option<Sources>, (String, E)> {
    let mut source = |path: String| match open(&path) {
        Ok(artifact) => Ok(Source { path, artifact: Arc::new(artifact) }),
        Err(error) => Err((path, error)),
    };
    Ok(match files {
        BootFiles::KernelAndInitramfs { kernel, initramfs } => Some(Sources::Parts {
            stub: source(stub_name(machine.architecture).to_owned())?,
            kernel: source(kernel)?,
            initramfs: source(initramfs)?,
        }),
        BootFiles::FactoryUki(path) => Some(Sources::Uki(source(path)?)),
        BootFiles::SecureBootUki(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uki::testing::{CERTIFICATE, KEY};

    fn key(number: u64) -> Key {
        let files = [Some(Identity { size: number, inode: 1, modified_ns: 1 }), None, None];
        Key { files, architecture: Architecture::Amd64, certificate_length: 0 }
    }

    fn failed(may_pass: bool) -> Option<Made> {
        Some(Err(Unmade { reason: "why".into(), may_pass }))
    }

    #[test]
    fn signature_is_made_once_for_an_image_and_few_are_kept() {
        let signer = Signer::from_pem(KEY, CERTIFICATE).unwrap();
        let hash = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            hash
        };
        let first = signer.sign(&hash(0)).unwrap();
        assert_eq!(*first, signer.key.sign(&hash(0)).unwrap()[..]);
        assert!(Arc::ptr_eq(&first, &signer.sign(&hash(0)).unwrap()));
        for number in 1..=SIGNATURES_LIMIT {
            signer.sign(&hash(number)).unwrap();
            assert!(signer.signatures().len() <= SIGNATURES_LIMIT);
        }
    }

    #[test]
    fn only_the_first_of_those_who_ask_makes_a_shared_part() {
        let images = UkiImages::default();
        let (_, maker) = images.find_or_begin(key(1), true);
        let maker = maker.unwrap();
        for retry in [true, false] {
            let (waits, other) = images.find_or_begin(key(1), retry);
            assert!(other.is_none() && waits.borrow().is_none(), "it is being made");
        }
        maker.sender.send_replace(failed(false));
        for retry in [true, false] {
            let (made, other) = images.find_or_begin(key(1), retry);
            assert!(other.is_none() && made.borrow().is_some(), "the files are not read again");
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_by_those_who_ask() {
        let images = UkiImages::default();
        let maker = images.find_or_begin(key(1), true).1.unwrap();
        maker.sender.send_replace(failed(true));
        assert!(images.find_or_begin(key(1), false).1.is_none());
        let again = images.find_or_begin(key(1), true).1.unwrap();
        // A maker that panics must not make others wait for ever.
        drop(again);
        assert!(images.find_or_begin(key(1), true).1.is_some());
        assert_eq!(images.kept(), 1);
    }

    #[test]
    fn shared_parts_that_were_used_last_are_kept() {
        let images = UkiImages::default();
        let makers: Vec<_> = (0..200)
            .map(|number| {
                assert!(number == 0 || images.find_or_begin(key(0), true).1.is_none(), "in use");
                images.find_or_begin(key(number), true)
            })
            .collect();
        assert_eq!(images.kept(), KEPT_LIMIT);
        assert!(images.find_or_begin(key(199), true).1.is_none());
        assert!(images.find_or_begin(key(2), true).1.is_some());
        drop(makers);
    }
}
