//! The files of one machine below `/boot/<mac>/` or `/boot/<mac>/<token>/`, which only this machine may have.
//!
//! A shim looks for its second stage next to itself: `shimx64.efi` for `grubx64.efi`, iPXE's `ipxe-shimx64.efi` for `ipxe.efi`, and whatever
//! name its load options give. So a shim that a machine gets here finds the machine's unified kernel image by each of these names.

use std::sync::Arc;

use http::StatusCode;

use super::{
    answer::Text,
    exchange::Exchange,
    file,
    metrics::Route,
    stream::{Broken, Stream},
    talos_config, text, uki,
};
use crate::{
    boot::config,
    model::{
        artifact_names::is_optional,
        boot_method::BootMethod,
        inventory::Machine,
        loader::{LoaderFile, file_name},
        machine_path::{CONFIG_FILE, MachinePath, UKI_FILE},
    },
};

/// A file below the path of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
enum OwnFile {
    /// Its machine configuration.
    TalosConfig,
    /// Its unified kernel image.
    Uki,
    /// A file of the store: its loader, or one next to it.
    Stored(String),
    /// There is no such file.
    None,
}

impl OwnFile {
    /// Returns the file of this name.
    fn of(machine: &Machine, name: &[u8]) -> Self {
        if name == CONFIG_FILE.as_bytes() {
            return Self::TalosConfig;
        }
        if name == UKI_FILE.as_bytes() {
            return Self::Uki;
        }
        let Some(name) = str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.contains(['/', '\\']))
        else {
            return Self::None;
        };
        let Some(own) = &machine.loaders else { return Self::None };
        let efi = Some(LoaderFile::efi_for(machine.architecture));
        let classes = [efi].into_iter().chain(LoaderFile::ALL.map(Some)).chain([None]);
        if let Some(loader) = classes.filter_map(|class| own.get(class)).find(|loader| file_name(loader) == name) {
            return Self::Stored(loader.to_string());
        }
        let Some(loader) = own.get(efi).filter(|_| !is_optional(name.as_bytes())) else { return Self::None };
        if machine.boot != BootMethod::Ipxe && is_second_stage(name) {
            return Self::Uki;
        }
        let directory = loader.strip_suffix(file_name(loader)).unwrap_or_default();
        Self::Stored(format!("{directory}{name}"))
    }
}

/// Returns `true` for a program that a shim starts, except for its own helpers: the manager of keys, `mmx64.efi`, and `fbx64.efi`.
fn is_second_stage(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".efi") && !["mm", "fb"].iter().any(|helper| name.starts_with(helper))
}

/// Answers a request for a file of the machine with this MAC address.
pub(super) async fn answer(
    stream: &mut Stream,
    exchange: Exchange<'_>,
    MachinePath { mac, token }: MachinePath,
    name: &[u8],
) -> Result<(), Broken> {
    if !exchange.is_read() {
        let (status, text) = (StatusCode::METHOD_NOT_ALLOWED, "files are read-only");
        return exchange.answer_line(stream, Route::Script, status, text).await;
    }
    let machine = exchange.context.inventory.load().by_mac(mac).map(Arc::clone);
    let Some(machine) = machine else { return text::answer_text(stream, exchange, Text::not_found()).await };
    match OwnFile::of(&machine, name) {
        OwnFile::TalosConfig => talos_config::answer(stream, exchange, &machine, token).await,
        OwnFile::Uki => uki::answer(stream, exchange, &machine, token).await,
        OwnFile::Stored(path) => stored(stream, exchange, &machine, &path).await,
        OwnFile::None => text::answer_text(stream, exchange, Text::not_found()).await,
    }
}

/// Answers with a file of the store. Anybody may have it below `/assets/`, but what happens here is the machine's boot.
async fn stored(stream: &mut Stream, exchange: Exchange<'_>, machine: &Machine, path: &str) -> Result<(), Broken> {
    if let Some(reason) = config::refusal_of("boot files", machine, exchange.peer, exchange.context.check_source) {
        exchange.context.asked_by_another(machine.mac, exchange.peer, exchange.head.target());
        return exchange.answer_line(stream, Route::Assets, StatusCode::FORBIDDEN, &reason).await;
    }
    file::answer(stream, exchange, path.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{architecture::Architecture, loader::OwnLoaders, testing::machine};

    fn with(boot: BootMethod, loaders: &[(LoaderFile, &str)]) -> Machine {
        let mut own = OwnLoaders::default();
        loaders.iter().for_each(|&(class, name)| own.set(Some(class), Some(name.into())));
        let loaders = (!own.is_empty()).then(|| own.into());
        Machine { boot, loaders, ..Machine::clone(&machine(1, Architecture::Amd64, "v1.13.0", None)) }
    }

    #[test]
    fn shim_finds_the_image_by_every_name_of_a_second_stage() {
        use LoaderFile::{EfiIa32, EfiX64};
        let stored = |path: &str| OwnFile::Stored(path.to_owned());
        let debian = [(EfiX64, "debian/shimx64.efi"), (EfiIa32, "ia32/shimia32.efi")];
        let ipxe = [(EfiX64, "ipxe-shimx64.efi")];
        for (boot, loaders, name, expected) in [
            (BootMethod::Uki, &debian[..], "shimx64.efi", stored("debian/shimx64.efi")),
            (BootMethod::Uki, &debian, "shimia32.efi", stored("ia32/shimia32.efi")),
            (BootMethod::Uki, &debian, "grubx64.efi", OwnFile::Uki),
            (BootMethod::FactoryUki, &debian, "grubx64.efi", OwnFile::Uki),
            (BootMethod::Uki, &debian, "GRUBX64.EFI", OwnFile::Uki),
            (BootMethod::Uki, &debian, "other.efi", OwnFile::Uki),
            (BootMethod::Uki, &ipxe, "ipxe.efi", OwnFile::Uki),
            // What asks for keys is next to shim.
            (BootMethod::Uki, &debian, "mmx64.efi", stored("debian/mmx64.efi")),
            (BootMethod::Uki, &ipxe, "mmx64.efi", stored("mmx64.efi")),
            (BootMethod::Uki, &debian, "fbx64.efi", stored("debian/fbx64.efi")),
            (BootMethod::Uki, &debian, "notes.txt", stored("debian/notes.txt")),
            (BootMethod::Ipxe, &debian, "grubx64.efi", stored("debian/grubx64.efi")),
            (BootMethod::Ipxe, &ipxe, "ipxe.efi", stored("ipxe.efi")),
            // Nobody has these.
            (BootMethod::Uki, &debian, "revocations_sku.efi", OwnFile::None),
            (BootMethod::Uki, &debian, "revocations_sbat.efi", OwnFile::None),
            (BootMethod::Uki, &debian, "shim_certificate_0.efi", OwnFile::None),
            (BootMethod::Uki, &debian, "autoexec.ipxe", OwnFile::None),
            (BootMethod::Uki, &debian, "", OwnFile::None),
            (BootMethod::Uki, &debian, "sub/grubx64.efi", OwnFile::None),
            (BootMethod::Uki, &debian, "..\\grubx64.efi", OwnFile::None),
            (BootMethod::Uki, &[], "grubx64.efi", OwnFile::None),
            (BootMethod::Uki, &[], "talos.efi", OwnFile::Uki),
            (BootMethod::Ipxe, &[], "config.yaml", OwnFile::TalosConfig),
        ] {
            assert_eq!(OwnFile::of(&with(boot, loaders), name.as_bytes()), expected, "{boot:?} {name}");
        }
        assert_eq!(OwnFile::of(&with(BootMethod::Uki, &debian), b"\xff.efi"), OwnFile::None);
    }
}
