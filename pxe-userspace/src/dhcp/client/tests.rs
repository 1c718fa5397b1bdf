use super::*;
use crate::{
    dhcp::{
        decode::decode,
        testing::{DISCOVER, Message, OTHER, RELAY, machine},
    },
    model::{architecture::Architecture, loader::OwnLoaders},
};

fn classified(message: Message) -> Client {
    let packet = message.bytes();
    classify(&decode(&packet).unwrap())
}

/// Client classes, each with the forms in which its clients are seen.
#[test]
fn classes_are_told_by_their_options() {
    use ClientKind::{HttpBoot, Ipxe, Plain, Pxe};
    let new = || Message::new(DISCOVER);
    let junk = [0xff; 40];
    let cases = [
        ("BIOS", new().firmware("PXEClient:Arch:00000:UNDI:002001", 0), Pxe, Some(0), false),
        ("UEFI x64", new().firmware("PXEClient:Arch:00007:UNDI:003000", 7), Pxe, Some(7), false),
        ("UEFI x64 that says 9", new().firmware("PXEClient:Arch:00009:UNDI:003000", 9), Pxe, Some(9), false),
        ("UEFI IA32", new().firmware("PXEClient:Arch:00006:UNDI:003000", 6), Pxe, Some(6), false),
        ("UEFI ARM64", new().firmware("PXEClient:Arch:00011:UNDI:003000", 11), Pxe, Some(11), false),
        ("HTTP boot x64", new().firmware("HTTPClient:Arch:00016:UNDI:003000", 16), HttpBoot, Some(16), true),
        ("HTTP boot x86", new().firmware("HTTPClient:Arch:00015:UNDI:003000", 15), HttpBoot, Some(15), true),
        ("HTTP boot ARM64", new().firmware("HTTPClient:Arch:00019:UNDI:003000", 19), HttpBoot, Some(19), true),
        ("U-Boot ARM64", new().firmware("U-Boot.armv8", 22), Pxe, Some(22), false),
        ("U-Boot without 93", new().option(60, b"U-Boot.armv7"), Pxe, Some(21), false),
        ("U-Boot HTTP", new().firmware("HTTPClient", 24), HttpBoot, Some(24), true),
        ("RISC-V 64", new().firmware("PXEClient:Arch:00027:UNDI:003000", 27), Pxe, Some(27), false),
        ("RISC-V 64 HTTP", new().firmware("HTTPClient:Arch:00028:UNDI:003000", 28), HttpBoot, Some(28), true),
        ("93 missing, in 60", new().option(60, b"PXEClient:Arch:00011:UNDI:003000"), Pxe, Some(11), false),
        ("93 missing, none in 60", new().option(60, b"PXEClient"), Pxe, None, false),
        ("93 missing, junk in 60", new().option(60, b"PXEClient:Arch:+0007:x"), Pxe, None, false),
        ("93 missing, 60 cut off", new().option(60, b"PXEClient:Arch:000"), Pxe, None, false),
        ("93 beyond 16 bits in 60", new().option(60, b"PXEClient:Arch:99999"), Pxe, None, false),
        ("93 empty", new().option(60, b"PXEClient:Arch:00007").option(93, &[]), Pxe, Some(7), false),
        ("93 of one byte", new().option(60, b"PXEClient:Arch:00007").option(93, &[0]), Pxe, Some(7), false),
        ("93 of three bytes", new().option(60, b"PXEClient").option(93, &[0, 7, 0]), Pxe, Some(7), false),
        ("93 a list, PXE", new().option(60, b"PXEClient").option(93, &[0, 16, 0, 7]), Pxe, Some(7), false),
        ("93 a list, HTTP", new().option(60, b"HTTPClient").option(93, &[0, 7, 0, 16]), HttpBoot, Some(16), true),
        ("93 a list, unknown first", new().option(60, b"PXEClient").option(93, &[0, 2, 0, 11]), Pxe, Some(11), false),
        ("U-Boot EFI, hex", new().firmware("PXEClient:Arch:0000b:UNDI:003000", 11), Pxe, Some(11), false),
        ("U-Boot EFI, hex, 93 missing", new().option(60, b"PXEClient:Arch:0000b:UNDI:003000"), Pxe, Some(11), false),
        ("hex in capitals", new().option(60, b"PXEClient:Arch:0001B:UNDI:003000"), Pxe, Some(27), false),
        ("U-Boot EFI RISC-V, hex 19", new().firmware("PXEClient:Arch:00019:UNDI:003000", 25), Pxe, Some(25), false),
        ("beyond hex", new().option(60, b"PXEClient:Arch:0000g:UNDI:003000"), Pxe, None, false),
        ("60 empty", new().option(60, b""), Plain, None, false),
        ("60 empty, with 93", new().option(60, b"").option(93, &[0, 7]), Pxe, Some(7), false),
        ("60 not UTF-8", new().option(60, b"PXEClient:Arch:\xff\xfe\x00\x00\x07"), Pxe, None, false),
        ("60 full-width digits", new().option(60, "PXEClient:Arch:０７7".as_bytes()), Pxe, None, false),
        ("60 of zeros", new().option(60, &[0; 32]), Plain, None, false),
        ("60 with a NUL behind it", new().option(60, b"PXEClient:Arch:00007\0"), Pxe, Some(7), false),
        ("60 another's PXEClient", new().option(60, b"xPXEClient:Arch:00007"), Pxe, Some(7), false),
        ("60 missing", new().option(93, &[0, 7]), Pxe, Some(7), false),
        ("60 missing, HTTP", new().option(93, &[0, 16]), HttpBoot, Some(16), true),
        ("junk in 97", new().firmware("PXEClient", 7).option(97, &junk), Pxe, Some(7), false),
        ("empty 97", new().firmware("PXEClient", 7).option(97, &[]), Pxe, Some(7), false),
        ("iPXE, raw 77", new().firmware("PXEClient", 7).option(77, b"iPXE"), Ipxe, Some(7), true),
        ("iPXE, RFC 3004", new().firmware("PXEClient", 7).option(77, b"\x04iPXE"), Ipxe, Some(7), true),
        ("iPXE second in RFC 3004", new().firmware("PXEClient", 0).option(77, b"\x01a\x04iPXE"), Ipxe, Some(0), true),
        ("iPXE by 175 with HTTP", new().firmware("PXEClient", 0).option(175, &[0x13, 1, 1]), Ipxe, Some(0), true),
        ("iPXE that lists no HTTP", new().option(77, b"iPXE").option(175, &[0x15, 1, 1]), Ipxe, None, false),
        ("iPXE with HTTP off", new().option(77, b"iPXE").option(175, &[0x13, 1, 0]), Ipxe, None, false),
        ("iPXE with an empty 175", new().option(77, b"iPXE").option(175, &[]), Ipxe, None, true),
        ("iPXE with a broken 175", new().option(77, b"iPXE").option(175, &[0x15, 1, 1, 0x13, 9]), Ipxe, None, false),
        ("another user class", new().firmware("PXEClient", 7).option(77, b"\x04gPXE"), Pxe, Some(7), false),
        ("broken 77", new().firmware("PXEClient", 7).option(77, b"\x09iPXE"), Pxe, Some(7), false),
        ("Linux", new().option(60, b"udhcp 1.35.0"), Plain, None, false),
        ("Windows", new().option(60, b"MSFT 5.0"), Plain, None, false),
        ("nothing", new(), Plain, None, false),
    ];
    for (name, message, kind, architecture, http) in cases {
        let client = classified(message);
        assert_eq!((client.kind, client.architecture, client.http), (kind, architecture, http), "{name}");
    }
}

/// Option 93 is a list; the vendor class names the entry by which the firmware boots now.
#[test]
fn one_architecture_of_a_list_counts() {
    let cases: [(&str, &[u16], Option<u16>); 22] = [
        ("PXEClient:Arch:00007:UNDI:003016", &[0, 7], Some(7)),
        ("PXEClient:Arch:00000:UNDI:002001", &[0, 7], Some(0)),
        ("PXEClient:Arch:00000:UNDI:002001", &[7, 0], Some(0)),
        ("PXEClient:Arch:00006:UNDI:003000", &[7, 6, 0], Some(6)),
        ("PXEClient:Arch:0000b:UNDI:003000", &[10, 11], Some(11)),
        ("PXEClient:Arch:00002:UNDI:003000", &[2, 11], Some(2)),
        ("PXEClient", &[0, 7], Some(7)),
        ("PXEClient", &[7, 0], Some(7)),
        ("PXEClient", &[0, 6], Some(6)),
        ("PXEClient", &[0, 6, 7], Some(7)),
        ("PXEClient", &[10, 11], Some(11)),
        ("PXEClient", &[9, 7], Some(9)),
        ("PXEClient", &[0, 16], Some(0)),
        ("PXEClient", &[2, 0], Some(0)),
        ("PXEClient", &[0xffff, 7], Some(7)),
        ("PXEClient", &[0xffff], None),
        ("PXEClient:Arch:00009:UNDI:003000", &[0, 7], Some(7)),
        ("PXEClient:Arch:00007:UNDI:003000", &[0], Some(0)),
        ("HTTPClient:Arch:00016:UNDI:003001", &[15, 16, 17], Some(16)),
        ("HTTPClient", &[17, 15], Some(15)),
        ("HTTPClient", &[17, 16, 20], Some(16)),
        ("HTTPClient:Arch:00007:UNDI:003000", &[7, 16], Some(16)),
    ];
    for (class, list, expected) in cases {
        let bytes: Vec<u8> = list.iter().flat_map(|number| number.to_be_bytes()).collect();
        let message = || Message::new(DISCOVER).option(60, class.as_bytes());
        assert_eq!(classified(message().option(93, &bytes)).architecture, expected, "{class} {list:?}");
        // A byte too many is not an entry.
        let odd = [&bytes[..], &[0]].concat();
        assert_eq!(classified(message().option(93, &odd)).architecture, expected, "{class} {list:?} and a byte");
    }
}

/// U-Boot loads the boot file without starting it. So it has to exist, and its name must not contain a directory, below which U-Boot
/// would look for its configuration.
#[test]
fn u_boot_is_never_given_a_bios_program() {
    let mut amd64 = machine();
    let mut own = OwnLoaders::default();
    own.set(Some(LoaderFile::Undionly), Some("bios/own.kpxe".into()));
    own.set(Some(LoaderFile::EfiX64), Some("shim/own.efi".into()));
    amd64.loaders = Some(own.into());
    let arm64 = Machine { architecture: Architecture::Arm64, ..machine() };
    for (class, architecture, machine, known, file) in [
        ("U-Boot", None, &amd64, None, "ipxe-efi-x86_64.efi"),
        ("U-Boot", None, &arm64, None, "ipxe-efi-arm64.efi"),
        ("U-Boot", Some(0), &amd64, None, "ipxe-efi-x86_64.efi"),
        ("U-Boot", Some(20), &amd64, None, "ipxe-efi-x86_64.efi"),
        ("U-Boot", Some(0xffff), &amd64, None, "ipxe-efi-x86_64.efi"),
        ("U-Boot", Some(27), &amd64, Some(27), "ipxe-efi-riscv64.efi"),
        ("U-Boot.riscv", None, &arm64, None, "ipxe-efi-arm64.efi"),
        ("U-Boot.armv8", Some(22), &arm64, Some(22), "ipxe-efi-arm64.efi"),
        ("U-Boot.armv8", Some(0xffff), &arm64, Some(22), "ipxe-efi-arm64.efi"),
        ("U-Boot.armv7", None, &arm64, Some(21), "ipxe-efi-arm32.efi"),
        ("U-Boot.arm", None, &arm64, Some(21), "ipxe-efi-arm32.efi"),
    ] {
        let message = Message::new(DISCOVER).option(60, class.as_bytes());
        let message = match architecture {
            Some(number) => message.option(93, &u16::to_be_bytes(number)),
            None => message,
        };
        let client = classified(message);
        assert_eq!((client.kind, client.u_boot, client.architecture), (ClientKind::Pxe, true, known), "{class}");
        assert_eq!(client.loader(machine).map(Loader::name), Some(file), "{class} {architecture:?}");
    }
    let older = classified(Message::new(DISCOVER).option(60, b"PXEClient"));
    assert_eq!(older.loader(&machine()).map(Loader::name), Some("undionly.kpxe"), "not U-Boot");
}

/// No BIOS boots by HTTP so far, so that a client without option 93 is taken for UEFI.
#[test]
fn http_boot_of_an_unnamed_architecture_gets_a_uefi_program() {
    let mut amd64 = machine();
    let mut own = OwnLoaders::default();
    own.set(Some(LoaderFile::Undionly), Some("bios/own.kpxe".into()));
    amd64.loaders = Some(own.clone().into());
    own.set(Some(LoaderFile::EfiX64), Some("shim/own.efi".into()));
    let with_own = Machine { loaders: Some(own.into()), ..amd64.clone() };
    let arm64 = Machine { architecture: Architecture::Arm64, ..amd64.clone() };
    let class = || Message::new(DISCOVER).option(60, b"HTTPClient");
    for message in [class(), class().option(93, &[]), class().option(93, &[16]), class().option(93, &[0xff, 0xff])] {
        let client = classified(message);
        assert_eq!((client.kind, client.architecture), (ClientKind::HttpBoot, None));
        for (machine, file) in
            [(&amd64, "ipxe-efi-x86_64.efi"), (&with_own, "shim/own.efi"), (&arm64, "ipxe-efi-arm64.efi")]
        {
            assert_eq!(client.loader(machine).map(Loader::name), Some(file));
            assert!(!client.contradicts(machine));
        }
    }
}

#[test]
fn raspberry_pi_that_claims_to_be_a_pc_is_recognised() {
    let pi = |mac: [u8; 6]| Message::new(DISCOVER).firmware("PXEClient:Arch:00000:UNDI:002001", 0).field(28..34, &mac);
    let by_mac = classified(pi([0xdc, 0xa6, 0x32, 1, 2, 3]));
    assert!(by_mac.raspberry_pi);
    assert_eq!(by_mac.architecture, Some(RASPBERRY_PI));
    assert_eq!(by_mac.class(&machine()), Some(LoaderFile::EfiArm64));
    assert!(classified(pi([2, 0, 0, 1, 2, 3]).option(97, b"\x00RPi4\x11\x31\xc0\x00")).raspberry_pi);
    assert!(!classified(pi([2, 0, 0, 1, 2, 3])).raspberry_pi);
    assert!(classified(Message::new(DISCOVER).firmware("PXEClient", 41)).raspberry_pi);
    let uefi = Message::new(DISCOVER).firmware("PXEClient", 11).field(28..34, &[0xdc, 0xa6, 0x32, 1, 2, 3]);
    assert!(!classified(uefi).raspberry_pi, "its UEFI firmware is like any other");
}

#[test]
fn firmware_of_another_architecture_than_the_spec_contradicts() {
    let mut machine = machine();
    for (spec, class, architecture, contradicts) in [
        (Architecture::Amd64, "PXEClient", 7, false),
        (Architecture::Amd64, "PXEClient", 0, false),
        (Architecture::Amd64, "PXEClient", 6, true),
        (Architecture::Amd64, "HTTPClient", 15, true),
        (Architecture::Amd64, "HTTPClient", 16, false),
        (Architecture::Amd64, "HTTPClient", 20, false),
        (Architecture::Amd64, "PXEClient", 27, true),
        (Architecture::Amd64, "PXEClient", 41, true),
        (Architecture::Amd64, "PXEClient", 11, true),
        (Architecture::Amd64, "HTTPClient", 19, true),
        (Architecture::Amd64, "PXEClient", 2, true),
        (Architecture::Arm64, "PXEClient", 11, false),
        (Architecture::Arm64, "U-Boot.armv8", 22, false),
        (Architecture::Arm64, "PXEClient", 41, false),
        (Architecture::Arm64, "PXEClient", 7, true),
        (Architecture::Arm64, "PXEClient", 0, true),
        (Architecture::Arm64, "PXEClient", 10, true),
        (Architecture::Arm64, "U-Boot.armv7", 21, true),
        (Architecture::Arm64, "HTTPClient", 18, true),
    ] {
        machine.architecture = spec;
        let client = classified(Message::new(DISCOVER).firmware(class, architecture));
        assert_eq!(client.contradicts(&machine), contradicts, "{spec} {class} {architecture}");
    }
    machine.architecture = Architecture::Arm64;
    assert!(
        !classified(Message::new(DISCOVER).option(60, b"PXEClient")).contradicts(&machine),
        "it names no architecture"
    );
}

/// GRUB, for one, starts a 64-bit kernel from 32-bit UEFI.
#[test]
fn own_loader_may_start_a_64_bit_kernel_from_32_bit_firmware() {
    let ia32 = classified(Message::new(DISCOVER).firmware("PXEClient", 6));
    let arm64 = classified(Message::new(DISCOVER).firmware("PXEClient", 11));
    let mut own = OwnLoaders::default();
    own.set(Some(LoaderFile::EfiIa32), Some("grub-ia32.efi".into()));
    own.set(Some(LoaderFile::EfiArm64), Some("grub-arm64.efi".into()));
    let machine = Machine { loaders: Some(own.into()), ..machine() };
    assert!(!ia32.contradicts(&machine));
    assert!(arm64.contradicts(&machine), "no loader changes the processor");
}

#[test]
fn relay_is_read_from_giaddr_and_option_82() {
    let information = [1, 2, b'e', b'1', 5, 4, 10, 7, 0, 0, 11, 4, 10, 7, 0, 1];
    let relay = classified(Message::new(DISCOVER).giaddr(RELAY).address(118, OTHER).option(82, &information)).relay;
    assert_eq!(relay.address, Some(RELAY));
    assert_eq!(relay.link_selection, Some("10.7.0.0".parse().unwrap()), "the relay takes precedence");
    assert_eq!(relay.server_id_override, Some(RELAY));
    let plain = classified(Message::new(DISCOVER).address(118, OTHER)).relay;
    assert_eq!((plain.address, plain.link_selection), (None, Some(OTHER)));
}
