//! Checks the settings of a machine that say how it boots: against each other, and against its kernel arguments and its image.
//!
//! Settings are often those of a whole role. So a warning about them is one for all machines, and names the first.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use super::{
    candidate::Origin,
    finding::Finding,
    machine_settings::{InForce, OfBoot},
};
use crate::{
    boot::talos,
    model::{
        artifact_names::{PLAIN_SCHEMATIC, is_ipxe},
        boot_method::BootMethod,
        inventory::Machine,
        loader::{LoaderFile, is_shim},
    },
    uki::command_line::{self, CommandLineError},
};

/// Something about a setting that is not what its author may think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Remark {
    /// The Image Factory's image has arguments of its own.
    ArgumentsUnused,
    /// No schematic is named for the Image Factory's image.
    NoSchematic,
    /// The machine configuration cannot be named to the Image Factory's image.
    ConfigUnused,
    /// The machine's own arguments name another machine configuration.
    OwnConfig,
    /// A loader that does not lead to the unified kernel image.
    LoaderWithoutImage,
}

/// The warnings so far: by remark and place, each with the first machine and the number of all.
#[derive(Debug, Default)]
pub(crate) struct BootCheck {
    warned: BTreeMap<(Remark, Finding), (Ipv4Addr, usize)>,
}

impl BootCheck {
    /// Checks a machine. Returns an error that is its own.
    pub(crate) fn machine(&mut self, machine: &Machine, origin: &Origin<'_>, of_boot: &OfBoot<'_>) -> Option<Finding> {
        let OfBoot { boot, loaders, talos_config } = of_boot;
        if machine.boot == BootMethod::FactoryUki {
            if !machine.kernel_args.is_empty() {
                self.warn(Remark::ArgumentsUnused, boot.as_ref(), machine);
            }
            if machine.schematic.is_none() {
                self.warn(Remark::NoSchematic, boot.as_ref(), machine);
            }
            self.warn(Remark::ConfigUnused, talos_config.as_ref(), machine);
        } else if talos::has_config(&machine.kernel_args) {
            self.warn(Remark::OwnConfig, talos_config.as_ref(), machine);
        }
        if machine.boot != BootMethod::Ipxe && has_foreign_loader(machine) {
            self.warn(Remark::LoaderWithoutImage, loaders.as_ref(), machine);
        }
        (machine.boot == BootMethod::Uki).then(|| cut_off(machine, origin)).flatten()
    }

    fn warn<T>(&mut self, remark: Remark, setting: Option<&InForce<'_, T>>, machine: &Machine) {
        let Some(InForce { document, setting }) = setting else { return };
        let place = document.finding(setting.at, setting.field.to_string(), String::new());
        self.warned.entry((remark, place)).or_insert((machine.address, 0)).1 += 1;
    }

    /// Returns the warnings.
    pub(crate) fn warnings(self) -> impl Iterator<Item = Finding> {
        self.warned.into_iter().map(|((remark, place), (first, machines))| {
            let who = match machines.saturating_sub(1) {
                0 => first.to_string(),
                others => format!("{first} and {others} more"),
            };
            let message = match remark {
                Remark::ArgumentsUnused => format!(
                    "the Image Factory's image has the arguments of its schematic, so kernelCmdlineArgs of {who} are not used: write them \
                     into the schematic (extraKernelArgs), or set boot uki"
                ),
                Remark::NoSchematic => format!(
                    "the image of {who} names no schematic, so the Image Factory's image without customization is booted (schematic \
                     {PLAIN_SCHEMATIC}): name another in machineSpec.image, or this one"
                ),
                Remark::ConfigUnused => format!(
                    "has no effect for {who}: the Image Factory's image (boot factory-uki) has the arguments of its schematic, to which \
                     pxed cannot add talos.config"
                ),
                Remark::OwnConfig => format!(
                    "is not used for {who}: kernelCmdlineArgs name a machine configuration already (talos.config, talos.config.inline). \
                     Keep one of the two"
                ),
                Remark::LoaderWithoutImage => format!(
                    "is loaded by {who} in place of the unified kernel image, which a loader that is no shim does not start by itself: name \
                     a shim, or remove loader or boot"
                ),
            };
            Finding { message, ..place }
        })
    }
}

/// Returns `true` if the spec names a loader for the machine's UEFI that neither starts a unified kernel image nor runs the script that
/// does.
fn has_foreign_loader(machine: &Machine) -> bool {
    let own = machine.loaders.as_ref().and_then(|own| own.get(Some(LoaderFile::efi_for(machine.architecture))));
    own.is_some_and(|name: &Arc<str>| !is_shim(name) && !is_ipxe(name))
}

/// Returns an error if the EFI stub would not pass the machine's kernel command line on as it is.
fn cut_off(machine: &Machine, origin: &Origin<'_>) -> Option<Finding> {
    let arguments = talos::arguments(machine);
    let message = match command_line::check(&arguments).err()? {
        CommandLineError::TooLong(length) => {
            let own = machine.kernel_args.len();
            format!(
                "makes a kernel command line of {length} bytes ({own} of these and {} that Talos needs), and a unified kernel image has room \
                 for {}: shorten it by {}, or set boot ipxe",
                length.saturating_sub(own),
                command_line::LIMIT,
                length - command_line::LIMIT
            )
        }
        error @ (CommandLineError::Control(_) | CommandLineError::BeyondUcs2(_)) => {
            format!("{error}, or set boot ipxe")
        }
    };
    let field = format!("{}.pxeClientSpec.kernelCmdlineArgs", origin.base());
    Some(origin.document.finding(origin.declared.at, field, message))
}
