//! The state of the files that the inventory needs, as a snapshot.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use pxe_common::MacAddr;

use super::{
    architecture::Architecture,
    artifact_names::{initramfs_path, kernel_path, schematic_of, secure_boot_uki_path, uki_path},
    boot_method::BootMethod,
    inventory::{AddressHashBuilder, Machine},
};

/// The state of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It is there, as it was verified.
    Verified,
    /// It is there, and a person put it there. There is nothing to verify it against, or it could not be asked for so far.
    ByHand,
    /// It is there and is being read to verify it. It is not served meanwhile.
    Verifying,
    /// It waits for other downloads.
    Queued,
    /// It is being downloaded.
    Fetching {
        /// Bytes that are on disk.
        done: u64,
        /// Its length in bytes, once the server has said it.
        total: Option<u64>,
    },
    /// The last attempt failed, and another one follows.
    Failed {
        /// The reason, in words for a person.
        reason: Arc<str>,
        /// The time of the next attempt.
        again: SystemTime,
    },
    /// It is not there, and pxed does not fetch it.
    Missing {
        /// The reason why it is not fetched, in words for a person.
        reason: Arc<str>,
    },
    /// It is there, but it is not what was verified. It is not served.
    Refused {
        /// The reason, in words for a person.
        reason: Arc<str>,
    },
}

impl FileState {
    /// Returns whether machines get the file.
    #[must_use]
    pub const fn is_served(&self) -> bool {
        matches!(self, Self::Verified | Self::ByHand)
    }

    /// Returns whether the file is expected to come without anybody's help.
    #[must_use]
    pub const fn is_expected(&self) -> bool {
        matches!(self, Self::Verifying | Self::Queued | Self::Fetching { .. } | Self::Failed { .. })
    }
}

/// A snapshot of the files that the inventory needs, and which machines boot another version until theirs is there.
#[derive(Debug, Default)]
pub struct Images {
    files: BTreeMap<Arc<str>, FileState>,
    /// Machines whose new version is not there yet, as the spec had them before.
    previous: HashMap<MacAddr, Arc<Machine>, AddressHashBuilder>,
    stubs: Stubs,
    is_complete: bool,
}

/// The snapshot in force.
pub type SharedImages = Arc<ArcSwap<Images>>;

/// A file that a machine waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited<'i> {
    /// The path, relative to the artifacts directory.
    pub path: &'i str,
    /// Its state.
    pub state: &'i FileState,
}

impl Images {
    /// Makes a snapshot. `previous` has the machines that boot another version meanwhile, by their first MAC address.
    #[must_use]
    pub fn new(
        files: BTreeMap<Arc<str>, FileState>,
        previous: HashMap<MacAddr, Arc<Machine>, AddressHashBuilder>,
        stubs: Stubs,
    ) -> Self {
        let is_complete = previous.is_empty() && files.values().all(FileState::is_served);
        Self { files, previous, stubs, is_complete }
    }

    /// Returns every file with its state, by path.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<Arc<str>, FileState> {
        &self.files
    }

    /// Returns the architectures whose EFI stub is there.
    #[must_use]
    pub fn stubs(&self) -> Stubs {
        self.stubs
    }

    /// Returns the machine as it boots now: with its previous version while the files of the new one are not there.
    #[must_use]
    pub fn as_bootable<'m>(&'m self, machine: &'m Arc<Machine>) -> &'m Arc<Machine> {
        self.previous.get(&machine.mac).unwrap_or(machine)
    }

    /// Returns the first file that the machine's kernel needs and that cannot be served now, or `None` if the machine can boot. A file
    /// that the snapshot does not know is not waited for: the request for it tells.
    #[must_use]
    pub fn awaited(&self, machine: &Machine) -> Option<Awaited<'_>> {
        if self.is_complete {
            return None;
        }
        BootFiles::of(machine, self.stubs).paths().find_map(|path| {
            let (path, state) = self.files.get_key_value(path)?;
            (!state.is_served()).then_some(Awaited { path, state })
        })
    }
}

/// The architectures whose EFI stub is there, in the artifacts directory or from the host's packages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stubs {
    /// `linuxx64.efi.stub`.
    pub amd64: bool,
    /// `linuxaa64.efi.stub`.
    pub arm64: bool,
}

impl Stubs {
    const fn has(self, architecture: Architecture) -> bool {
        match architecture {
            Architecture::Amd64 => self.amd64,
            Architecture::Arm64 => self.arm64,
        }
    }
}

/// The files that a machine's kernel is made of, by their paths relative to the artifacts directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootFiles {
    /// A kernel and an initramfs. For a unified kernel image, the EFI stub is added.
    KernelAndInitramfs {
        /// The kernel.
        kernel: String,
        /// The initramfs.
        initramfs: String,
    },
    /// A unified kernel image of the Image Factory, from which the machine's own is made.
    FactoryUki(String),
    /// The Image Factory's unified kernel image for Secure Boot, as it is.
    SecureBootUki(String),
}

impl BootFiles {
    /// Returns the files of a machine. The image of a schematic is made from the Factory's, and that of a plain release from the EFI stub,
    /// kernel and initramfs, or also from the Factory's if there is no stub.
    #[must_use]
    pub fn of(machine: &Machine, stubs: Stubs) -> Self {
        match machine.boot {
            BootMethod::Uki if schematic_of(machine).is_some() || !stubs.has(machine.architecture) => {
                Self::FactoryUki(uki_path(machine))
            }
            BootMethod::Ipxe | BootMethod::Uki => {
                Self::KernelAndInitramfs { kernel: kernel_path(machine), initramfs: initramfs_path(machine) }
            }
            BootMethod::FactoryUki => Self::SecureBootUki(secure_boot_uki_path(machine)),
        }
    }

    /// Returns the paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Self::KernelAndInitramfs { kernel, initramfs } => (kernel, Some(initramfs)),
            Self::FactoryUki(path) | Self::SecureBootUki(path) => (path, None),
        };
        std::iter::once(first).chain(second).map(String::as_str)
    }
}
