//! The version that each machine can boot: its own, or the one before while the files of its own are not there. Pure.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use pxe_common::MacAddr;

use crate::model::{
    architecture::Architecture,
    boot_method::BootMethod,
    images::{BootFiles, Stubs},
    inventory::{AddressHashBuilder, Inventory, Machine},
    secrets::Secrets,
};

/// Machines by their first MAC address.
pub(super) type Machines = HashMap<MacAddr, Arc<Machine>, AddressHashBuilder>;

/// The facts that decide which files a machine boots.
type Key = (Arc<str>, Option<Arc<str>>, Architecture, BootMethod);

/// The machines as they could boot last.
#[derive(Debug, Default)]
pub(super) struct Bootable {
    last: Machines,
}

impl Bootable {
    /// Returns the machines whose files are not all served, but those of the version that they booted before are, as they boot now.
    /// `is_served` tells of a path whether machines get it.
    ///
    /// Such a machine has the version, schematic, method and arguments from before, since they belong together, and all else from the spec
    /// in force. The architecture is a fact about the machine: a machine that had a wrong one does not go back to it.
    pub(super) fn update(&mut self, inventory: &Inventory, stubs: Stubs, is_served: impl Fn(&str) -> bool) -> Machines {
        let mut known: HashMap<Key, bool> = HashMap::new();
        let mut boots = |machine: &Machine| {
            let Machine { version, schematic, architecture, boot, .. } = machine;
            let key = (Arc::clone(version), schematic.clone(), *architecture, *boot);
            match known.entry(key) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => *place.insert(BootFiles::of(machine, stubs).paths().all(&is_served)),
            }
        };
        let (mut last, mut previous) = (Machines::default(), Machines::default());
        for machine in inventory.machines() {
            if boots(machine) {
                last.insert(machine.mac, Arc::clone(machine));
            } else if let Some(before) = self.last.get(&machine.mac)
                && before.architecture == machine.architecture
                // What was guarded stays guarded.
                && (before.secrets != Secrets::Guarded || machine.secrets == Secrets::Guarded)
            {
                let as_before = as_before(machine, before);
                if boots(&as_before) {
                    previous.insert(machine.mac, Arc::new(as_before));
                }
                last.insert(machine.mac, Arc::clone(before));
            }
        }
        self.last = last;
        previous
    }
}

/// Returns the machine with what it boots from before.
fn as_before(machine: &Machine, before: &Machine) -> Machine {
    let Machine { version, schematic, boot, kernel_args, .. } = before;
    Machine {
        version: Arc::clone(version),
        schematic: schematic.clone(),
        boot: *boot,
        kernel_args: Arc::clone(kernel_args),
        ..machine.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::testing::machine;

    fn inventory(version: &str, schematic: Option<&str>) -> Inventory {
        Inventory::new(vec![
            machine(1, Architecture::Amd64, version, schematic),
            machine(2, Architecture::Arm64, "v1.12.0", None),
        ])
    }

    fn of(version: &str) -> [String; 2] {
        [format!("vmlinuz-{version}-amd64"), format!("initramfs-{version}-amd64.xz")]
    }

    fn update(bootable: &mut Bootable, inventory: &Inventory, served: &BTreeSet<String>) -> Vec<String> {
        let previous = bootable.update(inventory, Stubs::default(), |path| served.contains(path));
        previous.values().map(|machine| format!("{} {}", machine.mac.0[5], machine.version)).collect()
    }

    #[test]
    fn machine_boots_its_previous_version_until_the_new_one_is_there() {
        let (old, new) = (inventory("v1.12.0", None), inventory("v1.13.0", None));
        let mut bootable = Bootable::default();
        let mut served = BTreeSet::from(of("v1.12.0"));
        let nobody: Vec<String> = Vec::new();
        assert_eq!(update(&mut bootable, &old, &served), nobody);
        assert_eq!(update(&mut bootable, &new, &served), ["1 v1.12.0"]);
        // Half of the new version is no version.
        let [kernel, initramfs] = of("v1.13.0");
        served.insert(kernel);
        assert_eq!(update(&mut bootable, &new, &served), ["1 v1.12.0"]);
        // A third version comes into the spec meanwhile, and the schematic changes.
        assert_eq!(update(&mut bootable, &inventory("v1.14.0", None), &served), ["1 v1.12.0"]);
        assert_eq!(update(&mut bootable, &inventory("v1.13.0", Some("ab12")), &served), ["1 v1.12.0"]);
        served.insert(initramfs);
        assert_eq!(update(&mut bootable, &new, &served), nobody);
        // From now on, that is the previous one.
        assert_eq!(update(&mut bootable, &inventory("v1.14.0", None), &served), ["1 v1.13.0"]);
        // Its files are gone, too: the machine waits for its own.
        served.clear();
        assert_eq!(update(&mut bootable, &inventory("v1.14.0", None), &served), nobody);
    }

    #[test]
    fn machine_without_a_previous_version_waits() {
        let nobody: Vec<String> = Vec::new();
        let mut bootable = Bootable::default();
        assert_eq!(update(&mut bootable, &inventory("v1.13.0", None), &BTreeSet::from(of("v1.12.0"))), nobody);
    }

    #[test]
    fn previous_version_comes_with_its_arguments_and_everything_else_from_the_spec() {
        let of_version = |version: &str, arguments: &str, address: [u8; 4]| {
            let machine = machine(1, Architecture::Amd64, version, None);
            Inventory::new(vec![Arc::new(Machine {
                kernel_args: arguments.into(),
                address: address.into(),
                ..Machine::clone(&machine)
            })])
        };
        let mut bootable = Bootable::default();
        let served = BTreeSet::from(of("v1.12.0"));
        let is_served = |path: &str| served.contains(path);
        bootable.update(&of_version("v1.12.0", "old", [10, 0, 0, 1]), Stubs::default(), is_served);
        let previous = bootable.update(&of_version("v1.13.0", "new", [10, 0, 0, 2]), Stubs::default(), is_served);
        let machine = previous.values().next().unwrap();
        assert_eq!((&*machine.version, &*machine.kernel_args), ("v1.12.0", "old"));
        assert_eq!(machine.address.octets(), [10, 0, 0, 2]);
    }

    #[test]
    fn machine_does_not_go_back_to_another_architecture() {
        let with = |architecture, version| Inventory::new(vec![machine(1, architecture, version, None)]);
        let mut bootable = Bootable::default();
        let served = BTreeSet::from(of("v1.12.0"));
        let is_served = |path: &str| served.contains(path);
        bootable.update(&with(Architecture::Amd64, "v1.12.0"), Stubs::default(), is_served);
        assert!(bootable.update(&with(Architecture::Arm64, "v1.12.0"), Stubs::default(), is_served).is_empty());
    }
}
