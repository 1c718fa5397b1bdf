//! Finds the settings in force for a machine among the annotations of its resources.
//!
//! The nearest annotation counts: the machine's own `TalosMachine`, then those of its role and of its cluster that select the
//! machine, then those of the role and of the cluster for all their machines.

use std::{collections::HashSet, net::Ipv4Addr, ptr, sync::Arc};

use pxe_common::MacAddr;

use super::{
    finding::{ErrorIndex, Finding},
    placed::Placed,
    settings::{AdditionalMacs, Annotations, MachineKey, MachineSettings, Setting, Settings},
};
use crate::model::{boot_method::BootMethod, inventory::Machine, loader::OwnLoaders, secrets::SecretsSetting};

/// Annotations and the document that has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Annotated<'d> {
    pub(crate) document: &'d Placed,
    pub(crate) annotations: &'d Annotations,
}

/// The annotations that can apply to a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'d> {
    /// Those of the machine's own resource.
    pub(crate) own: Option<Annotated<'d>>,
    /// Those of the role, if it is a resource of its own.
    pub(crate) role: Option<Annotated<'d>>,
    pub(crate) cluster: Annotated<'d>,
}

/// A setting and the document that has it.
#[derive(Debug)]
pub(crate) struct InForce<'d, T> {
    pub(crate) document: &'d Placed,
    pub(crate) setting: &'d Setting<T>,
}

/// The settings of a machine that are compared with those of others.
#[derive(Debug, Default)]
pub(crate) struct OfOneMachine<'d> {
    pub(crate) hostname: Option<InForce<'d, Arc<str>>>,
    pub(crate) additional_macs: Option<InForce<'d, AdditionalMacs>>,
}

/// The settings of a machine in force that are checked against each other and against the rest of its spec.
#[derive(Debug)]
pub(crate) struct OfBoot<'d> {
    pub(crate) boot: Option<InForce<'d, BootMethod>>,
    pub(crate) loaders: Option<InForce<'d, Arc<OwnLoaders>>>,
    pub(crate) talos_config: Option<InForce<'d, Arc<str>>>,
    pub(crate) secrets: Option<InForce<'d, SecretsSetting>>,
}

/// Applies settings to machines, and keeps account of those that select no machine.
#[derive(Debug, Default)]
pub(crate) struct Applier<'d> {
    used: HashSet<*const MachineSettings>,
    pub(crate) errors: Vec<Finding>,
    /// The first error in the settings of the machine that they were applied to last, and its document.
    pub(crate) fault: Option<(&'d Placed, ErrorIndex)>,
    pub(crate) warnings: Vec<Finding>,
}

type Scope<'d> = (&'d Placed, &'d Settings);

impl<'d> Applier<'d> {
    /// Applies the annotations to a machine.
    ///
    /// Errors are those of this machine.
    pub(crate) fn apply(&mut self, sources: &Sources<'d>, machine: &mut Machine) -> (OfOneMachine<'d>, OfBoot<'d>) {
        self.fault = None;
        let mut scopes: Vec<Scope<'d>> = Vec::with_capacity(4);
        scopes.extend(sources.own.map(|own| (own.document, &own.annotations.all)));
        for annotated in sources.role.iter().chain([&sources.cluster]) {
            scopes.extend(self.selecting(annotated, machine.mac, machine.address));
        }
        let specific = scopes.len();
        let of_all = sources.role.iter().chain([&sources.cluster]);
        scopes.extend(of_all.map(|annotated| (annotated.document, &annotated.annotations.all)));

        if let Some(policy) = self.nearest(&scopes, specific, |settings| &settings.policy) {
            machine.policy = policy.setting.value;
        }
        if let Some(disk_route) = self.nearest(&scopes, specific, |settings| &settings.disk_route) {
            machine.disk_route = disk_route.setting.value;
        }
        let boot = self.nearest(&scopes, specific, |settings| &settings.boot);
        if let Some(boot) = &boot {
            machine.boot = boot.setting.value;
        }
        let loaders = self.nearest(&scopes, specific, |settings| &settings.loaders);
        if let Some(loaders) = &loaders {
            machine.loaders = Some(&loaders.setting.value).filter(|loaders| !loaders.is_empty()).cloned();
        }
        let talos_config = self.nearest(&scopes, specific, |settings| &settings.talos_config);
        if let Some(vlans) = self.nearest(&scopes, specific, |settings| &settings.vlans) {
            machine.vlans = Arc::clone(&vlans.setting.value);
        }
        if let Some(answers) = self.nearest(&scopes, specific, |settings| &settings.answers) {
            machine.answers = answers.setting.value;
        }
        let secrets = self.nearest(&scopes, specific, |settings| &settings.secrets);
        let hostname = self.nearest(&scopes, specific, |settings| &settings.hostname);
        if let Some(hostname) = &hostname {
            machine.hostname = Some(Arc::clone(&hostname.setting.value));
        }
        let additional_macs = self.nearest(&scopes, specific, |settings| &settings.additional_macs);
        if let Some(macs) = &additional_macs {
            machine.additional_macs = macs.setting.value.addresses().collect();
        }
        (OfOneMachine { hostname, additional_macs }, OfBoot { boot, loaders, talos_config, secrets })
    }

    /// Returns the settings of a resource that select the machine, by its MAC address or by its IP address.
    fn selecting(&mut self, annotated: &Annotated<'d>, mac: MacAddr, address: Ipv4Addr) -> Option<Scope<'d>> {
        let Annotated { document, annotations } = *annotated;
        if annotations.machines().is_empty() {
            return None;
        }
        let by_mac = annotations.of(MachineKey::Mac(mac));
        let by_address = annotations.of(MachineKey::Address(address));
        self.used.extend([by_mac, by_address].into_iter().flatten().map(ptr::from_ref));
        let first_fault = [by_mac, by_address].into_iter().flatten().find_map(|selected| selected.fault);
        self.fault = self.fault.or(first_fault.map(|fault| (document, fault)));
        if let (Some(first), Some(second)) = (by_mac, by_address) {
            let message = format!("is the same machine as {}: keep one of the two", first.field);
            self.errors.push(document.finding(second.at, second.field.to_string(), message));
        }
        by_mac.or(by_address).map(|selected| (document, &selected.settings))
    }

    /// Returns the first setting. Warns of others that differ from it, among the `specific` ones, which are meant for this machine.
    fn nearest<T: PartialEq>(
        &mut self,
        scopes: &[Scope<'d>],
        specific: usize,
        get: fn(&Settings) -> &Option<Setting<T>>,
    ) -> Option<InForce<'d, T>> {
        let mut found = scopes.iter().enumerate().filter_map(|(index, &(document, settings))| {
            Some((index, InForce { document, setting: get(settings).as_ref()? }))
        });
        let (_, first) = found.next()?;
        for (_, other) in found.take_while(|(index, _)| *index < specific) {
            if other.setting.value != first.setting.value {
                let place = first.document.place(first.setting.at);
                let message = format!("differs from {} in {place}, which counts: remove one", first.setting.field);
                let Setting { at, field, .. } = other.setting;
                self.warnings.push(other.document.finding(*at, field.to_string(), message));
            }
        }
        Some(first)
    }

    /// Returns the settings of a resource that have selected no machine.
    pub(crate) fn unused(&self, annotations: &'d Annotations) -> impl Iterator<Item = &'d MachineSettings> {
        annotations.machines().iter().filter(|machine| !self.used.contains(&ptr::from_ref(*machine)))
    }
}
