//! The settings that annotations give to machines, each with its place.

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc};

use pxe_common::MacAddr;

use super::finding::{ErrorIndex, Position};
use crate::model::{
    boot_method::BootMethod,
    dhcp_answers::DhcpAnswers,
    loader::OwnLoaders,
    policy::{BootPolicy, DiskRoute},
    secrets::SecretsSetting,
};

/// The annotations of pxed on a resource.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    /// The settings of all machines of the resource, or of the machine that it is.
    pub(crate) all: Settings,
    machines: Vec<MachineSettings>,
    by_key: HashMap<MachineKey, usize>,
}

/// The settings that a resource with several machines has for one of them.
#[derive(Debug)]
pub(crate) struct MachineSettings {
    pub(crate) key: MachineKey,
    pub(crate) at: Position,
    pub(crate) field: Arc<str>,
    /// They are in `pxed.dev/machines`, not in annotations of their own.
    pub(crate) in_map: bool,
    /// The first error in them, which is one of this machine alone.
    pub(crate) fault: Option<ErrorIndex>,
    pub(crate) settings: Settings,
}

/// The address by which annotations select a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MachineKey {
    Mac(MacAddr),
    Address(Ipv4Addr),
}

/// A value, its place and its field path.
#[derive(Clone, Debug)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) at: Position,
    pub(crate) field: Arc<str>,
}

/// The settings of one machine, or of several.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) policy: Option<Setting<BootPolicy>>,
    pub(crate) disk_route: Option<Setting<DiskRoute>>,
    pub(crate) boot: Option<Setting<BootMethod>>,
    pub(crate) loaders: Option<Setting<Arc<OwnLoaders>>>,
    pub(crate) talos_config: Option<Setting<Arc<str>>>,
    pub(crate) vlans: Option<Setting<Arc<[u16]>>>,
    pub(crate) answers: Option<Setting<DhcpAnswers>>,
    pub(crate) secrets: Option<Setting<SecretsSetting>>,
    pub(crate) hostname: Option<Setting<Arc<str>>>,
    pub(crate) additional_macs: Option<Setting<AdditionalMacs>>,
}

impl Settings {
    /// Takes over the settings that are not there yet.
    pub(crate) fn complete(&mut self, other: Self) {
        let Self {
            policy,
            disk_route,
            boot,
            loaders,
            talos_config,
            vlans,
            answers,
            secrets,
            hostname,
            additional_macs,
        } = other;
        self.policy = self.policy.take().or(policy);
        self.disk_route = self.disk_route.take().or(disk_route);
        self.boot = self.boot.take().or(boot);
        self.loaders = self.loaders.take().or(loaders);
        self.talos_config = self.talos_config.take().or(talos_config);
        self.vlans = self.vlans.take().or(vlans);
        self.answers = self.answers.take().or(answers);
        self.secrets = self.secrets.take().or(secrets);
        self.hostname = self.hostname.take().or(hostname);
        self.additional_macs = self.additional_macs.take().or(additional_macs);
    }
}

/// The MAC addresses of a machine's other network cards, each with its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdditionalMacs(pub(crate) Vec<(MacAddr, Position)>);

impl AdditionalMacs {
    pub(crate) fn addresses(&self) -> impl Iterator<Item = MacAddr> {
        self.0.iter().map(|(mac, _)| *mac)
    }
}

/// The same addresses are the same setting, wherever they are written.
impl PartialEq for AdditionalMacs {
    fn eq(&self, other: &Self) -> bool {
        self.addresses().eq(other.addresses())
    }
}

impl Annotations {
    /// Returns the settings of one machine, which are empty at first. `at` and `field` are their place if they are new.
    pub(crate) fn machine(&mut self, key: MachineKey, at: Position, field: &str) -> &mut MachineSettings {
        let machines = &mut self.machines;
        let index = *self.by_key.entry(key).or_insert_with(|| {
            machines.push(MachineSettings {
                key,
                at,
                field: field.into(),
                in_map: false,
                fault: None,
                settings: Settings::default(),
            });
            machines.len() - 1
        });
        &mut self.machines[index]
    }

    /// Returns the settings of one machine, if there are any.
    pub(crate) fn of(&self, key: MachineKey) -> Option<&MachineSettings> {
        self.machines.get(*self.by_key.get(&key)?)
    }

    /// Returns the settings of all single machines.
    pub(crate) fn machines(&self) -> &[MachineSettings] {
        &self.machines
    }
}
