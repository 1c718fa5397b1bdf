use std::path::Path;

use super::*;
use crate::model::{artifact_names::PLAIN_SCHEMATIC, loader::OwnLoaders, testing::machine};

const AMD64: Architecture = Architecture::Amd64;
const ARM64: Architecture = Architecture::Arm64;
const NO_STUBS: Stubs = Stubs { amd64: false, arm64: false };
const STUBS: Stubs = Stubs { amd64: true, arm64: true };

fn booting(number: u8, boot: BootMethod, architecture: Architecture, schematic: Option<&str>) -> Arc<Machine> {
    let machine = machine(number, architecture, "v1.13.0", schematic);
    Arc::new(Machine { boot, ..Machine::clone(&machine) })
}

/// Returns path, content, upstream URL and severity of each file that some machine certainly needs.
fn needed(plan: &[Wanted]) -> Vec<(&str, Content, Option<String>)> {
    let errors = plan.iter().filter(|wanted| wanted.severity == Severity::Error);
    let url = |wanted: &Wanted| wanted.source.as_ref().map(|source| source.url(&Upstreams::default()));
    errors.map(|wanted| (&*wanted.path, wanted.content, url(wanted))).collect()
}

fn optional(plan: &[Wanted]) -> Vec<(&str, &str)> {
    let warnings = plan.iter().filter(|wanted| wanted.severity == Severity::Warning);
    warnings.map(|wanted| (&*wanted.path, wanted.needed_by.condition.unwrap())).collect()
}

#[test]
fn unified_image_of_a_plain_release_is_made_of_the_stub_or_comes_from_the_factory() {
    for schematic in [None, Some(PLAIN_SCHEMATIC)] {
        let inventory = Inventory::new(vec![booting(1, BootMethod::Uki, AMD64, schematic)]);
        let releases = "https://github.com/siderolabs/talos/releases/download/v1.13.0";
        let with_stub = plan(&inventory, STUBS);
        assert_eq!(
            needed(&with_stub),
            [
                ("initramfs-v1.13.0-amd64.xz", Content::Initramfs, Some(format!("{releases}/initramfs-amd64.xz"))),
                ("linuxx64.efi.stub", Content::Stub(AMD64), None),
                ("vmlinuz-v1.13.0-amd64", Content::Kernel(AMD64), Some(format!("{releases}/vmlinuz-amd64"))),
            ]
        );
        let (bios, pxe) = ("if their firmware is BIOS", "if their firmware boots by PXE");
        assert_eq!(optional(&with_stub), [("ipxe-efi-x86_64.efi", pxe), ("undionly.kpxe", bios)]);
        let without = plan(&inventory, Stubs { amd64: false, arm64: true });
        let url = format!("https://factory.talos.dev/image/{PLAIN_SCHEMATIC}/v1.13.0/metal-amd64-uki.efi");
        assert_eq!(needed(&without), [("uki-v1.13.0-amd64.efi", Content::Uki(AMD64), Some(url))]);
        assert_eq!(
            optional(&without),
            [
                ("initramfs-v1.13.0-amd64.xz", bios),
                ("ipxe-efi-x86_64.efi", pxe),
                ("undionly.kpxe", bios),
                ("vmlinuz-v1.13.0-amd64", bios),
            ]
        );
        let uki = without.iter().find(|wanted| &*wanted.path == "uki-v1.13.0-amd64.efi").unwrap();
        let remedy = uki.remedy(Path::new("/a"), &pxed_fetch());
        assert_eq!(remedy[..2], ["pxed fetch", "apt-get install systemd-boot-efi:amd64"]);
    }
}

#[test]
fn unified_image_of_a_schematic_comes_from_the_factory() {
    let inventory = Inventory::new(vec![
        booting(1, BootMethod::Uki, ARM64, Some("ab12")),
        booting(2, BootMethod::FactoryUki, ARM64, Some("ab12")),
        booting(3, BootMethod::FactoryUki, ARM64, None),
    ]);
    let factory = "https://factory.talos.dev/image";
    let plan = plan(&inventory, STUBS);
    let uki = Content::Uki(ARM64);
    let secure = |schematic| Some(format!("{factory}/{schematic}/v1.13.0/metal-arm64-secureboot-uki.efi"));
    assert_eq!(
        needed(&plan),
        [
            ("ab12/secureboot-uki-v1.13.0-arm64.efi", uki, secure("ab12")),
            ("ab12/uki-v1.13.0-arm64.efi", uki, Some(format!("{factory}/ab12/v1.13.0/metal-arm64-uki.efi"))),
            ("secureboot-uki-v1.13.0-arm64.efi", uki, secure(PLAIN_SCHEMATIC)),
        ]
    );
    assert_eq!(
        optional(&plan),
        [("ipxe-efi-arm64.efi", "if their firmware boots by PXE")],
        "no ARM64 machine is a BIOS"
    );
}

#[test]
fn file_matters_as_much_as_it_matters_to_any_machine() {
    let inventory = Inventory::new(vec![
        booting(1, BootMethod::FactoryUki, AMD64, None),
        booting(2, BootMethod::Ipxe, AMD64, None),
        booting(3, BootMethod::Ipxe, AMD64, None),
    ]);
    for wanted in plan(&inventory, NO_STUBS) {
        let (needed_by, severity) = (wanted.needed_by.to_string(), wanted.severity);
        let expected = match &*wanted.path {
            "secureboot-uki-v1.13.0-amd64.efi" => ("02:00:00:00:00:01", Severity::Error),
            "undionly.kpxe" => ("02:00:00:00:00:01 and 2 more, if their firmware is BIOS", Severity::Warning),
            _ => ("02:00:00:00:00:02 and 2 more", Severity::Error),
        };
        assert_eq!((&*needed_by, severity), expected, "{}", wanted.path);
    }
}

#[test]
fn machine_that_boots_a_unified_image_needs_the_loader_that_the_spec_names() {
    let mut own = OwnLoaders::default();
    own.set(Some(LoaderFile::EfiX64), Some("shimx64.efi".into()));
    let machine = booting(1, BootMethod::FactoryUki, AMD64, None);
    let inventory = Inventory::new(vec![Arc::new(Machine { loaders: Some(own.into()), ..Machine::clone(&machine) })]);
    let plan = plan(&inventory, NO_STUBS);
    let shim = plan.iter().find(|wanted| &*wanted.path == "shimx64.efi").unwrap();
    assert_eq!((shim.severity, &shim.source), (Severity::Error, &None));
    assert_eq!(shim.remedy(Path::new("/a"), &pxed_fetch()), ["install -Dm644 shimx64.efi /a/shimx64.efi"]);
}

fn with_loader(number: u8, boot: BootMethod, architecture: Architecture, loader: &str) -> Arc<Machine> {
    let mut own = OwnLoaders::default();
    own.set(Some(LoaderFile::efi_for(architecture)), Some(loader.into()));
    let machine = booting(number, boot, architecture, None);
    Arc::new(Machine { loaders: Some(own.into()), ..Machine::clone(&machine) })
}

#[test]
fn shim_of_ipxe_needs_its_second_stage_next_to_it() {
    let releases = "https://github.com/ipxe";
    let archive = format!("{releases}/ipxe/releases/latest/download/ipxeboot.tar.gz");
    let (x64, arm64) = ("x64/ipxe-shimx64.efi", "arm/snponly-shimaa64.efi");
    let inventory = Inventory::new(vec![
        with_loader(1, BootMethod::Ipxe, AMD64, x64),
        with_loader(2, BootMethod::Uki, AMD64, x64),
        with_loader(3, BootMethod::Uki, ARM64, arm64),
    ]);
    let plan = plan(&inventory, STUBS);
    let found = |path: &str| {
        let wanted = plan.iter().find(|wanted| &*wanted.path == path).unwrap();
        let source = wanted.source.as_ref().unwrap();
        let member = source.member().map(ToString::to_string).unwrap_or_default();
        (
            source.url(&Upstreams::default()),
            member,
            wanted.needed_by.to_string(),
            wanted.remedy(Path::new("/a"), &pxed_fetch()),
        )
    };
    let shim = |file| format!("{releases}/shim/releases/latest/download/{file}");
    let (url, member, needed_by, remedy) = found(x64);
    assert_eq!((url, &*member, &*needed_by), (shim("ipxe-shimx64.efi"), "", "02:00:00:00:00:01 and 1 more"));
    assert_eq!(remedy[1..], [format!("curl -fL --create-dirs -o /a/{x64} {}", shim("ipxe-shimx64.efi"))]);
    let (url, member, needed_by, remedy) = found("x64/ipxe.efi");
    assert_eq!((&url, &*member), (&archive, "ipxeboot/x86_64-sb/ipxe.efi"));
    assert_eq!(needed_by, "02:00:00:00:00:01 and 1 more", "the first needs it however it boots");
    let by_hand = format!("curl -fL {archive} | tar -xzO {member} | install -Dm644 /dev/stdin /a/x64/ipxe.efi");
    assert_eq!(remedy, ["pxed fetch".to_owned(), by_hand]);
    let (url, _, needed_by, _) = found(arm64);
    assert_eq!((url, &*needed_by), (shim("ipxe-shimaa64.efi"), "02:00:00:00:00:03"));
    let (_, member, needed_by, _) = found("arm/snponly.efi");
    assert_eq!(member, "ipxeboot/arm64-sb/snponly.efi");
    assert_eq!(
        needed_by, "02:00:00:00:00:03, if their firmware boots by PXE",
        "by HTTP, the shim gets the unified image"
    );
}

#[test]
fn second_stage_is_signed_whoever_else_loads_it() {
    let shim = with_loader(1, BootMethod::Uki, AMD64, "ipxe-shimx64.efi");
    let bare = with_loader(2, BootMethod::Ipxe, AMD64, "ipxe.efi");
    for machines in [[shim.clone(), bare.clone()], [bare, shim]] {
        let plan = plan(&Inventory::new(machines.into()), STUBS);
        let wanted = plan.iter().find(|wanted| &*wanted.path == "ipxe.efi").unwrap();
        assert!(wanted.is_signed() && wanted.severity == Severity::Error, "{wanted:?}");
        assert_eq!(wanted.needed_by.to_string(), "02:00:00:00:00:02 and 1 more");
        assert!(!wanted.remedy(Path::new("/a"), &pxed_fetch()).iter().any(|remedy| remedy.contains("apt-get")));
    }
}

#[test]
fn one_complete_machine_is_enough() {
    let inventory = Inventory::new(vec![
        booting(1, BootMethod::FactoryUki, AMD64, None),
        booting(2, BootMethod::Ipxe, ARM64, None),
    ]);
    let complete = |lacking: &[&str]| is_any_complete(&inventory, NO_STUBS, |path| lacking.contains(&path));
    assert!(complete(&[]) && complete(&["ipxe-efi-arm64.efi"]) && complete(&["secureboot-uki-v1.13.0-amd64.efi"]));
    assert!(complete(&["ipxe-efi-arm64.efi", "undionly.kpxe", "vmlinuz-v1.13.0-amd64"]), "these only a BIOS needs");
    assert!(!complete(&["ipxe-efi-arm64.efi", "secureboot-uki-v1.13.0-amd64.efi"]));
}

#[test]
fn machines_that_differ_in_nothing_that_files_depend_on_are_one_group() {
    let loaders = Arc::new(OwnLoaders::default());
    let machines = (0..=255).map(|number| {
        // Each version is a string of its own, as in specs that are not of one file.
        let machine = machine(number, AMD64, "v1.13.0", Some(["ab12", PLAIN_SCHEMATIC][usize::from(number % 2)]));
        Arc::new(Machine { loaders: Some(Arc::clone(&loaders)), ..Machine::clone(&machine) })
    });
    let inventory = Inventory::new(machines.collect());
    assert_eq!(groups(&inventory).iter().map(|group| group.machines).collect::<Vec<_>>(), [128, 128]);
}

#[test]
fn path_survives_the_shell() {
    assert_eq!(quoted(Path::new("/srv/it's here")), r"'/srv/it'\''s here'");
    assert_eq!(quoted(Path::new("/srv/pxed")), "/srv/pxed");
}

/// A figure, not a test: `cargo test --release -p pxe-userspace --lib artifacts::plan -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn plan_cost() {
    let schematic = "ab".repeat(32);
    let kinds: Vec<_> = (0..4).map(|kind| machine(kind, AMD64, &format!("v1.13.{kind}"), Some(&schematic))).collect();
    let inventory = Inventory::new((0..300_000).map(|number| Arc::clone(&kinds[number % kinds.len()])).collect());
    let begin = std::time::Instant::now();
    let files = plan(&inventory, STUBS).len();
    println!("{} machines, {files} files: {:?}", inventory.machines().len(), begin.elapsed());
}

/// Returns the command with the usual servers.
fn pxed_fetch() -> FetchCommand {
    FetchCommand { line: "pxed fetch".to_owned(), ..FetchCommand::default() }
}

#[test]
fn command_names_the_mirrors_and_no_password() {
    let new = |upstreams: &Upstreams, ca: Option<&str>| {
        FetchCommand::new(&["a b.yaml".into()], Path::new("/a"), upstreams, ca.map(Path::new))
    };
    let usual = "pxed fetch --cluster 'a b.yaml' --artifacts /a";
    assert_eq!(new(&Upstreams::default(), None).line, usual);
    let upstreams = Upstreams {
        talos: "https://ann:s3cret@mirror:8443/talos".into(),
        ipxe: "http://[fd00::1]/a@b?c".into(),
        ..Upstreams::default()
    };
    let command = new(&upstreams, Some("/ca.pem"));
    let mirrors = "--talos-url https://mirror:8443/talos --ipxe-url 'http://[fd00::1]/a@b?c'";
    assert_eq!(command.line, format!("{usual} {mirrors} --ca-certificates /ca.pem"));
    let plan = plan(&Inventory::new(vec![booting(1, BootMethod::Ipxe, AMD64, None)]), NO_STUBS);
    let kernel = plan.iter().find(|wanted| wanted.path.starts_with("vmlinuz")).unwrap();
    let curl = "curl -fL --create-dirs -o /a/vmlinuz-v1.13.0-amd64 https://mirror:8443/talos/v1.13.0/vmlinuz-amd64";
    assert_eq!(kernel.remedy(Path::new("/a"), &command), [&*command.line, curl]);
}
