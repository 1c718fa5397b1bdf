//! The file that a machine is given instead of the usual ones: a loader of its own, or a unified kernel image.

use super::*;

/// Returns the machine with loaders of its own: one for UEFI x64, one for firmware that iPXE does not exist for.
fn machine_with_own_loaders() -> Machine {
    let mut loaders = OwnLoaders::default();
    loaders.set(Some(LoaderFile::EfiX64), Some("shim/shimx64.efi".into()));
    loaders.set(None, Some("boot.img".into()));
    Machine { loaders: Some(loaders.into()), ..machine() }
}

#[test]
fn own_loader_is_named_to_its_class_of_firmware_alone() {
    let machine = machine_with_own_loaders();
    for (class, architecture, expected) in [
        ("PXEClient", 7, "shim/shimx64.efi"),
        ("PXEClient", 9, "shim/shimx64.efi"),
        ("HTTPClient", 16, "http://10.0.0.1:8000/assets/shim/shimx64.efi"),
        ("PXEClient", 0, "undionly.kpxe"),
        ("PXEClient", 6, "ipxe-efi-i386.efi"),
        ("PXEClient", 2, "boot.img"),
    ] {
        let message = Message::new(DISCOVER).firmware(class, architecture);
        let (outcome, seen) = ask(message, &from_nowhere(), &machine, FromNetwork, &server());
        let seen = seen.expect("an offer");
        assert_eq!((seen.text(67), seen.field_text(field::FILE)), (expected, expected), "{class} {architecture}");
        let json = serde_json::to_value(outcome.events.into_iter().last()).unwrap();
        let loader = expected.strip_prefix("http://10.0.0.1:8000/assets/").unwrap_or(expected);
        assert_eq!(json["boot_file"], loader, "{class} {architecture}");
    }
}

#[test]
fn own_loader_neither_replaces_the_script_nor_the_way_to_the_disk() {
    let machine = machine_with_own_loaders();
    let named = |message, disposition| {
        let (_, seen) = ask(message, &from_nowhere(), &machine, disposition, &server());
        seen.expect("an offer").text(67).to_owned()
    };
    let ipxe = Message::new(DISCOVER).firmware("PXEClient", 7).option(77, b"iPXE");
    assert!(named(ipxe, FromNetwork).ends_with(".ipxe"));
    let firmware = Message::new(DISCOVER).firmware("PXEClient", 7);
    assert_eq!(named(firmware, Disk), BOOT_FROM_DISK);
}

/// A machine that boots a unified kernel image: what its spec says, what its client says, and the file or URL that it is given.
#[test]
fn unified_kernel_image_is_named_to_uefi_that_fetches_by_http() {
    const OWN: &str = "http://10.0.0.1:8000/boot/52-54-00-ab-cd-ef";
    let with = |boot, architecture, loader: Option<&str>| {
        let loaders = loader.map(|name| {
            let mut loaders = OwnLoaders::default();
            loaders.set(Some(LoaderFile::efi_for(architecture)), Some(name.into()));
            Arc::new(loaders)
        });
        Machine { boot, architecture, loaders, ..machine() }
    };
    let (amd64, arm64) = (Architecture::Amd64, Architecture::Arm64);
    let (uki, factory) = (BootMethod::Uki, BootMethod::FactoryUki);
    let ipxe = |name: &str| format!("http://10.0.0.1:8000/assets/{name}");
    let (image, script) = (format!("{OWN}/talos.efi"), format!("{OWN}.ipxe"));
    let cases = [
        ("x64", with(uki, amd64, None), "HTTPClient:Arch:00016", 16, image.clone(), "uki"),
        ("arm64", with(uki, arm64, None), "HTTPClient:Arch:00019", 19, image.clone(), "uki"),
        ("the Factory's", with(factory, amd64, None), "HTTPClient:Arch:00016", 16, image.clone(), "uki"),
        ("the Factory's on arm64", with(factory, arm64, None), "HTTPClient:Arch:00019", 19, image.clone(), "uki"),
        (
            "a shim",
            with(uki, amd64, Some("shimx64.efi")),
            "HTTPClient",
            16,
            format!("{OWN}/shimx64.efi"),
            "shimx64.efi",
        ),
        (
            "a shim in a directory",
            with(factory, amd64, Some("shim/shimx64.efi")),
            "HTTPClient",
            16,
            format!("{OWN}/shimx64.efi"),
            "shim/shimx64.efi",
        ),
        ("iPXE on the firmware's driver", with(uki, amd64, Some("snponly-x86_64.efi")), "HTTPClient", 16, image, "uki"),
        (
            "another way to boot, with a shim",
            with(BootMethod::Ipxe, amd64, Some("shimx64.efi")),
            "HTTPClient",
            16,
            ipxe("shimx64.efi"),
            "shimx64.efi",
        ),
        ("IA32", with(uki, amd64, None), "HTTPClient", 15, ipxe("ipxe-efi-i386.efi"), "ipxe-efi-i386.efi"),
        (
            "the other architecture",
            with(uki, amd64, None),
            "HTTPClient",
            19,
            ipxe("ipxe-efi-arm64.efi"),
            "ipxe-efi-arm64.efi",
        ),
        ("PXE", with(uki, amd64, None), "PXEClient", 7, "ipxe-efi-x86_64.efi".to_owned(), "ipxe-efi-x86_64.efi"),
        (
            "PXE with a shim",
            with(uki, amd64, Some("shimx64.efi")),
            "PXEClient",
            7,
            "shimx64.efi".to_owned(),
            "shimx64.efi",
        ),
        ("BIOS", with(uki, amd64, None), "PXEClient", 0, "undionly.kpxe".to_owned(), "undionly.kpxe"),
    ];
    for (name, machine, class, architecture, expected, reported) in cases {
        let message = || Message::new(DISCOVER).firmware(class, architecture);
        for server in [server(), proxy()] {
            let (outcome, seen) = ask(message(), &from_nowhere(), &machine, FromNetwork, &server);
            let seen = seen.expect("an offer");
            let fields = (seen.text(67), seen.field_text(field::FILE));
            assert_eq!(fields, (expected.as_str(), expected.as_str()), "{name}");
            let by_http = expected.starts_with("http");
            assert_eq!(seen.text(60), if by_http { "HTTPClient" } else { "PXEClient" }, "{name}");
            assert_eq!(seen.option(66).is_some(), !by_http, "{name}");
            let offer = serde_json::to_value(outcome.events.into_iter().last()).unwrap();
            assert_eq!(offer["boot_file"], reported, "{name}");
        }
        let (_, seen) = ask(message(), &from_nowhere(), &machine, Disk, &server());
        assert!(seen.expect("an offer").text(67).ends_with(BOOT_FROM_DISK), "{name}, sent to its disk");
        let (_, seen) = ask(message().option(77, b"iPXE"), &from_nowhere(), &machine, FromNetwork, &server());
        assert_eq!(seen.expect("an offer").text(67), script, "{name}, with iPXE");
    }
}

#[test]
fn unified_kernel_image_is_named_to_http_boot_without_an_architecture() {
    let machine = Machine { boot: BootMethod::Uki, ..machine() };
    let message = Message::new(DISCOVER).option(60, b"HTTPClient");
    let (_, seen) = ask(message, &from_nowhere(), &machine, FromNetwork, &server());
    assert_eq!(seen.expect("an offer").text(67), "http://10.0.0.1:8000/boot/52-54-00-ab-cd-ef/talos.efi");
}
