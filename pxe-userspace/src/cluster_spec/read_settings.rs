//! Reads the settings of machines in annotations. Annotations are text, so a list or mapping is YAML within the text. In a file, it may
//! also be written out.

use std::{collections::HashSet, sync::Arc};

use pxe_common::MacAddr;

use super::{
    field::Field,
    finding::Notes,
    misspelling::{nearest, proposal},
    read_loader,
    read_role::checked,
    settings::{AdditionalMacs, Annotations, MachineKey, Setting, Settings},
    tree::{self, Entry, Kind, push_key},
    values, vlans,
};
use crate::model::loader::OwnLoaders;

/// The most network cards beside the first. No machine has more, and a longer list, repeated by aliases, would cost much time.
const MOST_ADDITIONAL_MACS: usize = 32;
/// The longest value of a setting.
const LONGEST_VALUE: usize = 4096;
/// The longest address of a machine, with spaces around it.
const LONGEST_MACHINE: usize = 64;
/// The most keys that are read in one annotation with machines. Aliases and merge keys let a small text have any number.
const MOST_KEYS: usize = 1_000_000;
/// The number of keys that take as long as an unknown one, which is compared with all known ones.
const COST_OF_UNKNOWN_KEY: usize = 1000;
/// The most mappings that include each other by merge keys.
const MOST_INCLUSIONS: usize = 8;

/// A setting of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    BootPolicy,
    DiskRoute,
    Boot,
    Loader,
    TalosConfig,
    Vlans,
    DhcpAnswers,
    Secrets,
    Hostname,
    AdditionalMacs,
}

impl Name {
    const ALL: [Self; 10] = [
        Self::BootPolicy,
        Self::DiskRoute,
        Self::Boot,
        Self::Loader,
        Self::TalosConfig,
        Self::Vlans,
        Self::DhcpAnswers,
        Self::Secrets,
        Self::Hostname,
        Self::AdditionalMacs,
    ];

    /// Returns the setting of a name, which is spelt as annotations are or as the keys of resources are.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.key() == name || setting.annotation() == name)
    }

    /// Returns the name within `pxed.dev/machines`.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::BootPolicy => "bootPolicy",
            Self::DiskRoute => "diskRoute",
            Self::Boot => "boot",
            Self::Loader => "loader",
            Self::TalosConfig => "talosConfig",
            Self::Vlans => "vlans",
            Self::DhcpAnswers => "dhcpAnswers",
            Self::Secrets => "secrets",
            Self::Hostname => "hostname",
            Self::AdditionalMacs => "additionalMacAddresses",
        }
    }

    /// Returns the name as an annotation, without `pxed.dev/`.
    pub(crate) const fn annotation(self) -> &'static str {
        match self {
            Self::BootPolicy => "boot-policy",
            Self::DiskRoute => "disk-route",
            Self::Boot => "boot",
            Self::Loader => "loader",
            Self::TalosConfig => "talos-config",
            Self::Vlans => "vlans",
            Self::DhcpAnswers => "dhcp-answers",
            Self::Secrets => "secrets",
            Self::Hostname => "hostname",
            Self::AdditionalMacs => "additional-mac-addresses",
        }
    }

    /// Returns whether no two machines can have the same value.
    pub(crate) const fn is_of_one_machine(self) -> bool {
        matches!(self, Self::Hostname | Self::AdditionalMacs)
    }
}

/// Reads settings, and keeps loaders that many machines share, each once.
#[derive(Default)]
pub(crate) struct Reader {
    loaders: HashSet<Arc<OwnLoaders>>,
}

impl Reader {
    /// Reads one setting.
    pub(crate) fn setting(&mut self, name: Name, field: &Field<'_>, notes: &mut Notes, into: &mut Settings) {
        // Nearly all errors quote the value.
        if let Kind::Text(text) = field.node.kind()
            && text.len() > LONGEST_VALUE
        {
            let message = format!("is {} bytes long, and {LONGEST_VALUE} are more than it needs", text.len());
            return field.error(notes, message);
        }
        match name {
            Name::BootPolicy => put(&mut into.policy, checked(field, notes, values::boot_policy), field, notes),
            Name::DiskRoute => put(&mut into.disk_route, checked(field, notes, values::disk_route), field, notes),
            Name::DhcpAnswers => put(&mut into.answers, checked(field, notes, values::dhcp_answers), field, notes),
            Name::Secrets => put(&mut into.secrets, checked(field, notes, values::secrets), field, notes),
            Name::Boot => put(&mut into.boot, checked(field, notes, values::boot_method), field, notes),
            Name::TalosConfig => {
                let name = checked(field, notes, |text| values::talos_config(text).map(Arc::from));
                put(&mut into.talos_config, name, field, notes);
            }
            Name::Vlans => {
                let vlans = within(field, notes, &['[', '-'], vlans::read);
                put(&mut into.vlans, vlans, field, notes);
            }
            Name::Hostname => {
                let hostname = checked(field, notes, |text| values::hostname(text).map(Arc::from));
                put(&mut into.hostname, hostname, field, notes);
            }
            Name::AdditionalMacs => {
                let macs = within(field, notes, &['[', '-'], additional_macs);
                put(&mut into.additional_macs, macs, field, notes);
            }
            Name::Loader => {
                let loaders = within(field, notes, &['{'], read_loader::own_loaders);
                put(&mut into.loaders, loaders.map(|loaders| self.shared(loaders)), field, notes);
            }
        }
    }

    /// Reads `pxed.dev/machines`: a mapping from MAC or IP addresses to settings.
    pub(crate) fn machines(&mut self, field: &Field<'_>, notes: &mut Notes, into: &mut Annotations) {
        let _: Option<()> = parsed(field, notes, |field, notes| {
            let mut keys_left = MOST_KEYS;
            for entry in field.entries(notes)? {
                if entry.key.len() > LONGEST_MACHINE {
                    let advice = "keys are MAC or IP addresses of machines";
                    notes.error(
                        entry.key_at,
                        field.path(),
                        format!("has a key of {} bytes: {advice}", entry.key.len()),
                    );
                    break;
                }
                let machine = field.entry(entry);
                match machine_key(&entry.key) {
                    Ok(key) => self.machine(key, &machine, entry, &mut keys_left, notes, into),
                    Err(message) => notes.error(entry.key_at, machine.path(), message),
                }
                if keys_left == 0 {
                    field
                        .error(notes, "has too many keys, or aliases that repeat them too often: write it more simply");
                    break;
                }
            }
            None
        });
    }

    fn machine(
        &mut self,
        key: MachineKey,
        field: &Field<'_>,
        entry: &Entry<'_>,
        keys_left: &mut usize,
        notes: &mut Notes,
        into: &mut Annotations,
    ) {
        let machine = into.machine(key, entry.key_at, &field.path());
        let outer = notes.begin();
        if std::mem::replace(&mut machine.in_map, true) {
            let path = field.path();
            // The very same key twice is a mistake of the YAML, which is noted.
            if *machine.field != *path {
                let message = format!("is the same machine as {}: keep one of the two", machine.field);
                notes.error(entry.key_at, path, message);
            }
        } else {
            self.settings(field, MOST_INCLUSIONS, keys_left, notes, &mut machine.settings);
        }
        machine.fault = machine.fault.or(notes.end(outer));
    }

    /// Reads a mapping with settings, and then those that it includes by merge keys.
    fn settings(
        &mut self,
        field: &Field<'_>,
        inclusions: usize,
        keys_left: &mut usize,
        notes: &mut Notes,
        into: &mut Settings,
    ) {
        let Some(entries) = field.entries(notes) else { return };
        *keys_left = keys_left.saturating_sub(entries.len() + 1);
        for entry in entries.iter().filter(|entry| entry.key != "<<") {
            if *keys_left == 0 {
                return;
            }
            let value = field.entry(entry);
            match Name::of(&entry.key) {
                Some(_) if matches!(entry.value.kind(), Kind::Null) => {}
                Some(name) => self.setting(name, &value, notes, into),
                None => {
                    *keys_left = keys_left.saturating_sub(COST_OF_UNKNOWN_KEY + entry.key.len());
                    let keys = Name::ALL.map(Name::key);
                    let proposal = proposal(nearest(&entry.key, keys));
                    let message = format!("is not a setting of a machine: {proposal}known are {}", keys.join(", "));
                    notes.error(entry.key_at, value.path(), message);
                }
            }
        }
        let Some(inclusions) = inclusions.checked_sub(1) else { return };
        for entry in entries.iter().filter(|entry| entry.key == "<<") {
            let included = field.entry(entry);
            let mut include = |reader: &mut Self, field: &Field<'_>, notes: &mut Notes| {
                let mut settings = Settings::default();
                reader.settings(field, inclusions, keys_left, notes, &mut settings);
                into.complete(settings);
                *keys_left > 0
            };
            if let Kind::List(_) = included.node.kind() {
                for item in included.items(notes).into_iter().flatten() {
                    if !include(self, &item, notes) {
                        break;
                    }
                }
            } else {
                include(self, &included, notes);
            }
        }
    }

    fn shared(&mut self, loaders: OwnLoaders) -> Arc<OwnLoaders> {
        if let Some(kept) = self.loaders.get(&loaders) {
            return Arc::clone(kept);
        }
        let kept = Arc::new(loaders);
        self.loaders.insert(Arc::clone(&kept));
        kept
    }
}

/// Keeps a value, unless there is one already.
fn put<T>(slot: &mut Option<Setting<T>>, value: Option<T>, field: &Field<'_>, notes: &mut Notes) {
    if let Some(first) = slot {
        field.error(notes, format!("is given twice, also as {}: keep one of the two", first.field));
    } else if let Some(value) = value {
        *slot = Some(Setting { value, at: field.at, field: field.path().into() });
    }
}

/// Reads the address by which a resource names one of its machines.
pub(crate) fn machine_key(text: &str) -> Result<MachineKey, String> {
    if let Ok(address) = text.trim().parse() {
        return Ok(MachineKey::Address(address));
    }
    values::mac(text).map(MachineKey::Mac).map_err(|message| {
        if text.trim().parse::<MacAddr>().is_ok() {
            message
        } else {
            format!("{text:?} is neither a MAC nor an IP address of a machine: write one, such as 52:54:00:12:34:56")
        }
    })
}

/// Reads a list of MAC addresses, written as a list or as text with commas.
fn additional_macs(field: &Field<'_>, notes: &mut Notes) -> Option<AdditionalMacs> {
    let mut macs = AdditionalMacs::default();
    let mut add = |text: &str, field: &Field<'_>, notes: &mut Notes| {
        let mac = values::mac(text).and_then(|mac| {
            if mac.is_group() {
                Err(format!("{mac} is a multicast address, which no network card has: its second digit is even"))
            } else if macs.addresses().any(|known| known == mac) {
                Err(format!("{mac} is given twice: keep one"))
            } else {
                Ok(mac)
            }
        });
        match mac {
            Ok(mac) => macs.0.push((mac, field.at)),
            Err(message) => {
                field.error(notes, message);
                return false;
            }
        }
        true
    };
    let mut is_valid = true;
    let too_many = |number| {
        (number > MOST_ADDITIONAL_MACS)
            .then(|| format!("has {number} MAC addresses: a machine can have {MOST_ADDITIONAL_MACS} beside its first"))
    };
    if let Kind::Text(text) = field.node.kind() {
        let texts = || text.split([',', ' ', '\t', '\n']).filter(|text| !text.is_empty());
        if let Some(message) = too_many(texts().count()) {
            field.error(notes, message);
            return None;
        }
        for text in texts() {
            is_valid &= add(text, field, notes);
        }
    } else {
        let items = field.items(notes)?;
        if let Some(message) = too_many(items.len()) {
            field.error(notes, message);
            return None;
        }
        for item in items {
            is_valid &= item.text(notes).is_some_and(|text| add(text, &item, notes));
        }
    }
    is_valid.then_some(macs)
}

/// Reads a value, or the YAML that its text is if it begins with one of these characters.
fn within<T>(
    field: &Field<'_>,
    notes: &mut Notes,
    begins: &[char],
    read: impl FnOnce(&Field<'_>, &mut Notes) -> Option<T>,
) -> Option<T> {
    match field.node.kind() {
        Kind::Text(text) if text.trim_start().starts_with(begins) => parsed(field, notes, read),
        _ => read(field, notes),
    }
}

/// Reads a value, or the YAML that its text is.
fn parsed<T>(
    field: &Field<'_>,
    notes: &mut Notes,
    read: impl FnOnce(&Field<'_>, &mut Notes) -> Option<T>,
) -> Option<T> {
    let Kind::Text(text) = field.node.kind() else { return read(field, notes) };
    match tree::parse_at(text, field.node.origin()).as_deref() {
        Ok([document]) => {
            for duplicate in &document.duplicates {
                let mut path = field.path();
                push_key(&mut path, &duplicate.field);
                notes.error(duplicate.at, path, "is given twice: keep one");
            }
            read(&field.with_node(&document.root), notes)
        }
        Ok([]) => None,
        Ok(documents) => {
            field.error(notes, format!("has {} YAML documents: write one", documents.len()));
            None
        }
        Err(error) => {
            notes.error(error.at, field.path(), error.message.clone());
            None
        }
    }
}
