//! The state of the files that the inventory needs, as a snapshot.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
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
    /// It is there, from a package of this host, which stands in for a file of the artifacts directory.
    Packaged,
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
        /// The time that the rest takes at the present speed, once that can be told.
        rest: Option<Duration>,
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
    /// The names of all states, in the order of the variants.
    pub const NAMES: [&'static str; 9] =
        ["verified", "packaged", "by-hand", "verifying", "queued", "fetching", "failed", "missing", "refused"];

    /// Returns the name of the state in the API and the metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        let [verified, packaged, by_hand, verifying, queued, fetching, failed, missing, refused] = Self::NAMES;
        match self {
            Self::Verified => verified,
            Self::Packaged => packaged,
            Self::ByHand => by_hand,
            Self::Verifying => verifying,
            Self::Queued => queued,
            Self::Fetching { .. } => fetching,
            Self::Failed { .. } => failed,
            Self::Missing { .. } => missing,
            Self::Refused { .. } => refused,
        }
    }

    /// Returns whether machines get the file.
    #[must_use]
    pub const fn is_served(&self) -> bool {
        matches!(self, Self::Verified | Self::Packaged | Self::ByHand)
    }

    /// Returns whether the file is expected to come without anybody's help.
    #[must_use]
    pub const fn is_expected(&self) -> bool {
        matches!(self, Self::Verifying | Self::Queued | Self::Fetching { .. } | Self::Failed { .. })
    }
}

/// A file that the inventory needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Its state.
    pub state: FileState,
    /// The number of machines that need it.
    pub machines: usize,
    /// The firmware that alone needs it, such as `BIOS`, which the spec does not tell. `None` if the machines certainly need it.
    pub only_for: Option<&'static str>,
    /// The commands that get it while it is not there, of which one suffices.
    pub remedy: Arc<[String]>,
}

/// A file in this state that one machine needs.
impl From<FileState> for ImageFile {
    fn from(state: FileState) -> Self {
        Self { state, machines: 1, only_for: None, remedy: Arc::default() }
    }
}

/// A snapshot of the files that the inventory needs, and which machines boot another version until theirs is there.
#[derive(Debug, Default)]
pub struct Images {
    files: BTreeMap<Arc<str>, ImageFile>,
    /// Machines whose new version is not there yet, as the spec had them before.
    previous: Arc<HashMap<MacAddr, Arc<Machine>, AddressHashBuilder>>,
    stubs: Stubs,
    is_complete: bool,
    /// The stand-in for a file that the snapshot does not know, if that is a file of a newer inventory.
    unknown: Option<ImageFile>,
}

/// The snapshot in force.
pub type SharedImages = Arc<ArcSwap<Images>>;

/// A file that a machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited<'i> {
    /// The path, relative to the artifacts directory.
    pub path: &'i str,
    /// The file.
    pub file: &'i ImageFile,
}

impl Images {
    /// Makes a snapshot. `previous` has the machines that boot another version meanwhile, by their first MAC address.
    #[must_use]
    pub fn new(
        files: BTreeMap<Arc<str>, ImageFile>,
        previous: HashMap<MacAddr, Arc<Machine>, AddressHashBuilder>,
        stubs: Stubs,
    ) -> Self {
        let is_complete = previous.is_empty() && files.values().all(|file| file.state.is_served());
        Self { files, previous: Arc::new(previous), stubs, is_complete, unknown: None }
    }

    /// Makes a snapshot that has every file of the inventory that it is made of. A machine that needs another one is of a newer inventory,
    /// and waits for the next snapshot.
    #[must_use]
    pub fn of_the_whole_plan(
        files: BTreeMap<Arc<str>, ImageFile>,
        previous: Arc<HashMap<MacAddr, Arc<Machine>, AddressHashBuilder>>,
        stubs: Stubs,
    ) -> Self {
        Self { files, previous, stubs, is_complete: false, unknown: Some(FileState::Verifying.into()) }
    }

    /// Returns every file with its state, by path.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<Arc<str>, ImageFile> {
        &self.files
    }

    /// Returns the architectures whose EFI stub is there.
    #[must_use]
    pub fn stubs(&self) -> Stubs {
        self.stubs
    }

    /// Returns the number of machines that boot another version until the files of theirs are there.
    #[must_use]
    pub fn previous(&self) -> usize {
        self.previous.len()
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
        // What a machine boots as before was looked at on its own.
        let unknown = self.unknown.as_ref().filter(|_| !self.is_previous(machine));
        BootFiles::of(machine, self.stubs).paths().find_map(|path| match self.files.get_key_value(path) {
            Some((path, file)) => (!file.state.is_served()).then_some(Awaited { path, file }),
            None => unknown.map(|file| Awaited { path: "files of the new spec", file }),
        })
    }

    /// Returns whether this is a machine as it booted before.
    fn is_previous(&self, machine: &Machine) -> bool {
        self.previous.get(&machine.mac).is_some_and(|previous| std::ptr::eq(&raw const **previous, machine))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::machine;

    const BOTH: Stubs = Stubs { amd64: true, arm64: true };
    const NEITHER: Stubs = Stubs { amd64: false, arm64: false };

    fn with(boot: BootMethod, schematic: Option<&str>) -> Machine {
        Machine { boot, ..Machine::clone(&machine(1, Architecture::Amd64, "v1.13.0", schematic)) }
    }

    fn states() -> [FileState; 9] {
        let reason: Arc<str> = "why".into();
        [
            FileState::Verified,
            FileState::Packaged,
            FileState::ByHand,
            FileState::Verifying,
            FileState::Queued,
            FileState::Fetching { done: 1, total: Some(2), rest: None },
            FileState::Failed { reason: Arc::clone(&reason), again: SystemTime::UNIX_EPOCH },
            FileState::Missing { reason: Arc::clone(&reason) },
            FileState::Refused { reason },
        ]
    }

    fn images(files: &[(&str, FileState)]) -> Images {
        let files = files.iter().map(|(path, state)| (Arc::from(*path), state.clone().into())).collect();
        Images::new(files, HashMap::default(), BOTH)
    }

    #[test]
    fn file_is_served_or_expected_or_needs_somebody() {
        for state in states() {
            let is_someones_task = matches!(state, FileState::Missing { .. } | FileState::Refused { .. });
            let ways = [state.is_served(), state.is_expected(), is_someones_task];
            assert_eq!(ways.iter().filter(|&&way| way).count(), 1, "{state:?}");
        }
        assert_eq!(states().map(|state| state.name()), FileState::NAMES);
    }

    #[test]
    fn machine_boots_its_own_files_by_its_own_method() {
        let (amd64, arm64) = (Stubs { arm64: false, ..BOTH }, Stubs { amd64: false, ..BOTH });
        let plain = "vmlinuz-v1.13.0-amd64 initramfs-v1.13.0-amd64.xz";
        for (boot, schematic, stubs, expected) in [
            (BootMethod::Ipxe, None, NEITHER, plain),
            (BootMethod::Ipxe, Some("ab12"), BOTH, "ab12/vmlinuz-v1.13.0-amd64 ab12/initramfs-v1.13.0-amd64.xz"),
            (BootMethod::Uki, None, BOTH, plain),
            (BootMethod::Uki, None, amd64, plain),
            (BootMethod::Uki, None, arm64, "uki-v1.13.0-amd64.efi"),
            (BootMethod::Uki, None, NEITHER, "uki-v1.13.0-amd64.efi"),
            (BootMethod::Uki, Some("ab12"), BOTH, "ab12/uki-v1.13.0-amd64.efi"),
            (BootMethod::FactoryUki, None, BOTH, "secureboot-uki-v1.13.0-amd64.efi"),
            (BootMethod::FactoryUki, Some("ab12"), NEITHER, "ab12/secureboot-uki-v1.13.0-amd64.efi"),
        ] {
            let files = BootFiles::of(&with(boot, schematic), stubs);
            assert_eq!(files.paths().collect::<Vec<_>>().join(" "), expected, "{boot:?} {schematic:?} {stubs:?}");
        }
    }

    #[test]
    fn machine_waits_for_the_first_of_its_files_that_is_not_served() {
        let machine = with(BootMethod::Ipxe, None);
        let (kernel, initramfs) = ("vmlinuz-v1.13.0-amd64", "initramfs-v1.13.0-amd64.xz");
        for state in states() {
            let both = images(&[(kernel, FileState::Verified), (initramfs, state.clone())]);
            let awaited = both.awaited(&machine).map(|awaited| (awaited.path, awaited.file.state.clone()));
            assert_eq!(awaited, (!state.is_served()).then_some((initramfs, state)));
        }
        let neither = images(&[(kernel, FileState::Queued), (initramfs, FileState::Queued)]);
        assert_eq!(neither.awaited(&machine).map(|awaited| awaited.path), Some(kernel));
    }

    #[test]
    fn machine_does_not_wait_for_files_of_others_or_for_unknown_ones() {
        let machine = with(BootMethod::Ipxe, None);
        assert_eq!(Images::default().awaited(&machine), None);
        assert_eq!(images(&[("vmlinuz-v1.13.0-arm64", FileState::Queued)]).awaited(&machine), None);
        assert_eq!(images(&[("undionly.kpxe", FileState::Queued)]).awaited(&machine), None);
    }

    #[test]
    fn machine_of_a_newer_inventory_waits_for_the_next_snapshot() {
        let (kernel, initramfs) = ("vmlinuz-v1.13.0-amd64", "initramfs-v1.13.0-amd64.xz");
        let files: BTreeMap<_, ImageFile> =
            [kernel, initramfs].map(|path| (path.into(), FileState::Verified.into())).into();
        let old = machine(2, Architecture::Amd64, "v1.12.0", None);
        let previous = HashMap::from_iter([(old.mac, Arc::clone(&old))]);
        let images = Images::of_the_whole_plan(files, Arc::new(previous), BOTH);
        assert_eq!(images.awaited(&with(BootMethod::Ipxe, None)), None);
        let newer = images.awaited(&machine(1, Architecture::Amd64, "v1.14.0", None)).map(|awaited| awaited.pause());
        assert_eq!(newer, Some(Duration::from_secs(5)));
        // The files of a previous version are not in the plan, and were looked at.
        let new = machine(2, Architecture::Amd64, "v1.13.0", None);
        assert_eq!(images.awaited(images.as_bootable(&new)), None);
    }

    #[test]
    fn machine_boots_its_previous_version_by_the_name_of_its_first_card() {
        let (old, other) =
            (machine(1, Architecture::Amd64, "v1.12.0", None), machine(2, Architecture::Amd64, "v1.13.0", None));
        let new = Arc::new(with(BootMethod::Ipxe, None));
        let previous = HashMap::from_iter([(old.mac, Arc::clone(&old))]);
        let images = Images::new(BTreeMap::new(), previous, BOTH);
        assert!(Arc::ptr_eq(images.as_bootable(&new), &old));
        assert!(Arc::ptr_eq(images.as_bootable(&other), &other));
    }
}
