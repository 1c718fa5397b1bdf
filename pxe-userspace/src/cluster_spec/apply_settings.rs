//! Applies the annotations to all machines.

use std::{collections::HashMap, ptr, sync::Arc};

use super::{
    boot_check::BootCheck,
    candidate::{Candidate, Resolved},
    faults::{FaultId, Faults},
    finding::Position,
    machine_settings::{Applier, InForce},
    placed::Placed,
};
use crate::model::{
    secrets::Secrets,
    talos_config::{ConfigPlace, TalosConfig},
};

/// The machine configurations that a spec may name.
#[derive(Clone, Debug, Default)]
pub enum TalosConfigs {
    /// It is not known which there are: names are taken as they are.
    #[default]
    Unknown,
    /// There are none. A machine that names one has an error.
    Nowhere,
    /// They are at this place.
    At(ConfigPlace),
}

/// Applies the annotations to all machines, and checks what they say about booting. Returns what is needed to point out those for single
/// machines that do not exist.
pub(crate) fn apply<'d>(
    candidates: &mut [Candidate<'d>],
    configs: &TalosConfigs,
    resolved: &mut Resolved,
) -> Applier<'d> {
    let mut applier = Applier::default();
    let mut check = BootCheck::default();
    let mut without_place = WithoutPlace::default();
    for Candidate { machine, origin, sources, of_one, fault } in candidates {
        let (of_this_machine, of_boot) = applier.apply(sources, machine);
        *of_one = of_this_machine;
        if let Some((document, error)) = applier.fault {
            fault.get_or_insert(document.fault(error));
        }
        match talos_config(configs, of_boot.talos_config.as_ref()) {
            Ok(config) => machine.talos_config = config,
            Err(message) => {
                if let Some(setting) = &of_boot.talos_config {
                    fault.get_or_insert(without_place.error(setting, message, &mut resolved.faults));
                }
            }
        }
        let setting = of_boot.secrets.as_ref().map(|secrets| secrets.setting.value).unwrap_or_default();
        machine.secrets = Secrets::of(setting, &machine.kernel_args, machine.talos_config.is_some());
        for error in applier.errors.drain(..).chain(check.machine(machine, origin, &of_boot)) {
            let error = resolved.faults.add(error);
            fault.get_or_insert(error);
        }
    }
    resolved.warnings.extend(check.warnings());
    applier
}

/// Returns the machine configuration of a machine with this setting.
///
/// # Errors
///
/// The setting names a file, and there is no directory for it.
fn talos_config(
    configs: &TalosConfigs,
    setting: Option<&InForce<'_, Arc<str>>>,
) -> Result<Option<TalosConfig>, String> {
    /// The port does not matter where nothing is served.
    const ANY_PORT: u16 = 80;
    let file = setting.map(|setting| Arc::clone(&setting.setting.value));
    match (configs, file) {
        (TalosConfigs::Unknown, file) => Ok(file.map(|file| TalosConfig { file: Some(file), http_port: ANY_PORT })),
        (TalosConfigs::Nowhere, None) => Ok(None),
        (TalosConfigs::Nowhere, Some(file)) => Err(format!(
            "names the machine configuration {file}, and there is no directory to take it from: name that with --talos-config DIR"
        )),
        (TalosConfigs::At(ConfigPlace { is_directory: true, http_port, .. }), file) => {
            Ok(file.map(|file| TalosConfig { file: Some(file), http_port: *http_port }))
        }
        (TalosConfigs::At(ConfigPlace { is_directory: false, http_port, .. }), None) => {
            Ok(Some(TalosConfig { file: None, http_port: *http_port }))
        }
        (TalosConfigs::At(ConfigPlace { path, .. }), Some(file)) => Err(format!(
            "names the machine configuration {file}, but --talos-config {} is one file for all machines: name the directory of {file} \
             there, or remove this",
            path.display()
        )),
    }
}

/// The errors about settings that name a file without a directory: one for each setting, however many machines it is for.
#[derive(Default)]
struct WithoutPlace(HashMap<(*const Placed, Position), FaultId>);

impl WithoutPlace {
    fn error(
        &mut self,
        InForce { document, setting }: &InForce<'_, Arc<str>>,
        message: String,
        faults: &mut Faults,
    ) -> FaultId {
        *self
            .0
            .entry((ptr::from_ref(*document), setting.at))
            .or_insert_with(|| faults.add(document.finding(setting.at, setting.field.to_string(), message)))
    }
}
