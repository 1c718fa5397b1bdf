//! The key that signs unified kernel images for Secure Boot: read from its files at start, and again at each reload.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use nix::fcntl::OFlag;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    artifacts::Store,
    http::{Signer, UkiImages},
    mistakes,
    model::{boot_method::BootMethod, images::SharedImages, inventory::SharedInventory},
    shut_out::{self, Wanted},
};

/// The longest file of a key or certificate that is read.
const FILE_LIMIT: u64 = 1 << 20;

/// The interval at which the shared parts of images are brought in step with the files.
const PREPARED_EVERY: Duration = Duration::from_secs(2);

/// The permission of everybody to read a file.
const READABLE_BY_OTHERS: u32 = 0o004;

/// The files of the key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureBoot {
    /// The private key.
    pub key: PathBuf,
    /// Its certificate.
    pub certificate: PathBuf,
}

impl SecureBoot {
    /// Reads the files. What may keep machines from accepting signatures is logged. `artifacts` is the directory that the key must not be
    /// in.
    ///
    /// # Errors
    ///
    /// Says which file is wrong, and what to do.
    pub(super) fn read(&self, artifacts: &Path) -> Result<Signer, String> {
        let Self { key, certificate } = self;
        if is_below(key, artifacts) {
            return Err(format!(
                "--secure-boot-key {} is in the artifacts directory {}, which every machine may read: move it elsewhere, and make a new key \
                 if the network was not trusted meanwhile",
                key.display(),
                artifacts.display()
            ));
        }
        let (key_text, mode) = read(key).map_err(|error| format!("--secure-boot-key {}: {error}", key.display()))?;
        let (certificate_text, _) =
            read(certificate).map_err(|error| format!("--secure-boot-cert {}: {error}", certificate.display()))?;
        let signer = Signer::from_pem(&key_text, &certificate_text).map_err(|error| {
            format!("--secure-boot-key {}, --secure-boot-cert {}: {error}", key.display(), certificate.display())
        })?;
        if mode & READABLE_BY_OTHERS != 0 {
            let path = key.display();
            tracing::warn!("--secure-boot-key {path}: everybody on this host can read the key: chmod o-r {path}");
        }
        for warning in signer.key().warnings(SystemTime::now()) {
            tracing::warn!("--secure-boot-cert {}: {warning}", certificate.display());
        }
        Ok(signer)
    }
}

/// Returns `true` if a file is below a directory, by its path or by that to which its symbolic links lead.
fn is_below(path: &Path, directory: &Path) -> bool {
    let Ok(directory) = directory.canonicalize() else { return false };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    [path, parent].iter().any(|path| path.canonicalize().is_ok_and(|path| path.starts_with(&directory)))
}

/// Returns the content of a file, and its mode.
fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    // A FIFO would block until somebody writes to it.
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = file.map_err(|error| shut_out::explained(path, Wanted::Read, error))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.len() > FILE_LIMIT {
        return Err(io::Error::other("it is too long for a key or a certificate in PEM"));
    }
    let mut content = Vec::new();
    file.take(FILE_LIMIT).read_to_end(&mut content)?;
    Ok((content, metadata.permissions().mode()))
}

/// The images, with what they are made of.
#[derive(Clone)]
pub(super) struct UkiUpkeep {
    pub(super) ukis: Arc<UkiImages>,
    pub(super) secure_boot: Option<SecureBoot>,
    pub(super) inventory: SharedInventory,
    pub(super) images: SharedImages,
    pub(super) store: Arc<Store>,
}

impl UkiUpkeep {
    /// Reads the key for the first time, if there is one.
    ///
    /// # Errors
    ///
    /// If it cannot be used.
    pub(super) fn start(&self) -> Result<(), String> {
        if let Some(secure_boot) = &self.secure_boot {
            self.ukis.set_signer(Some(secure_boot.read(self.store.root())?));
            tracing::info!(certificate = %secure_boot.certificate.display(), "unified kernel images are signed");
        }
        Ok(())
    }

    /// Reads the key again, without waiting for the disk. If it cannot be used, the one before stays.
    /// `until_read` is dropped when that is done.
    pub(super) fn reload(&self, until_read: impl Send + 'static) {
        let this = self.clone();
        drop(spawn_blocking(move || {
            this.reload_now();
            drop(until_read);
        }));
    }

    fn reload_now(&self) {
        match self.secure_boot.as_ref().map(|files| files.read(self.store.root())) {
            Some(Ok(signer)) => self.ukis.set_signer(Some(signer)),
            Some(Err(error)) => tracing::error!("{error}; images are signed with the key from before"),
            None => {}
        }
    }

    /// Returns whether a machine boots a unified kernel image.
    fn has_images(&self) -> bool {
        let images = self.images.load();
        self.inventory.load().machines().iter().any(|machine| images.as_bootable(machine).boot == BootMethod::Uki)
    }

    /// Makes what images share before machines ask, for ever.
    pub(super) async fn prepare_forever(self) {
        let mut look = tokio::time::interval(PREPARED_EVERY);
        loop {
            look.tick().await;
            // Most fleets boot none, and need no thread for that.
            if !self.has_images() {
                continue;
            }
            let this = self.clone();
            let prepare = move || this.ukis.prepare(&this.inventory.load(), &this.images.load(), &this.store);
            let prepare = || mistakes::outlive("preparing unified kernel images", prepare);
            // Those who ask meanwhile make what they need.
            if spawn_blocking(prepare).await.ok().flatten().is_none() {
                sleep(mistakes::PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::uki::testing::{CERTIFICATE, KEY};

    fn files(directory: &Path) -> SecureBoot {
        let secure_boot = SecureBoot { key: directory.join("db.key"), certificate: directory.join("db.crt") };
        fs::write(&secure_boot.key, KEY).unwrap();
        fs::write(&secure_boot.certificate, CERTIFICATE).unwrap();
        secure_boot
    }

    #[test]
    fn key_that_cannot_be_used_is_an_error_that_names_its_file() {
        type Spoil = fn(&SecureBoot);
        let cases: [(Spoil, &[&str]); 7] = [
            (|files| fs::remove_file(&files.key).unwrap(), &["--secure-boot-key", "db.key", "No such file"]),
            (|files| fs::remove_file(&files.certificate).unwrap(), &["--secure-boot-cert", "db.crt", "No such file"]),
            (|files| fs::write(&files.key, "").unwrap(), &["db.key", "the private key: the file is empty"]),
            (|files| fs::write(&files.certificate, KEY).unwrap(), &["db.crt", "the certificate"]),
            (
                |files| {
                    fs::remove_file(&files.key).unwrap();
                    fs::create_dir(&files.key).unwrap();
                },
                &["--secure-boot-key", "not a file"],
            ),
            (
                |files| {
                    fs::remove_file(&files.certificate).unwrap();
                    nix::unistd::mkfifo(&files.certificate, nix::sys::stat::Mode::S_IRUSR).unwrap();
                },
                &["--secure-boot-cert", "not a file"],
            ),
            (|files| fs::write(&files.key, vec![0; 2 << 20]).unwrap(), &["--secure-boot-key", "too long"]),
        ];
        for (spoil, words) in cases {
            let directory = tempfile::tempdir().unwrap();
            let files = files(directory.path());
            let artifacts = directory.path().join("artifacts");
            assert!(files.read(&artifacts).is_ok());
            spoil(&files);
            let error = files.read(&artifacts).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
        }
    }

    #[test]
    fn key_in_the_artifacts_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["artifacts/sub", "artifacts-of-others", "links"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let below = files(&at("artifacts/sub"));
        let beside = files(&at("artifacts-of-others"));
        symlink(&below.key, at("links/in.key")).unwrap();
        symlink(&beside.key, at("artifacts/out.key")).unwrap();
        symlink(at("artifacts"), at("to-artifacts")).unwrap();
        for (key, is_refused) in [
            (below.key.clone(), true),
            (at("links/in.key"), true),
            // Whoever puts a copy in place of the link does not look at our options.
            (at("artifacts/out.key"), true),
            (at("links/../to-artifacts/sub/db.key"), true),
            (beside.key.clone(), false),
        ] {
            // A certificate is no secret.
            let files = SecureBoot { key: key.clone(), certificate: below.certificate.clone() };
            for artifacts in [at("artifacts"), at("to-artifacts")] {
                let error = files.read(&artifacts).err();
                let expected = format!("--secure-boot-key {} is in the artifacts directory", key.display());
                assert_eq!(error.is_some_and(|error| error.starts_with(&expected)), is_refused, "{}", key.display());
            }
        }
    }

    #[test]
    fn key_that_was_spoilt_leaves_the_one_before_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let upkeep = UkiUpkeep {
            ukis: Arc::default(),
            secure_boot: Some(files.clone()),
            inventory: Arc::default(),
            images: Arc::default(),
            store: Arc::new(Store::new(directory.path().join("artifacts"))),
        };
        upkeep.start().unwrap();
        assert!(upkeep.ukis.is_signing());
        fs::write(&files.key, "spoilt").unwrap();
        upkeep.reload_now();
        assert!(upkeep.ukis.is_signing());
        assert!(upkeep.start().is_err());
    }
}
