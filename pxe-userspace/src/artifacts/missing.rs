//! Finds the files of the plan that cannot be served, and says how to get each.

use std::{fmt, path::PathBuf};

use super::{
    links::Link,
    plan::{FetchCommand, Severity, Wanted},
    refusal::Refusal,
    store::Store,
};

/// A file of the plan that the store cannot provide. Its `Display` gives the problem, the path, the machines that need it and the commands
/// to get it, on several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The file.
    pub wanted: Wanted,
    /// The path where it belongs.
    pub path: PathBuf,
    /// The problem with the file.
    pub problem: Problem,
    /// The symbolic link that leads to the problem.
    pub link: Option<Link>,
    /// The commands that get it; one of them suffices.
    pub remedy: Vec<String>,
}

/// The problem with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The file does not exist.
    Absent,
    /// Something else has its place: a directory, a FIFO, a device.
    NotAFile,
    /// The file is empty: a download failed.
    Empty,
    /// A symbolic link leaves the artifacts directory.
    Outside,
    /// Symbolic links lead in a circle.
    Circle,
    /// The file cannot be read.
    Unreadable,
    /// The file is not the one that was verified.
    Altered,
}

impl Problem {
    /// Returns the problem behind the refusal of this file, or `None` if nothing is known about the file.
    #[must_use]
    pub fn of(refusal: Refusal, store: &Store, path: &str) -> Option<Self> {
        match refusal {
            Refusal::NotFound => {
                // The message names the symbolic link, not its target.
                let there = store.root().join(path).symlink_metadata();
                let is_other = there.is_ok_and(|it| !it.is_file() && !it.is_symlink());
                Some(if is_other { Self::NotAFile } else { Self::Absent })
            }
            Refusal::Outside => Some(Self::Outside),
            Refusal::Circle => Some(Self::Circle),
            Refusal::Unreadable => Some(Self::Unreadable),
            Refusal::Altered => Some(Self::Altered),
            Refusal::Exhausted | Refusal::Unverified => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "missing",
            Self::NotAFile => "not a file: move away what has its place",
            Self::Empty => "empty, as a failed download leaves it",
            Self::Outside => "not in the artifacts directory: copy the file itself there",
            Self::Circle => "not to be found by symbolic links that lead in a circle: put the file itself there",
            Self::Unreadable => "not readable: check the permissions of the file and its directories",
            Self::Altered => "not the file that was verified: delete it, or keep it with pxed fetch --accept",
        })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (needed by {})", self.path.display(), self.problem, self.wanted.needed_by)?;
        if let Some(link) = &self.link {
            write!(f, "\n    {link}")?;
        }
        self.remedy.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

impl Missing {
    /// Returns the severity.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.wanted.severity
    }
}

/// Returns the files of the plan that cannot be served, in its order. `fetch` gets those that an upstream has.
#[must_use]
pub fn missing(plan: &[Wanted], store: &Store, fetch: &FetchCommand) -> Vec<Missing> {
    plan.iter().filter_map(|wanted| check(wanted, store, fetch)).collect()
}

fn check(wanted: &Wanted, store: &Store, fetch: &FetchCommand) -> Option<Missing> {
    let name = wanted.path.as_bytes();
    let problem = match store.open(name) {
        Ok(artifact) if wanted.is_signed() && artifact.stand_in.is_some() => Problem::Absent,
        Ok(artifact) if artifact.length > 0 => return None,
        Ok(_) => Problem::Empty,
        Err(refusal) => Problem::of(refusal, store, &wanted.path)?,
    };
    Some(Missing {
        path: store.root().join(&*wanted.path),
        problem,
        link: store.last_link(name),
        remedy: wanted.remedy(store.root(), fetch),
        wanted: wanted.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::Arc};

    use super::*;
    use crate::{
        artifacts::{plan::plan, presence::Presence, records::Records, store::Store},
        model::{
            architecture::Architecture,
            inventory::{Inventory, Machine},
            loader::{LoaderFile, OwnLoaders},
            testing::machine,
        },
    };

    const FETCH: &str = "pxed fetch --cluster a.yaml";

    fn command() -> FetchCommand {
        FetchCommand { line: FETCH.to_owned(), ..FetchCommand::default() }
    }

    fn missing_of(inventory: &Inventory, store: &Store) -> Vec<Missing> {
        missing(&plan(inventory, store.stubs()), store, &command())
    }

    fn names(missing: &[Missing]) -> Vec<(String, Severity, Problem)> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        missing.iter().map(|missing| (name(&missing.path), missing.severity(), missing.problem)).collect()
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
        let found = missing_of(&inventory, &store);
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
            format!("\n    {FETCH}\n    apt-get install ipxe\n    curl -fL"),
        ] {
            assert!(text.contains(&expected), "{expected}\n--- not in ---\n{text}");
        }
    }

    #[test]
    fn package_of_the_host_has_no_second_stage_for_a_signed_shim() {
        // A file that every host has.
        const STAND_IN: &[&str] = &["/etc/passwd"];
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        for name in ["vmlinuz-v1.13.0-amd64", "initramfs-v1.13.0-amd64.xz", "ipxe-shimx64.efi", "undionly.kpxe"] {
            fs::write(root.join(name), "x").unwrap();
        }
        let store = Store::with_stand_ins(root.clone(), |name| if name == b"ipxe.efi" { STAND_IN } else { &[] });
        let loaded = |loader: &str| {
            let mut own = OwnLoaders::default();
            own.set(Some(LoaderFile::EfiX64), Some(loader.into()));
            let machine = machine(1, Architecture::Amd64, "v1.13.0", None);
            Inventory::new(vec![Arc::new(Machine { loaders: Some(own.into()), ..Machine::clone(&machine) })])
        };
        let bare = loaded("ipxe.efi");
        assert_eq!(missing_of(&bare, &store), []);
        let shim = loaded("ipxe-shimx64.efi");
        let found = missing_of(&shim, &store);
        assert_eq!(names(&found), [("ipxe.efi".into(), Severity::Error, Problem::Absent)]);
        let records = Records::open(Arc::new(store)).0;
        let presence = |inventory: &Inventory| {
            let plan = plan(inventory, records.store().stubs());
            Presence::of(plan.iter().find(|wanted| &*wanted.path == "ipxe.efi").unwrap(), &records)
        };
        assert_eq!(presence(&bare), Presence::StandIn(STAND_IN[0]));
        assert_eq!(presence(&shim), Presence::Missing(Problem::Absent));
        fs::write(root.join("ipxe.efi"), "signed").unwrap();
        assert_eq!(missing_of(&shim, records.store()), []);
        assert_eq!(presence(&shim), Presence::ByHand { implausible: None });
    }

    #[test]
    fn something_else_in_the_place_of_a_file_is_told_of() {
        for (make, kind) in crate::own_file::tests::OTHER_KINDS {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::new(directory.path().to_owned());
            let inventory = Inventory::new(vec![machine(1, Architecture::Amd64, "v1.13.0", None)]);
            let before = missing_of(&inventory, &store);
            let path = before[0].path.clone();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            make(&path);
            let found = missing_of(&inventory, &store);
            // That link to a device leads out of the directory.
            let expected = if kind == "a device" { Problem::Outside } else { Problem::NotAFile };
            assert_eq!((&found[0].path, found[0].problem), (&path, expected), "{kind}");
            assert!(found[1..] == before[1..], "{kind}");
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
        let found = missing_of(&inventory, &store);
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
        assert_eq!(missing_of(&inventory, &store).len(), 1, "an absolute link to a file of the directory");
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
        let found = missing_of(&inventory, &store);
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
                "{root}/snponly-x86_64.efi: missing (needed by 02:00:00:00:00:01)\n    {FETCH}\n    apt-get install ipxe\n    curl -fL \
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
        let found = missing_of(&inventory, &store);
        assert!(names(&found).contains(&("shimx64.efi".into(), error, Problem::Outside)), "{found:?}");
    }
}
