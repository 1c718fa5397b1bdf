//! Finds the files that the inventory needs and the store lacks, and says how to get each.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fmt,
    path::{Path, PathBuf},
};

use super::{
    links::Link,
    store::{Refusal, Store},
};
use crate::model::{
    artifact_names::{initramfs_path, kernel_path, schematic_of, stand_ins},
    inventory::{Inventory, Machine},
    loader::{Loader, LoaderFile},
};

/// The severity of a missing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Some machine of the spec certainly cannot boot.
    Error,
    /// Only a machine whose firmware type is not in the spec may need it.
    Warning,
}

/// A file that the inventory needs and the store cannot provide. Its `Display` gives the problem, the path, the machines
/// that need it and the commands to get it, on several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The path where it belongs.
    pub path: PathBuf,
    /// The severity.
    pub severity: Severity,
    /// The problem with the file.
    pub problem: Problem,
    /// The symbolic link that leads to the problem.
    pub link: Option<Link>,
    /// The machines that need it, in words.
    pub needed_by: String,
    /// The commands that get it; one of them suffices.
    pub remedy: Vec<String>,
}

/// The problem with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The file does not exist.
    Absent,
    /// The file is empty: a download failed.
    Empty,
    /// A symbolic link leaves the artifacts directory.
    Outside,
    /// Symbolic links lead in a circle.
    Circle,
    /// The file cannot be read.
    Unreadable,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::Absent => "missing",
            Problem::Empty => "empty, as a failed download leaves it",
            Problem::Outside => "not in the artifacts directory: copy the file itself there",
            Problem::Circle => "not to be found by symbolic links that lead in a circle: put the file itself there",
            Problem::Unreadable => "not readable: check the permissions of the file and its directories",
        };
        let (path, needed_by) = (self.path.display(), &self.needed_by);
        write!(f, "{path}: {problem} (needed by {needed_by})")?;
        if let Some(link) = &self.link {
            write!(f, "\n    {link}")?;
        }
        self.remedy.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// Returns every file that the machines of the inventory need and that cannot be served, sorted by name: kernel and
/// initramfs for each version, architecture and schematic, and the loaders for each architecture.
///
/// The spec does not distinguish BIOS from UEFI, so a missing BIOS loader is only a [`Severity::Warning`]: a fleet of UEFI
/// machines boots without it. A missing UEFI loader is an error.
#[must_use]
pub fn missing(inventory: &Inventory, store: &Store) -> Vec<Missing> {
    let mut needs: BTreeMap<Cow<'_, str>, Need<'_>> = BTreeMap::new();
    for machine in inventory.machines() {
        for file in files_of(machine) {
            let need = needs.entry(file.path(machine)).or_insert(Need { file, first: machine, machines: 0 });
            if file.severity() == Severity::Error && need.file.severity() == Severity::Warning {
                (need.file, need.first) = (file, machine);
            }
            need.machines += 1;
        }
    }
    needs.into_iter().filter_map(|(name, need)| need.check(&name, store)).collect()
}

/// Returns `true` if some machine lacks none of the files that are certainly needed.
#[must_use]
pub fn is_any_complete(inventory: &Inventory, store: &Store, missing: &[Missing]) -> bool {
    let errors = missing.iter().filter(|missing| missing.severity == Severity::Error);
    let errors: HashSet<&Path> = errors.map(|missing| missing.path.as_path()).collect();
    let has = |machine: &Machine, file: Needed<'_>| {
        file.severity() == Severity::Warning || !errors.contains(&*store.root().join(&*file.path(machine)))
    };
    inventory.machines().iter().any(|machine| files_of(machine).into_iter().all(|file| has(machine, file)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed<'m> {
    Kernel,
    Initramfs,
    EfiLoader,
    BiosLoader,
    /// The file that the spec names for UEFI.
    OwnEfiLoader(&'m str),
    /// The file that the spec names for a BIOS.
    OwnBiosLoader(&'m str),
    /// The file that the spec names for the 32-bit UEFI of some such machines.
    Own32BitLoader(&'m str),
}

/// Returns the files of a machine, each once.
fn files_of(machine: &Machine) -> Vec<Needed<'_>> {
    let mut files = vec![Needed::Kernel, Needed::Initramfs];
    let efi = LoaderFile::efi_for(machine.architecture);
    let bios = Some(LoaderFile::Undionly).filter(|bios| bios.starts_kernels_of(machine.architecture));
    let mut own_efi = None;
    match machine.loader(Some(efi)) {
        Some(Loader::Own(name)) => {
            own_efi = Some(name);
            files.push(Needed::OwnEfiLoader(name));
        }
        _ => files.push(Needed::EfiLoader),
    }
    match bios.and_then(|bios| machine.loader(Some(bios))) {
        Some(Loader::Own(name)) if own_efi == Some(name) => {}
        Some(Loader::Own(name)) => files.push(Needed::OwnBiosLoader(name)),
        Some(Loader::Usual(_)) => files.push(Needed::BiosLoader),
        None => {}
    }
    // Of `snponly` every class has a build of its own, most of which nobody needs.
    let small = LoaderFile::ALL.into_iter().find(|loader| loader.is_32_bit_of(machine.architecture));
    if let Some(small) = small
        && let Some(Loader::Own(name)) = machine.loader(Some(small))
        && **name != *small.firmware_driver_build()
        && ![Needed::OwnEfiLoader(name), Needed::OwnBiosLoader(name)].iter().any(|known| files.contains(known))
    {
        files.push(Needed::Own32BitLoader(name));
    }
    files
}

impl<'m> Needed<'m> {
    fn path(self, machine: &Machine) -> Cow<'m, str> {
        match self {
            Self::Kernel => kernel_path(machine).into(),
            Self::Initramfs => initramfs_path(machine).into(),
            Self::EfiLoader => LoaderFile::efi_for(machine.architecture).name().into(),
            Self::BiosLoader => LoaderFile::Undionly.name().into(),
            Self::OwnEfiLoader(name) | Self::OwnBiosLoader(name) | Self::Own32BitLoader(name) => name.into(),
        }
    }

    /// Returns the firmware that alone needs it, which the spec does not tell.
    fn only_for(self) -> Option<&'static str> {
        match self {
            Self::Kernel | Self::Initramfs | Self::EfiLoader | Self::OwnEfiLoader(_) => None,
            Self::BiosLoader | Self::OwnBiosLoader(_) => Some("BIOS"),
            Self::Own32BitLoader(_) => Some("32-bit UEFI"),
        }
    }

    fn severity(self) -> Severity {
        if self.only_for().is_some() { Severity::Warning } else { Severity::Error }
    }

    /// Returns the commands that get it, of which one suffices.
    fn remedy(self, machine: &Machine, path: &Path) -> Vec<String> {
        let package = match self {
            Self::Kernel | Self::Initramfs => None,
            Self::BiosLoader => Some(LoaderFile::Undionly.name()),
            Self::EfiLoader => Some(LoaderFile::efi_for(machine.architecture).name()),
            Self::OwnEfiLoader(name) | Self::OwnBiosLoader(name) | Self::Own32BitLoader(name) => Some(name),
        };
        // Only the builds for ARM64 are as new as that.
        let package = package.filter(|name| !stand_ins(name.as_bytes()).is_empty()).map(|name| {
            let since = if name.contains("arm64") { " (Debian 13 or newer)" } else { "" };
            format!("apt-get install ipxe{since}")
        });
        let get = match self.url(machine) {
            Some(url) => format!("curl -fL --create-dirs -o {} {url}", quoted(path)),
            None => {
                let name = path.file_name().map_or(path, Path::new);
                format!("install -Dm644 {} {}", quoted(name), quoted(path))
            }
        };
        package.into_iter().chain([get]).collect()
    }

    /// Returns the URL where upstream publishes it; `None` for a loader of the user's own.
    fn url(self, machine: &Machine) -> Option<String> {
        let Machine { version, architecture, .. } = machine;
        let (release, factory) = match self {
            Self::Kernel => ("vmlinuz", "kernel"),
            Self::Initramfs => ("initramfs", "initramfs"),
            Self::EfiLoader => return published(LoaderFile::efi_for(machine.architecture).name()),
            Self::BiosLoader => return published(LoaderFile::Undionly.name()),
            Self::OwnEfiLoader(name) | Self::OwnBiosLoader(name) | Self::Own32BitLoader(name) => {
                return published(name);
            }
        };
        let suffix = if self == Self::Initramfs { ".xz" } else { "" };
        Some(match schematic_of(machine) {
            Some(schematic) => {
                format!("https://factory.talos.dev/image/{schematic}/{version}/{factory}-{architecture}{suffix}")
            }
            None => format!(
                "https://github.com/siderolabs/talos/releases/download/{version}/{release}-{architecture}{suffix}"
            ),
        })
    }
}

/// Returns the URL of a build that the iPXE project publishes, by the name that it has here.
fn published(name: &str) -> Option<String> {
    let build = match name {
        "ipxe-efi-x86_64.efi" | "ipxe.efi" => "x86_64-efi/ipxe.efi",
        "ipxe-efi-arm64.efi" => "arm64-efi/ipxe.efi",
        "ipxe-efi-i386.efi" => "i386-efi/ipxe.efi",
        "snponly-x86_64.efi" | "snponly.efi" => "x86_64-efi/snponly.efi",
        "snponly-arm64.efi" => "arm64-efi/snponly.efi",
        "snponly-i386.efi" => "i386-efi/snponly.efi",
        "undionly.kpxe" | "ipxe.pxe" => name,
        _ => return None,
    };
    Some(format!("https://boot.ipxe.org/{build}"))
}

/// A file and the machines that need it.
struct Need<'a> {
    file: Needed<'a>,
    first: &'a Machine,
    machines: usize,
}

impl Need<'_> {
    fn check(&self, name: &str, store: &Store) -> Option<Missing> {
        let problem = match store.open(name.as_bytes()) {
            Ok(artifact) if artifact.length > 0 => return None,
            Ok(_) => Problem::Empty,
            Err(Refusal::NotFound) => Problem::Absent,
            Err(Refusal::Outside) => Problem::Outside,
            Err(Refusal::Circle) => Problem::Circle,
            Err(Refusal::Unreadable) => Problem::Unreadable,
            // Nothing is known about the file.
            Err(Refusal::Exhausted) => return None,
        };
        let path = store.root().join(name);
        let others = match self.machines {
            0 | 1 => String::new(),
            machines => format!(" and {} more", machines - 1),
        };
        let only =
            self.file.only_for().map(|firmware| format!(", if their firmware is {firmware}")).unwrap_or_default();
        Some(Missing {
            severity: self.file.severity(),
            problem,
            needed_by: format!("{}{others}{only}", self.first.mac),
            remedy: self.file.remedy(self.first, &path),
            link: store.last_link(name.as_bytes()),
            path,
        })
    }
}

/// Returns the path, quoted for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use super::*;
    use crate::model::{architecture::Architecture, loader::OwnLoaders, testing::machine};

    fn names(missing: &[Missing]) -> Vec<(String, Severity, Problem)> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        missing.iter().map(|missing| (name(&missing.path), missing.severity, missing.problem)).collect()
    }

    #[test]
    fn files_of_the_fleet_are_checked_once_each() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::without_stand_ins(directory.path().to_owned());
        let schematic = "ab".repeat(32);
        let inventory = Inventory::new(vec![
            machine(1, Architecture::Amd64, "v1.13.0", None),
            machine(2, Architecture::Amd64, "v1.13.0", None),
            machine(3, Architecture::Arm64, "v1.12.4", Some(&schematic)),
        ]);
        let found = missing(&inventory, &store);
        let (error, absent) = (Severity::Error, Problem::Absent);
        assert_eq!(
            names(&found),
            [
                ("initramfs-v1.12.4-arm64.xz".into(), error, absent),
                ("vmlinuz-v1.12.4-arm64".into(), error, absent),
                ("initramfs-v1.13.0-amd64.xz".into(), error, absent),
                ("ipxe-efi-arm64.efi".into(), error, absent),
                ("ipxe-efi-x86_64.efi".into(), error, absent),
                ("undionly.kpxe".into(), Severity::Warning, absent),
                ("vmlinuz-v1.13.0-amd64".into(), error, absent),
            ]
        );
        let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let root = directory.path().display();
        for expected in [
            format!("{root}/{schematic}/vmlinuz-v1.12.4-arm64: missing (needed by 02:00:00:00:00:03)"),
            format!(
                "{root}/{schematic}/vmlinuz-v1.12.4-arm64 https://factory.talos.dev/image/{schematic}/v1.12.4/kernel-arm64"
            ),
            format!("{root}/initramfs-v1.13.0-amd64.xz: missing (needed by 02:00:00:00:00:01 and 1 more)"),
            "https://github.com/siderolabs/talos/releases/download/v1.13.0/initramfs-amd64.xz".into(),
            "https://github.com/siderolabs/talos/releases/download/v1.13.0/vmlinuz-amd64".into(),
            "https://boot.ipxe.org/arm64-efi/ipxe.efi".into(),
            "\n    apt-get install ipxe\n    curl -fL".into(),
        ] {
            assert!(text.contains(&expected), "{expected}\n--- not in ---\n{text}");
        }
    }

    #[test]
    fn files_that_are_empty_or_outside_are_missing() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("vmlinuz-v1.13.0-arm64"), "").unwrap();
        fs::write(root.join("ipxe-efi-arm64.efi"), "loader").unwrap();
        fs::write(directory.path().join("initramfs"), "initramfs").unwrap();
        std::os::unix::fs::symlink("../initramfs", root.join("initramfs-v1.13.0-arm64.xz")).unwrap();
        let inventory = Inventory::new(vec![machine(1, Architecture::Arm64, "v1.13.0", None)]);
        let store = Store::without_stand_ins(root.clone());
        let found = missing(&inventory, &store);
        assert_eq!(
            names(&found),
            [
                ("initramfs-v1.13.0-arm64.xz".into(), Severity::Error, Problem::Outside),
                ("vmlinuz-v1.13.0-arm64".into(), Severity::Error, Problem::Empty),
            ]
        );
        let (text, initramfs) = (found[0].to_string(), root.join("initramfs-v1.13.0-arm64.xz"));
        let link = format!("\n    {} is a symbolic link to ../initramfs\n", initramfs.display());
        assert!(text.contains("not in the artifacts directory") && text.contains(&link), "{text}");

        fs::rename(directory.path().join("initramfs"), root.join("initramfs")).unwrap();
        fs::remove_file(&initramfs).unwrap();
        std::os::unix::fs::symlink(root.join("initramfs"), &initramfs).unwrap();
        assert_eq!(missing(&inventory, &store).len(), 1, "an absolute link to a file of the directory");
    }

    #[test]
    fn loader_of_a_machine_replaces_the_usual_one_and_has_its_own_remedy() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["vmlinuz-v1.13.0-amd64", "initramfs-v1.13.0-amd64.xz", "present.efi"] {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        let store = Store::without_stand_ins(directory.path().to_owned());
        let with = |number, loaders: &[(LoaderFile, &str)]| {
            let mut own = OwnLoaders::default();
            loaders.iter().for_each(|&(class, name)| own.set(Some(class), Some(name.into())));
            let machine = machine(number, Architecture::Amd64, "v1.13.0", None);
            Arc::new(Machine { loaders: Some(own.into()), ..Machine::clone(&machine) })
        };
        use LoaderFile::{EfiArm64, EfiIa32, EfiX64, Undionly};
        let inventory = Inventory::new(vec![
            with(1, &[(EfiX64, "snponly-x86_64.efi"), (EfiIa32, "snponly-i386.efi"), (Undionly, "ipxe.pxe")]),
            with(2, &[(EfiX64, "shim/shimx64.efi"), (EfiIa32, "shim/shimx64.efi"), (Undionly, "own.0")]),
            with(3, &[(EfiX64, "present.efi"), (EfiIa32, "own.ia32"), (EfiArm64, "other.efi"), (Undionly, "own.0")]),
            with(4, &[(Undionly, "shim/shimx64.efi"), (EfiIa32, "shim/shimx64.efi"), (EfiX64, "present.efi")]),
        ]);
        let found = missing(&inventory, &store);
        let (error, warning, absent) = (Severity::Error, Severity::Warning, Problem::Absent);
        assert_eq!(
            names(&found),
            [
                ("ipxe.pxe".into(), warning, absent),
                ("own.0".into(), warning, absent),
                ("own.ia32".into(), warning, absent),
                ("shimx64.efi".into(), error, absent),
                ("snponly-x86_64.efi".into(), error, absent),
            ]
        );
        let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let root = directory.path().display();
        for expected in [
            format!(
                "{root}/snponly-x86_64.efi: missing (needed by 02:00:00:00:00:01)\n    apt-get install ipxe\n    curl -fL \
                 --create-dirs -o {root}/snponly-x86_64.efi https://boot.ipxe.org/x86_64-efi/snponly.efi"
            ),
            format!("{root}/ipxe.pxe https://boot.ipxe.org/ipxe.pxe"),
            format!(
                "{root}/own.0: missing (needed by 02:00:00:00:00:02 and 1 more, if their firmware is BIOS)\n    \
                 install -Dm644 own.0 {root}/own.0"
            ),
            format!(
                "{root}/own.ia32: missing (needed by 02:00:00:00:00:03, if their firmware is 32-bit UEFI)\n    \
                 install -Dm644 own.ia32 {root}/own.ia32"
            ),
            format!(
                "{root}/shim/shimx64.efi: missing (needed by 02:00:00:00:00:02 and 1 more)\n    \
                 install -Dm644 shimx64.efi {root}/shim/shimx64.efi"
            ),
        ] {
            assert!(text.contains(&expected), "{expected}\n--- not in ---\n{text}");
        }
        fs::create_dir(directory.path().join("shim")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", directory.path().join("shim/shimx64.efi")).unwrap();
        let found = missing(&inventory, &store);
        assert!(names(&found).contains(&("shimx64.efi".into(), error, Problem::Outside)), "{found:?}");
    }

    #[test]
    fn path_survives_the_shell() {
        assert_eq!(quoted(Path::new("/srv/it's here")), r"'/srv/it'\''s here'");
        assert_eq!(quoted(Path::new("/srv/pxed")), "/srv/pxed");
    }
}
