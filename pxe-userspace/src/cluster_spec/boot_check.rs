//! Checks the settings of a machine that say how it boots: against each other, and against its kernel arguments and its image.
//!
//! Settings are often those of a whole role. So a warning about them is one for all machines, and names the first.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::Ipv4Addr,
    sync::Arc,
};

use super::{
    candidate::Origin,
    finding::Finding,
    machine_settings::{InForce, OfBoot},
};
use crate::{
    boot::talos,
    model::{
        architecture::Architecture,
        artifact_names::{PLAIN_SCHEMATIC, is_ipxe},
        boot_method::BootMethod,
        inventory::Machine,
        ipxe_shim::IpxeShim,
        loader::{LoaderFile, is_shim},
        secrets::Secrets,
        token::Token,
    },
    uki::command_line::{self, CommandLineError},
};

/// An address with as many characters as any has.
const LONGEST_ADDRESS: Ipv4Addr = Ipv4Addr::BROADCAST;

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
    /// A loader that gets a configuration by TFTP, which may not hold secrets.
    SecretsByTftp,
    /// A shim whose second stage is the file of another architecture.
    SharedSecondStage,
}

/// The warnings so far: by remark and place, each with the first machine and the number of all.
#[derive(Debug, Default)]
pub(crate) struct BootCheck {
    warned: BTreeMap<(Remark, Finding), (Ipv4Addr, usize)>,
    /// The programs that machines start, with their architecture.
    programs: BTreeMap<Arc<str>, Program>,
}

/// A program that machines start.
#[derive(Clone, Copy, Debug)]
struct Program {
    architecture: Architecture,
    /// Set if a shim of iPXE starts it.
    is_second_stage: bool,
}

impl BootCheck {
    /// Checks a machine. Returns an error that is its own.
    pub(crate) fn machine(&mut self, machine: &Machine, origin: &Origin<'_>, of_boot: &OfBoot<'_>) -> Option<Finding> {
        let OfBoot { boot, loaders, talos_config, secrets: _ } = of_boot;
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
        if machine.secrets == Secrets::Guarded && machine.boot == BootMethod::Ipxe && has_grub(machine) {
            self.warn(Remark::SecretsByTftp, loaders.as_ref(), machine);
        }
        if self.shares_second_stage(machine) {
            self.warn(Remark::SharedSecondStage, loaders.as_ref(), machine);
        }
        (machine.boot == BootMethod::Uki).then(|| cut_off(machine, origin)).flatten()
    }

    fn warn<T>(&mut self, remark: Remark, setting: Option<&InForce<'_, T>>, machine: &Machine) {
        let Some(InForce { document, setting }) = setting else { return };
        let place = document.finding(setting.at, setting.field.to_string(), String::new());
        self.warned.entry((remark, place)).or_insert((machine.address, 0)).1 += 1;
    }

    /// Notes the programs that the machine's UEFI starts. Returns `true` if one of them is the second stage of a shim, and that of another
    /// architecture too.
    fn shares_second_stage(&mut self, machine: &Machine) -> bool {
        let Some(name) = own_loader(machine) else { return false };
        let shim = IpxeShim::of(name, machine.architecture);
        let architecture = shim.as_ref().map_or(machine.architecture, |shim| shim.architecture);
        let second_stage = shim.map(|shim| Arc::from(shim.second_stage));
        let programs = [(Some(Arc::clone(name)), false), (second_stage, true)];
        programs.into_iter().filter_map(|(path, is_second_stage)| Some((path?, is_second_stage))).any(
            |(path, is_second_stage)| match self.programs.entry(path) {
                Entry::Vacant(entry) => {
                    entry.insert(Program { architecture, is_second_stage });
                    false
                }
                Entry::Occupied(entry) => {
                    let known = entry.get();
                    known.architecture != architecture && (known.is_second_stage || is_second_stage)
                }
            },
        )
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
                Remark::SecretsByTftp => format!(
                    "has {who} ask for a configuration by TFTP, where anybody can have it, and pxed gives none to machines whose kernel \
                     arguments or machine configuration may hold secrets: boot them by iPXE, take the secrets out of kernelCmdlineArgs, or \
                     set pxed.dev/secrets: by-address to accept the risk"
                ),
                Remark::SharedSecondStage => format!(
                    "has {who} start a file that iPXE's shim starts on another architecture: the shim looks for ipxe.efi or snponly.efi next to \
                     itself. Name files in a directory for each architecture, such as x86_64-sb/ipxe-shimx64.efi and arm64-sb/ipxe-shimaa64.efi"
                ),
            };
            Finding { message, ..place }
        })
    }
}

/// Returns `true` if the spec names a loader for the machine's UEFI that neither starts a unified kernel image nor runs the script that
/// does.
fn has_foreign_loader(machine: &Machine) -> bool {
    own_loader(machine).is_some_and(|name| !is_shim(name) && !is_ipxe(name))
}

/// Returns `true` if the spec names a loader that gets a configuration from pxed: GRUB, by itself or behind a shim that is not iPXE's.
fn has_grub(machine: &Machine) -> bool {
    own_loader(machine).is_some_and(|name| {
        !is_ipxe(name) && IpxeShim::of(name, machine.architecture).is_none() && (is_shim(name) || name.contains("grub"))
    })
}

/// Returns the loader that the spec names for the machine's UEFI.
fn own_loader(machine: &Machine) -> Option<&Arc<str>> {
    machine.loaders.as_ref()?.get(Some(LoaderFile::efi_for(machine.architecture)))
}

/// Returns an error if the EFI stub would not pass the machine's kernel command line on as it is.
fn cut_off(machine: &Machine, origin: &Origin<'_>) -> Option<Finding> {
    // Whatever their values are.
    let longest = (machine.secrets == Secrets::Guarded).then_some(Token { made: 0, nonce: 0, tag: [0; 16] });
    // The URL of its configuration has the address of the node that answers, which may be any: every node decides the same.
    let arguments = talos::arguments(machine, LONGEST_ADDRESS, longest);
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
