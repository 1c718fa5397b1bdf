//! The exact set of files that the inventory needs, with their upstream sources.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pxe_common::MacAddr;

use crate::model::{
    architecture::Architecture,
    artifact_names::{initramfs_path, kernel_path, schematic_of, stand_ins, stub_name},
    boot_method::BootMethod,
    image_source::{ImageSource, Upstreams},
    images::{BootFiles, Stubs},
    inventory::{AddressHashBuilder, Inventory, Machine},
    ipxe_shim::IpxeShim,
    loader::{Loader, LoaderFile},
};

/// The severity of a file that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Some machine of the spec certainly cannot boot.
    Error,
    /// Only a machine whose firmware type is not in the spec may need it.
    Warning,
}

/// The content that a file should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A Linux kernel.
    Kernel(Architecture),
    /// An initramfs.
    Initramfs,
    /// A unified kernel image.
    Uki(Architecture),
    /// A network boot program.
    Loader,
    /// systemd's EFI stub.
    Stub(Architecture),
}

/// A file that the inventory needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The path, relative to the artifacts directory.
    pub path: Arc<str>,
    /// The content that it should have.
    pub content: Content,
    /// The upstream file. `None` for a file that only a person or a package of the host can provide.
    pub source: Option<ImageSource>,
    /// The severity if it is not there.
    pub severity: Severity,
    /// The machines that need it.
    pub needed_by: NeededBy,
    /// Debian's package that has it, or what replaces it.
    package: Option<&'static str>,
}

/// The machines that need a file. Its `Display` names them in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededBy {
    /// The first one in the order of the spec, of those to which the file matters most.
    pub first: MacAddr,
    /// The number of machines.
    pub machines: usize,
    /// The condition under which they need it, in words, which the spec does not tell: `if their firmware is BIOS`.
    pub condition: Option<&'static str>,
}

impl fmt::Display for NeededBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, machines, condition } = self;
        write!(f, "{first}")?;
        if *machines > 1 {
            write!(f, " and {} more", machines - 1)?;
        }
        condition.map_or(Ok(()), |condition| write!(f, ", {condition}"))
    }
}

/// Returns every file that the machines of the inventory need, sorted by path: kernel and initramfs or unified kernel image for each version,
/// architecture and schematic, and the loaders for each architecture.
///
/// The spec does not distinguish BIOS from UEFI, so a BIOS loader is only a [`Severity::Warning`]: a fleet of UEFI machines boots
/// without it. A UEFI loader is an error, except for machines that boot a unified kernel image, since those that boot by HTTP load none.
#[must_use]
pub fn plan(inventory: &Inventory, stubs: Stubs) -> Vec<Wanted> {
    let mut wanted: BTreeMap<Arc<str>, Wanted> = BTreeMap::new();
    for Group { first, machines } in groups(inventory) {
        for file in files_of(first, stubs) {
            let path: Arc<str> = file.path.as_str().into();
            let new = Wanted {
                path: Arc::clone(&path),
                severity: file.severity(),
                content: file.content,
                source: file.source,
                needed_by: NeededBy { first: first.mac, machines, condition: file.condition },
                package: file.package,
            };
            match wanted.get_mut(&path) {
                None => {
                    wanted.insert(path, new);
                }
                Some(known) => {
                    let machines = known.needed_by.machines + machines;
                    let signed = [&*known, &new].into_iter().find(|wanted| wanted.is_signed());
                    // The signed build does for those who could do with any, and no other for a shim.
                    let (source, package) = signed.map(|signed| (signed.source.clone(), signed.package)).unzip();
                    if new.severity < known.severity {
                        *known = new;
                    }
                    known.needed_by.machines = machines;
                    if let (Some(source), Some(package)) = (source, package) {
                        (known.source, known.package) = (source, package);
                    }
                }
            }
        }
    }
    wanted.into_values().collect()
}

/// Returns whether some machine has every file that it certainly needs, given a predicate that tells whether a file is lacking.
#[must_use]
pub fn is_any_complete(inventory: &Inventory, stubs: Stubs, is_lacking: impl Fn(&str) -> bool) -> bool {
    groups(inventory).iter().any(|group| {
        let mut files = files_of(group.first, stubs).into_iter();
        files.all(|file| file.severity() == Severity::Warning || !is_lacking(&file.path))
    })
}

/// Machines that need the same files.
struct Group<'m> {
    /// The first one in the order of the spec.
    first: &'m Machine,
    machines: usize,
}

/// Returns the groups in the order of their first machines. A fleet has few, and only for each of them names are made.
fn groups(inventory: &Inventory) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut by_key = HashMap::with_hasher(AddressHashBuilder::default());
    for machine in inventory.machines() {
        let Machine { version, architecture, boot, loaders, .. } = &**machine;
        // Loaders that machines share are one value. Where they are not, there is only a group more.
        let key = (version, architecture, schematic_of(machine), boot, loaders.as_ref().map(Arc::as_ptr));
        let index = *by_key.entry(key).or_insert_with(|| {
            groups.push(Group { first: machine, machines: 0 });
            groups.len() - 1
        });
        groups[index].machines += 1;
    }
    groups
}

/// A file of a machine.
struct Need {
    path: String,
    content: Content,
    source: Option<ImageSource>,
    condition: Option<&'static str>,
    package: Option<&'static str>,
}

impl Need {
    const fn severity(&self) -> Severity {
        if self.condition.is_some() { Severity::Warning } else { Severity::Error }
    }

    fn loader(name: &str, condition: Option<&'static str>) -> Self {
        Self {
            path: name.to_owned(),
            content: Content::Loader,
            source: ImageSource::loader(name),
            condition,
            package: (!stand_ins(name.as_bytes()).is_empty()).then(|| {
                // Only the builds for ARM64 are as new as that.
                if name.contains("arm64") { "ipxe (Debian 13 or newer)" } else { "ipxe" }
            }),
        }
    }

    /// Returns a part of iPXE for Secure Boot, which no package has.
    fn ipxe(path: &str, source: ImageSource, condition: Option<&'static str>) -> Self {
        Self { path: path.to_owned(), content: Content::Loader, source: Some(source), condition, package: None }
    }
}

const IF_BIOS: Option<&str> = Some("if their firmware is BIOS");
const IF_32_BIT_UEFI: Option<&str> = Some("if their firmware is 32-bit UEFI");
const IF_PXE: Option<&str> = Some("if their firmware boots by PXE");

/// Returns the files of a machine, each once.
fn files_of(machine: &Machine, stubs: Stubs) -> Vec<Need> {
    let mut files = boot_files(machine, stubs);
    loaders(machine, &mut files);
    files
}

fn boot_files(machine: &Machine, stubs: Stubs) -> Vec<Need> {
    let Machine { version, architecture, .. } = machine;
    let (architecture, schematic) = (*architecture, schematic_of(machine));
    let kernel_and_initramfs = |condition| {
        let source = ImageSource::kernel(schematic, version, architecture);
        let (path, content) = (kernel_path(machine), Content::Kernel(architecture));
        let kernel = Need { path, content, source: Some(source), condition, package: None };
        let source = ImageSource::initramfs(schematic, version, architecture);
        let (path, content) = (initramfs_path(machine), Content::Initramfs);
        [kernel, Need { path, content, source: Some(source), condition, package: None }]
    };
    let stub = stub_name(architecture);
    let uki = |path, source, package| {
        let content = Content::Uki(architecture);
        let uki = Need { path, content, source: Some(source), condition: None, package };
        // iPXE on a BIOS cannot start a unified kernel image.
        let bios = LoaderFile::Undionly.starts_kernels_of(architecture).then(|| kernel_and_initramfs(IF_BIOS));
        [uki].into_iter().chain(bios.into_iter().flatten()).collect()
    };
    match BootFiles::of(machine, stubs) {
        BootFiles::KernelAndInitramfs { .. } => {
            let mut files = Vec::from(kernel_and_initramfs(None));
            if machine.boot == BootMethod::Uki {
                let (path, content) = (stub.to_owned(), Content::Stub(architecture));
                files.push(Need {
                    path,
                    content,
                    source: None,
                    condition: None,
                    package: Some(stub_package(architecture)),
                });
            }
            files
        }
        BootFiles::FactoryUki(path) => {
            // With the stub, an image is made of the release's kernel and initramfs instead.
            let package = schematic.is_none().then_some(stub_package(architecture));
            uki(path, ImageSource::uki(schematic, version, architecture), package)
        }
        BootFiles::SecureBootUki(path) => {
            uki(path, ImageSource::secure_boot_uki(schematic, version, architecture), None)
        }
    }
}

/// Returns Debian's package that has systemd's EFI stub for an architecture. That of the host has no other.
const fn stub_package(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "systemd-boot-efi:amd64",
        Architecture::Arm64 => "systemd-boot-efi:arm64",
    }
}

/// Adds the loaders of a machine.
fn loaders(machine: &Machine, files: &mut Vec<Need>) {
    let mut add = |need: Need| {
        if files.iter().all(|known| known.path != need.path) {
            files.push(need);
        }
    };
    let efi = LoaderFile::efi_for(machine.architecture);
    // By HTTP, a shim or the firmware gets the unified kernel image itself.
    let ipxe = if machine.boot == BootMethod::Ipxe { None } else { IF_PXE };
    match machine.loader(Some(efi)) {
        Some(Loader::Own(name)) => match IpxeShim::of(name, machine.architecture) {
            Some(shim) => {
                add(Need::ipxe(name, shim.source(), None));
                add(Need::ipxe(&shim.second_stage, shim.second_stage_source(), ipxe));
            }
            None => add(Need::loader(name, None)),
        },
        Some(Loader::Usual(_)) | None => add(Need::loader(efi.name(), ipxe)),
    }
    let bios = Some(LoaderFile::Undionly).filter(|bios| bios.starts_kernels_of(machine.architecture));
    if let Some(loader) = bios.and_then(|bios| machine.loader(Some(bios))) {
        add(Need::loader(loader.name(), IF_BIOS));
    }
    // Of `snponly` every class has a build of its own, most of which nobody needs.
    let small = LoaderFile::ALL.into_iter().find(|loader| loader.is_32_bit_of(machine.architecture));
    if let Some(small) = small
        && let Some(Loader::Own(name)) = machine.loader(Some(small))
        && **name != *small.firmware_driver_build()
    {
        add(Need::loader(name, IF_32_BIT_UEFI));
    }
}

impl Wanted {
    /// Returns `true` for a build of iPXE that has to be signed, which none of the host's packages has.
    pub(super) const fn is_signed(&self) -> bool {
        matches!(self.source, Some(ImageSource::IpxeSigned { .. }))
    }

    /// Returns the commands that get the file into the artifacts directory `root`, of which one suffices. `fetch` is `pxed fetch` for this
    /// spec and directory.
    #[must_use]
    pub fn remedy(&self, root: &Path, fetch: &FetchCommand) -> Vec<String> {
        let path = root.join(&*self.path);
        let package = self.package.map(|package| format!("apt-get install {package}"));
        let (fetch, get) = match &self.source {
            Some(source) => {
                let (url, path) = (source.url(&fetch.upstreams), quoted(&path));
                let get = match source.member() {
                    Some(member) => format!("curl -fL {url} | tar -xzO {member} | install -Dm644 /dev/stdin {path}"),
                    None => format!("curl -fL --create-dirs -o {path} {url}"),
                };
                (Some(fetch.line.clone()), get)
            }
            None => {
                let name = path.file_name().map_or(&*path, Path::new);
                (None, format!("install -Dm644 {} {}", quoted(name), quoted(&path)))
            }
        };
        fetch.into_iter().chain(package).chain([get]).collect()
    }
}

/// The command that gets what is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchCommand {
    /// The command line of `pxed fetch`.
    pub line: String,
    /// The servers that it asks, without passwords.
    pub upstreams: Upstreams,
}

impl FetchCommand {
    /// Returns the command for these specs, this artifacts directory, these servers and this file of authorities. Consoles, the log and the
    /// API show it, so passwords in URLs are left out.
    #[must_use]
    pub fn new(cluster: &[PathBuf], artifacts: &Path, upstreams: &Upstreams, ca_certificates: Option<&Path>) -> Self {
        let specs: Vec<_> = cluster.iter().map(|path| quoted(path)).collect();
        Self::of_spec(&format!("--cluster {}", specs.join(" ")), artifacts, upstreams, ca_certificates)
    }

    /// Returns the command for the spec that these options name.
    #[must_use]
    pub fn of_spec(spec: &str, artifacts: &Path, upstreams: &Upstreams, ca_certificates: Option<&Path>) -> Self {
        let mut line = format!("pxed fetch {spec} --artifacts {}", quoted(artifacts));
        let (usual, Upstreams { talos, factory, ipxe, ipxe_releases }) = (Upstreams::default(), upstreams);
        let [talos, factory, ipxe, ipxe_releases] =
            [talos, factory, ipxe, ipxe_releases].map(|url| without_password(url));
        for (option, url, usual) in [
            ("--talos-url", &talos, usual.talos),
            ("--factory-url", &factory, usual.factory),
            ("--ipxe-url", &ipxe, usual.ipxe),
            ("--ipxe-releases-url", &ipxe_releases, usual.ipxe_releases),
        ] {
            if *url != usual {
                line.extend([" ", option, " ", &quoted(Path::new(&**url))]);
            }
        }
        if let Some(file) = ca_certificates {
            line.extend([" --ca-certificates ", &quoted(file)]);
        }
        Self { line, upstreams: Upstreams { talos, factory, ipxe, ipxe_releases } }
    }
}

/// Returns a URL without user and password.
fn without_password(url: &str) -> Arc<str> {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}").into()
}

/// Returns the path, quoted for a shell.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests;
